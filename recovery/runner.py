"""Who rebuilds a cluster now: a Lease in it, so that the second of two people is told about the first.

Held while a run works and given back at its end; one whose holder died runs out by itself, and the same person on the
same machine takes it over at once. Never here: which cluster may act at all (the claim in the escrow's sinks).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
from collections.abc import Iterator

from secretsops.errors import AlreadyExists, ApiError, Conflict, NotFound, Refused
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Clock, Cluster

LEASE = GroupVersionKind("coordination.k8s.io", "v1", "Lease")
NAME, NAMESPACE = "secretsops-rebuild", "kube-system"
LASTS = 60
"""Seconds after its last sign of life for which a run counts as alive."""
_EVERY = 15.0


@contextlib.contextmanager
def running(cluster: Cluster, who: str, clock: Clock) -> Iterator[None]:
    """Hold the cluster's Lease while the block runs; "" holds none.

    Raises:
        Refused: reason `RunInProgress`; somebody else rebuilds it, and is named.
        ApiError: the API server refuses the Lease.
    """
    if not who:
        yield
        return
    take(cluster, who, clock.now())
    ended = threading.Event()

    def live() -> None:
        while not ended.wait(_EVERY):
            with contextlib.suppress(ApiError, Refused):
                take(cluster, who, clock.now())

    thread = threading.Thread(target=live, name="rebuild-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(ApiError):
            _give_back(cluster, who)


def take(cluster: Cluster, who: str, now: dt.datetime) -> None:
    """Take or renew the Lease; of two that race one wins.

    Raises:
        Refused: reason `RunInProgress`.
    """
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": who, "leaseDurationSeconds": LASTS, "acquireTime": stamp, "renewTime": stamp}
    body = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": {"name": NAME, "namespace": NAMESPACE}}
    try:
        live = cluster.get(LEASE, NAME, NAMESPACE)
    except NotFound:
        try:
            cluster.create(Manifest({**body, "spec": spec}))
        except AlreadyExists:
            _refuse(cluster.get(LEASE, NAME, NAMESPACE))
        return
    holder = str(live.spec.get("holderIdentity") or "")
    if holder not in ("", who) and not _is_over(live, now):
        _refuse(live)
    if holder == who:
        spec["acquireTime"] = live.spec.get("acquireTime") or stamp
    try:
        cluster.replace(Manifest({**live.body, "spec": {**live.spec, **spec}}))
    except (Conflict, NotFound):
        _refuse(live)


def _is_over(live: Manifest, now: dt.datetime) -> bool:
    try:
        renewed = dt.datetime.fromisoformat(str(live.spec.get("renewTime")))
    except ValueError:
        return True
    return now - renewed > dt.timedelta(seconds=int(live.spec.get("leaseDurationSeconds") or LASTS))


def _refuse(live: Manifest) -> None:
    who, since = live.spec.get("holderIdentity"), live.spec.get("acquireTime")
    raise Refused(
        f"{who or 'somebody'} rebuilds this cluster since {since}",
        reason="RunInProgress",
        hint=f"talk to them; a run that died lets go {LASTS} s after its last sign of life",
    )


def _give_back(cluster: Cluster, who: str) -> None:
    live = cluster.get(LEASE, NAME, NAMESPACE)
    if live.spec.get("holderIdentity") == who:
        cluster.delete(LEASE, NAME, namespace=NAMESPACE, uid=live.uid, resource_version=live.resource_version)
