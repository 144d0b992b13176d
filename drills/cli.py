"""`secretsops demo` and `secretsops drill`: carry a scenario out on a disposable world, show it, report.

Never here: what a drill does (`run.py`).
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
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
from drills.scenario import read_scenario
from secretsops.command_group import CommandGroup
from secretsops.errors import Refused, UsageError, WorldFailed
from secretsops.files import write_atomic, write_output
from secretsops.manifest import dump
from secretsops.ports import Doors

if TYPE_CHECKING:
    from drills.record import Run
    from drills.report import Report
    from drills.sandbox.world import Sandbox

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


@click.command(epilog="Example: secretsops demo --keep")
@on_cluster
@click.option("--keep", is_flag=True, help="Leave the world up afterwards and say how to look around.")
@click.option("--report", type=click.Path(dir_okay=False), help="Also write the report as JSON to this file.")
@click.option("--world", type=click.Path(file_okay=False), help="Folder for logs and evidence, kept afterwards.")
@click.option("-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
@click.pass_obj
def demo(doors: Doors, /, kind: str, keep: bool, report: str | None, world: str | None, output: str) -> int:
    """Destroy a cluster and rebuild it from Git, live."""
    how = _How(kind=kind, keep=keep, report=report, world=world, output=output)
    return 0 if _carry_out(doors, shipped(STORY), shipped_files(), how).held else 1


@click.group(cls=CommandGroup, epilog="Example: secretsops drill run cluster-lost --report drill.json")
def drill() -> None:
    """Rehearse a disaster and measure it."""


for _command in COMMANDS:
    drill.add_command(_command)


@drill.command(epilog="Example: secretsops drill run cluster-lost --report drill.json -o json")
@click.argument("scenario")
@on_cluster
@click.option("--keep", is_flag=True, help="Leave the world up afterwards and say how to look around.")
@click.option("--report", type=click.Path(dir_okay=False), help="Also write the report as JSON to this file.")
@click.option("--world", type=click.Path(file_okay=False), help="Folder for logs and evidence, kept afterwards.")
@click.option("-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
@recorded
@click.pass_obj
def run(doors: Doors, /, scenario: str, output: str, **options: Any) -> int:
    """Carry out a scenario: one of ours by name, or a file; exit code 0 only if it passed, 3 if that is not known.

    With --evidence the run is written down before step one and after its end, signed, each record bound to the one
    before.
    """
    path = Path(scenario)
    files: Traversable
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UsageError(f"there is no file {scenario}", reason="NoScenario", hint="secretsops drill list")
        named, files = (path.read_bytes(), scenario), path.parent
    else:
        named, files = shipped(scenario), shipped_files()
    given = {name: options[name] for name in ("kind", "keep", "report", "world")}

    def once(which: Run) -> Mapping[str, Any]:
        world = str(Path(given["world"]) / which.id) if given["world"] and options["repeat"] > 1 else given["world"]
        return _carry_out(doors, named, files, _How(**{**given, "world": world, "output": output})).body()

    name = read_scenario(named[0], source=named[1]).name
    return run_recorded(doors, options, (name, named[0]), once, output=output)


@drill.command("list", epilog="Example: secretsops drill list")
def list_scenarios() -> None:
    """Name the scenarios that come with this version."""
    names = sorted(file.name.removesuffix(".yaml") for file in shipped_files().iterdir() if file.name.endswith(".yaml"))
    write_output("".join(f"{name}\n" for name in names).encode())


def shipped_files() -> Traversable:
    """Give the folder of the scenarios that come with this version."""
    return resources.files("drills").joinpath("scenarios")


def shipped(name: str) -> tuple[bytes, str]:
    """Give text and name of a scenario of ours.

    Raises:
        UsageError: there is none of that name.
    """
    names = {file.name for file in shipped_files().iterdir()}
    if f"{name}.yaml" not in names:
        raise UsageError(f"there is no scenario '{name}'", reason="NoScenario", hint="secretsops drill list")
    return shipped_files().joinpath(f"{name}.yaml").read_bytes(), f"{name}.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class _How:
    """How a drill is to be run and told: the options of `demo` and `drill run`."""

    kind: str
    keep: bool
    report: str | None
    world: str | None
    output: str


def _carry_out(doors: Doors, named: tuple[bytes, str], files: Traversable, how: _How) -> Report:
    from drills.display import display
    from drills.run import Drill
    from drills.sandbox.binaries import find_binaries
    from drills.sandbox.world import Sandbox

    content, source = named
    scenario = read_scenario(content, source=source)
    _refuse_used(how.world)
    if how.kind == "real":
        # Building takes minutes the first time: outside of what is measured, and shown as it comes.
        find_binaries(progress=lambda line: click.echo(line, err=True))
    with Sandbox(Path(how.world) if how.world else None, kind=how.kind) as sandbox, _ending_in_order():
        with display() as show:
            result = Drill(scenario, files, doors=doors, world=sandbox, show=show).run()
        body = result.body()
        if how.report:
            write_atomic(Path(how.report), json.dumps(body, indent=2).encode() + b"\n")
        if how.output == "table":
            text = result.text()
        else:
            text = json.dumps(body, indent=2) + "\n" if how.output == "json" else dump(body)
        write_output(text.encode())
        if how.keep:
            _stay(sandbox)
    return result


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
