"""What a scenario is made of, as tables: a name stands for parameters (a dataclass) and one function. Pure.

A new fault is a dataclass, a function and a line in its family's table. Never here: what any of them does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from drills.strict import first_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One entry. `act` takes scene and parameters: an act gives what it did, a check whether it held and why."""

    parameters: Any
    """The class of its parameters."""
    act: Callable[..., Any]
    proves_data: bool = False
    """A check that would notice that values or objects are lost."""

    @property
    def about(self) -> str:
        """Give what it is, in a line."""
        return first_line(self.parameters)


Table = Mapping[str, Kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """All that may stand in a scenario: `acts` under given and recover, `faults` under disaster, and `checks`."""

    acts: Table
    faults: Table
    checks: Table
