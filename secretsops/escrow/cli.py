"""`secretsops escrow`: back the sealing keys up, prove the backup, restore from it; custodians, claims and trust.

Never here: what a backup is (`backup.py`), who holds what (`custody.py`); this file reads options and prints.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from secretsops.command_group import CommandGroup
from secretsops.errors import SecretsOpsError, UsageError
from secretsops.escrow import backup, custody, options, places, proof, wrapped
from secretsops.escrow.backup import PASSPHRASE, Order, Outcome
from secretsops.escrow.ceremony_cli import ceremony, combine
from secretsops.escrow.places import Escrow
from secretsops.escrow.survey import Survey, look, refuse_stale
from secretsops.escrow.trust_cli import trust
from secretsops.files import read_input, write_atomic, write_output
from secretsops.ports import Doors, Trial
from secretsops.secret import Plaintext

Given = Any
"""The options of a command by name, as click hands them over."""


@click.group(cls=CommandGroup, epilog="Example: secretsops escrow create --recipient age1... --to /mnt/escrow")
def escrow() -> None:
    """Back up, prove and restore the sealing keys."""


escrow.add_command(ceremony)
escrow.add_command(combine)
escrow.add_command(trust)


@escrow.command(epilog="Example: secretsops escrow create --recipient age1... --to /mnt/escrow --context prod")
@click.option("--recipient", "recipients", multiple=True, help="age recipient; repeat for several.")
@click.option("--passphrase", is_flag=True, help="Ask for a passphrase instead; it opens the bundle alone.")
@options.where("--to")
@options.signing()
@click.option("--namespace", default="kube-system", show_default=True, help="Where the sealing keys are.")
@options.cluster()
@options.output()
@click.pass_obj
def create(doors: Doors, /, **given: Given) -> None:
    """Encrypt every sealing key to the recipients, write it to every sink, read it back."""
    found = options.the_escrow(doors, given)
    order = _order(doors, found, given)
    _print(backup.create(options.the_cluster(doors, given), found, order), given["output"])


@escrow.command(epilog="Example: secretsops escrow verify --from /mnt/escrow --identity key.txt --context prod")
@options.where("--from")
@options.opening()
@options.witnesses()
@click.option("--signer", default="", help="Key with the role evidence: record in the sinks that it opened.")
@click.option("--offline", is_flag=True, help="Do not compare with a cluster.")
@click.option("--proofs/--no-proofs", default=None, help="Fail on unproven recipients.  [default: in signed escrows]")
@options.cluster()
@options.output()
@click.pass_obj
def verify(doors: Doors, /, **given: Given) -> None:
    """Prove that the escrow is whole, opens, and covers every key of the cluster."""
    found = options.the_escrow(doors, given)
    found = found if given["signer"] else replace(found, signers=())
    wanted = given["proofs"] if given["proofs"] is not None else bool(found.pin)
    outcome = backup.verify(
        found,
        now=doors.clock.now(),
        opening=options.the_opening(given, doors),
        cluster=None if given["offline"] else options.the_cluster(doors, given),
        witnesses=options.the_witnesses(given),
        proofs=wanted,
    )
    _print(outcome, given["output"])


@escrow.command(epilog="Example: secretsops escrow restore --from /mnt/escrow --identity key.txt --context new")
@options.where("--from")
@options.opening()
@options.witnesses()
@click.option("--accept-stale", default="", metavar="REASON", help="Take an escrow older than a witness, and why.")
@click.option("--claim", is_flag=True, help="Also claim the cluster for this one: the one it replaces is fenced.")
@options.signing()
@click.option("--namespace", default="", help="Where the keys go.  [default: where they were]")
@options.cluster()
@options.output()
@click.pass_obj
def restore(doors: Doors, /, **given: Given) -> None:
    """Create the sealing keys of the newest epoch in a cluster, with their states."""
    found, cluster = options.the_escrow(doors, given), options.the_cluster(doors, given)
    opening = options.the_opening(given, doors)
    if not opening:
        raise UsageError("nothing to open the bundle with", reason="Usage", hint="--identity FILE, or --passphrase")
    if given["claim"]:
        custody.claim(cluster, found, now=doors.clock.now())
    outcome = backup.restore(
        cluster,
        found,
        opening,
        namespace=given["namespace"],
        witnesses=options.the_witnesses(given),
        accept_stale=given["accept_stale"],
    )
    _print(outcome, given["output"])


@escrow.command(epilog="Example: secretsops escrow claim --config escrow.yaml --signer claims.key --context new")
@options.where("--from")
@options.signing()
@options.cluster()
@options.output()
@click.pass_obj
def claim(doors: Doors, /, **given: Given) -> None:
    """Say that this cluster takes the place of the one that was escrowed; that one is fenced."""
    made = custody.claim(options.the_cluster(doors, given), options.the_escrow(doors, given), now=doors.clock.now())
    body = made.body() if made else {"action": "unchanged"}
    text = f"claim {made.number}: {made.cluster} is incarnation {made.incarnation}" if made else "it has the claim"
    _say(body, text, given["output"])


@escrow.command(epilog="Example: secretsops escrow rotate --config escrow.yaml --remove age1... --recipient age1...")
@click.option("--recipient", "recipients", multiple=True, help="Recipient from now on; all of them.")
@click.option("--remove", multiple=True, help="Recipient that leaves; the others stay.")
@click.option("--new-identity", default="", metavar="FILE", help="Make an identity, write it here, prove and use it.")
@options.where("--to")
@options.signing()
@options.opening()
@click.option("--offline", is_flag=True, help="Take the keys from the newest epoch; needs an identity.")
@click.option("--namespace", default="kube-system", show_default=True, help="Where the sealing keys are.")
@options.cluster()
@options.output()
@click.pass_obj
def rotate(doors: Doors, /, **given: Given) -> None:
    """Encrypt every key anew for changed recipients; also with an identity lost, while the cluster lives."""
    found, now = options.the_escrow(doors, given), doors.clock.now()
    identity, added = None, ""
    if given["new_identity"]:
        if Path(given["new_identity"]).exists():
            raise UsageError(f"{given['new_identity']} is there already", reason="FileExists", hint="name a new file")
        identity, added = found.age.generate()
        write_atomic(Path(given["new_identity"]), identity.reveal() + b"\n", mode=0o600)
    order = Order(recipients=given["recipients"], namespace=given["namespace"], now=now, trials=_trials(found, now))
    outcome = custody.rotate(
        found,
        order,
        cluster=None if given["offline"] else options.the_cluster(doors, given),
        opening=options.the_opening({**given, "recipients": ()}, doors),
        remove=given["remove"],
        add=[added] if added else [],
    )
    if identity is not None:
        (asked,) = custody.challenge(found, [added], nonces=[os.urandom(proof.NONCE)], now=now)
        given_back = proof.answer(asked, found.age.decrypt(proof.ciphertext_of(asked), [identity]))
        custody.record(found, given_back, now=now)
    _print(outcome, given["output"])


@escrow.command(epilog="Example: secretsops escrow challenge --config escrow.yaml --out ./challenges")
@click.option("--recipient", "recipients", multiple=True, help="Who is asked.  [default: all unproven, or soon so]")
@click.option("--out", default="", metavar="FOLDER", help="Also write the challenges here, to be sent to custodians.")
@options.where("--to")
@options.signing()
@options.output()
@click.pass_obj
def challenge(doors: Doors, /, **given: Given) -> None:
    """Ask custodians to show that they still hold their identities."""
    found, now = options.the_escrow(doors, given), doors.clock.now()
    wanted = list(given["recipients"]) or _due(doors, found, given)
    made = custody.challenge(found, wanted, nonces=[os.urandom(proof.NONCE) for _ in wanted], now=now)
    for each in made if given["out"] else ():
        Path(given["out"]).mkdir(parents=True, exist_ok=True)
        write_atomic(Path(given["out"]) / each.name, each.text())
    lines = [f"{each.name}  for {each.recipient[:40]}, counts until {each.until:%Y-%m-%d}" for each in made]
    _say({"challenges": [each.body() for each in made]}, "\n".join(lines) or "nobody is to be asked", given["output"])


@escrow.command(
    epilog="Example: secretsops escrow answer challenge-0123456789abcdef.json --identity key.txt > answer.json"
)
@click.argument("file")
@click.option("--identity", "identities", multiple=True, help="age identity file: answer a challenge, offline.")
@click.option("--record", is_flag=True, help="FILE is an answer: put it into the sinks.")
@options.where("--to")
@options.output()
@click.pass_obj
def answer(doors: Doors, /, **given: Given) -> None:
    """Answer a challenge offline, or put an answer into the sinks (--record)."""
    content = read_input(given["file"], limit=1024 * 1024)
    if given["record"]:
        proven = custody.record(options.the_escrow(doors, given), content, now=doors.clock.now())
        body = {"recipient": proven.recipient, "standing": proven.standing.value, "until": f"{proven.until:%Y-%m-%d}"}
        _say(body, f"{proven.recipient[:40]} is {proven.standing} until {body['until']}", given["output"])
        return
    asked = proof.read_challenge(content, name=given["file"])
    identities = options.the_identities(doors, given["identities"])
    write_output(proof.answer(asked, doors.age().decrypt(proof.ciphertext_of(asked), identities)))


@escrow.command(epilog="Example: secretsops escrow wrap --key aws-kms:///alias/escrow?region=eu-west-1 --out id.json")
@click.option("--key", required=True, help="aws-kms:///KEY?region=… or vault-transit+https://HOST/MOUNT/KEY.")
@click.option("--out", required=True, metavar="FILE", help="Where the wrapped identity goes.")
@click.pass_obj
def wrap(doors: Doors, /, key: str, out: str) -> None:
    """Make an identity that only a key service can unwrap; prints its recipient.

    Keep the key out of the account and cluster that the escrow is for: what is lost with them opens nothing.
    """
    if Path(out).exists():
        raise UsageError(f"{out} is there already", reason="FileExists", hint="name a new file")
    recipient, content = wrapped.make(doors.age(), doors.wrapping(key), key)
    write_atomic(Path(out), content, mode=0o600)
    write_output(f"{recipient}\n".encode())


@escrow.command(epilog="Example: secretsops escrow status --config escrow.yaml -o json")
@options.where("--from")
@options.witnesses()
@options.output()
@click.pass_obj
def status(doors: Doors, /, **given: Given) -> int:
    """Show what every sink holds, which keys, and who can open them; exit 1 when something is wrong."""
    found = options.the_escrow(doors, given)
    survey = look(found)
    notes = list(survey.notes())
    try:
        refuse_stale(survey, options.the_witnesses(given))
    except SecretsOpsError as error:
        notes.append(f"{error.message} ({error.reason})")
    people = custody.custodians(survey, survey.newest.recipients if survey.newest else [], doors.clock.now())
    body = _status(survey, people, notes)
    _say(body, _status_text(body), given["output"])
    unproven = bool(found.pin) and any(each.standing is not proof.Standing.PROVEN for each in people)
    behind = any(len(copy.chain) < len(survey.chain) for copy in survey.copies)
    return int(survey.newest is None or unproven or behind or len(notes) > len(survey.notes()))


def _order(doors: Doors, found: Escrow, given: dict[str, Any]) -> Order:
    now, recipients = doors.clock.now(), sorted(set(given["recipients"]))
    if given["config"] and not recipients and not given["passphrase"]:
        recipients = sorted(set(options.the_config(given).recipients))
    if bool(recipients) == bool(given["passphrase"]):
        raise UsageError(
            "give recipients or a passphrase, not both",
            reason="NoRecipient" if not recipients else "Usage",
            hint="--recipient age1…; a passphrase stands alone, as age demands",
        )
    phrase = None
    if given["passphrase"]:
        phrase = Plaintext(
            str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)).encode()
        )
    trials = _trials(found, now)
    return Order(recipients=recipients, namespace=given["namespace"], now=now, passphrase=phrase, trials=trials)


def _trials(found: Escrow, now: Any) -> dict[str, Trial] | None:
    """Try the canaries of a configured escrow; a plain folder is taken as it is."""
    if not found.pin:
        return None
    return places.tried(found.places, canary=f"{now:%Y-%m-%d}")


def _due(doors: Doors, found: Escrow, given: dict[str, Any]) -> list[str]:
    now, survey = doors.clock.now(), look(found, adopting=bool(found.signers))
    known = options.the_config(given).recipients if given["config"] else []
    wanted = list(known) or (list(survey.newest.recipients) if survey.newest else [])
    people = custody.custodians(survey, wanted, now)
    return [each.recipient for each in people if each.until is None or each.until - custody.AHEAD <= now]


def _status(survey: Survey, people: list[custody.Custodian], notes: list[str]) -> dict[str, Any]:
    newest = survey.newest
    return {
        "cluster": newest.cluster if newest else survey.escrow.cluster,
        "epoch": len(survey.chain),
        "created": newest.created if newest else "",
        "incarnation": newest.incarnation if newest else "",
        "claims": len(survey.claims),
        "trust": survey.trust.newest.digest if survey.trust else "",
        "signedBy": sorted(survey.trust.named(key) for key in newest.signed_by) if newest and survey.trust else [],
        "sinks": [
            {
                "name": copy.place.name,
                "domain": copy.place.domain,
                "epoch": len(copy.chain),
                "problem": copy.error.message if copy.error else copy.place.lost_with,
            }
            for copy in survey.copies
        ],
        "keys": _keys(newest),
        "recipients": [
            {
                "recipient": each.recipient,
                "standing": each.standing.value,
                "until": f"{each.until:%Y-%m-%d}" if each.until else "",
            }
            for each in people
        ],
        "notes": notes,
    }


def _status_text(body: dict[str, Any]) -> str:
    lines = [f"epoch {body['epoch']} of {body['created'] or 'never'}, cluster {body['cluster'] or '(unnamed)'}"]
    lines += [
        f"  sink       {each['name']}: epoch {each['epoch']} {each['problem']}".rstrip() for each in body["sinks"]
    ]
    lines += [f"  {key['state']:<10} {key['fingerprint']}  {key['name']}" for key in body["keys"]]
    lines += [
        f"  {each['standing']:<10} {each['recipient'][:62]} {each['until']}".rstrip() for each in body["recipients"]
    ]
    return "\n".join([*lines, *(f"  {note}" for note in body["notes"])])


def _keys(entry: Any) -> list[dict[str, str]]:
    return [
        {"name": key.name, "fingerprint": key.fingerprint, "born": key.born, "state": key.state.value}
        for key in (entry.keys if entry else ())
    ]


def _print(outcome: Outcome, output: str) -> None:
    entry = outcome.entry
    body = {
        "action": outcome.action,
        "epoch": entry.epoch,
        "created": entry.created,
        "cluster": entry.cluster or entry.incarnation,
        "bundle": entry.bundle,
        "recipients": list(entry.recipients),
        "keys": _keys(entry),
        "details": list(outcome.details),
    }
    lines = [f"{outcome.action}: epoch {entry.epoch} of {entry.created}, {len(entry.keys)} key(s)"]
    lines += [f"  {key.state.value:<12} {key.fingerprint}  {key.name}" for key in entry.keys]
    lines += [f"  {detail}" for detail in outcome.details]
    if list(entry.recipients) == [PASSPHRASE]:
        lines.append("  opens with its passphrase alone")
    _say(body, "\n".join(lines), output)


def _say(body: Any, text: str, output: str) -> None:
    write_output(((json.dumps(body, indent=2) if output == "json" else text) + "\n").encode())
