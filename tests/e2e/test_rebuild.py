"""`secretsops recover` as a person runs it, on a real API server, from Git over HTTP: order, hooks, kill -9, faults."""

from __future__ import annotations

import itertools
import json
import random
import secrets
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drills.sandbox.cluster import ControlPlane
from drills.sandbox.git_server import GitServer
from recovery.health import assess
from secretsops.adapters.kube import connect
from secretsops.manifest import GroupVersionKind, dump_all, load_all
from secretsops.ports import Cluster, ClusterTarget
from tests.e2e.estates import commit, shop_and_blog

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
APPLICATION = GroupVersionKind("argoproj.io", "v1alpha1", "Application")
DEPLOYMENT = GroupVersionKind("apps", "v1", "Deployment")
NAMESPACE = GroupVersionKind("", "v1", "Namespace")


@pytest.fixture(scope="module")
def cluster(control_plane_with_nodes: ControlPlane) -> Cluster:
    """Connect as the administrator."""
    return connect(ClusterTarget(kubeconfig=str(control_plane_with_nodes.kubeconfig)))


class Estate:
    """One estate in Git and the commands that bring it to the cluster."""

    def __init__(self, git: GitServer, kubeconfig: Path, folder: Path) -> None:
        self.suffix = secrets.token_hex(3)
        self.repository = git.create(f"estate-{self.suffix}")
        self.folder = folder
        self.kubeconfig = kubeconfig
        self.journal = folder / "journal"
        self.install = folder / "install.yaml"
        crds = [
            m.body
            for file in sorted((ROOT / "controllers/deploy/crds").glob("appl*.yaml"))
            for m in load_all(file.read_bytes())
        ]
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argocd"}}
        self.install.write_text(dump_all([namespace, *crds]))
        self.sha = commit(self.repository, folder / "work", shop_and_blog(self.repository.url, self.suffix))

    def command(self, verb: str, *more: str) -> list[str]:
        """Give the command line of `recover run` or `recover resume`."""
        where = ["--repo", self.repository.url, "--revision", "main", "--path", "root.yaml"]
        into = ["--kubeconfig", str(self.kubeconfig), "--journal", str(self.journal), "--install", str(self.install)]
        return [sys.executable, "-m", "secretsops", "recover", verb, *where, *into, "-o", "json", *more]

    def carry_out(self, verb: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        return subprocess.run(self.command(verb, *more), capture_output=True, text=True, check=False, timeout=120)

    def lines(self) -> list[dict[str, Any]]:
        """Give the whole lines of the journal."""
        path = self.journal / "journal.jsonl"
        text = path.read_text() if path.is_file() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@pytest.fixture
def estate(git_server: GitServer, control_plane_with_nodes: ControlPlane, tmp_path: Path) -> Estate:
    """Give a fresh estate."""
    return Estate(git_server, control_plane_with_nodes.kubeconfig, tmp_path)


def _audit(control_plane: ControlPlane) -> Iterator[dict[str, Any]]:
    assert control_plane.audit_log is not None
    with control_plane.audit_log.open() as log:
        for line in log:
            if line.endswith("\n"):
                yield json.loads(line)


def _created(control_plane: ControlPlane, suffix: str) -> list[str]:
    """Give `kind name` of what was created for an estate, in the order of the API server's audit log."""
    found = []
    for entry in _audit(control_plane):
        reference = entry.get("objectRef") or {}
        agent = str(entry.get("userAgent"))
        code = (entry.get("responseStatus") or {}).get("code")
        made = entry["verb"] in ("create", "patch") and code == 201
        if entry.get("stage") == "ResponseComplete" and made and "secretsops" in agent:
            place = f"{reference.get('namespace') or ''}/{reference.get('name') or ''}"
            if suffix in place:
                found.append(f"{reference['resource']} {reference['name']}")
    return found


def _state(cluster: Cluster, suffix: str) -> dict[str, Any]:
    """Give what matters of an estate's objects: names, specs, tracking, health."""
    found: dict[str, Any] = {}
    for kind in (DEPLOYMENT, GroupVersionKind("", "v1", "ConfigMap"), GroupVersionKind("batch", "v1", "Job")):
        for namespace in (f"shop-{suffix}", f"blog-{suffix}"):
            for live in cluster.list(kind, namespace=namespace):
                if live.name == "kube-root-ca.crt":
                    continue
                health = assess(live)
                place = f"{namespace.partition('-')[0]}/{live.kind.kind}/{live.name}"
                tracking = live.annotations.get("argocd.argoproj.io/tracking-id", "").replace(suffix, "*")
                found[place] = (tracking, live.body.get("data"), health.state.value if health else None)
    return found


EXPECTED = {
    "shop/Deployment/db": ("shop-*:apps/Deployment:shop-*/db", None, "Healthy"),
    "shop/Deployment/web": ("shop-*:apps/Deployment:shop-*/web", None, "Healthy"),
    "shop/Job/migrate": ("shop-*:batch/Job:shop-*/migrate", None, "Healthy"),
    "shop/Job/seed": ("shop-*:batch/Job:shop-*/seed", None, "Healthy"),
    "blog/Deployment/blog": ("blog-*:apps/Deployment:blog-*/blog", None, "Healthy"),
    "blog/ConfigMap/settings": ("blog-*:/ConfigMap:blog-*/settings", {"colour": "blue"}, None),
}
"""The finished PostSync hook `smoke` is gone: its delete policy is HookSucceeded."""


def test_an_estate_is_rebuilt_in_order(cluster: Cluster, control_plane: ControlPlane, estate: Estate) -> None:
    """Waves, hooks and the child-app gate stand in the audit log as planned; everything ends Healthy."""
    done = estate.carry_out("run")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    assert {app["health"] for app in report["applications"]} == {"Healthy"}
    assert {app["revision"] for app in report["applications"]} == {estate.sha}
    assert _state(cluster, estate.suffix) == EXPECTED
    made = [entry for entry in _created(control_plane, estate.suffix) if not entry.startswith("events")]
    s = estate.suffix
    wanted = [
        f"namespaces shop-{s}",
        "jobs migrate",
        "deployments db",
        "deployments web",
        "jobs smoke",
        f"applications blog-{s}",
        f"namespaces blog-{s}",
        "configmaps settings",
        "deployments blog",
    ]
    positions = [made.index(entry) for entry in wanted]
    assert positions == sorted(positions), made
    assert made.index("jobs migrate") < made.index("jobs seed") < made.index("jobs smoke"), made


def test_a_second_run_writes_nothing_new(control_plane: ControlPlane, estate: Estate) -> None:
    """Running again with a new journal changes no object that is in order; hooks run again, as in the peer."""
    assert estate.carry_out("run").returncode == 0
    first = Counter(_created(control_plane, estate.suffix))
    estate.journal = estate.folder / "second"
    done = estate.carry_out("run")
    assert done.returncode == 0, done.stderr
    again = Counter(_created(control_plane, estate.suffix)) - first
    assert {entry for entry in again if not entry.startswith(("jobs", "events"))} == set()


def _killed(estate: Estate, verb: str, chance: random.Random) -> bool:
    """Run until SIGKILL at some write, before it leaves or after it was carried out; say whether it came to that."""
    place, when = str(chance.randint(1, WRITES)), chance.choice(("before", "after"))
    command = [sys.executable, "-m", "tests.e2e.killed", place, when, *estate.command(verb)[3:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)
    assert done.returncode in (0, -signal.SIGKILL), (place, when, done.stderr)
    return done.returncode != 0


WRITES = 22
"""Writes of an undisturbed run, from the first namespace to the last status."""
SEEDS = [pytest.param(seed, marks=[pytest.mark.nightly] if seed >= 10 else []) for seed in range(200)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_killed_at_any_write_is_resumed(
    cluster: Cluster, control_plane: ControlPlane, estate: Estate, seed: int
) -> None:
    """After kill -9, of every third also of its resume, the state is that of an undisturbed run; no hook ran twice."""
    chance = random.Random(seed)
    killed = _killed(estate, "run", chance)
    if killed:
        told = [sys.executable, "-m", "secretsops", "recover", "status", "--journal", str(estate.journal)]
        assert subprocess.run(told, capture_output=True, check=False).returncode in (1, 2)
        if not estate.lines():
            return  # it died before it had written anything down: that is a run to start, not to resume
        if seed % 3 == 0:
            killed = _killed(estate, "resume", chance)
    if killed:
        done = estate.carry_out("resume")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert (report["ok"], report["resumed"]) == (True, True)
    assert _state(cluster, estate.suffix) == EXPECTED
    hooks = Counter(entry for entry in _created(control_plane, estate.suffix) if entry.startswith("jobs"))
    # A create whose client was killed before the answer may be logged without one; the object itself was seen above.
    assert max(hooks.values()) == 1, hooks
    assert len({"jobs migrate", "jobs seed", "jobs smoke"} - set(hooks)) <= 1, hooks


def test_a_journal_is_refused_for_another_plan(estate: Estate) -> None:
    """A journal binds plan and cluster: a changed estate cannot ride on it."""
    assert estate.carry_out("run", "--until", "definitions").returncode == 0
    again = estate.carry_out("run")
    assert again.returncode == 1
    assert "hint:" in again.stderr


def test_an_unreachable_cluster_is_the_world_s_fault(estate: Estate, tmp_path: Path) -> None:
    """Exit code 3, two lines, nothing in the journal."""
    config = tmp_path / "kubeconfig"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
        "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: u, user: {token: x}}]\n"
    )
    estate.kubeconfig = config
    done = estate.carry_out("run")
    assert done.returncode == 3
    assert "does not answer" in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr
    assert estate.lines() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\na: &a [x]\nb: &b [*a, *a]\n" + "".join(
            f"c{n}: &c{n} [{', '.join([f'*{before}'] * 9)}]\n"
            for before, n in itertools.pairwise(["b", *[f"c{i}" for i in range(12)]])
            for n in [n.removeprefix("c")]
        ), "alias"),
        ("apiVersion: v1\nkind: ConfigMap\nkind: Secret\nmetadata: {name: a}\n", "twice"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 'a\0b'}\n", "NUL"),
    ],
    ids=["alias-bomb", "duplicate-key", "nul"],
)  # fmt: skip
def test_hostile_yaml_in_git_stops_the_plan(estate: Estate, text: str, words: str) -> None:
    """The file is named, nothing is applied, the exit code is 1."""
    commit(estate.repository, estate.folder / "work", {"blog/bad.yaml": text})
    done = estate.carry_out("run")
    assert done.returncode == 1, done.stderr
    assert "blog/bad.yaml" in done.stderr or "bad.yaml" in done.stderr
    assert "Traceback" not in done.stderr
    assert estate.lines() == []
    assert words.lower() in done.stderr.lower() or "yaml" in done.stderr.lower()
