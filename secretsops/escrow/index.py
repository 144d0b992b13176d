"""The index of an escrow: one entry per epoch, each naming its bundle and the entry before it. Pure.

An entry holds no secret and no digest of one: fingerprints are of public keys, the bundle's digest is of ciphertext.
Entries form a chain by digest: a missing, changed or doubled one is seen. The signature of the newest entry vouches for
all before it. Schema 1 (before signatures) is still read; what is written is schema 2, canonical JSON.

Never here: reading or writing places, who may sign (`trust.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from secretsops.errors import BrokenEscrow
from secretsops.escrow import canonical
from secretsops.escrow.canonical import SIZE_LIMIT, digest
from secretsops.escrow.signing import Signer, signed, signed_by

PREFIX = "epoch-"
_NAME = re.compile(r"epoch-(\d{8})\.json")
EPOCH_LIMIT = 100_000
"""Epochs of one chain; a key a day for 270 years."""
_NEW_IN_2 = ("cluster", "claim", "trust", "trust_version", "signatures", "schema")


class State(StrEnum):
    """What a key may be used for: only `sealing` and `open-only` keys ever open again."""

    SEALING = "sealing"
    OPEN_ONLY = "open-only"
    COMPROMISED = "compromised"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """One key: its Secret's name, its public fingerprint, since when its certificate counts, its state."""

    name: str
    fingerprint: str
    born: str
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One epoch. `incarnation` is the UID of the cluster's kube-system, `previous` the digest of the entry before.

    `cluster` names what stays when the cluster is rebuilt, `claim` is the number of the claim under which the
    incarnation wrote, `trust` the digest of the trust root it knew (both empty in unsigned escrows).
    """

    epoch: int
    previous: str
    incarnation: str
    namespace: str
    created: str
    bundle: str
    sha256: str
    size: int
    recipients: Sequence[str]
    keys: Sequence[KeyRecord]
    cluster: str = ""
    claim: int = 0
    trust: str = ""
    trust_version: int = 0
    signatures: Sequence[Mapping[str, str]] = ()
    schema: int = 2

    @property
    def name(self) -> str:
        """Give the file name."""
        return entry_name(self.epoch)

    def body(self) -> dict[str, Any]:
        """Give the document."""
        fields = {**asdict(self), "recipients": list(self.recipients)}
        fields["signatures"] = [dict(each) for each in self.signatures]
        fields = {key: value for key, value in fields.items() if key != "schema"}
        if self.schema == 1:
            fields = {key: value for key, value in fields.items() if key not in _NEW_IN_2}
        return {"apiVersion": f"secretsops.dev/v{self.schema}", "kind": "EscrowEntry", **fields}

    def text(self) -> bytes:
        """Give the file's bytes; equal entries give equal bytes."""
        if self.schema == 1:
            return json.dumps(self.body(), indent=2, sort_keys=True).encode() + b"\n"
        return canonical.encode(self.body())

    @property
    def digest(self) -> str:
        """Give the digest of the file, which the next entry names."""
        return digest(self.text())

    def signed_with(self, signers: Sequence[Signer]) -> Entry:
        """Give the entry with these signatures."""
        return replace(self, signatures=signed(self.body(), signers)["signatures"]) if signers else self

    @property
    def signed_by(self) -> frozenset[str]:
        """Give the keys whose signature is valid."""
        return signed_by(self.body()) if self.schema > 1 else frozenset()

    @property
    def usable(self) -> Sequence[KeyRecord]:
        """Give the keys that can have sealed something that is still to be opened."""
        return [key for key in self.keys if key.state in (State.SEALING, State.OPEN_ONLY)]


def entry_name(epoch: int) -> str:
    """Give the file name of an epoch's entry."""
    return f"{PREFIX}{epoch:08d}.json"


def bundle_name(epoch: int, sha256: str) -> str:
    """Give the file name of an epoch's bundle. It names its content: what a killed run left is in nobody's way."""
    return f"{PREFIX}{epoch:08d}-{sha256[:16]}.age"


def entry_names(names: Sequence[str]) -> list[str]:
    """Give the names of entries among file names, oldest first."""
    return sorted(name for name in names if _NAME.fullmatch(name))


def read_chain(files: Mapping[str, bytes]) -> list[Entry]:
    """Give the entries of an escrow, oldest first, each proven to follow the one before.

    Raises:
        BrokenEscrow: one is unreadable, missing, changed, or of another cluster's chain.
    """
    chain: list[Entry] = []
    names = entry_names(list(files))
    if len(names) > EPOCH_LIMIT:
        raise BrokenEscrow(f"there are more than {EPOCH_LIMIT} epochs", reason="TooLarge")
    for position, name in enumerate(names, start=1):
        entry = read_entry(name, files[name])
        if entry.epoch != position or entry.name != name:
            raise BrokenEscrow(f"epoch {position} is missing", reason="Gap", hint="restore the whole escrow folder")
        if entry.previous != (digest(files[names[position - 2]]) if chain else ""):
            raise BrokenEscrow(
                f"{name} does not follow the entry before it",
                reason="Fork",
                hint="two clusters wrote here, or a file was changed: find the copy whose chain is whole",
            )
        if chain:
            _refuse_turn(chain[-1], entry)
        chain.append(entry)
    return chain


def read_entry(name: str, content: bytes) -> Entry:
    """Give the entry of one file; raises `BrokenEscrow` for anything but the text that `Entry.text` gives."""
    entry = _entry(content) if len(content) <= SIZE_LIMIT else None
    if entry is None:
        raise BrokenEscrow(f"{name} is no entry of an escrow", reason="Unreadable")
    return entry


def _refuse_turn(before: Entry, entry: Entry) -> None:
    """Refuse an entry that takes back what the one before had: its cluster, claim, trust or being signed."""
    adopted = bool(entry.signatures) and not before.signatures
    if before.schema > 1 and entry.cluster != before.cluster and not adopted:
        raise BrokenEscrow(
            f"{entry.name} is of cluster {entry.cluster!r}, the one before of {before.cluster!r}",
            reason="OtherCluster",
            hint="give each cluster a folder, prefix or branch of its own",
        )
    fenced = entry.claim < before.claim or (entry.claim == before.claim > 0 and entry.incarnation != before.incarnation)
    if fenced:
        raise BrokenEscrow(f"{entry.name} was written by a fenced cluster", reason="Fenced")
    if (before.signatures and not entry.signatures) or entry.trust_version < before.trust_version:
        raise BrokenEscrow(f"{entry.name} falls back behind the trust of the entry before it", reason="TrustFork")


def _entry(content: bytes) -> Entry | None:
    try:
        loose: dict[str, Any] = json.loads(content)
        schema = {"secretsops.dev/v1": 1, "secretsops.dev/v2": 2}[loose["apiVersion"]]
        body = {key: value for key, value in loose.items() if key not in ("apiVersion", "kind", "schema")}
        keys = [KeyRecord(**{**record, "state": State(record["state"])}) for record in body.pop("keys")]
        signatures = tuple(body.pop("signatures", ()))
        entry = Entry(**body, keys=keys, signatures=signatures, schema=schema)
        return entry if _is_sound(entry) and entry.text() == content else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _is_sound(entry: Entry) -> bool:
    texts: list[object] = [entry.previous, entry.incarnation, entry.namespace, entry.created, entry.sha256]
    texts += [entry.cluster, entry.trust]
    texts += [text for record in entry.keys for text in (record.name, record.fingerprint, record.born)]
    texts += [text for each in entry.signatures for text in each.values()]
    numbers: list[object] = [entry.epoch, entry.size, entry.claim, entry.trust_version]
    return (
        all(isinstance(text, str) for text in [*texts, *entry.recipients])
        and all(type(number) is int and number >= 0 for number in numbers)
        and entry.bundle == bundle_name(entry.epoch, entry.sha256)
    )
