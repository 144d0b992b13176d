"""The scene of a running drill: its world behind gates, its clusters and repositories by name, what steps leave for
each other, and how a step is measured. Every act, fault and check gets it.

Never here: what happens (`acts/`, `faults/`), what is held against what (`checks/`), in which order (`run.py`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

from drills import commands, compare, estate
from drills.display import Display
from drills.path import AppTime, Recorder, Wait
from drills.sandbox.backend import Backend
from drills.sandbox.gate import Gate
from drills.sandbox.world import Sandbox
from drills.scenario import ClusterEntry, RepositoryEntry, Scenario, SealedEntry
from drills.timeline import Mark, Span
from recovery.app import CONTROL_NAMESPACE
from recovery.bootstrap import rebuild
from recovery.rebuild_report import Report as RebuildReport
from recovery.request import RebuildRequest
from recovery.roots import Choice, choose, estate_of
from secretsops.errors import ApiError, SecretsOpsError, UsageError, WorldFailed
from secretsops.files import write_atomic
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Cluster, ClusterTarget, Doors
from secretsops.secret import Plaintext

PATIENCE = 60.0
"""Seconds one wait of a rebuild may stand still; a step may say otherwise."""
_REASON = re.compile(r"\((\w+)\)$")
T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Repository:
    """A repository of the drill: its address for the estate (through the gate), for us, and our work tree."""

    entry: RepositoryEntry
    url: str
    push: str
    work: Path


@dataclass(slots=True, kw_only=True)
class Custody:
    """What is kept outside the cluster. `identities` are files that open the escrow, `shares` words."""

    places: list[str] = field(default_factory=list)
    config: Path | None = None
    identities: list[Path] = field(default_factory=list)
    shares: list[Path] = field(default_factory=list)
    threshold: int = 1
    options: list[str] = field(default_factory=list)
    """More options of a rebuild: witnesses, the trust root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a cluster had at one moment."""

    picture: compare.Picture
    keys: Mapping[str, str] = field(repr=False)
    """Sealing keys by `namespace/name`: an HMAC of each, for a new key may bear an old name."""
    uids: Mapping[str, str]
    """`Kind namespace/name` to UID."""


class Scene:
    """See the module. Steps run one after the other; parts of one may run in threads."""

    def __init__(self, scenario: Scenario, files: Traversable, *, doors: Doors, world: Sandbox, show: Display) -> None:
        self.scenario, self.files, self.doors, self.world, self.show = scenario, files, doors, world, show
        self.clock, self.zero = doors.clock, doors.clock.monotonic()
        self.folder = world.folder / "drill"
        self.outside = self.folder / "off-cluster"
        self.outside.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.hmac_key = os.urandom(32)
        self.gates: dict[str, Gate] = {}
        self.repositories: dict[str, Repository] = {}
        self.custody = Custody()
        self.marks: list[Mark] = []
        self.parts: list[Span] = []
        self.waits: list[Wait] = []
        self.apps: dict[str, AppTime] = {}
        self.before: dict[str, Seen] = {}
        self.rebuilt: RebuildReport | None = None
        self.refusals: dict[str, str] = {}
        """Steps that were refused as they had to be, and the reason."""
        self.notes: dict[str, Any] = {}
        """What a family of steps leaves for its own checks."""
        self._install: list[Manifest] = []
        self._after: dict[str, Seen] = {}

    # --- measuring -------------------------------------------------------------------------------------

    def now(self) -> float:
        """Give seconds since the drill began."""
        return self.clock.monotonic() - self.zero

    def mark(self, name: str) -> None:
        """Set a mark now."""
        self.marks.append(Mark(name=name, at=self.now()))

    def timed(self, name: str, act: Callable[[], T]) -> T:
        """Do a part of a step and note how long it took."""
        start = self.now()
        result = act()
        self.parts.append(Span(name=name, start=start, end=self.now(), ok=True))
        self.show.line(f"{name} ({self.now() - start:.1f} s)")
        return result

    # --- the world -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the sandbox's parts and every source, each behind its gate; fill the stores."""
        ours = [one for one in self.scenario.spec.world.clusters if one.role == "source" and not one.given]
        parts: dict[str, Callable[[], object]] = {
            "OpenBao": lambda: self.world.openbao(raft=self.scenario.spec.world.vault == "raft"),
            "AWS": self.world.aws,
            "Git": self.world.git,
        }
        with ThreadPoolExecutor(max_workers=len(parts) + len(ours)) as pool:
            tasks = [pool.submit(self.timed, name, act) for name, act in parts.items()]
            tasks += [
                pool.submit(self.timed, f"cluster {one.name}", lambda one=one: self.ready(one.name)) for one in ours
            ]
            for task in tasks:
                task.result()
        for chart in self.scenario.spec.world.charts:
            self.world.charts().publish(chart.name, chart.version, chart.templates)
        for stored in self.scenario.spec.world.stores:
            values = {name: estate.made_up().reveal().decode() for name in stored.values}
            if stored.store == "vault":
                self.world.openbao().write(stored.key, values)
            else:
                self.world.aws().put_secret(stored.key, json.dumps(values))

    def gate(self, part: str) -> Gate:
        """Give the gate before a part of the world: vault, aws, git, charts."""
        if part not in self.gates:
            behind: Mapping[str, Callable[[], str]] = {
                "vault": lambda: self.world.openbao().url,
                "aws": lambda: self.world.aws().url,
                "git": lambda: self.world.git().url,
                "charts": lambda: self.world.charts().url,
            }
            self.gates[part] = Gate(behind[part]())
        return self.gates[part]

    def entry(self, name: str = "") -> ClusterEntry:
        """Give a cluster as the scenario has it; the source where none is named."""
        wanted = name or self.scenario.source
        return next(one for one in self.scenario.spec.world.clusters if one.name == wanted)

    def ready(self, name: str) -> Backend:
        """Give a running cluster of the sandbox whose Pods of our image run."""
        plane = self.world.cluster(name, audit=True)
        aws = self.world.aws()
        self.world.pods(plane, {"AWS_ENDPOINT_URL": self.gate("aws").url, "AWS_REGION": aws.region})
        return plane

    def backend(self, name: str = "") -> Backend:
        """Give a cluster of the sandbox.

        Raises:
            UsageError: it is somebody's own, and what was asked for is done to ours only.
            WorldFailed: it was not started yet.
        """
        entry = self.entry(name)
        if entry.given:
            raise UsageError(
                f"cluster {entry.name} is given: nothing is done to it from outside", reason="GivenCluster"
            )
        if entry.name not in self.world.clusters:
            raise WorldFailed(f"cluster {entry.name} does not exist yet", reason="NoCluster")
        return self.world.clusters[entry.name]

    def target(self, name: str = "") -> ClusterTarget:
        """Give how a cluster is reached."""
        entry = self.entry(name)
        if entry.given:
            return ClusterTarget(kubeconfig=entry.kubeconfig, context=entry.context, user_agent="secretsops-drill")
        return ClusterTarget(kubeconfig=str(self.backend(name).kubeconfig), user_agent="secretsops-drill")

    def options(self, name: str = "") -> list[str]:
        """Give the options by which a command of ours reaches a cluster."""
        target = self.target(name)
        pairs = (("--kubeconfig", target.kubeconfig), ("--context", target.context))
        return [word for option, value in pairs if value for word in (option, value)]

    def door(self, name: str = "") -> Cluster:
        """Give a cluster."""
        return self.doors.cluster(self.target(name))

    # --- repositories ----------------------------------------------------------------------------------

    def repository(self, name: str = "") -> Repository:
        """Give a repository of the scenario, made when first asked for; the first where none is named."""
        entries = self.scenario.spec.world.repositories
        entry = next((one for one in entries if one.name == name), None) if name else next(iter(entries), None)
        if entry is None:
            raise UsageError(f"the world has no repository {name}".rstrip(), reason="NoRepository")
        if entry.name not in self.repositories:
            made = self.world.git().create(entry.name)
            behind = self.world.git().url
            self.repositories[entry.name] = Repository(
                entry=entry,
                url=made.url.replace(behind, self.gate("git").url),
                push=made.url,
                work=self.folder / "work" / entry.name,
            )
        return self.repositories[entry.name]

    def addresses(self, repository: Repository) -> dict[str, str]:
        """Give what stands in braces in the files of a repository."""
        found = {"repo": repository.url, "vault": self.gate("vault").url, "region": self.world.aws().region}
        if self.scenario.spec.world.charts:
            # The registry itself stands for a mirror elsewhere: it is reached past the gate.
            found |= {"charts": self.gate("charts").url, "charts-mirror": self.world.charts().url}
        others = (one.name for one in self.scenario.spec.world.repositories)
        return {**found, **{f"repo:{name}": self.repository(name).url for name in others}}

    def values(self, entry: SealedEntry) -> Mapping[str, Plaintext]:
        """Give what is sealed: the login of a store, or values made up."""
        if entry.from_ == "vault":
            return dict.fromkeys(entry.keys, Plaintext(self.world.openbao().token.encode()))
        if entry.from_ == "aws":
            aws = self.world.aws()
            login = {"id": aws.access_key, "secret": aws.secret_key}
            return {key: Plaintext(login[key].encode()) for key in entry.keys}
        return {key: estate.made_up() for key in entry.keys}

    # --- rebuilding ------------------------------------------------------------------------------------

    def roots(self, repository: Repository) -> tuple[list[Manifest], dict[str, str]]:
        """Give the roots of an estate and its pins, as `recover run` finds them."""
        choice = Choice(repo=repository.url, revision="main", path=repository.entry.root)
        if choice.path:
            return choose(self.doors.git(), choice)
        found = estate_of(self.doors.git(), self.doors.renderer(), choice)
        return list(found.roots), dict(found.pins)

    def rebuild(self, cluster: str, request: RebuildRequest) -> RebuildReport:
        """Rebuild a cluster and note stages, applications and waits.

        Raises:
            WorldFailed: a stage failed; the reason is the stage's own.
        """
        recorder, zero = Recorder(self.show.line), self.now()
        try:
            report = rebuild(
                request,
                cluster=self.door(cluster),
                git=self.doors.git(),
                renderer=self.doors.renderer(),
                clock=self.clock,
                observer=recorder,
            )
        finally:
            self.waits += recorder.waits(zero)
            self.apps |= recorder.apps(zero)
        self.rebuilt = report
        for stage in report.stages:
            start = zero + stage.at
            end = start + stage.seconds
            self.parts.append(Span(name=stage.stage.label, start=start, end=end, ok=stage.ok, message=stage.message))
        if not report.ok:
            failed = [f"{stage.stage.label}: {stage.message}" for stage in report.stages if not stage.ok]
            named = _REASON.search(failed[-1]) if failed else None
            raise WorldFailed(
                "; ".join(failed) or "an application failed", reason=named[1] if named else "RebuildFailed"
            )
        return report

    def install(self) -> list[Manifest]:
        """Give what a person would apply: the output of the command, nothing else."""
        if not self._install:
            self._install = commands.install()
        return self._install

    def namespaces(self) -> list[Manifest]:
        """Give the namespace that Argo CD's own objects stand in."""
        return [Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CONTROL_NAMESPACE}})]

    def run(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run one of our own commands as a person would and give its output; raises `WorldFailed`."""
        return commands.run(*arguments, stdin=stdin)

    # --- what is there ---------------------------------------------------------------------------------

    def look(self, cluster: str = "") -> Seen:
        """Give what a cluster has now, without values."""
        found = list(everything(self.door(cluster)))
        picture = compare.picture(found, key=self.hmac_key)
        keys = {
            f"{key.namespace}/{key.name}": digest
            for key, digest in picture.secrets.items()
            if "sealed-secrets-key" in key.name
        }
        uids = {str(one.key): one.uid for one in found}
        return Seen(picture=picture, keys=keys, uids=uids)

    def after(self, cluster: str = "") -> Seen:
        """Give what the recovered cluster has, looked at once, after the recovery."""
        name = cluster or self.scenario.target
        if name not in self._after:
            self._after[name] = self.look(name)
        return self._after[name]

    def recovered(self) -> Mapping[str, Any]:
        """Give what became of each Secret and object, as far as both clusters were looked at; empty where not."""
        before, after = self.before.get(self.scenario.source), self._after.get(self.scenario.target)
        if before is None or after is None:
            return {}
        return {
            "secrets": compare.matrix(before.picture, after.picture),
            "inventory": compare.inventory(before.picture, after.picture),
        }

    def keep_evidence(self, plane: Backend) -> None:
        """Keep what a cluster's Pods said and what its API server was asked; the rest goes with it."""
        kept = self.folder / "evidence" / plane.name
        kept.mkdir(parents=True, exist_ok=True)
        for log in sorted((plane.folder / "pods").glob("*/container.log")):
            shutil.copyfile(log, kept / f"{log.parent.name}.log")
        if plane.audit_log is not None and plane.audit_log.is_file():
            shutil.copyfile(plane.audit_log, kept / "audit.log")

    def write_outside(self, name: str, content: bytes) -> Path:
        """Keep a file outside every cluster, readable by its owner alone."""
        path = self.outside / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(path, content, mode=0o600)
        return path

    def close(self) -> None:
        """Close the gates."""
        for gate in self.gates.values():
            gate.close()
        self.gates.clear()


_OMITTED_RESOURCES = frozenset({"componentstatuses", "bindings"})


def everything(cluster: Cluster) -> Iterator[Manifest]:
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


def until(scene: Scene, what: str, holds: Callable[[], bool], *, seconds: float = PATIENCE) -> None:
    """Wait until something holds.

    Raises:
        WorldFailed: reason `Timeout`, naming what was awaited.
    """
    limit = scene.clock.monotonic() + seconds
    while True:
        try:
            if holds():
                return
        except SecretsOpsError as error:
            if not error.retry and error.reason != "NotFound":
                raise
        if scene.clock.monotonic() > limit:
            raise WorldFailed(f"gave up after {seconds:g} s waiting for {what}", reason="Timeout")
        scene.clock.sleep(0.2)
