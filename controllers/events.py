"""Events for people: `kubectl describe` shows what we did and why. De-duplicated, rate-limited, never in the way.

client-go's rules (`tools/record/events_cache.go`): the same event again counts up, an object gets 25 and then one in
five minutes. An event that cannot be written is dropped; so is, where asked for, good news in a flood: a thousand
objects synced at once say so in their status (client-go drops what its queue cannot hold). Never here: values; a
message is what a status may say too.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from secretsops.errors import NotFound, SecretsOpsError
from secretsops.logs import fields
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Clock, Cluster, PatchType

log = logging.getLogger(__name__)

EVENT = GroupVersionKind("", "v1", "Event")
Emit = Callable[[Manifest, str, str, str], None]
"""Publishes an event: object, type (`Normal`, `Warning`), reason, message."""

SAME_FOR = 600.0
"""Seconds within which the same event counts up instead of standing there twice."""
BURST, REFILL = 25, 300.0
"""Events an object may have at once, and seconds until it may have one more."""
FLOOD, AGAIN = 50, 10.0
"""Where asked for: events that tell of success all objects may have at once, and seconds until one more."""
REMEMBERED = 4096
MESSAGE_LIMIT = 1024
"""Characters; the API server refuses longer ones."""


@dataclass(slots=True)
class _Seen:
    name: str
    count: int
    at: float


@dataclass(slots=True)
class _Budget:
    tokens: float
    at: float


class Events:
    """Publishes under one source component."""

    def __init__(self, cluster: Cluster, component: str, *, clock: Clock, sparing: bool = False) -> None:
        self._cluster = cluster
        self._component = component
        self._clock = clock
        self._lock = threading.Lock()
        self._number = itertools.count()
        self._seen: OrderedDict[tuple[str, str, str, str], _Seen] = OrderedDict()
        self._budgets: OrderedDict[str, _Budget] = OrderedDict()
        self._good = _Budget(FLOOD, clock.monotonic()) if sparing else None

    def emit(self, about: Manifest, kind: str, reason: str, message: str) -> None:
        """Publish an event about an object; gives up silently where the object has had too many, or nobody listens."""
        message = message[:MESSAGE_LIMIT]
        same = (about.uid, kind, reason, message)
        now = self._clock.monotonic()
        with self._lock:
            if not self._may(about.uid, now) or (kind == "Normal" and self._is_flood(now)):
                return
            seen = self._seen.get(same)
            if seen is not None and now - seen.at < SAME_FOR:
                seen.count, seen.at = seen.count + 1, now
            else:
                seen = None
        try:
            if seen is None or not self._count_up(about, seen):
                self._create(about, kind, reason, message, same, now)
        except SecretsOpsError as error:
            log.debug("an event was dropped", extra=fields(object=str(about.key), reason=error.reason))

    def _is_flood(self, now: float) -> bool:
        good = self._good
        if good is None:
            return False
        good.tokens, good.at = min(FLOOD, good.tokens + (now - good.at) / AGAIN), now
        if good.tokens < 1:
            return True
        good.tokens -= 1
        return False

    def _may(self, uid: str, now: float) -> bool:
        budget = self._budgets.pop(uid, None) or _Budget(BURST, now)
        budget.tokens = min(BURST, budget.tokens + (now - budget.at) / REFILL)
        budget.at = now
        self._budgets[uid] = budget
        while len(self._budgets) > REMEMBERED:
            self._budgets.popitem(last=False)
        if budget.tokens < 1:
            return False
        budget.tokens -= 1
        return True

    def _count_up(self, about: Manifest, seen: _Seen) -> bool:
        patch = {"count": seen.count, "lastTimestamp": self._stamp()}
        namespace = about.namespace or "default"
        try:
            self._cluster.patch(EVENT, seen.name, patch, namespace=namespace, patch_type=PatchType.MERGE)
        except NotFound:
            return False  # the API server keeps events for an hour
        return True

    def _create(
        self, about: Manifest, kind: str, reason: str, message: str, same: tuple[str, str, str, str], now: float
    ) -> None:
        namespace, stamp = about.namespace or "default", self._stamp()
        # As client-go names them: in order of time.
        moment = int(self._clock.now().timestamp() * 1e6) * 1000 + next(self._number) % 1000
        name = f"{about.name[:200].rstrip('-.')}.{moment:x}"
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": about.kind.api_version,
                "kind": about.kind.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
                "resourceVersion": about.resource_version,
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "source": {"component": self._component},
            "reportingComponent": self._component,
        }
        self._cluster.create(Manifest(body))
        with self._lock:
            self._seen[same] = _Seen(name, 1, now)
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)

    def _stamp(self) -> str:
        return self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
