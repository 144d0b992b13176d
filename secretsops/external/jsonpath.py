"""JSONPath as webhooks' `result.jsonPath` uses it (PaesslerAG/jsonpath, as far as its paths are plain). Pure.

`$`, `.name`, `['name']`, `[2]`, `[-1]`, `.*` and `[*]`, `..name`, `[?(@.name == "x")]`. A path without `*`, `..` or `?`
gives one value, any other a list.

What never lives here: gjson's paths (`secretsops.external.paths`), where documents come from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from secretsops.errors import InvalidManifest

PATH_LIMIT, STEP_LIMIT, MATCH_LIMIT = 1_024, 64, 100_000
"""Characters, steps, and values looked at."""
_NAME = re.compile(r"[^\s.\[\]()*?'\"=!<>@]+")
_QUOTED = re.compile(r"\[\s*(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\")\s*\]")
_INDEX = re.compile(r"\[\s*(-?\d{1,9})\s*\]")
_ALL = re.compile(r"\[\s*\*\s*\]")
_FILTER = re.compile(
    r"\[\s*\?\s*\(\s*@((?:\.[^\s.\[\]()=!<>]+)+)\s*(?:(==|!=)\s*(?:'([^']*)'|\"([^\"]*)\"|(-?\d+(?:\.\d+)?|true|false|null)))?"
    r"\s*\)\s*\]"
)

Step = Callable[[Any], Iterator[Any]]


def look_up(document: Any, path: str) -> tuple[bool, Any]:
    """Give whether there is something under a path, and what: one value, or a list for a path with several ends.

    Raises:
        InvalidManifest: it is no such path, or looks at too much; reason `InvalidPath`.
    """
    steps, many = _parsed(path.strip())
    found, looked = [document], 0
    for step in steps:
        following: list[Any] = []
        for value in found:
            for each in step(value):
                looked += 1
                if looked > MATCH_LIMIT:
                    raise _no_path(path, "looks at too much")
                following.append(each)
        found = following
    if many:
        return True, found
    return bool(found), found[0] if found else None


def _parsed(path: str) -> tuple[list[Step], bool]:
    if len(path) > PATH_LIMIT or not path.startswith("$"):
        raise _no_path(path, "does not begin with $, or is too long")
    at, many = 1, False
    steps: list[Step] = []
    while at < len(path):
        if len(steps) > STEP_LIMIT:
            raise _no_path(path, "has too many steps")
        if path.startswith("..", at):
            at, name = _name(path, at + 2)
            steps += [_below, _member(name)] if name != "*" else [_below]
            many = True
        elif path.startswith(".", at):
            at, name = _name(path, at + 1)
            steps.append(_every if name == "*" else _member(name))
            many = many or name == "*"
        elif found := _QUOTED.match(path, at):
            at = found.end()
            steps.append(_member(re.sub(r"\\(.)", r"\1", found[1] if found[1] is not None else found[2])))
        elif found := _INDEX.match(path, at):
            at = found.end()
            steps.append(_place(int(found[1])))
        elif found := _ALL.match(path, at):
            at, many = found.end(), True
            steps.append(_every)
        elif found := _FILTER.match(path, at):
            at, many = found.end(), True
            steps.append(_filter(found))
        else:
            raise _no_path(path, f"cannot be read at character {at}")
    return steps, many


def _name(path: str, at: int) -> tuple[int, str]:
    if path.startswith("*", at):
        return at + 1, "*"
    found = _NAME.match(path, at)
    if not found:
        raise _no_path(path, f"has no name at character {at}")
    return found.end(), found[0]


def _member(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]
        elif isinstance(value, list) and re.fullmatch(r"-?\d{1,9}", name):
            yield from _place(int(name))(value)

    return step


def _place(index: int) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= index < len(value):
            yield value[index]

    return step


def _every(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _below(value: Any) -> Iterator[Any]:
    left = [value]
    while left:
        here = left.pop()
        yield here
        left += reversed(list(_every(here)))


def _filter(found: re.Match[str]) -> Step:
    names, operator = found[1].split(".")[1:], found[2]
    texts = [text for text in (found[3], found[4]) if text is not None]
    word = found[5]
    wanted: Any = texts[0] if texts else {"true": True, "false": False, "null": None}.get(word, word)

    def step(value: Any) -> Iterator[Any]:
        for item in _every(value):
            here: Any = item
            for name in names:
                here = here.get(name) if isinstance(here, dict) else None
            same = here == wanted if texts or not isinstance(wanted, str) else str(here) == wanted
            if bool(here) if operator is None else same == (operator == "=="):
                yield item

    return step


def _no_path(path: str, why: str) -> InvalidManifest:
    return InvalidManifest(
        f"jsonPath {path[:60]!r} {why}", reason="InvalidPath", hint="write it as $.data.name or $['data'][0]"
    )
