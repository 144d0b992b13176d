"""sprig's regular expressions, by RE2 as in Go: linear in the text (sprig v3.3.0 `regex.go`). Pure.

Python's own `re` backtracks and holds the interpreter while it does: no pattern of a template ever reaches it.

What never lives here: other functions of text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from secretsops.errors import MissingExtra
from secretsops.templating.evaluator import Run
from secretsops.templating.functions.strings import split_text
from secretsops.templating.gotypes import NilStrings, StringSlice
from secretsops.templating.signature import CallFailed, Function, function

PATTERN_LIMIT = 1000
"""Bytes of a pattern."""
MEMORY_LIMIT = 8 * 1024 * 1024
"""Bytes RE2 may use for one pattern."""
_REFERENCE = re.compile(rb"\$(?:\$|\{([0-9A-Za-z_]+)\}|([0-9A-Za-z_]+))")


@lru_cache(maxsize=64)
def _compiled(pattern: bytes) -> Any:
    try:
        import re2
    except ImportError:
        raise MissingExtra("cluster", needed_for="a regular expression in a template") from None
    options = re2.Options()
    options.max_mem = MEMORY_LIMIT
    options.log_errors = False
    if len(pattern) > PATTERN_LIMIT:
        raise CallFailed("the regular expression is too long")
    try:
        return re2.compile(pattern, options)
    except re2.error:
        raise CallFailed("error parsing regexp") from None


def _matches(run: Run, pattern: bytes, text: bytes) -> Iterator[Any]:
    """Give matches as Go finds them: no empty one right behind another, none inside a character."""
    run.meter.step(1 + len(text) // 64)
    end, whole = -1, _is_utf8(text)
    for match in _compiled(pattern).finditer(text):
        run.meter.step(2)
        start = match.start()
        if start == match.end() and (start == end or (whole and start < len(text) and text[start] & 0xC0 == 0x80)):
            continue
        end = match.end()
        yield match


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _match(run: Run, pattern: bytes, text: bytes) -> bool:
    run.meter.step(1 + len(text) // 64)
    return _compiled(pattern).search(text) is not None


def _match_or_not(run: Run, pattern: bytes, text: bytes) -> bool:
    try:
        return _match(run, pattern, text)
    except CallFailed:
        return False


def _find(run: Run, pattern: bytes, text: bytes) -> bytes:
    run.meter.step(1 + len(text) // 64)
    match = _compiled(pattern).search(text)
    return match.group() if match is not None else b""


def _find_all(run: Run, pattern: bytes, text: bytes, count: int) -> StringSlice:
    found = StringSlice()
    for match in _matches(run, pattern, text):
        if 0 <= count <= len(found):
            break
        run.meter.grow(64)
        found.append(match.group())
    return found or NilStrings()


def _replace(run: Run, pattern: bytes, text: bytes, replacement: bytes, *, literal: bool = False) -> bytes:
    pieces, done = [], 0
    for match in _matches(run, pattern, text):
        expanded = replacement if literal else _expanded(run, replacement, match)
        run.meter.grow(len(expanded) + match.start() - done)
        pieces += [text[done : match.start()], expanded]
        done = match.end()
    return b"".join(pieces) + text[done:]


def _expanded(run: Run, template: bytes, match: Any) -> bytes:
    """Expand `$1`, `$name`, `${name}` and `$$` (`Regexp.Expand`); a group that is not there is empty."""

    def group(reference: re.Match[bytes]) -> bytes:
        name = reference[1] or reference[2]
        if name is None:
            return b"$"
        key: Any = int(name) if name.isdigit() and len(name) < 5 else name
        known = key <= match.re.groups if isinstance(key, int) else key in match.re.groupindex
        found: bytes = (match.group(key) or b"") if known else b""
        run.meter.grow(len(found))
        return found

    return _REFERENCE.sub(group, template)


def _split(run: Run, pattern: bytes, text: bytes, count: int) -> StringSlice:
    """Give Go's `Regexp.Split`."""
    if count == 0:
        return NilStrings()
    if pattern and not text:
        _compiled(pattern)
        return StringSlice([b""])
    if not pattern:
        return StringSlice(split_text(run, b"", text, count if count > 0 else -1))
    pieces, begin, end = StringSlice(), 0, 0
    for match in _matches(run, pattern, text):
        if 0 < count <= len(pieces) + 1:
            break
        end = match.start()
        if match.end() != 0:
            run.meter.grow(64)
            pieces.append(text[begin:end])
        begin = match.end()
    if end != len(text):
        pieces.append(text[begin:])
    return pieces


_SPECIAL = re.compile(rb"([\\.+*?()|\[\]{}^$])")
_FIND_ALL = function("string string int", _find_all, run=True)
_FIND = function("string string", _find, run=True)
_REPLACE = function("string string string", _replace, run=True)
_LITERAL = function(
    "string string string", lambda run, pattern, text, by: _replace(run, pattern, text, by, literal=True), run=True
)
_SPLIT = function("string string int", _split, run=True)

TABLE: dict[str, Function] = {
    "regexMatch": function("string string", _match_or_not, run=True),
    "mustRegexMatch": function("string string", _match, run=True),
    "regexFindAll": _FIND_ALL,
    "mustRegexFindAll": _FIND_ALL,
    "regexFind": _FIND,
    "mustRegexFind": _FIND,
    "regexReplaceAll": _REPLACE,
    "mustRegexReplaceAll": _REPLACE,
    "regexReplaceAllLiteral": _LITERAL,
    "mustRegexReplaceAllLiteral": _LITERAL,
    "regexSplit": _SPLIT,
    "mustRegexSplit": _SPLIT,
    "regexQuoteMeta": function("string", lambda text: _SPECIAL.sub(rb"\\\1", text)),
}
