"""Linting: every way not to open told apart for the holder of the keys, and what is seen without them."""

from __future__ import annotations

import base64
import json
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from secretsops.cli import RealDoors, run
from secretsops.sealing import envelope
from secretsops.sealing.cli import seal
from secretsops.sealing.findings import Finding
from secretsops.sealing.keys import KeyPair, KeyRing
from secretsops.sealing.lint import Source, lint
from secretsops.sealing.scope import Scope
from secretsops.secret import Plaintext

NS_WIDE = {"sealedsecrets.bitnami.com/namespace-wide": "true"}


def item(key: KeyPair, label: bytes, value: bytes = b"canary") -> str:
    return envelope.seal(Plaintext(value), label=label, public=key.certificate.public)


def document(
    text: object, *, name: str = "db", namespace: str = "shop", annotations: dict[str, Any] | None = None
) -> str:
    body = {
        "kind": "SealedSecret",
        "apiVersion": "bitnami.com/v1alpha1",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations or {}},
        "spec": {"encryptedData": {"password": text}},
    }
    return json.dumps(body, indent=1)


def judged(text: str, *keys: KeyPair, before: str | None = None, others: str = "") -> list[Finding]:
    sources = [Source(path="f.yaml", content=text.encode(), before=before.encode() if before else None)]
    if others:
        sources.append(Source(path="g.yaml", content=others.encode()))
    return lint(sources, KeyRing(keys))[0]


def rules(*args: Any, **kwargs: Any) -> list[str]:
    return [finding.rule for finding in judged(*args, **kwargs)]


def test_what_opens_is_counted_and_not_told(alpha: KeyPair, echo: KeyPair) -> None:
    text = document(item(alpha, b"shop/db"))
    findings, counts = lint([Source(path="f", content=text.encode())], KeyRing([echo, alpha]))
    assert (findings, counts.objects, counts.items, counts.opened) == ([], 1, 1, 1)
    assert lint([Source(path="f", content=text.encode())], KeyRing())[1].opened is None


@pytest.mark.parametrize(
    ("label", "annotations", "rule", "said"),
    [
        (b"other/db", {}, "wrong-namespace", "other/db"),
        (b"other", NS_WIDE, "wrong-namespace", "namespace other"),
        (b"shop/web", {}, "wrong-name", "shop/web"),
        (b"other/web", {}, "wrong-place", "other/web"),
        (b"nowhere/known", {}, "wrong-place", "a place not known here"),
        (b"", {}, "wrong-scope", "sealed cluster-wide"),
        (b"shop", {}, "wrong-scope", "sealed namespace-wide"),
        (b"shop/db", NS_WIDE, "scope-changed", "sealed strict, then its annotation became namespace-wide"),
    ],
)
def test_why_it_does_not_open_is_told_apart(
    label: bytes, annotations: dict[str, str], rule: str, said: str, echo: KeyPair, alpha: KeyPair
) -> None:
    others = document("x", name="web", namespace="other")
    found = judged(document(item(echo, label), annotations=annotations), alpha, echo, others=others)
    [finding] = [one for one in found if one.path == "f.yaml"]
    assert (finding.rule, finding.item, finding.object) == (rule, "password", "shop/db")
    assert said in finding.message
    assert echo.fingerprint in finding.message
    assert finding.cure


def test_an_unknown_key_is_named_by_the_hint(alpha: KeyPair, echo: KeyPair) -> None:
    annotations = {"secretsops.dev/sealed-with": alpha.fingerprint}
    [finding] = judged(document(item(alpha, b"shop/db"), annotations=annotations), echo)
    assert (finding.rule, alpha.fingerprint in finding.message) == ("unknown-key", True)
    assert rules(document(item(alpha, b"shop/db")), echo) == ["unknown-key"]


def test_bytes_that_changed_are_damage(echo: KeyPair) -> None:
    whole = base64.b64decode(item(echo, b"shop/db"))
    for broken in (whole[:-3], whole[:-1] + bytes([whole[-1] ^ 1])):
        assert rules(document(base64.b64encode(broken).decode()), echo) == ["damaged"]
    inside = whole[:40] + bytes([whole[40] ^ 1]) + whole[41:]
    assert rules(document(base64.b64encode(inside).decode()), echo) == ["unknown-key"]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("hunter2", "not-base64"),
        ("aHVudGVyMg==", "not-base64"),
        ("AgA=", "truncated"),
        (5, "not-text"),
        (None, "not-text"),
        (base64.b64encode(b"\x00\x10" + bytes(600)).decode(), "damaged"),
    ],
)
def test_the_form_is_judged_without_keys(text: object, rule: str) -> None:
    assert rules(document(text))[0] == rule


def test_half_an_item_is_truncated_with_and_without_keys(echo: KeyPair) -> None:
    half = item(echo, b"shop/db")[:200]
    assert rules(document(half)) == ["truncated"]
    assert rules(document(half), echo) == ["truncated"]


def test_an_unchanged_ciphertext_that_moved_is_found_without_keys(echo: KeyPair) -> None:
    text = item(echo, b"shop/db")
    old = document(text)
    assert rules(old, before=old) == []
    assert rules(document(text, namespace="prod"), before=old) == ["wrong-namespace"]
    assert rules(document(text, name="web"), before=old) == ["wrong-name"]
    assert rules(document(text, annotations=NS_WIDE), before=old) == ["scope-changed"]


def test_a_plaintext_secret_is_found_and_its_value_not_told() -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData:\n  p: canary\n"
    [finding] = judged(secret)
    assert (finding.rule, finding.line, finding.object) == ("plaintext-secret", 4, "shop/db")
    assert "canary" not in str(finding)
    for harmless in ("stringData: {}\n", "stringData: {p: ''}\n", "stringData: {p: 'ENC[AES256_GCM,x]'}\n"):
        assert rules(secret.replace("stringData:\n  p: canary\n", harmless)) == []
    assert rules(secret + "sops: {mac: x}\n") == []


def test_words_that_yaml_reads_differently_are_found_with_their_line() -> None:
    text = """\
apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
metadata:
  name: db
  annotations:
    sealedsecrets.bitnami.com/cluster-wide: true
spec:
  encryptedData:
    n: 010
    "y": "no"
  template:
    metadata: {labels: {a: 1.50, b: "2", yes: x}}
"""
    found = [(one.line, one.message.partition(" under ")[0]) for one in judged(text) if one.rule == "unquoted-value"]
    assert found == [
        (6, "the value of sealedsecrets.bitnami.com/cluster-wide"),
        (9, "key 'n'"),
        (9, "the value of n"),
        (12, "the value of a"),
        (12, "key 'yes'"),
    ]
    assert "scope-without-effect" in rules(text)


def test_a_template_of_another_scope_is_told() -> None:
    body = json.loads(document("AgA="))
    body["spec"]["template"] = {"metadata": {"annotations": NS_WIDE}}
    assert "scope-mismatch" in rules(json.dumps(body))


def test_broken_yaml_is_a_finding_only_where_it_matters() -> None:
    assert rules("kind: SealedSecret\n\t: {") == ["invalid-yaml"]
    assert rules("{{ if .Values.x }}\nkind: ConfigMap\n") == []


# --- the command ---------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path, echo: KeyPair) -> Path:
    """Give a checkout with one good file committed and a bad one changed since."""
    (tmp_path / "good.yaml").write_text(document(item(echo, b"shop/db")))
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "moved.yaml").write_text(document(item(echo, b"shop/db")))
    for arguments in (
        ["init", "-q"],
        ["config", "user.email", "a@example.com"],
        ["config", "user.name", "A"],
        ["add", "."],
        ["commit", "-q", "-m", "one"],
    ):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    moved = tmp_path / "app" / "moved.yaml"
    moved.write_text(moved.read_text().replace("shop", "prod"))
    return tmp_path


def call(*arguments: str) -> int:
    return run(seal, ["lint", *arguments], prog="seal", doors=RealDoors())


@pytest.mark.parametrize("where", ["folder", "revision", "changed", "good"])
def test_files_folders_and_revisions(where: str, repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = {
        "folder": ([str(repository), "--recovery-private-key", "{key}"], 1, 2),
        "revision": ([str(repository), "--revision", "HEAD"], 0, 2),
        "changed": ([str(repository), "--changed-since", "HEAD"], 1, 1),
        "good": ([str(repository / "good.yaml")], 0, 1),
    }[where]
    key = Path(__file__).parents[2] / "conformance/corpus/sealed-secrets/keys/echo2048/tls.key"
    assert call(*(text.replace("{key}", str(key)) for text in arguments[0]), "-o", "json") == arguments[1]
    body = json.loads(capfd.readouterr().out)
    assert body["counts"]["files"] == arguments[2]
    assert [one["rule"] for one in body["findings"]] == ["wrong-namespace"] * arguments[1]


def test_reports_for_machines(repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = [str(repository), "--changed-since", "HEAD", "-o"]
    assert call(*arguments, "sarif") == 1
    [result] = json.loads(capfd.readouterr().out)["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], result["ruleId"]) == ("app/moved.yaml", "wrong-namespace")
    assert place["region"]["startLine"] > 1
    assert call(*arguments, "junit") == 1
    suite = ET.fromstring(capfd.readouterr().out)
    assert (suite.get("failures"), len(suite.findall("testcase/failure"))) == ("1", 1)
    assert call(*arguments, "table") == 1
    assert "app/moved.yaml:" in capfd.readouterr().out
    assert call(*arguments, "junit", "--ignore", "wrong-namespace") == 0
    assert ET.fromstring(capfd.readouterr().out).get("failures") == "0"


def test_what_is_not_there_is_a_usage_error(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert call(str(repository / "absent")) == 2
    assert call(str(repository), "--revision", "no-such-branch") == 2
    assert call(str(repository), "--revision", "--output=/x") == 2
    assert call(str(tmp_path_factory.mktemp("outside")), "--revision", "HEAD") == 2


def test_the_label_read_off_the_block_is_the_one_sealed_with(alpha: KeyPair, echo: KeyPair) -> None:
    """The diagnosis agrees with OpenSSL for every scope and refuses another key's block."""
    import hashlib

    from secretsops.sealing.diagnosis import sealed_label

    for scope in Scope:
        label = scope.label("shop", "db")
        wrapped = envelope.parse(item(alpha, label)).wrapped
        assert sealed_label(wrapped, alpha.private) == hashlib.sha256(label).digest()
        assert sealed_label(wrapped, echo.private) is None
    assert sealed_label(b"\xff" * 256, echo.private) is None
