"""Stage 1 of a rebuild: the sealing keys come back from escrow before any controller could make new ones.

Never here: what an escrow is (`secretsops.escrow`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from secretsops.escrow.backup import Outcome, restore
from secretsops.ports import Age, Cluster, Sink
from secretsops.secret import Plaintext


def restore_keys(
    sink: Sink, age: Age, identities: Sequence[Plaintext], *, namespace: str = ""
) -> Callable[[Cluster], Outcome]:
    """Give what `RebuildRequest.restore_keys` asks for; `namespace` is where the keys go, "" where they were."""

    def act(cluster: Cluster) -> Outcome:
        return restore(cluster, sink, age, identities=identities, namespace=namespace)

    return act
