"""`seal` against a real API server and our controller: certificates, sealing anew, keys, editing, kubectl's options."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from secretsops.adapters.kube import connect
from secretsops.cli import RealDoors, run
from secretsops.errors import NotFound
from secretsops.manifest import GroupVersionKind, Manifest, load_all
from secretsops.ports import Cluster, ClusterTarget
from secretsops.sealing.cli import seal
from secretsops.sealing.keys import KEY_LABEL
from secretsops.sealing.sealed import SEALED_SECRET, SECRET
from secretsops.sealing.sealed_file import sealed_secrets

pytestmark = pytest.mark.e2e
CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")


@pytest.fixture
def cluster(live_kubeconfig: Path) -> Cluster:
    return connect(ClusterTarget(kubeconfig=str(live_kubeconfig)))


@pytest.fixture
def shop(cluster: Cluster) -> Iterator[str]:
    """Give a namespace of its own; its SealedSecrets go with the test."""
    name = f"shop-{secrets.token_hex(3)}"
    cluster.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
    yield name
    for sealed in cluster.list(SEALED_SECRET, namespace=name):
        cluster.delete(SEALED_SECRET, sealed.name, namespace=name)


def call(*arguments: str) -> int:
    return run(seal, list(arguments), prog="seal", doors=RealDoors())


def written(folder: Path, namespace: str, *values: str) -> str:
    """Seal one Secret with the old key and give the file."""
    alpha = Path(__file__).parents[1] / "conformance/corpus/sealed-secrets/keys/alpha/tls.crt"
    data = "".join(f"  {key}: {value}\n" for key, _, value in (text.partition("=") for text in values))
    head = f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\n  namespace: {namespace}\nstringData:\n{data}"
    (folder / "in.yaml").write_text(head)
    path = str(folder / "sealed.yaml")
    assert call("--cert", str(alpha), "-f", str(folder / "in.yaml"), "-w", path) == 0
    return path


def opened(cluster: Cluster, namespace: str, name: str, key: str, value: bytes) -> None:
    """Wait until the Secret holds a value."""
    deadline = time.monotonic() + 20
    while True:
        try:
            if base64.b64decode(cluster.get(SECRET, name, namespace).body["data"].get(key, "")) == value:
                return
        except NotFound:
            pass
        assert time.monotonic() < deadline, f"{namespace}/{name} never held {key}"
        time.sleep(0.1)


def test_a_repository_is_sealed_anew_by_the_controller(
    live_kubeconfig: Path, cluster: Cluster, shop: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The old key's items move to the newest one, by /v1/rotate through the proxy; the result opens in the cluster."""
    path = written(tmp_path, shop, "user=canary-user", "password=canary-pass")
    with_it = ["--kubeconfig", str(live_kubeconfig)]
    assert call("reencrypt", str(tmp_path), "--check", *with_it) == 1
    assert call("reencrypt", path, *with_it) == 0
    assert call("reencrypt", path, "--check", *with_it) == 0
    capfd.readouterr()
    assert call("keys", "list", "-o", "json", *with_it) == 0
    rows = json.loads(capfd.readouterr().out)
    newest = next(row["fingerprint"] for row in rows if row["state"] == "sealing")
    [found] = sealed_secrets(Path(path).read_bytes(), source="f")
    assert found.hint.text == newest
    cluster.create(found.manifest)
    opened(cluster, shop, "db", "password", b"canary-pass")
    assert "canary" not in Path(path).read_text()


def test_values_are_edited_by_the_persons_own_right(
    live_kubeconfig: Path, cluster: Cluster, shop: str, tmp_path: Path
) -> None:
    """A value is changed with an editor; the others keep their ciphertexts; the cluster follows."""
    path = written(tmp_path, shop, "user=canary-user", "password=canary-pass")
    before = sealed_secrets(Path(path).read_bytes(), source="f")[0]
    cluster.create(Manifest(load_all(Path(path).read_bytes())[0].body))
    opened(cluster, shop, "db", "password", b"canary-pass")
    editor = tmp_path / "vim"
    editor.write_text('#!/bin/sh\nfor last; do :; done\nsed -i "s/canary-pass/canary-new/" "$last"\n')
    editor.chmod(0o755)
    assert call("edit", path, "--editor", str(editor), "--kubeconfig", str(live_kubeconfig)) == 0
    after = sealed_secrets(Path(path).read_bytes(), source="f")[0]
    assert before.items["user"] == after.items["user"]
    live = cluster.get(after.manifest.kind, "db", shop)
    live.body["spec"] = after.manifest.spec
    cluster.replace(live)
    opened(cluster, shop, "db", "password", b"canary-new")


def test_a_key_that_the_cluster_needs_does_not_go(
    live_kubeconfig: Path, cluster: Cluster, shop: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing in the repository needs the old key, but a SealedSecret in the cluster does."""
    path = written(tmp_path, shop, "user=canary-user")
    made = cluster.create(Manifest(load_all(Path(path).read_bytes())[0].body))
    opened(cluster, shop, "db", "user", b"canary-user")
    with_it = ["--kubeconfig", str(live_kubeconfig)]
    assert call("reencrypt", path, *with_it) == 0
    capfd.readouterr()
    assert call("keys", "list", "-o", "json", *with_it) == 0
    old = json.loads(capfd.readouterr().out)[-1]["fingerprint"]
    assert call("keys", "retire", old, str(tmp_path), *with_it) == 1
    assert f"cluster  {shop}/db  user" in capfd.readouterr().err
    live = cluster.get(made.kind, "db", shop)
    live.body["spec"] = sealed_secrets(Path(path).read_bytes(), source="f")[0].manifest.spec
    cluster.replace(live)
    assert call("keys", "retire", old, str(tmp_path), "--dry-run", *with_it) == 0
    labels = {one.labels[KEY_LABEL] for one in cluster.list(SECRET, namespace="kube-system", label_selector=KEY_LABEL)}
    assert labels == {"active"}


def test_the_certificate_needs_no_proxy(
    live_kubeconfig: Path, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller publishes it; a Service of another name is never asked."""
    target = tmp_path / "cert.pem"
    monkeypatch.setenv("KUBECONFIG", str(live_kubeconfig))
    assert call("keys", "export-cert", "-w", str(target), "--controller-name", "absent") == 0
    published = cluster.get(CONFIG_MAP, "sealed-secrets-certificate", "kube-system").body["data"]
    assert target.read_text() == published["tls.crt"]
    assert call("--fetch-cert", "--cert-fingerprint", published["fingerprint"]) == 0
    assert call("--fetch-cert", "--cert-fingerprint", "SHA256:another") == 1


def _parts(kubeconfig: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    body = yaml.safe_load(kubeconfig.read_text())
    return body["clusters"][0]["cluster"], body["users"][0]["user"]


@pytest.mark.parametrize("how", ["server", "user", "as", "wrong-token", "wrong-ca"])
def test_kubectls_options_win_over_the_kubeconfig(
    how: str, live_kubeconfig: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Address, user, token, impersonation and CA of the command line are those that count."""
    place, user = _parts(live_kubeconfig)
    wrong = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "good", "user": "nobody"}}],
        "clusters": [
            {"name": "good", "cluster": place},
            {"name": "bad", "cluster": {**place, "server": "https://127.0.0.1:1"}},
        ],
        "users": [{"name": "nobody", "user": {"token": "none"}}, {"name": "somebody", "user": user}],
    }
    config = tmp_path / "config"
    config.write_text(yaml.safe_dump(wrong))
    base = ["keys", "list", "--kubeconfig", str(config)]
    assert call(*base) == 3
    if how == "server":
        assert call(*base, "--user", "somebody", "--cluster", "bad") == 3
        assert call(*base, "--user", "somebody", "--cluster", "bad", "--server", place["server"]) == 0
    elif how == "user":
        assert call(*base, "--user", "somebody") == 0
    elif how == "as":
        assert call(*base, "--user", "somebody", "--as", "someone-without-rights", "--as-group", "nobodies") == 3
        assert "someone-without-rights" in capfd.readouterr().err
    elif how == "wrong-token":
        assert call(*base, "--user", "somebody", "--token", "none") == 3
    else:
        (tmp_path / "ca.pem").write_text(
            (Path(__file__).parents[1] / "conformance/corpus/sealed-secrets/keys/alpha/tls.crt").read_text()
        )
        assert call(*base, "--user", "somebody", "--certificate-authority", str(tmp_path / "ca.pem")) == 3
        assert (
            call(
                *base,
                "--user",
                "somebody",
                "--certificate-authority",
                str(tmp_path / "ca.pem"),
                "--insecure-skip-tls-verify",
            )
            == 0
        )
