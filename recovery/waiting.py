"""Waiting for a cluster: look, tell what is still lacking when that changes, sleep, and give up at a deadline.

Never here: what is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recovery.events import Waiting
from recovery.running import World
from recovery.sync import POLL
from secretsops.errors import Timeout

SHOWN = 5
"""Reasons that a timeout names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """What is lacking now, and by when (monotonic seconds) it has to be there."""

    reasons: Sequence[str]
    limit: float


def wait(world: World, look: Callable[[], Lacking], *, what: str = "", hint: str) -> None:
    """Look again and again until nothing is lacking; with each thing that came, looks follow each other faster again.

    `what` stands before the reasons where it ends in vain.

    Raises:
        Timeout: the limit, or the deadline of the whole run, is over; names what is lacking.
    """
    idle, said = 0, list[str]()
    while (found := look()).reasons:
        reasons, limit = list(found.reasons), min(found.limit, world.deadline)
        if len(reasons) < len(said):
            idle = 0
        if reasons != said:
            said = reasons
            told = found.limit - world.started
            world.observer.event(
                Waiting(at=world.clock.monotonic() - world.started, app="", reasons=reasons, deadline=told)
            )
        if world.clock.monotonic() >= limit:
            more = " and more" if len(reasons) > SHOWN else ""
            raise Timeout(f"gave up waiting for {what}" + "; ".join(reasons[:SHOWN]) + more, hint=hint)
        world.clock.sleep(POLL[min(idle, len(POLL) - 1)])
        idle += 1
