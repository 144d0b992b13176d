"""What follows from a run for people: findings in words, a line that sums it up, the controls it supports. Pure.

Clauses are named by number, in words of our own; a run *supports* a control, it never satisfies one: that is for an
auditor to say. Never here: drawing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from drills.evidence.facts import Facts, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One finding: severity `high`, `medium` or `low`, and who deals with it by when, where somebody said."""

    severity: str
    text: str
    owner: str = ""
    due: str = ""
    ticket: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One clause: what it asks for in our words, what of this run supports it, and whether anything does."""

    framework: str
    clause: str
    asks: str
    supports: str
    supported: bool


def summed_up(facts: Facts) -> str:
    """Give the run in a sentence or two."""
    what = "The control plane" if facts.simulated else "Everything"
    if facts.recovered is None:
        back = "Nothing was recovered: the run ended before that."
    else:
        goal = next((goal for goal in facts.goals if goal.measured == facts.recovered), None)
        of = f"; the objective is {shown(goal.goal)}" if goal else ""
        back = f"{what} was back {shown(facts.recovered)} after the disruption{of}."
    lost = facts.seconds_lost
    if lost is None:
        return f"{back} What was lost is not known."
    return f"{back} {'Nothing was lost.' if lost == 0 else f'Changes of {shown(lost)} were lost.'}"


def remarks(facts: Facts) -> list[Remark]:
    """Give the findings, worst first: what failed, what was missed, what is not known, what the record itself notes."""
    order = {"high": 0, "medium": 1, "low": 2}
    return sorted(_remarks(facts), key=lambda remark: order.get(remark.severity, 1))


def _remarks(facts: Facts) -> Iterator[Remark]:
    for bar in facts.bars:
        if not bar.ok and bar.depth == 0:
            yield Remark(severity="high", text=f"Step {bar.name} failed{': ' + bar.message if bar.message else ''}")
    for check in facts.failed_checks:
        severity = "high" if check.verdict == "fail" else "medium"
        words = {"fail": "did not hold", "skip": "was skipped"}.get(check.verdict, "could not be made")
        yield Remark(severity=severity, text=f"Check {check.name} {words}{': ' + check.actual if check.actual else ''}")
    for goal in facts.goals:
        if goal.met is False:
            yield Remark(
                severity="high", text=f"{goal.name}: {shown(goal.measured)}, the objective is {shown(goal.goal)}"
            )
        elif goal.not_applicable:
            yield Remark(severity="low", text=f"{goal.name} does not apply here: {goal.not_applicable}")
        elif goal.met is None:
            yield Remark(severity="medium", text=f"{goal.name} was not measured")
        elif goal.measured is not None and goal.goal and goal.measured * 10 > goal.goal * 8:
            yield Remark(severity="low", text=f"{goal.name} used over 80 % of its objective")
    if facts.verdict != "passed" and not facts.failed_checks and facts.message:
        yield Remark(severity="medium" if facts.verdict == "inconclusive" else "high", text=facts.message)
    if facts.simulated:
        text = "Nodes were simulated: times are of the control plane and say nothing about the service objective"
        yield Remark(severity="low", text=text)
    if facts.attempt > 1:
        yield Remark(
            severity="medium", text=f"This was attempt {facts.attempt}; those before it count as failed or ended"
        )
    for each in facts.deviations:
        severity = each.severity if each.severity in ("high", "medium", "low") else "medium"
        yield Remark(severity=severity, text=each.finding, owner=each.owner, due=each.due, ticket=each.ticket)


def controls(facts: Facts) -> Sequence[Control]:
    """Give what of this run supports which clause of SOC 2 (TSC 2017) and ISO/IEC 27001:2022."""
    integrity = [check for check in facts.checks if check.sort == "integrity" and check.verdict in ("pass", "fail")]
    held = sum(1 for check in integrity if check.verdict == "pass")
    proven = f"{held} of {len(integrity)} integrity checks held" if integrity else ""
    measured = [goal for goal in facts.goals if goal.met is not None]
    against = ", ".join(f"{goal.name} {shown(goal.measured)} of {shown(goal.goal)}" for goal in measured)
    carried = f"exercise of {facts.started[:10]}, verdict {facts.verdict}" if facts.bars and facts.started else ""
    rebuilt = f"recovered after {shown(facts.recovered)}" if facts.recovered is not None else ""
    noted = remarks(facts)
    owned = sum(1 for remark in noted if remark.owner)
    lessons = f"{len(noted)} finding(s) recorded, {owned} with an owner" if carried else ""
    rows = (
        ("SOC 2", "A1.2", "backups and recovery infrastructure are kept and proven whole", proven),
        ("SOC 2", "A1.3", "the procedures of the recovery plan are tested", carried),
        ("SOC 2", "CC7.5", "recovery from incidents: restored, lessons drawn, plan kept up", _joined(rebuilt, lessons)),
        ("ISO/IEC 27001:2022", "A.5.30", "readiness of ICT for continuity is tested against objectives", against),
        ("ISO/IEC 27001:2022", "A.8.13", "backups are tested by restoring from them", _joined(rebuilt, proven)),
    )
    return [
        Control(framework=framework, clause=clause, asks=asks, supports=found, supported=bool(found))
        for framework, clause, asks, found in rows
    ]


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
