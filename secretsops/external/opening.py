"""Stores opened for those who may use them: conditions, readiness, credentials, then one shared source per identity.

An opened source is kept while store and credentials stay the same. Its identity is the store's uid and generation, the
uid and version of every object a credential came from, and for referent stores the namespace.

What never lives here: a vendor's client (it comes through the `secret_source` door), a store's status, values.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from secretsops.errors import NotFound, StoreRefused
from secretsops.external.access import OpenSource, read_credentials, source_of
from secretsops.external.entries import StoreRef
from secretsops.external.fetch import KEEP, Shared
from secretsops.external.model import CLUSTER_SECRET_STORE, SECRET_STORE
from secretsops.external.status import is_ready
from secretsops.external.store import Store, admits, needs_labels, read_store
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Clock, Cluster

Lookup = Callable[[GroupVersionKind, str, str], Manifest]
"""Reads one object: kind, name, namespace; raises `NotFound`."""

CREDENTIAL_AGE = 5.0
"""Seconds for which credentials are used without looking at their objects again."""
OPEN_LIMIT = 1024
"""Sources kept open, those used last; a referent store has one per namespace."""
RETIRED = 60.0
"""Seconds for which a source that was replaced may finish what it does, before it gives its session back."""
_GATES = 64
_NAMESPACE = GroupVersionKind("", "v1", "Namespace")


@dataclass(slots=True)
class _Opened:
    identity: tuple[Any, ...]
    source: Shared
    checked: float


class Openings:
    """Opens stores. Safe for several threads."""

    def __init__(
        self, cluster: Cluster, open_source: OpenSource, clock: Clock, *, lookup: Lookup | None = None
    ) -> None:
        self._cluster = cluster
        self._lookup = lookup or cluster.get
        self._open_source = open_source
        self.clock = clock
        self._lock = threading.Lock()
        self._opened: OrderedDict[tuple[str, str], _Opened] = OrderedDict()
        # Whoever opens a store has others wait, so that there is one source, and one login, for all of them.
        self._gates = [threading.Lock() for _ in range(_GATES)]
        self._retired: list[tuple[float, Shared]] = []

    def find(self, ref: StoreRef, namespace: str) -> Manifest | None:
        """Read the store an ExternalSecret of a namespace names, None when there is none."""
        kind = CLUSTER_SECRET_STORE if ref.kind == CLUSTER_SECRET_STORE.kind else SECRET_STORE
        try:
            return self._lookup(kind, ref.name, "" if kind is CLUSTER_SECRET_STORE else namespace)
        except NotFound:
            return None

    def source(self, ref: StoreRef, manifest: Manifest | None, namespace: str, *, unready: bool = False) -> Shared:
        """Open a store for a namespace; `unready` opens one that nobody validated.

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
        if not unready and not is_ready(manifest.status):
            raise StoreRefused(
                f'{ref.kind} "{ref.name}" is not ready', reason="StoreNotReady", hint="see the conditions of the store"
            )
        store = read_store(manifest)
        return self.open(store, namespace if store.is_referent else "")

    def _labels(self, manifest: Manifest, namespace: str) -> Mapping[str, str]:
        if not needs_labels(manifest):
            return {}
        try:
            return self._lookup(_NAMESPACE, namespace, "").labels
        except NotFound:
            return {}

    def open(self, store: Store, namespace: str, *, fresh: bool = False) -> Shared:
        """Open a store with the credentials of its own (or for a referent one of this) namespace."""
        name = (store.uid or f"{store.kind}/{store.namespace}/{store.name}", namespace)
        with self._gates[hash(name) % _GATES]:
            return self._open(name, store, namespace, fresh=fresh)

    def _open(self, name: tuple[str, str], store: Store, namespace: str, *, fresh: bool) -> Shared:
        now = self.clock.monotonic()
        with self._lock:
            known = self._opened.get(name)
            if known is not None:
                self._opened.move_to_end(name)
        generation = (store.uid, store.generation)
        if known and not fresh and known.identity[0] == generation and now - known.checked < CREDENTIAL_AGE:
            return known.source
        versions, held = read_credentials(self._cluster, store.provider, namespace)
        identity = (generation, *versions)
        if known and known.identity == identity:
            known.checked = now
            known.source.forget(self.clock.now() - dt.timedelta(seconds=KEEP))
            self._give_back(now)
            return known.source
        opened = _Opened(identity, Shared(source_of(store.provider, held, self._open_source), self.clock), now)
        with self._lock:
            replaced = self._opened.pop(name, None)
            self._opened[name] = opened
            gone = [replaced] if replaced is not None else []
            while len(self._opened) > OPEN_LIMIT:
                gone.append(self._opened.popitem(last=False)[1])
            self._retired += [(now, each.source) for each in gone]
        self._give_back(now)
        return opened.source

    def _give_back(self, now: float) -> None:
        """Close what was replaced a while ago: those who held it have finished."""
        with self._lock:
            due = [source for since, source in self._retired if now - since >= RETIRED]
            self._retired = [(since, source) for since, source in self._retired if now - since < RETIRED]
        for source in due:
            source.close()

    def close(self) -> None:
        """Give every session back; nothing is opened afterwards."""
        with self._lock:
            gone = [opened.source for opened in self._opened.values()] + [source for _, source in self._retired]
            self._opened.clear()
            self._retired.clear()
        for source in gone:
            source.close()

    def requests(self) -> int:
        """Count the provider requests made through what is open now."""
        with self._lock:
            return sum(opened.source.counts.requests for opened in self._opened.values())
