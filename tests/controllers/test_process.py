"""The process as it runs: real command, real API server, real signals."""

from __future__ import annotations

import base64
import datetime as dt
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from controllers.install import definitions
from controllers.leader import LEASE, LEASE_NAME
from controllers.sealing_keys import SELECTOR
from drills.sandbox.cluster import ControlPlane
from secretsops.adapters.kube import connect
from secretsops.errors import NotFound
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Cluster, ClusterTarget
from secretsops.sealing.certificate import read_certificate
from secretsops.sealing.keys import generate, key_secret
from secretsops.sealing.sealed import SEALED_SECRET, SECRET, Wishes, seal_secret
from tests.controllers.wiretap import until

CRD = GroupVersionKind("apiextensions.k8s.io", "v1", "CustomResourceDefinition")
CANARY = "canary-process-1d5e"


class Controller:
    """A running `secretsops controller` whose output is kept in a file."""

    def __init__(self, plane: ControlPlane, namespace: str, folder: Path, *arguments: str) -> None:
        self.output = folder / f"output-{len(list(folder.iterdir()))}"
        command = [sys.executable, "-m", "secretsops", "--log-level", "debug", "controller"]
        command += ["--kubeconfig", str(plane.kubeconfig), "--namespace", namespace, "--listen", "127.0.0.1:0"]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen([*command, *arguments], stdout=output, stderr=subprocess.STDOUT)

    @property
    def port(self) -> int:
        """Give the port it listens on, 0 before it does."""
        inodes = set(re.findall(r"socket:\[(\d+)\]", " ".join(self._descriptors())))
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            field = line.split()
            if field[3] == "0A" and field[9] in inodes:
                return int(field[1].partition(":")[2], 16)
        return 0

    def _descriptors(self) -> Iterator[str]:
        for each in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                yield str(each.readlink())
            except OSError:
                continue

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        port = self.port
        if not port:
            return 0, b""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request(method, path, body or None)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 0, b""
        finally:
            connection.close()

    def stop(self) -> float:
        """Send SIGTERM; gives the seconds until it ended."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0, self.output.read_text()[-3000:]
        return time.monotonic() - began


@pytest.fixture
def cluster(control_plane: ControlPlane) -> Cluster:
    """Give the cluster with our kinds installed."""
    found = connect(ClusterTarget(kubeconfig=str(control_plane.kubeconfig)))
    for each in definitions():
        found.apply(each, field_manager="test", force=True)

    def established(name: str) -> bool:
        conditions = found.get(CRD, name).status.get("conditions") or []
        return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)

    until(lambda: all(established(each.name) for each in definitions()), "the kinds")
    return found


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """Give a namespace of this test's own."""
    name = f"process-{os.urandom(4).hex()}"
    cluster.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
    yield name
    cluster.delete(GroupVersionKind("", "v1", "Namespace"), name)


@pytest.fixture
def running() -> Iterator[list[Controller]]:
    """End what a test leaves running."""
    found: list[Controller] = []
    yield found
    for each in found:
        each.process.kill()
        each.process.wait()


def sealed(namespace: str, name: str, certificate: bytes) -> Manifest:
    metadata = {"name": name, "namespace": namespace}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"password": CANARY}}
    public = read_certificate(certificate).public
    return Manifest(seal_secret(secret, public, Wishes(), default_namespace=lambda: ""))


def opened(cluster: Cluster, namespace: str, name: str) -> Mapping[str, Any]:
    try:
        return cluster.get(SECRET, name, namespace).body.get("data") or {}
    except NotFound:
        return {}


WANTED = {"password": base64.b64encode(CANARY.encode()).decode()}


@pytest.mark.e2e
def test_it_mints_serves_opens_heals_and_ends_in_order(
    cluster: Cluster, control_plane: ControlPlane, namespace: str, running: list[Controller], tmp_path: Path
) -> None:
    """One life of a controller, from an empty namespace to SIGTERM."""
    # 1. It comes up, mints the first key and says when it is ready.
    began = time.monotonic()
    controller = Controller(control_plane, namespace, tmp_path)
    running.append(controller)
    until(lambda: controller.ask("GET", "/healthz")[0] == 200, "health")
    until(lambda: controller.ask("GET", "/readyz") == (200, b"ok\n"), "readiness", 30)
    assert time.monotonic() - began > 3, "an empty list of keys is believed after a while only"
    keys = cluster.list(SECRET, namespace=namespace, label_selector=SELECTOR)
    assert len(keys) == 1
    # 2. The certificate is served and published.
    code, certificate = controller.ask("GET", "/v1/cert.pem")
    assert code == 200
    config = GroupVersionKind("", "v1", "ConfigMap")
    published = cluster.get(config, "sealed-secrets-certificate", namespace).body["data"]["tls.crt"]
    assert published == certificate.decode()
    # 3. A SealedSecret becomes a Secret, quickly; what was deleted or edited by hand comes back.
    manifest = sealed(namespace, "db", certificate)
    assert controller.ask("POST", "/v1/verify", json.dumps(manifest.body).encode())[0] == 200
    cluster.apply(manifest, field_manager="test")
    until(lambda: opened(cluster, namespace, "db") == WANTED, "the Secret", 5)
    cluster.delete(SECRET, "db", namespace=namespace)
    until(lambda: opened(cluster, namespace, "db") == WANTED, "the Secret again", 5)
    # 4. What it did is in the status, in an event and in the metrics; a quiet cluster is left alone.
    status = cluster.get(SEALED_SECRET, "db", namespace).status
    assert [each["status"] for each in status["conditions"]] == ["True"]
    events = cluster.list(GroupVersionKind("", "v1", "Event"), namespace=namespace)
    assert {each.body["source"].get("component") for each in events} >= {"sealed-secrets"}
    text = controller.ask("GET", "/metrics")[1].decode()
    assert "secretsops_leader 1" in text
    assert 'secretsops_reconcile_total{outcome="created",part="sealed-secrets"} 2' in text
    version = cluster.get(SECRET, "db", namespace).resource_version
    time.sleep(1)
    assert cluster.get(SECRET, "db", namespace).resource_version == version
    # 5. SIGTERM: it ends within 5 s and gives the lease up.
    assert cluster.get(LEASE, LEASE_NAME, namespace).spec["holderIdentity"]
    assert controller.stop() <= 5
    assert cluster.get(LEASE, LEASE_NAME, namespace).spec["holderIdentity"] == ""
    # 6. It said nothing secret.
    said = controller.output.read_text()
    private = base64.b64decode(keys[0].body["data"]["tls.key"]).decode().splitlines()[1]
    assert "minted a sealing key" in said
    assert not [value for value in (CANARY, WANTED["password"], private) if value in said]


@pytest.mark.e2e
def test_a_restored_key_opens_at_once_what_did_not_open(
    cluster: Cluster, control_plane: ControlPlane, namespace: str, running: list[Controller], tmp_path: Path
) -> None:
    """Also hours later, when back-off has grown long; and no key is minted beside restored ones."""
    old = generate(now=dt.datetime.now(dt.UTC) - dt.timedelta(days=1), bits=2048)
    new = generate(now=dt.datetime.now(dt.UTC), bits=2048)
    cluster.create(Manifest(key_secret(new, namespace=namespace)))
    cluster.apply(sealed(namespace, "db", old.certificate.pem), field_manager="test")
    controller = Controller(control_plane, namespace, tmp_path, "--controllers", "sealed-secrets")
    running.append(controller)

    def synced() -> str:
        conditions = cluster.get(SEALED_SECRET, "db", namespace).status.get("conditions") or []
        return str(conditions[0]["status"]) if conditions else ""

    until(lambda: synced() == "False", "the refusal")
    time.sleep(3)  # back-off is past a second now
    cluster.create(Manifest(key_secret(old, namespace=namespace)))
    began = time.monotonic()
    until(lambda: opened(cluster, namespace, "db") == WANTED, "the Secret", 5)
    assert time.monotonic() - began < 1.5
    until(lambda: synced() == "True", "the status")
    assert len(cluster.list(SECRET, namespace=namespace, label_selector=SELECTOR)) == 2
    # A key that is lost again is said in the status of what it alone opened.
    [lost] = [
        each
        for each in cluster.list(SECRET, namespace=namespace, label_selector=SELECTOR)
        if base64.b64decode(each.body["data"]["tls.crt"]) == old.certificate.pem
    ]
    cluster.delete(SECRET, lost.name, namespace=namespace)
    until(lambda: synced() == "False", "the refusal again")
    assert opened(cluster, namespace, "db") == WANTED, "the last good Secret stays"
    assert controller.stop() <= 5


@pytest.mark.e2e
def test_it_comes_up_while_the_api_server_is_away(
    control_plane: ControlPlane, namespace: str, running: list[Controller], tmp_path: Path
) -> None:
    """It lives and says that it is not ready; nothing is minted, nothing crashes."""
    kubeconfig = tmp_path / "nowhere"
    text = control_plane.kubeconfig.read_text()
    kubeconfig.write_text(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", text))
    folder = tmp_path / "outputs"
    folder.mkdir()
    controller = Controller(control_plane, namespace, folder, "--kubeconfig", str(kubeconfig))
    running.append(controller)
    until(lambda: controller.ask("GET", "/healthz")[0] == 200, "health")
    code, why = controller.ask("GET", "/readyz")
    assert (code, b"is not listed yet" in why) == (503, True)
    assert controller.ask("GET", "/v1/cert.pem")[0] == 503
    assert controller.stop() <= 5


def test_memory_is_kept_out_of_core_dumps() -> None:
    """No core file, and on Linux no ptrace by other processes of the same user."""
    program = (
        "import ctypes, resource, sys\n"
        "from controllers.process import harden\n"
        "harden()\n"
        "dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) if sys.platform == 'linux' else 0\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), dumpable)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "(0, 0) 0\n"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--controllers", "no-such"], "choose from sealed-secrets, external-secrets"),
        (["--controllers", ""], "choose from"),
        (["--key-renew-period", "often"], "as in 720h"),
        (["--key-size", "1024"], "2048 at least"),
        (["--key-cutoff-time", "2024-01-01"], "Mon, 02 Jan 2006"),
        (["--privatekey-labels", "team"], "name=value"),
        (["--key-prefix", "Upper"], "a-z, 0-9"),
        (["--listen", "nowhere"], "HOST:PORT"),
    ],
)
def test_bad_flags_are_refused_before_anything_starts(arguments: list[str], hint: str, tmp_path: Path) -> None:
    """Exit code 2, one line what, one line hint."""
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "c"}}
    body = {"clusters": [cluster], "contexts": [context], "users": [{"name": "c", "user": {}}], "current-context": "c"}
    kubeconfig.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **body}))
    command = [sys.executable, "-m", "secretsops", "controller", "--kubeconfig", str(kubeconfig), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert hint in done.stderr
    assert "Traceback" not in done.stderr
