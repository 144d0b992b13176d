"""Semantic versions and their constraints (Masterminds/semver v3, as sprig v3.3.0 calls it). Pure.

What never lives here: other versions (API versions, key versions).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from secretsops.templating.evaluator import Run
from secretsops.templating.gotypes import Uint64
from secretsops.templating.signature import CallFailed, Function, function

_LENGTH_LIMIT = 256
_VERSION = re.compile(
    r"v?([0-9]{1,19})(?:\.([0-9]{1,19}))?(?:\.([0-9]{1,19}))?(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)


class Version:
    """A version; prints as the text without a leading v, missing parts as 0."""

    __slots__ = ("metadata", "numbers", "original", "prerelease")
    go_type = "*semver.Version"
    go_kind = "ptr"

    def __init__(self, numbers: tuple[int, int, int], prerelease: str, metadata: str, original: str) -> None:
        self.numbers = numbers
        self.prerelease = prerelease
        self.metadata = metadata
        self.original = original

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and compared(self, other) == 0

    def __hash__(self) -> int:
        return hash(self.numbers)

    def go_string(self) -> bytes:
        """Give `Version.String`."""
        text = ".".join(map(str, self.numbers))
        text += f"-{self.prerelease}" if self.prerelease else ""
        return (text + (f"+{self.metadata}" if self.metadata else "")).encode()

    go_json = go_string


def version(text: bytes) -> Version:
    """Read a version, as `semver.NewVersion` does: a leading v and missing parts are allowed."""
    shown = text[: _LENGTH_LIMIT + 1].decode("utf-8", "replace")
    found = _VERSION.fullmatch(shown) if len(shown) <= _LENGTH_LIMIT else None
    if found is None:
        raise CallFailed("invalid semantic version")
    major, minor, patch, prerelease, metadata = found.groups()
    if prerelease and any(part.isdigit() and len(part) > 1 and part[0] == "0" for part in prerelease.split(".")):
        raise CallFailed("version segment starts with 0")
    return Version((int(major), int(minor or 0), int(patch or 0)), prerelease or "", metadata or "", shown)


def compared(one: Version, other: Version) -> int:
    """Give -1, 0 or 1; metadata does not count."""
    left, right = (one.numbers, _order(one.prerelease)), (other.numbers, _order(other.prerelease))
    return (left > right) - (left < right)


def _order(prerelease: str) -> tuple[object, ...]:
    if not prerelease:
        return (1,)
    parts = prerelease.split(".")
    return (0, tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts))


_OPERATORS = r"=>|<=|>=|=<|!=|~>|[=<>~^]|"
_PART = r"v?([0-9xX*]+)(?:\.([0-9xX*]+))?(?:\.([0-9xX*]+))?(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?"
_CONSTRAINT = re.compile(rf"\s*({_OPERATORS})\s*{_PART}\s*,?")
_RANGE = re.compile(rf"\s*({_PART})\s+-\s+({_PART})\s*")
_ANY = frozenset("xX*")


class _Constraint:
    """One comparison: operator, version, how many parts were given."""

    __slots__ = ("given", "operator", "version")

    def __init__(self, operator: str, groups: tuple[str | None, ...]) -> None:
        self.operator = operator
        numbers: list[int] = []
        for part in groups[:3]:
            if part is None or _ANY & set(part):
                break
            numbers.append(int(part[:19]))
        self.given = len(numbers)
        filled = (*numbers, 0, 0, 0)[:3]
        self.version = Version((filled[0], filled[1], filled[2]), groups[3] or "", groups[4] or "", "")

    def holds(self, found: Version) -> bool:
        """Say whether a version satisfies it; a prerelease only where the constraint has one."""
        if found.prerelease and not self.version.prerelease:
            return False
        return _CHECKS[self.operator](self, found)


def _same(constraint: _Constraint, found: Version) -> bool:
    if constraint.given == 3:
        return compared(found, constraint.version) == 0
    return found.numbers[: constraint.given] == constraint.version.numbers[: constraint.given]


def _at_least(constraint: _Constraint, found: Version) -> bool:
    return compared(found, constraint.version) >= 0


def _above(constraint: _Constraint, found: Version) -> bool:
    given = constraint.given
    if given == 3:
        return compared(found, constraint.version) > 0
    return found.numbers[:given] > constraint.version.numbers[:given]


def _up_to(constraint: _Constraint, found: Version) -> bool:
    given = constraint.given
    if given == 3:
        return compared(found, constraint.version) <= 0
    return found.numbers[:given] <= constraint.version.numbers[:given]


def _tilde(constraint: _Constraint, found: Version) -> bool:
    kept = min(constraint.given, 2)
    return _at_least(constraint, found) and found.numbers[:kept] == constraint.version.numbers[:kept]


def _caret(constraint: _Constraint, found: Version) -> bool:
    if not _at_least(constraint, found):
        return False
    numbers = constraint.version.numbers
    leading = next((at for at, number in enumerate(numbers[: constraint.given]) if number), constraint.given - 1)
    kept = max(0, leading) + (constraint.given > 0)
    return found.numbers[:kept] == numbers[:kept]


_CHECKS: dict[str, Callable[[_Constraint, Version], bool]] = {
    "=": _same,
    "": _same,
    "!=": lambda constraint, found: not _same(constraint, found),
    ">": _above,
    "<": lambda constraint, found: compared(found, constraint.version) < 0,
    ">=": _at_least,
    "=>": _at_least,
    "<=": _up_to,
    "=<": _up_to,
    "~": _tilde,
    "~>": _tilde,
    "^": _caret,
}


def satisfies(text: bytes, found: Version) -> bool:
    """Say whether a version satisfies a constraint such as `>=1.2, <2 || ^3.1`."""
    shown = text[:1000].decode("utf-8", "replace")
    return any(_group(group, found) for group in shown.split("||"))


def _group(text: str, found: Version) -> bool:
    text = _RANGE.sub(lambda match: f" >={match[1]}, <={match[7]} ", text)
    at, holds = 0, True
    while at < len(text):
        match = _CONSTRAINT.match(text, at)
        if match is None:
            if text[at:].strip() and at:
                raise CallFailed("improper constraint")
            break
        holds = _Constraint(match[1], match.groups()[1:]).holds(found) and holds
        at = match.end()
    if not at:
        raise CallFailed("improper constraint")
    return holds


def _compare(run: Run, constraint: bytes, text: bytes) -> bool:
    run.meter.step(len(constraint) // 4)
    # A broken constraint is refused even where the first alternative holds.
    found = version(text)
    alternatives = constraint[:1000].split(b"||")
    verdicts = [satisfies(alternative, found) for alternative in alternatives]
    return any(verdicts)


TABLE: dict[str, Function] = {
    "semver": function("string", version),
    "semverCompare": function("string string", _compare, run=True),
}
METHODS: dict[bytes, Function] = {
    b"Major": function("", lambda value: Uint64(value.numbers[0])),
    b"Minor": function("", lambda value: Uint64(value.numbers[1])),
    b"Patch": function("", lambda value: Uint64(value.numbers[2])),
    b"Prerelease": function("", lambda value: value.prerelease.encode()),
    b"Metadata": function("", lambda value: value.metadata.encode()),
    b"Original": function("", lambda value: value.original.encode()),
    b"String": function("", Version.go_string),
}
"""What a template can call on a version."""
