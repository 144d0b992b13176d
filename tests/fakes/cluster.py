"""A Kubernetes API server in memory: the Cluster door for unit tests, held to `tests/contract/cluster`.

    cluster = FakeCluster(namespaces=["shop"])
    cluster.serve(SEALED_SECRET, "sealedsecrets")
    cluster.fail(Unreachable("gone"), verb="update", resource="secrets")
    assert cluster.writes() == [("create", "secrets", "shop", "db")]

What it leaves out is `UNSUPPORTED`. Garbage collection and namespace removal happen at once, inside the delete; a
bookmark is sent when a watch ends or the test asks for one.
"""

from __future__ import annotations

import base64
import copy
import datetime as dt
import json
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from secretsops.errors import ApiError, Invalid, NotFound, UnknownKind, Unreachable
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Answer, EventType, Page, PatchType, Resource
from tests.fakes import cluster_fields as fields
from tests.fakes.cluster_rules import (
    CRD,
    NAMESPACE,
    WITH_GENERATION,
    built_in,
    check_new,
    invalid,
    json_patch,
    merge_patch,
    of_crd,
    refuse,
    selects_fields,
    selects_labels,
    served,
)
from tests.fakes.cluster_watch import Change, FakeWatch

UNSUPPORTED: Mapping[str, str] = {
    "schemas": "structural schemas (validation, pruning, defaulting) need the API server's OpenAPI machinery",
    "defaults": "defaults of built-in kinds are the work of 20,000 generated lines",
    "kubectl": "kubectl speaks HTTP",
    "controllers": "no controller manager: no service accounts or kube-root-ca.crt appear in a new namespace",
}
"""What the fake does not do, with the reason; the contract suite skips these for it, and only these."""

Key = tuple[str, str, str, str]
"""Group, kind, namespace, name: what names an object whatever its version."""
_FOREGROUND = "foregroundDeletion"


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
        self._resources = built_in()
        self._objects: dict[Key, dict[str, Any]] = {}
        self._changes: list[Change] = []
        self._version = 0
        self._oldest = 0
        self._faults: list[_Fault] = []
        self._watches: list[FakeWatch] = []
        for name in ("default", "kube-system", "kube-public", "kube-node-lease", *namespaces):
            self.seed({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    # --- for tests -------------------------------------------------------------------------------------

    def serve(self, kind: GroupVersionKind, plural: str, *, namespaced: bool = True, status: bool = True) -> None:
        """Serve a kind as if its CustomResourceDefinition were installed."""
        self._resources[kind] = served(kind, plural, namespaced=namespaced, status=status)

    def seed(self, *bodies: Mapping[str, Any]) -> None:
        """Put objects there as they are, status included, past the log and the faults; missing namespaces too."""
        with self._turn:
            for body in bodies:
                manifest = Manifest(copy.deepcopy(dict(body)))
                resource = self.resource(manifest.kind)
                if resource.namespaced and ("", "Namespace", "", manifest.namespace) not in self._objects:
                    self.seed({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": manifest.namespace}})
                self._create(resource, manifest, field_manager="", keep_status=True)

    def fail(
        self,
        error: ApiError,
        *,
        times: int = 1,
        verb: str = "",
        resource: str = "",
        name: str = "",
        after: bool = False,
    ) -> None:
        """Raise `error` for the next `times` matching requests; with `after` the request is carried out all the same.

        A resource is named as in the log: `secrets`, `sealedsecrets/status`.
        """
        with self._turn:
            self._faults.append(_Fault(error, verb, resource, name, times, after))

    def writes(self) -> list[Request]:
        """Give the requests of the log that change something."""
        return [request for request in self.log if request.verb not in ("get", "list", "watch")]

    def compact(self) -> None:
        """Forget history: watches and pages from before are 410 Gone."""
        with self._turn:
            self._oldest = self._version
            self._changes.clear()

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
                watch.bookmarks += 1
            self._turn.notify_all()

    # --- the door: discovery and reading ---------------------------------------------------------------

    @property
    def server(self) -> str:
        """Give a URL."""
        return "https://fake.invalid:6443"

    def resources(self, *, refresh: bool = False) -> Sequence[Resource]:
        """List what is served."""
        return list(self._resources.values())

    def resource(self, kind: GroupVersionKind) -> Resource:
        """Look one kind up; raises `UnknownKind`."""
        found = self._resources.get(kind)
        if found is None:
            raise UnknownKind(f"the cluster serves no {kind.kind} in {kind.api_version}", reason="UnknownKind")
        return found

    def get(self, kind: GroupVersionKind, name: str, namespace: str = "") -> Manifest:
        """Read one object; raises `NotFound`."""
        resource = self._place(kind, name, namespace)
        with self._request("get", resource.plural, namespace, name):
            return self._shown(kind, self._found(resource, namespace, name))

    def page(
        self,
        kind: GroupVersionKind,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 500,
        resume: str = "",
    ) -> Page:
        """Read one page. Unlike a real server's, later pages show the newest state."""
        resource = self.resource(kind)
        with self._request("list", resource.plural, namespace, ""):
            start, version = ("", ""), self._version
            if resume:
                token = json.loads(base64.b64decode(resume))
                start, version = tuple(token["start"]), token["rv"]
                if version < self._oldest:
                    raise refuse(410, "Expired", "The provided continue parameter is too old")
            found = [
                body
                for key, body in sorted(self._objects.items())
                if key[:2] == (kind.group, kind.kind)
                and (not namespace or key[2] == namespace)
                and key[2:] > start
                and self._selects(resource, body, label_selector, field_selector)
            ]
            part = found[:limit] if limit else found
            rest = ""
            if len(part) < len(found):
                last = Manifest(part[-1])
                rest = base64.b64encode(
                    json.dumps({"rv": version, "start": [last.namespace, last.name]}).encode()
                ).decode()
            items = [self._shown(kind, body) for body in part]
            return Page(items=items, resource_version=str(version), resume=rest)

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
    ) -> Iterator[FakeWatch]:
        """Stream changes; without a resourceVersion (or with 0) what is there comes first as ADDED."""
        resource = self.resource(kind)

        def selects(body: Mapping[str, Any]) -> bool:
            inside = not namespace or (body["metadata"].get("namespace") or "") == namespace
            return inside and self._selects(resource, body, label_selector, field_selector)

        with self._request("watch", resource.plural, namespace, ""):
            since = int(resource_version or 0)
            watch = FakeWatch(self._turn, self._changes, kind, selects, since=since or self._version, timeout=timeout)
            watch.version_now = lambda: self._version
            if not since:
                watch.initial = [
                    copy.deepcopy(body)
                    for key, body in sorted(self._objects.items())
                    if key[:2] == (kind.group, kind.kind) and selects(body)
                ]
            elif since < self._oldest:
                watch.broken = refuse(410, "Expired", f"too old resource version: {since} ({self._oldest})")
            self._watches.append(watch)
        try:
            yield watch
        finally:
            watch.close()
            with self._turn:
                self._watches.remove(watch)

    # --- the door: writing -----------------------------------------------------------------------------

    def create(self, manifest: Manifest, *, field_manager: str = "", dry_run: bool = False) -> Manifest:
        """POST; raises `AlreadyExists`."""
        resource = self.resource(manifest.kind)
        if resource.namespaced and not manifest.namespace:
            raise Invalid(f"{manifest.key} names no namespace", reason="NoNamespace")
        with self._request("create", resource.plural, manifest.namespace, manifest.name):
            wanted = Manifest(copy.deepcopy(manifest.body))
            return self._create(resource, wanted, field_manager=field_manager, dry_run=dry_run)

    def replace(
        self, manifest: Manifest, *, subresource: str = "", field_manager: str = "", dry_run: bool = False
    ) -> Manifest:
        """PUT; with a resourceVersion in the body a stale one raises `Conflict`."""
        resource = self._place(manifest.kind, manifest.name, manifest.namespace, subresource)
        verb_on = f"{resource.plural}/{subresource}".rstrip("/")
        with self._request("update", verb_on, manifest.namespace, manifest.name):
            old = self._found(resource, manifest.namespace, manifest.name)
            custom = manifest.kind not in built_in()
            if custom and not manifest.resource_version:
                raise invalid(resource, manifest.name, "metadata.resourceVersion", "must be specified for an update")
            new = copy.deepcopy(manifest.body)
            return self._update(resource, old, new, (field_manager, "Update", subresource), dry_run=dry_run)

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
        resource = self._place(kind, name, namespace, subresource)
        with self._request("patch", f"{resource.plural}/{subresource}".rstrip("/"), namespace, name):
            old = self._found(resource, namespace, name)
            shown = copy.deepcopy(self._shown(kind, old).body)
            custom = kind not in built_in()
            if patch_type is PatchType.JSON:
                new = json_patch(shown, patch)
            elif patch_type is PatchType.MERGE:
                new = merge_patch(shown, patch)
            elif custom:
                raise refuse(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
            else:
                new = fields.merged(shown, patch, custom=False, delete_null=True)
            return self._update(resource, old, new, (field_manager, "Update", subresource), dry_run=dry_run)

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
        resource = self._place(manifest.kind, manifest.name, manifest.namespace, subresource)
        with self._request("apply", f"{resource.plural}/{subresource}".rstrip("/"), manifest.namespace, manifest.name):
            wanted = copy.deepcopy(manifest.body)
            key = self._key(resource, manifest.namespace, manifest.name)
            old = self._objects.get(key)
            if subresource and old is None:
                raise self._missing(resource, manifest.name)
            custom = manifest.kind not in built_in()
            live = copy.deepcopy(old) if old else {"metadata": {}}
            by = fields.Owner(field_manager, "Apply", manifest.kind.api_version, subresource)
            if not subresource and "status" in resource.subresources:
                wanted.pop("status", None)
            result = fields.applied(live, wanted, fields.owners_of(live), by, now=self._time(), custom=custom)
            if result.conflicts and not force:
                raise _apply_conflict(result.conflicts)
            new = {**result.body, "apiVersion": manifest.kind.api_version, "kind": manifest.kind.kind}
            if old is None:
                return self._create(
                    resource, Manifest(new), field_manager=field_manager, dry_run=dry_run, owners=result.owners
                )
            how = (field_manager, "Apply", subresource)
            return self._update(resource, old, new, how, dry_run=dry_run, owners=result.owners)

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
        resource = self._place(kind, name, namespace)
        with self._request("delete", resource.plural, namespace, name):
            body = self._found(resource, namespace, name)
            for field, wanted in (("uid", uid), ("resourceVersion", resource_version)):
                if wanted and body["metadata"][field] != wanted:
                    raise refuse(409, "Conflict", f"Precondition failed: {field} in precondition is {wanted}")
            if not dry_run:
                self._delete(resource, body, propagation)

    def raw(self, method: str, path: str, *, body: bytes = b"", content_type: str = "") -> Answer:
        """Give the answer that the test laid into `answers`, else a 404."""
        with self._request("raw", path, "", ""):
            return self.answers.get((method, path)) or Answer(code=404, headers={}, body=b"404 page not found")

    # --- one request -----------------------------------------------------------------------------------

    @contextmanager
    def _request(self, verb: str, resource: str, namespace: str, name: str) -> Iterator[None]:
        request = Request(verb, resource, namespace, name)
        if self.on_request is not None:
            self.on_request(request)
        with self._turn:
            self.log.append(request)
            fault = next(
                (
                    fault
                    for fault in self._faults
                    if fault.verb in ("", verb) and fault.resource in ("", resource) and fault.name in ("", name)
                ),
                None,
            )
            if fault is not None:
                fault.times -= 1
                if not fault.times:
                    self._faults.remove(fault)
                if not fault.after:
                    raise fault.error
            yield
            if fault is not None:
                raise fault.error

    def _place(self, kind: GroupVersionKind, name: str, namespace: str, subresource: str = "") -> Resource:
        resource = self.resource(kind)
        if resource.namespaced and not namespace:
            raise Invalid(f"{kind.kind} {name} names no namespace", reason="NoNamespace")
        if not name:
            raise Invalid(f"a {kind.kind} names no name", reason="NoName")
        if subresource and subresource not in resource.subresources:
            raise refuse(404, "NotFound", "the server could not find the requested resource")
        return resource

    def _key(self, resource: Resource, namespace: str, name: str) -> Key:
        return (resource.kind.group, resource.kind.kind, namespace if resource.namespaced else "", name)

    def _missing(self, resource: Resource, name: str) -> ApiError:
        group = f".{resource.kind.group}" if resource.kind.group else ""
        return refuse(404, "NotFound", f'{resource.plural}{group} "{name}" not found')

    def _found(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        found = self._objects.get(self._key(resource, namespace, name))
        if found is None:
            raise self._missing(resource, name)
        return found

    def _shown(self, kind: GroupVersionKind, body: Mapping[str, Any]) -> Manifest:
        return Manifest({**copy.deepcopy(dict(body)), "apiVersion": kind.api_version, "kind": kind.kind})

    def _selects(self, resource: Resource, body: Mapping[str, Any], label_selector: str, field_selector: str) -> bool:
        labels = body["metadata"].get("labels") or {}
        return selects_labels(label_selector, labels) and selects_fields(resource, field_selector, body)

    def _time(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")

    # --- storage ---------------------------------------------------------------------------------------

    def _create(
        self,
        resource: Resource,
        manifest: Manifest,
        *,
        field_manager: str,
        dry_run: bool = False,
        keep_status: bool = False,
        owners: fields.Owners | None = None,
    ) -> Manifest:
        body = manifest.body
        metadata = body.setdefault("metadata", {})
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + secrets.token_hex(3)[:5]
        if metadata.pop("resourceVersion", None) and not keep_status:
            raise refuse(
                500, "", "resourceVersion should not be set on objects to be created"
            )  # a real one says so too
        key = self._key(resource, manifest.namespace, manifest.name)
        if resource.namespaced and not keep_status:
            self._open_namespace(manifest)
        if key in self._objects:
            raise refuse(409, "AlreadyExists", f'{resource.plural} "{manifest.name}" already exists')
        if "status" in resource.subresources and not keep_status:
            body.pop("status", None)
        check_new(resource, body, None)
        for field in ("deletionTimestamp", "deletionGracePeriodSeconds"):
            metadata.pop(field, None)
        metadata["uid"] = metadata.get("uid") if keep_status and metadata.get("uid") else _uid()
        metadata["creationTimestamp"] = (keep_status and metadata.get("creationTimestamp")) or self._time()
        if resource.kind not in built_in() or resource.kind.kind in WITH_GENERATION:
            metadata["generation"] = 1
        self._born(resource, body)
        if owners is None:
            by = fields.Owner(field_manager or self._user, "Update", manifest.kind.api_version)
            custom = resource.kind not in built_in()
            owners = fields.taken_by_update({}, body, {}, by, now=self._time(), custom=custom)
        metadata["managedFields"] = fields.managed_fields(owners)
        if dry_run:
            return self._shown(manifest.kind, body)
        self._store(EventType.ADDED, key, body, None)
        if resource.kind == CRD:
            self._resources |= {served.kind: served for served in of_crd(body)}
        return self._shown(manifest.kind, body)

    def _open_namespace(self, manifest: Manifest) -> None:
        home = self._objects.get(("", "Namespace", "", manifest.namespace))
        if home is None:
            raise refuse(404, "NotFound", f'namespaces "{manifest.namespace}" not found')
        if home["metadata"].get("deletionTimestamp"):
            raise refuse(403, "Forbidden", f"unable to create new content in namespace {manifest.namespace} because "
                         "it is being terminated")  # fmt: skip

    def _born(self, resource: Resource, body: dict[str, Any]) -> None:
        """Fill in what every new namespace has, and the condition that makes a definition usable."""
        if resource.kind == NAMESPACE:
            labels = body["metadata"].setdefault("labels", {})
            labels["kubernetes.io/metadata.name"] = body["metadata"]["name"]
            body["spec"] = {"finalizers": ["kubernetes"]}
            body.setdefault("status", {"phase": "Active"})
        if resource.kind == CRD:
            body["status"] = {
                "conditions": [{"type": name, "status": "True"} for name in ("NamesAccepted", "Established")]
            }

    def _update(
        self,
        resource: Resource,
        old: dict[str, Any],
        new: dict[str, Any],
        how: tuple[str, str, str],
        *,
        dry_run: bool,
        owners: fields.Owners | None = None,
    ) -> Manifest:
        manager, operation, subresource = how
        kind = GroupVersionKind.of(str(new.get("apiVersion")), str(new.get("kind")))
        name = str(old["metadata"]["name"])
        metadata = new.setdefault("metadata", {})
        for field in ("uid", "resourceVersion"):
            if metadata.get(field) and metadata[field] != old["metadata"][field]:
                raise refuse(
                    409,
                    "Conflict",
                    f'Operation cannot be fulfilled on {resource.plural} "{name}": the object has been modified; '
                    "please apply your changes to the latest version and try again",
                )
        if metadata.get("name") != name:
            raise invalid(resource, name, "metadata.name", "field is immutable")
        for field in ("uid", "resourceVersion", "creationTimestamp", "generation", "deletionTimestamp", "namespace"):
            metadata.pop(field, None)
            if field in old["metadata"]:
                metadata[field] = old["metadata"][field]
        self._keep_the_other_half(resource, old, new, subresource)
        check_new(resource, new, old)
        custom = resource.kind not in built_in()
        if owners is None:
            by = fields.Owner(manager or self._user, operation, kind.api_version, subresource)
            owners = fields.taken_by_update(old, new, fields.owners_of(old), by, now=self._time(), custom=custom)
        metadata = new["metadata"]
        metadata["managedFields"] = fields.managed_fields(owners)
        if custom or resource.kind.kind in WITH_GENERATION:
            metadata["generation"] = int(old["metadata"].get("generation") or 1) + (_intent(old) != _intent(new))
        if dry_run or {**new, "apiVersion": ""} == {**old, "apiVersion": ""}:
            return self._shown(kind, new)
        key = self._key(resource, str(metadata.get("namespace") or ""), name)
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            self._remove(key, new)
        else:
            self._store(EventType.MODIFIED, key, new, old)
            if resource.kind == CRD:
                self._resources |= {served.kind: served for served in of_crd(new)}
        return self._shown(kind, new)

    def _keep_the_other_half(
        self, resource: Resource, old: dict[str, Any], new: dict[str, Any], subresource: str
    ) -> None:
        """Writes to the main resource leave status alone, writes to status everything else."""
        if subresource == "status":
            status = new.get("status")
            managed = new["metadata"].get("managedFields")
            kept = copy.deepcopy({key: value for key, value in old.items() if key != "status"})
            new.clear()
            new.update(kept)
            if status is not None:
                new["status"] = status
            if managed:
                new["metadata"]["managedFields"] = managed
        elif "status" in resource.subresources:
            new.pop("status", None)
            if "status" in old:
                new["status"] = copy.deepcopy(old["status"])

    def _delete(self, resource: Resource, body: dict[str, Any], propagation: str) -> None:
        new = copy.deepcopy(body)
        metadata = new["metadata"]
        key = self._key(resource, str(metadata.get("namespace") or ""), str(metadata["name"]))
        if propagation == "Orphan":
            self._disown(str(metadata["uid"]))
        if metadata.get("finalizers") or resource.kind == NAMESPACE:
            if not metadata.get("deletionTimestamp"):
                metadata["deletionTimestamp"] = self._time()
                metadata["deletionGracePeriodSeconds"] = 0
                if resource.kind == NAMESPACE:
                    new["status"] = {"phase": "Terminating"}
                self._store(EventType.MODIFIED, key, new, body)
            if resource.kind == NAMESPACE:
                self._empty(str(metadata["name"]))
            return
        if propagation == "Foreground":
            self._collect(str(metadata["uid"]))
        self._remove(key, new)

    def _empty(self, namespace: str) -> None:
        for key in [key for key in self._objects if key[2] == namespace]:
            if key in self._objects:
                resource = next(found for found in self._resources.values() if found.kind.kind == key[1]
                                and found.kind.group == key[0])  # fmt: skip
                self._delete(resource, self._objects[key], "Background")
        self._finish(namespace)

    def _finish(self, namespace: str) -> None:
        home = self._objects.get(("", "Namespace", "", namespace))
        if home and home["metadata"].get("deletionTimestamp") and not any(key[2] == namespace for key in self._objects):
            self._remove(("", "Namespace", "", namespace), copy.deepcopy(home))

    def _remove(self, key: Key, body: dict[str, Any]) -> None:
        old = self._objects.pop(key)
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        self._changes.append(Change(self._version, EventType.DELETED, key[:2], body, old))
        self._turn.notify_all()
        if key[:2] == (CRD.group, CRD.kind):
            for resource in of_crd(body):
                self._resources.pop(resource.kind, None)
                for below in [
                    other for other in self._objects if other[:2] == (resource.kind.group, resource.kind.kind)
                ]:
                    self._remove(below, copy.deepcopy(self._objects[below]))
        self._collect(str(body["metadata"]["uid"]))
        if key[2]:
            self._finish(key[2])

    def _collect(self, uid: str) -> None:
        """Delete what only this owner kept."""
        for key, body in list(self._objects.items()):
            owners = body["metadata"].get("ownerReferences") or []
            alive = {other["metadata"]["uid"] for other in self._objects.values()} - {uid}
            if key in self._objects and any(owner.get("uid") == uid for owner in owners):
                resource = next(found for found in self._resources.values() if found.kind.kind == key[1]
                                and found.kind.group == key[0])  # fmt: skip
                if not any(owner.get("uid") in alive for owner in owners):
                    self._delete(resource, body, "Background")

    def _disown(self, uid: str) -> None:
        for key, body in list(self._objects.items()):
            owners = body["metadata"].get("ownerReferences") or []
            if any(owner.get("uid") == uid for owner in owners):
                new = copy.deepcopy(body)
                new["metadata"]["ownerReferences"] = [owner for owner in owners if owner.get("uid") != uid]
                self._store(EventType.MODIFIED, key, new, body)

    def _store(self, event: EventType, key: Key, body: dict[str, Any], old: dict[str, Any] | None) -> None:
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        self._objects[key] = copy.deepcopy(body)
        self._changes.append(Change(self._version, event, key[:2], copy.deepcopy(body), old))
        self._turn.notify_all()


def _uid() -> str:
    digits = secrets.token_hex(16)
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _intent(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in ("apiVersion", "kind", "metadata", "status")}


def _apply_conflict(conflicts: Sequence[tuple[fields.Owner, fields.Path]]) -> ApiError:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{owner.manager}" using {owner.api_version}',
            "field": fields.spoken(path),
        }
        for owner, path in conflicts
    ]
    named = ", ".join(f"{cause['message']}: {cause['field']}" for cause in causes)
    plural = "s" if len(causes) > 1 else ""
    return refuse(409, "Conflict", f"Apply failed with {len(causes)} conflict{plural}: {named}", causes=causes)


__all__ = ["UNSUPPORTED", "FakeCluster", "NotFound", "Request"]
