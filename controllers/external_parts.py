"""ExternalSecrets, PushSecrets and their stores in the process: what is watched, whom a change wakes, who works.

Of Secrets and ConfigMaps only metadata is watched: no value of anybody's is sent to us unasked.

What never lives here: how one object is brought in line (the spines), the loop itself.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Sequence

from controllers import cluster_external_secrets, cluster_push_secrets, refresh_http
from controllers.external_index import ExternalIndex
from controllers.external_kept import CONFIGURATION, Keeping
from controllers.external_secrets import ExternalSecrets
from controllers.external_values import Values
from controllers.loop import Part, Result, Runtime, Tick, Waker, Watched
from controllers.observed import Observed, version_of
from controllers.push_secrets import PushSecrets
from controllers.reflector import Selection
from controllers.stores import DEFAULT_CLASS, Stores
from secretsops.errors import InvalidManifest
from secretsops.external.demand import Demand
from secretsops.external.due import is_due
from secretsops.external.generating import Generators
from secretsops.external.model import CLUSTER_SECRET_STORE, CREATED_BY, EXTERNAL_SECRET, SECRET, SECRET_STORE, read
from secretsops.external.push import PUSH_SECRET, store_choices
from secretsops.external.store import read_store
from secretsops.external.survival import DROP_LIMIT
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ports import EventType

CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
RECOVERY = 5.0
"""Seconds between two looks whether a store is due to be asked if it is back."""


def build(runtime: Runtime) -> Sequence[Part]:
    """Give the parts of external secrets; options `controller_class` (the peer's flag) and `drop_limit` (a share)."""
    wiring = _Wiring(runtime)
    part = Part(
        name="external-secrets",
        watched=wiring.watched(),
        reconcile=wiring.reconcile,
        ticks=[Tick(name="recovery", act=wiring.recover), Tick(name="kept", act=wiring.kept.look)],
        routes={refresh_http.PATH: refresh_http.route(runtime.cluster, wiring.readers, wiring.refresh)},
        waker=wiring.waker,
        workers=4,
        ended=wiring.end,
        exposed=wiring.kept.metrics().text,
    )
    return [part, *cluster_external_secrets.build(runtime), *cluster_push_secrets.build(runtime)]


class _Wiring:
    """What the watches tell, to the spines that act."""

    def __init__(self, runtime: Runtime) -> None:
        cluster, clock, emit = runtime.cluster, runtime.clock, runtime.events("external-secrets", sparing=True)
        options = runtime.options
        limit = options.get("drop_limit")
        self.waker = Waker()
        self._home = runtime.namespace
        self._clock = clock
        self._index, self._observed, self._demand = ExternalIndex(), Observed(cluster), Demand()
        self._observed.watches_secrets()
        self._stores = Stores(
            cluster,
            runtime.doors.secret_source,
            emit,
            clock=clock,
            our_class=str(options.get("controller_class") or DEFAULT_CLASS),
            observed=self._observed,
        )
        self.kept = Keeping(cluster, clock, runtime.doors, fence=runtime.fence, observed=self._observed, emit=emit)
        self.kept.living, self.kept.wake = self._index.externals, lambda key: self.waker.add(key)  # noqa: PLW0108 - set later
        generators = Generators(cluster.get, cluster=cluster, open_source=runtime.doors.secret_source)
        self._values = Values(self._stores, generators, demand=self._demand)
        self._externals = ExternalSecrets(
            cluster,
            self._stores,
            emit,
            clock=clock,
            observed=self._observed,
            values=self._values,
            drop_limit=DROP_LIMIT if limit is None else float(limit),
        )
        self._externals.kept = self.kept
        self._pushes = PushSecrets(
            cluster, self._stores, emit, clock, observed=self._observed, generators=generators, fence=runtime.fence
        )
        self._pushed: dict[ObjectKey, Manifest] = {}

    def watched(self) -> list[Watched]:
        """Give what is watched."""
        return [
            Watched(selection=Selection(kind=EXTERNAL_SECRET), keys=self._external),
            Watched(selection=Selection(kind=PUSH_SECRET), keys=self._push),
            Watched(selection=Selection(kind=SECRET_STORE), keys=self._store),
            Watched(selection=Selection(kind=CLUSTER_SECRET_STORE), keys=self._store),
            Watched(selection=Selection(kind=SECRET, metadata_only=True), keys=self._secret, keep=name_alone),
            Watched(selection=Selection(kind=CONFIG_MAP, metadata_only=True), keys=self._source, keep=name_alone),
            Watched(
                selection=Selection(kind=SECRET, namespace=self._home, field_selector=f"metadata.name={CONFIGURATION}"),
                keys=self._escrow,
            ),
        ]

    # --- Acting ----------------------------------------------------------------------------------------

    def reconcile(self, key: ObjectKey) -> Result:
        """Bring one object in line."""
        if key.kind == EXTERNAL_SECRET.kind:
            since, forced = self._index.since(key)
            done = self._externals.reconcile(key, since=since, forced=forced)
            return Result(action=done.action, again_after=done.again)
        if key.kind == PUSH_SECRET.kind:
            _, forced = self._index.since(key)
            pushed = self._pushes.reconcile(key, changed=forced)
            return Result(action=pushed.action, again_after=pushed.again)
        self._pushes.guard(key, list(self._pushed.values()))
        return Result(action="validated", again_after=self._stores.reconcile(key))

    def recover(self) -> float:
        """Have those served by another store ask their own again, once it has been back for a while."""
        for store in self._values.look_for_recovery():
            for key in self._index.on_store(store, self._clock.now()):
                self.waker.add(key)
        return RECOVERY

    def readers(self, remote: str) -> Sequence[ObjectKey]:
        """Give the ExternalSecrets that read a key at its provider."""
        return self._index.readers(remote)

    def refresh(self, keys: Sequence[ObjectKey]) -> None:
        """Have ExternalSecrets ask their stores now."""
        for key in self._index.force(keys, self._clock.now()):
            self.waker.add(key)

    def end(self) -> None:
        """Give back what we logged in for at stores."""
        self._stores.open.close()

    # --- Hearing ---------------------------------------------------------------------------------------

    def _external(self, kind: EventType, manifest: Manifest) -> Sequence[ObjectKey]:
        if kind is EventType.DELETED:
            self._observed.gone(manifest.key)
            self._demand.drop((manifest.namespace, manifest.name))
            self._index.external_gone(manifest.key)
            return ()
        self._observed.note(manifest)
        woken = self._index.external(manifest, self._clock.now())
        if woken:
            expect(self._demand, manifest, self._clock.now())
        return woken

    def _push(self, kind: EventType, manifest: Manifest) -> Sequence[ObjectKey]:
        before = self._pushed.pop(manifest.key, None)
        if kind is EventType.DELETED:
            self._observed.gone(manifest.key)
            self._index.external_gone(manifest.key)
            return self._stores_of(manifest)
        self._observed.note(manifest)
        self._pushed[manifest.key] = manifest
        woken = self._index.push(manifest, self._clock.now())
        signed = before is None or before.metadata.get("finalizers") != manifest.metadata.get("finalizers")
        return [*woken, *(self._stores_of(manifest) if signed or woken else ())]

    def _stores_of(self, push: Manifest) -> list[ObjectKey]:
        """Give the stores a PushSecret names: they are kept as long as it may have to delete in them."""
        found = []
        for choice in store_choices(push):
            if choice.name:
                home = "" if choice.kind == CLUSTER_SECRET_STORE.kind else push.namespace
                found.append(ObjectKey(SECRET_STORE.group, choice.kind, home, choice.name))
        return found

    def _store(self, kind: EventType, manifest: Manifest) -> Sequence[ObjectKey]:
        if kind is EventType.DELETED:
            self._observed.gone(manifest.key)
            self._index.store_gone(manifest.key)
            return ()
        self._observed.note(manifest)
        refs: list[tuple[str, str, str]] = []
        with contextlib.suppress(InvalidManifest):
            refs = [(ref.kind, ref.namespace, ref.name) for ref in read_store(manifest).provider.refs]
        self._index.credentials(manifest.key, refs)
        itself, woken = self._index.store(manifest)
        return [*itself, *woken]

    def _secret(self, kind: EventType, manifest: Manifest) -> Sequence[ObjectKey]:
        there, maker = kind is not EventType.DELETED, manifest.labels.get(CREATED_BY, "")
        place = (manifest.namespace, manifest.name)
        self._observed.secret(*place, exists=there, maker=maker, version=version_of(manifest))
        own = there and self._observed.is_ours(*place)
        return [*(() if own else self._index.secret(manifest)), *self._source(kind, manifest)]

    def _escrow(self, kind: EventType, manifest: Manifest) -> Sequence[ObjectKey]:
        self.kept.configured(None if kind is EventType.DELETED else manifest)
        return ()

    def _source(self, kind: EventType, manifest: Manifest) -> Sequence[ObjectKey]:
        return self._index.source(kind, manifest, self._clock.now())


def expect(demand: Demand, manifest: Manifest, now: dt.datetime) -> None:
    """Say which documents a new or changed ExternalSecret will want; one that is not valid wants none."""
    with contextlib.suppress(InvalidManifest):
        wanted = read(manifest)
        if not is_due(wanted, manifest.status, now):
            return
        for ref in wanted.stores:
            asks = [pull.ask for pull in wanted.pulls if pull.store == ref and pull.ask is not None]
            demand.note((wanted.namespace, wanted.name), (ref, wanted.namespace), asks, now)


def name_alone(manifest: Manifest) -> Manifest:
    """Give what is kept of a watched Secret or ConfigMap: no data, and no annotation that repeats data."""
    metadata = {name: manifest.metadata.get(name) for name in ("name", "namespace", "uid", "resourceVersion")}
    if CREATED_BY in manifest.labels:
        metadata["labels"] = {CREATED_BY: manifest.labels[CREATED_BY]}
    return Manifest({"apiVersion": "v1", "kind": manifest.kind.kind, "metadata": metadata})
