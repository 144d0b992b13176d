"""Custodians and claims: who can open the escrow, shown from time to time, and which cluster may write it.

Challenges, answers, changes of recipients, the claim of a rebuild.

Never here: formats (`proof`, `claim`), the ceremony.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from secretsops.errors import BrokenEscrow, Refused
from secretsops.escrow import bundle, proof
from secretsops.escrow.backup import (
    NAMESPACE,
    PASSPHRASE,
    TIME,
    Opening,
    Order,
    Outcome,
    cluster_of,
    key_secrets,
    level,
    opened,
    proven,
    refuse_fenced,
    refuse_incomplete,
    refuse_signer,
    write,
)
from secretsops.escrow.canonical import digest
from secretsops.escrow.claim import Claim
from secretsops.escrow.places import Escrow
from secretsops.escrow.survey import Survey, look
from secretsops.escrow.trust import Role
from secretsops.manifest import Manifest
from secretsops.ports import Cluster
from secretsops.sealing.keys import ACTIVE, KEY_LABEL

AHEAD = dt.timedelta(days=30)
"""How long before a proof ends its custodian is asked anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Custodian:
    """One recipient, until when it is proven, and how that counts now."""

    recipient: str
    until: dt.datetime | None
    standing: proof.Standing


def custodians(survey: Survey, recipients: Sequence[str], now: dt.datetime) -> list[Custodian]:
    """Give every recipient with its standing."""
    wanted = [name for name in recipients if name != PASSPHRASE]
    return [
        Custodian(recipient=name, until=until, standing=proof.standing(until, now))
        for name, until in proven(survey, wanted).items()
    ]


def challenge(
    escrow: Escrow, recipients: Sequence[str], *, nonces: Sequence[bytes], now: dt.datetime
) -> list[proof.Challenge]:
    """Put a challenge for each of these recipients into the sinks, and give them; one nonce of chance each.

    Raises:
        BrokenEscrow: the signer may not sign. UsageError: a recipient is none.
    """
    survey = look(escrow, adopting=bool(escrow.signers))
    refuse_signer(survey, Role.BUNDLES)
    cluster = cluster_of(survey, "")
    if not cluster:
        raise Refused(
            "there is no escrow yet, and no name of the cluster", reason="NoCluster", hint="secretsops escrow create"
        )
    made = []
    for recipient, nonce in zip(recipients, nonces, strict=True):
        asked = proof.question(cluster=cluster, recipient=recipient, nonce=nonce)
        made.append(
            proof.make(
                cluster=cluster,
                recipient=recipient,
                nonce=nonce,
                ciphertext=escrow.age.encrypt(asked, [recipient]),
                now=now,
                signers=escrow.signers,
            )
        )
    for place in escrow.places:
        for each in made:
            place.writer.put(each.name, each.text())
    return made


def record(escrow: Escrow, answer: bytes, *, now: dt.datetime) -> Custodian:
    """Put a custodian's answer into the sinks, once it is right; gives the custodian as proven now.

    Raises:
        BrokenEscrow: no such challenge, or a wrong answer.
    """
    survey = look(escrow, adopting=True)
    name = proof.challenge_of(answer)
    content = next((copy.place.reader.get(name) for copy in survey.sound if name in copy.names), None)
    if content is None:
        raise BrokenEscrow(f"the sinks hold no {name}", reason="NoChallenge", hint="secretsops escrow challenge")
    asked = proof.read_challenge(content, name=name)
    if not proof.is_answered(asked, answer):
        raise BrokenEscrow("that is not the answer to this challenge", reason="WrongAnswer")
    for place in escrow.places:
        place.writer.put(asked.name, content)
        place.writer.put(asked.answer_name, answer)
    return Custodian(recipient=asked.recipient, until=asked.until, standing=proof.standing(asked.until, now))


def claim(cluster: Cluster, escrow: Escrow, *, now: dt.datetime) -> Claim | None:
    """Claim the cluster for this incarnation; gives None where it has the claim already, or nothing was ever escrowed.

    Raises:
        BrokenEscrow: reason `ClaimLost`: another rebuild was quicker; `SignerUntrusted`.
    """
    uid = cluster.get(NAMESPACE, "kube-system").uid
    survey = look(escrow, adopting=bool(escrow.signers))
    holder = survey.claims[-1].incarnation if survey.claims else survey.newest.incarnation if survey.newest else uid
    if holder == uid:
        return None
    refuse_signer(survey, Role.CLAIMS)
    level(survey)
    made = Claim(
        cluster=cluster_of(survey, uid),
        number=len(survey.claims) + 1,
        previous=digest(survey.claims[-1].text()) if survey.claims else "",
        incarnation=uid,
        claimed=now.strftime(TIME),
    ).signed_with(escrow.signers)
    for copy in survey.sound:
        try:
            copy.place.writer.put(made.name, made.text())
        except BrokenEscrow as error:
            if error.reason != "Exists":
                raise
            raise BrokenEscrow(
                f"another rebuild has claim {made.number}", reason="ClaimLost", hint="two of you are rebuilding: agree"
            ) from None
    return made


def rotate(
    escrow: Escrow,
    order: Order,
    *,
    cluster: Cluster | None,
    opening: Opening,
    remove: Sequence[str] = (),
    add: Sequence[str] = (),
) -> Outcome:
    """Write every key anew for other recipients: those of `order` or of the newest epoch, less `remove`, and `add`.

    Keys come from the cluster; with an opening also those that only older epochs hold (as retired). Without a cluster
    everything comes from the newest epoch.

    Raises:
        BrokenEscrow: what `create` raises. Refused: no recipient would be left, or there is nothing to read keys from.
    """
    survey = look(escrow, adopting=bool(escrow.signers))
    last = survey.newest
    if last is None:
        raise BrokenEscrow("the sinks hold no escrow", reason="Empty", hint="secretsops escrow create makes one")
    stay = [name for name in (order.recipients or last.recipients) if name not in remove and name != PASSPHRASE]
    wanted = [*stay, *add]
    if not wanted:
        raise Refused("no recipient would be left", reason="NoRecipient", hint="give --recipient age1…")
    if cluster is None and not opening:
        raise Refused(
            "keys come from the cluster, or from the newest epoch with an identity",
            reason="NoSource",
            hint="give --identity, or leave --offline out",
        )
    incarnation = last.incarnation
    secrets: list[Manifest] = []
    if cluster is not None:
        incarnation = cluster.get(NAMESPACE, "kube-system").uid
        secrets = key_secrets(cluster, order.namespace, legacy=order.legacy)
    refuse_incomplete(survey)
    refuse_fenced(survey, incarnation)
    level(survey)
    secrets += _only_in_escrow(survey, secrets, opening, alive=cluster is not None) if opening else []
    changed = Order(recipients=sorted(set(wanted)), namespace=order.namespace, now=order.now, trials=order.trials)
    outcome = write(survey, secrets, changed, incarnation=incarnation)
    gone = sorted(set(last.recipients) - set(wanted))
    note = [
        f"{name[:24]} opens what was written before; renew the sealing keys if it may be in wrong hands"
        for name in gone
    ]
    return Outcome(action="rotated", entry=outcome.entry, details=[*outcome.details, *note], receipt=outcome.receipt)


def _only_in_escrow(survey: Survey, live: Sequence[Manifest], opening: Opening, *, alive: bool) -> list[Manifest]:
    """Give key Secrets that the epochs hold and `live` does not, newest epoch's form first.

    Next to a living cluster they are retired: it gave them up. Without one the newest epoch's states count.
    """
    known = {record.fingerprint for record in bundle.records(live)}
    names = {secret.name for secret in live}
    found = []
    for entry in reversed(survey.chain):
        if all(record.fingerprint in known for record in entry.keys):
            continue
        held = bundle.unpack(opened(survey, entry, opening), entry.keys)
        for secret, record in zip(held, bundle.records(held), strict=True):
            if record.fingerprint in known:
                continue
            known.add(record.fingerprint)
            retired = alive or entry is not survey.chain[-1]
            kept = _retired(secret) if retired else secret
            if kept.name in names:
                kept = Manifest({**kept.body, "metadata": {**kept.metadata, "name": f"{kept.name}-{entry.epoch}"}})
            names.add(kept.name)
            found.append(kept)
    return found


def _retired(secret: Manifest) -> Manifest:
    labels = {**secret.labels}
    if labels.get(KEY_LABEL) == ACTIVE:
        labels[KEY_LABEL] = "retired"
    return Manifest({**secret.body, "metadata": {**secret.metadata, "labels": labels}})
