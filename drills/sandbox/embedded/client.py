"""How controllers read and write the store: by storage and body, as themselves. Never here: what they bring about."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from drills.sandbox.embedded.status import Refused
from drills.sandbox.embedded.store import Storage, Store, copied
from drills.sandbox.embedded.verbs import Verbs
from drills.sandbox.embedded.writes import Body, Deletion, Options, Target

CONTROLLER = Options(manager="kube-controller-manager", validation="Ignore")
KUBELET = Options(manager="kubelet", validation="Ignore")
POD, NODE, SERVICE, CLAIM = ("", "Pod"), ("", "Node"), ("", "Service"), ("", "PersistentVolumeClaim")


class Client:
    """One store as controllers see it. Bodies it gives are those that are stored: to change one, make another."""

    def __init__(
        self, store: Store, verbs: Verbs, now: Callable[[], str], again: Callable[[Storage, Body, float], None]
    ) -> None:
        """Have `now` tell the time as text, and `again` look at an object once more after some seconds."""
        self._store = store
        self._verbs = verbs
        self.now = now
        self.again = again

    def find(self, storage: Storage, namespace: str, name: str) -> Body | None:
        """Give one object, None when it is not there."""
        entry = self._store.find(storage, namespace, name)
        return entry.body if entry is not None else None

    def all(self, storage: Storage, namespace: str = "") -> list[Body]:
        """Give objects by namespace and name, of one namespace or of all."""
        return [entry.body for _, entry in self._store.entries(storage, namespace)]

    def create(self, storage: Storage, body: Body) -> Body | None:
        """Make an object; gives it, None where the server refuses (it is there already, its namespace goes)."""
        target = self._target(storage, body)
        kind = target.kind
        with contextlib.suppress(Refused):
            new = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
            return self._verbs.create(target, copied(new), CONTROLLER).body
        return None

    def status(self, storage: Storage, body: Body, status: Body, options: Options = CONTROLLER) -> None:
        """Write a status that differs from the one that is there."""
        if status != (body.get("status") or {}):
            self.put(storage, {**body, "status": status}, options, "status")

    def put(self, storage: Storage, body: Body, options: Options = CONTROLLER, subresource: str = "") -> None:
        """Replace an object.

        Raises:
            Refused: somebody else changed it in between.
        """
        self._verbs.update(self._target(storage, body, subresource), copied(body), options)

    def delete(self, storage: Storage, body: Body) -> None:
        """Delete this very object, if it is still there."""
        with contextlib.suppress(Refused):
            self._verbs.delete(self._target(storage, body), Deletion(uid=body["metadata"]["uid"]))

    def end(self, storage: Storage, body: Body) -> None:
        """Cut short the grace of what is being deleted; it goes unless a finalizer holds it."""
        target = self._target(storage, body)
        self._verbs.delete(target, Deletion(grace=0))
        left = self.find(storage, target.namespace, target.name)
        if left is not None and not left["metadata"].get("finalizers"):
            self._store.drop(storage, target.namespace, target.name, left)

    def _target(self, storage: Storage, body: Body, subresource: str = "") -> Target:
        kind = self._store.kinds.stored(storage)
        assert kind is not None
        metadata = body["metadata"]
        place = {"namespace": str(metadata.get("namespace") or ""), "name": str(metadata.get("name") or "")}
        return Target(kind=kind, subresource=subresource, **place)

    def owned(self, storage: Storage, owner: Body) -> list[Body]:
        """Give what an object controls, oldest first, without what is being deleted."""
        uid, namespace = owner["metadata"]["uid"], owner["metadata"]["namespace"]
        found = [
            entry.body
            for _, entry in self._store.entries(storage, namespace)
            if is_controlled_by(entry.body, uid) and not entry.body["metadata"].get("deletionTimestamp")
        ]
        return sorted(found, key=lambda body: int(body["metadata"]["resourceVersion"]))


def owner_of(body: Body, api_version: str, kind: str) -> Body:
    """Give the reference by which what an object controls names it."""
    metadata = body["metadata"]
    return {"apiVersion": api_version, "kind": kind, "name": metadata["name"], "uid": metadata["uid"],
            "controller": True, "blockOwnerDeletion": True}  # fmt: skip


def is_controlled_by(body: Mapping[str, Any], uid: str) -> bool:
    """Say whether an object's controller has this uid."""
    return any(
        each.get("uid") == uid and each.get("controller") for each in body["metadata"].get("ownerReferences") or ()
    )


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Say whether a Pod is ready."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
