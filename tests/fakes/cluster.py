"""A Kubernetes API server in memory: the Cluster door for unit tests, held to `tests/contract/cluster`.

    cluster = FakeCluster(namespaces=["shop"])
    cluster.serve(SEALED_SECRET, "sealedsecrets")
    cluster.fail(Unreachable("gone"), verb="update", resource="secrets")
    assert cluster.writes() == [("create", "secrets", "shop", "db")]

The server is the sandbox's stand-in (`drills/sandbox/embedded`) without its process and HTTP; here are the door to it
and what only tests need: a log, faults, watches that break. What it leaves out is `UNSUPPORTED`. Garbage collection and
namespace removal happen at once, inside the delete; a bookmark is sent when a watch ends or the test asks for one.
"""

from __future__ import annotations

import datetime as dt
import json
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from drills.sandbox.embedded import fields, rules
from drills.sandbox.embedded.collector import Collector
from drills.sandbox.embedded.defaults import fill_in
from drills.sandbox.embedded.kinds import Kind, Kinds
from drills.sandbox.embedded.status import Refused, no_such_path, not_found
from drills.sandbox.embedded.store import Entry, Store, dumps
from drills.sandbox.embedded.verbs import Verbs
from drills.sandbox.embedded.watches import Selection, page
from drills.sandbox.embedded.writes import (
    CRD,
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_PATCH,
    Deletion,
    Done,
    Options,
    Target,
)
from secretsops.adapters.kube_status import api_error
from secretsops.errors import ApiError, Invalid, UnknownKind, Unreachable
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Answer, Page, PatchType, Resource
from tests.fakes.cluster_watch import FakeWatch

UNSUPPORTED: Mapping[str, str] = {
    "kubectl": "kubectl speaks HTTP",
    "controllers": "no controller manager: no service accounts or kube-root-ca.crt appear in a new namespace",
}
"""What the fake does not do, with the reason; the contract suite skips these for it, and only these."""

T = TypeVar("T")
_PATCHES = {PatchType.JSON: JSON_PATCH, PatchType.MERGE: MERGE_PATCH, PatchType.STRATEGIC: STRATEGIC_PATCH}


class Request(NamedTuple):
    """One request as the log keeps it. Verbs are Kubernetes' own, but a server-side apply is `apply`."""

    verb: str
    resource: str
    namespace: str
    name: str


@dataclass(slots=True)
class _Fault:
    error: ApiError
    verb: str
    resource: str
    name: str
    times: int
    after: bool
    skip: int

    def meets(self, request: Request) -> bool:
        return (
            self.verb in ("", request.verb)
            and self.resource in ("", request.resource)
            and self.name in ("", request.name)
        )


class _Afterwards:
    """What a request leads to, done before its answer; nothing here waits for time to pass."""

    def __init__(self) -> None:
        self._due: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()

    def call_soon(self, act: Callable[..., Any], /, *arguments: Any) -> None:
        self._due.append((act, arguments))

    def call_later(self, seconds: float, act: Callable[..., Any], /, *arguments: Any) -> None: ...

    def run(self) -> None:
        while self._due:
            act, arguments = self._due.popleft()
            act(*arguments)


class FakeCluster:
    """One API server in memory. Satisfies `secretsops.ports.Cluster`; thread-safe."""

    def __init__(
        self, *, namespaces: Iterable[str] = (), user: str = "secretsops", now: Callable[[], dt.datetime] | None = None
    ) -> None:
        self.log: list[Request] = []
        self.answers: dict[tuple[str, str], Answer] = {
            ("GET", "/readyz"): Answer(code=200, headers={}, body=b"ok"),
            ("GET", "/version"): Answer(code=200, headers={}, body=b'{"major":"1","minor":"36"}'),
        }
        self.on_request: Callable[[Request], None] | None = None
        self._user = user
        self._now = now or (lambda: dt.datetime.now(dt.UTC))
        self._turn = threading.Condition(threading.RLock())
        self._store = Store(Kinds())
        self._verbs = Verbs(self._store, self._now)
        self._afterwards = _Afterwards()
        Collector(self._store, self._verbs, self._afterwards)
        self._faults: list[_Fault] = []
        self._watches: list[FakeWatch] = []
        for name in ("default", "kube-system", "kube-public", "kube-node-lease", *namespaces):
            self.seed({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    # --- for tests -------------------------------------------------------------------------------------

    def serve(self, kind: GroupVersionKind, plural: str, *, namespaced: bool = True, status: bool = True) -> None:
        """Serve a kind as if its CustomResourceDefinition were installed, any fields allowed."""
        version = {
            "name": kind.version,
            "served": True,
            "subresources": {"status": {}} if status else {},
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
        }
        spec = {"group": kind.group, "names": {"plural": plural, "kind": kind.kind}, "versions": [version]}
        scope = "Namespaced" if namespaced else "Cluster"
        metadata = {"name": f"{kind.version}.{plural}.{kind.group}"}
        self._store.kinds.define({"metadata": metadata, "spec": {**spec, "scope": scope}})

    def seed(self, *bodies: Mapping[str, Any]) -> None:
        """Put objects there as they are, status included, past the log and the faults; missing namespaces too."""
        with self._turn:
            for given in bodies:
                body = json.loads(json.dumps(given))
                kind = self._kind(Manifest(body).kind)
                metadata = body.setdefault("metadata", {})
                namespace = str(metadata.get("namespace") or "")
                if namespace and self._store.find(("", "Namespace"), "", namespace) is None:
                    self.seed({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
                metadata.setdefault("uid", str(uuid.uuid4()))
                metadata.setdefault("creationTimestamp", self._time())
                if kind.counted:
                    metadata["generation"] = 1
                rules.prepare(kind, body)
                fill_in(kind.storage, body)
                by = fields.Owner(self._user, "Update", kind.api_version)
                owners = fields.taken_by_update(kind.schema, {}, body, {}, by, now=self._time())
                metadata["managedFields"] = fields.managed_fields(owners)
                if kind.storage == CRD:
                    self._store.kinds.define(body)
                self._store.put(kind.storage, body)

    def stored(self, kind: GroupVersionKind) -> Sequence[Manifest]:
        """Give what is there of a kind, past the log and the faults."""
        with self._turn:
            found = self._kind(kind)
            return [_shown(found, entry) for _, entry in self._store.entries(found.storage)]

    def report(self, manifest: Manifest, status: Mapping[str, Any]) -> None:
        """Write the status of an object as its controller does, past the log and the faults."""
        with self._turn:
            target = self._target(manifest.kind, manifest.name, manifest.namespace, "status")
            self._verbs.update(target, _copy({**manifest.body, "status": status}), Options(manager="its-controller"))
            self._afterwards.run()

    def fail(
        self,
        error: ApiError,
        *,
        times: int = 1,
        verb: str = "",
        resource: str = "",
        name: str = "",
        after: bool = False,
        skip: int = 0,
    ) -> None:
        """Raise `error` for the next `times` matching requests; with `after` the request is carried out all the same.

        The first `skip` matching requests go through.
        A resource is named as in the log: `secrets`, `sealedsecrets/status`.
        """
        with self._turn:
            self._faults.append(_Fault(error, verb, resource, name, times, after, skip))

    def writes(self) -> list[Request]:
        """Give the requests of the log that change something."""
        return [request for request in self.log if request.verb not in ("get", "list", "watch", "raw")]

    def compact(self) -> None:
        """Forget history: watches and pages that start from before are 410 Gone; running watches go on."""
        with self._turn:
            self._store.compact()

    def drop_watches(self, error: ApiError | None = None) -> None:
        """Break running watches off with an error (a lost connection)."""
        with self._turn:
            for watch in self._watches:
                watch.broken = error or Unreachable("the watch broke off", reason="NoAnswer")
            self._turn.notify_all()

    def bookmark(self) -> None:
        """Send a bookmark to running watches."""
        with self._turn:
            for watch in self._watches:
                watch.bookmark()

    # --- the door: discovery and reading ---------------------------------------------------------------

    @property
    def server(self) -> str:
        """Give a URL."""
        return "https://fake.invalid:6443"

    def resources(self, *, refresh: bool = False) -> Sequence[Resource]:
        """List what is served."""
        return [_resource(kind) for kind in self._store.kinds]

    def resource(self, kind: GroupVersionKind) -> Resource:
        """Look one kind up; raises `UnknownKind`."""
        return _resource(self._kind(kind))

    def get(self, kind: GroupVersionKind, name: str, namespace: str = "") -> Manifest:
        """Read one object; raises `NotFound`."""
        target = self._target(kind, name, namespace)

        def find() -> Manifest:
            entry = self._store.find(target.kind.storage, target.namespace, name)
            if entry is None:
                raise not_found(target.kind.plural, target.kind.group, name)
            return _shown(target.kind, entry)

        return self._request("get", target, find)

    def page(
        self,
        kind: GroupVersionKind,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 500,
        resume: str = "",
        metadata_only: bool = False,
    ) -> Page:
        """Read one page. Unlike a real server's, later pages show the newest state."""
        target = Target(kind=self._kind(kind), namespace=namespace)

        def read() -> Page:
            selection = _selection(target, label_selector, field_selector)
            entries, told = page(self._store, selection, {"limit": str(limit), "continue": resume})
            items = [_shown(target.kind, entry, metadata_only=metadata_only) for entry in entries]
            return Page(items=items, resource_version=told["resourceVersion"], resume=told.get("continue", ""))

        return self._request("list", target, read)

    def list(
        self, kind: GroupVersionKind, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Sequence[Manifest]:
        """Read everything."""
        return self.page(
            kind, namespace=namespace, label_selector=label_selector, field_selector=field_selector, limit=0
        ).items

    @contextmanager
    def watch(
        self,
        kind: GroupVersionKind,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        timeout: float = 300.0,
        metadata_only: bool = False,
    ) -> Iterator[FakeWatch]:
        """Stream changes; without a resourceVersion (or with 0) what is there comes first as ADDED."""
        target = Target(kind=self._kind(kind), namespace=namespace)

        def show(entry: Entry) -> Manifest:
            return _shown(target.kind, entry, metadata_only=metadata_only)

        def begin() -> FakeWatch:
            selection = _selection(target, label_selector, field_selector)
            begun = FakeWatch(self._turn, self._store, selection, show, timeout=timeout)
            try:
                begun.start(int(resource_version or 0))
            except Refused as refused:
                begun.broken = api_error(refused.body(), what=f"watch {kind.kind}")
            self._watches.append(begun)
            return begun

        watch = self._request("watch", target, begin)
        try:
            yield watch
        finally:
            watch.close()
            with self._turn:
                self._watches.remove(watch)

    # --- the door: writing -----------------------------------------------------------------------------

    def create(self, manifest: Manifest, *, field_manager: str = "", dry_run: bool = False) -> Manifest:
        """POST; raises `AlreadyExists`."""
        kind = self._kind(manifest.kind)
        if kind.namespaced and not manifest.namespace:
            raise Invalid(f"{manifest.key} names no namespace", reason="NoNamespace")
        target = Target(kind=kind, namespace=manifest.namespace, name=manifest.name)
        how, body = self._how(field_manager, dry_run), _copy(manifest.body)
        return self._write("create", target, lambda: self._verbs.create(target, body, how))

    def replace(
        self, manifest: Manifest, *, subresource: str = "", field_manager: str = "", dry_run: bool = False
    ) -> Manifest:
        """PUT; with a resourceVersion in the body a stale one raises `Conflict`."""
        target = self._target(manifest.kind, manifest.name, manifest.namespace, subresource)
        how, body = self._how(field_manager, dry_run), _copy(manifest.body)
        return self._write("update", target, lambda: self._verbs.update(target, body, how))

    def patch(
        self,
        kind: GroupVersionKind,
        name: str,
        patch: Any,
        *,
        namespace: str = "",
        patch_type: PatchType = PatchType.MERGE,
        subresource: str = "",
        field_manager: str = "",
        dry_run: bool = False,
    ) -> Manifest:
        """PATCH in three of the four types; apply is the fourth."""
        target = self._target(kind, name, namespace, subresource)
        how, body = self._how(field_manager, dry_run), _copy(patch)
        return self._write("patch", target, lambda: self._verbs.patch(target, body, _PATCHES[patch_type], how))

    def apply(
        self,
        manifest: Manifest,
        *,
        field_manager: str,
        force: bool = False,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Manifest:
        """Server-side apply; raises `Conflict` naming the other managers unless `force`."""
        target = self._target(manifest.kind, manifest.name, manifest.namespace, subresource)
        how, body = self._how(field_manager, dry_run, force=force), _copy(manifest.body)
        body["metadata"].pop("managedFields", None)
        return self._write("apply", target, lambda: self._verbs.apply(target, body, how))

    def delete(
        self,
        kind: GroupVersionKind,
        name: str,
        *,
        namespace: str = "",
        propagation: str = "Background",
        uid: str = "",
        resource_version: str = "",
        dry_run: bool = False,
    ) -> None:
        """DELETE with preconditions; raises `NotFound`, or `Conflict` when a precondition fails."""
        target = self._target(kind, name, namespace)
        how = Deletion(propagation=propagation, uid=uid, resource_version=resource_version, dry_run=dry_run)
        self._request("delete", target, lambda: self._verbs.delete(target, how))

    def raw(self, method: str, path: str, *, body: bytes = b"", content_type: str = "") -> Answer:
        """Give the answer that the test laid into `answers`, else a 404."""
        with self._logged(Request("raw", path, "", "")):
            return self.answers.get((method, path)) or Answer(code=404, headers={}, body=b"404 page not found")

    # --- one request -----------------------------------------------------------------------------------

    def _request(self, verb: str, target: Target, act: Callable[[], T]) -> T:
        """Log it, let faults meet it, and give what the server refuses as the real door's errors."""
        resource = f"{target.kind.plural}/{target.subresource}".rstrip("/")
        with self._logged(Request(verb, resource, target.namespace, target.name)):
            try:
                return act()
            except Refused as refused:
                status = refused.body()
            finally:
                self._afterwards.run()
            # Out here: as across a network, the error holds nothing of what was refused.
            raise api_error(status, what=f"{verb} {resource}", secret=target.kind.storage == rules.SECRET)

    def _write(self, verb: str, target: Target, act: Callable[[], Done]) -> Manifest:
        return self._request(verb, target, lambda: _shown(target.kind, act().entry))

    @contextmanager
    def _logged(self, request: Request) -> Iterator[None]:
        if self.on_request is not None:
            self.on_request(request)
        with self._turn:
            self.log.append(request)
            fault = next((fault for fault in self._faults if fault.meets(request)), None)
            if fault is not None and fault.skip:
                fault.skip -= 1
                fault = None
            if fault is not None:
                fault.times -= 1
                if not fault.times:
                    self._faults.remove(fault)
                if not fault.after:
                    raise fault.error
            yield
            if fault is not None:
                raise fault.error

    def _kind(self, kind: GroupVersionKind) -> Kind:
        found = self._store.kinds.named(kind.api_version, kind.kind)
        if found is None:
            raise UnknownKind(f"the cluster serves no {kind.kind} in {kind.api_version}", reason="UnknownKind")
        return found

    def _target(self, kind: GroupVersionKind, name: str, namespace: str, subresource: str = "") -> Target:
        found = self._kind(kind)
        if found.namespaced and not namespace:
            raise Invalid(f"{kind.kind} {name} names no namespace", reason="NoNamespace")
        if not name:
            raise Invalid(f"a {kind.kind} names no name", reason="NoName")
        if subresource and subresource not in found.subresources:
            raise api_error(no_such_path().body(), what=f"{kind.kind} {name}")
        return Target(kind=found, namespace=namespace if found.namespaced else "", name=name, subresource=subresource)

    def _how(self, manager: str, dry_run: bool, *, force: bool = False) -> Options:
        return Options(manager=manager or self._user, dry_run=dry_run, force=force)

    def _time(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")


def _resource(kind: Kind) -> Resource:
    return Resource(
        kind=GroupVersionKind(kind.group, kind.version, kind.kind),
        plural=kind.plural,
        namespaced=kind.namespaced,
        verbs=frozenset(kind.verbs),
        subresources=kind.subresources,
    )


def _selection(target: Target, label_selector: str, field_selector: str) -> Selection:
    selection = Selection(kind=target.kind, namespace=target.namespace, labels=label_selector, fields=field_selector)
    return selection.checked()


def _copy(body: Any) -> Any:
    """Give what arrives at a server: a copy by way of JSON."""
    return json.loads(json.dumps(body))


def _shown(kind: Kind, entry: Entry, *, metadata_only: bool = False) -> Manifest:
    """Give what a client reads: a copy by way of JSON."""
    if metadata_only:
        head = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": entry.body["metadata"]}
        return Manifest(json.loads(dumps(head)))
    return Manifest(json.loads(entry.json(kind)))
