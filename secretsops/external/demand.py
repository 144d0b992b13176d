"""Who will want which document when: so that a store that reads several at once is asked for several. Pure.

What never lives here: documents, requests, whether somebody may have them (that is asked when they come for it).
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Hashable, Sequence

from secretsops.ports import Ask


class Demand:
    """Documents by the place they are in, each with the moment from which somebody waits. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[Hashable, dict[Hashable, tuple[dt.datetime, Sequence[Ask]]]] = {}
        self._of: dict[Hashable, set[Hashable]] = {}

    def note(self, who: Hashable, place: Hashable, asks: Sequence[Ask], since: dt.datetime) -> None:
        """Say that somebody waits for documents of a place from a moment on; it replaces what they said before."""
        with self._lock:
            self._places.setdefault(place, {})[who] = (since, asks)
            self._of.setdefault(who, set()).add(place)

    def drop(self, who: Hashable) -> None:
        """Say that somebody waits no more."""
        with self._lock:
            for place in self._of.pop(who, set()):
                waiting = self._places[place]
                waiting.pop(who, None)
                if not waiting:
                    del self._places[place]

    def waiting(self, place: Hashable, now: dt.datetime, limit: int) -> list[Ask]:
        """Give up to `limit` documents of a place that somebody waits for now, who came first first."""
        found: dict[Ask, None] = {}
        with self._lock:
            for since, asks in self._places.get(place, {}).values():
                if since <= now:
                    found.update(dict.fromkeys(asks))
                if len(found) >= limit:
                    break
        return list(found)[:limit]
