"""The wire format of one sealed item, both ways. Pure: randomness and keys are arguments of the inner function.

    base64( u16be(length of RSA part) ‖ RSA-OAEP-SHA256(session key, label) ‖ AES-256-GCM(value) ‖ tag )

The GCM nonce is twelve zero bytes: a session key encrypts exactly one message, so the pair (key, nonce) never
repeats. This is `pkg/crypto/crypto.go` of sealed-secrets v0.38.4, recorded in `conformance/sealed-secrets/open`.

What never lives here: key files, scopes, Secrets; which key is tried first is `keys.KeyRing`'s.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secretsops.errors import CannotUnseal, InvalidManifest
from secretsops.secret import Plaintext

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

SESSION_KEY_BYTES = 32
ITEM_LIMIT = 4 * 1024 * 1024
"""Characters of one sealed item at most; etcd refuses objects over 1.5 MiB."""
_NONCE = bytes(12)
_PREFIX_BYTES = 2
_TAG_BYTES = 16
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One sealed item taken apart: the wrapped session key, and the encrypted value with its tag."""

    wrapped: bytes
    body: bytes


def seal(value: Plaintext, *, label: bytes, public: RSAPublicKey) -> str:
    """Give `value` sealed under a fresh session key, as it stands in `spec.encryptedData`."""
    return seal_with(value, label=label, public=public, session_key=os.urandom(SESSION_KEY_BYTES))


def seal_with(value: Plaintext, *, label: bytes, public: RSAPublicKey, session_key: bytes) -> str:
    """Give `value` sealed under `session_key`, which must never be used twice (the nonce is constant)."""
    wrapped = public.encrypt(session_key, _oaep(label))
    body = AESGCM(session_key).encrypt(_NONCE, value.reveal(), None)
    return compose(Envelope(wrapped=wrapped, body=body))


def compose(envelope: Envelope) -> str:
    """Give the text form."""
    raw = len(envelope.wrapped).to_bytes(_PREFIX_BYTES, "big") + envelope.wrapped + envelope.body
    return base64.b64encode(raw).decode("ascii")


def parse(text: object) -> Envelope:
    """Take an item apart.

    Line breaks are skipped anywhere, as Go's decoder does (`encoding/base64`); anything else that is not
    base64 is refused.

    Raises:
        InvalidManifest: not base64 (reason `InvalidBase64`).
        CannotUnseal: shorter than its own length prefix says.
    """
    if not isinstance(text, str):
        raise InvalidManifest("a sealed item is not text", reason="InvalidItem")
    if len(text) > ITEM_LIMIT:
        raise InvalidManifest(f"a sealed item is larger than {ITEM_LIMIT} characters", reason="TooLarge")
    try:
        raw = base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidManifest(
            f"illegal base64 data at input byte {_first_illegal(text)}",
            reason="InvalidBase64",
            hint="seal the value; plain text does not belong here",
        ) from None
    size = int.from_bytes(raw[:_PREFIX_BYTES], "big")
    if len(raw) < _PREFIX_BYTES + size + _TAG_BYTES:
        raise cannot_unseal()
    return Envelope(wrapped=raw[_PREFIX_BYTES : _PREFIX_BYTES + size], body=raw[_PREFIX_BYTES + size :])


def _first_illegal(text: str) -> int:
    """Give where base64 stops to be such, as Go's `base64.CorruptInputError` says it; the end where it is cut short."""
    for position, character in enumerate(text):
        if character not in _BASE64:
            return position
    padding = text.find("=")
    return padding if padding >= 0 else len(text)


def unwrap(envelope: Envelope, *, label: bytes, private: RSAPrivateKey) -> Plaintext | None:
    """Give the value, or None when this key and label do not open it; why is not told, on purpose.

    Compat: session keys of 16 and 24 bytes open too, and an RSA part whose leading zero bytes were dropped.
    """
    width = (private.key_size + 7) // 8
    if len(envelope.wrapped) > width:
        return None
    try:
        session_key = private.decrypt(envelope.wrapped.rjust(width, b"\0"), _oaep(label))
        return Plaintext(AESGCM(session_key).decrypt(_NONCE, envelope.body, None))
    except (ValueError, InvalidTag):
        return None


def cannot_unseal(*, tried: tuple[str, ...] = (), items: Sequence[str] = ()) -> CannotUnseal:
    """Give the one error of every failed opening: a wrong key, label or byte look the same; `items` names which."""
    names = f" ({', '.join(items)})" if items else ""
    return CannotUnseal(
        f"no key could decrypt secret{names}",
        tried=tried,
        hint="it was sealed for another cluster, namespace, name or scope, or its key is missing: seal it again",
    )


def _oaep(label: bytes) -> padding.OAEP:
    return padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=label)
