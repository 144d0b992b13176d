"""The cluster door watches: order, selection, bookmarks, the end, an old resourceVersion, closing."""

from __future__ import annotations

import threading
import time

import pytest

from secretsops.errors import Gone, UnknownKind
from secretsops.manifest import GroupVersionKind
from secretsops.ports import Cluster, EventType, Watch, WatchEvent
from tests.contract.cluster.backends import Backend
from tests.contract.cluster.objects import CONFIG_MAP, SECRET, changed, config_map, secret


def _take(watch: Watch, count: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for event in watch:
        if event.type is not EventType.BOOKMARK:
            found.append((event.type.value, event.object.name))
        if len(found) == count:
            break
    return found


def test_changes_come_in_order(cluster: Cluster, namespace: str) -> None:
    """From a list's resourceVersion on: what was added, modified, deleted, each with its state and version."""
    cluster.create(secret(namespace, "before"))
    version = cluster.page(SECRET, namespace=namespace).resource_version
    first = cluster.create(secret(namespace, "one", data={"a": "MQ=="}))
    second = cluster.replace(changed(first, data={"a": "Mg=="}))
    cluster.delete(SECRET, "one", namespace=namespace)
    events: list[WatchEvent] = []
    with cluster.watch(SECRET, namespace=namespace, resource_version=version, timeout=20) as watch:
        for event in watch:
            events.append(event)
            if len(events) == 3:
                break
    assert [event.type for event in events] == [EventType.ADDED, EventType.MODIFIED, EventType.DELETED]
    assert [event.object.body["data"]["a"] for event in events] == ["MQ==", "Mg==", "Mg=="]
    assert [event.object.kind for event in events] == [SECRET] * 3
    versions = [event.object.resource_version for event in events]
    assert versions[:2] == [first.resource_version, second.resource_version]
    assert int(versions[2]) > int(versions[1])


def test_without_a_version_what_is_there_comes_first(cluster: Cluster, namespace: str) -> None:
    """Every present object is ADDED, then changes follow."""
    for name in ("a", "b"):
        cluster.create(secret(namespace, name))
    with cluster.watch(SECRET, namespace=namespace, timeout=20) as watch:
        assert sorted(_take(watch, 2)) == [("ADDED", "a"), ("ADDED", "b")]
        cluster.create(secret(namespace, "c"))
        assert _take(watch, 1) == [("ADDED", "c")]


def test_other_namespaces_are_not_seen(cluster: Cluster, namespace: str) -> None:
    """A watch of one namespace stays there; one of all sees this one too."""
    version = cluster.page(CONFIG_MAP).resource_version
    cluster.create(config_map("default", f"elsewhere-{namespace}"))
    cluster.create(config_map(namespace, "here"))
    cluster.delete(CONFIG_MAP, f"elsewhere-{namespace}", namespace="default")
    name = "metadata.name=here"
    with cluster.watch(CONFIG_MAP, namespace=namespace, resource_version=version, field_selector=name) as watch:
        assert _take(watch, 1) == [("ADDED", "here")]
    with cluster.watch(CONFIG_MAP, resource_version=version, field_selector=name) as watch:
        assert _take(watch, 1) == [("ADDED", "here")]


def test_entering_and_leaving_a_selection(cluster: Cluster, namespace: str) -> None:
    """For a selector an object that gains the label is ADDED, one that loses it DELETED."""
    version = cluster.page(SECRET, namespace=namespace).resource_version
    cluster.create(secret(namespace))
    for labels in ({"on": "1"}, {"on": "1", "more": "1"}, {"on": None}):
        cluster.patch(SECRET, "one", {"metadata": {"labels": labels}}, namespace=namespace)
    with cluster.watch(
        SECRET, namespace=namespace, label_selector="on=1", resource_version=version, timeout=20
    ) as watch:
        assert _take(watch, 3) == [("ADDED", "one"), ("MODIFIED", "one"), ("DELETED", "one")]


def test_a_watch_ends_by_itself(cluster: Cluster, namespace: str) -> None:
    """After its timeout the stream ends without an error."""
    version = cluster.page(SECRET, namespace=namespace).resource_version
    start = time.monotonic()
    with cluster.watch(SECRET, namespace=namespace, resource_version=version, timeout=1) as watch:
        assert {event.type for event in watch} <= {EventType.BOOKMARK}
    assert 0.9 < time.monotonic() - start < 10


def test_bookmarks_tell_how_far_a_watch_has_come(backend: Backend, cluster: Cluster, namespace: str) -> None:
    """Two seconds before its end at the latest, or once a minute; a server promises none, so a few are tried."""
    timeout = 1 if backend.name == "fake" else 6
    for number in range(4):
        version = cluster.page(SECRET, namespace=namespace).resource_version
        created = cluster.create(secret(namespace, f"s{number}"))
        with cluster.watch(SECRET, namespace=namespace, resource_version=version, timeout=timeout) as watch:
            events = list(watch)
        assert [event.object.name for event in events][:1] == [f"s{number}"]
        assert {event.type for event in events[1:]} <= {EventType.BOOKMARK}
        if events[1:]:
            assert int(events[-1].object.resource_version) >= int(created.resource_version)
            return
    raise AssertionError("four watches, and no bookmark")


def test_a_quiet_watch_is_closed_from_another_thread_at_once(cluster: Cluster, namespace: str) -> None:
    """`close` ends the loop of the reader within a moment and without an error."""
    version = cluster.page(SECRET, namespace=namespace).resource_version
    ended: list[float] = []
    reading = threading.Event()

    def read(watch: Watch) -> None:
        reading.set()
        for _ in watch:
            pass
        ended.append(time.monotonic())

    with cluster.watch(SECRET, namespace=namespace, resource_version=version, timeout=60) as watch:
        reader = threading.Thread(target=read, args=(watch,))
        reader.start()
        reading.wait(5)
        time.sleep(0.2)
        closed = time.monotonic()
        watch.close()
        reader.join(5)
    assert ended, "the reader did not come back"
    assert ended[0] - closed < 1


def test_an_open_watch_can_be_left(cluster: Cluster, namespace: str) -> None:
    """Leaving the block ends the stream; the door works on."""
    for _ in range(20):
        with cluster.watch(SECRET, namespace=namespace, timeout=60):
            pass
    assert cluster.list(SECRET, namespace=namespace) == []


def test_an_old_version_is_gone(backend: Backend, namespace: str, widget: GroupVersionKind) -> None:
    """What the server no longer remembers is 410: list again."""
    backend.forget_history()
    with (
        pytest.raises(Gone) as caught,
        backend.cluster.watch(widget, namespace=namespace, resource_version="1", timeout=20) as watch,
    ):
        list(watch)
    assert caught.value.code == 410


def test_an_unknown_kind_is_not_watched(cluster: Cluster) -> None:
    """The error comes before the stream."""
    kind = GroupVersionKind("example.com", "v1", "Nothing")
    with pytest.raises(UnknownKind), cluster.watch(kind):
        raise AssertionError


def test_writers_and_watchers_at_the_same_time(cluster: Cluster, namespace: str) -> None:
    """Four threads write while two watch: each watcher sees every object once, in the same order."""
    version = cluster.page(SECRET, namespace=namespace).resource_version
    seen: list[list[str]] = [[], []]

    def read(place: int) -> None:
        with cluster.watch(SECRET, namespace=namespace, resource_version=version, timeout=30) as watch:
            seen[place] = [name for _, name in _take(watch, 40)]

    def write(number: int) -> None:
        for count in range(10):
            cluster.create(secret(namespace, f"s{number}-{count}"))

    threads = [threading.Thread(target=read, args=(place,)) for place in range(2)]
    threads += [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert seen[0] == seen[1]
    assert sorted(seen[0]) == sorted(f"s{number}-{count}" for number in range(4) for count in range(10))


def test_metadata_alone_is_sent_where_nothing_else_is_asked_for(cluster: Cluster, namespace: str) -> None:
    """Lists and watches of metadata carry names, labels and versions, the kind that was asked for, and no value."""
    cluster.create(secret(namespace, "before", data={"a": "MQ=="}))
    page = cluster.page(SECRET, namespace=namespace, metadata_only=True)
    (item,) = page.items
    assert (item.kind, item.name, item.namespace) == (SECRET, "before", namespace)
    assert item.uid
    assert set(item.body) == {"apiVersion", "kind", "metadata"}
    first = cluster.create(secret(namespace, "one", data={"a": "MQ=="}))
    cluster.delete(SECRET, "one", namespace=namespace)
    events: list[WatchEvent] = []
    start = page.resource_version
    with cluster.watch(SECRET, namespace=namespace, resource_version=start, timeout=20, metadata_only=True) as watch:
        for event in watch:
            if event.type is not EventType.BOOKMARK:
                events.append(event)
            if len(events) == 2:
                break
    assert [event.type for event in events] == [EventType.ADDED, EventType.DELETED]
    assert events[0].object.resource_version == first.resource_version
    for event in events:
        assert event.object.kind == SECRET
        assert set(event.object.body) == {"apiVersion", "kind", "metadata"}
