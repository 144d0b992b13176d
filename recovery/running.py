"""The applications of one run: the world they are synced in, how far each is, who waits for whom, how each ended.

`sync.py` walks them. Never here: what is done with one application; rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from recovery.app import App, Health, HealthState, Problem
from recovery.appset import is_application_set
from recovery.argo import read_application
from recovery.desk import Desk
from recovery.events import AppEnded, Event, Observer, Quiet
from recovery.gates import STRICT
from recovery.generated import record_generated
from recovery.generators import Sources
from recovery.journal import Journal
from recovery.judge import judge_of, lenient
from recovery.live import FRESH, Sight
from recovery.plan import Result, State
from recovery.render import Kinds
from recovery.setup import Setup, configured
from recovery.sources import Pins
from recovery.spine import Hands, Work
from recovery.status import publish, status_of
from recovery.walk import Planned
from secretsops.errors import SecretsOpsError
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ports import Clock, Cluster, GitRepos, Renderer

DEPTH_LIMIT = 32
"""Levels of applications below applications; a deeper tree generates itself."""
APP_LIMIT = 5000
"""Applications in one run (the peer's own limit for what one ApplicationSet makes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The doors and the settings of one run."""

    cluster: Cluster
    git: GitRepos
    renderer: Renderer
    clock: Clock
    journal: Journal | None = None
    observer: Observer = field(default_factory=Quiet)
    started: float = 0.0
    """`clock.monotonic()` at the start of the run: events count from it."""
    patience: float = 300.0
    """Seconds an application may stand still before its wait is an error."""
    deadline: float = float("inf")
    """`clock.monotonic()` at which the whole run gives up."""
    hooks: bool = True
    parallel: int = 4
    with_status: bool = True
    wave_delay: float = 0.0
    """Seconds to stand still between two waves. Compat: the peer sleeps 2 s after each but the last."""
    planned: Mapping[str, Planned] = field(default_factory=dict)
    """What the plan rendered, by `namespace/name`: taken over where the cluster gives no reason to render again."""
    setup: Setup = field(default_factory=Setup)
    """Projects and settings of the installation, as the plan read them from Git."""
    override_windows: str = ""
    """Why sync windows do not count in this run; "" when they do."""
    on_copies: set[ObjectKey] = field(default_factory=set)
    """ExternalSecrets whose Secret came from a sealed copy: that their store is out holds nothing up."""
    pins: dict[str, str] = field(default_factory=dict)
    """`url@revision` to commit: one text means one commit for the whole run, also where there is no journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one application ended. `revision` is the commit, `objects` what it wants, `problems` files left out."""

    app: App
    parent: str
    revision: str
    succeeded: bool
    message: str
    objects: Sequence[Manifest] = ()
    problems: Sequence[Problem] = ()


@dataclass(slots=True, kw_only=True)
class Running:
    """One application while it is synced."""

    app: App
    parent: Running | None
    depth: int
    work: Work
    """Its tasks and how far each is."""
    revision: str = ""
    started: int = 0
    attempt: int = 0
    wanted: Sequence[Manifest] = ()
    problems: Sequence[Problem] = ()
    said: tuple[str, ...] = ()
    moved: float = 0.0
    again_at: float = 0.0
    after: frozenset[str] = frozenset()
    """Applications that have to be through before this one starts: those of earlier steps of its set."""
    children: int = 0
    """Applications below it that have not ended."""
    outcome: Outcome | None = None


class JournaledPins(Pins):
    """Pins of this run; a new one is in the journal before it is used."""

    def __init__(self, world: World) -> None:
        super().__init__(world.git, world.journal.pins if world.journal else world.pins)
        self._journal = world.journal

    def __call__(self, url: str, revision: str) -> str:
        """Give the commit; the same text of the same repository stays pinned for the run."""
        text = f"{url}@{revision or 'HEAD'}"
        if text not in self.known and self._journal:
            commit = self._git.resolve(url, revision or "HEAD")
            self._journal.record("pin", source=text, revision=commit)
        return super().__call__(url, revision)


def end_run(run: Running, estate: Runs, *, succeeded: bool, message: str) -> bool:
    """Keep how an application ended, in the journal, its status and the events; gives True: something moved."""
    run.outcome = Outcome(
        app=run.app,
        parent=run.parent.app.key if run.parent else "",
        revision=run.revision,
        succeeded=succeeded,
        message=message,
        objects=run.wanted,
        problems=run.problems,
    )
    world = estate.world
    if world.journal and run.app.key in world.journal.attempts and not world.journal.attempts[run.app.key].ended:
        world.journal.record("ended", app=run.app.key, outcome="Succeeded" if succeeded else "Failed")
    if world.with_status:
        status = status_of(run.outcome, run.work, estate.judge, started=run.started, now=world.clock.now())
        estate.hands.desk.hand(partial(publish, world.cluster, run.app, status), lambda _: None)
    run.work = Work(app=run.app, gate=run.work.gate)  # what lived is not kept: a large estate has many objects
    estate.tell(AppEnded(at=estate.now(), app=run.app.key, ok=succeeded, message=message))
    estate.wake(run)
    return True


class Runs:
    """All applications of a run, and who waits for whom."""

    def __init__(self, world: World, desk: Desk) -> None:
        self.world = world
        self.hands = Hands(cluster=world.cluster, clock=world.clock, desk=desk, journal=world.journal)
        self.sight = Sight(world.cluster, world.clock)
        for planned in world.planned.values():
            self.sight.expect(task.manifest for task in planned.tasks)
        self.runs: dict[str, Running] = {}
        self.unfinished: dict[str, Running] = {}
        self.ready: dict[str, Running] = {}
        """Applications that something happened to: those are looked at next."""
        self._kinds: tuple[float, Kinds] | None = None
        self.sets: dict[str, list[str]] = {}
        """ApplicationSet to the Applications it generated."""
        self.judge = lenient(judge_of(world.setup.settings, world.renderer), world.on_copies)

    def now(self) -> float:
        """Give seconds since the start of the run."""
        return self.world.clock.monotonic() - self.world.started

    def tell(self, event: Event) -> None:
        """Hand an event to the observer."""
        self.world.observer.event(event)

    def wake(self, ended: Running) -> None:
        """Have those looked at that waited for an application which ended: its parent, later steps of its set."""
        key, parent = ended.app.key, ended.parent
        self.unfinished.pop(key, None)
        self.ready.pop(key, None)
        if parent is not None:
            parent.children -= 1
            failed = ended.outcome is not None and not ended.outcome.succeeded
            # Of a thousand children the last one matters, or one that failed; else a look comes by all the same.
            if not parent.children or failed:
                self.call(parent)
        for run in [one for one in self.unfinished.values() if key in one.after]:
            self.call(run)

    def call(self, run: Running) -> None:
        """Have an application looked at next, unless it has ended."""
        if run.outcome is None:
            self.ready[run.app.key] = run

    def is_active(self, key: ObjectKey) -> bool:
        """Say whether the Application object `key`, or one that the ApplicationSet `key` made, is being synced."""
        named = f"{key.namespace}/{key.name}"
        runs = [self.runs.get(one) for one in (self.sets.get(named, []) if key.kind != "Application" else [named])]
        return any(run is not None and run.outcome is None for run in runs)

    def knows(self, key: ObjectKey) -> bool:
        """Say whether the object declares an application of this run, or a set that made some."""
        named = f"{key.namespace}/{key.name}"
        return key.group == "argoproj.io" and named in (self.runs if key.kind == "Application" else self.sets)

    def held_back(self, run: Running) -> str:
        """Say why an application may not start: "waits" for an earlier step, or a step that failed; "" when it may."""
        runs = [self.runs[name] for name in run.after if name in self.runs]
        failed = [one.app.key for one in runs if one.outcome and not one.outcome.succeeded]
        if failed:
            return f"an earlier step of its ApplicationSet failed: {min(failed)}"
        return "waits" if any(one.outcome is None for one in runs) else ""

    def kinds(self) -> Kinds:
        """Give the kinds that the cluster serves, with the CRDs applied so far; asked for again after a while."""
        now = self.world.clock.monotonic()
        if self._kinds is None or now - self._kinds[0] > FRESH:
            served = self.world.cluster.resources(refresh=True)
            custom = [resource.kind for resource in served if "." in resource.kind.group]
            kinds = Kinds(
                scopes={(resource.kind.group, resource.kind.kind): resource.namespaced for resource in served},
                api_versions=sorted(
                    {text for kind in custom for text in (kind.api_version, f"{kind.api_version}/{kind.kind}")}
                ),
            )
            self._kinds = now, kinds
        return self._kinds[1]

    def forget_kinds(self) -> None:
        """Have discovery asked again: a definition was written."""
        self._kinds = None

    def add(self, app: App, parent: Running | None, after: frozenset[str] = frozenset()) -> None:
        """Register an application to be synced, once."""
        depth = parent.depth + 1 if parent else 0
        if app.key in self.runs:
            return
        work = Work(app=app, gate=STRICT)
        run = Running(app=app, parent=parent, depth=depth, work=work, moved=self.world.clock.monotonic(), after=after)
        self.runs[app.key] = self.unfinished[app.key] = self.ready[app.key] = run
        if parent is not None:
            parent.children += 1
        if depth > DEPTH_LIMIT or len(self.runs) > APP_LIMIT:
            end_run(run, self, succeeded=False, message=f"more than {DEPTH_LIMIT} levels or {APP_LIMIT} applications")

    def add_child(self, manifest: Manifest, parent: Running, result: Result) -> None:
        """Register the child that an Application object declares; one that cannot be carried out fails its task."""
        try:
            self.add(configured(self._read(manifest), self.world.setup.settings), parent)
        except SecretsOpsError as error:
            result.state, result.message = State.FAILED, f"{error.message} ({error.reason})"

    def add_set(self, manifest: Manifest, parent: Running | None, result: Result) -> None:
        """Record the Applications that an ApplicationSet generates, and register them step by step."""
        world = self.world
        sources = Sources(git=world.git, pin=JournaledPins(world), setup=world.setup)
        try:
            steps = record_generated(world.cluster, manifest, sources, world.clock)
            done: set[str] = set()
            for step in steps:
                apps = [configured(self._read(one), world.setup.settings) for one in step]
                for app in apps:
                    self.add(app, parent, after=frozenset(done))
                done |= {app.key for app in apps}
            self.sets[f"{manifest.namespace}/{manifest.name}"] = sorted(done)
        except SecretsOpsError as error:
            result.state, result.message = State.FAILED, f"{error.message} ({error.reason})"

    def _read(self, manifest: Manifest) -> App:
        return read_application(manifest, server_of=self.world.setup.server_of)

    def health_of(self, found: Manifest, parent: Running) -> Health:
        """Give how a child does by the strict gate: pinned revision synced, everything healthy, at every depth.

        An application that is its own ancestor (Argo CD managing itself) does not wait for itself.
        """
        key = f"{found.namespace}/{found.name}"
        if is_application_set(found):
            return self._health_of_set(key)
        above: Running | None = parent
        while above is not None:
            if above.app.key == key:
                return Health(HealthState.HEALTHY)
            above = above.parent
        return self._health_of_run(key)

    def _health_of_set(self, key: str) -> Health:
        """Give how a generated lot does: as its worst member."""
        members = [self._health_of_run(name) for name in self.sets.get(key, [])]
        for state in (HealthState.DEGRADED, HealthState.PROGRESSING):
            for health in members:
                if health.state is state:
                    return health
        return Health(HealthState.HEALTHY)

    def _health_of_run(self, key: str) -> Health:
        run = self.runs.get(key)
        if run is None or run.outcome is None:
            message = next(iter(run.said), "syncing") if run else "not started"
            return Health(HealthState.PROGRESSING, message)
        state = HealthState.HEALTHY if run.outcome.succeeded else HealthState.DEGRADED
        return Health(state, "" if run.outcome.succeeded else f"{key}: {run.outcome.message}")
