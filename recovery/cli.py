"""`secretsops recover`: plan a rebuild from Git, carry it out, continue one that was killed, say how one stands.

Never here: rules of recovery; this file reads options, calls `walk` and `rebuild`, and prints.
"""

from __future__ import annotations

import getpass
import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from recovery.bootstrap import rebuild
from recovery.clusters import ClusterPlace, chosen_clusters, names_for, one_report, options_for
from recovery.escrow_options import escrow_options, escrow_parts
from recovery.events import Stage
from recovery.export_command import bring_in, export
from recovery.journal import FILE
from recovery.kit_command import given, kit
from recovery.only import narrowed
from recovery.options import Chosen, chosen, estate_options, formatted, read_points
from recovery.points import as_of
from recovery.preview import listing, preview
from recovery.proof import cli as proof
from recovery.proof.bisect_command import bisect
from recovery.proof.point_command import keep, key_of, point
from recovery.proof.rehearse_command import rehearse
from recovery.proof.verify_command import verify
from recovery.rebuild_report import Report
from recovery.request import RebuildRequest
from recovery.roots import choose, estate_of, signed_repos
from recovery.status_command import journal_lines, keep_report, report, report_table, status
from recovery.view import view_of
from recovery.walk import walk
from secretsops.command_group import CommandGroup
from secretsops.errors import Refused, SecretsOpsError, UsageError
from secretsops.files import read_input, write_atomic, write_output
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
        click.option("--only", multiple=True, help="Only this application and what is below it; may be repeated."),
        click.option("--no-hold", is_flag=True, help="Hold nothing back until `go-live`: CronJobs, PushSecrets, DNS."),
        click.option("--wave-delay", default=0.0, help="Seconds to stand still between waves; Argo CD takes 2."),
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
        click.option(
            "--cluster",
            "clusters",
            multiple=True,
            help="One of recovery.yaml, or `all`: each in turn, one report.",
        ),
        click.option("--context", default="", help="Context of the kubeconfig."),
        click.option("--kit-digest", default="", help="sha256:… that the kit must have."),
        click.option(
            "--kit", default="", help="Read everything from this kit (`recover kit`), nothing from a network."
        ),
        click.option("--kubeconfig", default="", help="The cluster to fill; kubectl's rules where not given."),
    ):
        command = option(command)
    return escrow_options(command)


for _command in (
    status,
    report,
    kit,
    export,
    bring_in,
    proof.plan,
    proof.lint,
    verify,
    proof.gap,
    proof.spof,
    point,
    rehearse,
    bisect,
):
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
@click.option("--sets", is_flag=True, help="With --gate argo: the ApplicationSets instead, as their controller would.")
@click.option("--dry-run", "only_show", is_flag=True, help="Print what would be written; write nothing.")
@click.pass_obj
def run(
    doors: Doors,
    /,
    repo: str,
    revision: str,
    path: str,
    file: str,
    only_show: bool,
    gate: str,
    sets: bool,
    **options: Any,
) -> int:
    """Rebuild a cluster: keys, CRDs, controllers, secrets, applications in order, health; then report.

    Exit code 1 when a stage failed. A run that was killed is continued by `secretsops recover resume`.
    """
    if sets and gate != "argo":
        raise UsageError("--sets needs --gate argo", reason="Usage", hint="a rebuild carries sets out itself")
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
        if sets:
            from recovery.sets import reconcile_sets

            failed = reconcile_sets(needs)
            write_output("".join(f"failed: {line}\n" for line in failed).encode())
            return 1 if failed else 0
        waiting = reconcile(needs)
        write_output("".join(f"still waiting: {line}\n" for line in waiting).encode())
        return 1 if waiting else 0
    _refuse_rollback(options)
    named = options | {"repo": repo, "revision": revision, "path": path, "file": file}
    if options["clusters"]:
        return _several(doors, named, only_show=only_show, resume=False)
    with given(doors, named) as read:
        meant = chosen(doors, read.options, pins=read.pins, git=read.git)
        roots, pins = _roots(doors, meant)
        if not only_show:
            return _carry_out(doors, meant, roots, pins, read.options)
        estate = walk(roots, meant.git, doors.renderer(), pins=pins, remap=meant.choice.remap)
        if options["only"]:
            estate, _ = narrowed(estate, options["only"])
        steps = preview(estate, doors.cluster(_target(options)), hooks=not options["no_hooks"])
        text = "".join(f"{step}\n" for step in steps)
        output = options["output"]
        write_output((text if output == "table" else formatted(listing(estate, steps), output)).encode())
        return 0


@recover.command(
    epilog="Example: secretsops recover resume --repo https://git.example/estate.git --path root.yaml --context new "
    "--install install.yaml --journal ./rebuild"
)
@estate_options
@_cluster_options
@click.pass_obj
def resume(doors: Doors, /, repo: str, revision: str, path: str, file: str, **options: Any) -> int:
    """Continue a killed or failed run from its journal: same plan, same cluster, no hook twice."""
    if options["clusters"]:
        where = {"repo": repo, "revision": revision, "path": path, "file": file}
        return _several(doors, options | where, only_show=False, resume=True)
    folder = _journal_of(options)
    pinned = {line["source"]: line["revision"] for line in journal_lines(folder) if line["event"] == "pin"}
    # What the killed run pinned counts, not a recovery point: both are the same, or the plan's hash says so.
    named = {"repo": repo, "revision": revision, "path": path, "file": file, "as_of": "", "points": ""}
    with given(doors, options | named) as read:
        meant = chosen(doors, read.options, pins=pinned, git=read.git)
        roots, pins = _roots(doors, meant)
        return _carry_out(doors, meant, roots, {**pins, **pinned}, read.options | {"resume": True})


def _several(doors: Doors, options: dict[str, Any], *, only_show: bool, resume: bool) -> int:
    """Rebuild several clusters of `recovery.yaml`, one after the other; one that fails stops no other."""
    if only_show or options["kit"] or options["file"]:
        raise UsageError("--cluster goes with none of --dry-run, --kit, --app", reason="Usage", hint="one at a time")
    journal, output = _journal_of(options), options["output"]
    reports: dict[str, dict[str, Any]] = {}
    for place in chosen_clusters(chosen(doors, options).plan.clusters, options["clusters"]):
        click.echo(f"cluster {place.name} ({place.context})", err=True)
        own = options_for(place, options)
        kept = journal_lines(Path(own["journal"])) if resume and (journal / place.name / FILE).is_file() else []
        pinned = {line["source"]: line["revision"] for line in kept if line["event"] == "pin"}
        try:
            meant = chosen(doors, own, pins=pinned or None)
            meant = replace(meant, choice=replace(meant.choice, remap=names_for(place, meant.choice.remap)))
            roots, pins = _roots(doors, meant)
            report = _rebuilt(doors, meant, roots, {**pins, **pinned}, own | {"resume": bool(kept)})
            reports[place.name] = report.body()
        except SecretsOpsError as error:
            reports[place.name] = {"ok": False, "reason": error.reason, "message": error.message}
    body = one_report(reports)
    if options["report"]:
        write_atomic(Path(options["report"]), (json.dumps(body, indent=2) + "\n").encode())
    text = "".join(
        f"cluster {name}\n" + (report_table(one) if "stages" in one else f"NOT rebuilt: {one['message']}\n")
        for name, one in reports.items()
    )
    write_output((text if output == "table" else formatted(body, output)).encode())
    return 0 if body["ok"] else 1


def _runner() -> str:
    """Name who runs this, for the second person who tries."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


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


def _target(options: dict[str, Any]) -> ClusterTarget:
    return ClusterTarget(kubeconfig=options["kubeconfig"], context=options["context"])


@recover.command(
    "go-live",
    epilog="Example: secretsops recover go-live --repo https://git.example/estate.git --path root.yaml --context new "
    "--escrow /mnt/escrow --journal ./rebuild",
)
@estate_options
@_cluster_options
@click.pass_obj
def live(doors: Doors, /, repo: str, revision: str, path: str, file: str, **options: Any) -> int:
    """Let go what a rebuild held back: CronJobs, PushSecrets, DNS, image automation, notifications; journaled.

    A separate act, once the rebuilt cluster was looked at. With --escrow the cluster is claimed first where the run did
    not. Exit code 1 where the run did not come to its end, or nobody was fenced.
    """

    named = {"repo": repo, "revision": revision, "path": path, "file": file, "as_of": "", "points": ""}
    options |= named
    if not options["clusters"]:
        return _let_go(doors, options, None)
    places = chosen_clusters(chosen(doors, options).plan.clusters, options["clusters"])
    return max(_let_go(doors, options_for(place, options), place) for place in places)


def _let_go(doors: Doors, options: dict[str, Any], place: ClusterPlace | None) -> int:
    from recovery.golive import go_live

    pinned = {one["source"]: one["revision"] for one in journal_lines(_journal_of(options)) if one["event"] == "pin"}
    with given(doors, options) as read:
        meant = chosen(doors, read.options, pins=pinned, git=read.git)
        if place is not None:
            meant = replace(meant, choice=replace(meant.choice, remap=names_for(place, meant.choice.remap)))
        roots, pins = _roots(doors, meant)
        found = go_live(
            _request(doors, meant, roots, {**pins, **pinned}, read.options),
            cluster=doors.cluster(_target(options)),
            git=signed_repos(meant.plain, meant.choice, pins),
            renderer=doors.renderer(),
            clock=doors.clock,
        )
    body = found.body()
    lines = [*(f"released {key}" for key in found.released), *(f"released before: {key}" for key in found.before)]
    lines += [*(f"note: {note}" for note in found.notes), f"live: {len(found.released)} object(s) let go"]
    text = "\n".join(lines) + "\n" if options["output"] == "table" else formatted(body, options["output"])
    write_output(text.encode())
    return 0


def _carry_out(
    doors: Doors, meant: Chosen, roots: list[Manifest], pins: dict[str, str], options: dict[str, Any]
) -> int:
    report = _rebuilt(doors, meant, roots, pins, options)
    if options["report"]:
        write_atomic(Path(options["report"]), (json.dumps(report.body(), indent=2) + "\n").encode())
    body, output = report.body(), options["output"]
    write_output((report_table(body) if output == "table" else formatted(body, output)).encode())
    return 0 if report.ok else 1


def _rebuilt(
    doors: Doors, meant: Chosen, roots: list[Manifest], pins: dict[str, str], options: dict[str, Any]
) -> Report:
    """Rebuild one cluster; the report stands beside its journal, and its recovery point where one is to be kept."""
    request = _request(doors, meant, roots, pins, options)
    cluster = doors.cluster(_target(options))
    with view_of(options["output"]) as view:
        report = rebuild(
            request,
            cluster=cluster,
            git=signed_repos(meant.plain, meant.choice, pins),
            renderer=doors.renderer(),
            clock=doors.clock,
            observer=view,
        )
    keep_report(_journal_of(options), report)
    if report.ok and options["keep_point"] and options["until"] == "health":
        kept = _keep_point(doors, roots, Path(options["journal"]), meant, options["keep_point"])
        click.echo(f"recovery point {kept}", err=True)
    return report


def _request(
    doors: Doors, meant: Chosen, roots: list[Manifest], pins: dict[str, str], options: dict[str, Any]
) -> RebuildRequest:
    install = [manifest for file in options["install"] for manifest in load_all(read_input(file), source=file)]
    return RebuildRequest(
        roots=roots,
        pins=pins,
        install=install,
        journal=_journal_of(options),
        resume=options.get("resume", False),
        until=STAGES[options["until"]],
        patience=options["patience"],
        deadline=options["deadline"],
        hooks=not options["no_hooks"],
        override_windows=options["override_windows"],
        remap=meant.choice.remap,
        only=options["only"],
        wave_delay=options["wave_delay"],
        data=meant.plan.data,
        hold=not options["no_hold"],
        runner=_runner(),
        **escrow_parts(doors, options).fields(),
    )


def _keep_point(doors: Doors, roots: list[Manifest], journal: Path, meant: Chosen, folder: str) -> Path:
    """Write the recovery point of what was rebuilt: the commits that the journal pinned."""
    pins = {line["source"]: line["revision"] for line in journal_lines(journal) if line["event"] == "pin"}
    estate = walk(roots, meant.git, doors.renderer(), pins=pins, remap=meant.choice.remap)
    return keep(doors, estate, meant, Path(folder), key_of(""))


def _journal_of(options: dict[str, Any]) -> Path:
    if not options["journal"]:
        raise UsageError("where is the journal?", reason="Usage", hint="give --journal FOLDER")
    return Path(options["journal"])
