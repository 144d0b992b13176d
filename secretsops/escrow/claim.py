"""Claims: which incarnation of a cluster may act. A rebuild claims, the cluster it replaces becomes fenced. Pure.

A claim is one small signed file with a number; the next one names the digest of the one before, so that each number
exists once. Never here: writing them, what a fenced cluster leaves undone (`controllers.escrow`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from secretsops.errors import BrokenEscrow
from secretsops.escrow import canonical
from secretsops.escrow.signing import Signer, signed, signed_by
from secretsops.escrow.trust import Role, Trust

PREFIX = "claim-"
_NAME = re.compile(r"claim-(\d{8})\.json")
LIMIT = 10_000
"""Claims of one cluster: a rebuild a day for 27 years."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim. `incarnation` is the UID of the new cluster's kube-system."""

    cluster: str
    number: int
    previous: str
    incarnation: str
    claimed: str
    signatures: Sequence[Mapping[str, str]] = ()

    @property
    def name(self) -> str:
        """Give the file name."""
        return f"{PREFIX}{self.number:08d}.json"

    def body(self) -> dict[str, Any]:
        """Give the document."""
        signatures = [dict(each) for each in self.signatures]
        return {
            "apiVersion": "secretsops.dev/v1",
            "kind": "EscrowClaim",
            **asdict(self),
            "signatures": signatures,
        }

    def text(self) -> bytes:
        """Give the file's bytes."""
        return canonical.encode(self.body())

    def signed_with(self, signers: Sequence[Signer]) -> Claim:
        """Give the claim with these signatures."""
        return replace(self, signatures=signed(self.body(), signers)["signatures"]) if signers else self


def claim_names(names: Sequence[str]) -> list[str]:
    """Give the names of claims among file names, oldest first."""
    return sorted(name for name in names if _NAME.fullmatch(name))


def read_claims(files: Mapping[str, bytes], trust: Trust | None) -> list[Claim]:
    """Give the claims that hold, oldest first: whole, and the newest signed by who may claim.

    Without a trust root nobody's word is worth more than another's: claims then hold unsigned.

    Raises:
        BrokenEscrow: one is unreadable, missing or changed, or the newest is not signed by a signer of claims.
    """
    found: list[Claim] = []
    names = claim_names(list(files))
    if len(names) > LIMIT:
        raise BrokenEscrow(f"there are more than {LIMIT} claims", reason="TooLarge")
    for number, name in enumerate(names, start=1):
        claim = _claim(name, files[name])
        before = canonical.digest(files[names[number - 2]]) if found else ""
        if (claim.number, claim.name, claim.previous) != (number, name, before):
            raise BrokenEscrow(f"claim {number} is missing or was changed", reason="ClaimFork")
        found.append(claim)
    if found and trust is not None and not trust.allows(signed_by(found[-1].body()), Role.CLAIMS):
        raise BrokenEscrow(
            f"{found[-1].name} is not signed by a signer of claims",
            reason="ClaimUntrusted",
            hint="claim with a signer that has the role: secretsops escrow trust add NAME --role claims --key …",
        )
    return found


def _claim(name: str, content: bytes) -> Claim:
    body = canonical.decode(content)
    try:
        fields = {key: value for key, value in (body or {}).items() if key not in ("apiVersion", "kind")}
        claim = Claim(**fields)
        texts = [claim.cluster, claim.previous, claim.incarnation, claim.claimed]
        sound = type(claim.number) is int and all(isinstance(each, str) for each in texts) and claim.text() == content
    except (TypeError, AttributeError, ValueError):
        sound = False
    if not sound:
        raise BrokenEscrow(f"{name} is no claim", reason="Unreadable")
    return claim
