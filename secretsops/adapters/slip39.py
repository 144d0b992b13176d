"""SLIP-39 word lists by `shamir-mnemonic`: an age identity split among custodians.

The 32 bytes of an X25519 identity are the master secret; words carry a checksum, so a slip of the pen is seen. There is
no passphrase: who has enough shares needs nothing else. Never here: who gets which share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from secretsops.errors import BrokenEscrow, MissingExtra, UsageError
from secretsops.secret import Plaintext

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_HUMAN = "age-secret-key-"
SHARES = 16
"""Shares at most (SLIP-39)."""


class Slip39:
    """Satisfies `secretsops.ports.Shares`."""

    def split(self, identity: Plaintext, *, threshold: int, count: int) -> Sequence[Plaintext]:
        """Give `count` lists of 33 words, any `threshold` of which give the identity back.

        Raises:
            UsageError: the numbers make no sense, or it is no X25519 identity.
        """
        library = _library()
        if not 1 < threshold <= count <= SHARES:
            raise UsageError(
                f"{threshold} of {count} is no way to share",
                reason="BadShares",
                hint=f"at least 2 of at most {SHARES}; 3 of 5 is common",
            )
        words = library.generate_mnemonics(1, [(threshold, count)], _secret_of(identity), iteration_exponent=0)
        return [Plaintext(text.encode()) for text in words[0]]

    def combine(self, shares: Sequence[Plaintext]) -> Plaintext:
        """Give the identity of enough shares.

        Raises:
            BrokenEscrow: a share is damaged, they are of different ceremonies, or too few.
        """
        library = _library()
        try:
            texts = [" ".join(share.reveal().decode("ascii").lower().split()) for share in shares]
            secret = library.combine_mnemonics(texts)
        except (library.MnemonicError, UnicodeDecodeError, ValueError, IndexError):
            raise BrokenEscrow(
                f"these {len(shares)} share(s) do not make an identity",
                reason="BadShares",
                hint="too few, of two ceremonies, or a word is wrong: check each against its paper",
            ) from None
        return Plaintext(_identity_of(secret).encode())


def _library() -> Any:
    try:
        import shamir_mnemonic
    except ImportError:
        raise MissingExtra("age", needed_for="the custody ceremony") from None
    return shamir_mnemonic


def _secret_of(identity: Plaintext) -> bytes:
    """Give the 32 bytes of `AGE-SECRET-KEY-1…` (Bech32, BIP 173)."""
    text = identity.reveal().decode("ascii", "replace").strip().lower()
    human, _, data = text.rpartition("1")
    numbers = [_CHARSET.find(letter) for letter in data]
    if human != _HUMAN or min(numbers, default=-1) < 0 or _polymod([*_expanded(human), *numbers]) != 1:
        raise UsageError("only an X25519 identity can be split", reason="BadIdentity", hint="AGE-SECRET-KEY-1…")
    secret = bytes(_regrouped(numbers[:-6], 5, 8))
    if len(secret) != 32:
        raise UsageError("the identity has a wrong length", reason="BadIdentity")
    return secret


def _identity_of(secret: bytes) -> str:
    numbers = _regrouped([*secret], 8, 5, pad=True)
    check = _polymod([*_expanded(_HUMAN), *numbers, *[0] * 6]) ^ 1
    numbers += [(check >> 5 * (5 - position)) & 31 for position in range(6)]
    return f"{_HUMAN}1{''.join(_CHARSET[number] for number in numbers)}".upper()


def _expanded(human: str) -> list[int]:
    return [*(ord(letter) >> 5 for letter in human), 0, *(ord(letter) & 31 for letter in human)]


def _polymod(numbers: Sequence[int]) -> int:
    check = 1
    for number in numbers:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ number
        for position, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= term if (top >> position) & 1 else 0
    return check


def _regrouped(numbers: Sequence[int], have: int, want: int, *, pad: bool = False) -> list[int]:
    held = bits = 0
    found = []
    for number in numbers:
        held, bits = (held << have) | number, bits + have
        while bits >= want:
            bits -= want
            found.append((held >> bits) & ((1 << want) - 1))
    if pad and bits:
        found.append((held << (want - bits)) & ((1 << want) - 1))
    return found
