"""A group of commands whose help names each with its whole first sentence: what it does and when it says no.

Never here: a command.
"""

from __future__ import annotations

import click


class CommandGroup(click.Group):
    """click's group, but no summary is cut: `exit code 1...` tells nobody what exit code 1 is."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List every command with the first line of its help, wrapped."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.help or "") for name, command in found if command is not None and not command.hidden]
        with formatter.section("Commands"):
            formatter.write_dl([(name, " ".join(text.strip().split("\n\n")[0].split())) for name, text in rows])
