"""age encryption by `pyrage`: to X25519, SSH and plugin recipients or a passphrase, opened by stock `age`.

Never here: what is encrypted, where it goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from secretsops.errors import BrokenEscrow, MissingExtra, UsageError
from secretsops.secret import Plaintext

_PLUGIN_RECIPIENT = re.compile(r"age1([a-z0-9+._-]{1,40})1[a-z0-9]{6,2000}")
_PLUGIN_IDENTITY = re.compile(r"AGE-PLUGIN-([A-Z0-9+._-]{1,40})-1[A-Z0-9]{6,2000}")
"""As age names them (age-encryption.org, `age-plugin`): Bech32 with the plugin's name in its human part."""


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

    def encrypt_with_passphrase(self, content: Plaintext, passphrase: Plaintext) -> bytes:
        """Encrypt to a passphrase alone (scrypt); raises `UsageError` for an empty one."""
        library = _library()
        text = _phrase(passphrase)
        try:
            return bytes(library.passphrase.encrypt(content.reveal(), text))
        except library.EncryptError:
            raise BrokenEscrow("age could not encrypt", reason="EncryptFailed") from None

    def decrypt_with_passphrase(self, content: bytes, passphrase: Plaintext) -> Plaintext:
        """Decrypt what a passphrase encrypted; raises `BrokenEscrow` when it does not open it."""
        library = _library()
        try:
            return Plaintext(bytes(library.passphrase.decrypt(content, _phrase(passphrase))))
        except library.DecryptError:
            raise BrokenEscrow("the passphrase does not open the bundle", reason="WrongIdentity") from None

    def generate(self) -> tuple[Plaintext, str]:
        """Give a new X25519 identity and its recipient."""
        identity = _library().x25519.Identity.generate()
        return Plaintext(str(identity).encode()), str(identity.to_public())


def _library() -> Any:
    try:
        import pyrage
        import pyrage.passphrase
        import pyrage.plugin
        import pyrage.ssh
        import pyrage.x25519
    except ImportError:
        raise MissingExtra("age", needed_for="escrow") from None
    return pyrage


def _phrase(passphrase: Plaintext) -> str:
    try:
        text = passphrase.reveal().decode()
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise UsageError("the passphrase is empty or no text", reason="BadPassphrase")
    return text


def _recipient(library: Any, text: str) -> Any:
    """Read a recipient: `ssh-…`, `age1…` of X25519, or `age1NAME1…` of the plugin `age-plugin-NAME`."""
    word = text.strip()
    plugin = _PLUGIN_RECIPIENT.fullmatch(word)
    kind = library.ssh if word.startswith("ssh-") else library.x25519
    try:
        if plugin is not None:
            return library.plugin.RecipientPluginV1(
                plugin[1], [library.plugin.Recipient.from_str(word)], [], _NoQuestions()
            )
        return kind.Recipient.from_str(word)
    except (library.RecipientError, library.EncryptError):
        raise UsageError(
            f"{text[:80]!r} is no age recipient",
            reason="BadRecipient",
            hint=f"age-plugin-{plugin[1]} must be on PATH" if plugin else "as printed by age-keygen: age1…",
        ) from None


def _identities(library: Any, file: Plaintext) -> Iterator[Any]:
    """Read an identity file: one identity a line, comments with #; or one SSH private key."""
    text = file.reveal()
    try:
        if text.lstrip().startswith(b"-----BEGIN"):
            yield library.ssh.Identity.from_buffer(text)
            return
        for line in text.decode("ascii").splitlines():
            word = line.strip()
            if not word or word.startswith("#"):
                continue
            plugin = _PLUGIN_IDENTITY.fullmatch(word)
            if plugin is not None:
                identity = library.plugin.Identity.from_str(word)
                yield library.plugin.IdentityPluginV1(plugin[1].lower(), [identity], _NoQuestions())
            else:
                yield library.x25519.Identity.from_str(word)
    except (library.IdentityError, library.DecryptError, UnicodeDecodeError):
        raise BrokenEscrow(
            "the identity file holds a line that is no identity",
            reason="BadIdentity",
            hint="AGE-SECRET-KEY-1…, or AGE-PLUGIN-… with its plugin on PATH",
        ) from None


class _NoQuestions:
    """Answers a plugin's questions: there is nobody to ask, so what needs a PIN or a touch asks on its own device."""

    def display_message(self, _message: str) -> None:
        """Show nothing."""

    def confirm(self, _message: str, _yes: str, _no: str | None) -> bool | None:
        """Confirm nothing."""
        return None

    def request_public_string(self, _description: str) -> str | None:
        """Give nothing."""
        return None

    def request_passphrase(self, _description: str) -> str | None:
        """Give nothing."""
        return None
