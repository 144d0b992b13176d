"""What a backend of the cluster door's contract offers to tests: the door, and ways around it."""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from drills.sandbox.cluster import ControlPlane
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Cluster
from tests.fakes.cluster import UNSUPPORTED

NAMESPACE = GroupVersionKind("", "v1", "Namespace")
CRD = GroupVersionKind("apiextensions.k8s.io", "v1", "CustomResourceDefinition")


@dataclass(kw_only=True)
class Backend:
    """One implementation of the door, and what a test may do behind its back."""

    name: str
    cluster: Cluster
    forget_history: Callable[[], None]
    kubeconfig: Path | None = None
    widgets: list[GroupVersionKind] = field(default_factory=list)

    def needs(self, ability: str) -> None:
        """Skip where the backend does not have this ability; every ability is a line of UNSUPPORTED."""
        reason = UNSUPPORTED[ability]
        if self.name == "fake":
            pytest.skip(f"fake: {reason}")

    def aged(self, resume: str) -> str:
        """Give a continue token as one from the server's first days: newer ones a real server serves from memory."""
        padding = "=" * (-len(resume) % 4)
        token = json.loads(base64.urlsafe_b64decode(resume + padding))
        return base64.urlsafe_b64encode(json.dumps({**token, "rv": 1}).encode()).decode().rstrip("=")

    def kubectl(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run the real kubectl against this cluster."""
        program = Path(sys.executable).parent / "kubectl"
        if not program.is_file():
            pytest.skip("no kubectl: install the extra `render`")
        command = [str(program), "--kubeconfig", str(self.kubeconfig), *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=60)


def install_widgets(cluster: Cluster, **version: Any) -> GroupVersionKind:
    """Install a new custom kind under a group of its own and wait until it is served."""
    group = f"g{secrets.token_hex(4)}.example.com"
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "minimum": 1},
                    "colour": {"type": "string", "default": "red"},
                    "parts": {"type": "array", "items": {"type": "string"}},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            },
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    body = {
        "apiVersion": CRD.api_version,
        "kind": CRD.kind,
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                    **version,
                }
            ],
        },
    }
    cluster.create(Manifest(body))
    kind = GroupVersionKind(group, "v1", "Widget")

    def served() -> bool:
        conditions = cluster.get(CRD, f"widgets.{group}").status.get("conditions") or []
        established = any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
        return established and any(each.kind == kind for each in cluster.resources(refresh=True))

    eventually(served)
    return kind


def eventually(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Wait until the condition holds; controllers of the real cluster act on their own time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)


def compact(plane: ControlPlane) -> None:
    """Compact etcd at its newest revision through its JSON gateway, so that older pages are gone."""
    told = subprocess.run(
        ["ps", "-ww", "-o", "args=", "-p", str(plane.pids["kube-apiserver"])],
        capture_output=True,
        check=True,
        text=True,
    )
    url = next(word for word in told.stdout.split() if word.startswith("--etcd-servers=")).partition("=")[2]
    context = ssl.create_default_context(cafile=str(plane.pki.ca))
    context.load_cert_chain(plane.pki.client, plane.pki.client_key)

    def post(path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(f"{url}{path}", data=json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, context=context, timeout=10) as response:
            return json.load(response)

    revision = post("/v3/kv/range", {"key": "AA=="})["header"]["revision"]
    post("/v3/kv/compaction", {"revision": revision, "physical": True})
