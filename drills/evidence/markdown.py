"""A run as Markdown for a pull request, and as the few lines that go to a chat or a webhook. Pure text.

Everything from a record is escaped: it may hold names that somebody else chose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drills.evidence.facts import Facts, Goal, shown
from drills.evidence.findings import controls, remarks, summed_up
from drills.evidence.history import Outcome, spread

SIGNS: Mapping[str, str] = {"passed": "✅", "failed": "❌", "inconclusive": "⚠️"}
_CHECKS: Mapping[str, str] = {
    "pass": "✅ held",
    "fail": "❌ failed",
    "skip": "⚠️ skipped",
    "inconclusive": "⚠️ not known",
}
ROWS = 40
"""Rows of one table in a comment that people read."""


def markdown(facts: Facts, earlier: Sequence[Outcome] = ()) -> str:
    """Give the run for a pull request: verdict, figures, checks, where the time went, findings, controls."""
    parts = [
        f"## {SIGNS[facts.verdict]} Drill {_text(facts.scenario)}: {facts.verdict}",
        summed_up(facts) + (f" {_text(facts.message)}" if facts.message else ""),
        _table(
            ("Objective", "Measured", "Goal", "Met"),
            [(_text(goal.name), _measured(goal), shown(goal.goal), _met(goal)) for goal in facts.goals],
        ),
        _table(
            ("Check", "Verdict", "Found"),
            [(_text(each.name), _CHECKS[each.verdict], _text(each.actual)) for each in facts.checks],
        ),
    ]
    if facts.path:
        whole = sum(each.took for each in facts.path) or 1
        longest = sorted(facts.path, key=lambda each: -each.took)[:8]
        rows = [(_text(each.name), shown(each.took), f"{each.took * 100 // whole} %") for each in longest]
        parts += ["### Where the time went", _table(("Stretch", "Took", "Of recovery"), rows)]
    if facts.secrets:
        rows3 = [
            (_text(each.name), _text(each.source), _text(each.verdict), _text(each.note)) for each in facts.secrets
        ]
        parts += ["### Secrets", _table(("Secret", "Source", "Verdict", "Note"), rows3)]
    noted = remarks(facts)
    if noted:
        lines = [f"- **{remark.severity}**: {_text(remark.text)}{_owned(remark.owner, remark.due)}" for remark in noted]
        parts += ["### Findings", "\n".join(lines[:ROWS])]
    past = spread([each.recovered for each in earlier])
    if past.count:
        words = (
            f"Over {past.count} run(s): median {shown(past.median)}, p90 {shown(past.p90)}, worst {shown(past.worst)}."
        )
        parts.append(words)
    rows4 = [
        (each.framework, each.clause, _text(each.supports) if each.supported else "nothing in this run")
        for each in controls(facts)
    ]
    parts += [
        "<details><summary>Controls this run supports</summary>",
        _table(("Framework", "Clause", "Supported by"), rows4),
        "</details>",
    ]
    parts.append(f"<sub>Run {_text(facts.run_id)}, {_text(facts.started)}</sub>")
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(facts: Facts) -> dict[str, Any]:
    """Give what a webhook gets: figures and a line of text, which Slack shows. No messages of steps, no addresses."""
    failed = [check.name for check in facts.failed_checks][:10]
    line = f"{SIGNS[facts.verdict]} Drill {facts.scenario}: {facts.verdict}. {summed_up(facts)}"
    if failed:
        line += f" Not held: {', '.join(failed)}."
    return {
        "kind": "DrillSummary",
        "text": line[:1000],
        "scenario": facts.scenario,
        "runId": facts.run_id,
        "verdict": facts.verdict,
        "slot": facts.slot,
        "startedAt": facts.started,
        "recoveredMs": facts.recovered,
        "lostMs": facts.seconds_lost,
        "checksFailed": failed,
    }


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows[:ROWS]]
    if len(rows) > ROWS:
        lines.append(f"| … {len(rows) - ROWS} more |{' |' * (len(heads) - 1)}")
    return "\n".join(lines)


def _measured(goal: Goal) -> str:
    return "not measured" if goal.not_applicable else shown(goal.measured)


def _met(goal: Goal) -> str:
    if goal.not_applicable:
        return f"not applicable: {_text(goal.not_applicable)}"
    return {True: "✅ yes", False: "❌ no", None: "⚠️ not known"}[goal.met]


def _owned(owner: str, due: str) -> str:
    words = [f"owner {_text(owner)}" if owner else "", f"due {_text(due)}" if due else ""]
    told = ", ".join(word for word in words if word)
    return f" ({told})" if told else ""


def _text(text: str) -> str:
    """Give a text that Markdown and HTML take literally, on one line."""
    flat = " ".join(text.split())
    for char in "\\`*_[]|~#!":
        flat = flat.replace(char, f"\\{char}")
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return flat.replace("@", "@\u200b")  # nobody is called by a name in a record
