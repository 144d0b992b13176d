"""`secretsops sandbox up | status | exec | down`, as a person uses it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Wait = Callable[..., None]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Give a function that calls the command with a state folder of its own; a sandbox left up is taken down."""
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "secretsops", "sandbox", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)

    yield call
    call("down")


def test_nothing_is_up_at_first(run: Run) -> None:
    """`status` answers no, `down` has nothing to do, `exec` says what to do."""
    asked = run("status", "-o", "json")
    assert (asked.returncode, json.loads(asked.stdout)) == (1, {"name": "default", "running": False})
    assert run("down").returncode == 0
    refused = run("exec", "--", "true")
    assert refused.returncode == 1
    assert "NotUp" in refused.stderr
    assert "secretsops sandbox up" in refused.stderr


def test_up_exec_down(run: Run, tmp_path: Path) -> None:
    """A world of two parts comes up detached, a command finds it, a second `up` is refused, `down` leaves nothing."""
    up = run("up", "--detach", "--part", "git", "-o", "json")
    assert up.returncode == 0, up.stderr
    facts = json.loads(up.stdout)
    assert facts["running"] is True
    assert facts["clusters"] == []
    done = run("exec", "--", "sh", "-c", 'echo "$SECRETSOPS_SANDBOX_GIT"; exit 7')
    assert (done.stdout.strip(), done.returncode) == (facts["git"]["url"], 7)
    again = run("up", "--detach")
    assert again.returncode == 1
    assert "AlreadyUp" in again.stderr
    assert run("exec", "--cluster", "x", "--", "true").returncode == 2
    assert run("exec", "--", "no-such-command-here").returncode == 2
    assert run("status").stdout.startswith("sandbox   'default', process")
    assert run("down").returncode == 0
    assert run("status").returncode == 1
    assert not Path(facts["folder"]).exists()


def test_a_rehearsal_is_stopped_and_gone_on_with(run: Run, tmp_path: Path) -> None:
    """Of the embedded kind: what was in the cluster is there again; who answers and what was written is said."""
    kept = ("up", "--detach", "--kind", "embedded", "--part", "cluster", "--journal", str(tmp_path / "kept"))
    for life in ("one", "two"):
        up = run(*kept)
        assert up.returncode == 0, up.stderr
        assert "a (embedded stand-in)" in up.stdout
        assert "Ctrl-C" not in up.stderr
        made = run("exec", "--", "kubectl", "create", "configmap", life)
        assert made.returncode == 0, made.stderr
        trusted = "kubectl get configmap kube-root-ca.crt -o jsonpath='{.data.ca\\.crt}'"
        ours = "kubectl config view --raw -o jsonpath='{.clusters[0].cluster.certificate-authority-data}' | base64 -d"
        same = f'test "$({trusted})" = "$({ours})" || (sleep 1; test "$({trusted})" = "$({ours})")'
        assert run("exec", "--", "sh", "-c", same).returncode == 0
        facts = json.loads(run("status", "-o", "json").stdout)
        assert (facts["clusters"][0]["answers"], facts["clusters"][0]["kind"]) == (True, "embedded")
        listed = json.loads(run("logs", "-o", "json").stdout)
        assert [each["part"] for each in listed["logs"]] == ["a/kube-apiserver"]
        assert run("logs", "a/kube-apiserver").returncode == 0
        assert "there are: a/kube-apiserver" in run("logs", "nothing").stderr
        found = run("exec", "--", "kubectl", "get", "configmaps", "-o", "name").stdout
        assert run("down").returncode == 0
    assert found == "configmap/kube-root-ca.crt\nconfigmap/one\nconfigmap/two\n"
    assert (tmp_path / "kept" / "a.journal").stat().st_mode & 0o77 == 0
    assert run("up", "--journal", str(tmp_path)).returncode == 2
    assert run("logs").returncode == 1


@pytest.mark.parametrize("name", ["../x", "", "a b"])
def test_names_are_plain_words(run: Run, name: str) -> None:
    """A name becomes a folder: no paths."""
    assert run("status", "--name", name).returncode == 2


def test_a_killed_world_is_not_up(run: Run, wait: Wait) -> None:
    """After kill -9 of its process the state folder misleads nobody, and `up` works again."""
    facts = json.loads(run("up", "--detach", "--part", "git", "-o", "json").stdout)
    os.kill(facts["pid"], signal.SIGKILL)
    wait(lambda: run("status").returncode == 1, "it is not up")
    again = json.loads(run("up", "--detach", "--part", "git", "-o", "json").stdout)
    assert again["pid"] != facts["pid"]
    assert Path(again["folder"]).exists()
    assert not Path(facts["folder"]).exists()


@pytest.mark.e2e
def test_down_while_starting(run: Run, control_plane_binaries: None, tmp_path: Path, wait: Wait) -> None:
    """A world that is still coming up is taken down as well, whatever it has started by then."""
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    command = [sys.executable, "-m", "secretsops", "sandbox", "up", "--part", "cluster"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as up:
        worlds = tmp_path / "state" / "secretsops" / "sandbox" / "default"
        wait(lambda: bool(list(worlds.glob("world-*/clusters/a/etcd"))), "etcd has started")
        assert run("down").returncode == 0
        assert up.wait(20) == 130
    assert list(worlds.glob("world-*")) == []


@pytest.mark.e2e
def test_a_whole_world(run: Run, control_plane_binaries: None) -> None:
    """Cluster, Vault, AWS and Git come up together; kubectl reaches the node; `down` leaves no process."""
    up = run("up", "--detach", "--audit")
    assert up.returncode == 0, up.stderr
    assert "token" not in up.stdout.lower()
    facts = json.loads(run("status", "-o", "json").stdout)
    assert Path(facts["clusters"][0]["auditLog"]).exists()
    script = 'test -n "$KUBECONFIG$VAULT_TOKEN$AWS_ENDPOINT_URL" && kubectl get nodes -o name'
    assert run("exec", "--", "sh", "-c", script).stdout == "node/sandbox-node\n"
    assert run("exec", "--", "sh", "-c", "bao kv put secret/a b=c").returncode == 0
    children = subprocess.run(["ps", "-ewwo", "pid,args"], capture_output=True, text=True, check=True).stdout
    ours = [int(line.split()[0]) for line in children.splitlines() if facts["folder"] in line]
    assert len(ours) >= 5
    assert run("down").returncode == 0
    for pid in ours:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
