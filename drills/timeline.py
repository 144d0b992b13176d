"""When what happened, and what follows from it: recovery time on three clocks, and what was lost. Pure arithmetic.

Times are seconds on the drill's monotonic clock. Never here: reading a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PROTECTED, DISRUPTED, DECLARED, RECOVERED = "protected", "disrupted", "declared", "recovered"
"""The marks everything is measured between: last state safe in Git and escrow; lost; rebuild ordered; healthy again."""

START, GIVEN, ISOLATION, DISASTER, RECOVER, CHECKS, CLEANUP = (
    "start", "given", "isolation", "disaster", "recover", "checks", "cleanup",
)  # fmt: skip
"""The phases of a drill, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One step of the drill: from `start` to `end`. `phase` is the section of the scenario that it belongs to."""

    name: str
    start: float
    end: float
    ok: bool
    message: str = ""
    parts: Sequence[Span] = ()
    phase: str = ""

    @property
    def seconds(self) -> float:
        """Give its length."""
        return self.end - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment with a name."""

    name: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A drill's spans in order, and its marks."""

    spans: Sequence[Span]
    marks: Sequence[Mark]

    def at(self, name: str) -> float | None:
        """Give when a mark was set last, None when it never was."""
        found = [mark.at for mark in self.marks if mark.name == name]
        return found[-1] if found else None

    def between(self, first: str, last: str) -> float | None:
        """Give the seconds from one mark to another, None when one is missing or they are in the wrong order."""
        start, end = self.at(first), self.at(last)
        return None if start is None or end is None or end < start else end - start

    @property
    def from_disruption(self) -> float | None:
        """Give the recovery time as the users feel it."""
        return self.between(DISRUPTED, RECOVERED)

    @property
    def from_declaration(self) -> float | None:
        """Give the recovery time from the order to rebuild: detection and decision left out."""
        return self.between(DECLARED, RECOVERED)

    @property
    def machine(self) -> float:
        """Give the time that the steps of the recovery took, added up: what a run without pauses would need."""
        return sum(span.seconds for span in self.spans if span.phase == RECOVER)

    def lost(self, *, equal: bool) -> float | None:
        """Give how much was lost in seconds of changes: none where everything alive is there again.

        Else everything since the last moment at which Git and escrow held all of it.
        """
        return 0.0 if equal else self.between(PROTECTED, DISRUPTED)
