"""Go's values as Python's: which Python type stands for which Go type, and what `reflect` says of it. Pure.

    string                  bytes              map[string]interface {}  dict (keys bytes)
    int                     int                map[string]string        StringMap
    int64, uint64, uint8    Int64, Uint64, …   []interface {}           list
    float64                 float              []string, []int, …       StringSlice, IntSlice, …
    bool                    bool               nil slice, nil map       NilList, NilStrings, NilMap
    complex128              complex            nil in an interface      None
    no value at all         INVALID            a struct                 Struct

Templates see the difference: `until` takes an int and refuses the int64 that `add` gives.

What never lives here: evaluation, printing, functions.
"""

from __future__ import annotations

from typing import Any, Final


class _Invalid:
    """Go's zero `reflect.Value`: what a missing map key and a bare nil are. Prints `<no value>`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "INVALID"


INVALID: Final = _Invalid()


class Int64(int):
    """Go's int64."""


class Uint64(int):
    """Go's uint64."""


class Uint32(int):
    """Go's uint32."""


class Uint8(int):
    """Go's uint8, a byte of a string."""


class Duration(int):
    """Go's time.Duration: nanoseconds."""


class Month(int):
    """Go's time.Month: 1 to 12."""


class Weekday(int):
    """Go's time.Weekday: 0 is Sunday."""


class StringMap(dict[bytes, Any]):
    """A map[string]string; the root of a template is one."""


class NilMap(dict[bytes, Any]):
    """A nil map[string]interface {}: reads as empty, cannot be written to."""


class StringSlice(list[Any]):
    """A []string."""


class IntSlice(list[Any]):
    """A []int."""


class ListSlice(list[Any]):
    """A [][]interface {}."""


class MapSlice(list[Any]):
    """A []map[string]interface {}."""


class NilList(list[Any]):
    """A nil []interface {}: prints as an empty one, and is null in JSON."""


class NilStrings(StringSlice):
    """A nil []string."""


class Struct:
    """A Go struct as templates see it: its type's name, its fields, whether a pointer to it is held."""

    __slots__ = ("fields", "name")

    def __init__(self, name: str, fields: dict[bytes, Any]) -> None:
        self.name = name
        self.fields = fields

    def __repr__(self) -> str:
        return f"Struct({self.name})"


_NAMES: dict[type, str] = {
    bytes: "string",
    bool: "bool",
    int: "int",
    float: "float64",
    complex: "complex128",
    dict: "map[string]interface {}",
    list: "[]interface {}",
    Int64: "int64",
    Uint64: "uint64",
    Uint32: "uint32",
    Uint8: "uint8",
    Duration: "time.Duration",
    Month: "time.Month",
    Weekday: "time.Weekday",
    StringMap: "map[string]string",
    NilMap: "map[string]interface {}",
    StringSlice: "[]string",
    NilStrings: "[]string",
    IntSlice: "[]int",
    ListSlice: "[][]interface {}",
    MapSlice: "[]map[string]interface {}",
    NilList: "[]interface {}",
}


def type_name(value: Any) -> str:
    """Give Go's `%T`."""
    known = _NAMES.get(type(value))
    if known is not None:
        return known
    if value is None or value is INVALID:
        return "<nil>"
    name: str = value.name if isinstance(value, Struct) else value.go_type
    return name


def kind(value: Any) -> str:  # noqa: PLR0911 - one return per kind
    """Give Go's `reflect.Kind` as text."""
    if isinstance(value, bytes):
        return "string"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return (
            "int64"
            if isinstance(value, Duration)
            else "int"
            if type(value) in {int, Month, Weekday}
            else _NAMES[type(value)]
        )
    if isinstance(value, float):
        return "float64"
    if isinstance(value, dict):
        return "map"
    if isinstance(value, list):
        return "slice"
    if value is None or value is INVALID:
        return "invalid"
    if isinstance(value, complex):
        return "complex128"
    name: str = "struct" if isinstance(value, Struct) else value.go_kind
    return name


def is_integer(value: Any) -> bool:
    """Say whether Go's kind is one of the integers."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_true(value: Any) -> bool:
    """Give the truth of text/template: not the zero value, and not empty."""
    if value is None or value is INVALID:
        return False
    if isinstance(value, bytes | dict | list):
        return len(value) > 0
    if isinstance(value, bool | int | float | complex):
        return value != 0
    return True


def wrap64(number: int) -> int:
    """Give the number as 64 bits with a sign hold it."""
    return (number + 2**63) % 2**64 - 2**63


def element_type(value: list[Any] | dict[bytes, Any]) -> str:
    """Give the Go type of what a slice or map holds."""
    name = type_name(value)
    return name[2:] if name.startswith("[]") else name.partition("]")[2]


def zero_of(value: list[Any] | dict[bytes, Any]) -> Any:
    """Give the zero value of what a map holds: what `index` gives for a missing key."""
    return b"" if element_type(value) == "string" else None
