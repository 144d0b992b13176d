"""API servers for tests of the runtime: one in memory, and the real one."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from drills.sandbox.cluster import ControlPlane
from secretsops.adapters.kube import connect
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Cluster, ClusterTarget
from tests.contract.cluster.backends import compact
from tests.fakes.cluster import FakeCluster

NAMESPACE = GroupVersionKind("", "v1", "Namespace")


@dataclass(frozen=True, kw_only=True)
class Server:
    """An API server with a namespace of this test's own."""

    cluster: Cluster
    namespace: str
    forget_history: Callable[[], None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests on the real server be seen as users of the control plane, so that it is built before they start."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        here = item.path.is_relative_to(Path(__file__).parent)
        if here and callspec is not None and callspec.params.get("server") == "control-plane":
            getattr(item, "fixturenames", []).insert(0, "control_plane")


@pytest.fixture(params=["memory", "control-plane"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Give each kind of server in turn."""
    cluster: Cluster
    if request.param == "memory":
        cluster = fake = FakeCluster()
        forget = fake.compact
    else:
        plane: ControlPlane = request.getfixturevalue("control_plane")
        cluster = connect(ClusterTarget(kubeconfig=str(plane.kubeconfig)))

        def forget() -> None:
            compact(plane)

    namespace = f"runtime-{secrets.token_hex(4)}"
    cluster.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))
    yield Server(cluster=cluster, namespace=namespace, forget_history=forget)
    cluster.delete(NAMESPACE, namespace)
