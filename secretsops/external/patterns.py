"""Regular expressions of strangers, by RE2: linear in the text, whatever the pattern. Pure.

Python's own `re` backtracks, and holds the interpreter while it does; Go, and so the peer, uses RE2's syntax.

What never lives here: what is matched, and why.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from secretsops.errors import InvalidManifest, MissingExtra

PATTERN_LIMIT = 1000
"""Characters of a pattern."""
MEMORY_LIMIT = 8 * 1024 * 1024
"""Bytes RE2 may use for one pattern."""
_REFERENCE = re.compile(r"\$(?:\$|\{([0-9A-Za-z_]+)\}|([0-9A-Za-z_]+))")


@lru_cache(maxsize=256)
def compiled(pattern: str) -> Any:
    """Give the compiled pattern.

    Raises:
        InvalidManifest: it is none, or asks for too much.
        MissingExtra: google-re2 is not installed.
    """
    try:
        import re2
    except ImportError:
        raise MissingExtra("cluster", needed_for="a regular expression") from None
    options = re2.Options()
    options.max_mem = MEMORY_LIMIT
    options.log_errors = False
    try:
        if len(pattern) > PATTERN_LIMIT:
            raise re2.error("too long")  # noqa: TRY301 - one way out for everything that is no pattern
        return re2.compile(pattern, options)
    except re2.error:
        raise InvalidManifest(
            f"{pattern[:60]!r} is no regular expression that RE2 takes",
            reason="InvalidPattern",
            hint="write it as Go does: no look-around, no back-references",
        ) from None


def found(pattern: str, text: str) -> bool:
    """Say whether a pattern matches anywhere in a text; raises what `compiled` raises."""
    return compiled(pattern).search(text) is not None


def replaced(pattern: str, template: str, text: str) -> str:
    """Give the text with every match replaced, as Go's `Regexp.ReplaceAllString`; raises what `compiled` raises."""
    pieces, done, last = [], 0, -1
    for match in compiled(pattern).finditer(text):
        start, end = match.span()
        if start == end == last:
            continue  # Go has no empty match right behind another one
        pieces += [text[done:start], _expanded(template, match)]
        done = last = end
    return "".join(pieces) + text[done:]


def _expanded(template: str, match: Any) -> str:
    """Expand `$1`, `$name`, `${name}` and `$$` (Go's `Regexp.Expand`); a group that is not there is empty."""

    def group(reference: re.Match[str]) -> str:
        name = reference[1] or reference[2]
        if name is None:
            return "$"
        key: int | str = int(name) if name.isdigit() else name
        known = key <= match.re.groups if isinstance(key, int) else key in match.re.groupindex
        return (match.group(key) or "") if known else ""

    return _REFERENCE.sub(group, template)
