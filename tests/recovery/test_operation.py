"""The peer's own gate, decided purely: what is next, when automation starts, how long a retry waits."""

from __future__ import annotations

from typing import Any

import pytest

from recovery.app import App, Health, HealthState, Source
from recovery.cascade import finalizers_wanted
from recovery.compare import Comparison, Row, SyncStatus, automation, claimed_by, owner_of
from recovery.health import assess
from recovery.operation import FAILED, RUNNING, SUCCEEDED, delay_of, due, refresh
from recovery.order import Task, ordered
from recovery.plan import Progress, Result, State
from recovery.setup import Settings
from secretsops.manifest import Manifest
from secretsops.tags import is_constraint, newest

SHOP = App(name="shop", namespace="argocd", source=Source(url="", path=""), destination="shop")


def thing(name: str, *, kind: str = "ConfigMap", wave: int = 0, hook: str = "", **metadata: Any) -> Manifest:
    notes = {"argocd.argoproj.io/sync-wave": str(wave)} | ({"argocd.argoproj.io/hook": hook} if hook else {})
    body = {"name": name, "namespace": "shop", "annotations": notes | metadata.pop("annotations", {}), **metadata}
    return Manifest({"apiVersion": "batch/v1" if kind == "Job" else "v1", "kind": kind, "metadata": body})


def tasks(*manifests: Manifest, extra: tuple[Manifest, ...] = ()) -> list[Task]:
    return ordered(SHOP, manifests, revision="0" * 40, started=0, extra=extra)


def applied(found: list[Task], progress: Progress) -> None:
    for task in found:
        progress[task.id] = Result(state=State.RUNNING, uid="1", applied="made")


def test_the_last_wave_is_not_waited_for() -> None:
    """One wave of plain objects ends at once; an earlier wave has to be healthy first."""
    found, progress = tasks(thing("a"), thing("b", wave=1)), Progress()
    first = due(found, progress)
    assert [task.key.name for task in first.tasks] == ["a"]
    applied(list(first.tasks), progress)
    assert due(found, progress).message == "waiting for healthy state of /ConfigMap/a"
    refresh(found, {task.key: task.manifest for task in found}, progress, assess)
    last = due(found, progress)
    applied(list(last.tasks), progress)
    ended = due(found, progress)
    assert (ended.phase, ended.message) == (SUCCEEDED, "successfully synced (all tasks run)")


def test_a_hook_is_waited_for_and_its_failure_starts_the_rescue() -> None:
    """SyncFail hooks run after a failure, and the operation has failed whatever they do."""
    found = tasks(thing("m", kind="Job", hook="Sync"), thing("r", kind="Job", hook="SyncFail"))
    progress = Progress()
    applied(list(due(found, progress).tasks), progress)
    assert due(found, progress).phase == RUNNING
    verdicts = {HealthState.DEGRADED: Health(HealthState.DEGRADED, "gave up")}
    live = {task.key: task.manifest for task in found}
    refresh(found, live, progress, lambda _: verdicts[HealthState.DEGRADED])
    rescue = due(found, progress)
    assert [task.key.name for task in rescue.tasks] == ["r"]
    applied(list(rescue.tasks), progress)
    refresh(found, live, progress, lambda _: Health(HealthState.HEALTHY))
    ended = due(found, progress)
    assert (ended.phase, ended.message) == (FAILED, "one or more synchronization tasks completed unsuccessfully")


def test_deletions_come_before_the_first_apply_and_in_reverse() -> None:
    """As recorded in `prune-waves`."""
    gone = tuple(thing(f"w{wave}", wave=wave) for wave in (1, 2, 3))
    found = tasks(thing("stay", wave=2), extra=gone)
    assert [task.key.name for task in found] == ["w3", "w2", "w1", "stay"]


SPEC: dict[str, Any] = {"source": {"path": "a"}, "syncPolicy": {"automated": {}}}


def compared(*rows: Row, status: str = SyncStatus.OUT_OF_SYNC) -> Comparison:
    return Comparison(rows=rows, status=status, revisions=["a" * 40])


def row(name: str, *, prune: bool = False, status: str = SyncStatus.OUT_OF_SYNC) -> Row:
    return Row(wanted=None if prune else thing(name), live=thing(name), status=status, prune=prune)


def state(phase: str, **more: Any) -> dict[str, Any]:
    return {"phase": phase, "syncResult": {"revision": "a" * 40, "source": SPEC["source"]}, **more}


def test_automation_starts_once_per_commit() -> None:
    """A commit that was synced is not synced again, one that failed is an error, and selfHeal takes what drifted."""
    assert automation(SPEC, compared(row("a")), {}).operation is not None
    assert automation(SPEC, compared(row("a")), state("Succeeded")).operation is None
    failed = automation(SPEC, compared(row("a")), state("Failed", message="no"))
    assert failed.error == f"Failed last sync attempt to [{'a' * 40}]: no"
    healing = {**SPEC, "syncPolicy": {"automated": {"selfHeal": True}}}
    found = automation(healing, compared(row("a"), row("b", status=SyncStatus.SYNCED)), state("Succeeded"))
    assert found.operation is not None
    assert [one["name"] for one in found.operation["sync"]["resources"]] == ["a"]
    assert automation({"source": {}}, compared(row("a")), {}).operation is None
    assert automation(SPEC, compared(row("a"), status=SyncStatus.SYNCED), {}).operation is None


def test_automation_never_prunes_everything() -> None:
    """What only has to be pruned waits for leave to prune, and an empty answer of Git empties nothing."""
    assert automation(SPEC, compared(row("a", prune=True)), {}).operation is None
    pruning = {**SPEC, "syncPolicy": {"automated": {"prune": True}}}
    assert "wipe out all resources" in automation(pruning, compared(row("a", prune=True)), {}).error
    allowed = {**SPEC, "syncPolicy": {"automated": {"prune": True, "allowEmpty": True}}}
    assert automation(allowed, compared(row("a", prune=True)), {}).operation is not None


def test_a_mark_counts_only_on_the_object_it_names() -> None:
    """A tracking id that was copied with an annotation makes nobody the owner."""
    mark = {"argocd.argoproj.io/tracking-id": "shop:/ConfigMap:shop/a"}
    assert owner_of(thing("a", annotations=mark), Settings()) == "shop"
    assert owner_of(thing("copy", annotations=mark), Settings()) == ""
    assert claimed_by(thing("copy", annotations=mark), Settings()) == "shop"


@pytest.mark.parametrize(
    ("retry", "delays"),
    [
        ({}, [None]),
        ({"limit": 2, "backoff": {"duration": "1s", "factor": 2}}, [2.0, 4.0, None]),
        ({"limit": -1, "backoff": {"duration": 100, "maxDuration": "2m"}}, [120.0, 120.0]),
    ],
)
def test_retries_wait_as_the_peer_does(retry: dict[str, Any], delays: list[float | None]) -> None:
    """The first wait is twice the one asked for: the peer counts before it computes."""
    from recovery.operate import _seconds

    assert [delay_of(retry, number, _seconds) for number in range(1, len(delays) + 1)] == delays


def test_hooks_of_deletion_ask_for_finalizers() -> None:
    """They are added once, in pairs."""
    live = Manifest({"metadata": {"name": "a", "finalizers": ["x"]}})
    wanted = finalizers_wanted(live, [thing("p", kind="Job", hook="PostDelete")])
    name = "post-delete-finalizer.argocd.argoproj.io"
    assert wanted == ["x", name, f"{name}/cleanup"]
    live.metadata["finalizers"] = wanted
    assert finalizers_wanted(live, [thing("p", kind="Job", hook="PostDelete")]) is None


def test_the_highest_tag_of_a_range() -> None:
    """A range is no exact version; a pre-release counts only where it is asked for."""
    assert [is_constraint(text) for text in ("^1.0", "1.x", ">=1 <2", "v1.0.0", "main", "feature/x")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    tags = ["v1.0.0", "v1.10.0", "v1.9.0", "v2.0.0-rc.1", "nightly"]
    assert newest("^1.0.0", tags) == "v1.10.0"
    assert newest(">=1", tags) == "v1.10.0"
    assert newest("^3", tags) == ""
