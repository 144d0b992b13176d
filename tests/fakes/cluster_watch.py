"""Watches of the fake API server: what it tells its listeners, kept until it is read."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from drills.sandbox.embedded.store import Change, Entry, Store
from drills.sandbox.embedded.watches import Selection
from secretsops.errors import ApiError
from secretsops.manifest import Manifest
from secretsops.ports import EventType, WatchEvent


class FakeWatch:
    """A running watch; `close` from any thread ends the iteration at once."""

    def __init__(
        self,
        turn: threading.Condition,
        store: Store,
        selection: Selection,
        show: Callable[[Entry], Manifest],
        *,
        timeout: float,
    ) -> None:
        self.broken: ApiError | None = None
        self._turn = turn
        self._store = store
        self._selection = selection
        self._show = show
        self._waiting: deque[tuple[EventType, Entry]] = deque()
        self._deadline = time.monotonic() + timeout
        self._closed = False
        self._unlisten: Callable[[], None] = lambda: None

    def start(self, since: int) -> None:
        """Take what has happened since a version, or what is there, then what happens; raises `Refused` (410)."""
        storage = self._selection.kind.storage
        if since:
            for change in self._store.since(since, storage):
                self._see(change)
        else:
            for _, entry in self._store.entries(storage):
                if self._selection.holds(entry):
                    self._waiting.append((EventType.ADDED, entry))
        self._unlisten = self._store.listen(storage, self._see)

    def close(self) -> None:
        """End the stream."""
        with self._turn:
            self._closed = True
            self._unlisten()
            self._unlisten = lambda: None
            self._turn.notify_all()

    def bookmark(self) -> None:
        """Tell how far the stream has come."""
        kind = self._selection.kind
        version = self._store.version
        metadata = {"resourceVersion": str(version)}
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
        self._put(EventType.BOOKMARK, Entry(body, version))

    def __iter__(self) -> Iterator[WatchEvent]:
        """Give events as they come; raises what the test broke the watch with."""
        while True:
            with self._turn:
                found = self._next()
            if found is None:
                return
            yield WatchEvent(found[0], self._show(found[1]))

    def _next(self) -> tuple[EventType, Entry] | None:
        """Wait for the next event under the lock; None at the end."""
        while not self._closed:
            if self.broken is not None:
                raise self.broken
            if self._waiting:
                return self._waiting.popleft()
            left = self._deadline - time.monotonic()
            if left <= 0:
                self.close()
                self.bookmark()
                return self._waiting.popleft()
            self._turn.wait(left)
        return None

    def _see(self, change: Change) -> None:
        event = self._selection.event_of(change)
        if event:
            self._put(EventType(event), change.after)

    def _put(self, event: EventType, entry: Entry) -> None:
        self._waiting.append((event, entry))
        self._turn.notify_all()
