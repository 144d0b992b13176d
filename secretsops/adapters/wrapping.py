"""An age identity wrapped by a key that never leaves its service: AWS KMS, or Vault's transit engine.

    aws-kms:///KEY?region=…&endpoint=…     KEY is an id, an ARN or alias/NAME; credentials as the SDK finds them
    vault-transit+https://HOST/MOUNT/KEY    token from VAULT_TOKEN

Both bind the recipient to the ciphertext: as encryption context, as associated data. Never here: what is wrapped.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from secretsops.adapters.http import Http
from secretsops.errors import BrokenEscrow, MissingExtra, UsageError, WorldFailed
from secretsops.secret import Plaintext
from secretsops.sources import Tls

CONTEXT = "secretsops.dev/recipient"


def open_wrapping(url: str) -> KmsWrapping | TransitWrapping:
    """Open a key by URL, no request yet; raises `UsageError` for another scheme or an incomplete one."""
    scheme = urlsplit(url).scheme
    if scheme == "aws-kms":
        return KmsWrapping(url)
    if scheme in ("vault-transit+https", "vault-transit+http"):
        return TransitWrapping(url)
    raise UsageError(
        f"'{scheme}' is no key that wraps",
        reason="BadWrapping",
        hint="aws-kms:///KEY, vault-transit+https://HOST/MOUNT/KEY",
    )


class KmsWrapping:
    """One symmetric key of AWS KMS. Satisfies `secretsops.ports.Wrapping`."""

    def __init__(self, url: str) -> None:
        """Prepare a client without a request."""
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError:
            raise MissingExtra("aws", needed_for="a key of AWS KMS") from None
        parts = urlsplit(url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self._key = parts.path.strip("/")
        if not self._key or parts.netloc or set(query) - {"region", "endpoint"}:
            raise UsageError("a KMS key is aws-kms:///KEY?region=…", reason="BadWrapping", hint="three slashes")
        config = Config(connect_timeout=5, read_timeout=15, retries={"mode": "standard", "total_max_attempts": 3})
        try:
            self._client = boto3.session.Session(region_name=query.get("region")).client(
                "kms", endpoint_url=query.get("endpoint"), config=config
            )
        except (BotoCoreError, ValueError) as error:
            raise UsageError(
                f"no client for KMS ({type(error).__name__})", reason="BadWrapping", hint="?region=…"
            ) from None

    def wrap(self, content: Plaintext, recipient: str) -> bytes:
        """Encrypt by `Encrypt`."""
        answer = self._ask(
            lambda: self._client.encrypt(
                KeyId=self._key, Plaintext=content.reveal(), EncryptionContext={CONTEXT: recipient}
            )
        )
        return bytes(answer["CiphertextBlob"])

    def unwrap(self, content: bytes, recipient: str) -> Plaintext:
        """Decrypt by `Decrypt`; raises `BrokenEscrow` when this key and recipient do not open it."""
        answer = self._ask(
            lambda: self._client.decrypt(
                KeyId=self._key, CiphertextBlob=content, EncryptionContext={CONTEXT: recipient}
            )
        )
        return Plaintext(bytes(answer["Plaintext"]))

    def _ask(self, act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return act()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code") or "Unknown")
        except (BotoCoreError, OSError) as error:
            code = type(error).__name__
        if code in ("InvalidCiphertextException", "IncorrectKeyException"):
            raise BrokenEscrow("KMS does not open this with that key and recipient", reason="WrongIdentity") from None
        reason = "Unreachable" if code.endswith("Error") else code
        raise WorldFailed(f"AWS KMS: {code}", reason=reason, hint="check key, region and rights") from None


class TransitWrapping:
    """One key of Vault's transit engine (aes256-gcm96 or another with associated data). Satisfies `ports.Wrapping`."""

    def __init__(self, url: str) -> None:
        """Prepare a client without a request."""
        parts = urlsplit(url)
        self._mount, _, self._key = parts.path.strip("/").rpartition("/")
        if not self._mount or not self._key:
            raise UsageError("a transit key is vault-transit+https://HOST/MOUNT/KEY", reason="BadWrapping")
        self._address = f"{parts.scheme.removeprefix('vault-transit+')}://{parts.netloc.rpartition('@')[2]}"
        self._http = Http(self._address, Tls(), extra="vault", what="the Vault server")

    def wrap(self, content: Plaintext, recipient: str) -> bytes:
        """Encrypt by `encrypt`."""
        body = {"plaintext": base64.b64encode(content.reveal()).decode(), "associated_data": _encoded(recipient)}
        return str(self._ask("encrypt", body).get("ciphertext") or "").encode()

    def unwrap(self, content: bytes, recipient: str) -> Plaintext:
        """Decrypt by `decrypt`; raises `BrokenEscrow` when this key and recipient do not open it."""
        body = {"ciphertext": content.decode("utf-8", "replace"), "associated_data": _encoded(recipient)}
        try:
            return Plaintext(base64.b64decode(str(self._ask("decrypt", body)["plaintext"]), validate=True))
        except (KeyError, binascii.Error, ValueError):
            raise BrokenEscrow("Vault's answer holds no plaintext", reason="WrongIdentity") from None

    def _ask(self, what: str, body: dict[str, str] | None) -> dict[str, Any]:
        headers = {"X-Vault-Request": "true", "X-Vault-Token": os.environ.get("VAULT_TOKEN", "")}
        url = f"{self._address}/v1/{quote(self._mount)}/{what}/{quote(self._key)}"
        method, content = ("GET", None) if body is None else ("POST", json.dumps(body).encode())
        answer = self._http.send(method, url, headers=headers, body=content)
        if answer.code == 400 and what == "decrypt":
            raise BrokenEscrow("Vault does not open this with that key and recipient", reason="WrongIdentity")
        try:
            found = json.loads(answer.body)["data"] if answer.code == 200 else None
        except (ValueError, KeyError, TypeError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise WorldFailed(
                f"Vault transit answered {answer.code}", reason="Denied", hint="check VAULT_TOKEN, mount and key"
            )
        return found


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
