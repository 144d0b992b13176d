"""Vault on bad days: away and back, lagging, throttled, endless, slow, behind a proxy; logins nothing here offers."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from drills.sandbox.aws import Aws
from drills.sandbox.openbao import OpenBao
from drills.sandbox.world import Sandbox
from secretsops.adapters import http
from secretsops.adapters.vault import VaultSource
from secretsops.adapters.vault_session import _signed
from secretsops.errors import SecretsOpsError, StoreRefused, StoreUnavailable
from secretsops.external.fetch import Shared
from secretsops.external.held import Held
from secretsops.external.lastgood import is_revoked
from secretsops.external.references import Scope
from secretsops.external.vault import read_vault
from secretsops.ports import Ask
from secretsops.secret import Plaintext
from secretsops.sources import AssumedRole, AwsIdentity, IamLogin, Retries, RoleLogin, TokenLogin, VaultAccess
from tests.contract.secret_source.servers import vault_call
from tests.contract.secret_source.test_error_answers import Moody, moody
from tests.contract.secret_source.test_vault import Bao
from tests.fakes.between import Between, Fault
from tests.fakes.clock import FakeClock

__all__ = ["moody"]
TOKEN = TokenLogin(token=Plaintext(b"token"))


@pytest.fixture(scope="module")
def bao(openbao: OpenBao) -> Bao:
    return Bao(openbao)


@pytest.fixture
def between(bao: Bao) -> Iterator[Between]:
    server = Between(bao.url).serve()
    yield server
    server.stop()


def through(between: Between, bao: Bao, name: str, **more: Any) -> VaultSource:
    login = bao.app_role(name)
    return VaultSource(VaultAccess(server=between.url, login=login, path=bao.mount, **more))


# --- Away and back -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 502, 503])
def test_an_outage_costs_no_login(bao: Bao, between: Between, status: int) -> None:
    source = through(between, bao, "outage")
    source.fetch("app")
    between.faults.append(Fault("data/app", status, times=3))
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            source.fetch("app")
    source.fetch("app")
    assert source.session.logins == between.took("login") == 1


def test_a_login_that_fails_is_tried_when_it_is_next_needed(bao: Bao, between: Between) -> None:
    source = through(between, bao, "later")
    between.faults.append(Fault("login", 503, times=1))
    with pytest.raises(StoreUnavailable, match="sealed"):
        source.log_in()
    source.fetch("app")
    assert between.took("login") == 2


def test_those_who_meet_a_revoked_token_together_log_in_once(bao: Bao, between: Between) -> None:
    source = through(between, bao, "together")
    bao.call("POST", "auth/token/revoke", {"token": source.session.token()})
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: source.fetch("app").document, range(16)))
    assert len(found) == 16
    assert between.took("login") == 2


def test_a_node_that_lags_is_waited_for_and_settings_of_retries_are_kept(bao: Bao, between: Between) -> None:
    source = through(between, bao, "lag", consistent=True)
    source.fetch("app")
    between.faults.append(Fault("data/app", 412, times=2))
    source.fetch("app")
    patient = through(between, bao, "patient", retries=Retries(attempts=2, interval=0.02))
    patient.log_in()
    between.faults[:] = [Fault("data/app", 503, times=2)]
    patient.fetch("app")
    between.faults[:] = [Fault("data/app", 503, times=3)]
    with pytest.raises(StoreUnavailable):
        patient.fetch("app")


def test_a_write_is_never_sent_twice(bao: Bao, between: Between) -> None:
    """An answer that did not come does not mean that nothing happened."""
    patient = through(between, bao, "once-only", retries=Retries(attempts=3, interval=0.01))
    patient.log_in()
    between.clear()
    between.faults.append(Fault("auth/token/create", silent=True, times=1))
    with pytest.raises(StoreUnavailable):
        patient.call("POST auth/token/create", {"body": {}})
    assert between.took("auth/token/create") == 1


def test_throttling_is_told_with_its_pause_and_shuts_one_namespaces_way(bao: Bao, between: Between) -> None:
    source, clock = through(between, bao, "throttled"), FakeClock()
    source.log_in()
    shared = Shared(source, clock)
    between.faults.append(Fault("data/app", 429, headers={"Retry-After": "17"}))
    for reason, left in (("Throttled", 17.0), ("CircuitOpen", 17.0)):
        with pytest.raises(StoreUnavailable) as caught:
            shared.read(Ask("app"), clock.now(), namespace="shop")
        assert (caught.value.reason, round(caught.value.retry_after)) == (reason, left)
        clock.sleep(0.01)
    assert between.took("data/app") == 1


# --- Hostile answers -----------------------------------------------------------------------------------


class Streaming:
    """Says something without an end, at a pace."""

    def __init__(self, head: bytes, piece: bytes, pause: float) -> None:
        self._head, self._piece, self._pause = head, piece, pause
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.sent = 0
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        try:
            with self._listener, self._listener.accept()[0] as peer:
                peer.recv(65536)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + self._head + b"\r\n")
                while self.sent < 200 * 1024 * 1024:
                    peer.sendall(self._piece)
                    self.sent += len(self._piece)
                    time.sleep(self._pause)
        except OSError:
            return


CHUNK = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"


@pytest.mark.parametrize("head", [b"Transfer-Encoding: chunked\r\n", b"Content-Length: 104857600\r\n", b""])
def test_an_answer_of_a_hundred_megabytes_is_left_unread(head: bytes) -> None:
    server = Streaming(head, CHUNK, 0)
    with pytest.raises(StoreUnavailable) as caught:
        VaultSource(VaultAccess(server=server.url, login=TOKEN, path="kv")).fetch("app")
    assert caught.value.reason == "TooLarge"
    assert server.sent < 20 * 1024 * 1024


def test_a_compressed_answer_is_measured_as_it_is_read(moody: Moody) -> None:
    import gzip

    moody.body, moody.headers = gzip.compress(b" " * (50 * 1024 * 1024)), {"Content-Encoding": "gzip"}
    with pytest.raises(StoreUnavailable) as caught:
        VaultSource(VaultAccess(server=moody.url, login=TOKEN, path="kv")).fetch("app")
    assert caught.value.reason == "TooLarge"


def test_an_answer_that_drips_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte comes in time, and still it must end."""
    monkeypatch.setattr(http, "DEADLINE", 0.6)
    server = Streaming(b"Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n", 0.05)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        VaultSource(VaultAccess(server=server.url, login=TOKEN, path="kv")).fetch("app")
    assert caught.value.reason == "TooSlow"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "body", [b'{"data":{"data":{"a":"\xff\xfe"}}}', b"\x00" * 100, b'{"data":' * 2000, b"[" * 100_000]
)
def test_what_is_no_json_text_is_unreadable(moody: Moody, body: bytes) -> None:
    moody.body = body
    with pytest.raises(StoreUnavailable) as caught:
        VaultSource(VaultAccess(server=moody.url, login=TOKEN, path="kv")).fetch("app")
    assert caught.value.reason == "Unreadable"


def test_nulls_in_a_value_arrive(moody: Moody) -> None:
    moody.body = b'{"data":{"data":{"a":"x\\u0000y"},"metadata":{"version":1}}}'
    found = VaultSource(VaultAccess(server=moody.url, login=TOKEN, path="kv")).fetch("app").document
    assert json.loads(found.reveal()) == {"a": "x\x00y"}


def test_folders_without_an_end_are_left(moody: Moody) -> None:
    moody.body = b'{"data":{"keys":["a/","b/","../","./"]}}'
    from secretsops.ports import Query

    with pytest.raises(StoreRefused) as caught:
        VaultSource(VaultAccess(server=moody.url, login=TOKEN, path="kv")).find(Query(name="x"))
    assert caught.value.reason == "TooMany"
    assert all(".." not in path for path, _ in moody.asked)


# --- On the way ----------------------------------------------------------------------------------------


def test_states_of_replication_are_sent_along(moody: Moody) -> None:
    moody.body, moody.headers = b'{"data":{"data":{}}}', {"X-Vault-Index": "djE6YzE6MToxOm0="}
    source = VaultSource(VaultAccess(server=moody.url, login=TOKEN, path="kv", consistent=True, forwarded=True))
    source.fetch("a")
    source.fetch("b")
    sent = [(headers.get("X-Vault-Index"), headers.get("X-Vault-Inconsistent")) for _, headers in moody.asked]
    assert sent == [(None, "forward-active-node"), ("djE6YzE6MToxOm0=", "forward-active-node")]


def test_proxies_of_the_environment_are_used_and_left_out(moody: Moody, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "no_proxy", "HTTP_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", moody.url.replace("http://", "http://user:pass@"))
    moody.body = b'{"data":{"data":{}}}'
    VaultSource(VaultAccess(server="http://vault.invalid:8200", login=TOKEN, path="kv")).fetch("a")
    path, headers = moody.asked[-1]
    assert path == "http://vault.invalid:8200/v1/kv/data/a"
    assert headers["proxy-authorization"] == f"Basic {base64.b64encode(b'user:pass').decode()}"
    monkeypatch.setenv("no_proxy", "vault.invalid")
    with pytest.raises(StoreUnavailable):
        VaultSource(VaultAccess(server="http://vault.invalid:8200", login=TOKEN, path="kv")).fetch("a")


# --- Logins that OpenBao does not offer here -----------------------------------------------------------


def test_ldap_logs_in_by_user_and_password(moody: Moody) -> None:
    auth = {"ldap": {"path": "corp", "username": " j.doe ", "secretRef": {"name": "auth", "key": "pw"}}}
    provider = read_vault({"server": moody.url, "path": "kv", "auth": auth}, Scope(home="shop"), None)
    (ref,) = provider.refs
    moody.body = b'{"auth":{"client_token":"t1","lease_duration":60,"renewable":true},"data":{"data":{}}}'
    VaultSource(provider.access(Held(values={ref: Plaintext(b"pa ss\n")}))).fetch("a")
    assert [path for path, _ in moody.asked] == ["/v1/auth/corp/login/j.doe", "/v1/kv/data/a"]
    assert moody.asked[1][1]["X-Vault-Token"] == "t1"


def test_iam_signs_a_request_that_says_who_we_are(moto: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vault sends it to AWS; moto, asked as Vault would ask, names the role."""
    monkeypatch.setenv("AWS_STS_ENDPOINT", moto.url)
    key = Plaintext(b"AKIASANDBOX000000000")
    role = AssumedRole(arn="arn:aws:iam::123456789012:role/reader", external_id="ext")
    identity = AwsIdentity(access_key_id=key, secret_access_key=key, roles=(role,))
    login = IamLogin(path="aws/login", role="r", region="us-east-1", identity=identity, server_id="vault.example")
    fields = _signed(login)
    url, body, headers = (
        base64.b64decode(fields[f"iam_request_{name}"]).decode() for name in ("url", "body", "headers")
    )
    sent = {name: values[0] for name, values in json.loads(headers).items()}
    assert "x-vault-aws-iam-server-id" in sent["Authorization"]
    request = urllib.request.Request(url, body.encode(), sent, method=fields["iam_http_request_method"])
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        assert b"assumed-role/reader" in answer.read()


def test_a_second_factor_is_said(moody: Moody) -> None:
    moody.body = b'{"auth":{"client_token":"","mfa_requirement":{"mfa_request_id":"canary"}}}'
    login = RoleLogin(path="userpass/login", user="bob", fields={"password": Plaintext(b"x")})
    with pytest.raises(StoreRefused, match="no token") as caught:
        VaultSource(VaultAccess(server=moody.url, login=login)).log_in()
    assert "canary" not in f"{caught.value}{caught.value.hint}"


def test_a_server_that_comes_up_empty_takes_nothing_away_and_costs_one_login(sandbox: Sandbox) -> None:
    """Restarted: connections are dead, then the token is unknown; before it is restored its mount is missing."""

    def furnish(server: OpenBao) -> None:
        for path, body in (
            ("sys/auth/people", {"type": "userpass"}),
            ("sys/policies/acl/reads", {"policy": 'path "again/*" { capabilities = ["read"] }'}),
            ("auth/people/users/ann", {"password": "p", "token_policies": "reads"}),
            ("sys/mounts/again", {"type": "kv", "options": {"version": "1"}}),
            ("again/app", {"user": "alice"}),
        ):
            vault_call(server.url, server.token, "POST", path, body)

    first = OpenBao(sandbox._supervised())
    furnish(first)
    between = Between(first.url).serve()
    login = RoleLogin(path="people/login", user="ann", fields={"password": Plaintext(b"p")})
    source = VaultSource(VaultAccess(server=between.url, login=login, path="again", version="v1"))
    assert b"alice" in source.fetch("app").document.reveal()
    first.stop()
    with pytest.raises(StoreUnavailable):
        source.fetch("app")
    second = OpenBao(sandbox._supervised())
    between.upstream = urlsplit(second.url)
    for _ in range(2):
        with pytest.raises(SecretsOpsError) as caught:
            source.fetch("app")
        assert not is_revoked(caught.value), "nothing was taken away from us"
    furnish(second)
    between.clear()
    for _ in range(3):
        assert b"alice" in source.fetch("app").document.reveal()
    assert between.took("login") == 1
    between.stop()
    second.stop()
