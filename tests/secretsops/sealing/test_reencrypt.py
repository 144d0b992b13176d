"""`seal reencrypt`: only what is due, in place, resumable, through Git; with keys and through a controller."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from secretsops.cli import RealDoors, run
from secretsops.errors import WorldFailed
from secretsops.files import write_atomic
from secretsops.manifest import GroupVersionKind, Manifest, load_all
from secretsops.ports import Answer
from secretsops.sealing import envelope, reencryption
from secretsops.sealing.cli import seal
from secretsops.sealing.keys import KeyPair, KeyRing
from secretsops.sealing.sealed import open_items, resealed
from secretsops.sealing.sealed_with import SealedWith
from secretsops.secret import Plaintext
from tests.secretsops.sealing.test_cli import Doors, ProxyCluster

FILE = """\
# {name}
kind: ConfigMap
apiVersion: v1
metadata: {{name: other}}
---
apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
metadata:
  name: {name}   # the name
  namespace: shop
spec:
  encryptedData:
    old: {old}  # first
    new: "{new}"
  template:
    data: {{url: "x {{{{ .old }}}}"}}
"""


def sealed(key: KeyPair, name: str, value: str) -> str:
    return envelope.seal(Plaintext(value.encode()), label=f"shop/{name}".encode(), public=key.certificate.public)


@pytest.fixture
def repository(tmp_path: Path, alpha: KeyPair, bravo: KeyPair) -> Path:
    """Give a checkout of three files, each with one item on the old and one on the new key."""
    for name in ("one", "two", "three"):
        text = FILE.format(name=name, old=sealed(alpha, name, "canary-old"), new=sealed(bravo, name, "canary-new"))
        (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "plain.yaml").write_text("kind: ConfigMap\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "config", "user.email", "a@example.com")
    git(tmp_path, "config", "user.name", "A")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def keys(key_folder: Path, *names: str) -> list[str]:
    return ["--recovery-private-key", ",".join(str(key_folder / name / "secret.yaml") for name in names)]


def call(*arguments: str, doors: Any = None) -> int:
    return run(seal, ["reencrypt", *arguments], prog="seal", doors=doors or RealDoors())


def opened(path: Path, key: KeyPair) -> dict[str, bytes]:
    [manifest] = [one for one in load_all(path.read_bytes()) if one.kind.kind == "SealedSecret"]
    return {item: value.reveal() for item, value in open_items(manifest, KeyRing([key]))[0].items()}


def test_only_what_is_due_changes(
    repository: Path, key_folder: Path, bravo: KeyPair, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two lines differ per file: the due item and the hint; a second run finds nothing."""
    assert call(str(repository), *keys(key_folder, "alpha", "bravo"), "--check") == 1
    assert git(repository, "status", "--porcelain") == ""
    assert call(str(repository), *keys(key_folder, "alpha", "bravo")) == 0
    for name in ("one", "two", "three"):
        assert opened(repository / f"{name}.yaml", bravo) == {"old": b"canary-old", "new": b"canary-new"}
    changed = [line for line in git(repository, "diff", "-U0", "one.yaml").splitlines() if line[:2] in ("- ", "+ ")]
    assert [line[:12] for line in changed] == ["+  annotatio", "+    secrets", "-    old: Ag", "+    old: Ag"]
    assert changed[-1].endswith("  # first")
    capfd.readouterr()
    assert call(str(repository), *keys(key_folder, "alpha", "bravo"), "--check", "-o", "json") == 0
    body = json.loads(capfd.readouterr().out)
    assert [one["outcome"] for one in body["files"]] == ["current"] * 3
    assert body["fingerprint"] == bravo.fingerprint


def test_what_opens_nowhere_stops_nothing_else(
    repository: Path, key_folder: Path, bravo: KeyPair, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = repository / "one.yaml"
    broken.write_text(broken.read_text().replace("namespace: shop", "namespace: prod"))
    (repository / "bad.yaml").write_text("kind: SealedSecret\n\t: {")
    before = broken.read_bytes()
    assert call(str(repository), *keys(key_folder, "alpha", "bravo")) == 1
    assert before == broken.read_bytes()
    assert opened(repository / "two.yaml", bravo)["old"] == b"canary-old"
    out = capfd.readouterr().out
    assert "prod/one: no key could decrypt secret (new, old)" in out
    assert "2 failed" in out
    assert "canary" not in out


def test_a_branch_and_a_commit(repository: Path, key_folder: Path) -> None:
    arguments = [str(repository), *keys(key_folder, "alpha", "bravo"), "--branch", "reseal"]
    (repository / "staged.txt").write_text("mine")
    git(repository, "add", "staged.txt")
    assert call(*arguments) == 0
    assert git(repository, "branch", "--show-current").strip() == "reseal"
    assert git(repository, "show", "--name-only", "--format=%s", "HEAD").split("\n\n")[1].split() == [
        "one.yaml",
        "three.yaml",
        "two.yaml",
    ]
    assert "Seal 3 items in 3 files anew with SHA256:" in git(repository, "log", "-1", "--format=%s")
    assert git(repository, "status", "--porcelain").split() == ["A", "staged.txt"]
    assert call(*arguments) == 1  # the branch is there already
    (repository / "one.yaml").write_text((repository / "one.yaml").read_text() + "# mine\n")
    assert call(*arguments[:-1], "another") == 1
    assert git(repository, "branch", "--show-current").strip() == "reseal"


def test_a_run_that_was_broken_off_is_continued(
    repository: Path, key_folder: Path, bravo: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file is old or new, never half; the next run does the rest."""
    real, calls = write_atomic, []

    def dies(path: Path, content: bytes) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise WorldFailed("the disk is full", reason="Unwritable")
        real(path, content)

    monkeypatch.setattr(reencryption, "write_atomic", dies)
    assert call(str(repository), *keys(key_folder, "alpha", "bravo"), "-j", "1") == 1
    assert len(git(repository, "diff", "--name-only").split()) == 2
    monkeypatch.undo()
    assert call(str(repository), *keys(key_folder, "alpha", "bravo")) == 0
    for name in ("one", "two", "three"):
        assert opened(repository / f"{name}.yaml", bravo)["old"] == b"canary-old"


class RotatingCluster(ProxyCluster):
    """A controller behind the proxy that rotates as ours does, and answers 429 now and then."""

    def __init__(self, ring: KeyRing, newest: KeyPair) -> None:
        super().__init__(newest.certificate.pem)
        self.ring, self.newest, self.rotated, self.busy = ring, newest, 0, 1

    def get(self, kind: GroupVersionKind, name: str, namespace: str = "") -> Manifest:
        return super().get(kind, name, namespace)

    def raw(self, method: str, path: str, *, body: bytes = b"", content_type: str = "") -> Answer:
        if not path.endswith("/v1/rotate"):
            return super().raw(method, path, body=body, content_type=content_type)
        if self.busy:
            self.busy -= 1
            return Answer(code=429, headers={"Retry-After": "1"}, body=b"limit exceeded")
        self.rotated += 1
        again = resealed(Manifest(json.loads(body)), self.ring, self.newest)
        again["spec"]["encryptedData"]["url"] = base64.b64encode(b"baked").decode()
        return Answer(code=200, headers={}, body=json.dumps(again).encode())


class PatientDoors(Doors):
    """Doors whose clock does not really wait."""

    def sleep(self, _seconds: float) -> None:
        return


def test_the_controller_does_it_and_is_asked_once(repository: Path, alpha: KeyPair, bravo: KeyPair) -> None:
    cluster = RotatingCluster(KeyRing([alpha, bravo]), bravo)
    assert call(str(repository), "-j", "1", doors=PatientDoors(cluster)) == 0
    assert cluster.rotated == 3
    text = (repository / "one.yaml").read_text()
    assert 'data: {url: "x {{ .old }}"}' in text
    [manifest] = [one for one in load_all(text.encode()) if one.kind.kind == "SealedSecret"]
    assert sorted(manifest.spec["encryptedData"]) == ["new", "old"]
    assert SealedWith.read(manifest.annotations).key_of("old") == bravo.fingerprint
    assert call(str(repository), "-j", "1", "--all", doors=PatientDoors(cluster)) == 0
    assert git(repository, "diff", "--stat").count("|") == 3


def test_hints_decide_a_check_without_keys(repository: Path, key_folder: Path) -> None:
    certificate = ["--cert", str(key_folder / "bravo" / "tls.crt")]
    assert call(str(repository), "--check", *certificate) == 1
    assert call(str(repository), *certificate) == 2
    assert call(str(repository), *keys(key_folder, "alpha"), *certificate) == 1
    assert call(str(repository), *keys(key_folder, "alpha", "bravo")) == 0
    assert call(str(repository), "--check", *certificate) == 0
