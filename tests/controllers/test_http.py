"""The HTTP side: routes, limits, and no way to make it an oracle."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import socket
from collections.abc import Iterator

import pytest

from controllers.http import BODY_LIMIT, BURST, HttpServer, Reply, Route
from controllers.metrics import SERIES_LIMIT, Metrics
from controllers.sealing_http import routes
from secretsops.clock import SystemClock
from secretsops.errors import UsageError
from secretsops.manifest import Manifest
from secretsops.sealing.keys import KeyPair, KeyRing, generate
from secretsops.sealing.scope import Scope
from secretsops.sealing.sealed import seal_value
from secretsops.secret import Plaintext


@pytest.fixture(scope="module")
def key() -> KeyPair:
    return generate(now=dt.datetime.now(dt.UTC) - dt.timedelta(hours=1), bits=2048)


@pytest.fixture
def server(key: KeyPair) -> Iterator[HttpServer]:
    ring = KeyRing([key])
    found = HttpServer("127.0.0.1:0", {**routes(lambda: ring, SystemClock()), "/ok": Route(method="GET", answer=_ok)})
    yield found
    found.close()


def _ok(_body: bytes) -> Reply:
    return Reply(code=200, body=b"ok")


def ask(server: HttpServer, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def sealed(key: KeyPair, name: str = "db") -> bytes:
    item = seal_value(
        Plaintext(b"hunter2-hunter2"), key.certificate.public, scope=Scope.STRICT, namespace="shop", name="db"
    )
    body = {
        "apiVersion": "bitnami.com/v1alpha1",
        "kind": "SealedSecret",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"encryptedData": {"password": item}},
    }
    return json.dumps(Manifest(body).body).encode()


def test_the_certificate_is_served(server: HttpServer, key: KeyPair) -> None:
    """As upstream's clients fetch it."""
    assert ask(server, "GET", "/v1/cert.pem") == (200, key.certificate.pem)


def test_verify_says_yes_or_no_and_nothing_else(server: HttpServer, key: KeyPair) -> None:
    """What opens is 200, what does not, or is no SealedSecret, is 409; the answer never has a body."""
    assert ask(server, "POST", "/v1/verify", sealed(key)) == (200, b"")
    assert ask(server, "POST", "/v1/verify", sealed(key, name="other")) == (409, b"")


@pytest.mark.parametrize("body", [b"", b"{", b"a: &a [*a]", b"[]", b"kind: Secret\napiVersion: v1\n"])
def test_verify_takes_hostile_bodies(server: HttpServer, body: bytes) -> None:
    """Whatever is sent, the answer is no."""
    assert ask(server, "POST", "/v1/verify", body) == (409, b"")


def test_verify_is_rate_limited_whoever_asks(server: HttpServer, key: KeyPair) -> None:
    """The bucket does not look at X-Forwarded-For."""
    codes = [ask(server, "POST", "/v1/verify", sealed(key), **{"X-Forwarded-For": f"10.0.0.{n}"})[0] for n in range(12)]
    assert codes[:BURST] == [200] * BURST
    assert 429 in codes


def test_limits_and_methods(server: HttpServer) -> None:
    """Unknown paths, wrong methods and large bodies are refused before anything is read."""
    assert ask(server, "GET", "/nothing")[0] == 404
    assert ask(server, "POST", "/ok", b"x")[0] == 405
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.putrequest("POST", "/v1/verify")
    connection.putheader("Content-Length", str(BODY_LIMIT + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_rubbish_does_not_end_the_server(server: HttpServer) -> None:
    """Bytes that are no HTTP cost one connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        raw.recv(1024)
    assert ask(server, "GET", "/ok") == (200, b"ok")


def test_a_taken_port_is_said(server: HttpServer) -> None:
    """With the address and a hint."""
    with pytest.raises(UsageError, match="cannot listen"):
        HttpServer(f"127.0.0.1:{server.port}", {})
    with pytest.raises(UsageError, match="no address"):
        HttpServer("localhost", {})


def test_metrics_are_bounded_and_well_formed() -> None:
    """Label sets past the limit count under `other`; quotes and line breaks are escaped."""
    metrics = Metrics()
    for number in range(SERIES_LIMIT + 50):
        metrics.count("errors_total", "Errors.", reason=f"r{number}")
    metrics.observe("seconds", 0.05, part="x")
    metrics.gauge("leader", "1 while acting.", lambda: {"": 1.0})
    metrics.count("odd_total", "Odd.", reason='a"b\nc')
    text = metrics.text()
    assert text.count("secretsops_errors_total{") == SERIES_LIMIT + 1
    assert 'secretsops_errors_total{reason="other"} 50' in text
    assert 'reason="a\\"b\\nc"' in text
    assert 'secretsops_seconds_bucket{part="x",le="0.1"} 1' in text
    assert "secretsops_leader 1\n" in text
