"""What is written into an Application's status after a sync: what the peer would write, as far as we know it.

Decision: sync, health, operationState and resources are filled from what was observed; nothing is guessed (no
history, no images). The peer overwrites all of it on its next refresh. Compat: Application has no status subresource,
so this is an ordinary merge patch. A status that cannot be written does not fail a rebuild.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recovery.app import FIELD_MANAGER, IN_CLUSTER, Health, HealthState
from recovery.argo import APPLICATION
from recovery.diff import in_sync
from recovery.health import aggregate
from recovery.judge import Judge
from recovery.marks import Phase, is_hook
from recovery.order import Task
from recovery.plan import Progress, State
from secretsops.errors import ApiError
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ports import Cluster

if TYPE_CHECKING:
    from recovery.app import App
    from recovery.running import Outcome
    from recovery.spine import Work

log = logging.getLogger(__name__)
_MISSING = Health(HealthState.MISSING)


def publish(cluster: Cluster, app: App, status: Mapping[str, Any]) -> None:
    """Merge a status into the Application object, if the cluster has it."""
    try:
        cluster.patch(APPLICATION, app.name, {"status": status}, namespace=app.namespace, field_manager=FIELD_MANAGER)
    except ApiError as error:
        log.info("the status of an Application was not written: %s", error.reason)


def status_of(
    outcome: Outcome,
    work: Work,
    judge: Judge,
    *,
    started: int,
    now: dt.datetime,
) -> dict[str, Any]:
    """Give the `status` of an Application as the peer shapes it (argo-cd v3.6 `types.go`). Pure."""
    app, tasks, progress, live = outcome.app, work.tasks, work.progress, work.live
    plain = [task for task in tasks if not task.hook and not task.prune and task.phase is Phase.SYNC]
    synced = {task.id: _is_synced(task, live, app) for task in plain}
    verdicts: list[tuple[ObjectKey, Health | None]] = []
    for task in plain:
        found = live.get(task.key)
        verdicts.append((task.key, judge(found) if found else _MISSING))
    health = aggregate(verdicts)
    source = {"repoURL": app.source.url, "path": app.source.path, "targetRevision": app.source.revision or "HEAD"}
    destination = {"server": IN_CLUSTER, "namespace": app.destination}
    all_synced = bool(outcome.revision) and not outcome.problems and all(synced.values())
    operation: dict[str, Any] = {
        "operation": {"initiatedBy": {"username": "secretsops"}, "sync": {"revision": outcome.revision}},
        "phase": "Succeeded" if outcome.succeeded else "Failed",
        "message": outcome.message,
        "startedAt": _time(dt.datetime.fromtimestamp(started, dt.UTC) if started else now),
        "finishedAt": _time(now),
    }
    if outcome.revision:
        results = [_result(task, progress) for task in tasks if task.id in progress]
        operation["syncResult"] = {"revision": outcome.revision, "source": source, "resources": results}
    return {
        "sync": {
            "status": "Synced" if all_synced else "OutOfSync" if outcome.revision else "Unknown",
            "revision": outcome.revision,
            "comparedTo": {"source": source, "destination": destination},
        },
        "health": {"status": health.state.value, **({"message": health.message} if health.message else {})},
        "operationState": operation,
        "resources": [
            {**_named(task), "status": "Synced" if synced[task.id] else "OutOfSync"}
            for task in plain
            if not is_hook(task.manifest)
        ],
        "reconciledAt": _time(now),
        "sourceType": "Directory",
    }


def _is_synced(task: Task, live: Mapping[ObjectKey, Manifest], app: App) -> bool:
    found = live.get(task.key)
    return found is not None and in_sync(found, task.manifest, app.ignored)


def _named(task: Task) -> dict[str, str]:
    kind, key = task.manifest.kind, task.key
    names = {"group": kind.group, "version": kind.version, "kind": kind.kind, "namespace": key.namespace}
    return {**names, "name": key.name}


def _result(task: Task, progress: Progress) -> dict[str, str]:
    """Give one line of `syncResult.resources`."""
    result = progress[task.id]
    failed = result.state is State.FAILED
    line = {
        **_named(task),
        "status": "Pruned" if task.prune else "SyncFailed" if failed and not result.uid else "Synced",
        "message": result.message or result.applied,
        "hookPhase": "Failed" if failed else result.state.value,
        "syncPhase": task.phase.value,
    }
    return {**line, "hookType": task.phase.value} if task.hook else line


def _time(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
