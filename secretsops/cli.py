"""The composition root: builds the doors, hands them to the commands. The only file that may import everything.

`secretsops` is the umbrella command, `seal` the developer's. Sub-commands are named as `module:attribute` and loaded
when they are called, so `seal --cert FILE` imports no cluster, cloud or Git library (`tests/test_house.py`).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from secretsops.errors import SecretsOpsError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from secretsops.adapters.repositories import Repositories
    from secretsops.ports import (
        Age,
        Clock,
        Cluster,
        ClusterTarget,
        GitRepos,
        Notary,
        Renderer,
        RepositoryLogin,
        SecretSource,
        Shares,
        Sink,
        SinkAccess,
        SourceFiles,
        WorkTree,
        Wrapping,
    )
    from secretsops.secret import Plaintext
    from secretsops.sources import Access

COMMANDS: Mapping[str, tuple[str, str]] = {
    "completion": (
        "secretsops.completion:completion",
        "Print the script that completes `secretsops` and `seal` in a shell.",
    ),
    "controller": ("controllers.cli:controller", "Run the in-cluster controller."),
    "demo": ("drills.cli:demo", "Destroy a cluster and rebuild it from Git, live."),
    "drill": ("drills.cli:drill", "Rehearse a disaster and measure it."),
    "escrow": ("secretsops.escrow.cli:escrow", "Back up, prove and restore the sealing keys."),
    "external": (
        "secretsops.external.cli:external",
        "Try ExternalSecrets before they are applied, with the same store manifests.",
    ),
    "install": ("controllers.cli:install", "Print the manifests that install the controller."),
    "recover": ("recovery.cli:recover", "Plan and carry out a rebuild from Git."),
    "sandbox": ("drills.sandbox.cli:sandbox", "Start a disposable cluster, Vault, AWS and Git on loopback."),
    "seal": ("secretsops.sealing.cli:seal", "Turn a Secret into a SealedSecret that is safe to commit."),
    "uninstall": ("controllers.cli:uninstall", "Take the controller away; Secrets and sealing keys stay."),
    "version": ("secretsops.version:version", "Print the version, and with --all those of tools and schemas."),
}


SOURCES: Mapping[str, str] = {
    "AwsAccess": "secretsops.adapters.aws:open_aws",
    "KubernetesAccess": "secretsops.adapters.kubernetes:KubernetesSource",
    "WebhookAccess": "secretsops.adapters.webhook:WebhookSource",
    "VaultAccess": "secretsops.adapters.vault:VaultSource",
}
"""Which adapter opens which kind of access; imported when a store of that kind is opened."""


class RealDoors:
    """The real doors, each built at first use. Satisfies `secretsops.ports.Doors`."""

    def __init__(self) -> None:
        self._git: GitRepos | None = None
        self._lent: list[RepositoryLogin] = []
        self._renderer: Renderer | None = None

    @property
    def clock(self) -> Clock:
        """Give the machine's clock."""
        from secretsops.clock import SystemClock

        return SystemClock()

    def cluster(self, target: ClusterTarget) -> Cluster:
        """Connect by kubeconfig, context or in-cluster credentials."""
        from secretsops.adapters.kube import connect

        return connect(target)

    @contextmanager
    def disposable_cluster(self) -> Iterator[Cluster]:
        """Start a real control plane of the sandbox with a simulated node, and install our CRDs."""
        from controllers.install import definitions
        from drills.sandbox.world import Sandbox
        from secretsops.adapters.kube import connect
        from secretsops.ports import ClusterTarget

        with Sandbox(kind="real") as world:
            cluster = connect(ClusterTarget(kubeconfig=str(world.cluster("rehearsal").kubeconfig)))
            for manifest in definitions():
                cluster.apply(manifest, field_manager="secretsops")
            yield cluster

    def git(self) -> GitRepos:
        """Give the Git door with its cache of checkouts."""
        if self._git is None:
            from secretsops.adapters.repositories import SourceDoor

            self._git = SourceDoor(repositories=_repositories(), lent=self._lent)
        return self._git

    def sign_in(self, login: RepositoryLogin) -> None:
        """Let the Git door use a credential that was found on the way."""
        self._lent.append(login)

    def source_files(self) -> SourceFiles:
        """Give repositories and charts as files."""
        from secretsops.adapters.source_files import SourceFiles

        return SourceFiles(repositories=_repositories(), lent=self._lent)

    def worktree(self, folder: str) -> WorkTree:
        """Open the checkout that a folder lies in."""
        from secretsops.adapters.git_worktree import open_worktree

        return open_worktree(folder)

    def renderer(self) -> Renderer:
        """Give the processes that render Helm, Kustomize and Jsonnet."""
        if self._renderer is None:
            from secretsops.adapters.rendering import RenderWorkers

            self._renderer = RenderWorkers()
        return self._renderer

    def age(self) -> Age:
        """Give encryption to age recipients."""
        from secretsops.adapters.age import AgeDoor

        return AgeDoor()

    def shares(self) -> Shares:
        """Give splitting among custodians."""
        from secretsops.adapters.slip39 import Slip39

        return Slip39()

    def wrapping(self, url: str) -> Wrapping:
        """Open a key of AWS KMS or Vault transit."""
        from secretsops.adapters.wrapping import open_wrapping

        return open_wrapping(url)

    def notary(self, url: str) -> Notary:
        """Open a signing key of AWS KMS or Vault transit."""
        from secretsops.adapters.notary import open_notary

        return open_notary(url)

    def announce(self, url: Plaintext, body: bytes, *, content_type: str = "application/json") -> None:
        """Post to a webhook or push gateway."""
        from secretsops.adapters.announce import announce

        announce(url, body, content_type)

    def sink(self, place: str | SinkAccess) -> Sink:
        """Open an escrow sink by folder path or URL."""
        from secretsops.adapters.sinks import open_sink

        return open_sink(place)

    def secret_source(self, access: Access) -> SecretSource:
        """Open a store by the adapter for its kind of access."""
        module, _, name = SOURCES[type(access).__name__].partition(":")
        source: SecretSource = getattr(importlib.import_module(module), name)(access)
        return source


def _repositories() -> Repositories | None:
    """Give how repositories are reached, as the file that SECRETSOPS_REPOSITORIES names says; None without one."""
    from secretsops.adapters.repositories import read_repositories
    from secretsops.files import read_input

    file = os.environ.get("SECRETSOPS_REPOSITORIES", "")
    return read_repositories(read_input(file), file) if file else None


class _LazyGroup(click.Group):
    """A group that imports a sub-command's module only when that command is called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return sorted({*COMMANDS, *self.commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, importing none of them."""
        rows = [(name, COMMANDS[name][1]) for name in self.list_commands(ctx) if name in COMMANDS]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names from the table, importing no command, then options as click does."""
        from click.shell_completion import CompletionItem

        names = [CompletionItem(name, help=COMMANDS[name][1]) for name in COMMANDS if name.startswith(incomplete)]
        return sorted(names, key=lambda item: str(item.value)) + click.Command.shell_complete(self, ctx, incomplete)


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: secretsops demo",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    envvar="SECRETSOPS_LOG_LEVEL",
    help="What goes to the log on standard error.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    envvar="SECRETSOPS_LOG_FORMAT",
    help="Shape of log lines.",
)
@click.pass_context
def _umbrella(ctx: click.Context, log_level: str, log_format: str) -> None:
    """Secrets and disaster recovery for Kubernetes clusters that are run from Git."""
    from secretsops.logs import configure

    configure(level=log_level, style=log_format)
    ctx.ensure_object(RealDoors)


def main() -> None:
    """Run the `secretsops` command and exit with its code."""
    sys.exit(run(_umbrella, sys.argv[1:], prog="secretsops"))


def seal() -> None:
    """Run the `seal` command and exit with its code."""
    from secretsops.sealing.cli import seal as command

    sys.exit(run(command, sys.argv[1:], prog="seal"))


def run(command: click.Command, arguments: list[str], *, prog: str, doors: Any = None) -> int:
    """Run a command with the real doors (or those of a test) and give the exit code; errors go to standard error.

    0 done · 1 the answer is no · 2 usage · 3 the world failed · 130 interrupted.
    """
    try:
        _guard_siblings()
        result = command.main(arguments, prog_name=prog, standalone_mode=False, obj=doors or RealDoors())
    except SecretsOpsError as error:
        click.echo(f"{prog}: error: {error.message} ({error.reason})", err=True)
        if error.hint:
            click.echo(f"{prog}: hint: {error.hint}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo(f"{prog}: interrupted", err=True)
        return 130
    except BrokenPipeError:
        return 3
    return result if isinstance(result, int) else 0


def _guard_siblings() -> None:
    """Refuse to run when another distribution's package hides one of ours.

    Generic names can collide: pip installs a second wheel with a top-level `controllers` without a word, and our
    commands would then run its code (pypa/pip#4625). 0.1 ms.
    """
    home = __file__.rpartition("secretsops")[0]  # not by pathlib, whose import takes as long as all this
    for name in ("recovery", "controllers", "drills"):
        spec = importlib.util.find_spec(name)
        origin = (spec.origin or "") if spec else ""
        if not origin.startswith(home + name):
            raise SecretsOpsError(
                f"package '{name}' comes from {origin or 'nowhere'}, not from beside secretsops",
                reason="BrokenInstall",
                hint="install secretsops into an environment of its own: uv tool install secretsops",
            )
