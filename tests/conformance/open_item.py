"""Adapter for the conformance replay tool: `replay.py sealed-open --callable open_item:open_item`."""

from __future__ import annotations

from secretsops.errors import CannotUnseal
from secretsops.sealing.envelope import parse, unwrap
from secretsops.sealing.keys import read_private_key


def open_item(ciphertext: str, keys: list[bytes], label: bytes) -> bytes:
    """Give the plaintext of one sealed item, or raise."""
    envelope = parse(ciphertext)
    for pem in keys:
        value = unwrap(envelope, label=label, private=read_private_key(pem))
        if value is not None:
            return value.reveal()
    raise CannotUnseal("no key could decrypt secret")
