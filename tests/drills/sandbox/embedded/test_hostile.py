"""Clients that mean harm, or are broken, on the stand-in: each costs an error, none the server."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from drills.sandbox.embedded.http import BODY_LIMIT, HEAD_LIMIT
from drills.sandbox.embedded_cluster import EmbeddedCluster

MANY = 1000


@contextmanager
def connected(cluster: EmbeddedCluster) -> Iterator[ssl.SSLSocket]:
    """Open a TLS connection."""
    context = ssl.create_default_context(cafile=str(cluster.pki.ca))
    plain = socket.create_connection(("127.0.0.1", cluster.port), timeout=30)
    with plain, context.wrap_socket(plain, server_hostname="localhost") as secured:
        yield secured


def head(cluster: EmbeddedCluster, line: str, **headers: str) -> bytes:
    """Write a request's head."""
    told = {"Host": "localhost", "Authorization": f"Bearer {cluster.token}", **headers}
    return "\r\n".join([line, *(f"{name.replace('_', '-')}: {value}" for name, value in told.items()), "", ""]).encode()


def answer(client: ssl.SSLSocket) -> int:
    """Read the status of an answer, 0 when the connection ended without one."""
    content = b""
    try:
        while b"\r\n\r\n" not in content and (part := client.recv(65536)):
            content += part
    except (ConnectionError, ssl.SSLError):
        return 0
    return int(content.split(b" ")[1]) if content else 0


def post(cluster: EmbeddedCluster, body: bytes, content_type: str = "application/json") -> int:
    """POST a ConfigMap."""
    line = "POST /api/v1/namespaces/default/configmaps HTTP/1.1"
    with connected(cluster) as client:
        client.sendall(head(cluster, line, Content_Length=str(len(body)), Content_Type=content_type) + body)
        return answer(client)


def _left(client: ssl.SSLSocket) -> int:
    """Count the bytes that come until the connection ends."""
    seen = 0
    with suppress(ConnectionError, ssl.SSLError):
        while part := client.recv(1 << 20):
            seen += len(part)
    return seen


@pytest.fixture(autouse=True)
def _still_serves(embedded_cluster: EmbeddedCluster) -> Iterator[None]:
    yield
    begun = time.monotonic()
    assert embedded_cluster.api().text("/readyz") == "ok"
    assert time.monotonic() - begun < 2
    assert embedded_cluster.running


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"1", b'"text"', b"{}", b'{"metadata": []}', b'{"metadata": {"name": []}}',
        b'{"metadata": {"labels": 1}}', b'{"metadata": {"name": "a", "ownerReferences": [1]}}', b"\xff\xfe\x00",
        b"[" * 100_000, b'{"a":' * 50_000, b'{"metadata": {"name": "a"}, "data": {"a": {"b": 1}}}',
        b'{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}', b'{"metadata": {"name": "\\u0000"}}',
        b'{"metadata": {"name": "a", "managedFields": [{"fieldsV1": 3}]}, "data": 4}',
    ],
)  # fmt: skip
def test_a_body_that_is_none_is_refused(embedded_cluster: EmbeddedCluster, body: bytes) -> None:
    """Broken JSON, JSON of another shape, and nesting without end: 400 or 422."""
    assert post(embedded_cluster, body) in (400, 422)


@pytest.mark.parametrize("body", [b"k8s\x00", b"k8s\x00\xff\xff\xff", b"k8s\x00" + b"\x0a\x7f" * 50, b"x" * 100])
def test_protobuf_that_is_none_is_refused(embedded_cluster: EmbeddedCluster, body: bytes) -> None:
    """Cut off, endless or random."""
    assert post(embedded_cluster, body, "application/vnd.kubernetes.protobuf") == 400


@pytest.mark.parametrize("body", [b"a: &a [*a]", b"a: b: c", b"\x00", b"- a", b"--- a\n--- b"])
def test_yaml_that_is_none_is_refused(embedded_cluster: EmbeddedCluster, body: bytes) -> None:
    """What apply may send as YAML."""
    path = "/api/v1/namespaces/default/configmaps/hostile?fieldManager=test"
    with connected(embedded_cluster) as client:
        length = str(len(body))
        line = f"PATCH {path} HTTP/1.1"
        told = head(embedded_cluster, line, Content_Length=length, Content_Type="application/apply-patch+yaml")
        client.sendall(told + body)
        assert answer(client) == 400


def test_an_oversized_body_is_refused_before_it_is_read(embedded_cluster: EmbeddedCluster) -> None:
    """3 MiB, as the real server takes; announced or sent in chunks."""
    line = "POST /api/v1/namespaces/default/configmaps HTTP/1.1"
    with connected(embedded_cluster) as client:
        client.sendall(head(embedded_cluster, line, Content_Length=str(BODY_LIMIT + 1)))
        assert answer(client) == 413
    with connected(embedded_cluster) as client:
        client.sendall(head(embedded_cluster, line, Transfer_Encoding="chunked"))
        client.sendall(b"7fffffff\r\n")
        assert answer(client) == 413


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\x01\x02\x03\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n", b"GET / HTTP/1.1\r\nA: " + b"x" * (HEAD_LIMIT + 10),
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
    ],
    ids=range(7),
)  # fmt: skip
def test_what_is_no_http_is_refused(embedded_cluster: EmbeddedCluster, content: bytes) -> None:
    """400, 413 or 431, or no answer and a closed connection."""
    with connected(embedded_cluster) as client:
        client.sendall(content)
        assert answer(client) in (0, 400, 413, 431)


@pytest.mark.parametrize(
    "path", ["/api/v1/../secrets", "/api/v1/namespaces//pods", "/apis/%00/v1/x", "//", "/api/v1/" + "a/" * 500]
)
def test_strange_paths_are_not_found(embedded_cluster: EmbeddedCluster, path: str) -> None:
    """404 and nothing else."""
    with connected(embedded_cluster) as client:
        client.sendall(head(embedded_cluster, f"GET {path} HTTP/1.1"))
        assert answer(client) in (400, 404)


def test_who_has_no_token_gets_nothing(embedded_cluster: EmbeddedCluster) -> None:
    """401, also for a token that somebody else signed."""
    for token in ("", "Bearer", "Bearer x", "Bearer a.b.c", "Bearer " + "e30." * 3):
        with connected(embedded_cluster) as client:
            client.sendall(head(embedded_cluster, "GET /api/v1/secrets HTTP/1.1", Authorization=token))
            assert answer(client) == 401


def test_a_slow_sender_does_not_hold_the_others_up(embedded_cluster: EmbeddedCluster) -> None:
    """A hundred clients that send one byte wait alone; the server answers meanwhile."""
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connected(embedded_cluster)).sendall(b"G")
        assert embedded_cluster.api().text("/readyz") == "ok"


def test_a_thousand_idle_watches_cost_little(embedded_cluster: EmbeddedCluster) -> None:
    """They stay open, hear of changes, and go; a write beside them takes its usual time."""
    path = "/api/v1/namespaces/default/configmaps?watch=true&timeoutSeconds=60"
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(embedded_cluster)) for _ in range(MANY)]
        for client in clients:
            client.sendall(head(embedded_cluster, f"GET {path} HTTP/1.1"))
        assert {answer(client) for client in clients} == {200}
        begun = time.monotonic()
        body = {"metadata": {"name": "watched"}, "data": {"a": "1"}}
        embedded_cluster.api().call("POST", "/api/v1/namespaces/default/configmaps", body)
        assert time.monotonic() - begun < 2
        assert b"watched" in clients[-1].recv(65536) + clients[-1].recv(65536)
    embedded_cluster.api().call("DELETE", "/api/v1/namespaces/default/configmaps/watched")


def test_a_watcher_that_does_not_read_is_cut_off(embedded_cluster: EmbeddedCluster) -> None:
    """Its connection ends; what waits for it does not fill the memory."""
    api = embedded_cluster.api()
    api.call("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "big"}, "data": {}})
    with connected(embedded_cluster) as client:
        path = "/api/v1/namespaces/default/configmaps?watch=true&fieldSelector=metadata.name=big"
        client.sendall(head(embedded_cluster, f"GET {path} HTTP/1.1"))
        for number in range(24):
            text = json.dumps({"data": {"a": f"{number}" + "x" * 900_000}})
            api.call("PATCH", "/api/v1/namespaces/default/configmaps/big", json.loads(text),
                     content_type="application/merge-patch+json")  # fmt: skip
        assert _left(client) < 24 * 900_000
    api.call("DELETE", "/api/v1/namespaces/default/configmaps/big")
