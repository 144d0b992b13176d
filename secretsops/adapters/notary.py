"""Keys that sign and never leave their service: AWS KMS (ECDSA P-256), or Vault's transit engine (ed25519).

    aws-kms:///KEY?region=…&endpoint=…     KEY is an id, an ARN or alias/NAME; credentials as the SDK finds them
    vault-transit+https://HOST/MOUNT/KEY    token from VAULT_TOKEN; the newest version of the key signs

The same services, by the same sessions, as identities are wrapped with (`wrapping.py`). Never here: what is signed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from functools import cached_property
from urllib.parse import urlsplit

from secretsops.adapters.wrapping import KmsWrapping, TransitWrapping
from secretsops.errors import UsageError, WorldFailed

RAW_LIMIT = 4096
"""Bytes that KMS takes as they are."""


def open_notary(url: str) -> KmsNotary | TransitNotary:
    """Open a key by URL, no request yet; raises `UsageError` for another scheme or an incomplete one."""
    scheme = urlsplit(url).scheme
    if scheme == "aws-kms":
        return KmsNotary(url)
    if scheme in ("vault-transit+https", "vault-transit+http"):
        return TransitNotary(url)
    raise UsageError(
        f"'{scheme}' is no key that signs",
        reason="BadSigner",
        hint="a file, aws-kms:///KEY, vault-transit+https://HOST/MOUNT/KEY",
    )


class KmsNotary(KmsWrapping):
    """One asymmetric key of AWS KMS (ECC_NIST_P256, SIGN_VERIFY). Satisfies `secretsops.ports.Notary`."""

    @cached_property
    def public(self) -> str:
        """Ask for the public key once (`GetPublicKey`); raises `UsageError` for a key of another kind."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        answer = self._ask(lambda: self._client.get_public_key(KeyId=self._key))
        der = bytes(answer.get("PublicKey") or b"")
        try:
            public = load_der_public_key(der)
        except (ValueError, UnsupportedAlgorithm):
            public = None
        right = isinstance(public, EllipticCurvePublicKey) and public.curve.name == "secp256r1"
        if not right or answer.get("KeyUsage", "SIGN_VERIFY") != "SIGN_VERIFY":
            raise UsageError(
                "the KMS key does not sign with ECDSA P-256", reason="BadSigner", hint="ECC_NIST_P256, SIGN_VERIFY"
            )
        return "ecdsa-p256:" + base64.b64encode(der).decode()

    def sign_bytes(self, content: bytes) -> bytes:
        """Sign by `Sign`; a message over 4,096 bytes cannot be sent as it is, its SHA-256 is."""
        raw = len(content) <= RAW_LIMIT
        message = content if raw else hashlib.sha256(content).digest()
        answer = self._ask(
            lambda: self._client.sign(
                KeyId=self._key,
                Message=message,
                MessageType="RAW" if raw else "DIGEST",
                SigningAlgorithm="ECDSA_SHA_256",
            )
        )
        return bytes(answer["Signature"])


class TransitNotary(TransitWrapping):
    """One ed25519 key of Vault's transit engine. Satisfies `secretsops.ports.Notary`."""

    @cached_property
    def public(self) -> str:
        """Ask for the public key of the newest version once; raises `UsageError` for a key of another kind."""
        data = self._ask("keys", None)
        versions = data.get("keys")
        newest = versions.get(str(data.get("latest_version"))) if isinstance(versions, dict) else None
        if data.get("type") != "ed25519" or data.get("derived") or not isinstance(newest, dict):
            raise UsageError("the transit key is no plain ed25519 key", reason="BadSigner", hint="type=ed25519")
        return f"ed25519:{newest.get('public_key')}"

    def sign_bytes(self, content: bytes) -> bytes:
        """Sign by `sign`."""
        data = self._ask("sign", {"input": base64.b64encode(content).decode()})
        try:
            kind, _, encoded = str(data.get("signature")).rpartition(":")
            made = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            kind, made = "", b""
        if not kind.startswith("vault:v") or len(made) != 64:
            raise WorldFailed("Vault's answer holds no ed25519 signature", reason="BadAnswer")
        return made
