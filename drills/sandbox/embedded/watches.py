"""Watches and lists: what a client is shown of a kind, once or as it changes.

Follows the watch cache (`k8s.io/apiserver/pkg/storage/cacher`): an object that leaves a selection is DELETED, one that
enters it ADDED; initial events end with an annotated bookmark. Never here: HTTP.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from drills.sandbox.embedded.http import Stream
from drills.sandbox.embedded.kinds import Kind
from drills.sandbox.embedded.selectors import selects_fields, selects_labels
from drills.sandbox.embedded.status import Refused, bad_request
from drills.sandbox.embedded.store import Change, Entry, Store, dumps, gone

BOOKMARK_EVERY = 15.0
"""Seconds between bookmarks; the real server sends one a minute, which makes tests slow."""
DEFAULT_TIMEOUT = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which objects of a kind."""

    kind: Kind
    namespace: str = ""
    labels: str = ""
    fields: str = ""

    def holds(self, entry: Entry) -> bool:
        """Say whether an object is one of them."""
        metadata = entry.body["metadata"]
        if self.namespace and metadata.get("namespace") != self.namespace:
            return False
        if self.labels and not selects_labels(self.labels, metadata.get("labels") or {}):
            return False
        return not self.fields or selects_fields(self.kind.kind, self.fields, entry.body)

    def event_of(self, change: Change) -> str:
        """Say what a change is to whoever watches these: ADDED, MODIFIED, DELETED, or nothing ("")."""
        after = change.event != "DELETED" and self.holds(change.after)
        before = change.before is not None and self.holds(change.before)
        if after:
            return "MODIFIED" if before else "ADDED"
        return "DELETED" if before else ""

    def checked(self) -> Selection:
        """Refuse selectors that cannot be read, before anything is looked at."""
        selects_labels(self.labels, {})
        selects_fields(self.kind.kind, self.fields, {"metadata": {}})
        return self


def page(store: Store, selection: Selection, query: Mapping[str, str]) -> tuple[list[Entry], dict[str, Any]]:
    """Give the objects of one page and the list's metadata.

    Raises:
        Refused: 410 for a continue token from before the history, 400 for one that is none.
    """
    limit = int(query["limit"]) if query.get("limit", "").isdigit() else 0
    start, version, seen = ("", ""), store.version, 0
    if query.get("continue"):
        start, version, seen = _resumed(query["continue"])
        if version < store.oldest:
            raise Refused(410, "Expired", "The provided continue parameter is too old to display a consistent list "
                          "result. You can start a new list without the continue parameter.")  # fmt: skip
    found = [
        (name, entry)
        for name, entry in store.entries(selection.kind.storage, selection.namespace)
        if name > start and selection.holds(entry)
    ]
    part = found[:limit] if limit else found
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    if len(part) < len(found):
        token = {"v": "meta.k8s.io/v1", "rv": version, "start": part[-1][0], "seen": seen + len(part)}
        metadata["continue"] = base64.urlsafe_b64encode(json.dumps(token).encode()).decode().rstrip("=")
        metadata["remainingItemCount"] = len(found) - len(part)
    return [entry for _, entry in part], metadata


def _resumed(token: str) -> tuple[tuple[str, str], int, int]:
    try:
        body = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        start = body["start"]
        return (str(start[0]), str(start[1])), int(body["rv"]), int(body.get("seen", 0))
    except (ValueError, KeyError, IndexError, TypeError, binascii.Error):
        raise bad_request("continue key is not valid") from None


Encode = Callable[[Entry], bytes]
"""How an object is written: itself, its metadata, or a table."""


class Watch:
    """One running watch: past changes, then those that come, with bookmarks between."""

    def __init__(self, store: Store, selection: Selection, query: Mapping[str, str], encode: Encode) -> None:
        self._store = store
        self._selection = selection
        self._encode = encode
        self._query = query
        self._version = 0
        self._stream: Stream | None = None
        self._unlisten: Callable[[], None] = lambda: None
        self._timers: list[asyncio.TimerHandle] = []
        text = query.get("resourceVersion", "")
        if text and not text.isdigit():
            raise bad_request(f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: invalid syntax')
        self._since = int(text or 0)
        self._initial = query.get("sendInitialEvents") in ("true", "1")
        if self._initial and query.get("resourceVersionMatch") != "NotOlderThan":
            text = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            raise Refused(
                422, "Invalid", f"ListOptions.meta.k8s.io is invalid: resourceVersionMatch: Forbidden: {text}"
            )
        if self._since > store.version:
            text = f"Too large resource version: {self._since}, current: {store.version}"
            raise Refused(504, "Timeout", text, retryAfterSeconds=1)
        if self._since and not self._initial and self._since < store.oldest:
            raise gone(self._since, store.oldest)

    def stream(self) -> Stream:
        """Give the answer to send."""
        return Stream(self._start)

    def _start(self, stream: Stream) -> None:
        self._stream = stream
        stream.stop = self._stop
        loop = asyncio.get_running_loop()
        if self._initial or not self._since:
            self._version = self._store.version
            for _, entry in self._store.entries(self._selection.kind.storage, self._selection.namespace):
                if self._selection.holds(entry):
                    self._write("ADDED", self._encode(entry))
            if self._initial and self._query.get("allowWatchBookmarks") in ("true", "1"):
                self._bookmark(initial=True)
        else:
            self._version = self._since
            for change in self._store.since(self._since, self._selection.kind.storage):
                self._see(change)
        self._unlisten = self._store.listen(self._selection.kind.storage, self._see)
        text = self._query.get("timeoutSeconds", "")
        seconds = float(text) if text.isdigit() and int(text) else DEFAULT_TIMEOUT
        self._timers.append(loop.call_later(seconds, self._over))
        if self._query.get("allowWatchBookmarks") in ("true", "1"):
            self._timers.append(loop.call_later(min(BOOKMARK_EVERY, max(seconds - 1, 0.5)), self._again))

    def _see(self, change: Change) -> None:
        self._version = change.version
        event = self._selection.event_of(change)
        if event:
            self._write(event, self._encode(change.after))

    def _write(self, event: str, raw: bytes) -> None:
        if self._stream is not None:
            self._stream.write(b'{"type":"%b","object":%b}\n' % (event.encode(), raw))

    def _bookmark(self, *, initial: bool = False) -> None:
        kind = self._selection.kind
        metadata: dict[str, Any] = {
            "resourceVersion": str(max(self._version, self._store.version)),
            "creationTimestamp": None,
        }
        if initial:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        body = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
        self._write("BOOKMARK", dumps(body))

    def _again(self) -> None:
        self._bookmark()
        self._timers[-1] = asyncio.get_running_loop().call_later(BOOKMARK_EVERY, self._again)

    def _over(self) -> None:
        if self._query.get("allowWatchBookmarks") in ("true", "1"):
            self._bookmark()
        if self._stream is not None:
            self._stream.end()

    def _stop(self) -> None:
        self._stream = None
        self._unlisten()
        for timer in self._timers:
            timer.cancel()
