"""What goes wrong in a rebuild on a real API server: named, waited out where it passes, cured and gone on with.

And the other disaster: Argo CD is lost, the cluster alive. Nothing healthy is written to; Argo CD finds nothing to do.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controllers.install import definitions
from drills.sandbox.cluster import ControlPlane
from drills.sandbox.git_server import GitServer, Repository
from drills.sandbox.world import Sandbox
from recovery.argo import APPLICATION
from recovery.bootstrap import rebuild
from recovery.events import Event, Waiting
from recovery.observe import Doors
from recovery.rebuild_report import Report
from recovery.reconcile import reconcile
from recovery.request import RebuildRequest
from secretsops.adapters.git import GitDoor
from secretsops.adapters.kube import KubeCluster, connect
from secretsops.adapters.rendering import RenderWorkers
from secretsops.clock import SystemClock
from secretsops.errors import ApiError, NotFound
from secretsops.manifest import GroupVersionKind, Manifest, load_all
from secretsops.ports import ClusterTarget
from tests.e2e.estates import application, commit, shop_and_blog
from tests.e2e.test_controller import until

pytestmark = pytest.mark.e2e

NAMESPACE = GroupVersionKind("", "v1", "Namespace")
CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
SETTINGS = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {colour: blue}\n"
AGENT = "argocd-application-controller/secretsops"


@pytest.fixture(scope="module")
def plane(sandbox: Sandbox, control_plane_binaries: None) -> ControlPlane:
    """Give a control plane of its own: what is broken here is broken for everybody."""
    found = sandbox.cluster("faults", audit=True)
    assert isinstance(found, ControlPlane)
    return found


@pytest.fixture(scope="module")
def cluster(plane: ControlPlane) -> KubeCluster:
    """Connect as the administrator."""
    return connect(ClusterTarget(kubeconfig=str(plane.kubeconfig), user_agent=AGENT))


class World:
    """One estate in Git, and the rebuild of it in this process."""

    def __init__(self, git: GitServer, cluster: KubeCluster, folder: Path) -> None:
        self.name = f"f{secrets.token_hex(3)}"
        self.repository: Repository = git.create(self.name)
        self.cluster, self.folder, self.waits = cluster, folder, list[str]()

    def commit(self, files: dict[str, str]) -> None:
        """Commit the files of an application that fills the namespace of its own name, and its root."""
        root = application(self.name, self.repository.url, "app", namespace=self.name)
        commit(self.repository, self.folder / "work", {"root.yaml": root} | {f"app/{n}": t for n, t in files.items()})

    def event(self, event: Event) -> None:
        """Keep what is waited for."""
        if isinstance(event, Waiting):
            self.waits += event.reasons

    def rebuild(self, journal: str = "journal", **changes: Any) -> Report:
        """Rebuild from the root."""
        git = GitDoor(cache=self.folder / "cache")
        roots = load_all(git.tree(self.repository.url, git.resolve(self.repository.url, "main")).files["root.yaml"])
        install = [one for one in definitions() if one.kind.kind == "CustomResourceDefinition"]
        install = [one for one in install if one.name.endswith(".argoproj.io")]
        wanted = {"roots": roots, "install": install, "journal": self.folder / journal, "patience": 60.0, **changes}
        request = RebuildRequest(**wanted)
        return rebuild(
            request,
            cluster=self.cluster,
            git=git,
            renderer=RenderWorkers(),
            clock=SystemClock(),
            observer=self,
        )

    def taking_over(self) -> Doors:
        """Give what the peer's gate needs to see to every Application of the cluster."""
        git = GitDoor(cache=self.folder / "cache")
        doors = Doors(cluster=self.cluster, git=git, renderer=RenderWorkers(), clock=SystemClock())
        return replace(doors, settle=1.0, patience=20.0)


@pytest.fixture
def world(git_server: GitServer, cluster: KubeCluster, tmp_path: Path) -> World:
    """Give a fresh estate."""
    return World(git_server, cluster, tmp_path)


def failure(report: Report) -> str:
    """Give why the deepest application failed."""
    assert not report.ok
    return report.apps[-1].message


def test_a_webhook_without_a_backend_is_waited_for_and_named(world: World, cluster: KubeCluster) -> None:
    """Past the patience the webhook's name is in the report; once it is gone the resume ends well."""
    world.commit({"settings.yaml": SETTINGS})
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": world.name},
        "webhooks": [
            {
                "name": "gate.example.com",
                "clientConfig": {"service": {"name": "gate", "namespace": "nowhere"}, "caBundle": ""},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.name}},
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
            }
        ],
    }
    hook = cluster.create(Manifest(body))
    time.sleep(1.5)  # the API server takes up a new webhook within a second
    try:
        assert "gate.example.com" in failure(world.rebuild(patience=4.0))
        assert any("to be accepted" in text for text in world.waits)
    finally:
        cluster.delete(hook.kind, hook.name)
    time.sleep(1.5)
    assert world.rebuild(resume=True).ok


def test_a_policy_that_rejects_fails_at_once_in_its_own_words(world: World, cluster: KubeCluster) -> None:
    """What no waiting cures is not waited for: the message of the policy is in the report."""
    world.commit({"settings.yaml": SETTINGS})
    where = {"matchLabels": {"kubernetes.io/metadata.name": world.name}}
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]
    api = "admissionregistration.k8s.io/v1"
    policy = {
        "apiVersion": api,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": world.name},
        "spec": {
            "matchConstraints": {"resourceRules": rules},
            "validations": [{"expression": "false", "message": "no blue here"}],
        },
    }
    binding = {
        "apiVersion": api,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": world.name},
        "spec": {
            "policyName": world.name,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": where},
        },
    }
    for body in (policy, binding):
        cluster.create(Manifest(body))
    probe = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": world.name}}
    cluster.apply(Manifest(probe), field_manager="test")
    _until(lambda: _is_refused(cluster, world.name))
    began = time.monotonic()
    assert "no blue here" in failure(world.rebuild())
    assert time.monotonic() - began < 45


def _is_refused(cluster: KubeCluster, namespace: str) -> bool:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "probe", "namespace": namespace}}
    try:
        cluster.create(Manifest(body), dry_run=True)
    except Exception:  # noqa: BLE001 - whichever refusal
        return True
    return False


def _until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.2)


def test_a_definition_that_is_never_established_ends_by_name(world: World, cluster: KubeCluster) -> None:
    """Its names are taken: the wait names the definition, and what follows it was not applied."""
    first, second = (_definition(f"{plural}.{world.name}.example.com", world.name, plural) for plural in ("as", "bs"))
    cluster.create(Manifest(first))
    world.commit({"crd.yaml": json.dumps(second), "settings.yaml": SETTINGS.replace("{name: settings}", _LATER)})
    message = failure(world.rebuild(patience=6.0))
    assert f"bs.{world.name}.example.com" in message
    assert "to be established" in message
    with pytest.raises(NotFound):
        cluster.get(CONFIG_MAP, "settings", world.name)


_LATER = '{name: settings, annotations: {argocd.argoproj.io/sync-wave: "1"}}'


def _definition(name: str, group: str, plural: str) -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {
            "group": f"{group}.example.com",
            "scope": "Namespaced",
            "names": {"kind": "Thing", "plural": plural, "singular": "thing"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


def test_a_namespace_that_is_being_deleted_is_waited_for_and_made_anew(world: World, cluster: KubeCluster) -> None:
    """A half-removed estate: what holds the namespace is named; once it lets go, everything is built in a new one."""
    world.commit({"settings.yaml": SETTINGS})
    old = cluster.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": world.name}}))
    metadata = {"name": "held", "namespace": world.name, "finalizers": ["example.com/held"]}
    cluster.create(Manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}))
    cluster.delete(NAMESPACE, world.name)

    def let_go() -> None:
        _until(lambda: any("it is being deleted" in text for text in world.waits))
        cluster.patch(CONFIG_MAP, "held", {"metadata": {"finalizers": None}}, namespace=world.name)

    helper = threading.Thread(target=let_go)
    helper.start()
    report = world.rebuild()
    helper.join()
    assert report.ok, [app.message for app in report.apps]
    assert cluster.get(NAMESPACE, world.name).uid != old.uid
    assert cluster.get(CONFIG_MAP, "settings", world.name).body["data"] == {"colour": "blue"}


def test_an_exceeded_quota_is_told_in_the_server_s_words(world: World, cluster: KubeCluster) -> None:
    """The object, and which quota."""
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few"},
        "spec": {"hard": {"secrets": "0"}},
    }
    world.commit({"quota.yaml": json.dumps(quota)})
    assert world.rebuild().ok
    until(lambda: _refuses_secrets(cluster, world.name))  # the API server learns of a quota by a watch of its own
    world.commit({"secret.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: one}\n"})
    assert "exceeded quota: few" in failure(world.rebuild("second", patience=3.0))


def _refuses_secrets(cluster: KubeCluster, namespace: str) -> bool:
    probe = Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "probe", "namespace": namespace}})
    try:
        cluster.apply(probe, field_manager="test", dry_run=True)
    except ApiError as error:
        return "exceeded quota" in error.message
    return False


def test_what_a_workload_lacks_is_told_when_the_wait_ends(world: World) -> None:
    """A Deployment whose ServiceAccount is nowhere: the message names it, not only that time is up."""
    pod = {"serviceAccountName": "nobody", "containers": [{"name": "main", "image": "example.com/web"}]}
    labels = {"app": "web"}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    world.commit({"web.yaml": json.dumps(body)})
    message = failure(world.rebuild(patience=5.0))
    assert "apps/Deployment" in message
    assert f"ServiceAccount {world.name}/nobody is missing" in message


# --- Argo CD lost, cluster alive -----------------------------------------------------------------------


def _writes(plane: ControlPlane, start: int) -> Iterator[tuple[str, str]]:
    """Give (verb, what) of every write of our client since a place in the audit log."""
    assert plane.audit_log is not None
    time.sleep(1)
    with plane.audit_log.open() as log:
        log.seek(start)
        for text in log:
            entry = json.loads(text) if text.endswith("\n") else {}
            if entry.get("stage") != "ResponseComplete" or entry["verb"] in ("get", "list", "watch"):
                continue
            reference = entry.get("objectRef") or {}
            if AGENT in str(entry.get("userAgent")) and "dryRun" not in entry.get("requestURI", ""):
                place = f"{reference.get('resource')} {reference.get('namespace', '')}/{reference.get('name', '')}"
                yield entry["verb"], place


def test_argo_cd_is_brought_back_without_a_write_to_what_is_healthy(
    world: World, cluster: KubeCluster, plane: ControlPlane
) -> None:
    """Everything of Argo CD is gone, the workloads run: adopting them writes Applications alone, by the audit log.

    Then the peer's own gate takes over: every Application Synced, no object written.
    """
    url, folder = world.repository.url, world.folder / "work"
    files = shop_and_blog(url, world.name)
    files["shop/plain.yaml"] = "apiVersion: v1\nkind: Secret\nmetadata: {name: plain}\nstringData: {a: hunter2}\n"
    by_server = '{name: own, annotations: {argocd.argoproj.io/sync-options: "ServerSideApply=true"}}'
    files["shop/own.yaml"] = SETTINGS.replace("{name: settings}", by_server)
    files["shop/service.yaml"] = (
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, annotations: "
        '{argocd.argoproj.io/sync-options: "ServerSideApply=true"}}\n'
        "spec: {selector: {app: web}, ports: [{port: 80}]}\n"
    )
    commit(world.repository, folder, files)
    assert world.rebuild().ok
    _lose_argo_cd(cluster)
    assert plane.audit_log is not None
    start = plane.audit_log.stat().st_size
    report = world.rebuild("second", hooks=False)
    assert report.ok, [stage.message for stage in report.stages]
    of_argo_cd = ("applications ", "customresourcedefinitions ", "namespaces argocd/argocd")
    assert [entry for entry in _writes(plane, start) if not entry[1].startswith(of_argo_cd)] == []
    start = plane.audit_log.stat().st_size
    assert reconcile(world.taking_over()) == []
    assert [place for _, place in _writes(plane, start) if not place.startswith("applications argocd/")] == []
    mine = [one for one in cluster.list(APPLICATION) if one.name.endswith(world.name)]
    assert {(one.name.partition("-")[0], one.status["sync"]["status"]) for one in mine} == {
        ("root", "Synced"),
        ("shop", "Synced"),
        ("blog", "Synced"),
    }


def _lose_argo_cd(cluster: KubeCluster) -> None:
    """Remove every trace of Argo CD: its Applications, its kinds, its namespace."""
    for one in definitions():
        if one.kind.kind == "CustomResourceDefinition" and one.name.endswith(".argoproj.io"):
            cluster.delete(one.kind, one.name)
            _until(lambda n=one: _is_gone(cluster, n.kind, n.name))  # type: ignore[misc]
    cluster.delete(NAMESPACE, "argocd")
    _until(lambda: _is_gone(cluster, NAMESPACE, "argocd"))
    cluster.resources(refresh=True)


def _is_gone(cluster: KubeCluster, kind: GroupVersionKind, name: str) -> bool:
    try:
        cluster.get(kind, name)
    except NotFound:
        return True
    return False
