"""SealedSecret to Secret, in the cluster: observe, open, decide, act, report. The spine of sealing.

Opening is `secretsops.sealing.sealed`, who may write is `secretsops.ownership`, what is known already is
`controllers.sealed_view`; here they meet the API server. Status and events carry names and reasons, never values.

What never lives here: the wire format, key Secrets (`controllers.sealing_keys`), what is watched
(`controllers.sealing_parts`), threads.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, replace
from typing import Any

from controllers.sealed_view import View, managers, masked
from controllers.sealing_metrics import SealingMetrics
from secretsops.clock import SystemClock
from secretsops.errors import (
    AlreadyExists,
    CannotUnseal,
    Conflict,
    Invalid,
    NotFound,
    NotOurs,
    Refused,
    SecretsOpsError,
    ServerFailure,
    TooManyRequests,
    Unreachable,
)
from secretsops.escrow.attestation import Statement, statements_of
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ownership import (
    MANAGED,
    SKIP_OWNER,
    Create,
    Leave,
    Refuse,
    Update,
    Write,
    controller_of,
    decide_unsealed,
    is_controlled_by,
)
from secretsops.ports import Clock, Cluster, PatchType
from secretsops.sealing.keys import KeyRing
from secretsops.sealing.sealed import SEALED_SECRET, SECRET, Opened, open_sealed
from secretsops.sealing.sealed_with import SealedWith
from secretsops.sealing.template import kept

Emit = Callable[[Manifest, str, str, str], None]
"""Publishes an event: object, type (`Normal`, `Warning`), reason, message."""

SYNCED = "Synced"
PEER, OURS = "controller", frozenset({"secretsops-controller"})
"""Field managers: the peer's (its program's name), and ours."""
BLIPS = 3
"""Passes in a row that may fail because of the API server before status says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """What the passes are asked for beside the work itself.

    `held_back` says why nothing may be written now ("" when it may), `acknowledged` whether drift of Secrets that
    another controller made may be healed already (SECURITY.md §9).
    """

    update_status: bool = True
    accept_v1: bool = True
    old_gc: bool = False
    held_back: Callable[[], str] = lambda: ""
    acknowledged: Callable[[], bool] = lambda: True


COMPARED = "compared"
"""What a pass did beside a living peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """One failure as people read it: in the event, in status, and as the peer's metric has it."""

    reason: str
    event: str
    status: str
    metric: str


class SealedSecrets:
    """Reconciles one SealedSecret at a time; remembers per object only key fingerprints and versions."""

    def __init__(
        self,
        cluster: Cluster,
        ring: Callable[[], KeyRing],
        emit: Emit,
        *,
        view: View | None = None,
        doing: Doing | None = None,
        metrics: SealingMetrics | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._cluster = cluster
        self._ring = ring
        self._emit = emit
        self._view = view or View()
        self._doing = doing or Doing()
        self._metrics = metrics or SealingMetrics(omit_labels=True)
        self._clock = clock or SystemClock()
        self._opened_by: dict[ObjectKey, tuple[str, ...]] = {}
        self._left: dict[ObjectKey, Hashable] = {}
        self._closed: set[ObjectKey] = set()
        self._said: dict[ObjectKey, str] = {}
        self._blips: dict[ObjectKey, int] = {}
        self._compared: dict[ObjectKey, tuple[str, str]] = {}
        self._attested: dict[ObjectKey, tuple[Statement, ...]] = {}

    # --- what others ask
    def closed(self) -> list[ObjectKey]:
        """Give the SealedSecrets that did not open when last tried: a new key may change that."""
        return sorted(self._closed.copy())

    def opened_with(self, fingerprints: Collection[str]) -> list[ObjectKey]:
        """Give the SealedSecrets of which one of these keys opened an item."""
        lost = set(fingerprints)
        return sorted(key for key, used in self._opened_by.copy().items() if lost.intersection(used))

    def statements(self) -> list[Statement] | None:
        """Give what opened and what did not, item by item; None until every SealedSecret was looked at."""
        known = self._view.keys()
        found = self._attested.copy()
        if any(key not in found for key in known):
            return None
        return [one for key in known for one in found[key]]

    def is_as_left(self, secret: Manifest, key: ObjectKey) -> bool:
        """Say whether a watched Secret is as our last pass left it: its event is the echo of our own write."""
        left = self._left.get(key)
        return isinstance(left, tuple) and left[-1] == secret.resource_version

    def makes_anew(self, secret: Manifest, key: ObjectKey) -> bool:
        """Say whether a Secret that was deleted is to be made anew (`pkg/controller/controller.go`, v0.38.4).

        One that was ours, or that stood in the way. One that we only patched belongs to somebody else.
        """
        marks = secret.annotations
        ours = marks.get(MANAGED) == "true" or (marks.get(SKIP_OWNER) == "true" and controller_of(secret) is None)
        return ours or key in self._said or is_controlled_by(secret, self._view.uid(key))

    # --- the pass
    def reconcile(self, key: ObjectKey) -> str:
        """Bring one Secret in line with its SealedSecret; gives what was done: created, updated, unchanged, gone.

        Raises:
            SecretsOpsError: it could not be done; status and event say why, the queue tries again.
        """
        if self._doing.held_back():
            return self._compare(key)
        self._metrics.asked()
        # 1. Observe the SealedSecret. Compat: one that is being deleted makes no Secret anew.
        sealed = self._sealed(key)
        if sealed is None:
            return self._gone(key)
        if sealed.metadata.get("deletionTimestamp"):
            self._view.settled(sealed)
            return "gone"
        state = (sealed.uid, sealed.generation, tuple(sorted(sealed.annotations.items())), self._ring().fingerprints)
        try:
            # 2. Open it, all items or none; 3. decide who may write the Secret, 4. act.
            done = "unchanged"
            if not self._is_done(key, state):
                opened = self._open(key, sealed)
                done = self._write(key, sealed, opened, state)
                self._attested[key] = statements_of(sealed, opened.keys, self._clock.now())
        except SecretsOpsError as error:
            self._failed(key, sealed, error)
            raise
        # 5. Report.
        self._blips.pop(key, None)
        self._report(key, sealed, None, changed=done != "unchanged")
        self._view.settled(sealed)
        return done

    def _compare(self, key: ObjectKey) -> str:
        """Say what a pass would do, and do nothing; an object that did not change since is not looked at again."""
        seen = self._view.secret(key)
        version = seen.resource_version if seen else ""
        known = self._compared.get(key)
        if known is not None and known[0] == version and self._view.sealed(key) is None:
            return COMPARED
        sealed = self._sealed(key)
        if sealed is None:
            self._compared.pop(key, None)
            return "gone"
        try:
            wanted = masked(self._open(key, sealed).secret)
            live = seen if self._view.watches_secrets else self._masked_live(key)
            decision = decide_unsealed(wanted, live, sealed.uid, renewed=_is_renewed(sealed))
            self._compared[key] = (version, type(decision).__name__.lower())
        except (CannotUnseal, Refused):
            self._compared[key] = (version, "closed")
        self._view.settled(sealed)
        return COMPARED

    def compared(self) -> dict[str, float]:
        """Count the objects by what would be done with them: leave, create, update, refuse, closed."""
        found: dict[str, float] = {}
        for _, outcome in self._compared.copy().values():
            found[outcome] = found.get(outcome, 0.0) + 1
        return found

    def _masked_live(self, key: ObjectKey) -> Manifest | None:
        live = self._live(key)
        return masked(live) if live is not None else None

    def _sealed(self, key: ObjectKey) -> Manifest | None:
        if self._view.is_gone(key):
            return None
        waiting = self._view.sealed(key)
        if waiting is not None:
            return waiting
        try:
            return self._cluster.get(SEALED_SECRET, key.name, key.namespace)
        except NotFound:
            return None
        except SecretsOpsError:
            self._metrics.failed("fetch", key.namespace)
            raise

    def _gone(self, key: ObjectKey) -> str:
        for memory in (self._opened_by, self._left, self._said, self._blips, self._attested):
            memory.pop(key, None)
        self._closed.discard(key)
        self._metrics.gone(key)
        if self._doing.old_gc:
            self._delete_secret(key)
        return "gone"

    def _delete_secret(self, key: ObjectKey) -> None:
        """Delete the Secret of a SealedSecret that is gone. Compat: upstream deletes a foreign one as well."""
        try:
            self._cluster.get(SEALED_SECRET, key.name, key.namespace)
        except NotFound:
            pass
        else:
            return  # selected no more
        live = self._live(key)
        owner = controller_of(live) if live is not None else None
        if live is not None and owner and (owner.get("kind"), owner.get("name")) == (SEALED_SECRET.kind, key.name):
            try:
                self._cluster.delete(SECRET, key.name, namespace=key.namespace, uid=live.uid)
            except NotFound:
                return

    def _is_done(self, key: ObjectKey, state: tuple[Any, ...]) -> bool:
        """Say whether a pass left just this state behind, with the Secret unchanged since."""
        if key not in self._left or not self._view.watches_secrets:
            return False
        seen = self._view.secret(key)
        return seen is not None and self._left[key] == (*state, seen.resource_version)

    def _open(self, key: ObjectKey, sealed: Manifest) -> Opened:
        ring = self._ring()
        likely = self._opened_by.get(key) or ring.likely(sealed_at(sealed))
        try:
            opened = open_sealed(sealed, ring, first=likely, accept_v1=self._doing.accept_v1)
        except SecretsOpsError:
            self._closed.add(key)
            raise
        self._closed.discard(key)
        self._opened_by[key] = tuple(dict.fromkeys(opened.keys.values()))
        return opened

    def _write(self, key: ObjectKey, sealed: Manifest, opened: Opened, state: tuple[Any, ...]) -> str:
        renewed = _is_renewed(sealed)
        if opened.volatile and not renewed:
            # Made by chance or clock when the SealedSecret last changed: the same until it changes again.
            settled = kept(opened.secret, opened.volatile, self._live(key))
            opened = replace(opened, secret=settled)
        if self._view.watches_secrets:
            # What the watch told is enough to see that nothing is to be done, or that there is no Secret.
            seen = self._view.secret(key)
            if isinstance(decide_unsealed(masked(opened.secret), seen, sealed.uid, renewed=renewed), Leave):
                assert seen is not None
                self._left[key] = (*state, seen.resource_version)
                return "unchanged"
            if seen is None:
                try:
                    done, left = self._act(Create(opened.secret), None)
                except AlreadyExists:
                    pass  # the watch is behind
                else:
                    self._left[key] = (*state, left.resource_version)
                    return done
        live = self._live(key)
        decision = decide_unsealed(opened.secret, live, sealed.uid, renewed=renewed)
        if isinstance(decision, Update) and live is not None and not renewed:
            self._refuse_adopted(live)
        done, left = self._act(decision, live)
        self._left[key] = (*state, left.resource_version)
        return done

    def _refuse_adopted(self, live: Manifest) -> None:
        """Refuse to heal a Secret that another controller made until a week of looking at it is over (SECURITY.md §9).

        One that its SealedSecret's change asks for is written all the same.
        """
        if not self._doing.acknowledged() and PEER in managers(live) and not managers(live) & OURS:
            raise Refused(
                f'Secret "{live.name}" differs from its SealedSecret; another controller made it, so it stays as it is',
                reason="Adopted",
                hint=f"delete it to have it made anew, or annotate it {MANAGED}=true and change the SealedSecret",
            )

    def _live(self, key: ObjectKey) -> Manifest | None:
        try:
            return self._cluster.get(SECRET, key.name, key.namespace)
        except NotFound:
            return None

    def _act(self, decision: Write, live: Manifest | None) -> tuple[str, Manifest]:
        """Carry a decision out; gives what was done and the Secret as it is now."""
        match decision:
            case Create(manifest):
                done, left = "created", self._written(self._cluster.create, manifest)
            case Update(manifest):
                done, left = "updated", self._written(self._cluster.replace, manifest)
            case Leave():
                assert live is not None
                done, left = "unchanged", live
            case Refuse(reason, message):
                if reason == "Unmanaged":
                    raise NotOurs(message, reason=reason, hint=f"annotate the Secret {MANAGED}=true")
                raise Refused(message, reason=reason, hint="delete the Secret; it is made anew from the SealedSecret")
            case _:
                raise AssertionError(f"sealing never decides to {type(decision).__name__}")
        self._view.wrote(left)
        return done, left

    def _written(self, write: Callable[[Manifest], Manifest], manifest: Manifest) -> Manifest:
        try:
            return write(manifest)
        except Invalid:
            # In words of our own: the API server's may come from a webhook that quotes values.
            raise Refused(
                f"the API server refused the Secret {manifest.namespace}/{manifest.name}",
                reason="Invalid",
                hint="try it by kubectl apply --dry-run=server",
            ) from None

    # --- reporting
    def _failed(self, key: ObjectKey, sealed: Manifest, error: SecretsOpsError) -> None:
        told = _told(error, sealed, self._ring(), opened=key not in self._closed)
        # What opened and could not be written is not attested: only a sync that held is.
        self._attested[key] = statements_of(sealed, {}, self._clock.now()) if key in self._closed else ()
        self._metrics.failed(told.metric, key.namespace)
        if isinstance(error, (Conflict, AlreadyExists, NotFound)):
            self._view.forget(key)
            return
        if isinstance(error, (TooManyRequests, Unreachable, ServerFailure)) or error.reason == "NotLeading":
            # The API server's trouble, not this object's, until it stays that way.
            count = self._blips[key] = self._blips.get(key, 0) + 1
            if count < BLIPS:
                return
        self._report(key, sealed, told, changed=False)

    def _report(self, key: ObjectKey, sealed: Manifest, told: _Told | None, *, changed: bool) -> None:
        """Write status where it changed, and an event where something happened."""
        problem = told.status if told else ""
        wrote = self._doing.update_status and self._write_status(key, sealed, problem)
        news = problem != self._said.get(key, "")
        if told and (wrote or (news and not self._doing.update_status)):
            self._emit(sealed, "Warning", told.reason, told.event)
        elif not told and (wrote or changed):
            self._emit(sealed, "Normal", "Unsealed", "SealedSecret unsealed successfully")
        if told:
            self._said[key] = problem
        else:
            self._said.pop(key, None)

    def _write_status(self, key: ObjectKey, sealed: Manifest, problem: str) -> bool:
        self._metrics.verdict(sealed, "False" if problem else "True")
        status = synced_status(sealed, problem, now=self._clock.now())
        if status is None:
            return False
        patch = {"metadata": {"resourceVersion": sealed.resource_version}, "status": status}
        try:
            self._cluster.patch(
                SEALED_SECRET,
                sealed.name,
                patch,
                namespace=sealed.namespace,
                patch_type=PatchType.MERGE,
                subresource="status",
            )
        except NotFound:
            return False
        except SecretsOpsError:
            self._metrics.failed("status", sealed.namespace)
            self._view.forget(key)
            raise
        return True


def synced_status(sealed: Manifest, problem: str, *, now: dt.datetime) -> dict[str, Any] | None:
    """Give the new status, None when it says that already. Pure.

    `lastTransitionTime` moves when the verdict flips; conditions of others are kept.
    Compat: a changed message alone is published too; the peer shows the first one for ever.
    """
    verdict = "False" if problem else "True"
    conditions = [c for c in sealed.status.get("conditions") or [] if isinstance(c, dict)]
    old = next((c for c in conditions if c.get("type") == SYNCED), {})
    same = (old.get("status"), old.get("message") or "") == (verdict, problem)
    if same and sealed.status.get("observedGeneration") == sealed.generation:
        return None
    stamp = now.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    moved = stamp if old.get("status") != verdict else old.get("lastTransitionTime") or stamp
    new = {"type": SYNCED, "status": verdict, "lastUpdateTime": stamp, "lastTransitionTime": moved}
    if problem:
        new["message"] = problem
    others = [c for c in conditions if c.get("type") != SYNCED]
    return {"observedGeneration": sealed.generation, "conditions": [new, *others]}


def sealed_at(sealed: Manifest) -> dt.datetime:
    """Give when the items of a SealedSecret came to the cluster: the newest write of its spec, else its creation."""
    writes = [each for each in sealed.metadata.get("managedFields") or [] if isinstance(each, dict)]
    times = [str(each.get("time") or "") for each in writes if "f:spec" in (each.get("fieldsV1") or {})]
    try:
        newest = max([*times, str(sealed.metadata.get("creationTimestamp") or "")])
        return dt.datetime.fromisoformat(newest).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return dt.datetime.max.replace(tzinfo=dt.UTC)


def _is_renewed(sealed: Manifest) -> bool:
    """Say whether the SealedSecret changed since its last success."""
    conditions = sealed.status.get("conditions") or []
    synced = any(isinstance(c, dict) and c.get("type") == SYNCED and c.get("status") == "True" for c in conditions)
    return not synced or sealed.status.get("observedGeneration") != sealed.generation


def _told(error: SecretsOpsError, sealed: Manifest, ring: KeyRing, *, opened: bool) -> _Told:
    """Put a failure in upstream's words where it has some."""
    text = error.message
    if not opened:
        missing = sorted({key for key in SealedWith.read(sealed.annotations).fingerprints if key not in ring})
        text += "".join(f"\nit says that it was sealed with {key}, which is not among the keys here" for key in missing)
        return _Told(reason="ErrUnsealFailed", event=f"Failed to unseal: {text}", status=text, metric="unseal")
    if isinstance(error, NotOurs) and error.reason == "Unmanaged":
        return _Told(reason="ErrUpdateFailed", event=text, status=f"failed update: {text}", metric="unmanaged")
    if error.reason == "Immutable":
        event = (
            f"Error updating {sealed.namespace}/{sealed.name}: the target Secret is immutable. Once a Secret is marked "
            "as immutable, it is not possible to revert this change nor to mutate the contents of the data field. You "
            "can only delete and recreate the Secret."
        )
        return _Told(reason="ErrUpdateFailed", event=event, status=text, metric="update")
    return _Told(reason="ErrUpdateFailed", event=text, status=text, metric="update")
