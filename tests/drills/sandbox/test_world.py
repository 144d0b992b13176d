"""The world as one object: parts start once, from any thread, and everything goes with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from drills.sandbox.world import Sandbox

Wait = Callable[..., None]

OWNER = """
import time
from drills.sandbox.world import Sandbox
world = Sandbox()
cluster = world.cluster("a")
world.git().create("shop")
print(world.folder, cluster.egress.socket_path.parent, world.supervisor_pid, *cluster.pids.values(), flush=True)
time.sleep(600)
"""


def exists(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return state.strip()[:1] not in {"", "Z"}


@pytest.mark.e2e
def test_kill_minus_nine_leaves_neither_process_nor_file(control_plane_binaries: None, wait: Wait) -> None:
    """A killed owner takes etcd, API server and the rest along, and their keys, tokens and data."""
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        folder, sockets, *words = owner.stdout.readline().split()
        assert Path(folder, "clusters", "a", "kubeconfig").exists()
        pids = [int(word) for word in words]
        assert len(pids) == 6
        os.kill(owner.pid, signal.SIGKILL)
        wait(lambda: not any(exists(pid) for pid in pids), "every process is gone", seconds=15)
        wait(lambda: not Path(folder).exists() and not Path(sockets).exists(), "the files are gone", seconds=15)


def test_parts_start_once_also_from_threads(sandbox: Sandbox) -> None:
    """Asked for twice at the same time, a part is the same one."""
    found: list[object] = []
    askers = [threading.Thread(target=lambda: found.append(sandbox.git())) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len({id(each) for each in found}) == 1


def test_a_folder_that_was_given_stays(tmp_path: Path) -> None:
    """Repositories and logs outlive the world where the caller named the place; `keep=False` takes them along."""
    with Sandbox(tmp_path / "kept") as world:
        repository = world.git().create("shop")
    assert repository.path.exists()
    with Sandbox(tmp_path / "gone", keep=False) as world:
        world.git()
    assert not (tmp_path / "gone").exists()
