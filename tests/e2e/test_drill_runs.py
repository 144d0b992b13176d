"""What stays of a drill that is killed or ended, and what a drill may touch: on the stand-in, which is up at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from drills.cleaning import empty_target
from drills.isolation import _claimed, _read_only
from drills.sandbox.embedded_cluster import EmbeddedCluster
from drills.sandbox.world import Sandbox
from drills.scenario import ClusterEntry
from secretsops.adapters.kube import connect
from secretsops.manifest import Manifest
from secretsops.ports import ClusterTarget

pytestmark = pytest.mark.e2e


def ours(*words: str, state: Path) -> subprocess.CompletedProcess[str]:
    """Run one of our commands with a state folder of its own."""
    environment = {**os.environ, "XDG_STATE_HOME": str(state)}
    command = [sys.executable, "-m", "secretsops", "drill", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def until(holds: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until something is true, and give it."""
    limit = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < limit
        time.sleep(0.05)
    return found


@pytest.fixture
def begun(tmp_path: Path) -> Any:
    """Give a drill that is in its second step, and the facts it wrote down."""
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    command = [
        sys.executable,
        "-m",
        "secretsops",
        "drill",
        "run",
        "cluster-lost",
        "--cluster",
        "embedded",
        "-o",
        "json",
    ]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    runs = tmp_path / "secretsops" / "drills"
    events = until(lambda: next(iter(runs.glob("*/events.jsonl")), None))
    until(lambda: '"step": "install"' in events.read_text())
    yield process, json.loads((events.parent / "run.json").read_text())
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_killed_drill_leaves_nothing_that_gc_does_not_find(begun: Any, tmp_path: Path) -> None:
    """After kill -9 its processes are gone with it; the run counts as died, and gc says and removes what is left."""
    process, facts = begun
    world = Path(facts["world"])
    assert facts["remove"] == [str(world)]
    assert world.is_dir()
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: not any(_lives(pid) for pid in facts["processes"]), 20)
    world.mkdir(exist_ok=True)  # as where the supervisor was killed in the same instant
    (world / "left").write_text("x")
    told = json.loads(ours("gc", "--dry-run", "-o", "json", state=tmp_path).stdout)
    assert [(run["state"], run["left"]) for run in told["runs"]] == [("died", [str(world)])]
    done = ours("gc", "-o", "json", state=tmp_path)
    assert (done.returncode, json.loads(done.stdout)["runs"][0]["removed"]) == (0, [str(world)])
    assert not world.exists()
    assert json.loads(ours("gc", "-o", "json", state=tmp_path).stdout) == {"runs": []}
    watched = ours("watch", state=tmp_path)
    assert (watched.returncode, "start/start: done" in watched.stdout) == (3, True), watched.stderr


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() if sys.platform == "linux" else False


def test_an_aborted_drill_cleans_up_and_is_inconclusive(begun: Any, tmp_path: Path) -> None:
    """Exit code 3; the report says aborted, no check counts, and clean-up is proven."""
    process, facts = begun
    assert ours("abort", state=tmp_path).returncode == 0
    output, _ = process.communicate(timeout=60)
    body: Mapping[str, Any] = json.loads(output)
    assert (process.returncode, body["verdict"], body["message"]) == (3, "inconclusive", "aborted")
    assert {check["ok"] for check in body["checks"]} == {None}
    assert [proof["ok"] for proof in body["cleanup"]] == [True, True]
    assert not Path(facts["world"]).exists()
    assert ours("abort", state=tmp_path).returncode == 1  # nothing runs any more


def test_a_given_source_must_be_read_only_and_a_given_target_empty(
    embedded_cluster: EmbeddedCluster, sandbox: Sandbox
) -> None:
    """By what the API server says of the credential, by what is there; only what carries the mark is removed."""
    kubeconfig = str(embedded_cluster.kubeconfig)
    stranger = ClusterTarget(kubeconfig=kubeconfig, overrides={"as": ["nobody"]})
    source = ClusterEntry(name="prod", context="prod")
    assert [proof.ok for proof in _read_only(connect(stranger), source)] == [True, True]
    assert [proof.ok for proof in _read_only(connect(ClusterTarget(kubeconfig=kubeconfig)), source)] == [False, False]
    fresh = sandbox.cluster("given", kind="embedded", nodes=False)
    door, entry = (
        connect(ClusterTarget(kubeconfig=str(fresh.kubeconfig))),
        ClusterEntry(name="dr", role="target", context="dr"),
    )
    assert [_claimed(door, entry, name).ok for name in ("one", "one")] == [True, True]
    door.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}))
    assert _claimed(door, entry, "one").ok is True
    assert _claimed(door, entry, "another").ok is False
    assert empty_target(door, "another", []) == ["a mark of another drill"]
    assert empty_target(door, "one", []) == []
    assert empty_target(door, "one", []) == []
    fresh.stop()
