"""Go's own functions: comparison, logic, `index`, `len`, `printf` (go1.26 `src/text/template/funcs.go`). Pure.

What never lives here: sprig's functions, which shadow `slice` (as in Helm and the External Secrets Operator).
"""

from __future__ import annotations

import re
from typing import Any

from secretsops.templating.evaluator import Run
from secretsops.templating.formatting import is_printable, runes, show, sprint, sprintln
from secretsops.templating.gotypes import (
    INVALID,
    Struct,
    Uint8,
    is_integer,
    is_true,
    type_name,
    zero_of,
)
from secretsops.templating.printf import sprintf
from secretsops.templating.signature import AND_OR, CallFailed, Function, function


def _basic(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "uint" if type_name(value).startswith("uint") else "int"
    return {bytes: "string", float: "float", complex: "complex"}.get(type(value), "")


def eq(run: Run, first: Any, *others: Any) -> bool:
    """Say whether the first equals any other; types must agree, int and uint do."""
    if not others:
        raise CallFailed("missing argument for comparison")
    return any(_equal(run, first, other) for other in others)


def _equal(run: Run, one: Any, other: Any) -> bool:
    run.meter.step()
    left, right = _basic(one), _basic(other)
    if left != right and {left, right} != {"int", "uint"}:
        if one is None or other is None or one is INVALID or other is INVALID:
            return False
        raise CallFailed(f"incompatible types for comparison: {type_name(one)} and {type_name(other)}")
    if left:
        return bool(one == other)
    if one is None or other is None:
        return _nil(one) and _nil(other)
    if _nil(one) or _nil(other):
        return _nil(one) == _nil(other)
    if isinstance(other, list | dict) or isinstance(one, list | dict):
        raise CallFailed(f"non-comparable type {type_name(other)}")
    return bool(one == other)


def _nil(value: Any) -> bool:
    return value is None or value is INVALID or type(value).__name__.startswith("Nil")


def ne(run: Run, one: Any, other: Any) -> bool:
    """Say whether two values differ."""
    return not _equal(run, one, other)


def _less(one: Any, other: Any) -> bool:
    left, right = _basic(one), _basic(other)
    if not left or not right:
        raise CallFailed("invalid type for comparison")
    if left != right and {left, right} != {"int", "uint"}:
        raise CallFailed(f"incompatible types for comparison: {type_name(one)} and {type_name(other)}")
    if left in {"bool", "complex"}:
        raise CallFailed("invalid type for comparison")
    return bool(one < other)


def le(run: Run, one: Any, other: Any) -> bool:
    """Say whether one is less than the other or equal."""
    return _less(one, other) or _equal(run, one, other)


def _index_in(index: Any, limit: int) -> int:
    if index is None:
        raise CallFailed("cannot index slice/array with nil")
    if not is_integer(index):
        raise CallFailed(f"cannot index slice/array with type {type_name(index)}")
    if not 0 <= index <= limit:
        raise CallFailed("index out of range")
    return int(index)


def index(item: Any, *indexes: Any) -> Any:
    """Give what is found by index after index; a missing key gives the zero value."""
    if item is None:
        raise CallFailed("index of untyped nil")
    for key in indexes:
        if item is None:
            raise CallFailed("index of nil pointer")
        if isinstance(item, bytes | list):
            at = _index_in(key, len(item))
            if at == len(item):
                raise CallFailed("index out of range")
            item = Uint8(item[at]) if isinstance(item, bytes) else item[at]
        elif isinstance(item, dict):
            if not isinstance(key, bytes):
                raise CallFailed("value is nil or of another type; should be of type string")
            item = item[key] if key in item else zero_of(item)
        else:
            raise CallFailed(f"can't index item of type {type_name(item)}")
    return item


def slice_of(item: Any, *indexes: Any) -> Any:
    """Give Go's own `slice`, which also takes strings."""
    if item is None:
        raise CallFailed("slice of untyped nil")
    if len(indexes) > 3 or not isinstance(item, bytes | list):
        raise CallFailed(f"can't slice item of type {type_name(item)}")
    if isinstance(item, bytes) and len(indexes) == 3:
        raise CallFailed("cannot 3-index slice a string")
    bounds = [_index_in(key, len(item)) for key in indexes]
    begin, end = (bounds[0] if bounds else 0), (bounds[1] if len(bounds) > 1 else len(item))
    if begin > end or (len(bounds) > 2 and end > bounds[2]):
        raise CallFailed("invalid slice index")
    return item[begin:end] if isinstance(item, bytes) else type(item)(item[begin:end])


def length(item: Any) -> int:
    """Give the length: bytes of a string, entries of a list or map."""
    if item is None:
        raise CallFailed("len of nil pointer")
    if not isinstance(item, bytes | list | dict):
        raise CallFailed(f"len of type {type_name(item)}")
    return len(item)


def call(callee: Any, *_arguments: Any) -> Any:
    """Refuse: no value of a template is a function."""
    if callee is None:
        raise CallFailed("call of nil")
    raise CallFailed(f"non-function of type {type_name(callee)}")


def _text_of(run: Run, values: tuple[Any, ...]) -> bytes:
    if len(values) == 1 and isinstance(values[0], bytes):
        return values[0]
    shown = [
        show(value, run.meter) if _has_text(value) else b"<no value>" if value is None else value for value in values
    ]
    return sprint(shown, run.meter)


def _has_text(value: Any) -> bool:
    return isinstance(value, Struct) and hasattr(value, "go_string")


_HTML = {b"<": b"&lt;", b">": b"&gt;", b'"': b"&#34;", b"'": b"&#39;", b"\0": "�".encode()}


def html(run: Run, *values: Any) -> bytes:
    """Escape for HTML."""
    text = _text_of(run, values).replace(b"&", b"&amp;")
    run.meter.grow(5 * len(text))
    for plain, escaped in _HTML.items():
        text = text.replace(plain, escaped)
    return text


_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}


def js(run: Run, *values: Any) -> bytes:
    """Escape for a JavaScript string."""
    text = _text_of(run, values)
    run.meter.grow(6 * len(text))
    run.meter.step(len(text) // 4)
    pieces = []
    for character in runes(text):
        if character in _JS:
            pieces.append(_JS[character])
        elif character < " " or (character >= "\x7f" and not is_printable(character)):
            pieces.append(f"\\u{ord(character):04X}")
        else:
            pieces.append(character)
    return "".join(pieces).encode()


_RESERVED = re.compile(rb"[^A-Za-z0-9\-_.~ ]")


def urlquery(run: Run, *values: Any) -> bytes:
    """Escape for the query of a URL, spaces as `+`."""
    text = _text_of(run, values)
    run.meter.grow(3 * len(text))
    return _RESERVED.sub(lambda byte: b"%%%02X" % byte[0][0], text).replace(b" ", b"+")


TABLE: dict[str, Function] = {
    "and": AND_OR,
    "or": AND_OR,
    "not": function("value", lambda value: not is_true(value)),
    "eq": function("value value...", eq, run=True),
    "ne": function("value value", ne, run=True),
    "lt": function("value value", _less),
    "le": function("value value", le, run=True),
    "gt": function("value value", lambda run, one, other: not le(run, one, other), run=True),
    "ge": function("value value", lambda one, other: not _less(one, other)),
    "index": function("value value...", index),
    "slice": function("value value...", slice_of),
    "len": function("value", length),
    "call": function("value value...", call),
    "print": function("any...", lambda run, *values: sprint(values, run.meter), run=True),
    "println": function("any...", lambda run, *values: sprintln(values, run.meter), run=True),
    "printf": function("string any...", lambda run, layout, *values: sprintf(layout, values, run.meter), run=True),
    "html": function("any...", html, run=True),
    "js": function("any...", js, run=True),
    "urlquery": function("any...", urlquery, run=True),
}
