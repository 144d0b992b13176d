"""A cluster is lost while Vault and AWS are down: its Secrets come back from sealed copies, and heal when they return.

Two real API servers, our controller as a process on each, real OpenBao and moto behind wires that can be cut; the
rebuild is `secretsops recover run` from Git.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from controllers.install import definitions
from drills.sandbox.aws import Aws
from drills.sandbox.cluster import ControlPlane
from drills.sandbox.git_server import GitServer
from drills.sandbox.openbao import OpenBao
from drills.sandbox.processes import free_port
from drills.sandbox.world import Sandbox
from secretsops.adapters.age import AgeDoor
from secretsops.adapters.kube import connect
from secretsops.external.lastgood import KEEP
from secretsops.external.model import EXTERNAL_SECRET, RESTORED_FROM, SECRET, SECRET_STORE
from secretsops.manifest import Manifest, dump_all
from secretsops.ports import Cluster, ClusterTarget
from tests.e2e.estates import application, commit
from tests.e2e.test_controller import until
from tests.e2e.test_escrow import HOME, Custody
from tests.e2e.test_external_secrets import Wire

pytestmark = pytest.mark.e2e
SHOP = "shop"


class Place:
    """One cluster with our controller."""

    def __init__(self, plane: ControlPlane, folder: Path, name: str, aws: str) -> None:
        self.plane, self.folder, self.name, self.aws = plane, folder, name, aws
        self.kubeconfig = str(plane.kubeconfig)
        self.cluster: Cluster = connect(ClusterTarget(kubeconfig=self.kubeconfig))
        self.port = free_port()
        for manifest in definitions():
            self.cluster.apply(manifest, field_manager="test", force=True)
        wanted = {EXTERNAL_SECRET, SECRET_STORE}
        until(lambda: wanted <= {resource.kind for resource in self.cluster.resources(refresh=True)})

    @contextmanager
    def controller(self) -> Iterator[None]:
        command = [sys.executable, "-m", "secretsops", "--log-level", "info", "controller", "--namespace", HOME]
        command += ["--kubeconfig", self.kubeconfig, "--listen", f"127.0.0.1:{self.port}", "--no-leader-elect"]
        command += ["--controllers", "external-secrets"]
        environment = {**os.environ, "AWS_SECRETSMANAGER_ENDPOINT": self.aws}
        with (self.folder / f"{self.name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def externals(self) -> list[Manifest]:
        return list(self.cluster.list(EXTERNAL_SECRET, namespace=SHOP))

    def standing(self, kind: str) -> list[str]:
        """Give the status of one condition of every ExternalSecret."""
        return [
            str(c["status"])
            for each in self.externals()
            for c in each.status.get("conditions") or []
            if c["type"] == kind
        ]

    def data(self) -> dict[str, dict[str, str]]:
        """Give the data of the Secrets that ExternalSecrets make, by name."""
        return {
            each.name: {k: base64.b64decode(v).decode() for k, v in (each.body.get("data") or {}).items()}
            for each in self.cluster.list(SECRET, namespace=SHOP)
            if each.name.startswith(("vault-", "aws-"))
        }

    def marked(self) -> int:
        """Count the Secrets that came from copies."""
        return sum(RESTORED_FROM in each.annotations for each in self.cluster.list(SECRET, namespace=SHOP))

    def said(self) -> str:
        return (self.folder / f"{self.name}.log").read_text()[-3000:]


def estate(vault: str, token: str, aws: Aws, count: int) -> list[dict[str, Any]]:
    """Give the namespace's objects: two stores that keep, their credentials, and ExternalSecrets half and half."""
    stores = {
        "vault": {"vault": {"server": vault, "path": "secret", "auth": {"tokenSecretRef": _ref("token")}}},
        "aws": {
            "aws": {
                "service": "SecretsManager",
                "region": aws.region,
                "auth": {"secretRef": {"accessKeyIDSecretRef": _ref("id"), "secretAccessKeySecretRef": _ref("key")}},
            }
        },
    }
    credentials = {"token": token, "id": aws.access_key, "key": aws.secret_key}
    encoded = {name: base64.b64encode(text.encode()).decode() for name, text in credentials.items()}
    found = [_object("v1", "Secret", "credentials", data=encoded)]
    for name, provider in stores.items():
        body = _object("external-secrets.io/v1", "SecretStore", name, spec={"provider": provider})
        body["metadata"]["annotations"] = {KEEP: "true"}
        found.append(body)
    for number in range(count):
        store = "vault" if number % 2 else "aws"
        spec = {
            "secretStoreRef": {"name": store},
            "refreshInterval": "2s" if number < 2 else "1h",
            "target": {"template": {"mergePolicy": "Merge", "data": {"dsn": "db://{{ .user }}:{{ .password }}@host"}}},
            "dataFrom": [{"extract": {"key": f"lkg/{number // 2}"}}],
        }
        found.append(_object("external-secrets.io/v1", "ExternalSecret", f"{store}-{number}", spec=spec))
    return found


def _ref(key: str) -> dict[str, str]:
    return {"name": "credentials", "key": key}


def _object(version: str, kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": SHOP}, **more}


class Folders:
    """An unsigned escrow in two folders, with an identity of its own for copies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "escrow"
        self.folder.mkdir()
        sinks = [{"name": n, "url": str(folder / f"sink-{n}"), "domain": f"office/{n}"} for n in ("a", "b")]
        self.body = {"cluster": "prod", "policy": "off", "sinks": sinks}
        (self.folder / "names.key").write_text(secrets.token_hex(32))
        (self.folder / "names.key").chmod(0o600)
        self.options = ["--escrow-config", str(self.folder)]


class Signed:
    """A signed escrow in S3 with object lock and a guarded Git branch."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path) -> None:
        custody = Custody(request, folder)
        self.folder = custody.config
        self.body = yaml.safe_load((self.folder / "escrow.yaml").read_text())
        self.options = ["--escrow-config", str(self.folder), "--trust", custody.pin]


def configured(where: Folders | Signed, recipient: str) -> Manifest:
    """Add copies to a configuration; gives it as the Secret beside the controller."""
    body = {"apiVersion": "secretsops.dev/v1", "kind": "EscrowConfig"} | where.body
    (where.folder / "escrow.yaml").write_text(yaml.safe_dump(body | {"lastKnownGood": {"recipients": [recipient]}}))
    data = {file.name: base64.b64encode(file.read_bytes()).decode() for file in where.folder.iterdir()}
    metadata = {"name": "secretsops-escrow", "namespace": HOME}
    return Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})


@pytest.mark.parametrize(
    ("count", "signed"),
    [pytest.param(20, False, id="20"), pytest.param(200, True, id="200", marks=pytest.mark.nightly)],
)
@pytest.mark.usefixtures("control_plane_binaries")
def test_secrets_outlive_cluster_and_stores(
    sandbox: Sandbox, request: pytest.FixtureRequest, tmp_path: Path, count: int, signed: bool
) -> None:
    """Synced and sealed, then all is gone: the rebuild ends well on copies; the stores take over once they answer."""
    openbao: OpenBao = request.getfixturevalue("openbao")
    moto: Aws = request.getfixturevalue("moto")
    git_server: GitServer = request.getfixturevalue("git_server")
    vault, aws = Wire(openbao.url), Wire(moto.url)
    identity, recipient = AgeDoor().generate()
    (tmp_path / "copies.txt").write_bytes(identity.reveal() + b"\n")
    (tmp_path / "copies.txt").chmod(0o600)
    where = Signed(request, tmp_path) if signed else Folders(tmp_path)
    secret = configured(where, recipient)
    for number in range((count + 1) // 2):
        values = {"user": f"user{number}", "password": f"canary-{secrets.token_hex(6)}"}
        openbao.write(f"lkg/{number}", values)
        moto.put_secret(f"lkg/{number}", json.dumps(values))
    objects = estate(vault.url, openbao.token, moto, count)
    suffix = secrets.token_hex(3)

    # 1. A cluster that lives: every Secret is made, every copy sealed and told.
    plane = sandbox.cluster(f"kept-{suffix}", nodes=False)
    assert isinstance(plane, ControlPlane)
    old = Place(plane, tmp_path, "old", aws.url)
    old.cluster.create(secret)
    old.cluster.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SHOP}}))
    with old.controller():
        for body in objects:
            old.cluster.apply(Manifest(body), field_manager="team", force=True)
        until(lambda: old.standing("Kept").count("True") == count, seconds=120)
        before = old.data()
        # 2. The stores go first; what an outage fails is not revoked.
        vault.cut()
        aws.cut()
        until(lambda: old.standing("Stale") == ["True", "True"], seconds=60)
        assert old.standing("Kept").count("True") == count, old.said()
    plane.destroy()
    assert len(before) == count

    # 3. A new cluster from Git, both stores down.
    repository = git_server.create(f"kept-{suffix}")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SHOP}}
    files = {
        "root.yaml": application("root", repository.url, "apps"),
        "apps/shop.yaml": application("shop", repository.url, "shop", namespace=SHOP),
        "shop/all.yaml": dump_all([namespace, *objects]),
    }
    commit(repository, tmp_path / "work", files)
    plane = sandbox.cluster(f"made-{suffix}", nodes=False)
    assert isinstance(plane, ControlPlane)
    new = Place(plane, tmp_path, "new", aws.url)
    install = tmp_path / "install.yaml"
    argo = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argocd"}}
    install.write_text(dump_all([argo, secret.body]))
    command = [sys.executable, "-m", "secretsops", "recover", "run", "--repo", repository.url, "--revision", "main"]
    command += ["--path", "root.yaml", "--kubeconfig", new.kubeconfig, "--journal", str(tmp_path / "journal")]
    command += [
        "--install",
        str(install),
        "-o",
        "json",
        *where.options,
        "--kept-identity",
        str(tmp_path / "copies.txt"),
    ]
    with new.controller():
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
        took = time.monotonic() - began
        assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-3000:]}{new.said()}"
        report = json.loads(done.stdout)
        assert any(note.startswith(f"{count} of {count} ExternalSecrets stand on sealed") for note in report["notes"])
        assert new.data() == before
        assert new.marked() == count
        until(lambda: new.standing("Ready").count("False") == count, seconds=60)
        assert not any(value["password"] in done.stdout + done.stderr + new.said() for value in before.values())
        print(f"\n    {count} Secrets on a new cluster {took:.1f} s after `recover run` began, both stores down")
        # 4. They answer again: the marks go, the values are theirs.
        openbao.write("lkg/0", {"user": "renewed", "password": "by vault"})
        vault.mend()
        aws.mend()
        until(lambda: new.marked() == 0, seconds=180)
        until(lambda: new.standing("Ready").count("True") == count, seconds=60)
        assert new.data()["vault-1"]["user"] == "renewed"
        assert {name: value for name, value in new.data().items() if name != "vault-1"} == {
            name: value for name, value in before.items() if name != "vault-1"
        }
        until(lambda: new.standing("Kept").count("True") == count, seconds=60)
        assert new.standing("Stale") == []
    plane.destroy()
    vault.close()
    aws.close()
