"""`secretsops recover rehearse`: options and printing. Never here: what a rehearsal does (`recovery/rehearse.py`)."""

from __future__ import annotations

from typing import Any

import click

from recovery.events import Quiet
from recovery.options import chosen, estate_options, formatted
from recovery.proof.cli import INSTALLED, read_installed
from recovery.roots import estate_of
from secretsops.files import write_output
from secretsops.ports import Doors


@click.command(epilog="Example: secretsops recover rehearse --repo https://git.example/estate.git --revision my-branch")
@estate_options
@INSTALLED
@click.option("--no-hooks", is_flag=True, help="Leave every hook out.")
@click.option("--patience", default=60.0, show_default=True, help="Seconds one wait may stand still.")
@click.option("--deadline", default=900.0, show_default=True, help="Seconds for the whole rebuild.")
@click.option("-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
@click.pass_obj
def rehearse(doors: Doors, /, install: tuple[str, ...], output: str, **options: Any) -> int:
    """Rebuild a revision on a disposable API server with dummies for every secret; exit code 1 unless it comes up.

    Schemas, admission, order and health are proven with no secret present, so it is safe for pull requests of forks.
    """
    from recovery.rehearse import rehearse as carry_out
    from recovery.request import RebuildRequest

    meant = chosen(doors, options)
    git, renderer = meant.git, doors.renderer()
    estate = estate_of(git, renderer, meant.choice)
    with doors.disposable_cluster() as cluster:
        request = RebuildRequest(
            roots=estate.roots,
            pins=estate.pins,
            remap=meant.choice.remap,
            install=read_installed(install),
            patience=options["patience"],
            deadline=options["deadline"],
            hooks=not options["no_hooks"],
            override_windows="a rehearsal",
        )
        result = carry_out(request, cluster=cluster, git=git, renderer=renderer, clock=doors.clock, observer=Quiet())
    body = result.body()
    write_output((result.text() if output == "table" else formatted(body, output)).encode())
    return 0 if result.report.ok else 1
