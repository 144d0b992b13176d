"""`seal keys`: list, usage, retire, compromise, export-cert.

Listing, retiring and marking read and write the key Secrets by the caller's own right, which few have. What never
lives here: which item needs which key (`key_usage.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from secretsops.command_group import CommandGroup
from secretsops.errors import Forbidden, InvalidManifest, Refused, UsageError
from secretsops.files import write_atomic, write_output
from secretsops.sealing.modes import warn
from secretsops.sealing.options import (
    Access,
    access,
    certificate_options,
    certificate_wishes,
    connection,
    key_files,
    key_options,
)

if TYPE_CHECKING:
    from secretsops.manifest import Manifest
    from secretsops.ports import Cluster, Doors
    from secretsops.sealing.key_usage import Use
    from secretsops.sealing.keys import KeyPair
    from secretsops.sealing.sealed_file import Found

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 120}
_FORM = click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
SHOWN = 20
"""Items named at most in a refusal; all with -o json."""


@click.group(
    cls=CommandGroup, context_settings=_SETTINGS, epilog="Example: seal keys usage . --recovery-private-key keys.yaml"
)
def keys() -> None:
    """Look after the sealing keys: which is used where, and retire them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """One key as it is kept: in a key Secret of the cluster, or in a file."""

    pair: KeyPair
    state: str
    secret: Manifest | None = None


def _kept(reached: Access, cluster: Cluster) -> list[_Kept]:
    """Give every readable key Secret of the controller's namespace, whatever its label says.

    Raises:
        Forbidden: the caller may not read them; the hint says what needs no such right.
    """
    from secretsops.sealing.keys import KEY_LABEL, read_key_secret
    from secretsops.sealing.sealed import SECRET

    try:
        secrets = cluster.list(SECRET, namespace=reached.controller_namespace, label_selector=KEY_LABEL)
    except Forbidden as error:
        raise Forbidden(
            f"cannot read the key Secrets in {reached.controller_namespace}: {error.message}",
            code=error.code,
            reason=error.reason,
            hint="they are for the controller and for administrators; --recovery-private-key FILE works without",
        ) from None
    found = []
    for secret in secrets:
        try:
            found.append(_Kept(pair=read_key_secret(secret.body), state=_state(secret), secret=secret))
        except InvalidManifest as error:
            warn(f"warning: {error.message}")
    return sorted(found, key=lambda one: (one.pair.certificate.not_before, one.pair.fingerprint), reverse=True)


def _state(secret: Manifest) -> str:
    from secretsops.sealing.keys import ACTIVE, KEY_LABEL, STATE_ANNOTATION

    label = secret.labels.get(KEY_LABEL, "")
    return str(secret.annotations.get(STATE_ANNOTATION, ACTIVE)) if label == ACTIVE else label


def _from_files(paths: Sequence[str]) -> list[_Kept]:
    from secretsops.sealing.offline import key_ring

    return [_Kept(pair=pair, state=pair.state.value) for pair in key_ring(paths)]


def _sealing(kept: Sequence[_Kept], doors: Doors) -> str:
    """Give the fingerprint of the key that seals now, "" when there is none."""
    from secretsops.sealing.keys import KeyRing

    usable = KeyRing(one.pair for one in kept if one.state not in ("compromised", "retired", "pending"))
    newest = usable.sealing_key(doors.clock.now())
    return newest.fingerprint if newest else ""


# --- list, export-cert ---------------------------------------------------------------------------------


@keys.command("list", epilog="Example: seal keys list --controller-namespace kube-system", context_settings=_SETTINGS)
@_FORM
@key_options
@connection
@click.pass_obj
def list_keys(doors: Doors, /, *, output: str, **options: Any) -> None:
    """List the sealing keys: fingerprint, state, validity, where they are kept; newest first."""
    files, reached = key_files(options), access(options)
    kept = _from_files(files) if files else _kept(reached, reached.cluster(doors))
    newest = _sealing(kept, doors)
    rows = [
        {
            "fingerprint": one.pair.fingerprint,
            "state": "sealing" if one.pair.fingerprint == newest else one.state,
            "notBefore": one.pair.certificate.not_before.isoformat(),
            "notAfter": one.pair.certificate.not_after.isoformat(),
            "bits": one.pair.private.key_size,
            "source": one.pair.source,
        }
        for one in kept
    ]
    if output == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        begin, end = str(row["notBefore"])[:10], str(row["notAfter"])[:10]
        click.echo(f"{row['fingerprint']}  {row['state']:11}  {begin} - {end}  {row['bits']}  {row['source']}")


@keys.command("export-cert", epilog="Example: seal keys export-cert -w cert.pem", context_settings=_SETTINGS)
@click.option(
    "--fingerprint", default="", metavar="SHA256:…", help="That key's; the one that seals now when not given."
)
@click.option("-w", "target", default="", metavar="FILE", help="Output file instead of standard output.")
@key_options
@certificate_options
@connection
@click.pass_obj
def export_cert(doors: Doors, /, *, fingerprint: str, target: str, **options: Any) -> None:
    """Write a key's certificate: what to commit, so that sealing needs no cluster.

    Without --fingerprint no right to the keys is needed: the controller publishes its certificate.
    """
    from secretsops.sealing.certificates import obtain_one

    files, wishes, reached = key_files(options), certificate_wishes(options), access(options)
    if fingerprint or files:
        kept = _from_files(files) if files else _kept(reached, reached.cluster(doors))
        pem = _named(kept, fingerprint or _sealing(kept, doors)).pair.certificate.pem
    else:
        pem = obtain_one(wishes, reached, doors, warn).pem
    if target:
        write_atomic(Path(target), pem)
    else:
        write_output(pem)


def _named(kept: Sequence[_Kept], fingerprint: str) -> _Kept:
    """Give the key of a fingerprint, or of the one that begins so; raises `UsageError` where that is not one."""
    found = [one for one in kept if one.pair.fingerprint == fingerprint]
    if not found and len(fingerprint) >= len("SHA256:") + 6:
        found = [one for one in kept if one.pair.fingerprint.startswith(fingerprint)]
    if len(found) != 1:
        raise UsageError(
            f"{len(found) or 'no'} key is named {fingerprint[:60]!r}",
            reason="NoSuchKey",
            hint="seal keys list shows their fingerprints",
        )
    return found[0]


# --- usage ---------------------------------------------------------------------------------------------


@keys.command(epilog="Example: seal keys usage . --live --recovery-private-key keys.yaml", context_settings=_SETTINGS)
@click.argument("paths", metavar="PATH...", nargs=-1)
@click.option("--live", is_flag=True, help="Count the SealedSecrets of the cluster as well.")
@click.option("--revision", default="", metavar="REV", help="Count a Git revision, not the files on disk.")
@click.option("--fingerprint", default="", metavar="SHA256:…", help="Name every item of this key.")
@_FORM
@key_options
@connection
@click.pass_obj
def usage(
    doors: Doors,
    /,
    *,
    paths: tuple[str, ...],
    live: bool,
    revision: str,
    fingerprint: str,
    output: str,
    **options: Any,
) -> None:
    """Count which key sealed what.

    With private keys it is proven by opening; without, it is what the annotation secretsops.dev/sealed-with says.
    """
    from secretsops.sealing.key_usage import counted, uses
    from secretsops.sealing.keys import KeyRing
    from secretsops.sealing.offline import key_ring

    files, reached = key_files(options), access(options)
    ring = key_ring(files) if files else KeyRing()
    found = _in_files(paths or (() if live else (".",)), doors, revision=revision)
    if live:
        found += _in_cluster(reached.cluster(doors))
    used = list(uses(found, ring))
    if fingerprint:
        used = [use for use in used if use.key.startswith(fingerprint)]
    if output == "json":
        rows = [
            {"key": use.key, "proven": use.opens, "where": use.where, "object": use.object, "item": use.item}
            for use in used
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for use in used if fingerprint else ():
        click.echo(_line(use))
    for key, (objects, items, proven) in counted(used).items():
        click.echo(f"{key or 'unknown key':50}  {items} items in {objects} SealedSecrets, {proven} proven")


def _line(use: Use) -> str:
    return f"{use.where}  {use.object}  {use.item}"


def _in_files(paths: Sequence[str], doors: Doors, *, revision: str = "") -> list[tuple[str, Found]]:
    from secretsops.sealing.gathering import sources
    from secretsops.sealing.sealed_file import sealed_secrets

    found: list[tuple[str, Found]] = []
    for source in sources(paths, doors, revision=revision) if paths else ():
        if b"SealedSecret" in source.content:
            found += [(source.path, one) for one in sealed_secrets(source.content, source=source.path)]
    return found


def _in_cluster(cluster: Cluster) -> list[tuple[str, Found]]:
    from secretsops.sealing.sealed import SEALED_SECRET
    from secretsops.sealing.sealed_file import Found

    return [("cluster", Found(document=0, manifest=manifest)) for manifest in cluster.list(SEALED_SECRET)]


# --- retire, compromise --------------------------------------------------------------------------------


@keys.command(epilog="Example: seal keys retire SHA256:kAPx2N… ../estate ../apps", context_settings=_SETTINGS)
@click.argument("fingerprint", metavar="SHA256:…")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--revision", default="", metavar="REV", help="Look at a Git revision, not at the files on disk.")
@click.option("--dry-run", is_flag=True, help="Only say whether it may go.")
@connection
@click.pass_obj
def retire(
    doors: Doors, /, *, fingerprint: str, paths: tuple[str, ...], revision: str, dry_run: bool, **options: Any
) -> None:
    """Take a key out of use, once nothing in the given repositories and the cluster needs it.

    Every item is opened with the keys that stay; one that only this key opens refuses it. The key Secret is kept,
    with a label value that both controllers ignore: putting `active` back undoes it.
    """
    from secretsops.sealing.key_usage import needing
    from secretsops.sealing.keys import KeyRing

    reached = access(options)
    cluster = reached.cluster(doors)
    kept = _kept(reached, cluster)
    key = _named(kept, fingerprint)
    if key.pair.fingerprint == _sealing(kept, doors):
        raise Refused(
            "it is the key that seals now",
            reason="SealingKey",
            hint="make a newer one first: SIGUSR1 to the controller",
        )
    stay = KeyRing(
        one.pair for one in kept if one is not key and one.state not in ("retired", "compromised", "pending")
    )
    found = _in_files(paths, doors, revision=revision) + _in_cluster(cluster)
    needed = list(needing(found, key.pair, stay))
    if needed:
        more = f" and {len(needed) - SHOWN} more" if len(needed) > SHOWN else ""
        named = "; ".join(_line(use) for use in needed[:SHOWN])
        raise Refused(
            f"{len(needed)} items need {key.pair.fingerprint}: {named}{more}",
            reason="StillNeeded",
            hint="seal reencrypt PATH... moves them to the newest key; what the cluster holds follows from Git",
        )
    if dry_run:
        click.echo(f"{key.pair.fingerprint} may go: none of {sum(len(one.items) for _, one in found)} items needs it")
        return
    _mark(cluster, key, label="compromised" if key.state == "compromised" else "retired")
    click.echo(f"{key.pair.fingerprint} is retired ({key.pair.source})")


@keys.command(epilog="Example: seal keys compromise SHA256:kAPx2N… ../estate", context_settings=_SETTINGS)
@click.argument("fingerprint", metavar="SHA256:…")
@click.argument("paths", metavar="PATH...", nargs=-1)
@click.option("--force", is_flag=True, help="Also where no other key could seal until the controller makes one.")
@connection
@click.pass_obj
def compromise(doors: Doors, /, *, fingerprint: str, paths: tuple[str, ...], force: bool, **options: Any) -> None:
    """Mark a key that somebody else may have: it never seals again, and what it sealed is named.

    It keeps opening until that is sealed anew, so nothing breaks. What was sealed with it counts as read: change those
    values, seal them, then retire the key.
    """
    from secretsops.sealing.key_usage import counted, uses
    from secretsops.sealing.keys import KeyRing

    reached = access(options)
    cluster = reached.cluster(doors)
    kept = _kept(reached, cluster)
    key = _named(kept, fingerprint)
    rest = [one for one in kept if one is not key]
    if not _sealing(rest, doors) and not force:
        raise Refused(
            "no other key could seal then",
            reason="OnlyKey",
            hint="make a newer one first: SIGUSR1 to the controller; --force marks it all the same",
        )
    used = list(uses(_in_files(paths, doors) + _in_cluster(cluster), KeyRing(one.pair for one in kept)))
    mine = [use for use in used if use.key == key.pair.fingerprint]
    _mark(cluster, key, annotation="compromised")
    for use in mine:
        click.echo(_line(use))
    objects, items, _ = counted(mine).get(key.pair.fingerprint, (0, 0, 0))
    click.echo(f"{key.pair.fingerprint} is marked; {items} items in {objects} SealedSecrets were sealed with it")
    click.echo("next: change these values, seal reencrypt what is left, seal keys retire")


def _mark(cluster: Cluster, key: _Kept, *, label: str = "", annotation: str = "") -> None:
    """Change the key Secret's label or annotation, unless somebody changed it since it was read."""
    from secretsops.sealing.keys import KEY_LABEL, STATE_ANNOTATION
    from secretsops.sealing.sealed import SECRET

    secret = key.secret
    assert secret is not None
    metadata: dict[str, Any] = {"resourceVersion": secret.resource_version}
    if label:
        metadata["labels"] = {KEY_LABEL: label}
    if annotation:
        metadata["annotations"] = {STATE_ANNOTATION: annotation}
    cluster.patch(SECRET, secret.name, {"metadata": metadata}, namespace=secret.namespace, field_manager="seal")
