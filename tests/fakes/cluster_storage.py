"""What the fake API server keeps: objects, versions, history; creation, update, finalizers, garbage collection.

Follows `k8s.io/apiserver/pkg/registry/generic/registry/store.go` in what a client can see. Never here: the door itself,
faults, the log of requests (`tests/fakes/cluster.py`).
"""

from __future__ import annotations

import copy
import datetime as dt
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any

from secretsops.errors import ApiError
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import EventType, Resource
from tests.fakes import cluster_fields as fields
from tests.fakes.cluster_rules import (
    CRD,
    NAMESPACE,
    WITH_GENERATION,
    built_in,
    check_new,
    invalid,
    is_custom,
    of_crd,
    refuse,
)
from tests.fakes.cluster_watch import Change

Key = tuple[str, str, str, str]
"""Group, kind, namespace, name: what names an object whatever its version."""


class Storage:
    """Objects by key under one lock, with the history that watches read."""

    def __init__(self, *, user: str, now: Callable[[], dt.datetime] | None) -> None:
        self._user = user
        self._now = now or (lambda: dt.datetime.now(dt.UTC))
        self._turn = threading.Condition(threading.RLock())
        self._resources = built_in()
        self._objects: dict[Key, dict[str, Any]] = {}
        self._changes: list[Change] = []
        self._version = 0
        self._oldest = 0

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

    def _time(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")

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
        if is_custom(resource.kind) or resource.kind.kind in WITH_GENERATION:
            metadata["generation"] = 1
        self._born(resource, body)
        if owners is None:
            by = fields.Owner(field_manager or self._user, "Update", manifest.kind.api_version)
            custom = is_custom(resource.kind)
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
        custom = is_custom(resource.kind)
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
            if key in self._objects and any(owner.get("uid") == uid for owner in owners):
                resource = next(found for found in self._resources.values() if found.kind.kind == key[1]
                                and found.kind.group == key[0])  # fmt: skip
                alive = {other["metadata"]["uid"] for other in self._objects.values()} - {uid}
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
