"""What a rule finds, as values. Never here: rules, printing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recovery.proof.subject import Subject


class Severity(StrEnum):
    """Of an `error` a rebuild does not come to its end, or ends in another state; a `warning` may cost it."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that a rule met: the objects it is about, and what is the matter with them."""

    objects: tuple[str, ...]
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report."""

    rule: str
    severity: Severity
    objects: tuple[str, ...]
    message: str
    cure: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: a stable id, how bad it is, a pure function, and what cures it."""

    id: str
    severity: Severity
    check: Callable[[Subject], Iterable[Found]]
    cure: str

    @property
    def title(self) -> str:
        """Give the first line of what the rule's function says of itself."""
        return (self.check.__doc__ or "").strip().splitlines()[0]
