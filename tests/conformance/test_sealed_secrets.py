"""Recorded behaviour of kubeseal v0.38.4: one item opened, one command line run.

Our ciphertexts are opened here with `cryptography` alone and the published layout, none of our code.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secretsops.errors import SecretsOpsError
from tests.conformance.frame import better, folder, folders, parameters, root
from tests.conformance.open_item import open_item

SUITE = root() / "sealed-secrets"
SEAL = [sys.executable, "-c", "from secretsops.cli import seal; seal()", "--compat", "kubeseal"]
SCOPES = {
    "cluster-wide": "sealedsecrets.bitnami.com/cluster-wide",
    "namespace-wide": "sealedsecrets.bitnami.com/namespace-wide",
}


@cache
def _open_cases() -> dict[str, dict[str, Any]]:
    path = SUITE / "open" / "cases.json"
    return {case["name"]: case for case in json.loads(path.read_text())["cases"]} if path.is_file() else {}


@cache
def _keys() -> dict[str, rsa.RSAPrivateKey]:
    found = {}
    for path in sorted((SUITE / "keys").glob("*/tls.key")):
        key = serialization.load_pem_private_key(path.read_bytes(), None, unsafe_skip_rsa_key_validation=True)
        assert isinstance(key, rsa.RSAPrivateKey)
        found[path.parent.name] = key
    return found


@pytest.mark.parametrize("case_id", parameters("sealed-secrets/open", _open_cases()))
def test_one_item_opens_as_recorded(case_id: str) -> None:
    """What upstream opens we open to the same bytes; what it refuses we refuse."""
    case = _open_cases()[case_id.rpartition("/")[2]]
    pems = [(SUITE / "keys" / key / "tls.key").read_bytes() for key in case["keys"]]
    label = base64.b64decode(case["label_b64"])
    if "plaintext_b64" in case["expect"]:
        expected = base64.b64decode(case["expect"]["plaintext_b64"])
        assert expected == open_item(case["ciphertext_b64"], pems, label)
    else:
        with pytest.raises(SecretsOpsError):
            open_item(case["ciphertext_b64"], pems, label)


def _cases(*, live: bool) -> list[Any]:
    """Give the recorded invocations that ask a controller, or those that don't (their names say which)."""
    return [case for case in folders("sealed-secrets/cli") if ("/live-" in case.values[0]) is live]


@pytest.mark.parametrize("case_id", _cases(live=False))
def test_the_command_line_behaves_as_recorded(case_id: str, tmp_path: Path) -> None:
    """Exit code, output as data, files written, and every ciphertext opened with the recorded key and label."""
    _judge(case_id, tmp_path)


@pytest.mark.e2e
@pytest.mark.parametrize("case_id", _cases(live=True))
def test_the_command_line_behaves_as_recorded_with_our_controller(
    case_id: str, tmp_path: Path, live_kubeconfig: Path
) -> None:
    """The same, where the controller with the keys alpha and bravo is asked through a real API server's proxy."""
    _judge(case_id, tmp_path, live_kubeconfig)


def _judge(case_id: str, tmp_path: Path, kubeconfig: Path | None = None) -> None:
    case = yaml.safe_load((folder(case_id) / "case.yaml").read_text())
    expect = case["expect"] | {key: value for key, value in better(case_id).items() if key in {"exit", "stdout"}}
    if "template_metadata" in better(case_id):
        for described in (expect["stdout"], *(expect["files"].values() if isinstance(expect["files"], dict) else ())):
            for body in described.get("documents", ()):
                body["spec"]["template"]["metadata"] = better(case_id)["template_metadata"]
    before = _prepare(case, folder(case_id), tmp_path)
    done = _run(case, folder(case_id), tmp_path, kubeconfig)

    assert expect["exit"] == done.returncode, done.stderr.decode()
    if expect["stdout"] == "empty" or expect["stdout"]["kind"] != "ignored":
        assert (expect["stderr"] == "") == (not done.stderr.strip())
    _compare(expect["stdout"], done.stdout)
    changed = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    changed = {name: content for name, content in changed.items() if before.get(name) != content}
    wanted = {} if isinstance(expect["files"], str) else expect["files"]
    assert sorted(wanted) == sorted(changed)
    for name, described in wanted.items():
        _compare(described, changed[name])


def _prepare(case: dict[str, Any], source: Path, work: Path) -> dict[str, bytes]:
    for name in case.get("files") or []:
        shutil.copyfile(source / name, work / name)
    for name, how in (case.get("generate") or {}).items():
        unit = how["repeat"].encode()
        (work / name).write_bytes((unit * (how["bytes"] // len(unit) + 1))[: how["bytes"]])
    return {path.name: path.read_bytes() for path in work.iterdir()}


def _run(case: dict[str, Any], source: Path, work: Path, kubeconfig: Path | None) -> subprocess.CompletedProcess[bytes]:
    def put(text: str) -> str:
        for kind, file in (("cert", "tls.crt"), ("key", "tls.key"), ("keysecret", "secret.yaml")):
            text = re.sub(rf"\{{{kind}:([^}}]+)\}}", str(SUITE / "keys" / rf"\1/{file}"), text)
        return text.replace("{dir}", str(work)).replace("{live-kubeconfig}", str(kubeconfig))

    stdin = (source / case["stdin"]).read_bytes() if case.get("stdin") else b""
    env = {"PATH": os.environ["PATH"], "HOME": str(work / "no-such-home"), "PYTHONPATH": os.pathsep.join(sys.path)}
    env |= {key: put(value) for key, value in (case.get("env") or {}).items()}
    arguments = [*SEAL, *(put(argument) for argument in case["args"])]
    return subprocess.run(arguments, input=stdin, capture_output=True, cwd=work, env=env, timeout=120, check=False)


def _compare(described: dict[str, Any] | str, output: bytes) -> None:
    kind = described if isinstance(described, str) else described["kind"]
    if kind == "empty":
        assert output == b""
    elif kind == "raw":
        assert isinstance(described, dict)
        assert described["trailing_newline"] == output.endswith(b"\n")
        _same_item(described, output.decode(), described["label"])
    elif kind == "documents":
        assert isinstance(described, dict)
        _same_documents(described, output.decode())
    elif kind == "text" and isinstance(described, dict) and "BEGIN CERTIFICATE" in described.get("text", ""):
        assert described["text"].encode() == output
    else:
        assert kind in {"ignored", "text"}


def _same_documents(described: dict[str, Any], text: str) -> None:
    if described["format"] == "yaml":
        assert text.startswith("---\n")
        documents = list(yaml.load_all(text, Loader=yaml.BaseLoader))
        wanted = [yaml.load(yaml.safe_dump(body), Loader=yaml.BaseLoader) for body in described["documents"]]
    else:
        assert text.endswith("}\n")
        documents, decoder, position = [], json.JSONDecoder(), 0
        while position < len(text.rstrip()):
            body, position = decoder.raw_decode(text, position)
            documents.append(body)
            position += len(text[position:]) - len(text[position:].lstrip())
        wanted = described["documents"]
        # Key order is part of the peer's shape.
        assert [list(body) for body in wanted] == [list(body) for body in documents]
    for opens, body in zip(described.get("opens") or [{}] * len(wanted), documents, strict=True):
        items = (body.get("spec") or {}).get("encryptedData") or {}
        assert sorted((opens or {}).get("items") or {}) == sorted(items)
        for key, item in ((opens or {}).get("items") or {}).items():
            _same_item(item, items[key], item.get("label", opens["label"]))
            items[key] = "<sealed>"
    assert wanted == documents


def _same_item(item: dict[str, Any], text: str, label: str) -> None:
    value = _open(text, item["key"], label)
    if "value_b64" in item:
        assert base64.b64decode(item["value_b64"]) == value
    else:
        assert (item["value_sha256"], item["value_length"]) == (hashlib.sha256(value).hexdigest(), len(value))


def _open(text: str, key: str, label: str) -> bytes:
    raw = base64.b64decode(text, validate=True)
    size = int.from_bytes(raw[:2], "big")
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), label.encode())
    session = _keys()[key].decrypt(raw[2 : 2 + size], oaep)
    assert len(session) == 32
    return AESGCM(session).decrypt(bytes(12), raw[2 + size :], None)


def test_the_opener_of_these_tests_tells_a_wrong_label() -> None:
    """The independent opener refuses what must not open, so that its yes means something."""
    case = _open_cases().get("strict-4096")
    if case is None:
        pytest.skip("this corpus has no case strict-4096")
    assert base64.b64decode(case["expect"]["plaintext_b64"]) == _open(
        case["ciphertext_b64"], case["keys"][0], case["label"]
    )
    with pytest.raises((ValueError, InvalidTag)):
        _open(case["ciphertext_b64"], case["keys"][0], "elsewhere/db-creds")
