"""`secretsops recover plan`: what can be told from Git alone, before anything is written.

Never here: rules; these commands read options, call one function each, and print.
"""

from __future__ import annotations

from pathlib import Path

import click

from recovery.options import estate_options, formatted
from recovery.roots import Choice, estate_of
from secretsops.files import read_input, write_atomic, write_output
from secretsops.manifest import Manifest, load_all
from secretsops.ports import Doors

INSTALLED = click.option(
    "--install", "install", multiple=True, help="Manifests that the rebuild applies before any application."
)


@click.command(epilog="Example: secretsops recover plan --repo https://git.example/estate.git --html plan.html")
@estate_options
@INSTALLED
@click.option("--html", type=click.Path(dir_okay=False), help="Also write the plan as one self-contained page.")
@click.option("-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
@click.pass_obj
def plan(doors: Doors, /, html: str | None, install: tuple[str, ...], output: str, **where: str) -> int:
    """Print what a rebuild would apply, in exact order, with the reason for each position; needs no cluster.

    Exit code 1 when something in Git cannot be carried out; it is named, and the rest is planned.
    """
    from recovery.proof.graph import build
    from recovery.proof.listing import plan_body, plan_table

    estate = estate_of(doors.git(), doors.renderer(), Choice(**where))
    graph = build(estate, installed=read_installed(install))
    body = plan_body(estate, graph)
    if html:
        from recovery.proof.page import page

        write_atomic(Path(html), page(body).encode())
    write_output((plan_table(body) if output == "table" else formatted(body, output)).encode())
    for problem in estate.problems:
        click.echo(f"problem: {problem}", err=True)
    return 1 if estate.problems else 0


def read_installed(files: tuple[str, ...]) -> list[Manifest]:
    """Give the objects of the files that a rebuild installs first."""
    return [manifest for file in files for manifest in load_all(read_input(file), source=file)]
