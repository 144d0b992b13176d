"""What a run would write to a cluster as it is now: one line per object, in order. Reads only. Never here: writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recovery.app import App
from recovery.diff import in_sync
from recovery.forecast import forecast
from recovery.live import fetch
from recovery.order import Task
from recovery.walk import Estate
from secretsops.errors import SyncRefused
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ports import Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One object: `action` is create, change, unchanged, or run for a hook."""

    app: str
    phase: str
    wave: int
    action: str
    key: ObjectKey

    def __str__(self) -> str:
        return f"{self.app} {self.phase} {self.wave}: {self.action} {self.key}"


def preview(estate: Estate, cluster: Cluster, *, hooks: bool = True) -> list[Step]:
    """Give what a run would do, application by application; one list per kind is read.

    Raises:
        SyncRefused: the plan has problems. ApiError: the cluster does not answer.
    """
    if estate.problems:
        raise SyncRefused(f"{len(estate.problems)} problem(s) in Git: {estate.problems[0]}", reason="PlanHasProblems")
    live = fetch(cluster, [task.manifest for planned in estate.applications for task in planned.tasks])
    return [
        Step(
            app=planned.app.key,
            phase=task.phase.value,
            wave=task.wave,
            action=_action(task, planned.app, live),
            key=task.key,
        )
        for planned in estate.applications
        for task in planned.tasks
        if hooks or not task.hook
    ]


def _action(task: Task, app: App, live: Mapping[ObjectKey, Manifest]) -> str:
    found = live.get(task.key)
    if task.hook:
        return "run"
    if found is None:
        return "create"
    return "unchanged" if in_sync(found, task.manifest, app.ignored) else "change"


def listing(estate: Estate, steps: Sequence[Step]) -> dict[str, Any]:
    """Give a preview as stable plain data, with what is ahead."""
    ahead = forecast(estate)
    return {
        "applications": ahead.applications,
        "requests": ahead.requests,
        "seconds": round(ahead.seconds, 1),
        "steps": [
            {"application": one.app, "phase": one.phase, "wave": one.wave, "action": one.action, "key": str(one.key)}
            for one in steps
        ],
    }
