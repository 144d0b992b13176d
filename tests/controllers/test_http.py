"""The HTTP side over real sockets: what it says, what it refuses, what it never says."""

from __future__ import annotations

import base64
import datetime as dt
import http.client
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

import controllers.http
from controllers.http import ANY_METHOD, CONNECTIONS, HttpServer, Limit, Reply, Route
from controllers.metrics import SERIES_LIMIT, Metrics
from controllers.sealing_http import routes
from secretsops.clock import SystemClock
from secretsops.errors import CannotUnseal, UsageError
from secretsops.manifest import Manifest
from secretsops.sealing.keys import KeyRing, generate
from secretsops.sealing.sealed import Wishes, open_sealed, seal_secret

NOW = dt.datetime.now(dt.UTC)
KEY, OTHER = generate(now=NOW, bits=2048), generate(now=NOW, bits=2048)
OLD = generate(now=NOW - dt.timedelta(days=30), bits=2048)
CANARY = "canary-http-77af"
Ask = Callable[..., tuple[int, bytes, Mapping[str, str]]]


@pytest.fixture
def serve() -> Iterator[Callable[[Mapping[str, Route]], Ask]]:
    """Serve routes on a free port; what comes back asks them."""
    servers: list[HttpServer] = []

    def start(found: Mapping[str, Route]) -> Ask:
        server = HttpServer("127.0.0.1:0", found)
        servers.append(server)

        def ask(method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes, Mapping[str, str]]:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            try:
                given = {name.replace("_", "-"): value for name, value in headers.items()}
                connection.request(method, path, body or None, given)
                answer = connection.getresponse()
                return answer.status, answer.read(), dict(answer.getheaders())
            finally:
                connection.close()

        ask.port = server.port  # type: ignore[attr-defined]
        return ask

    yield start
    for server in servers:
        server.close()


def says(text: str, **options: Any) -> Route:
    return Route(answer=lambda _: Reply(code=200, body=text.encode()), **options)


def test_routes_methods_and_paths(serve: Callable[[Mapping[str, Route]], Ask]) -> None:
    echo = Route(methods=frozenset({"POST"}), answer=lambda body: Reply(code=200, body=body[::-1]))
    ask = serve({"/healthz": says("ok\n"), "/echo": echo})
    assert ask("GET", "/healthz")[:2] == (200, b"ok\n")
    assert ask("GET", "/healthz?verbose")[:2] == (200, b"ok\n")
    assert ask("POST", "/echo", b"abc")[:2] == (200, b"cba")
    assert ask("POST", "/echo")[:2] == (200, b"")
    assert ask("GET", "/echo")[0] == 405
    assert ask("GET", "/nothing")[0] == 404
    assert ask("GET", "/healthz/../echo")[0] == 404
    assert ask("DELETE", "/healthz")[0] == 405
    assert ask("HEAD", "/healthz")[:2] == (200, b"")
    assert ask("TRACE", "/healthz")[0] == 501
    assert ask("GET", "/healthz")[2]["Server"] == "secretsops "
    assert ask("GET", "/nothing")[2]["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("length", ["-1", "\xb2", "1e3", "0x10"])
def test_a_body_that_is_too_large_or_of_no_length_is_not_read(
    length: str, serve: Callable[[Mapping[str, Route]], Ask]
) -> None:
    ask = serve({"/echo": Route(methods=ANY_METHOD, answer=lambda body: Reply(code=200, body=body))})
    with socket.create_connection(("127.0.0.1", ask.port), timeout=5) as raw:  # type: ignore[attr-defined]
        raw.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: " + length.encode("latin-1") + b"\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_sends_too_much_hears_so(serve: Callable[[Mapping[str, Route]], Ask]) -> None:
    """It is read to its end and kept nowhere; before, the connection broke while the client was still sending."""
    ask = serve({"/echo": Route(methods=ANY_METHOD, answer=lambda body: Reply(code=200, body=body))})
    assert ask("POST", "/echo", b"x" * (8 * 1024 * 1024))[:2] == (413, b"request too large\n")


def test_costly_routes_are_limited_and_the_others_are_not(serve: Callable[[Mapping[str, Route]], Ask]) -> None:
    """A burst passes, then two a second; a forged X-Forwarded-For changes nothing."""
    ask = serve({"/costly": says("done", limit=Limit(rate=2, burst=2)), "/healthz": says("ok")})
    codes = [ask("GET", "/costly", X_Forwarded_For=f"10.0.0.{number}")[0] for number in range(8)]
    assert codes[:3] == [200] * 3
    assert 429 in codes[3:]
    assert [ask("GET", "/healthz")[0] for _ in range(8)] == [200] * 8
    time.sleep(0.7)
    assert ask("GET", "/costly")[0] == 200


def test_a_limit_counts_as_upstream_counts() -> None:
    """Three at once at a burst of 2, then two a second; the headers say what is left (recorded: rate limit case)."""
    now = [100.0]
    limit = Limit(rate=2, burst=2, monotonic=lambda: now[0])
    told = []
    for _ in range(4):
        passes, headers = limit.enter()
        told.append((passes, *(headers.get(f"X-RateLimit-{name}") for name in ("Remaining", "Reset"))))
        if passes:
            limit.leave()
    assert told == [(True, "2", "1"), (True, "1", "1"), (True, "0", "2"), (False, "0", "2")]
    assert limit.enter()[1]["Retry-After"] == "1"
    now[0] += 0.5
    assert limit.enter()[0]
    now[0] += 60
    assert [limit.enter()[0] for _ in range(3)] == [True, False, False], "two at a time"


def test_a_bug_in_a_route_costs_its_answer_and_tells_nothing(
    serve: Callable[[Mapping[str, Route]], Ask], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_body: bytes) -> Reply:
        raise ValueError(CANARY)

    ask = serve({"/broken": Route(answer=broken, limit=Limit(rate=2, burst=2)), "/healthz": says("ok")})
    with caplog.at_level(logging.DEBUG):
        code, body, _ = ask("GET", "/broken")
    assert (code, body) == (500, b"internal error\n")
    assert "ValueError" in str([record.__dict__ for record in caplog.records])
    assert CANARY not in str([record.__dict__ for record in caplog.records])
    assert ask("GET", "/healthz")[0] == 200


def test_slow_and_many_clients_do_not_stop_it(
    serve: Callable[[Mapping[str, Route]], Ask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections that send a byte now and then end after their total time; the place is free again."""
    monkeypatch.setattr(controllers.http, "TOTAL_SECONDS", 0.5)
    ask = serve({"/healthz": says("ok")})
    address = ("127.0.0.1", ask.port)  # type: ignore[attr-defined]
    slow = [socket.create_connection(address, timeout=5) for _ in range(CONNECTIONS + 8)]
    try:
        for connection in slow:
            try:
                connection.sendall(b"GET /healthz HT")
            except OSError:
                continue  # turned away
        time.sleep(1)
        assert ask("GET", "/healthz")[0] == 200
    finally:
        for connection in slow:
            connection.close()


@pytest.mark.parametrize("address", ["", "8080", "127.0.0.1", ":http", ":99999", ":-1", ":\xb2"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        HttpServer(address, {})
    assert caught.value.reason == "BadAddress"
    assert caught.value.hint


def test_a_taken_port_is_said(serve: Callable[[Mapping[str, Route]], Ask]) -> None:
    ask = serve({})
    with pytest.raises(UsageError, match="cannot listen"):
        HttpServer(f"127.0.0.1:{ask.port}", {})  # type: ignore[attr-defined]


# --- sealing ---------------------------------------------------------------------------------------------


def sealed(key: Any = KEY, **template: Any) -> dict[str, Any]:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "db", "namespace": "shop"},
        "stringData": {"password": CANARY},
    }
    body = seal_secret(secret, key.certificate.public, Wishes(), default_namespace=lambda: "")
    body["spec"]["template"] |= template
    return body


@pytest.fixture
def sealing(serve: Callable[[Mapping[str, Route]], Ask]) -> Ask:
    """Serve sealing's routes with an old key and the present one."""
    return serve(routes(lambda: KeyRing([KEY, OLD]), SystemClock(), burst=100))


def test_the_certificate_is_served_and_nothing_of_the_key(sealing: Ask) -> None:
    code, body, headers = sealing("GET", "/v1/cert.pem")
    assert (code, headers["Content-Type"]) == (200, "application/x-pem-file")
    assert body == KEY.certificate.pem
    assert body.count(b"-----BEGIN") == 1


def test_without_a_key_there_is_no_certificate(serve: Callable[[Mapping[str, Route]], Ask]) -> None:
    ask = serve(routes(KeyRing, SystemClock()))
    assert ask("GET", "/v1/cert.pem")[0] == 503


def test_verify_says_yes_or_no_and_nothing_else(sealing: Ask) -> None:
    """The answers' bodies are empty: which item, which key and why stay inside."""
    assert sealing("POST", "/v1/verify", json.dumps(sealed()).encode())[:2] == (200, b"")
    assert sealing("POST", "/v1/verify", json.dumps(sealed(OTHER)).encode())[:2] == (409, b"")
    moved = sealed()
    moved["metadata"]["namespace"] = "elsewhere"
    assert sealing("POST", "/v1/verify", json.dumps(moved).encode())[:2] == (409, b"")


def test_verify_renders_no_template(sealing: Ask) -> None:
    """A caller's template could compare a value with a guess, and answer by failing or not."""
    template = {"data": {"x": '{{ if eq (slice .password 0 6) "canary" }}{{ fail "yes" }}{{ end }}'}}
    assert sealing("POST", "/v1/verify", json.dumps(sealed(**template)).encode())[:2] == (200, b"")


def test_verify_takes_no_scope_from_the_template(sealing: Ask) -> None:
    """The scope is what `metadata.annotations` say; a template cannot widen it."""
    metadata = {"annotations": {"sealedsecrets.bitnami.com/cluster-wide": "true"}}
    body = sealed(metadata=metadata)
    body["metadata"]["name"] = "other"
    assert sealing("POST", "/v1/verify", json.dumps(body).encode())[0] == 409


BROKEN = [
    b"",
    b"{",
    b"\x00\xff",
    b"null",
    b"[]",
    b"kind: Secret\napiVersion: v1\n",
    json.dumps(sealed()).encode() * 2,
    json.dumps({**sealed(), "metadata": []}).encode(),
    b"a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b]\n",
    b"[" * 100_000,
]
REFUSED = [
    json.dumps({**sealed(), "spec": "text"}).encode(),
    json.dumps({**sealed(), "spec": {"encryptedData": ["a"]}}).encode(),
    json.dumps({**sealed(), "spec": {"encryptedData": {"a": 1}, "template": {"metadata": 3}}}).encode(),
    json.dumps(sealed(OTHER)).encode(),
]


@pytest.mark.parametrize("body", BROKEN)
def test_what_is_not_one_sealed_secret_is_answered_500(body: bytes, sealing: Ask) -> None:
    """Nothing is said of why, and nothing ends the process (upstream's verify panics on some YAML)."""
    assert sealing("POST", "/v1/verify", body)[:2] == (500, b"")
    assert sealing("POST", "/v1/rotate", body)[:2] == (500, b"")


@pytest.mark.parametrize("body", REFUSED)
def test_hostile_objects_are_answered_no(body: bytes, sealing: Ask) -> None:
    code, text, _ = sealing("POST", "/v1/verify", body)
    assert (code, text) in ((409, b""), (500, b""))
    assert sealing("POST", "/v1/rotate", body)[:2] == (500, b"")


def test_rotate_seals_again_by_the_newest_key(sealing: Ask) -> None:
    """Same values, newest key, own scope; the answer holds ciphertext alone, and what was new already stays."""
    code, text, _ = sealing("POST", "/v1/rotate", json.dumps(sealed(OLD)).encode())
    again = Manifest({"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", **json.loads(text)})
    assert code == 200
    assert CANARY.encode() not in text
    opened = open_sealed(again, KeyRing([KEY]))
    assert opened.secret.body["data"] == {"password": base64.b64encode(CANARY.encode()).decode()}
    new = sealed()
    rotated = json.loads(sealing("POST", "/v1/rotate", json.dumps(new).encode())[1])
    assert rotated["spec"]["encryptedData"] == new["spec"]["encryptedData"]


def test_rotate_keeps_the_scope_against_a_forged_template(sealing: Ask) -> None:
    """CVE-2026-22728: the template's annotations once decided the scope of what was sealed again."""
    body = sealed(OLD)
    body["spec"]["template"]["metadata"] = {"annotations": {"sealedsecrets.bitnami.com/cluster-wide": "true"}}
    again = json.loads(sealing("POST", "/v1/rotate", json.dumps(body).encode())[1])
    again["metadata"]["name"] = "elsewhere"
    again["metadata"]["annotations"] = {"sealedsecrets.bitnami.com/cluster-wide": "true"}
    with pytest.raises(CannotUnseal):
        open_sealed(Manifest({"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", **again}), KeyRing([KEY]))


def test_rotate_renders_no_template_and_bakes_nothing_in(sealing: Ask) -> None:
    """#2049: a template that fails or not was a question about the value; rendered text became ciphertext."""
    template = {"data": {"url": '{{ fail "yes" }}', "copy": "{{ .password }}"}}
    code, text, _ = sealing("POST", "/v1/rotate", json.dumps(sealed(OLD, **template)).encode())
    spec = json.loads(text)["spec"]
    assert code == 200
    assert spec["template"]["data"] == template["data"]
    assert list(spec["encryptedData"]) == ["password"]


# --- metrics ---------------------------------------------------------------------------------------------


def test_metrics_are_exposed_in_prometheus_format_with_bounded_series() -> None:
    metrics = Metrics()
    for number in range(SERIES_LIMIT + 50):
        metrics.count("errors_total", "Errors.", reason=f"R{number}")
    metrics.count("odd_total", "Odd labels.", reason='a"b\\c\nd')
    metrics.observe("seconds", 0.05, part="p")
    metrics.gauge("depth", "Depth.", lambda: {'name="p"': 3.0})
    metrics.gauge("adds_total", "Adds.", lambda: {"": 4.0}, counter=True)
    lines = metrics.text().splitlines()
    assert len([line for line in lines if line.startswith("secretsops_errors_total{")]) == SERIES_LIMIT + 1
    assert 'secretsops_errors_total{reason="other"} 50' in lines
    assert 'secretsops_odd_total{reason="a\\"b\\\\c\\nd"} 1' in lines
    assert "# TYPE secretsops_adds_total counter" in lines
    assert 'secretsops_depth{name="p"} 3' in lines
    assert [line for line in lines if "secretsops_seconds_bucket" in line] == [
        f'secretsops_seconds_bucket{{part="p",le="{bound}"}} {value}'
        for bound, value in zip(
            ["0.005", "0.025", "0.1", "0.5", "2.5", "10", "+Inf"], [0, 0, 1, 1, 1, 1, 1], strict=True
        )
    ]
