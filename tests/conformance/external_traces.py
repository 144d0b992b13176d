"""Plays recorded traces of External Secrets on a real API server and tells what our spines did.

The parts of the controller run in this process, in its own loop, over the Cluster door. Cases are played side by
side, each in namespaces of its own; what is told has the form of `expected.yaml` (corpus README, "sync/NAME"): the
state of the case's objects after each step, and the events.
"""

from __future__ import annotations

import base64
import copy
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import controllers
from controllers.events import Emit
from controllers.external_parts import build
from controllers.loop import Loop, Runtime
from secretsops.cli import RealDoors
from secretsops.errors import AlreadyExists, Conflict, InvalidManifest, NotFound
from secretsops.external.model import EXTERNAL_SECRET, SECRET, read
from secretsops.external.push import PUSH_SECRET, read_push
from secretsops.external.store import read_store
from secretsops.manifest import GroupVersionKind, Manifest, load_all
from secretsops.ports import Cluster
from tests.conformance.external_servers import NAMED, Servers
from tests.openbao_servers import b64

RECORDER = "trace-recorder"
CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
NAMESPACE = GroupVersionKind("", "v1", "Namespace")


def _defined() -> dict[str, GroupVersionKind]:
    """Give the kinds of our CRDs, in their newest version."""
    folder = Path(controllers.__file__).parent / "deploy" / "crds"
    found = {}
    for file in sorted(folder.glob("*.yaml")):
        (manifest,) = load_all(file.read_bytes())
        spec = manifest.spec
        if spec["group"].endswith("external-secrets.io"):
            kind = GroupVersionKind(spec["group"], spec["versions"][0]["name"], spec["names"]["kind"])
            found[kind.kind] = kind
            if spec["scope"] == "Cluster":
                CLUSTER_SCOPED.add(kind.kind)
    return found


CLUSTER_SCOPED: set[str] = set()
KINDS = _defined() | {kind.kind: kind for kind in (SECRET, CONFIG_MAP, NAMESPACE)}
RECORDED = {
    name: kind for name, kind in KINDS.items() if kind.group in {"", "external-secrets.io"} and kind != NAMESPACE
}
"""Generators are not among what the recorder looked at."""
LOCAL = [kind for name, kind in RECORDED.items() if name not in CLUSTER_SCOPED]
WIDE = [kind for name, kind in RECORDED.items() if name in CLUSTER_SCOPED]
QUIET, LONGEST, COLLECTED = 1.2, 25.0, 75.0
"""Seconds without a change after which a step has settled; those after which it counts as settled anyhow, and where
the garbage collector still has work."""
LATE = 15.0
"""Seconds a push may take on a machine with more to do; one that was refused stays behind for ever."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")


def not_built(case: dict[str, Any]) -> str:
    """Say what of a case is outside what is built, "" for a case that has to hold."""
    servers = set(re.findall(r"\{([a-z_]+)\}", json.dumps(case))) - NAMED
    if servers:
        return f"needs {', '.join(sorted(servers))}"
    for body in [item for step in case["steps"] for item in step.get("apply") or []]:
        if body["kind"] not in KINDS:
            return f"kind {body['kind']}"
        if problem := _unsupported(Manifest(body)):
            return problem
    return ""


def _unsupported(manifest: Manifest) -> str:
    try:
        if manifest.kind == EXTERNAL_SECRET:
            read(manifest)
        elif manifest.kind == PUSH_SECRET:
            read_push(manifest)
        elif manifest.kind.kind.endswith("SecretStore"):
            read_store(Manifest({**manifest.body, "metadata": {**manifest.metadata, "namespace": ""}}))
    except InvalidManifest as error:
        return error.message if error.reason == "Unsupported" else ""
    return ""


def needs_garbage_collection(case: dict[str, Any]) -> bool:
    """Say whether a case waits for objects to go with their owner."""
    text = json.dumps(case["steps"])
    return '"delete"' in text or "ClusterExternalSecret" in text or "ClusterPushSecret" in text


# --- The controllers -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Told(Runtime):
    """What the parts are built with; events are kept instead of published."""

    heard: list[tuple[Manifest, str, str, str]]

    def events(self, _component: str, *, sparing: bool = False) -> Emit:
        """Give what keeps events."""
        return lambda about, kind, reason, message: self.heard.append((about, kind, reason, message))


class Running:
    """Our parts over one cluster in the loop of the process, without an election."""

    def __init__(self, cluster: Cluster, **options: Any) -> None:
        self.events: list[tuple[Manifest, str, str, str]] = []
        doors = RealDoors()
        runtime = Told(
            cluster=cluster,
            clock=doors.clock,
            doors=doors,
            namespace="kube-system",
            options=options,
            heard=self.events,
        )
        self._loop = Loop(runtime, build(runtime), None)
        self._loop.start()

    def stop(self) -> None:
        """End it."""
        assert self._loop.stop(20.0)


# --- One case ------------------------------------------------------------------------------------------


@dataclass
class Stage:
    """Where cases are played."""

    cluster: Cluster
    controllers: Running
    servers: Servers


class Trace:
    """One case while it is played."""

    def __init__(self, name: str, case: dict[str, Any], stage: Stage) -> None:
        self._name, self._case, self._stage = name, case, stage
        self._cluster = stage.cluster
        self._namespaces: list[str] = list(case["namespaces"])
        self._home = self._namespaces[0]

    def play(self) -> dict[str, Any]:
        """Give `steps` and `events` as the recorder would have written them."""
        for namespace in self._namespaces:
            self._make_namespace(namespace, (self._case.get("namespace_labels") or {}).get(namespace))
        try:
            self._seed()
            steps, before = [], dict[str, Any]()
            for step in self._case["steps"]:
                self._do(step)
                if not step.get("no_settle"):
                    self._settle()
                now = self._snapshot()
                record = {"objects": {key: shown for key, shown in now.items() if before.get(key) != shown}}
                gone = [key for key in before if key not in now]
                steps.append(record | ({"gone": gone} if gone else {}))
                before = now
            provider = self._normal(self._stage.servers.dumped(self._case.get("dump") or {}))
            return {"steps": steps, "events": self._events(), "provider": provider}
        finally:
            self._clean()

    # --- acting
    def _seed(self) -> None:
        seed = self._case.get("seed") or {}
        for mount in seed.get("vault_mounts") or []:
            engine = {"type": "kv", "options": {"version": str(mount["version"])}}
            self._vault({"method": "POST", "path": f"/v1/sys/mounts/{mount['path']}", "body": engine})
        for call in seed.get("vault") or []:
            self._until(partial(self._vault, call))
        for call in seed.get("aws") or []:
            self._aws(call)
        for body in seed.get("kubernetes") or []:
            self._apply(body)

    def _until(self, done: Callable[[], bool]) -> None:
        for _ in range(20):
            if done():
                return
            time.sleep(0.3)  # a new KV v2 engine upgrades its storage first
        raise AssertionError(f"{self._name}: a write was not accepted")

    def _do(self, step: dict[str, Any]) -> None:
        for body in step.get("apply") or []:
            self._apply(body)
        for call in step.get("vault") or []:
            self._vault(call)
        for call in step.get("aws") or []:
            self._aws(call)
        for patch in step.get("patch") or []:
            self._cluster.patch(
                KINDS[patch["kind"]],
                patch["name"],
                patch["merge"],
                namespace=self._place(patch),
                field_manager=RECORDER,
            )
        for item in step.get("delete") or []:
            self._cluster.delete(KINDS[item["kind"]], item["name"], namespace=self._place(item))
        for item in step.get("namespace") or []:
            self._namespace(item)
        time.sleep(step.get("sleep", 0))
        for wanted in step.get("wait") or []:
            self._wait(wanted)

    def _place(self, item: dict[str, Any]) -> str:
        return "" if item["kind"] in CLUSTER_SCOPED else str(item.get("namespace", self._home))

    def _namespace(self, item: dict[str, Any]) -> None:
        if not item.get("create"):
            self._cluster.patch(NAMESPACE, item["name"], {"metadata": {"labels": item["labels"]}})
            return
        self._make_namespace(item["create"], item.get("labels"))
        self._namespaces.append(item["create"])

    def _make_namespace(self, name: str, labels: dict[str, str] | None) -> None:
        metadata = {"name": name, "labels": labels or {}}
        self._cluster.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))

    def _apply(self, body: dict[str, Any]) -> None:
        body = self._put(body)
        if body["kind"] not in CLUSTER_SCOPED:
            body["metadata"].setdefault("namespace", self._home)
        manifest = Manifest(body)
        try:
            self._cluster.create(manifest, field_manager=RECORDER)
        except AlreadyExists:
            self._until(partial(self._replaced, body))

    def _replaced(self, body: dict[str, Any]) -> bool:
        manifest = Manifest(body)
        live = self._cluster.get(manifest.kind, manifest.name, manifest.namespace)
        metadata = {**body["metadata"], "resourceVersion": live.resource_version}
        if live.metadata.get("finalizers"):
            metadata.setdefault("finalizers", live.metadata["finalizers"])
        try:
            self._cluster.replace(Manifest({**body, "metadata": metadata}), field_manager=RECORDER)
        except Conflict:
            return False
        return True

    def _put(self, value: Any) -> Any:
        text = json.dumps(value)
        for name, replacement in self._words().items():
            text = text.replace(name, replacement)
        tls = "{vault_tls}" in json.dumps(self._case)
        token = self._stage.servers.tls.token if tls else self._stage.servers.bao.token
        return json.loads(text.replace("cm9vdA==", b64(token)))

    def _words(self) -> dict[str, str]:
        """Give what stands for each placeholder, as it stands inside a JSON text."""
        return {name: json.dumps(value)[1:-1] for name, value in self._stage.servers.words.items()}

    def _vault(self, call: dict[str, Any]) -> bool:
        path, tls = call["path"].removeprefix("/v1/"), call.get("server") == "tls"
        return self._stage.servers.vault(call["method"], path, self._put(call.get("body")), tls=tls)

    def _aws(self, call: dict[str, Any]) -> None:
        self._stage.servers.aws(call["service"], call["op"], call["args"])

    def _wait(self, wanted: dict[str, Any]) -> None:
        limit = time.monotonic() + wanted.get("timeout", 45)
        while time.monotonic() < limit:
            try:
                found = self._cluster.get(KINDS[wanted["kind"]], wanted["name"], self._place(wanted))
            except NotFound:
                if wanted.get("absent"):
                    return
            else:
                if not wanted.get("absent") and _fulfils(found, wanted):
                    return
            time.sleep(0.2)

    # --- looking
    def _objects(self) -> list[Manifest]:
        found = [
            item for place in self._namespaces for kind in LOCAL for item in self._cluster.list(kind, namespace=place)
        ]
        wide = [item for kind in WIDE for item in self._cluster.list(kind)]
        return found + [item for item in wide if item.name.startswith(self._name)]

    def _settle(self) -> None:
        start = since = time.monotonic()
        last: Any = None
        longest = LONGEST
        while time.monotonic() - start < longest:
            objects = self._objects()
            state = sorted((item.uid, item.resource_version) for item in objects)
            now = time.monotonic()
            if state != last:
                last, since = state, now
            silent = any(item.kind.group and not item.status.get("conditions") for item in objects)
            behind = any(item.kind == PUSH_SECRET and _is_behind(item) for item in objects)
            patience = LATE if behind else 5.0 if silent else QUIET
            longest = COLLECTED if _is_garbage_left(objects) else LONGEST
            if now - since > patience and longest == LONGEST:
                return
            time.sleep(0.25)

    def _snapshot(self) -> dict[str, Any]:
        hidden = {*(self._case.get("hide") or []), "kube-root-ca.crt"}
        shown = {}
        for item in self._objects():
            if item.kind.group or not (item.name.startswith("auth-") or item.name in hidden):
                place = f"{item.namespace}/" if item.namespace else ""
                shown[f"{item.kind.kind}/{place}{item.name}"] = self._normal(_shown(item))
        return shown

    def _events(self) -> list[dict[str, Any]]:
        found = {}
        for about, kind, reason, message in list(self._stage.controllers.events):
            ours = about.namespace in self._namespaces or (not about.namespace and about.name.startswith(self._name))
            if ours:
                name = f"{about.kind.kind}/{about.name}"
                event = self._normal({"object": name, "type": kind, "reason": reason, "message": message})
                found[json.dumps(event, sort_keys=True)] = event
        return list(found.values())

    def _normal(self, value: Any) -> Any:
        text = json.dumps(value)
        for name, replacement in self._words().items():
            text = text.replace(replacement, name)
        return json.loads(_TIME.sub("<time>", text))

    def _clean(self) -> None:
        """Take away what would go on making work; namespaces go with the control plane."""
        for place in self._namespaces:
            for kind in (EXTERNAL_SECRET, PUSH_SECRET):
                for item in self._cluster.list(kind, namespace=place):
                    self._cluster.delete(item.kind, item.name, namespace=place)
        for item in self._objects():
            if item.kind.group and not item.metadata.get("deletionTimestamp"):
                self._cluster.delete(item.kind, item.name, namespace=item.namespace)


def _is_behind(item: Manifest) -> bool:
    """Say whether a PushSecret was changed since it was last pushed."""
    return bool(item.status.get("syncedResourceVersion") != read_push(item).version)


def _is_garbage_left(objects: list[Manifest]) -> bool:
    """Say whether the garbage collector has work: a Secret whose ExternalSecret is gone."""
    alive = {item.uid for item in objects}
    owners = [owner for item in objects for owner in item.metadata.get("ownerReferences") or []]
    return any(owner["kind"] == EXTERNAL_SECRET.kind and owner["uid"] not in alive for owner in owners)


def _fulfils(found: Manifest, wanted: dict[str, Any]) -> bool:
    condition = wanted.get("condition")
    if condition:
        kind = condition.get("type", "Ready")
        same = [entry for entry in found.status.get("conditions") or [] if entry["type"] == kind]
        if not same or any(same[0].get(key) != value for key, value in condition.items()):
            return False
    data = {key: base64.b64decode(text).decode() for key, text in (found.body.get("data") or {}).items()}
    return all(data.get(key) == value for key, value in (wanted.get("data") or {}).items())


def _shown(item: Manifest) -> dict[str, Any]:
    metadata = item.metadata
    shown: dict[str, Any] = {
        name: metadata[name] for name in ("labels", "annotations", "finalizers") if metadata.get(name)
    }
    if metadata.get("ownerReferences"):
        shown["ownerReferences"] = [{**owner, "uid": "<uid>"} for owner in metadata["ownerReferences"]]
    if metadata.get("deletionTimestamp"):
        shown["deletionTimestamp"] = "<time>"
    if item.kind == SECRET:
        shown |= {"type": item.body.get("type"), "data": item.body.get("data") or {}}
        if "immutable" in item.body:
            shown["immutable"] = item.body["immutable"]
        managers = {f"{entry['manager']}:{entry['operation']}" for entry in metadata.get("managedFields") or []}
        shown["managers"] = sorted(name for name in managers if not name.startswith(f"{RECORDER}:"))
    elif item.kind == CONFIG_MAP:
        shown["data"] = item.body.get("data") or {}
    else:
        shown["status"] = item.status
        if item.kind.kind == EXTERNAL_SECRET.kind:
            shown["generation"] = item.generation
    return shown


def end_of(trace: dict[str, Any]) -> dict[str, Any]:
    """Give the objects that are there at the end of a trace."""
    state: dict[str, Any] = {}
    for step in trace["steps"]:
        for key in step.get("gone") or []:
            state.pop(key, None)
        state |= copy.deepcopy(step.get("objects") or {})
    return state


def states_of(trace: dict[str, Any]) -> list[dict[str, Any]]:
    """Give objects and losses of each step."""
    return [{"objects": step.get("objects") or {}, "gone": sorted(step.get("gone") or [])} for step in trace["steps"]]


def told(events: list[dict[str, Any]], *names: str) -> set[tuple[str, ...]]:
    """Give the set of events, by the named parts."""
    return {tuple(event[name] for name in names) for event in events}
