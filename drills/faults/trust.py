"""Faults of trust: a stolen key, a sink rolled back, a commit by a stranger or a bad merge.

Never here: what merely breaks (`clusters.py`, `outside.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from drills.acts.escrows import published
from drills.acts.estates import Commit, commit
from drills.kinds import Kind, Table
from drills.scene import Scene
from drills.strict import Name
from drills.strict import Path as RelativePath
from secretsops.errors import WorldFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class StealKey:
    """Somebody has a copy of the sealing key that is in use now."""

    cluster: str = ""


def steal_key(scene: Scene, fault: StealKey) -> str:
    """Remember which it was."""
    scene.notes["stolen"] = published(scene, fault.cluster)
    return f"{scene.notes['stolen']} is known to somebody else"


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBackSink:
    """Somebody who may write to a sink takes the newest epochs away: what is left is whole, and old."""

    place: Name = "escrow"
    epochs: int = 1


def roll_back_sink(scene: Scene, fault: RollBackSink) -> str:
    """Delete the newest entries and their bundles."""
    folder = scene.outside / fault.place
    entries = sorted(folder.glob("epoch-*.json"))
    if len(entries) <= fault.epochs:
        raise WorldFailed(f"{fault.place} holds {len(entries)} epoch(s)", reason="NoEpoch")
    for entry in entries[-fault.epochs :]:
        for file in (entry, *folder.glob(f"{entry.stem}-*.age")):
            Path(file).unlink()
    return f"{fault.epochs} epoch(s) are gone from {fault.place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BadCommit:
    """A commit does harm: a bad merge, an emptied generator; `stranger`: by somebody whose signature does not count."""

    repository: str = ""
    remove: tuple[RelativePath, ...] = ()
    write: Mapping[str, str] = field(default_factory=dict)
    stranger: bool = False


def bad_commit(scene: Scene, fault: BadCommit) -> str:
    """Commit it, and remember the commit before."""
    said = Commit(
        repository=fault.repository, remove=fault.remove, write=fault.write, message="Clean up", unsigned=fault.stranger
    )
    return commit(scene, said)


TABLE: Table = {
    "steal-key": Kind(parameters=StealKey, act=steal_key),
    "roll-back-sink": Kind(parameters=RollBackSink, act=roll_back_sink),
    "bad-commit": Kind(parameters=BadCommit, act=bad_commit),
}
