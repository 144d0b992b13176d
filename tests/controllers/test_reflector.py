"""The reflector keeps client-go's promises, on an API server in memory and on the real one."""

from __future__ import annotations

import http.server
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import controllers.reflector
from controllers.reflector import Reflector, Selection
from secretsops.adapters.kube import connect
from secretsops.errors import Gone, SecretsOpsError, ServerFailure, Unreachable
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ports import Cluster, ClusterTarget, EventType
from tests.contract.cluster.backends import install_widgets
from tests.controllers.conftest import Server
from tests.controllers.wiretap import Wiretap, until
from tests.fakes.cluster import FakeCluster

CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
SECRET = GroupVersionKind("", "v1", "Secret")
Start = Callable[..., tuple[Reflector, "Told"]]


class Told:
    """What a reflector told, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[EventType, Manifest]] = []

    def __call__(self, kind: EventType, manifest: Manifest) -> None:
        self.events.append((kind, manifest))

    def names(self) -> list[tuple[str, str]]:
        return [(kind.value, manifest.name) for kind, manifest in self.events]

    def replayed(self) -> dict[ObjectKey, str]:
        """Give what somebody believes to be there who only heard the events: resourceVersion by key."""
        known: dict[ObjectKey, str] = {}
        for kind, manifest in self.events:
            if kind is EventType.DELETED:
                del known[manifest.key]
            else:
                known[manifest.key] = manifest.resource_version
        return known


@pytest.fixture
def start() -> Iterator[Start]:
    """Run reflectors in threads; they end with the test."""
    running: list[tuple[Reflector, threading.Thread]] = []

    def run(cluster: Cluster | Wiretap, namespace: str, **options: Any) -> tuple[Reflector, Told]:
        told = Told()
        selection = Selection(kind=CONFIG_MAP, namespace=namespace, label_selector="app=test")
        reflector = Reflector(cluster, options.pop("selection", selection), told, **options)
        thread = threading.Thread(target=reflector.run, daemon=True)
        running.append((reflector, thread))
        thread.start()
        return reflector, told

    yield run
    for reflector, _ in running:
        reflector.stop()
    for _, thread in running:
        thread.join(5)
        assert not thread.is_alive(), "a reflector did not stop"


def config_map(namespace: str, name: str, value: str = "") -> Manifest:
    metadata = {"name": name, "namespace": namespace, "labels": {"app": "test"}}
    return Manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": value}})


def stored(cluster: Cluster, namespace: str) -> dict[ObjectKey, str]:
    found = cluster.list(CONFIG_MAP, namespace=namespace, label_selector="app=test")
    return {manifest.key: manifest.resource_version for manifest in found}


def test_pages_first_then_a_watch_from_their_version(server: Server, start: Start) -> None:
    """A list in pages, a watch from its resourceVersion, and every change after that."""
    cluster, namespace = server.cluster, server.namespace
    for number in range(5):
        cluster.create(config_map(namespace, f"c{number}"))
    tap = Wiretap(cluster=cluster, page_size=2)
    reflector, told = start(tap, namespace)
    assert reflector.synced.wait(10)
    assert told.names() == [("ADDED", f"c{number}") for number in range(5)]
    until(lambda: tap.verbs() == ["list", "list", "list", "watch"], "three pages and a watch")
    version = cluster.page(CONFIG_MAP, namespace=namespace, limit=2).resource_version
    assert int(version) >= int(tap.asked[-1].token) > 0
    cluster.create(config_map(namespace, "new"))
    cluster.replace(config_map(namespace, "new", "changed"))
    cluster.delete(CONFIG_MAP, "new", namespace=namespace)
    until(lambda: len(told.events) == 8, "three more events")
    assert told.names()[5:] == [("ADDED", "new"), ("MODIFIED", "new"), ("DELETED", "new")]
    assert tap.verbs() == ["list", "list", "list", "watch"], "nothing is listed twice"
    assert {key: each.resource_version for key, each in reflector.objects.items()} == stored(cluster, namespace)


def test_a_bookmark_moves_the_place_to_resume_from(
    server: Server, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens elsewhere moves our resourceVersion on, so a resume finds it in the server's memory."""
    monkeypatch.setattr(controllers.reflector, "WATCH_SECONDS", (4.0, 4.0))
    tap = Wiretap(cluster=server.cluster)
    reflector, told = start(tap, server.namespace)
    assert reflector.synced.wait(10)
    until(lambda: "watch" in tap.verbs(), "a watch")
    elsewhere = config_map(server.namespace, "elsewhere")
    elsewhere.metadata["labels"] = {}
    version = server.cluster.create(elsewhere).resource_version
    until(lambda: tap.verbs().count("watch") == 2, "the second watch")
    watches = [asked for asked in tap.asked if asked.verb == "watch"]
    assert tap.bookmarks
    assert int(watches[0].token) < int(version) <= int(watches[1].token)
    assert (told.events, tap.verbs().count("list")) == ([], 1)


def test_410_lists_again_and_loses_no_deletion(server: Server, start: Start) -> None:
    """What went while nobody watched is told as deleted with its last state; what is unchanged is not told again."""
    cluster, namespace = server.cluster, server.namespace
    # A kind that is younger than the server: of the others a small server may remember everything since its start.
    kind = install_widgets(cluster)

    def widget(name: str, colour: str) -> Manifest:
        head = {"apiVersion": kind.api_version, "kind": kind.kind}
        return Manifest(
            {**head, "metadata": {"name": name, "namespace": namespace}, "spec": {"size": 1, "colour": colour}}
        )

    for name in ("same", "changed", "deleted"):
        cluster.create(widget(name, "red"))
    tap = Wiretap(cluster=cluster)
    reflector, told = start(tap, namespace, selection=Selection(kind=kind, namespace=namespace))
    assert reflector.synced.wait(10)
    until(lambda: tap.open is not None, "a watch")
    heard = len(told.events)
    hold = threading.Event()

    def away(_verb: str) -> SecretsOpsError | None:
        return None if hold.is_set() else Unreachable("away")

    tap.broken = away
    tap.cut(Unreachable("the connection broke"))
    until(lambda: tap.open is None, "the end of the watch")
    cluster.delete(kind, "deleted", namespace=namespace)
    cluster.patch(kind, "changed", {"spec": {"colour": "blue"}}, namespace=namespace)
    cluster.create(widget("new", "red"))
    server.forget_history()
    tap.forgotten = True
    hold.set()
    until(lambda: len(told.events) == heard + 3, "three events", 30)
    assert sorted(told.names()[heard:]) == [("ADDED", "new"), ("DELETED", "deleted"), ("MODIFIED", "changed")]
    gone = next(manifest for kind, manifest in told.events if kind is EventType.DELETED)
    assert gone.spec["colour"] == "red"
    assert tap.verbs().count("list") == 2
    assert told.replayed() == {each.key: each.resource_version for each in cluster.list(kind, namespace=namespace)}


def test_a_dropped_connection_resumes_where_it_was(server: Server, start: Start) -> None:
    """Nothing is listed again, nothing is missed, nothing is told twice."""
    cluster, namespace = server.cluster, server.namespace
    tap = Wiretap(cluster=cluster)
    reflector, told = start(tap, namespace)
    assert reflector.synced.wait(10)
    for number in range(3):
        version = cluster.create(config_map(namespace, f"c{number}")).resource_version
        until(lambda count=number: len(told.events) == count + 1, "the event")  # type: ignore[misc]
        until(lambda: tap.open is not None, "a watch")
        tap.cut(Unreachable("the connection broke", reason="NoAnswer"))
        until(lambda at=version: tap.asked[-1].token == at, "a watch from the last version")  # type: ignore[misc]
    assert told.names() == [("ADDED", "c0"), ("ADDED", "c1"), ("ADDED", "c2")]
    assert tap.verbs().count("list") == 1


def test_only_what_keep_gives_is_kept(server: Server, start: Start) -> None:
    """Of a Secret nothing but its name stays in memory, in events and in the store."""

    def named(manifest: Manifest) -> Manifest:
        names = ("name", "namespace", "resourceVersion")
        return Manifest({**manifest.body, "data": None, "metadata": {n: manifest.metadata[n] for n in names}})

    def secret(name: str) -> None:
        metadata = {"name": name, "namespace": server.namespace}
        data = {"key": "Y2FuYXJ5"}
        server.cluster.create(Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}))

    secret("listed")
    selection = Selection(kind=SECRET, namespace=server.namespace)
    reflector, told = start(server.cluster, server.namespace, selection=selection, keep=named)
    assert reflector.synced.wait(10)
    secret("watched")
    until(lambda: ("ADDED", "watched") in told.names(), "both Secrets")
    assert "Y2FuYXJ5" not in repr([each.body for each in reflector.objects.values()])
    assert "Y2FuYXJ5" not in repr([manifest.body for _, manifest in told.events])
    plain = Reflector(server.cluster, selection, told)
    plain._list()
    assert all("managedFields" not in each.metadata for each in plain.objects.values())


def test_stop_ends_a_running_watch_at_once(server: Server, start: Start) -> None:
    """Also in the middle of a quiet watch."""
    tap = Wiretap(cluster=server.cluster)
    reflector, _ = start(tap, server.namespace)
    until(lambda: tap.open is not None, "a watch")
    began = time.monotonic()
    reflector.stop()
    until(lambda: tap.open is None, "the end", 2)
    assert time.monotonic() - began < 2


# --- pace: a virtual clock -------------------------------------------------------------------------------


class Pace:
    """A clock that moves when the reflector pauses; ends it after `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.now, self._end = 1000.0, 1000.0 + seconds

    def is_set(self) -> bool:
        return self.now >= self._end

    def set(self) -> None:
        self._end = self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def paced(cluster: FakeCluster, seconds: float, broken: Callable[[str], SecretsOpsError | None]) -> Wiretap:
    """Run a reflector for `seconds` of virtual time against a server with a fault; a request takes 10 ms."""
    pace = Pace(seconds)

    def fault(verb: str) -> SecretsOpsError | None:
        pace.now += 0.01
        return broken(verb)

    tap = Wiretap(cluster=cluster, monotonic=lambda: pace.now, broken=fault)
    selection = Selection(kind=CONFIG_MAP)
    reflector = Reflector(tap, selection, Told(), monotonic=lambda: pace.now, chance=random.Random(7).random)
    reflector._stop = pace  # type: ignore[assignment]
    reflector.run()
    return tap


FAULTS: dict[str, Callable[[str], SecretsOpsError | None]] = {
    "500 to everything": lambda _: ServerFailure("internal error", reason="InternalError"),
    "500 to watches": lambda verb: ServerFailure("internal error") if verb == "watch" else None,
    "410 to every watch": lambda verb: Gone("too old") if verb == "watch" else None,
    "410 to every list": lambda verb: Gone("too old") if verb == "list" else None,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_server_is_asked_once_a_second_at_most(fault: str) -> None:
    """From the third failure on at least a second lies between attempts, growing to half a minute."""
    tap = paced(FakeCluster(), 600, FAULTS[fault])
    verb = "list" if "list" in fault or "everything" in fault else "watch"
    times = [asked.at for asked in tap.asked if asked.verb == verb]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert all(gap >= 0.99 for gap in gaps[2:]), gaps
    assert 22 < max(gaps) < 38
    assert len(times) < 40
    assert len({round(gap, 3) for gap in gaps[-5:]}) == 5, "jitter"


def test_watches_that_end_at_once_are_no_hot_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the server ends them politely, after a bookmark."""
    monkeypatch.setattr(controllers.reflector, "WATCH_SECONDS", (0.0, 0.0))
    tap = paced(FakeCluster(), 60, lambda _: None)
    assert tap.bookmarks > 10
    assert len(tap.asked) <= 60 + 5


def test_a_server_that_is_back_is_followed_at_once() -> None:
    """After a healthy watch the count of failures starts anew."""
    waits: list[float] = []
    pace = Pace(1e9)
    reflector = Reflector(FakeCluster(), Selection(kind=CONFIG_MAP), Told(), monotonic=lambda: pace.now)
    reflector._stop = pace  # type: ignore[assignment]
    for _ in range(6):
        reflector._pause(pace.now, float("inf"))
    for lasted in (60.0, 0.0):
        began, pace.now = pace.now, pace.now + lasted
        at = pace.now
        reflector._pause(began, began)
        waits.append(pace.now - at)
    assert waits == [0.0, 0.0]


def test_500_over_http_is_asked_once_a_second_at_most(tmp_path: Path) -> None:
    """The same through the real adapter, whose own retries count too."""
    asked: list[float] = []

    class Failing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = {
                "/api": {"kind": "APIVersions", "versions": ["v1"]},
                "/apis": {"kind": "APIGroupList", "groups": []},
                "/api/v1": {
                    "kind": "APIResourceList",
                    "groupVersion": "v1",
                    "resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True, "verbs": ["list"]}],
                },
            }.get(self.path.partition("?")[0])
            if known is None:
                asked.append(time.monotonic())
            body = json.dumps(known or {"kind": "Status", "code": 500, "reason": "InternalError"}).encode()
            self.send_response(200 if known else 500)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Failing) as web:
        threading.Thread(target=web.serve_forever, args=(0.05,), daemon=True).start()
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{web.server_address[1]}"}}],
            "users": [{"name": "c", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
        cluster = connect(ClusterTarget(kubeconfig=str(tmp_path / "kubeconfig")))
        reflector = Reflector(cluster, Selection(kind=CONFIG_MAP), Told())
        thread = threading.Thread(target=reflector.run)
        thread.start()
        time.sleep(6)
        reflector.stop()
        thread.join(5)
        web.shutdown()
    assert not reflector.synced.is_set()
    assert reflector.failing_since is not None
    assert 3 <= len(asked) <= 8
    assert all(after - before >= 0.99 for before, after in itertools.pairwise(asked[2:]))


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_it_ends_up_with_what_is_there(seed: int, start: Start) -> None:
    """Random changes, broken watches and forgotten history: the store and a replay of the events equal the server."""
    chance, cluster = random.Random(seed), FakeCluster()
    for number in range(8):
        cluster.create(config_map("default", f"c{number}"))
    reflector, told = start(cluster, "default", chance=lambda: 0.0)
    assert reflector.synced.wait(10)
    for step in range(60):
        name = f"c{chance.randrange(10)}"
        there = any(key.name == name for key in stored(cluster, "default"))
        match chance.randrange(6):
            case 0 if there:
                cluster.delete(CONFIG_MAP, name, namespace="default")
            case 1 | 2 | 3:
                manifest = config_map("default", name, str(step))
                cluster.replace(manifest) if there else cluster.create(manifest)
            case 4:
                cluster.drop_watches()
            case 5:
                cluster.drop_watches(Gone("too old"))
                cluster.compact()
            case _:
                time.sleep(0.001)
    expected = stored(cluster, "default")
    until(lambda: {k: m.resource_version for k, m in reflector.objects.items()} == expected, "the same objects")
    until(lambda: told.replayed() == expected, "the same story")
    assert Counter(told.names())["ADDED", "c0"] >= 1
