"""A clock that a test turns: sleeping takes no time, and every pause is remembered."""

from __future__ import annotations

import datetime as dt
import threading


class FakeClock:
    """Time that only moves when somebody sleeps or the test says so. Satisfies `secretsops.ports.Clock`."""

    def __init__(self, start: dt.datetime = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)) -> None:
        self.pauses: list[float] = []
        self._start, self._passed = start, 0.0
        self._turn = threading.Lock()

    def now(self) -> dt.datetime:
        """Give the wall-clock time."""
        return self._start + dt.timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        """Give seconds since the clock was made."""
        return self._passed

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        with self._turn:
            self.pauses.append(seconds)
            self._passed += seconds
