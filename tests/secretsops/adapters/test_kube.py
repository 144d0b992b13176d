"""The cluster door when things go wrong: retries, truncated answers, watches that break, answers too large.

What a healthy API server does is the contract suite's matter (`tests/contract/cluster`).
"""

from __future__ import annotations

import datetime as dt
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secretsops.adapters import kube
from secretsops.adapters.kube import KubeCluster, connect
from secretsops.errors import (
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    NotFound,
    ServerFailure,
    TooManyRequests,
    Unauthorized,
    Unreachable,
    UsageError,
)
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import ClusterTarget, EventType
from tests.secretsops.adapters.api_server import DISCOVERY, ApiServer, Reply, Seen, api_server

CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
ONE = Manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "namespace": "shop"}})
SECRET = Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one", "namespace": "shop"}})


class Hurried:
    """A clock whose sleeps are noted and take no time."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as running:
        yield running


@pytest.fixture
def clock() -> Hurried:
    return Hurried()


@pytest.fixture
def cluster(server: ApiServer, clock: Hurried, tmp_path: Path) -> KubeCluster:
    return connect(ClusterTarget(kubeconfig=kubeconfig(tmp_path, server.url), timeout=5), clock=clock)


def kubeconfig(folder: Path, url: str, user: Any = None, **cluster: Any) -> str:
    """Write a kubeconfig of one context and give its path."""
    path = folder / "kubeconfig"
    body = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url, **cluster}}],
        "users": [{"name": "u", "user": user or {"token": "t0"}}],
    }
    path.write_text(json.dumps(body))
    return str(path)


def _refusal(code: int, reason: str, **headers: str) -> Reply:
    status = {"kind": "Status", "code": code, "reason": reason, "message": f"said {reason}"}
    return Reply(code, status, {name.replace("_", "-"): value for name, value in headers.items()})


# --- retries -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [429, 503])
def test_the_servers_delay_is_honoured(server: ApiServer, cluster: KubeCluster, clock: Hurried, code: int) -> None:
    """Refused with Retry-After: wait as long as told, then send again, also a POST (it was not carried out)."""
    server.script(
        _refusal(code, "Busy", Retry_After="3"), _refusal(code, "Busy", Retry_After="1"), Reply(201, ONE.body)
    )
    assert cluster.create(ONE).name == "one"
    assert clock.slept == [3.0, 1.0]
    assert [seen.method for seen in server.seen] == ["POST"] * 3


def test_a_long_delay_is_capped_and_patience_ends(server: ApiServer, cluster: KubeCluster, clock: Hurried) -> None:
    """Five attempts, 30 seconds at most between them; then the error says how long the server wanted."""
    server.script(_refusal(429, "TooManyRequests", Retry_After="3600"))
    with pytest.raises(TooManyRequests) as caught:
        cluster.get(CONFIG_MAP, "one", "shop")
    assert (len(server.seen), clock.slept) == (kube.ATTEMPTS, [kube.RETRY_AFTER_LIMIT] * (kube.ATTEMPTS - 1))
    assert caught.value.retry_after == 3600.0


def test_a_refusal_without_delay_is_not_repeated(server: ApiServer, cluster: KubeCluster) -> None:
    """Whoever loops decides about its own back-off."""
    server.script(_refusal(500, "InternalError"))
    with pytest.raises(ServerFailure):
        cluster.get(CONFIG_MAP, "one", "shop")
    assert len(server.seen) == 1


def test_a_create_that_may_have_happened_is_not_repeated(server: ApiServer, cluster: KubeCluster) -> None:
    """A dropped connection after the request, or a 504 with a delay: a POST is sent once."""
    for reply in (Reply(drop=True), _refusal(504, "Timeout", Retry_After="1")):
        server.seen.clear()
        server.script(reply)
        with pytest.raises((Unreachable, ServerFailure)):
            cluster.create(ONE)
        assert len(server.seen) == 1


def test_a_read_and_an_apply_survive_a_dropped_connection(server: ApiServer, cluster: KubeCluster) -> None:
    """Repeating them does no harm, so they are repeated."""
    server.script(Reply(drop=True), Reply(200, ONE.body), Reply(drop=True), Reply(200, ONE.body))
    assert cluster.get(CONFIG_MAP, "one", "shop").name == "one"
    assert cluster.apply(ONE, field_manager="test").name == "one"
    assert [seen.method for seen in server.seen] == ["GET", "GET", "PATCH", "PATCH"]


def test_an_answer_that_breaks_off_is_read_again(server: ApiServer, cluster: KubeCluster) -> None:
    """Half a body is no answer."""
    server.script(Reply(200, b'{"half": ', cut=True), Reply(200, ONE.body))
    assert cluster.get(CONFIG_MAP, "one", "shop").name == "one"


def test_nobody_listens(tmp_path: Path, clock: Hurried) -> None:
    """An API server that is down is Unreachable with a hint, after a few tries and within seconds."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    cluster = connect(ClusterTarget(kubeconfig=kubeconfig(tmp_path, f"http://127.0.0.1:{port}")), clock=clock)
    with pytest.raises(Unreachable, match=str(port)) as caught:
        cluster.raw("GET", "/readyz")
    assert (caught.value.reason, caught.value.code) == ("ConnectFailed", 0)
    assert "kubectl" in caught.value.hint
    with pytest.raises(Unreachable):
        cluster.get(CONFIG_MAP, "one", "shop")
    assert len(clock.slept) == 2


def test_a_server_that_says_nothing_times_out(tmp_path: Path, clock: Hurried) -> None:
    """No answer within the target's timeout is Unreachable."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        cluster = connect(ClusterTarget(kubeconfig=kubeconfig(tmp_path, url), timeout=0.2), clock=clock)
        with pytest.raises(Unreachable) as caught:
            cluster.raw("GET", "/readyz")
    assert caught.value.reason == "NoAnswer"


def test_what_is_no_json_is_a_failure(server: ApiServer, cluster: KubeCluster) -> None:
    """A login page of a proxy is no object, and is not quoted."""
    server.script(Reply(200, b"<html>canary</html>"))
    with pytest.raises(ServerFailure) as caught:
        cluster.get(CONFIG_MAP, "one", "shop")
    assert caught.value.reason == "NotJson"
    assert "canary" not in str(caught.value)


def test_an_answer_is_bounded(server: ApiServer, cluster: KubeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless answer costs an error, not the process."""
    monkeypatch.setattr(kube, "RESPONSE_LIMIT", 1000)
    server.script(Reply(200, b"x" * 5000))
    with pytest.raises(ServerFailure) as caught:
        cluster.get(CONFIG_MAP, "one", "shop")
    assert caught.value.reason == "TooLarge"


def test_a_list_whose_pages_expire_is_read_in_one_piece(server: ApiServer, cluster: KubeCluster) -> None:
    """A slow reader of a busy cluster still gets its list."""
    page = {"metadata": {"resourceVersion": "5", "continue": "token"}, "items": [ONE.body]}
    whole = {"metadata": {"resourceVersion": "9"}, "items": [ONE.body, ONE.body]}
    server.script(Reply(200, page), _refusal(410, "Expired"), Reply(200, whole))
    assert len(cluster.list(CONFIG_MAP)) == 2
    assert "continue=token" in server.seen[1].path
    assert "continue" not in server.seen[2].path


# --- errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (401, "Unauthorized", Unauthorized),
        (403, "Forbidden", Forbidden),
        (404, "NotFound", NotFound),
        (409, "Conflict", Conflict),
        (410, "Expired", Gone),
        (500, "InternalError", ServerFailure),
        (502, "", ServerFailure),
        (418, "", ServerFailure),
    ],
)
def test_a_status_becomes_an_error_of_ours(
    server: ApiServer, cluster: KubeCluster, code: int, reason: str, error: type[ApiError]
) -> None:
    """By code and reason of the Status."""
    server.script(_refusal(code, reason))
    with pytest.raises(error) as caught:
        cluster.get(CONFIG_MAP, "one", "shop")
    assert (caught.value.code, caught.value.reason) == (code, reason or error.__name__)
    assert "/namespaces/shop/configmaps/one" in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message", "kept"),
    [
        (422, 'Secret "one" is invalid: data: Invalid value: "canary"', ""),
        (500, "failed to create typed patch object: .data.a: canary", ""),
        (403, 'admission webhook "policy.example.com" denied the request: canary', "policy.example.com"),
        (403, "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: canary", "'p'"),
        (403, 'secrets "one" is forbidden: User "dev" cannot create resource', "cannot create"),
        (500, 'Internal error occurred: failed calling webhook "w": dial tcp: refused', "refused"),
    ],
)
def test_an_error_about_a_secret_keeps_to_itself(
    server: ApiServer, cluster: KubeCluster, code: int, message: str, kept: str
) -> None:
    """Values may be quoted by the server and by whoever admits; what cannot hold one stays, for it helps."""
    server.script(Reply(code, {"kind": "Status", "code": code, "message": message}))
    with pytest.raises(ApiError) as caught:
        cluster.create(SECRET)
    assert "canary" not in str(caught.value)
    assert kept in str(caught.value)


# --- watches -------------------------------------------------------------------------------------------


def _line(event: str, **body: Any) -> bytes:
    return json.dumps({"type": event, "object": body}).encode() + b"\n"


def test_a_watch_that_ends_within_a_line_is_a_broken_one(server: ApiServer, cluster: KubeCluster) -> None:
    """Whole events are given; half of one is an error that tells the caller to resume, never an event."""
    good = _line("ADDED", **ONE.body)
    for reply in (Reply(200, good + good[:30]), Reply(200, good + good[:30], cut=True), Reply(200, good, cut=True)):
        server.script(reply)
        with cluster.watch(CONFIG_MAP) as watch:
            assert next(iter(watch)).object.name == "one"
            with pytest.raises(Unreachable) as caught:
                list(watch)
        assert caught.value.reason == "NoAnswer"
    server.script(Reply(200, good))
    with cluster.watch(CONFIG_MAP) as watch:
        assert [event.type for event in watch] == [EventType.ADDED]


def test_an_error_line_is_raised(server: ApiServer, cluster: KubeCluster) -> None:
    """410 inside the stream is Gone, as it is outside."""
    server.script(Reply(200, _line("ADDED", **ONE.body) + _line("ERROR", kind="Status", code=410, reason="Expired")))
    with cluster.watch(CONFIG_MAP) as watch:
        assert next(iter(watch)).type is EventType.ADDED
        with pytest.raises(Gone):
            list(watch)


@pytest.mark.parametrize("line", [b"not json\n", b"[]\n", b'{"type": "NEWS", "object": {}}\n', b'{"object": {}}\n'])
def test_what_is_no_event_is_a_failure(server: ApiServer, cluster: KubeCluster, line: bytes) -> None:
    """A stream of something else ends in an error of ours."""
    server.script(Reply(200, line))
    with pytest.raises(ServerFailure), cluster.watch(CONFIG_MAP) as watch:
        list(watch)


def test_a_line_is_bounded(server: ApiServer, cluster: KubeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without an end costs an error, not the process."""
    monkeypatch.setattr(kube, "LINE_LIMIT", 1000)
    server.script(Reply(200, b"x" * 100_000))
    with pytest.raises(ServerFailure) as caught, cluster.watch(CONFIG_MAP) as watch:
        list(watch)
    assert caught.value.reason == "TooLarge"


def test_a_watch_is_opened_again_when_the_server_says_when(
    server: ApiServer, cluster: KubeCluster, clock: Hurried
) -> None:
    """A storage that initializes answers 429 with a delay."""
    server.script(_refusal(429, "TooManyRequests", Retry_After="1"), Reply(200, _line("ADDED", **ONE.body)))
    with cluster.watch(CONFIG_MAP, resource_version="5", timeout=7) as watch:
        assert len(list(watch)) == 1
    assert clock.slept == [1.0]
    assert "allowWatchBookmarks=true" in server.seen[0].path
    assert "timeoutSeconds=7" in server.seen[0].path
    assert "resourceVersion=5" in server.seen[0].path


# --- discovery -----------------------------------------------------------------------------------------


def test_an_older_server_is_discovered_group_by_group(
    server: ApiServer, cluster: KubeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without aggregated discovery every group version is asked; one whose own server is down is left out."""
    old: dict[str, Any] = {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {
            "kind": "APIGroupList",
            "groups": [
                {"name": "apps", "versions": [{"groupVersion": "apps/v1", "version": "v1"}]},
                {"name": "down", "versions": [{"groupVersion": "down/v1", "version": "v1"}]},
            ],
        },
    }
    lists: dict[str, list[dict[str, Any]]] = {
        "/api/v1": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True, "verbs": ["get"]}],
        "/apis/apps/v1": [
            {"name": "deployments", "kind": "Deployment", "namespaced": True, "verbs": ["get"]},
            {"name": "deployments/status", "kind": "Deployment", "namespaced": True, "verbs": ["get"]},
        ],
    }
    for path, document in old.items():
        monkeypatch.setitem(DISCOVERY, path, document)

    def answer(seen: Seen) -> Reply:
        found = lists.get(seen.path)
        return Reply(200, {"resources": found}) if found else Reply(503, {"code": 503})

    server.answer = answer
    found = {str(resource.kind): resource for resource in cluster.resources()}
    assert sorted(found) == ["apps/v1/Deployment", "v1/ConfigMap"]
    assert found["apps/v1/Deployment"].subresources == {"status"}


def test_discovery_is_cached(server: ApiServer, cluster: KubeCluster) -> None:
    """A known kind costs no further discovery; the requests that remain are our own."""
    server.script(Reply(200, ONE.body))
    for _ in range(3):
        cluster.get(CONFIG_MAP, "one", "shop")
    assert len(server.seen) == 3


def test_there_is_no_such_kubeconfig(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(UsageError, match="nowhere"):
        connect(ClusterTarget(kubeconfig=str(tmp_path / "nowhere")))
