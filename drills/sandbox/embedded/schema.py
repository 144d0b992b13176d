"""Schemas of kinds: what is dropped, filled in and refused. Pure.

One shape for both sources: the table of built-in kinds (`kinds.json`) and the structural schemas of
CustomResourceDefinitions (`k8s.io/apiextensions-apiserver/pkg/apiserver/schema`). Rules in CEL are not evaluated.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from secretsops.errors import InvalidManifest, MissingExtra
from secretsops.external.patterns import found as matches

_MISSING: Any = object()
_SHORT = {"s": "string", "i": "integer", "n": "number", "b": "boolean", "a": "array", "o": "object", "x": "string"}
_PATTERN_LIMIT = 2048
"""Characters of a value that a pattern is tried on; longer ones pass."""


@dataclass(slots=True, eq=False)
class Schema:
    """One node. `type` is "" where anything may stand; `list_type` and `keys` say how lists are owned and merged."""

    type: str = ""
    properties: dict[str, Schema] = field(default_factory=dict)
    additional: Schema | None = None
    items: Schema | None = None
    preserve: bool = False
    list_type: str = "atomic"
    keys: tuple[str, ...] = ()
    atomic: bool = False
    merge_key: str = ""
    strategy: str = ""
    default: Any = _MISSING
    required: tuple[str, ...] = ()
    nullable: bool = False
    enum: tuple[Any, ...] = ()
    limits: dict[str, Any] = field(default_factory=dict)
    int_or_string: bool = False
    embedded: bool = False
    by_value: frozenset[str] = frozenset()
    """Fields that are structs by value in Go: always there, written even when empty."""

    def child(self, name: str) -> Schema | None:
        """Give the schema of a field, None when it is not known here."""
        return self.properties.get(name) or self.additional

    @property
    def has_default(self) -> bool:
        """Whether a missing value is filled in."""
        return self.default is not _MISSING


class Problem(NamedTuple):
    """One thing that a schema refuses: a cause of a 422."""

    field: str
    reason: str
    message: str


# --- sources -------------------------------------------------------------------------------------------


class Definitions:
    """The definitions of the table, as schemas, each built when first asked for."""

    def __init__(self, rows: Mapping[str, Any]) -> None:
        self._rows = rows
        self._built: dict[str, Schema] = {}

    def get(self, name: str) -> Schema:
        """Give a definition; one that refers to itself does so here too."""
        found = self._built.get(name)
        if found is None:
            found = self._built[name] = Schema()
            self._fill(found, self._rows[name])
        return found

    def _node(self, row: Mapping[str, Any]) -> Schema:
        if "ref" in row:
            return self.get(row["ref"])
        found = Schema()
        self._fill(found, row)
        return found

    def _fill(self, into: Schema, row: Mapping[str, Any]) -> None:
        into.type = _SHORT.get(row.get("t", ""), "")
        into.int_or_string = row.get("t") == "x"
        into.list_type, into.keys = row.get("l", "atomic"), tuple(row.get("k", ()))
        into.atomic = row.get("m") == "atomic"
        into.merge_key, into.strategy = row.get("mk", ""), row.get("ps", "")
        into.required = tuple(row.get("r", ()))
        if "d" in row:
            into.default = row["d"]
        if "i" in row:
            into.items = self._node(row["i"])
        if "a" in row:
            into.additional = self._node(row["a"])
        into.properties = {name: self._node(below) for name, below in row.get("p", {}).items()}
        into.by_value = frozenset(name for name, below in row.get("p", {}).items() if below.get("z"))
        # A definition without a shape (`JSON`, `RawExtension`, `FieldsV1`) holds whatever is there.
        into.preserve = not into.properties and into.additional is None and into.type in ("", "object")


def structural(body: Mapping[str, Any]) -> Schema:
    """Read the `openAPIV3Schema` of a CustomResourceDefinition."""
    into = Schema()
    into.type = str(body.get("type") or "")
    into.int_or_string = body.get("x-kubernetes-int-or-string") is True
    into.list_type = str(body.get("x-kubernetes-list-type") or "atomic")
    into.keys = tuple(body.get("x-kubernetes-list-map-keys") or ())
    into.atomic = body.get("x-kubernetes-map-type") == "atomic"
    into.preserve = body.get("x-kubernetes-preserve-unknown-fields") is True
    into.embedded = body.get("x-kubernetes-embedded-resource") is True
    into.nullable = body.get("nullable") is True
    into.required = tuple(body.get("required") or ())
    into.enum = tuple(body.get("enum") or ())
    if "default" in body:
        into.default = body["default"]
    into.limits = {name: body[name] for name in _LIMITS if name in body}
    if isinstance(body.get("items"), dict):
        into.items = structural(body["items"])
    more = body.get("additionalProperties")
    if isinstance(more, dict):
        into.additional = structural(more)
    elif more is True:
        into.preserve = True
    into.properties = {str(name): structural(below) for name, below in (body.get("properties") or {}).items()}
    into.limits["either"] = [
        [_branch(each) for each in body[name]] for name in ("anyOf", "oneOf") if isinstance(body.get(name), list)
    ]
    return into


def _branch(body: Mapping[str, Any]) -> Schema:
    """Read one alternative; it may only restrict, so what it does not name is free."""
    found = structural(body)
    found.preserve = True
    return found


_LIMITS = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern",
    "minItems", "maxItems", "minProperties", "maxProperties", "multipleOf", "format",
)  # fmt: skip


# --- pruning and defaults ------------------------------------------------------------------------------


def prune(schema: Schema | None, value: Any, path: str = "") -> Iterable[str]:
    """Drop, in place, what the schema does not know; gives the paths of what was dropped."""
    if schema is None:
        return
    if isinstance(value, dict):
        for name in list(value):
            below = schema.child(name)
            where = f"{path}.{name}" if path else name
            if below is not None:
                yield from prune(below, value[name], where)
            elif schema.embedded and name in ("apiVersion", "kind", "metadata"):
                continue
            elif not schema.preserve and (schema.properties or schema.type == "object"):
                del value[name]
                yield where
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from prune(schema.items, item, f"{path}[{place}]")


def fill(schema: Schema | None, value: Any) -> None:
    """Fill in defaults in place (`structural/defaulting`); a null where none may stand counts as missing."""
    if schema is None:
        return
    if isinstance(value, dict):
        for name, below in schema.properties.items():
            if below.has_default and (name not in value or (value[name] is None and not below.nullable)):
                value[name] = copy.deepcopy(below.default)
            if name in value:
                fill(below, value[name])
        if schema.additional is not None:
            for name, part in value.items():
                if name not in schema.properties:
                    fill(schema.additional, part)
    elif isinstance(value, list):
        for item in value:
            fill(schema.items, item)


def drop_nulls(schema: Schema | None, value: Any) -> None:
    """Take nulls away where the schema allows none; that is how Go reads them into a struct."""
    if isinstance(value, dict):
        for name in list(value):
            below = schema.child(name) if schema is not None else None
            if value[name] is None and below is not None and not below.nullable and not below.preserve:
                del value[name]
            else:
                drop_nulls(below, value[name])
    elif isinstance(value, list) and schema is not None:
        for item in value:
            drop_nulls(schema.items, item)


def drop_empty(schema: Schema | None, value: Any) -> None:
    """Take empty maps and lists away, as Go's `omitempty` does; an empty object that has fields stays."""
    if isinstance(value, dict):
        for name in list(value):
            below = schema.child(name) if schema is not None else None
            if below is None:
                continue
            drop_empty(below, value[name])
            if value[name] == [] or (value[name] == {} and below.additional is not None):
                del value[name]
    elif isinstance(value, list) and schema is not None:
        for item in value:
            drop_empty(schema.items, item)


def add_structs(schema: Schema | None, value: Any) -> None:
    """Add structs by value that are missing, as Go writes them."""
    if schema is None:
        return
    if isinstance(value, dict):
        for name in schema.by_value:
            if schema.properties[name].properties:
                value.setdefault(name, {})
        for name, part in value.items():
            add_structs(schema.child(name), part)
    elif isinstance(value, list):
        for item in value:
            add_structs(schema.items, item)


# --- checks --------------------------------------------------------------------------------------------


def check(schema: Schema | None, value: Any, path: str = "") -> Iterable[Problem]:
    """Give everything that is refused; of Secrets only types are checked, so no message carries a value of one."""
    if schema is None or (value is None and (schema.nullable or not schema.type)):
        return
    if schema.int_or_string:
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield _mistyped(path, "integer,string", value)
        return
    if schema.type and not _is(value, schema.type):
        yield _mistyped(path, schema.type, value)
        return
    yield from _limits(schema, value, path)
    if isinstance(value, dict):
        for name in schema.required:
            if name not in value:
                yield Problem(_join(path, name), "FieldValueRequired", "Required value")
        for name, part in value.items():
            yield from check(schema.child(name), part, _join(path, name))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from check(schema.items, item, f"{path}[{place}]")
        if schema.list_type in ("map", "set"):
            yield from _doubled(schema, value, path)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _is(value: Any, kind: str) -> bool:
    if kind == "integer":
        return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value % 1 == 0)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    types = {"string": str, "boolean": bool, "array": list, "object": dict}
    return isinstance(value, types[kind])


def _name(value: Any) -> str:
    if value is None:
        return "null"
    for kind in ("boolean", "integer", "number", "string", "array", "object"):
        if _is(value, kind):
            return kind
    return type(value).__name__


def _mistyped(path: str, wanted: str, value: Any) -> Problem:
    found = _name(value)
    return Problem(
        path, "FieldValueTypeInvalid", f'Invalid value: "{found}": {path} in body must be of type {wanted}: "{found}"'
    )


def _limits(schema: Schema, value: Any, path: str) -> Iterable[Problem]:
    if schema.enum and value not in schema.enum:
        allowed = ", ".join(f'"{each}"' if isinstance(each, str) else str(each) for each in schema.enum)
        yield Problem(
            path, "FieldValueNotSupported", f"Unsupported value: {_shown(value)}: supported values: {allowed}"
        )
    for message in _broken(schema.limits, value):
        yield Problem(path, "FieldValueInvalid", f"Invalid value: {_shown(value)}: {path} in body {message}")
    for branches in schema.limits.get("either", ()):
        if branches and not any(not list(check(branch, value, path)) for branch in branches):
            yield Problem(path, "FieldValueInvalid", f"Invalid value: {path} in body must validate one of the schemas")


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value) if not isinstance(value, dict | list) else "..."


_SIZES: tuple[tuple[type[Any], str, str, str], ...] = (
    (str, "minLength", "maxLength", "chars long"),
    (list, "minItems", "maxItems", "items"),
    (dict, "minProperties", "maxProperties", "properties"),
)


def _broken(limits: Mapping[str, Any], value: Any) -> Iterable[str]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = limits.get("minimum"), limits.get("maximum")
        if low is not None and (value < low or (limits.get("exclusiveMinimum") and value == low)):
            yield f"should be greater than{'' if limits.get('exclusiveMinimum') else ' or equal to'} {low}"
        if high is not None and (value > high or (limits.get("exclusiveMaximum") and value == high)):
            yield f"should be less than{'' if limits.get('exclusiveMaximum') else ' or equal to'} {high}"
    for sort, least, most, unit in _SIZES:
        if isinstance(value, sort):
            if len(value) < limits.get(least, 0):
                yield f"should be at least {limits[least]} {unit}"
            if most in limits and len(value) > limits[most]:
                yield f"should be at most {limits[most]} {unit}"
    pattern = limits.get("pattern")
    if isinstance(value, str) and pattern and len(value) <= _PATTERN_LIMIT and not _matches(pattern, value):
        yield f"should match '{pattern}'"


def _matches(pattern: str, value: str) -> bool:
    try:
        return matches(pattern, value)
    except (InvalidManifest, MissingExtra):
        return True


def _doubled(schema: Schema, value: list[Any], path: str) -> Iterable[Problem]:
    seen: list[Any] = []
    for place, item in enumerate(value):
        key = {name: item.get(name) for name in schema.keys} if schema.keys and isinstance(item, dict) else item
        if key in seen:
            yield Problem(f"{path}[{place}]", "FieldValueDuplicate", "Duplicate value")
        seen.append(key)
