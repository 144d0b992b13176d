"""A queue of keys with client-go's guarantees (`util/workqueue`): de-duplicated, one worker per key, fair back-off.

A key that is added while it is processed runs again afterwards, once. What is new or changed goes before what is only
due again. Never here: what a key means, threads.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections.abc import Callable

from secretsops.manifest import ObjectKey

FIRST_DELAY, LONGEST_DELAY = 0.1, 300.0
"""Seconds of back-off after the first failure, doubling up to the longest."""
JITTER = 0.2


class Queue:
    """Keys to process. Safe for any number of threads; bounded by the number of objects there are."""

    def __init__(
        self, *, monotonic: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random
    ) -> None:
        self._monotonic = monotonic
        self._chance = chance
        self._changed = threading.Condition()
        self._lanes: tuple[dict[ObjectKey, None], dict[ObjectKey, None]] = ({}, {})
        self._active: set[ObjectKey] = set()
        self._again: dict[ObjectKey, int] = {}
        self._later: list[tuple[float, int, ObjectKey, int]] = []
        self._due: dict[ObjectKey, float] = {}
        self._failures: dict[ObjectKey, int] = {}
        self._number = itertools.count()
        self._closed = False
        self.adds = 0
        self.retries = 0

    def __len__(self) -> int:
        """Count the keys that wait for a worker now; those that wait for their time are not among them."""
        with self._changed:
            return sum(len(lane) for lane in self._lanes)

    def add(self, key: ObjectKey, *, periodic: bool = False) -> None:
        """Have a key processed; `periodic` ones go after all that are new or changed."""
        with self._changed:
            self._add(key, int(periodic))

    def add_after(self, key: ObjectKey, seconds: float, *, periodic: bool = True) -> None:
        """Have a key processed in `seconds`; of several such wishes the earliest counts."""
        with self._changed:
            self._add_after(key, seconds, int(periodic))

    def take(self, timeout: float) -> ObjectKey | None:
        """Give the next key, None when none came within `timeout` seconds or the queue is closed.

        Whoever takes a key calls `done` or `failed`.
        """
        deadline = self._monotonic() + timeout
        with self._changed:
            while not self._closed:
                self._promote()
                for lane in self._lanes:
                    if lane:
                        key = next(iter(lane))
                        del lane[key]
                        self._active.add(key)
                        return key
                left = deadline - self._monotonic()
                if left <= 0:
                    return None
                self._changed.wait(min(left, self._until_next()))
            return None

    def done(self, key: ObjectKey, *, again_after: float = 0.0) -> None:
        """Say that a key was processed well; it is due again in `again_after` seconds, 0 for never."""
        with self._changed:
            self._failures.pop(key, None)
            self._release(key)
            if again_after > 0:
                self._add_after(key, again_after, 1)

    def failed(self, key: ObjectKey) -> float:
        """Say that a key could not be processed; gives the seconds after which it is due again."""
        with self._changed:
            count = self._failures[key] = self._failures.get(key, 0) + 1
            delay = min(FIRST_DELAY * 2.0 ** min(count - 1, 20), LONGEST_DELAY)
            delay *= 1 - JITTER * self._chance()
            self.retries += 1
            self._release(key)
            self._add_after(key, delay, 1)
            return delay

    def close(self) -> None:
        """Wake all workers and give out nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _add(self, key: ObjectKey, lane: int) -> None:
        if self._closed:
            return
        self.adds += 1
        if key in self._active:
            self._again[key] = min(lane, self._again.get(key, lane))
            return
        if key in self._lanes[0]:
            return
        if lane == 0:
            self._lanes[1].pop(key, None)
        self._lanes[lane][key] = None
        self._changed.notify()

    def _add_after(self, key: ObjectKey, seconds: float, lane: int) -> None:
        at = self._monotonic() + seconds
        if at < self._due.get(key, float("inf")):
            self._due[key] = at
            heapq.heappush(self._later, (at, next(self._number), key, lane))
            self._changed.notify()

    def _release(self, key: ObjectKey) -> None:
        self._active.discard(key)
        lane = self._again.pop(key, None)
        if lane is not None:
            self._add(key, lane)

    def _promote(self) -> None:
        now = self._monotonic()
        while self._later and self._later[0][0] <= now:
            at, _, key, lane = heapq.heappop(self._later)
            if self._due.get(key) == at:  # an earlier wish replaced those that do not match
                del self._due[key]
                self._add(key, lane)

    def _until_next(self) -> float:
        return max(0.0, self._later[0][0] - self._monotonic()) if self._later else 3600.0
