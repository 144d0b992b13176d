"""What servers answer on bad days, and what of it crosses the door: our classes, our words, no body."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from secretsops.errors import SecretsOpsError, StoreRefused, StoreUnavailable
from secretsops.secret import Plaintext
from secretsops.sources import AwsAccess, AwsIdentity, TokenLogin, VaultAccess

CANARY = "canary-d00d"
LOGIN = TokenLogin(token=Plaintext(b"token"))


class Moody(ThreadingHTTPServer):
    """Answers every request with one status and body; keeps what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.body, self.headers = 200, b"", {}  # type: tuple[int, bytes, dict[str, str]]
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Moody

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.path, dict(self.headers)))
        self.send_response(self.server.status)
        for name, value in {**self.server.headers, "Content-Length": str(len(self.server.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    do_GET = do_POST = do_LIST = _answer  # noqa: N815

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def moody() -> Iterator[Moody]:
    server = Moody()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join(5)
    server.server_close()


def _same(error: SecretsOpsError, expected: type[SecretsOpsError], reason: str) -> None:
    assert isinstance(error, expected)
    assert error.reason == reason
    assert CANARY not in f"{error} {error.hint} {error.args}"
    assert error.__cause__ is None
    assert error.hint


@pytest.mark.parametrize(
    ("status", "body", "expected", "reason"),
    [
        (400, {"errors": [CANARY]}, StoreRefused, "Invalid"),
        (401, {"errors": [CANARY]}, StoreRefused, "Denied"),
        (403, {"errors": [CANARY]}, StoreRefused, "Denied"),
        (404, {"errors": []}, StoreRefused, "NotFound"),
        (404, {"errors": ["no handler for route 'kv/data/app'"]}, StoreRefused, "MountMissing"),
        (404, {"data": {"data": None, "metadata": {"deletion_time": "x", "version": 3}}}, StoreRefused, "NotFound"),
        (412, {"errors": [CANARY]}, StoreUnavailable, "StoreUnavailable"),
        (429, {"errors": [CANARY]}, StoreUnavailable, "Throttled"),
        (500, {"errors": [CANARY]}, StoreUnavailable, "StoreUnavailable"),
        (502, {"errors": [CANARY]}, StoreUnavailable, "StoreUnavailable"),
        (503, {"errors": ["Vault is sealed"]}, StoreUnavailable, "StoreUnavailable"),
        (418, {"errors": [CANARY]}, StoreUnavailable, "StoreUnavailable"),
        (200, f"<html>{CANARY}</html>", StoreUnavailable, "Unreadable"),
        (200, f'{{"data": {{"data": {{"a": {CANARY}', StoreUnavailable, "Unreadable"),
        (200, '{"a":' * 300 + "1" + "}" * 300, StoreUnavailable, "Unreadable"),
        (200, {"data": {"data": None}}, StoreRefused, "NotFound"),
        (200, [CANARY], StoreRefused, "NotFound"),
        (307, "", StoreUnavailable, "StoreUnavailable"),
    ],
)
def test_vault_answers_become_our_classes(
    moody: Moody, status: int, body: Any, expected: type[SecretsOpsError], reason: str
) -> None:
    from secretsops.adapters.vault import VaultSource

    moody.status = status
    moody.body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    moody.headers = {"Location": "http://127.0.0.1:1/"} if status == 307 else {}
    with pytest.raises(SecretsOpsError) as caught:
        VaultSource(VaultAccess(server=moody.url, login=LOGIN, path="kv")).fetch("app")
    _same(caught.value, expected, reason)


def test_vault_is_asked_for_what_was_meant(moody: Moody) -> None:
    """Path, version, namespace and extra headers arrive; odd characters of a key are quoted."""
    from secretsops.adapters.vault import VaultSource

    moody.body = b'{"data":{"data":{"n":1.50},"metadata":{"version":7}}}'
    access = VaultAccess(server=moody.url, login=LOGIN, path="kv", namespace="team", headers={"X-Extra": "1"})
    found = VaultSource(access).fetch("a b/c?d", "7")
    path, headers = moody.asked[-1]
    assert path == "/v1/kv/data/a%20b/c%3Fd?version=7"
    assert (headers["X-Vault-Token"], headers["X-Vault-Namespace"], headers["X-Extra"]) == ("token", "team", "1")
    assert (found.document.reveal(), found.version) == (b'{"n":1.50}', "7")


@pytest.mark.parametrize(
    ("status", "code", "text", "expected", "reason"),
    [
        (400, "AccessDeniedException", CANARY, StoreRefused, "Denied"),
        (400, "DecryptionFailure", CANARY, StoreRefused, "Denied"),
        (400, "UnrecognizedClientException", CANARY, StoreRefused, "Denied"),
        (400, "ResourceNotFoundException", CANARY, StoreRefused, "NotFound"),
        (400, "InvalidRequestException", "it was marked for deletion", StoreRefused, "NotFound"),
        (400, "InvalidParameterException", CANARY, StoreRefused, "Invalid"),
        (400, "SomethingNew", CANARY, StoreUnavailable, "StoreUnavailable"),
        (500, "InternalServiceError", CANARY, StoreUnavailable, "StoreUnavailable"),
    ],
)
def test_aws_answers_become_our_classes(
    moody: Moody,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: str,
    text: str,
    expected: type[SecretsOpsError],
    reason: str,
) -> None:
    from secretsops.adapters.aws_secrets import SecretsManagerSource

    # The peer's variable wins over the SDK's, as it names this service alone.
    monkeypatch.setenv("AWS_SECRETSMANAGER_ENDPOINT", moody.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    moody.status, moody.body = status, json.dumps({"__type": code, "message": text}).encode()
    key = Plaintext(b"test")
    source = SecretsManagerSource(
        AwsAccess(
            region="us-east-1",
            identity=AwsIdentity(access_key_id=key, secret_access_key=key, session_token=key),
            prefix="p/",
        )
    )
    with pytest.raises(SecretsOpsError) as caught:
        source.fetch("app")
    _same(caught.value, expected, reason)
