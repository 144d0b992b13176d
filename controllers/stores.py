"""SecretStore and ClusterSecretStore in the cluster: validate them, and say in their status whether they can be used.

What never lives here: how a store is opened and shared (`secretsops.external.opening`), a vendor's client.
"""

from __future__ import annotations

from collections.abc import Callable

from controllers.observed import Observed
from secretsops.clock import SystemClock
from secretsops.errors import InvalidManifest, NotFound, SecretsOpsError
from secretsops.external.access import OpenSource
from secretsops.external.model import CLUSTER_SECRET_STORE, SECRET_STORE
from secretsops.external.opening import Openings
from secretsops.external.providers import Listed
from secretsops.external.status import INVALID_PROVIDER, VALID, with_ready
from secretsops.external.store import Store, controller_class, read_store
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ports import Clock, Cluster

Emit = Callable[[Manifest, str, str, str], None]
"""Publishes an event: object, type (`Normal`, `Warning`), reason, message."""

DEFAULT_CLASS = "default"
UNKNOWN = "ValidationUnknown"
"""The reason of a store that may be as good as it says."""
REVALIDATE = 300.0
"""Seconds between two validations of a store that names no refreshInterval (the peer's default)."""


class Stores:
    """Validates stores; `open` opens them. Safe for several threads."""

    def __init__(
        self,
        cluster: Cluster,
        open_source: OpenSource,
        emit: Emit,
        *,
        clock: Clock | None = None,
        our_class: str = DEFAULT_CLASS,
        observed: Observed | None = None,
    ) -> None:
        self._cluster = cluster
        self._emit = emit
        self._clock = clock or SystemClock()
        self._class = our_class
        self._observed = observed or Observed(cluster)
        self.open = Openings(cluster, open_source, self._clock, lookup=self._observed.get)

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
            source = None if store.is_referent else self.open.open(store, "", fresh=True)
            if source is not None:
                source.log_in()
        except SecretsOpsError as error:
            self._report(manifest, error, "unable to create client")
            raise
        try:
            if source is not None:
                source.probe()
        except SecretsOpsError as error:
            if error.reason == UNKNOWN:
                # Compat: what can't be told does not make a store unready.
                self._report_unknown(manifest, error)
                return store.interval or REVALIDATE
            self._report(manifest, error, "unable to validate store")
            raise
        self._report_valid(manifest, store)
        return store.interval or REVALIDATE

    def is_foreign(self, manifest: Manifest) -> bool:
        """Say whether a store is for another controller class."""
        return self.is_foreign_class(controller_class(manifest))

    def is_foreign_class(self, name: str) -> bool:
        """Say whether a controller class is another's; an empty one is anybody's."""
        return name not in {"", self._class}

    def _report(self, manifest: Manifest, error: SecretsOpsError, message: str) -> None:
        self._write(manifest, ready=False, reason=INVALID_PROVIDER, message=message)
        self._emit(manifest, "Warning", INVALID_PROVIDER, error.message)

    def _report_unknown(self, manifest: Manifest, error: SecretsOpsError) -> None:
        message = "could not determine validation status"
        if self._write(manifest, ready=True, reason=UNKNOWN, message=message):
            self._emit(manifest, "Warning", UNKNOWN, error.message)

    def _report_valid(self, manifest: Manifest, store: Store) -> None:
        if isinstance(store.provider, Listed) and store.provider.validation:
            unknown = store.provider.validation == 1
            reason = UNKNOWN if unknown else INVALID_PROVIDER
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
        self._observed.wrote(self._cluster.replace(Manifest(body), subresource="status"))
        return True
