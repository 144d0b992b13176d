"""The sealing keys of this cluster: load them, mint the first and the next, publish the certificate.

Key Secrets are read from the controller's own namespace by upstream's label, whoever made them: this controller,
the upstream one, a person, or a restore. One that is broken is left out and reported; it stops nothing.

What never lives here: opening SealedSecrets, key formats (`secretsops.sealing.keys`).
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from secretsops.errors import InvalidManifest
from secretsops.logs import fields
from secretsops.manifest import Manifest
from secretsops.ports import Cluster
from secretsops.sealing.keys import (
    ACTIVE,
    DEFAULT_BITS,
    DEFAULT_TTL,
    KEY_LABEL,
    KEY_PREFIX,
    KeyPair,
    KeyRing,
    generate,
    is_key_secret,
    key_secret,
    read_key_secret,
)
from secretsops.sealing.sealed import SECRET

log = logging.getLogger(__name__)

SELECTOR = f"{KEY_LABEL}={ACTIVE}"
CERTIFICATE_CONFIG_MAP = "sealed-secrets-certificate"
"""Where clients read the certificate without a proxy (SECURITY.md §5)."""
FIELD_MANAGER = "secretsops-sealing"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPolicy:
    """How keys are made. `renew_every` and `settle` in seconds; `renew_every=0` never renews.

    `settle` is how long an empty list must stay empty before the first key is minted, so that a restore that races
    with the start is not followed by a key of our own.
    """

    namespace: str
    prefix: str = KEY_PREFIX
    bits: int = DEFAULT_BITS
    ttl: dt.timedelta = DEFAULT_TTL
    renew_every: float = 30 * 24 * 3600.0
    settle: float = 3.0
    common_name: str = ""


class Keys:
    """The key ring as this process knows it; replaced whole on every change, so readers never wait."""

    def __init__(self, policy: KeyPolicy) -> None:
        self.policy = policy
        self._lock = threading.Lock()
        self._ring = KeyRing()
        self._loaded: dict[tuple[str, str], KeyPair] = {}
        self._broken: dict[str, str] = {}

    @property
    def ring(self) -> KeyRing:
        """Give the present ring."""
        return self._ring

    @property
    def broken(self) -> dict[str, str]:
        """Give reason by key Secret (`namespace/name`) for those left out."""
        return dict(self._broken)

    def load(self, secrets: Iterable[Manifest]) -> bool:
        """Take over what the cluster holds now; says whether the set of usable keys changed."""
        loaded: dict[tuple[str, str], KeyPair] = {}
        broken: dict[str, str] = {}
        with self._lock:
            for secret in secrets:
                if not is_key_secret(secret.body):
                    continue
                place = (secret.uid, secret.resource_version)
                try:
                    loaded[place] = self._loaded.get(place) or read_key_secret(secret.body)
                except InvalidManifest as error:
                    name = f"{secret.namespace}/{secret.name}"
                    broken[name] = error.reason
                    if self._broken.get(name) != error.reason:
                        log.warning("a key Secret is left out", extra=fields(secret=name, reason=error.reason))
            before = {(key.fingerprint, key.state) for key in self._ring}
            self._loaded, self._broken, self._ring = loaded, broken, KeyRing(loaded.values())
            return before != {(key.fingerprint, key.state) for key in self._ring}


def mint_reason(keys: Keys, *, now: dt.datetime, empty_for: float) -> str:
    """Say why a key is due now (`FirstKey`, `Renewal`), or "" when none is. Pure.

    The first key is minted only where there is no key Secret at all: next to a broken one, or to keys that were
    set aside, a person has to decide.
    """
    ring, policy = keys.ring, keys.policy
    if not len(ring):
        return "FirstKey" if not keys.broken and empty_for >= policy.settle else ""
    newest = ring.sealing_key(now)
    if newest is None or not policy.renew_every:
        return ""
    return "Renewal" if (now - newest.certificate.not_before).total_seconds() >= policy.renew_every else ""


def mint(cluster: Cluster, keys: Keys, *, reason: str, now: dt.datetime) -> str:
    """Create the key Secret that is due, unless another look at the API server shows that it no longer is.

    Gives the new key's fingerprint, "" when nothing was due.
    """
    policy = keys.policy
    keys.load(cluster.list(SECRET, namespace=policy.namespace, label_selector=SELECTOR))
    if mint_reason(keys, now=now, empty_for=policy.settle) != reason:
        return ""
    pair = generate(now=now, bits=policy.bits, ttl=policy.ttl, common_name=policy.common_name)
    made = cluster.create(Manifest(key_secret(pair, namespace=policy.namespace, prefix=policy.prefix)))
    log.info("minted a sealing key", extra=fields(secret=made.name, fingerprint=pair.fingerprint, reason=reason))
    keys.load(cluster.list(SECRET, namespace=policy.namespace, label_selector=SELECTOR))
    return pair.fingerprint


def publish(cluster: Cluster, keys: Keys, *, now: dt.datetime) -> None:
    """Write the certificate to seal with into its ConfigMap, when there is one."""
    key = keys.ring.sealing_key(now)
    if key is None:
        return
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CERTIFICATE_CONFIG_MAP, "namespace": keys.policy.namespace},
        "data": {"tls.crt": key.certificate.pem.decode(), "fingerprint": key.fingerprint},
    }
    cluster.apply(Manifest(body), field_manager=FIELD_MANAGER, force=True)
