"""Both disasters, by the runbooks of the recovery manual, on an estate as teams lay it out.

`clusters/ infrastructure/ policies/ secrets/ apps/` with bases and overlays, projects with sync windows, an
ApplicationSet, a chart whose values are in a private repository, admission policies, a migration before each sync.
The shell blocks are run as they are printed; only the exported examples are others.
"""

from __future__ import annotations

import base64
import importlib.resources
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from drills import estate
from drills.sandbox.backend import Backend
from drills.sandbox.world import Sandbox
from secretsops.adapters.age import AgeDoor
from secretsops.adapters.kube import connect
from secretsops.files import write_atomic
from secretsops.manifest import GroupVersionKind, dump
from secretsops.ports import Cluster, ClusterTarget
from secretsops.secret import Plaintext
from tests.e2e.runbooks import filled, runbooks

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = runbooks((ROOT / "recovery" / "README.md").read_text())
BIN = Path(sys.executable).parent
JOB = GroupVersionKind("batch", "v1", "Job")
DEPLOYMENT = GroupVersionKind("apps", "v1", "Deployment")
SECRET = GroupVersionKind("", "v1", "Secret")


class Team:
    """A team with one cluster, two repositories, a Vault, an escrow, and a person at a shell."""

    def __init__(self, world: Sandbox, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.kubeconfig = folder / "kubeconfig"
        self.token = Plaintext(secrets.token_urlsafe().encode())
        self.main = world.git().create("estate")
        self.private = world.git().create("values", login=("ci", self.token))
        identity, self.recipient = AgeDoor().generate()
        write_atomic(folder / "identity.txt", identity.reveal() + b"\n", mode=0o600)
        (folder / "git-token").write_bytes(self.token.reveal())
        login = {"url": self.private.url, "username": "ci", "passwordFile": str(folder / "git-token")}
        (folder / "repositories.yaml").write_text(yaml.safe_dump({"repositories": [login]}))

    @property
    def values(self) -> Mapping[str, str]:
        """What the runbooks' examples stand for here."""
        return {
            "REPO": self.main.url,
            "SECRETSOPS_REPOSITORIES": str(self.folder / "repositories.yaml"),
            "ESCROW": str(self.folder / "escrow"),
            "IDENTITY": str(self.folder / "identity.txt"),
            "NEW": "new",
            "LIVE": "live",
            "RECIPIENT": self.recipient,
        }

    def start(self, context: str) -> Cluster:
        """Start a cluster whose Pods of ours run, and give it a context."""
        plane = self.world.cluster(context, audit=True)
        self.world.pods(plane)
        mine = yaml.safe_load(plane.kubeconfig.read_text())
        known = yaml.safe_load(self.kubeconfig.read_text()) if self.kubeconfig.is_file() else None
        mine["contexts"][0]["name"] = context
        for kind, key in (("clusters", "cluster"), ("users", "user")):
            mine[kind][0]["name"] = mine["contexts"][0]["context"][key] = f"{context}-{key}"
        if known:
            for kind in ("clusters", "users", "contexts"):
                mine[kind] += [entry for entry in known[kind] if entry["name"] != mine[kind][0]["name"]]
        mine["current-context"] = "none"
        self.kubeconfig.write_text(yaml.safe_dump(mine))
        self.kubeconfig.chmod(0o600)
        return connect(ClusterTarget(kubeconfig=str(self.kubeconfig), context=context))

    def shell(self, block: str, *, code: int = 0, **values: str) -> str:
        """Run a block as a person pastes it, in one folder, stopping at the first command that fails."""
        environment = {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "KUBECONFIG": str(self.kubeconfig),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", filled(block, {**self.values, **values})],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == code, f"{block}\n{done.stdout}\n{done.stderr}"
        assert self.token.reveal().decode() not in done.stdout + done.stderr
        return done.stdout

    def seal(self, file: str, namespace: str, name: str, data: Mapping[str, str], **more: Any) -> None:
        """Seal one Secret into the estate."""
        metadata = {"name": name, "namespace": namespace, **({"labels": more["labels"]} if "labels" in more else {})}
        coded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": coded}
        body |= {"type": more["type"]} if "type" in more else {}
        command = [str(BIN / "seal"), "--cert", str(self.folder / "cert.pem"), "-w", str(self.folder / "work" / file)]
        (self.folder / "work" / file).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(command, input=dump(body), text=True, check=True, timeout=60, capture_output=True)

    def commit(self) -> None:
        """Fill both repositories."""
        work = self.folder / "work"
        addresses = {
            "repo": self.main.url,
            "private": self.private.url,
            "vault": self.world.openbao().url,
            "recipient": self.recipient,
            "host": "127.0.0.1",
        }
        source = importlib.resources.files("drills") / "scenarios" / "platform"
        estate.fill(source, work, addresses)
        made = [secrets.token_urlsafe(12) for _ in range(4)]
        registry = json.dumps({"auths": {"registry.example": {"auth": base64.b64encode(b"ci:x").decode()}}})
        self.seal("secrets/prod/db.yaml", "shop", "db", {"username": "shop", "password": made[0]})
        self.seal("secrets/prod/registry.yaml", "shop", "registry", {".dockerconfigjson": registry},
                  type="kubernetes.io/dockerconfigjson")  # fmt: skip
        self.seal("secrets/prod/login.yaml", "payments", "login", {"token": made[1]})
        self.seal("infrastructure/overlays/prod/vault-login-sealed.yaml", "kube-system", "vault-login",
                  {"token": self.world.openbao().token})  # fmt: skip
        self.seal(
            "secrets/prod/values-repository.yaml",
            "argocd",
            "values-repository",
            {"username": "ci", "password": self.token.reveal().decode()},
            labels={"argocd.argoproj.io/secret-type": "repository"},
        )
        # What is no secret stays readable, so that tools see offline which repository it is for.
        file = work / "secrets/prod/values-repository.yaml"
        body = yaml.safe_load(file.read_text())
        body["spec"]["template"]["data"] = {"url": self.private.url}
        file.write_text(yaml.safe_dump(body))
        estate.commit(work, self.main.url, "The estate")
        self.world.openbao().write("shop/payment", {"apikey": made[2], "webhook": made[3]})
        values = self.folder / "values"
        (values / "prod").mkdir(parents=True)
        (values / "prod" / "payments.yaml").write_text("replicas: 2\nsecret: login\n")
        estate.commit(values, self.private.url.replace("://", f"://ci:{self.token.reveal().decode()}@"), "Values")


def _secrets(cluster: Cluster) -> dict[str, object]:
    """Give the data of every Secret of the estate, and of the sealing keys."""
    kept = ("shop", "payments", "argocd", "kube-system")
    return {
        f"{live.namespace}/{live.name}": live.body.get("data")
        for live in cluster.list(SECRET)
        if live.namespace in kept and live.body.get("type") != "kubernetes.io/service-account-token"
    }


@pytest.fixture(scope="module")
def team(control_plane_binaries: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """Give a team whose cluster was filled from Git by the first runbook."""
    folder = tmp_path_factory.mktemp("team")
    with Sandbox(folder / "world", kind="real") as world:
        yield Team(world, folder)


def test_both_disasters_by_the_runbooks(team: Team) -> None:
    """Filled from Git; proven; the cluster is lost and comes back whole; Argo CD is lost and nothing is touched."""
    live = team.start("live")
    team.shell(RUNBOOKS["install"][0])
    team.shell('export LIVE=\nseal --fetch-cert --context "$LIVE" > cert.pem')
    team.commit()
    for block in RUNBOOKS["install"][1:]:
        team.shell(block)
    before = _secrets(live)
    assert {"shop/db", "shop/payment", "payments/login", "argocd/values-repository"} <= set(before)

    proof, weakness = RUNBOOKS["before anything happens"]
    assert "verdict: every secret comes back" in team.shell(proof)
    assert "1  store vault: then a rebuild lacks the store vault" in team.shell(weakness, code=1)

    new = team.start("new")
    team.world.clusters["live"].destroy()
    for block in RUNBOOKS["the cluster is gone"]:
        team.shell(block)
    assert _secrets(new) == before

    workloads, seen = _versions(new), len(_writes(team.world.clusters["new"]))
    team.shell("kubectl --context new delete namespace argocd --wait=false")
    unstick, adopt = RUNBOOKS["Argo CD is gone, the cluster lives"]
    team.shell(unstick, LIVE="new")
    assert "argocd/values-repository" not in _secrets(new)
    team.shell(adopt, LIVE="new")
    assert _secrets(new) == before
    assert _versions(new) == workloads
    written = _writes(team.world.clusters["new"])[seen:]
    assert written
    assert [write for write in written if write.partition(" ")[2].startswith(("shop/", "payments/"))] == []


def _versions(cluster: Cluster) -> dict[str, object]:
    """Give the version of every Deployment and the UID of every Job: a write changes the one, a new run the other."""
    found: dict[str, object] = {
        f"{live.namespace}/{live.name}": live.metadata["resourceVersion"] for live in cluster.list(DEPLOYMENT)
    }
    return found | {f"{live.namespace}/{live.name}": live.metadata["uid"] for live in cluster.list(JOB)}


def _writes(plane: Backend) -> list[str]:
    """Give what the rebuild wrote, from the API server's own log: `resource namespace/name`."""
    assert plane.audit_log is not None
    found = []
    for line in plane.audit_log.read_text().splitlines():
        entry = json.loads(line)
        where = entry.get("objectRef") or {}
        if entry.get("stage") != "ResponseComplete" or entry["verb"] not in ("create", "update", "patch", "delete"):
            continue
        by_us = str(entry.get("userAgent")).startswith("secretsops")
        if by_us and not entry["user"]["username"].startswith("system:serviceaccount:"):
            found.append(f"{where.get('resource')} {where.get('namespace', '')}/{where.get('name', '')}")
    return found
