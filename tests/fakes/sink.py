"""An escrow sink in memory, which can die between two writes."""

from __future__ import annotations

from collections.abc import Sequence

from secretsops.errors import BrokenEscrow, WorldFailed


class FakeSink:
    """Satisfies `secretsops.ports.Sink`. After `writes_left` puts every further one fails."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.writes_left = 1_000_000

    @property
    def name(self) -> str:
        """Give a name."""
        return "memory"

    def put(self, name: str, content: bytes) -> None:
        """Keep a new file."""
        if self.writes_left == 0:
            raise WorldFailed("the disk is full", reason="Unwritable")
        self.writes_left -= 1
        if self.files.setdefault(name, content) != content:
            raise BrokenEscrow(f"{name} is there already", reason="Exists")

    def get(self, name: str) -> bytes:
        """Give a file."""
        if name not in self.files:
            raise BrokenEscrow(f"{name} is not there", reason="Missing")
        return self.files[name]

    def names(self, prefix: str = "") -> Sequence[str]:
        """List names."""
        return sorted(name for name in self.files if name.startswith(prefix))
