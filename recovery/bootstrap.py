"""From an empty cluster to a running one: the stages of a rebuild, in order (DESIGN §4).

`rebuild` is what the command line and the drills call. Stages: keys → CRDs and namespaces → controllers → secrets
readable → applications → health. Each wait has a deadline and names what it waits for. Never here: how one
application is synced (`sync.py`), how keys are restored (`escrow.py`, handed in as `restore_keys`).

    request = RebuildRequest(roots=roots, install=manifests)
    report = rebuild(request, cluster=cluster, git=git, renderer=renderer, clock=clock)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from email.utils import parsedate_to_datetime
from pathlib import Path

from recovery.app import CONTROL_NAMESPACE, App, Health, HealthState, Source
from recovery.apply import apply_client_side, is_established, look, patiently, write
from recovery.appset import is_application_set
from recovery.argo import is_application, read_application
from recovery.data import DataStep, failed, lacks
from recovery.diff import in_sync
from recovery.events import Expected, Observer, Quiet, Stage, StageEnded, StageStarted, StepDone, Waiting
from recovery.forecast import ROUND_TRIP, forecast
from recovery.health import aggregate, assess
from recovery.journal import Header, Journal, fingerprint
from recovery.judge import judge_of, lenient, stands_on_copy
from recovery.kept import only_externals
from recovery.live import fetch
from recovery.marks import is_hook, is_skipped
from recovery.only import declaration_of, narrowed
from recovery.order import ordered
from recovery.owned import is_as_applied
from recovery.rebuild_report import AppReport, Report, StageReport
from recovery.request import RebuildRequest
from recovery.runner import running
from recovery.running import Outcome, World
from recovery.setup import configured
from recovery.sync import POLL, sync
from recovery.waiting import Lacking, wait
from recovery.walk import Estate, Planned, is_root, walk
from secretsops.errors import (
    ApiError,
    Forbidden,
    SecretsOpsError,
    SyncRefused,
    Unauthorized,
    UnknownKind,
)
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ports import Clock, Cluster, GitRepos, Renderer

_NAMESPACE = GroupVersionKind("", "v1", "Namespace")
_INSTALL = App(name="install", namespace="", source=Source(url="", path=""), destination="")
SKEW_LIMIT = 60.0
"""Seconds a cluster's clock may be off."""
INSTALLER = "secretsops"
"""Field manager of what the controllers stage applies."""


def rebuild(
    request: RebuildRequest,
    *,
    cluster: Cluster,
    git: GitRepos,
    renderer: Renderer,
    clock: Clock,
    observer: Observer | None = None,
) -> Report:
    """Bring `cluster` to what Git says, stage by stage, and report; a stage that fails ends the run with `ok=False`.

    Raises:
        SyncRefused: the plan has problems, or the journal belongs to another plan or cluster; nothing was written.
        ApiError, WorldFailed: the cluster or the journal gave no usable answer before the first stage.
    """
    uid, keys = fingerprint(cluster)
    pins = dict(request.pins)
    if request.resume and request.journal is not None:
        pins |= journaled_pins(request.journal)
    names = replace(request.remap, hold=request.hold)
    estate = walk(request.roots, git, renderer, pins=pins, remap=names)
    if estate.problems:
        shown = "; ".join(str(problem) for problem in estate.problems[:5])
        raise SyncRefused(
            f"{len(estate.problems)} problem(s) in Git: {shown}",
            reason="PlanHasProblems",
            hint="see all with `secretsops recover plan`; nothing was written",
        )
    tops: Sequence[Planned] = ()
    whole = estate
    if request.only:
        estate, tops = narrowed(estate, request.only)
    header = Header(plan=estate.digest, cluster=uid, keys=keys)
    journal = Journal(request.journal, header, resume=request.resume) if request.journal else None
    try:
        spared = _spared(estate, cluster, journal) if request.hold else frozenset()
        if spared:
            estate = walk(request.roots, git, renderer, pins=dict(estate.pins), remap=replace(names, spared=spared))
            whole = estate
            if request.only:
                estate, tops = narrowed(estate, request.only)
        world = World(
            cluster=cluster,
            git=git,
            renderer=renderer,
            clock=clock,
            journal=journal,
            observer=observer or Quiet(),
            started=clock.monotonic(),
            patience=request.patience,
            deadline=clock.monotonic() + request.deadline,
            hooks=request.hooks,
            parallel=request.parallel,
            wave_delay=request.wave_delay,
            pins=dict(estate.pins),
            setup=estate.setup,
            planned={planned.app.key: planned for planned in estate.applications},
            override_windows=request.override_windows,
        )
        run = _Run(request, estate, world, uid)
        run.only = [(planned, declaration_of(whole, planned)) for planned in tops]
        with running(cluster, request.runner, clock):
            run.tell_ahead()
            return run.stages()
    finally:
        if journal:
            journal.close()


def _spared(estate: Estate, cluster: Cluster, journal: Journal | None) -> frozenset[str]:
    """Give what would be held and lives already: whoever adopts a living cluster stops nothing in it.

    Decided once, before the first write: what a killed run made is not mistaken for what was there.
    """
    if journal is not None and "hold" in journal.facts:
        return frozenset(journal.spared)
    wanted = [task.manifest for planned in estate.applications for task in planned.tasks]
    left_out = [key for planned in estate.applications for key in planned.held_back]
    live = {str(key) for key in fetch(cluster, [m for m in wanted if str(m.key) in estate.held])}
    live |= {str(m.key) for m in left_out if look(cluster, m.kind, m.key) is not None}
    if journal is not None:
        for key in sorted(live - journal.spared):
            journal.record("spared", object=key)
        journal.record("fact", name="hold", value=str(len(estate.held - live)))
    return frozenset(live)


def journaled_pins(folder: Path) -> dict[str, str]:
    """Give the commits that a run pinned, by `url@revision`, from the journal in a folder."""
    from recovery.journal import FILE, read_lines

    return {line["source"]: line["revision"] for line in read_lines(folder / FILE) if line["event"] == "pin"}


class _Run:
    """One rebuild while it works."""

    def __init__(self, request: RebuildRequest, estate: Estate, world: World, uid: str) -> None:
        self.request, self.estate, self.world, self.uid = request, estate, world, uid
        self.cluster, self.clock, self.observer = world.cluster, world.clock, world.observer
        self.journal = journal = world.journal
        self.started, self.zero = world.clock.now(), world.started
        if journal:
            for source, revision in estate.pins.items():
                if source not in journal.pins:
                    journal.record("pin", source=source, revision=revision)
        self.reports: list[StageReport] = []
        self.outcomes: list[Outcome] = []
        self.healths: dict[str, Health] = {}
        self.notes: list[str] = []
        self.only: list[tuple[Planned, tuple[Manifest, App] | None]] = []
        """Applications to keep to, each with its object and the application that declares it."""
        self.judge = lenient(judge_of(estate.setup.settings, world.renderer), world.on_copies)
        if estate.held:
            self._note(f"{len(estate.held)} object(s) are held back until `secretsops recover go-live`")
        if request.override_windows:
            self._note(f"sync windows were overridden: {request.override_windows}")

    def now(self) -> float:
        """Give seconds since the start."""
        return self.clock.monotonic() - self.zero

    def tell_ahead(self) -> None:
        """Tell how many requests and minutes are ahead, at the round trip that this API server has now."""
        before, trip = self.clock.monotonic(), ROUND_TRIP
        try:
            self.cluster.raw("GET", "/version")
            trip = max(self.clock.monotonic() - before, 0.001)
        except ApiError:
            pass  # the first stage will say what is wrong
        ahead = forecast(self.estate, install=self.request.install, round_trip=trip, parallel=self.request.parallel)
        self.observer.event(Expected(at=self.now(), **asdict(ahead)))

    def stages(self) -> Report:
        """Walk the stages up to the one asked for; the first that fails is the last."""
        steps: Mapping[Stage, Callable[[], None]] = {
            Stage.TRUST: self._trust,
            Stage.KEYS: self._keys,
            Stage.DEFINITIONS: self._definitions,
            Stage.CONTROLLERS: self._controllers,
            Stage.SECRETS: self._secrets,
            Stage.DATA: self._data,
            Stage.APPLICATIONS: self._applications,
            Stage.HEALTH: self._health,
        }
        for stage, step in steps.items():
            if stage > self.request.until or not self._stage(stage, step):
                break
        return Report(
            ok=all(entry.ok for entry in self.reports),
            started=self.started,
            seconds=self.now(),
            cluster=self.uid,
            plan=self.estate.digest,
            resumed=bool(self.journal and self.journal.resumed),
            stages=self.reports,
            apps=[self._app_report(outcome) for outcome in self.outcomes],
            notes=self.notes,
            remapped=self.estate.changes,
        )

    def _app_report(self, outcome: Outcome) -> AppReport:
        health = self.healths.get(outcome.app.key)
        return AppReport(
            app=outcome.app.key,
            parent=outcome.parent,
            revision=outcome.revision,
            ok=outcome.succeeded and (health is None or health.state is HealthState.HEALTHY),
            message=outcome.message,
            objects=len(outcome.objects),
            health=health.state.value if health else "",
        )

    def _stage(self, stage: Stage, step: Callable[[], None]) -> bool:
        at = self.now()
        self.observer.event(StageStarted(stage=stage, at=at))
        message = ""
        try:
            self._persistently(step)
        except SecretsOpsError as error:
            message = f"{error.message} ({error.reason})"
        self.reports.append(StageReport(stage=stage, at=at, seconds=self.now() - at, ok=not message, message=message))
        self.observer.event(StageEnded(stage=stage, at=self.now(), ok=not message, message=message))
        if self.journal and not message:
            self.journal.record("stage", stage=stage.name)
        return not message

    def _persistently(self, step: Callable[[], None]) -> None:
        """Take a stage's step again while the API server gives answers that pass: every step only adds what lacks.

        Raises what the step raises: at once what no waiting cures, the rest when patience is over.
        """
        limit, idle = min(self.clock.monotonic() + self.request.patience, self.world.deadline), 0
        while True:
            try:
                return step()
            except ApiError as error:
                hopeless = isinstance(error, UnknownKind | Forbidden | Unauthorized) or not error.retry
                if hopeless or self.clock.monotonic() >= limit:
                    raise
                reasons = [f"the API server to answer: {error.message}"]
                self.observer.event(Waiting(at=self.now(), app="", reasons=reasons, deadline=limit - self.zero))
                self.clock.sleep(max(error.retry_after, POLL[min(idle, len(POLL) - 1)]))
                idle += 1

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    # --- 0 trust ---------------------------------------------------------------------------------------

    def _trust(self) -> None:
        """Prove what the run rests on, and that no other cluster goes on writing, before the first write."""
        self._refuse_skew()
        if self.request.unfenced:
            self._note(f"the lost cluster was not fenced: {self.request.unfenced}")
            if self.journal and "unfenced" not in self.journal.facts:
                self.journal.record("fact", name="unfenced", value=self.request.unfenced)
        if self.request.prove is None:
            self._note("nothing was claimed: no escrow was given")
            return
        for note in self.request.prove(self.cluster):
            self._note(note)

    def _refuse_skew(self) -> None:
        """Refuse a clock more than a minute off: certificates and tokens of one are not valid yet for the other."""
        answer = self.cluster.raw("GET", "/version")
        said = next((text for name, text in answer.headers.items() if name.lower() == "date"), "")
        try:
            skew = (parsedate_to_datetime(said) - self.clock.now()).total_seconds()
        except (ValueError, TypeError):
            return
        if abs(skew) > SKEW_LIMIT:
            raise SyncRefused(
                f"the cluster's clock is {skew:+.0f} s off ours", reason="ClockSkew", hint="set both by NTP, then again"
            )

    # --- 1 keys, 2 definitions, 3 controllers ----------------------------------------------------------

    def _keys(self) -> None:
        """Restore the sealing keys before any controller could make new ones; their namespace comes first."""
        for manifest in self.request.install:
            if manifest.kind == _NAMESPACE:
                self._install(manifest)
        if self.request.restore_keys is None:
            self._note("no keys were restored: none were given")
            return
        self.request.restore_keys(self.cluster)

    def _definitions(self) -> None:
        """Apply CRDs where they are absent, never over the peer's, and wait until they are served."""
        waiting: list[Manifest] = []
        for manifest in self.request.install:
            if manifest.kind.kind != "CustomResourceDefinition":
                continue
            live = look(self.cluster, manifest.kind, manifest.key)
            waiting.append(live or self._install(manifest))
        self._until(waiting, lambda live: "" if is_established(live) else "to be established")
        self.cluster.resources(refresh=True)

    def _controllers(self) -> None:
        """Apply the rest of the install manifests in kind order and wait until their Deployments are available."""
        rest = [m for m in self.request.install if m.kind.kind != "CustomResourceDefinition" and m.kind != _NAMESPACE]
        tasks = ordered(_INSTALL, rest, revision="", started=0)
        applied = [self._install(task.manifest) for task in tasks]
        self._until([live for live in applied if live.kind.kind == "Deployment"], _is_unhealthy)

    def _install(self, manifest: Manifest) -> Manifest:
        there = look(self.cluster, manifest.kind, manifest.key)
        if there is not None and is_as_applied(there, manifest, INSTALLER):
            return there
        live = patiently(lambda: self.cluster.apply(manifest, field_manager=INSTALLER, force=True), self.clock)
        self._step(manifest.key, "installed")
        return live

    def _step(self, key: ObjectKey, action: str) -> None:
        self.observer.event(StepDone(at=self.now(), app="", phase="", wave=0, key=key, action=action))

    # --- 4 secrets -------------------------------------------------------------------------------------

    def _secrets(self) -> None:
        """Apply every sealed and external secret of the estate, with the stores they read, and prove them readable.

        They are applied exactly as their application will (same tracking id), so its wave finds them unchanged.
        """
        if not self.request.secrets_first:
            self._note("secrets were not proven before the applications: switched off")
            return
        namespaces = self._namespaces()
        able: list[tuple[Manifest, App]] = []
        for planned in self.estate.applications:
            for task in planned.tasks:
                manifest = task.manifest
                if manifest.kind.kind not in _SECRET_KINDS.get(manifest.kind.group, ()) or task.hook:
                    continue
                if self._can_exist(manifest, namespaces):
                    able.append((manifest, planned.app))
        self._from_copies([manifest for manifest, _ in able])
        waiting = [
            self._write(manifest, look(self.cluster, manifest.kind, manifest.key), app) for manifest, app in able
        ]
        self._until(waiting, self._is_unproven)

    def _from_copies(self, manifests: Sequence[Manifest]) -> None:
        """Make the Secrets of ExternalSecrets from sealed copies, where they were asked for."""
        if self.request.restore_secrets is None:
            return
        done = self.request.restore_secrets(self.cluster, only_externals(manifests))
        self.world.on_copies.update(done.as_of)
        for note in done.notes:
            self._note(note)

    def _is_unproven(self, live: Manifest) -> str:
        """Give what a secret's object still lacks; what stands on copies waits for no store."""
        return "" if stands_on_copy(live, self.world.on_copies) else _is_unhealthy(live)

    def _namespaces(self) -> dict[str, tuple[Manifest, App]]:
        """Give the namespaces that Git makes, by name, with the application that makes each."""
        return {
            task.manifest.name: (task.manifest, planned.app)
            for planned in self.estate.applications
            for task in planned.tasks
            if task.manifest.kind == _NAMESPACE
        }

    def _can_exist(self, manifest: Manifest, namespaces: Mapping[str, tuple[Manifest, App]]) -> bool:
        """Make the object's namespace if Git has it; say in a note why an object has to wait for its application."""
        try:
            self.cluster.resource(manifest.kind)
        except UnknownKind:
            self._note(f"{manifest.key} is proven with its application: its CRD comes from there")
            return False
        if not manifest.namespace or look(self.cluster, _NAMESPACE, _named(manifest.namespace)):
            return True
        if manifest.namespace not in namespaces:
            self._note(f"{manifest.key} is proven with its application: nothing in Git makes its namespace")
            return False
        wanted, app = namespaces[manifest.namespace]
        self._write(wanted, None, app)
        return True

    def _write(self, manifest: Manifest, live: Manifest | None, app: App) -> Manifest:
        written = patiently(lambda: write(self.cluster, manifest, live, app, spare=True), self.clock)
        self._step(manifest.key, written.message)
        return written.live

    # --- 5 data ----------------------------------------------------------------------------------------

    def _data(self) -> None:
        """Wait for what others restore, each to its own deadline; what Git has of it is applied first.

        Raises:
            Timeout: one is not done in time; names the object, its state and the command. SyncRefused: one failed.
        """
        start, pending = self.clock.monotonic(), list(self.request.data)
        self._apply_data()

        def look_at_pending() -> Lacking:
            states = [(step, self._live_data(step)) for step in pending]
            for step, live in states:
                if failed(live):
                    raise SyncRefused(f"{step.object} {failed(live)}{_by(step)}", reason="DataFailed", hint=_CURE)
            problems = [(step, lacks(step, live)) for step, live in states]
            pending[:] = [step for step, problem in problems if problem]
            return Lacking(
                reasons=[f"{step.object}: {problem}{_by(step)}" for step, problem in problems if problem],
                limit=min((start + step.seconds for step in pending), default=start),
            )

        wait(self.world, look_at_pending, what="data: ", hint=_CURE)

    def _apply_data(self) -> None:
        """Apply those objects of the hand-off that stand in Git, exactly as their application will."""
        named = {step.key for step in self.request.data}
        namespaces = self._namespaces() if named else {}
        for planned in self.estate.applications:
            for task in planned.tasks:
                if task.key in named and not task.hook and self._can_exist(task.manifest, namespaces):
                    self._write(task.manifest, look(self.cluster, task.manifest.kind, task.key), planned.app)

    def _live_data(self, step: DataStep) -> Manifest | None:
        kinds = [
            r.kind for r in self.cluster.resources() if (r.kind.group, r.kind.kind) == (step.key.group, step.key.kind)
        ]
        return look(self.cluster, kinds[0], step.key) if kinds else None

    # --- 6 applications, 7 health ----------------------------------------------------------------------

    def _applications(self) -> None:
        """Record the roots in the cluster as one would by hand, then sync them and everything below."""
        apps, sets, setup = [], [], self.estate.setup
        for planned, declared in self.only:
            if declared is not None:
                self._make_namespace(planned.app.namespace)
                self._write(declared[0], look(self.cluster, declared[0].kind, declared[0].key), declared[1])
            apps.append(planned.app)
        for root in self.estate.roots if not self.only else ():
            if is_application_set(root):
                self._record(root)
                sets.append(self.cluster.get(root.kind, root.name, root.namespace or CONTROL_NAMESPACE))
                continue
            if not is_application(root):
                self._record(root)
                continue
            app = configured(read_application(root, server_of=setup.server_of), setup.settings)
            # A restored status or operation would make the peer believe it had synced.
            body = {name: value for name, value in root.body.items() if name not in ("status", "operation")}
            wanted = Manifest({**body, "metadata": {**root.metadata, "namespace": app.namespace}})
            self._make_namespace(app.namespace)
            live = look(self.cluster, wanted.kind, wanted.key)
            patiently(lambda w=wanted, n=live: apply_client_side(self.cluster, w, n), self.clock)  # type: ignore[misc]
            apps.append(app)
        self.outcomes = sync(apps, self.world, sets)
        failed = [outcome for outcome in self.outcomes if not outcome.succeeded]
        if failed:
            deepest = failed[-1]
            raise SyncRefused(
                f"{len(failed)} of {len(self.outcomes)} applications failed; {deepest.app.key}: {deepest.message}",
                reason="ApplicationsFailed",
            )

    def _record(self, manifest: Manifest) -> None:
        """Apply what configures Argo CD beside the roots; a kind that is not served yet is not ours to bring."""
        metadata = {**manifest.metadata}
        if manifest.kind != _NAMESPACE:
            metadata["namespace"] = manifest.namespace or CONTROL_NAMESPACE
            self._make_namespace(metadata["namespace"])
        wanted = Manifest({**manifest.body, "metadata": metadata})
        try:
            self._write(wanted, look(self.cluster, wanted.kind, wanted.key), _INSTALL)
        except UnknownKind:
            self._note(f"{wanted.key} was not applied: its kind is not served yet")

    def _make_namespace(self, name: str) -> None:
        if look(self.cluster, _NAMESPACE, _named(name)) is None:
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            self.cluster.apply(Manifest(body), field_manager=INSTALLER)

    def _health(self) -> None:
        """Look at every object of every application once more: there, as wanted, healthy."""
        limit = self.clock.monotonic() + self.request.patience

        def look_at_all() -> Lacking:
            plain = {outcome.app.key: _judged(outcome) for outcome in self.outcomes}
            live = fetch(self.cluster, [manifest for objects in plain.values() for manifest in objects])
            reasons = [
                reason for outcome in self.outcomes for reason in self._look_over(outcome, plain[outcome.app.key], live)
            ]
            return Lacking(reasons=reasons, limit=limit)

        wait(self.world, look_at_all, hint=_RESUME)

    def _look_over(self, outcome: Outcome, plain: Sequence[Manifest], live: Mapping[ObjectKey, Manifest]) -> list[str]:
        """Give what is wrong with an application's objects; remember its health."""
        verdicts: list[tuple[ObjectKey, Health | None]] = []
        reasons = []
        for manifest in plain:
            found = live.get(manifest.key)
            health = self.judge(found) if found else Health(HealthState.MISSING)
            verdicts.append((manifest.key, health))
            if health is not None and health.state is not HealthState.HEALTHY:
                reasons.append(f"{manifest.key} to be healthy ({health.state.value}: {health.message})")
            elif found is not None and not in_sync(found, manifest, outcome.app.ignored):
                reasons.append(f"{manifest.key} to be as in Git")
        self.healths[outcome.app.key] = aggregate(verdicts)
        return reasons

    # --- waiting ---------------------------------------------------------------------------------------

    def _until(self, objects: Sequence[Manifest], lacks: Callable[[Manifest], str]) -> None:
        """Wait until `lacks` finds nothing wrong with any of the objects, read anew each time.

        Raises:
            Timeout: patience is over; names the objects and their conditions.
        """
        limit, pending = self.clock.monotonic() + self.request.patience, list(objects)

        def look_at_pending() -> Lacking:
            found = [(manifest, look(self.cluster, manifest.kind, manifest.key)) for manifest in pending]
            problems = [(manifest, lacks(live) if live is not None else "to exist") for manifest, live in found]
            pending[:] = [manifest for manifest, problem in problems if problem]
            return Lacking(reasons=[f"{m.key} {problem}" for m, problem in problems if problem], limit=limit)

        wait(self.world, look_at_pending, hint=_RESUME)


def _judged(outcome: Outcome) -> list[Manifest]:
    """Give the objects by which an application is judged; a child Application answers for itself."""
    return [m for m in outcome.objects if not is_hook(m) and not is_skipped(m) and not is_root(m)]


def _by(step: DataStep) -> str:
    return f" (run: {step.command})" if step.command else ""


_CURE = "restore it, then `secretsops recover resume`"
_RESUME = "look at the objects named, cure them, then `secretsops recover resume`"


def _named(namespace: str) -> ObjectKey:
    return ObjectKey("", "Namespace", "", namespace)


def _is_unhealthy(live: Manifest) -> str:
    """Give what an object still lacks, "" when it is healthy or of a kind without health."""
    health = assess(live)
    if health is None or health.state is HealthState.HEALTHY:
        return ""
    stale = live.status.get("observedGeneration", live.generation) != live.generation
    return f"to be ready ({health.state.value}: {health.message}{', status is of an older generation' * stale})"


_SECRET_KINDS = {
    "bitnami.com": ("SealedSecret",),
    "external-secrets.io": ("ExternalSecret", "SecretStore", "ClusterSecretStore"),
}
