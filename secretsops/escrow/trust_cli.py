"""`secretsops escrow trust`: make, change, sign and show `trust.json`.

Never here: what makes a version count (`trust.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from secretsops.command_group import CommandGroup
from secretsops.errors import Refused, UsageError
from secretsops.escrow import trust as roots
from secretsops.escrow.canonical import SIZE_LIMIT
from secretsops.escrow.identity import read_identities
from secretsops.escrow.signing import Signer, new_signer, read_public, read_signer
from secretsops.files import read_input, write_atomic, write_output

_ROLES = click.Choice([role.value for role in roots.Role])


@click.group(
    cls=CommandGroup,
    epilog="Example: secretsops escrow trust init --root alice=alice.key --root bob=ssh-ed25519\\ AAAA... trust.json",
)
def trust() -> None:
    """Say who may sign bundles, claims, recovery points, commits and evidence."""


@trust.command(epilog="Example: secretsops escrow trust key alice.key")
@click.argument("file")
def key(file: str) -> None:
    """Make a signing key (ed25519) in a new file, and print its public half."""
    path = Path(file)
    if path.exists():
        raise UsageError(f"{file} is there already", reason="FileExists", hint="name a new file")
    signer, pem = new_signer()
    write_atomic(path, pem.reveal(), mode=0o600)
    write_output(f"{signer.public}\n".encode())


@trust.command(epilog="Example: secretsops escrow trust init --root alice=ed25519:... --key alice.key trust.json")
@click.argument("file")
@click.option("--root", "holders", multiple=True, required=True, metavar="NAME=KEY", help="Root: a public key.")
@click.option("--threshold", default=1, show_default=True, help="How many roots must sign a change.")
@click.option("--key", "keys", multiple=True, help="Private key file of a root: sign at once.")
def init(file: str, holders: tuple[str, ...], threshold: int, keys: tuple[str, ...]) -> None:
    """Make version 1, to be signed by its own roots."""
    if Path(file).exists():
        raise UsageError(f"{file} is there already", reason="FileExists", hint="secretsops escrow trust add changes it")
    made = roots.first([_holder(text) for text in holders], threshold)
    _keep(file, [made], _signers(keys))


@trust.command(epilog="Example: secretsops escrow trust add prod=ed25519:... --role bundles --key alice.key trust.json")
@click.argument("holder", metavar="NAME=KEY")
@click.argument("file")
@click.option("--role", "given", multiple=True, type=_ROLES, help="What it may sign; none makes it a root.")
@click.option("--threshold", default=0, help="Change how many roots must sign.")
@click.option("--key", "keys", multiple=True, help="Private key file of a root: sign at once.")
def add(holder: str, file: str, given: tuple[str, ...], threshold: int, keys: tuple[str, ...]) -> None:
    """Propose a version with one more signer or root."""
    made = _holder(holder, given)
    versions = roots.successor(
        _read(file), add=[made] if given else [], add_roots=[] if given else [made], threshold=threshold
    )
    _keep(file, versions, _signers(keys))


@trust.command(epilog="Example: secretsops escrow trust remove bob --key alice.key trust.json")
@click.argument("name")
@click.argument("file")
@click.option("--threshold", default=0, help="Change how many roots must sign.")
@click.option("--key", "keys", multiple=True, help="Private key file of a root: sign at once.")
def remove(name: str, file: str, threshold: int, keys: tuple[str, ...]) -> None:
    """Propose a version without a signer or root."""
    _keep(file, roots.successor(_read(file), remove=[name], threshold=threshold), _signers(keys))


@trust.command(epilog="Example: secretsops escrow trust sign --key bob.key trust.json")
@click.argument("file")
@click.option("--key", "keys", multiple=True, required=True, help="Private key file of a root.")
def sign(file: str, keys: tuple[str, ...]) -> None:
    """Sign the newest version as a root."""
    _keep(file, _read(file), _signers(keys))


@trust.command(epilog="Example: secretsops escrow trust show --trust sha256:... trust.json")
@click.argument("file")
@click.option("--trust", "pin", default="", help="Prove it against the digest of the custody card.")
@click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def show(file: str, pin: str, output: str) -> None:
    """Show who may sign what, and the digest for the custody card."""
    versions = _read(file)
    if pin:
        roots.prove(versions, pin)
    _print(versions, output, proven=bool(pin))


def _keep(file: str, versions: list[roots.Version], signers: list[Signer]) -> None:
    newest = versions[-1]
    known = {root.key for version in versions[-2:] for root in version.roots}
    for signer in signers:
        if signer.public not in known:
            raise Refused(f"{signer.public} is no root", reason="NotARoot", hint="secretsops escrow trust show")
        newest = roots.countersigned(newest, signer)
    versions = [*versions[:-1], newest]
    write_atomic(Path(file), roots.text(versions))
    _print(versions, "table", proven=False)


def _print(versions: list[roots.Version], output: str, *, proven: bool) -> None:
    newest, before = versions[-1], versions[-2] if len(versions) > 1 else None
    complete = roots.is_complete(newest, before)
    body = {**newest.body(), "digest": newest.digest, "complete": complete, "proven": proven}
    if output == "json":
        text = json.dumps(body, indent=2)
    else:
        lacking = "" if complete else ", waits for signatures: secretsops escrow trust sign"
        lines = [f"version {newest.version}, {newest.threshold} of {len(newest.roots)} roots{lacking}", newest.digest]
        lines += [f"  root    {root.name}  {root.key}" for root in newest.roots]
        lines += [f"  signer  {each.name}  {each.key}  {', '.join(each.roles)}" for each in newest.signers]
        text = "\n".join(lines)
    write_output(f"{text}\n".encode())


def _holder(text: str, given: Any = ()) -> roots.Holder:
    name, equals, public = text.partition("=")
    if not equals or not name:
        raise UsageError(f"{text[:60]!r} is not NAME=KEY", reason="Usage", hint="alice=ed25519:…")
    return roots.Holder(name=name, key=read_public(public), roles=tuple(sorted(set(given))))


def _signers(files: tuple[str, ...]) -> list[Signer]:
    return [read_signer(text) for text in read_identities(files)]


def _read(file: str) -> list[roots.Version]:
    return roots.read_versions(read_input(file, limit=SIZE_LIMIT))
