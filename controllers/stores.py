"""SecretStore and ClusterSecretStore in the cluster: validate them, and open them for ExternalSecrets.

`Stores.reconcile` writes whether a store can be used. `Stores.source` opens one for a namespace: class, conditions and
readiness first, then the credentials. An opened source is kept while store and credentials stay the same and belongs
to one identity: store, its generation, the credential Secrets' versions, and for referent stores the namespace.
`SharedSource` lets objects that ask for the same document at the same time share one request.

What never lives here: a vendor's client (it comes through the `secret_source` door), the choice of properties.
"""

from __future__ import annotations

import copy
import datetime as dt
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from secretsops.clock import SystemClock
from secretsops.errors import InvalidManifest, NotFound, SecretsOpsError, StoreRefused
from secretsops.external.access import OpenSource, read_credential, source_of
from secretsops.external.model import CLUSTER_SECRET_STORE, SECRET_STORE, StoreRef
from secretsops.external.providers import Listed
from secretsops.external.status import INVALID_PROVIDER, VALID, is_ready, with_ready
from secretsops.external.store import Store, admits, controller_class, needs_labels, read_store
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ports import Clock, Cluster, Fetched, SecretSource

Emit = Callable[[Manifest, str, str, str], None]
"""Publishes an event: object, type (`Normal`, `Warning`), reason, message."""

DEFAULT_CLASS = "default"
REVALIDATE = 300.0
"""Seconds between two validations of a store that names no refreshInterval (the peer's default)."""
CREDENTIAL_AGE = 5.0
"""Seconds for which credentials are used without looking at their Secrets again."""
SHARE_AGE = 30.0
"""Seconds for which a document may serve several objects; how old each may take it is theirs to say."""
OPEN_LIMIT, SHARE_LIMIT = 256, 512
"""Sources kept open, and documents kept per source."""

_NAMESPACE = GroupVersionKind("", "v1", "Namespace")


class _Slot:
    __slots__ = ("failed", "fetched", "lock", "started")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.started: dt.datetime | None = None
        self.fetched: Fetched | None = None
        self.failed: tuple[float, SecretsOpsError] | None = None


class SharedSource:
    """A source whose simultaneous readers share a request; nobody gets a document older than they allow."""

    def __init__(self, source: SecretSource, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._slots: OrderedDict[tuple[str, str], _Slot] = OrderedDict()

    @property
    def dialect(self) -> str:
        """Name the property rules of the documents."""
        return self._source.dialect

    def probe(self) -> None:
        """Check the credential."""
        self._source.probe()

    def read(self, key: str, version: str, not_before: dt.datetime) -> Fetched:
        """Give a document whose request began at `not_before` or later.

        A failure is shared with those who were waiting for that very request, and then forgotten.
        """
        asked = self._clock.monotonic()
        slot = self._slot((key, version))
        with slot.lock:
            oldest = max(not_before, self._clock.now() - dt.timedelta(seconds=SHARE_AGE))
            if slot.fetched is not None and slot.started is not None and slot.started >= oldest:
                return slot.fetched
            if slot.failed is not None and slot.failed[0] >= asked:
                raise copy.copy(slot.failed[1])
            slot.started, slot.fetched, slot.failed = self._clock.now(), None, None
            try:
                slot.fetched = self._source.fetch(key, version)
            except SecretsOpsError as error:
                slot.failed = (self._clock.monotonic(), error)
                raise
            return slot.fetched

    def _slot(self, name: tuple[str, str]) -> _Slot:
        with self._lock:
            slot = self._slots.pop(name, None) or _Slot()
            self._slots[name] = slot
            while len(self._slots) > SHARE_LIMIT:
                self._slots.popitem(last=False)
            return slot

    def forget(self, before: dt.datetime) -> None:
        """Drop documents that were read before a moment: plaintext is not kept for longer than it is shared."""
        with self._lock:
            for name, slot in list(self._slots.items()):
                if slot.started is not None and slot.started < before and not slot.lock.locked():
                    del self._slots[name]


@dataclass(slots=True)
class _Opened:
    identity: tuple[Any, ...]
    source: SharedSource
    checked: float


class Stores:
    """Validates stores and opens them. Safe for several threads."""

    def __init__(
        self,
        cluster: Cluster,
        open_source: OpenSource,
        emit: Emit,
        *,
        clock: Clock | None = None,
        our_class: str = DEFAULT_CLASS,
    ) -> None:
        self._cluster = cluster
        self._open_source = open_source
        self._emit = emit
        self._clock = clock or SystemClock()
        self._class = our_class
        self._lock = threading.Lock()
        self._opened: OrderedDict[tuple[str, str], _Opened] = OrderedDict()

    # --- Validation ------------------------------------------------------------------------------------

    def reconcile(self, key: ObjectKey) -> float:
        """Validate one store and write its status; gives seconds until the next time, 0 for never.

        Raises:
            SecretsOpsError: the store cannot be used now; its status says so, the queue tries again.
        """
        # 1. Observe the store, 2. leave those of another controller class alone.
        kind = CLUSTER_SECRET_STORE if key.kind == CLUSTER_SECRET_STORE.kind else SECRET_STORE
        try:
            manifest = self._cluster.get(kind, key.name, key.namespace)
        except NotFound:
            return 0.0
        if self.is_foreign(manifest) or manifest.metadata.get("deletionTimestamp"):
            return 0.0
        # 3. Read it: what is not valid stays so until somebody changes it.
        try:
            store = read_store(manifest)
        except InvalidManifest as error:
            self._report(manifest, error, "unable to create client")
            return 0.0
        # 4. Open it afresh and try the credential, 5. report.
        try:
            source = None if store.is_referent else self._open(store, "", fresh=True)
        except SecretsOpsError as error:
            self._report(manifest, error, "unable to create client")
            raise
        try:
            if source is not None:
                source.probe()
        except SecretsOpsError as error:
            self._report(manifest, error, "unable to validate store")
            raise
        self._report_valid(manifest, store)
        return store.interval or REVALIDATE

    def is_foreign(self, manifest: Manifest) -> bool:
        """Say whether a store is for another controller class."""
        return controller_class(manifest) not in {"", self._class}

    def _report(self, manifest: Manifest, error: SecretsOpsError, message: str) -> None:
        self._write(manifest, ready=False, reason=INVALID_PROVIDER, message=message)
        self._emit(manifest, "Warning", INVALID_PROVIDER, error.message)

    def _report_valid(self, manifest: Manifest, store: Store) -> None:
        if isinstance(store.provider, Listed) and store.provider.validation:
            unknown = store.provider.validation == 1
            reason = "ValidationUnknown" if unknown else INVALID_PROVIDER
            message = "could not determine validation status" if unknown else "unable to validate store"
            if self._write(manifest, ready=unknown, reason=reason, message=message):
                self._emit(manifest, "Warning", reason, "unable to validate")
            return
        if self._write(manifest, ready=True, reason=VALID, message="store validated", capable=True):
            self._emit(manifest, "Normal", VALID, "store validated")
            if isinstance(store.provider, Listed):
                # Compat: the peer's words for its fake provider.
                text = "store isn't currently maintained. Please plan and prepare accordingly."
                self._emit(manifest, "Warning", "StoreUnmaintained", text)

    def _write(self, manifest: Manifest, *, ready: bool, reason: str, message: str, capable: bool = False) -> bool:
        """Write the status where it says something new."""
        status = with_ready(manifest.status, ready=ready, reason=reason, message=message, now=self._clock.now())
        if capable:
            # Compat: the peer says ReadWrite of every store that can be read.
            status["capabilities"] = "ReadWrite"
        if status == manifest.status:
            return False
        body = {**manifest.body, "status": status}
        self._cluster.replace(Manifest(body), subresource="status")
        return True

    # --- Use -------------------------------------------------------------------------------------------

    def find(self, ref: StoreRef, namespace: str) -> Manifest | None:
        """Read the store an ExternalSecret of a namespace names, None when there is none."""
        kind = CLUSTER_SECRET_STORE if ref.kind == CLUSTER_SECRET_STORE.kind else SECRET_STORE
        try:
            return self._cluster.get(kind, ref.name, "" if kind is CLUSTER_SECRET_STORE else namespace)
        except NotFound:
            return None

    def source(self, ref: StoreRef, manifest: Manifest | None, namespace: str) -> SharedSource:
        """Open a store for a namespace.

        Raises:
            StoreRefused: `StoreMissing`, `StoreDenied`, `StoreNotReady` or `Denied`.
            SecretsOpsError: it cannot be opened.
        """
        if manifest is None:
            raise StoreRefused(
                f'could not get {ref.kind} "{ref.name}", {ref.kind}.external-secrets.io "{ref.name}" not found',
                reason="StoreMissing",
                hint="create the store, or correct its name",
            )
        if manifest.kind.kind == CLUSTER_SECRET_STORE.kind and not admits(
            manifest, namespace, self._labels(manifest, namespace)
        ):
            raise StoreRefused(
                f'using cluster store "{ref.name}" is not allowed from namespace "{namespace}": '
                "denied by spec.condition",
                reason="StoreDenied",
                hint="let the store's owner add the namespace to spec.conditions",
            )
        if not is_ready(manifest.status):
            raise StoreRefused(
                f'{ref.kind} "{ref.name}" is not ready', reason="StoreNotReady", hint="see the conditions of the store"
            )
        store = read_store(manifest)
        return self._open(store, namespace if store.is_referent else "")

    def _labels(self, manifest: Manifest, namespace: str) -> Mapping[str, str]:
        if not needs_labels(manifest):
            return {}
        try:
            return self._cluster.get(_NAMESPACE, namespace).labels
        except NotFound:
            return {}

    def _open(self, store: Store, namespace: str, *, fresh: bool = False) -> SharedSource:
        name = (store.uid or f"{store.kind}/{store.namespace}/{store.name}", namespace)
        now = self._clock.monotonic()
        with self._lock:
            known = self._opened.get(name)
        generation = (store.uid, store.generation)
        if known and not fresh and known.identity[0] == generation and now - known.checked < CREDENTIAL_AGE:
            return known.source
        credentials = {
            ref: read_credential(self._cluster, ref, ref.namespace or namespace) for ref in store.provider.refs
        }
        identity = (generation, *((ref, version) for ref, (version, _) in credentials.items()))
        if known and known.identity == identity:
            known.checked = now
            known.source.forget(self._clock.now() - dt.timedelta(seconds=SHARE_AGE))
            return known.source
        source = source_of(store.provider, {ref: value for ref, (_, value) in credentials.items()}, self._open_source)
        opened = _Opened(identity, SharedSource(source, self._clock), now)
        with self._lock:
            self._opened.pop(name, None)
            self._opened[name] = opened
            while len(self._opened) > OPEN_LIMIT:
                self._opened.popitem(last=False)
        return opened.source
