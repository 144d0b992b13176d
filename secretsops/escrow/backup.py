"""Back up, prove and restore the sealing keys of one cluster, over Cluster, Sink and Age. The spine of escrow.

A backup is written to every sink, then read back and compared, and only then called done.

Never here: formats (`bundle`, `index`), what the sinks say together (`survey`), custodians (`custody`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from secretsops.errors import AlreadyExists, BrokenEscrow, NotFound, Refused
from secretsops.escrow import bundle, proof
from secretsops.escrow import trust as roots
from secretsops.escrow.canonical import digest
from secretsops.escrow.index import Entry, KeyRecord, State, bundle_name
from secretsops.escrow.places import Escrow, Place
from secretsops.escrow.receipt import OPENED, Confirmed, Receipt, opened_at, opened_record
from secretsops.escrow.survey import Survey, look, refuse_stale, trust_name
from secretsops.escrow.trust import Role
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Cluster, Stored, Trial
from secretsops.sealing.keys import ACTIVE, KEY_LABEL, KEY_PREFIX
from secretsops.secret import Plaintext

SECRET = GroupVersionKind("", "v1", "Secret")
NAMESPACE = GroupVersionKind("", "v1", "Namespace")
TIME = proof.TIME
CLOCKS = dt.timedelta(hours=1)
"""How much shorter than asked a retention may be: whole days, other clocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was done (`created`, `unchanged`, `verified`, `restored`), for which entry; `details` a line each."""

    action: str
    entry: Entry
    details: Sequence[str] = ()
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What opens a bundle: contents of identity files, or the passphrase of a bundle that was made for one."""

    identities: Sequence[Plaintext] = ()
    passphrase: Plaintext | None = None

    def __bool__(self) -> bool:
        """Say whether there is anything to open with."""
        return bool(self.identities) or self.passphrase is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a backup is asked for. `passphrase` takes the place of recipients; `trials` are those of the sinks."""

    recipients: Sequence[str]
    namespace: str
    now: dt.datetime
    passphrase: Plaintext | None = None
    trials: Mapping[str, Trial] | None = None
    leave_broken: bool = False
    """Leave unreadable key Secrets out, as the controller must; a person's backup without one would look complete."""
    legacy: str = KEY_PREFIX
    """Name of the one key Secret that needs no label."""


PASSPHRASE = "passphrase"  # noqa: S105 - the word, not one
"""The recipient of a bundle that a passphrase opens; it stands alone, as age demands."""


def create(cluster: Cluster, escrow: Escrow, order: Order) -> Outcome:
    """Back every key Secret up; gives `unchanged` where the newest epoch holds just these already.

    Raises:
        BrokenEscrow: a sink holds something else than a whole chain, or gives back other bytes than were written;
            another incarnation of the cluster has the claim; the signer may not sign.
        Refused: there is no key to back up. UsageError: a recipient is no age recipient.
    """
    # 1. Observe the keys and what the sinks hold.
    secrets = key_secrets(cluster, order.namespace, legacy=order.legacy)
    if not secrets:
        raise Refused(
            f"there is no sealing key in {order.namespace}",
            reason="NoKeys",
            hint="--namespace says where the controller is",
        )
    uid = cluster.get(NAMESPACE, "kube-system").uid
    survey = look(escrow, adopting=bool(escrow.signers))
    refuse_incomplete(survey)
    refuse_fenced(survey, uid)
    _refuse_unsigned(survey)
    secrets = [secret for secret in secrets if not order.leave_broken or bundle.is_whole(secret)]
    held, last = bundle.records(secrets), survey.newest
    # 2. Sinks that lag get what the others have, 3. a new epoch is written, 4. and proven.
    level(survey)
    share_trust(survey)
    if last and _says_the_same(last, held, order, survey, uid):
        known = all(any(name.startswith(f"receipt-{last.epoch:08d}-") for name in copy.names) for copy in survey.copies)
        receipt = _receipt(escrow, last, prove(escrow, last, order, {}), order, keep=not known)
        return Outcome(action="unchanged", entry=last, details=survey.notes(), receipt=receipt)
    return write(survey, secrets, order, incarnation=uid)


def key_secrets(cluster: Cluster, namespace: str, *, legacy: str = KEY_PREFIX) -> list[Manifest]:
    """Give every key Secret of a namespace, pending and compromised ones too, and the one of the legacy name.

    That one needs no label (the layout before upstream's 0.9); in a bundle it gets one, so that a restore finds it.
    """
    found = list(cluster.list(SECRET, namespace=namespace, label_selector=KEY_LABEL))
    if legacy and all(secret.name != legacy for secret in found):
        try:
            old = cluster.get(SECRET, legacy, namespace)
        except NotFound:
            return found
        found.append(Manifest({**old.body, "metadata": {**old.metadata, "labels": {**old.labels, KEY_LABEL: ACTIVE}}}))
    return found


def write(survey: Survey, secrets: Sequence[Manifest], order: Order, *, incarnation: str) -> Outcome:
    """Write one more epoch with these key Secrets to every place, and prove it.

    Raises:
        BrokenEscrow: as `create`.
    """
    escrow, last = survey.escrow, survey.newest
    _refuse_unsigned(survey)
    share_trust(survey)
    content = bundle.pack(secrets)
    if order.passphrase is not None:
        sealed = escrow.age.encrypt_with_passphrase(content, order.passphrase)
    else:
        sealed = escrow.age.encrypt(content, order.recipients)
    trust = survey.trust if escrow.signers else None
    epoch = last.epoch + 1 if last else 1
    entry = Entry(
        epoch=epoch,
        previous=last.digest if last else "",
        incarnation=incarnation,
        namespace=order.namespace,
        created=order.now.strftime(TIME),
        bundle=bundle_name(epoch, digest(sealed)),
        sha256=digest(sealed),
        size=len(sealed),
        recipients=[PASSPHRASE] if order.passphrase is not None else sorted(order.recipients),
        keys=bundle.records(secrets),
        cluster=cluster_of(survey, incarnation),
        claim=len(survey.claims),
        trust=trust.newest.digest if trust else "",
        trust_version=trust.newest.version if trust else 0,
    ).signed_with(escrow.signers)
    # The bundle everywhere, then the entry that makes it count. Always in the order of the places: of two that race
    # for an epoch the first place decides, and the other stops there.
    put = {}
    for place in escrow.places:
        put[place.name, entry.bundle] = place.writer.put(entry.bundle, sealed)
    for place in escrow.places:
        put[place.name, entry.name] = place.writer.put(entry.name, entry.text())
    found = look(escrow)
    if found.newest is None or found.newest.digest != entry.digest:
        raise BrokenEscrow("the sinks give back another entry than was written", reason="NotDurable")
    receipt = _receipt(escrow, entry, prove(escrow, entry, order, put), order, keep=True)
    return Outcome(action="created", entry=entry, details=found.notes(), receipt=receipt)


def prove(escrow: Escrow, entry: Entry, order: Order, put: Mapping[tuple[str, str], Stored]) -> list[Confirmed]:
    """Read an epoch back from every place by its reader, and compare bytes, versions and retention.

    Raises:
        BrokenEscrow: reason `NotDurable`, or `Damaged`; a place holds something else than was written.
    """
    confirmed = []
    for place in escrow.places:
        if place.reader.get(entry.name) != entry.text():
            raise BrokenEscrow(f"{place.name} gives back another {entry.name}", reason="NotDurable")
        refuse_damaged(entry, place.reader.get(entry.bundle))
        seen = {name: place.reader.describe(name) for name in (entry.name, entry.bundle)}
        for name, found in seen.items():
            written = put.get((place.name, name))
            if written is not None and written.version != found.version:
                raise BrokenEscrow(f"{place.name} has another version of {name} than was written", reason="NotDurable")
            _refuse_fleeting(place, name, found, order.now if written is not None else None)
        trial = (order.trials or {}).get(place.name)
        confirmed.append(
            Confirmed(
                sink=place.name,
                domain=place.domain,
                durable=trial is not None and trial.durable and not place.lost_with,
                independent=place.independent,
                entry_version=seen[entry.name].version,
                bundle_version=seen[entry.bundle].version,
                retained_until=seen[entry.bundle].retained_until,
            )
        )
    return confirmed


def verify(
    escrow: Escrow,
    *,
    now: dt.datetime,
    opening: Opening | None = None,
    cluster: Cluster | None = None,
    witnesses: Sequence[Entry] = (),
    proofs: bool = False,
) -> Outcome:
    """Prove the chain and every bundle's bytes in every place.

    With an opening, that the newest opens; with a cluster, that all its keys are in it; with witnesses, that nothing
    newer was seen; with `proofs`, that every recipient is proven.

    Raises:
        BrokenEscrow: the first thing that does not hold, with what cures it.
    """
    survey = look(escrow)
    last = survey.newest
    if last is None:
        where = ", ".join(place.name for place in escrow.places)
        raise BrokenEscrow(f"{where} holds no escrow", reason="Empty", hint="secretsops escrow create makes one")
    refuse_stale(survey, witnesses)
    for copy in survey.sound:
        for entry in copy.chain:
            refuse_damaged(entry, copy.place.reader.get(entry.bundle))
    details = [f"{len(survey.chain)} epoch(s) in {len(survey.sound)} sink(s), chain whole, bundles as written"]
    if opening:
        bundle.unpack(opened(survey, last, opening), last.keys)
        details.append(f"epoch {last.epoch} opens; {len(last.keys)} private key(s) match their certificates")
        _record_opening(survey, last, now)
    if cluster is not None:
        live = bundle.records(key_secrets(cluster, last.namespace))
        _refuse_uncovered(live, last)
        details.append(f"all {len(live)} key(s) of the cluster are in it")
    standings = recipients(survey, now)
    if proofs:
        refuse_unproven(standings)
    details += [f"recipient {name[:24]} is {how}" for name, how in standings.items()]
    return Outcome(action="verified", entry=last, details=[*details, *survey.notes()])


def restore(
    cluster: Cluster,
    escrow: Escrow,
    opening: Opening,
    *,
    namespace: str = "",
    witnesses: Sequence[Entry] = (),
    accept_stale: str = "",
) -> Outcome:
    """Create every key Secret of the newest epoch, states included; keys that are there already stay as they are.

    Raises:
        BrokenEscrow: the escrow does not hold, does not open, or a witness has seen a newer one; nothing was written.
        Refused: another key stands under a name.
    """
    # 1. Prove everything, 2. only then write.
    survey = look(escrow)
    last = survey.newest
    if last is None:
        raise BrokenEscrow("the sinks hold no escrow", reason="Empty", hint="are these the sinks of this cluster?")
    details = refuse_stale(survey, witnesses, accepted=accept_stale) + survey.notes()
    secrets = bundle.unpack(opened(survey, last, opening), last.keys)
    placed = [_placed(secret, namespace or last.namespace) for secret in secrets]
    for secret in placed:
        try:
            cluster.create(secret)
            details.append(f"{secret.namespace}/{secret.name} created")
        except AlreadyExists:
            _refuse_other(cluster, secret)
            details.append(f"{secret.namespace}/{secret.name} was there")
    return Outcome(action="restored", entry=last, details=details)


def _record_opening(survey: Survey, entry: Entry, now: dt.datetime) -> None:
    """Leave a signed record in every sink that an epoch was opened, where somebody who may say so has a signer."""
    escrow = survey.escrow
    if not escrow.signers:
        return
    refuse_signer(survey, Role.EVIDENCE)
    name, text = opened_record(
        cluster=entry.cluster,
        epoch=entry.epoch,
        entry=entry.digest,
        made=now.strftime(TIME),
        signers=escrow.signers,
    )
    for copy in survey.sound:
        copy.place.writer.put(name, text)


def last_opened(survey: Survey) -> dt.datetime | None:
    """Give when somebody last opened an epoch and said so, None when nobody did."""
    trust, cluster, found = survey.trust, survey.escrow.cluster, []
    if trust is None:
        return None
    for copy in survey.sound:
        for name in sorted(copy.names):
            if name.startswith(OPENED):
                text = survey.escrow.read(copy.place, name)
                made = opened_at(text, cluster=cluster, allowed=lambda keys: trust.allows(keys, Role.EVIDENCE))
                with contextlib.suppress(ValueError):
                    found.append(dt.datetime.strptime(made, TIME).replace(tzinfo=dt.UTC))
    return max(found, default=None)


def refuse_signer(survey: Survey, role: Role) -> None:
    """Refuse where no signer at hand has a role; raises `BrokenEscrow` with reason `SignerUntrusted`."""
    trust = survey.trust
    if trust is not None and not trust.allows((signer.public for signer in survey.escrow.signers), role):
        raise BrokenEscrow(
            f"no signer at hand has the role {role} by version {trust.newest.version} of the trust root",
            reason="SignerUntrusted",
            hint=f"give --signer FILE; secretsops escrow trust add NAME --role {role} --key … makes one",
        )


def opened(survey: Survey, entry: Entry, opening: Opening) -> Plaintext:
    """Give the content of an epoch's bundle, from the first place whose bytes are as written.

    Raises:
        BrokenEscrow: no place has it whole, or nothing offered opens it.
    """
    problem: BrokenEscrow | None = None
    for copy in survey.sound:
        if len(copy.chain) < entry.epoch:
            continue
        try:
            sealed = copy.place.reader.get(entry.bundle)
            refuse_damaged(entry, sealed)
        except BrokenEscrow as error:
            problem = error
            continue
        if list(entry.recipients) == [PASSPHRASE]:
            if opening.passphrase is None:
                raise BrokenEscrow(
                    "the bundle was made for a passphrase", reason="NeedsPassphrase", hint="give --passphrase"
                )
            return survey.escrow.age.decrypt_with_passphrase(sealed, opening.passphrase)
        return survey.escrow.age.decrypt(sealed, opening.identities)
    raise problem or BrokenEscrow(f"no sink has epoch {entry.epoch}", reason="Missing")


def recipients(survey: Survey, now: dt.datetime) -> dict[str, proof.Standing]:
    """Give how well each recipient of the newest epoch is proven; a passphrase cannot be asked."""
    last = survey.newest
    wanted = [name for name in last.recipients if name != PASSPHRASE] if last else []
    return {name: proof.standing(until, now) for name, until in proven(survey, wanted).items()}


def proven(survey: Survey, wanted: Sequence[str]) -> dict[str, dt.datetime | None]:
    """Give until when each recipient is proven by answers in any place, None where it never was."""
    files: dict[str, bytes] = {}
    for copy in survey.sound:
        for name in sorted(copy.names - set(files)):
            if name.startswith(("challenge-", "answer-")):
                files[name] = survey.escrow.read(copy.place, name)
    cluster = survey.escrow.cluster or (survey.newest.cluster if survey.newest else "")
    return proof.proven_until(files, cluster=cluster, recipients=wanted, trust=survey.trust)


def refuse_unproven(standings: Mapping[str, proof.Standing]) -> None:
    """Refuse where a recipient is not proven; raises `BrokenEscrow` with reason `Unproven`."""
    lacking = [f"{name[:24]} is {how}" for name, how in standings.items() if how is not proof.Standing.PROVEN]
    if lacking:
        raise BrokenEscrow(
            f"nobody has shown within {proof.PERIOD.days} days to hold: {', '.join(lacking)}",
            reason="Unproven",
            hint="secretsops escrow challenge, and have the custodian answer: secretsops escrow answer",
        )


def refuse_fenced(survey: Survey, incarnation: str) -> None:
    """Refuse where this incarnation has not the claim.

    Raises:
        BrokenEscrow: reason `Fenced`, or `NotClaimed` where nobody has claimed since another incarnation wrote.
    """
    if survey.claims:
        holder = survey.claims[-1].incarnation
        if holder != incarnation:
            raise BrokenEscrow(
                f"the cluster was claimed by incarnation {holder}, this is {incarnation}",
                reason="Fenced",
                hint="this cluster was replaced; if it is the right one, claim it back: secretsops escrow claim",
            )
    elif survey.newest is not None and survey.newest.incarnation != incarnation:
        raise BrokenEscrow(
            f"the escrow is of incarnation {survey.newest.incarnation}, this is {incarnation}",
            reason="NotClaimed",
            hint="if this cluster takes the place of that one, say so: secretsops escrow claim",
        )


def refuse_incomplete(survey: Survey) -> None:
    """Refuse to write while a place does not hold or does not answer: a backup goes to all of them.

    Raises:
        SecretsOpsError: what was wrong with the first such place.
    """
    for copy in survey.copies:
        if copy.error is not None:
            raise copy.error


def level(survey: Survey) -> None:
    """Give places that lag behind what the longest copy has: bundles, entries and claims, as they are."""
    source = max(survey.sound, key=lambda copy: len(copy.chain))
    for copy in survey.sound:
        for entry in survey.chain[len(copy.chain) :]:
            sealed = source.place.reader.get(entry.bundle)
            refuse_damaged(entry, sealed)
            copy.place.writer.put(entry.bundle, sealed)
            copy.place.writer.put(entry.name, entry.text())
        for claim in survey.claims[len(copy.claims) :]:
            copy.place.writer.put(claim.name, claim.text())


def cluster_of(survey: Survey, incarnation: str) -> str:
    """Give the name of the cluster that stays when it is rebuilt; raises `BrokenEscrow` where it contradicts."""
    told, last = survey.escrow.cluster, survey.newest
    adopted = last is not None and not last.signatures and bool(survey.escrow.signers)
    kept = last.cluster if last and not adopted else ""
    if told and kept and told != kept:
        raise BrokenEscrow(
            f"the sinks hold the escrow of cluster {kept!r}, not of {told!r}",
            reason="OtherCluster",
            hint="give each cluster a folder, prefix or branch of its own",
        )
    return told or kept or incarnation


def refuse_damaged(entry: Entry, content: bytes) -> None:
    """Refuse a bundle that is not what its entry says; raises `BrokenEscrow` with reason `Damaged`."""
    if (digest(content), len(content)) != (entry.sha256, entry.size):
        raise BrokenEscrow(
            f"{entry.bundle} is not what was written", reason="Damaged", hint="take it from another copy of the escrow"
        )


def _says_the_same(last: Entry, held: Sequence[KeyRecord], order: Order, survey: Survey, uid: str) -> bool:
    names = {record.name for record in held}
    kept = [record for record in last.keys if record.name in names or record.state is not State.RETIRED]
    wanted = [PASSPHRASE] if order.passphrase is not None else sorted(order.recipients)
    signed = not survey.escrow.signers or (
        survey.trust is not None and survey.trust.allows(last.signed_by, Role.BUNDLES)
    )
    same = (kept, sorted(last.recipients), last.incarnation) == (list(held), wanted, uid)
    return same and signed and last.claim == len(survey.claims)


def _refuse_unsigned(survey: Survey) -> None:
    if survey.trust is None:
        if survey.escrow.signers:
            raise BrokenEscrow("a signature needs a trust root", reason="TrustNeeded", hint="give --trust sha256:…")
        return
    if not survey.trust.allows((signer.public for signer in survey.escrow.signers), Role.BUNDLES):
        who = ", ".join(signer.public for signer in survey.escrow.signers) or "nobody"
        raise BrokenEscrow(
            f"{who} may not sign bundles by version {survey.trust.newest.version} of the trust root",
            reason="SignerUntrusted",
            hint="secretsops escrow trust add NAME --role bundles --key …, then have the roots sign it",
        )


def share_trust(survey: Survey) -> None:
    """Put the newest trust root where it is not yet: who restores may have its digest alone."""
    if survey.trust is None:
        return
    content = roots.text(survey.trust.versions)
    name = trust_name(survey.trust.versions, content)
    for copy in survey.sound:
        if name not in copy.names:
            copy.place.writer.put(name, content)


def _receipt(escrow: Escrow, entry: Entry, confirmed: Sequence[Confirmed], order: Order, *, keep: bool) -> Receipt:
    """Give the receipt of an epoch; where somebody signs it and it is to be kept, it is put into every place."""
    receipt = Receipt(
        cluster=entry.cluster,
        epoch=entry.epoch,
        entry=entry.digest,
        made=order.now.strftime(TIME),
        sinks=list(confirmed),
    ).signed_with(escrow.signers)
    for place in escrow.places if keep and escrow.signers else ():
        place.writer.put(receipt.name, receipt.text())
    return receipt


def _refuse_fleeting(place: Place, name: str, found: Stored, since: dt.datetime | None) -> None:
    """Refuse a file that can be deleted sooner than the configuration asks; `since` None asks for any retention."""
    if not place.retention_days:
        return
    try:
        until = dt.datetime.fromisoformat(found.retained_until)
    except ValueError:
        until = None
    wanted = since + dt.timedelta(days=place.retention_days) - CLOCKS if since is not None else None
    if until is None or (wanted is not None and until < wanted):
        raise BrokenEscrow(
            f"{place.name} keeps {name} until {found.retained_until or '(no date)'}, not {place.retention_days} days",
            reason="NotRetained",
            hint="is object lock switched on for the bucket?",
        )


def _refuse_uncovered(live: Sequence[KeyRecord], last: Entry) -> None:
    saved = {record.fingerprint: record.state for record in last.keys}
    for record in live:
        if record.fingerprint not in saved:
            raise BrokenEscrow(
                f"the key {record.name} ({record.fingerprint}) is not in the escrow",
                reason="NotCovered",
                hint="run `secretsops escrow create` now: what it sealed would be lost with the cluster",
            )
        if saved[record.fingerprint] is not record.state:
            raise BrokenEscrow(
                f"the key {record.name} is {record.state}, the escrow says {saved[record.fingerprint]}",
                reason="StateChanged",
                hint="run `secretsops escrow create`, or a restore would bring the old state back",
            )


def _placed(secret: Manifest, namespace: str) -> Manifest:
    return Manifest({**secret.body, "metadata": {**secret.metadata, "namespace": namespace}})


def _refuse_other(cluster: Cluster, wanted: Manifest) -> None:
    try:
        live = cluster.get(SECRET, wanted.name, wanted.namespace)
    except NotFound:
        cluster.create(wanted)  # deleted between the two requests
        return
    if bundle.records([live]) != bundle.records([wanted]):
        raise Refused(
            f"another key stands in {wanted.namespace}/{wanted.name}, or the same in another state",
            reason="KeyConflict",
            hint="compare both with `secretsops escrow verify`; delete the one that is wrong, and run again",
        )
