"""kill -9 of the real controller at its writes: through a relay that counts them, to the API server and to S3.

In memory every write of renewal and escrow is met by a hundred seeds (`tests/controllers/test_escrow.py`); here the
process itself dies, with its threads, its sockets and whatever was on its way.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3
import yaml

from controllers.install import definitions
from drills.sandbox.cluster import ControlPlane
from drills.sandbox.processes import free_port
from secretsops.adapters.kube import KubeCluster, connect
from secretsops.errors import NotFound
from secretsops.escrow import receipt
from secretsops.manifest import Manifest
from secretsops.ports import ClusterTarget
from secretsops.sealing.keys import ACTIVE, KEY_LABEL
from tests.e2e.test_controller import CONFIG_MAP, NAMESPACE, SEALED, SECRET, until
from tests.e2e.test_escrow import Custody, ours

pytestmark = pytest.mark.e2e
SEEDS = [pytest.param(seed, marks=pytest.mark.nightly) for seed in range(100)]
HOPS = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class Doom:
    """Kills a process at its n-th write, before the write is passed on or after it was carried out."""

    def __init__(self) -> None:
        self.left, self.after = 0, False
        self.victim: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def write(self) -> Callable[[], None]:
        """Count a write; gives what to call once it was carried out. Raises `ConnectionError` where it never is."""
        with self._lock:
            self.left -= 1
            fatal = self.left == 0
        if fatal and not self.after:
            self.strike()
        return self.strike if fatal else lambda: None

    def strike(self) -> None:
        """Kill."""
        assert self.victim is not None
        self.victim.send_signal(signal.SIGKILL)
        self.victim.wait(10)
        raise ConnectionError


@contextmanager
def relay(forward: Callable[[str, str, bytes, dict[str, str]], Any], doom: Doom) -> Iterator[str]:
    """Serve what `forward` answers, writes counted; gives the URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            self.close_connection = True
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                struck = doom.write() if self.command in ("POST", "PUT", "PATCH", "DELETE") else lambda: None
                headers = {name: text for name, text in self.headers.items() if name.lower() not in HOPS}
                with forward(self.command, self.path, body, headers) as answer:
                    struck()
                    self.send_response(answer.status)
                    for name, text in answer.headers.items():
                        if name.lower() not in HOPS:
                            self.send_header(name, text)
                    self.send_header("Connection", "close")
                    self.end_headers()
                    for part in answer.stream(1 << 16, decode_content=False):
                        self.wfile.write(part)
                        self.wfile.flush()
            except (OSError, urllib3.exceptions.HTTPError):
                return  # one of the two is gone

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _pass  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class World:
    """One namespace with its escrow, and lives of a controller."""

    def __init__(self, request: pytest.FixtureRequest, plane: ControlPlane, folder: Path, doom: Doom) -> None:
        self.folder, self.doom = folder, doom
        self.cluster = connect(ClusterTarget(kubeconfig=str(plane.kubeconfig)))
        for manifest in definitions():
            self.cluster.apply(manifest, field_manager="test", force=True)
        until(lambda: any(resource.kind == SEALED for resource in self.cluster.resources(refresh=True)))
        self.home = f"killed-{secrets.token_hex(3)}"
        self.cluster.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.home}}))
        self.custody = Custody(request, folder)
        self.plane = plane

    def relayed(self, api: str, store: str) -> None:
        """Have controllers reach the API server and S3 through the relays."""
        file = self.custody.config / "escrow.yaml"
        body = yaml.safe_load(file.read_text())
        endpoint = body["sinks"][0]["url"].partition("endpoint=")[2]
        direct = file.read_text()
        secret = self.custody.secret()
        body["sinks"][0]["url"] = body["sinks"][0]["url"].replace(endpoint, store)
        file.write_text(yaml.safe_dump(body))
        secret = self.custody.secret()
        file.write_text(direct)
        metadata = {**secret.metadata, "namespace": self.home}
        self.cluster.create(Manifest({**secret.body, "metadata": metadata}))
        context = {"name": "c", "context": {"cluster": "c", "user": "c"}}
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [context]}
        config |= {"clusters": [{"name": "c", "cluster": {"server": api}}], "users": [{"name": "c", "user": {}}]}
        (self.folder / "relayed.yaml").write_text(yaml.safe_dump(config))

    @contextmanager
    def life(self, fatal: int, *, after: bool) -> Iterator[subprocess.Popen[bytes]]:
        """Run a controller until its `fatal`-th write, 0 for one that lives."""
        command = [sys.executable, "-m", "secretsops", "controller", "--namespace", self.home, "--no-leader-elect"]
        command += ["--kubeconfig", str(self.folder / "relayed.yaml"), "--listen", f"127.0.0.1:{free_port()}"]
        command += ["--controllers", "sealed-secrets", "--key-size", "2048"]
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache")}
        self.doom.after, self.doom.left = after, fatal or -1
        with (self.folder / "controller.log").open("ab") as log:
            process = self.doom.victim = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def served(self) -> str:
        """Give the fingerprint of the certificate that clients read."""
        try:
            found = self.cluster.get(CONFIG_MAP, "sealed-secrets-certificate", self.home)
        except NotFound:
            return ""
        return str((found.body.get("data") or {}).get("fingerprint") or "")

    def standing(self) -> str:
        """Give how escrow stands."""
        try:
            found = self.cluster.get(CONFIG_MAP, "secretsops-escrow", self.home)
        except NotFound:
            return ""
        return str((found.body.get("data") or {}).get("status") or "")

    def key_secrets(self) -> list[Manifest]:
        """Give the key Secrets, whatever their label."""
        return list(self.cluster.list(SECRET, namespace=self.home, label_selector=KEY_LABEL))

    def check(self) -> None:
        """What is active has its receipt, what is served is active; no key has two active successors."""
        active = [key for key in self.key_secrets() if key.labels[KEY_LABEL] == ACTIVE]
        receipts = [key.annotations.get(receipt.ANNOTATION, "") for key in active]
        assert all(receipts), [key.name for key in active]
        served = self.served()
        assert not served or any(served in text for text in receipts), "a served key without its receipt"
        before = [key.annotations.get("secretsops.dev/succeeds", "") for key in active]
        assert len(before) == len(set(before)), before


def _waited(process: subprocess.Popen[bytes], holds: Callable[[], bool], seconds: float) -> bool:
    """Wait until something holds or the process died; says whether it lives."""
    end = time.monotonic() + seconds
    while process.poll() is None and not holds() and time.monotonic() < end:
        time.sleep(0.1)
    return process.poll() is None


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
def test_killed_while_it_mints_escrows_and_renews(
    seed: int, control_plane: ControlPlane, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Deaths at any write, before or after it; the last life puts everything in order and what it served is kept."""
    chance, doom = random.Random(seed), Doom()
    world = World(request, control_plane, tmp_path, doom)
    admin: KubeCluster = world.cluster
    store = urllib3.PoolManager(retries=False)
    endpoint = world.custody.s3.partition("endpoint=")[2]
    host = urlsplit(endpoint).netloc

    def to_api(method: str, path: str, body: bytes, headers: dict[str, str]) -> Any:
        sent = {name: text for name, text in headers.items() if name.lower() not in ("host", "authorization")}
        return admin._session.request(method, path, body=body or None, headers=sent, timeout=400)

    @contextmanager
    def to_s3(method: str, path: str, body: bytes, headers: dict[str, str]) -> Iterator[Any]:
        answer = store.request(
            method, endpoint + path, body=body, headers={**headers, "Host": host}, preload_content=False
        )
        try:
            yield answer
        finally:
            answer.release_conn()

    asked = died = 0
    with relay(to_api, doom) as api, relay(to_s3, doom) as s3:
        world.relayed(api, s3)
        world.custody.prove()
        for _ in range(chance.randint(2, 4)):
            with world.life(chance.randint(1, 14), after=chance.random() < 0.5) as process:
                if _waited(process, lambda: world.served() != "" and world.standing() == "Escrowed", 60):
                    process.send_signal(signal.SIGUSR1)
                    asked += 1
                    _waited(process, lambda: False, 20)
                died += process.poll() is not None
            world.check()
        with world.life(0, after=False) as process:

            def done() -> bool:
                labels = {key.labels[KEY_LABEL] for key in world.key_secrets()}
                return world.standing() == "Escrowed" and labels == {ACTIVE}

            assert _waited(process, done, 120), (tmp_path / "controller.log").read_text()[-2000:]
            assert done(), (world.standing(), [key.labels for key in world.key_secrets()])
            assert _waited(process, lambda: world.served() != "", 30)
            world.check()
    assert died, "nobody was killed"
    assert 1 <= len(world.key_secrets()) <= 1 + asked
    where = ("--kubeconfig", str(control_plane.kubeconfig))
    ours("escrow", "verify", *world.custody.outside(), "--identity", str(world.custody.identity), *where)
    world.cluster.delete(NAMESPACE, world.home)
