"""An Application's `status`, in the peer's shape, from a comparison and an operation. Pure.

Rules: argo-cd v3.6 `pkg/apis/application/v1alpha1/types.go`, `controller/{state,appcontroller,sync}.go`. Used by the
peer's own gate (`reconcile.py`); a rebuild writes less (`status.py`). Never here: writing it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recovery.compare import Comparison, Row, order_of
from recovery.marks import wave_of
from recovery.order import Task
from recovery.plan import Progress, State
from secretsops.manifest import Manifest

SPEC_IMAGES = (("spec",), ("spec", "template", "spec"), ("spec", "jobTemplate", "spec", "template", "spec"))
TOOLS = {"directory": "Directory", "helm": "Helm", "kustomize": "Kustomize"}


def images_of(manifest: Manifest) -> list[str]:
    """Give the container images that an object names, sorted."""
    found: set[str] = set()
    for path in SPEC_IMAGES:
        spec: Any = manifest.body
        for name in path:
            spec = spec.get(name) if isinstance(spec, dict) else None
        for field in ("containers", "initContainers"):
            for container in (spec.get(field) if isinstance(spec, dict) else None) or []:
                if isinstance(container, dict) and container.get("image"):
                    found.add(str(container["image"]))
    return sorted(found)


def compared(spec: Mapping[str, Any], found: Comparison, now: str) -> dict[str, Any]:
    """Give the parts of a status that a comparison decides."""
    several = bool(spec.get("sources"))
    against: dict[str, Any] = {"destination": spec.get("destination") or {}}
    against |= {"sources": spec["sources"]} if several else {"source": spec.get("source") or {}}
    sync: dict[str, Any] = {"status": found.status, "comparedTo": against}
    if found.revisions:
        sync |= {"revisions": list(found.revisions)} if several else {"revision": found.revisions[0]}
    status: dict[str, Any] = {
        "sync": sync,
        "health": {"status": found.health.state.value}
        | ({"message": found.health.message} if found.health.message else {}),
        "resources": [] if found.failed or found.invalid else [line_of(row) for row in order_of(found.rows)],
        "conditions": [
            {"type": type_, "message": message, "lastTransitionTime": now} for type_, message in found.conditions
        ],
        "reconciledAt": now,
    }
    tools = [TOOLS[tool] for tool in found.tools]
    if tools:
        status |= {"sourceTypes": tools} if several else {"sourceType": tools[0]}
    summary: dict[str, Any] = {}
    images = sorted({image for row in found.rows if row.live for image in images_of(row.live)})
    if images:
        summary["images"] = images
    if any(row.key.kind == "Application" and row.key.group == "argoproj.io" for row in found.rows):
        summary["isAppOfApps"] = True
    status["summary"] = summary
    return status


def line_of(row: Row) -> dict[str, Any]:
    """Give one line of `status.resources`."""
    kind, key = row.manifest.kind, row.key
    line: dict[str, Any] = {"version": kind.version, "kind": kind.kind, "name": key.name}
    line |= {"group": kind.group} if kind.group else {}
    line |= {"namespace": key.namespace} if key.namespace else {}
    wave = 0 if row.prune and not row.hook else wave_of(row.manifest)
    line |= {"syncWave": wave} if wave else {}
    if row.hook:
        # Compat: a finished hook is listed as to be pruned, and never is.
        return line | {"hook": True} | ({"requiresPruning": True} if row.prune else {})
    line["status"] = row.status
    return line | ({"requiresPruning": True} if row.prune else {})


def results_of(tasks: Iterable[Task], progress: Progress, destination: str) -> list[dict[str, Any]]:
    """Give `syncResult.resources`, one line per task that has a result."""
    return [_result(task, progress, destination) for task in tasks if task.id in progress]


def _result(task: Task, progress: Progress, destination: str) -> dict[str, Any]:
    result, kind, key = progress[task.id], task.manifest.kind, task.key
    refused = result.state is State.FAILED and not result.uid
    line: dict[str, Any] = {"version": kind.version, "kind": kind.kind, "name": key.name}
    line |= {"group": kind.group} if kind.group else {}
    # Compat: a cluster-scoped object is listed with the destination's namespace, unless it is that namespace.
    made = kind.kind == "Namespace" and key.name == destination
    namespace = key.namespace or ("" if made else destination)
    line |= {"namespace": namespace} if namespace else {}
    phase = "PreSync" if made else task.phase.value
    line |= {"status": "SyncFailed" if refused else result.word or "Synced", "syncPhase": phase}
    if result.word == "SyncFailed":  # it was never tried
        return line | {"message": result.message}
    line["hookPhase"] = "Failed" if result.state is State.FAILED else result.state.value
    line["message"] = result.message or result.applied
    if task.hook:
        line["hookType"] = task.phase.value
    images = images_of(task.manifest)
    return line | ({"images": images} if images and not task.prune else {})


def without_times(status: Mapping[str, Any]) -> dict[str, Any]:
    """Give a status without what changes at every look, to see whether anything did."""
    shown = copy.deepcopy(dict(status))
    shown.pop("reconciledAt", None)
    for condition in shown.get("conditions") or []:
        condition.pop("lastTransitionTime", None)
    return shown


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """Give the merge patch that makes `fields` of a status as they should be; maps are replaced as wholes."""
    patch: dict[str, Any] = {}
    for name in fields:
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            patch[name] = {**{key: None for key in old if key not in new}, **_nested(old, new)}
        else:
            patch[name] = new
    return patch


def _nested(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            found[key] = {**{name: None for name in before if name not in value}, **_nested(before, value)}
        else:
            found[key] = value
    return found
