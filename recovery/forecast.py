"""What a rebuild will ask of the API server, and how long it will take at least: told before it starts. Pure.

Requests are counted from the plan. Minutes are those requests at the round trip just measured, plus the longest chain
of waves that wait for workloads, each for as long as workloads usually take; large images and data are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from recovery.appset import is_application_set
from recovery.argo import is_application
from recovery.needs import WORKLOADS
from recovery.order import Task
from recovery.walk import Estate, Planned
from secretsops.manifest import Manifest

WORKLOAD_SECONDS = 20.0
"""Seconds that a wave with workloads takes to become healthy: an image pulled, a container started, probed once."""
ROUND_TRIP = 0.004
"""Seconds of one write where none was measured."""
_FIXED = 12
"""Discovery, identity of the cluster, and the first look of each stage."""

_Of = Callable[[Planned], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is ahead: counts, and seconds of which `waiting` are for workloads on the longest chain."""

    applications: int
    objects: int
    requests: int
    seconds: float
    waiting: float


def forecast(
    estate: Estate, *, install: Sequence[Manifest] = (), round_trip: float = ROUND_TRIP, parallel: int = 4
) -> Forecast:
    """Give what a rebuild of the estate will take on an empty cluster; `round_trip` in seconds of one request."""
    tasks = [task for planned in estate.applications for task in planned.tasks]
    kinds = {task.manifest.kind for task in tasks}
    hooks = sum(3 for task in tasks if task.hook)  # its create is one of the objects; look, finalizer, delete
    secrets = sum(1 for task in tasks if task.key.group in ("bitnami.com", "external-secrets.io"))
    # One list per kind before and one after, one write per object, one status per application.
    requests = _FIXED + 2 * len(kinds) + len(tasks) + len(estate.applications) + hooks + 3 * secrets + 2 * len(install)
    waiting = _longest_wait(estate.applications)
    seconds = requests * round_trip / max(1, parallel) + waiting
    return Forecast(
        applications=len(estate.applications),
        objects=len(tasks),
        requests=requests,
        seconds=seconds,
        waiting=waiting,
    )


def _longest_wait(applications: Sequence[Planned]) -> float:
    """Give the seconds of the longest chain: an application's waves follow each other, children count in their wave."""
    by_key = {planned.app.key: planned for planned in applications}
    made: dict[str, list[Planned]] = {}
    for planned in applications:
        made.setdefault(planned.made_by, []).append(planned)
    known: dict[str, float] = {}

    def of(planned: Planned) -> float:
        key = planned.app.key
        if key not in known:
            known[key] = 0.0  # an application below itself waits for nobody
            places: dict[tuple[int, int], float] = {}
            for task in planned.tasks:
                places[task.place] = max(places.get(task.place, 0.0), _wait_of(task, by_key, made, of))
            known[key] = sum(places.values())
        return known[key]

    return max((of(planned) for planned in applications), default=0.0)


def _wait_of(task: Task, by_key: Mapping[str, Planned], made: Mapping[str, list[Planned]], of: _Of) -> float:
    manifest = task.manifest
    if is_application(manifest):
        child = by_key.get(f"{manifest.namespace}/{manifest.name}")
        return of(child) if child else 0.0
    if is_application_set(manifest):
        return max((of(child) for child in made.get(f"{manifest.namespace}/{manifest.name}", [])), default=0.0)
    return WORKLOAD_SECONDS if (manifest.kind.group, manifest.kind.kind) in WORKLOADS else 0.0
