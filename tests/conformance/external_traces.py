"""Plays recorded traces of External Secrets on a real API server and tells what our spines did.

The controllers run in this process over the Cluster door, woken by watches. Cases are played side by side, each in
namespaces of its own; what is told has the form of `expected.yaml` (corpus README, "sync/NAME"): the state of the
case's objects after each step, and the events.
"""

from __future__ import annotations

import base64
import copy
import datetime as dt
import heapq
import json
import re
import threading
import time
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from controllers.external_index import ExternalIndex
from controllers.external_secrets import ExternalSecrets
from controllers.stores import Stores
from secretsops.cli import RealDoors
from secretsops.errors import AlreadyExists, ApiError, Conflict, InvalidManifest, NotFound, SecretsOpsError
from secretsops.external.model import CLUSTER_SECRET_STORE, EXTERNAL_SECRET, MANAGED, SECRET, SECRET_STORE, read
from secretsops.external.store import read_store
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ports import Cluster, EventType
from tests.contract.secret_source.servers import aws_call, free_port, vault_call

RECORDER = "trace-recorder"
CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
NAMESPACE = GroupVersionKind("", "v1", "Namespace")
KINDS = {
    kind.kind: kind for kind in (EXTERNAL_SECRET, SECRET_STORE, CLUSTER_SECRET_STORE, SECRET, CONFIG_MAP, NAMESPACE)
}
LOCAL = (EXTERNAL_SECRET, SECRET_STORE, SECRET, CONFIG_MAP)
QUIET, LONGEST = 1.2, 25.0
"""Seconds without a change after which a step has settled, and those after which it counts as settled anyhow."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")


def not_built(case: dict[str, Any]) -> str:
    """Say what of a case is outside what is built, "" for a case that has to hold."""
    servers = set(re.findall(r"\{([a-z_]+)\}", json.dumps(case))) - {"vault", "aws", "closed_port"}
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
        elif manifest.kind.kind.endswith("SecretStore"):
            read_store(Manifest({**manifest.body, "metadata": {**manifest.metadata, "namespace": ""}}))
    except InvalidManifest as error:
        return error.message if error.reason == "Unsupported" else ""
    return ""


# --- The controllers -----------------------------------------------------------------------------------


class Controllers:
    """Both spines over one cluster: watches, a queue, four workers, back-off from one second."""

    def __init__(self, cluster: Cluster) -> None:
        self.events: list[tuple[Manifest, str, str, str]] = []
        self._cluster = cluster
        self._stores = Stores(cluster, RealDoors().secret_source, self._emit)
        self._externals = ExternalSecrets(cluster, self._stores, self._emit)
        self._index = ExternalIndex()
        self._ready = threading.Condition()
        self._queue: list[tuple[float, ObjectKey]] = []
        self._active: set[ObjectKey] = set()
        self._failures: dict[ObjectKey, int] = {}
        self._stopped = threading.Event()
        self._watches: list[Any] = []
        watches = ((EXTERNAL_SECRET, ""), (SECRET_STORE, ""), (CLUSTER_SECRET_STORE, ""), (SECRET, f"{MANAGED}=true"))
        self._threads = [threading.Thread(target=self._watch, args=which, daemon=True) for which in watches]
        self._threads += [threading.Thread(target=self._work, daemon=True) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End watches and workers."""
        self._stopped.set()
        for watch in list(self._watches):
            watch.close()
        with self._ready:
            self._ready.notify_all()
        for thread in self._threads:
            thread.join(10)

    def _emit(self, manifest: Manifest, kind: str, reason: str, message: str) -> None:
        self.events.append((manifest, kind, reason, message))

    def _add(self, key: ObjectKey, after: float = 0.0) -> None:
        with self._ready:
            heapq.heappush(self._queue, (time.monotonic() + after, key))
            self._ready.notify_all()

    def _take(self) -> ObjectKey | None:
        with self._ready:
            while not self._stopped.is_set():
                now = time.monotonic()
                due = [entry for entry in self._queue if entry[0] <= now and entry[1] not in self._active]
                if due:
                    key = min(due)[1]
                    self._queue = [entry for entry in self._queue if entry[1] != key or entry[0] > now]
                    heapq.heapify(self._queue)
                    self._active.add(key)
                    return key
                self._ready.wait(0.2)
        return None

    def _work(self) -> None:
        while (key := self._take()) is not None:
            try:
                if key.kind == EXTERNAL_SECRET.kind:
                    again = self._externals.reconcile(key, since=self._index.since(key)).again
                else:
                    again = self._stores.reconcile(key)
            except SecretsOpsError as error:
                conflict = isinstance(error, ApiError) and error.code == 409
                self._failures[key] = failures = self._failures.get(key, -1) + 1
                again = 0.05 if conflict else min(2.0**failures, 60.0)
            else:
                self._failures.pop(key, None)
            with self._ready:
                self._active.discard(key)
            if again:
                self._add(key, again)

    def _watch(self, kind: GroupVersionKind, selector: str) -> None:
        while not self._stopped.is_set():
            try:
                page = self._cluster.page(kind, label_selector=selector, limit=5000)
                for manifest in page.items:
                    self._note(EventType.ADDED, manifest)
                with self._cluster.watch(
                    kind, label_selector=selector, resource_version=page.resource_version
                ) as stream:
                    self._watches.append(stream)
                    for event in stream:
                        if event.type != EventType.BOOKMARK:
                            self._note(event.type, event.object)
            except ApiError:
                self._stopped.wait(0.5)

    def _note(self, event: EventType, manifest: Manifest) -> None:
        gone, woken = event == EventType.DELETED, []
        if manifest.kind.kind == SECRET.kind:
            woken = self._index.secret(manifest)
        elif manifest.kind.kind == EXTERNAL_SECRET.kind:
            if gone:
                self._index.external_gone(manifest.key)
            else:
                woken = self._index.external(manifest, dt.datetime.now(dt.UTC))
        elif gone:
            self._index.store_gone(manifest.key)
        else:
            itself, waiting = self._index.store(manifest)
            woken = [*itself, *waiting]
        for key in woken:
            self._add(key)


# --- One case ------------------------------------------------------------------------------------------


@dataclass
class Stage:
    """Where cases are played."""

    cluster: Cluster
    controllers: Controllers
    vault: str
    token: str
    aws: str
    closed_port: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")


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
            return {"steps": steps, "events": self._events()}
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
        return "" if item["kind"] == CLUSTER_SECRET_STORE.kind else str(item.get("namespace", self._home))

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
        if body["kind"] != CLUSTER_SECRET_STORE.kind:
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
        return json.loads(text.replace("cm9vdA==", base64.b64encode(self._stage.token.encode()).decode()))

    def _words(self) -> dict[str, str]:
        return {"{vault}": self._stage.vault, "{aws}": self._stage.aws, "{closed_port}": self._stage.closed_port}

    def _vault(self, call: dict[str, Any]) -> bool:
        try:
            path = call["path"].removeprefix("/v1/")
            vault_call(self._stage.vault, self._stage.token, call["method"], path, self._put(call.get("body")))
        except urllib.error.HTTPError as error:
            error.close()
            return False
        return True

    def _aws(self, call: dict[str, Any]) -> None:
        assert call["service"] == "secretsmanager"
        operation = "".join(word.capitalize() for word in call["op"].split("_"))
        aws_call(self._stage.aws, operation, **call["args"])

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
        wide = self._cluster.list(CLUSTER_SECRET_STORE)
        return found + [item for item in wide if item.name.startswith(self._name)]

    def _settle(self) -> None:
        start = since = time.monotonic()
        last: Any = None
        while time.monotonic() - start < LONGEST:
            objects = self._objects()
            state = sorted((item.uid, item.resource_version) for item in objects)
            now = time.monotonic()
            if state != last:
                last, since = state, now
            silent = any(item.kind.group and not item.status.get("conditions") for item in objects)
            if now - since > (5.0 if silent else QUIET) and not _is_garbage_left(objects):
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
            for item in self._cluster.list(EXTERNAL_SECRET, namespace=place):
                self._cluster.delete(item.kind, item.name, namespace=place)
        for item in self._objects():
            if item.kind.kind in {SECRET_STORE.kind, CLUSTER_SECRET_STORE.kind}:
                self._cluster.delete(item.kind, item.name, namespace=item.namespace)


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
        if item.kind == EXTERNAL_SECRET:
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
