"""What external secrets cost: calls counted at the provider, calls counted at the API server, CPU, memory, time.

`python -m tests.bench external [shared distinct aws steady latency]`. The controller runs as a process of its own; a
counting server stands between it and OpenBao or moto. Beside each figure stands what External Secrets 2.9.0 took on a
machine of this kind with its default flags (DESIGN: budgets).
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from controllers.install import definitions
from drills.sandbox.world import Sandbox
from secretsops.adapters.kube import connect
from secretsops.errors import AlreadyExists, NotFound
from secretsops.external.model import EXTERNAL_SECRET, SECRET
from secretsops.manifest import Manifest
from secretsops.ports import Cluster, ClusterTarget
from tests.bench.controller import _spent
from tests.contract.secret_source.servers import vault_call

MANY, PATHS, ROLE_COUNT = 2_000, 20, 500
STEADY, STEADY_SECONDS = 200, 60.0
SAMPLES = 30
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main(names: list[str] | None = None) -> None:
    """Measure and print."""
    cases: dict[str, Callable[[Bench], None]] = {
        "shared": _shared,
        "distinct": _distinct,
        "aws": _aws,
        "steady": _steady,
        "latency": _latency,
    }
    for name in names or list(cases):
        # A world for each: the controller would look after what the others left.
        with Sandbox() as world:
            cases[name](Bench(world))


class Bench:
    """The world of the measurements."""

    def __init__(self, world: Sandbox) -> None:
        self.plane = world.cluster("bench", audit=True, nodes=False)
        self.bao, self.moto = world.openbao(), world.aws()
        self.cluster: Cluster = connect(ClusterTarget(kubeconfig=str(self.plane.kubeconfig)))
        for each in definitions():
            self.cluster.apply(each, field_manager="bench")
        for definition in definitions():
            self.await_true(partial(self._serves, definition), 30)
        self.pool = ThreadPoolExecutor(4)

    def _serves(self, definition: Manifest) -> bool:
        spec = definition.spec
        path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        return self.cluster.raw("GET", f"{path}?limit=1").code == 200

    def create(self, *bodies: dict[str, Any]) -> None:
        """Create objects, four at a time."""

        def one(body: dict[str, Any]) -> None:
            try:
                self.cluster.create(Manifest(body))
            except AlreadyExists:
                return

        list(self.pool.map(one, bodies))

    def write(self, count: int, mount: str) -> None:
        """Write values into OpenBao."""
        vault_call(
            self.bao.url, self.bao.token, "POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": "2"}}
        )
        time.sleep(2.0)
        for number in range(count):
            body = {"data": {"user": f"u{number}", "password": f"p{number}"}}
            vault_call(self.bao.url, self.bao.token, "POST", f"{mount}/data/app-{number}", body)

    def home(self, namespace: str, provider: Mapping[str, Any]) -> None:
        """Make a namespace with its credential and store."""
        self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        secret = {"token": self.bao.token, "id": "test", "key": "test"}
        metadata = {"name": "auth", "namespace": namespace}
        self.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": secret})
        store = {"metadata": {"name": "store", "namespace": namespace}, "spec": {"provider": dict(provider)}}
        self.create({"apiVersion": "external-secrets.io/v1", "kind": "SecretStore", **store})

    def vault(self, url: str, mount: str) -> dict[str, Any]:
        """Give the provider of a store on OpenBao."""
        ref = {"tokenSecretRef": {"name": "auth", "key": "token"}}
        return {"vault": {"server": url, "path": mount, "version": "v2", "auth": ref}}

    def secrets(self, namespace: str) -> int:
        """Count the Secrets of a namespace, its credential left out."""
        answer = json.loads(self.cluster.raw("GET", f"/api/v1/namespaces/{namespace}/secrets?limit=1").body)
        return len(answer["items"]) + int(answer["metadata"].get("remainingItemCount") or 0) - 1

    def await_true(self, done: Callable[[], bool], seconds: float) -> None:
        """Wait; end the bench when it takes too long."""
        ends = time.monotonic() + seconds
        while not done():
            if time.monotonic() > ends:
                sys.exit("the bench waited too long")
            time.sleep(0.1)

    def asked(self) -> Counter[str]:
        """Count our requests in the API server's audit log so far, watches left out; by verb and resource."""
        found: Counter[str] = Counter()
        assert self.plane.audit_log is not None
        with self.plane.audit_log.open() as lines:
            for line in lines:
                if '"secretsops-controller' not in line or '"stage":"ResponseComplete"' not in line:
                    continue
                event = json.loads(line)
                if event["verb"] != "watch" and event.get("objectRef"):
                    about = event["objectRef"]
                    found["/".join((event["verb"], about["resource"], about.get("subresource", "")))] += 1
        return found

    def settled(self) -> Counter[str]:
        """Wait until we ask nothing for two seconds; give the counts."""
        last, since = self.asked(), time.monotonic()
        while time.monotonic() - since < 2.0:
            time.sleep(0.5)
            now = self.asked()
            if now != last:
                last, since = now, time.monotonic()
        return last

    @contextmanager
    def controller(self, **environment: str) -> Iterator[int]:
        """Run the controller; give its process id."""
        command = [sys.executable, "-m", "secretsops", "controller", "--kubeconfig", str(self.plane.kubeconfig)]
        flags = ["--controllers", "external-secrets", "--no-leader-elect", "--listen", "127.0.0.1:0"]
        with subprocess.Popen(
            [*command, *flags], stderr=subprocess.DEVNULL, env={**os.environ, **environment}
        ) as process:
            try:
                yield process.pid
            finally:
                process.terminate()


@contextmanager
def counting(upstream: str) -> Iterator[tuple[str, Callable[[], Counter[str]]]]:
    """Run the counting server; give its URL and what it counted since it was last asked."""
    command = [sys.executable, "-m", "tests.fakes.between", upstream]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        url = server.stdout.readline().strip()

        def counts() -> Counter[str]:
            with _DIRECT.open(f"{url}/.counts", timeout=30) as answer:
                return Counter(json.loads(answer.read()))

        try:
            yield url, counts
        finally:
            server.stdin.close()


def external(namespace: str, name: str, key: str, **spec: Any) -> dict[str, Any]:
    """Give an ExternalSecret that takes two keys."""
    return {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "refreshInterval": "1h",
            "secretStoreRef": {"name": "store", "kind": "SecretStore"},
            "dataFrom": [{"extract": {"key": key}}],
            **spec,
        },
    }


def _first_sync(
    bench: Bench, namespace: str, count: int, counts: Callable[[], Counter[str]], beside: str, **env: str
) -> None:
    counts()
    before, began = bench.asked(), time.monotonic()
    with bench.controller(**env) as pid:
        bench.await_true(lambda: bench.secrets(namespace) >= count, 300)
        wall = time.monotonic() - began
        asked = bench.settled() - before
        spent, resident = _spent(pid), _resident(pid)
    provider = counts()
    kinds = Counter(re.sub(r"[-/]\w*\d+$", "", name) for name in provider.elements())
    say(f"{namespace}: {count} ExternalSecrets, first sync", f"{wall:.1f} s, {spent:.1f} CPU s", beside)
    say("  provider requests", f"{provider.total()}", ", ".join(f"{n} x {name}" for name, n in kinds.most_common(4)))
    say(
        "  API requests each",
        f"{asked.total() / count:.2f}",
        ", ".join(f"{n / count:.2f} {name}" for name, n in asked.most_common(5)),
    )
    say("  memory", f"{resident:.0f} MiB", "resident")


def _shared(bench: Bench) -> None:
    _vault_case(bench, "shared", PATHS, "budget 30 s, 8 CPU s, 22, 3; the peer 230 s, 18.5 CPU s, 8,008, 7")


def _distinct(bench: Bench) -> None:
    _vault_case(bench, "distinct", MANY, "budget 60 s, 2,002 requests; the peer 204 s, 8,008")


def _vault_case(bench: Bench, name: str, paths: int, beside: str) -> None:
    with counting(bench.bao.url) as (url, counts):
        bench.write(paths, f"kv-{name}")
        bench.home(name, bench.vault(url, f"kv-{name}"))
        bench.create(*(external(name, f"es-{number}", f"app-{number % paths}") for number in range(MANY)))
        _first_sync(bench, name, MANY, counts, beside)


def _aws(bench: Bench) -> None:
    """500 secrets of Secrets Manager by a role."""
    for number in range(ROLE_COUNT):
        bench.moto.put_secret(f"bench/{number}", json.dumps({"user": f"u{number}"}))
    refs = {
        "accessKeyIDSecretRef": {"name": "auth", "key": "id"},
        "secretAccessKeySecretRef": {"name": "auth", "key": "key"},
    }
    provider = {
        "aws": {
            "service": "SecretsManager",
            "region": bench.moto.region,
            "role": "arn:aws:iam::123456789012:role/reader",
            "auth": {"secretRef": refs},
        }
    }
    with counting(bench.moto.url) as (url, counts):
        bench.home("aws", provider)
        bench.create(*(external("aws", f"es-{number}", f"bench/{number}") for number in range(ROLE_COUNT)))
        env = {"AWS_SECRETSMANAGER_ENDPOINT": url, "AWS_STS_ENDPOINT": url}
        _first_sync(bench, "aws", ROLE_COUNT, counts, "budget 1 AssumeRole, 30 reads; the peer 502 + 500, 66 s", **env)


def _steady(bench: Bench) -> None:
    """200 objects on 20 values, every 10 seconds."""
    with counting(bench.bao.url) as (url, counts):
        bench.write(PATHS, "kv-steady")
        bench.home("steady", bench.vault(url, "kv-steady"))
        bench.create(
            *(
                external("steady", f"es-{number}", f"app-{number % PATHS}", refreshInterval="10s")
                for number in range(STEADY)
            )
        )
        with bench.controller() as pid:
            bench.await_true(lambda: bench.secrets("steady") >= STEADY, 60)
            time.sleep(12)
            counts()
            before, spent = bench.asked(), _spent(pid)
            turns, seen = _turns(bench.cluster, STEADY_SECONDS)
            provider, cpu = counts().total(), _spent(pid) - spent
            asked = bench.asked() - before
        say(
            f"steady: {STEADY} objects, {PATHS} values, 10 s",
            f"{provider / STEADY_SECONDS:.2f} requests/s",
            "budget 2; the peer 38",
        )
        say("  real period", f"{seen:.1f} s median", f"budget 11; the peer 21; {turns} refreshes seen")
        say(
            "  API requests per refresh",
            f"{asked.total() / max(turns, 1):.2f}",
            f"{cpu / STEADY_SECONDS * 100:.1f} % CPU",
        )


def _turns(cluster: Cluster, seconds: float) -> tuple[int, float]:
    """Watch refresh times for a while: how many refreshes, and the median of the pauses between two of an object."""
    last: dict[str, str] = {}
    pauses: list[float] = []
    turns, ends = 0, time.monotonic() + seconds
    while time.monotonic() < ends:
        for item in cluster.list(EXTERNAL_SECRET, namespace="steady"):
            at = str(item.status.get("refreshTime") or "")
            if last.get(item.name) not in {None, at}:
                turns += 1
                pauses.append((datetime.fromisoformat(at) - datetime.fromisoformat(last[item.name])).total_seconds())
            last[item.name] = at
        time.sleep(1.5)
    return turns, statistics.median(pauses) if pauses else 0.0


def _latency(bench: Bench) -> None:
    """From the answer to an ExternalSecret's creation until its Secret is there: idle, and while 2,000 refresh."""
    with counting(bench.bao.url) as (url, _):
        bench.write(PATHS, "kv-latency")
        bench.home("latency", bench.vault(url, "kv-latency"))
        with bench.controller():
            time.sleep(5)
            idle = _waits(bench, "idle")
            busy = (
                external("latency", f"busy-{number}", f"app-{number % PATHS}", refreshInterval="20s")
                for number in range(MANY)
            )
            bench.create(*busy)
            bench.await_true(lambda: bench.secrets("latency") >= MANY, 300)
            time.sleep(20)
            loaded = _waits(bench, "loaded")
    say("applied until its Secret, idle", f"{statistics.median(idle) * 1000:.0f} ms median", "budget 50; the peer 44")
    say(
        f"  while {MANY:,} others refresh",
        f"{statistics.median(loaded) * 1000:.0f} ms median",
        "budget 50; the peer minutes",
    )


def _waits(bench: Bench, name: str) -> list[float]:
    waits = []
    for number in range(SAMPLES):
        bench.cluster.create(Manifest(external("latency", f"{name}-{number}", f"app-{number % PATHS}")))
        began = time.monotonic()
        while True:
            try:
                bench.cluster.get(SECRET, f"{name}-{number}", "latency")
                break
            except NotFound:
                time.sleep(0.002)
        waits.append(time.monotonic() - began)
        time.sleep(0.1)
    return waits


def _resident(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def say(what: str, figure: str, beside: str) -> None:
    """Print one line."""
    sys.stdout.write(f"{what:48}{figure:>26}   ({beside})\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
