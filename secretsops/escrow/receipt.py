"""Receipts: that an epoch was read back from every sink, byte for byte. Signed, safe to commit. Pure.

A receipt of the whole epoch goes to the sinks; each key Secret carries a short one of its own, so that a controller
knows without any sink which of its keys may seal. Never here: reading sinks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from secretsops.escrow import canonical
from secretsops.escrow.signing import Signer, signed, signed_by

ANNOTATION = "secretsops.dev/escrowed"
"""On a key Secret: the receipt of this key. It says nothing on another cluster's Secret, nor for another key."""
_NAME = re.compile(r"receipt-\d{8}-[0-9a-f]{16}\.json")
OPENED = "opened-"
"""Begin of the name of a record that somebody with an identity opened an epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """What one sink gave back. `independent`: read with another credential than it was written with."""

    sink: str
    domain: str
    durable: bool
    independent: bool
    entry_version: str
    bundle_version: str
    retained_until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One epoch as read back. `entry` is the digest of the entry, `made` when (RFC 3339, UTC)."""

    cluster: str
    epoch: int
    entry: str
    made: str
    sinks: Sequence[Confirmed]
    signatures: Sequence[Mapping[str, str]] = ()

    @property
    def name(self) -> str:
        """Give the file name; it names its content, so a second proof of an epoch is in nobody's way."""
        return f"receipt-{self.epoch:08d}-{canonical.digest(self.text())[:16]}.json"

    def body(self) -> dict[str, Any]:
        """Give the document."""
        parts = {"sinks": [asdict(each) for each in self.sinks], "signatures": [dict(each) for each in self.signatures]}
        return {"apiVersion": "secretsops.dev/v1", "kind": "EscrowReceipt", **asdict(self), **parts}

    def text(self) -> bytes:
        """Give the file's bytes."""
        return canonical.encode(self.body())

    def signed_with(self, signers: Sequence[Signer]) -> Receipt:
        """Give the receipt with these signatures."""
        return replace(self, signatures=signed(self.body(), signers)["signatures"]) if signers else self

    @property
    def signed_by(self) -> frozenset[str]:
        """Give the keys whose signature is valid."""
        return signed_by(self.body())


def read_receipt(content: bytes) -> Receipt | None:
    """Give the receipt of a file, None when it is none."""
    body = canonical.decode(content)
    try:
        fields = {key: value for key, value in (body or {}).items() if key not in ("apiVersion", "kind")}
        fields["sinks"] = [Confirmed(**each) for each in fields["sinks"]]
        found = Receipt(**fields)
        return found if found.text() == content and type(found.epoch) is int else None
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def receipt_names(names: Sequence[str]) -> list[str]:
    """Give the names of receipts among file names, oldest epoch first."""
    return sorted(name for name in names if _NAME.fullmatch(name))


def opened_record(*, cluster: str, epoch: int, entry: str, made: str, signers: Sequence[Signer]) -> tuple[str, bytes]:
    """Give name and text of the record that an epoch was opened and every private key in it matched."""
    body = {
        "apiVersion": "secretsops.dev/v1",
        "kind": "EscrowOpened",
        "cluster": cluster,
        "epoch": epoch,
        "entry": entry,
        "made": made,
        "signatures": [],
    }
    text = canonical.encode(signed(body, signers))
    return f"{OPENED}{epoch:08d}-{canonical.digest(text)[:16]}.json", text


def opened_at(content: bytes, *, cluster: str, allowed: Callable[[frozenset[str]], bool]) -> str:
    """Give when an epoch of a cluster was opened (RFC 3339, UTC), "" unless somebody says so who is allowed to."""
    body = canonical.decode(content) or {}
    right = (body.get("kind"), body.get("cluster")) == ("EscrowOpened", cluster)
    made = body.get("made")
    return made if right and isinstance(made, str) and allowed(signed_by(body)) else ""


def of_key(
    *, cluster: str, incarnation: str, fingerprint: str, epoch: int, entry: str, signers: Sequence[Signer]
) -> str:
    """Give the text of the annotation that says that a key is in an epoch."""
    body = {
        "kind": "EscrowedKey",
        "cluster": cluster,
        "incarnation": incarnation,
        "fingerprint": fingerprint,
        "epoch": epoch,
        "entry": entry,
        "signatures": [],
    }
    return canonical.encode(signed(body, signers)).decode().strip()


def says_escrowed(text: str, *, cluster: str, incarnation: str, fingerprint: str, signer: str = "") -> bool:
    """Say whether an annotation holds for a key of a cluster; an empty `cluster` or `signer` is not asked for."""
    body = canonical.decode(text.encode() + b"\n") or {}
    said = tuple(body.get(name) for name in ("kind", "incarnation", "fingerprint"))
    right = said == ("EscrowedKey", incarnation, fingerprint) and cluster in ("", body.get("cluster"))
    return right and (not signer or signer in signed_by(body))
