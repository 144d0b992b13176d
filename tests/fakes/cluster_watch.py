"""Watches of the fake API server: a cursor over its changes, woken by a condition."""

from __future__ import annotations

import bisect
import copy
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from secretsops.errors import ApiError
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import EventType, WatchEvent


class Change(NamedTuple):
    """One change of one object: the state after it, and the one before (None for a new object)."""

    version: int
    type: EventType
    kind: tuple[str, str]
    body: dict[str, Any]
    before: dict[str, Any] | None


def slim(body: Mapping[str, Any]) -> dict[str, Any]:
    """Give an object's metadata alone."""
    return {name: body[name] for name in ("apiVersion", "kind", "metadata") if name in body}


class FakeWatch:
    """A running watch; `close` from any thread ends the iteration at once."""

    def __init__(
        self,
        turn: threading.Condition,
        changes: Sequence[Change],
        kind: GroupVersionKind,
        selects: Callable[[Mapping[str, Any]], bool],
        *,
        since: int,
        timeout: float,
    ) -> None:
        self.initial: list[dict[str, Any]] = []
        self.broken: ApiError | None = None
        self.bookmarks = 0
        self.metadata_only = False
        self.version_now: Callable[[], int] = lambda: self._since
        self._turn = turn
        self._changes = changes
        self._kind = kind
        self._selects = selects
        self._since = since
        self._deadline = time.monotonic() + timeout
        self._closed = False

    def close(self) -> None:
        """End the stream."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()

    def __iter__(self) -> Iterator[WatchEvent]:
        """Give events as they come; raises what the test broke the watch with."""
        while self.initial:
            yield self._event(EventType.ADDED, self.initial.pop(0))
        while True:
            with self._turn:
                found = self._next()
            if found is None:
                return
            yield found

    def _next(self) -> WatchEvent | None:
        """Wait for the next event under the lock; None at the end."""
        while not self._closed:
            if self.broken is not None:
                raise self.broken
            start = bisect.bisect_right(self._changes, self._since, key=lambda change: change.version)
            for change in itertools.islice(self._changes, start, None):
                self._since = change.version
                event = self._seen(change)
                if event is not None:
                    return event
            if self.bookmarks:
                self.bookmarks -= 1
                return self._bookmark()
            left = self._deadline - time.monotonic()
            if left <= 0:
                self._closed = True
                return self._bookmark()
            self._turn.wait(left)
        return None

    def _seen(self, change: Change) -> WatchEvent | None:
        """Translate a change for this selection: an object that leaves it is DELETED, one that enters ADDED."""
        if change.kind != (self._kind.group, self._kind.kind):
            return None
        before = change.before is not None and self._selects(change.before)
        after = change.type is not EventType.DELETED and self._selects(change.body)
        if after:
            return self._event(EventType.MODIFIED if before else EventType.ADDED, change.body)
        return self._event(EventType.DELETED, change.body) if before else None

    def _event(self, event: EventType, body: Mapping[str, Any]) -> WatchEvent:
        head = {"apiVersion": self._kind.api_version, "kind": self._kind.kind}
        shown = slim(body) if self.metadata_only else dict(body)
        return WatchEvent(event, Manifest({**copy.deepcopy(shown), **head}))

    def _bookmark(self) -> WatchEvent:
        self._since = max(self._since, self.version_now())
        return self._event(EventType.BOOKMARK, {"metadata": {"resourceVersion": str(self._since)}})
