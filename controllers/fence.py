"""Whether this cluster was replaced by a rebuild: then nothing is minted, pushed or pruned; it goes on opening.

Raised by `controllers.escrow`, heeded by whoever writes outside the cluster, and by the door through which everything
is deleted (`controllers.leader.Fenced`). Never here: claims.
"""

from __future__ import annotations

from secretsops.errors import WorldFailed


class ClusterReplaced(WorldFailed):
    """A deletion or a push was held back: another incarnation has the claim, or nobody could say yet."""


class Fence:
    """One per process, shared by all its parts.

    `why` says which claim it was, "" while none is known. `unknown` says that the claims were not looked at since the
    start: what cannot be taken back waits as if there were one (SECURITY.md §3).
    """

    def __init__(self) -> None:
        self.why = ""
        self.unknown = False

    @property
    def up(self) -> bool:
        """Say whether nothing may be pushed or pruned now."""
        return bool(self.why) or self.unknown

    @property
    def again(self) -> float:
        """Give the seconds until it is worth asking again."""
        return 60.0 if self.why else 2.0

    def refuse(self) -> None:
        """Raise `ClusterReplaced` while the fence is up: reason `Fenced`, or `ClaimUnknown`."""
        if self.why:
            raise ClusterReplaced(
                f"this cluster was replaced ({self.why}): nothing is deleted",
                reason="Fenced",
                hint="if this is the right one: secretsops escrow claim",
            )
        if self.unknown:
            raise ClusterReplaced(
                "no sink has said yet whether this cluster was replaced: nothing is deleted",
                reason="ClaimUnknown",
                hint="secretsops escrow status says which sinks answer",
            )
