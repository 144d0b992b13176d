"""Whether the peer's controller is at work here: then we compare, write nothing and mint nothing (SECURITY.md §9).

Upstream has no Lease. What tells of it is its workload, and its mark as field manager of a status written just now.
Never here: what is compared.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Iterable

from controllers.leader import LEASE, LEASE_NAME
from secretsops.errors import Forbidden, NotFound, UnknownKind
from secretsops.logs import fields
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Clock, Cluster

log = logging.getLogger(__name__)

DEPLOYMENT = GroupVersionKind("apps", "v1", "Deployment")
SELECTORS = ("app.kubernetes.io/name=sealed-secrets", "name=sealed-secrets-controller")
"""Labels of the peer's Deployment: by its chart, by its plain manifest."""
IMAGE = "sealed-secrets-controller"
MANAGER = "controller"
"""Field manager of the peer's writes: the name of its program (client-go's default user agent)."""
FRESH = dt.timedelta(minutes=5)
WEEK = dt.timedelta(days=7)
LOOK = 10.0
"""Seconds between two looks."""


class Shadow:
    """Remembers whether the peer is at work. Nothing is written before the first look."""

    def __init__(self, cluster: Cluster, clock: Clock, *, namespace: str) -> None:
        self._cluster, self._clock, self._namespace = cluster, clock, namespace
        self._lock = threading.Lock()
        self._marked: dt.datetime | None = None
        self._why: str | None = None
        self._wide = True

    def mark(self, sealed: Manifest) -> None:
        """Take note of a SealedSecret whose status the peer wrote."""
        at = _marked_at(sealed.metadata.get("managedFields") or [])
        if at is not None and (self._marked is None or at > self._marked):
            self._marked = at

    def why(self) -> str:
        """Say what tells of the peer, "" when it is not at work; looks when nobody did yet."""
        if self._why is None:
            self.look()
        return self._why or ""

    @property
    def is_seen(self) -> bool:
        """Say whether the peer was at work when last looked."""
        return bool(self._why)

    def look(self) -> float:
        """Look at its workloads and marks; gives the seconds until the next look.

        Raises:
            ApiError: the API server gave no answer; what was known stays.
        """
        with self._lock:
            why = self._workload() or self._mark()
            if why != (self._why or ""):
                if why:
                    log.warning("the peer's controller is at work: comparing, writing nothing", extra=fields(seen=why))
                else:
                    log.warning("the peer's controller is at work no more: taking over")
            self._why = why
        return LOOK

    def _workload(self) -> str:
        for selector in SELECTORS:
            for deployment in self._deployments(selector):
                if _runs(deployment):
                    return f"Deployment {deployment.namespace}/{deployment.name}"
        return ""

    def _deployments(self, selector: str) -> Iterable[Manifest]:
        """List in every namespace, else in our own, else nowhere: a right that is missing must not stop us."""
        if self._wide:
            try:
                return self._cluster.list(DEPLOYMENT, label_selector=selector)
            except Forbidden:
                self._wide = False
                log.info("Deployments of other namespaces may not be listed: the peer is looked for in ours alone")
            except UnknownKind:
                return ()
        try:
            return self._cluster.list(DEPLOYMENT, namespace=self._namespace, label_selector=selector)
        except Forbidden:
            return ()

    def _mark(self) -> str:
        if self._marked is None or self._clock.now() - self._marked > FRESH:
            return ""
        return f"a status written by field manager '{MANAGER}' at {self._marked:%H:%M:%S} UTC"


class Adoption:
    """How long we have been here: drift of what another controller made is only reported for a week.

    The age of our Lease tells; it is made once and stays. Where there is none the week does not end.
    """

    def __init__(self, cluster: Cluster, clock: Clock, *, namespace: str) -> None:
        self._cluster, self._clock, self._namespace = cluster, clock, namespace
        self._since: dt.datetime | None = None

    def is_over(self) -> bool:
        """Say whether drift may be healed whoever made the Secret."""
        if self._since is None:
            try:
                lease = self._cluster.get(LEASE, LEASE_NAME, self._namespace)
                self._since = dt.datetime.fromisoformat(str(lease.metadata.get("creationTimestamp")))
            except (NotFound, Forbidden, ValueError):
                return False
        return self._clock.now() - self._since > WEEK


def _runs(deployment: Manifest) -> bool:
    """Say whether a Deployment is the peer's, by its image, and wanted to run."""
    template = (deployment.spec.get("template") or {}).get("spec") or {}
    images = [str(each.get("image") or "") for each in template.get("containers") or [] if isinstance(each, dict)]
    names = [image.rpartition("/")[2].partition("@")[0].partition(":")[0] for image in images]
    return IMAGE in names and deployment.spec.get("replicas", 1) != 0


def _marked_at(entries: object) -> dt.datetime | None:
    """Give when the peer last wrote the status of an object."""
    found: dt.datetime | None = None
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and (entry.get("manager"), entry.get("subresource")) == (MANAGER, "status"):
            try:
                at = dt.datetime.fromisoformat(str(entry.get("time")))
            except ValueError:
                continue
            found = at if found is None or at > found else found
    return found
