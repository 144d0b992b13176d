"""Runs generators: reads the one that is named, makes the values, with the credentials of whoever asks.

What never lives here: what a recipe means (`secretsops.external.generators`), a vendor's client.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from secretsops.errors import InvalidManifest, NotFound
from secretsops.external.entries import GENERATORS, GeneratorRef
from secretsops.external.generators import (
    CLUSTER_GENERATOR,
    Chance,
    Generator,
    identifier,
    kind_of,
    listed,
    passwords,
    read_generator,
)
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.secret import Plaintext

Lookup = Callable[[GroupVersionKind, str, str], Manifest]
"""Reads one object: kind, name, namespace; raises `NotFound`."""


class Generators:
    """Runs generators for ExternalSecrets and PushSecrets. Safe for several threads."""

    def __init__(self, lookup: Lookup, *, chance: Chance = os.urandom) -> None:
        self._lookup = lookup
        self._chance = chance

    def find(self, ref: GeneratorRef, namespace: str) -> Generator:
        """Give the generator a reference of a namespace names.

        Raises:
            InvalidManifest: there is none, or it is none that can be run.
        """
        kind = kind_of(ref)
        try:
            manifest = self._lookup(kind, ref.name, "" if ref.kind == CLUSTER_GENERATOR else namespace)
        except NotFound:
            # Compat: the peer's words.
            raise InvalidManifest(
                f'unable to get generator: {ref.kind}.{GENERATORS} "{ref.name}" not found',
                reason="GeneratorMissing",
                hint="create it, or correct the reference",
            ) from None
        return read_generator(manifest, namespace)

    def __call__(self, ref: GeneratorRef, namespace: str) -> Mapping[str, Plaintext]:
        """Make new values; raises what `find` raises, and what the generator's provider says."""
        generator = self.find(ref, namespace)
        match generator.kind:
            case "Fake":
                return listed(generator)
            case "Password":
                return passwords(generator, self._chance)
            case "SSHKey":
                return ssh_keys(generator)
            case "UUID":
                return identifier(self._chance)
        raise InvalidManifest(f"generators of kind {generator.kind!r} are not supported", reason="Unsupported")


def ssh_keys(generator: Generator) -> dict[str, Plaintext]:
    """Give a new pair of SSH keys, under `privateKey` (OpenSSH's PEM) and `publicKey` (a line of authorized_keys).

    Compat: the comment stands in the public key alone; the peer writes it into the private key as well.

    Raises:
        InvalidManifest: no such keys are made.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    spec = generator.spec
    kind, size = str(spec.get("keyType") or "rsa"), spec.get("keySize")
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    match kind:
        case "ed25519":
            key = ed25519.Ed25519PrivateKey.generate()
        case "ecdsa":
            curves: Mapping[object, type[ec.EllipticCurve]] = {384: ec.SECP384R1, 521: ec.SECP521R1}
            # Compat: any other size makes a key of 256 bits.
            key = ec.generate_private_key(curves.get(size, ec.SECP256R1)())
        case "rsa":
            bits = size if isinstance(size, int) else 2048
            if not 1024 <= bits <= 8192:
                raise InvalidManifest(
                    f"an RSA key of {bits} bits is not made", reason="InvalidSpec", hint="choose 2048 to 8192"
                )
            key = rsa.generate_private_key(65537, bits)
        case _:
            raise InvalidManifest(
                f"unsupported key type: {kind[:40]}", reason="InvalidSpec", hint="use rsa, ecdsa or ed25519"
            )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    comment = " ".join(str(spec.get("comment") or "").split("\n"))
    line = public + (b" " + comment.encode() if comment else b"") + b"\n"
    return {"privateKey": Plaintext(private), "publicKey": Plaintext(line)}
