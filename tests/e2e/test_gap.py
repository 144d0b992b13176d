"""`recover gap` on a real API server: a rebuilt estate has no gap, what people do to it afterwards is named."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drills.sandbox.cluster import ControlPlane
from drills.sandbox.git_server import GitServer
from secretsops.adapters.kube import connect
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import ClusterTarget
from tests.e2e.estates import application, commit

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "secretsops", "recover", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_what_people_do_beside_git_is_a_gap(control_plane: ControlPlane, git_server: GitServer, tmp_path: Path) -> None:
    """Nothing of the estate is a gap after a rebuild; a hand-made Secret, an edit and a left-over then are.

    The run leaves a recovery point that renders again to what it was.
    """
    suffix = secrets.token_hex(3)
    name = f"gap-{suffix}"
    repository = git_server.create(name)
    files = {
        "root.yaml": application(name, repository.url, "shop", namespace=name),
        "shop/settings.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {colour: blue}\n",
        "shop/plain.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: plain}\nstringData: {a: hunter2}\n",
    }
    commit(repository, tmp_path / "work", files)
    crds = sorted((ROOT / "controllers/deploy/crds").glob("appl*.yaml"))
    install = [argument for file in crds for argument in ("--install", str(file))]
    where = ["--repo", repository.url, "--revision", "main", "--path", "root.yaml", *install]
    target = ["--kubeconfig", str(control_plane.kubeconfig)]
    points = str(tmp_path / "points")
    done = _run("run", *where, *target, "--journal", str(tmp_path / "journal"), "--keep-point", points)
    assert done.returncode == 0, done.stderr
    proven = _run("point", "check", *where[:6], "--points", points)
    assert proven.returncode == 0, proven.stdout + proven.stderr

    def mine() -> dict[str, dict[str, Any]]:
        answer = _run("gap", *where, *target, "-o", "json")
        assert "hunter2" not in answer.stdout + answer.stderr
        body = json.loads(answer.stdout)
        assert body["unread"] == []
        return {gap["object"]: gap for gap in body["gaps"] if name in gap["object"]}

    assert mine() == {}
    cluster = connect(ClusterTarget(kubeconfig=str(control_plane.kubeconfig)))
    for kind in ("Secret", "ConfigMap"):
        metadata = {"name": "by-hand", "namespace": name}
        cluster.create(Manifest({"apiVersion": "v1", "kind": kind, "metadata": metadata}))
    edited = {"data": {"colour": "red", "size": "big"}}
    cluster.patch(CONFIG_MAP, "settings", edited, namespace=name, field_manager="kubectl-edit")
    found = mine()
    assert {(key, gap["category"]) for key, gap in found.items() if "settings" not in key} == {
        (f"Secret {name}/by-hand", "hand-made-secret"),
        (f"ConfigMap {name}/by-hand", "unowned"),
    }
    assert f"ConfigMap {name}/settings" in found
    ignore = tmp_path / "gaps.yaml"
    ignore.write_text(
        "apiVersion: secretsops.dev/v1\nkind: GapIgnore\n"
        "spec: {ignore: [{object: '*', reason: shared with other tests}]}\n"
    )
    assert _run("gap", *where, *target, "--ignore-file", str(ignore)).returncode == 0
