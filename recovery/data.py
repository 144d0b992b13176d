"""Stage 5: data that others bring back, named in `recovery.yaml`, is there before any application starts. Pure.

A volume that starts empty where data belongs is worse than none: a database initialises itself in it. So each entry
names an object that has to be done (a claim, a Velero Restore, a VolSync ReplicationDestination, a CloudNativePG
cluster, anything with a condition), until when, and the command that a person runs. Never here: waiting, clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recovery.needs import read_reference
from recovery.plain import entries, mapping, text_of
from secretsops.durations import parse_duration
from secretsops.errors import InvalidManifest, UsageError
from secretsops.manifest import Manifest, ObjectKey


@dataclass(frozen=True, slots=True, kw_only=True)
class DataStep:
    """One hand-off. `object` is `[group/]Kind/[namespace/]name`; `condition` must be True, where it is none by kind."""

    name: str
    object: str
    command: str = ""
    deadline: str = "1h"
    condition: str = ""

    @property
    def key(self) -> ObjectKey:
        """Give the object; raises `UsageError` with reason `InvalidData` where the text names none."""
        found = read_reference(self.object, "")
        if found is None:
            raise UsageError(
                f"{self.object[:120]!r} names no object", reason="InvalidData", hint="velero.io/Restore/velero/shop"
            )
        return found

    @property
    def seconds(self) -> float:
        """Give how long the object may take, from the start of the stage."""
        try:
            return parse_duration(self.deadline)
        except InvalidManifest as error:
            raise UsageError(f"{self.name}: {error.message}", reason="InvalidData", hint="30m, 2h") from None


def lacks(step: DataStep, live: Manifest | None) -> str:
    """Give what a hand-off still lacks, in the object's own words; "" when it is done.

    The states are those of velero v1.17 (`RestorePhase`), volsync v0.14 (`latestMoverStatus`), CloudNativePG v1.27
    (`PhaseHealthy`).
    """
    if live is None:
        return "does not exist yet"
    if step.condition:
        return _condition(live.status, step.condition)
    return _by_kind(live)


def _by_kind(live: Manifest) -> str:
    status, kind = live.status, (live.kind.group, live.kind.kind)
    if kind == ("", "PersistentVolumeClaim"):
        phase = text_of(status.get("phase")) or "Pending"
        return "" if phase == "Bound" else f"is {phase}"
    if kind == ("velero.io", "Restore"):
        phase = text_of(status.get("phase")) or "New"
        return "" if phase == "Completed" else f"is {phase}"
    if kind == ("volsync.backube", "ReplicationDestination"):
        mover = mapping(status.get("latestMoverStatus"))
        done = text_of(status.get("lastSyncTime")) and mover.get("result") in (None, "Successful")
        return "" if done else f"has not synced ({text_of(mover.get('result')) or 'running'})"
    if kind == ("postgresql.cnpg.io", "Cluster"):
        phase = text_of(status.get("phase")) or "Setting up"
        if not mapping(mapping(live.spec.get("bootstrap")).get("recovery")):
            return "was not made by recovery: its data is new"
        return "" if phase == "Cluster in healthy state" else f"is: {phase}"
    return _condition(status, "Ready")


def failed(live: Manifest | None) -> str:
    """Give why waiting longer is of no use, "" where it may be."""
    if live is None or (live.kind.group, live.kind.kind) != ("velero.io", "Restore"):
        return ""
    phase = text_of(live.status.get("phase"))
    return f"ended as {phase}" if phase.startswith(("Failed", "PartiallyFailed")) else ""


def _condition(status: Any, wanted: str) -> str:
    for condition in entries(mapping(status).get("conditions")):
        if mapping(condition).get("type") == wanted:
            said = text_of(mapping(condition).get("reason"))
            return "" if condition.get("status") == "True" else f"has {wanted} not True ({said or 'no reason given'})"
    return f"has no condition {wanted} yet"
