"""Attestations: which sealed items the running controller opens, and with which key, in its own signed words. Pure.

A document holds all that it knows at one moment, so that a newer one takes the place of every older one: what opens no
more is not attested by what was said before. It is bound to the cluster and its incarnation, counts while it is
younger than three days (the controller signs one a day, whether or not anything changed), and only where the trust
root gives its signer the role `evidence` (SECURITY.md §7). No value is in it, nor any digest of one: a statement names
an item by its place and ciphertext. Never here: reading sinks.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from secretsops.escrow import canonical
from secretsops.escrow.signing import Signer, signed, signed_by
from secretsops.escrow.trust import Role, Trust
from secretsops.manifest import Manifest
from secretsops.sealing.scope import Scope

PREFIX = "attested-"
KIND = "Attestations"
TIME = "%Y-%m-%dT%H:%M:%SZ"
MAX_AGE = dt.timedelta(days=3)
AHEAD = dt.timedelta(minutes=5)
"""By how much a signer's clock may be ahead of ours."""
STATEMENT_LIMIT = 12_000
"""Statements in one document, which ends at 4 MiB."""
_NAME = re.compile(r"attested-(\d{12})-[0-9a-f]{16}\.json")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One item: its digest, the label it is bound to, and the key that opened it ("" where none did), when."""

    digest: str
    label: str
    key: str
    opened: bool
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestations:
    """One document. `made` is when it was signed (RFC 3339, UTC), `serial` grows by one."""

    cluster: str
    incarnation: str
    serial: int
    made: str
    statements: Sequence[Statement] = field(repr=False)
    signatures: Sequence[Mapping[str, str]] = ()

    @property
    def name(self) -> str:
        """Give the file name: it sorts by serial and names its content."""
        return f"{PREFIX}{self.serial:012d}-{canonical.digest(self.text())[:16]}.json"

    def body(self) -> dict[str, Any]:
        """Give the document."""
        return {
            "apiVersion": "secretsops.dev/v1",
            "kind": KIND,
            "cluster": self.cluster,
            "incarnation": self.incarnation,
            "serial": self.serial,
            "made": self.made,
            "statements": [asdict(one) for one in self.statements],
            "signatures": [dict(one) for one in self.signatures],
        }

    def text(self) -> bytes:
        """Give the file's bytes."""
        return canonical.encode(self.body())

    def signed_with(self, signers: Sequence[Signer]) -> Attestations:
        """Give the document with these signatures."""
        return replace(self, signatures=signed(self.body(), signers)["signatures"])

    @property
    def signed_by(self) -> frozenset[str]:
        """Give the keys whose signature is valid."""
        return signed_by(self.body())


def item_digest(label: bytes, item: str, text: str) -> str:
    """Name one item at one place: digest of label, item and ciphertext, so that a statement counts for nothing else."""
    parts = (
        label,
        item.encode("utf-8", "surrogatepass"),
        hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(),
    )
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def statements_of(sealed: Manifest, keys: Mapping[str, str], at: dt.datetime) -> tuple[Statement, ...]:
    """Give a statement for each item of a SealedSecret; `keys` are the fingerprints of those that opened."""
    items = sealed.spec.get("encryptedData")
    if not isinstance(items, dict):
        return ()
    label = Scope.of(sealed.annotations).label(sealed.namespace, sealed.name)
    return tuple(
        Statement(
            digest=item_digest(label, name, text),
            label=label.decode("utf-8", "replace"),
            key=keys.get(name, ""),
            opened=bool(keys.get(name)),
            at=at.strftime(TIME),
        )
        for name, text in sorted(items.items())
        if isinstance(name, str) and isinstance(text, str)
    )


def serial_of(name: str) -> int:
    """Give the serial that a file name says, 0 for a name of something else."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else 0


def read_attestations(content: bytes) -> Attestations | None:
    """Give the document of a file, None when it is none."""
    body = canonical.decode(content)
    try:
        fields = {key: value for key, value in (body or {}).items() if key not in ("apiVersion", "kind")}
        fields["statements"] = [Statement(**one) for one in fields["statements"]]
        found = Attestations(**fields)
        whole = found.text() == content and type(found.serial) is int and all(map(_is_whole, found.statements))
        _time(found.made)
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
    return found if whole else None


def _is_whole(one: Statement) -> bool:
    texts = (one.digest, one.label, one.key, one.at)
    kinds = all(isinstance(text, str) for text in texts) and type(one.opened) is bool
    return kinds and _HEX.fullmatch(one.digest) is not None and bool(one.key) is one.opened


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What counts now: statements by digest, none where `problem` says why; `made` is when they were signed."""

    statements: Mapping[str, Statement] = field(default_factory=dict, repr=False)
    made: str = ""
    serial: int = 0
    problem: str = ""


def standing(
    contents: Iterable[bytes], *, cluster: str, incarnation: str, trust: Trust | None, now: dt.datetime
) -> Standing:
    """Give what the newest document says that counts; forged, stale, or of another cluster, it counts nothing.

    An empty `cluster` or `incarnation` is not asked for.
    """
    if trust is None:
        return Standing(problem="attestations count only against a trust root: give --trust from the custody card")
    found: list[Attestations] = []
    refused: set[str] = set()
    for content in contents:
        one = read_attestations(content)
        if one is None:
            refused.add("is no whole document")
        elif not trust.allows(one.signed_by, Role.EVIDENCE):
            refused.add("is signed by nobody who may sign evidence")
        elif cluster not in ("", one.cluster) or incarnation not in ("", one.incarnation):
            refused.add("is of another cluster, or of this one before it was rebuilt")
        elif _time(one.made) > now + AHEAD:
            refused.add("is dated in the future")
        else:
            found.append(one)
    said = f"an attestation {'; another '.join(sorted(refused))}" if refused else ""
    if not found:
        return Standing(problem=said)
    newest = max(found, key=lambda one: (one.serial, one.made))
    age = now - _time(newest.made)
    if age > MAX_AGE:
        return Standing(
            problem=f"the newest attestation is of {newest.made}, {age.days} days ago: it counts for nothing"
        )
    by_digest = {one.digest: one for one in newest.statements}
    return Standing(statements=by_digest, made=newest.made, serial=newest.serial, problem=said)


def _time(text: str) -> dt.datetime:
    return dt.datetime.strptime(text, TIME).replace(tzinfo=dt.UTC)
