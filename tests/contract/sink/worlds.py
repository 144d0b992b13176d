"""Sinks of every kind for the contract: the real server behind each, a writer, a reader, one unguarded."""

from __future__ import annotations

import json
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drills.sandbox.cluster import ControlPlane
from secretsops.adapters.kube import connect
from secretsops.adapters.sinks import FolderSink, open_sink
from secretsops.manifest import Manifest
from secretsops.ports import Cluster, ClusterTarget, Sink, SinkAccess
from secretsops.secret import Plaintext
from tests.contract.secret_source.servers import vault_call
from tests.fakes.sink import FakeSink

KINDS = ("fake", "folder", "s3", "git", "vault", "kube")


@dataclass(frozen=True, kw_only=True)
class World:
    """One place seen by three credentials: `writer`, `reader` and, where the kind has one, a careless `weak` setup."""

    writer: Sink
    reader: Sink
    weak: Sink
    retained: bool = False
    guarded: bool = True


def world(kind: str, request: pytest.FixtureRequest, folder: Path) -> World:
    """Give a new, empty place of a kind."""
    makers: dict[str, Any] = {
        "fake": _fake,
        "folder": _folder,
        "s3": _s3,
        "git": _git,
        "vault": _vault,
        "kube": _kube,
    }
    made: World = makers[kind](request, folder)
    return made


def _fake(_request: pytest.FixtureRequest, _folder: Path) -> World:
    sink = FakeSink()
    return World(writer=sink, reader=sink, weak=FakeSink(weak="it forgets"))


def _folder(_request: pytest.FixtureRequest, folder: Path) -> World:
    sink = FolderSink(folder / "new" / "escrow")
    return World(writer=sink, reader=FolderSink(folder / "new" / "escrow"), weak=sink, guarded=False)


def s3_credential() -> dict[str, Plaintext]:
    """Give a credential of the emulation's form."""
    return {"accessKeyId": Plaintext(b"AKIATEST"), "secretAccessKey": Plaintext(secrets.token_hex(8).encode())}


def bucket(url: str, *, lock: bool) -> str:
    """Make a bucket and give the URL of a sink in it."""
    import boto3

    name = f"escrow-{secrets.token_hex(4)}"
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=lock)
    return f"s3://{name}/prod?region=us-east-1&endpoint={url}"


def _s3(request: pytest.FixtureRequest, _folder: Path) -> World:
    url = request.getfixturevalue("moto").url
    locked, loose = bucket(url, lock=True), bucket(url, lock=False)
    writer = SinkAccess(url=locked, credentials=s3_credential(), retention_days=30)
    return World(
        writer=open_sink(writer),
        reader=open_sink(SinkAccess(url=locked, credentials=s3_credential())),
        weak=open_sink(SinkAccess(url=loose, credentials=s3_credential())),
        retained=True,
    )


def repository(request: pytest.FixtureRequest, *, guarded: bool) -> Any:
    """Make a repository whose branches can be rewritten, or cannot."""
    made = request.getfixturevalue("git_server").create(f"escrow-{secrets.token_hex(4)}")
    for name in ("receive.denyNonFastForwards", "receive.denyDeletes"):
        subprocess.run(["git", "-C", str(made.path), "config", name, str(guarded).lower()], check=True)
    return made


def _git(request: pytest.FixtureRequest, folder: Path) -> World:
    from secretsops.adapters.sink_git import GitSink

    def sink(url: str, cache: str) -> Sink:
        return GitSink(SinkAccess(url=f"git+{url}#escrow/prod"), cache=folder / cache)

    safe, loose = repository(request, guarded=True).url, repository(request, guarded=False).url
    return World(writer=sink(safe, "writer"), reader=sink(safe, "reader"), weak=sink(loose, "weak"))


def vault_place(request: pytest.FixtureRequest) -> tuple[str, str, str, str]:
    """Give URL, writer's token, reader's token and root token of a path of its own."""
    bao = request.getfixturevalue("openbao")
    path = f"escrow-{secrets.token_hex(4)}"

    def token(name: str, rules: str) -> str:
        policy = f"{path}-{name}"
        vault_call(bao.url, bao.token, "PUT", f"sys/policies/acl/{policy}", {"policy": rules})
        answer = vault_call(bao.url, bao.token, "POST", "auth/token/create", {"policies": [policy]})
        return str(answer["auth"]["client_token"])

    data, listing = f'path "secret/data/{path}/*"', f'path "secret/metadata/{path}'
    reading = f'{data} {{ capabilities = ["read"] }}\n{listing}/*" {{ capabilities = ["list", "read"] }}\n'
    reading += f'{listing}" {{ capabilities = ["list"] }}\n{listing}/" {{ capabilities = ["list"] }}\n'
    writing = reading.replace('capabilities = ["read"]', 'capabilities = ["create", "read"]')
    return f"vault+{bao.url}/secret/{path}", token("writer", writing), token("reader", reading), bao.token


def _vault(request: pytest.FixtureRequest, _folder: Path) -> World:
    url, writer, reader, root = vault_place(request)

    def sink(token: str) -> Sink:
        return open_sink(SinkAccess(url=url, credentials={"token": Plaintext(token.encode())}))

    return World(writer=sink(writer), reader=sink(reader), weak=sink(root))


def kube_place(plane: ControlPlane) -> tuple[str, str, str]:
    """Give a namespace, and kubeconfigs of a writer that may only create and of a reader."""
    admin = connect(ClusterTarget(kubeconfig=str(plane.kubeconfig)))
    namespace = f"escrow-{secrets.token_hex(4)}"
    admin.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))
    writer = _account(admin, plane, namespace, "writer", ["create", "get", "list"])
    return namespace, writer, _account(admin, plane, namespace, "reader", ["get", "list"])


def _account(admin: Cluster, plane: ControlPlane, namespace: str, name: str, verbs: list[str]) -> str:
    about = {"name": name, "namespace": namespace}
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": verbs}]
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    for body in (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": about},
        {**rbac, "kind": "Role", "metadata": about, "rules": rules},
        {**rbac, "kind": "RoleBinding", "metadata": about, "roleRef": role, "subjects": [subject]},
    ):
        admin.create(Manifest(body))
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    answer = admin.raw("POST", path, body=b'{"spec": {}}', content_type="application/json")
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "clusters": [
            {"name": "it", "cluster": {"server": plane.server, "certificate-authority": str(plane.pki.ca)}},
        ],
        "users": [{"name": "it", "user": {"token": json.loads(answer.body)["status"]["token"]}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }
    return json.dumps(config)


def _kube(request: pytest.FixtureRequest, _folder: Path) -> World:
    plane: ControlPlane = request.getfixturevalue("control_plane")
    namespace, writer, reader = kube_place(plane)

    def sink(kubeconfig: str) -> Sink:
        credentials = {"kubeconfig": Plaintext(kubeconfig.encode())}
        return open_sink(SinkAccess(url=f"kube:///{namespace}/prod", credentials=credentials))

    return World(writer=sink(writer), reader=sink(reader), weak=sink(plane.kubeconfig.read_text()))
