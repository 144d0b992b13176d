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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from secretsops.errors import ApiError, Invalid, NotFound, UnknownKind, Unreachable
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Answer, Page, PatchType, Resource
from tests.fakes import cluster_fields as fields
from tests.fakes.cluster_rules import (
    invalid,
    is_custom,
    json_patch,
    merge_patch,
    refuse,
    selects_fields,
    selects_labels,
    served,
)
from tests.fakes.cluster_storage import Storage
from tests.fakes.cluster_watch import FakeWatch, slim

UNSUPPORTED: Mapping[str, str] = {
    "schemas": "structural schemas (validation, pruning, defaulting) need the API server's OpenAPI machinery",
    "defaults": "defaults of built-in kinds are the work of 20,000 generated lines",
    "kubectl": "kubectl speaks HTTP",
    "controllers": "no controller manager: no service accounts or kube-root-ca.crt appear in a new namespace",
}
"""What the fake does not do, with the reason; the contract suite skips these for it, and only these."""


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


class FakeCluster(Storage):
    """One API server in memory. Satisfies `secretsops.ports.Cluster`; thread-safe."""

    def __init__(
        self, *, namespaces: Iterable[str] = (), user: str = "secretsops", now: Callable[[], dt.datetime] | None = None
    ) -> None:
        super().__init__(user=user, now=now)
        self.log: list[Request] = []
        self.answers: dict[tuple[str, str], Answer] = {
            ("GET", "/readyz"): Answer(code=200, headers={}, body=b"ok"),
            ("GET", "/version"): Answer(code=200, headers={}, body=b'{"major":"1","minor":"36"}'),
        }
        self.on_request: Callable[[Request], None] | None = None
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
            self._oldest = self._version

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
        metadata_only: bool = False,
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
            items = [self._shown(kind, slim(body) if metadata_only else body) for body in part]
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
        metadata_only: bool = False,
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
            watch.metadata_only = metadata_only
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
            custom = is_custom(manifest.kind)
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
            custom = is_custom(kind)
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
            custom = is_custom(manifest.kind)
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

    def _place(self, kind: GroupVersionKind, name: str, namespace: str, subresource: str = "") -> Resource:
        resource = self.resource(kind)
        if resource.namespaced and not namespace:
            raise Invalid(f"{kind.kind} {name} names no namespace", reason="NoNamespace")
        if not name:
            raise Invalid(f"a {kind.kind} names no name", reason="NoName")
        if subresource and subresource not in resource.subresources:
            raise refuse(404, "NotFound", "the server could not find the requested resource")
        return resource

    def _selects(self, resource: Resource, body: Mapping[str, Any], label_selector: str, field_selector: str) -> bool:
        labels = body["metadata"].get("labels") or {}
        return selects_labels(label_selector, labels) and selects_fields(resource, field_selector, body)


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
