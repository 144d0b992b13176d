"""Several clusters in one run: overlays and branches, a journal each, one report; one that fails stops no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recovery.cli import recover
from secretsops.cli import run
from secretsops.manifest import GroupVersionKind
from secretsops.ports import ClusterTarget
from tests.fakes.clock import FakeClock
from tests.fakes.git import FakeGit
from tests.recovery.estates import URL, Estate, NoRenderer, application, config_map

OLD = "https://old-eu.example:6443"
PLAN = f"""apiVersion: secretsops.dev/v1
kind: RecoveryPlan
spec:
  clusters:
  - {{name: eu, context: new-eu, path: eu/root.yaml, servers: ["{OLD}"]}}
  - {{name: us, context: new-us, path: us/root.yaml, revision: release}}
"""


def files(place: str, colour: str) -> dict[str, str]:
    return {
        f"{place}/root.yaml": application("root", f"{place}/apps").replace("https://kubernetes.default.svc", OLD),
        f"{place}/apps/settings.yaml": config_map("settings", colour=colour),
    }


class Doors:
    """Doors onto one repository and two clusters."""

    def __init__(self) -> None:
        self.estates = {"new-eu": Estate({}), "new-us": Estate({})}
        self.clock, self._git = FakeClock(), FakeGit()
        us = {path: text.replace(OLD, "https://kubernetes.default.svc") for path, text in files("us", "red").items()}
        us["us/root.yaml"] = us["us/root.yaml"].replace("path: us/apps", "path: us/apps, targetRevision: release")
        self._git.commit(URL, {"recovery.yaml": PLAN, **files("eu", "blue")})
        self._git.commit(URL, {**us}, branch="release")

    def git(self) -> FakeGit:
        return self._git

    def renderer(self) -> NoRenderer:
        return NoRenderer()

    def cluster(self, target: ClusterTarget) -> Any:
        return self.estates[target.context].cluster


def colours(doors: Doors) -> list[Any]:
    found = []
    for estate in doors.estates.values():
        maps = [m for m in estate.cluster.list(_MAP) if m.name == "settings"]
        found.append(maps[0].body["data"]["colour"] if maps else None)
    return found


_MAP = GroupVersionKind("", "v1", "ConfigMap")


def carry_out(doors: Doors, verb: str, journal: Path, *words: str) -> int:
    where = ["--repo", URL, "--revision", "main", "--journal", str(journal)]
    return run(recover, [verb, *where, *words], prog="t", doors=doors)


def test_overlays_and_branches_in_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One report; each cluster its own journal; old addresses mean the cluster itself; then both go live."""
    doors = Doors()
    assert carry_out(doors, "run", tmp_path, "--cluster", "all", "-o", "json") == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["ok"], list(body["clusters"])) == (True, ["eu", "us"])
    assert colours(doors) == ["blue", "red"]
    assert all((tmp_path / name / "journal.jsonl").is_file() for name in ("eu", "us"))
    assert [change["after"] for change in body["clusters"]["eu"]["remapped"]] == ["in-cluster"]
    assert carry_out(doors, "go-live", tmp_path, "--cluster", "all") == 0


def test_one_that_fails_stops_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named in the one report, and resumed by its name."""
    doors = Doors()
    doors._git.commit(URL, {"eu/apps/broken.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: [}\n"})
    assert carry_out(doors, "run", tmp_path, "--cluster", "all", "-o", "json") == 1
    body = json.loads(capsys.readouterr().out)
    assert (body["clusters"]["eu"]["reason"], body["clusters"]["us"]["ok"]) == ("PlanHasProblems", True)
    assert colours(doors) == [None, "red"]
    doors._git.commit(URL, {"eu/apps/broken.yaml": ""})
    assert carry_out(doors, "resume", tmp_path, "--cluster", "eu") == 0
    assert colours(doors) == ["blue", "red"]


def test_a_cluster_that_nobody_describes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is written anywhere."""
    doors = Doors()
    assert carry_out(doors, "run", tmp_path, "--cluster", "asia") == 2
    assert "it has eu, us" in capsys.readouterr().err
    assert all(estate.cluster.writes() == [] for estate in doors.estates.values())
