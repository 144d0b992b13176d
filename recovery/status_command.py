"""`secretsops recover status` and `report`: how a run stands, how it went; from its journal's folder alone.

Never here: clusters.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from recovery.events import Stage
from recovery.journal import FILE, read_lines
from recovery.options import formatted
from recovery.proof.listing import remapped_lines
from recovery.rebuild_report import Report
from secretsops.errors import Refused, UsageError
from secretsops.files import read_input, write_atomic, write_output

REPORT = "report.json"
"""The report of the last run that came to an end, beside its journal."""


def journal_lines(folder: Path) -> list[dict[str, Any]]:
    """Give the lines of a journal; raises `UsageError` where there is none."""
    lines = read_lines(folder / FILE)
    if not lines:
        raise UsageError(f"{folder} holds no journal", reason="NoJournal", hint="start with `secretsops recover run`")
    return lines


def keep_report(folder: Path, report: Report) -> None:
    """Keep a report beside its journal; raises `WorldFailed` where it cannot be written."""
    write_atomic(folder / REPORT, (json.dumps(report.body(), indent=2) + "\n").encode())


@click.command(epilog="Example: secretsops recover status --journal ./rebuild -o json")
@click.option("--journal", required=True, type=click.Path(file_okay=False), help="Folder of the journal.")
@click.option("-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
def status(journal: str, output: str) -> int:
    """Say how far a run came, from its journal alone; exit code 1 unless it reached the end."""
    lines = journal_lines(Path(journal))
    stages = list(dict.fromkeys(line["stage"] for line in lines if line["event"] == "stage"))
    attempts = {line["app"]: line for line in lines if line["event"] == "attempt"}
    ended = {line["app"]: line["outcome"] for line in lines if line["event"] == "ended"}
    hooks = Counter(line["outcome"] for line in lines if line["event"] == "outcome")
    begun = {(line["app"], line["task"]) for line in lines if line["event"] in ("intent", "hook")}
    over = {(line["app"], line["task"]) for line in lines if line["event"] == "outcome"}
    body = {
        "plan": lines[0].get("plan", ""),
        "cluster": lines[0].get("cluster", ""),
        "stages": stages,
        "complete": Stage.HEALTH.name in stages,
        "applications": {
            app: {"revision": line["revision"], "attempt": line["number"], "outcome": ended.get(app, "unfinished")}
            for app, line in sorted(attempts.items())
        },
        "hooks": dict(sorted(hooks.items())),
        "unfinishedHooks": sorted(f"{app} {task}" for app, task in begun - over),
    }
    text = _status_table(body) if output == "table" else formatted(body, output)
    write_output(text.encode())
    return 0 if body["complete"] else 1


def _status_table(body: Mapping[str, Any]) -> str:
    rows = [f"plan {body['plan'][:16]}, cluster {body['cluster']}"]
    rows += [f"stage {Stage[name].label}: done" for name in body["stages"]]
    rows += [f"  {app}: {one['outcome']} at {one['revision'][:12]}" for app, one in body["applications"].items()]
    rows += [f"  hook without an outcome: {text}" for text in body["unfinishedHooks"]]
    rows.append("complete" if body["complete"] else "not complete: go on with `secretsops recover resume`")
    return "\n".join(rows) + "\n"


@click.command(epilog="Example: secretsops recover report --journal ./rebuild")
@click.option("--journal", required=True, type=click.Path(file_okay=False), help="Folder of the journal.")
@click.option("-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
def report(journal: str, output: str) -> int:
    """Print the report of the last run that came to an end; exit code 1 unless it rebuilt everything asked for."""
    folder = Path(journal)
    journal_lines(folder)
    if not (folder / REPORT).is_file():
        hint = "`secretsops recover status` says how far it came"
        raise Refused("the run has not come to an end: there is no report", reason="NoReport", hint=hint)
    try:
        body = json.loads(read_input(str(folder / REPORT)))
        text = report_table(body) if output == "table" else formatted(body, output)
    except (ValueError, KeyError, TypeError):
        hint = "resume the run: it writes the report anew"
        raise UsageError(f"{folder / REPORT} is no report", reason="ReportBroken", hint=hint) from None
    write_output(text.encode())
    return 0 if body["ok"] is True else 1


def report_table(body: Mapping[str, Any]) -> str:
    """Give a report (`Report.body()`) as a table for people."""
    lines = [
        f"{entry['stage']} {entry['name']:<20} {entry['seconds']:8.1f}s  {'ok' if entry['ok'] else 'FAILED'}"
        + (f"  {entry['message']}" if entry.get("message") else "")
        for entry in body["stages"]
    ]
    lines += [
        f"  {entry['application']:<40} {entry['revision'][:12]:<12} {entry['health'] or '-':<12} "
        f"{entry['objects']:>4} object(s)  {'ok' if entry['ok'] else 'FAILED'}  {entry['message']}"
        for entry in body["applications"]
    ]
    lines += remapped_lines(body.get("remapped") or [])
    lines += [f"note: {note}" for note in body["notes"]]
    lines.append(f"{'rebuilt' if body['ok'] else 'NOT rebuilt'} in {body['seconds']:.1f}s, plan {body['plan'][:16]}")
    return "\n".join(lines) + "\n"
