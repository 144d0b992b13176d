"""An escrow sink in memory, which can die between two writes, be away, or let canaries be lost."""

from __future__ import annotations

from collections.abc import Sequence

from secretsops.errors import BrokenEscrow, WorldFailed
from secretsops.ports import Stored, Trial


class FakeSink:
    """Satisfies `secretsops.ports.Sink`. After `writes_left` puts every further one fails."""

    def __init__(self, name: str = "memory", *, weak: str = "") -> None:
        self.files: dict[str, bytes] = {}
        self.writes_left = 1_000_000
        self.away = False
        self.weak = weak
        self.puts: list[str] = []
        self._name = name

    @property
    def name(self) -> str:
        """Give a name."""
        return self._name

    def put(self, name: str, content: bytes) -> Stored:
        """Keep a new file."""
        self._answer()
        if self.writes_left == 0:
            raise WorldFailed("the disk is full", reason="Unwritable")
        self.writes_left -= 1
        if self.files.setdefault(name, content) != content:
            raise BrokenEscrow(f"{name} is there already", reason="Exists")
        self.puts.append(name)
        return Stored(version="1")

    def get(self, name: str) -> bytes:
        """Give a file."""
        self._answer()
        if name not in self.files:
            raise BrokenEscrow(f"{name} is not there", reason="Missing")
        return self.files[name]

    def names(self, prefix: str = "") -> Sequence[str]:
        """List names."""
        self._answer()
        return sorted(name for name in self.files if name.startswith(prefix))

    def describe(self, name: str) -> Stored:
        """Give the only version there is."""
        self.get(name)
        return Stored(version="1")

    def trial(self, canary: str) -> Trial:
        """Say what the test wants."""
        self.put(canary, b"canary")
        return Trial(problem=self.weak)

    def _answer(self) -> None:
        if self.away:
            raise WorldFailed(f"{self._name} does not answer", reason="Unreachable")
