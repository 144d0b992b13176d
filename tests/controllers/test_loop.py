"""The loop: parts act only when they may, one bad object stops nothing, and it ends in order."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controllers.leader import Election
from controllers.loop import Loop, Part, Result, Runtime, Tick, Watched
from controllers.reflector import Selection
from secretsops.clock import SystemClock
from secretsops.errors import ServerFailure, StoreUnavailable
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ports import Doors
from tests.controllers.wiretap import until
from tests.fakes.cluster import FakeCluster

CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
CANARY = "canary-loop-90c2"
Run = Callable[..., Loop]


def config_map(name: str) -> Manifest:
    metadata = {"name": name, "namespace": "default"}
    return Manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})


def part(reconcile: Callable[[ObjectKey], Result], **options: Any) -> Part:
    watched = Watched(selection=Selection(kind=CONFIG_MAP), keys=lambda _kind, manifest: [manifest.key])
    return Part(name="maps", watched=[watched], reconcile=reconcile, **options)


@pytest.fixture
def cluster() -> FakeCluster:
    """Give a server that holds two objects."""
    fake = FakeCluster()
    fake.create(config_map("a"))
    fake.create(config_map("b"))
    return fake


@pytest.fixture
def run(cluster: FakeCluster) -> Iterator[Run]:
    """Start loops; they end with the test."""
    loops: list[Loop] = []

    def start(one: Part, election: Election | None = None) -> Loop:
        doors: Doors = None  # type: ignore[assignment]
        runtime = Runtime(cluster=cluster, clock=SystemClock(), doors=doors, namespace="kube-system")
        loop = Loop(runtime, [one], election)
        loops.append(loop)
        loop.start()
        return loop

    yield start
    for loop in loops:
        loop.stop(2.0)


def test_every_object_is_reconciled_and_again_when_it_changes(cluster: FakeCluster, run: Run) -> None:
    done: list[str] = []

    def reconcile(key: ObjectKey) -> Result:
        done.append(key.name)
        return Result(action="unchanged")

    loop = run(part(reconcile))
    until(lambda: sorted(done) == ["a", "b"], "both objects")
    cluster.patch(CONFIG_MAP, "a", {"data": {"x": "1"}}, namespace="default")
    until(lambda: sorted(done) == ["a", "a", "b"], "the change")
    assert loop.unready() == loop.unhealthy() == ""
    text = loop.metrics.text()
    assert 'secretsops_reconcile_total{outcome="unchanged",part="maps"} 3' in text
    assert 'secretsops_workqueue_adds_total{name="maps"} 3' in text


def test_a_result_may_be_due_again(run: Run) -> None:
    done: list[str] = []

    def reconcile(key: ObjectKey) -> Result:
        done.append(key.name)
        return Result(action="unchanged", again_after=0.05)

    run(part(reconcile))
    until(lambda: done.count("a") > 3 and done.count("b") > 3, "four passes each")


def test_one_object_that_fails_does_not_stop_the_others(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a known failure nor a bug; a bug's message, which may carry a value, is not logged."""
    tries: list[str] = []

    def reconcile(key: ObjectKey) -> Result:
        tries.append(key.name)
        if key.name == "a":
            raise ValueError(CANARY)
        if tries.count("b") < 3:
            raise StoreUnavailable("the store is away", reason="Sealed")
        return Result(action="updated")

    with caplog.at_level(logging.DEBUG):
        loop = run(part(reconcile, workers=1))
        until(lambda: tries.count("b") == 3 and tries.count("a") > 2, "retries")
        until(lambda: 'outcome="updated"' in loop.metrics.text(), "the success")
    assert loop.unhealthy() == ""
    assert CANARY not in str([record.__dict__ for record in caplog.records])
    assert 'reason="Sealed"' in loop.metrics.text()
    assert 'reason="Unexpected"' in loop.metrics.text()


def test_nothing_is_done_without_the_lead(cluster: FakeCluster, run: Run) -> None:
    """A candidate watches, is ready, and acts once the leader is gone."""
    done: list[str] = []
    ticks: list[float] = []

    def reconcile(key: ObjectKey) -> Result:
        done.append(key.name)
        return Result(action="unchanged")

    def act() -> float:
        ticks.append(time.monotonic())
        return 60.0

    holder = Election(cluster, SystemClock(), namespace="kube-system", identity="other")
    holder._attempt()
    election = Election(cluster, SystemClock(), namespace="kube-system", identity="us")
    loop = run(part(reconcile, ticks=[Tick(name="t", act=act)]), election)
    until(lambda: loop.unready() == "", "readiness")
    time.sleep(0.3)
    assert (done, ticks, loop.leads()) == ([], [], False)
    holder._give_up()
    until(lambda: sorted(done) == ["a", "b"] and len(ticks) == 1, "work")
    assert "secretsops_leader 1" in loop.metrics.text()


def test_nothing_is_done_before_everything_is_listed(cluster: FakeCluster, run: Run) -> None:
    """A part sees the whole world or nothing; until then the process is not ready."""
    done: list[str] = []
    cluster.fail(ServerFailure("not yet"), times=2, verb="list", resource="secrets")

    def reconcile(key: ObjectKey) -> Result:
        done.append(key.name)
        assert loop.unready() == ""
        return Result(action="unchanged")

    secrets = Watched(selection=Selection(kind=GroupVersionKind("", "v1", "Secret")), keys=lambda *_: [])
    one = part(reconcile)
    loop = run(Part(name="maps", watched=[*one.watched, secrets], reconcile=reconcile))
    assert loop.unready().startswith("maps: ")
    until(lambda: sorted(done) == ["a", "b"], "work")


def test_a_part_says_itself_what_it_misses(run: Run) -> None:
    missing = ["no key yet"]
    loop = run(part(lambda _: Result(action="x"), unready=lambda: missing[0]))
    until(lambda: loop.unready() == "maps: no key yet", "the list")
    missing[0] = ""
    assert loop.unready() == ""


def test_a_dead_thread_makes_the_process_unhealthy(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be cured inside is said, without its message, so that the process is started anew."""

    def broken(_kind: object, _manifest: Manifest) -> list[ObjectKey]:
        raise ValueError(CANARY)

    one = part(lambda _: Result(action="x"))
    loop = run(
        Part(name="maps", watched=[Watched(selection=one.watched[0].selection, keys=broken)], reconcile=one.reconcile)
    )
    until(lambda: loop.unhealthy() == "thread watch-ConfigMap ended", "the verdict")
    assert "ended unexpectedly" in caplog.text
    assert CANARY not in str([record.__dict__ for record in caplog.records])


def test_a_tick_that_fails_is_tried_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    acted: list[int] = []

    def act() -> float:
        acted.append(1)
        if len(acted) == 1:
            raise ServerFailure("internal error")
        return 60.0

    run(part(lambda _: Result(action="x"), ticks=[Tick(name="t", act=act)]))
    until(lambda: len(acted) == 2, "the second attempt")


def test_stop_lets_work_end_and_gives_out_no_more(cluster: FakeCluster, run: Run) -> None:
    """What is under way is finished, what waits is left, then the lease is given up."""
    started, finished = threading.Event(), threading.Event()

    def reconcile(key: ObjectKey) -> Result:
        started.set()
        time.sleep(0.5)
        finished.set()
        return Result(action="updated")

    election = Election(cluster, SystemClock(), namespace="kube-system", identity="us")
    loop = run(part(reconcile, workers=1), election)
    assert started.wait(5)
    assert loop.stop(4.0)
    assert finished.is_set()
    assert 'outcome="updated",part="maps"} 1' in loop.metrics.text()
    lease = cluster.get(GroupVersionKind("coordination.k8s.io", "v1", "Lease"), "secretsops-controller", "kube-system")
    assert lease.spec["holderIdentity"] == ""


def test_stop_does_not_wait_for_ever_and_keeps_the_lease_of_who_still_works(cluster: FakeCluster, run: Run) -> None:
    started, let_go = threading.Event(), threading.Event()

    def reconcile(key: ObjectKey) -> Result:
        started.set()
        let_go.wait(30)
        return Result(action="updated")

    election = Election(cluster, SystemClock(), namespace="kube-system", identity="us")
    loop = run(part(reconcile, workers=1), election)
    assert started.wait(5)
    began = time.monotonic()
    assert not loop.stop(0.5)
    assert time.monotonic() - began < 2
    lease = cluster.get(GroupVersionKind("coordination.k8s.io", "v1", "Lease"), "secretsops-controller", "kube-system")
    assert lease.spec["holderIdentity"] == "us"
    let_go.set()
