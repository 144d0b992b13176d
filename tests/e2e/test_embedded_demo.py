"""The demo on a machine with neither a control plane nor Go: it takes the stand-in at once and says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from drills.report import STAND_IN

pytestmark = pytest.mark.e2e


def _without_go(folder: Path) -> dict[str, str]:
    """Give an environment whose PATH has no Go, whose cache has no binaries."""
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).iterdir() if Path(place).is_dir() else ():
            link = folder / program.name
            if program.name not in ("go", "gofmt") and not link.is_symlink() and os.access(program, os.X_OK):
                link.symlink_to(program)
    kept = {name: value for name, value in os.environ.items() if name != "KUBEBUILDER_ASSETS"}
    return {**kept, "PATH": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}


def test_the_demo_needs_no_control_plane(tmp_path: Path) -> None:
    """Every check holds within a minute; the verdict stays inconclusive, the exit code is 0."""
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "secretsops", "demo", "--report", str(report)]
    environment = _without_go(tmp_path / "bin")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    body = json.loads(report.read_text())
    assert (body["backend"], body["verdict"], body["message"]) == ("embedded", "inconclusive", STAND_IN)
    assert [check["ok"] for check in body["checks"]] == [True] * 5
    ended = body["timeline"][-1]
    assert ended["at"] + ended["seconds"] < 60


def test_a_drill_on_the_stand_in_has_not_passed(tmp_path: Path) -> None:
    """What has to be proven is proven on a real control plane: exit code 3."""
    command = [
        sys.executable,
        "-m",
        "secretsops",
        "drill",
        "run",
        "cluster-lost",
        "--cluster",
        "embedded",
        "-o",
        "json",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (3, "inconclusive")
