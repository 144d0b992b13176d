"""What the controller's runtime costs: initial sync, events, idling, and a sealed Secret's way into the cluster.

    python -m tests.bench.runtime

Each figure is of this run; CPU seconds are of our process alone. The reference beside the sync is what the bytes
themselves cost: `json.loads` of the very same pages.
"""

from __future__ import annotations

import base64
import http.server
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from controllers.reflector import Reflector, Selection
from secretsops.adapters.kube import connect
from secretsops.manifest import GroupVersionKind
from secretsops.ports import ClusterTarget

OBJECTS, EVENTS, PAGE = 10_000, 10_000, 500
SEALED = GroupVersionKind("bitnami.com", "v1alpha1", "SealedSecret")
_CIPHER = base64.b64encode(os.urandom(600)).decode()


def sealed(number: int, version: int) -> dict[str, Any]:
    """Give a SealedSecret of usual size (1.4 kB)."""
    return {
        "metadata": {
            "name": f"s{number}",
            "namespace": f"n{number % 50}",
            "uid": f"uid-{number}",
            "resourceVersion": str(version),
            "generation": 1,
            "managedFields": [{"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {}}}],
        },
        "spec": {"encryptedData": {"password": _CIPHER}},
    }


def pages() -> list[bytes]:
    """Give the pages of a list of OBJECTS."""
    found = []
    for first in range(0, OBJECTS, PAGE):
        last = first + PAGE >= OBJECTS
        metadata = {"resourceVersion": "1", "continue": "" if last else str(first + PAGE)}
        items = [sealed(number, 1) for number in range(first, min(first + PAGE, OBJECTS))]
        body = {"kind": "SealedSecretList", "apiVersion": "bitnami.com/v1alpha1", "metadata": metadata, "items": items}
        found.append(json.dumps(body).encode())
    return found


class Canned(http.server.BaseHTTPRequestHandler):
    """An API server that knows its answers by heart."""

    protocol_version = "HTTP/1.1"
    pages: list[bytes]
    events: bytes

    def do_GET(self) -> None:
        """Answer discovery, a page, or the watch."""
        path, _, query = self.path.partition("?")
        if path in ("/api", "/apis"):
            self._send(json.dumps(self._discovery(path)).encode())
        elif "watch=true" in query:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(self.events), 65536):
                chunk = self.events[start : start + 65536]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            time.sleep(600)
        else:
            position = query.partition("continue=")[2].partition("&")[0]
            self._send(self.pages[int(position or 0) // PAGE])

    def _discovery(self, path: str) -> dict[str, Any]:
        resource = {
            "resource": "sealedsecrets",
            "responseKind": {"group": "bitnami.com", "version": "v1alpha1", "kind": "SealedSecret"},
            "scope": "Namespaced",
            "verbs": ["get", "list", "watch"],
        }
        group = {"metadata": {"name": "bitnami.com"}, "versions": [{"version": "v1alpha1", "resources": [resource]}]}
        return {"kind": "APIGroupDiscoveryList", "items": [group] if path == "/apis" else []}

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve() -> None:
    """Run the canned server in this process and print its port."""
    Canned.pages = pages()
    Canned.events = b"".join(
        json.dumps(
            {
                "type": "MODIFIED",
                "object": {"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", **sealed(n % OBJECTS, n + 2)},
            }
        ).encode()
        + b"\n"
        for n in range(EVENTS)
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Canned)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def informer() -> None:
    """Print what the first sync and a stream of changes cost."""
    child = subprocess.Popen([sys.executable, "-m", "tests.bench.runtime", "serve"], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    port = int(child.stdout.readline())
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as kubeconfig:
        server = f"http://127.0.0.1:{port}"
        entries = {"clusters": {"cluster": {"server": server}}, "users": {"user": {"token": "x"}}}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
            **{kind: [{"name": "c", **entry}] for kind, entry in entries.items()},
        }
        kubeconfig.write(json.dumps(config))
        kubeconfig.flush()
        cluster = connect(ClusterTarget(kubeconfig=kubeconfig.name))
        cluster.resources()
        texts = pages()
        began = time.process_time()
        for text in texts:
            json.loads(text)
        raw = time.process_time() - began
        done, seen = threading.Event(), 0

        def handle(*_: object) -> None:
            nonlocal seen
            seen += 1
            if seen == OBJECTS + EVENTS:
                done.set()

        reflector = Reflector(cluster, Selection(kind=SEALED), handle)
        began, wall = time.process_time(), time.monotonic()
        thread = threading.Thread(target=reflector.run)
        thread.start()
        assert reflector.synced.wait(60)
        synced = time.process_time() - began
        began, wall = time.process_time(), time.monotonic()
        assert done.wait(60)
        spent, took = time.process_time() - began, time.monotonic() - wall
        reflector.stop()
        thread.join(5)
    child.kill()
    child.wait()
    size = sum(map(len, texts)) / 1e6
    print(f"initial sync of {OBJECTS} objects ({size:.1f} MB): {synced:.2f} CPU s, json.loads alone {raw:.2f} CPU s")
    print(f"events: {EVENTS / took:,.0f} a second, {spent / EVENTS * 1e6:.0f} µs CPU each")


def seal() -> None:
    """Print what one `seal --cert` costs, beside an interpreter that does nothing."""
    root = Path(__file__).resolve().parents[1]
    certificate = root / "conformance/corpus/sealed-secrets/keys/alpha/tls.crt"
    secret = b"apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: b}\nstringData: {key: value}\n"
    command = [sys.executable, "-c", "from secretsops.cli import seal; seal()", "--cert", str(certificate)]
    bare, ours = _cpu([sys.executable, "-c", "pass"], b""), _cpu(command, secret)
    print(f"seal --cert, one Secret: {ours * 1000:.0f} ms CPU, bare Python {bare * 1000:.0f} ms (median of 9)")


def _cpu(command: list[str], stdin: bytes) -> float:
    found = []
    for _ in range(9):
        before = os.times()
        subprocess.run(command, input=stdin, capture_output=True, check=True)
        after = os.times()
        found.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return statistics.median(found)


def controller() -> None:
    """Print idle cost of the controller's process, and how long a SealedSecret takes to become a Secret."""
    from drills.sandbox.processes import free_port
    from drills.sandbox.world import Sandbox

    with Sandbox() as world, tempfile.TemporaryDirectory() as folder:
        plane = world.cluster("bench", nodes=False)
        environment = {**os.environ, "KUBECONFIG": str(plane.kubeconfig)}
        me = [sys.executable, "-m", "secretsops"]
        install = subprocess.run([*me, "install"], capture_output=True, check=True).stdout
        _kubectl(environment, "apply", "--server-side", "-f", "-", stdin=install)
        _kubectl(environment, "create", "namespace", "bench")
        flags = ["--kubeconfig", str(plane.kubeconfig), "--listen", f"127.0.0.1:{free_port()}"]
        process = subprocess.Popen([*me, "controller", *flags], stderr=subprocess.DEVNULL)
        try:
            certificate = Path(folder) / "cert.pem"
            for _ in range(200):
                published = subprocess.run(
                    ["kubectl", "get", "configmap", "-n", "kube-system", "sealed-secrets-certificate", "-o", "json"],
                    env={**environment, "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"},
                    capture_output=True,
                    check=False,
                )
                if published.returncode == 0:
                    certificate.write_text(json.loads(published.stdout)["data"]["tls.crt"])
                    break
                time.sleep(0.2)
            _latency(str(plane.kubeconfig), certificate)
            _idle(process.pid)
        finally:
            process.terminate()
            process.wait(10)


def _latency(kubeconfig: str, certificate: Path) -> None:
    from secretsops.errors import NotFound
    from secretsops.manifest import load_all

    cluster, found = connect(ClusterTarget(kubeconfig=kubeconfig)), []
    secret = GroupVersionKind("", "v1", "Secret")
    documents = "".join(
        f"---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s{n}, namespace: bench}}\nstringData: {{a: b}}\n"
        for n in range(25)
    )
    command = [sys.executable, "-m", "secretsops", "seal", "--cert", str(certificate)]
    made = subprocess.run(command, input=documents.encode(), capture_output=True, check=True).stdout
    for manifest in load_all(made):
        with cluster.watch(secret, namespace="bench", resource_version=_version(cluster, secret)) as watch:
            began = time.monotonic()
            cluster.create(manifest)
            for event in watch:
                if event.object.name == manifest.name:
                    break
            found.append(time.monotonic() - began)
        try:
            cluster.get(secret, manifest.name, "bench")
        except NotFound:
            print("the Secret went again")
    print(
        f"SealedSecret created → Secret exists, idle: {statistics.median(found) * 1000:.0f} ms median of {len(found)}"
    )


def _version(cluster: Any, kind: GroupVersionKind) -> str:
    return str(cluster.page(kind, namespace="bench", limit=1).resource_version)


def _idle(pid: int) -> None:
    def spent() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    time.sleep(2)
    before = spent()
    time.sleep(15)
    used = spent() - before
    memory = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    print(f"controller, idle: {used / 15 * 100:.2f} % CPU, {int(memory.split()[1]) // 1024} MiB resident")


def _kubectl(environment: dict[str, str], *arguments: str, stdin: bytes = b"") -> None:
    program = Path(sys.executable).parent / "kubectl"
    subprocess.run([str(program), *arguments], env=environment, input=stdin, capture_output=True, check=True)


def main() -> None:
    """Print everything."""
    informer()
    seal()
    if sys.platform == "linux":
        controller()


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
