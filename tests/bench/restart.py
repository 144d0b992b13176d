"""What a restart costs over unchanged SealedSecrets: `python -m tests.bench restart [OBJECTS]`.

4,000 SealedSecrets of 3 items each and 24 keys a month apart; half of the objects were sealed with the newest key, the
others with any. One restart with `seal`'s hint on every object, one without. Reference: the bare RSA of the items.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from controllers.install import definitions
from drills.sandbox.cluster import ControlPlane
from drills.sandbox.processes import free_port
from drills.sandbox.world import Sandbox
from secretsops.adapters.kube import connect
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Cluster, ClusterTarget
from secretsops.sealing.envelope import parse, unwrap
from secretsops.sealing.keys import KeyPair, generate, key_secret
from secretsops.sealing.sealed import SEALED_SECRET, Wishes, seal_secret
from secretsops.sealing.sealed_with import ANNOTATION

OBJECTS, ITEMS, KEYS, NAMESPACES = 4000, 3, 24, 20
AGENT = "secretsops-controller"


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[2]) if len(sys.argv) > 2 else OBJECTS
    now = dt.datetime.now(dt.UTC)
    keys = [generate(now=now - dt.timedelta(days=30 * age)) for age in range(KEYS)]
    with Sandbox() as world, tempfile.TemporaryDirectory() as folder:
        plane = world.cluster("bench", audit=True, nodes=False)
        assert isinstance(plane, ControlPlane)
        cluster = connect(ClusterTarget(kubeconfig=str(plane.kubeconfig)))
        for each in definitions():
            cluster.apply(each, field_manager="bench")
        for number, key in enumerate(keys):
            cluster.create(Manifest(key_secret(key, namespace="kube-system", name=f"sealed-secrets-key{number}")))
        sample = _create(cluster, keys, count)
        _say("RSA of these items alone, one core", f"{_rsa(sample, keys) * count * ITEMS:.1f} CPU s", "OpenSSL")
        _pass(plane, Path(folder), count, "first pass, every Secret made")
        _pass(plane, Path(folder), count, "restart, nothing changed, keys named")
        _without_hints(cluster, count)
        _pass(plane, Path(folder), count, "restart, no key named, keys by date")


def _create(cluster: Cluster, keys: list[KeyPair], count: int) -> list[str]:
    namespace = GroupVersionKind("", "v1", "Namespace")
    for number in range(NAMESPACES):
        body = {"apiVersion": namespace.api_version, "kind": "Namespace", "metadata": {"name": f"team-{number}"}}
        cluster.create(Manifest(body))
    chance = random.Random(1)
    sample: list[str] = []

    def one(number: int) -> None:
        # Most were sealed with the newest key there is, as in a cluster that re-encrypts; the rest with any.
        key = keys[0] if chance.random() < 0.5 else chance.choice(keys)
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"app-{number}", "namespace": f"team-{number % NAMESPACES}"},
            "stringData": {f"item{item}": f"value-{number}-{item}" for item in range(ITEMS)},
        }
        body = seal_secret(secret, key.certificate.public, Wishes(), default_namespace=lambda: "")
        body["metadata"].setdefault("annotations", {})[ANNOTATION] = key.fingerprint
        cluster.create(Manifest(body))
        if number < 50:
            sample.append(body["spec"]["encryptedData"]["item0"])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(count)))
    return sample


def _without_hints(cluster: Cluster, count: int) -> None:
    patch = {"metadata": {"annotations": {ANNOTATION: None}}}

    def one(number: int) -> None:
        cluster.patch(SEALED_SECRET, f"app-{number}", patch, namespace=f"team-{number % NAMESPACES}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(count)))


def _rsa(sample: list[str], keys: list[KeyPair]) -> float:
    envelopes = [parse(text) for text in sample]
    before = time.process_time()
    for envelope in envelopes:
        unwrap(envelope, label=b"wrong", private=keys[0].private)
    return (time.process_time() - before) / len(envelopes)


def _pass(plane: ControlPlane, folder: Path, count: int, what: str) -> None:
    assert plane.audit_log is not None
    start = plane.audit_log.stat().st_size
    with _controller(plane.kubeconfig, folder) as (process, port):
        began = time.monotonic()
        ready = 0.0
        while True:
            time.sleep(0.25)
            if not ready and _ask(port, "/readyz") == "ok\n":
                ready = time.monotonic() - began
            done = sum(
                int(value)
                for value in re.findall(
                    r'secretsops_reconcile_total\{outcome="(?:created|updated|unchanged)",[^}]*\} (\d+)',
                    _ask(port, "/metrics"),
                )
            )
            if done >= count:
                break
        wall, spent = time.monotonic() - began, _spent(process.pid)
        memory = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
    time.sleep(1)
    with plane.audit_log.open() as log:
        log.seek(start)
        entries = [json.loads(line) for line in log]
    ours = [entry for entry in entries if str(entry.get("userAgent", "")).startswith(AGENT)]
    verbs = Counter(entry["verb"] for entry in ours)
    writes = sum(verbs[verb] for verb in ("create", "update", "patch", "delete"))
    about = {(entry.get("objectRef") or {}).get("resource") for entry in ours}
    assert about
    peak = int(memory[1]) / 1024 if memory else 0.0
    _say(f"{what}, {count} x {ITEMS}, {KEYS} keys", f"{spent:.1f} CPU s, {wall:.1f} s", f"ready after {ready:.1f} s")
    _say("", f"{len(ours)} requests", f"{writes} writes, {verbs['get']} gets, {verbs['list']} lists; {peak:.0f} MiB")


@contextmanager
def _controller(kubeconfig: Path, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    command = [sys.executable, "-m", "secretsops", "controller", "--controllers", "sealed-secrets"]
    command += ["--kubeconfig", str(kubeconfig), "--listen", f"127.0.0.1:{port}"]
    with (folder / "log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield process, port
        finally:
            process.terminate()


def _ask(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def _spent(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _say(what: str, figure: str, beside: str) -> None:
    sys.stdout.write(f"{what:62}{figure:>24}   ({beside})\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
