"""Options of a rebuild about the escrow, and what restores the keys by them. Reads options; prints nothing.

Never here: how keys are restored (`escrow.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import click

from recovery.escrow import proving, restore_from
from recovery.kept import Restore, restore_copies
from secretsops.errors import UsageError
from secretsops.escrow.backup import Opening
from secretsops.escrow.places import Escrow
from secretsops.ports import Cluster, Doors

_NAMES = {"escrow": "places", "escrow_config": "config"}


def escrow_options(command: Any) -> Any:
    """Add them to a command."""
    for option in (
        click.option(
            "--unfenced",
            default="",
            metavar="REASON",
            help="Claim nothing: the lost cluster cannot write, for this reason.",
        ),
        click.option("--rehearsal", is_flag=True, help="Do not claim the cluster: the one that is escrowed goes on."),
        click.option("--accept-stale", default="", metavar="REASON", help="Take an escrow older than a witness."),
        click.option("--witness", "witnesses", multiple=True, help="Entry (epoch-*.json) kept elsewhere, or a folder."),
        click.option("--signer", default="", help="Private key that signs the claim."),
        click.option("--trust-file", default="", help="trust.json; by default the newest that the sinks hold."),
        click.option("--trust", default="", help="sha256:… of the trust root, from the custody card."),
        click.option("--passphrase", is_flag=True, help="Ask for the passphrase of a bundle made for one."),
        click.option("--kept-back", default=0, metavar="N", help="Take the copies N versions before the newest."),
        click.option(
            "--kept-identity",
            "kept_identities",
            multiple=True,
            help="age identity file that opens sealed copies: make Secrets of external stores while those are out.",
        ),
        click.option("--identity", "identities", multiple=True, help="age identity file that opens the escrow."),
        click.option("--escrow-config", default="", help="escrow.yaml, or its folder, instead of --escrow."),
        click.option(
            "--escrow", multiple=True, help="Folder or URL of an escrow sink: restore the sealing keys first."
        ),
    ):
        command = option(command)
    return command


def restoring(doors: Doors, options: dict[str, Any]) -> Callable[[Cluster], object] | None:
    """Give what restores the sealing keys, None where no escrow is named; but in a rehearsal the cluster is claimed.

    Raises:
        UsageError: an escrow without an identity cannot be opened, an identity alone opens nothing.
    """
    somewhere = bool(options["escrow"] or options["escrow_config"])
    opens = bool(options["identities"] or options["passphrase"])
    if not somewhere and not options["identities"]:
        return None
    if somewhere and not opens and options["kept_identities"]:
        return None
    if not (somewhere and opens):
        raise UsageError("--escrow and --identity go together", reason="Usage", hint="give both, or neither")
    from secretsops.escrow import options as given

    named = _named(options)
    return restore_from(
        given.the_escrow(doors, named),
        given.the_opening(named, doors),
        witnesses=given.the_witnesses(named),
        accept_stale=options["accept_stale"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowParts:
    """What a rebuild asks of the escrow, by the names of `RebuildRequest`: a run that has one of them has all."""

    prove: Callable[[Cluster], Sequence[str]] | None
    restore_keys: Callable[[Cluster], object] | None
    restore_secrets: Restore | None
    unfenced: str

    def fields(self) -> dict[str, Any]:
        """Give them as arguments of `RebuildRequest`."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def escrow_parts(doors: Doors, options: dict[str, Any]) -> EscrowParts:
    """Give what stages 0, 1 and 4 need by the options; the command and a drill both take it from here.

    Raises:
        UsageError: as `restoring` and `restoring_copies`.
    """
    return EscrowParts(
        prove=proving_by(doors, options),
        restore_keys=restoring(doors, options),
        restore_secrets=restoring_copies(doors, options),
        unfenced=options["unfenced"],
    )


def named_escrow(doors: Doors, options: dict[str, Any]) -> tuple[Escrow, Opening]:
    """Give the escrow that the options name, and what opens it."""
    from secretsops.escrow import options as given

    named = _named(options)
    return given.the_escrow(doors, named), given.the_opening(named, doors)


def proving_by(doors: Doors, options: dict[str, Any]) -> Callable[[Cluster], Sequence[str]] | None:
    """Give what proves and claims in stage 0, None where no escrow is named."""
    if not (options["escrow"] or options["escrow_config"]):
        return None
    from secretsops.escrow import options as given

    named = _named(options)
    return proving(
        given.the_escrow(doors, named),
        witnesses=given.the_witnesses(named),
        accept_stale=options["accept_stale"],
        clock=None if options["rehearsal"] or options["unfenced"] else doors.clock,
    )


def restoring_copies(doors: Doors, options: dict[str, Any]) -> Restore | None:
    """Give what makes Secrets from sealed copies, None where no identity for them is named.

    Raises:
        UsageError: no sink is named, or an identity cannot be read.
    """
    if not options["kept_identities"]:
        return None
    if not (options["escrow"] or options["escrow_config"]):
        raise UsageError("--kept-identity needs --escrow", reason="Usage", hint="name the sinks, or --escrow-config")
    from secretsops.escrow import options as given
    from secretsops.escrow.backup import Opening

    identities = given.the_identities(doors, options["kept_identities"])
    escrow = given.the_escrow(doors, _named(options))
    return restore_copies(escrow, Opening(identities=identities), back=options["kept_back"])


def _named(options: dict[str, Any]) -> dict[str, Any]:
    named = {_NAMES.get(name, name): value for name, value in options.items()}
    return {**named, "cluster_name": "", "quorum": 0}
