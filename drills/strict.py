"""From YAML to frozen dataclasses, strictly, with the line of every mistake; and the JSON schema of the same classes.

A class is the whole truth about a mapping: its fields in camelCase, their types, what may be left out. Nothing unknown
is accepted. Pure. Never here: what a scenario means.
"""

from __future__ import annotations

import functools
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Annotated, Any, TypeVar

import yaml

from secretsops.durations import parse_duration
from secretsops.errors import InvalidManifest
from secretsops.manifest import load_values

LIMIT = 1000
"""Entries of one list or mapping."""
SIZE_LIMIT = 256 * 1024
"""Bytes of a file: the largest of ours has 6,000."""

Name = Annotated[str, "name"]
"""A DNS name."""
Path = Annotated[str, "path"]
"""A relative path that stays below its folder."""
Duration = Annotated[float, "duration"]
"""Seconds, written as Go does: 90s, 1h30m."""

_NAME = "[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
_PATTERNS = {
    "name": f"^{_NAME}$",
    "path": r"^[^/]+(/[^/]+)*$",
    "duration": r"^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$",
}
_IS_NAME = re.compile(_NAME)
T = TypeVar("T")
Steps = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file: for messages, and for what is to be said about a step later."""

    source: str
    path: Steps = ()
    lines: Mapping[Steps, int] = field(default_factory=dict, repr=False)

    def into(self, step: str | int) -> Place:
        """Give the place of a field or entry."""
        return Place(self.source, (*self.path, step), self.lines)

    @property
    def line(self) -> int:
        """Give the line, that of the nearest enclosing place where it has none of its own; 0 where none is known."""
        return next(
            (self.lines[self.path[:end]] for end in range(len(self.path), -1, -1) if self.path[:end] in self.lines), 0
        )

    def __str__(self) -> str:
        """Give it as `spec.checks[2].http.url`."""
        return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path).lstrip(".")

    def wrong(self, problem: str, *, hint: str = "") -> InvalidManifest:
        """Give the refusal of what stands here."""
        where = f"{self.source}, line {self.line}" if self.line else self.source
        return InvalidManifest(
            f"{self}: {problem}" if self.path else problem, where=where, reason="InvalidScenario", hint=hint
        )


def document(text: bytes, *, source: str) -> tuple[Any, Place]:
    """Give the one document of a file as plain data, and its place with the lines of everything in it.

    Raises:
        InvalidManifest: no or several documents, broken or hostile YAML, aliases (a line would mean two places).
    """
    if len(text) > SIZE_LIMIT:
        raise InvalidManifest(f"larger than {SIZE_LIMIT} bytes", where=source, reason="InvalidScenario")
    found = [value for value in load_values(text, source=source) if value is not None]
    if len(found) != 1:
        raise InvalidManifest("is not one document", where=source, reason="InvalidScenario")
    lines: dict[Steps, int] = {}
    nodes = list(yaml.compose_all(text.decode("utf-8-sig"), Loader=yaml.SafeLoader))
    _note_lines(nodes[0], (), lines, set(), source)
    return found[0], Place(source, (), lines)


def _note_lines(node: Any, path: Steps, lines: dict[Steps, int], seen: set[int], source: str) -> None:
    """Note where each value begins; `load_values` has bounded depth and size."""
    if id(node) in seen:
        raise InvalidManifest(
            f"line {node.start_mark.line + 1}: aliases are not read here", where=source, reason="InvalidScenario"
        )
    seen.add(id(node))
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            lines[*path, key.value] = key.start_mark.line + 1
            _note_lines(value, (*path, key.value), lines, seen, source)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            _note_lines(value, (*path, number), lines, seen, source)


Custom = Mapping[Any, Callable[[Any, Place], Any]]
"""How types that are no plain dataclass are read."""


def read(kind: type[T], value: Any, place: Place, custom: Custom) -> T:
    """Read a mapping into a dataclass.

    Raises:
        InvalidManifest: an unknown or missing field, a wrong type; names field and line.
    """
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise place.wrong("should be a mapping")
    known = {camel(one.name): one for one in fields(kind)}  # type: ignore[arg-type]
    for name in value:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise place.into(str(name)).wrong(f"unknown field '{str(name)[:60]}'; known are {listed}")
    hints = typing.get_type_hints(kind, include_extras=True)
    values: dict[str, Any] = {}
    for name, one in known.items():
        if name in value:
            values[one.name] = read_value(hints[one.name], value[name], place.into(name), custom)
        elif one.default is MISSING and one.default_factory is MISSING:
            raise place.wrong(f"the field '{name}' is missing")
    try:
        return kind(**values)
    except ValueError as error:  # what a class says of its own fields together
        raise place.wrong(str(error)) from None


def read_value(hint: Any, value: Any, place: Place, custom: Custom) -> Any:
    """Read one value by its type hint; raises as `read`."""
    if hint in custom:
        return custom[hint](value, place)
    if is_dataclass(hint):
        return read(hint, value, place, custom)  # type: ignore[arg-type]
    if typing.get_origin(hint) is not None:
        return _read_generic(hint, value, place, custom)
    if hint is not Any and type(value) is not hint and not (hint is float and type(value) is int):
        raise place.wrong(f"should be {_WORDS.get(hint, hint)}")
    return value


def _read_generic(hint: Any, value: Any, place: Place, custom: Custom) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _SPECIAL[arguments[1]](value, place)
    if origin is tuple:
        if not isinstance(value, list) or len(value) > LIMIT:
            raise place.wrong(f"should be a list of at most {LIMIT}")
        return tuple(read_value(arguments[0], one, place.into(number), custom) for number, one in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, dict) or len(value) > LIMIT:
            raise place.wrong(f"should be a mapping of at most {LIMIT}")
        return {str(name): read_value(arguments[1], one, place.into(str(name)), custom) for name, one in value.items()}
    if origin is typing.Literal:
        if value not in arguments:
            raise place.wrong(f"'{str(value)[:60]}' is none of {', '.join(map(str, arguments))}")
        return value
    return None if value is None else read_value(_inner(arguments), value, place, custom)


def _inner(arguments: Sequence[Any]) -> Any:
    return next(one for one in arguments if one is not type(None))


def _read_name(value: Any, place: Place) -> str:
    if not isinstance(value, str) or len(value) > 253 or not _IS_NAME.fullmatch(value):
        raise place.wrong(f"'{str(value)[:60]}' is no name")
    return value


def _read_path(value: Any, place: Place) -> str:
    parts = value.split("/") if isinstance(value, str) else [""]
    if any(part in ("", ".", "..") for part in parts):
        raise place.wrong(f"'{str(value)[:60]}' is no relative path")
    return "/".join(parts)


def _read_duration(value: Any, place: Place) -> float:
    try:
        found = parse_duration(str(value))
    except InvalidManifest:
        found = -1.0
    if found < 0:
        raise place.wrong("is no duration such as 90s")
    return found


_SPECIAL: Mapping[str, Callable[[Any, Place], Any]] = {
    "name": _read_name, "path": _read_path, "duration": _read_duration,
}  # fmt: skip
_WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}


def camel(name: str) -> str:
    """Give the name of a field as YAML has it: `from_` is `from`, `control_plane_rto` is `controlPlaneRto`."""
    first, *rest = name.rstrip("_").split("_")
    return first + "".join(word.capitalize() for word in rest)


def text_at(body: Any, place: str) -> str:
    """Give what stands at a place of plain data (`.status.conditions.0.type`) as text, "" where nothing does."""
    value: Any = body
    for step in place.strip(".").split("."):
        if isinstance(value, list):
            value = value[int(step)] if step.isdigit() and int(step) < len(value) else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return "" if value is None else str(value)


# --- schema --------------------------------------------------------------------------------------------


def schema_of(kind: Any, custom: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    """Give the JSON schema (draft 2020-12) of a dataclass; `custom` gives that of types read in a way of their own."""
    hints = typing.get_type_hints(kind, include_extras=True)
    required = [camel(one.name) for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]
    return {
        "type": "object" if required else ["object", "null"],
        "description": first_line(kind),
        "additionalProperties": False,
        "properties": {camel(one.name): _schema(hints[one.name], custom) for one in fields(kind)},
        **({"required": required} if required else {}),
    }


def _schema(hint: Any, custom: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    if hint in custom:
        return dict(custom[hint])
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        kind = ["string", "integer"] if arguments[1] == "duration" else "string"
        return {"type": kind, "pattern": _PATTERNS[arguments[1]]}
    if origin is tuple:
        return {"type": "array", "maxItems": LIMIT, "items": _schema(arguments[0], custom)}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema(_inner(arguments), custom), {"type": "null"}]}
    if is_dataclass(hint):
        return schema_of(hint, custom)
    if hint is Any:
        return {}
    plain = {str: "string", bool: "boolean", int: "integer", float: "number"}.get(hint)
    return (
        {"type": plain}
        if plain
        else {"type": "object", "maxProperties": LIMIT, "additionalProperties": _schema(arguments[1], custom)}
    )


@functools.cache
def first_line(thing: Any) -> str:
    """Give what a docstring says in its first line."""
    return (thing.__doc__ or "").strip().partition("\n")[0]
