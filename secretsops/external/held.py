"""What a provider's references come to: values, and service accounts that tokens can be made for. Pure.

What never lives here: how they are read, and from where.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from secretsops.external.references import AccountRef, KeyRef
from secretsops.secret import Plaintext
from secretsops.sources import Mint, Tls

TOKEN_SECONDS = 600
"""The life of a service account's token that is only used to log in (the peer's, and the least Kubernetes gives)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A service account: `token` makes one for audiences, living for so many seconds."""

    annotations: Mapping[str, str]
    token: Callable[[Sequence[str], int], Plaintext] = field(repr=False)

    def mint(self, audiences: Sequence[str], seconds: int = TOKEN_SECONDS) -> Mint:
        """Give what makes tokens for audiences."""
        return partial(self.token, tuple(audiences), seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The credentials of one store for one namespace."""

    values: Mapping[KeyRef, Plaintext] = field(default_factory=dict)
    secrets: Mapping[KeyRef, Mapping[str, Plaintext]] = field(default_factory=dict)
    """Whole Secrets, for references without a key."""
    accounts: Mapping[AccountRef, Account] = field(default_factory=dict)

    def value(self, ref: KeyRef | None) -> Plaintext | None:
        """Give a value; None for no reference."""
        return self.values[ref] if ref is not None else None

    def text(self, ref: KeyRef) -> str:
        """Give a value that is part of an address or a name, without white space around it."""
        return self.values[ref].reveal().decode("utf-8", "replace").strip()

    def tls(self, ca_pem: str, ca: KeyRef | None, certificate: KeyRef | None = None, key: KeyRef | None = None) -> Tls:
        """Give the TLS settings; a bundle in the store comes before one that it points at."""
        bundle = self.values[ca].reveal().decode("ascii", "replace") if ca is not None and not ca_pem else ""
        return Tls(ca_pem=ca_pem or bundle, certificate=self.value(certificate), key=self.value(key))
