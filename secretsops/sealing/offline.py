"""Private keys from files: what opens SealedSecrets without a cluster, for recovery, linting and sealing anew.

Files are PEM keys, or key Secrets as the cluster stores them, one or many, a List too. What never lives here:
clusters, what is done with the keys.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

from secretsops.errors import UsageError
from secretsops.files import read_input
from secretsops.sealing.keys import KeyRing, issue, read_key_pair, read_key_secret, read_private_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from secretsops.sealing.certificate import Certificate
    from secretsops.sealing.keys import KeyPair

_PEM = re.compile(rb"(?m)^-----BEGIN ")
WITHOUT_CERTIFICATE = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
"""NotBefore of the stand-in certificate of a bare PEM key: older than every real one, so it never seals."""


def key_ring(paths: Iterable[str]) -> KeyRing:
    """Give the keys of all files.

    Raises:
        InvalidManifest: a file holds no readable key; its content is never quoted.
    """
    return KeyRing(key for path in paths for key in keys_of(path))


def keys_of(path: str) -> list[KeyPair]:
    """Give the keys of one file."""
    from secretsops.manifest import load_all

    content = read_input(path)
    if _PEM.search(content):
        if b"-----BEGIN CERTIFICATE-----" in content:
            return [read_key_pair(content, content, source=path)]
        return [issue(read_private_key(content), now=WITHOUT_CERTIFICATE, ttl=dt.timedelta(days=1))]
    return [read_key_secret(manifest.body) for manifest in load_all(content, source=path)]


def newest_certificate(ring: KeyRing, now: dt.datetime) -> Certificate:
    """Give the certificate of the newest key that may seal.

    Raises:
        UsageError: the keys came without certificates, so nobody knows which is the newest.
    """
    key = ring.sealing_key(now)
    if key is None or key.certificate.not_before <= WITHOUT_CERTIFICATE:
        raise UsageError(
            "the private keys came without certificates: which is the newest?",
            reason="CertificateMissing",
            hint="add --cert FILE, or give the key Secrets (kubectl get secret -l "
            "sealedsecrets.bitnami.com/sealed-secrets-key -o yaml) instead of PEM keys",
        )
    return key.certificate
