"""The sealing keys of this cluster: load them, mint the first and the next, publish the certificate.

Key Secrets are read from the controller's own namespace by upstream's label, whoever made them: this controller,
the upstream one, a person, or a restore. One that is broken is left out and reported; it stops nothing.

What never lives here: opening SealedSecrets, key formats (`secretsops.sealing.keys`).
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from secretsops.errors import InvalidManifest, UsageError
from secretsops.logs import fields
from secretsops.manifest import Manifest
from secretsops.ports import Clock, Cluster
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
RENEW_EVERY = 30 * 24 * 3600.0
"""Seconds (upstream's default)."""


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
    renew_every: float = RENEW_EVERY
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


def policy(namespace: str, options: Mapping[str, Any]) -> KeyPolicy:
    """Give the policy that the command line's options ask for.

    Raises:
        UsageError: a key smaller than 2048 bits, or a certificate that ends before it is replaced.
    """
    bits, ttl = int(options.get("key_size") or DEFAULT_BITS), options.get("key_ttl")
    renew = options.get("key_renew_period")
    found = KeyPolicy(
        namespace=namespace,
        prefix=str(options.get("key_prefix") or KEY_PREFIX),
        bits=bits,
        ttl=DEFAULT_TTL if ttl is None else dt.timedelta(seconds=float(ttl)),
        renew_every=RENEW_EVERY if renew is None else float(renew),
        common_name=str(options.get("my_cn") or ""),
    )
    if bits < 2048:
        raise UsageError(
            f"--key-size {bits} is no safe size", reason="Usage", hint="2048 at least; 4096 is the default"
        )
    if found.renew_every > found.ttl.total_seconds():
        raise UsageError(
            "--key-renew-period is longer than --key-ttl: clients would meet an expired certificate",
            reason="Usage",
            hint="renew more often, or let certificates live longer",
        )
    return found


LOOK = 0.5
RENEWAL_LOOK = 60.0
"""Seconds between two looks whether a key is due: without any key, and with one."""


def tick(cluster: Cluster, keys: Keys, clock: Clock) -> Callable[[], float]:
    """Give what the leader does now and then, once key Secrets were listed: mint what is due, publish what is new.

    The time for which an empty list has to stay empty starts with its first call, and anew while there are keys.
    """
    state: dict[str, Any] = {"since": None, "published": ""}

    def act() -> float:
        now = clock.now()
        if state["since"] is None or len(keys.ring):
            state["since"] = clock.monotonic()
        reason = mint_reason(keys, now=now, empty_for=clock.monotonic() - state["since"])
        if reason:
            mint(cluster, keys, reason=reason, now=now)
        key = keys.ring.sealing_key(now)
        if key is not None and key.fingerprint != state["published"]:
            publish(cluster, keys, now=now)
            state["published"] = key.fingerprint
        return RENEWAL_LOOK if key else LOOK

    return act
