"""Whether this cluster was replaced by a rebuild: then nothing is minted, pushed or pruned; it goes on opening.

Raised by `controllers.escrow`, heeded by whoever writes outside the cluster or deletes. Never here: claims.
"""

from __future__ import annotations


class Fence:
    """One per process, shared by all its parts. `why` says which claim it was, "" while we are not fenced."""

    def __init__(self) -> None:
        self.why = ""

    @property
    def up(self) -> bool:
        """Say whether we are fenced."""
        return bool(self.why)
