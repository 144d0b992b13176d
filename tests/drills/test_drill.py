"""The pure parts of a drill: three clocks, pictures without values, verdicts that fail closed; its commands."""

from __future__ import annotations

import base64
import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drills.compare import differing_objects, differing_secrets, picture
from drills.report import KEPT, SIMULATED, STAND_IN, Check, Goal, Report, Verdict, judge
from drills.timeline import CHECKS, DECLARED, DISRUPTED, PROTECTED, RECOVER, RECOVERED, Mark, Span, Timeline
from secretsops.manifest import Manifest


def _timeline(**at: float) -> Timeline:
    spans = [
        Span(name="replace", start=20, end=25, ok=True, phase=RECOVER),
        Span(name="rebuild", start=40, end=52, ok=True, phase=RECOVER),
        Span(name="check", start=52, end=60, ok=True, phase=CHECKS),
    ]
    return Timeline(spans=spans, marks=[Mark(name=name, at=when) for name, when in at.items()])


WHOLE = {PROTECTED: 5.0, DISRUPTED: 10.0, DECLARED: 18.0, RECOVERED: 52.0}


def test_three_clocks() -> None:
    """From disruption, from declaration, and the machine's own time."""
    line = _timeline(**WHOLE)
    assert (line.from_disruption, line.from_declaration, line.machine) == (42.0, 34.0, 17.0)
    assert (line.lost(equal=True), line.lost(equal=False)) == (0.0, 5.0)


def test_an_unknown_time_is_no_time() -> None:
    """A mark that is missing, or in the wrong order, gives None and never zero."""
    assert _timeline(disrupted=10.0).from_disruption is None
    assert _timeline(recovered=5.0, disrupted=10.0).from_disruption is None
    assert _timeline(disrupted=10.0).lost(equal=False) is None


OK, NO, UNKNOWN = (Check(name="c", ok=state, message="") for state in (True, False, None))
MET, MISSED, OPEN = (Goal(name="rpo", tier="", objective=1, measured=found) for found in (0.5, 2.0, None))
BESIDE = Goal(name="serviceRto", tier="", objective=1, measured=None, not_applicable=SIMULATED)


@pytest.mark.parametrize(
    ("checks", "goals", "options", "verdict"),
    [
        ([OK], [MET], {}, Verdict.PASSED),
        ([OK], [MET, BESIDE], {}, Verdict.PASSED),
        ([OK, NO], [MET], {}, Verdict.FAILED),
        ([OK, UNKNOWN], [MET], {}, Verdict.INCONCLUSIVE),
        ([NO, UNKNOWN], [MET], {}, Verdict.FAILED),
        ([], [MET], {}, Verdict.INCONCLUSIVE),
        ([OK], [], {}, Verdict.INCONCLUSIVE),
        ([OK], [MET, OPEN], {}, Verdict.INCONCLUSIVE),
        ([OK], [MET, MISSED], {}, Verdict.FAILED),
        ([OK], [MET], {"broken": "rebuild: no"}, Verdict.FAILED),
        ([OK], [MET], {"unreached": "install: no"}, Verdict.INCONCLUSIVE),
        ([OK], [MET], {"unproven": ["clean-up"]}, Verdict.INCONCLUSIVE),
        ([OK], [MET], {"unproven": [KEPT]}, Verdict.INCONCLUSIVE),
        ([NO], [MET], {"unproven": ["clean-up"]}, Verdict.FAILED),
    ],
)
def test_verdicts_fail_closed(
    checks: list[Check], goals: list[Goal], options: dict[str, Any], verdict: Verdict
) -> None:
    """Passed only when every check held, every objective was met, and everything is known and proven."""
    found, message = judge(checks, goals, **options)
    assert found is verdict
    assert bool(message) is (verdict is not Verdict.PASSED)


def secret(name: str, value: str, **metadata: object) -> Manifest:
    data = {"password": base64.b64encode(value.encode()).decode()}
    body = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data}
    return Manifest({**body, "metadata": {"name": name, "namespace": "shop", **metadata}})


def test_pictures_tell_other_values_and_hold_none() -> None:
    """Equal values are equal under one key; under another key nothing matches, and no value can be read."""
    before = picture([secret("a", "hunter2"), secret("b", "x")], key=b"k" * 32)
    after = picture([secret("a", "hunter3")], key=b"k" * 32)
    found = [line.partition("shop/")[2] for line in differing_secrets(before, after)]
    assert found == ["a holds other values", "b is missing"]
    assert differing_secrets(before, picture([secret("a", "hunter2"), secret("b", "x")], key=b"k" * 32)) == []
    other = picture([secret("a", "hunter2"), secret("b", "x")], key=b"j" * 32)
    assert len(differing_secrets(before, other)) == 2
    assert "hunter2" not in repr(before)
    assert base64.b64encode(b"hunter2").decode() not in str(dict(before.secrets))


def test_pictures_leave_out_what_is_made_anew() -> None:
    """Pods, hooks, tokens; what only one cluster has is named with its side."""
    hook = secret("hook", "x", annotations={"argocd.argoproj.io/hook": "PreSync"})
    token = Manifest({**secret("token", "x").body, "type": "kubernetes.io/service-account-token"})
    pod = Manifest({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop"}})
    found = picture([hook, token, pod, secret("a", "x")], key=b"k")
    assert {key.name for key in found.objects} == {"a"}
    empty = picture([], key=b"k")
    assert [line.rpartition(" is ")[2] for line in differing_objects(found, empty)] == ["missing"]
    assert differing_objects(empty, found)[0].endswith("was not there before")


def test_a_stand_in_proves_nothing() -> None:
    """On the embedded cluster the best verdict is inconclusive; what failed there has failed."""
    assert judge([OK], [MET], stand_in=True) == (Verdict.INCONCLUSIVE, STAND_IN)
    assert judge([NO], [MET], stand_in=True)[0] is Verdict.FAILED


def test_a_report_says_the_same_as_text_and_as_json() -> None:
    """Unknown is written as unknown, never as a number."""
    report = Report(
        scenario="s",
        started=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        verdict=Verdict.INCONCLUSIVE,
        backend="control-plane",
        rto_objective=90,
        rpo_objective=0,
        rpo=None,
        checks=[UNKNOWN],
        timeline=_timeline(disrupted=10.0),
        message="not known: c",
    )
    body = json.loads(json.dumps(report.body()))
    assert (body["verdict"], body["rpo"]["seconds"], body["controlPlaneRto"]["fromDisruption"]) == (
        "inconclusive",
        None,
        None,
    )
    text = report.text()
    assert "NOT CHECKED" in text
    assert "RPO unknown" in text
    assert "verdict: inconclusive: not known: c" in text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["drill", "list"], 0, "cluster-lost"),
        (["drill", "run", "nothing"], 2, "drill list"),
        (["drill", "run", "nothing.yaml"], 2, "no file"),
    ],
)
def test_commands(arguments: list[str], code: int, words: str) -> None:
    """What cannot be done is said in two lines, with its exit code."""
    done = subprocess.run([sys.executable, "-m", "secretsops", *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, words in done.stdout + done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_used_world_is_refused(tmp_path: Path) -> None:
    """Evidence of an earlier drill is not mixed with that of another."""
    (tmp_path / "old").write_text("x")
    command = [sys.executable, "-m", "secretsops", "demo", "--world", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not empty" in done.stderr
