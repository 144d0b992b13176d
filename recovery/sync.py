"""From Git to live objects by the strict gate, for applications and their children, to any depth.

`sync` walks five numbered steps per application: (1) tree, (2) wanted, (3) live, (4) decide, (5) act or wait, back to
(3); four and five are the spine's (`spine.py`). Daily sync, rebuild and drill run this same code. It is
level-triggered: a crash anywhere is a restart, and the journal only adds what a cluster cannot tell. Never here: rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from recovery.app import App, Problem, is_cluster_scoped
from recovery.appset import is_application_set
from recovery.argo import is_application, merge_source
from recovery.desk import Desk
from recovery.events import AppStarted, StepDone, Waiting
from recovery.gates import STRICT
from recovery.live import fetch
from recovery.marks import Phase
from recovery.missing import missing_of
from recovery.order import Task, ordered
from recovery.plan import CHILD_KINDS, Done, Reason, Result, Run, State, Wait
from recovery.project import objection_to_app, refused_objects
from recovery.render import Kinds, namespace_of, render
from recovery.running import JournaledPins, Outcome, Running, Runs, World, end_run
from recovery.signatures import check_app
from recovery.sources import check_out
from recovery.spine import Work, advance, note_hook, proceed, remove_hooks
from recovery.walk import Planned
from recovery.windows import BLOCKED, gate
from secretsops.errors import ApiError, SecretsOpsError, SyncRefused
from secretsops.manifest import GroupVersionKind, Manifest

POLL = (0.1, 0.2, 0.4, 0.8, 1.0)
"""Seconds between looks while nothing moves; the last one repeats."""


def sync(apps: Iterable[App], world: World, sets: Sequence[Manifest] = ()) -> list[Outcome]:
    """Bring the cluster to what Git says, for `apps`, those that `sets` generate, and every Application below them.

    Gives one outcome per application, parents first; an application that fails does not stop its siblings, but the
    later waves of its parent. Raises only what makes the whole run pointless (journal unwritable, journal refused).
    """
    with Desk(world.parallel) as desk:
        estate = Runs(world, desk)
        for app in apps:
            estate.add(app, None)
        for manifest in sets:
            result = Result()
            estate.add_set(manifest, None, result)
            if result.state is State.FAILED:
                raise SyncRefused(result.message, reason="GenerationFailed")
        _drive(estate, desk)
        desk.finish()
    return [run.outcome for run in estate.runs.values() if run.outcome]


def _drive(estate: Runs, desk: Desk) -> None:
    """Take applications further as things happen to them; look at all that wait while nothing does.

    What lives is read again once per look for all of them: after a pause that grows while nothing moves.
    """
    clock = estate.world.clock
    idle, looked = 0, clock.monotonic()
    while estate.unfinished:
        if estate.ready:
            run = estate.ready.pop(next(iter(estate.ready)))
            if run.again_at <= clock.monotonic() and _advance(run, estate):
                idle = 0
                if run.outcome is None:
                    estate.ready[run.app.key] = run
            continue
        # While answers come in there is enough to do; the look at what waits can take its time.
        pause = POLL[-1] if desk.in_flight else POLL[idle]
        left = looked + pause - clock.monotonic()
        if desk.in_flight and left > 0:
            if desk.collect(wait=left):
                idle = 0
            continue
        if left > 0:
            clock.sleep(left)
        idle, looked = min(idle + 1, len(POLL) - 1), clock.monotonic()
        _look(estate)


def _look(estate: Runs) -> None:
    """Read what is running anew, one list per kind for all applications, and have each looked at."""
    waiting = [run for run in estate.unfinished.values() if not run.work.at_work]
    running = [(run, task) for run in waiting for task in run.work.tasks if _is_to_see(run, task, estate)]
    estate.ready.update({run.app.key: run for run in waiting})
    try:
        fresh = fetch(estate.world.cluster, [task.manifest for _, task in running])
    except ApiError as error:
        if error.retry:
            return  # what was seen last counts until the patience of each ends
        for name, run in {run.app.key: run for run, _ in running}.items():
            del estate.ready[name]
            end_run(run, estate, succeeded=False, message=f"{error.message} ({error.reason})")
        return
    for run, task in running:
        found = fresh.get(task.key)
        if found is None:
            run.work.live.pop(task.key, None)
        else:
            run.work.live[task.key] = found


def _is_to_see(run: Running, task: Task, estate: Runs) -> bool:
    """Say whether a task waits for what the cluster says; of a child its own run says how it does."""
    result = run.work.progress.get(task.id)
    return result is not None and result.state is State.RUNNING and not estate.knows(task.key)


def _advance(run: Running, estate: Runs) -> bool:
    """Take one application one step further; give whether it may go on at once."""
    world = estate.world
    try:
        if run.work.at_work:
            return not proceed(run.work, estate.hands) and _end_wave(run, estate)
        held = estate.held_back(run)
        if held:
            return held != "waits" and end_run(run, estate, succeeded=False, message=held)
        if not run.revision:
            _prepare(run, estate)  # (1) tree, (2) wanted, (3) live
            return True
        return _decide(run, estate)
    except SecretsOpsError as error:
        if isinstance(error, ApiError) and error.retry and world.clock.monotonic() - run.moved < world.patience:
            run.again_at = world.clock.monotonic() + max(error.retry_after, 1.0)
            return False
        return end_run(run, estate, succeeded=False, message=f"{error.message} ({error.reason})")


def _decide(run: Running, estate: Runs) -> bool:
    """Ask the gate (4) and act or wait (5)."""
    decision = advance(run.work, estate.hands, estate.judge, lambda found: estate.health_of(found, run))
    match decision:
        case Run():
            return False
        case Wait(reasons=reasons):
            return _wait(run, [*reasons, *run.work.stalled.values()], estate)
        case Done():
            return _finish(run, decision, estate)


def _end_wave(run: Running, estate: Runs) -> bool:
    """Go on after a wave; wait where nothing of it could be written."""
    work, delay = run.work, estate.world.wave_delay
    if work.moved:
        run.moved = estate.world.clock.monotonic()
        if delay and any(task.id not in work.progress for task in work.tasks if task.phase is not Phase.SYNC_FAIL):
            run.again_at = run.moved + delay
            return False
    elif run.work.stalled:
        return _wait(run, list(run.work.stalled.values()), estate)
    return True


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
    run.wanted, run.problems = _wanted(app, estate, pins)
    namespace = _namespace_to_make(app, run.wanted, estate)
    tasks = ordered(app, run.wanted, revision=revision, started=run.started, namespace=namespace)
    work = run.work = Work(app=app, gate=STRICT, tasks=[task for task in tasks if world.hooks or not task.hook])
    work.landed, work.rested = partial(_landed, run, estate), partial(estate.call, run)
    work.live = estate.sight.of([task.manifest for task in work.tasks])
    _remember_hooks(run, estate)
    # Last: whatever fails above is prepared again until the patience ends, not taken for an application without tasks.
    run.revision, run.moved = revision, world.clock.monotonic()
    parent = run.parent.app.key if run.parent else ""
    estate.tell(AppStarted(at=estate.now(), app=app.key, parent=parent, revision=revision, objects=len(work.tasks)))
    if run.problems:
        listed = "; ".join(str(problem) for problem in run.problems[:5])
        end_run(run, estate, succeeded=False, message=f"{len(run.problems)} problem(s) in Git: {listed}")


def _wanted(app: App, estate: Runs, pins: JournaledPins) -> tuple[Sequence[Manifest], Sequence[Problem]]:
    """Give what an application wants and what of it cannot be carried out: as planned, or rendered for this cluster."""
    world, kinds = estate.world, estate.kinds()
    planned = world.planned.get(app.key)
    if planned is not None and planned.app == app and not planned.problems and _holds(planned, kinds, pins):
        return planned.wanted, ()
    settings, project = world.setup.settings, world.setup.project(app.project)
    assert project is not None
    check_app(app, project, world.git, pins, world.setup.keyring)
    checkouts = check_out(app, world.git, pins, partial(merge_source, app.name), settings.disabled)
    remap = world.setup.remap
    rendered = render(app, checkouts, kinds=kinds, renderer=world.renderer, settings=settings, remap=remap)
    return rendered.manifests, [*rendered.problems, *refused_objects(rendered.manifests, project, kinds.scopes)]


def _holds(planned: Planned, kinds: Kinds, pins: JournaledPins) -> bool:
    """Say whether a rendering of the plan is what this cluster would render to: same commits, scopes, API versions."""
    if planned.kinds is None or planned.revision != pins(planned.app.source.location, planned.app.source.revision):
        return False
    if planned.uses_versions and list(planned.kinds.api_versions) != list(kinds.api_versions):
        return False
    used = {manifest.kind for manifest in planned.wanted}
    return all(is_cluster_scoped(kind, planned.kinds.scopes) == is_cluster_scoped(kind, kinds.scopes) for kind in used)


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


def _namespace_to_make(app: App, manifests: Sequence[Manifest], estate: Runs) -> Manifest | None:
    """Compat: the peer adds the namespace only where it is not there yet, or labels for it are managed."""
    if not app.policy.has("CreateNamespace=true") or not app.destination:
        return None
    if any(manifest.kind == _NAMESPACE and manifest.name == app.destination for manifest in manifests):
        return None
    wanted = namespace_of(app)
    found = estate.sight.of([wanted]).get(wanted.key)
    if app.policy.namespace_marks is None and found is not None and not found.metadata.get("deletionTimestamp"):
        return None
    return wanted


def _remember_hooks(run: Running, estate: Runs) -> None:
    """Take over from the journal which hooks ran: by outcome, by UID, or by a new object since the intent."""
    journal, work = estate.world.journal, run.work
    attempt = journal.attempts.get(run.app.key) if journal else None
    for task in work.tasks if attempt else ():
        step = attempt.hooks.get(task.id) if attempt else None
        if not task.hook or step is None:
            continue
        found = work.live.get(task.key)
        if step.outcome:
            work.progress[task.id] = Result(state=State(step.outcome), uid=step.uid)
        elif step.uid:
            work.progress[task.id] = Result(state=State.RUNNING, uid=step.uid)
        elif found is not None and found.uid != step.before:
            note_hook(work, estate.hands, task, found.uid)
            work.progress[task.id] = Result(state=State.RUNNING, uid=found.uid)


# --- (5) act -------------------------------------------------------------------------------------------


def _landed(run: Running, estate: Runs, task: Task, result: Result) -> None:
    """Tell of a task that was carried out; an application that it declares joins the run."""
    step = StepDone(
        at=estate.now(),
        app=run.app.key,
        phase=task.phase.value,
        wave=task.wave,
        key=task.key,
        action=result.applied or result.message,
        ok=result.state is not State.FAILED,
    )
    estate.tell(step)
    if task.prune or result.state is not State.RUNNING:
        return
    if task.key.kind == "Namespace":
        estate.sight.note(run.work.live[task.key])
    elif task.key.kind == "CustomResourceDefinition":
        estate.forget_kinds()
    elif is_application(task.manifest):
        estate.add_child(task.manifest, run, result)
    elif is_application_set(task.manifest):
        estate.add_set(run.work.live[task.key], run, result)


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
    blocked = {reason.key for reason in reasons if not _is_child(reason)}
    wanted = [task.manifest for task in run.work.tasks if task.key in blocked]
    lacking = dict.fromkeys(text for manifest in wanted[:5] for text in missing_of(manifest, world.cluster))
    if lacking:
        message += f"; probably because {'; '.join(list(lacking)[:5])}"
    return end_run(run, estate, succeeded=False, message=message)


def _is_child(reason: Reason) -> bool:
    return reason.key.kind in CHILD_KINDS and reason.key.group == "argoproj.io"


def _finish(run: Running, done: Done, estate: Runs) -> bool:
    """Delete the hooks whose policy says so; then end, or try again as the application's retry asks."""
    remove_hooks(run.work, done.remove, estate.hands)
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
