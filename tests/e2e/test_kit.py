"""A kit from two repositories and an escrow; a rebuild from it without a network, on a real API server."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from drills.sandbox.cluster import ControlPlane
from drills.sandbox.egress import Egress
from drills.sandbox.git_server import GitServer
from secretsops.adapters.age import AgeDoor
from secretsops.adapters.kube import connect
from secretsops.manifest import GroupVersionKind, Manifest, dump_all, load_all
from secretsops.ports import Cluster, ClusterTarget
from tests.e2e.estates import application, commit, shop_and_blog

pytestmark = [pytest.mark.e2e, pytest.mark.nightly]

ROOT = Path(__file__).resolve().parents[2]
SECRET = GroupVersionKind("", "v1", "Secret")
DEPLOYMENT = GroupVersionKind("apps", "v1", "Deployment")
KEYS = ROOT / "tests/conformance/corpus/sealed-secrets/keys/alpha"


class Lost:
    """An estate in two repositories, its escrow, and the commands of the person on call."""

    def __init__(self, git: GitServer, kubeconfig: Path, folder: Path) -> None:
        self.suffix, self.folder, self.kubeconfig = secrets.token_hex(3), folder, kubeconfig
        self.cluster: Cluster = connect(ClusterTarget(kubeconfig=str(kubeconfig)))
        self.main, self.second = (git.create(f"{name}-{self.suffix}") for name in ("estate", "blog"))
        files = shop_and_blog(self.main.url, self.suffix)
        blog = {path: text for path, text in files.items() if path.startswith("blog/")}
        blog_app = application(f"blog-{self.suffix}", self.second.url, "blog", wave=2, namespace=f"blog-{self.suffix}")
        kept = {path: text for path, text in files.items() if path not in blog} | {"apps/blog.yaml": blog_app}
        commit(self.second, folder / "second", blog)
        self.sha = commit(self.main, folder / "main", kept)
        self.keys = f"keys-{self.suffix}"
        crds = [
            m.body
            for f in sorted((ROOT / "controllers/deploy/crds").glob("appl*.yaml"))
            for m in load_all(f.read_bytes())
        ]
        spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n}} for n in ("argocd", self.keys)]
        (folder / "install.yaml").write_text(dump_all([*spaces, *crds]))
        identity, self.recipient = AgeDoor().generate()
        (folder / "identity.txt").write_bytes(identity.reveal())
        (folder / "identity.txt").chmod(0o600)

    def run(self, *words: str, expect: int = 0, **environment: str) -> str:
        """Run `secretsops` and give what it printed."""
        command = [sys.executable, "-m", "secretsops", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=180, env={**os.environ, **environment}
        )
        assert done.returncode == expect, done.stderr + done.stdout
        return done.stdout + done.stderr

    def escrow(self) -> None:
        """Make a sealing key, back it up, lose it."""
        space = Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.keys}})
        self.cluster.apply(space, field_manager="test")
        pair = {name: base64.b64encode((KEYS / name).read_bytes()).decode() for name in ("tls.crt", "tls.key")}
        labels = {"sealedsecrets.bitnami.com/sealed-secrets-key": "active"}
        key = {"metadata": {"name": "alpha", "namespace": self.keys, "labels": labels}, "type": "kubernetes.io/tls"}
        self.cluster.create(Manifest({"apiVersion": "v1", "kind": "Secret", **key, "data": pair}))
        kubeconfig = str(self.kubeconfig)
        where = ("--namespace", self.keys, "--kubeconfig", kubeconfig, "--recipient", self.recipient)
        self.run("escrow", "create", *where, "--to", str(self.folder / "escrow"))
        self.cluster.delete(SECRET, "alpha", namespace=self.keys)

    def write(self, target: Path, *more: str) -> str:
        """Write a kit of the estate's newest recovery point."""
        estate = ("--repo", self.main.url, "--revision", "main", "--path", "root.yaml")
        if not (self.folder / "points").exists():
            self.run("recover", "point", "write", *estate, "--to", str(self.folder / "points"))
        given = ("--points", str(self.folder / "points"), "--install", str(self.folder / "install.yaml"))
        return self.run("recover", "kit", "write", *estate, *given, "--to", str(target), *more)


@pytest.fixture
def lost(git_server: GitServer, control_plane_with_nodes: ControlPlane, tmp_path: Path) -> Lost:
    """Give a fresh estate."""
    return Lost(git_server, control_plane_with_nodes.kubeconfig, tmp_path)


@pytest.fixture
def way_out(control_plane_with_nodes: ControlPlane) -> Iterator[list[str]]:
    """Give the command prefix that leaves a process the API server and nothing else."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rn", "true"], check=False).returncode:
        pytest.skip("no network namespaces here: the network cannot be switched off for a process")
    server = str(connect(ClusterTarget(kubeconfig=str(control_plane_with_nodes.kubeconfig))).server)
    port, egress = urlsplit(server).port or 443, Egress()
    egress.route("api", port, port)
    offline = str(Path(__file__).with_name("offline.py"))
    yield ["unshare", "-rn", sys.executable, offline, str(egress.socket_path), str(port)]
    egress.close()


def test_a_cluster_is_rebuilt_from_a_kit_with_the_network_off(lost: Lost, way_out: list[str], tmp_path: Path) -> None:
    """Both repositories and the escrow come from the kit; the same command without it cannot even read Git."""
    lost.escrow()
    kit = tmp_path / "kit.tar"
    printed = lost.write(kit, "--escrow", str(tmp_path / "escrow"))
    digest = re.findall(r"sha256:[0-9a-f]{64}", printed)[0]
    again = tmp_path / "again.tar"
    lost.write(again, "--escrow", str(tmp_path / "escrow"))
    assert kit.read_bytes() == again.read_bytes(), "the same moment gave another kit"
    commit(lost.main, tmp_path / "main", {"apps/shop.yaml": "not: [the same"})  # what comes later is not in it
    moved = {"XDG_CACHE_HOME": str(tmp_path / "empty")}
    secretsops = [sys.executable, "-m", "secretsops", "recover"]
    environment = {**os.environ, **moved}

    def offline(*words: str) -> subprocess.CompletedProcess[str]:
        command = [*way_out, *secretsops, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=180, env=environment)

    told = offline("kit", "verify", str(kit), "--digest", digest)
    assert told.returncode == 0, told.stderr
    assert "escrow: 1 epoch(s) in 1 sink(s), chain whole" in told.stdout
    into = ["--kubeconfig", str(lost.kubeconfig), "--identity", str(tmp_path / "identity.txt"), "-o", "json"]
    git = ["--repo", lost.main.url, "--revision", "main", "--path", "root.yaml", "--rehearsal"]
    where = ["--escrow", str(tmp_path / "escrow"), "--journal", str(tmp_path / "first")]
    unreachable = offline("run", *git, *where, *into)
    assert unreachable.returncode == 3, unreachable.stdout
    refused = offline("run", "--kit", str(kit), *into, "--journal", str(tmp_path / "second"))
    assert (refused.returncode, "NotFenced" in refused.stderr) == (2, True)
    done = offline("run", "--kit", str(kit), *into, "--journal", str(tmp_path / "third"), "--unfenced", "it burnt down")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {app["revision"] for app in report["applications"] if "blog" not in app["application"]} == {lost.sha}
    assert "the lost cluster was not fenced: it burnt down" in report["notes"]
    assert lost.cluster.get(DEPLOYMENT, "blog", f"blog-{lost.suffix}").name == "blog"
    assert lost.cluster.get(SECRET, "alpha", lost.keys).body["data"]["tls.key"]


def test_a_liar_who_lists_what_he_changed_is_seen(lost: Lost, tmp_path: Path) -> None:
    """New digests for a changed bundle: the signature, or the digest that was written down, no longer holds."""
    signer, root, trust = tmp_path / "signer.key", tmp_path / "root.key", tmp_path / "trust.json"
    public = {
        name: lost.run("escrow", "trust", "key", str(tmp_path / f"{name}.key")).strip() for name in ("root", "signer")
    }
    pin = re.findall(
        r"sha256:[0-9a-f]{64}",
        lost.run("escrow", "trust", "init", "--root", f"r={public['root']}", "--key", str(root), str(trust)),
    )[0]
    lost.run(
        "escrow", "trust", "add", f"ci={public['signer']}", "--role", "recovery-points", "--key", str(root), str(trust)
    )
    kit = tmp_path / "kit"
    vouched = ("--signer", str(signer), "--trust", pin, "--trust-file", str(trust))
    digest = re.findall(r"kit: .*(sha256:[0-9a-f]{64})", lost.write(kit, *vouched))[0]
    lost.run("recover", "kit", "verify", str(kit), "--trust", pin, "--digest", digest)
    body = json.loads((kit / "kit.json").read_text())
    (kit / "recovery.yaml").write_text("apiVersion: secretsops.dev/v1\nkind: RecoveryPlan\n")
    content = (kit / "recovery.yaml").read_bytes()
    entry = {"path": "recovery.yaml", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    body["files"] = sorted([*body["files"], entry], key=lambda one: one["path"])
    (kit / "kit.json").write_bytes(json.dumps(body, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    sums = {one["path"]: one["sha256"] for one in body["files"]} | {
        "kit.json": hashlib.sha256((kit / "kit.json").read_bytes()).hexdigest()
    }
    (kit / "SHA256SUMS").write_text("".join(f"{sums[path]}  {path}\n" for path in sorted(sums)))
    assert "KitUntrusted" in lost.run("recover", "kit", "verify", str(kit), "--trust", pin, expect=1)
    assert "BrokenKit" in lost.run("recover", "kit", "verify", str(kit), "--digest", digest, expect=1)
    assert "nobody vouched for it" in lost.run("recover", "kit", "verify", str(kit))
