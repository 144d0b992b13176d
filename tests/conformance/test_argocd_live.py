"""Recorded Argo CD syncs played on a real API server by `recover run --gate argo`: the same status after every step."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from drills.sandbox.cluster import ControlPlane
from recovery.project import PROJECT
from secretsops.adapters.kube import connect
from secretsops.adapters.rendering import RenderWorkers
from secretsops.errors import AlreadyExists, ApiError
from secretsops.manifest import Manifest, load_all
from secretsops.ports import Cluster, ClusterTarget
from tests.conformance.argocd_live import HOME, Trace, is_still
from tests.conformance.argocd_sync import SYNC
from tests.conformance.frame import better, parameters, root

SUITE = "argocd/sync-status"
EVERYTHING = {
    "sourceRepos": ["*"],
    "destinations": [{"server": "*", "namespace": "*"}],
    "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
}


def _cases() -> list[str]:
    base = root() / SYNC
    return [entry.name for entry in sorted(base.iterdir()) if is_still(entry.name)] if base.is_dir() else []


@pytest.fixture(scope="module")
def installation(control_plane: ControlPlane) -> Iterator[Cluster]:
    """Give a cluster with Argo CD's kinds and its default project, and our client under the peer's name."""
    agent = "argocd-application-controller/secretsops"
    cluster = connect(ClusterTarget(kubeconfig=str(control_plane.kubeconfig), user_agent=agent))
    crds = resources.files("controllers") / "deploy" / "crds"
    objects = [
        manifest
        for name in ("applications", "applicationsets", "appprojects")
        for manifest in load_all((crds / f"{name}.yaml").read_bytes())
    ]
    home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}}
    project = {
        "apiVersion": PROJECT.api_version,
        "kind": PROJECT.kind,
        "metadata": {"name": "default", "namespace": HOME},
        "spec": EVERYTHING,
    }
    for manifest in [*objects, Manifest(home)]:
        try:
            cluster.create(manifest)
        except AlreadyExists:
            continue
    _eventually(cluster, Manifest(project))
    yield cluster
    for kind, name, namespace in ((PROJECT, "default", HOME), (Manifest(home).kind, HOME, "")):
        cluster.delete(kind, name, namespace=namespace)


def _eventually(cluster: Cluster, manifest: Manifest) -> None:
    import time

    for _ in range(100):
        try:
            cluster.create(manifest)
        except AlreadyExists:
            return
        except ApiError:
            time.sleep(0.1)
            cluster.resources(refresh=True)
        else:
            return
    pytest.fail("the kinds of Argo CD are not served")


@pytest.mark.e2e
@pytest.mark.parametrize("case_id", parameters(SUITE, _cases()))
def test_a_trace_ends_as_recorded(case_id: str, installation: Cluster, renderer: RenderWorkers, tmp_path: Path) -> None:
    """After every step each Application has the recorded status: sync, health, operation, objects, messages."""
    trace = Trace(case_id.rpartition("/")[2], installation, renderer, tmp_path)
    words = better(case_id).get("words") or {}
    try:
        trace.start()
        for number, step in enumerate(trace.case["steps"]):
            got = repr(trace.step(step))
            wanted = repr(trace.wanted(number))
            for theirs, ours in words.items():
                wanted = wanted.replace(theirs, ours)
            assert got == wanted
    finally:
        trace.clean()
