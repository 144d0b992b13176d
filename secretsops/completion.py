"""`secretsops completion`: the script that makes a shell complete our commands. Standard library and click only."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from secretsops.errors import UsageError

PROGRAMS = ("secretsops", "seal")


@click.command(epilog='Example: eval "$(secretsops completion bash)"   (fish: secretsops completion fish | source)')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes `secretsops` and `seal` in a shell."""
    found = get_completion_class(shell)
    if found is None:
        raise UsageError(f"no completion for {shell}", reason="UnknownShell", hint="use bash, zsh or fish")
    for program in PROGRAMS:
        complete = f"_{program.upper()}_COMPLETE"
        template = found.source_template % {
            "complete_func": f"_{program}_completion",
            "complete_var": complete,
            "prog_name": program,
        }
        click.echo(template)
