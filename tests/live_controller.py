"""A cluster whose sealing controller, a process of ours, is reached as upstream's is: through the service proxy."""

from __future__ import annotations

import contextlib
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from controllers.install import definitions
from drills.sandbox.processes import free_port
from drills.sandbox.world import Sandbox
from secretsops.adapters.kube import connect
from secretsops.errors import SecretsOpsError
from secretsops.manifest import Manifest
from secretsops.ports import Cluster, ClusterTarget
from tests.conformance.frame import root

HOME, SERVICE = "kube-system", "sealed-secrets-controller"
ADDRESS, PORT = "10.9.8.7", 8080
"""Where the API server believes the controller to be; its dials are led to loopback."""


@pytest.fixture(scope="session")
def live_kubeconfig(
    sandbox: Sandbox, control_plane_binaries: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Give the kubeconfig of a cluster of its own, whose sealing controller holds the keys alpha and bravo."""
    plane = sandbox.cluster(f"live-{secrets.token_hex(2)}", nodes=False)
    cluster = connect(ClusterTarget(kubeconfig=str(plane.kubeconfig)))
    for manifest in definitions():
        cluster.apply(manifest, field_manager="test", force=True)
    for key in ("alpha", "bravo"):
        body = yaml.safe_load((root() / "sealed-secrets" / "keys" / key / "secret.yaml").read_text())
        body["metadata"] = {"name": f"key-{key}", "namespace": HOME, "labels": body["metadata"]["labels"]}
        cluster.create(Manifest(body))
    port = free_port()
    plane.egress.route(ADDRESS, PORT, port)
    _publish(cluster)
    command = [sys.executable, "-m", "secretsops", "controller", "--kubeconfig", str(plane.kubeconfig)]
    command += ["--namespace", HOME, "--controllers", "sealed-secrets", "--key-renew-period", "0"]
    command += ["--listen", f"127.0.0.1:{port}"]
    log = tmp_path_factory.mktemp("live") / "controller.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        path = f"/api/v1/namespaces/{HOME}/services/http:{SERVICE}:http/proxy/v1/cert.pem"
        deadline = time.monotonic() + 30
        while not _answers(cluster, path):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.1)
        yield plane.kubeconfig
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def _answers(cluster: Cluster, path: str) -> bool:
    with contextlib.suppress(SecretsOpsError):
        return cluster.raw("GET", path).code == 200
    return False


def _publish(cluster: Cluster) -> None:
    """Make the Service whose proxy leads to the controller's process."""
    ports = [{"name": "http", "port": PORT, "protocol": "TCP"}]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE, "namespace": HOME}}
    cluster.create(Manifest({**service, "spec": {"ports": [{**ports[0], "targetPort": PORT}]}}))
    # The API server proxies to Endpoints whose target is a Pod of that address (registry/core/service/storage, 1.36).
    meta = {"name": SERVICE, "namespace": HOME}
    container = {"name": "controller", "image": "none"}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": SERVICE, "namespace": HOME}}
    cluster.create(Manifest(account))
    spec = {"containers": [container], "serviceAccountName": SERVICE, "automountServiceAccountToken": False}
    pod = cluster.create(Manifest({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}))
    pod.body["status"] = {"phase": "Running", "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}]}
    cluster.replace(pod, subresource="status")
    target = {"kind": "Pod", "name": SERVICE, "namespace": HOME}
    subset = {"addresses": [{"ip": ADDRESS, "targetRef": target}], "ports": ports}
    cluster.create(Manifest({"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": [subset]}))
