"""ExternalSecret to Secret, in the cluster: observe, fetch, select, decide, act, report. The spine of external secrets.

A failed sync leaves the last good Secret as it is and says so in status; values go nowhere but into the Secret. What
counts as due, as the value of a property, as ours, is decided by the pure ribs in `secretsops.external`.

What never lives here: a vendor's client, property syntax, queues and watches.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from controllers.external_index import ExternalIndex
from controllers.stores import DEFAULT_CLASS, SharedSource, Stores
from secretsops.clock import SystemClock
from secretsops.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Invalid,
    InvalidManifest,
    NotFound,
    NotOurs,
    Refused,
    SecretsOpsError,
    StoreRefused,
)
from secretsops.external.due import is_due, next_pass, oldest_acceptable, refreshed_at, synced_version
from secretsops.external.model import (
    CLUSTER_SECRET_STORE,
    CREATED_BY,
    EXTERNAL_SECRET,
    FINALIZER,
    MANAGED,
    SECRET,
    SECRET_STORE,
    ExternalSecret,
    Pull,
    StoreRef,
    read,
    store_refs,
    target_name,
)
from secretsops.external.render import compose, created_by, field_manager, is_intact
from secretsops.external.select import checked_keys, convert_keys, decoded, extract, refuse_null_bytes, select
from secretsops.external.status import DELETED, MISSING, SYNCED, SYNCED_ERROR, stamp, with_ready
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ownership import Create, Leave, Refuse, Update, decide_external, is_of_external_secret
from secretsops.ports import Clock, Cluster, EventType, PatchType
from secretsops.secret import Plaintext

if TYPE_CHECKING:
    from controllers.loop import Part, Result, Runtime

Emit = Callable[[Manifest, str, str, str], None]
"""Publishes an event: object, type (`Normal`, `Warning`), reason, message."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a pass did (`created`, `updated`, `unchanged`, `fresh`, `deleted`, `refused`, `skipped`, `gone`).

    `again` is in seconds until the next periodic pass, 0 for none.
    """

    action: str
    again: float = 0.0


class _CannotFetch(Exception):
    """The provider's values could not be had; `cause` says why, `where` names the entry."""

    def __init__(self, where: str, cause: SecretsOpsError) -> None:
        super().__init__(where)
        self.where = where
        self.cause = cause


class ExternalSecrets:
    """Reconciles one ExternalSecret at a time; remembers nothing between passes."""

    def __init__(self, cluster: Cluster, stores: Stores, emit: Emit, *, clock: Clock | None = None) -> None:
        self._cluster = cluster
        self._stores = stores
        self._emit = emit
        self._clock = clock or SystemClock()

    def reconcile(self, key: ObjectKey, *, since: dt.datetime | None = None) -> Done:
        """Bring one Secret in line with its ExternalSecret. `since` is when a watch told of it, None for another cause.

        Raises:
            SecretsOpsError: it could not be done; status and event say why, the queue tries again.
        """
        # 1. Observe the ExternalSecret; take leave of one that is being deleted; sign for its clean-up.
        started = self._clock.now()
        try:
            manifest = self._cluster.get(EXTERNAL_SECRET, key.name, key.namespace)
        except NotFound:
            return Done("gone")
        if manifest.metadata.get("deletionTimestamp"):
            return self._finish(manifest)
        manifest = self._signed(manifest)
        # 2. Look at its stores; those of another controller class are none of our business.
        stores = {ref: self._stores.find(ref, manifest.namespace) for ref in store_refs(manifest)}
        if any(store is not None and self._stores.is_foreign(store) for store in stores.values()):
            return Done("skipped")
        # 3. Read it: what is not valid stays so until somebody changes it.
        try:
            wanted = read(manifest)
        except InvalidManifest as error:
            self._fail(manifest, "could not get secret data from provider", error.message)
            return Done("refused")
        # 4. Observe the Secret; ask the provider only when something is due or the Secret is not as it was left.
        live = self._secret(wanted.target.name, key.namespace)
        due = is_due(wanted, manifest.status, started)
        if not due and is_intact(wanted, live):
            return Done("fresh", next_pass(wanted, refreshed_at(manifest.status), started))
        # 5. Fetch and select all values, or none.
        acceptable = oldest_acceptable(wanted, manifest.status, since, started) if due else started
        try:
            values = self._values(manifest, wanted, stores, acceptable)
        except _CannotFetch as failure:
            text = f"error processing {failure.where}, err: {failure.cause.message}"
            self._fail(manifest, "could not get secret data from provider", text)
            if isinstance(failure.cause, InvalidManifest):
                return Done("refused", next_pass(wanted, started, started))
            raise failure.cause from None
        # 6. Decide and act, 7. report.
        if not values and wanted.target.deletion != "Merge":
            return self._without_values(manifest, wanted, live, started)
        return self._write(manifest, wanted, values, live, started)

    # --- Beginning and end -----------------------------------------------------------------------------

    def _signed(self, manifest: Manifest) -> Manifest:
        finalizers = list(manifest.metadata.get("finalizers") or [])
        if FINALIZER in finalizers:
            return manifest
        return self._with_finalizers(manifest, [*finalizers, FINALIZER])

    def _with_finalizers(self, manifest: Manifest, finalizers: list[str]) -> Manifest:
        patch = {"metadata": {"resourceVersion": manifest.resource_version, "finalizers": finalizers}}
        return self._cluster.patch(
            EXTERNAL_SECRET, manifest.name, patch, namespace=manifest.namespace, patch_type=PatchType.MERGE
        )

    def _finish(self, manifest: Manifest) -> Done:
        """Delete the target where deletionPolicy asks for it, and let the ExternalSecret go.

        A Secret made under Owner goes by its owner reference; the others stay.
        """
        finalizers = list(manifest.metadata.get("finalizers") or [])
        if FINALIZER not in finalizers:
            return Done("gone")
        target = manifest.spec.get("target")
        if isinstance(target, dict) and target.get("deletionPolicy") == "Delete":
            live = self._secret(target_name(manifest), manifest.namespace)
            if live is not None and is_of_external_secret(live, manifest.name):
                self._delete(live)
        with contextlib.suppress(NotFound):
            self._with_finalizers(manifest, [name for name in finalizers if name != FINALIZER])
        return Done("gone")

    def _secret(self, name: str, namespace: str) -> Manifest | None:
        try:
            return self._cluster.get(SECRET, name, namespace)
        except NotFound:
            return None

    def _delete(self, live: Manifest) -> None:
        with contextlib.suppress(NotFound):
            self._cluster.delete(SECRET, live.name, namespace=live.namespace, uid=live.uid)

    # --- Values ----------------------------------------------------------------------------------------

    def _values(
        self,
        manifest: Manifest,
        wanted: ExternalSecret,
        stores: Mapping[StoreRef, Manifest | None],
        not_before: dt.datetime,
    ) -> dict[str, Plaintext]:
        """Give the data of the Secret: `dataFrom` in order, then `data` in order, the later one wins."""
        sources: dict[StoreRef, SharedSource] = {}
        values: dict[str, Plaintext] = {}
        for pull in wanted.pulls:
            where = f"{pull.where} (key: {pull.key})" if pull.secret_key else f"{pull.where}.extract"
            try:
                if pull.store not in sources:
                    sources[pull.store] = self._stores.source(pull.store, stores[pull.store], wanted.namespace)
                values |= _pulled(pull, sources[pull.store], not_before)
            except StoreRefused as error:
                if error.reason != "NotFound":
                    raise _CannotFetch(where, error) from None
                if wanted.target.deletion == "Retain":
                    raise _CannotFetch(where, _absent(error)) from None
                # Compat: the peer numbers `data` entries as spec.dataFrom too.
                shown = f"spec.dataFrom[{pull.index}]" + (f" (key={pull.key})" if pull.secret_key else "")
                text = f"secret does not exist at provider using {shown}"
                self._emit(manifest, "Normal", "MissingProviderSecret", text)
            except SecretsOpsError as error:
                raise _CannotFetch(where, error) from None
        return values

    def _without_values(
        self, manifest: Manifest, wanted: ExternalSecret, live: Manifest | None, started: dt.datetime
    ) -> Done:
        """Follow deletionPolicy where the provider has nothing: Retain leaves the Secret, Delete takes it away."""
        again = next_pass(wanted, started, self._clock.now())
        if wanted.target.deletion == "Retain":
            self._succeed(manifest, wanted, started, message="secret retained due to DeletionPolicy=Retain")
            return Done("unchanged", again)
        if wanted.target.creation != "Owner":
            text = f"deletionPolicy Delete needs creationPolicy Owner, not {wanted.target.creation}"
            self._fail(manifest, "could not delete secret", text)
            return Done("refused")
        text = "secret deleted due to DeletionPolicy=Delete"
        if live is not None:
            if not is_of_external_secret(live, wanted.name):
                self._fail(manifest, "could not delete secret", f"secret {live.name} is not ours to delete")
                return Done("refused")
            self._delete(live)
            self._emit(manifest, "Normal", "Deleted", text)
        self._succeed(manifest, wanted, started, reason=DELETED, message=text)
        return Done("deleted", again)

    # --- The Secret ------------------------------------------------------------------------------------

    def _write(
        self,
        manifest: Manifest,
        wanted: ExternalSecret,
        values: Mapping[str, Plaintext],
        live: Manifest | None,
        started: dt.datetime,
    ) -> Done:
        again = next_pass(wanted, started, self._clock.now())
        binding = "" if wanted.target.creation == "None" else wanted.target.name
        if wanted.target.creation == "None":
            self._succeed(manifest, wanted, started)
            return Done("unchanged", again)
        if wanted.target.creation == "Merge" and live is None:
            text = "secret will not be created due to CreationPolicy=Merge"
            self._succeed(manifest, wanted, started, reason=MISSING, message=text)
            return Done("unchanged", again)
        try:
            self._drop_renamed(manifest, wanted)
            action = self._act(wanted, values, live)
        except (AlreadyExists, Conflict):
            # Somebody was faster: look again, there is nothing to tell yet.
            raise
        except SecretsOpsError as error:
            self._fail(manifest, *_told(error), binding=binding)
            if isinstance(error, Refused):
                return Done("refused", again)
            raise
        if action != "unchanged":
            self._emit(manifest, "Normal", action.capitalize(), f"secret {action}")
        self._succeed(manifest, wanted, started, binding=binding)
        return Done(action, again)

    def _act(self, wanted: ExternalSecret, values: Mapping[str, Plaintext], live: Manifest | None) -> str:
        manager = field_manager(wanted.name)
        secret = compose(wanted, values, live)
        match decide_external(secret, live, name=wanted.name, creation=wanted.target.creation):
            case Create(body):
                self._cluster.create(body, field_manager=manager)
                return "created"
            case Update(body):
                self._cluster.replace(body, field_manager=manager)
                return "updated"
            case Leave():
                return "unchanged"
            case Refuse(reason, message):
                raise NotOurs(message, reason=reason, hint="choose another spec.target.name")
        raise AssertionError("an ExternalSecret's Secret is never deleted by that decision")

    def _drop_renamed(self, manifest: Manifest, wanted: ExternalSecret) -> None:
        """Delete the Secrets this object made under another name: status says that it was bound to one."""
        binding = manifest.status.get("binding")
        bound = binding.get("name") if isinstance(binding, dict) else ""
        if wanted.target.creation != "Owner" or not bound or bound == wanted.target.name:
            return
        ours = self._cluster.list(
            SECRET, namespace=wanted.namespace, label_selector=f"{CREATED_BY}={created_by(wanted)}"
        )
        for secret in ours:
            if secret.name != wanted.target.name and is_of_external_secret(secret, wanted.name):
                self._delete(secret)
                self._emit(manifest, "Normal", "Deleted", "secret deleted because it was orphaned")

    # --- Status ----------------------------------------------------------------------------------------

    def _succeed(
        self,
        manifest: Manifest,
        wanted: ExternalSecret,
        started: dt.datetime,
        *,
        reason: str = SYNCED,
        message: str = "secret synced",
        binding: str = "",
    ) -> None:
        status = with_ready(manifest.status, ready=True, reason=reason, message=message, now=self._clock.now())
        status |= {"refreshTime": stamp(started), "syncedResourceVersion": synced_version(wanted)}
        self._report(manifest, status, binding)

    def _fail(self, manifest: Manifest, message: str, cause: str, *, binding: str = "") -> None:
        """Say that the sync failed; time and version of the last success stay, as the Secret does."""
        self._emit(manifest, "Warning", "UpdateFailed", cause)
        status = with_ready(manifest.status, ready=False, reason=SYNCED_ERROR, message=message, now=self._clock.now())
        self._report(manifest, status, binding)

    def _report(self, manifest: Manifest, status: dict[str, Any], binding: str) -> None:
        old = manifest.status.get("binding")
        bound = {"name": binding} if binding else old if isinstance(old, dict) and old else {"name": ""}
        # The whole status is put, because a merge patch cannot write the null of a refreshTime that never was.
        status = {**status, "binding": bound, "refreshTime": status.get("refreshTime")}
        if status != {**manifest.status, "refreshTime": manifest.status.get("refreshTime")}:
            self._cluster.replace(Manifest({**manifest.body, "status": status}), subresource="status")


def _pulled(pull: Pull, source: SharedSource, not_before: dt.datetime) -> dict[str, Plaintext]:
    """Give what one entry adds to the Secret.

    Raises:
        StoreRefused: `NotFound` where the document is absent, `PropertyMissing` where only the property is.
        InvalidManifest: path, keys or decoding do not work out.
    """
    document = source.read(pull.key, pull.version, not_before).document
    value = select(document, pull.property, source.dialect)
    if value is None:
        raise _property_missing(pull, source.dialect)
    if pull.secret_key:
        values = {pull.secret_key: value}
    else:
        values = checked_keys(convert_keys(extract(value, source.dialect), pull.conversion))
    values = {key: decoded(item, pull.decoding, key) for key, item in values.items()}
    refuse_null_bytes(values, pull.null_bytes)
    return values


def _property_missing(pull: Pull, dialect: str) -> StoreRefused:
    """Compat: a missing property is an error under every deletionPolicy; only the fake provider calls it absent."""
    if dialect == "plain":
        return StoreRefused(f"{pull.key!r} has no property {pull.property!r}", reason="NotFound")
    text = f'cannot find secret data for key: "{pull.property}"'
    if dialect == "aws":
        text = f"key {pull.property} does not exist in secret {pull.key}"
    return StoreRefused(text, reason="PropertyMissing", hint="check remoteRef.property")


def _absent(error: StoreRefused) -> StoreRefused:
    """Compat: the peer's words for whatever a provider does not have."""
    return StoreRefused("Secret does not exist", reason=error.reason, hint=error.hint)


def _told(error: SecretsOpsError) -> tuple[str, str]:
    """Give condition message and cause of a Secret that could not be written; the API server's text stays behind."""
    if error.reason == "OwnedByAnother":
        return "target is owned by another ExternalSecret", error.message
    if error.reason == "OwnershipConflict":
        return "failed to take ownership of target secret", error.message
    if isinstance(error, Invalid) and "immutable" in error.message:
        return "could not update secret, target is immutable", "the secret is immutable; delete it to have it made anew"
    if isinstance(error, ApiError):
        return "could not update secret", f"the API server refused the secret ({error.reason})"
    return "could not update secret", error.message


# --- In the process ------------------------------------------------------------------------------------


def build(runtime: Runtime) -> Sequence[Part]:
    """Give the one part that keeps ExternalSecrets and their stores; option `controller_class` is the peer's flag."""
    from controllers.loop import Part, Result, Watched
    from controllers.reflector import Selection

    emit, index = runtime.events("external-secrets"), ExternalIndex()
    our_class = str(runtime.options.get("controller_class") or DEFAULT_CLASS)
    stores = Stores(runtime.cluster, runtime.doors.secret_source, emit, clock=runtime.clock, our_class=our_class)
    spine = ExternalSecrets(runtime.cluster, stores, emit, clock=runtime.clock)

    def reconcile(key: ObjectKey) -> Result:
        if key.kind != EXTERNAL_SECRET.kind:
            return Result(action="validated", again_after=stores.reconcile(key))
        done = spine.reconcile(key, since=index.since(key))
        return Result(action=done.action, again_after=done.again)

    def external(kind: EventType, manifest: Manifest) -> Sequence[ObjectKey]:
        if kind is EventType.DELETED:
            index.external_gone(manifest.key)
            return ()
        return index.external(manifest, runtime.clock.now())

    def store(kind: EventType, manifest: Manifest) -> Sequence[ObjectKey]:
        if kind is EventType.DELETED:
            index.store_gone(manifest.key)
            return ()
        itself, woken = index.store(manifest)
        return [*itself, *woken]

    made = Selection(kind=SECRET, label_selector=f"{MANAGED}=true")
    watched = [
        Watched(selection=Selection(kind=EXTERNAL_SECRET), keys=external),
        Watched(selection=Selection(kind=SECRET_STORE), keys=store),
        Watched(selection=Selection(kind=CLUSTER_SECRET_STORE), keys=store),
        Watched(selection=made, keys=lambda _kind, manifest: index.secret(manifest), keep=without_values),
    ]
    return [Part(name="external-secrets", watched=watched, reconcile=reconcile, workers=4)]


def without_values(secret: Manifest) -> Manifest:
    """Give what is kept of a watched Secret: its name and version, no data and no annotation that repeats data."""
    metadata = {name: secret.metadata.get(name) for name in ("name", "namespace", "uid", "resourceVersion")}
    return Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
