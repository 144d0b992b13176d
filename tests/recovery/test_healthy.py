"""A recovery point after each healthy sync: of the commits that run, and only when everything runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recovery.argo import APPLICATION
from recovery.cli import recover
from recovery.observe import Doors as Reconciling
from recovery.reconcile import reconcile
from secretsops.cli import run
from secretsops.manifest import Manifest, load_all
from tests.fakes.git import FakeGit
from tests.recovery.estates import URL, Estate, NoRenderer, application, config_map

FILES = {
    "root.yaml": application("root", "apps").replace(f'"{URL}"', f'"{URL}", targetRevision: main'),
    "apps/shop.yaml": application("shop", "shop").replace(f'"{URL}"', f'"{URL}", targetRevision: main'),
    "shop/settings.yaml": config_map("settings", colour="blue"),
}
WHERE = ["--repo", URL, "--revision", "main", "--path", "root.yaml"]


class World:
    """A cluster in which Argo CD's gate carried an estate out."""

    def __init__(self, folder: Path) -> None:
        self.estate, self.folder = Estate(FILES), folder / "points"
        self.git: FakeGit = self.estate.git
        self.estate.cluster.create(load_all(FILES["root.yaml"].encode())[0])
        self.sync()

    def sync(self) -> None:
        """Have everything done that is due."""
        estate = self.estate
        doors = Reconciling(
            cluster=estate.cluster, git=estate.git, renderer=NoRenderer(), clock=estate.clock, parallel=1
        )
        reconcile(doors)

    def write(self) -> int:
        """Write the point of what runs."""
        estate = self.estate
        doors = SimpleNamespace(
            git=lambda: estate.git, renderer=NoRenderer, clock=estate.clock, cluster=lambda _: estate.cluster
        )
        arguments = ["point", "write", *WHERE, "--to", str(self.folder), "--healthy"]
        return run(recover, arguments, prog="recover", doors=doors)

    def points(self) -> list[dict[str, Any]]:
        """Give the points that were kept."""
        return [json.loads(file.read_text()) for file in sorted(self.folder.glob("point-*.json"))]

    def status(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the status of an Application."""
        live = self.estate.cluster.get(APPLICATION, name, "argocd")
        change(live.body)
        self.estate.cluster.replace(Manifest(live.body))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_point_pins_what_runs_not_what_git_has_by_then(world: World) -> None:
    """A commit that nothing runs yet is in no point; the same again is not written twice."""
    runs = world.estate.commit
    newer = world.git.commit(URL, {"shop/settings.yaml": config_map("settings", colour="red")})
    assert world.write() == 0
    (point,) = world.points()
    assert point["pins"] == {f"{URL}@main": runs}
    assert (point["repo"], point["revision"], point["path"]) == (URL, "main", "root.yaml")
    world.estate.clock.sleep(3600)
    assert world.write() == 0
    assert len(world.points()) == 1
    for name in ("root", "shop"):
        note = {"metadata": {"annotations": {"argocd.argoproj.io/refresh": "normal"}}}
        world.estate.cluster.patch(APPLICATION, name, note, namespace="argocd")
    world.sync()
    assert world.write() == 0
    assert [one["pins"][f"{URL}@main"] for one in world.points()] == [runs, newer]


UNFIT: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "out of sync": (lambda body: body["status"]["sync"].update(status="OutOfSync"), "is OutOfSync"),
    "unknown": (lambda body: body["status"]["sync"].update(status="Unknown"), "is Unknown"),
    "degraded": (lambda body: body["status"].update(health={"status": "Degraded"}), "is Degraded"),
    "no health": (lambda body: body["status"].pop("health"), "of unknown health"),
    "running": (lambda body: body.update(operation={"sync": {}}), "is being synced"),
    "failed": (lambda body: body["status"].update(operationState={"phase": "Failed"}), "was not synced to its end"),
    "another source": (lambda body: body["spec"]["source"].update(path="other"), "another source"),
    "no commit": (lambda body: body["status"]["sync"].update(revision="main"), "which commit"),
    "another commit": (lambda body: body["status"]["sync"].update(revision="f" * 40), "another application"),
    "never compared": (lambda body: body.pop("status"), "not compared yet"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_moment_that_is_not_healthy_is_not_pinned(
    world: World, case: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Whatever one Application lacks: no point, and it is named."""
    change, why = UNFIT[case]
    world.status("shop", change)
    assert world.write() == 1
    assert why.encode() in capsysbinary.readouterr().err
    assert world.points() == []


def test_an_application_that_git_has_and_the_cluster_has_not(
    world: World, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """What a rebuild would bring and does not run is no healthy estate; neither is an empty cluster."""
    world.estate.cluster.delete(APPLICATION, "shop", namespace="argocd")
    assert world.write() == 1
    assert b"argocd/shop is not in the cluster" in capsysbinary.readouterr().err
    world.estate.cluster.delete(APPLICATION, "root", namespace="argocd")
    assert world.write() == 1
    assert b"no Application" in capsysbinary.readouterr().err
