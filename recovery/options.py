"""Options that several commands of `secretsops recover` share. Never here: what they mean (`roots.py`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from secretsops.manifest import dump

F = TypeVar("F", bound=Callable[..., Any])


def estate_options(command: F) -> F:
    """Add the options that say which estate is meant (`roots.Choice`)."""
    for option in (
        click.option("--app", "file", default="", help="File with the root Application(s); `-` is standard input."),
        click.option(
            "--path", default="", help="File or folder of the root Application(s) in --repo; found where left out."
        ),
        click.option("--revision", default="HEAD", show_default=True, help="Branch, tag or SHA of --repo."),
        click.option("--repo", default="", help="Repository that holds the root Application(s)."),
    ):
        command = option(command)
    return command


def formatted(body: Any, output: str) -> str:
    """Give plain data as JSON or YAML text."""
    return json.dumps(body, indent=2) + "\n" if output == "json" else dump(body)
