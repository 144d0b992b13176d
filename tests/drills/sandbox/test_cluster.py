"""Real control planes: side by side, RBAC on, every write on record, gone when destroyed."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drills.sandbox.api import Api
from drills.sandbox.cluster import ControlPlane
from drills.sandbox.world import Sandbox
from secretsops.errors import ApiError, NotFound, UsageError

pytestmark = pytest.mark.e2e
Wait = Callable[..., None]
READY = 10.0
"""Seconds a cluster has on an idle machine; the test allows three times as much, others run beside it."""


def config_map(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}}


def kubectl(cluster: ControlPlane, *arguments: str) -> str:
    binary = Path(sys.executable).parent / "kubectl"
    if not binary.exists():
        pytest.skip("kubectl is not installed (extra 'render')")
    command = [str(binary), "--kubeconfig", str(cluster.kubeconfig), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_two_clusters_stand_side_by_side(control_plane_binaries: None) -> None:
    """Each has its own ports, authority and objects; losing one does not touch the other, and leaves nothing."""
    with Sandbox() as world:
        begun = time.monotonic()
        one = world.cluster("one", nodes=False)
        assert time.monotonic() - begun < 3 * READY
        two = world.cluster("two", nodes=False)
        one.api().call("POST", "/api/v1/namespaces/default/configmaps", config_map("only-here"))
        with pytest.raises(NotFound):
            two.api().call("GET", "/api/v1/namespaces/default/configmaps/only-here")
        with pytest.raises(ssl.SSLCertVerificationError):
            Api(port=two.port, ca=one.pki.ca, token=two.token).certificate()
        pids = one.pids
        one.destroy()
        one.destroy()
        assert not one.folder.exists()
        for pid in pids.values():
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        assert two.api().text("/readyz") == "ok"
        again = world.cluster("one", nodes=False)
        assert again is not one
        with pytest.raises(NotFound):
            again.api().call("GET", "/api/v1/namespaces/default/configmaps/only-here")
        assert world.cluster("one", nodes=False) is again


def test_an_orderly_stop_keeps_the_data(control_plane_binaries: None, tmp_path: Path) -> None:
    """Everything ends within its grace, nothing is killed, etcd's files stay."""
    with Sandbox(tmp_path) as world:
        cluster = world.cluster("stops", nodes=False)
        begun = time.monotonic()
        cluster.stop()
        assert time.monotonic() - begun < 20
        assert not cluster.running
        assert (cluster.folder / "etcd" / "member").is_dir()


def test_a_name_is_a_plain_word(tmp_path: Path) -> None:
    """A cluster's name becomes a folder: no paths."""
    with Sandbox(tmp_path) as world, pytest.raises(UsageError):
        world.cluster("../elsewhere")


def test_rbac_decides(control_plane: ControlPlane) -> None:
    """A service account without grants reads nothing, with one it reads that; nobody is let in without a token."""
    api = control_plane.api()
    space = "/api/v1/namespaces/default"
    api.call("POST", f"{space}/serviceaccounts", {"metadata": {"name": "reader"}})
    token = api.call("POST", f"{space}/serviceaccounts/reader/token", {"spec": {}})["status"]["token"]
    reader = Api(port=control_plane.port, ca=control_plane.pki.ca, token=token)
    with pytest.raises(ApiError) as refusal:
        reader.call("GET", f"{space}/configmaps")
    assert refusal.value.code == 403
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    api.call("POST", f"{rbac}/roles", {"metadata": {"name": "reader"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": "default"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    api.call("POST", f"{rbac}/rolebindings", {"metadata": {"name": "r"}, "subjects": [subject], "roleRef": role})
    assert reader.call("GET", f"{space}/configmaps")["kind"] == "ConfigMapList"
    with pytest.raises(ApiError) as refusal:
        Api(port=control_plane.port, ca=control_plane.pki.ca, token="made-up").call("GET", f"{space}/configmaps")
    assert refusal.value.code == 401


def test_the_audit_log_tells_order_and_body_and_no_secret(control_plane: ControlPlane) -> None:
    """Writes stand in their order with their body; of Secrets and tokens only that they happened."""
    api, space = control_plane.api(), "/api/v1/namespaces/default"
    api.call("POST", f"{space}/configmaps", config_map("audited"))
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "audited"},
        "stringData": {"k": "c4nary-value"},
    }
    api.call("POST", f"{space}/secrets", secret)
    api.call("DELETE", f"{space}/configmaps/audited")
    assert control_plane.audit_log is not None
    content = control_plane.audit_log.read_text()
    lines = [json.loads(line) for line in content.splitlines()]
    ours = [line for line in lines if line.get("objectRef", {}).get("name") == "audited"]
    assert [(line["verb"], line["objectRef"]["resource"], line["level"]) for line in ours] == [
        ("create", "configmaps", "RequestResponse"),
        ("create", "secrets", "Metadata"),
        ("delete", "configmaps", "RequestResponse"),
    ]
    assert ours[0]["requestObject"]["data"] == {"a": "b"}
    assert {line["user"]["username"] for line in ours} == {"sandbox-admin"}
    assert "c4nary-value" not in content
    assert control_plane.token not in content


def test_strict_clients_accept_the_certificates(control_plane: ControlPlane) -> None:
    """Python 3.13's VERIFY_X509_STRICT and kubectl take the chain as it is."""
    context = ssl.create_default_context(cafile=str(control_plane.pki.ca))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with (
        socket.create_connection(("127.0.0.1", control_plane.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="kubernetes.default.svc") as secured,
    ):
        assert secured.version() in {"TLSv1.2", "TLSv1.3"}
    assert "Server Version: v1.36.3" in kubectl(control_plane, "version")


def test_workloads_become_ready(control_plane_with_nodes: ControlPlane, wait: Wait) -> None:
    """A Deployment becomes available and a Job completes on the simulated node; a plain Pod goes when deleted."""
    cluster = control_plane_with_nodes
    kubectl(cluster, "create", "deployment", "ready", "--image=registry.example/a:1")
    kubectl(cluster, "create", "job", "done", "--image=registry.example/a:1")
    kubectl(cluster, "wait", "deployment/ready", "--for=condition=Available", "--timeout=30s")
    kubectl(cluster, "wait", "job/done", "--for=condition=Complete", "--timeout=30s")
    kubectl(cluster, "delete", "deployment/ready", "job/done", "--wait=true", "--timeout=30s")
    wait(lambda: "ready-" not in kubectl(cluster, "get", "pods", "-o", "name"), "its Pod is gone")


def test_a_service_without_a_process_is_unreachable_and_says_so(control_plane_with_nodes: ControlPlane) -> None:
    """The API server's proxy answers 503 for a Service with no endpoints: no hang."""
    api = control_plane_with_nodes.api()
    spec = {"selector": {"app": "nobody"}, "ports": [{"name": "http", "port": 80}]}
    api.call("POST", "/api/v1/namespaces/default/services", {"metadata": {"name": "nobody"}, "spec": spec})
    code, deadline = 404, time.monotonic() + 10
    while code == 404 and time.monotonic() < deadline:  # the proxy looks Services up in a cache of its own
        with pytest.raises(ApiError) as refusal:
            api.text("/api/v1/namespaces/default/services/http:nobody:http/proxy/")
        code = refusal.value.code
    assert code == 503


def test_files_are_private(control_plane: ControlPlane) -> None:
    """Kubeconfig, tokens, keys and the folder itself are the owner's alone."""
    assert control_plane.folder.stat().st_mode & 0o077 == 0
    for path in [control_plane.kubeconfig, *(control_plane.folder / "pki").iterdir()]:
        if path.suffix != ".crt":
            assert path.stat().st_mode & 0o077 == 0, path
