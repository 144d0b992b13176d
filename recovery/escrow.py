"""Stage 1 of a rebuild: the cluster is claimed, and the sealing keys come back before a controller could make new ones.

Never here: what an escrow is (`secretsops.escrow`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from secretsops.escrow.backup import Opening, Outcome, restore
from secretsops.escrow.custody import claim
from secretsops.escrow.index import Entry
from secretsops.escrow.places import Escrow, plain
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
    clock: Clock | None = None,
) -> Callable[[Cluster], Outcome]:
    """Give what `RebuildRequest.restore_keys` asks for. With a clock the cluster is claimed first.

    A claim fences the cluster that is replaced (SECURITY.md §3): a rebuild in earnest has one, a rehearsal none.
    """

    def act(cluster: Cluster) -> Outcome:
        if clock is not None:
            claim(cluster, escrow, now=clock.now())
        return restore(cluster, escrow, opening, namespace=namespace, witnesses=witnesses, accept_stale=accept_stale)

    return act
