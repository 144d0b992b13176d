"""`seal`: the options of the command itself, and which commands stand beside it. The work is `modes.py`'s.

Names and meanings of the options are kubeseal's (v0.38.4), each also from its environment variable
(`SEALED_SECRETS_SCOPE` for `--scope`). `--compat kubeseal` adds the peer's defaults and exit codes.

What never lives here: cluster libraries (doors come in `ctx.obj`), sealing rules.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from secretsops.errors import SecretsOpsError, UsageError
from secretsops.sealing.modes import Request, act, print_version
from secretsops.sealing.options import (
    access,
    certificate_options,
    certificate_wishes,
    connection,
    flag,
    key_files,
    key_options,
    option,
    pairs,
)
from secretsops.sealing.scope import Scope

if TYPE_CHECKING:
    from secretsops.ports import Doors

COMMANDS: Mapping[str, tuple[str, str]] = {
    "diff": ("secretsops.sealing.cli_files:diff", "Compare two SealedSecrets by keys and fingerprints."),
    "edit": ("secretsops.sealing.cli_files:edit", "Edit the values of a SealedSecret; only what changed is sealed."),
    "keys": ("secretsops.sealing.cli_keys:keys", "Look after the sealing keys: which is used where, and retire them."),
    "lint": ("secretsops.sealing.cli_lint:lint", "Find SealedSecrets that will not open, and say why."),
    "reencrypt": ("secretsops.sealing.cli_reencrypt:reencrypt", "Seal anew, in place, what is not on the newest key."),
    "rm": ("secretsops.sealing.cli_files:remove", "Remove items from a SealedSecret file."),
    "set": ("secretsops.sealing.cli_files:set_item", "Seal one value into a SealedSecret file."),
}
MODES = ("fetch_cert", "raw", "validate", "recovery_unseal", "re_encrypt", "rotate")
_KLOG = ("stderrthreshold", "vmodule", "log_backtrace_at", "log_dir", "log_file", "log_file_max_size")
_KLOG_SWITCHES = ("logtostderr", "alsologtostderr", "add_dir_header", "one_output", "skip_headers", "skip_log_headers")


class _Seal(click.Group):
    """`seal` itself and the commands named as its first word; what is not called is not imported.

    kubeseal ignores positional arguments, so a command is known by being the very first word.
    """

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        command = self.get_command(None, args[0]) if args else None
        if command is None:
            return super().make_context(info_name, args, parent, **extra)
        return command.make_context(f"{info_name} {args[0]}", args[1:], parent=parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run what `make_context` found."""
        return click.Command.invoke(self, ctx) if ctx.command is self else ctx.command.invoke(ctx)

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, _ctx: click.Context | None, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


def _ignored_options(command: Any) -> Any:
    """Accept klog's options, which say nothing here."""
    command = click.option("-v", "--v", "klog_v", hidden=True, expose_value=False, help="Without effect.")(command)
    for name in _KLOG:
        command = click.option(f"--{name}", hidden=True, expose_value=False, help="Without effect.")(command)
    for name in _KLOG_SWITCHES:  # with or without a value, as Go's flags are
        switch = click.option(
            f"--{name}", is_flag=False, flag_value="true", hidden=True, expose_value=False, help="Without effect."
        )
        command = switch(command)
    return command


@click.command(
    cls=_Seal,
    invoke_without_command=True,
    epilog="Example: seal --cert cert.pem --scope namespace-wide < secret.yaml > sealed.yaml",
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 120,
        "allow_interspersed_args": True,
    },
)
@certificate_options
@option("--scope", type=click.Choice([scope.value for scope in Scope]), help="How far it may move and still open.")
@option("--name", default="", help="Name of the SealedSecret; with --raw --scope strict required.")
@option("--namespace", "-n", default="", help="Namespace, where the Secret names none.")
@option("--secret-file", "-f", default="", metavar="FILE", help="Input instead of standard input.")
@option(
    "--sealed-secret-file",
    "-w",
    "output_file",
    default="",
    metavar="FILE",
    help="Output file, replaced whole; with several clusters '{cluster}' in it stands for the name.",
)
@option("--format", "-o", "output_format", default="", help="yaml (default) or json.")
@flag("--allow-empty-data", help="Seal a Secret without data.")
@option("--label", multiple=True, metavar="K=V", help="Label of the SealedSecret itself.")
@option("--annotation", multiple=True, metavar="K=V", help="Annotation of the SealedSecret itself.")
@flag("--keep-metadata", help="Labels and annotations of the Secret on the SealedSecret as well.")
@click.option("--sealed-with/--no-sealed-with", "hint", default=True, help="Say in an annotation which key sealed it.")
@flag("--stream", help="Write each document as soon as it is sealed, not all of them or none.")
@flag("--fetch-cert", help="Print the certificate and stop.")
@flag("--raw", help="Seal one value: that of --from-file or standard input, byte by byte.")
@option("--from-file", multiple=True, metavar="[KEY=]FILE", help="The value for --raw.")
@option("--merge-into", default="", metavar="FILE", help="Add the items to an existing SealedSecret file.")
@flag("--validate", help="Ask the controller whether it can open a SealedSecret.")
@flag("--re-encrypt", help="Seal SealedSecrets anew with the newest key: by the controller, or with private keys.")
@flag("--rotate", hidden=True, help="The old name of --re-encrypt.")
@flag("--recovery-unseal", help="Open a SealedSecret with private keys and print the Secret.")
@key_options
@connection
@_ignored_options
@click.option("--compat", type=click.Choice(["kubeseal"]), help="Behave as the peer: JSON by default, its exit codes.")
@click.option("--version", is_flag=True, help="Print the version.")
@click.argument("ignored", nargs=-1, metavar="")
@click.pass_obj
def seal(doors: Doors, /, *, compat: str | None, version: bool, ignored: tuple[str, ...], **options: Any) -> int | None:
    """Turn a Secret into a SealedSecret that is safe to commit."""
    kubeseal = compat == "kubeseal"
    try:
        if version:
            print_version(kubeseal=kubeseal)
            return None
        if ignored and not kubeseal:
            raise UsageError(
                f"unexpected argument {ignored[0]!r}",
                reason="UnexpectedArgument",
                hint="name the input with -f FILE; a command is the first word: seal lint FILE",
            )
        modes = {mode: options.pop(mode) for mode in MODES}
        request = _request(options, kubeseal=kubeseal)
        act(request, modes, doors)
    except SecretsOpsError as error:
        if not kubeseal:
            raise
        # Compat: the peer's one line and its exit code, 1 for everything but a wrong flag.
        click.echo(f"error: {error.message}", err=True)
        return 1
    return None


def _request(options: dict[str, Any], *, kubeseal: bool) -> Request:
    scope = options.pop("scope")
    hint = options.pop("hint")
    return Request(
        certificates=certificate_wishes(options, kubeseal=kubeseal),
        access=access(options),
        scope=Scope(scope) if scope else None,
        keys=key_files(options),
        labels=pairs(options.pop("label"), name="--label"),
        annotations=pairs(options.pop("annotation"), name="--annotation"),
        hint=hint and not kubeseal,
        kubeseal=kubeseal,
        **options,
    )
