"""The controller as it runs: a process with its own credential on a real API server."""

from __future__ import annotations

import base64
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from controllers.install import definitions
from drills.sandbox.cluster import ControlPlane
from drills.sandbox.processes import free_port
from secretsops.adapters.kube import connect
from secretsops.errors import NotFound
from secretsops.manifest import GroupVersionKind, Manifest, dump, load_all
from secretsops.ports import Cluster, ClusterTarget, PatchType

pytestmark = pytest.mark.e2e

SECRET = GroupVersionKind("", "v1", "Secret")
SEALED = GroupVersionKind("bitnami.com", "v1alpha1", "SealedSecret")
LEASE = GroupVersionKind("coordination.k8s.io", "v1", "Lease")
NAMESPACE = GroupVersionKind("", "v1", "Namespace")
CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")


def until(holds: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for a true answer and give it."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
    return found


class World:
    """A namespace for a controller, another for its work, and processes of the controller."""

    def __init__(self, control_plane: ControlPlane, folder: Path) -> None:
        self.kubeconfig, self.folder = str(control_plane.kubeconfig), folder
        self.cluster: Cluster = connect(ClusterTarget(kubeconfig=self.kubeconfig))
        for manifest in definitions():
            self.cluster.apply(manifest, field_manager="test", force=True)
        until(lambda: any(resource.kind == SEALED for resource in self.cluster.resources(refresh=True)))
        suffix = secrets.token_hex(3)
        self.home, self.shop = f"home-{suffix}", f"shop-{suffix}"
        for name in (self.home, self.shop):
            self.cluster.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))

    @contextmanager
    def controller(self, name: str = "one", *flags: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run one controller."""
        command = [sys.executable, "-m", "secretsops", "--log-level", "info", "controller"]
        command += ["--kubeconfig", self.kubeconfig, "--namespace", self.home, "--listen", f"127.0.0.1:{free_port()}"]
        command += ["--controllers", "sealed-secrets", "--key-size", "2048", *flags]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0, (self.folder / f"{name}.log").read_text()[-3000:]

    def certificate(self) -> bytes:
        """Give the published certificate once it is there."""

        def read() -> bytes:
            try:
                return str(
                    self.cluster.get(CONFIG_MAP, "sealed-secrets-certificate", self.home).body["data"]["tls.crt"]
                ).encode()
            except NotFound:
                return b""

        return bytes(until(read, seconds=90))

    def sealed(self, name: str, **values: str) -> Manifest:
        """Seal a Secret as a person does."""
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": self.shop},
            "stringData": values,
        }
        file = self.folder / "cert.pem"
        file.write_bytes(self.certificate())
        command = [sys.executable, "-m", "secretsops", "seal", "--cert", str(file)]
        done = subprocess.run(command, input=dump(body).encode(), capture_output=True, check=True)
        return load_all(done.stdout)[0]

    def value(self, name: str, key: str = "password") -> str:
        """Give a value of a Secret, "" when it is not there."""
        try:
            data = self.cluster.get(SECRET, name, self.shop).body.get("data") or {}
        except NotFound:
            return ""
        return base64.b64decode(data.get(key, "")).decode()


@pytest.fixture
def world(control_plane: ControlPlane, tmp_path: Path) -> Iterator[World]:
    """Give a world, and take its namespaces away."""
    found = World(control_plane, tmp_path)
    yield found
    for name in (found.home, found.shop):
        found.cluster.delete(NAMESPACE, name)


def test_a_sealed_secret_lives(world: World) -> None:
    """Created, opened, healed when edited, remade when deleted, changed, and gone with its SealedSecret."""
    cluster = world.cluster
    with world.controller():
        sealed = cluster.create(world.sealed("db", password="first-value"))
        until(lambda: world.value("db") == "first-value")
        status = until(lambda: cluster.get(SEALED, "db", world.shop).status)
        assert [(c["type"], c["status"]) for c in status["conditions"]] == [("Synced", "True")]
        owner = cluster.get(SECRET, "db", world.shop).metadata["ownerReferences"][0]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("SealedSecret", sealed.uid, True)
        cluster.patch(SECRET, "db", {"data": {"password": "eA=="}}, namespace=world.shop)
        until(lambda: world.value("db") == "first-value")
        cluster.delete(SECRET, "db", namespace=world.shop)
        until(lambda: world.value("db") == "first-value")
        changed = world.sealed("db", password="second-value")
        cluster.patch(SEALED, "db", {"spec": changed.spec}, namespace=world.shop, patch_type=PatchType.MERGE)
        until(lambda: world.value("db") == "second-value")
        cluster.delete(SEALED, "db", namespace=world.shop)
        until(lambda: not world.value("db"), seconds=60)


def test_what_does_not_open_says_so_and_opens_once_its_key_is_there(world: World) -> None:
    """A restored key wakes the SealedSecrets that waited for it; nobody restarts anything."""
    cluster = world.cluster
    with world.controller():
        sealed = world.sealed("db", password="from-before")
    key = next(
        iter(cluster.list(SECRET, namespace=world.home, label_selector="sealedsecrets.bitnami.com/sealed-secrets-key"))
    )
    cluster.delete(SECRET, key.name, namespace=world.home)
    with world.controller("two"):
        cluster.create(sealed)
        failed = until(lambda: cluster.get(SEALED, "db", world.shop).status.get("conditions"))
        assert failed[0]["status"] == "False"
        assert "no key could decrypt" in failed[0]["message"]
        kept = {name: key.metadata[name] for name in ("name", "namespace", "labels")}
        cluster.create(Manifest({**key.body, "metadata": kept}))
        until(lambda: world.value("db") == "from-before")


def test_of_two_replicas_one_acts_and_the_other_follows(world: World) -> None:
    """The first one releases its lease on SIGTERM; the second goes on within seconds, with the same key."""
    cluster = world.cluster

    def holder() -> str:
        try:
            return str(cluster.get(LEASE, "secretsops-controller", world.home).spec.get("holderIdentity") or "")
        except NotFound:
            return ""

    with world.controller("one") as first:
        before = until(holder)
        certificate = world.certificate()
        with world.controller("two"):
            time.sleep(1.0)
            assert holder() == before
            began = time.monotonic()
            first.send_signal(signal.SIGTERM)
            assert first.wait(5) == 0
            assert time.monotonic() - began <= 5.0
            until(lambda: holder() not in ("", before), seconds=10)
            cluster.create(world.sealed("db", password="second-leader"))
            until(lambda: world.value("db") == "second-leader")
            assert world.certificate() == certificate


def test_a_frozen_leader_is_replaced_and_writes_nothing_when_it_wakes(world: World) -> None:
    """Stopped for longer than its lease: another takes over within 20 s, and the first one, awake, leaves all to it."""
    cluster = world.cluster

    def spec(field: str) -> str:
        return str(cluster.get(LEASE, "secretsops-controller", world.home).spec.get(field) or "")

    with world.controller("one") as first:
        certificate = world.certificate()
        before = until(lambda: spec("holderIdentity"))
        with world.controller("two"):
            time.sleep(2.0)
            first.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            until(lambda: spec("holderIdentity") not in ("", before), seconds=25)
            taken = time.monotonic() - began
            assert taken < 20
            cluster.create(world.sealed("db", password="by-the-second"))
            until(lambda: world.value("db") == "by-the-second")
            version = cluster.get(SECRET, "db", world.shop).resource_version
            holder = spec("holderIdentity")
            first.send_signal(signal.SIGCONT)
            time.sleep(3.0)
            assert spec("holderIdentity") == holder
            assert cluster.get(SECRET, "db", world.shop).resource_version == version
            assert world.certificate() == certificate


def test_a_living_peer_is_left_to_its_work(world: World) -> None:
    """Its Deployment is there: nothing is written nor minted. It is scaled to nothing: we go on with its keys."""
    cluster = world.cluster
    labels = {"app.kubernetes.io/name": "sealed-secrets"}
    image = "docker.io/bitnami/sealed-secrets-controller:0.38.4"
    spec = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": image}]}},
    }
    metadata = {"name": "sealed-secrets", "namespace": world.home, "labels": labels}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    deployment = cluster.create(Manifest(body))
    keys = "sealedsecrets.bitnami.com/sealed-secrets-key=active"
    try:
        with world.controller():
            until(lambda: "the peer's controller is at work" in (world.folder / "one.log").read_text())
            time.sleep(5.0)
            assert not cluster.list(SECRET, namespace=world.home, label_selector=keys)
            patch = {"spec": {"replicas": 0}}
            cluster.patch(deployment.kind, "sealed-secrets", patch, namespace=world.home, patch_type=PatchType.MERGE)
            until(lambda: cluster.list(SECRET, namespace=world.home, label_selector=keys), seconds=40)
            cluster.create(world.sealed("db", password="taken-over"))
            until(lambda: world.value("db") == "taken-over")
    finally:
        cluster.delete(deployment.kind, "sealed-secrets", namespace=world.home)


@pytest.mark.timeout(3000)
@pytest.mark.nightly
def test_ten_thousand_in_one_namespace(world: World) -> None:
    """Every one becomes a Secret; nothing is dropped, and the process stays within its memory."""
    cluster = world.cluster
    with world.controller() as process:
        sealed = world.sealed("app-0", password="value")
        scope = {"sealedsecrets.bitnami.com/namespace-wide": "true"}
        file = world.folder / "cert.pem"
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "app", "namespace": world.shop}}
        command = [sys.executable, "-m", "secretsops", "seal", "--cert", str(file), "--scope", "namespace-wide"]
        text = dump({**secret, "stringData": {"password": "value"}}).encode()
        done = subprocess.run(command, input=text, capture_output=True, check=True)
        spec = load_all(done.stdout)[0].spec
        assert sealed.kind == SEALED

        def one(number: int) -> None:
            metadata = {"name": f"app-{number}", "namespace": world.shop, "annotations": scope}
            cluster.create(Manifest({**sealed.body, "metadata": metadata, "spec": spec}))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(one, range(10_000)))
        until(lambda: len(cluster.list(SECRET, namespace=world.shop)) == 10_000, seconds=2000)
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) < 400 * 1024


def test_a_secret_of_one_mebibyte_comes_through(world: World) -> None:
    """The API server's limit for Secrets, exactly; sealed it is 1.4 MB, which etcd still takes."""
    size = 1024 * 1024
    with world.controller():
        world.cluster.create(world.sealed("big", password="x" * size))
        until(lambda: len(world.value("big")) == size, seconds=60)
        synced = until(lambda: world.cluster.get(SEALED, "big", world.shop).status.get("conditions"))
        assert synced[0]["status"] == "True"


def test_a_killed_controller_leaves_nothing_half_done(world: World) -> None:
    """After kill -9 another one finds the key, opens what it sealed, and mints none."""
    with world.controller("one", "--no-leader-elect") as process:
        sealed = world.sealed("db", password="survives")
        os.kill(process.pid, signal.SIGKILL)
        process.wait(5)
        process.returncode = 0
    with world.controller("two", "--no-leader-elect"):
        world.cluster.create(sealed)
        until(lambda: world.value("db") == "survives")
    keys = world.cluster.list(
        SECRET, namespace=world.home, label_selector="sealedsecrets.bitnami.com/sealed-secrets-key"
    )
    assert len(keys) == 1


def test_the_process_cannot_be_dumped(world: World) -> None:
    """Core dumps are off and other processes of the user cannot read its memory (Linux)."""
    if sys.platform != "linux":
        pytest.skip("only Linux has /proc")
    with world.controller() as process:
        world.certificate()
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"]


def test_a_foreign_secret_is_left_alone(world: World) -> None:
    """A Secret that somebody else made is not overwritten; status and event say why."""
    cluster = world.cluster
    mine = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": world.shop}}
    cluster.create(Manifest({**mine, "stringData": {"password": "by-hand"}}))
    with world.controller():
        cluster.create(world.sealed("db", password="sealed"))
        failed = until(lambda: cluster.get(SEALED, "db", world.shop).status.get("conditions"))
        assert failed[0]["status"] == "False"
        assert world.value("db") == "by-hand"
        events = cluster.list(GroupVersionKind("", "v1", "Event"), namespace=world.shop)
        assert {event.body["source"]["component"] for event in events} == {"sealed-secrets"}
