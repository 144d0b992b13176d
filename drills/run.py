"""The spine of a drill: start a world, fill a cluster from Git, lose it, rebuild it, compare. Measured, fail closed.

It runs the code of a real disaster: `install` prints what is applied, the controller comes up from its Deployment,
`seal` seals, `escrow` backs up, `rebuild` rebuilds. Never here: arithmetic (`timeline.py`), judgement (`report.py`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeVar

from drills import compare, estate
from drills.display import Display
from drills.report import Check, Report, judge
from drills.sandbox.backend import Backend
from drills.sandbox.world import Sandbox
from drills.scenario import Scenario, SealedEntry
from drills.timeline import DECLARED, DISRUPTED, PROTECTED, RECOVERED, Mark, Span, Timeline
from recovery.app import CONTROL_NAMESPACE
from recovery.bootstrap import RebuildRequest, rebuild
from recovery.bootstrap import Report as RebuildReport
from recovery.escrow import restore_keys
from recovery.events import AppEnded, Event, Stage, StageEnded, StageStarted, Waiting
from recovery.walk import read_roots
from secretsops.errors import ApiError, SecretsOpsError, Unreachable, WorldFailed
from secretsops.files import write_atomic
from secretsops.manifest import GroupVersionKind, Manifest, load_all
from secretsops.ports import Cluster, ClusterTarget, Doors
from secretsops.secret import Plaintext

WHAT: Mapping[str, str] = {
    "start": "a cluster, OpenBao, AWS and a Git server on loopback",
    "install": "the controller, from the output of `secretsops install`",
    "commit": "sealed Secrets and an app of apps, to Git",
    "fill": "the cluster, from Git",
    "escrow": "the sealing keys, to an age recipient; its identity stays outside",
    "destroy": "the cluster: processes killed, data deleted",
    "replace": "an empty cluster",
    "rebuild": "keys from escrow, CRDs, controllers, secrets, applications, health",
}
T = TypeVar("T")
LOST, NEW = "a", "b"
PATIENCE = 60.0
_SECRETSOPS = (sys.executable, "-m", "secretsops")


@dataclass(slots=True, kw_only=True)
class _State:
    """What the steps leave for each other."""

    certificate: Path
    work: Path
    escrow: Path
    identity: Path
    url: str = ""
    before: compare.Picture | None = None
    after: compare.Picture | None = None
    keys_before: frozenset[str] = frozenset()
    rebuilt: RebuildReport | None = None
    install: list[Manifest] = field(default_factory=list)


class Drill:
    """One drill while it runs; `run` carries it out."""

    def __init__(self, scenario: Scenario, files: Traversable, *, doors: Doors, world: Sandbox, show: Display) -> None:
        self.scenario, self.files, self.doors, self.world, self.show = scenario, files, doors, world, show
        self._clock, self._zero, self._started = doors.clock, doors.clock.monotonic(), doors.clock.now()
        self._hmac_key = os.urandom(32)
        self._spans: list[Span] = []
        self._marks: list[Mark] = []
        self._parts: list[Span] = []
        folder = world.folder / "drill"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._state = _State(
            certificate=folder / "cert.pem",
            work=folder / "repository",
            escrow=folder / "off-cluster" / "escrow",
            identity=folder / "off-cluster" / "identity.txt",
        )

    def run(self) -> Report:
        """Carry the steps out up to the first that fails, make every check, and judge."""
        # 1. Step after step. 2. Every check, also after a failure. 3. Judge.
        acts: Mapping[str, Callable[[], None]] = {
            "start": self._start,
            "install": self._install,
            "commit": self._commit,
            "fill": self._fill,
            "escrow": self._escrow,
            "destroy": self._destroy,
            "replace": self._replace,
            "rebuild": self._rebuild_lost,
        }
        broken = ""
        for step in self.scenario.steps:
            broken = self._step(step, acts[step])
            if broken:
                break
        checks = [self._check(name) for name in self.scenario.checks]
        timeline = Timeline(spans=self._spans, marks=self._marks)
        equal = all(check.ok is True for check in checks)
        known = equal or all(check.ok is not None for check in checks)
        lost = timeline.lost(equal=equal) if known else None
        goals = self.scenario.objectives
        verdict, message = judge(checks, timeline, rto=goals.rto, rpo=goals.rpo, lost=lost, broken=broken,
                                 stand_in=self.world.stand_in)  # fmt: skip
        return Report(
            scenario=self.scenario.name,
            started=self._started,
            verdict=verdict,
            message=message,
            backend="embedded" if self.world.stand_in else "control-plane",
            rto_objective=goals.rto,
            rpo_objective=goals.rpo,
            rpo=lost,
            checks=checks,
            timeline=timeline,
        )

    # --- steps -----------------------------------------------------------------------------------------

    def _start(self) -> None:
        parts: Mapping[str, Callable[[], object]] = {
            "OpenBao": self.world.openbao,
            "AWS": self.world.aws,
            "Git": self.world.git,
            "cluster": lambda: self._ready_for_pods(LOST),
        }
        with ThreadPoolExecutor(max_workers=len(parts)) as pool:
            for done in [pool.submit(self._timed, name, start) for name, start in parts.items()]:
                done.result()
        for entry in self.scenario.stores:
            values = {name: estate.made_up().reveal().decode() for name in entry.values}
            if entry.store == "vault":
                self.world.openbao().write(entry.key, values)
            else:
                self.world.aws().put_secret(entry.key, _json(values))

    def _install(self) -> None:
        request = RebuildRequest(roots=(), install=self._manifests(), until=Stage.CONTROLLERS, patience=PATIENCE)
        self._rebuild(LOST, request)

    def _commit(self) -> None:
        state, repository = self._state, self.world.git().create("estate")
        state.url = repository.url
        addresses = {"repo": state.url, "vault": self.world.openbao().url, "region": self.world.aws().region}
        estate.fill(self.files / self.scenario.estate, state.work, addresses)
        self._timed("fetch certificate", lambda: estate.fetch_certificate(self._cluster_at(LOST), state.certificate))
        for entry in self.scenario.sealed:
            name = f"seal {entry.namespace}/{entry.name} ({entry.scope})"
            act = partial(estate.seal, entry, self._values(entry), state.certificate, state.work / entry.file)
            self._timed(name, act)
        self._timed("push", lambda: estate.commit(state.work, state.url, "The estate"))

    def _fill(self) -> None:
        roots, pins = read_roots(self.doors.git(), self._state.url, "main", self.scenario.root)
        self._rebuild(LOST, RebuildRequest(roots=roots, pins=pins, install=self._namespaces(), patience=PATIENCE))

    def _escrow(self) -> None:
        state = self._state
        state.identity.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        identity, recipient = self.doors.age().generate()
        write_atomic(state.identity, identity.reveal() + b"\n", mode=0o600)
        kubeconfig = str(self._cluster_at(LOST))
        self._timed(
            "back up",
            lambda: _secretsops(
                "escrow", "create", "--recipient", recipient, "--to", str(state.escrow), "--kubeconfig", kubeconfig
            ),
        )
        self._timed(
            "prove",
            lambda: _secretsops(
                *("escrow", "verify", "--from", str(state.escrow), "--identity", str(state.identity)),
                *("--kubeconfig", kubeconfig),
            ),
        )
        self._mark(PROTECTED)

    def _destroy(self) -> None:
        cluster, plane = self._door(LOST), self.world.clusters[LOST]
        self._state.before = self._timed("picture", lambda: self._picture(cluster))
        self._state.keys_before = _sealing_keys(self._state.before)
        self._keep_evidence(plane)
        self._mark(DISRUPTED)
        plane.destroy()
        try:
            cluster.raw("GET", "/readyz")
        except Unreachable:
            self._mark(DECLARED)
            return
        raise WorldFailed("the cluster still answers", reason="NotDestroyed")

    def _replace(self) -> None:
        self._ready_for_pods(NEW)

    def _rebuild_lost(self) -> None:
        state = self._state
        roots, pins = read_roots(self.doors.git(), state.url, "main", self.scenario.root)
        identities = [Plaintext(state.identity.read_bytes())]
        request = RebuildRequest(
            roots=roots,
            pins=pins,
            install=[*self._namespaces(), *self._manifests()],
            restore_keys=restore_keys(self.doors.sink(str(state.escrow)), self.doors.age(), identities),
            journal=self.world.folder / "drill" / "journal",
            patience=PATIENCE,
        )
        state.rebuilt = self._rebuild(NEW, request)
        self._mark(RECOVERED)

    # --- checks ----------------------------------------------------------------------------------------

    def _check(self, name: str) -> Check:
        checks: Mapping[str, Callable[[], tuple[bool, str]]] = {
            "secrets-equal": self._secrets_equal,
            "applications-healthy": self._applications_healthy,
            "objects-equal": self._objects_equal,
            "keys-equal": self._keys_equal,
        }
        if self._state.rebuilt is None:
            return Check(name=name, ok=None, message="nothing was rebuilt")
        try:
            ok, message = checks[name]()
        except SecretsOpsError as error:
            return Check(name=name, ok=None, message=f"{error.message} ({error.reason})")
        return Check(name=name, ok=ok, message=message)

    def _secrets_equal(self) -> tuple[bool, str]:
        before, after = self._pictures()
        differing = compare.differing_secrets(before, after)
        return not differing and bool(before.secrets), _told(differing, f"{len(before.secrets)} Secrets, all equal")

    def _applications_healthy(self) -> tuple[bool, str]:
        assert self._state.rebuilt is not None
        apps = self._state.rebuilt.apps
        sick = [f"{app.app} is {app.health or 'unknown'}" for app in apps if not app.ok or app.health != "Healthy"]
        return not sick and bool(apps), _told(sick, f"{len(apps)} applications, all Healthy")

    def _objects_equal(self) -> tuple[bool, str]:
        before, after = self._pictures()
        differing = compare.differing_objects(before, after)
        return not differing and bool(before.objects), _told(differing, f"{len(before.objects)} objects, all there")

    def _keys_equal(self) -> tuple[bool, str]:
        _, after = self._pictures()
        keys, found = self._state.keys_before, _sealing_keys(after)
        differing = [f"{name} was lost" for name in sorted(keys - found)]
        differing += [f"{name} was made anew" for name in sorted(found - keys)]
        return not differing and bool(keys), _told(differing, f"{len(keys)} sealing key(s), none new")

    def _pictures(self) -> tuple[compare.Picture, compare.Picture]:
        state = self._state
        if state.after is None:
            state.after = self._picture(self._door(NEW))
        if state.before is None:
            raise WorldFailed("there is no picture of the lost cluster", reason="NoPicture")
        return state.before, state.after

    # --- what steps are made of ------------------------------------------------------------------------

    def _step(self, name: str, act: Callable[[], None]) -> str:
        """Carry a step out and measure it; gives what broke, "" when nothing did."""
        self.show.begin(name, WHAT[name])
        self._parts, start, broken = [], self._now(), ""
        try:
            act()
        except SecretsOpsError as error:
            broken = f"{name}: {error.message} ({error.reason})"
        span = Span(name=name, start=start, end=self._now(), ok=not broken, message=broken, parts=list(self._parts))
        self._spans.append(span)
        self.show.end(name, seconds=span.seconds, ok=span.ok, message=broken or WHAT[name])
        return broken

    def _timed(self, name: str, act: Callable[[], T]) -> T:
        start = self._now()
        result = act()
        self._parts.append(Span(name=name, start=start, end=self._now(), ok=True))
        self.show.line(f"{name} ({self._now() - start:.1f} s)")
        return result

    def _rebuild(self, name: str, request: RebuildRequest) -> RebuildReport:
        observer = _Observer(self.show)
        zero = self._now()
        report = rebuild(
            request,
            cluster=self._door(name),
            git=self.doors.git(),
            renderer=self.doors.renderer(),
            clock=self._clock,
            observer=observer,
        )
        for stage in report.stages:
            start = zero + stage.at
            part = Span(
                name=stage.stage.label, start=start, end=start + stage.seconds, ok=stage.ok, message=stage.message
            )
            self._parts.append(part)
        if not report.ok:
            failed = [f"{stage.stage.label}: {stage.message}" for stage in report.stages if not stage.ok]
            raise WorldFailed("; ".join(failed) or "an application failed", reason="RebuildFailed")
        return report

    def _ready_for_pods(self, name: str) -> Backend:
        plane = self.world.cluster(name, audit=True)
        aws = self.world.aws()
        self.world.pods(plane, {"AWS_ENDPOINT_URL": aws.url, "AWS_REGION": aws.region})
        return plane

    def _values(self, entry: SealedEntry) -> Mapping[str, Plaintext]:
        """Give what is sealed: the login of a store, or values made up."""
        if entry.source == "vault":
            return dict.fromkeys(entry.keys, Plaintext(self.world.openbao().token.encode()))
        if entry.source == "aws":
            aws = self.world.aws()
            login = {"id": aws.access_key, "secret": aws.secret_key}
            return {key: Plaintext(login[key].encode()) for key in entry.keys}
        return {key: estate.made_up() for key in entry.keys}

    def _manifests(self) -> list[Manifest]:
        """Give what a person would apply: the output of the command, nothing else."""
        if not self._state.install:
            self._state.install = load_all(_secretsops("install").encode(), source="secretsops install")
        return self._state.install

    def _namespaces(self) -> list[Manifest]:
        return [Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CONTROL_NAMESPACE}})]

    def _picture(self, cluster: Cluster) -> compare.Picture:
        return compare.picture(_everything(cluster), key=self._hmac_key)

    def _keep_evidence(self, plane: Backend) -> None:
        """Keep what the lost cluster's Pods said and what its API server was asked; the rest goes with it."""
        kept = self.world.folder / "drill" / "evidence" / plane.name
        kept.mkdir(parents=True, exist_ok=True)
        for log in sorted((plane.folder / "pods").glob("*/container.log")):
            shutil.copyfile(log, kept / f"{log.parent.name}.log")
        if plane.audit_log is not None and plane.audit_log.is_file():
            shutil.copyfile(plane.audit_log, kept / "audit.log")

    def _door(self, name: str) -> Cluster:
        return self.doors.cluster(ClusterTarget(kubeconfig=str(self._cluster_at(name)), user_agent="secretsops-drill"))

    def _cluster_at(self, name: str) -> Path:
        return self.world.clusters[name].kubeconfig

    def _now(self) -> float:
        return self._clock.monotonic() - self._zero

    def _mark(self, name: str) -> None:
        self._marks.append(Mark(name=name, at=self._now()))


class _Observer:
    """Shows what a rebuild tells."""

    def __init__(self, show: Display) -> None:
        self._show = show

    def event(self, event: Event) -> None:
        match event:
            case StageStarted(stage=stage):
                self._show.line(stage.label)
            case StageEnded(stage=stage, ok=False, message=message):
                self._show.line(f"{stage.label} FAILED: {message}")
            case AppEnded(app=app, ok=ok, message=message):
                self._show.line(f"{app}: {'' if ok else 'FAILED: '}{message}")
            case Waiting(app=app, reasons=reasons):
                self._show.line(f"{app + ': ' if app else ''}waiting for {'; '.join(reasons[:2])}")
            case _:
                return


_OMITTED_RESOURCES = frozenset({"componentstatuses", "bindings"})


def _everything(cluster: Cluster) -> Iterator[Manifest]:
    """Give every object a cluster lists, each once, whatever number of versions its kind is served in."""
    seen: set[tuple[str, str]] = set()
    for resource in cluster.resources(refresh=True):
        kind = (resource.kind.group, resource.kind.kind)
        if "list" not in resource.verbs or kind in seen or resource.plural in _OMITTED_RESOURCES:
            continue
        seen.add(kind)
        if resource.kind.kind not in compare.OMITTED_KINDS:
            yield from _listed(cluster, resource.kind)


def _listed(cluster: Cluster, kind: GroupVersionKind) -> Sequence[Manifest]:
    try:
        return cluster.list(kind)
    except ApiError as error:
        if error.code == 405:
            return []
        raise


def _sealing_keys(picture: compare.Picture) -> frozenset[str]:
    return frozenset(f"{key.namespace}/{key.name}" for key in picture.secrets if "sealed-secrets-key" in key.name)


def _secretsops(*arguments: str) -> str:
    """Run one of our own commands as a person would and give its output; raises with what it said."""
    done = subprocess.run([*_SECRETSOPS, *arguments], capture_output=True, text=True, timeout=60.0, check=False)
    if done.returncode:
        said = " ".join(done.stderr.strip().splitlines()[:3])
        raise WorldFailed(f"secretsops {' '.join(arguments[:2])}: {said}", reason="CommandFailed")
    return done.stdout


def _told(differing: Sequence[str], well: str) -> str:
    if not differing:
        return well
    more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
    return "; ".join(differing[:5]) + more


def _json(values: Mapping[str, str]) -> str:
    import json

    return json.dumps(values)
