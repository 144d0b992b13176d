"""What disappears by itself: dependents of a deleted owner, what a namespace or a definition held.

Follows `pkg/controller/garbagecollector`, `pkg/controller/namespace` and the finalizer of apiextensions. Work is done
after the request that caused it, as on a real cluster. Never here: what appears by itself (`workloads.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from drills.sandbox.embedded.status import Refused
from drills.sandbox.embedded.store import Change, Name, Storage, Store
from drills.sandbox.embedded.strategy import CRD_FINALIZER
from drills.sandbox.embedded.verbs import Verbs
from drills.sandbox.embedded.writes import CRD, MERGE_PATCH, NAMESPACE, Deletion, Options, Target

_ABSENT_AFTER = 0.3
"""Seconds until an owner that is not there counts as gone: it may come in the same breath."""
_MANAGER = "kube-controller-manager"
Place = tuple[Storage, Name]


class Later(Protocol):
    """Has work done once the request that caused it is over; an asyncio loop is one."""

    def call_soon(self, act: Callable[..., Any], /, *arguments: Any) -> Any:
        """Do it next."""

    def call_later(self, seconds: float, act: Callable[..., Any], /, *arguments: Any) -> Any:
        """Do it after some seconds."""


class Collector:
    """Collects garbage of one store."""

    def __init__(self, store: Store, verbs: Verbs, later: Later) -> None:
        self._store = store
        self._verbs = verbs
        self._dependents: dict[str, set[Place]] = {}
        self._uids: set[str] = set()
        self._later = later
        store.listen(None, self._see)

    def _see(self, change: Change) -> None:
        metadata = change.after.body["metadata"]
        name = (str(metadata.get("namespace") or ""), str(metadata["name"]))
        place = (change.storage, name)
        owners = [str(each.get("uid")) for each in metadata.get("ownerReferences") or []]
        if change.event == "DELETED":
            self._uids.discard(metadata["uid"])
            for uid in owners:
                self._dependents.get(uid, set()).discard(place)
            self._later.call_soon(self._after_deletion, change.storage, change.after.body)
            return
        self._uids.add(metadata["uid"])
        for uid in owners:
            self._dependents.setdefault(uid, set()).add(place)
        before = change.before.body["metadata"].get("ownerReferences") if change.before is not None else None
        if owners and before != metadata.get("ownerReferences"):
            self._later.call_later(_ABSENT_AFTER, self._judge, place)
        if metadata.get("deletionTimestamp"):
            self._later.call_soon(self._finalize, place)

    # --- owners ----------------------------------------------------------------------------------------

    def _after_deletion(self, storage: Storage, body: Mapping[str, Any]) -> None:
        """Look again at everything that may have waited for this."""
        metadata = body["metadata"]
        if storage == CRD:
            self._store.kinds.forget(str(metadata["name"]))
        for place in sorted(self._dependents.pop(str(metadata["uid"]), ())):
            self._judge(place)
        for owner in metadata.get("ownerReferences") or []:
            waiting = self._store.uids().get(str(owner.get("uid")))
            if waiting is not None:
                self._finalize(waiting)
        if metadata.get("namespace"):
            self._finalize((NAMESPACE, ("", str(metadata["namespace"]))))
        kind = self._store.kinds.stored(storage)
        if kind is not None and kind.custom:
            self._finalize((CRD, ("", f"{kind.plural}.{kind.group}")))

    def _judge(self, place: Place) -> None:
        """Delete an object all of whose owners are gone; take absent ones off the others."""
        entry = self._store.find(place[0], *place[1])
        if entry is None:
            return
        owners = entry.body["metadata"].get("ownerReferences") or []
        left = [owner for owner in owners if str(owner.get("uid")) in self._uids]
        if owners and not left:
            self._delete(place, uid=entry.body["metadata"]["uid"])
        elif len(left) < len(owners):
            self._patch(place, {"metadata": {"ownerReferences": left}})

    # --- finalizers of ours ----------------------------------------------------------------------------

    def _finalize(self, place: Place) -> None:
        """Do what a deletion waits for: dependents first, orphans let go, contents of namespaces and definitions."""
        entry = self._store.find(place[0], *place[1])
        if entry is None or not entry.body["metadata"].get("deletionTimestamp"):
            return
        metadata = entry.body["metadata"]
        finalizers = metadata.get("finalizers") or []
        if place[0] == NAMESPACE:
            self._empty(place)
        if "foregroundDeletion" in finalizers:
            blocking = False
            for dependent in sorted(self._dependents.get(metadata["uid"], ())):
                self._delete(dependent, propagation="Foreground")
                blocking = blocking or self._blocks(dependent, metadata["uid"])
            if not blocking:
                self._release(place, "foregroundDeletion")
        elif "orphan" in finalizers:
            for dependent in sorted(self._dependents.get(metadata["uid"], ())):
                self._disown(dependent, metadata["uid"])
            self._release(place, "orphan")
        elif CRD_FINALIZER in finalizers and place[0] == CRD:
            self._undefine(place, entry.body)

    def _blocks(self, place: Place, uid: str) -> bool:
        entry = self._store.find(place[0], *place[1])
        owners = entry.body["metadata"].get("ownerReferences") or [] if entry is not None else []
        return any(owner.get("uid") == uid and owner.get("blockOwnerDeletion") for owner in owners)

    def _disown(self, place: Place, uid: str) -> None:
        entry = self._store.find(place[0], *place[1])
        if entry is not None:
            owners = entry.body["metadata"].get("ownerReferences") or []
            kept = [owner for owner in owners if owner.get("uid") != uid]
            self._patch(place, {"metadata": {"ownerReferences": kept or None}})

    def _empty(self, place: Place) -> None:
        """Delete what a terminating namespace holds, Pods last; without contents it goes."""
        name = place[1][1]
        contents = self._store.everything(name)
        for storage, which, _ in contents:
            self._delete((storage, which))
        entry = self._store.find(*place[:1], "", name)
        if entry is not None and not self._store.everything(name) and not entry.body["metadata"].get("finalizers"):
            self._store.drop(NAMESPACE, "", name, entry.body)

    def _undefine(self, place: Place, body: Mapping[str, Any]) -> None:
        """Delete a definition's objects; without any it goes."""
        storage = (str(body["spec"]["group"]), str(body["spec"]["names"]["kind"]))
        for name, _ in self._store.entries(storage):
            self._delete((storage, name))
        if not self._store.entries(storage):
            self._release(place, CRD_FINALIZER)

    # --- writes ----------------------------------------------------------------------------------------

    def _release(self, place: Place, finalizer: str) -> None:
        entry = self._store.find(place[0], *place[1])
        if entry is not None:
            kept = [each for each in entry.body["metadata"].get("finalizers") or [] if each != finalizer]
            self._patch(place, {"metadata": {"finalizers": kept or None}})

    def _delete(self, place: Place, *, propagation: str = "Background", uid: str = "") -> None:
        kind = self._store.kinds.stored(place[0])
        if kind is not None:
            target = Target(kind=kind, namespace=place[1][0], name=place[1][1])
            with contextlib.suppress(Refused):
                self._verbs.delete(target, Deletion(propagation=propagation, uid=uid))

    def _patch(self, place: Place, patch: Mapping[str, Any]) -> None:
        kind = self._store.kinds.stored(place[0])
        if kind is not None:
            target = Target(kind=kind, namespace=place[1][0], name=place[1][1])
            with contextlib.suppress(Refused):
                self._verbs.patch(target, dict(patch), MERGE_PATCH, Options(manager=_MANAGER))
