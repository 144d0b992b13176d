"""Sealing a whole stream: piece by piece, on every processor, in order, with a few pieces in memory at most.

Processes, not threads: reading and writing YAML is half of the work and Python's own. They are forked once the
certificates are known, and only where there is more than one piece; Secrets travel to them through pipes.

What never lives here: how one Secret is sealed, where the result goes.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from secretsops.errors import InvalidManifest

if TYPE_CHECKING:
    from concurrent.futures import Future

    from secretsops.sealing.chunks import Chunk

Parts = Sequence[bytes]
"""What one piece became, a part per certificate."""
Seal = Callable[["Chunk", bool], Parts]
"""Seals one piece; the second argument says that it is the whole input."""
AHEAD = 3
"""Pieces per process that are under way at most."""
_seal: Seal | None = None


def sealed(pieces: Iterable[Chunk], seal: Seal, *, workers: int = 0) -> Iterator[Parts]:
    """Give what the pieces become, in their order.

    Raises:
        SecretsOpsError: what sealing a piece raised, lines counted from the start of the stream; nothing after it is
            given.
    """
    several = iter(pieces)
    first, second = next(several, None), next(several, None)
    if first is None:
        return
    workers = workers or os.cpu_count() or 1
    if second is None or workers == 1 or sys.platform != "linux":
        yield _one(first, seal, alone=second is None)
        for chunk in _chained(second, several):
            yield _one(chunk, seal, alone=False)
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    global _seal  # noqa: PLW0603 - what a forked process finds there; certificates can't be pickled
    _seal = seal
    under_way: deque[Future[Parts]] = deque()
    with ProcessPoolExecutor(max_workers=workers, mp_context=get_context("fork")) as pool:
        try:
            for chunk in _chained(first, _chained(second, several)):
                under_way.append(pool.submit(_in_process, chunk))
                if len(under_way) >= workers * AHEAD:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            _seal = None
            for future in under_way:
                future.cancel()


def _chained(first: Chunk | None, rest: Iterable[Chunk]) -> Iterator[Chunk]:
    if first is not None:
        yield first
    yield from rest


def _in_process(chunk: Chunk) -> Parts:
    assert _seal is not None
    return _one(chunk, _seal, alone=False)


def _one(chunk: Chunk, seal: Seal, *, alone: bool) -> Parts:
    try:
        return seal(chunk, alone)
    except InvalidManifest as error:
        if chunk.line == 1:
            raise
        where = re.sub(r"line (\d+)", lambda found: f"line {int(found[1]) + chunk.line - 1}", error.where)
        raise InvalidManifest(error.problem, where=where, reason=error.reason, hint=error.hint) from None


class Progress:
    """A line on a terminal, from the first second on: how much was read, and of how much."""

    def __init__(self, total: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._monotonic = monotonic
        self._begun = self._shown = monotonic()
        self._read = 0
        self._terminal = sys.stderr is not None and sys.stderr.isatty()

    def lines(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Give the lines, counted."""
        for line in lines:
            self._read += len(line)
            yield line

    def show(self) -> None:
        """Show it, a few times a second at most."""
        now = self._monotonic()
        if not self._terminal or now - self._begun < 1 or now - self._shown < 0.2:
            return
        self._shown = now
        mebibytes = self._read / 1048576
        if self._total:
            filled = min(30, 30 * self._read // self._total)
            text = f"[{'#' * filled}{'-' * (30 - filled)}] {100 * self._read // self._total:3d} %"
        else:
            text = f"{mebibytes:.1f} MiB"
        sys.stderr.write(f"\r{text}  {mebibytes / max(0.001, now - self._begun):.1f} MiB/s ")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave the line."""
        if self._terminal and self._shown > self._begun:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
