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
    tick: Callable[[], float] = time.thread_time
    """Seconds of this thread's own work, for the limit of a rendering: a busy machine ends no honest template."""


REAL = World()


class Witness:
    """A world that says afterwards whether it was asked: what was made of it would be another value the next time."""

    __slots__ = ("_asked", "_behind", "world")

    def __init__(self, behind: World) -> None:
        self._behind = behind
        self._asked = False
        self.world = World(now=self._now, chance=self._chance, tick=behind.tick)

    @property
    def was_asked(self) -> bool:
        """Say whether time or chance were asked for."""
        return self._asked

    def _now(self) -> int:
        self._asked = True
        return self._behind.now()

    def _chance(self, count: int) -> bytes:
        self._asked = True
        return self._behind.chance(count)
