"""What a template can call: the Go types of a function's parameters, its code, and how it says that it cannot.

What never lives here: evaluation, functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from secretsops.templating.gotypes import NilList, NilMap, type_name

ANY, VALUE, STRING, INT, INT64, UINT32, FLOAT, BOOL = (
    "any",
    "value",
    "string",
    "int",
    "int64",
    "uint32",
    "float",
    "bool",
)
MAP, LIST, TIME, DURATION, CERTIFICATE = "map", "list", "time", "duration", "certificate"
GO_NAMES = {
    ANY: "interface {}",
    VALUE: "reflect.Value",
    FLOAT: "float64",
    MAP: "map[string]interface {}",
    LIST: "[]interface {}",
    TIME: "time.Time",
    DURATION: "time.Duration",
    CERTIFICATE: "sprig.certificate",
}
NILABLE: dict[str, Callable[[], Any]] = {
    ANY: lambda: None,
    VALUE: lambda: None,
    MAP: NilMap,
    LIST: NilList,
}


class CallFailed(Exception):
    """A function cannot do what it is asked. Its text is fixed: it never holds an argument."""


@dataclass(frozen=True, slots=True)
class Function:
    """What a template can call: the Go types of its parameters, and the code that takes them."""

    call: Callable[..., Any]
    parameters: tuple[str, ...]
    variadic: str | None = None
    needs_run: bool = False
    """The code takes the run (meter, clock, chance) before its arguments."""


def function(signature: str, call: Callable[..., Any], *, run: bool = False) -> Function:
    """Give a function of a signature such as `int string` or `any any...`."""
    names = signature.split()
    variadic = names.pop()[:-3] if names and names[-1].endswith("...") else None
    return Function(call, tuple(names), variadic, run)


def is_of(value: Any, wanted: str) -> bool:
    """Say whether a value is of the type a parameter wants."""
    if value is None:
        return False
    return type_name(value) == GO_NAMES.get(wanted, wanted)


def short_circuit(*_values: Any) -> Any:
    """Stand for `and` and `or`, which the evaluator carries out itself."""
    raise CallFailed("and, or: evaluated by the evaluator")


AND_OR = Function(short_circuit, (VALUE,), VALUE)
"""`and` and `or`: they stop at the first argument that decides."""
