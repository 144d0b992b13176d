"""What a drill came to: verdict, objectives, checks, timeline; as plain data for JSON and as text. Pure.

Fail closed: what was not checked did not pass. Never here: signing, drawing, secret data.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from drills.timeline import Span, Timeline

STAND_IN = "every check held, but the embedded stand-in proves nothing about a real cluster"
REBUILD_STEPS = ("replace", "rebuild")
"""Steps that count as machine time of a recovery."""


class Verdict(StrEnum):
    """How a drill ended. `inconclusive`: it could not find out, which never counts as passed."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check: `ok` is None when it could not be made."""

    name: str
    ok: bool | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One drill. Times in seconds; None was not reached."""

    scenario: str
    started: dt.datetime
    verdict: Verdict
    backend: str
    rto_objective: float
    rpo_objective: float
    rpo: float | None
    checks: Sequence[Check]
    timeline: Timeline
    message: str = ""

    @property
    def held(self) -> bool:
        """Whether every check held and every objective was met, on whatever cluster."""
        return self.verdict is Verdict.PASSED or self.message == STAND_IN

    def body(self) -> dict[str, Any]:
        """Give the report as stable plain data. Simulated nodes run no workload, so times are of the control plane."""
        line = self.timeline
        return {
            "apiVersion": "secretsops.dev/v1",
            "kind": "DrillReport",
            "scenario": self.scenario,
            "started": self.started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "verdict": self.verdict.value,
            "message": self.message,
            "backend": self.backend,
            "controlPlaneRto": {
                "fromDisruption": _rounded(line.from_disruption),
                "fromDeclaration": _rounded(line.from_declaration),
                "machineTime": _rounded(line.machine(REBUILD_STEPS)),
                "objective": self.rto_objective,
            },
            "rpo": {"seconds": _rounded(self.rpo), "objective": self.rpo_objective},
            "checks": [{"name": check.name, "ok": check.ok, "message": check.message} for check in self.checks],
            "timeline": [_span(span) for span in line.spans],
            "marks": [{"name": mark.name, "at": round(mark.at, 3)} for mark in line.marks],
        }

    def text(self) -> str:
        """Give the report for a terminal."""
        line = self.timeline
        longest = max([span.end for span in line.spans], default=1.0)
        rows = ["", f"{'step':<28}{'at':>8}{'took':>9}"]
        for span in line.spans:
            rows.append(_row(span, longest, ""))
            rows += [_row(part, longest, "  ") for part in span.parts]
        rows.append("")
        for check in self.checks:
            state = {True: "ok", False: "FAILED", None: "NOT CHECKED"}[check.ok]
            rows.append(f"check {check.name:<22} {state:<12}{check.message}")
        rows += [
            "",
            (
                f"control-plane RTO {_shown(line.from_disruption)} from disruption, "
                f"{_shown(line.from_declaration)} from declaration, {_shown(line.machine(REBUILD_STEPS))} machine time "
                f"(objective {self.rto_objective:g} s)"
            ),
            f"RPO {_shown(self.rpo)} (objective {self.rpo_objective:g} s)",
            f"verdict: {self.verdict.value}" + (f": {self.message}" if self.message else ""),
        ]
        return "\n".join(rows) + "\n"


def judge(
    checks: Sequence[Check],
    timeline: Timeline,
    *,
    rto: float,
    rpo: float,
    lost: float | None,
    broken: str = "",
    stand_in: bool = False,
) -> tuple[Verdict, str]:
    """Give the verdict and, unless it passed, why: a check that failed, an objective missed, something not known.

    On a stand-in for a cluster the best is `inconclusive`, with the message STAND_IN when everything else held.
    """
    if broken:
        return Verdict.FAILED, broken
    failed = [check.name for check in checks if check.ok is False]
    if failed:
        return Verdict.FAILED, f"{', '.join(failed)} did not hold"
    took = timeline.from_disruption
    if took is not None and took > rto:
        return Verdict.FAILED, f"recovery took {took:.1f} s, the objective is {rto:g} s"
    if lost is not None and lost > rpo:
        return Verdict.FAILED, f"{lost:.1f} s of changes were lost, the objective is {rpo:g} s"
    unknown = [check.name for check in checks if check.ok is None]
    if unknown or not checks or took is None or lost is None:
        return Verdict.INCONCLUSIVE, f"not known: {', '.join(unknown) or 'recovery time or loss'}"
    return (Verdict.INCONCLUSIVE, STAND_IN) if stand_in else (Verdict.PASSED, "")


def _span(span: Span) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": span.name,
        "at": round(span.start, 3),
        "seconds": round(span.seconds, 3),
        "ok": span.ok,
    }
    if span.message:
        found["message"] = span.message
    if span.parts:
        found["parts"] = [_span(part) for part in span.parts]
    return found


def _row(span: Span, longest: float, indent: str) -> str:
    width = 40
    left = round(width * span.start / longest) if longest else 0
    bar = max(1, round(width * span.seconds / longest)) if longest else 1
    drawn = (" " * min(left, width - 1) + "█" * bar)[:width].ljust(width)
    failed = "" if span.ok else f"  FAILED {span.message}"
    return f"{indent + span.name:<28}{span.start:7.1f}s{span.seconds:8.1f}s  {drawn.rstrip()}{failed}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} s"
