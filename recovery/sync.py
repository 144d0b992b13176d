"""The spine of recovery: from Git to live objects, for applications and their children, to any depth.

`sync` walks five numbered steps per application: (1) tree, (2) wanted, (3) live, (4) decide, (5) act or wait, back to
(3). Daily sync, rebuild and drill run this same code. It is level-triggered: a crash anywhere is a restart, and the
journal only adds what a cluster cannot tell (pinned revisions, hooks that ran). Never here: rules; each is a rib.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from recovery.app import App
from recovery.apply import is_established, look, patiently, release, remove, write
from recovery.appset import is_application_set
from recovery.argo import is_application, merge_source
from recovery.diff import carry_over
from recovery.events import AppStarted, StepDone, Waiting
from recovery.journal import HookStep
from recovery.marks import DeletePolicy, delete_policies
from recovery.order import Task, ordered
from recovery.plan import (
    CHILD_KINDS,
    Done,
    Reason,
    Result,
    Run,
    State,
    Wait,
    decide,
    finished_hooks,
    kind_runs,
)
from recovery.project import objection_to_app, refused_objects
from recovery.render import namespace_of, render
from recovery.running import JournaledPins, Outcome, Running, Runs, World, end_run
from recovery.signatures import check_app
from recovery.sources import check_out
from recovery.windows import BLOCKED, gate
from secretsops.errors import ApiError, SecretsOpsError, SyncRefused, UnknownKind
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ports import Cluster

POLL = (0.1, 0.2, 0.4, 0.8, 1.0)
"""Seconds between looks while nothing moves; the last one repeats."""
LIST_FROM = 4
"""Objects of one kind and namespace from which one list is cheaper than single reads."""


def sync(apps: Iterable[App], world: World, sets: Sequence[Manifest] = ()) -> list[Outcome]:
    """Bring the cluster to what Git says, for `apps`, those that `sets` generate, and every Application below them.

    Gives one outcome per application, parents first; an application that fails does not stop its siblings, but the
    later waves of its parent. Raises only what makes the whole run pointless (journal unwritable, journal refused).
    """
    estate = Runs(world)
    with ThreadPoolExecutor(max_workers=world.parallel, thread_name_prefix="apply") as pool:
        for app in apps:
            estate.add(app, None)
        for manifest in sets:
            result = Result()
            estate.add_set(manifest, None, result)
            if result.state is State.FAILED:
                raise SyncRefused(result.message, reason="GenerationFailed")
        idle = 0
        while estate.active():
            moved = False
            for run in list(estate.active()):
                if run.again_at <= world.clock.monotonic():
                    moved = _advance(run, estate, pool) or moved
            idle = 0 if moved else min(idle + 1, len(POLL) - 1)
            if not moved:
                world.clock.sleep(POLL[idle])
    return [run.outcome for run in estate.runs.values() if run.outcome]


def _advance(run: Running, estate: Runs, pool: ThreadPoolExecutor) -> bool:
    """Take one application one round further; give whether anything moved."""
    world = estate.world
    try:
        held = estate.held_back(run)
        if held:
            return held == "waits" or end_run(run, estate, succeeded=False, message=held)
        if not run.revision:
            _prepare(run, estate)  # (1) tree, (2) wanted
            return True
        _observe(run, world)  # (3) live
        decision = decide(
            run.tasks, run.live, run.progress, lambda found: estate.health_of(found, run), estate.judge
        )  # (4) decide
        _settle_hooks(run, estate)
        match decision:  # (5) act or wait
            case Run(tasks=tasks):
                return _act(tasks, run, estate, pool)
            case Wait(reasons=reasons):
                return _wait(run, [*reasons, *run.stalled.values()], estate)
            case Done():
                return _finish(run, decision, estate)
    except SecretsOpsError as error:
        if isinstance(error, ApiError) and error.retry and world.clock.monotonic() - run.moved < world.patience:
            run.again_at = world.clock.monotonic() + max(error.retry_after, 1.0)
            return False
        return end_run(run, estate, succeeded=False, message=f"{error.message} ({error.reason})")


# --- (1) tree, (2) wanted ------------------------------------------------------------------------------


def _prepare(run: Running, estate: Runs) -> None:
    """Pin the revision, render and order; on a resume the journal's pin and start count.

    An application that the killed run had finished is looked over again, but none of its hooks runs a second time.
    """
    world, app = estate.world, run.app
    _check_permission(app, world)
    pins = JournaledPins(world)
    attempt = world.journal.attempts.get(app.key) if world.journal else None
    if attempt and attempt.ended != "Failed":
        revision, run.started, run.attempt = attempt.revision, attempt.started, attempt.number
    else:
        revision = pins(app.source.location, app.source.revision)
        run.attempt = run.attempt + 1 if run.attempt else (attempt.number + 1 if attempt else 1)
        run.started = int(world.clock.now().timestamp())
        if world.journal:
            world.journal.record("attempt", app=app.key, revision=revision, started=run.started, number=run.attempt)
    settings, kinds, project = world.setup.settings, estate.kinds(), world.setup.project(app.project)
    assert project is not None
    check_app(app, project, world.git, pins, world.setup.keyring)
    checkouts = check_out(app, world.git, pins, partial(merge_source, app.name), settings.disabled)
    remap = world.setup.remap
    rendered = render(app, checkouts, kinds=kinds, renderer=world.renderer, settings=settings, remap=remap)
    assert project is not None
    run.problems = [*rendered.problems, *refused_objects(rendered.manifests, project, kinds.scopes)]
    run.wanted = rendered.manifests
    run.progress, run.stalled = {}, {}
    run.tasks = ordered(
        app,
        rendered.manifests,
        revision=revision,
        started=run.started,
        namespace=_namespace_to_make(app, rendered.manifests, world),
    )
    if not world.hooks:
        run.tasks = [task for task in run.tasks if not task.hook]
    run.live = fetch(world.cluster, [task.manifest for task in run.tasks])
    _remember_hooks(run, world)
    # Last: whatever fails above is prepared again until the patience ends, not taken for an application without tasks.
    run.revision, run.moved = revision, world.clock.monotonic()
    parent = run.parent.app.key if run.parent else ""
    estate.tell(AppStarted(at=estate.now(), app=app.key, parent=parent, revision=revision, objects=len(run.tasks)))
    if run.problems:
        listed = "; ".join(str(problem) for problem in run.problems[:5])
        end_run(run, estate, succeeded=False, message=f"{len(run.problems)} problem(s) in Git: {listed}")


def _check_permission(app: App, world: World) -> None:
    """Hold the application against its project: may it be synced at all, and now?

    Raises:
        SyncRefused: no; in the peer's words. A closed window can be overridden with a reason, which is recorded.
    """
    project = world.setup.project(app.project)
    refusal = objection_to_app(app, project)
    if refusal or project is None:
        raise SyncRefused(refusal, reason="NotPermitted" if project else "ProjectMissing")
    if not world.override_windows and not gate(project.windows_for(app), now=world.clock.now()).manual:
        hint = "wait for the window, or give --override-windows REASON"
        raise SyncRefused(BLOCKED, reason="SyncWindow", hint=hint)


_NAMESPACE = GroupVersionKind("", "v1", "Namespace")


def _namespace_to_make(app: App, manifests: Sequence[Manifest], world: World) -> Manifest | None:
    """Compat: the peer adds the namespace only where it is not there yet, or labels for it are managed."""
    if not app.policy.has("CreateNamespace=true") or not app.destination:
        return None
    if any(manifest.kind == _NAMESPACE and manifest.name == app.destination for manifest in manifests):
        return None
    wanted = namespace_of(app)
    if app.policy.namespace_marks is None and look(world.cluster, _NAMESPACE, wanted.key):
        return None
    return wanted


def _remember_hooks(run: Running, world: World) -> None:
    """Take over from the journal which hooks ran: by outcome, by UID, or by a new object since the intent."""
    attempt = world.journal.attempts.get(run.app.key) if world.journal else None
    for task in run.tasks if attempt else ():
        step = attempt.hooks.get(task.id) if attempt else None
        if not task.hook or step is None:
            continue
        found = run.live.get(task.key)
        if step.outcome:
            run.progress[task.id] = Result(state=State(step.outcome), uid=step.uid)
        elif step.uid:
            run.progress[task.id] = Result(state=State.RUNNING, uid=step.uid)
        elif found is not None and found.uid != step.before:
            _note_hook(run, world, task, found.uid)
            run.progress[task.id] = Result(state=State.RUNNING, uid=found.uid)


# --- (3) live ------------------------------------------------------------------------------------------


def fetch(cluster: Cluster, wanted: Sequence[Manifest]) -> dict[ObjectKey, Manifest]:
    """Give the live objects among `wanted`: one list per kind and namespace where that is cheaper."""
    groups: dict[tuple[GroupVersionKind, str], list[Manifest]] = {}
    for manifest in wanted:
        groups.setdefault((manifest.kind, manifest.namespace), []).append(manifest)
    live: dict[ObjectKey, Manifest] = {}
    for (kind, namespace), members in groups.items():
        keys = {member.key for member in members}
        if len(members) >= LIST_FROM:
            try:
                listed = cluster.list(kind, namespace=namespace)
            except UnknownKind:
                continue
            live.update({found.key: found for found in listed if found.key in keys})
        else:
            for key in keys:
                found = look(cluster, kind, key)
                if found is not None:
                    live[key] = found
    return live


def _observe(run: Running, world: World) -> None:
    """Read again what is running; the rest was read once and is known from our own writes."""
    running = [task.manifest for task in run.tasks if _state(run, task) is State.RUNNING]
    fresh = fetch(world.cluster, running)
    for manifest in running:
        found = fresh.get(manifest.key)
        if found is None:
            run.live.pop(manifest.key, None)
        else:
            run.live[manifest.key] = found


def _state(run: Running, task: Task) -> State:
    result = run.progress.get(task.id)
    return result.state if result else State.PENDING


# --- (5) act -------------------------------------------------------------------------------------------


def _act(tasks: Sequence[Task], run: Running, estate: Runs, pool: ThreadPoolExecutor) -> bool:
    """Apply one place of the order, run of one kind after run of one kind, each run in parallel."""
    moved = False
    for same_kind in kind_runs(tasks):
        for task, result in zip(
            same_kind, pool.map(lambda task: _apply_one(task, run, estate.world), same_kind), strict=True
        ):
            if isinstance(result, Reason):
                run.stalled[task.id] = result
                continue
            moved = True
            run.stalled.pop(task.id, None)
            run.progress[task.id] = result
            estate.tell(_step(task, run, result, estate.now()))
            if is_application(task.manifest) and not task.prune and result.state is State.RUNNING:
                estate.add_child(task.manifest, run, result)
            if is_application_set(task.manifest) and not task.prune and result.state is State.RUNNING:
                estate.add_set(run.live[task.key], run, result)
        if any(task.id in run.stalled for task in same_kind):
            break  # what comes later in this wave may need what could not be written yet
    if moved:
        run.moved = estate.world.clock.monotonic()
        return True
    return _wait(run, list(run.stalled.values()), estate)


def _step(task: Task, run: Running, result: Result, at: float) -> StepDone:
    return StepDone(
        at=at,
        app=run.app.key,
        phase=task.phase.value,
        wave=task.wave,
        key=task.key,
        action=result.applied or result.message,
        ok=result.state is not State.FAILED,
    )


def _apply_one(task: Task, run: Running, world: World) -> Result | Reason:
    """Write one object; give its result, or the reason why it could not be written yet."""
    cluster, live = world.cluster, run.live.get(task.key)
    try:
        if task.prune:
            remove(cluster, task.manifest)
            return Result(state=State.RUNNING, uid=task.manifest.uid, applied="pruned")
        if task.hook:
            waits = _make_room(task, run, world)
            if waits:
                return waits
            live = run.live.get(task.key)
        wanted = task.manifest
        if live is not None and run.app.policy.has("RespectIgnoreDifferences=true"):
            wanted = carry_over(wanted, live, run.app.ignored)
        written = patiently(lambda: write(cluster, wanted, live, run.app), world.clock)
    except ApiError as error:
        if error.retry or isinstance(error, UnknownKind):
            return Reason(key=task.key, condition="to be accepted", message=error.message)
        return Result(state=State.FAILED, message=f"{error.message} ({error.reason})")
    run.live[task.key] = written.live
    if task.hook:
        _note_hook(run, world, task, written.live.uid)
    if not is_established(written.live):
        return _await_established(task, run, world, written.message)
    return Result(state=State.RUNNING, uid=written.live.uid, applied=written.message)


def _await_established(task: Task, run: Running, world: World, message: str) -> Result | Reason:
    """Wait for a CRD to be served. Compat: the peer gives up after 3 s and only logs it."""
    for pause in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6):
        world.clock.sleep(pause)
        found = look(world.cluster, task.manifest.kind, task.key)
        if found is not None and is_established(found):
            run.live[task.key] = found
            return Result(state=State.RUNNING, uid=found.uid, applied=message)
    return Reason(key=task.key, condition="to be established")


def _make_room(task: Task, run: Running, world: World) -> Reason | None:
    """Write the intent, then clear what an earlier sync left under the hook's name, if its policy says so."""
    leftover = run.live.get(task.key)
    if world.journal:
        attempt = world.journal.attempts[run.app.key]
        if task.id not in attempt.hooks:
            before = leftover.uid if leftover else ""
            world.journal.record("intent", app=run.app.key, task=task.id, before=before)
    if leftover is None or DeletePolicy.BEFORE not in delete_policies(task.manifest):
        return None
    found = look(world.cluster, task.manifest.kind, task.key)
    if found is not None:
        found = release(world.cluster, found)
    if found is not None and not found.metadata.get("deletionTimestamp"):
        remove(world.cluster, found)
    for pause in (0.05, 0.1, 0.2, 0.4):
        if look(world.cluster, task.manifest.kind, task.key) is None:
            run.live.pop(task.key, None)
            return None
        world.clock.sleep(pause)
    return Reason(key=task.key, condition="to be gone", message="the hook of an earlier sync")


def _note_hook(run: Running, world: World, task: Task, uid: str) -> None:
    if world.journal:
        world.journal.attempts[run.app.key].hooks.setdefault(task.id, HookStep())
        world.journal.record("hook", app=run.app.key, task=task.id, uid=uid)


def _settle_hooks(run: Running, estate: Runs) -> None:
    """Journal the outcome of hooks that ended, then take their finalizer off: never the other way round."""
    world = estate.world
    for task in run.tasks:
        result = run.progress.get(task.id)
        if not task.hook or result is None or result.state not in (State.SUCCEEDED, State.FAILED):
            continue
        if world.journal:
            step = world.journal.attempts[run.app.key].hooks.get(task.id)
            if step is None or not step.outcome:
                world.journal.record("outcome", app=run.app.key, task=task.id, outcome=result.state.value)
    for hook in finished_hooks(run.tasks, run.live, run.progress):
        left = release(world.cluster, hook)
        if left is None:
            run.live.pop(hook.key, None)
        else:
            run.live[hook.key] = left


# --- (5) wait, or end ----------------------------------------------------------------------------------


def _wait(run: Running, reasons: Sequence[Reason], estate: Runs) -> bool:
    """Say what is waited for when it changes; past the deadline the wait is the failure, by name."""
    world, now = estate.world, estate.world.clock.monotonic()
    said = tuple(sorted(str(reason) for reason in reasons))
    if said != run.said:
        run.said = said
        limit = min(run.moved + world.patience, world.deadline) - world.started
        estate.tell(Waiting(at=estate.now(), app=run.app.key, reasons=said, deadline=limit))
    # A parent does not lose patience with a child that is still at work: the child's own deadline ends both.
    if any(_is_child(reason) and estate.is_active(reason.key) for reason in reasons) and now < world.deadline:
        run.moved = now
        return False
    if now - run.moved < world.patience and now < world.deadline:
        return False
    message = f"gave up after {round(now - run.moved)} s, still waiting for " + "; ".join(said[:5])
    return end_run(run, estate, succeeded=False, message=message)


def _is_child(reason: Reason) -> bool:
    return reason.key.kind in CHILD_KINDS and reason.key.group == "argoproj.io"


def _finish(run: Running, done: Done, estate: Runs) -> bool:
    """Delete the hooks whose policy says so; then end, or try again as the application's retry asks."""
    for task in done.remove:
        found = look(estate.world.cluster, task.manifest.kind, task.key)
        if found is not None:
            remove(estate.world.cluster, found)
            run.live.pop(task.key, None)
    retry, now = run.app.policy.retry, estate.world.clock.monotonic()
    if not done.succeeded and run.attempt <= retry.limit and now < estate.world.deadline:
        if estate.world.journal:
            estate.world.journal.record("ended", app=run.app.key, outcome="Failed")
        run.again_at = now + min(retry.longest, retry.first * retry.factor ** (run.attempt - 1))
        run.revision, run.said, run.moved = "", (), run.again_at
        reason = f"retry {run.attempt} of {retry.limit}: {done.message}"
        limit = run.again_at - estate.world.started
        estate.tell(Waiting(at=estate.now(), app=run.app.key, reasons=(reason,), deadline=limit))
        return True
    return end_run(run, estate, succeeded=done.succeeded, message=done.message)


__all__ = ["POLL", "Outcome", "World", "fetch", "sync"]
