"""Globs as the peer's libraries read them: gobwas (projects, directories), Go's `path.Match` (kinds, Git generators).

Rules: github.com/gobwas/glob v0.2 (a single `*` stops at a separator, where one is given; `**` never stops), Go 1.26
`path.Match`, github.com/bmatcuk/doublestar v4. All match in time linear in the text times the pattern. Pure.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

_BRACE_LIMIT = 256
"""Alternatives one glob may spell out with braces; more is an attack or a mistake."""
_STAR, _MANY, _OTHER = "*", "**", "?"


def matches(pattern: str, text: str, *, separator: str = "") -> bool:
    """Say whether a gobwas glob matches: `*` and `?` cross everything but the separator, `**` crosses that too.

    `[a-z]`, `[!a]`, `{a,b}` and `\\` escapes are known. A broken pattern matches nothing.
    """
    return any(
        _matches_plain(tokens, text, separator) for tokens in map(_tokens, _alternatives(pattern)) if tokens is not None
    )


def _alternatives(pattern: str) -> list[str]:
    """Write braces out, innermost last; gives no more than the limit."""
    done: list[str] = []
    todo = [pattern]
    while todo and len(todo) + len(done) <= _BRACE_LIMIT:
        current = todo.pop()
        opened = _unescaped(current, "{")
        if opened < 0:
            done.append(current)
            continue
        parts, closed = _split_braces(current, opened)
        if closed < 0:
            return []
        todo.extend(current[:opened] + part + current[closed + 1 :] for part in parts)
    return done


def _unescaped(text: str, wanted: str) -> int:
    index = 0
    while index < len(text):
        if text[index] == "\\":
            index += 1
        elif text[index] == wanted:
            return index
        index += 1
    return -1


def _split_braces(text: str, opened: int) -> tuple[list[str], int]:
    parts: list[str] = []
    depth, start, index = 0, opened + 1, opened
    while index < len(text):
        letter = text[index]
        if letter == "\\":
            index += 1
        elif letter == "{":
            depth += 1
        elif letter == "}":
            depth -= 1
            if not depth:
                return [*parts, text[start:index]], index
        elif letter == "," and depth == 1:
            parts.append(text[start:index])
            start = index + 1
        index += 1
    return [], -1


Token = tuple[str, str]
"""(kind, text): `*`, `**`, `?`, `=` literal, `[` class, `!` negated class."""


def _tokens(pattern: str) -> list[Token] | None:
    tokens: list[Token] = []
    index = 0
    while index < len(pattern):
        letter = pattern[index]
        if letter == "*":
            if tokens and tokens[-1][0] in (_STAR, _MANY):
                tokens[-1] = (_MANY, "")
            else:
                tokens.append((_STAR, ""))
        elif letter == "?":
            tokens.append((_OTHER, ""))
        elif letter == "[":
            end = pattern.find("]", index + 1)
            if end < 0:
                return None
            inner = pattern[index + 1 : end]
            tokens.append(("!", inner[1:]) if inner.startswith("!") else ("[", inner))
            index = end
        else:
            if letter == "\\" and index + 1 < len(pattern):
                index += 1
            tokens.append(("=", pattern[index]))
        index += 1
    return tokens


def _matches_plain(tokens: list[Token], text: str, separator: str) -> bool:
    """Match by the set of places in the pattern that are reachable: O(tokens * text), no recursion."""
    reachable = _closed({0}, tokens)
    for letter in text:
        step = set()
        for at in reachable:
            if at == len(tokens):
                continue
            token = tokens[at]
            if token[0] == _MANY or (token[0] == _STAR and letter != separator):
                step.add(at)
            elif _one(token, letter, separator):
                step.add(at + 1)
        if not step:
            return False
        reachable = _closed(step, tokens)
    return len(tokens) in reachable


def _closed(places: set[int], tokens: list[Token]) -> set[int]:
    """Add what a star that stands for nothing leads to."""
    found = set(places)
    for at in places:
        place = at
        while place < len(tokens) and tokens[place][0] in (_STAR, _MANY):
            place += 1
            found.add(place)
    return found


def _one(token: Token, letter: str, separator: str) -> bool:
    kind, text = token
    if kind == "=":
        return letter == text
    if kind == _OTHER:
        return letter != separator
    if kind in (_STAR, _MANY):
        return False
    inside = letter in text
    if len(text) == 3 and text[1] == "-":
        inside = text[0] <= letter <= text[2]
    return inside if kind == "[" else not inside


@lru_cache(maxsize=512)
def path_pattern(pattern: str) -> Any:
    """Give a Go `path.Match` pattern as an RE2 expression, None where it is broken; `*` and `?` stop at `/`."""
    import re2

    out, index = "", 0
    while index < len(pattern):
        letter = pattern[index]
        if letter == "[":
            end = pattern.find("]", index + 2)
            if end < 0:
                return None
            inner = pattern[index + 1 : end]
            negated = "^" if inner.startswith("^") else ""
            out += f"[{negated}{re.escape(inner.removeprefix('^')).replace(chr(92) + '-', '-')}]"
            index = end + 1
            continue
        if letter == "\\" and index + 1 < len(pattern):
            index += 1
            out += re.escape(pattern[index])
        else:
            out += {"*": "[^/]*", "?": "[^/]"}.get(letter, re.escape(letter))
        index += 1
    try:
        return re2.compile(out)
    except re2.error:
        return None


def path_matches(pattern: str, path: str) -> bool:
    """Say whether Go's `path.Match` takes the whole path; a broken pattern matches nothing."""
    found = path_pattern(pattern)
    return found is not None and found.fullmatch(path) is not None


@lru_cache(maxsize=512)
def doublestar(pattern: str) -> Any:
    """Give a doublestar glob as an RE2 expression: `**` crosses `/`, the rest does not."""
    import re2

    out, index = "", 0
    while index < len(pattern):
        if pattern.startswith("**/", index):
            out, index = out + "(?:[^/]+/)*", index + 3
        elif pattern.startswith("**", index):
            out, index = out + ".*", index + 2
        elif pattern[index] == "*":
            out, index = out + "[^/]*", index + 1
        elif pattern[index] == "?":
            out, index = out + "[^/]", index + 1
        elif pattern[index] == "{" and "}" in pattern[index:]:
            end = pattern.index("}", index)
            out += "(?:" + "|".join(re.escape(word) for word in pattern[index + 1 : end].split(",")) + ")"
            index = end + 1
        else:
            out, index = out + re.escape(pattern[index]), index + 1
    return re2.compile(out)
