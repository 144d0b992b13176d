"""In which order an application's objects are applied, and why each stands where it stands. Pure.

Rules: argo-cd v3.6 `gitops-engine/pkg/sync/sync_tasks.go` (phase, wave, kind, name; Namespaces and CRDs pulled in
front of what needs them, with its phase and wave). Never here: whether a task is due (`plan.py`), acting.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from recovery.app import App
from recovery.marks import HOOK_FINALIZER, PHASES, Phase, is_hook, options_of, phases_of, wave_of
from secretsops.manifest import Manifest, ObjectKey

KINDS = (
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodSecurityPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "SecretList",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleList",
    "ClusterRoleBinding",
    "ClusterRoleBindingList",
    "Role",
    "RoleList",
    "RoleBinding",
    "RoleBindingList",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
    "APIService",
)
"""Compat: by kind alone, whatever the group; a kind that is not listed comes last (SealedSecret, Application)."""
_RANK = {kind: number for number, kind in enumerate(KINDS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One object at one place of the order. `reason` says why there; a `prune` task deletes `manifest`."""

    phase: Phase
    wave: int
    manifest: Manifest
    reason: str
    hook: bool = False
    prune: bool = False
    key: ObjectKey = field(init=False, repr=False, compare=False)
    """What names the object."""
    id: str = field(init=False, repr=False, compare=False)
    """Names the task within its application, the same in every run: `PreSync batch/Job shop/migrate`."""
    place: tuple[int, int] = field(init=False, repr=False, compare=False)
    """Phase number and wave: tasks of one place run together."""

    def __post_init__(self) -> None:
        # Asked for again at every look at every task, so worked out once.
        key = self.manifest.key
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "id", f"{self.phase.value} {key}{' (prune)' if self.prune else ''}")
        object.__setattr__(self, "place", (PHASES.index(self.phase), self.wave))


def ordered(
    app: App,
    manifests: Sequence[Manifest],
    *,
    revision: str,
    started: int,
    namespace: Manifest | None = None,
    extra: Sequence[Manifest] = (),
) -> list[Task]:
    """Give the tasks of a sync in the order of running.

    `started` (Unix seconds) and `revision` name hooks that only have `generateName`. `namespace` is the one that
    `CreateNamespace` adds; `extra` are live objects that Git no longer has (deleted in reverse wave order).
    """
    tasks = [_task(manifest, phase, revision, started) for manifest in manifests for phase in phases_of(manifest)]
    if namespace is not None:
        reason = "CreateNamespace=true: before everything"
        tasks.append(Task(phase=Phase.PRE_SYNC, wave=wave_of(namespace), manifest=namespace, reason=reason))
    tasks += _prunes(app, extra, tasks)
    tasks.sort(key=_rank)
    _pull_forward(tasks, _namespace_made, _namespace_used, "Namespace")
    _pull_forward(tasks, _kind_defined, _kind_used, "CustomResourceDefinition")
    return tasks


def _task(manifest: Manifest, phase: Phase, revision: str, started: int) -> Task:
    hook, wave = is_hook(manifest), wave_of(manifest)
    if hook:
        manifest = _as_hook(manifest, phase, revision, started)
    rank = _RANK.get(manifest.kind.kind)
    kind = f"kind order {rank + 1} ({KINDS[rank]})" if rank is not None else f"{manifest.kind.kind} after listed kinds"
    what = f"{phase.value} hook" if hook else "Sync"
    return Task(phase=phase, wave=wave, manifest=manifest, hook=hook, reason=f"{what}, wave {wave}, {kind}, then name")


def _as_hook(manifest: Manifest, phase: Phase, revision: str, started: int) -> Manifest:
    """Give the hook object as it is created: named, and held by a finalizer until its outcome was seen."""
    body = copy.deepcopy(manifest.body)
    metadata = body["metadata"]
    if not metadata.get("name"):
        metadata["name"] = f"{metadata['generateName']}{revision[:7]}-{phase.value.lower()}-{started}"
    metadata["finalizers"] = [*(metadata.get("finalizers") or []), HOOK_FINALIZER]
    return Manifest(body)


def _prunes(app: App, extra: Sequence[Manifest], tasks: Sequence[Task]) -> list[Task]:
    """Give deletions: waves mirrored, so that what came first goes last; `PruneLast` after everything."""
    waves = sorted({wave_of(manifest) for manifest in extra})
    # Compat: as recorded, deletions of all waves come before the first apply, so they are numbered below it.
    first = min((task.wave for task in tasks if task.phase is Phase.SYNC), default=waves[-1] + 1 if waves else 0)
    shift = min(0, first - 1 - waves[-1]) if len(waves) > 1 else 0
    mirrored = {wave: other + shift for wave, other in zip(waves, reversed(waves), strict=True)}
    last = max([0, *(task.wave for task in tasks if task.phase is Phase.SYNC)]) + 1
    result = []
    for manifest in extra:
        is_last = app.policy.has("PruneLast=true") or "PruneLast=true" in options_of(manifest)
        wave = last if is_last else mirrored[wave_of(manifest)]
        reason = f"no longer in Git, {'last of all' if is_last else f'wave {wave} (reverse of creation)'}"
        result.append(Task(phase=Phase.SYNC, wave=wave, manifest=manifest, reason=reason, prune=True))
    return result


def _rank(task: Task) -> tuple[int, int, int, str, str, str]:
    """Order by phase, wave, kind, name. Compat: the peer leaves equal names unordered; group and namespace decide."""
    key = task.key
    return (*task.place, _RANK.get(key.kind, len(KINDS)), key.name, key.namespace, key.group)


def _namespace_made(manifest: Manifest) -> str:
    return manifest.name if manifest.kind.kind == "Namespace" and not manifest.kind.group else ""


def _namespace_used(manifest: Manifest) -> str:
    return manifest.namespace


def _kind_defined(manifest: Manifest) -> str:
    if manifest.kind.kind != "CustomResourceDefinition":
        return ""
    return f"{manifest.spec.get('group', '')}/{(manifest.spec.get('names') or {}).get('kind', '')}"


def _kind_used(manifest: Manifest) -> str:
    return f"{manifest.kind.group}/{manifest.kind.kind}"


def _pull_forward(
    tasks: list[Task], made: Callable[[Manifest], str], used: Callable[[Manifest], str], what: str
) -> None:
    """Move each Namespace or CRD in front of the first task that needs it; it takes over that phase and wave."""
    first: dict[str, int] = {}
    for index in range(len(tasks)):
        task = tasks[index]
        if task.prune:
            continue
        makes = made(task.manifest)
        if not makes:
            first.setdefault(used(task.manifest), index)
            continue
        target = first.get(makes)
        if target is None:
            continue
        needy = tasks[target]
        reason = f"{what} pulled in front of {needy.key}, which needs it (wave {needy.wave}, {needy.phase.value})"
        tasks.insert(target, replace(tasks.pop(index), phase=needy.phase, wave=needy.wave, reason=reason))
        for key, position in first.items():
            if position >= target:
                first[key] = position + 1
