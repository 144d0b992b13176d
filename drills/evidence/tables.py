"""Runs, populations and comparisons as text for a terminal. Pure. Never here: one run (`markdown.py`, `page.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drills.evidence.comparison import Comparison
from drills.evidence.facts import shown
from drills.evidence.history import Fate, Kind, Outcome, Slot


def history_table(runs: Sequence[Outcome], found: Sequence[Kind], population: Sequence[Slot], *, holds: bool) -> str:
    """Give runs, spread and trend per scenario and kind of cluster, and the population."""
    rows = [f"{'run':<44}{'started':<22}{'verdict':<14}{'recovery':>12}{'lost':>10}  message"]
    for run in runs:
        name = run.run_id + (f" (attempt {run.attempt})" if run.attempt > 1 else "")
        figure = f"{shown(run.recovered):>12}{shown(run.lost):>10}"
        rows.append(f"{name:<44}{run.started:<22}{run.verdict:<14}{figure}  {run.message}".rstrip())
    for kind in found:
        figures = f"median {shown(kind.spread.median)}, p90 {shown(kind.spread.p90)}, worst {shown(kind.spread.worst)}"
        moved = "" if kind.trend.percent is None else f"; the last 3 {kind.trend.percent:+d} % against those before"
        regressed = " (REGRESSED)" if kind.trend.regressed else ""
        rows.append(f"{kind.scenario} on {kind.provider}: {kind.spread.count} runs, {figures}{moved}{regressed}")
    if population:
        rows += ["", f"{'slot':<24}{'fate':<8}{'verdict':<14}reason"]
        for slot in population:
            verdict = slot.outcome.verdict if slot.outcome and slot.fate is Fate.DONE else ""
            rows.append(f"{slot.start:<24}{slot.fate.value:<8}{verdict:<14}{slot.reason}".rstrip())
        done = sum(1 for slot in population if slot.fate is Fate.DONE)
        missed = sum(1 for slot in population if slot.fate is Fate.MISSED)
        rows.append(f"{len(population)} slots: {done} done, {missed} missed")
    if not holds:
        rows.append("the chain does NOT hold: secretsops drill report verify says why")
    return "\n".join(rows) + "\n"


def comparison_table(found: Comparison, *, regressed: bool) -> str:
    """Give measures, the steps that changed most, and facts."""
    rows = [f"{'measure':<44}{'before':>12}{'after':>12}{'change':>12}"]
    rows += [_change(each.name, each.before, each.after, each.delta) for each in found.measures]
    if found.steps:
        rows += ["", f"{'step':<44}{'before':>12}{'after':>12}{'change':>12}"]
        rows += [_change(each.name, each.before, each.after, each.delta) for each in found.steps[:20]]
    rows += ["", *found.facts] if found.facts else []
    rows.append("regressed" if regressed else "no regression")
    return "\n".join(rows) + "\n"


def _change(name: str, before: int | None, after: int | None, delta: int | None) -> str:
    sign = "unknown" if delta is None else f"{'+' if delta > 0 else ''}{shown(delta)}"
    return f"{name[:43]:<44}{shown(before):>12}{shown(after):>12}{sign:>12}"


def spread_line(body: Mapping[str, Any]) -> str:
    """Give what several runs came to (`recording.figures`) in a line."""
    found, moved, verdicts = body["recoveredMs"], body["trend"], body["verdicts"]
    told = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items() if count)
    line = f"{body['runs']} runs: {told}; recovery median {shown(found['median'])}, p90 {shown(found['p90'])}, "
    line += f"worst {shown(found['worst'])}"
    if moved["percent"] is not None:
        regressed = " (REGRESSED)" if moved["regressed"] else ""
        line += f"; {moved['percent']:+d} % against a median of {shown(moved['beforeMs'])} before{regressed}"
    return line + "\n"
