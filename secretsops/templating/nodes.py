"""What a parsed template is made of. Values only, which never print themselves: a template may hold a secret.

`position` is the offset in the template's text, for errors. What never lives here: how any of it is read or run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Dot:
    """`.`"""

    position: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Nil:
    """`nil`"""

    position: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Bool:
    """`true` or `false`"""

    position: int
    value: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Number:
    """A constant without a type yet: what it can be is what it is not None for."""

    position: int
    text: str
    integer: int | None = None
    unsigned: int | None = None
    floating: float | None = None
    complex: complex | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Text:
    """A quoted string."""

    position: int
    value: bytes


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Identifier:
    """The name of a function."""

    position: int
    name: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Field:
    """`.a.b`"""

    position: int
    names: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Variable:
    """`$x` or `$x.a.b`"""

    position: int
    name: str
    names: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Chain:
    """Fields of something else: `(f 1).a.b`"""

    position: int
    node: Operand
    names: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Command:
    """A function or value with its arguments."""

    position: int
    operands: tuple[Operand, ...]


@dataclass(slots=True, eq=False, repr=False)
class Pipe:
    """Commands, each fed by the one before, and the variables that take the result."""

    position: int
    commands: Sequence[Command] = ()
    variables: tuple[str, ...] = ()
    assigns: bool = False


Operand: TypeAlias = Dot | Nil | Bool | Number | Text | Identifier | Field | Variable | Chain | Pipe


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Literal:
    """Text between actions."""

    position: int
    data: bytes


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Action:
    """`{{ pipeline }}`"""

    position: int
    pipe: Pipe


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Branch:
    """`if`, `with` or `range`, with what runs otherwise (None: nothing)."""

    position: int
    keyword: str
    pipe: Pipe
    body: Sequence[Node]
    otherwise: Sequence[Node] | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Call:
    """`{{ template "name" pipeline }}`"""

    position: int
    name: str
    pipe: Pipe | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Jump:
    """`break` or `continue`"""

    position: int
    keyword: str


Node: TypeAlias = Literal | Action | Branch | Call | Jump
