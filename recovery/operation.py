"""One sync operation by the peer's own gate: what is next, and in the peer's words how it stands. Pure.

Rules: argo-cd v3.6 `gitops-engine/pkg/sync/sync_context.go`. Where `plan.py` is strict (everything healthy, at every
depth, deadlines), this is what `--gate argo` asks for: a wave waits for the one before, the last one is not gated, a
Degraded object fails at once, a wait has no end. Never here: acting, comparing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from recovery.app import Health, HealthState, short
from recovery.judge import Judge
from recovery.marks import DeletePolicy, Phase, delete_policies
from recovery.order import Task
from recovery.plan import ChildGate, Decision, Done, Progress, Result, Run, State, Wait
from secretsops.manifest import Manifest, ObjectKey

RUNNING, SUCCEEDED, FAILED, ERROR = "Running", "Succeeded", "Failed", "Error"
UNSUCCESSFUL = "one or more synchronization tasks completed unsuccessfully"
NOT_VALID = "one or more synchronization tasks are not valid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """What is due: tasks to run, or (with none) a phase with its message and hooks to delete."""

    tasks: Sequence[Task] = ()
    phase: str = RUNNING
    message: str = ""
    remove: Sequence[Task] = ()


def decide(
    tasks: Sequence[Task],
    live: Mapping[ObjectKey, Manifest],
    progress: Progress,
    child: ChildGate,  # noqa: ARG001 - to the peer a child is an object like others, with or without a health script
    judge: Judge,
) -> Decision:
    """Give what to do next; updates `progress` from `live` first."""
    refresh(tasks, live, progress, judge)
    pruned, following = going(tasks, live, progress), due(tasks, progress)
    if pruned is not None and following.phase == RUNNING:
        return Wait(reasons=(), message=f"waiting for deletion of {short(pruned.key)}")
    return _decision(following)


def after_wave(tasks: Sequence[Task], progress: Progress) -> Decision:
    """Give what is next right after a wave was applied. Compat: if it was the last, that is all."""
    return _decision(due(tasks, progress))


def _decision(following: Next) -> Decision:
    if following.tasks:
        return Run(tasks=following.tasks)
    if following.phase == RUNNING:
        return Wait(reasons=(), message=following.message)
    return Done(succeeded=following.phase == SUCCEEDED, message=following.message, remove=following.remove)


def refresh(tasks: Sequence[Task], live: Mapping[ObjectKey, Manifest], progress: Progress, judge: Judge) -> None:
    """Settle running tasks by what lives."""
    for task in tasks:
        result = progress.get(task.id)
        if result is None or result.state is not State.RUNNING:
            continue
        found = live.get(task.key)
        if found is not None:
            _settle(task, judge(found), result)


def going(tasks: Sequence[Task], live: Mapping[ObjectKey, Manifest], progress: Progress) -> Task | None:
    """Give a pruned object that is still being deleted: the next wave waits for it."""
    for task in tasks:
        found = live.get(task.key)
        if task.prune and task.id in progress and found is not None and found.metadata.get("deletionTimestamp"):
            return task
    return None


def _settle(task: Task, health: Health | None, result: Result) -> None:
    if health is None:
        result.state = State.SUCCEEDED
        if task.hook:
            result.message = f"{task.key.name} created"
        return
    if task.hook:
        ended = {
            HealthState.HEALTHY: State.SUCCEEDED,
            HealthState.DEGRADED: State.FAILED,
            HealthState.UNKNOWN: State.FAILED,
        }
        result.state = ended.get(health.state, State.RUNNING)
        result.message = health.message
    elif health.state is HealthState.HEALTHY:
        result.state = State.SUCCEEDED
    elif health.state is HealthState.DEGRADED:
        result.state, result.message = State.FAILED, health.message


def due(tasks: Sequence[Task], progress: Progress) -> Next:
    """Give what is next, from results that were just refreshed."""
    main = [task for task in tasks if task.phase is not Phase.SYNC_FAIL]
    rescue = [task for task in tasks if task.phase is Phase.SYNC_FAIL]
    running = [task for task in tasks if _state(progress, task) is State.RUNNING]
    several = bool(main) and main[0].place != main[-1].place
    waits = [task for task in running if task.hook or several]
    if waits and not _all_run(main, progress):
        return Next(message=_waiting(waits[0]))
    failed = [task for task in main if _state(progress, task) is State.FAILED]
    if failed:
        pending = [task for task in rescue if _state(progress, task) is State.PENDING]
        if pending:
            return Next(tasks=pending)
        return _failure(tasks, failed, progress)
    pending = [task for task in main if _state(progress, task) is State.PENDING]
    if pending:
        place = min(task.place for task in pending)
        return Next(tasks=[task for task in pending if task.place == place])
    hooks_last = bool(main) and any(task.hook for task in main if task.place == main[-1].place)
    message = "successfully synced (no more tasks)" if hooks_last else "successfully synced (all tasks run)"
    remove = [task for task in main if task.hook and DeletePolicy.SUCCEEDED in delete_policies(task.manifest)]
    return Next(phase=SUCCEEDED, message=message, remove=remove)


def _all_run(main: Sequence[Task], progress: Progress) -> bool:
    """Say whether only plain objects of the last wave are still running. Compat: that wave is never waited for."""
    last = [task for task in main if task.place == main[-1].place] if main else []
    before = [task for task in main if task not in last]
    states = [_state(progress, task) for task in main]
    return (
        State.PENDING not in states
        and State.FAILED not in states
        and not any(task.hook for task in last)
        and all(_state(progress, task) is State.SUCCEEDED for task in before)
    )


def _waiting(task: Task) -> str:
    return f"waiting for {'completion of hook' if task.hook else 'healthy state of'} {short(task.key)}"


def _failure(tasks: Sequence[Task], failed: Sequence[Task], progress: Progress) -> Next:
    """Say how it failed. Compat: where nothing of the wave was applied the peer has other words for it."""
    refused = [task for task in failed if not progress[task.id].uid]
    last = max(task.place for task in failed)
    applied = [task for task in tasks if task.place == last and task.id in progress and progress[task.id].uid]
    message = UNSUCCESSFUL if applied or not refused else "one or more objects failed to apply"
    reasons = [progress[task.id].message for task in refused]
    if reasons:
        message += f", reason: {','.join(reasons)}"
    ended = (State.SUCCEEDED, State.FAILED)
    remove = [
        task
        for task in tasks
        if task.hook and _state(progress, task) in ended and DeletePolicy.FAILED in delete_policies(task.manifest)
    ]
    return Next(phase=FAILED, message=message, remove=remove)


def _state(progress: Progress, task: Task) -> State:
    result = progress.get(task.id)
    return result.state if result else State.PENDING


def delay_of(retry: Mapping[str, object], count: int, seconds: Callable[[object], float]) -> float | None:
    """Give the seconds before attempt `count` (from 1) of a failed operation, None where there is no further one.

    Compat: the peer's counter is one ahead when it computes the wait, so that the first is twice what is asked for.
    """
    limit = retry.get("limit") or 0
    if not isinstance(limit, int) or (limit >= 0 and count > limit):
        return None
    backoff = retry.get("backoff")
    backoff = backoff if isinstance(backoff, dict) else {}
    first, longest = seconds(backoff.get("duration") or "5s"), seconds(backoff.get("maxDuration") or "3m")
    factor = backoff.get("factor") or 2
    assert isinstance(factor, int | float)
    return float(min(longest, first * float(factor) ** count))
