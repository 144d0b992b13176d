"""Stages 0 and 1 of a rebuild: the cluster is claimed, the sealing keys come back before a controller makes new ones.

Never here: what an escrow is (`secretsops.escrow`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from secretsops.escrow.backup import Opening, Outcome, restore
from secretsops.escrow.custody import claim
from secretsops.escrow.index import Entry
from secretsops.escrow.places import Escrow, plain
from secretsops.escrow.survey import look, refuse_stale
from secretsops.ports import Age, Clock, Cluster, Sink
from secretsops.secret import Plaintext


def restore_keys(
    sink: Sink, age: Age, identities: Sequence[Plaintext], *, namespace: str = ""
) -> Callable[[Cluster], Outcome]:
    """Give what `RebuildRequest.restore_keys` asks for, from one unsigned sink, without a claim.

    `namespace` is where the keys go, "" where they were.
    """
    return restore_from(plain([sink], age), Opening(identities=identities), namespace=namespace)


def restore_from(
    escrow: Escrow,
    opening: Opening,
    *,
    namespace: str = "",
    witnesses: Sequence[Entry] = (),
    accept_stale: str = "",
) -> Callable[[Cluster], Outcome]:
    """Give what `RebuildRequest.restore_keys` asks for."""

    def act(cluster: Cluster) -> Outcome:
        return restore(cluster, escrow, opening, namespace=namespace, witnesses=witnesses, accept_stale=accept_stale)

    return act


def proving(
    escrow: Escrow, *, witnesses: Sequence[Entry] = (), accept_stale: str = "", clock: Clock | None = None
) -> Callable[[Cluster], Sequence[str]]:
    """Give what `RebuildRequest.prove` asks for: the escrow holds and is the newest seen; with a clock it is claimed.

    A claim fences the cluster that is replaced (SECURITY.md §3): a rebuild in earnest has one, a rehearsal none.
    """

    def act(cluster: Cluster) -> list[str]:
        survey = look(escrow)
        notes = refuse_stale(survey, witnesses, accepted=accept_stale)
        made = claim(cluster, escrow, now=clock.now()) if clock is not None else None
        if made is not None:
            notes.append(f"claim {made.number} fences every earlier incarnation of {made.cluster}")
        elif clock is None:
            notes.append("nothing was claimed: a lost cluster that is alive goes on")
        return notes

    return act
