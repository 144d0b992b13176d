"""YAML of plain words, read and written the short way: most of what people seal, and all that we write back.

`kubectl create secret -o yaml` prints mappings of words and nothing else. Those are read and written here in a fraction
of the time, without importing PyYAML (20 ms, a fifth of one call of `seal`); whatever might be something else is left
to `go_yaml`, which gives the same for these as well (`tests/fuzz`). Pure.

What never lives here: quotes, lists, anchors, errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

DEPTH_LIMIT = 128
"""Nested levels at most; Kubernetes' deepest schema (JSONSchemaProps aside) stays under 40."""
NODE_LIMIT = 1_000_000
"""Values at most in one document, aliases counted each time they are used: a billion laughs ends here."""
DOCUMENT_LIMIT = 10_000
"""Documents at most in one stream."""
BOOL_TRUE = ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")
BOOL_FALSE = ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")
INT = re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[1-9][0-9_]*|0)")
FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)


# --- reading -------------------------------------------------------------------------------------------

_LINE = re.compile(
    r"( *)([A-Za-z][A-Za-z0-9._/-]{0,99}):(?: +([A-Za-z0-9/+][A-Za-z0-9._/+=-]*(?::[A-Za-z0-9._/+=-]+)*))? *"
)
_LINE_LIMIT = 100_000
"""Lines that are read the short way; far below NODE_LIMIT."""


class _NotPlainError(Exception):
    """The general way has to read this."""


def read_plain(text: str) -> list[Any] | None:
    """Give the documents of a stream of plain mappings, None where it may be anything else."""
    if text.count("\n") > _LINE_LIMIT:
        return None
    try:
        documents = [_mapping(document) for document in _cut(text)]
    except _NotPlainError:
        return None
    return documents if 0 < len(documents) <= DOCUMENT_LIMIT else None


def _cut(text: str) -> Iterator[list[str]]:
    """Give the lines of each document; what lies before a first `---` is none."""
    lines: list[str] = []
    marked = False
    for line in text.split("\n"):
        if line == "---":
            if marked or lines:
                yield lines
            lines, marked = [], True
        elif line.lstrip(" ")[:1] == "#":
            if not (line.isascii() and line.isprintable()):  # other characters may end a line, or be refused
                raise _NotPlainError
        elif line:
            lines.append(line)
    if marked or lines:
        yield lines


def _mapping(lines: list[str]) -> dict[str, Any]:
    """Read one document, each line a key with a word, or with a mapping of deeper lines."""
    root: dict[str, Any] = {}
    stack = [(0, root)]
    opened = False  # a line without a word: what follows has to be deeper
    for line in lines:
        found = _LINE.fullmatch(line)
        if found is None:
            raise _NotPlainError
        indent, key, word = len(found[1]), found[2], found[3]
        if opened:
            if indent <= stack[-2][0] or len(stack) >= DEPTH_LIMIT:
                raise _NotPlainError
            stack[-1] = (indent, stack[-1][1])
        while indent < stack[-1][0]:
            stack.pop()
        mapping = stack[-1][1]
        if indent != stack[-1][0] or key in _WORDS or key in mapping:
            raise _NotPlainError
        opened = word is None
        if opened:
            below: dict[str, Any] = {}
            mapping[key] = below
            stack.append((indent, below))
        else:
            mapping[key] = _value(word)
    if opened or not root:
        raise _NotPlainError
    return root


def _value(word: str) -> str | bool | None:
    if word in _WORDS:
        return None if word in _NULLS else word in BOOL_TRUE
    if INT.fullmatch(word) or FLOAT.fullmatch(word):
        raise _NotPlainError
    return word


# --- writing -------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._/+=-]*(?::[A-Za-z0-9._/+=-]+)*")
_NULLS = ("null", "Null", "NULL")
_WORDS = frozenset((*BOOL_TRUE, *BOOL_FALSE, *_NULLS))
_KEY_LENGTH = 100
"""Characters of a key that every emitter still writes on one line with its value."""


def write_plain(body: Mapping[str, Any], indent: str, lines: list[str]) -> bool:
    """Write mappings of words, and say False at the first value that may need quotes: PyYAML then writes it all.

    The same text in an eighth of the time; names, base64 and flags are most of what we write.
    """
    if not body:
        return False
    for key in sorted(body, key=str):
        value: Any = body[key]
        if not isinstance(value, str | bool | dict) or type(key) is not str:
            return False
        if len(key) > _KEY_LENGTH or key in _WORDS or not _PLAIN.fullmatch(key):
            return False
        if isinstance(value, str):
            if value in _WORDS or not _PLAIN.fullmatch(value):
                return False
            lines.append(f"{indent}{key}: {value}\n")
        elif isinstance(value, bool):
            lines.append(f"{indent}{key}: {'true' if value else 'false'}\n")
        else:
            lines.append(f"{indent}{key}:\n")
            if not write_plain(value, indent + "  ", lines):
                return False
    return True
