"""Signatures of escrow documents: ed25519 (RFC 8032) over canonical JSON, several per document. Pure.

What is signed begins with the document's kind, so that a signature of one kind says nothing about another. Keys are
written `ed25519:` and the base64 of their 32 bytes. Never here: who may sign what (`trust.py`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from secretsops.errors import UsageError
from secretsops.escrow import canonical
from secretsops.secret import Plaintext

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ALGORITHM = "ed25519:"
SIGNATURE_LIMIT = 64
"""Signatures looked at in one document; a root has a handful of holders."""
_PREAMBLE = b"secretsops.dev/v1 signed document\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A private key that signs; prints its public half alone."""

    public: str
    _private: Ed25519PrivateKey = field(repr=False)

    def sign(self, body: Mapping[str, Any]) -> dict[str, str]:
        """Give the signature of a document, to stand under its `signatures`."""
        made = self._private.sign(_signed_part(body))
        return {"key": self.public, "signature": base64.b64encode(made).decode()}

    def sign_bytes(self, content: bytes) -> bytes:
        """Give the signature of bytes that begin with what they are (a DSSE envelope does), never of a bare document.

        Raises:
            ValueError: they begin as a document of this module does.
        """
        if content.startswith(_PREAMBLE):
            raise ValueError("a document is signed by `sign`")
        return self._private.sign(content)


def read_signer(pem: Plaintext) -> Signer:
    """Give the signer of a private key: PKCS#8 PEM or OpenSSH, unencrypted.

    Raises:
        UsageError: it is no ed25519 key (the library's text is not passed on).
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    text = pem.reveal()
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in text[:64] else load_pem_private_key
    try:
        private = load(text, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise UsageError(
            "the signing key is no unencrypted ed25519 key",
            reason="BadSigner",
            hint="make one: secretsops escrow trust key FILE, or ssh-keygen -t ed25519 -N ''",
        )
    return _signer(private)


def new_signer() -> tuple[Signer, Plaintext]:
    """Give a new signer and its private key as PKCS#8 PEM."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    return _signer(private), Plaintext(pem)


def _signer(private: Ed25519PrivateKey) -> Signer:
    return Signer(public=_text(private.public_key().public_bytes_raw()), _private=private)


def read_public(text: str) -> str:
    """Give the canonical text of a public key, from `ed25519:BASE64` or an OpenSSH line.

    Raises:
        UsageError: it is neither.
    """
    words = text.split()
    raw = b""
    try:
        if len(words) == 1 and words[0].startswith(ALGORITHM):
            raw = base64.b64decode(words[0].removeprefix(ALGORITHM), validate=True)
        elif len(words) >= 2 and words[0] == "ssh-ed25519":
            blob = base64.b64decode(words[1], validate=True)
            raw = blob[-32:] if len(blob) == 51 and blob.startswith(b"\0\0\0\x0bssh-ed25519\0\0\0 ") else b""
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise UsageError(
            f"{text[:80]!r} is no ed25519 public key",
            reason="BadPublicKey",
            hint="ed25519:BASE64, or ssh-ed25519 AAAA…",
        )
    return _text(raw)


def signed(body: Mapping[str, Any], signers: Iterable[Signer]) -> dict[str, Any]:
    """Give a document with signatures of all signers, those it had and new ones, in order of their keys."""
    found = {each["key"]: each for each in body.get("signatures") or []}
    found |= {signer.public: signer.sign(body) for signer in signers}
    return {**body, "signatures": [found[key] for key in sorted(found)]}


def signed_by(body: Mapping[str, Any]) -> frozenset[str]:
    """Give the keys whose signature of this document is valid; anything else in `signatures` counts for nothing."""
    signatures = body.get("signatures")
    if not isinstance(signatures, list):
        return frozenset()
    content = _signed_part(body)
    return frozenset(each["key"] for each in signatures[:SIGNATURE_LIMIT] if _is_valid(each, content))


def is_signature(public: str, made: bytes, content: bytes) -> bool:
    """Say whether a signature of bytes is of this key; a key that is not in its canonical text signs nothing."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        if read_public(public) != public:
            return False
        raw = base64.b64decode(public.removeprefix(ALGORITHM), validate=True)
        Ed25519PublicKey.from_public_bytes(raw).verify(made, content)
    except (UsageError, InvalidSignature, ValueError, TypeError, AttributeError):
        return False
    return True


def _is_valid(signature: Any, content: bytes) -> bool:
    try:
        return is_signature(signature["key"], base64.b64decode(signature["signature"], validate=True), content)
    except (ValueError, TypeError, KeyError):
        return False


def _signed_part(body: Mapping[str, Any]) -> bytes:
    kind = str(body.get("kind") or "")
    return _PREAMBLE + kind.encode() + b"\n" + canonical.encode({k: v for k, v in body.items() if k != "signatures"})


def _text(raw: bytes) -> str:
    return ALGORITHM + base64.b64encode(raw).decode()
