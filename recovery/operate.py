"""Carrying out an operation in a live cluster, one step at a time, by the peer's own gate.

The spine (`spine.py`) carries it out; here is what begins and ends one, and how it stands in the Application's
`status.operationState`. Never here: comparing (`observe.py`), starting automated syncs (`reconcile.py`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from recovery.app import App, Source
from recovery.application_status import results_of
from recovery.apply import apply_client_side
from recovery.argo import APPLICATION
from recovery.compare import Comparison, SyncStatus
from recovery.desk import Desk
from recovery.gates import ARGO
from recovery.marks import is_hook, options_of
from recovery.observe import Comparer, Doors, Look
from recovery.operation import ERROR, FAILED, NOT_VALID, RUNNING, SUCCEEDED, after_wave, delay_of, refresh
from recovery.order import ordered
from recovery.plan import Done, Result, Run, State, Wait
from recovery.project import objection_to_object
from recovery.render import kinds_of, namespace_of
from recovery.spine import Hands, Work, advance, proceed, remove_hooks
from recovery.windows import BLOCKED
from secretsops.durations import parse_duration
from secretsops.manifest import Manifest

_NOBODY = App(name="", namespace="", source=Source(url="", path=""), destination="")


@dataclass(slots=True, kw_only=True)
class Operation:
    """One operation while it runs."""

    name: str
    """`namespace/name` of its Application."""
    body: Mapping[str, Any]
    started: str
    comparison: Comparison
    work: Work
    before: list[dict[str, Any]] = field(default_factory=list)
    """Result lines that no task stands for: the namespace made first."""
    message: str = ""
    retries: int = 0
    again_at: float = 0.0


class Operations:
    """The operations that run, by the UID of their Application, and those that a closed window holds back."""

    def __init__(self, doors: Doors, comparer: Comparer, desk: Desk) -> None:
        self.doors, self.comparer = doors, comparer
        self.hands = Hands(cluster=doors.cluster, clock=doors.clock, desk=desk)
        self.running: dict[str, Operation] = {}
        self.blocked: set[str] = set()

    def begin(self, live: Manifest, app: App | None, body: Mapping[str, Any], found: Comparison, seen: Look) -> None:
        """Start an operation: what stands against it ends it at once."""
        sync = body.get("sync") or {}
        self.comparer.stale.add(live.uid)
        if app is not None:
            app, found = self.comparer.compare(live, seen, str(sync.get("revision") or ""))
        work = Work(app=app or _NOBODY, gate=ARGO, prune=sync.get("prune") is True)
        name = f"{live.namespace}/{live.name}"
        operation = Operation(name=name, body=body, started=self._now(), comparison=found, work=work)
        errors = [
            f"{type_}: {text}" for type_, text in found.conditions if type_ in ("ComparisonError", "InvalidSpecError")
        ]
        if app is None or errors:
            self._end(live, operation, ERROR, "; ".join(errors), seen)
            return
        if not self.comparer.is_open(app, seen, automated=bool((body.get("initiatedBy") or {}).get("automated"))):
            self.blocked.add(live.uid)
            operation.message = BLOCKED
            self._report(live, operation, RUNNING)
            return
        options = frozenset(str(option) for option in sync.get("syncOptions") or app.policy.options)
        app = replace(app, policy=replace(app.policy, options=options))
        if found.shared and "FailOnSharedResource=true" in options:
            self._end(live, operation, FAILED, f"Shared resource found: {found.shared}", seen)
            return
        self._plan(app, operation)
        invalid = self._objections(app, operation, seen)
        if invalid:
            reasons = ",".join(dict.fromkeys(reason for reason, _ in invalid.values()))
            for task in operation.work.tasks:
                if task.id in invalid:
                    message = invalid[task.id][1]
                    operation.work.progress[task.id] = Result(state=State.FAILED, message=message, word="SyncFailed")
            self._end(live, operation, FAILED, f"{NOT_VALID}: {reasons}", seen)
            return
        if sync.get("dryRun"):
            self._dry_run(live, operation, seen)
            return
        self.running[live.uid] = operation
        self._make_namespace(app, operation, seen)
        self._report(live, operation, RUNNING)
        self.advance(live, app, operation, seen)

    def _plan(self, app: App, operation: Operation) -> None:
        """Make the tasks: what Git wants, what it no longer has, hooks unless the sync is partial."""
        sync = operation.body.get("sync") or {}
        found = operation.comparison
        chosen = {
            (str(o.get("group") or ""), str(o.get("kind")), str(o.get("name"))) for o in sync.get("resources") or []
        }
        strategy = sync.get("syncStrategy") or {}
        hooks = not chosen and "apply" not in strategy
        wanted = [one for one in found.wanted if hooks or not is_hook(one)]
        extra = [row.live for row in found.rows if row.prune and not row.hook and row.live is not None]
        if chosen:
            wanted = [one for one in wanted if (one.kind.group, one.kind.kind, one.name) in chosen]
            extra = [one for one in extra if (one.kind.group, one.kind.kind, one.name) in chosen]
        if app.policy.has("ApplyOutOfSyncOnly=true"):
            synced = {row.key for row in found.rows if row.status == SyncStatus.SYNCED}
            wanted = [one for one in wanted if one.key not in synced or is_hook(one)]
        managed = None
        if app.policy.has("CreateNamespace=true") and app.policy.namespace_marks and app.destination:
            managed = namespace_of(app)
        revision = found.revisions[0] if found.revisions else ""
        started = int(dt.datetime.strptime(operation.started, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.UTC).timestamp())
        operation.work.tasks = ordered(app, wanted, revision=revision, started=started, namespace=managed, extra=extra)

    def _objections(self, app: App, operation: Operation, seen: Look) -> dict[str, tuple[str, str]]:
        """Give task id to (reason, message of its line) of what may not or cannot be applied."""
        project = seen.setup.project(app.project)
        assert project is not None
        scopes = kinds_of([task.manifest for task in operation.work.tasks]).scopes
        found = {}
        for task in operation.work.tasks:
            manifest, kind = task.manifest, task.manifest.kind
            if not seen.inventory.serves(kind):
                lenient = "SkipDryRunOnMissingResource=true"
                if (kind.group, kind.kind) in scopes or app.policy.has(lenient) or lenient in options_of(manifest):
                    continue
                reason = f"failed to discover server resources for group version {kind.api_version}: "
                reason += "the server could not find the requested resource"
                place = f"{manifest.namespace}/{manifest.name}".strip("/")
                line = f"The Kubernetes API could not find {kind.group}/{kind.kind} for requested resource {place}. "
                line += f'Make sure the "{kind.kind}" CRD is installed on the destination cluster.'
                found[task.id] = (reason, line)
                continue
            reason = objection_to_object(manifest, project, namespaced=seen.inventory.is_namespaced(manifest))
            if reason:
                found[task.id] = (reason, reason)
        return found

    def _dry_run(self, live: Manifest, operation: Operation, seen: Look) -> None:
        for task in operation.work.tasks:
            there = seen.inventory.objects.get(task.key)
            kind = task.manifest.kind
            named = f"{kind.kind.lower()}{'.' + kind.group if kind.group else ''}/{task.manifest.name}"
            verb = "pruned" if task.prune else "created" if there is None else "configured"
            message = f"{named} {verb} (dry run)" if not task.prune else "pruned (dry run)"
            operation.work.progress[task.id] = Result(state=State.SUCCEEDED, message=message, uid="dry")
        self._end(live, operation, SUCCEEDED, "successfully synced (no more tasks)", seen)

    def _make_namespace(self, app: App, operation: Operation, seen: Look) -> None:
        """Compat: without labels to manage the namespace is made before everything, and its line stays Running."""
        if not app.policy.has("CreateNamespace=true") or app.policy.namespace_marks or not app.destination:
            return
        wanted = namespace_of(app)
        if wanted.key in seen.inventory.objects or any(task.key == wanted.key for task in operation.work.tasks):
            return
        done = apply_client_side(self.doors.cluster, wanted, None)
        kind = wanted.kind
        operation.before.append(
            {"version": kind.version, "kind": kind.kind, "name": wanted.name, "status": "Synced"}
            | {"hookPhase": "Running", "syncPhase": "PreSync", "message": done.message}
        )

    def advance(self, live: Manifest, app: App, operation: Operation, seen: Look) -> bool:
        """Take an operation one step further; say whether it moved."""
        if operation.again_at:
            if self.doors.clock.monotonic() < operation.again_at:
                return False
            operation.again_at = 0.0
            operation.message = f"Retrying operation. Attempt #{operation.retries}"
            operation.work.progress = {}
            operation.comparison = self.comparer.compare(live, seen, str(operation.comparison.revisions[0]))[1]
            self._plan(app, operation)
        work = operation.work
        work.app, work.live = app, dict(seen.inventory.objects)
        decision = advance(work, self.hands, seen.judge)
        if isinstance(decision, Run):
            while proceed(work, self.hands):
                self.hands.desk.finish()
            decision = after_wave(work.tasks, work.progress)
        if isinstance(decision, Done):
            if not decision.succeeded:
                refresh(work.tasks, work.live, work.progress, seen.judge)
            remove_hooks(work, decision.remove, self.hands)
            self._conclude(live, operation, decision, seen)
            return True
        message = decision.message if isinstance(decision, Wait) else operation.message
        moved, operation.message = message != operation.message, message
        if moved:
            self._report(live, operation, RUNNING)
        return moved

    def _conclude(self, live: Manifest, operation: Operation, following: Done, seen: Look) -> None:
        """End the operation, or wait for another attempt."""
        retry = operation.body.get("retry") or {}
        if not following.succeeded:
            wait = delay_of(retry, operation.retries + 1, _seconds)
            if wait is not None:
                operation.retries += 1
                operation.again_at = self.doors.clock.monotonic() + wait
                moment = self._now()
                operation.message = f"{following.message}. Retrying attempt #{operation.retries} at {moment}."
                self._report(live, operation, RUNNING)
                return
        message = following.message
        if not following.succeeded and operation.retries:
            message += f" (retried {operation.retries} times)."
        self._end(live, operation, SUCCEEDED if following.succeeded else FAILED, message, seen)

    # --- telling ---------------------------------------------------------------------------------------

    def _report(self, live: Manifest, operation: Operation, phase: str, *, ended: bool = False) -> None:
        found, spec = operation.comparison, live.spec
        sync = operation.body.get("sync") or {}
        several = bool(spec.get("sources"))
        result: dict[str, Any] = {
            "resources": [
                *operation.before,
                *results_of(
                    operation.work.tasks,
                    operation.work.progress,
                    str((spec.get("destination") or {}).get("namespace") or ""),
                ),
            ]
        }
        known = found.revisions and not found.failed and operation.message != BLOCKED
        result |= {"sources": spec["sources"]} if several else {"source": spec.get("source") or {}}
        if known:
            result |= {"revisions": list(found.revisions)} if several else {"revision": found.revisions[0]}
        marks = (spec.get("syncPolicy") or {}).get("managedNamespaceMetadata")
        if marks:
            result["managedNamespaceMetadata"] = marks
        state: dict[str, Any] = {
            "operation": {"retry": {}, **operation.body},
            "phase": phase,
            "message": operation.message,
            "startedAt": operation.started,
            "syncResult": result,
        }
        if operation.retries:
            state["retryCount"] = operation.retries
        status: dict[str, Any] = {"operationState": state}
        patch: dict[str, Any] = {"status": status}
        if ended:
            state["finishedAt"] = self._now()
            patch["operation"] = None
            if phase == SUCCEEDED and not sync.get("dryRun") and not sync.get("resources"):
                status["history"] = [*(live.status.get("history") or []), self._entry(live, operation)][-10:]
        before = (live.status.get("operationState")) or {}
        stale = {name: None for name in before if name not in state}
        state_patch = {
            **stale,
            **state,
            "operation": {**dict.fromkeys(before.get("operation") or {}), **state["operation"]},
        }
        state_patch["syncResult"] = {**dict.fromkeys(before.get("syncResult") or {}), **result}
        old_sync = (before.get("operation") or {}).get("sync") or {}
        state_patch["operation"]["sync"] = {**dict.fromkeys(old_sync), **sync}
        status["operationState"] = state_patch
        self.doors.cluster.patch(APPLICATION, live.name, patch, namespace=live.namespace)

    def _entry(self, live: Manifest, operation: Operation) -> dict[str, Any]:
        spec, revisions = live.spec, list(operation.comparison.revisions)
        history = live.status.get("history") or []
        entry: dict[str, Any] = {"id": (history[-1].get("id", 0) + 1) if history else 0}
        entry |= {"deployStartedAt": operation.started, "deployedAt": self._now()}
        entry["initiatedBy"] = operation.body.get("initiatedBy") or {}
        if spec.get("sources"):
            return entry | {"revisions": revisions, "sources": spec["sources"]}
        return entry | {"revision": revisions[0], "source": spec.get("source") or {}}

    def _end(self, live: Manifest, operation: Operation, phase: str, message: str, _seen: Look) -> None:
        operation.message = message
        self.running.pop(live.uid, None)
        self._report(live, operation, phase, ended=True)

    def _now(self) -> str:
        return self.doors.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: object) -> float:
    return float(str(text)) if str(text).isdigit() else parse_duration(str(text))
