"""Who may act: one holder of a Lease at a time (`coordination.k8s.io/v1`).

client-go's rules (`tools/leaderelection`): a lease is taken over once its holder did not renew it for the lease's
duration, measured by our own clock from when we saw the last change, so clocks of other machines do not matter. Whoever
cannot renew within RENEW_DEADLINE stops acting before anybody else may start. Released on stop.
Never here: what the leader does.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import Any

from controllers.fence import Fence
from secretsops.errors import AlreadyExists, Conflict, NotFound, SecretsOpsError, WorldFailed
from secretsops.logs import fields
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Clock, Cluster, Doors, SinkAccess
from secretsops.sources import Access

log = logging.getLogger(__name__)

LEASE = GroupVersionKind("coordination.k8s.io", "v1", "Lease")
LEASE_NAME = "secretsops-controller"
DURATION, RENEW_DEADLINE, RETRY = 15.0, 10.0, 2.0
"""Seconds: how long a lease counts, how long its holder may fail to renew, pause between attempts."""


class NotLeading(WorldFailed):
    """A write was held back: the lease is not held for certain any more, and another may act already."""


class Fenced:
    """A door (cluster, secret store, escrow sink) whose writes go out only while `holds` says that the lease is ours.

    Whoever lost it stops between two requests, RENEW_DEADLINE after its last renewal and DURATION - RENEW_DEADLINE
    before the next holder begins. A write that is on its way in that moment meets a resourceVersion, a uid or a name
    that the next holder's work changed. Nothing is deleted while the `fence` is up (SECURITY.md §3).
    """

    def __init__(self, door: object, holds: Callable[[], bool], fence: Fence | None = None) -> None:
        self._door, self._holds, self._fence = door, holds, fence

    def __getattr__(self, name: str) -> Any:
        if name in WRITES:
            refuse_unless(self._holds)
        if name in _DELETES and self._fence is not None:
            self._fence.refuse()
        return getattr(self._door, name)


def refuse_unless(holds: Callable[[], bool]) -> None:
    """Raise `NotLeading` where the lease is not ours for certain."""
    if not holds():
        raise NotLeading("the lease is not held: nothing is written", hint="the holder writes; look at the Lease")


class FencedDoors:
    """The doors to stores and sinks, each fenced; the others are as they are."""

    def __init__(self, doors: Doors, holds: Callable[[], bool]) -> None:
        self._doors, self._holds = doors, holds

    def sink(self, place: str | SinkAccess) -> Any:
        """Open an escrow sink, fenced."""
        return Fenced(self._doors.sink(place), self._holds)

    def secret_source(self, access: Access) -> Any:
        """Open a secret store, fenced."""
        return Fenced(self._doors.secret_source(access), self._holds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._doors, name)


_DELETES = frozenset({"delete", "remove"})
WRITES = frozenset({"create", "replace", "patch", "apply", "put", "trial", "call"}) | _DELETES
"""What changes the world, by names of `secretsops.ports`: Cluster, SecretSource (`call` makes credentials), Sink."""


class Election:
    """One candidate for one Lease."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        *,
        namespace: str,
        identity: str,
        name: str = LEASE_NAME,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.identity = identity
        self._cluster = cluster
        self._clock = clock
        self._namespace = namespace
        self._name = name
        self._chance = chance
        self._stop = threading.Event()
        self._release = True
        self._renewed: float | None = None
        self._seen: tuple[str, float] = ("", 0.0)

    def leads(self) -> bool:
        """Say whether we hold the lease for certain: renewed less than RENEW_DEADLINE ago."""
        renewed = self._renewed
        return renewed is not None and self._clock.monotonic() - renewed < RENEW_DEADLINE

    def run(self) -> None:
        """Try to get and keep the lease until `stop`; then give it up."""
        led = False
        while not self._stop.is_set():
            try:
                self._attempt()
            except SecretsOpsError as error:
                log.debug("the lease could not be renewed", extra=fields(reason=error.reason))
            if self.leads() is not led:
                led = not led
                log.info("leading" if led else "not leading", extra=fields(identity=self.identity, lease=self._name))
            # Losing candidates must not ask in step.
            self._stop.wait(RETRY * (1.0 + (0.0 if led else 0.2 * self._chance())))
        if self._release and self._renewed is not None:
            self._give_up()

    def stop(self, *, release: bool) -> None:
        """End `run`; `release=False` keeps the lease until it runs out, where work of ours may still be going on."""
        self._release = release
        self._stop.set()

    def _attempt(self) -> None:
        asked = self._clock.monotonic()
        try:
            lease = self._cluster.get(LEASE, self._name, self._namespace)
        except NotFound:
            try:
                self._cluster.create(self._body(None))
            except AlreadyExists:
                return
            self._renewed = asked
            return
        holder = str(lease.spec.get("holderIdentity") or "")
        if lease.resource_version != self._seen[0]:
            self._seen = (lease.resource_version, asked)
        if holder not in ("", self.identity):
            self._renewed = None
            if asked - self._seen[1] < float(lease.spec.get("leaseDurationSeconds") or DURATION):
                return
        try:
            written = self._cluster.replace(self._body(lease))
        except Conflict:
            return  # somebody else was first; `leads` runs out by itself if it was ours
        self._seen = (written.resource_version, asked)
        self._renewed = asked

    def _give_up(self) -> None:
        self._renewed = None
        try:
            lease = self._cluster.get(LEASE, self._name, self._namespace)
            if lease.spec.get("holderIdentity") == self.identity:
                spec = {**lease.spec, "holderIdentity": "", "leaseDurationSeconds": 1}
                self._cluster.replace(Manifest({**lease.body, "spec": spec}))
        except SecretsOpsError as error:
            log.debug("the lease was not released", extra=fields(reason=error.reason))

    def _body(self, old: Manifest | None) -> Manifest:
        now = self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: dict[str, Any] = dict(old.spec) if old else {}
        ours = spec.get("holderIdentity") == self.identity
        transitions = int(spec.get("leaseTransitions") or 0)
        spec |= {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(DURATION),
            "renewTime": now,
            "acquireTime": spec.get("acquireTime") if ours else now,
            "leaseTransitions": transitions if ours or old is None else transitions + 1,
        }
        base = old.body if old else {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        metadata = old.metadata if old else {"name": self._name, "namespace": self._namespace}
        return Manifest({**base, "metadata": metadata, "spec": spec})
