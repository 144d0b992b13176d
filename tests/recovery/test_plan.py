"""The decision: which tasks run now, what is waited for, when a sync is over."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.app import App, Health, HealthState, Source
from recovery.order import Task, ordered
from recovery.plan import Done, Progress, Result, Run, State, Wait, decide, finished_hooks, kind_runs
from secretsops.manifest import Manifest

APP = App(name="app", namespace="argocd", source=Source(url="", path=""), destination="home")
WAVE, HOOK, POLICY = (f"argocd.argoproj.io/{word}" for word in ("sync-wave", "hook", "hook-delete-policy"))


def thing(kind: str, name: str, **annotations: str) -> Manifest:
    version = {"Job": "batch/v1", "Deployment": "apps/v1", "Application": "argoproj.io/v1alpha1"}.get(kind, "v1")
    marks = {{"wave": WAVE, "hook": HOOK, "policy": POLICY}[name]: value for name, value in annotations.items()}
    metadata = {"name": name, "namespace": "home", "annotations": marks}
    return Manifest({"apiVersion": version, "kind": kind, "metadata": metadata})


def plan(*manifests: Manifest) -> list[Task]:
    return ordered(APP, list(manifests), revision="a" * 40, started=0)


def alive(task: Task, uid: str = "u", **status: Any) -> Manifest:
    body = task.manifest.body
    return Manifest({**body, "metadata": {**body["metadata"], "uid": uid}, "status": status})


def healthy(_found: Manifest) -> Health:
    return Health(HealthState.HEALTHY)


def test_one_wave_runs_after_the_other() -> None:
    """Nothing of a later wave starts while an earlier one runs; the last one ends the sync."""
    tasks = plan(thing("ConfigMap", "a"), thing("ConfigMap", "b", wave="1"))
    progress: Progress = {}
    first = decide(tasks, {}, progress, healthy)
    assert isinstance(first, Run)
    assert [task.key.name for task in first.tasks] == ["a"]
    progress[tasks[0].id] = Result(state=State.RUNNING, uid="u")
    second = decide(tasks, {tasks[0].key: alive(tasks[0])}, progress, healthy)
    assert isinstance(second, Run)
    assert [task.key.name for task in second.tasks] == ["b"]
    progress[tasks[1].id] = Result(state=State.RUNNING, uid="u")
    end = decide(tasks, {task.key: alive(task) for task in tasks}, progress, healthy)
    assert end == Done(succeeded=True, message="successfully synced (all tasks run)", remove=[])


def test_a_wait_names_the_object_and_its_condition() -> None:
    """A Deployment that is not there yet in full is waited for by name."""
    web = thing("Deployment", "web")
    (task,) = plan(Manifest({**web.body, "spec": {"replicas": 1}}))
    progress = {task.id: Result(state=State.RUNNING, uid="u")}
    decision = decide([task], {task.key: alive(task)}, progress, healthy)
    assert isinstance(decision, Wait)
    assert "web" in str(decision.reasons[0])
    assert "to be healthy" in str(decision.reasons[0])


@pytest.mark.parametrize("uid", ["", "another"])
def test_a_hook_that_vanished_or_was_replaced_failed(uid: str) -> None:
    """Whoever deleted it, its outcome will never be known."""
    (task,) = plan(thing("Job", "migrate", hook="PreSync"))
    live = {task.key: alive(task, uid=uid)} if uid else {}
    decision = decide([task], live, {task.id: Result(state=State.RUNNING, uid="u")}, healthy)
    assert isinstance(decision, Done)
    assert not decision.succeeded
    assert "is missing" in decision.message


def test_a_failure_runs_the_rescue_hooks_and_no_later_wave() -> None:
    """SyncFail hooks all together; then the sync is over, failed, with the reason."""
    tasks = plan(
        thing("Job", "work", hook="Sync"),
        thing("ConfigMap", "later", wave="5"),
        thing("Job", "page", hook="SyncFail"),
        thing("Job", "tell", hook="SyncFail", wave="3"),
    )
    by_name = {task.key.name: task for task in tasks}
    progress = {by_name["work"].id: Result(state=State.FAILED, message="exit 1")}
    decision = decide(tasks, {}, progress, healthy)
    assert isinstance(decision, Run)
    assert {task.key.name for task in decision.tasks} == {"page", "tell"}
    for name in ("page", "tell"):
        progress[by_name[name].id] = Result(state=State.SUCCEEDED)
    end = decide(tasks, {}, progress, healthy)
    assert isinstance(end, Done)
    assert (end.succeeded, "exit 1" in end.message) == (False, True)


def test_hooks_are_removed_as_their_policies_say() -> None:
    """HookSucceeded after success, HookFailed after failure, neither otherwise."""
    tasks = plan(
        thing("Job", "s", hook="Sync", policy="HookSucceeded"), thing("Job", "f", hook="Sync", policy="HookFailed")
    )
    over: Progress = {task.id: Result(state=State.SUCCEEDED) for task in tasks}
    end = decide(tasks, {}, over, healthy)
    assert isinstance(end, Done)
    assert [task.key.name for task in end.remove] == ["s"]
    over[tasks[0].id] = Result(state=State.FAILED)
    end = decide(tasks, {}, over, healthy)
    assert isinstance(end, Done)
    assert [task.key.name for task in end.remove] == ["f"]


def test_a_child_counts_by_its_own_outcome() -> None:
    """Degraded child fails its parent, a child at work holds the wave."""
    (task,) = plan(thing("Application", "child"))
    running = {task.id: Result(state=State.RUNNING, uid="u")}
    live = {task.key: alive(task)}
    waiting = decide([task], live, dict(running), lambda _: Health(HealthState.PROGRESSING, "syncing"))
    assert isinstance(waiting, Wait)
    failed = decide([task], live, dict(running), lambda _: Health(HealthState.DEGRADED, "no Git"))
    assert isinstance(failed, Done)
    assert "no Git" in failed.message


def test_only_hooks_that_are_over_lose_their_finalizer() -> None:
    """A running hook keeps it, else its outcome could vanish unseen."""
    (task,) = plan(thing("Job", "migrate", hook="PreSync"))
    found = alive(task)
    found.body["metadata"]["finalizers"] = ["argocd.argoproj.io/hook-finalizer"]
    live = {task.key: found}
    assert finished_hooks([task], live, {task.id: Result(state=State.RUNNING)}) == []
    assert finished_hooks([task], live, {task.id: Result(state=State.SUCCEEDED)}) == [found]


@given(st.lists(st.sampled_from(["ConfigMap", "Secret", "Service"]), max_size=12))
def test_runs_of_one_kind_keep_the_order(kinds: list[str]) -> None:
    """Cutting loses nothing, reorders nothing, and neighbours differ in kind."""
    tasks = plan(*(thing(kind, f"n{number:02}") for number, kind in enumerate(kinds)))
    runs = kind_runs(tasks)
    assert [task for run in runs for task in run] == tasks
    assert all(len({task.manifest.kind for task in run}) == 1 for run in runs)
    assert len(runs) == len(set(kinds))


@given(st.data())
def test_every_plan_comes_to_an_end(data: st.DataObject) -> None:
    """Whatever succeeds or fails, at most one round per task later the answer is Done."""
    kinds = data.draw(st.lists(st.sampled_from(["ConfigMap", "Job"]), max_size=8))
    hooks = [data.draw(st.sampled_from(["", "PreSync", "PostSync", "SyncFail"])) for _ in kinds]
    manifests = [
        thing(kind, f"n{number}", **({"hook": hook} if hook else {}), wave=str(number % 3))
        for number, (kind, hook) in enumerate(zip(kinds, hooks, strict=True))
    ]
    tasks = plan(*manifests)
    progress: Progress = {}
    for _ in range(len(tasks) + 1):
        decision = decide(tasks, {}, progress, healthy)
        if isinstance(decision, Done):
            assert decision.succeeded == all(result.state is State.SUCCEEDED for result in progress.values())
            return
        assert isinstance(decision, Run)
        assert decision.tasks
        for task in decision.tasks:
            state = data.draw(st.sampled_from([State.SUCCEEDED, State.SUCCEEDED, State.FAILED]))
            progress[task.id] = Result(state=state)
    raise AssertionError("the plan never ended")
