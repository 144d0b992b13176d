"""What the stand-in cluster takes: `python -m tests.bench.embedded` prints what the sandbox's README claims.

Clients are processes of their own with plain connections, so that what is counted is the server: its CPU seconds stand
beside the wall time, which is shared with the clients on the same cores.
"""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from drills.sandbox.embedded_cluster import EmbeddedCluster
from drills.sandbox.world import Sandbox

OBJECTS = 10_000
REQUESTS = 4_000
CLIENTS = 2
APPLY = "application/apply-patch+yaml"
PATH = "/api/v1/namespaces/default/configmaps"


def main() -> None:
    """Start it, fill it, read it, write to it."""
    with Sandbox(kind="embedded") as world:
        starts = []
        for number in range(3):
            begun = time.monotonic()
            world.cluster(f"a{number}", nodes=False)
            starts.append(time.monotonic() - begun)
        _say(f"{min(starts):7.2f} s     start to first answer (best of 3)")
        cluster = world.clusters["a0"]
        assert isinstance(cluster, EmbeddedCluster)
        empty = _resident(cluster)
        _load(cluster, "fill", OBJECTS, f"{OBJECTS} ConfigMaps of 1 KB created")
        _say(f"{_resident(cluster):7.0f} MiB   with {OBJECTS} objects ({empty:.0f} empty)")
        api = cluster.api()
        begun, used = time.monotonic(), _cpu(cluster)
        size = len(api.text(PATH, timeout=60))
        took = time.monotonic() - begun
        _say(f"{took:7.2f} s     one list of all, {size / 1e6:.0f} MB ({_cpu(cluster) - used:.2f} CPU s)")
        _load(cluster, "get", REQUESTS, "GET")
        _load(cluster, "apply", REQUESTS, "server-side apply, new objects")
        _load(cluster, "apply", REQUESTS, "server-side apply, unchanged")


def _load(cluster: EmbeddedCluster, verb: str, count: int, what: str) -> None:
    """Have clients send requests side by side; print the rate."""
    used, begun = _cpu(cluster), time.monotonic()
    share = count // CLIENTS
    with ProcessPoolExecutor(CLIENTS) as pool:
        told = [
            (cluster.port, str(cluster.pki.ca), cluster.token, verb, place * share, share) for place in range(CLIENTS)
        ]
        walls = list(pool.map(_client, *zip(*told, strict=True)))
    rate, cpu = count / max(walls), _cpu(cluster) - used
    took = time.monotonic() - begun
    _say(f"{rate:7.0f} /s    {what} ({cpu / count * 1e6:.0f} CPU µs each; {took:.1f} s with start-up)")


def _client(port: int, ca: str, token: str, verb: str, first: int, count: int) -> float:
    """Send requests over one connection; gives the seconds it took."""
    context = ssl.create_default_context(cafile=ca)
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    acts: dict[str, Callable[[int], tuple[str, str, bytes | None, str]]] = {
        "fill": lambda number: ("POST", PATH, _body(f"c{number}"), "application/json"),
        "get": lambda number: ("GET", f"{PATH}/c{number}", None, ""),
        "apply": lambda number: ("PATCH", f"{PATH}/s{number}?fieldManager=bench", _body(f"s{number}"), APPLY),
    }
    connection.connect()
    begun = time.monotonic()
    for number in range(first, first + count):
        method, path, body, content_type = acts[verb](number)
        connection.request(method, path, body, {**headers, **({"Content-Type": content_type} if body else {})})
        with connection.getresponse() as answer:
            answer.read()
            assert answer.status in (200, 201), answer.status
    took = time.monotonic() - begun
    connection.close()
    return took


def _body(name: str) -> bytes:
    metadata = {"name": name, "namespace": "default", "labels": {"app": "bench"}}
    data = {"number": name, "text": "x" * 900}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}).encode()


def _resident(cluster: EmbeddedCluster) -> float:
    (pid,) = cluster.pids.values()
    found = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
    return int(found) / 1024


def _cpu(cluster: EmbeddedCluster) -> float:
    """Give the CPU seconds its process has used, from /proc; 0 where there is none."""
    (pid,) = cluster.pids.values()
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
