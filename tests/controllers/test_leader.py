"""One leader at a time: on an API server in memory with clocks that a test moves, and on the real one."""

from __future__ import annotations

import datetime as dt
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from controllers.fence import ClusterReplaced, Fence
from controllers.leader import (
    DURATION,
    LEASE,
    LEASE_NAME,
    RENEW_DEADLINE,
    RETRY,
    WRITES,
    Election,
    Fenced,
    FencedDoors,
    NotLeading,
    refuse_unless,
)
from secretsops.adapters.kube import KubeCluster
from secretsops.clock import SystemClock
from secretsops.errors import SecretsOpsError, Unreachable
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Cluster, Resource, SecretSource, Sink
from tests.controllers.conftest import Server
from tests.controllers.wiretap import until
from tests.fakes.cluster import FakeCluster
from tests.fakes.sink import FakeSink


class Time:
    """A machine's clock: what it reads is its own affair."""

    def __init__(self, *, offset: float = 0.0) -> None:
        self.seconds, self._offset = 1000.0, offset

    def now(self) -> dt.datetime:
        return dt.datetime(2027, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=self.seconds + self._offset)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def candidate(cluster: FakeCluster, clock: Time, name: str) -> Election:
    return Election(cluster, clock, namespace="kube-system", identity=name, chance=lambda: 0.0)


def attempt(election: Election) -> None:
    """Try once, as `run` does between two pauses."""
    try:
        election._attempt()
    except SecretsOpsError:
        return


def lease(cluster: FakeCluster) -> Manifest:
    return cluster.get(LEASE, LEASE_NAME, "kube-system")


def test_the_first_candidate_leads_and_the_second_waits() -> None:
    cluster, clock = FakeCluster(), Time()
    first, second = candidate(cluster, clock, "a"), candidate(cluster, clock, "b")
    assert not first.leads()
    attempt(first)
    attempt(second)
    assert (first.leads(), second.leads()) == (True, False)
    spec = lease(cluster).spec
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("a", 15, 0)


def test_a_leader_that_cannot_renew_stops_before_anybody_may_start() -> None:
    """It stops after RENEW_DEADLINE; the other starts when the lease did not change for its whole duration."""
    cluster, clock = FakeCluster(), Time()
    first, second = candidate(cluster, clock, "a"), candidate(cluster, clock, "b")
    attempt(first)
    stopped = started = 0.0
    for _ in range(200):
        clock.seconds += 0.1
        attempt(second)
        stopped = stopped or (0.0 if first.leads() else clock.seconds)
        started = started or (clock.seconds if second.leads() else 0.0)
        assert not (first.leads() and second.leads())
    assert stopped - 1000 == pytest.approx(RENEW_DEADLINE, abs=0.2)
    assert started - 1000 == pytest.approx(DURATION, abs=0.3)
    assert lease(cluster).spec["leaseTransitions"] == 1
    attempt(first)
    assert not first.leads()


def test_wall_clocks_that_disagree_do_not_matter() -> None:
    """An hour ahead or behind, a candidate waits for the lease's duration by its own monotonic clock."""
    for offset in (-3600.0, 3600.0):
        cluster, here, there = FakeCluster(), Time(), Time(offset=offset)
        first, second = candidate(cluster, here, "a"), candidate(cluster, there, "b")
        for _ in range(20):
            here.seconds += RETRY
            there.seconds += RETRY
            attempt(first)
            attempt(second)
            assert (first.leads(), second.leads()) == (True, False)


def test_a_slow_answer_counts_from_when_it_was_asked_for() -> None:
    """A renewal that took longer than the deadline is no renewal."""
    cluster, clock = FakeCluster(), Time()
    first = candidate(cluster, clock, "a")

    def slow(_request: object) -> None:
        clock.seconds += RENEW_DEADLINE

    cluster.on_request = slow
    attempt(first)
    assert not first.leads()


def test_who_loses_the_race_for_a_lease_does_not_lead() -> None:
    """Between our read and our write somebody else took it: the server refuses ours."""
    cluster, clock = FakeCluster(), Time()
    attempt(candidate(cluster, clock, "old"))
    first, second = candidate(cluster, clock, "a"), candidate(cluster, clock, "b")
    attempt(first)
    attempt(second)
    clock.seconds += DURATION + 1
    raced: list[bool] = []

    def race(request: object) -> None:
        if "update" in str(request) and not raced:
            raced.append(True)
            attempt(second)

    cluster.on_request = race
    attempt(first)
    assert raced
    assert first.leads() != second.leads()


def test_a_lease_taken_away_ends_our_lead_at_once() -> None:
    cluster, clock = FakeCluster(), Time()
    first = candidate(cluster, clock, "a")
    attempt(first)
    taken = lease(cluster)
    cluster.replace(Manifest({**taken.body, "spec": {**taken.spec, "holderIdentity": "b"}}))
    attempt(first)
    assert not first.leads()


def test_an_unreachable_server_makes_nobody_leader() -> None:
    cluster, clock = FakeCluster(), Time()
    cluster.fail(Unreachable("away"), times=100)
    first = candidate(cluster, clock, "a")
    for _ in range(10):
        attempt(first)
        clock.seconds += RETRY
    assert not first.leads()


@pytest.mark.parametrize("seed", range(20))
def test_never_two_leaders(seed: int) -> None:
    """Three candidates with outages, pauses of whole processes and drifting wall clocks, over twenty minutes."""
    chance, cluster, clock = random.Random(seed), FakeCluster(), Time()
    candidates = [candidate(cluster, clock, name) for name in "abc"]
    away: dict[int, float] = {}
    led: set[str] = set()
    for _ in range(2400):
        clock.seconds += 0.5
        for number, each in enumerate(candidates):
            if chance.random() < 0.01:
                away[number] = clock.seconds + chance.random() * 40
            if away.get(number, 0) < clock.seconds and chance.random() < 0.4:
                if chance.random() < 0.1:
                    cluster.fail(Unreachable("away"), after=chance.random() < 0.5)
                attempt(each)
            leaders = [one.identity for one in candidates if one.leads()]
            assert len(leaders) <= 1, leaders
            led.update(leaders)
    assert len(led) > 1


@pytest.fixture
def run() -> Callable[[Election], threading.Thread]:
    """Run an election in a thread."""

    def start(election: Election) -> threading.Thread:
        thread = threading.Thread(target=election.run, daemon=True)
        thread.start()
        return thread

    return start


def test_a_leader_that_stops_hands_over_at_once(server: Server, run: Callable[[Election], threading.Thread]) -> None:
    """The lease is given up on stop, so the next one need not wait until it runs out."""
    first, second = (
        Election(server.cluster, SystemClock(), namespace=server.namespace, identity=name) for name in ("a", "b")
    )
    one = run(first)
    until(first.leads, "a leader")
    other = run(second)
    first.stop(release=True)
    one.join(5)
    assert not first.leads()
    until(second.leads, "a successor", seconds=2 * RETRY + 1)
    found = server.cluster.get(LEASE, LEASE_NAME, server.namespace).spec
    assert (found["holderIdentity"], found["leaseTransitions"]) == ("b", 1)
    second.stop(release=False)
    other.join(5)
    kept = server.cluster.get(LEASE, LEASE_NAME, server.namespace).spec
    assert kept["holderIdentity"] == "b", "where work may still go on the lease is kept"


def test_a_leader_that_lost_its_lease_writes_nothing_before_the_next_begins() -> None:
    """Each write asks; reading goes on. Between our last write and the other's first lie five seconds."""
    cluster, clock = FakeCluster(), Time()
    first, second = candidate(cluster, clock, "a"), candidate(cluster, clock, "b")
    attempt(first)
    attempt(second)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "namespace": "default"}}
    door, other = Fenced(cluster, first.leads), Fenced(cluster, second.leads)
    door.create(Manifest(body))
    config = Manifest(body).kind
    clock.seconds += RENEW_DEADLINE
    for write in ("create", "replace", "patch", "apply", "delete"):
        with pytest.raises(NotLeading):
            getattr(door, write)(Manifest(body))
    assert door.get(config, "one", "default").name == "one"
    attempt(second)
    assert not second.leads()
    with pytest.raises(NotLeading):
        other.delete(config, "one", namespace="default")
    clock.seconds += DURATION - RENEW_DEADLINE
    attempt(second)
    assert second.leads()
    other.delete(config, "one", namespace="default")


READS = {"server", "resources", "resource", "get", "page", "list", "watch", "raw"}
READS |= {"dialect", "fetch", "fetch_property", "fetch_many", "batch", "probe", "log_in", "close", "metadata", "find"}
READS |= {"exists", "name", "names", "describe"}


def test_every_write_there_is_asks_for_the_lease() -> None:
    """Whoever adds a method to a door says here whether it changes the world; `raw` carries reviews alone."""
    for door in (Cluster, SecretSource, Sink):
        methods = {name for name in vars(door) if not name.startswith("_")}
        assert methods - READS - WRITES == set(), door
    assert WRITES.isdisjoint(READS)


def test_stores_and_sinks_are_fenced_as_the_cluster_is() -> None:
    """What goes to a provider or into the escrow waits for the lease too; reading goes on."""
    leads, sink = [True], FakeSink("one")
    doors = FencedDoors(SimpleNamespace(sink=lambda _place: sink, clock="clock"), lambda: leads[0])
    found = doors.sink("fake://one")
    found.put("a", b"1")
    leads[0] = False
    with pytest.raises(NotLeading):
        found.put("b", b"2")
    with pytest.raises(NotLeading):
        found.trial("canary")
    assert (found.get("a"), found.names()) == (b"1", ["a"])
    assert doors.clock == "clock"


def test_a_write_that_the_server_has_wait_asks_again_before_it_is_sent() -> None:
    """429 with Retry-After: the lease ran out meanwhile, and the second attempt never leaves."""
    leads, sent = [True], []

    class Session:
        server = "https://c"

        @contextmanager
        def request(self, method: str, _path: str, **_: Any) -> Iterator[Any]:
            sent.append(method)
            leads[0] = False
            headers = {"Retry-After": "1"}
            yield SimpleNamespace(
                status=429, headers=headers, stream=lambda _size: [b'{"kind": "Status", "code": 429}']
            )

    session: Any = Session()
    door = KubeCluster(session, clock=Time(), before_write=lambda: refuse_unless(lambda: leads[0]))
    kind = GroupVersionKind("", "v1", "ConfigMap")
    door._resources = {kind: Resource(kind=kind, plural="configmaps", namespaced=True)}
    with pytest.raises(NotLeading):
        door.create(Manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}}))
    assert sent == ["POST"]


def test_a_cluster_that_was_replaced_deletes_nothing() -> None:
    """Nor does one that does not know yet; everything else goes on."""
    cluster, fence = FakeCluster(), Fence()
    door = Fenced(cluster, lambda: True, fence)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "namespace": "default"}}
    kind = Manifest(body).kind
    for fence.why, fence.unknown, reason in (("claim 2", False, "Fenced"), ("", True, "ClaimUnknown")):
        door.apply(Manifest(body), field_manager="test")
        with pytest.raises(ClusterReplaced) as caught:
            door.delete(kind, "one", namespace="default")
        assert caught.value.reason == reason
    fence.unknown = False
    door.delete(kind, "one", namespace="default")
