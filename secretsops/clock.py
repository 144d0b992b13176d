"""The real clock: the only place that reads the time of the machine."""

from __future__ import annotations

import datetime as dt
import time


class SystemClock:
    """The Clock door over the machine's clocks."""

    def now(self) -> dt.datetime:
        """Give the wall-clock time, aware, UTC."""
        return dt.datetime.now(dt.UTC)

    def monotonic(self) -> float:
        """Give seconds that never go back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait `seconds`."""
        time.sleep(seconds)
