"""The decision: given what is wanted, what lives and what was done, what next? Pure.

`decide` answers `Run` (these tasks now), `Wait` (for these objects) or `Done` (with this outcome); the spine
(`sync.py`) carries it out and asks again. Rules: argo-cd v3.6 `gitops-engine/pkg/sync/sync_context.go`.
Compat: the peer does not gate the last wave and never times a wait out; the strict gate here also waits for the
last wave to be healthy, and every wait has a deadline (kept by the spine).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from recovery.app import Health, HealthState, short
from recovery.health import assess
from recovery.judge import Judge
from recovery.marks import HOOK_FINALIZER, DeletePolicy, Phase, delete_policies, ignores_health
from recovery.order import Task
from secretsops.manifest import Manifest, ObjectKey


class State(StrEnum):
    """How far a task is."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(slots=True, kw_only=True)
class Result:
    """What became of one task so far. `uid` is that of the object applied, `message` the peer's words."""

    state: State = State.PENDING
    message: str = ""
    uid: str = ""
    applied: str = ""
    """What the write said: `configmap/a created`."""
    word: str = ""
    """How the peer calls the result where it is not `Synced`: `Pruned`, `PruneSkipped`."""


Progress = dict[str, Result]
"""Task id to result; a task without one is pending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that is waited for: an object and the condition it has to reach."""

    key: ObjectKey
    condition: str
    message: str = ""

    def __str__(self) -> str:
        return f"{self.key}: {self.condition}{f' ({self.message})' if self.message else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Carry out `tasks` now, in this order."""

    tasks: Sequence[Task]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Look again later: `reasons` says what for, `message` in the peer's words where its gate waits."""

    reasons: Sequence[Reason]
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The sync came to its end. `remove` are hook objects that their policy says to delete now."""

    succeeded: bool
    message: str
    remove: Sequence[Task] = field(default_factory=tuple)


Decision = Run | Wait | Done
CHILD_KINDS = ("Application", "ApplicationSet")
"""Kinds of `argoproj.io` that stand for applications of their own: only the spine knows how those do."""
ChildGate = Callable[[Manifest], Health]
"""How a child Application does: only the spine knows, because it runs them."""


def judge(
    tasks: Sequence[Task],
    live: Mapping[ObjectKey, Manifest],
    progress: Progress,
    child: ChildGate,
    assess: Judge = assess,
) -> list[Reason]:
    """Update the results of running tasks from what lives; give what is still waited for."""
    waiting = []
    for task in tasks:
        result = progress.get(task.id)
        if result is None or result.state is not State.RUNNING:
            continue
        found = live.get(task.key)
        if task.prune:
            if found is None or found.uid != result.uid:
                result.state = State.SUCCEEDED
            else:
                waiting.append(Reason(key=task.key, condition="to be gone", message="deletion is pending"))
        elif found is None or (result.uid and found.uid != result.uid and task.hook):
            result.state = State.FAILED
            result.message = f"resource {short(task.key)} is missing, it might have been deleted"
        else:
            reason = _judge_one(task, found, result, child, assess)
            if reason:
                waiting.append(reason)
    return waiting


def _judge_one(task: Task, found: Manifest, result: Result, child: ChildGate, assess: Judge) -> Reason | None:
    """Settle one running task by the health of its object."""
    is_child = task.key.kind in CHILD_KINDS and task.key.group == "argoproj.io"
    health = child(found) if is_child else assess(found)
    if health is None or (ignores_health(task.manifest) and not task.hook):
        result.state = State.SUCCEEDED
        return None
    if health.state is HealthState.HEALTHY:
        result.state, result.message = State.SUCCEEDED, health.message
        return None
    if health.state is HealthState.DEGRADED and (task.hook or is_child or not _may_recover(task)):
        result.state, result.message = State.FAILED, health.message or f"{short(task.key)} is degraded"
        return None
    if task.hook and health.state is HealthState.UNKNOWN:
        result.state, result.message = State.FAILED, health.message or f"{short(task.key)} is in an unknown state"
        return None
    condition = "to complete" if task.hook else "to be healthy"
    return Reason(key=task.key, condition=condition, message=f"{health.state.value}: {health.message}".rstrip(": "))


_SECRET_GROUPS = ("bitnami.com", "external-secrets.io")


def _may_recover(task: Task) -> bool:
    """Say whether Degraded may pass by itself.

    Compat: the peer fails at once on Degraded; on a fresh cluster a SealedSecret or ExternalSecret is degraded until
    its controller has its keys or its store, and workloads are until their secrets exist, so only the deadline ends it.
    """
    return task.key.group in _SECRET_GROUPS or task.key.group == "apps" or task.key.kind == "Pod"


def decide(
    tasks: Sequence[Task],
    live: Mapping[ObjectKey, Manifest],
    progress: Progress,
    child: ChildGate,
    assess: Judge = assess,
) -> Decision:
    """Give what to do next; updates `progress` from `live` first.

    A failed task lets the others of its wave finish, starts no later wave, and sets off the SyncFail hooks.
    """
    waiting = judge(tasks, live, progress, child, assess)
    main = [task for task in tasks if task.phase is not Phase.SYNC_FAIL]
    failed = [task for task in main if _state(progress, task) is State.FAILED]
    if waiting and not failed:
        return Wait(reasons=waiting)
    if failed:
        return _after_failure(tasks, failed, progress, waiting)
    pending = [task for task in main if _state(progress, task) is State.PENDING]
    if pending:
        place = min(task.place for task in pending)
        return Run(tasks=[task for task in pending if task.place == place])
    hooks_last = bool(main) and any(task.hook for task in main if task.place == main[-1].place)
    message = "successfully synced (no more tasks)" if hooks_last else "successfully synced (all tasks run)"
    remove = [task for task in main if task.hook and DeletePolicy.SUCCEEDED in delete_policies(task.manifest)]
    return Done(succeeded=True, message=message, remove=remove)


def _after_failure(
    tasks: Sequence[Task], failed: Sequence[Task], progress: Progress, waiting: Sequence[Reason]
) -> Decision:
    """Compat: SyncFail hooks run all together, whatever their waves."""
    hooks_waiting = [reason for reason in waiting if any(task.hook and task.key == reason.key for task in tasks)]
    if hooks_waiting:
        return Wait(reasons=hooks_waiting)
    rescue = [task for task in tasks if task.phase is Phase.SYNC_FAIL and _state(progress, task) is State.PENDING]
    if rescue:
        return Run(tasks=rescue)
    message = "one or more synchronization tasks completed unsuccessfully"
    reasons = {progress[task.id].message for task in failed if progress[task.id].message}
    if reasons:
        message += ", reason: " + ",".join(sorted(reasons))
    remove = [task for task in tasks if task.hook and _is_over(progress, task) and _goes_on_failure(task)]
    return Done(succeeded=False, message=message, remove=remove)


def _goes_on_failure(task: Task) -> bool:
    return DeletePolicy.FAILED in delete_policies(task.manifest)


def _is_over(progress: Progress, task: Task) -> bool:
    return _state(progress, task) in (State.SUCCEEDED, State.FAILED)


def _state(progress: Progress, task: Task) -> State:
    result = progress.get(task.id)
    return result.state if result else State.PENDING


def finished_hooks(tasks: Sequence[Task], live: Mapping[ObjectKey, Manifest], progress: Progress) -> list[Manifest]:
    """Give hook objects whose outcome was seen and that still carry the hook finalizer: it is to be taken off."""
    return [
        found
        for task in tasks
        if task.hook and _is_over(progress, task) and (found := live.get(task.key)) is not None
        if HOOK_FINALIZER in (found.metadata.get("finalizers") or [])
    ]


def kind_runs(tasks: Sequence[Task]) -> list[list[Task]]:
    """Cut tasks of one place into runs of one kind: a run is applied in parallel, runs one after the other."""
    runs: list[list[Task]] = []
    for task in tasks:
        if runs and runs[-1][-1].manifest.kind == task.manifest.kind and runs[-1][-1].prune == task.prune:
            runs[-1].append(task)
        else:
            runs.append([task])
    return runs
