"""Options that several commands of `secretsops recover` share. Never here: what they mean (`roots.py`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from recovery.points import RecoveryPoint, as_of, read_point
from recovery.roots import Choice
from secretsops.errors import UsageError
from secretsops.files import read_input
from secretsops.manifest import dump

F = TypeVar("F", bound=Callable[..., Any])


def estate_options(command: F) -> F:
    """Add the options that say which estate is meant (`roots.Choice`)."""
    for option in (
        click.option(
            "--signers",
            default="",
            envvar="SECRETSOPS_SIGNERS",
            help="recovery.yaml from outside: commits must be signed as its `signatures` say.",
        ),
        click.option("--as-of", default="", help="Take the newest point of --points that is not younger (RFC 3339)."),
        click.option("--points", default="", help="Folder of recovery points: read the commits that one pins."),
        click.option("--app", "file", default="", help="File with the root Application(s); `-` is standard input."),
        click.option(
            "--path", default="", help="File or folder of the root Application(s) in --repo; found where left out."
        ),
        click.option("--revision", default="HEAD", show_default=True, help="Branch, tag or SHA of --repo."),
        click.option("--repo", default="", help="Repository that holds the root Application(s)."),
    ):
        command = option(command)
    return command


def choice_of(options: Mapping[str, Any]) -> Choice:
    """Give the estate that the options mean, at the commits of a recovery point where one is named.

    Raises:
        UsageError: no point fits, or it is of another estate.
    """
    choice = Choice(**{name: options[name] for name in ("repo", "revision", "path", "file", "signers")})
    if not options.get("points"):
        if options.get("as_of"):
            raise UsageError("--as-of needs --points", reason="Usage", hint="name the folder that keeps the points")
        return choice
    point = as_of(read_points(options["points"]), options["as_of"])
    if (point.repo, point.revision, point.path) != (choice.repo, choice.revision, choice.path):
        raise UsageError(
            f"the recovery point of {point.created} is of {point.repo} at {point.revision}, path {point.path!r}",
            reason="OtherEstate",
            hint="give the same --repo, --revision and --path",
        )
    return replace(choice, pins=dict(point.pins))


def read_points(folder: str) -> list[RecoveryPoint]:
    """Give the points of a folder.

    Raises:
        UsageError: there is no such folder. InvalidManifest: a file in it is no point.
    """
    place = Path(folder)
    if not place.is_dir():
        raise UsageError(f"{folder} is no folder", reason="NoRecoveryPoint", hint="secretsops recover point write")
    files = sorted(place.glob("point-*.json"))
    return [read_point(read_input(str(file)), source=file.name) for file in files]


def formatted(body: Any, output: str) -> str:
    """Give plain data as JSON or YAML text."""
    return json.dumps(body, indent=2) + "\n" if output == "json" else dump(body)
