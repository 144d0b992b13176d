"""A real control plane on loopback: etcd, kube-apiserver with RBAC, kube-controller-manager; scheduler and kwok for
nodes. Ready in seconds, several side by side, destroyed by SIGKILL.

Everything speaks TLS with an authority made for this cluster. Users are tokens of the group `system:masters`, one
name each, so that the audit log tells the components apart. Never here: Pods that run as processes
(`drills/sandbox/node_agent.py`), finding binaries (`drills/sandbox/binaries.py`).
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import os
import secrets
import shutil
import socket
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from drills.sandbox.api import Api
from drills.sandbox.certificates import Pki, make_pki
from drills.sandbox.egress import Egress
from drills.sandbox.processes import Process, Processes, await_ready, free_port
from secretsops.errors import ApiError, NotFound, Unreachable, WorldFailed

NODE = "sandbox-node"
SERVICE_CIDR = "10.96.0.0/16"
STAGES = Path(__file__).with_name("controlplane") / "pods.yaml"

_READY = 60.0
"""Seconds until the API server must answer: it takes 3 alone, 20 have been seen on a machine running a build."""

_GRACE = 5.0
_USERS = {
    "admin": "sandbox-admin",
    "controller-manager": "system:kube-controller-manager",
    "scheduler": "system:kube-scheduler",
    "kwok": "system:kwok",
    "node-agent": "system:sandbox-node-agent",
}

# Values of Secrets and tokens stay out of the log; of reads only that they happened; of writes the body as well.
_AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    resources:
      - {group: "", resources: [secrets, serviceaccounts/token]}
      - {group: authentication.k8s.io}
  - level: RequestResponse
    verbs: [create, update, patch, delete, deletecollection]
  - level: Metadata
"""


class ControlPlane:
    """One running cluster. `kubeconfig` and `token` are of an administrator."""

    def __init__(
        self, name: str, folder: Path, binaries: Mapping[str, Path], processes: Processes, *, audit: bool = False
    ) -> None:
        """Start the cluster and wait until it answers.

        Raises:
            WorldFailed: a component ended or did not become ready; nothing is left running.
        """
        self.name = name
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self.audit_log = folder / "audit.log" if audit else None
        self.nodes_started = False
        self._binaries = binaries
        self._processes = processes
        self._running: dict[str, Process] = {}
        self._last_acts: list[Callable[[], None]] = []
        folder.mkdir(parents=True, mode=0o700)
        self.tokens = {component: secrets.token_urlsafe(24) for component in _USERS}
        self.pki = make_pki(folder / "pki", now=dt.datetime.now(dt.UTC))
        self.egress = Egress()
        processes.remove_at_end(self.egress.socket_path.parent)
        try:
            self._start_storage_and_api()
            self._start_controllers()
        except BaseException:
            self.destroy()
            raise

    @property
    def server(self) -> str:
        """Give the URL of the API server."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        """Give the administrator's bearer token."""
        return self.tokens["admin"]

    @property
    def running(self) -> bool:
        """Whether the API server's process is alive."""
        process = self._running.get("kube-apiserver")
        return process is not None and not process.ended.is_set()

    @property
    def pids(self) -> dict[str, int]:
        """Give the process id of each component."""
        return {name: process.pid for name, process in self._running.items()}

    def api(self, user: str = "admin") -> Api:
        """Give a client that acts as one of the cluster's users."""
        return Api(port=self.port, ca=self.pki.ca, token=self.tokens[user])

    def start_nodes(self) -> None:
        """Start the scheduler and kwok with one Node, once; return when Pods can be scheduled.

        Raises:
            WorldFailed: a component ended. Timeout: the Node did not become ready.
        """
        if self.nodes_started:
            return
        scheduler = self._start(
            "kube-scheduler",
            f"--kubeconfig={self._kubeconfig('scheduler')}",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        )
        self._start(
            "kwok",
            f"--kubeconfig={self._kubeconfig('kwok')}",
            f"--config={STAGES}",
            "--manage-all-nodes",
            "--node-ip=127.0.0.1",
            "--cidr=10.243.0.1/16",
            # Without a lease nobody renews, the Node counts as lost 50 s later and its Pods as not ready.
            "--node-lease-duration-seconds=40",
        )
        self.api().call("POST", "/api/v1/nodes", _node())
        await_ready(scheduler, self._node_is_ready, seconds=_READY)
        self.nodes_started = True

    def before_end(self, act: Callable[[], None]) -> None:
        """Do this first when the cluster stops or is destroyed."""
        self._last_acts.append(act)

    def stop(self) -> None:
        """Stop in order: what writes, then the API server, then etcd; the data stays in the folder.

        All at once would leave the API server waiting for etcd on its port (seen: 90 s).
        """
        self._act_last()
        for name in ("kube-controller-manager", "kube-scheduler", "kwok"):
            if name in self._running:
                self._running[name].stop(_GRACE)
        for name in ("kube-apiserver", "etcd"):
            if name in self._running:
                self._running[name].stop(_GRACE)
        self.egress.close()

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

    def _start(self, name: str, *flags: str) -> Process:
        process = self._processes.start(
            f"{self.name}-{name}", [str(self._binaries[name]), *flags], cwd=self.folder, log=self.folder / f"{name}.log"
        )
        self._running[name] = process
        return process

    def _start_storage_and_api(self) -> None:
        """Start etcd and the API server; once more on other ports when somebody else took one in between."""
        for last in (False, True):
            self.port, etcd_port, peer_port = free_port(), free_port(), free_port()
            try:
                etcd = self._start("etcd", *_etcd_flags(self.folder / "etcd", self.pki, etcd_port, peer_port))
                await_ready(etcd, lambda: _accepts(etcd_port), seconds=_READY)  # noqa: B023 -- awaited at once
                server = self._start("kube-apiserver", *self._api_server_flags(etcd_port))
                await_ready(server, self._api_is_ready, seconds=_READY)
            except WorldFailed:
                if last or not any("address already in use" in process.tail(50) for process in self._running.values()):
                    raise
                for process in self._running.values():
                    process.kill()
                shutil.rmtree(self.folder / "etcd", ignore_errors=True)
            else:
                break
        self._kubeconfig("admin", self.kubeconfig)

    def _start_controllers(self) -> None:
        manager = self._start(
            "kube-controller-manager",
            f"--kubeconfig={self._kubeconfig('controller-manager')}",
            f"--service-account-private-key-file={self.pki.service_account_key}",
            f"--root-ca-file={self.pki.ca}",
            "--use-service-account-credentials=false",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        )
        await_ready(manager, self._accounts_are_made, seconds=_READY)

    def _api_server_flags(self, etcd_port: int) -> list[str]:
        tokens = self.folder / "pki" / "tokens.csv"
        lines = [f'{self.tokens[part]},{user},{part},"system:masters"\n' for part, user in _USERS.items()]
        _write(tokens, "".join(lines))
        egress = self.folder / "egress.yaml"
        transport = {"uds": {"udsName": str(self.egress.socket_path)}}
        selection = {"name": "cluster", "connection": {"proxyProtocol": "HTTPConnect", "transport": transport}}
        version = {"apiVersion": "apiserver.k8s.io/v1beta1", "kind": "EgressSelectorConfiguration"}
        _write(egress, json.dumps({**version, "egressSelections": [selection]}))
        flags = [
            f"--etcd-servers=https://127.0.0.1:{etcd_port}",
            f"--etcd-cafile={self.pki.ca}",
            f"--etcd-certfile={self.pki.client}",
            f"--etcd-keyfile={self.pki.client_key}",
            "--bind-address=127.0.0.1",
            # Loopback is refused here and there may be no other interface; with the reconciler off nobody is told it.
            "--advertise-address=192.0.2.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={self.port}",
            f"--cert-dir={self.folder / 'pki'}",
            f"--tls-cert-file={self.pki.server}",
            f"--tls-private-key-file={self.pki.server_key}",
            f"--service-account-key-file={self.pki.service_account_key}",
            f"--service-account-signing-key-file={self.pki.service_account_key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=RBAC",
            f"--token-auth-file={tokens}",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            "--allow-privileged=true",
            "--profiling=false",
            f"--egress-selector-config-file={egress}",
        ]
        if self.audit_log is not None:
            policy = self.folder / "audit-policy.yaml"
            _write(policy, _AUDIT_POLICY)
            flags += [f"--audit-policy-file={policy}", f"--audit-log-path={self.audit_log}", "--audit-log-maxsize=1024"]
        return flags

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
        _write(path, json.dumps(content, indent=1))
        return path

    def _api_is_ready(self) -> bool:
        """Whether *our* server answers: another one may hold the port (certificate), or none yet."""
        try:
            ours = ssl.PEM_cert_to_DER_cert(self.pki.server.read_text())
            return self.api().certificate() == ours and self.api().text("/readyz") == "ok"
        except (OSError, ApiError):
            return False

    def _accounts_are_made(self) -> bool:
        return self._exists("/api/v1/namespaces/default/serviceaccounts/default")

    def _node_is_ready(self) -> bool:
        with contextlib.suppress(Unreachable, NotFound):
            node = self.api().call("GET", f"/api/v1/nodes/{NODE}")
            conditions = node.get("status", {}).get("conditions", [])
            ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
            return ready and not node["spec"].get("taints")
        return False

    def _exists(self, path: str) -> bool:
        with contextlib.suppress(Unreachable, NotFound):
            return bool(self.api().call("GET", path))
        return False


def _etcd_flags(data: Path, pki: Pki, port: int, peer_port: int) -> list[str]:
    """Give etcd's flags: certificates on both sides, since it holds every Secret and loopback is open to every user."""
    url, peer = f"https://127.0.0.1:{port}", f"https://127.0.0.1:{peer_port}"
    return [
        f"--data-dir={data}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--client-cert-auth",
        f"--trusted-ca-file={pki.ca}",
        f"--cert-file={pki.server}",
        f"--key-file={pki.server_key}",
        "--peer-client-cert-auth",
        f"--peer-trusted-ca-file={pki.ca}",
        f"--peer-cert-file={pki.server}",
        f"--peer-key-file={pki.server_key}",
    ]


def _node() -> dict[str, Any]:
    capacity = {"cpu": "64", "memory": "256Gi", "pods": "2000", "ephemeral-storage": "1Ti"}
    labels = {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE, "labels": labels},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _write(path: Path, content: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as target:
        target.write(content)
