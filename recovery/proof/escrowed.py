"""What an escrow says for a proof: which keys it holds, in which state, and whether somebody can open it.

`keys_of` opens it with a real identity, for attended exercises only. Never here: judging items.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping

from recovery.proof.evidence import Escrowed, Opener
from secretsops.errors import BrokenEscrow, CannotUnseal, InvalidManifest, WorldFailed
from secretsops.escrow import attestation, bundle
from secretsops.escrow.backup import Opening, opened, recipients
from secretsops.escrow.places import Escrow
from secretsops.escrow.proof import PERIOD, Standing
from secretsops.escrow.survey import Survey, look
from secretsops.manifest import Manifest
from secretsops.sealing.keys import KeyRing, read_key_secret
from secretsops.sealing.scope import Scope
from secretsops.sealing.sealed_with import SealedWith


def read_escrow(escrow: Escrow, now: dt.datetime) -> Escrowed:
    """Give what the sinks say together.

    Raises:
        BrokenEscrow: no quorum holds, or they contradict each other.
        WorldFailed: too few answered.
    """
    survey = look(escrow)
    newest = survey.newest
    if newest is None:
        raise BrokenEscrow("the sinks hold no escrow", reason="Empty", hint="secretsops escrow create makes one")
    standings = recipients(survey, now)
    proven = [name for name, standing in standings.items() if standing is Standing.PROVEN]
    said = attestation.standing(
        _attestations(survey), cluster=newest.cluster, incarnation=newest.incarnation, trust=survey.trust, now=now
    )
    unproven = "" if proven else f"nobody has shown within {PERIOD.days} days to hold an identity that opens the escrow"
    return Escrowed(
        keys={record.fingerprint: record.state for record in newest.keys},
        epoch=newest.epoch,
        created=newest.created,
        sinks=[place.name for place in escrow.places],
        recipients=list(newest.recipients),
        unproven=unproven,
        attested=said.statements,
        attested_at=f"{said.made} #{said.serial}" if said.made else "",
        notes=[
            *([said.problem] if said.problem and _has_attestations(survey) else []),
            *survey.notes(),
            *(f"{name} is {how.value}" for name, how in sorted(standings.items()) if how is not Standing.PROVEN),
        ],
    )


LOOKED_AT = 16
"""Documents of a place that are read, newest first: forged ones must not hide a good one for long."""


def _has_attestations(survey: Survey) -> bool:
    return any(name.startswith(attestation.PREFIX) for copy in survey.copies for name in copy.names)


def _attestations(survey: Survey) -> Iterator[bytes]:
    """Give the newest documents of every place; one that cannot be read says nothing."""
    for copy in survey.copies:
        names = sorted(filter(attestation.serial_of, copy.names), key=attestation.serial_of, reverse=True)
        for name in names[:LOOKED_AT]:
            try:
                yield copy.place.reader.get(name)
            except (BrokenEscrow, WorldFailed):
                continue


def opener_of(escrow: Escrow, opening: Opening) -> Opener:
    """Give what opens sealed items with the keys of the newest bundle; values are dropped as they appear.

    Raises:
        BrokenEscrow: no bundle is whole, or nothing offered opens it.
    """
    ring = ring_of(escrow, opening)
    return lambda sealed: _opened(sealed, ring)


def ring_of(escrow: Escrow, opening: Opening) -> KeyRing:
    """Give the keys of the newest bundle; raises `BrokenEscrow` as `opener_of`."""
    survey = look(escrow)
    newest = survey.newest
    if newest is None:
        raise BrokenEscrow("the sinks hold no escrow", reason="Empty", hint="secretsops escrow create makes one")
    secrets = bundle.unpack(opened(survey, newest, opening), newest.keys)
    return KeyRing([read_key_secret(secret.body) for secret in secrets])


def _opened(sealed: Manifest, ring: KeyRing) -> Mapping[str, str]:
    label = Scope.of(sealed.annotations).label(sealed.namespace, sealed.name)
    hints = SealedWith.read(sealed.annotations)
    found: dict[str, str] = {}
    first = list(hints.fingerprints)
    for item, text in sorted((sealed.spec.get("encryptedData") or {}).items()):
        try:
            _, key = ring.open(text, label=label, first=[hints.key_of(item), *first])
        except (CannotUnseal, InvalidManifest):
            continue
        found[item] = key
        first = [key]
    return found
