"""Writing objects as the peer does: client-side and server-side apply, replace, hooks, deletes.

Rules: argo-cd v3.6 `gitops-engine/pkg/utils/kube/resource_ops.go`, `pkg/sync/sync_context.go`; kubectl v1.36 apply.
Every function takes the Cluster door and gives what lives afterwards. Never here: order, decisions, waiting for
health. Compat: Secrets are applied server-side only, as client-side apply copies their data into an annotation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from recovery.app import FIELD_MANAGER, App
from recovery.diff import apply_patch, with_last_applied
from recovery.marks import HOOK_FINALIZER, LAST_APPLIED, options_of
from recovery.owned import is_as_applied
from secretsops.errors import AlreadyExists, ApiError, Conflict, NotFound, UnknownKind
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ports import Clock, Cluster, PatchType

T = TypeVar("T")
QUICK_TRIES = 4
"""Tries of one request before the spine looks after the other applications; it comes back until the deadline."""
_CRD = "CustomResourceDefinition"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What lives after a write, and the peer's words for it: `configmap/a created`."""

    live: Manifest
    message: str


def patiently(call: Callable[[], T], clock: Clock, *, tries: int = QUICK_TRIES) -> T:
    """Give the result of `call`, tried again on errors that pass (429, 5xx, conflicts, no answer).

    Waits as long as the server asks for, at most 5 s a time, else 0.1 s doubling. Raises the last error.
    """
    for number in range(tries):
        try:
            return call()
        except UnknownKind:
            raise
        except ApiError as error:
            if not error.retry or number == tries - 1:
                raise
            clock.sleep(min(error.retry_after, 5.0) or 0.1 * 2**number)
    raise AssertionError("unreachable")


def words(manifest: Manifest, action: str) -> str:
    """Give kubectl's line for a write: `deployment.apps/web created`."""
    kind = manifest.kind
    return f"{kind.kind.lower()}{'.' + kind.group if kind.group else ''}/{manifest.name} {action}"


def write(cluster: Cluster, wanted: Manifest, live: Manifest | None, app: App, *, spare: bool = False) -> Written:
    """Bring one object to what Git says, by the way its options ask for.

    A client-side apply sends nothing when nothing changes, as the peer's; with `spare` a server-side one neither.
    """
    options = options_of(wanted) | (options_of(live) if live else frozenset())
    if "Replace=true" in options or (app.policy.has("Replace=true") and "Replace=false" not in options):
        return _replace(cluster, wanted, live)
    server_side = "ServerSideApply=true" in options or app.policy.has("ServerSideApply=true")
    if (server_side and "ServerSideApply=false" not in options) or _is_secret(wanted):
        if spare and live is not None and is_as_applied(live, wanted, FIELD_MANAGER):
            return Written(live=live, message=words(wanted, "unchanged"))
        done = cluster.apply(wanted, field_manager=FIELD_MANAGER, force=True)
        return Written(live=done, message=words(wanted, "serverside-applied"))
    return apply_client_side(cluster, wanted, live)


def _is_secret(manifest: Manifest) -> bool:
    return manifest.kind.kind == "Secret" and not manifest.kind.group


def apply_client_side(cluster: Cluster, wanted: Manifest, live: Manifest | None) -> Written:
    """Create with the last-applied annotation, or patch by three-way merge."""
    if live is None:
        try:
            done = cluster.create(with_last_applied(wanted), field_manager=FIELD_MANAGER)
            return Written(live=done, message=words(wanted, "created"))
        except AlreadyExists:
            live = cluster.get(wanted.kind, wanted.name, wanted.namespace)
    warning = "" if LAST_APPLIED in live.annotations else _missing_annotation(cluster, wanted)
    for _ in range(QUICK_TRIES):
        patch = apply_patch(live, wanted)
        if not patch:
            return Written(live=live, message=words(wanted, "unchanged"))
        try:
            done = cluster.patch(
                wanted.kind,
                wanted.name,
                patch,
                namespace=wanted.namespace,
                patch_type=PatchType.MERGE,
                field_manager=FIELD_MANAGER,
            )
            return Written(live=done, message=words(wanted, "configured") + warning)
        except Conflict:
            live = cluster.get(wanted.kind, wanted.name, wanted.namespace)
    raise Conflict(f"{wanted.key} changes faster than it can be applied", code=409, hint="find its other writer")


def _missing_annotation(cluster: Cluster, wanted: Manifest) -> str:
    """Give kubectl's warning about an object that was not made by an apply, in its words."""
    plural = cluster.resource(wanted.kind).plural
    return (
        f". Warning: resource {plural}/{wanted.name} is missing the {LAST_APPLIED} annotation which is required by  "
        "apply.  apply should only be used on resources created declaratively by either  create --save-config or  "
        "apply. The missing annotation will be patched automatically."
    )


def _replace(cluster: Cluster, wanted: Manifest, live: Manifest | None) -> Written:
    """Create or replace whole. Compat: without a field manager, as the peer's own replace."""
    if live is None:
        done = cluster.create(wanted)
        return Written(live=done, message=words(wanted, "created"))
    body = {**wanted.body, "metadata": {**wanted.metadata, "resourceVersion": live.resource_version}}
    done = cluster.replace(Manifest(body))
    return Written(live=done, message=words(wanted, "replaced"))


def look(cluster: Cluster, kind: GroupVersionKind, key: ObjectKey) -> Manifest | None:
    """Give the live object, None when it, its namespace or its kind is not there."""
    try:
        return cluster.get(kind, key.name, key.namespace)
    except (NotFound, UnknownKind):
        return None


def release(cluster: Cluster, hook: Manifest) -> Manifest | None:
    """Take the hook finalizer off; gives what lives afterwards, None when it went with it."""
    live: Manifest | None = hook
    for _ in range(QUICK_TRIES):
        if live is None or HOOK_FINALIZER not in (live.metadata.get("finalizers") or []):
            return live
        finalizers = [name for name in live.metadata["finalizers"] if name != HOOK_FINALIZER]
        body = {**live.body, "metadata": {**live.metadata, "finalizers": finalizers}}
        try:
            return cluster.replace(Manifest(body))
        except NotFound:
            return None
        except Conflict:
            live = look(cluster, hook.kind, hook.key)
    raise Conflict(f"{hook.key} changes faster than its finalizer can be removed", code=409)


def remove(cluster: Cluster, live: Manifest, *, propagation: str = "Foreground") -> None:
    """Delete exactly this object, by its UID; one that is gone already is fine."""
    try:
        cluster.delete(live.kind, live.name, namespace=live.namespace, propagation=propagation, uid=live.uid)
    except (NotFound, Conflict):
        return


def is_established(live: Manifest) -> bool:
    """Say whether a CustomResourceDefinition is served; true for every other kind."""
    if live.kind.kind != _CRD:
        return True
    conditions = live.status.get("conditions") or []
    return any(entry.get("type") == "Established" and entry.get("status") == "True" for entry in conditions)
