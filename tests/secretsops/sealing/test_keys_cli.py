"""`seal keys`: who sealed what, and a key that goes only when nothing needs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controllers.install import definitions
from secretsops.cli import run
from secretsops.errors import Forbidden
from secretsops.manifest import Manifest, dump
from secretsops.sealing import envelope
from secretsops.sealing.cli import seal
from secretsops.sealing.keys import KEY_LABEL, STATE_ANNOTATION, KeyPair, key_secret, read_key_secret
from secretsops.sealing.sealed import SECRET
from secretsops.secret import Plaintext
from tests.fakes.cluster import FakeCluster
from tests.secretsops.sealing.test_cli import Doors

HOME = "kube-system"


@pytest.fixture
def cluster(alpha: KeyPair, bravo: KeyPair) -> FakeCluster:
    """Give a cluster that holds an old and a new key."""
    fake = FakeCluster()
    fake.seed(*(manifest.body for manifest in definitions()))
    fake.seed({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    for name, pair in (("alpha", alpha), ("bravo", bravo)):
        body = key_secret(pair, namespace=HOME)
        body["metadata"] = {"name": name, "namespace": HOME, "labels": body["metadata"]["labels"]}
        fake.create(Manifest(body))
    return fake


def sealed(key: KeyPair, name: str, *, label: str = "", hint: str = "") -> dict[str, Any]:
    text = envelope.seal(Plaintext(b"canary"), label=(label or f"shop/{name}").encode(), public=key.certificate.public)
    annotations = {"secretsops.dev/sealed-with": hint} if hint else {}
    return {
        "apiVersion": "bitnami.com/v1alpha1",
        "kind": "SealedSecret",
        "metadata": {"name": name, "namespace": "shop", "annotations": annotations},
        "spec": {"encryptedData": {"password": text}},
    }


def write(folder: Path, *bodies: dict[str, Any]) -> str:
    (folder / "sealed.yaml").write_text("---\n".join(dump(body) for body in bodies))
    return str(folder)


def call(cluster: Any, *arguments: str) -> int:
    return run(seal, ["keys", *arguments], prog="seal", doors=Doors(cluster))


def label_of(cluster: FakeCluster, name: str) -> tuple[str, str | None]:
    secret = cluster.get(SECRET, name, HOME)
    return secret.labels[KEY_LABEL], secret.annotations.get(STATE_ANNOTATION)


def test_keys_are_listed_newest_first(
    cluster: FakeCluster, alpha: KeyPair, bravo: KeyPair, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(cluster, "list", "-o", "json") == 0
    rows = json.loads(capfd.readouterr().out)
    assert [(row["fingerprint"], row["state"], row["source"]) for row in rows] == [
        (bravo.fingerprint, "sealing", f"{HOME}/bravo"),
        (alpha.fingerprint, "active", f"{HOME}/alpha"),
    ]
    assert call(cluster, "list") == 0
    out = capfd.readouterr().out
    assert "PRIVATE" not in out
    assert out.count("\n") == 2


def test_without_the_right_the_hint_says_what_works(capfd: pytest.CaptureFixture[str]) -> None:
    class Closed(FakeCluster):
        def list(self, *_arguments: Any, **_options: Any) -> Any:
            raise Forbidden("secrets is forbidden", code=403)

    assert call(Closed(), "list") == 3
    assert "--recovery-private-key FILE works without" in capfd.readouterr().err


def test_a_certificate_is_exported(
    cluster: FakeCluster, alpha: KeyPair, bravo: KeyPair, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert call(cluster, "export-cert", "--fingerprint", alpha.fingerprint[:16]) == 0
    assert alpha.certificate.pem == capfdbinary.readouterr().out
    assert call(cluster, "export-cert", "--fingerprint", "SHA256:none-such") == 2
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "sealed-secrets-certificate", "namespace": HOME},
        "data": {"tls.crt": bravo.certificate.pem.decode(), "fingerprint": bravo.fingerprint},
    }
    made = cluster.create(Manifest(config_map))
    assert call(cluster, "export-cert", "-w", str(tmp_path / "cert.pem")) == 0
    assert bravo.certificate.pem == (tmp_path / "cert.pem").read_bytes()
    made.body["data"]["fingerprint"] = alpha.fingerprint
    cluster.replace(made)
    assert call(cluster, "export-cert") == 1


def test_usage_is_proven_with_keys_and_hinted_without(
    cluster: FakeCluster, alpha: KeyPair, bravo: KeyPair, key_folder: Path, tmp_path: Path, capfd: Any
) -> None:
    folder = write(tmp_path, sealed(alpha, "a", hint=bravo.fingerprint), sealed(bravo, "b"))
    assert call(cluster, "usage", folder) == 0
    assert f"{bravo.fingerprint}  1 items in 1 SealedSecrets, 0 proven" in capfd.readouterr().out
    keys = ["--recovery-private-key", f"{key_folder}/alpha/tls.key,{key_folder}/bravo/tls.key"]
    cluster.create(Manifest(sealed(bravo, "c")))
    assert call(cluster, "usage", folder, "--live", *keys) == 0
    out = capfd.readouterr().out
    assert f"{alpha.fingerprint}  1 items in 1 SealedSecrets, 1 proven" in out
    assert f"{bravo.fingerprint}  2 items in 2 SealedSecrets, 2 proven" in out
    assert call(cluster, "usage", folder, "--fingerprint", alpha.fingerprint, "-o", "json", *keys) == 0
    [row] = json.loads(capfd.readouterr().out)
    assert (row["object"], row["item"], row["proven"]) == ("shop/a", "password", True)


@pytest.mark.parametrize("where", ["file", "cluster", "misplaced"])
def test_a_key_that_is_needed_does_not_go(
    where: str, cluster: FakeCluster, alpha: KeyPair, bravo: KeyPair, tmp_path: Path, capfd: Any
) -> None:
    """A wrong hint convinces nobody, and an item that only stands in the wrong place counts as well."""
    needing = sealed(alpha, "a", hint=bravo.fingerprint, label="prod/a" if where == "misplaced" else "")
    if where == "cluster":
        cluster.create(Manifest(needing))
        needing = sealed(bravo, "b")
    folder = write(tmp_path, sealed(bravo, "x"), needing)
    assert call(cluster, "retire", alpha.fingerprint, folder) == 1
    err = capfd.readouterr().err
    assert "StillNeeded" in err
    assert "shop/a  password" in err
    assert label_of(cluster, "alpha") == ("active", None)


def test_a_key_that_nothing_needs_goes_and_can_come_back(
    cluster: FakeCluster, alpha: KeyPair, bravo: KeyPair, tmp_path: Path, capfd: Any
) -> None:
    folder = write(tmp_path, sealed(bravo, "b", hint=alpha.fingerprint))
    assert call(cluster, "retire", alpha.fingerprint, folder, "--dry-run") == 0
    assert label_of(cluster, "alpha") == ("active", None)
    assert call(cluster, "retire", bravo.fingerprint, folder) == 1
    assert "SealingKey" in capfd.readouterr().err
    assert call(cluster, "retire", alpha.fingerprint, folder) == 0
    assert label_of(cluster, "alpha") == ("retired", None)
    assert call(cluster, "list") == 0
    assert "retired" in capfd.readouterr().out
    assert cluster.get(SECRET, "alpha", HOME).body["data"].keys() == {"tls.crt", "tls.key"}


def test_a_compromised_key_opens_but_never_seals(
    cluster: FakeCluster, alpha: KeyPair, bravo: KeyPair, tmp_path: Path, capfd: Any
) -> None:
    folder = write(tmp_path, sealed(bravo, "b"))
    assert call(cluster, "compromise", bravo.fingerprint, folder) == 0
    out = capfd.readouterr().out
    assert "shop/b  password" in out
    assert "1 items in 1 SealedSecrets" in out
    assert label_of(cluster, "bravo") == ("active", "compromised")
    pair = read_key_secret(cluster.get(SECRET, "bravo", HOME).body)
    assert pair.state == "open-only"
    assert call(cluster, "list", "-o", "json") == 0
    assert [row["state"] for row in json.loads(capfd.readouterr().out)] == ["compromised", "sealing"]
    assert call(cluster, "compromise", alpha.fingerprint) == 1
    assert "OnlyKey" in capfd.readouterr().err
    assert call(cluster, "retire", bravo.fingerprint, folder) == 1
    (tmp_path / "sealed.yaml").write_text(dump(sealed(alpha, "b")))
    assert call(cluster, "retire", bravo.fingerprint, folder) == 0
    assert label_of(cluster, "bravo")[0] == "compromised"
