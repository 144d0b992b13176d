"""What the cluster door costs against kubectl in the same run: `python -m tests.bench.cluster` prints a table.

1,000 server-side applies of ConfigMaps, created and then unchanged, by `kubectl apply --server-side`, by the door in
one thread and in four; then lists and watches. CPU is that of the client alone.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from drills.sandbox.world import Sandbox
from secretsops.adapters.kube import KubeCluster, connect
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import ClusterTarget

COUNT = 1000
CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")


def main() -> None:
    """Run each way on one cluster and print wall and CPU seconds, and CPU per object."""
    with Sandbox() as world:
        plane = world.cluster("bench", nodes=False)
        cluster = connect(ClusterTarget(kubeconfig=str(plane.kubeconfig)))
        _applies(cluster, _objects(cluster, "warm", 50), threads=1)
        cluster.list(CONFIG_MAP)
        kubectl = Path(sys.executable).parent / "kubectl"
        ways: dict[str, Callable[[str], Callable[[], object]]] = {
            "kubectl apply --server-side": lambda name: _kubectl(kubectl, plane.kubeconfig, _objects(cluster, name)),
            "door, 1 thread": lambda name: _door(cluster, _objects(cluster, name), threads=1),
            "door, 4 threads": lambda name: _door(cluster, _objects(cluster, name), threads=4),
        }
        _say(f"{COUNT} objects                        wall s   CPU s   CPU ms/object")
        for number, (title, prepare) in enumerate(ways.items()):
            act = prepare(f"bench{number}")
            _measured(f"{title}: create", act, COUNT)
            _measured(f"{title}: again", act, COUNT)
        seen = cluster.list(CONFIG_MAP)
        _measured(f"list {len(seen)}", lambda: cluster.list(CONFIG_MAP), len(seen))
        _measured(f"watch {len(seen)}", lambda: _watched(cluster, len(seen)), len(seen))


def _objects(cluster: KubeCluster, namespace: str, count: int = COUNT) -> list[Manifest]:
    home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    cluster.apply(Manifest(home), field_manager="bench")
    return [
        Manifest(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": f"c{number}", "namespace": namespace, "labels": {"app": "bench"}},
                "data": {"number": str(number), "text": "x" * 1000},
            }
        )
        for number in range(count)
    ]


def _applies(cluster: KubeCluster, objects: list[Manifest], *, threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda each: cluster.apply(each, field_manager="bench"), objects):
            pass


def _door(cluster: KubeCluster, objects: list[Manifest], *, threads: int) -> Callable[[], object]:
    return lambda: _applies(cluster, objects, threads=threads)


def _kubectl(program: Path, kubeconfig: Path, objects: list[Manifest]) -> Callable[[], object]:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [each.body for each in objects]}).encode()
    command = [str(program), "--kubeconfig", str(kubeconfig), "apply", "--server-side", "-f", "-"]
    return lambda: subprocess.run(command, input=text, capture_output=True, check=True)


def _watched(cluster: KubeCluster, count: int) -> None:
    with cluster.watch(CONFIG_MAP) as watch:
        for _, _ in zip(range(count), watch, strict=False):
            pass


def _measured(title: str, act: Callable[[], object], count: int) -> None:
    before, started = _cpu(), time.monotonic()
    act()
    wall, cpu = time.monotonic() - started, _cpu() - before
    _say(f"{title:40}{wall:8.2f}{cpu:8.2f}{cpu / count * 1000:12.3f}")


def _cpu() -> float:
    """Give the CPU seconds of this process and of those it has waited for (kubectl; the servers still run)."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
