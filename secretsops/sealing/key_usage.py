"""Which key sealed what: counted over files and clusters, and whether a key may go. Pure.

With the keys at hand every item is opened, so the answer is proven; without, the hint in the file is all there is, and
such an answer never lets a key go. What never lives here: clusters, files, changing a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from secretsops.errors import SecretsOpsError
from secretsops.sealing import envelope as wire
from secretsops.sealing.diagnosis import sealed_label
from secretsops.sealing.keys import KeyPair, KeyRing
from secretsops.sealing.sealed_file import Found


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One item and the key that sealed it, "" when that isn't known. `opens` says that it was proven by opening."""

    where: str
    object: str
    item: str
    key: str
    opens: bool


def uses(found: Iterable[tuple[str, Found]], ring: KeyRing) -> Iterator[Use]:
    """Give every item of the objects, each with the place it was found in."""
    for where, one in found:
        name = f"{one.manifest.namespace}/{one.manifest.name}"
        for item, text in one.items.items():
            hint = one.hint.key_of(item)
            key, opens = hint, False
            if len(ring):
                try:
                    _, key = ring.open(text, label=one.label, first=[hint])
                    opens = True
                except SecretsOpsError:
                    key = hint
            yield Use(where=where, object=name, item=item, key=key, opens=opens)


def needing(found: Iterable[tuple[str, Found]], key: KeyPair, others: KeyRing) -> Iterator[Use]:
    """Give every item that only `key` opens, and those it sealed for another place: moved back, they would open.

    An item that another key opens, or that this key did not seal, does not need it, whatever its hint says.
    """
    alone = KeyRing([key])
    for use in uses(found, KeyRing([*others, key])):
        if use.opens and use.key == key.fingerprint:
            yield use
    for where, one in found:
        name = f"{one.manifest.namespace}/{one.manifest.name}"
        for item, text in one.items.items():
            if not _opens(text, one, others) and not _opens(text, one, alone) and _sealed_by(text, key):
                yield Use(where=where, object=name, item=item, key=key.fingerprint, opens=False)


def _opens(text: object, one: Found, ring: KeyRing) -> bool:
    try:
        ring.open(text, label=one.label, first=one.hint.fingerprints)
    except SecretsOpsError:
        return False
    return True


def _sealed_by(text: object, key: KeyPair) -> bool:
    try:
        return sealed_label(wire.parse(text).wrapped, key.private) is not None
    except SecretsOpsError:
        return False


def counted(found: Iterable[Use]) -> Mapping[str, tuple[int, int, int]]:
    """Give (objects, items, items proven) by fingerprint, "" for unknown keys."""
    objects: dict[str, set[tuple[str, str]]] = {}
    items: dict[str, list[bool]] = {}
    for use in found:
        objects.setdefault(use.key, set()).add((use.where, use.object))
        items.setdefault(use.key, []).append(use.opens)
    return {key: (len(objects[key]), len(items[key]), sum(items[key])) for key in sorted(items)}
