"""PEM blocks as Go's encoding/pem reads them, and keys by the names of their blocks.

What never lives here: certificates' making, key stores.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from secretsops.templating.signature import CallFailed

BLOCK_LIMIT = 200
"""Blocks of one text: a CA bundle has about 150."""
_HEADER = re.compile(rb"(?:[^\n:]+:[^\n]*\r?\n)+\r?\n")


@dataclass(frozen=True, slots=True)
class Block:
    """One block: its type and what its base64 says."""

    kind: str
    data: bytes

    def encoded(self) -> bytes:
        """Give the block as Go writes it: lines of 64 characters."""
        text = base64.b64encode(self.data)
        lines = b"".join(text[at : at + 64] + b"\n" for at in range(0, len(text), 64))
        name = self.kind.encode("utf-8", "surrogateescape")
        return b"-----BEGIN " + name + b"-----\n" + lines + b"-----END " + name + b"-----\n"


def blocks(text: bytes) -> Iterator[tuple[Block, bytes]]:
    """Give each block and what follows it; text between blocks is passed over."""
    at, count = 0, 0
    while count < BLOCK_LIMIT and (begin := text.find(b"-----BEGIN ", at)) >= 0:
        at = begin + 11
        if begin and text[begin - 1 : begin] != b"\n":
            continue
        line = text.find(b"\n", at)
        name, dashes, _ = text[at : line if line >= 0 else at].rpartition(b"-----")
        end = text.find(b"-----END " + name + b"-----", line) if dashes else -1
        if end < 0:
            continue
        data = _decoded(text[line + 1 : end])
        after = end + len(name) + 14
        if data is None:
            continue
        at, count = after, count + 1
        rest = text[after:]
        yield (
            Block(name.decode("utf-8", "surrogateescape"), data),
            rest.lstrip(b" \t").removeprefix(b"\r").removeprefix(b"\n"),
        )


def _decoded(body: bytes) -> bytes | None:
    header = _HEADER.match(body)
    packed = body[header.end() if header else 0 :].translate(None, b" \t\r\n")
    try:
        return base64.b64decode(packed, validate=True)
    except binascii.Error:
        return None


def first(text: bytes) -> Block | None:
    """Give the first block, None where there is none."""
    return next((block for block, _ in blocks(text)), None)


def private_key(block: Block) -> Any:
    """Give the private key a block holds, by its type: PKCS#8, PKCS#1, SEC 1."""
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    if not block.kind.endswith("PRIVATE KEY"):
        raise CallFailed("no private key data in the PEM block")
    try:
        return load_der_private_key(block.data, None)
    except Exception:  # noqa: BLE001 - whatever the library says may quote the key
        raise CallFailed("the PEM block holds no private key that can be read") from None


def pkcs8(key: Any) -> bytes:
    """Give a private key as the PEM of PKCS#8."""
    from cryptography.hazmat.primitives import serialization as form

    der = key.private_bytes(form.Encoding.DER, form.PrivateFormat.PKCS8, form.NoEncryption())
    return Block("PRIVATE KEY", der).encoded()


def traditional(key: Any) -> bytes:
    """Give a private key as sprig does: PKCS#1 for RSA, SEC 1 for ECDSA, OpenSSL's for DSA, else PKCS#8."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

    for made, name in ((rsa.RSAPrivateKey, "RSA "), (ec.EllipticCurvePrivateKey, "EC "), (dsa.DSAPrivateKey, "DSA ")):
        if isinstance(key, made):
            der = key.private_bytes(form.Encoding.DER, form.PrivateFormat.TraditionalOpenSSL, form.NoEncryption())
            return Block(f"{name}PRIVATE KEY", der).encoded()
    return pkcs8(key)
