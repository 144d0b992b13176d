"""The reflector: what it knows is what is there, through lost connections, lost history and failing servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from controllers.reflector import PAUSES, STEADY, Reflector, Selection
from secretsops.errors import Forbidden, Gone, ServerFailure
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ports import Page
from tests.fakes.cluster import FakeCluster

CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")


def config_map(name: str, **data: str) -> Manifest:
    return Manifest(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}
    )


def until(holds: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for something, and say so when it does not come."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


class Seen:
    """A running reflector and what it told."""

    def __init__(self, cluster: FakeCluster, **options: object) -> None:
        self.cluster = cluster
        self.events: list[tuple[str, str]] = []
        self.reflector = Reflector(
            cluster,
            Selection(kind=CONFIG_MAP),
            lambda kind, manifest: self.events.append((kind.value, manifest.name)),
            chance=lambda: 0.0,
            **options,  # type: ignore[arg-type]
        )
        self.thread = threading.Thread(target=self.reflector.run)

    def start(self) -> Seen:
        self.thread.start()
        assert self.reflector.synced.wait(5)
        return self

    def lists(self) -> int:
        return sum(1 for request in self.cluster.log if request.verb == "list")

    def watches(self) -> int:
        return sum(1 for request in self.cluster.log if request.verb == "watch")

    def names(self) -> set[str]:
        return {key.name for key in self.reflector.objects}


@pytest.fixture
def seen() -> Iterator[Seen]:
    found = Seen(FakeCluster())
    yield found
    found.reflector.stop()
    found.thread.join(5)
    assert not found.thread.is_alive()


def test_it_lists_in_pages_and_then_watches(seen: Seen) -> None:
    """1,200 objects come in three pages; changes come by watch from the list's resourceVersion."""
    seen.cluster.seed(*(config_map(f"c{n}").body for n in range(1200)))
    seen.start()
    assert len(seen.names()) == 1200
    assert seen.lists() == 3
    until(lambda: seen.watches() == 1)
    seen.cluster.create(config_map("new"))
    until(lambda: ("ADDED", "new") in seen.events)
    seen.cluster.delete(CONFIG_MAP, "new", namespace="default")
    until(lambda: ("DELETED", "new") in seen.events)
    assert seen.events.count(("ADDED", "c7")) == 1


def test_a_dropped_connection_resumes_without_a_list(seen: Seen) -> None:
    """What happened in between is told, and nothing twice."""
    seen.cluster.seed(config_map("a").body)
    seen.start()
    until(lambda: seen.watches() == 1)
    seen.cluster.drop_watches()
    seen.cluster.create(config_map("b"))
    until(lambda: ("ADDED", "b") in seen.events)
    assert seen.lists() == 1
    assert seen.events == [("ADDED", "a"), ("ADDED", "b")]


def test_lost_history_lists_again_and_tells_what_was_deleted(seen: Seen) -> None:
    """After 410 Gone the difference is told: deleted, changed, new; not what stayed."""
    seen.cluster.seed(config_map("gone").body, config_map("stays").body, config_map("changes").body)
    seen.start()
    until(lambda: seen.watches() == 1)
    seen.events.clear()
    seen.cluster.fail(Gone("too old", code=410, reason="Expired"), verb="watch")
    before = seen.lists()
    # While no watch is open, history moves on and is forgotten.
    seen.cluster.drop_watches()
    seen.cluster.delete(CONFIG_MAP, "gone", namespace="default")
    seen.cluster.patch(CONFIG_MAP, "changes", {"data": {"x": "1"}}, namespace="default")
    seen.cluster.create(config_map("new"))
    seen.cluster.compact()
    until(lambda: seen.lists() > before)
    until(lambda: seen.names() == {"stays", "changes", "new"})
    assert ("DELETED", "gone") in seen.events
    assert ("MODIFIED", "changes") in seen.events
    assert ("ADDED", "new") in seen.events
    assert not [event for event in seen.events if event[1] == "stays"]


def test_bookmarks_move_the_resume_point(seen: Seen) -> None:
    """After a bookmark and forgotten history a dropped watch still resumes without a list."""
    seen.cluster.seed(config_map("a").body)
    seen.start()
    until(lambda: seen.watches() == 1)
    # Something else moves the server on; our watch hears of it by bookmark alone.
    seen.cluster.seed({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}})
    seen.cluster.bookmark()
    time.sleep(0.1)
    seen.cluster.compact()
    seen.cluster.drop_watches()
    until(lambda: seen.watches() >= 2)
    seen.cluster.create(config_map("b"))
    until(lambda: ("ADDED", "b") in seen.events)
    assert seen.lists() == 1


def test_a_failing_server_is_asked_less_and_less() -> None:
    """With 500 for ever: from the third failure on at least a second lies between two requests, later 30."""
    asked: list[float] = []
    now = [0.0]

    class Broken(FakeCluster):
        def page(self, *_: Any, **__: Any) -> Page:
            asked.append(now[0])
            raise ServerFailure("etcd is away", code=500, reason="InternalError")

    reflector = Reflector(
        Broken(), Selection(kind=CONFIG_MAP), lambda *_: None, monotonic=lambda: now[0], chance=lambda: 0.0
    )

    class Instantly(threading.Event):
        """Waits by moving the clock; ends after two minutes of it."""

        def wait(self, timeout: float | None = None) -> bool:
            now[0] += timeout or 0.0
            if now[0] > 120:
                self.set()
            return self.is_set()

    reflector._stop = Instantly()
    reflector.run()
    gaps = [after - before for before, after in pairwise(asked)]
    assert all(gap >= STEADY for gap in gaps[2:]), gaps
    assert gaps[-1] >= 0.75 * PAUSES[-1]
    assert len(asked) < 15
    assert reflector.failing_since == 0.0


def test_it_recovers_when_the_server_does(seen: Seen) -> None:
    """After failures the list succeeds and the failure is forgotten."""
    seen.cluster.fail(ServerFailure("no", code=500, reason="InternalError"), verb="list", times=2)
    seen.cluster.fail(Forbidden("no", code=403, reason="Forbidden"), verb="list")
    seen.cluster.seed(config_map("a").body)
    seen.start()
    assert seen.names() == {"a"}
    assert seen.reflector.failing_since is None


def test_only_what_keep_gives_is_remembered() -> None:
    """Values never enter the cache, nor what handlers see."""
    cluster = FakeCluster()
    told: list[Manifest] = []

    def bare(manifest: Manifest) -> Manifest:
        return Manifest({key: value for key, value in manifest.body.items() if key != "data"})

    reflector = Reflector(
        cluster, Selection(kind=CONFIG_MAP), lambda _, manifest: told.append(manifest), keep=bare, chance=lambda: 0.0
    )
    cluster.seed(config_map("a", password="hunter2").body)
    thread = threading.Thread(target=reflector.run)
    thread.start()
    try:
        assert reflector.synced.wait(5)
        assert "data" not in told[0].body
        kept = reflector.get(ObjectKey("", "ConfigMap", "default", "a"))
        assert kept is not None
        assert "data" not in kept.body
    finally:
        reflector.stop()
        thread.join(5)


def test_stopping_ends_a_running_watch_at_once(seen: Seen) -> None:
    """Nobody waits for the server's five minutes."""
    seen.start()
    until(lambda: seen.watches() == 1)
    began = time.monotonic()
    seen.reflector.stop()
    seen.thread.join(2)
    assert time.monotonic() - began < 1.0
