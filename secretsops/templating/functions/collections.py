"""sprig's lists, dicts, defaults and reflection (sprig v3.3.0 `list.go`, `dict.go`, `defaults.go`, `reflect.go`). Pure.

`keys` and `values` come in the order of the keys: Go's is random.

What never lives here: text, encodings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from secretsops.templating.evaluator import Run
from secretsops.templating.functions.numbers import to_int
from secretsops.templating.functions.strings import string_of
from secretsops.templating.gotypes import (
    INVALID,
    ListSlice,
    NilList,
    NilMap,
    StringSlice,
    Struct,
    kind,
    type_name,
)
from secretsops.templating.signature import CallFailed, Function, function


def is_empty(value: Any) -> bool:
    """Say whether a value is the zero value of its type, or has no entries (sprig's `empty`)."""
    if isinstance(value, bytes | list | dict):
        return not value
    if isinstance(value, bool | int | float | complex):
        return value == 0
    return value is None or value is INVALID


def deep_equal(run: Run, one: Any, other: Any, level: int = 0) -> bool:
    """Say whether two values are of one type and equal in depth (`reflect.DeepEqual`)."""
    run.meter.step()
    run.meter.depth(level)
    if type_name(one) != type_name(other) or type(one).__name__.startswith("Nil") != type(other).__name__.startswith(
        "Nil"
    ):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(deep_equal(run, a, b, level + 1) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(deep_equal(run, one[key], other[key], level + 1) for key in one)
    if isinstance(one, Struct):
        return bool(one.fields == other.fields)
    return bool(one == other)


def deep_copy(run: Run, value: Any, level: int = 0) -> Any:
    """Give a copy that shares no list or dict with the value."""
    run.meter.depth(level)
    if value is None and not level:
        raise CallFailed("nil cannot be copied")
    if isinstance(value, list):
        run.meter.grow(64 * len(value) + 64)
        return type(value)(deep_copy(run, item, level + 1) for item in value)
    if isinstance(value, dict):
        run.meter.grow(128 * len(value) + 64)
        return type(value)({key: deep_copy(run, item, level + 1) for key, item in value.items()})
    return value


# --- Lists ---------------------------------------------------------------------------------------------


def _as_list(name: str) -> Callable[[Any], list[Any]]:
    def check(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise CallFailed(f"Cannot {name} on type {kind(value)}")
        return value

    return check


def _on_list(verb: str, action: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function whose first argument has to be a list."""
    check = _as_list(verb)

    def call(value: Any, *rest: Any) -> Any:
        return action(check(value), *rest)

    return call


def _chunk(run: Run, size: int, value: Any) -> ListSlice:
    items = _as_list("chunk")(value)
    if size <= 0:
        raise CallFailed("the size of a chunk is not positive")
    run.meter.items(len(items))
    return ListSlice(list(items[at : at + size]) for at in range(0, len(items), size))


def _uniq(run: Run, value: Any) -> list[Any]:
    found: list[Any] = []
    for item in _as_list("find uniq")(value):
        if not any(deep_equal(run, item, other) for other in found):
            found.append(item)
    return found


def _without(run: Run, value: Any, *omitted: Any) -> list[Any]:
    items = _as_list("find without")(value)
    return [item for item in items if not any(deep_equal(run, item, other) for other in omitted)]


def _has(run: Run, needle: Any, value: Any) -> bool:
    if value is None:
        return False
    return any(deep_equal(run, needle, item) for item in _as_list("find has")(value))


def _slice(value: Any, *indices: Any) -> Any:
    if not isinstance(value, list):
        raise CallFailed(f"list should be type of slice or array but {kind(value)}")
    if not value:
        return None
    begin = to_int(indices[0]) if indices else 0
    end = to_int(indices[1]) if len(indices) > 1 else len(value)
    if not 0 <= begin <= end <= len(value):
        raise CallFailed("slice index out of bounds")
    return type(value)(value[begin:end])


def _concat(run: Run, *lists: Any) -> list[Any]:
    for value in lists:
        if not isinstance(value, list):
            raise CallFailed(f"Cannot concat type {kind(value)} as list")
    run.meter.items(sum(map(len, lists)))
    found = [item for value in lists for item in value]
    return found or NilList()


# --- Dicts ---------------------------------------------------------------------------------------------


def _dict(run: Run, *pairs: Any) -> dict[bytes, Any]:
    return {string_of(run, pairs[at]): pairs[at + 1] if at + 1 < len(pairs) else b"" for at in range(0, len(pairs), 2)}


def _set(run: Run, target: dict[bytes, Any], key: bytes, value: Any) -> dict[bytes, Any]:
    if isinstance(target, NilMap):
        raise CallFailed("assignment to entry in nil map")
    run.meter.grow(128 + len(key))
    target[key] = value
    return target


def _unset(target: dict[bytes, Any], key: bytes) -> dict[bytes, Any]:
    target.pop(key, None)
    return target


def _dig(*parts: Any) -> Any:
    if len(parts) < 3:
        raise CallFailed("dig needs at least three arguments")
    *path, default, value = parts
    for key in path:
        if type(value) not in {dict, NilMap}:
            raise CallFailed(
                f"interface conversion: interface {{}} is {type_name(value)}, not map[string]interface {{}}"
            )
        if not isinstance(key, bytes):
            raise CallFailed(f"interface conversion: interface {{}} is {type_name(key)}, not string")
        if key not in value:
            return default
        value = value[key]
    return value


def _merged(
    run: Run, target: dict[bytes, Any], sources: tuple[dict[bytes, Any], ...], *, overwrite: bool
) -> dict[bytes, Any]:
    """Merge into the first dict, which changes (mergo v1): filled ones win, or lose when overwriting."""
    if isinstance(target, NilMap):
        target = {} if any(sources) else target
    for source in sources:
        _merge(run, target, source, 0, overwrite=overwrite)
    return target


def _merge(run: Run, target: dict[bytes, Any], source: dict[bytes, Any], level: int, *, overwrite: bool) -> None:
    run.meter.depth(level)
    for key, value in list(source.items()):
        run.meter.step()
        old = target.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and type(old) is type(value):
            if old is not value:
                _merge(run, old, value, level + 1, overwrite=overwrite)
        elif overwrite or (value is not None and is_empty(old)):
            run.meter.grow(128)
            target[key] = value


def _pluck(key: bytes, *dicts: dict[bytes, Any]) -> list[Any]:
    return [value[key] for value in dicts if key in value]


def _keys(*dicts: dict[bytes, Any]) -> StringSlice:
    return StringSlice(key for value in dicts for key in sorted(value))


def _pick(value: dict[bytes, Any], *keys: bytes) -> dict[bytes, Any]:
    return {key: value[key] for key in keys if key in value}


def _omit(value: dict[bytes, Any], *keys: bytes) -> dict[bytes, Any]:
    return {key: item for key, item in value.items() if key not in set(keys)}


# --- Defaults and reflection ---------------------------------------------------------------------------


def _default(default: Any, *given: Any) -> Any:
    return default if not given or is_empty(given[0]) else given[0]


def _coalesce(*values: Any) -> Any:
    return next((value for value in values if not is_empty(value)), None)


def _type_like(target: bytes, value: Any) -> bool:
    name = type_name(value).encode()
    return name in {target, b"*" + target}


_PUSH = function("any any", _on_list("push", lambda items, value: [*items, value]))
_PREPEND = function("any any", _on_list("prepend", lambda items, value: [value, *items]))
_FIRST = function("any", _on_list("find first", lambda items: items[0] if items else None))
_LAST = function("any", _on_list("find last", lambda items: items[-1] if items else None))
_REST = function("any", _on_list("find rest", lambda items: list(items[1:]) if items else NilList()))
_INITIAL = function("any", _on_list("find initial", lambda items: list(items[:-1]) if items else NilList()))
_REVERSE = function("any", _on_list("find reverse", lambda items: list(reversed(items))))
_COMPACT = function("any", _on_list("compact", lambda items: [item for item in items if not is_empty(item)]))
_MERGE = function("map map...", lambda run, first, *rest: _merged(run, first, rest, overwrite=False), run=True)
_OVERWRITE = function("map map...", lambda run, first, *rest: _merged(run, first, rest, overwrite=True), run=True)
_LIST = function("any...", lambda *values: list(values))

TABLE: dict[str, Function] = {
    "list": _LIST,
    "tuple": _LIST,
    "append": _PUSH,
    "push": _PUSH,
    "prepend": _PREPEND,
    "first": _FIRST,
    "last": _LAST,
    "rest": _REST,
    "initial": _INITIAL,
    "reverse": _REVERSE,
    "compact": _COMPACT,
    "uniq": function("any", _uniq, run=True),
    "without": function("any any...", _without, run=True),
    "has": function("any any", _has, run=True),
    "slice": function("any any...", _slice),
    "chunk": function("int any", _chunk, run=True),
    "concat": function("any...", _concat, run=True),
    "dict": function("any...", _dict, run=True),
    "get": function("map string", lambda value, key: value.get(key, b"")),
    "set": function("map string any", _set, run=True),
    "unset": function("map string", _unset),
    "hasKey": function("map string", lambda value, key: key in value),
    "pluck": function("string map...", _pluck),
    "keys": function("map...", _keys),
    "values": function("map", lambda value: [value[key] for key in sorted(value)]),
    "pick": function("map string...", _pick),
    "omit": function("map string...", _omit),
    "dig": function("any...", _dig),
    "merge": _MERGE,
    "mergeOverwrite": _OVERWRITE,
    "deepCopy": function("any", deep_copy, run=True),
    "deepEqual": function("any any", deep_equal, run=True),
    "default": function("any any...", _default),
    "empty": function("any", is_empty),
    "coalesce": function("any...", _coalesce),
    "all": function("any...", lambda *values: not any(map(is_empty, values))),
    "any": function("any...", lambda *values: not all(map(is_empty, values))),
    "ternary": function("any any bool", lambda yes, no, which: yes if which else no),
    "typeOf": function("any", lambda value: type_name(value).encode()),
    "typeIs": function("string any", lambda name, value: type_name(value).encode() == name),
    "typeIsLike": function("string any", _type_like),
    "kindOf": function("any", lambda value: kind(value).encode()),
    "kindIs": function("string any", lambda name, value: kind(value).encode() == name),
}
_MUST = "append push prepend first last rest initial reverse compact uniq without has slice chunk merge mergeOverwrite"
TABLE |= {f"must{name[0].upper()}{name[1:]}": TABLE[name] for name in [*_MUST.split(), "deepCopy"]}
