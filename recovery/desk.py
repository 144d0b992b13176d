"""Requests under way: handed to a few threads, their answers taken one by one on the thread that decides.

With one at a time nothing runs beside the deciding thread, so that tests see one order. Never here: what is asked.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Desk:
    """Up to `parallel` calls at once. Use as a context manager; only one thread hands and takes."""

    def __init__(self, parallel: int) -> None:
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="apply") if parallel > 1 else None
        self._done: queue.SimpleQueue[tuple[Future[Any], Callable[[Any], None]]] = queue.SimpleQueue()
        self.in_flight = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def hand(self, act: Callable[[], T], take: Callable[[T], None]) -> None:
        """Have `act` called; `collect` gives its result to `take`."""
        if self._pool:
            future = self._pool.submit(act)
        else:
            future = Future()
            future.set_result(act())
        self.in_flight += 1
        future.add_done_callback(lambda done: self._done.put((done, take)))

    def collect(self, wait: float = 0.0) -> int:
        """Take what is done, waiting at most `wait` seconds for the first; give how many were taken.

        Raises what a call raised.
        """
        count = 0
        while self.in_flight:
            try:
                future, take = self._done.get(timeout=wait) if wait and not count else self._done.get_nowait()
            except queue.Empty:
                break
            self.in_flight -= 1
            count += 1
            take(future.result())
        return count

    def finish(self) -> None:
        """Take everything that is under way."""
        while self.in_flight:
            self.collect(wait=60.0)
