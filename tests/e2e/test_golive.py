"""What a rebuild holds back on a real API server, `go-live`, and an export of that cluster with its trial import."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from drills.sandbox.cluster import ControlPlane
from drills.sandbox.git_server import GitServer
from secretsops.manifest import GroupVersionKind, Manifest
from tests.e2e.estates import commit
from tests.e2e.test_kit import Lost

pytestmark = [pytest.mark.e2e, pytest.mark.nightly]

CRON = GroupVersionKind("batch", "v1", "CronJob")
POD = "{spec: {restartPolicy: Never, containers: [{name: a, image: example.com/a}]}}"
NIGHT = """apiVersion: batch/v1
kind: CronJob
metadata: {name: night}
spec: {schedule: '0 0 1 1 *', jobTemplate: {spec: {template: %s}}}
"""


def test_held_back_let_go_and_exported(
    git_server: GitServer, control_plane_with_nodes: ControlPlane, tmp_path: Path
) -> None:
    """The CronJob is suspended until go-live; the second person is told; a hand-made Secret leaves and comes back."""
    lost = Lost(git_server, control_plane_with_nodes.kubeconfig, tmp_path)
    commit(lost.second, tmp_path / "second", {"blog/night.yaml": NIGHT % POD})
    estate = ("--repo", lost.main.url, "--revision", "main", "--path", "root.yaml")
    into = ("--kubeconfig", str(lost.kubeconfig), "--install", str(tmp_path / "install.yaml"))
    journal, space = ("--journal", str(tmp_path / "journal")), f"blog-{lost.suffix}"
    lost.run("recover", "go-live", *estate, *into, "--journal", str(tmp_path / "none"), expect=2)
    said = lost.run("recover", "run", *estate, *into, *journal)
    assert "held until go-live: its jobs may reach out" in said
    assert lost.cluster.get(CRON, "night", space).spec["suspend"] is True
    told = json.loads(lost.run("recover", "go-live", *estate, *into, *journal, "-o", "json"))
    assert told["released"] == [f"batch/CronJob {space}/night"]
    assert lost.cluster.get(CRON, "night", space).spec["suspend"] is False
    hand = {"metadata": {"name": "by-hand", "namespace": space}, "data": {"a": base64.b64encode(b"b").decode()}}
    lost.cluster.create(Manifest({"apiVersion": "v1", "kind": "Secret", **hand}))
    (tmp_path / "gaps.yaml").write_text(
        "apiVersion: secretsops.dev/v1\nkind: GapIgnore\nspec:\n  ignore:\n"
        + "".join(
            f"  - {{object: '{kind}*', reason: of other tests}}\n"
            for kind in "ABCDEFGHIJKLMNOPQRTUVWXYZabcdefghijklmnopqrtuvwxyz"
        )
    )
    where = ("--kubeconfig", str(lost.kubeconfig), "--ignore-file", str(tmp_path / "gaps.yaml"))
    exported = lost.run(
        "recover", "export", *estate, *where, "--recipient", lost.recipient, "--to", str(tmp_path / "out")
    )
    assert "export 1:" in exported
    document = json.loads((tmp_path / "out" / "export-00000001.json").read_text())
    assert f"Secret {space}/by-hand" in document["objects"]
    assert f"argoproj.io/Application argocd/root-{lost.suffix}" in document["objects"]
    opened = ("--from", str(tmp_path / "out"), "--identity", str(tmp_path / "identity.txt"))
    tried = json.loads(lost.run("recover", "import", *opened, "--trial", "-o", "json"))
    assert f"Secret {space}/by-hand" in tried["made"]
    assert tried["refused"] == {}
