"""Webhooks against a server that says what it is told: what is sent, what is taken, and where nothing is sent."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

from secretsops.adapters.webhook import WebhookSource
from secretsops.errors import SecretsOpsError, StoreRefused, StoreUnavailable, TemplateFailed
from secretsops.secret import Plaintext
from secretsops.sources import WebhookAccess
from tests.contract.secret_source.test_error_answers import CANARY, Moody, moody

__all__ = ["moody"]
SECRETS = {"auth": {"token": Plaintext(b"s3cr&t/x"), "user": Plaintext(b"u")}}


def hook(server: Moody, url: str = "/v1/{{ .remoteRef.key }}", **more: Any) -> WebhookSource:
    return WebhookSource(WebhookAccess(url=server.url + url, secrets=SECRETS, **more))


def test_references_and_secrets_are_put_into_the_request(moody: Moody) -> None:
    """In the URL every value is quoted: none adds a path, a query or a host."""
    moody.body = b'{"data":{"pass word":"x<&>","n":1.0,"o":{"b":1,"a":[1]}}}'
    source = hook(
        moody,
        "/v1/{{ .remoteRef.key }}?v={{ .remoteRef.version }}&t={{ .auth.token }}",
        method="POST",
        headers={"X-Token": "{{ .auth.token | upper }}"},
        body='{"p":"{{ .remoteRef.property }}"}',
        json_path="$.data['{{ .remoteRef.property }}']",
    )
    found = source.fetch_property("a/../b?c#d", "1&2", "pass word")
    path, headers = moody.asked[-1]
    assert path == "/v1/a%2F..%2Fb%3Fc%23d?v=1%262&t=s3cr%26t%2Fx"
    assert headers["X-Token"] == "S3CR&T/X"
    assert found.document == Plaintext(b"x<&>")
    assert source.fetch_property("k", "", "n").document == Plaintext(b"1")
    assert source.fetch_property("k", "", "o").document == Plaintext(b'{"a":[1],"b":1}')


def test_without_a_path_the_answer_is_the_value_in_any_bytes(moody: Moody) -> None:
    moody.body = b"\x00\xff plain"
    assert hook(moody).fetch("k").document == Plaintext(b"\x00\xff plain")


@pytest.mark.parametrize(
    ("path", "value"),
    [("$.l", b'["a","b"]'), ("$.one", b"a"), ("$.t", b"true"), ("$.z", b""), ("$.big", b"9007199254740993")],
)
def test_what_the_path_finds_becomes_a_value(moody: Moody, path: str, value: bytes) -> None:
    moody.body = b'{"l":["a","b"],"one":["a"],"t":true,"z":null,"big":9007199254740993}'
    assert hook(moody, json_path=path).fetch("k").document == Plaintext(value)


@pytest.mark.parametrize(
    ("status", "expected", "reason"),
    [
        (404, StoreRefused, "NotFound"),
        (401, StoreRefused, "Denied"),
        (422, StoreRefused, "Invalid"),
        (302, StoreRefused, "Invalid"),
        (429, StoreUnavailable, "Throttled"),
        (503, StoreUnavailable, "StoreUnavailable"),
    ],
)
def test_answers_become_our_classes(moody: Moody, status: int, expected: type[SecretsOpsError], reason: str) -> None:
    moody.status, moody.body = status, CANARY.encode()
    moody.headers = {"Location": f"{moody.url}/elsewhere", "Retry-After": "9"}
    with pytest.raises(expected) as caught:
        hook(moody).fetch("k")
    error = caught.value
    assert isinstance(error, SecretsOpsError)
    assert error.reason == reason
    assert CANARY not in f"{error}{error.hint}"
    assert len(moody.asked) == 1
    if isinstance(error, StoreUnavailable):
        assert error.retry_after == 9.0


def test_hostile_answers_cost_an_error(moody: Moody) -> None:
    for body, reason in (
        (b"x" * (5 * 1024 * 1024), "TooLarge"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "Unreadable"),
        (b"\xff\xfe", "Unreadable"),
        (CANARY.encode(), "Unreadable"),
    ):
        moody.body = body
        with pytest.raises(StoreUnavailable) as caught:
            hook(moody, json_path="$.a").fetch("k")
        assert caught.value.reason == reason
        assert CANARY not in str(caught.value)


def test_templates_that_fail_name_their_place_and_no_value(moody: Moody) -> None:
    for url in ("/{{ .none.x }}", "/{{ fail .auth.token }}", "/{{ if }}", "/{{ env `HOME` }}"):
        with pytest.raises(TemplateFailed) as caught:
            hook(moody, url).fetch("k")
        assert "s3cr" not in str(caught.value)
    assert moody.asked == []


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "2852039166"])
def test_metadata_services_of_clouds_are_not_asked(host: str) -> None:
    """A store of any tenant would fetch the credentials of the node the controller runs on."""
    began = time.monotonic()
    with pytest.raises(StoreRefused) as caught:
        WebhookSource(WebhookAccess(url=f"http://{host}/latest/meta-data/")).fetch("k")
    assert caught.value.reason == "Denied"
    assert time.monotonic() - began < 2


def test_a_header_cannot_be_broken_out_of(moody: Moody) -> None:
    source = WebhookSource(
        WebhookAccess(url=moody.url, headers={"X-A": "{{ .s.v }}"}, secrets={"s": {"v": Plaintext(b"a\r\nX-Evil: 1")}})
    )
    with pytest.raises(StoreRefused) as caught:
        source.fetch("k")
    assert caught.value.reason == "Denied"
    assert "Evil" not in str(caught.value)
    assert moody.asked == []


def test_a_slow_answer_ends_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught:
            WebhookSource(WebhookAccess(url=f"http://127.0.0.1:{deaf.getsockname()[1]}/x", timeout=0.5)).fetch("k")
    assert caught.value.reason == "TooSlow"
    assert time.monotonic() - began < 3


def test_a_url_that_is_none_is_refused() -> None:
    for url in ("ftp://x/", "http://", "file:///etc/passwd", "http://[::1", json.dumps({})):
        with pytest.raises(StoreRefused) as caught:
            WebhookSource(WebhookAccess(url=url)).fetch("k")
        assert caught.value.reason == "Invalid"
