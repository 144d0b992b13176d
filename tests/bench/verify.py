"""How long `recover verify` takes on a large estate: 100 applications, 10,000 manifests, 1,000 sealed items.

`python -m tests.bench verify` prints cold (nothing kept), warm (the same commits) and the same after one small commit,
with a real repository and a real escrow in folders.
"""

from __future__ import annotations

import base64
import datetime as dt
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from secretsops.adapters.age import AgeDoor
from secretsops.adapters.sinks import open_sink
from secretsops.escrow import backup, custody, proof
from secretsops.escrow.backup import Order
from secretsops.escrow.places import plain
from secretsops.manifest import dump
from secretsops.ports import SinkAccess
from secretsops.sealing.keys import KEY_LABEL, KeyPair, generate, key_secret
from secretsops.sealing.scope import Scope
from secretsops.sealing.sealed import seal_value
from secretsops.sealing.sealed_with import ANNOTATION
from secretsops.secret import Plaintext
from tests.e2e.estates import application
from tests.fakes.cluster import FakeCluster

APPS, OBJECTS, SEALED = 100, 100, 10
_PERSON = {f"GIT_{who}_{what}": "bench@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def main() -> None:
    """Print seconds and CPU seconds of each run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key = generate(now=dt.datetime.now(dt.UTC), bits=4096)
        url = _estate(folder, key)
        _escrow(folder, key)
        command = [sys.executable, "-m", "secretsops", "recover", "verify", "--repo", url, "--revision", "main"]
        command += ["--path", "root.yaml", "--from", str(folder / "escrow"), "--cache", str(folder / "cache")]
        _timed("cold, nothing kept", command, folder)
        _timed("warm, same commits", command, folder)
        identity = ["--escrow", "--identity", str(folder / "identity.txt"), "--in-ci", "bench"]
        _timed("every item opened with a real identity", [*command, *identity], folder)
        more = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: more}\n"
        (folder / "work/app0/more.yaml").write_text(more)
        _git(folder / "work", "add", "--all")
        _git(folder / "work", "commit", "--quiet", "--message=more")
        _git(folder / "work", "push", "--quiet", url, "HEAD:main")
        _timed("after one small commit", command, folder)


def _estate(folder: Path, key: KeyPair) -> str:
    work, bare = folder / "work", folder / "estate.git"
    work.mkdir()
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(bare)], check=True)
    url = f"file://{bare}"
    files = {"root.yaml": application("root", url, "apps")}
    for number in range(APPS):
        name = f"app{number}"
        files[f"apps/{name}.yaml"] = application(name, url, name, namespace=name)
        for count in range(OBJECTS - SEALED):
            files[f"{name}/object{count}.yaml"] = _object(count, name)
        for count in range(SEALED):
            files[f"{name}/sealed{count}.yaml"] = _sealed(f"token{count}", name, key)
    for path, text in files.items():
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text(text)
    _git(work, "init", "--quiet", "--initial-branch=main")
    _git(work, "add", "--all")
    _git(work, "commit", "--quiet", "--message=estate")
    _git(work, "push", "--quiet", url, "HEAD:main")
    return url


def _object(count: int, namespace: str) -> str:
    if count % 9:
        return dump(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": f"settings{count}", "namespace": namespace, "labels": {"app": namespace}},
                "data": {f"key{n}": f"value {n}" for n in range(8)},
            }
        )
    secret = {"name": f"token{count // 9}", "key": "value"}
    container = {
        "name": "main",
        "image": "registry.example/app:1",
        "env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": secret}}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
    }
    labels = {"app": f"web{count}"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return dump(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": f"web{count}", "namespace": namespace},
            "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
        }
    )


def _sealed(name: str, namespace: str, key: KeyPair) -> str:
    value = seal_value(Plaintext(b"x" * 32), key.certificate.public, scope=Scope.STRICT, namespace=namespace, name=name)
    metadata = {"name": name, "namespace": namespace, "annotations": {ANNOTATION: key.fingerprint}}
    spec = {"encryptedData": {"value": value}, "template": {"metadata": {"name": name, "namespace": namespace}}}
    return dump({"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "metadata": metadata, "spec": spec})


def _escrow(folder: Path, key: KeyPair) -> None:
    """Escrow the key, and answer a challenge for its recipient."""
    (folder / "escrow").mkdir()
    age, now = AgeDoor(), dt.datetime.now(dt.UTC)
    identity, recipient = age.generate()
    (folder / "identity.txt").write_bytes(identity.reveal())
    (folder / "identity.txt").chmod(0o600)
    cluster = FakeCluster()
    metadata = {"name": "key0", "namespace": "kube-system", "labels": {KEY_LABEL: "active"}}
    cluster.seed({**key_secret(key, namespace="kube-system"), "metadata": metadata})
    escrow = plain([open_sink(SinkAccess(url=str(folder / "escrow")))], age)
    backup.create(cluster, escrow, Order(recipients=(recipient,), namespace="kube-system", now=now))
    (asked,) = custody.challenge(escrow, [recipient], nonces=[bytes(32)], now=now)
    answer = proof.answer(asked, age.decrypt(base64.b64decode(asked.ciphertext), [identity]))
    custody.record(escrow, answer, now=now)


def _timed(what: str, command: list[str], folder: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "xdg")}
    before, started = _cpu(), time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    wall, used = time.monotonic() - started, _cpu() - before
    sys.stdout.write(f"{wall:7.2f} s  {used:6.2f} CPU s  exit {done.returncode}  {what}\n")
    sys.stdout.write("".join(f"    {line}\n" for line in (done.stdout + done.stderr).splitlines()[-2:]))
    sys.stdout.flush()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _git(work: Path, *arguments: str) -> None:
    environment = {**os.environ, **_PERSON, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    subprocess.run(["git", *arguments], cwd=work, env=environment, check=True, capture_output=True)
