"""Leader election: one acts at a time, by our own clock; a lease is given up on stop."""

from __future__ import annotations

import datetime as dt
import threading
import time

from controllers.leader import DURATION, LEASE, LEASE_NAME, RENEW_DEADLINE, Election
from secretsops.errors import ServerFailure
from tests.fakes.cluster import FakeCluster


class Hands:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> dt.datetime:
        return dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=self.at)

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


def candidate(cluster: FakeCluster, clock: Hands, name: str) -> Election:
    return Election(cluster, clock, namespace="kube-system", identity=name)


def test_the_first_leads_and_the_second_waits() -> None:
    """A lease that is renewed is never taken over."""
    cluster, clock = FakeCluster(), Hands()
    one, two = candidate(cluster, clock, "one"), candidate(cluster, clock, "two")
    for _ in range(20):
        one._attempt()
        two._attempt()
        assert (one.leads(), two.leads()) == (True, False)
        clock.at += 2
    assert cluster.get(LEASE, LEASE_NAME, "kube-system").spec["leaseTransitions"] == 0


def test_a_dead_leader_is_followed_after_its_lease_ran_out() -> None:
    """Not before 15 s after the last change that the other one saw, whatever the dead one's clock said."""
    cluster, clock = FakeCluster(), Hands()
    one, two = candidate(cluster, clock, "one"), candidate(cluster, clock, "two")
    one._attempt()
    two._attempt()
    start = clock.at
    while not two.leads():
        clock.at += 2
        two._attempt()
        assert not (one.leads() and two.leads())
    assert DURATION <= clock.at - start <= DURATION + 4
    lease = cluster.get(LEASE, LEASE_NAME, "kube-system")
    assert (lease.spec["holderIdentity"], lease.spec["leaseTransitions"]) == ("two", 1)


def test_who_cannot_renew_stops_acting_before_anybody_else_may_start() -> None:
    """With the API server away the leader is no leader after 10 s; the lease counts 15."""
    cluster, clock = FakeCluster(), Hands()
    one = candidate(cluster, clock, "one")
    one._attempt()
    cluster.fail(ServerFailure("away", code=500), times=100)
    clock.at += RENEW_DEADLINE - 0.1
    assert one.leads()
    clock.at += 0.2
    assert not one.leads()
    assert RENEW_DEADLINE < DURATION


def test_of_two_that_take_over_at_once_one_wins() -> None:
    """The loser's write meets a Conflict and it does not lead."""
    cluster, clock = FakeCluster(), Hands()
    candidate(cluster, clock, "dead")._attempt()
    one, two = candidate(cluster, clock, "one"), candidate(cluster, clock, "two")
    one._attempt()
    two._attempt()
    clock.at += DURATION + 1
    one._attempt()
    two._attempt()
    assert [one.leads(), two.leads()].count(True) == 1


def test_stopping_releases_the_lease() -> None:
    """The next one does not wait for it to run out; a stop with work still going on keeps it."""
    for release in (True, False):
        cluster, clock = FakeCluster(), Hands()
        one = candidate(cluster, clock, "one")
        thread = threading.Thread(target=one.run)
        thread.start()
        deadline = time.monotonic() + 5
        while not one.leads() and time.monotonic() < deadline:
            time.sleep(0.01)
        one.stop(release=release)
        thread.join(5)
        assert cluster.get(LEASE, LEASE_NAME, "kube-system").spec["holderIdentity"] == ("" if release else "one")
        two = candidate(cluster, clock, "two")
        two._attempt()
        assert two.leads() is release
