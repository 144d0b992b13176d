"""A real control plane on loopback: etcd, kube-apiserver with RBAC, kube-controller-manager; scheduler and kwok for
nodes. Ready in seconds, several side by side, destroyed by SIGKILL.

Everything speaks TLS with an authority made for this cluster. Users are tokens of the group `system:masters`, one
name each, so that the audit log tells the components apart. Never here: Pods that run as processes
(`drills/sandbox/node_agent.py`), finding binaries (`drills/sandbox/binaries.py`).
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

from drills.sandbox.backend import NODE, USERS, Backend, node, write_private
from drills.sandbox.certificates import Pki
from drills.sandbox.processes import Process, Processes, await_ready, free_port, port_was_taken
from secretsops.errors import NotFound, Unreachable, WorldFailed

SERVICE_CIDR = "10.96.0.0/16"
STAGES = Path(__file__).with_name("controlplane") / "pods.yaml"

_READY = 60.0
"""Seconds until the API server must answer: it takes 3 alone, 20 have been seen on a machine running a build."""

_GRACE = 5.0
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


class ControlPlane(Backend):
    """A real control plane."""

    def __init__(
        self, name: str, folder: Path, binaries: Mapping[str, Path], processes: Processes, *, audit: bool = False
    ) -> None:
        """Start the cluster and wait until it answers.

        Raises:
            WorldFailed: a component ended or did not become ready; nothing is left running.
        """
        super().__init__(name, folder, processes, audit=audit)
        self._binaries = binaries
        self._commands: dict[str, tuple[str, ...]] = {}
        try:
            self._start_storage_and_api()
            self._start_controllers()
        except BaseException:
            self.destroy()
            raise

    @property
    def running(self) -> bool:
        """Whether the API server's process is alive."""
        process = self._running.get("kube-apiserver")
        return process is not None and not process.ended.is_set()

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
        self.api().call("POST", "/api/v1/nodes", node())
        await_ready(scheduler, self._node_is_ready, seconds=_READY)
        self.nodes_started = True

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

    def snapshot(self, place: Path) -> None:
        """Copy etcd's data while it stands still: consistent as after a crash, which etcd recovers from."""
        etcd = self._running["etcd"]
        etcd.signal(signal.SIGSTOP)
        try:
            shutil.copytree(self.folder / "etcd", place)
        finally:
            etcd.signal(signal.SIGCONT)

    def set_back(self, place: Path) -> None:
        """Kill every component, put etcd's data back, start them again in order.

        What caches objects must start anew: revisions go back, and a watch would wait for one that was there already.

        Raises:
            WorldFailed: a component did not become ready.
        """
        for process in self._running.values():
            process.kill()
        shutil.rmtree(self.folder / "etcd")
        shutil.copytree(place, self.folder / "etcd")
        for name, flags in list(self._commands.items()):
            process = self._start(name, *flags)
            if name == "kube-apiserver":
                await_ready(process, self._api_is_ready, seconds=_READY)

    def _start(self, name: str, *flags: str) -> Process:
        self._commands[name] = flags
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
                if last or not any(map(port_was_taken, self._running.values())):
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
        lines = [f'{self.tokens[part]},{user},{part},"system:masters"\n' for part, user in USERS.items()]
        write_private(tokens, "".join(lines))
        egress = self.folder / "egress.yaml"
        transport = {"uds": {"udsName": str(self.egress.socket_path)}}
        selection = {"name": "cluster", "connection": {"proxyProtocol": "HTTPConnect", "transport": transport}}
        version = {"apiVersion": "apiserver.k8s.io/v1beta1", "kind": "EgressSelectorConfiguration"}
        write_private(egress, json.dumps({**version, "egressSelections": [selection]}))
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
            write_private(policy, _AUDIT_POLICY)
            flags += [f"--audit-policy-file={policy}", f"--audit-log-path={self.audit_log}", "--audit-log-maxsize=1024"]
        return flags

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


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
