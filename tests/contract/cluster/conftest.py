"""Backends of the cluster door's contract: a real control plane, the embedded stand-in, and the fake for unit tests.

Each test gets a namespace of its own. What the fake leaves out is one table with reasons
(`tests/fakes/cluster.py`, UNSUPPORTED); `backend.needs(...)` skips by it, for the fake only.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.sandbox.cluster import ControlPlane
from drills.sandbox.embedded_cluster import EmbeddedCluster
from secretsops.adapters.kube import connect
from secretsops.errors import NotFound
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Cluster, ClusterTarget
from tests.contract.cluster.backends import NAMESPACE, Backend, compact, install_widgets
from tests.fakes.cluster import FakeCluster

BACKENDS = ("control-plane", "embedded", "fake")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests on the real backend be seen as users of the control plane, so that it is built before they start."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        here = item.path.is_relative_to(Path(__file__).parent)
        if here and callspec is not None and callspec.params.get("backend") == "control-plane":
            getattr(item, "fixturenames", []).insert(0, "control_plane")


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Give each backend in turn, with a custom kind installed."""
    if request.param == "fake":
        fake = FakeCluster()
        found = Backend(name="fake", cluster=fake, forget_history=fake.compact)
    elif request.param == "embedded":
        stand_in: EmbeddedCluster = request.getfixturevalue("embedded_cluster")
        target = ClusterTarget(kubeconfig=str(stand_in.kubeconfig), user_agent="secretsops/contract")
        found = Backend(
            name="embedded", cluster=connect(target), forget_history=stand_in.compact, kubeconfig=stand_in.kubeconfig
        )
    else:
        plane: ControlPlane = request.getfixturevalue("control_plane")
        target = ClusterTarget(kubeconfig=str(plane.kubeconfig), user_agent="secretsops/contract")
        found = Backend(
            name="control-plane",
            cluster=connect(target),
            forget_history=lambda: compact(plane),
            kubeconfig=plane.kubeconfig,
        )
    found.widgets.append(install_widgets(found.cluster))
    return found


@pytest.fixture
def cluster(backend: Backend) -> Cluster:
    """Give the door."""
    return backend.cluster


@pytest.fixture
def widget(backend: Backend) -> GroupVersionKind:
    """Give a namespaced custom kind with a schema, defaults and a status subresource."""
    return backend.widgets[0]


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """Give a new namespace; it is deleted afterwards."""
    name = f"contract-{secrets.token_hex(4)}"
    cluster.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
    yield name
    try:
        cluster.delete(NAMESPACE, name)
    except NotFound:
        return
