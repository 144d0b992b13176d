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

from controllers.external_kept import Keeping
from controllers.external_reporting import Emit, Reports, told_failure, told_missing, told_refusal
from controllers.external_values import Found, Values
from controllers.fence import ClusterReplaced
from controllers.observed import Observed
from controllers.stores import Stores
from secretsops.clock import SystemClock
from secretsops.errors import (
    AlreadyExists,
    Conflict,
    InvalidManifest,
    NotFound,
    NotOurs,
    Refused,
    SecretsOpsError,
    StoreUnavailable,
)
from secretsops.external.due import is_due, mendable, next_pass, oldest_acceptable, refreshed_at, synced_version
from secretsops.external.gather import EntryFailed, Gathered
from secretsops.external.generating import Generators
from secretsops.external.lastgood import kept_because
from secretsops.external.model import (
    CREATED_BY,
    EXTERNAL_SECRET,
    FINALIZER,
    GENERIC_TARGET,
    MANAGED,
    RESTORED_FROM,
    SECRET,
    ExternalSecret,
    read,
    store_refs,
    target_name,
)
from secretsops.external.reading import template_texts
from secretsops.external.render import compose, created_by, field_manager, is_intact, own_keys
from secretsops.external.status import DELETED, MISSING
from secretsops.external.survival import DROP_LIMIT, refused_drop, told_entries
from secretsops.external.template import Filled, fill
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ownership import Create, Leave, Refuse, Update, decide_external, is_of_external_secret
from secretsops.ports import Clock, Cluster, PatchType
from secretsops.secret import Plaintext, SecretData

LOOK_AGAIN = 0.1
"""Seconds until a Secret that somebody wrote while we did is looked at again."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a pass did (`created`, `updated`, `unchanged`, `fresh`, `deleted`, `refused`, `skipped`, `gone`).

    `again` is in seconds until the next periodic pass, 0 for none.
    """

    action: str
    again: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """What one pass found: the object, what it says, its stores, the Secret that is there, and which stores serve."""

    manifest: Manifest
    wanted: ExternalSecret
    live: Manifest | None
    started: dt.datetime
    stores: Found
    gathered: Gathered
    fallback: str = ""


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
        values: Values | None = None,
        drop_limit: float = DROP_LIMIT,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self._cluster = cluster
        self._stores = stores
        self._clock = clock or SystemClock()
        self._observed = observed or Observed(cluster)
        self._reports = Reports(cluster, self._observed, emit, self._clock)
        self._drop_limit = drop_limit
        self._spread = spread
        self._values = values or Values(stores, Generators(cluster.get))
        self.kept: Keeping | None = None
        """Who keeps sealed copies, where somebody does."""

    def reconcile(self, key: ObjectKey, *, since: dt.datetime | None = None, forced: bool = False) -> Done:
        """Bring one Secret in line with its ExternalSecret.

        `since` is when somebody told that there is something to do, None for another cause; `forced` asks the provider
        whatever is due.

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
        due = forced or is_due(wanted, manifest.status, started) or self._is_unsealed(manifest, wanted, stores)
        known = not due and self._observed.is_as_written(wanted.namespace, wanted.target.name)
        live = None if known else self._live(manifest, wanted)
        if known or (not due and is_intact(wanted, live)):
            return self._later(wanted, Done("fresh", next_pass(wanted, refreshed_at(manifest.status), started)))
        # 5. Gather all values, or none.
        acceptable = oldest_acceptable(wanted, manifest.status, since, started)
        acceptable = acceptable if due else mendable(wanted, manifest.status, started)
        acceptable = since or started if forced else acceptable
        try:
            gathered, fallback = self._values.gather(wanted, stores, acceptable, retry=since is None and due)
        except EntryFailed as failure:
            return self._not_had(manifest, wanted, failure, started, live)
        for text in told_missing(gathered.absent):
            self._reports.emit(manifest, "Normal", "MissingProviderSecret", text)
        # 6. Decide and act, 7. report.
        this = _Pass(
            manifest=manifest,
            wanted=wanted,
            live=live,
            started=gathered.as_of(started),
            stores=stores,
            gathered=gathered,
            fallback=fallback,
        )
        if not gathered.values and wanted.target.deletion != "Merge":
            return self._later(wanted, self._without_values(this))
        return self._later(wanted, self._write(this, gathered.values))

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
        if self.kept is not None:
            self.kept.revoked(manifest, "Deleted")
        target = manifest.spec.get("target")
        if isinstance(target, dict) and target.get("deletionPolicy") == "Delete":
            live = self._secret(target_name(manifest), manifest.namespace)
            if live is not None and is_of_external_secret(live, manifest.name):
                try:
                    self._delete(live)
                except ClusterReplaced as error:
                    # A cluster that was replaced may be dismantled: the object goes, its Secret stays.
                    if error.reason != "Fenced":
                        raise
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
            generic = error.reason == GENERIC_TARGET
            told = "invalid generic target" if generic else "could not get secret data from provider"
            self._reports.fail(manifest, told, error.message)
            return Done("refused")
        return Done("skipped") if self._values.is_foreign(wanted) else wanted

    # --- Values ----------------------------------------------------------------------------------------

    def _not_had(
        self,
        manifest: Manifest,
        wanted: ExternalSecret,
        failure: EntryFailed,
        started: dt.datetime,
        live: Manifest | None,
    ) -> Done:
        """Say that values could not be had; raises the cause where trying again can help."""
        cause = failure.cause
        if isinstance(cause, StoreUnavailable) and cause.reason == "Paced":
            return Done("paced", max(0.05, cause.retry_after))
        if self.kept is not None:
            self.kept.failed(manifest, cause)
        self._reports.fail(
            manifest,
            "could not get secret data from provider",
            told_failure(failure),
            wanted=wanted,
            error=cause,
            entries=told_entries(failure, len(wanted.pulls)),
            restored=live.annotations.get(RESTORED_FROM, "") if live is not None else "",
        )
        if isinstance(cause, InvalidManifest):
            return Done("refused", next_pass(wanted, started, started))
        raise cause from None

    def _later(self, wanted: ExternalSecret, done: Done) -> Done:
        """Say in advance which documents will be wanted, and when, so that they can be read together."""
        if done.again:
            since = self._clock.now() + dt.timedelta(seconds=done.again)
            for ref in wanted.stores:
                asks = [pull.ask for pull in wanted.pulls if pull.store == ref and pull.ask is not None]
                self._values.demand.note((wanted.namespace, wanted.name), (ref, wanted.namespace), asks, since)
        return done

    def _again(self, this: _Pass) -> float:
        return next_pass(this.wanted, this.started, self._clock.now(), spread=self._spread())

    def _succeed(self, this: _Pass, action: str, **told: str) -> Done:
        self._reports.succeed(this.manifest, this.wanted, this.started, fallback=this.fallback, **told)
        return Done(action, self._again(this))

    def _without_values(self, this: _Pass) -> Done:
        """Follow deletionPolicy where the provider has nothing: Retain leaves the Secret, Delete takes it away."""
        wanted, live = this.wanted, this.live
        if self.kept is not None:
            self.kept.revoked(this.manifest, "NotFound")
        if wanted.target.deletion == "Retain":
            return self._succeed(this, "unchanged", message="secret retained due to DeletionPolicy=Retain")
        if wanted.target.creation != "Owner":
            text = f"deletionPolicy Delete needs creationPolicy Owner, not {wanted.target.creation}"
            self._reports.fail(this.manifest, "could not delete secret", text)
            return Done("refused")
        text = "secret deleted due to DeletionPolicy=Delete"
        if live is not None:
            if not is_of_external_secret(live, wanted.name):
                cause = f"secret {live.name} is not ours to delete"
                self._reports.fail(this.manifest, "could not delete secret", cause)
                return Done("refused")
            self._delete(live)
            self._reports.emit(this.manifest, "Normal", "Deleted", text)
        return self._succeed(this, "deleted", reason=DELETED, message=text)

    # --- The Secret ------------------------------------------------------------------------------------

    def _write(self, this: _Pass, values: Mapping[str, Plaintext]) -> Done:
        wanted = this.wanted
        if wanted.target.creation == "None":
            return self._succeed(this, "unchanged")
        if wanted.target.creation == "Merge" and this.live is None:
            text = "secret will not be created due to CreationPolicy=Merge"
            return self._succeed(this, "unchanged", reason=MISSING, message=text)
        try:
            filled = self._filled(this, values)
        except SecretsOpsError as error:
            told = told_refusal(error)
            self._reports.fail(this.manifest, *told, wanted=wanted, error=error)
            if isinstance(error, Refused):
                return Done("refused", self._again(this))
            raise
        secret = compose(wanted, filled, this.live)
        try:
            action = self._act(this, secret)
            # Only then the old one: at no moment is there none of them.
            self._drop_renamed(this.manifest, wanted)
        except AlreadyExists:
            # Somebody was faster, or it has no label of ours: look again, there is nothing to tell yet.
            self._observed.secret(wanted.namespace, wanted.target.name, exists=True)
            raise
        except Conflict:
            raise
        except SecretsOpsError as error:
            told = told_refusal(error)
            self._reports.fail(this.manifest, *told, binding=wanted.target.name, wanted=wanted, error=error)
            if isinstance(error, Refused):
                return Done("refused", self._again(this))
            raise
        if action != "unchanged":
            self._reports.emit(this.manifest, "Normal", action.capitalize(), f"secret {action}")
        self._keep(this, secret, filled)
        done = self._succeed(this, action, binding=wanted.target.name)
        # Somebody wrote while we did, and the watch told it to nobody: look again.
        meddled = action != "unchanged" and not self._observed.is_as_written(wanted.namespace, wanted.target.name)
        return Done(action, LOOK_AGAIN) if meddled and self._observed.watches else done

    # --- Last known good -------------------------------------------------------------------------------

    def _is_unsealed(self, manifest: Manifest, wanted: ExternalSecret, stores: Found) -> bool:
        """Say whether to ask only to have a sealed copy; what is fetched once is taken from its Secret instead."""
        if self.kept is None or not self.kept.lacks(manifest, wanted, stores):
            return False
        if wanted.refresh == "Periodic" and wanted.interval > 0:
            return True
        live, at = self._secret(wanted.target.name, wanted.namespace), refreshed_at(manifest.status)
        if live is not None and at is not None and live.labels.get(MANAGED) == "true" and is_intact(wanted, live):
            filled = Filled(values=SecretData.of({"data": live.body.get("data")}), labels=live.labels)
            self.kept.good(manifest, wanted, live, filled, (), at)
        return False

    def _keep(self, this: _Pass, secret: Manifest, filled: Filled) -> None:
        """Have what was written sealed, where the stores' owners ask for it; what another store served is not."""
        if self.kept is None or not self.kept.on or this.fallback:
            return
        why = kept_because(this.wanted, this.stores)
        if why:
            self.kept.revoked(this.manifest, why)
        else:
            self.kept.good(this.manifest, this.wanted, secret, filled, this.gathered.entries, this.started)

    def _filled(self, this: _Pass, values: Mapping[str, Plaintext]) -> Filled:
        """Give data and metadata: by the template where there is one, else values and marks as they are.

        Raises:
            Refused: the template cannot do it. WorldFailed: what it names is not there, or cannot be read.
        """
        wanted = this.wanted
        frozen = this.live is not None and wanted.target.immutable
        if wanted.target.template is None or frozen:  # of an immutable target no data is written: nothing to render
            return Filled(values=values, labels=wanted.labels, annotations=wanted.annotations)
        return fill(wanted.target.template, values, template_texts(self._cluster.get, wanted.namespace))

    def _act(self, this: _Pass, secret: Manifest) -> str:
        wanted, live = this.wanted, this.live
        manager = field_manager(wanted.name)
        match decide_external(secret, live, name=wanted.name, creation=wanted.target.creation):
            case Create(body):
                with self._observed.writing(body.namespace, body.name):
                    self._observed.wrote_secret(self._cluster.create(body, field_manager=manager))
                return "created"
            case Update(body):
                self._refuse_drop(this, body)
                with self._observed.writing(body.namespace, body.name):
                    self._observed.wrote_secret(self._cluster.replace(body, field_manager=manager))
                return "updated"
            case Leave():
                return "unchanged"
            case Refuse(reason, message):
                raise NotOurs(message, reason=reason, hint="choose another spec.target.name")
        raise AssertionError("an ExternalSecret's Secret is never deleted by that decision")

    def _refuse_drop(self, this: _Pass, secret: Manifest) -> None:
        """Refuse to take away most of what is there, unless the object says that this is right."""
        if this.live is None:
            return
        ours, new = own_keys(this.wanted, this.live), list(secret.body.get("data") or {})
        drop = refused_drop(this.wanted, this.manifest.status, ours, new, self._drop_limit)
        if drop is not None:
            raise Refused(drop.message, reason="WouldDropKeys", hint="see the ExternalSecret's events")

    def _drop_renamed(self, manifest: Manifest, wanted: ExternalSecret) -> None:
        """Delete the Secrets this object made under other names, also where it died before it could say so."""
        if wanted.target.creation != "Owner":
            return
        mark = created_by(wanted)
        names = self._observed.made_by(wanted.namespace, mark)
        if names is None and manifest.status.get("syncedResourceVersion") != synced_version(wanted):
            found = self._cluster.list(SECRET, namespace=wanted.namespace, label_selector=f"{CREATED_BY}={mark}")
            names = [secret.name for secret in found]
        for name in names or ():
            secret = self._secret(name, wanted.namespace) if name != wanted.target.name else None
            if secret is not None and is_of_external_secret(secret, wanted.name):
                self._delete(secret)
                self._reports.emit(manifest, "Normal", "Deleted", "secret deleted because it was orphaned")
