"""Prediction equals reality: what verify and lint say of a mutated estate, against its rebuild on a real API server.

The nodes are ours: a pod becomes ready once every Secret and ConfigMap that it refers to exists, as a kubelet holds it
back (kwok asks nothing). The controller is a process, the store is OpenBao. A rebuild that fails and was not foretold
is an error; one that was foretold and works is a false alarm, and is counted.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from controllers.install import definitions
from drills.sandbox.cluster import ControlPlane
from drills.sandbox.openbao import OpenBao
from drills.sandbox.processes import free_port
from drills.sandbox.world import Sandbox
from recovery.bootstrap import rebuild
from recovery.needs import needs
from recovery.proof.evidence import Escrowed, Mode
from recovery.proof.finding import Severity
from recovery.proof.graph import build
from recovery.proof.lint import lint
from recovery.proof.subject import Subject
from recovery.proof.verify import Proof
from recovery.proof.verify import verify as judge
from recovery.recovery_plan import read_recovery_plan
from recovery.request import RebuildRequest
from recovery.roots import Choice, choose
from recovery.walk import walk
from secretsops.adapters.kube import connect
from secretsops.clock import SystemClock
from secretsops.errors import ApiError, NotFound
from secretsops.escrow.index import State
from secretsops.manifest import GroupVersionKind, Manifest, dump
from secretsops.ports import Cluster, ClusterTarget, PatchType
from secretsops.sealing.keys import KEY_LABEL, KeyPair, generate, key_secret
from secretsops.sealing.scope import Scope
from secretsops.sealing.sealed import seal_value
from secretsops.sealing.sealed_with import ANNOTATION
from secretsops.secret import Plaintext
from tests.fakes.git import FakeGit
from tests.recovery.estates import URL, NoRenderer
from tests.recovery.proof.lint_cases import config, deployment, env, obj

pytestmark = pytest.mark.e2e

PATIENCE, LONGER = 5.0, 30.0
"""Seconds; a failure that nothing foretold is looked at again with the longer one: a busy machine is no prediction."""
POD = GroupVersionKind("", "v1", "Pod")
PLAN = read_recovery_plan(
    b"apiVersion: secretsops.dev/v1\nkind: RecoveryPlan\nspec: {gitHosts: [{name: git.invalid, anonymous: true}]}"
)
NOW = dt.datetime.now(dt.UTC)
KEY, LOST = generate(now=NOW, bits=2048), generate(now=NOW, bits=2048)
Files = dict[str, str]


# --- the estate and what is done to it -----------------------------------------------------------------


def application(name: str, path: str, wave: int, namespace: str) -> str:
    """Give a child Application."""
    source = f'{{repoURL: "{URL}", path: {path}, directory: {{recurse: true}}}}'
    destination = f"{{server: https://kubernetes.default.svc, namespace: {namespace}}}"
    spec = (
        f"spec: {{project: default, source: {source}, destination: {destination}, "
        "syncPolicy: {automated: {}, syncOptions: [CreateNamespace=true]}}"
    )
    return obj("argoproj.io/v1alpha1", "Application", name, spec, namespace="argocd", wave=str(wave))


def sealed(name: str, namespace: str, *, key: KeyPair = KEY, value: bytes = b"x", wave: str = "-1") -> str:
    """Give a SealedSecret with one item `a`."""
    item = seal_value(Plaintext(value), key.certificate.public, scope=Scope.STRICT, namespace=namespace, name=name)
    annotations = {"argocd.argoproj.io/sync-wave": wave, ANNOTATION: key.fingerprint}
    metadata = {"name": name, "namespace": namespace, "annotations": annotations}
    body = {"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "metadata": metadata}
    return f"{dump({**body, 'spec': {'encryptedData': {'a': item}}})}---\n"


def estate(suffix: str, bao: OpenBao) -> Files:
    """Give an estate of three applications in the layout that teams use: definitions first, then what runs."""
    ns, group = f"shop-{suffix}", f"x{suffix}.example.com"
    names = "names: {kind: Widget, plural: widgets, singular: widget, listKind: WidgetList}"
    schema = "{openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}"
    versions = f"versions: [{{name: v1, served: true, storage: true, schema: {schema}}}]"
    crd = f"spec: {{group: {group}, scope: Namespaced, {names}, {versions}}}"
    server = f'server: "{bao.url}", path: secret, version: v2'
    auth = "auth: {tokenSecretRef: {name: vault-token, key: a}}"
    store = f"spec: {{provider: {{vault: {{{server}, {auth}}}}}}}"
    value = f"data: [{{secretKey: a, remoteRef: {{key: p{suffix}, property: a}}}}]"
    pull = f"spec: {{refreshInterval: 1h, secretStoreRef: {{name: vault}}, {value}}}"
    return {
        "root.yaml": application(f"root-{suffix}", "apps", 0, "argocd"),
        "apps/ops.yaml": application(f"ops-{suffix}", "infrastructure", 0, ns),
        "apps/shop.yaml": application(f"shop-{suffix}", "shop", 1, ns),
        "infrastructure/crd.yaml": obj("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"widgets.{group}", crd),
        "shop/token.yaml": sealed("token", ns),
        "shop/registry.yaml": sealed("registry", ns),
        "shop/vault-token.yaml": sealed("vault-token", ns, value=bao.token.encode(), wave="-3"),
        "shop/store.yaml": obj("external-secrets.io/v1", "SecretStore", "vault", store, namespace=ns, wave="-2"),
        "shop/api.yaml": obj("external-secrets.io/v1", "ExternalSecret", "api", pull, namespace=ns, wave="-1"),
        "shop/settings.yaml": config("settings"),
        "shop/widget.yaml": obj(f"{group}/v1", "Widget", "w", "spec: {a: b}"),
        "shop/web.yaml": deployment("web", "imagePullSecrets: [{name: registry}]", container=env("token")),
        "shop/worker.yaml": deployment(
            "worker", container=env("api") + ", envFrom: [{configMapRef: {name: settings}}]", wave="1"
        ),
    }


def _without(path: str) -> Callable[[Files, str], None]:
    def mutate(files: Files, _suffix: str) -> None:
        del files[path]

    return mutate


def _lost_key(files: Files, suffix: str) -> None:
    files["shop/token.yaml"] = sealed("token", f"shop-{suffix}", key=LOST)


def _lost_store_key(files: Files, suffix: str) -> None:
    files["shop/vault-token.yaml"] = sealed("vault-token", f"shop-{suffix}", key=LOST, wave="-3")


def _webhook(files: Files, suffix: str) -> None:
    """Guard ConfigMaps of the namespace by a webhook whose backend comes later."""
    ns = f"shop-{suffix}"
    selector = f"namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {ns}}}}}"
    rules = 'rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]'
    client = f"clientConfig: {{service: {{name: guard, namespace: {ns}}}}}"
    rest = "sideEffects: None, admissionReviewVersions: [v1], timeoutSeconds: 1, failurePolicy: Fail"
    files["shop/webhook.yaml"] = (
        obj(
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            f"guard-{suffix}",
            f"webhooks: [{{name: guard.example.com, {client}, {rules}, {selector}, {rest}}}]",
            wave="-1",
        )
        + obj("v1", "Service", "guard", "spec: {selector: {app: guard}, ports: [{port: 443}]}", wave="-1")
        + deployment("guard", wave="2")
    )


def _order_of_definitions(files: Files, suffix: str) -> None:
    files["apps/ops.yaml"] = application(f"ops-{suffix}", "infrastructure", 2, f"shop-{suffix}")


def _order_of_secrets(files: Files, suffix: str) -> None:
    files["shop/token.yaml"] = sealed("token", f"shop-{suffix}", wave="1")


def _order_of_stores(files: Files, _suffix: str) -> None:
    files["shop/store.yaml"] = files["shop/store.yaml"].replace('"-2"', '"3"')


def _hook(files: Files, _suffix: str) -> None:
    """A migration that reads what is applied only after it."""
    inner = "restartPolicy: Never, containers: [{name: m, image: m, envFrom: [{configMapRef: {name: settings}}]}]"
    spec = f"spec: {{activeDeadlineSeconds: 60, backoffLimit: 0, template: {{spec: {{{inner}}}}}}}"
    files["shop/migrate.yaml"] = obj("batch/v1", "Job", "migrate", spec, marks="argocd.argoproj.io/hook: PreSync")


def _signature(files: Files, _suffix: str) -> None:
    """Have the project ask for signed commits; these are not."""
    allowed = 'sourceRepos: ["*"], destinations: [{server: "*", namespace: "*"}]'
    kinds = 'clusterResourceWhitelist: [{group: "*", kind: "*"}]'
    spec = f"spec: {{{allowed}, {kinds}, signatureKeys: [{{keyID: 0123456789ABCDEF}}]}}"
    files["root.yaml"] += obj("argoproj.io/v1alpha1", "AppProject", "default", spec, namespace="argocd")


MUTATIONS: dict[str, Callable[[Files, str], None]] = {
    "definition removed": _without("infrastructure/crd.yaml"),
    "key lost": _lost_key,
    "pull secret removed": _without("shop/registry.yaml"),
    "credential removed": _without("shop/vault-token.yaml"),
    "credential's key lost": _lost_store_key,
    "store removed": _without("shop/store.yaml"),
    "settings removed": _without("shop/settings.yaml"),
    "webhook before its backend": _webhook,
    "definitions after their objects": _order_of_definitions,
    "secret after its user": _order_of_secrets,
    "store after its user": _order_of_stores,
    "hook before what it reads": _hook,
    "signature asked for and not there": _signature,
}
IN_CI = (
    "definition removed",
    "key lost",
    "pull secret removed",
    "credential removed",
    "webhook before its backend",
    "definitions after their objects",
    "secret after its user",
    "signature asked for and not there",
)
HARMLESS: dict[str, Callable[[Files, str], None]] = {
    "nothing": lambda _files, _suffix: None,
    "another object": lambda files, _suffix: files.update({"shop/more.yaml": config("more")}),
    "a widget less": _without("shop/widget.yaml"),
}


# --- the world -----------------------------------------------------------------------------------------


class Kubelet(threading.Thread):
    """Makes pods ready whose Secrets and ConfigMaps exist; those of Jobs succeed."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self._cluster, self._ended = cluster, threading.Event()

    def stop(self) -> None:
        self._ended.set()
        self.join(10)

    def run(self) -> None:
        while not self._ended.wait(0.2):
            try:
                for pod in self._cluster.list(POD):
                    if not pod.status.get("startTime") and self._may_start(pod):
                        self._start(pod)
            except ApiError:
                continue

    def _may_start(self, pod: Manifest) -> bool:
        for need in needs(pod):
            if need.optional or need.key.kind not in ("Secret", "ConfigMap"):
                continue
            try:
                self._cluster.get(GroupVersionKind("", "v1", need.key.kind), need.key.name, need.key.namespace)
            except NotFound:
                return False
        return True

    def _start(self, pod: Manifest) -> None:
        of_job = any(owner["kind"] == "Job" for owner in pod.metadata.get("ownerReferences") or [])
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        state = {"terminated": {"exitCode": 0, "finishedAt": now}} if of_job else {"running": {"startedAt": now}}
        conditions = [
            {"type": kind, "status": "True"} for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ]
        names = [container["name"] for container in pod.spec["containers"]]
        statuses = [
            {"name": n, "ready": not of_job, "restartCount": 0, "image": n, "imageID": n, "state": state} for n in names
        ]
        status = {
            "phase": "Succeeded" if of_job else "Running",
            "startTime": now,
            "conditions": conditions,
            "containerStatuses": statuses,
        }
        self._cluster.patch(
            POD, pod.name, {"status": status}, namespace=pod.namespace, patch_type=PatchType.MERGE, subresource="status"
        )


@dataclass
class World:
    """One cluster without nodes, its controller, its kubelet, and a store."""

    cluster: Cluster
    bao: OpenBao

    def rebuild(self, files: Files, patience: float = PATIENCE) -> str:
        """Bring an estate to the cluster; gives why it failed, "" when it did not."""
        git = FakeGit()
        git.commit(URL, files)
        roots, pins = choose(git, Choice(repo=URL, revision="main", path="root.yaml"))
        # Secrets stay with their applications: the order in Git is what is judged.
        request = RebuildRequest(roots=roots, pins=pins, patience=patience, deadline=90, secrets_first=False)
        try:
            report = rebuild(request, cluster=self.cluster, git=git, renderer=NoRenderer(), clock=SystemClock())
        except Exception as error:  # noqa: BLE001 - whatever stops a rebuild is a failed rebuild
            return str(error)
        return "" if report.ok else "; ".join(stage.message for stage in report.stages if stage.message)

    def forget(self, suffix: str) -> None:
        """Remove what would reach other cases."""
        hook = GroupVersionKind("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration")
        try:
            self.cluster.delete(hook, f"guard-{suffix}")
        except NotFound:
            return


def foretold(files: Files) -> list[str]:
    """Give every error that lint and verify tell of an estate."""
    git = FakeGit()
    git.commit(URL, files)
    roots, pins = choose(git, Choice(repo=URL, revision="main", path="root.yaml"))
    found = walk(roots, git, NoRenderer(), pins=pins)
    subject = Subject(estate=found, graph=build(found, installed=definitions()))
    escrowed = Escrowed(keys={KEY.fingerprint: State.SEALING}, epoch=1, created=NOW.isoformat())
    report = judge(subject, Proof(mode=Mode.ATTESTED, escrowed=escrowed, plan=PLAN), NOW)
    errors = [f"{f.rule}: {f.message}" for f in lint(subject) if f.severity is Severity.ERROR]
    return errors + [f"{row.object}: {row.why}" for row in report.holes] + list(report.problems)


def _await_ready(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.3)
    pytest.fail("the controller did not become ready")


@pytest.fixture(scope="module")
def world(
    sandbox: Sandbox, control_plane_binaries: None, openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Give the world of this module."""
    control_plane = sandbox.cluster("prediction", nodes=False)
    assert isinstance(control_plane, ControlPlane)
    cluster = connect(ClusterTarget(kubeconfig=str(control_plane.kubeconfig)))
    for manifest in definitions():
        cluster.apply(manifest, field_manager="test", force=True)
    secret = key_secret(KEY, namespace="kube-system")
    metadata = {"name": "key0", "namespace": "kube-system", "labels": {KEY_LABEL: "active"}}
    cluster.create(Manifest({**secret, "metadata": metadata}))
    folder = tmp_path_factory.mktemp("prediction")
    command = [sys.executable, "-m", "secretsops", "controller", "--kubeconfig", str(control_plane.kubeconfig)]
    port = free_port()
    command += ["--namespace", "kube-system", "--listen", f"127.0.0.1:{port}", "--key-size", "2048"]
    time.sleep(1)
    with (folder / "controller.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    _await_ready(port)
    kubelet = Kubelet(cluster)
    kubelet.start()
    yield World(cluster=cluster, bao=openbao)
    kubelet.stop()
    process.send_signal(signal.SIGTERM)
    process.wait(20)


def carried_out(world: World, names: tuple[str, ...]) -> tuple[list[str], str]:
    """Give what was foretold of an estate with these mutations, and why its rebuild failed."""
    told, failed = _carried_out(world, names, PATIENCE)
    return _carried_out(world, names, LONGER) if failed and not told else (told, failed)


def _carried_out(world: World, names: tuple[str, ...], patience: float) -> tuple[list[str], str]:
    suffix = secrets.token_hex(3)
    world.bao.write(f"p{suffix}", {"a": "b"})
    files = estate(suffix, world.bao)
    for name in names:
        {**MUTATIONS, **HARMLESS}[name](files, suffix)
    told = foretold(files)
    try:
        return told, world.rebuild(files, patience)
    finally:
        world.forget(suffix)


@pytest.mark.parametrize("mutation", HARMLESS)
def test_a_whole_estate_is_foretold_whole_and_rebuilds(world: World, mutation: str) -> None:
    """No false alarm on what works."""
    told, failed = carried_out(world, (mutation,))
    assert failed == ""
    assert told == []


@pytest.mark.parametrize("mutation", IN_CI)
def test_what_does_not_rebuild_was_foretold(world: World, mutation: str) -> None:
    """No false pass: lint or verify names it, and the rebuild fails."""
    told, failed = carried_out(world, (mutation,))
    assert failed != ""
    assert told != [], failed


@pytest.mark.nightly
@pytest.mark.timeout(5400)
def test_two_hundred_mutated_estates(world: World, record_property: Callable[[str, Any], None]) -> None:
    """Every mutation, every pair, and random sets of them: no false pass; false alarms are counted."""
    chance = random.Random(6)
    cases = [*((name,) for name in (*MUTATIONS, *HARMLESS)), *itertools.combinations(MUTATIONS, 2)]
    cases = [names for names in cases if not _contradict(names)]
    while len(cases) < 200:
        some = tuple(chance.sample(sorted({**MUTATIONS, **HARMLESS}), chance.randint(1, 3)))
        cases += [] if _contradict(some) else [some]
    passes, alarms = [], []
    for names in cases:
        told, failed = carried_out(world, names)
        if failed and not told:
            passes.append((names, failed))
        if told and not failed:
            alarms.append(names)
    record_property("falseAlarms", json.dumps(alarms))
    sys.stdout.write(f"{len(cases)} estates, {len(passes)} false passes, {len(alarms)} false alarms\n")
    assert passes == []


def _contradict(names: tuple[str, ...]) -> bool:
    """Say whether one mutation changes a file that another one removes."""
    return {"store removed", "store after its user"} <= set(names)
