"""What appears and disappears by itself on the stand-in: workloads, endpoints, accounts; dependents, namespaces."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drills.sandbox.backend import NODE
from drills.sandbox.embedded_cluster import EmbeddedCluster
from drills.sandbox.processes import Processes
from secretsops.adapters.kube import connect
from secretsops.errors import Invalid, NotFound
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Cluster, ClusterTarget
from tests.contract.cluster.backends import eventually

POD = GroupVersionKind("", "v1", "Pod")
CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
JOB = GroupVersionKind("batch", "v1", "Job")
CLAIM = GroupVersionKind("", "v1", "PersistentVolumeClaim")
SLICE = GroupVersionKind("discovery.k8s.io", "v1", "EndpointSlice")


class Place:
    """A namespace of the stand-in."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name

    def make(self, api_version: str, kind: str, name: str, **fields: Any) -> Manifest:
        metadata = {"name": name, "namespace": self.name, **fields.pop("metadata", {})}
        return self.cluster.create(Manifest({"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}))

    def status(self, made: Manifest) -> dict[str, Any]:
        return dict(self.cluster.get(made.kind, made.name, self.name).status)

    def pods(self) -> list[Manifest]:
        return list(self.cluster.list(POD, namespace=self.name))

    def has(self, kind: GroupVersionKind, name: str) -> bool:
        try:
            self.cluster.get(kind, name, self.name)
        except NotFound:
            return False
        return True


@pytest.fixture
def place(embedded_cluster: EmbeddedCluster) -> Iterator[Place]:
    """Give a new namespace."""
    cluster = connect(ClusterTarget(kubeconfig=str(embedded_cluster.kubeconfig)))
    name = f"work-{secrets.token_hex(3)}"
    home = cluster.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
    eventually(lambda: bool(cluster.list(GroupVersionKind("", "v1", "ServiceAccount"), namespace=name)))
    yield Place(cluster, name)
    cluster.delete(home.kind, name)


def template(restart: str = "") -> dict[str, Any]:
    """Give a Pod template."""
    spec: dict[str, Any] = {
        "containers": [{"name": "main", "image": "i:1", "ports": [{"name": "http", "containerPort": 80}]}]
    }
    return {"metadata": {"labels": {"app": "a"}}, "spec": {**spec, **({"restartPolicy": restart} if restart else {})}}


SELECTOR = {"matchLabels": {"app": "a"}}


def test_a_stateful_set_has_names_and_claims(place: Place) -> None:
    """web-0 and web-1, each with a bound claim; scaled down, the claims stay."""
    claims = [
        {
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
    ]
    spec = {
        "replicas": 2,
        "serviceName": "web",
        "selector": SELECTOR,
        "template": template(),
        "volumeClaimTemplates": claims,
    }
    made = place.make("apps/v1", "StatefulSet", "web", spec=spec)
    eventually(lambda: place.status(made).get("readyReplicas") == 2)
    assert {pod.name for pod in place.pods()} == {"web-0", "web-1"}
    eventually(lambda: {each.status["phase"] for each in place.cluster.list(CLAIM, namespace=place.name)} == {"Bound"})
    place.cluster.patch(made.kind, "web", {"spec": {"replicas": 1}}, namespace=place.name)
    eventually(lambda: {pod.name for pod in place.pods()} == {"web-0"})
    assert {each.name for each in place.cluster.list(CLAIM, namespace=place.name)} == {"data-web-0", "data-web-1"}


def test_a_daemon_set_runs_on_the_node(place: Place) -> None:
    """One Pod, on the one node."""
    made = place.make("apps/v1", "DaemonSet", "agent", spec={"selector": SELECTOR, "template": template()})
    eventually(lambda: place.status(made).get("numberReady") == 1)
    assert [pod.spec["nodeName"] for pod in place.pods()] == [NODE]


def test_a_service_has_the_endpoints_of_its_ready_pods(place: Place) -> None:
    """A named target port is resolved; without Pods there are no endpoints."""
    spec = {"selector": {"app": "a"}, "ports": [{"port": 8080, "targetPort": "http"}]}
    place.make("v1", "Service", "web", spec=spec)
    place.make("apps/v1", "Deployment", "web", spec={"replicas": 2, "selector": SELECTOR, "template": template()})

    def endpoints() -> list[Any]:
        return [
            each
            for part in place.cluster.list(SLICE, namespace=place.name)
            for each in part.body.get("endpoints") or []
        ]

    eventually(lambda: len(endpoints()) == 2 and all(each["conditions"]["ready"] for each in endpoints()))
    assert [part.body["ports"][0]["port"] for part in place.cluster.list(SLICE, namespace=place.name)] == [80]
    place.cluster.delete(GroupVersionKind("apps", "v1", "Deployment"), "web", namespace=place.name)
    eventually(lambda: endpoints() == [] and place.pods() == [])


def test_outcomes_are_what_the_rules_say(place: Place) -> None:
    """One never becomes ready, one fails, one takes its time."""
    rules = "\n".join([f"{place.name}/never* never", f"{place.name}/fails* fails", f"{place.name}/slow* after 1"])
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "sandbox-outcomes", "namespace": "kube-system"},
    }
    told = place.cluster.apply(Manifest({**body, "data": {"rules": rules}}), field_manager="test", force=True)
    job = place.make("batch/v1", "Job", "fails", spec={"backoffLimit": 0, "template": template("Never")})
    slow, never = (
        place.make("apps/v1", "Deployment", name, spec={"replicas": 1, "selector": SELECTOR, "template": template()})
        for name in ("slow", "never")
    )
    assert "readyReplicas" not in place.status(slow)
    eventually(lambda: any(each["type"] == "Failed" for each in place.status(job).get("conditions") or []))
    eventually(lambda: place.status(slow).get("readyReplicas") == 1)
    assert "readyReplicas" not in place.status(never)
    place.cluster.delete(told.kind, told.name, namespace="kube-system")


def test_a_cron_job_makes_the_jobs_that_are_due(place: Place) -> None:
    """One Job a minute at most, owned and remembered; a suspended one makes none; a schedule must be one."""
    work = {"spec": {"template": template("Never")}, "metadata": {"labels": {"a": "b"}}}
    made = place.make("batch/v1", "CronJob", "tick", spec={"schedule": "@every 1s", "jobTemplate": work})
    idle = place.make(
        "batch/v1", "CronJob", "idle", spec={"schedule": "@every 1s", "suspend": True, "jobTemplate": work}
    )
    eventually(lambda: "lastSuccessfulTime" in place.status(made))
    jobs = place.cluster.list(JOB, namespace=place.name)
    assert {job.name.rpartition("-")[0] for job in jobs} == {"tick"}
    assert jobs[0].labels == {"a": "b"}
    assert [(owner["kind"], owner["uid"]) for owner in jobs[0].metadata["ownerReferences"]] == [("CronJob", made.uid)]
    assert "lastScheduleTime" in place.status(made)
    assert place.status(idle) == {}
    with pytest.raises(Invalid, match=r"spec\.schedule"):
        place.make("batch/v1", "CronJob", "never", spec={"schedule": "61 * * * *", "jobTemplate": work})
    place.cluster.delete(made.kind, "tick", namespace=place.name)
    eventually(lambda: place.cluster.list(JOB, namespace=place.name) == [])


def test_what_waits_for_an_address_is_given_one(place: Place) -> None:
    """A Service that asks for a load balancer, an Ingress; the table of outcomes speaks of them too."""
    balanced = place.make("v1", "Service", "front", spec={"type": "LoadBalancer", "ports": [{"port": 80}]})
    backend = {"service": {"name": "front", "port": {"number": 80}}}
    ingress = place.make("networking.k8s.io/v1", "Ingress", "web", spec={"defaultBackend": backend})
    for made in (balanced, ingress):
        eventually(lambda made=made: bool(place.status(made)["loadBalancer"].get("ingress")))  # type: ignore[misc]


@pytest.mark.parametrize(("propagation", "stays"), [("Background", False), ("Foreground", False), ("Orphan", True)])
def test_dependents_go_with_their_owner_or_are_let_go(place: Place, propagation: str, stays: bool) -> None:
    """As `propagationPolicy` says; an orphan names no owner any more."""
    owner = place.make("v1", "ConfigMap", "owner")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid, "blockOwnerDeletion": True}
    place.make("v1", "ConfigMap", "below", metadata={"ownerReferences": [reference]})
    place.cluster.delete(CONFIG_MAP, "owner", namespace=place.name, propagation=propagation)
    eventually(lambda: not place.has(CONFIG_MAP, "owner"))
    if stays:
        assert "ownerReferences" not in place.cluster.get(CONFIG_MAP, "below", place.name).metadata
    else:
        eventually(lambda: not place.has(CONFIG_MAP, "below"))


def test_a_foreground_owner_waits_for_what_blocks_it(place: Place) -> None:
    """A dependent with a finalizer keeps its owner, marked, until it goes."""
    owner = place.make("v1", "ConfigMap", "owner")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid, "blockOwnerDeletion": True}
    place.make(
        "v1", "ConfigMap", "below", metadata={"ownerReferences": [reference], "finalizers": ["example.com/hold"]}
    )
    place.cluster.delete(CONFIG_MAP, "owner", namespace=place.name, propagation="Foreground")
    eventually(lambda: "deletionTimestamp" in place.cluster.get(CONFIG_MAP, "below", place.name).metadata)
    assert place.has(CONFIG_MAP, "owner")
    place.cluster.patch(CONFIG_MAP, "below", {"metadata": {"finalizers": None}}, namespace=place.name)
    eventually(lambda: not place.has(CONFIG_MAP, "owner"))


def test_an_object_whose_owner_never_was_goes(place: Place) -> None:
    """An owner of another cluster is no owner here."""
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "lost", "uid": "11111111-2222-4333-8444-555555555555"}
    place.make("v1", "ConfigMap", "stray", metadata={"ownerReferences": [reference]})
    eventually(lambda: not place.has(CONFIG_MAP, "stray"))


def test_a_journal_brings_everything_back(tmp_path: Path) -> None:
    """Stopped and started again: the same objects, definitions included, and their versions; a cut line is left out."""
    journal = tmp_path / "journal"
    with Processes(tmp_path / "processes") as processes:
        first = EmbeddedCluster("one", tmp_path / "one", processes, journal=journal)
        made = first.api().call(
            "POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "kept"}, "data": {"a": "1"}}
        )
        first.api().call("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "gone"}})
        first.api().call("DELETE", "/api/v1/namespaces/default/configmaps/gone")
        first.destroy()
        with journal.open("ab") as file:
            file.write(b'{"group": "", "kind": "ConfigMap", "event": "ADDED", "obj')
        second = EmbeddedCluster("two", tmp_path / "two", processes, journal=journal)
        found = second.api().call("GET", "/api/v1/namespaces/default/configmaps")
        assert json.dumps(made["metadata"], sort_keys=True) in [
            json.dumps(each["metadata"], sort_keys=True) for each in found["items"]
        ]
        assert "gone" not in {each["metadata"]["name"] for each in found["items"]}
        assert int(found["metadata"]["resourceVersion"]) >= int(made["metadata"]["resourceVersion"])
        second.destroy()
