"""The spine of every sync: observe, decide, settle, act. An application's objects are written here and nowhere else.

`advance` asks the gate (`gates.py`: strict or the peer's) what is next and sets it going; writes run in parallel, run
of one kind after run of one kind, and land on the deciding thread. Level-triggered: a crash anywhere is a restart, the
journal only adds which hooks ran. Never here: rules; where tasks come from (`sync.py`, `operate.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from recovery.app import App, Health, HealthState
from recovery.apply import QUICK_TRIES, Written, is_established, look, patiently, release, remove, write
from recovery.desk import Desk
from recovery.diff import carry_over
from recovery.gates import Gate, is_rbac
from recovery.journal import HookStep, Journal
from recovery.judge import Judge
from recovery.marks import DeletePolicy, delete_policies, options_of
from recovery.order import Task
from recovery.plan import ChildGate, Decision, Progress, Reason, Result, Run, State, finished_hooks, kind_runs
from recovery.rbac import apply_rbac
from secretsops.errors import ApiError, SecretsOpsError, UnknownKind
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ports import Clock, Cluster

CLEAR_PAUSES = (0.05, 0.1, 0.2, 0.4)
"""Seconds between looks for a hook's leftover to be gone; the strict gate comes back to it, so nothing is held up."""
SERVED_PAUSES = (*CLEAR_PAUSES, 0.8, 1.6)
"""Seconds between looks for a CRD to be served, as long as the peer gives it."""


_TERMINATING = "because it is being terminated"
"""What the API server says of a namespace that is being deleted (`namespace/lifecycle` admission, v1.36)."""
UNJUDGED = Health(HealthState.UNKNOWN)


@dataclass(slots=True, kw_only=True)
class Hands:
    """What acting needs: the cluster, the clock, the threads, and the journal where one is kept."""

    cluster: Cluster
    clock: Clock
    desk: Desk
    journal: Journal | None = None


@dataclass(slots=True, kw_only=True)
class Work:
    """One operation: the tasks of an application, what lives of them, how far each is, what is being written."""

    app: App
    gate: Gate
    tasks: list[Task] = field(default_factory=list)
    live: dict[ObjectKey, Manifest] = field(default_factory=dict)
    progress: Progress = field(default_factory=dict)
    stalled: dict[str, Reason] = field(default_factory=dict)
    """Task id to why it could not be written yet."""
    prune: bool = False
    """Whether objects that Git no longer has may be deleted."""
    landed: Callable[[Task, Result], None] = lambda _task, _result: None
    """Called on the deciding thread for each task that was carried out."""
    rested: Callable[[], None] = lambda: None
    """Called when a step of the wave has landed whole."""
    due: list[tuple[str, list[Task]]] = field(default_factory=list)
    """What is left of the wave: (verb, tasks that run in parallel)."""
    busy: int = 0
    """Requests under way."""
    at_work: bool = False
    """Whether a wave is being carried out."""
    moved: bool = False
    """Whether anything of the wave was carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Landed:
    """How one call ended: `live` is what lives now (None: unchanged), `gone` that nothing does."""

    task: Task
    result: Result | None = None
    reason: Reason | None = None
    live: Manifest | None = None
    gone: bool = False


def advance(work: Work, hands: Hands, judge: Judge, child: ChildGate = lambda _: UNJUDGED) -> Decision:
    """Decide what is next from what lives, settle hooks that ended, and set the next wave going if one is due."""
    decision = work.gate.decide(work.tasks, work.live, work.progress, child, judge)
    _settle_hooks(work, hands)
    if isinstance(decision, Run):
        begin(work, decision.tasks, hands)
    return decision


def begin(work: Work, tasks: Sequence[Task], hands: Hands) -> None:
    """Set one wave going: deletions, then leftovers of hooks out of the way, then run of one kind after run."""
    prunes, rest = [task for task in tasks if task.prune], [task for task in tasks if not task.prune]
    hooks = [task for task in rest if task.hook]
    work.due = [(verb, some) for verb, some in (("prune", prunes), ("clear", hooks)) if some]
    work.due += [("apply", run) for run in kind_runs(rest)]
    work.at_work, work.moved, work.stalled = True, False, {}
    proceed(work, hands)


def proceed(work: Work, hands: Hands) -> bool:
    """Hand out the next step of the wave, once the one before has landed; say whether the wave is still at work."""
    if work.busy:
        return True
    if work.stalled and work.gate.patient:
        work.due = []  # what comes later in this wave may need what could not be written yet
    if not work.due:
        work.at_work = False
        return False
    verb, tasks = work.due.pop(0)
    for task in tasks:
        work.busy += 1
        live = work.live.get(task.key)
        hands.desk.hand(lambda t=task, n=live: _carried_out(verb, t, n, work, hands), lambda end: _take(work, end))  # type: ignore[misc]
    return True


def _take(work: Work, end: _Landed) -> None:
    """Note on the deciding thread how a call ended."""
    work.busy -= 1
    task = end.task
    if end.gone:
        work.live.pop(task.key, None)
    elif end.live is not None:
        work.live[task.key] = end.live
    if end.reason is not None:
        work.stalled[task.id] = end.reason
    if end.result is not None:
        work.moved = True
        work.progress[task.id] = end.result
        work.landed(task, end.result)
    if not work.busy:
        work.rested()


# --- on the threads ------------------------------------------------------------------------------------


def _carried_out(verb: str, task: Task, live: Manifest | None, work: Work, hands: Hands) -> _Landed:
    """Make one call; every answer of the API server is a result or a reason to wait, never an exception."""
    try:
        if verb == "prune":
            return _Landed(task=task, result=_prune(task, work, hands))
        if verb == "clear":
            return _clear(task, live, work, hands)
        return _apply(task, live, work, hands)
    except ApiError as error:
        if work.gate.patient and (error.retry or isinstance(error, UnknownKind) or _TERMINATING in error.message):
            return _Landed(task=task, reason=Reason(key=task.key, condition="to be accepted", message=error.message))
        return _Landed(task=task, result=_failed(error, task, work))
    except SecretsOpsError as error:
        return _Landed(task=task, result=_failed(error, task, work))


def _failed(error: SecretsOpsError, task: Task, work: Work) -> Result:
    return Result(state=State.FAILED, message=work.gate.refused(error, task.manifest))


def _prune(task: Task, work: Work, hands: Hands) -> Result:
    """Delete what Git no longer has, unless the operation, the object or the application keeps it."""
    options, policy = options_of(task.manifest), work.app.policy
    if not work.prune:
        return Result(state=State.SUCCEEDED, word="PruneSkipped", message="ignored (requires pruning)", uid="kept")
    if "Prune=false" in options or (policy.has("Prune=false") and "Prune=true" not in options):
        return Result(state=State.SUCCEEDED, word="PruneSkipped", message="ignored (no prune)", uid="kept")
    named = "PrunePropagationPolicy="
    propagation = next((o.removeprefix(named) for o in policy.options if o.startswith(named)), "foreground")
    remove(hands.cluster, task.manifest, propagation=propagation.capitalize())
    return Result(state=work.gate.pruned, word="Pruned", message="pruned", uid=task.manifest.uid)


def _clear(task: Task, leftover: Manifest | None, work: Work, hands: Hands) -> _Landed:
    """Write a hook's intent, then clear what an earlier sync left under its name, if its policy says so."""
    if hands.journal:
        attempt = hands.journal.attempts[work.app.key]
        if task.id not in attempt.hooks:
            before = leftover.uid if leftover else ""
            hands.journal.record("intent", app=work.app.key, task=task.id, before=before)
    if leftover is None or DeletePolicy.BEFORE not in delete_policies(task.manifest):
        return _Landed(task=task)
    cluster, kind = hands.cluster, task.manifest.kind
    found = look(cluster, kind, task.key)
    if found is not None:
        found = release(cluster, found)
    if found is not None and not found.metadata.get("deletionTimestamp"):
        remove(cluster, found)
    for pause in CLEAR_PAUSES if work.gate.patient else (*SERVED_PAUSES, 3.2, 3.2):
        if look(cluster, kind, task.key) is None:
            return _Landed(task=task, gone=True)
        hands.clock.sleep(pause)
    return _Landed(
        task=task, reason=Reason(key=task.key, condition="to be gone", message="the hook of an earlier sync")
    )


def _apply(task: Task, live: Manifest | None, work: Work, hands: Hands) -> _Landed:
    """Write one object by the way its options ask for; a CRD is waited for until it is served."""
    app, cluster, wanted = work.app, hands.cluster, task.manifest
    if live is not None and work.gate.patient and live.metadata.get("deletionTimestamp"):
        live = look(cluster, wanted.kind, task.key)
        if live is not None and live.metadata.get("deletionTimestamp"):
            return _Landed(task=task, live=live, reason=_going(live))
    if live is not None and app.policy.has("RespectIgnoreDifferences=true"):
        wanted = carry_over(wanted, live, app.ignored)
    two_steps = work.gate.reconciles_rbac and is_rbac(wanted) and not app.policy.has("ServerSideApply=true")

    def act() -> Written:
        if two_steps:
            return apply_rbac(cluster, wanted, live)
        return write(cluster, wanted, live, app, spare=work.gate.patient)

    written = patiently(act, hands.clock, tries=QUICK_TRIES if work.gate.patient else 1)
    if task.hook:
        note_hook(work, hands, task, written.live.uid)
    found = written.live
    if found.kind.kind == "CustomResourceDefinition":
        found = _served(found, hands)
        if work.gate.patient and not is_established(found):
            return _Landed(task=task, live=found, reason=Reason(key=task.key, condition="to be established"))
    return _Landed(task=task, live=found, result=Result(state=State.RUNNING, uid=found.uid, applied=written.message))


def _going(live: Manifest) -> Reason:
    """Say what an object that is being deleted is held by: it is made anew once it is gone."""
    conditions = [one for one in live.status.get("conditions") or [] if isinstance(one, dict)]
    told = [str(one.get("message")) for one in conditions if str(one.get("type")).endswith("Remaining")]
    held = [*(live.metadata.get("finalizers") or []), *((live.spec.get("finalizers")) or [])]
    message = "; ".join(told) or f"held by {', '.join(map(str, held)) or 'nothing that it names'}"
    return Reason(key=live.key, condition="to be gone, it is being deleted", message=message)


def _served(crd: Manifest, hands: Hands) -> Manifest:
    """Wait for a CRD to be established and its kind to be in discovery; give it as it lives when that ends."""
    for pause in (0.0, *SERVED_PAUSES):
        if pause:
            hands.clock.sleep(pause)
            crd = look(hands.cluster, crd.kind, crd.key) or crd
        if is_established(crd) and all(_is_known(kind, hands.cluster) for kind in _kinds_of(crd)):
            break
    return crd


def _kinds_of(crd: Manifest) -> list[GroupVersionKind]:
    group, kind = str(crd.spec.get("group")), str((crd.spec.get("names") or {}).get("kind"))
    versions = [one for one in crd.spec.get("versions") or [] if isinstance(one, dict) and one.get("served")]
    return [GroupVersionKind(group, str(one.get("name")), kind) for one in versions]


def _is_known(kind: GroupVersionKind, cluster: Cluster) -> bool:
    try:
        cluster.resource(kind)
    except UnknownKind:
        return False
    return True


# --- hooks ---------------------------------------------------------------------------------------------


def note_hook(work: Work, hands: Hands, task: Task, uid: str) -> None:
    """Journal with which UID a hook was created."""
    if hands.journal:
        hands.journal.attempts[work.app.key].hooks.setdefault(task.id, HookStep())
        hands.journal.record("hook", app=work.app.key, task=task.id, uid=uid)


def _settle_hooks(work: Work, hands: Hands) -> None:
    """Journal the outcome of hooks that ended, then take their finalizer off: never the other way round."""
    for task in work.tasks:
        result = work.progress.get(task.id) if task.hook else None
        if result is None or result.state not in (State.SUCCEEDED, State.FAILED) or not hands.journal:
            continue
        step = hands.journal.attempts[work.app.key].hooks.get(task.id)
        if step is None or not step.outcome:
            hands.journal.record("outcome", app=work.app.key, task=task.id, outcome=result.state.value)
    for hook in finished_hooks(work.tasks, work.live, work.progress):
        left = release(hands.cluster, hook)
        if left is None:
            work.live.pop(hook.key, None)
        else:
            work.live[hook.key] = left


def remove_hooks(work: Work, tasks: Sequence[Task], hands: Hands) -> None:
    """Delete the hooks whose policy says so at the end of an operation."""
    for task in tasks:
        found = look(hands.cluster, task.manifest.kind, task.key)
        if found is not None:
            remove(hands.cluster, found)
        work.live.pop(task.key, None)
