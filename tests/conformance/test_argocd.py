"""Recorded behaviour of Argo CD 3.6: built-in health, what a directory source renders, in which order it is created.

Order is judged without a cluster: what the peer created in the first step of a recorded sync must be what the plan
holds, and no recorded group may come before one that the plan puts later.
"""

from __future__ import annotations

import datetime as dt
import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from recovery.diff import last_applied_text
from recovery.order import KINDS, Task
from recovery.walk import Estate, walk
from recovery.windows import gate
from secretsops.adapters.rendering import RenderWorkers
from secretsops.errors import SecretsOpsError
from tests.conformance import argocd_sync
from tests.conformance.argocd_engine import health
from tests.conformance.argocd_sync import CaseRepos
from tests.conformance.frame import parameters, root, upstream

HEALTH = root() / "argocd" / "health" / "cases"


class _Loader(yaml.SafeLoader):
    """YAML with timestamps as text, as an API server hands them out."""


_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda _loader, node: node.value)


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(path.read_text(), Loader=_Loader)
    return found


@pytest.mark.parametrize("case_id", parameters("argocd/health", [path.stem for path in sorted(HEALTH.glob("*.yaml"))]))
def test_health_is_as_recorded(case_id: str) -> None:
    """An object, or the resources of an application, get the recorded status and message."""
    case = _read(HEALTH / f"{case_id.rpartition('/')[2]}.yaml")
    expected = case.pop("expected")
    if expected.get("error"):
        with pytest.raises(SecretsOpsError):
            health(case)
        return
    found = health(case)
    assert (found["status"], found.get("message") or None) == (expected["status"], expected.get("message") or None)


def test_built_in_health_is_as_upstream_tests_it() -> None:
    """Every object of upstream's own unit tests of its built-in rules gets the verdict recorded for it."""
    folder = upstream("argocd", "upstream-health-builtin")
    differing = {}
    for file, verdict in _read(folder / "verdicts.yaml").items():
        found = health({"object": _read(folder / file), "builtinOnly": True})
        if found["status"] != verdict["status"] or ("message" in verdict and found["message"] != verdict["message"]):
            differing[file] = found
    assert differing == {}


def _in_scope() -> list[str]:
    base = root() / argocd_sync.SYNC
    names = sorted(entry.name for entry in base.iterdir() if entry.is_dir()) if base.is_dir() else []
    return [name for name in names if argocd_sync.is_readable(name)]


@cache
def _planned(name: str, renderer: RenderWorkers) -> dict[str, list[Task]]:
    estate = walk(argocd_sync.roots(name), CaseRepos(name), renderer)
    return {planned.app.name: list(planned.tasks) for planned in estate.applications}


def _is_closed(estate: Estate) -> bool:
    """Say whether the windows of a project hold every automated sync back, at the time of the recording too."""
    projects = [(planned.app, estate.setup.project(planned.app.project)) for planned in estate.applications]
    recorded = dt.datetime(2026, 8, 22, 12, tzinfo=dt.UTC)
    return all(project and not gate(project.windows_for(app), now=recorded).automated for app, project in projects)


def _label(task: Task) -> tuple[str, str]:
    kind, place = task.manifest.kind, f"{task.manifest.namespace}/{task.manifest.name}".strip("/")
    return (f"{kind.api_version}/{kind.kind}", place)


def _rank(task: Task) -> tuple[int, int, int]:
    kind = task.manifest.kind.kind
    return (*task.place, KINDS.index(kind) if kind in KINDS else len(KINDS))


@pytest.mark.parametrize("case_id", parameters(argocd_sync.SYNC, _in_scope()))
def test_the_plan_is_what_was_created_in_that_order(case_id: str, renderer: RenderWorkers) -> None:
    """Of a directory source the plan holds the objects that the peer created, and puts them in the recorded order."""
    name = case_id.rpartition("/")[2]
    planned, made = _planned(name, renderer), argocd_sync.created(name)
    if not any(made.values()) and all(
        "automated" in app.spec.get("syncPolicy", {}) for app in argocd_sync.applications(name)
    ):
        estate = walk(argocd_sync.roots(name), CaseRepos(name), renderer)
        assert estate.problems or _is_closed(estate), "the peer created nothing, the plan knows no reason"
    for owner, groups in made.items():
        ranks = {_label(task): _rank(task) for task in planned[owner]}
        assert {label for group in groups for label in group} <= set(ranks), f"{owner}: created, but not in the plan"
        if argocd_sync.settles(name):
            assert {label for group in groups for label in group} == set(ranks), f"{owner}: planned, never created"
        for before, after in pairwise(groups):
            assert max(ranks[label] for label in before) <= min(ranks[label] for label in after), (before, after)


LIVE = [
    name
    for name in _in_scope()
    if argocd_sync.settles(name)
    and len(argocd_sync.case(name)["steps"]) == 1
    and argocd_sync.expected(name).get("live")
]


@pytest.mark.parametrize("case_id", parameters("argocd/sync-live", LIVE))
def test_an_object_is_rendered_as_recorded(case_id: str, renderer: RenderWorkers) -> None:
    """Every field of every rendered object, namespace and tracking included, is what the peer applied."""
    name = case_id.rpartition("/")[2]
    planned = {_label(task): task.manifest for tasks in _planned(name, renderer).values() for task in tasks}
    applied = [
        found for live in argocd_sync.expected(name)["live"] if isinstance(found := live.get("lastApplied"), dict)
    ]
    compared = 0
    for body in applied:
        place = f"{body['metadata'].get('namespace', '')}/{body['metadata']['name']}".strip("/")
        ours = planned.get((f"{body['apiVersion']}/{body['kind']}", place))
        if ours is not None:
            assert json.loads(last_applied_text(ours)) == argocd_sync.filled(body, name)
            compared += 1
    assert compared or not applied


def test_rendering_never_alters_what_it_read(renderer: RenderWorkers) -> None:
    """Rendering twice gives the same manifests."""
    estates = [
        walk(argocd_sync.applications("dir-recurse-filter"), CaseRepos("dir-recurse-filter"), renderer) for _ in "ab"
    ]
    assert estates[0].applications == estates[1].applications
