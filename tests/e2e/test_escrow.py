"""A cluster lost the minute after a key renewal: everything sealed in that minute opens, with our code and without it.

Real API servers, real controllers, S3 with object lock and a guarded Git branch; every step is a command people run.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from controllers.install import definitions
from drills.sandbox.cluster import ControlPlane
from drills.sandbox.processes import free_port
from drills.sandbox.world import Sandbox
from secretsops.adapters.age import AgeDoor
from secretsops.adapters.kube import connect
from secretsops.errors import NotFound
from secretsops.manifest import GroupVersionKind, Manifest, dump, load_all
from secretsops.ports import Cluster, ClusterTarget
from secretsops.sealing.keys import KEY_LABEL
from tests.contract.sink.worlds import bucket, repository
from tests.e2e.test_controller import CONFIG_MAP, SEALED, SECRET, until

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
HOME = "kube-system"
NAMESPACE = GroupVersionKind("", "v1", "Namespace")


class Place:
    """One cluster and what runs against it."""

    def __init__(self, plane: ControlPlane, folder: Path, name: str) -> None:
        self.plane, self.folder, self.name = plane, folder, name
        self.kubeconfig = str(plane.kubeconfig)
        self.cluster: Cluster = connect(ClusterTarget(kubeconfig=self.kubeconfig))
        for manifest in definitions():
            self.cluster.apply(manifest, field_manager="test", force=True)
        until(lambda: any(resource.kind == SEALED for resource in self.cluster.resources(refresh=True)))
        self.cluster.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}))

    @contextmanager
    def controller(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run one controller; it may be killed."""
        command = [sys.executable, "-m", "secretsops", "--log-level", "info", "controller", "--namespace", HOME]
        command += ["--kubeconfig", self.kubeconfig, "--listen", f"127.0.0.1:{free_port()}"]
        command += ["--controllers", "sealed-secrets", "--key-size", "2048", "--no-leader-elect"]
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.folder / f"cache-{self.name}")}
        with (self.folder / f"{self.name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def said(self) -> str:
        """Give the end of the controller's log, for a failure."""
        return (self.folder / f"{self.name}.log").read_text()[-3000:]

    def standing(self) -> str:
        """Give how escrow stands."""
        return self._map("secretsops-escrow", "status")

    def published(self) -> str:
        """Give the fingerprint of the published certificate."""
        return self._map("sealed-secrets-certificate", "fingerprint")

    def _map(self, name: str, key: str) -> str:
        try:
            return str((self.cluster.get(CONFIG_MAP, name, HOME).body.get("data") or {}).get(key) or "")
        except NotFound:
            return ""

    def labels(self) -> list[str]:
        """Give the labels of the key Secrets."""
        return sorted(
            each.labels[KEY_LABEL] for each in self.cluster.list(SECRET, namespace=HOME, label_selector=KEY_LABEL)
        )

    def seal(self, name: str, value: str) -> Manifest:
        """Seal with the published certificate, as a person does."""
        file = self.folder / "cert.pem"
        file.write_text(str(self.cluster.get(CONFIG_MAP, "sealed-secrets-certificate", HOME).body["data"]["tls.crt"]))
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": "shop"},
            "stringData": {"password": value},
        }
        command = [sys.executable, "-m", "secretsops", "seal", "--cert", str(file)]
        done = subprocess.run(command, input=dump(body).encode(), capture_output=True, check=True)
        return load_all(done.stdout)[0]

    def value(self, name: str) -> str:
        """Give a value of a Secret, "" when it is not there."""
        try:
            data = self.cluster.get(SECRET, name, "shop").body.get("data") or {}
        except NotFound:
            return ""
        return base64.b64decode(data.get("password", "")).decode()


def ours(*words: str, code: int = 0) -> str:
    """Run one of our commands."""
    done = subprocess.run([sys.executable, "-m", "secretsops", *words], capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


class Custody:
    """Keys, custodians and configuration, made by our commands in a folder that no cluster sees."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path) -> None:
        self.folder = folder
        self.identity = folder / "identity.txt"
        identity, self.recipient = AgeDoor().generate()
        self.identity.write_bytes(identity.reveal() + b"\n")
        self.identity.chmod(0o600)
        self.config = folder / "escrow"
        self.config.mkdir()
        public = {
            name: ours("escrow", "trust", "key", str(folder / f"{name}.key")).strip() for name in ("root", "claims")
        }
        public["prod"] = ours("escrow", "trust", "key", str(self.config / "signer.key")).strip()
        trust, root = str(self.config / "trust.json"), ("--key", str(folder / "root.key"))
        shown = ours("escrow", "trust", "init", "--root", f"root={public['root']}", *root, trust)
        self.pin = next(line for line in shown.splitlines() if line.startswith("sha256:"))
        ours("escrow", "trust", "add", f"prod={public['prod']}", "--role", "bundles", *root, trust)
        ours("escrow", "trust", "add", f"oncall={public['claims']}", "--role", "claims", *root, trust)
        self.s3 = bucket(request.getfixturevalue("moto").url, lock=True)
        self.git = f"git+{repository(request, guarded=True).url}#escrow/prod"
        body = {
            "apiVersion": "secretsops.dev/v1",
            "kind": "EscrowConfig",
            "cluster": "prod",
            "trust": self.pin,
            "quorum": 2,
            "home": ["cloud/aws:1111"],
            "recipients": [self.recipient],
            "sinks": [
                {
                    "name": "archive",
                    "url": self.s3,
                    "domain": "cloud/aws:2222",
                    "retentionDays": 30,
                    "writer": "aws-w",
                    "reader": "aws-r",
                },
                {"name": "office", "url": self.git, "domain": "office/git", "writer": "git-w", "reader": "git-r"},
            ],
        }
        pairs = {name: {"accessKeyId": "AKIA" + name, "secretAccessKey": "x" * 20} for name in ("aws-w", "aws-r")}
        logins = {name: {"username": name, "password": secrets.token_hex(8)} for name in ("git-w", "git-r")}
        (self.config / "escrow.yaml").write_text(yaml.safe_dump(body))
        (self.config / "credentials.yaml").write_text(yaml.safe_dump({**pairs, **logins}))
        (self.config / "credentials.yaml").chmod(0o600)

    def secret(self) -> Manifest:
        """Give what `kubectl create secret generic secretsops-escrow --from-file` makes of the folder."""
        data = {file.name: base64.b64encode(file.read_bytes()).decode() for file in self.config.iterdir()}
        metadata = {"name": "secretsops-escrow", "namespace": HOME}
        return Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})

    def prove(self) -> None:
        """Challenge the custodian, who answers offline."""
        out = self.folder / "challenges"
        ours("escrow", "challenge", "--config", str(self.config), "--out", str(out))
        (asked,) = out.iterdir()
        answer = self.folder / "answer.json"
        answer.write_text(ours("escrow", "answer", str(asked), "--identity", str(self.identity)))
        assert "is proven" in ours("escrow", "answer", str(answer), "--record", "--config", str(self.config))

    def outside(self) -> tuple[str, ...]:
        """Give the options of somebody who has the sinks and the custody card alone."""
        return ("--config", str(self.config), "--trust", self.pin)


@pytest.fixture(scope="session")
def stock_age(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a stock `age`: from PATH, or built from its own source."""
    for name in ("age", "rage"):
        if found := shutil.which(name):
            folder = tmp_path_factory.mktemp("age")
            (folder / "age").symlink_to(found)
            return folder
    if shutil.which("go") is None:
        pytest.skip("neither age nor Go is installed")
    folder = tmp_path_factory.mktemp("age")
    environment = {**os.environ, "GOBIN": str(folder), "GOFLAGS": "-mod=mod"}
    command = ["go", "install", "filippo.io/age/cmd/age@v1.2.1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        pytest.skip("age cannot be built here: no Go module proxy answers")
    return folder


def test_lost_the_minute_after_a_renewal(
    sandbox: Sandbox, control_plane_binaries: None, request: pytest.FixtureRequest, tmp_path: Path, stock_age: Path
) -> None:
    """Everything sealed in that minute opens on the rebuilt cluster, and by stock tools alone."""
    custody = Custody(request, tmp_path)
    plane = sandbox.cluster("escrow-lost", nodes=False)
    assert isinstance(plane, ControlPlane)
    lost = Place(plane, tmp_path, "lost")
    lost.cluster.create(custody.secret())
    with lost.controller() as process:
        # 1. The first key waits for its custodian, 2. is used once everything holds, 3. is renewed.
        until(lambda: lost.standing() == "Unproven", seconds=90)
        assert (lost.labels(), lost.published()) == (["pending"], "")
        custody.prove()
        first = until(lost.published, seconds=120)
        process.send_signal(signal.SIGUSR1)
        until(lambda: lost.published() not in ("", first), seconds=90)
        # 4. Sealed in the very minute, 5. and the cluster is gone.
        sealed = [lost.seal(f"secret-{number}", f"value-{number}-{secrets.token_hex(4)}") for number in range(3)]
        expected = {}
        for each in sealed:
            lost.cluster.create(each)
            expected[each.name] = until(partial(lost.value, each.name), seconds=60)
        process.kill()
    plane.destroy()

    # 6. The new cluster's controller starts before anything is restored, and mints no key of its own.
    new_plane = sandbox.cluster("escrow-new", nodes=False)
    assert isinstance(new_plane, ControlPlane)
    new = Place(new_plane, tmp_path, "new")
    new.cluster.create(custody.secret())
    for each in sealed:
        new.cluster.create(each)
    with new.controller():
        until(lambda: new.standing() == "AwaitingRestore", seconds=90)
        assert new.labels() == []
        # 7. Claim and restore, from the sinks and the custody card; 8. no restart.
        target = ("--kubeconfig", new.kubeconfig)
        claim = ("--claim", "--signer", str(tmp_path / "claims.key"))
        ours("escrow", "restore", *custody.outside(), "--identity", str(custody.identity), *claim, *target)
        for name, value in expected.items():
            assert until(partial(new.value, name), seconds=60) == value
        until(lambda: new.standing() == "Escrowed", seconds=120)
        assert new.labels() == ["active", "active"]
    ours("escrow", "verify", *custody.outside(), "--identity", str(custody.identity), *target)
    assert "proven" in ours("escrow", "status", *custody.outside())
    _without_our_code(custody, sealed, expected, tmp_path, stock_age)
    new_plane.destroy()


def _without_our_code(
    custody: Custody, sealed: list[Manifest], expected: dict[str, str], folder: Path, stock_age: Path
) -> None:
    """Run the procedure of the manual, word for word, on files fetched by git alone."""
    manual = (ROOT / "secretsops/escrow/README.md").read_text()
    procedure = re.search(r"## Without any of our code.*?```bash\n(.*?)```", manual, re.DOTALL)
    assert procedure is not None
    clone = folder / "clone"
    url, _, branch = custody.git.removeprefix("git+").partition("#")
    subprocess.run(["git", "clone", "--quiet", "--branch", branch, url, str(clone)], check=True, capture_output=True)
    work = folder / "stock"
    work.mkdir()
    newest = max(clone.glob("epoch-*.age"))
    shutil.copy(newest, work / newest.name)
    shutil.copy(custody.identity, work / "key.txt")
    for each in sealed:
        item: Any = each.spec["encryptedData"]["password"]
        environment = {"PATH": f"{stock_age}:/usr/bin:/bin", "ITEM": item, "LABEL": f"shop/{each.name}"}
        done = subprocess.run(["bash", "-c", procedure[1]], cwd=work, env=environment, capture_output=True, check=True)
        assert done.stdout.decode() == expected[each.name], done.stderr.decode()
    keys = load_all((work / "keys.yaml").read_bytes())
    assert {each.body["type"] for each in keys} == {"kubernetes.io/tls"}
    assert {each.labels[KEY_LABEL] for each in keys} == {"active"}
