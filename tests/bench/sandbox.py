"""How long the sandbox takes and what it holds: `python -m tests.bench.sandbox` prints what its README claims."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from drills.sandbox.binaries import find_binaries
from drills.sandbox.world import Sandbox

T = TypeVar("T")


def main() -> None:
    """Start each part once and print seconds to ready and resident memory; stop, and print how long that took."""
    find_binaries(progress=_say)
    with Sandbox() as world:
        cluster = _timed(
            "control plane (etcd, API server, controller manager)", lambda: world.cluster("a", nodes=False)
        )
        _timed("scheduler, kwok and a Node", cluster.start_nodes)
        _timed("second cluster with a Node, beside it", lambda: world.cluster("b"))
        bao = _timed("OpenBao", world.openbao)
        aws = _timed("AWS (moto)", world.aws)
        _timed("Git", world.git)
        pids = {**cluster.pids, "openbao": bao.process.pid, "aws": aws.process.pid, "supervisor": world.supervisor_pid}
        sizes = {name: _resident(pid) for name, pid in pids.items()}
        for name, size in sizes.items():
            _say(f"{size:7.0f} MiB  {name}")
        _say(f"{sum(sizes[name] for name in cluster.pids):7.0f} MiB  one cluster in all")
        _timed("cluster destroyed (SIGKILL, data deleted)", cluster.destroy)
        _timed("cluster stopped in order", world.clusters["b"].stop)


def _timed(what: str, act: Callable[[], T]) -> T:
    started = time.monotonic()
    result = act()
    _say(f"{time.monotonic() - started:7.2f} s    {what}")
    return result


def _resident(pid: int) -> float:
    found = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
    return int(found) / 1024


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
