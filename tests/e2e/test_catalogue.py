"""Every shipped scenario on the real control plane, and its twin without the protection: that one has to fail.

The quick ones run on every change, the rest each night and by `make drills`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drills.cli import names, shipped
from drills.scenario import read_scenario
from drills.vocabulary import VOCABULARY

pytestmark = pytest.mark.e2e


def _scenario(name: str) -> Any:
    return read_scenario(shipped(name)[0], source=name, vocabulary=VOCABULARY)


def _runs() -> list[Any]:
    """Give (scenario, twin?) of all; what is not quick is nightly, and so is the twin of a quick one."""
    found = []
    for name in names():
        quick = _scenario(name).spec.quick
        for twin in (False, True):
            marks = () if quick and not twin else (pytest.mark.nightly,)
            found.append(pytest.param(name, twin, marks=marks, id=f"{name}-twin" if twin else name))
    return found


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("name", "twin"), _runs())
def test_it_passes_and_its_twin_fails(name: str, *, twin: bool, control_plane_binaries: None, tmp_path: Path) -> None:
    """Exit code and report say the same; a twin fails at what its scenario names, not at something else."""
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "secretsops", "drill", "run", name, "--cluster", "real", "--report", str(report)]
    done = subprocess.run([*command, *["--twin"] * twin], capture_output=True, text=True, check=False)
    assert report.is_file(), done.stderr[-3000:]
    body = json.loads(report.read_text())
    told = {name: body[name] for name in ("verdict", "message", "checks")}
    assert [proof["ok"] for proof in body["isolation"] + body["cleanup"]] == [True] * len(
        body["isolation"] + body["cleanup"]
    )
    if not twin:
        assert (done.returncode, body["verdict"], body["message"]) == (0, "passed", ""), told
        return
    assert (done.returncode, body["verdict"]) == (1, "failed"), told
    failed = {check["name"] for check in body["checks"] if check["ok"] is False}
    failed |= {span["name"] for span in body["timeline"] if not span["ok"]}
    assert set(_scenario(name).spec.twin.fails) <= failed, told
