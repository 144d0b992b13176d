"""Is a living estate at a moment worth pinning: every Application synced, healthy, and at one commit? Pure.

A recovery point that is written after each healthy sync pins the commits that run, not those that Git has by then.
Statuses may be Argo CD's or ours (`--gate argo`): they are the same. Never here: reading a cluster, writing a point.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recovery.argo import read_application
from recovery.setup import Setup
from recovery.walk import Estate
from secretsops.errors import InvalidManifest, SyncRefused
from secretsops.manifest import Manifest

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What the Applications of a cluster run: commits by `url@revision`, charts' versions by Application."""

    pins: Mapping[str, str]
    versions: Mapping[str, str] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    unfit: Sequence[str] = ()
    """Why this is no moment to pin, one line each."""


def live_of(applications: Sequence[Manifest], setup: Setup) -> Live:
    """Give what runs, and whatever is not synced, not healthy, or at another commit than its neighbour."""
    pins: dict[str, str] = {}
    versions: dict[str, str] = {}
    unfit: list[str] = []
    names = set()
    for manifest in sorted(applications, key=lambda one: (one.namespace, one.name)):
        name = f"{manifest.namespace}/{manifest.name}"
        names.add(name)
        problem = _objection(manifest)
        if problem:
            unfit.append(f"{name} {problem}")
            continue
        try:
            sources = read_application(manifest, server_of=setup.server_of).sources
        except (InvalidManifest, SyncRefused) as error:
            unfit.append(f"{name} cannot be read: {error.message}")
            continue
        sync = manifest.status.get("sync") or {}
        commits = list(sync.get("revisions") or []) if manifest.spec.get("sources") else [sync.get("revision")]
        if len(commits) != len(sources):
            unfit.append(f"{name} does not say which commit it runs")
            continue
        for source, commit in zip(sources, map(str, commits), strict=True):
            if source.chart:
                versions[f"{name} {source.location}"] = commit
                continue
            place = f"{source.url}@{source.revision or 'HEAD'}"
            if not _COMMIT.fullmatch(commit):
                unfit.append(f"{name} does not say which commit it runs")
            elif pins.setdefault(place, commit) != commit:
                unfit.append(f"{name} runs {commit[:12]} of {place}, another application {pins[place][:12]}")
    return Live(pins=pins, versions=versions, names=frozenset(names), unfit=unfit)


def _objection(manifest: Manifest) -> str:
    """Say why one Application is not at rest, "" where it is."""
    status = manifest.status
    sync = status.get("sync") or {}
    health = (status.get("health") or {}).get("status")
    phase = (status.get("operationState") or {}).get("phase")
    if manifest.metadata.get("deletionTimestamp"):
        return "is being deleted"
    if manifest.body.get("operation") or phase in ("Running", "Terminating"):
        return "is being synced"
    if phase not in (None, "Succeeded"):
        return f"was not synced to its end: {phase}"
    if sync.get("status") != "Synced":
        return f"is {sync.get('status') or 'not compared yet'}"
    if health != "Healthy":
        return f"is {health or 'of unknown health'}"
    against = sync.get("comparedTo") or {}
    wanted = manifest.spec.get("sources") or [manifest.spec.get("source")]
    if [*(against.get("sources") or [against.get("source")])] != [*wanted]:
        return "was compared with another source than it names"
    return ""


def differs(estate: Estate, live: Live) -> list[str]:
    """Give what the estate at those commits has that the cluster does not run, one line each."""
    found = [f"{problem}" for problem in estate.problems]
    for planned in estate.applications:
        name = planned.app.key
        if name not in live.names:
            found.append(f"{name} is not in the cluster")
        for source in planned.app.sources:
            runs = live.versions.get(f"{name} {source.location}", "") if source.chart else ""
            pinned = estate.pins.get(f"{source.location}@{source.revision or 'HEAD'}", "").partition("@")[0]
            if source.chart and runs and pinned != runs:
                found.append(f"{name} runs chart {source.chart} {runs}, its range means {pinned} now")
    return found
