"""What the fake offers beyond the door: faults, the log of requests, history that is forgotten, broken watches."""

from __future__ import annotations

import time

import pytest

from secretsops.errors import Conflict, Gone, NotFound, ServerFailure, Unreachable
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Answer, Cluster, EventType
from tests.contract.cluster.objects import CONFIG_MAP, SECRET, changed, config_map, secret
from tests.fakes.cluster import FakeCluster, Request


@pytest.fixture
def fake() -> FakeCluster:
    return FakeCluster(namespaces=["shop"])


def test_it_is_a_cluster(fake: FakeCluster) -> None:
    """By type, as the checker sees it."""
    door: Cluster = fake
    assert door.server.startswith("https://")


def test_requests_are_logged_with_their_verb(fake: FakeCluster) -> None:
    """Reads and writes, subresources and refused ones too."""
    created = fake.create(secret("shop"))
    fake.replace(created)
    fake.apply(config_map("shop"), field_manager="x")
    with pytest.raises(NotFound):
        fake.get(SECRET, "two", "shop")
    assert fake.log == [
        Request("create", "secrets", "shop", "one"),
        Request("update", "secrets", "shop", "one"),
        Request("apply", "configmaps", "shop", "one"),
        Request("get", "secrets", "shop", "two"),
    ]
    assert [request.verb for request in fake.writes()] == ["create", "update", "apply"]


def test_faults_meet_matching_requests_alone(fake: FakeCluster) -> None:
    """As often as asked for; others pass."""
    fake.fail(ServerFailure("down", code=500), times=2, verb="create", resource="secrets")
    fake.create(config_map("shop"))
    for _ in range(2):
        with pytest.raises(ServerFailure):
            fake.create(secret("shop"))
    fake.create(secret("shop"))


def test_an_answer_can_be_lost(fake: FakeCluster) -> None:
    """The request is carried out, the caller does not hear of it."""
    fake.fail(Unreachable("lost", reason="NoAnswer"), verb="create", after=True)
    with pytest.raises(Unreachable):
        fake.create(secret("shop"))
    assert fake.get(SECRET, "one", "shop").name == "one"


def test_somebody_else_may_write_in_between(fake: FakeCluster) -> None:
    """`on_request` runs before a request: a race as a straight line."""
    created = fake.create(secret("shop"))

    def interfere(request: Request) -> None:
        if request.verb == "update":
            fake.on_request = None
            fake.patch(SECRET, "one", {"metadata": {"labels": {"a": "b"}}}, namespace="shop")

    fake.on_request = interfere
    with pytest.raises(Conflict):
        fake.replace(changed(created, data={"a": "MQ=="}))


def test_history_can_be_forgotten(fake: FakeCluster) -> None:
    """Watches from before are gone; new ones start."""
    version = fake.create(secret("shop")).resource_version
    fake.create(secret("shop", "two"))
    fake.compact()
    with pytest.raises(Gone), fake.watch(SECRET, resource_version=version, timeout=1) as watch:
        list(watch)
    newest = fake.page(SECRET).resource_version
    with fake.watch(SECRET, resource_version=newest, timeout=0) as watch:
        assert [event.type for event in watch] == [EventType.BOOKMARK]


def test_watches_can_be_dropped_and_bookmarked(fake: FakeCluster) -> None:
    """A bookmark on demand, then a lost connection."""
    with fake.watch(SECRET, timeout=5) as watch:
        fake.bookmark()
        assert next(iter(watch)).type is EventType.BOOKMARK
        fake.drop_watches()
        with pytest.raises(Unreachable):
            list(watch)


def test_objects_can_be_there_from_the_start(fake: FakeCluster) -> None:
    """With status, namespace and uid, past the log; kinds without a definition can be served."""
    kind = GroupVersionKind("bitnami.com", "v1alpha1", "SealedSecret")
    fake.serve(kind, "sealedsecrets")
    metadata = {"name": "one", "namespace": "new", "uid": "u1"}
    fake.seed({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "status": {"seen": 1}})
    found = fake.get(kind, "one", "new")
    assert (found.uid, found.status, found.generation) == ("u1", {"seen": 1}, 1)
    assert fake.writes() == []
    assert fake.get(GroupVersionKind("", "v1", "Namespace"), "new").status["phase"] == "Active"


def test_raw_answers_are_laid_out(fake: FakeCluster) -> None:
    """By method and path."""
    path = "/api/v1/namespaces/kube-system/services/http:sealing:http/proxy/v1/cert.pem"
    fake.answers["GET", path] = Answer(code=200, headers={}, body=b"PEM")
    assert fake.raw("GET", path).body == b"PEM"
    assert fake.raw("GET", "/nothing").code == 404


def test_what_is_read_is_a_copy(fake: FakeCluster) -> None:
    """Whoever alters an object he read does not alter the server's."""
    fake.create(config_map("shop", a="1"))
    fake.get(CONFIG_MAP, "one", "shop").body["data"]["a"] = "2"
    fake.list(CONFIG_MAP)[0].body["data"]["a"] = "3"
    assert fake.get(CONFIG_MAP, "one", "shop").body["data"] == {"a": "1"}
    wanted = Manifest({**config_map("shop", "two", a="1").body})
    fake.create(wanted)
    wanted.body["data"]["a"] = "2"
    assert fake.get(CONFIG_MAP, "two", "shop").body["data"] == {"a": "1"}


def test_ten_thousand_objects_are_no_burden(fake: FakeCluster) -> None:
    """Listing and watching stay linear."""
    fake.seed(*(secret("shop", f"s{number}").body for number in range(10_000)))
    started = time.process_time()
    assert len(fake.list(SECRET)) == 10_000
    with fake.watch(SECRET, resource_version="5", timeout=0) as watch:
        assert sum(event.type is EventType.ADDED for event in watch) == 10_000
    assert time.process_time() - started < 20
