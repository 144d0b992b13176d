"""ExternalSecret to Secret, in the cluster: observe, fetch, select, decide, act, report. The spine of external secrets.

A failed sync leaves the last good Secret as it is and says so in status; values go nowhere but into the Secret. What
counts as due, as the value of a property, as ours, is decided by the pure ribs in `secretsops.external`.

What never lives here: a vendor's client, property syntax, queues and watches.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from controllers.observed import Observed
from controllers.stores import Stores
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
    StoreUnavailable,
)
from secretsops.external.demand import Demand
from secretsops.external.due import is_due, mendable, next_pass, oldest_acceptable, refreshed_at, synced_version
from secretsops.external.entries import Pull, StoreRef
from secretsops.external.gather import EntryFailed, Gathered, gather
from secretsops.external.generating import Generators
from secretsops.external.model import (
    CREATED_BY,
    EXTERNAL_SECRET,
    FINALIZER,
    SECRET,
    ExternalSecret,
    read,
    store_refs,
    target_name,
)
from secretsops.external.reading import StoreReader
from secretsops.external.render import compose, created_by, field_manager, is_intact
from secretsops.external.rewrite import no_templates
from secretsops.external.status import DELETED, MISSING, SYNCED, SYNCED_ERROR, stamp, with_ready
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ownership import Create, Leave, Refuse, Update, decide_external, is_of_external_secret
from secretsops.ports import Clock, Cluster, PatchType
from secretsops.secret import Plaintext

if TYPE_CHECKING:
    pass

Emit = Callable[[Manifest, str, str, str], None]
"""Publishes an event: object, type (`Normal`, `Warning`), reason, message."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a pass did (`created`, `updated`, `unchanged`, `fresh`, `deleted`, `refused`, `skipped`, `gone`).

    `again` is in seconds until the next periodic pass, 0 for none.
    """

    action: str
    again: float = 0.0


class ExternalSecrets:
    """Reconciles one ExternalSecret at a time; remembers nothing between passes."""

    def __init__(
        self,
        cluster: Cluster,
        stores: Stores,
        emit: Emit,
        *,
        clock: Clock | None = None,
        observed: Observed | None = None,
        demand: Demand | None = None,
        generators: Generators | None = None,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self._cluster = cluster
        self._stores = stores
        self._emit = emit
        self._clock = clock or SystemClock()
        self._observed = observed or Observed(cluster)
        self._demand = demand or Demand()
        self._generators = generators or Generators(cluster.get)
        self._spread = spread

    def reconcile(self, key: ObjectKey, *, since: dt.datetime | None = None) -> Done:
        """Bring one Secret in line with its ExternalSecret. `since` is when a watch told of it, None for another cause.

        Raises:
            SecretsOpsError: it could not be done; status and event say why, the queue tries again.
        """
        # 1. Observe the ExternalSecret; take leave of one that is being deleted; sign for its clean-up.
        started = self._clock.now()
        try:
            manifest = self._observed.get(EXTERNAL_SECRET, key.name, key.namespace)
            if manifest.metadata.get("deletionTimestamp"):
                return self._finish(manifest)
            manifest = self._signed(manifest)
        except NotFound:
            self._observed.gone(key)
            return Done("gone")
        # 2. Look at its stores; those of another controller class are none of our business.
        stores = {ref: self._stores.open.find(ref, manifest.namespace) for ref in store_refs(manifest)}
        if any(store is not None and self._stores.is_foreign(store) for store in stores.values()):
            return Done("skipped")
        # 3. Read it: what is not valid stays so until somebody changes it.
        wanted = self._read(manifest)
        if isinstance(wanted, Done):
            return wanted
        # 4. Observe the Secret; ask the provider only when something is due or the Secret is not as it was left.
        live = self._live(manifest, wanted)
        due = is_due(wanted, manifest.status, started)
        if not due and is_intact(wanted, live):
            return self._later(wanted, Done("fresh", next_pass(wanted, refreshed_at(manifest.status), started)))
        # 5. Gather all values, or none.
        acceptable = oldest_acceptable(wanted, manifest.status, since, started)
        acceptable = acceptable if due else mendable(wanted, manifest.status, started)
        try:
            gathered = self._gather(wanted, stores, acceptable, retry=since is None and due)
        except EntryFailed as failure:
            return self._not_had(manifest, wanted, failure, started)
        for pull in gathered.absent:
            self._emit(manifest, "Normal", "MissingProviderSecret", _missing_text(pull))
        # 6. Decide and act, 7. report.
        if not gathered.values and wanted.target.deletion != "Merge":
            return self._later(wanted, self._without_values(manifest, wanted, live, started))
        return self._later(wanted, self._write(manifest, wanted, gathered.values, live, started))

    # --- Beginning and end -----------------------------------------------------------------------------

    def _signed(self, manifest: Manifest) -> Manifest:
        finalizers = list(manifest.metadata.get("finalizers") or [])
        if FINALIZER in finalizers:
            return manifest
        return self._with_finalizers(manifest, [*finalizers, FINALIZER])

    def _with_finalizers(self, manifest: Manifest, finalizers: list[str]) -> Manifest:
        patch = {"metadata": {"resourceVersion": manifest.resource_version, "finalizers": finalizers}}
        return self._observed.wrote(
            self._cluster.patch(
                EXTERNAL_SECRET, manifest.name, patch, namespace=manifest.namespace, patch_type=PatchType.MERGE
            )
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

    def _live(self, manifest: Manifest, wanted: ExternalSecret) -> Manifest | None:
        """Give the target; one that was never written and that no watch knows is not asked for."""
        bound = manifest.status.get("binding")
        known = (isinstance(bound, dict) and bound.get("name")) or wanted.target.creation == "Merge"
        if not known and not self._observed.may_exist(wanted.namespace, wanted.target.name):
            return None
        return self._secret(wanted.target.name, wanted.namespace)

    def _read(self, manifest: Manifest) -> ExternalSecret | Done:
        try:
            wanted = read(manifest)
        except InvalidManifest as error:
            self._fail(manifest, "could not get secret data from provider", error.message)
            return Done("refused")
        return Done("skipped") if self._is_of_foreign_generator(wanted) else wanted

    def _is_of_foreign_generator(self, wanted: ExternalSecret) -> bool:
        """Say whether a generator asks for another controller class; one that is missing or wrong is ours to report."""
        for pull in wanted.pulls:
            if pull.generator is not None:
                with contextlib.suppress(InvalidManifest):
                    if self._stores.is_foreign_class(
                        self._generators.find(pull.generator, wanted.namespace).controller
                    ):
                        return True
        return False

    # --- Values ----------------------------------------------------------------------------------------

    def _gather(
        self,
        wanted: ExternalSecret,
        stores: Mapping[StoreRef, Manifest | None],
        not_before: dt.datetime,
        *,
        retry: bool,
    ) -> Gathered:
        reader = StoreReader(
            self._stores.open,
            stores,
            wanted.namespace,
            not_before,
            generate=self._generators,
            demand=self._demand,
            retry=retry,
        )
        self._demand.drop((wanted.namespace, wanted.name))
        return gather(wanted.pulls, reader, no_templates, skip_absent=wanted.target.deletion != "Retain")

    def _not_had(self, manifest: Manifest, wanted: ExternalSecret, failure: EntryFailed, started: dt.datetime) -> Done:
        """Say that values could not be had; raises the cause where trying again can help."""
        cause = failure.cause
        if isinstance(cause, StoreUnavailable) and cause.reason == "Paced":
            return Done("paced", max(0.05, cause.retry_after))
        text = f"error processing {failure.place}, err: {_told_of(failure)}"
        self._fail(manifest, "could not get secret data from provider", text)
        if isinstance(cause, InvalidManifest):
            return Done("refused", next_pass(wanted, started, started))
        raise cause from None

    def _later(self, wanted: ExternalSecret, done: Done) -> Done:
        """Say in advance which documents will be wanted, and when, so that they can be read together."""
        if done.again:
            since = self._clock.now() + dt.timedelta(seconds=done.again)
            for ref in wanted.stores:
                asks = [pull.ask for pull in wanted.pulls if pull.store == ref and pull.ask is not None]
                self._demand.note((wanted.namespace, wanted.name), (ref, wanted.namespace), asks, since)
        return done

    def _without_values(
        self, manifest: Manifest, wanted: ExternalSecret, live: Manifest | None, started: dt.datetime
    ) -> Done:
        """Follow deletionPolicy where the provider has nothing: Retain leaves the Secret, Delete takes it away."""
        again = next_pass(wanted, started, self._clock.now(), spread=self._spread())
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
        again = next_pass(wanted, started, self._clock.now(), spread=self._spread())
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
        except AlreadyExists:
            # Somebody was faster, or it has no label of ours: look again, there is nothing to tell yet.
            self._observed.secret(wanted.namespace, wanted.target.name, exists=True)
            raise
        except Conflict:
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
            written = self._cluster.replace(Manifest({**manifest.body, "status": status}), subresource="status")
            self._observed.wrote(written)


def _missing_text(pull: Pull) -> str:
    # Compat: the peer numbers `data` entries as spec.dataFrom too.
    shown = f"spec.dataFrom[{pull.index}]" + (f" (key={pull.key})" if pull.secret_key else "")
    return f"secret does not exist at provider using {shown}"


def _told_of(failure: EntryFailed) -> str:
    """Say why an entry could not be had. Compat: the peer's words for whatever a provider does not have."""
    text = failure.cause.message
    if isinstance(failure.cause, StoreRefused) and failure.cause.reason == "NotFound":
        text = "Secret does not exist"
    return f"error getting all secrets: {text}" if failure.pull.find and text == "Secret does not exist" else text


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
