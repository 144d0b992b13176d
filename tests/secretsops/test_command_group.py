"""Help of a group names every command with its whole first sentence."""

from __future__ import annotations

import click
from click.testing import CliRunner

from secretsops.command_group import CommandGroup


def test_no_summary_is_cut_and_hidden_commands_stay_hidden() -> None:
    @click.group(cls=CommandGroup)
    def tool() -> None:
        """A tool."""

    @tool.command()
    def judge() -> None:
        """Say whether a very long list of things was as it should be;
        exit code 1 when it was not.

        More of it.
        """

    @tool.command(hidden=True)
    def secret() -> None:
        """Nobody sees this."""

    shown = " ".join(CliRunner().invoke(tool, ["--help"]).output.split())
    assert "judge Say whether a very long list of things was as it should be; exit code 1 when it was not." in shown
    assert "More of it" not in shown
    assert "Nobody" not in shown
