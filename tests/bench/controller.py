"""What the controller costs, beside references of the same run: `python -m tests.bench controller`."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from controllers.install import definitions
from controllers.queue import Queue
from controllers.reflector import Reflector, Selection
from drills.sandbox.world import Sandbox
from secretsops.adapters.kube import connect
from secretsops.errors import NotFound
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Cluster, ClusterTarget, EventType
from secretsops.sealing.certificate import read_certificate
from secretsops.sealing.sealed import SECRET, Wishes, seal_secret
from tests.bench.canned_server import COUNT, pages

CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
CERTIFICATE = "sealed-secrets-certificate"
IDLE, SAMPLES = 20.0, 30


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        _reflector(Path(folder))
        with Sandbox() as world:
            plane = world.cluster("bench", nodes=False)
            cluster = connect(ClusterTarget(kubeconfig=str(plane.kubeconfig)))
            for each in definitions():
                cluster.apply(each, field_manager="bench")
            with _controller(plane.kubeconfig) as pid:
                certificate = _published(cluster)
                _latency(cluster, certificate)
                _idle(pid)
        _seal(Path(folder), certificate)


def _reflector(folder: Path) -> None:
    bodies = pages()
    reference = _cpu(lambda: [json.loads(body) for body in bodies])
    with _canned(folder) as cluster:
        queue = Queue()
        done = threading.Event()
        left = COUNT

        def handle(kind: EventType, manifest: Manifest) -> None:
            nonlocal left
            queue.add(manifest.key)
            left -= kind is EventType.MODIFIED
            if not left:
                done.set()

        reflector = Reflector(cluster, Selection(kind=CONFIG_MAP), handle)
        cluster.resource(CONFIG_MAP)
        listed = _cpu(reflector._list)
        size = sum(map(len, bodies)) / 1e6
        _say(f"initial sync, {COUNT} objects ({size:.1f} MB)", f"{listed:.2f} CPU s", f"json.loads {reference:.2f}")
        began = time.monotonic()
        thread = threading.Thread(target=reflector.run)
        thread.start()
        spent = _cpu(lambda: done.wait(60))
        wall = time.monotonic() - began
        _say("watch events", f"{COUNT / spent:,.0f} per CPU s", f"{COUNT / wall:,.0f} per second of wall time")
        reflector.stop()
        thread.join()


def _latency(cluster: Cluster, certificate: bytes) -> None:
    """Measure from the answer to a SealedSecret's creation until its Secret is there."""
    public, waits, bare = read_certificate(certificate).public, [], []
    for number in range(SAMPLES):
        metadata = {"name": f"bench-{number}", "namespace": "default"}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "stringData": {"a": "1", "b": "2", "c": "3"},
        }
        body = seal_secret(secret, public, Wishes(), default_namespace=lambda: "")
        cluster.create(Manifest(body))
        waits.append(_until_there(cluster, f"bench-{number}"))
        time.sleep(0.05)
        by_hand = {**secret, "metadata": {**metadata, "name": f"by-hand-{number}"}}
        began = time.monotonic()
        cluster.create(Manifest(by_hand))
        bare.append(time.monotonic() - began + _until_there(cluster, f"by-hand-{number}"))
        time.sleep(0.05)
    reference = f"a Secret created by hand and read {statistics.median(bare) * 1000:.0f}, RSA-4096 of 3 items 4.5"
    _say("SealedSecret (3 items) until its Secret", f"{statistics.median(waits) * 1000:.0f} ms median", reference)


def _until_there(cluster: Cluster, name: str) -> float:
    """Give the seconds until a Secret can be read."""
    began = time.monotonic()
    while True:
        try:
            cluster.get(SECRET, name, "default")
        except NotFound:
            time.sleep(0.002)
        else:
            return time.monotonic() - began


def _idle(pid: int) -> None:
    time.sleep(3)
    before = _spent(pid)
    time.sleep(IDLE)
    share = (_spent(pid) - before) / IDLE * 100
    memory = next(
        int(line.split()[1]) / 1024
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )
    _say(f"controller, idle for {IDLE:.0f} s", f"{share:.2f} % CPU", f"{memory:.0f} MiB resident")


def _seal(folder: Path, certificate: bytes) -> None:
    (folder / "cert.pem").write_bytes(certificate)
    secret = b"apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: b}\nstringData: {key: value}\n"
    seal = Path(sys.executable).parent / "seal"
    bare = _children([sys.executable, "-c", "pass"], b"")
    ours = _children([str(seal), "--cert", str(folder / "cert.pem")], secret)
    _say("seal --cert, one Secret", f"{ours * 1000:.0f} CPU ms", f"bare Python {bare * 1000:.0f}")


@contextmanager
def _canned(folder: Path) -> Iterator[Cluster]:
    """Start the canned server as a process of its own, so that its CPU is not ours."""
    command = [sys.executable, "-m", "tests.bench.canned_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        body = {
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "c", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
            "current-context": "c",
        }
        (folder / "kubeconfig").write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **body}))
        try:
            yield connect(ClusterTarget(kubeconfig=str(folder / "kubeconfig")))
        finally:
            server.stdin.close()


@contextmanager
def _controller(kubeconfig: Path) -> Iterator[int]:
    command = [sys.executable, "-m", "secretsops", "controller", "--kubeconfig", str(kubeconfig)]
    with subprocess.Popen([*command, "--listen", "127.0.0.1:0"], stderr=subprocess.DEVNULL) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


def _published(cluster: Cluster) -> bytes:
    while True:
        try:
            config = cluster.get(CONFIG_MAP, CERTIFICATE, "kube-system")
            return str(config.body["data"]["tls.crt"]).encode()
        except NotFound:
            time.sleep(0.2)


def _spent(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _cpu(act: Callable[[], object]) -> float:
    before = time.process_time()
    act()
    return time.process_time() - before


def _children(command: list[str], stdin: bytes) -> float:
    """Give the CPU seconds of a command: the median of several runs after one that warms the cache."""
    spent = []
    for _ in range(12):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, input=stdin, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(spent[1:])


def _say(what: str, figure: str, beside: str) -> None:
    sys.stdout.write(f"{what:45}{figure:>24}   ({beside})\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
