"""Vault's door against real OpenBao: every login, the life of tokens, searches, metadata, namespaces, writing."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import time
import urllib.error
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from drills.sandbox.openbao import OpenBao
from secretsops.adapters.vault import VaultSource
from secretsops.adapters.vault_session import VaultSession, merged
from secretsops.errors import SecretsOpsError, StoreRefused, StoreUnavailable
from secretsops.external.rawjson import decode
from secretsops.ports import Put, Query
from secretsops.secret import Plaintext
from secretsops.sources import RoleLogin, Tls, TokenLogin, VaultAccess
from tests.contract.secret_source.servers import vault_call
from tests.contract.secret_source.test_secret_source import mounted
from tests.openbao_servers import SealedBao, TlsBao, b64

POLICY = 'path "contract-v2/*" { capabilities = ["read", "list", "create", "update", "delete"] }'


class Bao:
    """The session's server, with an engine to read and a policy that allows it."""

    def __init__(self, server: OpenBao) -> None:
        self.url, self._token = server.url, server.token
        self.mount = mounted(server.url, server.token, "v2")
        self.call("PUT", "sys/policies/acl/contract", {"policy": POLICY})
        self.call("POST", f"{self.mount}/data/app", {"data": {"user": "alice"}})

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        return vault_call(self.url, self._token, method, path, body)

    def method(self, kind: str, path: str) -> None:
        with contextlib.suppress(urllib.error.HTTPError):
            self.call("POST", f"sys/auth/{path}", {"type": kind})

    def access(self, login: Any, **more: Any) -> VaultAccess:
        return VaultAccess(server=self.url, login=login, path=self.mount, **more)

    def root(self, **more: Any) -> VaultSource:
        return VaultSource(self.access(TokenLogin(token=Plaintext(self._token.encode())), **more))

    def app_role(self, name: str, **role: Any) -> RoleLogin:
        self.method("approle", "contract-approle")
        self.call("POST", f"auth/contract-approle/role/{name}", {"token_policies": "contract", **role})
        role_id = self.call("GET", f"auth/contract-approle/role/{name}/role-id")["data"]["role_id"]
        secret = self.call("POST", f"auth/contract-approle/role/{name}/secret-id")["data"]["secret_id"]
        fields = {"role_id": Plaintext(role_id.encode()), "secret_id": Plaintext(secret.encode())}
        return RoleLogin(path="contract-approle/login", fields=fields)


@pytest.fixture(scope="module")
def bao(openbao: OpenBao) -> Bao:
    return Bao(openbao)


def reads(source: VaultSource) -> None:
    assert decode(source.fetch("app").document.reveal().decode()) == {"user": "alice"}


# --- Logging in ----------------------------------------------------------------------------------------


def test_app_role_logs_in_once_and_reads(bao: Bao) -> None:
    source = VaultSource(bao.access(bao.app_role("once")))
    source.log_in()
    for _ in range(3):
        reads(source)
    source.probe()
    assert source.session.logins == 1


def test_userpass_logs_in_with_any_user_name(bao: Bao) -> None:
    bao.method("userpass", "contract-userpass")
    bao.call("POST", "auth/contract-userpass/users/bob", {"password": "pw1", "token_policies": "contract"})
    login = RoleLogin(path="contract-userpass/login", user="bob", fields={"password": Plaintext(b"pw1")})
    reads(VaultSource(bao.access(login)))
    for wrong in (replace(login, fields={"password": Plaintext(b"no")}), replace(login, user="../../sys/seal")):
        with pytest.raises(StoreRefused) as caught:
            VaultSource(bao.access(wrong)).log_in()
        assert caught.value.reason == "Denied"


def jwt(key: rsa.RSAPrivateKey, **claims: Any) -> bytes:
    def part(body: Any) -> str:
        return b64(json.dumps(body)).rstrip("=").replace("+", "-").replace("/", "_")

    now = int(time.time())
    text = f"{part({'alg': 'RS256', 'typ': 'JWT'})}.{part({'iat': now, 'nbf': now, 'exp': now + 300, **claims})}"
    signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    import base64

    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}".encode()


def test_a_jwt_is_minted_for_each_login(bao: Bao) -> None:
    key = rsa.generate_private_key(65537, 2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    bao.method("jwt", "contract-jwt")
    bao.call("POST", "auth/contract-jwt/config", {"jwt_validation_pubkeys": [public.decode()]})
    role = {"role_type": "jwt", "bound_audiences": ["vault"], "user_claim": "sub", "token_policies": "contract"}
    bao.call("POST", "auth/contract-jwt/role/r", role)
    minted: list[bytes] = []

    def mint() -> Plaintext:
        minted.append(jwt(key, sub="me", aud="vault"))
        return Plaintext(minted[-1])

    login = RoleLogin(path="contract-jwt/login", fields={"role": Plaintext(b"r")}, minted={"jwt": mint})
    source = VaultSource(bao.access(login))
    assert minted == []
    reads(source)
    reads(source)
    assert len(minted) == 1


def client_certificate() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client.example")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return certificate.public_bytes(serialization.Encoding.PEM), pem


@pytest.fixture(scope="module")
def tls_engine(openbao_tls: TlsBao) -> TlsBao:
    openbao_tls.call("POST", "sys/mounts/contract-tls", {"type": "kv", "options": {"version": "1"}})
    openbao_tls.call("POST", "contract-tls/app", {"user": "alice"})
    return openbao_tls


def over_tls(server: TlsBao, login: Any, tls: Tls) -> VaultSource:
    return VaultSource(VaultAccess(server=server.url, login=login, path="contract-tls", version="v1", tls=tls))


def test_a_client_certificate_logs_in(tls_engine: TlsBao) -> None:
    """Its key reaches OpenSSL through a file that holds nothing readable."""
    certificate, key = client_certificate()
    policy = 'path "contract-tls/*" { capabilities = ["read"] }'
    tls_engine.call("PUT", "sys/policies/acl/tls", {"policy": policy})
    with contextlib.suppress(urllib.error.HTTPError):
        tls_engine.call("POST", "sys/auth/contract-cert", {"type": "cert"})
    body = {"certificate": certificate.decode(), "token_policies": "tls"}
    tls_engine.call("POST", "auth/contract-cert/certs/r", body)
    tls = Tls(ca_pem=tls_engine.ca_pem, certificate=Plaintext(certificate), key=Plaintext(key))
    login = RoleLogin(path="contract-cert/login", fields={"name": Plaintext(b"r")})
    reads(over_tls(tls_engine, login, tls))
    with pytest.raises(StoreRefused):
        over_tls(tls_engine, login, Tls(ca_pem=tls_engine.ca_pem)).log_in()


def test_tls_that_cannot_be_trusted_is_unavailable(tls_engine: TlsBao) -> None:
    """Neither the system's authorities nor another bundle will do; the credential is not sent."""
    other, _ = client_certificate()
    login = TokenLogin(token=Plaintext(tls_engine.token.encode()))
    reads(over_tls(tls_engine, login, Tls(ca_pem=tls_engine.ca_pem)))
    for bundle in ("", other.decode()):
        with pytest.raises(StoreUnavailable) as caught:
            over_tls(tls_engine, login, Tls(ca_pem=bundle)).fetch("app")
        assert caught.value.reason == "TlsFailed"


@pytest.mark.parametrize("key", [b"no key", b""])
def test_a_certificate_without_its_key_is_refused(key: bytes) -> None:
    certificate, _ = client_certificate()
    tls = Tls(certificate=Plaintext(certificate), key=Plaintext(key))
    with pytest.raises(StoreRefused) as caught:
        VaultSource(VaultAccess(server="https://vault", login=None, tls=tls))
    assert caught.value.reason == "Invalid"


def test_a_sealed_server_is_unavailable_to_logins_and_tokens(openbao_sealed: SealedBao) -> None:
    for login in (RoleLogin(path="approle/login"), TokenLogin(token=Plaintext(b"t"))):
        with pytest.raises(StoreUnavailable, match="sealed"):
            VaultSource(VaultAccess(server=openbao_sealed.url, login=login, path="kv")).fetch("app")


# --- The life of a token -------------------------------------------------------------------------------


class Watch:
    """A clock for a session."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def session(bao: Bao, login: Any) -> tuple[VaultSession, Watch]:
    watch = Watch()
    return VaultSession(bao.access(login), monotonic=watch), watch


def ask(held: VaultSession, bao: Bao) -> Any:
    return held.ask("GET", f"{bao.mount}/data/app", what="reading")


def test_a_token_is_renewed_before_its_end_and_not_made_anew(bao: Bao) -> None:
    held, watch = session(bao, bao.app_role("renewed", token_ttl="60s", token_max_ttl="1h"))
    first = held.token()
    for _ in range(20):
        watch.now += 41.0  # past two thirds of its life
        ask(held, bao)
    assert (held.token(), held.logins) == (first, 1)
    watch.now += 56.0  # less than the last seconds are left
    assert held.token() != first
    assert held.logins == 2


def test_a_token_near_its_greatest_life_is_replaced_at_its_end(bao: Bao) -> None:
    """Renewing it gives less and less; it is used up, and then there is one login."""
    held, watch = session(bao, bao.app_role("short", token_ttl="60s", token_max_ttl="61s"))
    first = held.token()
    time.sleep(1.1)
    watch.now += 41.0
    assert held.token() == first
    watch.now += 58.0
    assert held.token() != first
    assert held.logins == 2


def test_a_revoked_token_means_one_login(bao: Bao) -> None:
    held, _ = session(bao, bao.app_role("revoked"))
    bao.call("POST", "auth/token/revoke", {"token": held.token()})
    assert ask(held, bao)["data"]["data"] == {"user": "alice"}
    assert held.logins == 2


def test_what_the_policy_denies_means_no_login(bao: Bao) -> None:
    held, _ = session(bao, bao.app_role("denied"))
    for _ in range(3):
        with pytest.raises(StoreRefused) as caught:
            held.ask("GET", "secret/data/other", what="reading")
        assert caught.value.reason == "Denied"
    assert held.logins == 1


def test_a_token_that_may_not_look_itself_up_does_not_make_us_log_in_over_and_over(bao: Bao) -> None:
    held, _ = session(bao, bao.app_role("blind", token_no_default_policy=True))
    for _ in range(5):
        with pytest.raises(StoreRefused):
            held.ask("GET", "secret/data/other", what="reading")
    assert held.logins <= 2
    assert ask(held, bao)


def test_a_batch_token_is_used_up(bao: Bao) -> None:
    held, watch = session(bao, bao.app_role("batch", token_type="batch", token_ttl="60s"))
    first = held.token()
    watch.now += 50.0
    assert (held.token(), held.logins) == (first, 1)
    watch.now += 6.0
    assert held.token() != first


def test_closing_gives_back_what_we_logged_in_for_and_nothing_else(bao: Bao) -> None:
    held, _ = session(bao, bao.app_role("closed"))
    token = held.token()
    held.close()
    with pytest.raises(urllib.error.HTTPError) as caught:
        vault_call(bao.url, token, "GET", "auth/token/lookup-self")
    caught.value.close()
    given = bao.call("POST", "auth/token/create", {"policies": ["contract"], "ttl": "1h"})["auth"]["client_token"]
    source = VaultSource(bao.access(TokenLogin(token=Plaintext(given.encode()))))
    reads(source)
    source.close()
    vault_call(bao.url, given, "GET", "auth/token/lookup-self")


def test_a_periodic_token_somebody_gave_us_is_kept_alive(bao: Bao) -> None:
    """The peer lets it end; we renew it when we look at it and two thirds of its period are over."""
    made = bao.call("POST", "auth/token/create", {"policies": ["contract"], "period": "4s", "no_parent": True})
    token = made["auth"]["client_token"]
    source = VaultSource(bao.access(TokenLogin(token=Plaintext(f"{token}\n".encode()))))
    for _ in range(3):
        time.sleep(2.8)
        source.probe()
    reads(source)


def test_a_login_namespace_and_one_for_reading(bao: Bao) -> None:
    with contextlib.suppress(urllib.error.HTTPError):
        bao.call("POST", "sys/namespaces/team")
    login = bao.app_role("elsewhere", token_policies="across")
    bao.call("PUT", "sys/policies/acl/across", {"policy": 'path "team/kv/*" { capabilities = ["read"] }'})
    for path, body in (("sys/mounts/kv", {"type": "kv", "options": {"version": "1"}}), ("kv/app", {"user": "alice"})):
        with contextlib.suppress(urllib.error.HTTPError):
            bao.call("POST", f"team/{path}", body)
    access = VaultAccess(server=bao.url, login=login, path="kv", version="v1", namespace="team")
    reads(VaultSource(access))
    with pytest.raises(SecretsOpsError):
        VaultSource(replace(access, login_namespace="team")).log_in()
    with pytest.raises(SecretsOpsError):
        VaultSource(replace(access, namespace="none")).fetch("app")


# --- Reading more than one -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(bao: Bao) -> Bao:
    for name in ("team/a/db", "team/a/web", "team/b/db", "team/gone"):
        bao.call("POST", f"{bao.mount}/data/find/{name}", {"data": {"at": name}})
    bao.call("DELETE", f"{bao.mount}/data/find/team/gone")
    bao.call("POST", f"{bao.mount}/metadata/find/team/a/db", {"custom_metadata": {"env": "prod", "x": "y"}})
    bao.call("POST", f"{bao.mount}/metadata/find/team/b/db", {"custom_metadata": {"env": "dev"}})
    return bao


def test_a_search_walks_folders_and_leaves_deleted_secrets_out(tree: Bao) -> None:
    found = tree.root().find(Query(path="find", name="db$|gone"))
    assert list(found) == ["find/team/a/db", "find/team/b/db"]
    assert found["find/team/a/db"].document == Plaintext(b'{"at":"team/a/db"}')
    assert list(tree.root().find(Query(path="/find/team/b/", name="."))) == ["find/team/b/db"]


def test_a_search_by_tags_wants_all_of_them(tree: Bao) -> None:
    assert list(tree.root().find(Query(path="find", tags={"env": "prod", "x": "y"}))) == ["find/team/a/db"]
    assert list(tree.root().find(Query(path="find", tags={"env": "prod", "x": "z"}))) == []


def test_a_search_below_nothing_is_not_found(tree: Bao) -> None:
    with pytest.raises(StoreRefused) as caught:
        tree.root().find(Query(path="find/none", name="x"))
    assert caught.value.reason == "NotFound"
    with pytest.raises(StoreRefused) as caught:
        tree.root().find(Query(path="find/../..", name="x"))
    assert caught.value.reason == "Invalid"


def test_metadata_is_custom_and_what_the_engine_keeps(tree: Bao) -> None:
    found = decode(tree.root().metadata("find/team/a/db").document.reveal().decode())
    assert (found["env"], found["current_version"], found["delete_version_after"]) == ("prod", "1", "0s")
    assert found["created_time"]
    with pytest.raises(StoreRefused) as caught:
        tree.root().metadata("find/none")
    assert caught.value.reason == "MetadataMissing"
    with pytest.raises(StoreRefused):
        tree.root(version="v1").metadata("app")


def test_consistent_reads_keep_the_newest_state_of_each_cluster(bao: Bao) -> None:
    reads(bao.root(consistent=True, forwarded=True))
    old, new, other = (b64(f"v1:{text}:mac") for text in ("c1:1:1", "c1:2:1", "c2:1:1"))
    assert merged((old,), new) == (new,)
    assert merged((new,), old) == (new,)
    assert merged((new,), other) == (new, other)
    assert merged((new,), "unreadable") == ("unreadable",)


# --- Writing -------------------------------------------------------------------------------------------


@pytest.fixture
def pushed(bao: Bao, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"push/{request.node.name.translate(str.maketrans('[]', '--'))}"
    yield name
    with contextlib.suppress(urllib.error.HTTPError):
        bao.call("DELETE", f"{bao.mount}/metadata/{name}")


@pytest.mark.parametrize("check_and_set", [False, True])
def test_properties_are_merged_and_the_last_one_takes_the_secret_along(
    bao: Bao, pushed: str, check_and_set: bool
) -> None:
    source = bao.root(check_and_set=check_and_set)
    assert source.put(Put(key=pushed, property="a", value=Plaintext(b"1")))
    assert source.put(Put(key=pushed, property="b", value=Plaintext(b"2")))
    assert not source.put(Put(key=pushed, property="b", value=Plaintext(b"2")))
    assert source.exists(pushed)
    assert source.exists(pushed, "a")
    assert not source.exists(pushed, "c")
    source.remove(pushed, "a")
    source.remove(pushed, "never")
    assert source.fetch(pushed).document == Plaintext(b'{"b":"2"}')
    source.remove(pushed, "b")
    assert not source.exists(pushed)


def test_a_whole_secret_and_its_mark(bao: Bao, pushed: str) -> None:
    source = bao.root()
    source.put(Put(key=pushed, value={"a": Plaintext(b"1"), "c.d": Plaintext(b"<&>")}, metadata={}))
    about = bao.call("GET", f"{bao.mount}/metadata/{pushed}")["data"]
    assert about["custom_metadata"] == {"managed-by": "external-secrets"}
    assert bao.call("GET", f"{bao.mount}/data/{pushed}")["data"]["data"] == {"a": "1", "c.d": "<&>"}
    assert not source.put(Put(key=pushed, value={"a": Plaintext(b"1"), "c.d": Plaintext(b"<&>")}))
    with pytest.raises(StoreRefused) as caught:
        source.put(Put(key=pushed, value=Plaintext(b"no JSON")))
    assert caught.value.reason == "Invalid"


def test_numbers_of_a_merged_secret_stay_as_they_are(bao: Bao, pushed: str) -> None:
    bao.call(
        "POST", f"{bao.mount}/metadata/{pushed}", {"custom_metadata": {"managed-by": "external-secrets", "t": "x"}}
    )
    bao.call("POST", f"{bao.mount}/data/{pushed}", {"data": {"big": 9007199254740991, "deep": {"n": 1}}})
    bao.root().put(Put(key=pushed, property="new", value=Plaintext(b"1")))
    assert bao.root().fetch(pushed).document == Plaintext(b'{"big":9007199254740991,"deep":{"n":1},"new":"1"}')
    kept = bao.call("GET", f"{bao.mount}/metadata/{pushed}")["data"]["custom_metadata"]
    assert kept == {"managed-by": "external-secrets", "t": "x"}


def test_what_others_keep_is_neither_overwritten_nor_deleted(bao: Bao, pushed: str) -> None:
    bao.call("POST", f"{bao.mount}/data/{pushed}", {"data": {"theirs": "1"}})
    with pytest.raises(StoreRefused) as caught:
        bao.root().put(Put(key=pushed, property="a", value=Plaintext(b"1")))
    assert caught.value.reason == "NotOurs"
    bao.root().remove(pushed)
    bao.root().remove(pushed, "theirs")
    assert bao.root().fetch(pushed).document == Plaintext(b'{"theirs":"1"}')


def test_kv_one_carries_its_mark_inside(openbao: OpenBao, pushed: str) -> None:
    mount = mounted(openbao.url, openbao.token, "v1")
    login = TokenLogin(token=Plaintext(openbao.token.encode()))
    source = VaultSource(VaultAccess(server=openbao.url, login=login, path=mount, version="v1"))
    assert source.put(Put(key=pushed, property="pa", value=Plaintext(b"1")))
    assert not source.put(Put(key=pushed, property="pa", value=Plaintext(b"1")))
    source.put(Put(key=pushed, property="pb", value=Plaintext(b"2")))
    source.remove(pushed, "pa")
    assert source.fetch(pushed).document == Plaintext(b'{"custom_metadata":{"managed-by":"external-secrets"},"pb":"2"}')
    source.remove(pushed, "pb")
    with pytest.raises(StoreRefused):
        source.fetch(pushed)


def test_any_path_can_be_called_for_what_generators_make(bao: Bao) -> None:
    answer = decode(bao.root().call("POST auth/token/create", {"body": {"ttl": "1m"}}).reveal().decode())
    assert answer["auth"]["client_token"]
    assert decode(bao.root().call(f"GET {bao.mount}/data/app", {}).reveal().decode())["data"]["data"]
    for operation in ("TRACE sys/health", "GET ../sys/health"):
        with pytest.raises(StoreRefused):
            bao.root().call(operation, {})
