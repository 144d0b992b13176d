"""Tables for `kubectl get`, beside the real API server's: the same columns of every kind, the same cells of objects."""

from __future__ import annotations

import json
import re
import ssl
import urllib.request
from typing import Any

import pytest

from drills.sandbox.backend import Backend
from drills.sandbox.cluster import ControlPlane
from drills.sandbox.embedded.tables import _COLUMNS
from drills.sandbox.embedded_cluster import EmbeddedCluster
from secretsops.ports import Resource
from tests.drills.sandbox.embedded.test_differential import Pair

pytestmark = pytest.mark.e2e

FORM = "application/json;as=Table;v=v1;g=meta.k8s.io"
POD = {"containers": [{"name": "main", "image": "i:1"}, {"name": "side", "image": "j:2"}], "restartPolicy": "Always"}
TEMPLATE = {"metadata": {"labels": {"app": "a"}}, "spec": POD}
WORK = {"selector": {"matchLabels": {"app": "a"}, "matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]},
        "template": TEMPLATE, "replicas": 0}  # fmt: skip
JOB = {"template": {"spec": {**POD, "restartPolicy": "Never"}}, "suspend": True}
SUBJECTS = [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"},
            {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]  # fmt: skip
ROLE = {"kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"}
METRIC = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
RULES = [{"host": f"{name}.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {
    "service": {"name": "s", "port": {"number": 80}}}}]}} for name in "abcd"]  # fmt: skip
MADE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Deployment": ("apis/apps/v1", "deployments", {"spec": WORK}),
    "ReplicaSet": ("apis/apps/v1", "replicasets", {"spec": WORK}),
    "StatefulSet": ("apis/apps/v1", "statefulsets", {"spec": {**WORK, "serviceName": "s"}}),
    "CronJob": ("apis/batch/v1", "cronjobs",
                {"spec": {"schedule": "0 3 * * *", "timeZone": "Etc/UTC", "suspend": True,
                          "jobTemplate": {"spec": JOB}}}),
    "Job": ("apis/batch/v1", "jobs", {"spec": JOB}),
    "Service": ("api/v1", "services",
                {"spec": {"type": "ExternalName", "externalName": "e.example.com", "selector": {"a": "b"}}}),
    "ConfigMap": ("api/v1", "configmaps", {"data": {"a": "1"}, "binaryData": {"b": "MQ=="}}),
    "Secret": ("api/v1", "secrets", {"data": {"a": "MQ=="}}),
    "PodTemplate": ("api/v1", "podtemplates", {"template": TEMPLATE}),
    "PersistentVolumeClaim": ("api/v1", "persistentvolumeclaims", {"spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeName": "gone",
        "storageClassName": ""}}),
    "RoleBinding": ("apis/rbac.authorization.k8s.io/v1", "rolebindings", {"roleRef": ROLE, "subjects": SUBJECTS}),
    "Ingress": ("apis/networking.k8s.io/v1", "ingresses",
                {"spec": {"ingressClassName": "c", "rules": RULES, "tls": [{"hosts": ["a.example.com"]}]}}),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies",
                      {"spec": {"podSelector": {"matchLabels": {"a": "b"}}}}),
    "PodDisruptionBudget": ("apis/policy/v1", "poddisruptionbudgets",
                            {"spec": {"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}}}),
    "HorizontalPodAutoscaler": ("apis/autoscaling/v2", "horizontalpodautoscalers", {"spec": {
        "maxReplicas": 3, "metrics": [METRIC],
        "scaleTargetRef": {"kind": "Deployment", "name": "none", "apiVersion": "apps/v1"}}}),
    "Lease": ("apis/coordination.k8s.io/v1", "leases", {"spec": {"holderIdentity": "me"}}),
    "EndpointSlice": ("apis/discovery.k8s.io/v1", "endpointslices",
                      {"addressType": "IPv4", "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
                       "endpoints": [{"addresses": [f"10.0.0.{number}"]} for number in range(1, 6)]}),
}  # fmt: skip
MADE_BY_OTHERS = {"Address", "Status", "Capacity", "Volume", "Access Modes"}
"""Cells that controllers fill on one side only: the claim is bound, the Ingress has an address."""


@pytest.fixture(scope="module")
def pair(control_plane: ControlPlane, embedded_cluster: EmbeddedCluster) -> Pair:
    """Give both servers."""
    return Pair(control_plane, embedded_cluster)


def table(backend: Backend, path: str) -> dict[str, Any]:
    """Ask for a table."""
    headers = {"Accept": FORM, "Authorization": f"Bearer {backend.token}"}
    context = ssl.create_default_context(cafile=str(backend.pki.ca))
    request = urllib.request.Request(f"{backend.server}{path}", headers=headers)
    with urllib.request.urlopen(request, context=context, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def test_the_columns_are_those_of_the_real_server(
    pair: Pair, control_plane: ControlPlane, embedded_cluster: EmbeddedCluster
) -> None:
    """Name, type and rank of every column, of all kinds that have columns of their own, and of custom ones."""

    def columns(backend: Backend, resource: Resource) -> list[tuple[str, str, int]]:
        shown = table(backend, resource.path())["columnDefinitions"]
        return [(each["name"], each["type"], each["priority"]) for each in shown]

    ours = {(kind.kind, kind.group) for kind in (each.kind for each in pair.doors[1].resources())}
    for resource in pair.doors[0].resources():
        kind = resource.kind
        told = (kind.group, kind.kind) in _COLUMNS or kind.group.endswith("example.com")
        if told and (kind.kind, kind.group) in ours and "list" in resource.verbs:
            assert columns(embedded_cluster, resource) == columns(control_plane, resource), kind


@pytest.mark.parametrize("kind", MADE)
def test_the_cells_are_those_of_the_real_server(
    pair: Pair, control_plane: ControlPlane, embedded_cluster: EmbeddedCluster, kind: str
) -> None:
    """Of the same object; ages aside."""
    root, plural, body = MADE[kind]
    namespace = pair.namespace()
    path = f"/{root}/namespaces/{namespace}/{plural}"
    head = {"apiVersion": root.partition("/")[2], "kind": kind, "metadata": {"name": "made"}}
    shown = []
    for backend, door in zip((control_plane, embedded_cluster), pair.doors, strict=True):
        answer = door.raw("POST", path, body=json.dumps({**head, **body}).encode(), content_type="application/json")
        assert answer.code == 201, answer.body
        found = table(backend, f"{path}/made")
        names = [each["name"] for each in found["columnDefinitions"]]
        (row,) = found["rows"]
        told = dict(zip(names, row["cells"], strict=True))
        shown.append({name: re.sub(r"^\d+s$|[0-9a-f-]{36}", "<made up>", str(cell)) for name, cell in told.items()})
    real, ours = shown
    theirs = MADE_BY_OTHERS if kind in ("PersistentVolumeClaim", "Ingress") else set()
    assert {k: v for k, v in ours.items() if k not in theirs} == {k: v for k, v in real.items() if k not in theirs}
