"""Runs as OpenMetrics text for a textfile collector or a push, and the alert rules over it. Pure.

Labels are scenario and cluster alone: both come from a repository, so they are bounded. Never here: serving.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from drills.evidence.history import Fate, Outcome, Slot

PREFIX = "secretsops_drill"
SERIES: Mapping[str, str] = {
    "last_run_timestamp_seconds": "When the last run ended.",
    "last_success_timestamp_seconds": "When a run last passed.",
    "last_passed": "1 when the last run passed, else 0.",
    "last_inconclusive": "1 when the last run was inconclusive, else 0.",
    "last_recovery_seconds": "Recovery time of the last run, from disruption.",
    "last_lost_seconds": "Changes lost in the last run.",
    "recovery_objective_seconds": "Objective of the recovery time.",
    "runs_without_end": "Attempts that began and never ended.",
    "slots_missed": "Slots of the schedule without a run, in the time looked at.",
}


def openmetrics(found: Sequence[Outcome], population: Sequence[Slot] = ()) -> str:
    """Give the text, ended by `# EOF`: one sample per scenario and cluster; what was not measured has no sample."""
    samples: dict[str, list[str]] = {name: [] for name in SERIES}
    for scenario in sorted({each.scenario for each in found}):
        mine = [each for each in found if each.scenario == scenario]
        for name, value in _values(mine).items():
            if value is not None:
                samples[name].append(f'{PREFIX}_{name}{{scenario="{_escaped(scenario)}"}} {value}')
    if population:
        missed = sum(1 for slot in population if slot.fate is Fate.MISSED)
        samples["slots_missed"].append(f"{PREFIX}_slots_missed {missed}")
    lines = []
    for name, help_text in SERIES.items():
        if samples[name]:
            lines += [f"# TYPE {PREFIX}_{name} gauge", f"# HELP {PREFIX}_{name} {help_text}", *samples[name]]
    return "\n".join([*lines, "# EOF"]) + "\n"


def alert_rules(*, namespace: str, within: int, threshold: int) -> dict[str, Any]:
    """Give a PrometheusRule: missed (no run for `within` seconds), failed, inconclusive, slower, a run without an end.

    `threshold` is percent over the median of the last ten weeks.
    """
    rules = [
        _rule(
            "SecretsopsDrillMissed",
            f"time() - {PREFIX}_last_run_timestamp_seconds > {within}",
            "No drill of {{ $labels.scenario }} ended when one was due",
            "Look at the CronJob and at `secretsops drill history --expected …`.",
        ),
        _rule(
            "SecretsopsDrillAbsent",
            f"absent({PREFIX}_last_run_timestamp_seconds)",
            "No drill has ever reported",
            "The metrics of `secretsops drill history -o openmetrics` are not collected, or no drill has run.",
        ),
        _rule(
            "SecretsopsDrillFailed",
            f"{PREFIX}_last_passed == 0 and {PREFIX}_last_inconclusive == 0",
            "The last drill of {{ $labels.scenario }} failed",
            "The cluster could not be rebuilt as it must be. `secretsops drill report` says which check or objective.",
            severity="critical",
        ),
        _rule(
            "SecretsopsDrillInconclusive",
            f"{PREFIX}_last_inconclusive == 1",
            "The last drill of {{ $labels.scenario }} was inconclusive",
            "Something could not be found out, so nothing is proven: isolation, clean-up or a check.",
        ),
        _rule(
            "SecretsopsDrillSlower",
            f"{PREFIX}_last_recovery_seconds > {1 + threshold / 100:g} * "
            f"quantile_over_time(0.5, {PREFIX}_last_recovery_seconds[70d])",
            f"Recovery of {{{{ $labels.scenario }}}} takes {threshold} % longer than it did",
            "Compare two runs: `secretsops drill compare`.",
        ),
        _rule(
            "SecretsopsDrillNearObjective",
            f"{PREFIX}_last_recovery_seconds > 0.8 * {PREFIX}_recovery_objective_seconds",
            "Recovery of {{ $labels.scenario }} used over 80 % of its objective",
            "The next slow day misses it.",
        ),
        _rule(
            "SecretsopsDrillWithoutEnd",
            f"{PREFIX}_runs_without_end > 0 and changes({PREFIX}_runs_without_end[1d]) > 0",
            "A drill of {{ $labels.scenario }} began and never ended",
            "It counts as failed. Was its Pod killed? `secretsops drill gc` removes what it left.",
        ),
    ]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "secretsops-drills", "namespace": namespace},
        "spec": {"groups": [{"name": "secretsops-drills", "rules": rules}]},
    }


def _rule(name: str, expression: str, summary: str, description: str, *, severity: str = "warning") -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expression,
        "for": "15m",
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description},
    }


def _values(mine: Sequence[Outcome]) -> dict[str, str | None]:
    ended = [each for each in mine if each.ended]
    passed = [each for each in ended if each.verdict == "passed"]
    last = ended[-1] if ended else None
    return {
        "last_run_timestamp_seconds": _epoch(last.ended) if last else None,
        "last_success_timestamp_seconds": _epoch(passed[-1].ended) if passed else None,
        "last_passed": str(int(last.verdict == "passed")) if last else None,
        "last_inconclusive": str(int(last.verdict == "inconclusive")) if last else None,
        "last_recovery_seconds": _seconds(last.recovered) if last else None,
        "last_lost_seconds": _seconds(last.lost) if last else None,
        "recovery_objective_seconds": _seconds(last.objective) if last else None,
        "runs_without_end": str(sum(1 for each in mine if not each.ended and not each.running)),
    }


def _seconds(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else f"{milliseconds / 1000:.3f}"


def _epoch(text: str) -> str | None:
    try:
        return str(int(dt.datetime.fromisoformat(text).timestamp()))
    except (ValueError, OverflowError):
        return None


def _escaped(text: str) -> str:
    return text[:200].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
