"""Options that the escrow commands share, and the escrow they mean. Reads files; prints nothing.

Never here: what the commands do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from secretsops.errors import BrokenEscrow, UsageError
from secretsops.escrow import wrapped
from secretsops.escrow.backup import Opening
from secretsops.escrow.canonical import SIZE_LIMIT
from secretsops.escrow.config import CONFIG, CREDENTIALS, NAMES, SIGNER, TRUST, EscrowConfig, read_config
from secretsops.escrow.identity import read_identities
from secretsops.escrow.index import Entry, entry_names, read_entry
from secretsops.escrow.places import Escrow, opened, plain
from secretsops.escrow.signing import read_signer
from secretsops.escrow.trust import read_versions
from secretsops.files import read_input
from secretsops.ports import Cluster, ClusterTarget, Doors
from secretsops.secret import Plaintext

Command = TypeVar("Command", bound=Callable[..., Any])


def where(flag: str) -> Callable[[Command], Command]:
    """Add the options that say which sinks are meant; `flag` is `--to` or `--from`."""
    options = (
        click.option(flag, "places", multiple=True, help="Folder or URL of a sink; repeat for several."),
        click.option("--config", default="", help="escrow.yaml, or the folder that holds it; instead of sinks."),
        click.option("--trust", default="", help="sha256:… of the trust root, from the custody card."),
        click.option("--trust-file", default="", help="trust.json; by default the newest that the sinks hold."),
        click.option("--cluster-name", default="", help="Name of the cluster that stays when it is rebuilt."),
        click.option("--quorum", default=0, help="How many sinks must hold.  [default: more than half]"),
    )
    return _all(options)


def signing() -> Callable[[Command], Command]:
    """Add the option that names who signs."""
    return _all((click.option("--signer", default="", help="Private key that signs (ed25519, PEM or OpenSSH)."),))


def opening() -> Callable[[Command], Command]:
    """Add the options that say what opens a bundle."""
    return _all(
        (
            click.option("--identity", "identities", multiple=True, help="age identity file."),
            click.option("--passphrase", is_flag=True, help="Ask for the passphrase of a bundle made for one."),
        )
    )


def cluster() -> Callable[[Command], Command]:
    """Add the options that say which cluster is meant."""
    return _all(
        (
            click.option("--kubeconfig", default="", help="The cluster; kubectl's rules where not given."),
            click.option("--context", default="", help="Context of the kubeconfig."),
        )
    )


def output() -> Callable[[Command], Command]:
    """Add the choice between a table and JSON."""
    return _all(
        (click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", show_default=True),)
    )


def witnesses() -> Callable[[Command], Command]:
    """Add the option that names entries seen elsewhere."""
    text = "Entry (epoch-*.json) kept elsewhere, or a folder of them: nothing older is taken."
    return _all((click.option("--witness", "witnesses", multiple=True, help=text),))


def _all(options: tuple[Callable[[Any], Any], ...]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def the_escrow(doors: Doors, options: Mapping[str, Any]) -> Escrow:
    """Give the escrow that the options mean.

    Raises:
        UsageError: neither sinks nor a configuration, both, or a file that is not what it should be.
    """
    places, config = options["places"], options["config"]
    if bool(places) == bool(config):
        raise UsageError("give sinks, or --config, not both", reason="Usage", hint="--config escrow/escrow.yaml")
    if config:
        found = opened(the_config(options), doors, in_cluster=False)
    else:
        found = plain([doors.sink(place) for place in places], doors.age())
    found = replace(found, cluster=options["cluster_name"] or found.cluster, quorum=options["quorum"] or found.quorum)
    if options.get("signer"):
        found = replace(found, signers=[read_signer(_private(options["signer"]))])
    if options["trust"]:
        found = replace(found, pin=options["trust"])
    if options["trust_file"]:
        found = replace(found, versions=read_versions(read_input(options["trust_file"], limit=SIZE_LIMIT)))
    if found.signers and not found.pin:
        raise UsageError("--signer needs --trust", reason="Usage", hint="sha256:… from the custody card")
    return found


def the_config(options: Mapping[str, Any]) -> EscrowConfig:
    """Give the configuration that `--config` names; raises `UsageError`."""
    path = Path(options["config"])
    folder, name = (path, CONFIG) if path.is_dir() else (path.parent, path.name)
    files = {CONFIG: read_input(str(folder / name), limit=SIZE_LIMIT)}
    for each in (CREDENTIALS, SIGNER, NAMES):
        if (folder / each).is_file():
            files[each] = _private(str(folder / each)).reveal()
    if (folder / TRUST).is_file():
        files[TRUST] = read_input(str(folder / TRUST), limit=SIZE_LIMIT)
    return read_config(files)


def the_opening(options: Mapping[str, Any], doors: Doors) -> Opening:
    """Give what opens bundles: identity files (wrapped ones by their service), or a passphrase asked for."""
    phrase = None
    if options["passphrase"]:
        phrase = Plaintext(str(click.prompt("Passphrase", hide_input=True, err=True)).encode())
    return Opening(identities=the_identities(doors, options["identities"]), passphrase=phrase)


def the_identities(doors: Doors, files: Sequence[str]) -> list[Plaintext]:
    """Give the identities of files; a wrapped one is unwrapped by the service that it names."""
    found = []
    for content in read_identities(files):
        if wrapped.is_wrapped(content):
            key, recipient, sealed = wrapped.read(content)
            found.append(doors.wrapping(key).unwrap(sealed, recipient))
        else:
            found.append(content)
    return found


def the_cluster(doors: Doors, options: Mapping[str, Any]) -> Cluster:
    """Connect to the cluster that the options mean."""
    return doors.cluster(ClusterTarget(kubeconfig=options["kubeconfig"], context=options["context"]))


def the_witnesses(options: Mapping[str, Any]) -> list[Entry]:
    """Give the entries kept elsewhere; raises `BrokenEscrow` for a file that is none."""
    found = []
    for text in options["witnesses"]:
        path = Path(text)
        files = [path]
        if path.is_dir():
            names = entry_names([each.name for each in path.iterdir()])
            files = [path / name for name in names]
        if not files:
            raise BrokenEscrow(f"{text} holds no epoch-*.json", reason="NoWitness")
        found += [read_entry(file.name, read_input(str(file), limit=SIZE_LIMIT)) for file in files]
    return found


def _private(path: str) -> Plaintext:
    return read_identities([path])[0]
