"""The custody ceremony: one recovery identity, split among custodians, every subset tried before it is accepted.

Never here: how words are made (`ports.Shares`), where they are shown (`custody_cli`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

from secretsops.errors import BrokenEscrow, UsageError
from secretsops.ports import Age, Shares
from secretsops.secret import Plaintext

SUBSETS = 20_000
"""Subsets tried at most: 16 shares have 12,870 of 8."""
_TRIAL = Plaintext(b"the custody ceremony: this opens with every subset of custodians\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceremony:
    """What comes out: the recipient for everybody, words for each custodian alone. `subsets` were tried."""

    recipient: str
    shares: Sequence[Plaintext]
    threshold: int
    subsets: int


def hold(age: Age, shares: Shares, *, threshold: int, count: int) -> Ceremony:
    """Make an identity, split it, and prove that every subset of `threshold` shares opens what the recipient seals.

    The identity itself is given to nobody: it exists again when enough custodians meet.

    Raises:
        UsageError: the numbers make no sense. BrokenEscrow: a subset does not open; nothing of it must be used.
    """
    if comb(max(count, 0), max(threshold, 0)) > SUBSETS:
        raise UsageError("there are too many subsets to try", reason="BadShares", hint="3 of 5 is common")
    identity, recipient = age.generate()
    made = shares.split(identity, threshold=threshold, count=count)
    sealed = age.encrypt(_TRIAL, [recipient])
    tried = 0
    for subset in combinations(made, threshold):
        if age.decrypt(sealed, [shares.combine(subset)]) != _TRIAL:
            raise BrokenEscrow("a subset of the shares does not open", reason="BadShares", hint="hold it again")
        tried += 1
    if threshold > 1:
        _refuse_too_easy(shares, made[: threshold - 1])
    return Ceremony(recipient=recipient, shares=made, threshold=threshold, subsets=tried)


def _refuse_too_easy(shares: Shares, few: Sequence[Plaintext]) -> None:
    try:
        shares.combine(few)
    except BrokenEscrow:
        return
    raise BrokenEscrow("fewer shares than asked for give an identity", reason="BadShares", hint="hold it again")
