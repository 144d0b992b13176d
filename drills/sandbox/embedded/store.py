"""Objects in memory, their versions, and the history that watches read. One thread; nothing here waits.

Bodies are never changed once they are stored: whoever wants to change one makes another. Never here: what may be
written (`verbs.py`).
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from drills.sandbox.embedded.kinds import Kind, Kinds
from drills.sandbox.embedded.status import Refused

HISTORY = 20_000
"""Changes that are remembered; a watch from before them is 410 Gone (etcd keeps five minutes)."""

Storage = tuple[str, str]
Name = tuple[str, str]
"""Namespace ("" for cluster-wide) and name."""


@dataclass(slots=True)
class Entry:
    """One stored object and its JSON per apiVersion, made when first asked for."""

    body: dict[str, Any]
    version: int
    raw: dict[str, bytes] = field(default_factory=dict)

    def json(self, kind: Kind) -> bytes:
        """Give the object's JSON in a version of its kind."""
        found = self.raw.get(kind.api_version)
        if found is None:
            found = self.raw[kind.api_version] = dumps(shown(kind, self.body))
        return found

    def in_list(self, kind: Kind) -> bytes:
        """Give the object's JSON as an item of a list, where built-in kinds do not repeat what they are."""
        return self.json(kind) if kind.custom else b"{" + self.json(kind)[kind.head :]


class Change(NamedTuple):
    """One change of one object: what it is now and what it was before; `after` of a deletion is its last state."""

    version: int
    storage: Storage
    event: str
    after: Entry
    before: Entry | None


Listener = Callable[[Change], None]


class Store:
    """Everything that is there."""

    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds
        self.version = 1
        self.oldest = 0
        self._objects: dict[Storage, dict[Name, Entry]] = {}
        self._history: list[Change] = []
        self._listeners: dict[Storage | None, list[Listener]] = {}

    # --- reading ---------------------------------------------------------------------------------------

    def find(self, storage: Storage, namespace: str, name: str) -> Entry | None:
        """Give one object, None when it is not there."""
        return self._objects.get(storage, {}).get((namespace, name))

    def entries(self, storage: Storage, namespace: str = "") -> list[tuple[Name, Entry]]:
        """Give objects by namespace and name, of one namespace or of all."""
        found = self._objects.get(storage, {})
        if namespace:
            return sorted(((name, entry) for name, entry in found.items() if name[0] == namespace), key=_first)
        return sorted(found.items(), key=_first)

    def everything(self, namespace: str) -> list[tuple[Storage, Name, Entry]]:
        """Give what is in one namespace, of every kind."""
        return [
            (storage, name, entry)
            for storage, found in self._objects.items()
            for name, entry in found.items()
            if name[0] == namespace
        ]

    def all(self) -> list[tuple[Storage, Entry]]:
        """Give everything, oldest change first, so that definitions come before what they define."""
        found = [(storage, entry) for storage, entries in self._objects.items() for entry in entries.values()]
        return sorted(
            found, key=lambda row: (row[0] != ("apiextensions.k8s.io", "CustomResourceDefinition"), row[1].version)
        )

    def uids(self) -> dict[str, tuple[Storage, Name]]:
        """Give who has which uid."""
        return {
            entry.body["metadata"]["uid"]: (storage, name)
            for storage, found in self._objects.items()
            for name, entry in found.items()
        }

    def since(self, version: int, storage: Storage) -> Iterable[Change]:
        """Give the changes of a kind after a version; one that is forgotten is 410."""
        if version < self.oldest:
            raise gone(version, self.oldest)
        start = bisect.bisect_right(self._history, version, key=lambda change: change.version)
        return [change for change in self._history[start:] if change.storage == storage]

    @property
    def count(self) -> int:
        """Give how many objects there are."""
        return sum(len(found) for found in self._objects.values())

    # --- writing ---------------------------------------------------------------------------------------

    def put(self, storage: Storage, body: dict[str, Any]) -> Entry:
        """Keep an object under its name, with a new resourceVersion; gives what is kept."""
        metadata = body["metadata"]
        name = (str(metadata.get("namespace") or ""), str(metadata["name"]))
        before = self._objects.get(storage, {}).get(name)
        entry = self._numbered(body)
        self._objects.setdefault(storage, {})[name] = entry
        self._tell(Change(entry.version, storage, "MODIFIED" if before else "ADDED", entry, before))
        return entry

    def drop(self, storage: Storage, namespace: str, name: str, body: dict[str, Any]) -> Entry:
        """Remove an object; `body` is its last state."""
        before = self._objects[storage].pop((namespace, name))
        entry = self._numbered(body)
        self._tell(Change(entry.version, storage, "DELETED", entry, before))
        return entry

    def restore(self, storage: Storage, event: str, body: dict[str, Any]) -> None:
        """Put back one change of an earlier life, with the resourceVersion it had."""
        metadata = body["metadata"]
        name = (str(metadata.get("namespace") or ""), str(metadata["name"]))
        found = self._objects.setdefault(storage, {})
        before = found.pop(name, None)
        self.version = max(self.version, int(metadata["resourceVersion"]))
        entry = Entry(body, int(metadata["resourceVersion"]))
        if event != "DELETED":
            found[name] = entry
        self._tell(Change(entry.version, storage, event, entry, before))

    def compact(self) -> None:
        """Forget history: watches and pages that start from before are 410 Gone; running watches go on."""
        self.oldest = self.version
        self._history.clear()

    def listen(self, storage: Storage | None, listener: Listener) -> Callable[[], None]:
        """Tell of changes of a kind (None: of every kind) from now on; gives what ends it."""
        listeners = self._listeners.setdefault(storage, [])
        listeners.append(listener)
        return lambda: listeners.remove(listener)

    def _numbered(self, body: dict[str, Any]) -> Entry:
        self.version += 1
        metadata = {**body["metadata"], "resourceVersion": str(self.version)}
        return Entry({**body, "metadata": metadata}, self.version)

    def _tell(self, change: Change) -> None:
        self._history.append(change)
        if len(self._history) > HISTORY + HISTORY // 10:
            self.oldest = self._history[HISTORY // 10].version
            del self._history[: HISTORY // 10 + 1]
        for listener in [*self._listeners.get(change.storage, ()), *self._listeners.get(None, ())]:
            listener(change)


def _first(row: tuple[Name, Entry]) -> Name:
    return row[0]


def gone(version: int, oldest: int) -> Refused:
    """Say that a version is too old."""
    return Refused(410, "Expired", f"too old resource version: {version} ({oldest})")


def shown(kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
    """Give an object in a version of its kind; its parts are those that are stored, not copies."""
    head = {"apiVersion": kind.api_version, "kind": kind.kind}  # first: lists leave them out by their length
    return {**head, **{key: value for key, value in body.items() if key not in head}}


def copied(body: dict[str, Any]) -> dict[str, Any]:
    """Give a copy that may be written to; by way of JSON, which takes a third of `copy.deepcopy`'s time."""
    found: dict[str, Any] = json.loads(dumps(body))
    return found


def dumps(value: Any) -> bytes:
    """Write JSON as the server sends it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
