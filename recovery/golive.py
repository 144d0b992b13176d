"""`go-live`: what a rebuild held back is let go, by a person, once, in the order of the plan. Journaled.

A separate act (DESIGN §4): a rebuilt cluster can be looked at for as long as one likes before it writes outward. Killed
and called again it goes on. Never here: what is held (`held.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from recovery.app import HealthState
from recovery.apply import look, patiently, write
from recovery.bootstrap import journaled_pins
from recovery.events import Observer, Quiet, Stage, StepDone
from recovery.health import assess
from recovery.journal import Header, Journal, fingerprint
from recovery.only import narrowed
from recovery.request import RebuildRequest
from recovery.runner import running
from recovery.sync import POLL
from recovery.walk import walk
from secretsops.errors import Refused, Timeout
from secretsops.manifest import Manifest
from secretsops.ports import Clock, Cluster, GitRepos, Renderer


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What was let go now, what was before, and what a person should know."""

    released: Sequence[str]
    before: Sequence[str]
    notes: Sequence[str]

    def body(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {"released": list(self.released), "before": list(self.before), "notes": list(self.notes)}


def go_live(
    request: RebuildRequest,
    *,
    cluster: Cluster,
    git: GitRepos,
    renderer: Renderer,
    clock: Clock,
    observer: Observer | None = None,
) -> Live:
    """Bring what was held back to what Git says, as its application would have; waits until it is healthy.

    Raises:
        Refused: reason `NotRebuilt`, where the run did not come to its end; `NotFenced`, where nobody claimed.
        SyncRefused: the journal is of another plan or cluster. Timeout: something does not become healthy.
    """
    if request.journal is None or not (pins := journaled_pins(request.journal)):
        raise Refused("no run held anything back", reason="NotRebuilt", hint="give the --journal of `run`")
    uid, keys = fingerprint(cluster)
    free = walk(request.roots, git, renderer, pins=pins, remap=request.remap)
    if request.only:
        free, _ = narrowed(free, request.only)
    header = Header(plan=free.digest, cluster=uid, keys=keys)
    with Journal(request.journal, header, resume=True) as journal, running(cluster, request.runner, clock):
        if Stage.HEALTH.name not in journal.stages:
            raise Refused(
                "the rebuild did not come to its end",
                reason="NotRebuilt",
                hint="secretsops recover resume, then go-live",
            )
        notes = _fence(request, journal, cluster)
        names = replace(request.remap, hold=True, spared=frozenset(journal.spared))
        waiting = (
            walk(request.roots, git, renderer, pins=pins, remap=names).held if "hold" in journal.facts else frozenset()
        )
        before = sorted(waiting & journal.let_go)
        released: list[Manifest] = []
        for planned in free.applications:
            for task in planned.tasks:
                key, manifest = str(task.key), task.manifest
                if key not in waiting or key in journal.let_go:
                    continue
                live = look(cluster, manifest.kind, manifest.key)
                written = patiently(lambda m=manifest, n=live, a=planned.app: write(cluster, m, n, a), clock)  # type: ignore[misc]
                journal.record("released", object=key)
                told = StepDone(at=0.0, app=planned.app.key, phase="", wave=0, key=task.key, action=written.message)
                (observer or Quiet()).event(told)
                released.append(manifest)
        _await(released, request.patience, cluster, clock)
        if "live" not in journal.facts:
            journal.record("fact", name="live", value=clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"))
    return Live(released=[str(manifest.key) for manifest in released], before=before, notes=notes)


def _fence(request: RebuildRequest, journal: Journal, cluster: Cluster) -> list[str]:
    """Claim the cluster, or refuse where neither this nor the run claimed it and nobody says why not."""
    if request.unfenced:
        journal.record("fact", name="unfenced", value=request.unfenced)
        return [f"the lost cluster was not fenced: {request.unfenced}"]
    if request.prove is not None:
        return list(request.prove(cluster))
    reason = journal.facts.get("unfenced")
    if reason is not None:
        raise Refused(
            f"the run fenced nobody ({reason}), and now this cluster would write outward",
            reason="NotFenced",
            hint="give --escrow SINK to claim it, or --unfenced REASON once more",
        )
    return []


def _await(released: Sequence[Manifest], patience: float, cluster: Cluster, clock: Clock) -> None:
    limit, idle = clock.monotonic() + patience, 0
    # A CronJob is healthy once it ran, which may be next month.
    watched = [manifest for manifest in released if manifest.kind.kind != "CronJob"]
    while True:
        reasons = []
        for manifest in watched:
            live = look(cluster, manifest.kind, manifest.key)
            health = assess(live) if live is not None else None
            if live is None:
                reasons.append(f"{manifest.key} to exist")
            elif health is not None and health.state not in (HealthState.HEALTHY, HealthState.SUSPENDED):
                reasons.append(f"{manifest.key} to be healthy ({health.state.value}: {health.message})")
        if not reasons:
            return
        if clock.monotonic() >= limit:
            raise Timeout("let go, but gave up waiting for " + "; ".join(reasons[:5]), hint="cure it; go-live again")
        clock.sleep(POLL[min(idle, len(POLL) - 1)])
        idle += 1
