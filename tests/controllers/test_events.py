"""Events for people: de-duplicated, bounded, dropped rather than in the way; taken by the real API server."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from controllers.events import AGAIN, BURST, EVENT, FLOOD, MESSAGE_LIMIT, REFILL, SAME_FOR, Events
from secretsops.clock import SystemClock
from secretsops.errors import Forbidden, Unreachable
from secretsops.manifest import Manifest
from tests.controllers.conftest import Server
from tests.fakes.cluster import FakeCluster


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> dt.datetime:
        return dt.datetime(2027, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def about(name: str = "db", namespace: str = "default", uid: str = "") -> Manifest:
    metadata = {"name": name, "namespace": namespace, "uid": uid or f"uid-{name}", "resourceVersion": "7"}
    return Manifest({"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "metadata": metadata})


@pytest.fixture
def clock() -> Time:
    """Give the clock."""
    return Time()


@pytest.fixture
def cluster() -> FakeCluster:
    """Give the server."""
    return FakeCluster()


@pytest.fixture
def events(cluster: FakeCluster, clock: Time) -> Events:
    """Give what publishes."""
    return Events(cluster, "sealed-secrets", clock=clock)


def told(cluster: FakeCluster) -> list[dict[str, Any]]:
    return [event.body for event in cluster.list(EVENT, namespace="default")]


def test_an_event_names_its_object_its_source_and_its_time(server: Server) -> None:
    """As the API server takes it and `kubectl describe` finds it."""
    metadata = {"name": "config", "namespace": server.namespace}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    found = server.cluster.create(Manifest(body))
    events = Events(server.cluster, "sealed-secrets", clock=SystemClock())
    for _ in range(2):
        events.emit(found, "Warning", "ErrUnsealFailed", "no key opens it")
    selected = server.cluster.list(EVENT, namespace=server.namespace, field_selector="")
    ours = [event for event in selected if event.body.get("reason") == "ErrUnsealFailed"]
    assert len(ours) == 1
    event = ours[0].body
    assert event["involvedObject"]["uid"] == found.uid
    assert (event["type"], event["message"], event["count"]) == ("Warning", "no key opens it", 2)
    assert event["source"]["component"] == "sealed-secrets"
    assert event["firstTimestamp"] <= event["lastTimestamp"]


def test_the_same_again_counts_up_for_ten_minutes(events: Events, cluster: FakeCluster, clock: Time) -> None:
    for _ in range(3):
        events.emit(about(), "Normal", "Unsealed", "done")
        clock.seconds += 1
    assert [event["count"] for event in told(cluster)] == [3]
    clock.seconds += SAME_FOR + 1
    events.emit(about(), "Normal", "Unsealed", "done")
    assert sorted(event["count"] for event in told(cluster)) == [1, 3]


def test_another_object_reason_or_message_is_another_event(events: Events, cluster: FakeCluster) -> None:
    events.emit(about(), "Normal", "Unsealed", "done")
    events.emit(about("web"), "Normal", "Unsealed", "done")
    events.emit(about(), "Warning", "ErrUnsealFailed", "done")
    events.emit(about(), "Warning", "ErrUnsealFailed", "other")
    assert len(told(cluster)) == 4


def test_an_event_the_server_forgot_is_told_anew(events: Events, cluster: FakeCluster) -> None:
    events.emit(about(), "Normal", "Unsealed", "done")
    cluster.delete(EVENT, told(cluster)[0]["metadata"]["name"], namespace="default")
    events.emit(about(), "Normal", "Unsealed", "done")
    assert [event["count"] for event in told(cluster)] == [1]


def test_one_object_has_a_burst_and_then_one_in_five_minutes(events: Events, cluster: FakeCluster, clock: Time) -> None:
    for number in range(BURST + 20):
        events.emit(about(), "Warning", "ErrUnsealFailed", f"attempt {number}")
    assert len(told(cluster)) == BURST
    events.emit(about("web"), "Normal", "Unsealed", "done")
    assert len(told(cluster)) == BURST + 1, "another object has its own budget"
    clock.seconds += REFILL
    for number in range(5):
        events.emit(about(), "Warning", "ErrUnsealFailed", f"later {number}")
    assert len(told(cluster)) == BURST + 2


@pytest.mark.parametrize("error", [Unreachable("away"), Forbidden("no", reason="Forbidden")])
def test_an_event_that_cannot_be_written_is_dropped(events: Events, cluster: FakeCluster, error: Any) -> None:
    cluster.fail(error, times=1)
    events.emit(about(), "Normal", "Unsealed", "done")
    assert told(cluster) == []
    events.emit(about(), "Normal", "Unsealed", "done")
    assert len(told(cluster)) == 1


def test_long_messages_and_names_are_cut(events: Events, cluster: FakeCluster) -> None:
    name = "a" * 199 + "." + "b" * 50
    events.emit(about(name), "Normal", "Unsealed", "x" * 5000)
    event = told(cluster)[0]
    assert len(event["message"]) == MESSAGE_LIMIT
    assert ".." not in event["metadata"]["name"]
    assert len(event["metadata"]["name"]) <= 253


def test_cluster_scoped_objects_have_their_events_in_default(events: Events, cluster: FakeCluster) -> None:
    events.emit(about(namespace=""), "Normal", "Valid", "store validated")
    assert told(cluster)[0]["metadata"]["namespace"] == "default"


def test_in_a_flood_good_news_is_dropped_and_bad_news_is_not(cluster: FakeCluster, clock: Time) -> None:
    """A thousand objects that become good at once say so in their status; what went wrong is always told."""
    events = Events(cluster, "external-secrets", clock=clock, sparing=True)
    for number in range(1000):
        events.emit(about(f"app{number}"), "Normal", "Created", "secret created")
    assert len(told(cluster)) == FLOOD
    events.emit(about("app"), "Warning", "UpdateFailed", "no")
    assert len(told(cluster)) == FLOOD + 1
    clock.seconds += AGAIN
    events.emit(about("late"), "Normal", "Created", "secret created")
    assert len(told(cluster)) == FLOOD + 2
