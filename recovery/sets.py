"""The ApplicationSets of a live cluster, carried out once as the peer's controller would: Applications and status.

What the peer does, deletions included: an Application that a set no longer generates goes, where its policy allows it
(`--gate argo --sets`). A rebuild is careful instead (`generated.py`). Strategies are left aside, as the peer does
unless it is started with `--enable-progressive-syncs`. Rules: argo-cd v3.6 `applicationset/controllers`. Never here:
generating (`appset.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recovery.app import CONTROL_NAMESPACE, FIELD_MANAGER
from recovery.apply import patiently
from recovery.appset import (
    APPLICATION_SET,
    ApplicationSet,
    Writes,
    applications_of,
    owned_by,
    read_application_set,
    writes_of,
)
from recovery.argo import APPLICATION
from recovery.generators import Sources
from recovery.observe import Doors
from recovery.project import PROJECT
from recovery.setup import SECRET_TYPE, Setup, read_setup
from recovery.sources import Pins
from secretsops.errors import ApiError, InvalidManifest, NotFound
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import PatchType

REFRESH = "argocd.argoproj.io/application-set-refresh"
_UP_TO_DATE = "ApplicationSetUpToDate"
_DONE = "All applications have been generated successfully"
_RESOURCE_LIMIT = 5000
"""Entries of `status.resources`, as in the peer."""


def reconcile_sets(doors: Doors) -> list[str]:
    """Carry out every ApplicationSet once; gives what went wrong, one line each.

    Raises:
        ApiError: the API server gives no answer.
    """
    setup = _setup(doors)
    failed = []
    for manifest in doors.cluster.list(APPLICATION_SET, namespace=CONTROL_NAMESPACE):
        if manifest.metadata.get("deletionTimestamp"):
            continue
        problem = _reconcile(manifest, doors, setup)
        failed += [f"{manifest.namespace}/{manifest.name}: {problem}"] if problem else []
    return failed


def _setup(doors: Doors) -> Setup:
    """Read projects, settings and the known repositories and clusters from the control plane's namespace."""
    cluster = doors.cluster
    found = [
        *cluster.list(PROJECT, namespace=CONTROL_NAMESPACE),
        *cluster.list(GroupVersionKind("", "v1", "ConfigMap"), namespace=CONTROL_NAMESPACE),
        *cluster.list(GroupVersionKind("", "v1", "Secret"), namespace=CONTROL_NAMESPACE, label_selector=SECRET_TYPE),
    ]
    return read_setup(found)[0]


def _reconcile(manifest: Manifest, doors: Doors, setup: Setup) -> str:
    """Generate, write, report; gives the problem that its status tells, "" for none."""
    try:
        wanted = read_application_set(manifest, progressive=False)
    except InvalidManifest as error:
        _report(manifest, doors, error.message, "ApplicationGenerationFromParamsError", failed=True)
        return error.message
    sources = Sources(git=doors.git, pin=Pins(doors.git, {}), setup=setup)
    generated = applications_of(wanted, sources)
    writes = writes_of(wanted, generated, doors.cluster.list(APPLICATION, namespace=wanted.namespace))
    problems = [*generated.problems, *writes.problems]
    refused = _write(wanted, writes, doors)
    problem, reason = (problems[0].message, problems[0].reason) if problems else (refused, "UpdateApplicationError")
    _report(manifest, doors, problem, reason if problem else "", failed=generated.failed)
    return problem


def _write(wanted: ApplicationSet, writes: Writes, doors: Doors) -> str:
    """Create, patch and delete; one Application that is refused holds no other back. Gives the first refusal."""
    cluster, refused = doors.cluster, ""
    for one in writes.create:
        try:
            patiently(lambda one=one: cluster.create(one, field_manager=FIELD_MANAGER), doors.clock)  # type: ignore[misc]
        except ApiError as error:
            refused = refused or error.message
    for found, patch in writes.patch:
        try:
            patiently(
                lambda found=found, patch=patch: cluster.patch(  # type: ignore[misc]
                    APPLICATION, found.name, patch, namespace=wanted.namespace, field_manager=FIELD_MANAGER
                ),
                doors.clock,
            )
        except ApiError as error:
            refused = refused or error.message
    for gone in writes.delete:
        try:
            cluster.delete(APPLICATION, gone.name, namespace=gone.namespace, uid=gone.uid)
        except NotFound:
            continue
        except ApiError as error:
            refused = refused or error.message
    return refused


def _report(manifest: Manifest, doors: Doors, problem: str, reason: str, *, failed: bool) -> None:
    """Write conditions, resources and health where they changed, and take the request to refresh off."""
    owned = [
        one for one in doors.cluster.list(APPLICATION, namespace=manifest.namespace) if owned_by(one, manifest.uid)
    ]
    now = doors.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    status = _status(manifest, owned, problem, reason, failed=failed)
    before = manifest.status
    status["conditions"] = _with_times(status["conditions"], before.get("conditions") or [], now)
    if any(before.get(name) != value for name, value in status.items() if name != "health") or _health(
        before
    ) != _health(status):
        status["health"]["lastTransitionTime"] = now
        doors.cluster.patch(
            APPLICATION_SET,
            manifest.name,
            {"status": status},
            namespace=manifest.namespace,
            patch_type=PatchType.MERGE,
            subresource="status",
        )
    if REFRESH in manifest.annotations:
        patch = {"metadata": {"annotations": {REFRESH: None}}}
        doors.cluster.patch(APPLICATION_SET, manifest.name, patch, namespace=manifest.namespace)


def _health(status: Any) -> dict[str, Any]:
    found = status.get("health") or {}
    return {name: value for name, value in found.items() if name != "lastTransitionTime"}


def _status(
    manifest: Manifest, owned: Sequence[Manifest], problem: str, reason: str, *, failed: bool
) -> dict[str, Any]:
    """Give the status without times. Where generating failed the list of resources stays as it was."""
    message = problem or _DONE
    made = "Successfully generated parameters for all Applications"
    conditions = [
        _condition("ErrorOccurred", bool(problem), reason or _UP_TO_DATE, message),
        _condition(
            "ParametersGenerated",
            not failed,
            "ErrorOccurred" if failed else "ParametersGenerated",
            message if failed else made,
        ),
        _condition("ResourcesUpToDate", not problem, "ErrorOccurred" if problem else _UP_TO_DATE, message),
    ]
    health = {"status": "Degraded" if problem else "Healthy", "message": message}
    status: dict[str, Any] = {"conditions": conditions, "health": health}
    if owned and not failed:
        status["resourcesCount"] = len(owned)
        status["resources"] = [_resource(one) for one in sorted(owned, key=lambda one: one.name)[:_RESOURCE_LIMIT]]
    elif not failed and manifest.status.get("resources"):
        status |= {"resourcesCount": None, "resources": None}
    return status


def _condition(kind: str, holds: bool, reason: str, message: str) -> dict[str, str]:  # noqa: FBT001 - one value of four
    return {"type": kind, "status": str(holds), "reason": reason, "message": message}


def _with_times(conditions: Sequence[dict[str, str]], before: Sequence[Any], now: str) -> list[dict[str, str]]:
    """Keep the time of a condition that says what it said."""
    found = []
    for one in conditions:
        old = next((c for c in before if isinstance(c, dict) and c.get("type") == one["type"]), {})
        same = all(old.get(name) == one[name] for name in ("status", "reason", "message"))
        found.append({**one, "lastTransitionTime": str(old.get("lastTransitionTime") or now) if same else now})
    return found


def _resource(one: Manifest) -> dict[str, Any]:
    kind = one.kind
    entry: dict[str, Any] = {
        "group": kind.group,
        "version": kind.version,
        "kind": kind.kind,
        "name": one.name,
        "namespace": one.namespace,
    }
    sync, health = (one.status.get("sync") or {}).get("status"), (one.status.get("health") or {}).get("status")
    return {**entry, **({"status": sync} if sync else {}), **({"health": {"status": health}} if health else {})}
