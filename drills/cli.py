"""`secretsops demo` and `secretsops drill`: carry scenarios out, show them, report; look after runs.

Never here: what a drill does (`run.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from drills.evidence.options import recorded
from drills.evidence_cli import COMMANDS, run_recorded
from secretsops.command_group import CommandGroup
from secretsops.errors import Refused, UsageError, WorldFailed
from secretsops.files import write_atomic, write_output
from secretsops.manifest import dump
from secretsops.ports import ClusterTarget, Doors

if TYPE_CHECKING:
    from drills.record import Run
    from drills.report import Report
    from drills.sandbox.world import Sandbox
    from drills.scenario import Scenario

STORY = "cluster-lost"


on_cluster = click.option(
    "--cluster",
    "kind",
    type=click.Choice(["auto", "real", "embedded"]),
    default="auto",
    show_default=True,
    help="Kind of cluster: the real control plane (built first where it is not there), or the embedded stand-in; "
    "auto is the real one where its binaries are there already.",
)
as_output = click.option(
    "-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True
)


@click.command(epilog="Example: secretsops demo --keep")
@on_cluster
@click.option("--keep", is_flag=True, help="Leave the world up afterwards and say how to look around.")
@click.option("--report", type=click.Path(dir_okay=False), help="Also write the report as JSON to this file.")
@click.option("--world", type=click.Path(file_okay=False), help="Folder for logs and evidence, kept afterwards.")
@as_output
@click.pass_obj
def demo(doors: Doors, /, kind: str, keep: bool, report: str | None, world: str | None, output: str) -> int:
    """Destroy a cluster and rebuild it from Git, live."""
    how = _How(kind=kind, keep=keep, report=report, world=world, output=output)
    return 0 if _carry_out(doors, _named(STORY), how).held else 1


@click.group(cls=CommandGroup, epilog="Example: secretsops drill run cluster-lost --report drill.json")
def drill() -> None:
    """Rehearse a disaster and measure it."""


for _command in COMMANDS:
    drill.add_command(_command)


@drill.command(epilog="Example: secretsops drill run cluster-lost --report drill.json -o json")
@click.argument("scenario")
@on_cluster
@click.option("--twin", is_flag=True, help="Run its twin instead: the protection removed, it has to fail.")
@click.option("--keep", is_flag=True, help="Leave the world up afterwards and say how to look around.")
@click.option("--report", type=click.Path(dir_okay=False), help="Also write the report as JSON to this file.")
@click.option("--world", type=click.Path(file_okay=False), help="Folder for logs and evidence, kept afterwards.")
@as_output
@recorded
@click.pass_obj
def run(doors: Doors, /, scenario: str, output: str, **options: Any) -> int:
    """Carry out a scenario: one of ours by name, or a file; exit code 0 only if it passed, 3 if that is not known.

    1 is failed, 2 a wrong command or file; an aborted run is not known. With --evidence the run is written down before
    step one and after its end, signed, each record bound to the one before.
    """
    named = _named(scenario, twin=options["twin"])
    given = {name: options[name] for name in ("kind", "keep", "report", "world")}

    def once(which: Run) -> Mapping[str, Any]:
        world = str(Path(given["world"]) / which.id) if given["world"] and options["repeat"] > 1 else given["world"]
        return _carry_out(doors, named, _How(**{**given, "world": world, "output": output})).body()

    name = f"{named.scenario.name}-twin" if options["twin"] else named.scenario.name
    return run_recorded(doors, options, (name, named.text), once, output=output)


@drill.command("list", epilog="Example: secretsops drill list -o json")
@as_output
def list_scenarios(output: str) -> None:
    """Name the scenarios that come with this version, and what each rehearses."""
    found: list[dict[str, Any]] = []
    for name in names():
        scenario = _named(name).scenario
        twin = scenario.spec.twin
        found.append({
            "name": name, "description": scenario.spec.description, "quick": scenario.spec.quick,
            "twin": twin.without if twin else "",
        })  # fmt: skip
    if output == "table":
        width = max(len(one["name"]) for one in found)
        lines = [
            f"{one['name']:<{width}}  {'quick  ' if one['quick'] else '       '}{one['description']}" for one in found
        ]
        write_output(("\n".join(lines) + "\n").encode())
    else:
        _print({"scenarios": found}, output)


@drill.command(epilog="Example: secretsops drill show cluster-lost")
@click.argument("scenario")
@click.option("--twin", is_flag=True, help="Show its twin.")
@as_output
def show(scenario: str, twin: bool, output: str) -> None:
    """Say what a scenario does, step by step, without doing it."""
    found = _named(scenario, twin=twin).scenario
    body = _shown(found)
    if output != "table":
        _print(body, output)
        return
    lines = [f"{found.name}{' (twin)' if twin else ''}: {found.spec.description}"]
    for section in ("given", "disaster", "recover", "checks"):
        lines.append(f"{section}:")
        for step in body[section]:
            extra = f" (at {step['at']:g} s)" if step.get("at") else ""
            extra += f" (must be refused: {step['refused']})" if step.get("refused") else ""
            lines.append(f"  {step['name']:<22} {step['about']}{extra}")
    goals = found.spec.objectives
    lines.append(f"objectives: control-plane RTO {goals.control_plane_rto:g} s, RPO {goals.rpo:g} s")
    if found.spec.twin:
        lines.append(f"twin: without {found.spec.twin.without}; then {', '.join(found.spec.twin.fails)} must fail")
    write_output(("\n".join(lines) + "\n").encode())


@drill.command(epilog="Example: secretsops drill validate my-scenario.yaml")
@click.argument("files", nargs=-1, required=True)
@as_output
def validate(files: tuple[str, ...], output: str) -> int:
    """Read scenarios and say what is wrong with them, with the line; exit code 1 when anything is."""
    results: list[dict[str, Any]] = []
    for file in files:
        try:
            scenario = _named(file).scenario
            results.append({"file": file, "ok": True, "name": scenario.name, "twin": scenario.spec.twin is not None})
        except Refused as error:
            results.append(
                {"file": file, "ok": False, "problem": error.message, "reason": error.reason, "hint": error.hint}
            )
    if output == "table":
        write_output(
            "".join(f"{one['file']}: {'valid' if one['ok'] else one['problem']}\n" for one in results).encode()
        )
    else:
        _print({"scenarios": results}, output)
    return 0 if all(one["ok"] for one in results) else 1


@drill.command(epilog="Example: secretsops drill schema > drill.schema.json")
def schema() -> None:
    """Print the JSON schema of scenario files."""
    write_output(resources.files("drills").joinpath("scenario.schema.json").read_bytes())


@drill.command(epilog="Example: secretsops drill watch")
@click.argument("run_id", default="")
@as_output
def watch(run_id: str, output: str) -> int:
    """Follow a run until it ends: the newest, or that of an id; exit code as the run's own."""
    from drills import runs

    found = runs.find(run_id)
    for event in runs.follow(found):
        if output == "json":
            write_output(json.dumps(event).encode() + b"\n")
        elif event["event"] == "begin":
            write_output(f"{event['phase']}/{event['step']}: {event['what']}\n".encode())
        elif event["event"] == "end":
            state = "done" if event["ok"] else "FAILED"
            write_output(
                f"{event['phase']}/{event['step']}: {state} ({event['seconds']:.1f} s) {event['message']}\n".encode()
            )
    state = runs.find(found.id).state(time.time())
    write_output(f"{found.id}: {state}\n".encode() if output != "json" else b"")
    return {"passed": 0, "failed": 1}.get(state, 3)


@drill.command(epilog="Example: secretsops drill abort")
@click.argument("run_id", default="")
def abort(run_id: str) -> None:
    """End a running drill: it cleans up and reports inconclusive. The newest, or that of an id."""
    from drills import runs

    found = runs.find(run_id)
    click.echo(f"{found.id}: {runs.abort(found)}", err=True)


@drill.command(epilog="Example: secretsops drill gc --dry-run")
@click.option("--dry-run", is_flag=True, help="Say what would be removed.")
@as_output
@click.pass_obj
def gc(doors: Doors, /, dry_run: bool, output: str) -> int:
    """Remove what drills left that were killed, or whose time to live is over; exit code 1 when something stays."""
    from drills import runs
    from drills.cleaning import empty_again

    def target(entry: Mapping[str, Any]) -> list[str]:
        there = ClusterTarget(kubeconfig=entry["kubeconfig"], context=entry["context"], user_agent="secretsops-drill")
        return empty_again(entry, doors.cluster(there))

    found = runs.collect(now=time.time(), dry_run=dry_run, target=target)
    if output == "table":
        lines = [
            f"{one.run} ({one.state}): removed {', '.join(one.removed) or '-'}; left {', '.join(one.left) or '-'}"
            for one in found
        ]
        write_output(("\n".join(lines or ["nothing to remove"]) + "\n").encode())
    else:
        rows = [
            {"run": one.run, "state": one.state, "removed": list(one.removed), "left": list(one.left)} for one in found
        ]
        _print({"runs": rows}, output)
    return 1 if not dry_run and any(one.left for one in found) else 0


# --- scenarios -----------------------------------------------------------------------------------------


def shipped_files() -> Traversable:
    """Give the folder of the scenarios that come with this version."""
    return resources.files("drills").joinpath("scenarios")


def names() -> list[str]:
    """Give the names of the scenarios that come with this version."""
    return sorted(file.name.removesuffix(".yaml") for file in shipped_files().iterdir() if file.name.endswith(".yaml"))


def shipped(name: str) -> tuple[bytes, str]:
    """Give text and name of a scenario of ours.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in names():
        raise UsageError(f"there is no scenario '{name}'", reason="NoScenario", hint="secretsops drill list")
    return shipped_files().joinpath(f"{name}.yaml").read_bytes(), f"{name}.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """A scenario, the folder its estates stand in, and its text."""

    scenario: Scenario
    files: Traversable
    text: bytes


def _named(name: str, *, twin: bool = False) -> _Named:
    """Give a scenario: one of ours by name, or a file.

    Raises:
        UsageError: there is none. InvalidManifest: it is not valid; names the line.
    """
    from drills.scenario import read_scenario
    from drills.vocabulary import VOCABULARY

    path = Path(name)
    files: Traversable = shipped_files()
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UsageError(f"there is no file {name}", reason="NoScenario", hint="secretsops drill list")
        text, source, files = path.read_bytes(), name, path.parent
    else:
        text, source = shipped(name)
    return _Named(scenario=read_scenario(text, source=source, vocabulary=VOCABULARY, twin=twin), files=files, text=text)


def _shown(scenario: Scenario) -> dict[str, Any]:
    sections = {
        section: [
            {
                "name": step.name, "about": step.kind.about, "line": step.line,
                **({"at": step.at} if step.at else {}), **({"refused": step.refused} if step.refused else {}),
            }
            for step in getattr(scenario, section)
        ]
        for section in ("given", "disaster", "recover", "checks")
    }  # fmt: skip
    goals = scenario.spec.objectives
    return {
        "name": scenario.name,
        "description": scenario.spec.description,
        "twin": scenario.is_twin,
        "clusters": [{"name": one.name, "role": one.role, "given": one.given} for one in scenario.spec.world.clusters],
        **sections,
        "objectives": {
            "controlPlaneRto": goals.control_plane_rto,
            "serviceRto": goals.service_rto,
            "rpo": goals.rpo,
            "mtd": goals.mtd,
        },
        "ttl": scenario.spec.cleanup.ttl,
    }


# --- carrying one out ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _How:
    """How a drill is to be run and told: the options of `demo` and `drill run`."""

    kind: str
    keep: bool
    report: str | None
    world: str | None
    output: str


def _carry_out(doors: Doors, named: _Named, how: _How) -> Report:
    from drills.display import display
    from drills.run import Drill, Options
    from drills.runs import Record
    from drills.sandbox.binaries import find_binaries
    from drills.sandbox.world import Sandbox

    _refuse_used(how.world)
    if how.kind == "real":
        # Building takes minutes the first time: outside of what is measured, and shown as it comes.
        find_binaries(progress=lambda line: click.echo(line, err=True))
    run_id = f"{doors.clock.now():%Y%m%dT%H%M%SZ}-{named.scenario.name}-{secrets.token_hex(3)}"
    with Sandbox(Path(how.world) if how.world else None, kind=how.kind) as sandbox, _ending_in_order():
        record = Record(run_id, _facts(named.scenario, sandbox))
        verdict = "died"
        try:
            options = Options(run_id=run_id, keep=how.keep, record=record)
            with display() as shown, _watched(named.scenario.spec.cleanup.ttl):
                result = Drill(
                    named.scenario, named.files, doors=doors, world=sandbox, show=shown, options=options
                ).run()
            verdict = result.verdict.value
            _tell(result, how)
            if how.keep:
                _stay(sandbox)
        finally:
            if how.keep:
                sandbox.close()
            record.close(verdict=verdict)
    return result


def _tell(result: Report, how: _How) -> None:
    body = result.body()
    if how.report:
        write_atomic(Path(how.report), json.dumps(body, indent=2).encode() + b"\n")
    write_output(result.text().encode() if how.output == "table" else _formatted(body, how.output))


def _facts(scenario: Scenario, sandbox: Sandbox) -> dict[str, Any]:
    """Give what has to be known to clean up after a run that was killed, before it does anything."""
    given = [
        {"name": one.name, "context": one.context, "kubeconfig": one.kubeconfig, "scenario": scenario.name}
        for one in scenario.spec.world.clusters
        if one.given and one.role == "target"
    ]
    return {
        "scenario": scenario.name,
        "twin": scenario.is_twin,
        "pid": os.getpid(),
        "ttl": scenario.spec.cleanup.ttl,
        "world": str(sandbox.folder),
        "remove": [str(sandbox.folder)] if sandbox.goes else [],
        "given": given,
    }


@contextlib.contextmanager
def _watched(ttl: float) -> Iterator[None]:
    """End the drill in order when its time to live is over."""
    timer = threading.Timer(ttl, os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _refuse_used(world: str | None) -> None:
    if world and Path(world).is_dir() and any(Path(world).iterdir()):
        raise Refused(f"{world} is not empty", reason="WorldInUse", hint="give a new folder")


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """Turn SIGTERM into the end of the world in order, as Ctrl-C does."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stay(sandbox: Sandbox) -> None:
    """Say how to look around and wait for Ctrl-C."""
    running = [cluster for cluster in sandbox.clusters.values() if cluster.running]
    if not running:
        raise WorldFailed("no cluster is left to look at", reason="NothingLeft")
    cluster = running[-1]
    lines = [
        "the world stays up until Ctrl-C; look around in another terminal:",
        f"  export KUBECONFIG={cluster.kubeconfig}",
        "  kubectl get applications,sealedsecrets,externalsecrets,secrets -A",
        f"  git clone {sandbox.git().url}/estate.git",
        f"  OpenBao {sandbox.openbao().url}   AWS {sandbox.aws().url}   evidence {sandbox.folder / 'drill'}",
    ]
    click.echo("\n".join(lines), err=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def _print(body: Mapping[str, Any], output: str) -> None:
    write_output(_formatted(body, output))


def _formatted(body: Mapping[str, Any], output: str) -> bytes:
    return (dump(body) if output == "yaml" else json.dumps(body, indent=2) + "\n").encode()
