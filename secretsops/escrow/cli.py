"""`secretsops escrow`: back the sealing keys up, prove the backup, restore from it.

Never here: what a backup is (`backup.py`); this file reads options and prints.
"""

from __future__ import annotations

import json
from typing import Any

import click

from secretsops.escrow import backup
from secretsops.escrow.identity import read_identities
from secretsops.files import write_output
from secretsops.ports import ClusterTarget, Doors


@click.group(epilog="Example: secretsops escrow create --recipient age1... --to /mnt/escrow")
def escrow() -> None:
    """Back up, prove and restore the sealing keys."""


def _output(command: Any) -> Any:
    return click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)(
        command
    )


def _cluster(command: Any) -> Any:
    for option in (
        click.option("--context", default="", help="Context of the kubeconfig."),
        click.option("--kubeconfig", default="", help="The cluster; kubectl's rules where not given."),
    ):
        command = option(command)
    return command


@escrow.command(epilog="Example: secretsops escrow create --recipient age1... --to /mnt/escrow --context prod")
@click.option("--recipient", "recipients", multiple=True, required=True, help="age recipient; repeat for several.")
@click.option("--to", "place", required=True, help="Folder that keeps the escrow, outside the cluster.")
@click.option("--namespace", default="kube-system", show_default=True, help="Where the sealing keys are.")
@_cluster
@_output
@click.pass_obj
def create(
    doors: Doors,
    /,
    recipients: tuple[str, ...],
    place: str,
    namespace: str,
    kubeconfig: str,
    context: str,
    output: str,
) -> None:
    """Encrypt every sealing key to the recipients, write it, read it back."""
    cluster = doors.cluster(ClusterTarget(kubeconfig=kubeconfig, context=context))
    outcome = backup.create(
        cluster,
        doors.sink(place),
        doors.age(),
        recipients=sorted(set(recipients)),
        namespace=namespace,
        now=doors.clock.now(),
    )
    _print(outcome, output)


@escrow.command(epilog="Example: secretsops escrow verify --from /mnt/escrow --identity key.txt --context prod")
@click.option("--from", "place", required=True, help="Folder that keeps the escrow.")
@click.option("--identity", "identities", multiple=True, help="age identity file: prove that the newest bundle opens.")
@click.option("--offline", is_flag=True, help="Do not compare with a cluster.")
@_cluster
@_output
@click.pass_obj
def verify(
    doors: Doors,
    /,
    place: str,
    identities: tuple[str, ...],
    offline: bool,
    kubeconfig: str,
    context: str,
    output: str,
) -> None:
    """Prove that the escrow is whole, opens, and covers every key of the cluster."""
    cluster = None if offline else doors.cluster(ClusterTarget(kubeconfig=kubeconfig, context=context))
    found = read_identities(identities)
    _print(backup.verify(doors.sink(place), doors.age() if found else None, identities=found, cluster=cluster), output)


@escrow.command(epilog="Example: secretsops escrow restore --from /mnt/escrow --identity key.txt --context new")
@click.option("--from", "place", required=True, help="Folder that keeps the escrow.")
@click.option("--identity", "identities", multiple=True, required=True, help="age identity file.")
@click.option("--namespace", default="", help="Where the keys go.  [default: where they were]")
@_cluster
@_output
@click.pass_obj
def restore(
    doors: Doors,
    /,
    place: str,
    identities: tuple[str, ...],
    namespace: str,
    kubeconfig: str,
    context: str,
    output: str,
) -> None:
    """Create the sealing keys of the newest epoch in a cluster, with their states."""
    cluster = doors.cluster(ClusterTarget(kubeconfig=kubeconfig, context=context))
    found = read_identities(identities)
    _print(backup.restore(cluster, doors.sink(place), doors.age(), identities=found, namespace=namespace), output)


def _print(outcome: backup.Outcome, output: str) -> None:
    entry = outcome.entry
    body = {
        "action": outcome.action,
        "epoch": entry.epoch,
        "created": entry.created,
        "cluster": entry.incarnation,
        "bundle": entry.bundle,
        "recipients": list(entry.recipients),
        "keys": [
            {"name": key.name, "fingerprint": key.fingerprint, "born": key.born, "state": key.state.value}
            for key in entry.keys
        ],
        "details": list(outcome.details),
    }
    if output == "json":
        text = json.dumps(body, indent=2) + "\n"
    else:
        lines = [f"{outcome.action}: epoch {entry.epoch} of {entry.created}, {len(entry.keys)} key(s)"]
        lines += [f"  {key.state.value:<12} {key.fingerprint}  {key.name}" for key in entry.keys]
        lines += [f"  {detail}" for detail in outcome.details]
        text = "\n".join(lines) + "\n"
    write_output(text.encode())
