"""The sealing keys of this cluster: load them, mint the first and the next, publish the certificate.

Key Secrets are read from the controller's own namespace by upstream's label, whoever made them: this controller,
the upstream one, a person, or a restore. One that is broken is left out and reported; it stops nothing.

What never lives here: opening SealedSecrets, key formats (`secretsops.sealing.keys`).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from controllers.escrow import SUCCEEDS
from secretsops.errors import AlreadyExists, InvalidManifest, NotFound, Refused
from secretsops.escrow.bundle import PENDING
from secretsops.logs import fields
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Clock, Cluster
from secretsops.sealing.keys import (
    ACTIVE,
    DEFAULT_BITS,
    DEFAULT_TTL,
    KEY_LABEL,
    KEY_PREFIX,
    KeyOrder,
    KeyPair,
    KeyRing,
    KeyState,
    generate,
    is_key_secret,
    key_secret,
    read_key_secret,
)
from secretsops.sealing.sealed import SECRET

log = logging.getLogger(__name__)

SELECTOR = f"{KEY_LABEL}={ACTIVE}"
FRESH = 3600.0
"""Seconds for which a key is too young to be replaced because of a cut-off that lies ahead."""
ATTEMPTS = 8
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
CERTIFICATE_CONFIG_MAP = "sealed-secrets-certificate"
"""Where clients read the certificate without a proxy (SECURITY.md §5)."""
FIELD_MANAGER = "secretsops-sealing"
RENEW_EVERY = 30 * 24 * 3600.0
"""Seconds (upstream's default)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPolicy:
    """How keys are made. `renew_every` and `settle` in seconds; `renew_every=0` never renews.

    `settle` is how long an empty list must stay empty before the first key is minted, so that a restore that races
    with the start is not followed by a key of our own. Keys from before `cutoff` are replaced at start.
    """

    namespace: str
    prefix: str = KEY_PREFIX
    bits: int = DEFAULT_BITS
    ttl: dt.timedelta = DEFAULT_TTL
    renew_every: float = RENEW_EVERY
    settle: float = 3.0
    common_name: str = ""
    cutoff: dt.datetime | None = None
    order: KeyOrder = KeyOrder.CERTIFICATE
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


class Gate(Protocol):
    """What stands between a key and its use: its escrow (`controllers.escrow`)."""

    moved: bool
    """Whether key Secrets were changed since somebody set it to False."""

    @property
    def label(self) -> str:
        """Give the label value of a new key: `active`, or one that keeps it out of the ring for now."""

    def may_seal(self, secret: Manifest, pair: KeyPair) -> bool:
        """Say whether a key may seal; one that may not still opens."""

    def refusal(self, *, first: bool) -> str:
        """Say why no key may be minted now, "" when one may; `first`: the cluster has none yet."""

    def look(self) -> float:
        """Do what is due (only the leader); gives the seconds until the next look."""

    def hurry(self) -> None:
        """Have the next look do its work at once."""


class Keys:
    """The key ring as this process knows it; replaced whole on every change, so readers never wait."""

    def __init__(self, policy: KeyPolicy, gate: Gate | None = None) -> None:
        self.policy = policy
        self.gate = gate
        self.kept_back: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._ring = KeyRing(order=policy.order)
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
        kept_back: set[str] = set()
        with self._lock:
            for secret in secrets:
                if not is_key_secret(secret.body, legacy_name=self.policy.prefix):
                    continue
                place = (secret.uid, secret.resource_version)
                try:
                    loaded[place] = pair = self._loaded.get(place) or read_key_secret(secret.body)
                    if self.gate is not None and not self.gate.may_seal(secret, pair):
                        kept_back.add(pair.fingerprint)
                except InvalidManifest as error:
                    name = f"{secret.namespace}/{secret.name}"
                    broken[name] = error.reason
                    if self._broken.get(name) != error.reason:
                        log.warning("a key Secret is left out", extra=fields(secret=name, reason=error.reason))
            before = {(key.fingerprint, key.state) for key in self._ring}
            usable = (
                replace(pair, state=KeyState.OPEN_ONLY) if pair.fingerprint in kept_back else pair
                for pair in loaded.values()
            )
            ring = KeyRing(usable, order=self.policy.order)
            self.kept_back = frozenset(kept_back)
            self._loaded, self._broken, self._ring = loaded, broken, ring
            return before != {(key.fingerprint, key.state) for key in ring}

    def age(self, now: dt.datetime) -> float | None:
        """Give the seconds since the date of the newest key that seals; None when there is none."""
        key = self._ring.sealing_key(now)
        return None if key is None else (now - self._ring.dated(key)).total_seconds()


def mint_reason(keys: Keys, *, now: dt.datetime, empty_for: float, starting: bool = False) -> str:
    """Say why a key is due now (`FirstKey`, `Cutoff`, `Renewal`), or "" when none is. Pure.

    The first key is minted only where there is no key Secret at all: next to a broken one, or to keys that were
    set aside, a person has to decide. The cut-off counts at the start alone, as upstream has it; one that lies ahead
    replaces no key younger than an hour, so that a process that is started again and again does not mint each time.
    """
    ring, policy = keys.ring, keys.policy
    if not len(ring):
        return "FirstKey" if not keys.broken and empty_for >= policy.settle else ""
    age = keys.age(now)
    if age is None:
        return ""
    if starting and policy.cutoff is not None:
        newest = now - dt.timedelta(seconds=age)
        if newest < policy.cutoff and (policy.cutoff <= now or age > FRESH):
            return "Cutoff"
    return "Renewal" if policy.renew_every and age >= policy.renew_every else ""


def held(cluster: Cluster, policy: KeyPolicy) -> list[Manifest]:
    """Ask the API server for every key Secret: the labelled ones, and the one of the legacy name."""
    found = list(cluster.list(SECRET, namespace=policy.namespace, label_selector=SELECTOR))
    try:
        legacy = cluster.get(SECRET, policy.prefix, policy.namespace)
    except NotFound:
        return found
    return found if any(each.name == legacy.name for each in found) else [*found, legacy]


def mint(cluster: Cluster, keys: Keys, *, reason: str, now: dt.datetime) -> str:
    """Create the key Secret that is due, unless another look at the API server shows that it no longer is.

    Its name follows from the key it succeeds, so that of two processes which both believe they lead one is refused.
    Gives the new key's fingerprint, "" when nothing was due.
    """
    policy = keys.policy
    keys.load(held(cluster, policy))
    before = keys.ring.sealing_key(now)
    due = mint_reason(keys, now=now, empty_for=policy.settle, starting=reason == "Cutoff")
    if reason not in ("Asked", due):
        return ""
    label, succeeds = (keys.gate.label if keys.gate is not None else ACTIVE), before.fingerprint if before else ""
    pair = generate(now=now, bits=policy.bits, ttl=policy.ttl, common_name=policy.common_name)
    for attempt in range(ATTEMPTS):
        name = policy.prefix + _suffix(before.fingerprint if before else "", attempt)
        body = key_secret(
            pair,
            namespace=policy.namespace,
            prefix=policy.prefix,
            name=name,
            labels=policy.labels,
            annotations=policy.annotations if label == ACTIVE else {**policy.annotations, SUCCEEDS: succeeds},
        )
        body["metadata"]["labels"][KEY_LABEL] = label
        try:
            cluster.create(Manifest(body))
        except AlreadyExists:
            keys.load(held(cluster, policy))
            newest = keys.ring.sealing_key(now)
            if (newest.fingerprint if newest else "") != (before.fingerprint if before else ""):
                return ""  # somebody else was first
            if label != ACTIVE and _awaits(cluster, policy, name):
                return ""  # it is there already and waits
            continue  # that successor was there once and was set aside
        log.info("minted a sealing key", extra=fields(secret=name, fingerprint=pair.fingerprint, reason=reason))
        keys.load(held(cluster, policy))
        return pair.fingerprint
    raise Refused(
        f"the next {ATTEMPTS} names of a key Secret are taken",
        reason="NamesTaken",
        hint=f"delete key Secrets that are no longer needed from namespace {policy.namespace}",
    )


def _awaits(cluster: Cluster, policy: KeyPolicy, name: str) -> bool:
    """Say whether the Secret of this name is a key that was minted and waits for its escrow."""
    try:
        found = cluster.get(SECRET, name, policy.namespace)
    except NotFound:
        return False
    return found.labels.get(KEY_LABEL) == PENDING


def _suffix(before: str, attempt: int) -> str:
    """Give five characters of the API server's own alphabet for the successor of a key."""
    digest = hashlib.sha256(f"{before} {attempt}".encode()).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:5])


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


def published(cluster: Cluster, policy: KeyPolicy) -> bytes:
    """Give the certificate that clients read now, empty where there is none."""
    try:
        found = cluster.get(CONFIG_MAP, CERTIFICATE_CONFIG_MAP, policy.namespace)
    except NotFound:
        return b""
    return str((found.body.get("data") or {}).get("tls.crt") or "").encode()


LOOK = 0.5
PATIENT_LOOK = 5.0
RENEWAL_LOOK = 60.0
SHADOW_LOOK = 5.0
"""Seconds between two looks whether a key is due: without any key, while one waits for its escrow, with one, and
beside a living peer."""


class Renewal:
    """What the leader does about keys now and then: mint what is due, publish what is new.

    The time for which an empty list has to stay empty starts with the first look, and anew while there are keys.
    """

    def __init__(
        self, cluster: Cluster, keys: Keys, clock: Clock, *, held_back: Callable[[], str] = lambda: ""
    ) -> None:
        self._cluster, self._keys, self._clock, self._held_back = cluster, keys, clock, held_back
        self._refused = ""
        self._since: float | None = None
        self._published, self._looked = "", float("-inf")
        self._starting = True
        self._asked = threading.Event()
        self.wake = threading.Event()
        """Set to look at once."""

    def ask(self) -> None:
        """Have a key minted now, whatever the policy says (SIGUSR1); a process that does not lead forgets it."""
        self._asked.set()
        self.wake.set()

    def look(self) -> float:
        """Mint and publish what is due; gives the seconds until the next look. Nothing while we are held back."""
        if self._held_back():
            self._asked.clear()
            return SHADOW_LOOK
        keys = self._keys
        wait = self._pass_gate()
        now = self._clock.now()
        if self._since is None or len(keys.ring):
            self._since = self._clock.monotonic()
        empty_for = self._clock.monotonic() - self._since
        reason = "Asked" if self._asked.is_set() else ""
        self._asked.clear()
        reason = reason or mint_reason(keys, now=now, empty_for=empty_for, starting=self._starting)
        if reason and self._is_permitted(first=not len(keys.ring)):
            minted = mint(self._cluster, keys, reason=reason, now=now)
            if minted and keys.gate is not None:
                keys.gate.hurry()
                wait = self._pass_gate()
            now = self._clock.now()
        age = keys.age(now)
        if age is None:
            return LOOK if wait >= RENEWAL_LOOK else min(max(wait, LOOK), PATIENT_LOOK)
        self._starting = False
        self._keep_published(now)
        renew = keys.policy.renew_every
        due = min(RENEWAL_LOOK, max(renew - age, LOOK)) if renew else RENEWAL_LOOK
        return max(LOOK, min(due, wait))

    def _keep_published(self, now: dt.datetime) -> None:
        """Publish a new certificate at once, and look once a minute that nobody wrote another one over it.

        Not only people do: a write of the leader before us may have been long on its way.
        """
        key, at = self._keys.ring.sealing_key(now), self._clock.monotonic()
        if key is None or (key.fingerprint == self._published and at - self._looked < RENEWAL_LOOK):
            return
        if key.fingerprint != self._published or published(self._cluster, self._keys.policy) != key.certificate.pem:
            publish(self._cluster, self._keys, now=now)
        self._published, self._looked = key.fingerprint, at

    def _pass_gate(self) -> float:
        """Let escrow do what is due, and look at the keys again where it did; gives the seconds until its next look."""
        gate = self._keys.gate
        if gate is None:
            return RENEWAL_LOOK
        wait = gate.look()
        if gate.moved:
            gate.moved = False
            self._keys.load(held(self._cluster, self._keys.policy))
        return wait

    def _is_permitted(self, *, first: bool) -> bool:
        """Ask the gate whether a key may be minted; why not is logged once."""
        gate = self._keys.gate
        refused = gate.refusal(first=first) if gate is not None else ""
        if refused and refused != self._refused:
            log.info("no key is minted now", extra=fields(reason=refused))
        self._refused = refused
        return not refused
