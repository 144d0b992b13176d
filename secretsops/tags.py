"""Which tag a semantic version constraint means: the highest that satisfies it. Pure.

Rules: argo-cd v3.6 `util/versions/tags.go` (`MaxVersion`), Masterminds/semver v3. An exact version is the name of
a tag, not a constraint. Never here: reading tags.
"""

from __future__ import annotations

from collections.abc import Iterable

from secretsops.templating.functions.versions import Version, compared, satisfies, version
from secretsops.templating.signature import CallFailed


def is_constraint(text: str) -> bool:
    """Say whether a revision asks for a range of versions: `^1.2`, `~1.2.3`, `>=1 <2`, `1.x`, `*`."""
    return _version(text) is None and _satisfies(text, Version((1, 0, 0), "", "", "1.0.0")) is not None


def newest(constraint: str, tags: Iterable[str]) -> str:
    """Give the tag with the highest version that satisfies the constraint, "" where none does."""
    best, highest = "", None
    for tag in sorted(tags):
        found = _version(tag)
        if found is None or not _satisfies(constraint, found):
            continue
        if highest is None or compared(found, highest) > 0:
            best, highest = tag, found
    return best


def _version(text: str) -> Version | None:
    try:
        return version(text.encode())
    except CallFailed:
        return None


def _satisfies(constraint: str, found: Version) -> bool | None:
    """Say whether a version satisfies a constraint, None where the text is none."""
    try:
        return satisfies(constraint.encode(), found)
    except CallFailed:
        return None
