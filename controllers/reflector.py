"""What the API server holds of one kind, kept in step: paged list, then watch, for as long as we run.

client-go's rules (`tools/cache/reflector.go`): the watch goes on from the list's resourceVersion, bookmarks move it
forward, a dropped connection resumes there, 410 lists again and what is gone meanwhile counts as deleted. Anything
else backs off. Never here: queues, what an object means; of an object only what `keep` gives is remembered.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from secretsops.errors import ApiError, Gone, SecretsOpsError
from secretsops.logs import fields
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ports import Cluster, EventType, Watch

log = logging.getLogger(__name__)

PAUSES = (0.0, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0)
"""Seconds before the next attempt after that many failures in a row; the last one repeats."""
STEADY = 1.0
"""Seconds between two attempts at least, from the third failure on."""
HEALTHY = 5.0
"""Seconds a watch must last before the failures that came earlier are forgotten."""
WATCH_SECONDS = (300.0, 600.0)

Handle = Callable[[EventType, Manifest], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which objects are watched."""

    kind: GroupVersionKind
    namespace: str = ""
    label_selector: str = ""
    field_selector: str = ""
    metadata_only: bool = False
    """Of the objects nothing but metadata is sent."""


def _shape(selection: Selection) -> dict[str, bool]:
    return {"metadata_only": True} if selection.metadata_only else {}


def without_managed_fields(manifest: Manifest) -> Manifest:
    """Give an object as it is kept by default: half of its size is bookkeeping of field managers."""
    if "managedFields" not in manifest.metadata:
        return manifest
    metadata = {key: value for key, value in manifest.metadata.items() if key != "managedFields"}
    return Manifest({**manifest.body, "metadata": metadata})


class Reflector:
    """Keeps `objects` in step and tells `handle` of every change; DELETED comes with the last state known."""

    def __init__(
        self,
        cluster: Cluster,
        selection: Selection,
        handle: Handle,
        *,
        keep: Callable[[Manifest], Manifest] = without_managed_fields,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.selection = selection
        self.synced = threading.Event()
        """Set once the first list is complete."""
        self.failing_since: float | None = None
        """Monotonic time of the first of the failures in a row, None while all is well."""
        self.synced_at = 0.0
        self._cluster = cluster
        self._handle = handle
        self._keep = keep
        self._monotonic = monotonic
        self._chance = chance
        self._lock = threading.Lock()
        self._objects: dict[ObjectKey, Manifest] = {}
        self._version = ""
        self._failures = 0
        self._watch: Watch | None = None
        self._stop = threading.Event()

    @property
    def objects(self) -> Mapping[ObjectKey, Manifest]:
        """Give a copy of what is known."""
        with self._lock:
            return dict(self._objects)

    def get(self, key: ObjectKey) -> Manifest | None:
        """Give one object as it was kept."""
        return self._objects.get(key)

    def run(self) -> None:
        """Keep in step until `stop` is called."""
        while not self._stop.is_set():
            began = self._monotonic()
            followed = float("inf")
            try:
                if not self._version:
                    self._list()
                followed = self._monotonic()
                self._follow()
            except Gone:
                log.debug("list again", extra=fields(kind=str(self.selection.kind)))
                self._version = ""
            except SecretsOpsError as error:
                self._failed(error)
            # However it ended: a server that ends every watch at once, even politely, must not make a hot loop.
            self._pause(began, followed)

    def stop(self) -> None:
        """End `run` soon, also in the middle of a watch."""
        self._stop.set()
        watch = self._watch
        if watch is not None:
            watch.close()

    def _list(self) -> None:
        """Take over all pages; what is not among them any more is told as deleted."""
        selection = self.selection
        found: dict[ObjectKey, Manifest] = {}
        resume = ""
        while True:
            page = self._cluster.page(
                selection.kind,
                namespace=selection.namespace,
                label_selector=selection.label_selector,
                field_selector=selection.field_selector,
                resume=resume,
                **_shape(selection),
            )
            for item in page.items:
                kept = self._keep(item)
                found[kept.key] = kept
            resume = page.resume
            if not resume or self._stop.is_set():
                break
        if resume:
            return
        gone = [manifest for key, manifest in self._objects.items() if key not in found]
        changed = [
            (EventType.MODIFIED if key in self._objects else EventType.ADDED, manifest)
            for key, manifest in found.items()
            if key not in self._objects or self._objects[key].resource_version != manifest.resource_version
        ]
        with self._lock:
            self._objects = found
        for manifest in gone:
            self._handle(EventType.DELETED, manifest)
        for kind, manifest in changed:
            self._handle(kind, manifest)
        self._version = page.resource_version
        self.failing_since = None
        if not self.synced.is_set():
            self.synced_at = self._monotonic()
            self.synced.set()

    def _follow(self) -> None:
        low, high = WATCH_SECONDS
        selection = self.selection
        with self._cluster.watch(
            selection.kind,
            namespace=selection.namespace,
            label_selector=selection.label_selector,
            field_selector=selection.field_selector,
            resource_version=self._version,
            timeout=low + (high - low) * self._chance(),
            **_shape(selection),
        ) as watch:
            self._watch = watch
            self.failing_since = None
            if self._stop.is_set():
                watch.close()
            try:
                for event in watch:
                    self._take(event.type, event.object)
                    # News is progress: catch up every second or two, whatever went wrong before.
                    self._failures = min(self._failures, 2)
            finally:
                self._watch = None

    def _take(self, kind: EventType, manifest: Manifest) -> None:
        version = manifest.resource_version
        if kind is not EventType.BOOKMARK:
            kept = self._keep(manifest)
            with self._lock:
                if kind is EventType.DELETED:
                    self._objects.pop(kept.key, None)
                else:
                    self._objects[kept.key] = kept
            self._handle(kind, kept)
        if version:
            self._version = version

    def _failed(self, error: SecretsOpsError) -> None:
        if self.failing_since is None:
            self.failing_since = self._monotonic()
        if isinstance(error, ApiError) and error.code in (401, 403):
            log.error(error.message, extra=fields(reason=error.reason, hint=error.hint))
        elif self._failures in (0, 4):
            log.warning(error.message, extra=fields(kind=str(self.selection.kind), reason=error.reason))

    def _pause(self, began: float, followed: float) -> None:
        now = self._monotonic()
        if now - followed >= HEALTHY:
            self._failures = 0
            return
        self._failures += 1
        pause = PAUSES[min(self._failures - 1, len(PAUSES) - 1)] * (0.75 + 0.5 * self._chance())
        if self._failures >= 3:
            pause = max(pause, STEADY - (now - began))
        self._stop.wait(pause)
