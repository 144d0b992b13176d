"""`secretsops recover`: plan a rebuild from Git, carry it out, continue one that was killed, say how one stands.

Never here: rules of recovery; this file reads options, calls `walk` and `rebuild`, and prints.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from recovery.bootstrap import RebuildRequest, Report, dry_run, rebuild
from recovery.escrow_options import escrow_options, restoring
from recovery.events import AppEnded, AppStarted, Event, Stage, StageEnded, StageStarted, StepDone, Waiting
from recovery.journal import FILE, read_lines
from recovery.options import Chosen, chosen, estate_options, formatted, read_points
from recovery.points import as_of
from recovery.proof import cli as proof
from recovery.proof.bisect_command import bisect
from recovery.proof.listing import remapped_lines
from recovery.proof.point_command import keep, key_of, point
from recovery.proof.rehearse_command import rehearse
from recovery.proof.verify_command import verify
from recovery.roots import choose, estate_of, signed_repos
from recovery.walk import walk
from secretsops.command_group import CommandGroup
from secretsops.errors import Refused, UsageError
from secretsops.files import read_input, write_output
from secretsops.manifest import Manifest, load_all
from secretsops.ports import ClusterTarget, Doors

STAGES = {stage.name.lower(): stage for stage in Stage}


@click.group(
    cls=CommandGroup, epilog="Example: secretsops recover plan --repo https://git.example/estate.git --path root.yaml"
)
def recover() -> None:
    """Plan and carry out a rebuild from Git."""


def _cluster_options(command: Any) -> Any:
    """Add the options of a run, shared with its resume."""
    for option in (
        click.option("--report", type=click.Path(dir_okay=False), help="Also write the report as JSON to this file."),
        click.option("-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True),
        click.option("--keep-point", default="", help="Folder for the recovery point of a run that came to its end."),
        click.option("--accept-rollback", default="", help="Rebuild an older point than the newest, for this reason."),
        click.option("--override-windows", default="", help="Sync in closed windows, for this reason (reported)."),
        click.option("--no-hooks", is_flag=True, help="Leave every hook out."),
        click.option("--patience", default=300.0, show_default=True, help="Seconds one wait may stand still."),
        click.option("--deadline", default=3600.0, show_default=True, help="Seconds for the whole run."),
        click.option(
            "--until", type=click.Choice(list(STAGES)), default="health", show_default=True, help="Last stage."
        ),
        click.option(
            "--install", "install", multiple=True, help="Manifests of the controllers, as `secretsops install`."
        ),
        click.option("--journal", default="", type=click.Path(file_okay=False), help="Folder of the journal."),
        click.option("--context", default="", help="Context of the kubeconfig."),
        click.option("--kubeconfig", default="", help="The cluster to fill; kubectl's rules where not given."),
    ):
        command = option(command)
    return escrow_options(command)


for _command in (proof.plan, proof.lint, verify, proof.gap, proof.spof, point, rehearse, bisect):
    recover.add_command(_command)


@recover.command(
    epilog="Example: secretsops recover run --repo https://git.example/estate.git --path root.yaml --context new "
    "--install install.yaml --journal ./rebuild"
)
@estate_options
@_cluster_options
@click.option(
    "--gate",
    type=click.Choice(["strict", "argo"]),
    default="strict",
    show_default=True,
    help="`argo`: do once what Argo CD would do now for the Applications that are in the cluster, by its own gate.",
)
@click.option("--dry-run", "only_show", is_flag=True, help="Print what would be written; write nothing.")
@click.pass_obj
def run(
    doors: Doors, /, repo: str, revision: str, path: str, file: str, only_show: bool, gate: str, **options: Any
) -> int:
    """Rebuild a cluster: keys, CRDs, controllers, secrets, applications in order, health; then report.

    Exit code 1 when a stage failed. A run that was killed is continued by `secretsops recover resume`.
    """
    if gate == "argo":
        if repo or file:
            hint = "apply the roots, then run with --gate argo alone"
            raise UsageError("--gate argo takes its Applications from the cluster", reason="Usage", hint=hint)
        from recovery.observe import Doors as Reconciling
        from recovery.reconcile import reconcile

        # The field manager of writes without one comes from the agent's name: it has to be the peer's to take over.
        target = replace(_target(options), user_agent="argocd-application-controller/secretsops")
        cluster = doors.cluster(target)
        patience = options["patience"]
        needs = Reconciling(
            cluster=cluster, git=doors.git(), renderer=doors.renderer(), clock=doors.clock, patience=patience
        )
        waiting = reconcile(needs)
        write_output("".join(f"still waiting: {line}\n" for line in waiting).encode())
        return 1 if waiting else 0
    _refuse_rollback(options)
    meant = chosen(doors, options | {"repo": repo, "revision": revision, "path": path, "file": file})
    roots, pins = _roots(doors, meant)
    if only_show:
        request = RebuildRequest(roots=roots, pins=pins, remap=meant.choice.remap)
        lines = dry_run(request, cluster=doors.cluster(_target(options)), git=meant.git, renderer=doors.renderer())
        write_output(("\n".join(lines) + "\n").encode())
        return 0
    return _carry_out(doors, meant, roots, pins, options)


@recover.command(
    epilog="Example: secretsops recover resume --repo https://git.example/estate.git --path root.yaml --context new "
    "--install install.yaml --journal ./rebuild"
)
@estate_options
@_cluster_options
@click.pass_obj
def resume(doors: Doors, /, repo: str, revision: str, path: str, file: str, **options: Any) -> int:
    """Continue a killed or failed run from its journal: same plan, same cluster, no hook twice."""
    folder = _journal_of(options)
    pinned = {line["source"]: line["revision"] for line in _lines(folder) if line["event"] == "pin"}
    # What the killed run pinned counts, not a recovery point: both are the same, or the plan's hash says so.
    named = {"repo": repo, "revision": revision, "path": path, "file": file}
    meant = chosen(doors, options | named | {"as_of": "", "points": ""}, pins=pinned)
    roots, pins = _roots(doors, meant)
    return _carry_out(doors, meant, roots, {**pins, **pinned}, options | {"resume": True})


def _roots(doors: Doors, meant: Chosen) -> tuple[list[Manifest], dict[str, str]]:
    """Give the roots and what is pinned; only where roots have to be found is the estate walked for it."""
    choice = meant.choice
    if choice.path or choice.file:
        return choose(meant.git, choice)
    estate = estate_of(meant.git, doors.renderer(), choice)
    place = f"{choice.repo}@{choice.revision}"
    return list(estate.roots), {**choice.pins, place: estate.pins[place]}


def _refuse_rollback(options: dict[str, Any]) -> None:
    """Refuse an older recovery point than the newest one without a reason (SECURITY.md §7)."""
    if options["as_of"]:
        points = read_points(options["points"])
        older, newest = as_of(points, options["as_of"]), as_of(points, "")
        if older.created < newest.created and not options["accept_rollback"]:
            raise Refused(
                f"the recovery point of {older.created} is older than that of {newest.created}",
                reason="Rollback",
                hint="--accept-rollback REASON takes it all the same",
            )
        if options["accept_rollback"]:
            click.echo(f"rolled back to {older.created}: {options['accept_rollback']}", err=True)


def _lines(folder: Path) -> list[dict[str, Any]]:
    lines = read_lines(folder / FILE)
    if not lines:
        raise UsageError(f"{folder} holds no journal", reason="NoJournal", hint="start with `secretsops recover run`")
    return lines


def _target(options: dict[str, Any]) -> ClusterTarget:
    return ClusterTarget(kubeconfig=options["kubeconfig"], context=options["context"])


def _carry_out(
    doors: Doors, meant: Chosen, roots: list[Manifest], pins: dict[str, str], options: dict[str, Any]
) -> int:
    install = [manifest for file in options["install"] for manifest in load_all(read_input(file), source=file)]
    request = RebuildRequest(
        roots=roots,
        pins=pins,
        install=install,
        restore_keys=restoring(doors, options),
        journal=_journal_of(options),
        resume=options.get("resume", False),
        until=STAGES[options["until"]],
        patience=options["patience"],
        deadline=options["deadline"],
        hooks=not options["no_hooks"],
        override_windows=options["override_windows"],
        remap=meant.choice.remap,
    )
    cluster = doors.cluster(_target(options))
    report = rebuild(
        request,
        cluster=cluster,
        git=signed_repos(meant.plain, meant.choice, pins),
        renderer=doors.renderer(),
        clock=doors.clock,
        observer=_Lines(),
    )
    text = json.dumps(report.body(), indent=2) + "\n"
    if options["report"]:
        from secretsops.files import write_atomic

        write_atomic(Path(options["report"]), text.encode())
    output = options["output"]
    write_output((_report_table(report) if output == "table" else formatted(report.body(), output)).encode())
    if report.ok and options["keep_point"] and options["until"] == "health":
        kept = _keep_point(doors, roots, Path(options["journal"]), meant, options["keep_point"])
        click.echo(f"recovery point {kept}", err=True)
    return 0 if report.ok else 1


def _keep_point(doors: Doors, roots: list[Manifest], journal: Path, meant: Chosen, folder: str) -> Path:
    """Write the recovery point of what was rebuilt: the commits that the journal pinned."""
    pins = {line["source"]: line["revision"] for line in _lines(journal) if line["event"] == "pin"}
    estate = walk(roots, meant.git, doors.renderer(), pins=pins, remap=meant.choice.remap)
    return keep(doors, estate, meant, Path(folder), key_of(""))


def _journal_of(options: dict[str, Any]) -> Path:
    if not options["journal"]:
        raise UsageError("where is the journal?", reason="Usage", hint="give --journal FOLDER")
    return Path(options["journal"])


class _Lines:
    """Prints one line per event on standard error."""

    def __init__(self) -> None:
        self._one = threading.Lock()

    def event(self, event: Event) -> None:
        """Print it."""
        text = _line(event)
        if text:
            with self._one:
                click.echo(f"{event.at:7.1f}s {text}", err=True)


def _line(event: Event) -> str:
    match event:
        case StageStarted(stage=stage):
            return f"stage {int(stage)} {stage.label}"
        case StageEnded(stage=stage, ok=ok, message=message):
            return f"stage {int(stage)} {stage.label} {'done' if ok else f'FAILED: {message}'}"
        case StepDone(app=app, phase=phase, wave=wave, action=action):
            place = f"{app} {phase} wave {wave}: " if app else ""
            return f"  {place}{action}"
        case AppStarted(app=app, revision=revision, objects=objects):
            return f"  {app}: {objects} object(s) at {revision[:12]}"
        case AppEnded(app=app, ok=ok, message=message):
            return f"  {app}: {'synced' if ok else 'FAILED'}: {message}"
        case Waiting(app=app, reasons=reasons, deadline=deadline):
            more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
            return f"  {app + ': ' if app else ''}waiting until {deadline:.0f}s for {'; '.join(reasons[:3])}{more}"


def _report_table(report: Report) -> str:
    lines = [
        f"{int(entry.stage)} {entry.stage.label:<20} {entry.seconds:8.1f}s  {'ok' if entry.ok else 'FAILED'}"
        + (f"  {entry.message}" if entry.message else "")
        for entry in report.stages
    ]
    lines += [
        f"  {entry.app:<40} {entry.revision[:12]:<12} {entry.health or '-':<12} {entry.objects:>4} object(s)"
        f"  {'ok' if entry.ok else 'FAILED'}  {entry.message}"
        for entry in report.apps
    ]
    lines += remapped_lines([asdict(change) for change in report.remapped])
    lines += [f"note: {note}" for note in report.notes]
    lines.append(f"{'rebuilt' if report.ok else 'NOT rebuilt'} in {report.seconds:.1f}s, plan {report.plan[:16]}")
    return "\n".join(lines) + "\n"


@recover.command(epilog="Example: secretsops recover status --journal ./rebuild -o json")
@click.option("--journal", required=True, type=click.Path(file_okay=False), help="Folder of the journal.")
@click.option("-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
def status(journal: str, output: str) -> int:
    """Say how far a run came, from its journal alone; exit code 1 unless it reached the end."""
    lines = _lines(Path(journal))
    stages = [line["stage"] for line in lines if line["event"] == "stage"]
    attempts = {line["app"]: line for line in lines if line["event"] == "attempt"}
    ended = {line["app"]: line["outcome"] for line in lines if line["event"] == "ended"}
    hooks = Counter(line["outcome"] for line in lines if line["event"] == "outcome")
    body = {
        "plan": lines[0].get("plan", ""),
        "cluster": lines[0].get("cluster", ""),
        "stages": list(dict.fromkeys(stages)),
        "complete": Stage.HEALTH.name in stages,
        "applications": {
            app: {"revision": line["revision"], "attempt": line["number"], "outcome": ended.get(app, "unfinished")}
            for app, line in sorted(attempts.items())
        },
        "hooks": dict(sorted(hooks.items())),
    }
    if output == "table":
        rows = [f"plan {body['plan'][:16]}, cluster {body['cluster']}"]
        rows += [f"stage {STAGES[name.lower()].label}: done" for name in dict.fromkeys(stages)]
        rows += [
            f"  {app}: {ended.get(app, 'unfinished')} at {line['revision'][:12]}" for app, line in attempts.items()
        ]
        write_output(("\n".join(rows) + "\n").encode())
    else:
        write_output(formatted(body, output).encode())
    return 0 if body["complete"] else 1
