"""Two states of the same SealedSecrets compared by items and fingerprints; values are compared, never given out. Pure.

What never lives here: printing, files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from secretsops.errors import SecretsOpsError
from secretsops.sealing.keys import KeyRing
from secretsops.sealing.sealed_file import Found
from secretsops.secret import Plaintext


class Change(StrEnum):
    """What happened to one item. `RESEALED` is only told to whoever holds a key that opens both."""

    SAME = "same"
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    RESEALED = "resealed"
    MOVED = "scope or place changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One item on both sides; `before` and `after` are fingerprints, "" where unknown."""

    object: str
    item: str
    change: Change
    before: str = ""
    after: str = ""

    @property
    def differs(self) -> bool:
        """Say whether the two sides differ here."""
        return self.change is not Change.SAME

    def record(self) -> dict[str, Any]:
        """Give the row for JSON."""
        return {
            "object": self.object,
            "item": self.item,
            "change": self.change.value,
            "before": self.before,
            "after": self.after,
        }

    def line(self) -> str:
        """Give the row for people."""
        sign = {Change.SAME: " ", Change.ADDED: "+", Change.REMOVED: "-"}.get(self.change, "~")
        keys = " -> ".join(dict.fromkeys(key or "unknown key" for key in (self.before, self.after)))
        if self.change in (Change.ADDED, Change.REMOVED):
            keys = self.after or self.before or "unknown key"
        return f"{sign} {self.object}  {self.item}  {self.change.value}  {keys}"


def compared(a: Sequence[Found], b: Sequence[Found], ring: KeyRing) -> list[Row]:
    """Give one row per item of either side, objects matched by namespace and name, a lone pair by being alone."""
    sides = [{_name(one): one for one in found} for found in (a, b)]
    if len(a) == len(b) == 1 and sides[0].keys() != sides[1].keys():
        names = [f"{_name(a[0])} -> {_name(b[0])}"]
        pairs: list[tuple[Found | None, Found | None]] = [(a[0], b[0])]
    else:
        names = sorted({*sides[0], *sides[1]})
        pairs = [(sides[0].get(name), sides[1].get(name)) for name in names]
    rows: list[Row] = []
    for name, (before, after) in zip(names, pairs, strict=True):
        items = sorted({*(before.items if before else ()), *(after.items if after else ())})
        rows += [_row(name, item, before, after, ring) for item in items]
    return rows


def _row(name: str, item: str, before: Found | None, after: Found | None, ring: KeyRing) -> Row:
    old = before.items.get(item) if before else None
    new = after.items.get(item) if after else None
    old_value, old_key = _opened(before, item, ring) if before and old is not None else (None, "")
    new_value, new_key = _opened(after, item, ring) if after and new is not None else (None, "")
    if old is None:
        change = Change.ADDED
    elif new is None:
        change = Change.REMOVED
    elif old == new:
        assert before is not None
        assert after is not None
        change = Change.SAME if before.label == after.label else Change.MOVED
    elif old_value is not None and new_value is not None and old_value == new_value:
        change = Change.RESEALED
    else:
        change = Change.CHANGED
    return Row(object=name, item=item, change=change, before=old_key, after=new_key)


def _opened(one: Found, item: str, ring: KeyRing) -> tuple[Plaintext | None, str]:
    """Give the value and the key that opens it; without keys the key that is said to."""
    hint = one.hint.key_of(item)
    if not len(ring):
        return None, hint
    try:
        return ring.open(one.items[item], label=one.label, first=[hint])
    except SecretsOpsError:
        return None, hint


def _name(one: Found) -> str:
    return f"{one.manifest.namespace}/{one.manifest.name}"
