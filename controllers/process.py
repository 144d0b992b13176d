"""The process that holds keys: no core dumps, not dumpable, ends in order on SIGTERM.

Never here: what it does while it lives.
"""

from __future__ import annotations

import ctypes
import logging
import resource
import signal
import sys
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType

log = logging.getLogger(__name__)

DRAIN = 4.0
"""Seconds for work under way after SIGTERM; all is over within 5."""
_PR_SET_DUMPABLE = 4


def harden() -> None:
    """Keep memory out of core dumps and away from other processes of this user (SECURITY.md §4).

    Linux also refuses ptrace and /proc/PID/mem then; elsewhere only core dumps are switched off.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ValueError, OSError):
        log.warning("core dumps could not be switched off")
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def until_told_to_stop(asked: Callable[[], None] = lambda: None) -> None:
    """Wait for SIGTERM or SIGINT; SIGUSR1 calls `asked` meanwhile."""
    # Its `put` is reentrant; Event.set from a handler can deadlock with the Event.wait that it interrupts.
    told: SimpleQueue[int] = SimpleQueue()

    def note(number: int, _frame: FrameType | None) -> None:
        told.put(number)

    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(each, note)
    while (number := told.get()) == signal.SIGUSR1:
        asked()
    log.info("%s: ending", signal.Signals(number).name)
