"""A run as JUnit XML, which CI systems draw: a test case per check, per objective and per step. Pure text."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import quoteattr

from drills.evidence.facts import Facts, shown


def junit(facts: Facts) -> str:
    """Give the XML. What was not found out is an error, never skipped: a skipped test is green in most tools."""
    cases = [*_checks(facts), *_goals(facts), *_steps(facts)]
    failures = sum(1 for _, _, verdict, _ in cases if verdict == "failure")
    errors = sum(1 for _, _, verdict, _ in cases if verdict == "error")
    if facts.verdict != "passed" and not failures + errors:
        cases.append(("verdict", "0", "error" if facts.verdict == "inconclusive" else "failure", facts.message))
        failures, errors = failures + (facts.verdict == "failed"), errors + (facts.verdict == "inconclusive")
    total = sum(bar.took for bar in facts.bars if bar.depth == 0)
    counts = f'tests="{len(cases)}" failures="{failures}" errors="{errors}" skipped="0"'
    name = _quoted(f"drill {facts.scenario}")
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuites {counts}>"]
    lines.append(f'<testsuite name={name} {counts} time="{total / 1000:.3f}" timestamp={_quoted(facts.started)}>')
    for title, time, verdict, message in cases:
        head = f'<testcase classname={name} name={_quoted(title)} time="{time}"'
        lines.append(f"{head}/>" if not verdict else f"{head}><{verdict} message={_quoted(message)}/></testcase>")
    return "\n".join([*lines, "</testsuite>", "</testsuites>"]) + "\n"


def _checks(facts: Facts) -> Iterator[tuple[str, str, str, str]]:
    for check in facts.checks:
        verdict = {"pass": "", "fail": "failure"}.get(check.verdict, "error")
        yield f"check {check.name}", "0", verdict, check.actual or check.verdict


def _goals(facts: Facts) -> Iterator[tuple[str, str, str, str]]:
    for goal in facts.goals:
        if goal.not_applicable:
            continue
        verdict = {True: "", False: "failure", None: "error"}[goal.met]
        time = f"{(goal.measured or 0) / 1000:.3f}"
        yield f"objective {goal.name}", time, verdict, f"{shown(goal.measured)}, objective {shown(goal.goal)}"


def _steps(facts: Facts) -> Iterator[tuple[str, str, str, str]]:
    for bar in facts.bars:
        if bar.depth == 0:
            yield f"step {bar.name}", f"{bar.took / 1000:.3f}", "" if bar.ok else "failure", bar.message


def _quoted(text: str) -> str:
    """Give an attribute; characters that XML 1.0 cannot hold become U+FFFD."""
    fit = "".join(
        c if c in "\t\n" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff" else "\ufffd"
        for c in text
    )
    return quoteattr(fit, {"\n": "&#10;", "\t": "&#9;"})
