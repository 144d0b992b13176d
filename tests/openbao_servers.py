"""Two more OpenBao servers for tests: one that speaks TLS, one that is sealed. Both die with the session's sandbox."""

from __future__ import annotations

import base64
import json
import os
import ssl
import urllib.request
from pathlib import Path
from typing import Any

from drills.sandbox.loopback import answers
from drills.sandbox.openbao import _binary
from drills.sandbox.processes import Processes, await_ready, free_port

_READY = 30.0


class TlsBao:
    """Development mode with certificates of its own making; `ca_pem` is its authority."""

    def __init__(self, processes: Processes) -> None:
        self.token = "tls-root-of-this-run"
        self._home = processes.folder / "openbao-tls"
        self._home.mkdir(exist_ok=True, mode=0o700)
        port = free_port()
        self.url = f"https://127.0.0.1:{port}"
        process = processes.start(
            "openbao-tls",
            [
                str(_binary()), "server", "-dev", "-dev-tls", f"-dev-tls-cert-dir={self._home}",
                f"-dev-listen-address=127.0.0.1:{port}", "-dev-no-store-token",
            ],
            environment={"PATH": "/usr/bin:/bin", "HOME": str(self._home), "BAO_DEV_ROOT_TOKEN_ID": self.token},
            cwd=self._home,
            log=Path(os.devnull),
        )  # fmt: skip
        await_ready(process, self._is_up, seconds=_READY)

    @property
    def ca_pem(self) -> str:
        (found,) = self._home.glob("*ca*.pem")
        return found.read_text()

    def call(self, method: str, path: str, body: Any = None, token: str = "") -> dict[str, Any]:
        """Call its API and give the answer."""
        data = json.dumps(body).encode() if body is not None else None
        headers = {"X-Vault-Token": token or self.token}
        request = urllib.request.Request(f"{self.url}/v1/{path}", data, headers, method=method)
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._context()))
        with urllib.request.build_opener(*handlers).open(request, timeout=30) as answer:
            found: dict[str, Any] = json.loads(answer.read() or b"{}")
            return found

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.ca_pem)
        return context

    def _is_up(self) -> bool:
        try:
            return bool(self.call("GET", "sys/health"))
        except (OSError, ValueError):
            return False


class SealedBao:
    """A server with a storage that was initialised and never unsealed."""

    def __init__(self, processes: Processes) -> None:
        home = processes.folder / "openbao-sealed"
        home.mkdir(exist_ok=True, mode=0o700)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        config = home / "config.hcl"
        config.write_text(
            f'storage "inmem" {{}}\nlistener "tcp" {{\n  address = "127.0.0.1:{port}"\n  tls_disable = true\n}}\n'
            f'api_addr = "{self.url}"\ndisable_mlock = true\n'
        )
        process = processes.start(
            "openbao-sealed",
            [str(_binary()), "server", f"-config={config}"],
            environment={"PATH": "/usr/bin:/bin", "HOME": str(home)},
            cwd=home,
            log=Path(os.devnull),
        )
        await_ready(process, lambda: answers(f"{self.url}/v1/sys/seal-status"), seconds=_READY)
        body = json.dumps({"secret_shares": 1, "secret_threshold": 1}).encode()
        request = urllib.request.Request(f"{self.url}/v1/sys/init", body, method="PUT")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            answer.read()


def b64(text: str) -> str:
    """Give base64 of a text."""
    return base64.b64encode(text.encode()).decode()
