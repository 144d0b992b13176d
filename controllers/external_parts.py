"""ExternalSecrets and their stores in the process: what is watched, whom a change wakes, who works.

What never lives here: how one object is brought in line (`controllers.external_secrets`), the loop itself.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Sequence

from controllers import cluster_external_secrets
from controllers.external_index import ExternalIndex
from controllers.external_secrets import ExternalSecrets
from controllers.external_values import Values
from controllers.loop import Part, Result, Runtime, Tick, Waker, Watched
from controllers.observed import Observed
from controllers.reflector import Selection
from controllers.stores import DEFAULT_CLASS, Stores
from secretsops.errors import InvalidManifest
from secretsops.external.demand import Demand
from secretsops.external.due import is_due
from secretsops.external.generating import Generators
from secretsops.external.model import CLUSTER_SECRET_STORE, EXTERNAL_SECRET, MANAGED, SECRET, SECRET_STORE, read
from secretsops.external.survival import DROP_LIMIT
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ports import EventType


def build(runtime: Runtime) -> Sequence[Part]:
    """Give the parts that keep ExternalSecrets and what makes them; option `controller_class` is the peer's flag."""
    cluster, clock, emit = runtime.cluster, runtime.clock, runtime.events("external-secrets")
    index, observed, demand = ExternalIndex(), Observed(cluster), Demand()
    observed.watches_secrets()
    our_class = str(runtime.options.get("controller_class") or DEFAULT_CLASS)
    door = runtime.doors.secret_source
    stores = Stores(cluster, door, emit, clock=clock, our_class=our_class, observed=observed)
    values = Values(stores, Generators(cluster.get), demand=demand)
    limit = runtime.options.get("drop_limit")
    spine = ExternalSecrets(
        cluster,
        stores,
        emit,
        clock=clock,
        observed=observed,
        values=values,
        drop_limit=DROP_LIMIT if limit is None else float(limit),
    )
    waker = Waker()

    def reconcile(key: ObjectKey) -> Result:
        if key.kind != EXTERNAL_SECRET.kind:
            return Result(action="validated", again_after=stores.reconcile(key))
        since, forced = index.since(key)
        done = spine.reconcile(key, since=since, forced=forced)
        return Result(action=done.action, again_after=done.again)

    def external(kind: EventType, manifest: Manifest) -> Sequence[ObjectKey]:
        if kind is EventType.DELETED:
            observed.gone(manifest.key)
            demand.drop((manifest.namespace, manifest.name))
            index.external_gone(manifest.key)
            return ()
        observed.note(manifest)
        woken = index.external(manifest, clock.now())
        if woken:
            expect(demand, manifest, clock.now())
        return woken

    def store(kind: EventType, manifest: Manifest) -> Sequence[ObjectKey]:
        if kind is EventType.DELETED:
            observed.gone(manifest.key)
            index.store_gone(manifest.key)
            return ()
        observed.note(manifest)
        itself, woken = index.store(manifest)
        return [*itself, *woken]

    def secret(kind: EventType, manifest: Manifest) -> Sequence[ObjectKey]:
        observed.secret(manifest.namespace, manifest.name, exists=kind is not EventType.DELETED)
        return index.secret(manifest)

    made = Selection(kind=SECRET, label_selector=f"{MANAGED}=true")
    watched = [
        Watched(selection=Selection(kind=EXTERNAL_SECRET), keys=external),
        Watched(selection=Selection(kind=SECRET_STORE), keys=store),
        Watched(selection=Selection(kind=CLUSTER_SECRET_STORE), keys=store),
        Watched(selection=made, keys=secret, keep=without_values),
    ]

    def recover() -> float:
        """Have those served by another store ask their own again, once it has been back for a while."""
        for store in values.look_for_recovery():
            for key in index.on_store(store, clock.now()):
                waker.add(key)
        return 5.0

    part = Part(
        name="external-secrets",
        watched=watched,
        reconcile=reconcile,
        ticks=[Tick(name="recovery", act=recover)],
        waker=waker,
        workers=4,
    )
    return [part, *cluster_external_secrets.build(runtime)]


def expect(demand: Demand, manifest: Manifest, now: dt.datetime) -> None:
    """Say which documents a new or changed ExternalSecret will want; one that is not valid wants none."""
    with contextlib.suppress(InvalidManifest):
        wanted = read(manifest)
        if not is_due(wanted, manifest.status, now):
            return
        for ref in wanted.stores:
            asks = [pull.ask for pull in wanted.pulls if pull.store == ref and pull.ask is not None]
            demand.note((wanted.namespace, wanted.name), (ref, wanted.namespace), asks, now)


def without_values(secret: Manifest) -> Manifest:
    """Give what is kept of a watched Secret: its name and version, no data and no annotation that repeats data."""
    metadata = {name: secret.metadata.get(name) for name in ("name", "namespace", "uid", "resourceVersion")}
    return Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
