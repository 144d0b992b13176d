"""An identity that a key service wraps: the file of it is safe to keep anywhere, opening it needs the service. Pure.

The recipient is a plain age recipient, so bundles stay what they are; the service's own tools unwrap the identity too.
Never here: the services.
"""

from __future__ import annotations

import base64
import binascii

from secretsops.errors import BrokenEscrow
from secretsops.escrow import canonical
from secretsops.ports import Age, Wrapping
from secretsops.secret import Plaintext

KIND = "EscrowWrappedIdentity"


def make(age: Age, wrapping: Wrapping, url: str) -> tuple[str, bytes]:
    """Make an identity that nobody sees; gives its recipient and the file, once the service gave it back.

    Raises:
        BrokenEscrow: what the service unwraps is not what it wrapped.
    """
    identity, recipient = age.generate()
    sealed = wrapping.wrap(identity, recipient)
    if wrapping.unwrap(sealed, recipient) != identity:
        raise BrokenEscrow("the service gives back another identity than it wrapped", reason="NotDurable")
    body = {
        "apiVersion": "secretsops.dev/v1",
        "kind": KIND,
        "key": url,
        "recipient": recipient,
        "ciphertext": base64.b64encode(sealed).decode(),
    }
    return recipient, canonical.encode(body)


def is_wrapped(content: Plaintext) -> bool:
    """Say whether an identity file is a wrapped one."""
    return content.reveal().lstrip().startswith(b"{")


def read(content: Plaintext) -> tuple[str, str, bytes]:
    """Give key URL, recipient and ciphertext of a wrapped identity; raises `BrokenEscrow` for anything else."""
    body = canonical.decode(content.reveal()) or {}
    try:
        sealed = base64.b64decode(str(body.get("ciphertext")), validate=True)
    except (binascii.Error, ValueError):
        sealed = b""
    key, recipient = body.get("key"), body.get("recipient")
    if body.get("kind") != KIND or not isinstance(key, str) or not isinstance(recipient, str) or not sealed:
        raise BrokenEscrow("that is no wrapped identity", reason="Unreadable", hint="secretsops escrow wrap makes one")
    return key, recipient, sealed
