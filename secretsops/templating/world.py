"""What a template may ask of the world: the time, and chance. The only room of templating that has them.

What never lives here: anything else of the world. Templates have no environment, files, names or network.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Doors to clock and chance; tests give their own."""

    now: Callable[[], int] = time.time_ns
    """Nanoseconds since 1970."""
    chance: Callable[[int], bytes] = os.urandom
    tick: Callable[[], float] = time.monotonic
    """Seconds that only grow, for the deadline of a rendering."""


REAL = World()
