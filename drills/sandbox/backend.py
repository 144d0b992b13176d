"""What both kinds of cluster have in common: a name, a folder, users with tokens, a kubeconfig, an end.

`drills/sandbox/cluster.py` runs the real control plane, `drills/sandbox/embedded_cluster.py` the small stand-in; the
world, the node agent, drills and tests see only this. Never here: what runs.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import secrets
import shutil
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from drills.sandbox.api import Api
from drills.sandbox.certificates import make_pki
from drills.sandbox.egress import Egress
from drills.sandbox.processes import Process, Processes
from secretsops.errors import ApiError, WorldFailed

NODE = "sandbox-node"

USERS: Mapping[str, str] = {
    "admin": "sandbox-admin",
    "controller-manager": "system:kube-controller-manager",
    "scheduler": "system:kube-scheduler",
    "kwok": "system:kwok",
    "node-agent": "system:sandbox-node-agent",
}


class Backend(ABC):
    """One running cluster. `kubeconfig` and `token` are of an administrator; `stand_in` says that it is no real one."""

    stand_in = False

    def __init__(self, name: str, folder: Path, processes: Processes, *, audit: bool = False) -> None:
        self.name = name
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self.audit_log = folder / "audit.log" if audit else None
        self.nodes_started = False
        self.port = 0
        self._processes = processes
        self._running: dict[str, Process] = {}
        self._last_acts: list[Callable[[], None]] = []
        folder.mkdir(parents=True, mode=0o700)
        self.tokens = {component: secrets.token_urlsafe(24) for component in USERS}
        self.pki = make_pki(folder / "pki", now=dt.datetime.now(dt.UTC))
        self.egress = Egress()
        processes.remove_at_end(self.egress.socket_path.parent)

    @property
    def server(self) -> str:
        """Give the URL of the API server."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        """Give the administrator's bearer token."""
        return self.tokens["admin"]

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether the API server's process is alive."""

    @property
    def pids(self) -> dict[str, int]:
        """Give the process id of each component."""
        return {name: process.pid for name, process in self._running.items()}

    def api(self, user: str = "admin") -> Api:
        """Give a client that acts as one of the cluster's users."""
        return Api(port=self.port, ca=self.pki.ca, token=self.tokens[user])

    @abstractmethod
    def start_nodes(self) -> None:
        """See to a Node, once; return when Pods can be scheduled."""

    @abstractmethod
    def stop(self) -> None:
        """Stop in order; the data stays in the folder."""

    def snapshot(self, place: Path) -> None:
        """Copy the cluster's storage as it is at one moment, as a snapshot of its disk would.

        Raises:
            WorldFailed: reason `NotReal`: a stand-in has no storage.
        """
        raise WorldFailed(f"cluster {self.name} has no storage to copy to {place.name}", reason="NotReal")

    def set_back(self, place: Path) -> None:
        """Put the storage back to a snapshot and start everything on it anew; addresses and credentials stay.

        Raises:
            WorldFailed: reason `NotReal`: a stand-in has no storage.
        """
        raise WorldFailed(f"cluster {self.name} has no storage to put {place.name} into", reason="NotReal")

    def before_end(self, act: Callable[[], None]) -> None:
        """Do this first when the cluster stops or is destroyed."""
        self._last_acts.append(act)

    def destroy(self) -> None:
        """Lose the cluster: SIGKILL to everything at once, data deleted. The audit log goes as well."""
        self._act_last()
        for process in self._running.values():
            process.signal(9)
        for process in self._running.values():
            process.kill()
        self.egress.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _act_last(self) -> None:
        while self._last_acts:
            self._last_acts.pop()()

    def _kubeconfig(self, user: str, path: Path | None = None) -> Path:
        """Write the kubeconfig of a user; JSON is YAML."""
        path = path or self.folder / "pki" / f"{user}.kubeconfig"
        name = f"sandbox-{self.name}"
        # The proxy of the user's environment must not carry what goes to loopback; clients read no_proxy differently.
        cluster = {"server": self.server, "certificate-authority": str(self.pki.ca)}
        if user == "admin":
            authority = base64.b64encode(self.pki.ca.read_bytes()).decode()
            cluster = {"server": self.server, "certificate-authority-data": authority}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": user, "user": {"token": self.tokens[user]}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
            "current-context": name,
        }
        write_private(path, json.dumps(content, indent=1))
        return path

    def _api_is_ready(self) -> bool:
        """Whether *our* server answers: another one may hold the port (certificate), or none yet."""
        try:
            ours = ssl.PEM_cert_to_DER_cert(self.pki.server.read_text())
            return self.api().certificate() == ours and self.api().text("/readyz") == "ok"
        except (OSError, ApiError):
            return False


def node() -> dict[str, Any]:
    """Give the one Node of a sandbox's cluster."""
    capacity = {"cpu": "64", "memory": "256Gi", "pods": "2000", "ephemeral-storage": "1Ti"}
    labels = {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE, "labels": labels},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner may read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as target:
        target.write(content)
