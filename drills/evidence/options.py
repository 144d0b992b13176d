"""Options that the evidence commands share, and what they mean: places, keys, who runs. Reads files; prints nothing.

Never here: what the commands do.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import getpass
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from drills.evidence.chain import head_names
from drills.evidence.history import cron, slot_of
from drills.evidence.ledger import Ledger
from drills.evidence.recording import Plan
from drills.evidence.statement import read_key
from drills.record import stamp
from secretsops import __version__
from secretsops.durations import parse_duration
from secretsops.errors import InvalidManifest, Refused, UsageError
from secretsops.escrow import canonical
from secretsops.escrow.signing import read_signer
from secretsops.escrow.trust import Role, read_trust
from secretsops.files import read_input
from secretsops.manifest import load_values
from secretsops.ports import Doors, Notary, Sink, SinkAccess
from secretsops.secret import Plaintext

Command = TypeVar("Command", bound=Callable[..., Any])
KEY_LIMIT = 64 * 1024
THRESHOLD = 25
"""Percent by which recovery may get slower before it counts as a regression."""


def places(*, required: bool = True) -> Callable[[Command], Command]:
    """Add the options that say where the chain is."""
    return _all(
        (
            click.option(
                "--evidence",
                "places",
                multiple=True,
                required=required,
                envvar="SECRETSOPS_DRILL_EVIDENCE",
                help="Folder or URL that holds the chain (s3://, git+https://…#BRANCH, vault+https://); repeat for "
                "copies, the first arbitrates.",
            ),
            click.option(
                "--credentials",
                default="",
                envvar="SECRETSOPS_DRILL_CREDENTIALS",
                help="YAML file: URL of a place to the fields of its credential.  [default: the machine's own]",
            ),
            click.option(
                "--retention-days",
                default=0,
                envvar="SECRETSOPS_DRILL_RETENTION_DAYS",
                help="Lock new files for so many days, where the place can (S3 object lock).",
            ),
        )
    )


def signer(*, required: bool) -> Callable[[Command], Command]:
    """Add the option that names who signs."""
    text = "Key that signs: file (ed25519, PEM or OpenSSH), aws-kms:///KEY, vault-transit+https://HOST/MOUNT/KEY."
    return click.option("--signer", default="", required=required, envvar="SECRETSOPS_DRILL_SIGNER", help=text)


def keys() -> Callable[[Command], Command]:
    """Add the options that say who may sign records and heads."""
    return _all(
        (
            click.option("--key", "keys", multiple=True, help="Public key of a runner, or a file with it."),
            click.option("--countersigner", "counter", multiple=True, help="Public key of who signs heads, or a file."),
            click.option("--trust", default="", help="sha256:… of the trust root, from the custody card."),
            click.option("--trust-file", default="", help="trust.json: who has the role `evidence` may sign."),
            click.option(
                "--witness", "witnesses", multiple=True, help="Head (head-*.json) kept elsewhere, or a folder."
            ),
        )
    )


def recorded(command: Command) -> Command:
    """Add the options of a run that leaves evidence."""
    options = (
        places(required=False),
        signer(required=False),
        click.option("--schedule", default="", help="Cron expression or quarterly, monthly …: the run is its slot's."),
        click.option("--slot", default="", help="RFC 3339 time that the run was due.  [default: from --schedule]"),
        click.option("--wait", "patience", default="0s", show_default=True, help="How long to wait for a turn."),
        click.option("--deadline", "limit", default="1h", show_default=True, help="When a run must have ended."),
        click.option("--repeat", default=1, show_default=True, type=click.IntRange(1, 500), help="Runs in a row."),
        click.option("--threshold", default=THRESHOLD, show_default=True, help="Percent slower that fails a run."),
        click.option("--approver", default="", help="Who approved the exercise."),
        click.option("--html", default="", type=click.Path(dir_okay=False), help="Write the page of the run here."),
        click.option("--metrics", default="", type=click.Path(dir_okay=False), help="Write OpenMetrics text here."),
        click.option("--junit", default="", type=click.Path(dir_okay=False), help="Write JUnit XML here."),
        click.option("--push", is_flag=True, help="Post metrics to the push gateway in SECRETSOPS_DRILL_PUSH."),
        click.option("--notify", is_flag=True, help="Post a summary to the webhook in SECRETSOPS_DRILL_WEBHOOK."),
    )
    return _all(options)(command)


def the_places(doors: Doors, options: Mapping[str, Any]) -> list[Sink]:
    """Open the places of the chain, no request yet; raises `UsageError`."""
    credentials = _credentials(options.get("credentials") or "")
    days = int(options.get("retention_days") or 0)
    return [
        doors.sink(SinkAccess(url=url, credentials=credentials.get(url, {}), retention_days=days))
        for url in options["places"]
    ]


def the_notary(doors: Doors, text: str) -> Notary:
    """Open the key that signs: a file, or a key of a service; raises `UsageError`."""
    if "://" in text:
        return doors.notary(text)
    path = Path(text)
    try:
        # Kubernetes gives a Pod's group the right to read a mounted Secret; everybody else has none.
        if path.stat().st_mode & 0o007:
            raise UsageError(f"{text} can be read by everybody", reason="OpenSigner", hint=f"chmod 600 {text}")
        with path.open("rb") as file:
            return read_signer(Plaintext(file.read(KEY_LIMIT)))
    except OSError as error:
        raise UsageError(f"cannot read {text}: {error.strerror}", reason="NoSigner") from None


def the_ledger(doors: Doors, options: Mapping[str, Any]) -> Ledger | None:
    """Give the chain that runs are written to, None where no place was given.

    Raises:
        UsageError: places without a signer, or a signer without places.
    """
    if bool(options["places"]) != bool(options["signer"]):
        raise UsageError("--evidence and --signer go together", reason="Usage", hint="evidence is signed, always")
    if not options["places"]:
        return None
    return Ledger(places=the_places(doors, options), notary=the_notary(doors, options["signer"]), clock=doors.clock)


def the_keys(options: Mapping[str, Any]) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    """Give who may sign records and who may sign heads; None where nobody said.

    Raises:
        UsageError: a text that is no public key. BrokenEscrow: the trust root does not hold.
    """
    runners, counter = {_key(text) for text in options["keys"]}, {_key(text) for text in options["counter"]}
    if bool(options["trust"]) != bool(options["trust_file"]):
        raise UsageError("--trust and --trust-file go together", reason="Usage", hint="sha256:… from the custody card")
    if options["trust"]:
        trust = read_trust(read_input(options["trust_file"], limit=canonical.SIZE_LIMIT), options["trust"])
        named = {each.key for each in trust.newest.signers if Role.EVIDENCE in each.roles}
        runners, counter = runners | named, counter | named
    return frozenset(runners) or None, frozenset(counter) or None


def the_witnesses(options: Mapping[str, Any]) -> list[bytes]:
    """Give the heads kept elsewhere; raises `Refused` for a folder without any."""
    found = []
    for text in options["witnesses"]:
        path = Path(text)
        files = [path / name for name in head_names(each.name for each in path.iterdir())] if path.is_dir() else [path]
        if not files:
            raise Refused(f"{text} holds no head-*.json", reason="NoWitness")
        found += [read_input(str(file), limit=canonical.SIZE_LIMIT) for file in files]
    return found


def the_plan(doors: Doors, options: Mapping[str, Any], *, scenario: str, content: bytes) -> Plan:
    """Give what is to be run and recorded; raises `UsageError`."""
    slot, now = options["slot"], doors.clock.now()
    if options["schedule"] and not slot:
        slot = stamp(slot_of(cron(options["schedule"]), now))
    elif slot:
        slot = stamp(moment(slot, "--slot"))
    return Plan(
        scenario=scenario,
        scenario_hash=canonical.digest(content),
        tool=f"secretsops {__version__}",
        slot=slot,
        schedule=options["schedule"],
        trigger="schedule" if slot else "ci" if os.environ.get("CI") else "manual",
        initiator=person(),
        approver=options["approver"],
        repeat=options["repeat"],
        limit=seconds(options["limit"], "--deadline"),
        patience=seconds(options["patience"], "--wait"),
    )


def moment(text: str, option: str) -> dt.datetime:
    """Give a time: RFC 3339, or a date; UTC where it names no zone. Raises `UsageError`."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text[:40]!r} is no time", reason="BadTime", hint="2026-01-31T03:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def seconds(text: str, option: str) -> float:
    """Give a duration in seconds; raises `UsageError`."""
    try:
        return parse_duration(text)
    except InvalidManifest as error:
        raise UsageError(f"{option}: {error.message}", reason=error.reason, hint=error.hint) from None


def _credentials(file: str) -> dict[str, dict[str, Plaintext]]:
    if not file:
        return {}
    found = [value for value in load_values(read_input(file, limit=KEY_LIMIT), source=file) if value is not None]
    body = found[0] if len(found) == 1 else None
    if not isinstance(body, dict) or not all(isinstance(fields, dict) for fields in body.values()):
        raise UsageError(f"{file} does not map URLs to fields", reason="BadCredentials", hint="URL: {token: …}")
    return {url: {str(k): Plaintext(str(v).encode()) for k, v in fields.items()} for url, fields in body.items()}


def _key(text: str) -> str:
    path = Path(text)
    is_file = len(text) < 4096 and ":" not in text[:16] and not text.startswith("ssh-") and path.is_file()
    return read_key(read_input(text, limit=KEY_LIMIT).decode("utf-8", "replace").strip() if is_file else text)


def person() -> str:
    """Name who calls: SECRETSOPS_DRILL_INITIATOR, else the user of this machine, "" where there is none."""
    if named := os.environ.get("SECRETSOPS_DRILL_INITIATOR"):
        return named
    with contextlib.suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return ""


def _all(options: Sequence[Callable[[Any], Any]]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add
