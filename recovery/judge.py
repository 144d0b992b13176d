"""Which rule judges an object's health: the user's own Lua script, else ours. Never here: rules, running Lua.

Order of the peer (`util/lua/lua.go`, v3.6): override of the exact kind, override by wildcard, shipped rule, built-in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from fnmatch import fnmatchcase

from recovery.app import Health, HealthState
from recovery.health import assess
from recovery.setup import Settings
from secretsops.errors import RenderFailed
from secretsops.external.lastgood import KEEP
from secretsops.external.model import CLUSTER_SECRET_STORE, EXTERNAL_SECRET, SECRET_STORE
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ports import Renderer

Judge = Callable[[Manifest], Health | None]
"""Give the health of a live object, None when its kind has none."""
_STORES = frozenset({SECRET_STORE.kind, CLUSTER_SECRET_STORE.kind})
_KEPT = 20_000
"""Verdicts kept by UID and version, so that an object at rest is not judged twice."""


def judge_of(settings: Settings, renderer: Renderer) -> Judge:
    """Give the judge of an installation; without scripts that is `assess`.

    A script that fails, or says no known status, is Unknown: never taken for healthy.
    """
    if not settings.health:
        return assess
    kept: dict[tuple[str, str], Health | None] = {}

    def judge(manifest: Manifest) -> Health | None:
        script = script_for(settings, manifest)
        if script is None or _is_going(manifest):
            return assess(manifest)
        mark = (manifest.uid, manifest.resource_version)
        if all(mark) and mark in kept:
            return kept[mark]
        found = _run(script, manifest, renderer)
        if all(mark) and len(kept) < _KEPT:
            kept[mark] = found
        return found

    return judge


def lenient(judge: Judge, on_copies: Collection[ObjectKey]) -> Judge:
    """Give a judge for whom what stands on sealed copies is healthy while the store is out."""

    def judge_so(manifest: Manifest) -> Health | None:
        found = judge(manifest)
        ails = found is not None and found.state in (HealthState.DEGRADED, HealthState.PROGRESSING)
        if ails and stands_on_copy(manifest, on_copies) and not _is_going(manifest):
            return Health(HealthState.HEALTHY, "Secrets are of sealed copies until the store answers")
        return found

    return judge_so


def stands_on_copy(manifest: Manifest, on_copies: Collection[ObjectKey]) -> bool:
    """Say whether an ExternalSecret's Secret came from a sealed copy, or a store is one that copies stand in for."""
    if manifest.kind.group != EXTERNAL_SECRET.group or not on_copies:
        return False
    return manifest.key in on_copies or (manifest.kind.kind in _STORES and manifest.annotations.get(KEEP) == "true")


def _is_going(manifest: Manifest) -> bool:
    return bool(manifest.metadata.get("deletionTimestamp"))


def script_for(settings: Settings, manifest: Manifest) -> str | None:
    """Give the health script of an object's kind: exact before wildcard."""
    kind = manifest.kind
    named = f"{kind.group}/{kind.kind}" if kind.group else kind.kind
    if named in settings.health:
        return settings.health[named]
    return next(
        (script for glob, script in sorted(settings.health.items()) if "*" in glob and fnmatchcase(named, glob)), None
    )


def _run(script: str, manifest: Manifest, renderer: Renderer) -> Health | None:
    try:
        found = renderer.lua_health(script, manifest.body)
    except RenderFailed as error:
        return Health(HealthState.UNKNOWN, error.message)
    if found is None:
        return None
    status = str(found.get("status") or "")
    if status not in set(HealthState):
        return Health(HealthState.UNKNOWN, f"the health script gives no known status: {status[:40]!r}")
    return Health(HealthState(status), str(found.get("message") or ""))
