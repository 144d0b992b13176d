"""What a drill came to: verdict, objectives, checks, timeline; as plain data for JSON and as text. Pure.

Fail closed: what was not checked did not pass. Never here: signing, drawing, secret data.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from drills.timeline import Span, Timeline

STAND_IN = "every check held, but the embedded stand-in proves nothing about a real cluster"
KEPT = "every check held, but the world was kept, so nothing proves that it can be cleaned up"
ABORTED = "aborted"
EXIT_CODES = {"passed": 0, "failed": 1, "inconclusive": 3}
SIMULATED = "simulated"
"""Why an objective does not apply: on simulated nodes no workload starts."""


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
class Goal:
    """One objective held against what was measured, in seconds. `tier` "" is the whole.

    `not_applicable` says why it cannot be measured here; then it is listed and never counts.
    """

    name: str
    tier: str
    objective: float
    measured: float | None
    not_applicable: str = ""

    @property
    def met(self) -> bool | None:
        """Whether it was met; None where it is unknown or does not apply."""
        return None if self.measured is None or self.not_applicable else self.measured <= self.objective

    def body(self) -> dict[str, Any]:
        """Give it as plain data."""
        found: dict[str, Any] = {"name": self.name, "tier": self.tier, "objective": self.objective}
        found |= {"measured": _rounded(self.measured), "met": self.met}
        return {**found, "notApplicable": self.not_applicable} if self.not_applicable else found


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
    run_id: str = ""
    twin: bool = False
    """Whether it was the twin, which has to fail."""
    broken: str = ""
    """The step that broke the drill off, "" when none did."""
    goals: Sequence[Goal] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    """Plain data of the run: isolation, clean-up, applications, where the time went, refusals."""

    @property
    def held(self) -> bool:
        """Whether every check held and every objective was met, on whatever cluster and whether or not it was kept."""
        return self.verdict is Verdict.PASSED or self.message in (STAND_IN, KEPT)

    @property
    def exit_code(self) -> int:
        """Give the exit code of a command that ran it: 0 passed, 1 failed, 3 not known."""
        return EXIT_CODES[self.verdict.value]

    @property
    def unheld(self) -> frozenset[str]:
        """Name what did not hold: checks, and the step that broke it off. Of a twin these must name what it lacks."""
        return frozenset(
            [check.name for check in self.checks if check.ok is False] + ([self.broken] if self.broken else [])
        )

    def body(self) -> dict[str, Any]:
        """Give the report as stable plain data. Simulated nodes run no workload, so times are of the control plane."""
        line = self.timeline
        return {
            "apiVersion": "secretsops.dev/v1",
            "kind": "DrillReport",
            "scenario": self.scenario,
            "runId": self.run_id,
            "twin": self.twin,
            "started": self.started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "verdict": self.verdict.value,
            "message": self.message,
            "backend": self.backend,
            "controlPlaneRto": {
                "fromDisruption": _rounded(line.from_disruption),
                "fromDeclaration": _rounded(line.from_declaration),
                "machineTime": _rounded(line.machine),
                "objective": self.rto_objective,
            },
            "rpo": {"seconds": _rounded(self.rpo), "objective": self.rpo_objective},
            "objectives": [goal.body() for goal in self.goals],
            "checks": [{"name": check.name, "ok": check.ok, "message": check.message} for check in self.checks],
            "timeline": [_span(span) for span in line.spans],
            "marks": [{"name": mark.name, "at": round(mark.at, 3)} for mark in line.marks],
            **self.details,
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
                f"{_shown(line.from_declaration)} from declaration, {_shown(line.machine)} machine time "
                f"(objective {self.rto_objective:g} s)"
            ),
            f"RPO {_shown(self.rpo)} (objective {self.rpo_objective:g} s)",
            *(_told(goal) for goal in self.goals if goal.tier or goal.not_applicable),
            f"verdict: {self.verdict.value}" + (f": {self.message}" if self.message else ""),
        ]
        return "\n".join(rows) + "\n"


def judge(
    checks: Sequence[Check],
    goals: Sequence[Goal],
    *,
    broken: str = "",
    unreached: str = "",
    unproven: Sequence[str] = (),
    stand_in: bool = False,
) -> tuple[Verdict, str]:
    """Give the verdict and, unless it passed, why: a check that failed, an objective missed, something not known.

    `unreached` says why the disaster never came: then nothing was rehearsed. `broken` is the step that failed after it.
    `unproven` names what else had to be shown (clean-up) and was not. On a stand-in for a cluster the best is
    `inconclusive`, with the message STAND_IN when everything else held.
    """
    if unreached:
        return Verdict.INCONCLUSIVE, unreached
    failure = broken or _failure(checks, goals)
    if failure:
        return Verdict.FAILED, failure
    unknown = [check.name for check in checks if check.ok is None]
    unknown += [goal.name for goal in goals if goal.met is None and not goal.not_applicable]
    if unknown or not checks or not goals:
        return Verdict.INCONCLUSIVE, f"not known: {', '.join(unknown) or 'anything'}"
    others = [one for one in unproven if one != KEPT]
    if others:
        return Verdict.INCONCLUSIVE, f"not proven: {'; '.join(others)}"
    if stand_in or unproven:
        return Verdict.INCONCLUSIVE, STAND_IN if stand_in else KEPT
    return Verdict.PASSED, ""


def _failure(checks: Sequence[Check], goals: Sequence[Goal]) -> str:
    failed = [check.name for check in checks if check.ok is False]
    if failed:
        return f"{', '.join(failed)} did not hold"
    missed = [goal for goal in goals if goal.met is False]
    return _missed(missed[0]) if missed else ""


def _missed(goal: Goal) -> str:
    of = f" of tier {goal.tier}" if goal.tier else ""
    return f"{goal.name}{of} was {goal.measured or 0.0:.1f} s, the objective is {goal.objective:g} s"


def _told(goal: Goal) -> str:
    of = f" of tier {goal.tier}" if goal.tier else ""
    if goal.not_applicable:
        return f"{goal.name}{of} (objective {goal.objective:g} s): not applicable, {goal.not_applicable}"
    return f"{goal.name}{of} {_shown(goal.measured)} (objective {goal.objective:g} s)"


def _span(span: Span) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": span.name,
        "at": round(span.start, 3),
        "seconds": round(span.seconds, 3),
        "ok": span.ok,
    }
    if span.phase:
        found["phase"] = span.phase
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
