"""What is known of sealed items: which key opens each, and whether that key comes back from escrow.

Three ways, from weak to strong: an annotation says it (a hint), the running controller says it, a real identity opens
it. What the stronger ways found is kept as verdicts under a MAC (`verdicts.py`) and counts again. Pure: asking is done
by callables that are handed in. Never here: producers, printing; no value survives a look at it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from secretsops.errors import CannotUnseal, InvalidManifest
from secretsops.escrow.attestation import Statement, item_digest
from secretsops.escrow.index import State
from secretsops.manifest import Manifest
from secretsops.sealing import envelope
from secretsops.sealing.scope import Scope
from secretsops.sealing.sealed_with import SealedWith


class Mode(StrEnum):
    """How sealed items are judged."""

    ATTESTED = "attested"
    LIVE = "live"
    ESCROW = "escrow"


class Verdict(StrEnum):
    """Whether something comes back; unknown counts as a hole."""

    RECOVERABLE = "recoverable"
    HOLE = "hole"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Escrowed:
    """What the escrow holds: fingerprints of keys with their state, the newest epoch and when it was written.

    `unproven` says why nobody is known to hold an identity that opens it, "" where somebody is.
    """

    keys: Mapping[str, State] = field(default_factory=dict)
    epoch: int = 0
    created: str = ""
    sinks: Sequence[str] = ()
    recipients: Sequence[str] = ()
    unproven: str = ""
    notes: Sequence[str] = ()
    """What a person should know beside: places that lag, recipients whose proof has lapsed."""
    attested: Mapping[str, Statement] = field(default_factory=dict, repr=False)
    """What the controller said it opens, by `statement_id`; empty where nobody's word counts."""
    attested_at: str = ""
    """When it said so, and by which document."""


CURE_OF_NO_KEY = "let `seal --re-encrypt` write secretsops.dev/sealed-with, or verify --live or --escrow once"
CURE_OF_NO_CUSTODIAN = "ask the custodians: `secretsops escrow challenge`, their `answer`, and `answer --record`"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFound:
    """What was found out about one item: `key` "" where it is not known, `how` `hint`, `controller` or `opened`."""

    verdict: Verdict
    key: str
    why: str
    how: str = ""
    cure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedFound:
    """What was found out about one SealedSecret: the worst of its items."""

    verdict: Verdict
    keys: tuple[str, ...]
    why: str
    how: str
    items: int
    cure: str = ""


def statement_id(sealed: Manifest, item: str, text: str) -> str:
    """Name one item at one place: digest of place and ciphertext, so that a verdict counts for nothing else."""
    return item_digest(Scope.of(sealed.annotations).label(sealed.namespace, sealed.name), item, text)


Known = Callable[[str], str]
"""Give the fingerprint of the key that an item's statement says opened it, "" without such a statement."""
Opener = Callable[[Manifest], Mapping[str, str]]
"""Give the key of each item that opens (fingerprint, or "" where it is not told)."""


def judge_sealed(sealed: Manifest, escrowed: Escrowed, known: Known, opener: Opener | None = None) -> SealedFound:
    """Give the verdict of a SealedSecret. `opener` is asked only for items that no statement speaks of."""
    items = sealed.spec.get("encryptedData")
    if not isinstance(items, dict) or not items:
        if sealed.spec.get("data"):
            return _whole(Verdict.UNKNOWN, "it has the form before 2018, which only opening it can judge")
        return _whole(Verdict.RECOVERABLE, "it holds no items") if not items else _whole(Verdict.HOLE, "it is broken")
    hints = SealedWith.read(sealed.annotations)
    ids = {name: statement_id(sealed, name, text) for name, text in items.items() if isinstance(text, str)}
    attested = {
        name: escrowed.attested[identifier] for name, identifier in ids.items() if identifier in escrowed.attested
    }
    # Newer than whatever was kept here: what the controller opens no more is not vouched for by an earlier run.
    stated = {name: key for name, identifier in ids.items() if name not in attested and (key := known(identifier))}
    opened = opener(sealed) if opener is not None and len(stated) + len(attested) < len(items) else None
    found = {}
    for name in sorted(items):
        problem = _malformed(items[name])
        if problem:
            found[name] = ItemFound(verdict=Verdict.HOLE, key="", why=f"item {name} {problem}")
        elif name in stated:
            found[name] = _by_key(name, stated[name], escrowed, "statement")
        elif opened is not None:
            found[name] = _opened(name, opened, hints, escrowed)
        elif name in attested:
            found[name] = _attested(name, attested[name], escrowed)
        else:
            found[name] = _by_key(name, hints.key_of(name), escrowed, "hint")
    return _worst(found)


def _malformed(text: object) -> str:
    try:
        parts = envelope.parse(text)
    except (InvalidManifest, CannotUnseal):
        return "is no sealed item"
    return "" if 256 <= len(parts.wrapped) <= 2048 else "is cut short or no RSA envelope"


def _attested(name: str, told: Statement, escrowed: Escrowed) -> ItemFound:
    if not told.opened:
        why = f"item {name} does not open in the cluster, by its controller's word of {told.at}"
        return ItemFound(verdict=Verdict.HOLE, key="", why=why, how="attested")
    return _by_key(name, told.key, escrowed, "attested")


def _opened(name: str, opened: Mapping[str, str], hints: SealedWith, escrowed: Escrowed) -> ItemFound:
    if name not in opened:
        return ItemFound(
            verdict=Verdict.HOLE, key=hints.key_of(name), why=f"item {name} opens with no key", how="opened"
        )
    key = opened[name] or hints.key_of(name)
    how = "opened" if opened[name] else "controller"
    return _by_key(name, key, escrowed, how)


def _by_key(name: str, key: str, escrowed: Escrowed, how: str) -> ItemFound:
    if not key:
        why = f"nothing says which key sealed item {name}"
        return ItemFound(verdict=Verdict.UNKNOWN, key="", why=why, how=how, cure=CURE_OF_NO_KEY)
    state = escrowed.keys.get(key)
    if state is None:
        return ItemFound(verdict=Verdict.HOLE, key=key, why=f"item {name}: its key {key} is not in the escrow", how=how)
    if state not in (State.SEALING, State.OPEN_ONLY):
        why = f"item {name}: its key {key} is {state.value} in the escrow and opens nothing again"
        return ItemFound(verdict=Verdict.HOLE, key=key, why=why, how=how)
    if escrowed.unproven and how != "opened":
        return ItemFound(verdict=Verdict.UNKNOWN, key=key, why=escrowed.unproven, how=how, cure=CURE_OF_NO_CUSTODIAN)
    return ItemFound(verdict=Verdict.RECOVERABLE, key=key, why=f"key in epoch {escrowed.epoch} of the escrow", how=how)


def _whole(verdict: Verdict, why: str) -> SealedFound:
    return SealedFound(verdict=verdict, keys=(), why=why, how="", items=0)


_RANK = (Verdict.HOLE, Verdict.UNKNOWN, Verdict.RECOVERABLE)
_STRENGTH = ("hint", "controller", "statement", "attested", "opened")


def _worst(found: Mapping[str, ItemFound]) -> SealedFound:
    worst = min(found.values(), key=lambda item: _RANK.index(item.verdict))
    said = [item.how for item in found.values() if item.how]
    return SealedFound(
        verdict=worst.verdict,
        keys=tuple(dict.fromkeys(item.key for item in found.values() if item.key)),
        why=worst.why,
        how=min(said, key=_STRENGTH.index) if said else "",
        items=len(found),
        cure=worst.cure,
    )
