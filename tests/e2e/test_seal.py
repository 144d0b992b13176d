"""`seal` against a real API server and our controller: certificates, sealing anew, keys, editing, kubectl's options."""

from __future__ import annotations

import base64
import json
import re
import secrets
import shlex
import shutil
import subprocess
import sys
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


def test_kubectl_runs_it_as_a_plugin(live_kubeconfig: Path, cluster: Cluster, shop: str, tmp_path: Path) -> None:
    """`kubectl seal` finds `kubectl-seal` on PATH: offline, against the cluster, with exit codes and commands."""
    kubectl = shutil.which("kubectl") or shutil.which("kubectl", path=str(Path(sys.executable).parent))
    assert kubectl is not None, "kubectl comes with the extra `render`"
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "kubectl-seal").symlink_to(Path(sys.executable).parent / "kubectl-seal")
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "KUBECONFIG": str(live_kubeconfig), "HOME": str(tmp_path)}

    def run_it(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [kubectl, *words]
        return subprocess.run(command, input=stdin, env=environment, capture_output=True, text=True, check=False)

    assert str(programs / "kubectl-seal") in run_it("plugin", "list").stdout
    secret = (
        f"apiVersion: v1\nkind: Secret\nmetadata: {{name: db, namespace: {shop}}}\nstringData: {{password: hello}}\n"
    )
    certificate = tmp_path / "cert.pem"
    fetched = run_it("seal", "--fetch-cert")
    assert fetched.returncode == 0, fetched.stderr
    certificate.write_text(fetched.stdout)
    sealed = run_it("seal", "--cert", str(certificate), stdin=secret)
    assert sealed.returncode == 0, sealed.stderr
    cluster.create(load_all(sealed.stdout.encode())[0])
    opened(cluster, shop, "db", "password", b"hello")
    (tmp_path / "sealed.yaml").write_text(sealed.stdout)
    kept = run_it("seal", "lint", str(tmp_path / "sealed.yaml"))
    assert (kept.returncode, "usage" in kept.stderr.lower()) == (0, False)
    assert run_it("seal", "--cert", str(certificate), stdin="kind: ConfigMap\napiVersion: v1\n").returncode == 1
    assert run_it("seal", "keys", "list").returncode == 0


MANUAL = Path(__file__).parents[2] / "secretsops/sealing/README.md"


def test_the_manuals_way_from_kubeseal_and_back(
    live_kubeconfig: Path, cluster: Cluster, shop: str, tmp_path: Path
) -> None:
    """The three lines of the page as they stand, a pipeline that never heard of us, and the way back."""
    page = MANUAL.read_text()
    block = re.search(r"## From kubeseal and back\n\n```\n(.*?)```", page, re.DOTALL)
    assert block is not None
    lines = block[1].splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("pip install secretsops"), "the environment of this test is that installation"
    assert "Back: `unalias kubeseal`." in page
    pipeline = "kubectl create secret generic db --from-literal=password=moved --dry-run=client -o yaml | "
    pipeline += f"kubeseal --namespace {shop} > sealed.json"
    script = "\n".join(
        [
            "set -euo pipefail",
            "shopt -s expand_aliases",
            "kubectl get secret -n kube-system key-alpha key-bravo -o yaml > ../keys.yaml",
            lines[1],
            f"eval {shlex.quote(pipeline)}",
            "kubeseal --version",
            lines[2].partition("#")[0],
            "unalias kubeseal",
            "! command -v kubeseal",
        ]
    )
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "KUBECONFIG": str(live_kubeconfig)}
    environment["HOME"] = str(tmp_path)
    repository = tmp_path / "repository"
    repository.mkdir()
    done = subprocess.run(
        ["bash", "-c", script], cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kubeseal version: v" in done.stdout
    body = json.loads((repository / "sealed.json").read_text())
    assert list(body) == ["kind", "apiVersion", "metadata", "spec"], "as kubeseal writes it"
    assert "annotations" not in body["metadata"], "nothing of ours stays in it"
    cluster.create(Manifest(body))
    opened(cluster, shop, "db", "password", b"moved")


KUBESEAL = frozenset(
    """
    alsologtostderr allow-empty-data as as-group as-uid cert certificate-authority client-certificate client-key
    cluster context controller-name controller-namespace fetch-cert format from-file
    insecure-skip-tls-verify kubeconfig log_backtrace_at log_dir logtostderr merge-into name namespace password
    proxy-url raw re-encrypt recovery-private-key recovery-unseal request-timeout scope sealed-secret-file secret-file
    server stderrthreshold tls-server-name token user username v validate version vmodule
    """.split()  # noqa: SIM905 - a list of fifty words
)
"""Every flag of kubeseal 0.38.4 (`cmd/kubeseal/main.go`, client-go's and klog's included)."""


def test_the_manual_compares_flag_by_flag() -> None:
    """Each flag of the peer is an option here; those with a meaning stand in the page's first column."""
    known = {text for parameter in seal.params for text in (*parameter.opts, *parameter.secondary_opts)}
    missing = [name for name in sorted(KUBESEAL) if f"--{name}" not in known and f"-{name}" not in known]
    assert missing == []
    page = MANUAL.read_text()
    table = page[page.index("| kubeseal 0.38.4 |") : page.index("**Templates.**")]
    column = " ".join(row.split("|")[1] for row in table.splitlines() if row.startswith("|"))
    named = set(re.findall(r"--?([a-z][a-z-]*)", column)) | set(re.findall(r"/--?([a-z-]+)", column))
    klog = {"alsologtostderr", "log_backtrace_at", "log_dir", "logtostderr", "stderrthreshold", "vmodule"}
    assert KUBESEAL - named - klog == set()
    assert {name for name in named if len(name) > 1} - {text.lstrip("-") for text in known} == set()
