"""age encryption by `pyrage`: to X25519 and SSH recipients, opened by stock `age`.

Never here: what is encrypted, where it goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from secretsops.errors import BrokenEscrow, MissingExtra, UsageError
from secretsops.secret import Plaintext


class AgeDoor:
    """Satisfies `secretsops.ports.Age`."""

    def encrypt(self, content: Plaintext, recipients: Sequence[str]) -> bytes:
        """Encrypt to every recipient; raises `UsageError` for a text that is none."""
        library = _library()
        if not recipients:
            raise UsageError("no recipient", reason="NoRecipient", hint="give --recipient age1…")
        try:
            return bytes(library.encrypt(content.reveal(), [_recipient(library, text) for text in recipients]))
        except library.EncryptError:
            raise BrokenEscrow("age could not encrypt", reason="EncryptFailed") from None

    def decrypt(self, content: bytes, identities: Sequence[Plaintext]) -> Plaintext:
        """Decrypt with the contents of identity files; raises `BrokenEscrow` when none of them opens it."""
        library = _library()
        keys = [key for text in identities for key in _identities(library, text)]
        if not keys:
            raise BrokenEscrow(
                "the identity file holds no identity", reason="NoIdentity", hint="a line AGE-SECRET-KEY-1…"
            )
        try:
            return Plaintext(bytes(library.decrypt(content, keys)))
        except library.DecryptError:
            raise BrokenEscrow(
                f"none of the {len(keys)} identities opens the bundle",
                reason="WrongIdentity",
                hint="it was made for the recipients its index names: ask their custodians",
            ) from None

    def generate(self) -> tuple[Plaintext, str]:
        """Give a new X25519 identity and its recipient."""
        identity = _library().x25519.Identity.generate()
        return Plaintext(str(identity).encode()), str(identity.to_public())


def _library() -> Any:
    try:
        import pyrage
        import pyrage.ssh
        import pyrage.x25519
    except ImportError:
        raise MissingExtra("age", needed_for="escrow") from None
    return pyrage


def _recipient(library: Any, text: str) -> Any:
    kind = library.ssh if text.startswith("ssh-") else library.x25519
    try:
        return kind.Recipient.from_str(text.strip())
    except library.RecipientError:
        raise UsageError(
            f"{text[:80]!r} is no age recipient", reason="BadRecipient", hint="as printed by age-keygen: age1…"
        ) from None


def _identities(library: Any, file: Plaintext) -> Iterator[Any]:
    """Read an identity file: one identity a line, comments with #; or one SSH private key."""
    text = file.reveal()
    try:
        if text.lstrip().startswith(b"-----BEGIN"):
            yield library.ssh.Identity.from_buffer(text)
            return
        for line in text.decode("ascii").splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                yield library.x25519.Identity.from_str(line.strip())
    except (library.IdentityError, UnicodeDecodeError):
        raise BrokenEscrow(
            "the identity file holds a line that is no identity", reason="BadIdentity", hint="AGE-SECRET-KEY-1…"
        ) from None
