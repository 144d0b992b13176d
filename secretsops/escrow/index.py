"""The index of an escrow: one entry per epoch, each naming its bundle and the entry before it. Pure.

An entry holds no secret and no digest of one: fingerprints are of public keys, the bundle's digest is of ciphertext.
Entries form a chain by digest: a missing, changed or doubled one is seen. Never here: reading or writing places.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from secretsops.errors import BrokenEscrow

PREFIX = "epoch-"
_NAME = re.compile(r"epoch-(\d{8})\.json")
SIZE_LIMIT = 4 * 1024 * 1024
"""Bytes of one entry; 1,000 keys take 200 kB."""


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
    """One epoch. `incarnation` is the UID of the cluster's kube-system, `previous` the digest of the entry before."""

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

    @property
    def name(self) -> str:
        """Give the file name."""
        return f"{PREFIX}{self.epoch:08d}.json"

    def text(self) -> bytes:
        """Give the file's bytes; equal entries give equal bytes."""
        body = {"apiVersion": "secretsops.dev/v1", "kind": "EscrowEntry", **asdict(self)}
        return json.dumps(body, indent=2, sort_keys=True).encode() + b"\n"


def digest(content: bytes) -> str:
    """Give the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


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
    before = ""
    for position, name in enumerate(entry_names(list(files)), start=1):
        entry = _read(name, files[name])
        if entry.epoch != position or entry.name != name:
            raise BrokenEscrow(f"epoch {position} is missing", reason="Gap", hint="restore the whole escrow folder")
        if entry.previous != before:
            raise BrokenEscrow(
                f"{name} does not follow the entry before it",
                reason="Fork",
                hint="two clusters wrote here, or a file was changed: find the copy whose chain is whole",
            )
        chain.append(entry)
        before = digest(files[name])
    return chain


def _read(name: str, content: bytes) -> Entry:
    entry = _entry(content) if len(content) <= SIZE_LIMIT else None
    if entry is None or not _is_sound(entry):
        raise BrokenEscrow(f"{name} is no entry of an escrow", reason="Unreadable")
    return entry


def _entry(content: bytes) -> Entry | None:
    try:
        body: dict[str, Any] = json.loads(content)
        body = {key: value for key, value in body.items() if key not in ("apiVersion", "kind")}
        keys = [KeyRecord(**{**record, "state": State(record["state"])}) for record in body.pop("keys")]
        return Entry(**body, keys=keys)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _is_sound(entry: Entry) -> bool:
    texts: list[object] = [entry.previous, entry.incarnation, entry.namespace, entry.created, entry.sha256]
    texts += [text for record in entry.keys for text in (record.name, record.fingerprint, record.born)]
    numbers: list[object] = [entry.epoch, entry.size]
    return (
        all(isinstance(text, str) for text in [*texts, *entry.recipients])
        and all(type(number) is int for number in numbers)
        and entry.bundle == bundle_name(entry.epoch, entry.sha256)
    )
