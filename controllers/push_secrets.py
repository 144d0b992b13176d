"""PushSecret to stores: observe, plan, write, take back what is wanted no more, report. The spine of pushing.

Under deletionPolicy Delete status names a place before anything is written there, so that a process that dies in
between leaves nothing behind that nobody knows of. What others keep in a store is refused by the source, not here.

Compat: the finalizer is added by a patch, which leaves the spec and so the generation as they were.
Compat: a place that another store of the very same provider is still to hold is not deleted when a store is dropped.

What never lives here: what an entry means (`secretsops.external.push`), how stores are opened, queues and watches.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controllers.external_reporting import Emit
from controllers.fence import Fence
from controllers.observed import Observed
from controllers.stores import Stores
from secretsops.errors import Conflict, InvalidManifest, NotFound, SecretsOpsError, StoreRefused
from secretsops.external.entries import StoreRef
from secretsops.external.fetch import Shared
from secretsops.external.generating import Generators
from secretsops.external.model import CLUSTER_SECRET_STORE, SECRET, SECRET_STORE
from secretsops.external.push import (
    FINALIZER,
    PUSH_SECRET,
    STORE_FINALIZER,
    PushSecret,
    StoreChoice,
    Synced,
    both,
    is_due,
    next_push,
    plan,
    read_push,
    remote_of,
    store_choices,
    store_of,
    synced,
    unwanted,
)
from secretsops.external.push import deletes as deletes_remotely
from secretsops.external.reading import template_texts
from secretsops.external.status import stamp, with_ready
from secretsops.external.template import fill, transformed
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ports import Clock, Cluster
from secretsops.secret import Plaintext, SecretData

SYNCED, ERRORED, SOURCE_DELETED = "Synced", "Errored", "SourceDeleted"
DONE = "PushSecret synced successfully"
KEPT = f"{DONE}. Existing secrets in providers unchanged."
"""Compat: the peer's words."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a pass did, and in how many seconds it is due again (0 for never)."""

    action: str
    again: float = 0.0


class PushSecrets:
    """Reconciles one PushSecret, or the finalizer of one store, at a time."""

    def __init__(
        self,
        cluster: Cluster,
        stores: Stores,
        emit: Emit,
        clock: Clock,
        *,
        observed: Observed,
        generators: Generators,
        fence: Fence | None = None,
    ) -> None:
        self._fence = fence or Fence()
        self._cluster = cluster
        self._stores = stores
        self._emit = emit
        self._clock = clock
        self._observed = observed
        self._generators = generators

    def reconcile(self, key: ObjectKey, *, changed: bool = False) -> Pushed:
        """Bring the stores in line with one PushSecret; `changed` says that its source was.

        Raises:
            SecretsOpsError: it could not be done; status and event say why, the queue tries again.
        """
        # 0. A cluster that was replaced pushes nothing and takes nothing back: the stores are the other's now.
        if self._fence.up:
            return Pushed("fenced", self._fence.again)
        # 1. Observe it; take back what it wrote when it is being deleted; sign for that.
        try:
            manifest = self._observed.get(PUSH_SECRET, key.name, key.namespace)
            if manifest.metadata.get("deletionTimestamp"):
                return self._finish(manifest)
            manifest = self._signed(manifest)
        except NotFound:
            self._observed.gone(key)
            return Pushed("gone")
        # 2. Read it: what is not valid stays so until somebody changes it.
        try:
            push = read_push(manifest)
        except InvalidManifest as error:
            self._fail(manifest, error.message)
            return Pushed("refused")
        started = self._clock.now()
        if not changed and not is_due(push, manifest.status, started):
            return Pushed("fresh", next_push(push, manifest.status, started))
        # 3. Read its source and its stores; 4. write; 5. take back what is wanted no more; 6. report.
        sources = self._sources(push)
        if sources is None:
            return self._without_source(manifest, push, started)
        try:
            return self._push(manifest, push, sources, started)
        except Conflict:
            raise
        except SecretsOpsError as error:
            self._fail(manifest, error.message)
            if isinstance(error, InvalidManifest):
                return Pushed("refused", push.interval)
            raise

    # --- Beginning and end -----------------------------------------------------------------------------

    def _signed(self, manifest: Manifest) -> Manifest:
        finalizers = list(manifest.metadata.get("finalizers") or [])
        if deletes_remotely(manifest) == (FINALIZER in finalizers):
            return manifest
        kept = [name for name in finalizers if name != FINALIZER]
        return self._with_finalizers(manifest, [*kept, FINALIZER] if deletes_remotely(manifest) else kept)

    def _with_finalizers(self, manifest: Manifest, finalizers: Sequence[str]) -> Manifest:
        patch = {"metadata": {"resourceVersion": manifest.resource_version, "finalizers": list(finalizers)}}
        return self._observed.wrote(
            self._cluster.patch(manifest.kind, manifest.name, patch, namespace=manifest.namespace)
        )

    def _finish(self, manifest: Manifest) -> Pushed:
        finalizers = list(manifest.metadata.get("finalizers") or [])
        if FINALIZER not in finalizers:
            return Pushed("gone")
        if deletes_remotely(manifest):
            try:
                self._take_back(manifest, unwanted(synced(manifest.status), {}), kept=())
            except SecretsOpsError as error:
                self._fail(manifest, f"Failed to Delete Secrets from Provider: {error.message}")
                raise
        with contextlib.suppress(NotFound):
            self._with_finalizers(manifest, [name for name in finalizers if name != FINALIZER])
        return Pushed("gone")

    # --- Source and stores -----------------------------------------------------------------------------

    def _sources(self, push: PushSecret) -> list[Mapping[str, Plaintext]] | None:
        """Give the data of each source, None where a source Secret is not there; never from another namespace."""
        if push.generator is not None:
            return [self._generators(push.generator, push.namespace)]
        if push.secret:
            try:
                return [SecretData.of(self._cluster.get(SECRET, push.secret, push.namespace).body)]
            except NotFound:
                return None
        choice = StoreChoice(kind=SECRET.kind, selector=push.selector)
        found = [each for each in self._cluster.list(SECRET, namespace=push.namespace) if choice.chooses(each)]
        return [SecretData.of(each.body) for each in found] or None

    def _chosen(self, push: PushSecret) -> list[Manifest]:
        """Give the stores to write to, without those of another controller class."""
        found: dict[ObjectKey, Manifest] = {}
        for choice in push.stores:
            if choice.name:
                ref = StoreRef(choice.kind, choice.name)
                store = self._stores.open.find(ref, push.namespace)
                if store is None:
                    raise StoreRefused(
                        f'could not get {ref.kind} "{ref.name}", {ref.kind}.external-secrets.io "{ref.name}" not found',
                        reason="StoreMissing",
                        hint="create the store, or correct its name",
                    )
                found[store.key] = store
            else:
                wide = choice.kind == CLUSTER_SECRET_STORE.kind
                kind, home = (CLUSTER_SECRET_STORE, "") if wide else (SECRET_STORE, push.namespace)
                found |= {each.key: each for each in self._cluster.list(kind, namespace=home) if choice.chooses(each)}
        return [store for store in found.values() if not self._stores.is_foreign(store)]

    def _open(self, store: Manifest, namespace: str) -> Shared:
        return self._stores.open.source(StoreRef(store.kind.kind, store.name), store, namespace)

    # --- Writing ---------------------------------------------------------------------------------------

    def _templated(self, push: PushSecret, data: Mapping[str, Plaintext]) -> Mapping[str, Plaintext]:
        """Give what goes out: what the template makes of the source, else the source."""
        if push.template is None:
            return data
        return fill(push.template, data, template_texts(self._cluster.get, push.namespace)).values

    def _push(
        self, manifest: Manifest, push: PushSecret, sources: Sequence[Mapping[str, Plaintext]], started: dt.datetime
    ) -> Pushed:
        stores = self._chosen(push)
        datas = [self._templated(push, data) for data in sources]
        plans = [(store, plan(push, data, store, transformed)) for store in stores for data in datas]
        new: Synced = {}
        for store, planned in plans:
            new.setdefault(_name(store), {}).update({item.entry.place: item.entry.shown for item in planned})
        old = synced(manifest.status)
        if push.deletes and both(old, new) != old:
            status = {**manifest.status, "syncedPushSecrets": both(old, new)}
            manifest = self._write(manifest, status)
        for store, planned in plans:
            source = self._open(store, push.namespace)
            for item in planned:
                if not push.replaces and source.exists(item.put.key, item.put.property, namespace=push.namespace):
                    continue
                try:
                    source.put(item.put, namespace=push.namespace)
                except SecretsOpsError as error:
                    what = f"could not write remote ref {item.entry.secret_key} to target secretstore {store.name}"
                    error.message = f"set secret failed: {what}: {error.message}"
                    raise
        if push.deletes:
            self._take_back(manifest, unwanted(old, new), kept=[(store, new[_name(store)]) for store in stores])
        message = DONE if push.replaces else KEPT
        status = {**manifest.status, "syncedPushSecrets": new, "refreshTime": stamp(started)}
        status["syncedResourceVersion"] = push.version
        self._succeed(manifest, status, SYNCED, message)
        return Pushed("pushed", next_push(push, status, self._clock.now()))

    def _without_source(self, manifest: Manifest, push: PushSecret, started: dt.datetime) -> Pushed:
        """Take back what was pushed when its source is gone and the policy says so; else say that it is missing."""
        old = synced(manifest.status)
        if not push.deletes or not any(old.values()):
            self._fail(manifest, "could not get source secret")
            return Pushed("refused", min(push.interval, 300.0) if push.interval > 0 else 300.0)
        self._take_back(manifest, unwanted(old, {}), kept=())
        status = {**manifest.status, "syncedPushSecrets": {}, "refreshTime": stamp(started)}
        status["syncedResourceVersion"] = push.version
        text = "source secret deleted; provider secrets cleaned up"
        self._succeed(manifest, status, SOURCE_DELETED, text, ready=False)
        return Pushed("deleted", next_push(push, status, self._clock.now()))

    def _take_back(
        self, manifest: Manifest, entries: Sequence[tuple[str, Any]], *, kept: Sequence[tuple[Manifest, dict[str, Any]]]
    ) -> None:
        for name, entry in entries:
            ref, (key, property_path) = store_of(name), remote_of(entry)
            store = self._stores.open.find(ref, manifest.namespace)
            if store is not None and _is_held(store, key, property_path, kept):
                continue
            source = self._stores.open.source(ref, store, manifest.namespace)
            source.remove(key, property_path, namespace=manifest.namespace)

    # --- Stores that must not go yet ---------------------------------------------------------------------

    def guard(self, key: ObjectKey, pushes: Sequence[Manifest]) -> None:
        """Keep a store as long as a PushSecret may have to delete in it; let it go afterwards."""
        kind = CLUSTER_SECRET_STORE if key.kind == CLUSTER_SECRET_STORE.kind else SECRET_STORE
        try:
            store = self._cluster.get(kind, key.name, key.namespace)
        except NotFound:
            return
        finalizers = list(store.metadata.get("finalizers") or [])
        needed = any(_may_delete_in(push, store) for push in pushes)
        if needed == (STORE_FINALIZER in finalizers) or (needed and store.metadata.get("deletionTimestamp")):
            return
        kept = [name for name in finalizers if name != STORE_FINALIZER]
        with contextlib.suppress(NotFound):
            self._with_finalizers(store, [*kept, STORE_FINALIZER] if needed else kept)

    # --- Status ----------------------------------------------------------------------------------------

    def _succeed(
        self, manifest: Manifest, status: dict[str, Any], reason: str, message: str, *, ready: bool = True
    ) -> None:
        self._write(manifest, with_ready(status, ready=ready, reason=reason, message=message, now=self._clock.now()))
        self._emit(manifest, "Normal", reason, message)

    def _fail(self, manifest: Manifest, message: str) -> None:
        self._emit(manifest, "Warning", ERRORED, message)
        self._write(
            manifest, with_ready(manifest.status, ready=False, reason=ERRORED, message=message, now=self._clock.now())
        )

    def _write(self, manifest: Manifest, status: dict[str, Any]) -> Manifest:
        if status == manifest.status:
            return manifest
        body = {**manifest.body, "status": status}
        return self._observed.wrote(self._cluster.replace(Manifest(body), subresource="status"))


def _name(store: Manifest) -> str:
    return f"{store.kind.kind}/{store.name}"


def _is_held(store: Manifest, key: str, property_path: str, kept: Sequence[tuple[Manifest, dict[str, Any]]]) -> bool:
    """Say whether another store of the very same provider is to hold a place."""
    return any(
        other.key != store.key
        and other.spec.get("provider") == store.spec.get("provider")
        and any(remote_of(entry) == (key, property_path) for entry in entries.values())
        for other, entries in kept
    )


def _may_delete_in(push: Manifest, store: Manifest) -> bool:
    if not deletes_remotely(push) or FINALIZER not in (push.metadata.get("finalizers") or []):
        return False
    if store.namespace and store.namespace != push.namespace:
        return False
    return _name(store) in synced(push.status) or any(choice.chooses(store) for choice in store_choices(push))
