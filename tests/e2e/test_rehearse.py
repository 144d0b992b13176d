"""`recover rehearse` on a real API server: an estate comes up with dummies alone, and what it refuses is named."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from controllers.install import definitions
from drills.sandbox.cluster import ControlPlane
from drills.sandbox.world import Sandbox
from recovery.cli import recover
from recovery.rehearse import LABEL
from secretsops.adapters.kube import connect
from secretsops.cli import run
from secretsops.clock import SystemClock
from secretsops.manifest import GroupVersionKind
from secretsops.ports import Cluster, ClusterTarget
from tests.fakes.git import FakeGit
from tests.recovery.estates import URL, NoRenderer, application
from tests.recovery.proof.lint_cases import (
    CRD,
    TOKEN,
    config,
    deployment,
    env,
    external,
    ingress,
    obj,
    pvc,
    sealed,
    store,
)

pytestmark = pytest.mark.e2e

SECRET = GroupVersionKind("", "v1", "Secret")
POLICY = """apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-red, annotations: {argocd.argoproj.io/sync-wave: "-3"}}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps], scope: "*"}
  validations: [{expression: "!has(object.data) || !('colour' in object.data) || object.data.colour != 'red'"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-red, annotations: {argocd.argoproj.io/sync-wave: "-3"}}
spec: {policyName: no-red, validationActions: [Deny]}
---
"""


@pytest.fixture(scope="module")
def cluster(sandbox: Sandbox, control_plane_binaries: None) -> Cluster:
    """Give a cluster of its own, as the composition root starts one."""
    control_plane = sandbox.cluster("rehearsal")
    assert isinstance(control_plane, ControlPlane)
    found = connect(ClusterTarget(kubeconfig=str(control_plane.kubeconfig)))
    for manifest in definitions():
        found.apply(manifest, field_manager="secretsops")
    return found


def rehearsed(cluster: Cluster, name: str, text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Rehearse an estate of one application; gives exit code and report."""
    git = FakeGit()
    git.commit(URL, {"root.yaml": application(name, "shop"), "shop/all.yaml": text})

    @contextlib.contextmanager
    def disposable() -> Iterator[Cluster]:
        yield cluster

    doors = SimpleNamespace(git=lambda: git, renderer=NoRenderer, clock=SystemClock(), disposable_cluster=disposable)
    arguments = ["rehearse", "--repo", URL, "--revision", "main", "--patience", "20", "--deadline", "90", "-o", "json"]
    code = run(recover, arguments, prog="recover", doors=doors)
    answer = capsys.readouterr()
    assert answer.out, answer.err
    return code, json.loads(answer.out)


def test_an_estate_comes_up_with_dummies_of_the_right_type(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sealed and external secrets, a store, a claim, an address: all stood in for, all healthy."""
    tls = sealed("tls", namespace="shop", wave="-1").replace(
        "encryptedData: {a: AgA=}", "encryptedData: {tls.crt: AgA=, tls.key: AgA=}, template: {type: kubernetes.io/tls}"
    )
    pull = sealed("pull", namespace="shop", wave="-1").replace(
        "encryptedData: {a: AgA=}",
        "encryptedData: {.dockerconfigjson: AgA=}, template: {type: kubernetes.io/dockerconfigjson}",
    )
    claim = pvc("data", "accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}, storageClassName: ''")
    pod = "imagePullSecrets: [{name: pull}], volumes: [{name: d, persistentVolumeClaim: {claimName: data}}]"
    front = ingress("shop.example").replace(
        "rules: [{host", "defaultBackend: {service: {name: web, port: {number: 80}}}, rules: [{host"
    )
    text = POLICY + tls + pull + sealed("token", namespace="shop", wave="-1") + store(TOKEN, wave="-1")
    text += (
        external("api") + claim + deployment("web", pod, container=env("api")) + front + config("a", "{colour: blue}")
    )
    code, body = rehearsed(cluster, "shop", text, capsys)
    assert code == 0, [stage["message"] for stage in body["rebuild"]["stages"] if "message" in stage]
    assert body["dummies"] == 4
    made = {one.name: one for one in cluster.list(SECRET, namespace="shop", label_selector=LABEL)}
    assert {name: secret.body["type"] for name, secret in made.items()} == {
        "tls": "kubernetes.io/tls",
        "pull": "kubernetes.io/dockerconfigjson",
        "token": "Opaque",
        "api": "Opaque",
    }
    assert any("nodes are simulated" in said for said in body["unproven"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("policy", POLICY + config("b", "{colour: red}", wave="1")),
        ("schema", obj("apps/v1", "Deployment", "broken", "spec: {replicas: many}")),
        ("definition", CRD.replace("versions: [{name: v1,", "versions: [{name: V_1,")),
    ],
)
def test_what_the_api_server_refuses_fails_the_rehearsal(
    cluster: Cluster, name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Admission policies in CEL, schemas of objects and of definitions are real."""
    code, body = rehearsed(cluster, name, text, capsys)
    assert code == 1
    assert any(stage.get("message") for stage in body["rebuild"]["stages"])
