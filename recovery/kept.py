"""Secrets of external stores from their sealed copies, while the stores are out. Part of stage 4 of a rebuild.

A copy comes back only for an ExternalSecret that Git asks for, in the same words, at the commits of this run; never
over a Secret that is there, never where the index has a tombstone. It is marked until its store answers again.

Never here: what a copy is (`secretsops.escrow.kept`), which are made (`secretsops.external.lastgood`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from secretsops.errors import AlreadyExists, BrokenEscrow, NotFound
from secretsops.escrow import keeping
from secretsops.escrow.backup import SECRET, Opening
from secretsops.escrow.kept import Copy, Kept
from secretsops.escrow.places import Escrow
from secretsops.escrow.survey import look
from secretsops.external.lastgood import restored, unfit
from secretsops.external.model import EXTERNAL_SECRET, RESTORED_FROM
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ports import Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration:
    """Which ExternalSecrets stand on a copy, with the moment it is of (RFC 3339); a line per thing to know."""

    as_of: Mapping[ObjectKey, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


Restore = Callable[[Cluster, Sequence[Manifest]], Restoration]
"""Makes the Secrets of these ExternalSecrets, as far as there are copies."""


def restore_copies(escrow: Escrow, opening: Opening, *, back: int = 0) -> Restore:
    """Give what `RebuildRequest.restore_secrets` asks for; `back` takes that many versions before the newest.

    What it gives raises `BrokenEscrow` where the copies do not hold or do not open; then nothing was written.
    """

    def act(cluster: Cluster, externals: Sequence[Manifest]) -> Restoration:
        # 1. Prove and open everything, 2. only then write.
        survey = look(escrow)
        entry = keeping.newest(survey)
        if entry is None:
            raise BrokenEscrow("the sinks hold no copies", reason="Empty", hint="are these the sinks of this cluster?")
        _refuse_other(escrow, entry)
        copies = {(c.secret.namespace, c.external): c for c in keeping.opened(survey, entry, opening, back=back)}
        found: dict[ObjectKey, str] = {}
        changed: list[str] = []
        for external in externals:
            copy = copies.get((external.namespace, external.name))
            if copy is None:
                continue
            if unfit(copy, external):
                changed.append(f"{external.namespace}/{external.name}")
            elif _place(cluster, copy, entry):
                found[external.key] = copy.as_of
        return Restoration(as_of=found, notes=_notes(found, changed, len(externals)))

    return act


def only_externals(manifests: Sequence[Manifest]) -> list[Manifest]:
    """Give the ExternalSecrets among objects, of whatever version."""
    kind = (EXTERNAL_SECRET.group, EXTERNAL_SECRET.kind)
    return [each for each in manifests if (each.kind.group, each.kind.kind) == kind]


def _place(cluster: Cluster, copy: Copy, entry: Kept) -> bool:
    """Make the Secret; says whether it stands on a copy, also one of an earlier run."""
    wanted = restored(copy, entry.cluster, entry.epoch)
    try:
        cluster.create(wanted)
    except AlreadyExists:
        try:
            return RESTORED_FROM in cluster.get(SECRET, wanted.name, wanted.namespace).annotations
        except NotFound:
            return False
    return True


def _refuse_other(escrow: Escrow, entry: Kept) -> None:
    if escrow.cluster and entry.cluster != escrow.cluster:
        raise BrokenEscrow(
            f"the copies are of cluster {entry.cluster!r}, not of {escrow.cluster!r}", reason="OtherCluster"
        )


def _notes(found: Mapping[ObjectKey, str], changed: Sequence[str], asked: int) -> list[str]:
    notes = []
    if found:
        notes.append(
            f"{len(found)} of {asked} ExternalSecrets stand on sealed copies, the oldest as of {min(found.values())}, "
            "until their stores answer"
        )
    if changed:
        shown = ", ".join(sorted(changed)[:5]) + (" and more" if len(changed) > 5 else "")
        notes.append(f"Git asks for something else than the copies of {shown} were sealed for: they were left out")
    return notes
