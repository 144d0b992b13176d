"""Git against a cluster, as the peer sees it: what is in sync, what would be pruned, may an automated sync start. Pure.

Rules: argo-cd v3.6 `controller/state.go` (`CompareAppState`), `controller/appcontroller.go` (`autoSync`,
`alreadyAttemptedSync`), `util/argo/resource_tracking.go`. Never here: reading Git or a cluster, acting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recovery.app import App, Health, HealthState, IgnoreRule
from recovery.diff import in_sync
from recovery.health import aggregate
from recovery.marks import PREFIX, TRACKING, ignores_health, is_hook, is_skipped, options_of
from recovery.project import Project, objection_to_object
from recovery.setup import Settings, Tracking
from secretsops.manifest import Manifest, ObjectKey


class SyncStatus:
    """The peer's words for how Git and a cluster relate."""

    SYNCED = "Synced"
    OUT_OF_SYNC = "OutOfSync"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One object of an application: what Git says of it, what lives (None: nothing), how they compare."""

    wanted: Manifest | None
    live: Manifest | None
    status: str
    hook: bool = False
    prune: bool = False
    """Lives, but Git no longer has it."""

    @property
    def manifest(self) -> Manifest:
        """Give the object: as Git wants it, else as it lives."""
        found = self.wanted or self.live
        assert found is not None
        return found

    @property
    def key(self) -> ObjectKey:
        """Give what names the object."""
        return self.manifest.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of one comparison. `conditions` are (type, message)."""

    rows: Sequence[Row] = ()
    status: str = SyncStatus.UNKNOWN
    health: Health = field(default_factory=lambda: Health(HealthState.HEALTHY))
    revisions: Sequence[str] = ()
    tools: Sequence[str] = ()
    wanted: Sequence[Manifest] = ()
    conditions: Sequence[tuple[str, str]] = ()
    failed: bool = False
    """Git could not be read or rendered: nothing is known."""
    invalid: bool = False
    """The Application itself is wrong, or may not do what it asks for."""
    shared: str = ""
    orphans: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)


def claimed_by(live: Manifest, settings: Settings) -> str:
    """Give the application that an object's mark names, whether the mark fits the object or not."""
    if settings.tracking is Tracking.LABEL:
        return str(live.labels.get(settings.label) or "")
    return str(live.annotations.get(TRACKING) or "").partition(":")[0]


def owner_of(live: Manifest, settings: Settings) -> str:
    """Give the tracking name of the application an object belongs to, "" where it belongs to none.

    A tracking id copied onto an object that it does not name counts for nothing.
    """
    if settings.tracking is Tracking.LABEL:
        return str(live.labels.get(settings.label) or "")
    app, _, rest = str(live.annotations.get(TRACKING) or "").partition(":")
    key = live.key
    named = f"{key.group}/{key.kind}:"
    if not rest.startswith(named) or rest.rpartition("/")[2] != key.name:
        return ""
    namespace = rest.removeprefix(named).partition("/")[0]
    return app if not key.namespace or namespace == key.namespace else ""


def compare(
    app: App,
    wanted: Sequence[Manifest],
    everything: Mapping[ObjectKey, Manifest],
    *,
    settings: Settings,
    project: Project,
    namespaced: Callable[[Manifest], bool],
    judge: Callable[[Manifest], Health | None],
) -> Comparison:
    """Compare what an application wants with what lives: its objects, and those that are tracked to it."""
    plain = [one for one in wanted if one.name and not is_hook(one) and not is_skipped(one)]
    rows = [_row(one, everything.get(one.key), project, namespaced, app.ignored) for one in plain]
    named = {row.key for row in rows}
    shared = next(
        (
            f"{row.key.kind}/{row.key.name} is part of applications {app.namespace}/{app.name} and {other}"
            for row in rows
            if row.live is not None and (other := owner_of(row.live, settings)) not in ("", app.tracking_name)
        ),
        "",
    )
    for live in everything.values():
        if live.key in named or claimed_by(live, settings) != app.tracking_name:
            continue
        hook, exact = is_hook(live), owner_of(live, settings) == app.tracking_name
        if live.metadata.get("ownerReferences") or not (hook or exact):
            continue
        # Compat: a hook with a generated name has a mark without it: it is listed, and not said to need pruning.
        rows.append(Row(wanted=None, live=live, status=SyncStatus.OUT_OF_SYNC, hook=hook, prune=exact))
    counted = [row for row in rows if not row.hook and not (row.prune and _is_extraneous(row.manifest))]
    bad = any(row.status == SyncStatus.OUT_OF_SYNC for row in counted)
    return Comparison(
        rows=rows,
        wanted=wanted,
        status=SyncStatus.OUT_OF_SYNC
        if bad or any(r.status == SyncStatus.UNKNOWN for r in rows)
        else SyncStatus.SYNCED,
        health=_health(rows, judge),
        conditions=[("SharedResourceWarning", shared)] if shared else [],
        shared=shared,
    )


def _row(
    wanted: Manifest,
    live: Manifest | None,
    project: Project,
    namespaced: Callable[[Manifest], bool],
    ignored: Sequence[IgnoreRule],
) -> Row:
    if objection_to_object(wanted, project, namespaced=namespaced(wanted)):
        return Row(wanted=wanted, live=live, status=SyncStatus.UNKNOWN)
    same = live is not None and in_sync(live, wanted, ignored)
    return Row(wanted=wanted, live=live, status=SyncStatus.SYNCED if same else SyncStatus.OUT_OF_SYNC)


def _is_extraneous(manifest: Manifest) -> bool:
    text = str(manifest.annotations.get(PREFIX + "compare-options") or "")
    return "IgnoreExtraneous" in [word.strip() for word in text.split(",")] or (
        "Prune=false" in options_of(manifest) and False
    )


def _health(rows: Iterable[Row], judge: Callable[[Manifest], Health | None]) -> Health:
    verdicts: list[tuple[ObjectKey, Health | None]] = []
    for row in order_of(list(rows)):
        if row.hook or is_skipped(row.manifest) or ignores_health(row.manifest):
            continue
        verdicts.append((row.key, judge(row.live) if row.live else Health(HealthState.MISSING)))
    return aggregate(verdicts)


def order_of(rows: Sequence[Row]) -> list[Row]:
    """Give the rows by group, kind, namespace and name, as a status lists them."""
    return sorted(rows, key=lambda row: (row.key.group, row.key.kind, row.key.namespace, row.key.name))


# --- may an automated sync start? ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Automation:
    """What automation decides: an operation to start, or a `SyncError` that says why none is."""

    operation: Mapping[str, Any] | None = None
    error: str = ""


def automation(spec: Mapping[str, Any], found: Comparison, state: Mapping[str, Any]) -> Automation:
    """Decide about an automated sync, given the Application's spec, its comparison and its last `operationState`."""
    policy = spec.get("syncPolicy") or {}
    automated = policy.get("automated")
    if not isinstance(automated, dict) or automated.get("enabled") is False or found.status != SyncStatus.OUT_OF_SYNC:
        return Automation()
    changed = [row for row in found.rows if not row.hook and row.status != SyncStatus.SYNCED]
    prune, heals = automated.get("prune") is True, automated.get("selfHeal") is True
    if not prune and all(row.prune for row in changed):
        return Automation()
    revisions = list(found.revisions)
    shown = ", ".join(revisions)
    sync: dict[str, Any] = {"revisions": revisions} if spec.get("sources") else {"revision": revisions[0]}
    if prune:
        sync["prune"] = True
    if policy.get("syncOptions"):
        sync["syncOptions"] = policy["syncOptions"]
    if _was_tried(spec, revisions, state):
        if state.get("phase") != "Succeeded":
            return Automation(error=f"Failed last sync attempt to [{shown}]: {state.get('message', '')}")
        if not heals:
            return Automation()
        sync["resources"] = [
            {**({"group": row.key.group} if row.key.group else {}), "kind": row.key.kind, "name": row.key.name}
            | ({"namespace": row.key.namespace} if row.key.namespace else {})
            for row in changed
        ]
        sync["autoHealAttemptsCount"] = (
            ((state.get("operation") or {}).get("sync") or {}).get("autoHealAttemptsCount") or 0
        ) + 1
    if prune and automated.get("allowEmpty") is not True and all(r.prune for r in found.rows if not r.hook):
        return Automation(error=f"Skipping sync attempt to [{shown}]: auto-sync will wipe out all resources")
    return Automation(
        operation={"initiatedBy": {"automated": True}, "retry": policy.get("retry") or {"limit": 5}, "sync": sync}
    )


def _was_tried(spec: Mapping[str, Any], revisions: Sequence[str], state: Mapping[str, Any]) -> bool:
    """Say whether the last sync was of these commits and these sources."""
    result = state.get("syncResult") or {}
    before = result.get("revisions") or [result.get("revision")]
    if list(before) != list(revisions):
        return False
    if spec.get("sources"):
        return bool(result.get("sources") == spec["sources"])
    return bool(result.get("source") in (None, spec.get("source")))
