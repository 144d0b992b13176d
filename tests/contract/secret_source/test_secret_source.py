"""What every SecretSource does, run on the fake one and on the adapters against real OpenBao and moto servers.

The seeds write what a team would write; the suite then speaks the door's language alone.
"""

from __future__ import annotations

import base64
import contextlib
import json
import time
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from drills.sandbox.aws import Aws
from drills.sandbox.openbao import OpenBao
from secretsops.errors import StoreRefused, StoreUnavailable
from secretsops.external.listed import ListedSource
from secretsops.external.rawjson import decode
from secretsops.ports import Fetched, SecretSource
from secretsops.secret import Plaintext
from secretsops.sources import AwsAccess, AwsIdentity, Tls, TokenLogin, VaultAccess
from tests.contract.secret_source.servers import aws_call, free_port, vault_call

CANARY = "canary-77aa"
DOCUMENT = {"user": "alice", "n": 7, "o": {"a": [1, "x"]}, "html": "<&>"}


def _keys(key: Plaintext) -> AwsIdentity:
    return AwsIdentity(access_key_id=key, secret_access_key=key)


def _token(secret: bytes) -> TokenLogin:
    return TokenLogin(token=Plaintext(secret))


@dataclass
class Subject:
    """One source, and how to make the world behind it say things."""

    source: SecretSource
    write: Callable[[str, dict[str, Any]], str]
    delete: Callable[[str], None]
    denied: SecretSource | None = None
    unreachable: SecretSource | None = None


def listed() -> Subject:
    values: dict[str, Plaintext] = {}
    versions: dict[str, int] = {}

    def write(key: str, body: dict[str, Any]) -> str:
        versions[key] = versions.get(key, 0) + 1
        document = Plaintext(json.dumps(body).encode())
        values[key] = values[f"{key}{versions[key]}"] = document
        return str(versions[key])

    def delete(key: str) -> None:
        del values[key]

    return Subject(ListedSource(values), write, delete)


def vault(url: str, token: str, version: str, mount: str) -> Subject:
    from secretsops.adapters.vault import VaultSource

    def open_at(server: str, secret: bytes) -> VaultSource:
        return VaultSource(VaultAccess(server=server, login=_token(secret), path=mount, version=version))

    data = "data/" if version == "v2" else ""

    def write(key: str, body: dict[str, Any]) -> str:
        answer = vault_call(url, token, "POST", f"{mount}/{data}{key}", {"data": body} if data else body)
        return str(answer["data"]["version"]) if data else ""

    def delete(key: str) -> None:
        vault_call(url, token, "DELETE", f"{mount}/{data}{key}")

    return Subject(
        open_at(url, token.encode()),
        write,
        delete,
        open_at(url, CANARY.encode()),
        open_at(f"http://127.0.0.1:{free_port()}", token.encode()),
    )


def secrets_manager(url: str, monkeypatch: pytest.MonkeyPatch) -> Subject:
    from secretsops.adapters.aws_secrets import SecretsManagerSource

    key = Plaintext(b"test")

    def open_at(endpoint: str, **more: Any) -> SecretsManagerSource:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        return SecretsManagerSource(AwsAccess(region="us-east-1", identity=_keys(key), **more))

    def write(name: str, body: dict[str, Any]) -> str:
        text = json.dumps(body)
        try:
            return f"uuid/{aws_call(url, 'CreateSecret', Name=name, SecretString=text)['VersionId']}"
        except FileExistsError:
            return f"uuid/{aws_call(url, 'PutSecretValue', SecretId=name, SecretString=text)['VersionId']}"

    def delete(name: str) -> None:
        aws_call(url, "DeleteSecret", SecretId=name)

    unreachable = open_at(f"http://127.0.0.1:{free_port()}")
    return Subject(open_at(url), write, delete, unreachable=unreachable)


def mounted(url: str, token: str, version: str) -> str:
    """Give a KV engine of a version, mounted at first use and ready to be written."""
    name = f"contract-{version}"
    engine = {"type": "kv", "options": {"version": version.removeprefix("v")}}
    with contextlib.suppress(urllib.error.HTTPError):
        vault_call(url, token, "POST", f"sys/mounts/{name}", engine)
    body = {"data": {"a": "b"}} if version == "v2" else {"a": "b"}
    for _ in range(50):
        try:
            vault_call(url, token, "POST", f"{name}/{'data/' if version == 'v2' else ''}probe", body)
        except urllib.error.HTTPError as error:
            error.close()
            time.sleep(0.1)  # a new KV v2 engine upgrades its storage first
        else:
            return name
    pytest.fail("the KV engine did not become ready")


@pytest.fixture(params=["listed", "vault-v2", "vault-v1", "aws"])
def subject(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Subject:
    name: str = request.param
    if name == "listed":
        return listed()
    if name == "aws":
        return secrets_manager(request.getfixturevalue("moto").url, monkeypatch)
    server = request.getfixturevalue("openbao")
    version = name.removeprefix("vault-")
    return vault(server.url, server.token, version, mounted(server.url, server.token, version))


def test_a_document_comes_back_as_it_was_written(subject: Subject) -> None:
    """The same values, as JSON; nothing of it shows when the answer is printed."""
    subject.write("contract/plain", DOCUMENT)
    found = subject.source.fetch("contract/plain")
    assert decode(found.document.reveal().decode()) == decode(json.dumps(DOCUMENT))
    assert "alice" not in repr(found)


def test_what_is_absent_is_refused_as_not_found(subject: Subject) -> None:
    with pytest.raises(StoreRefused) as caught:
        subject.source.fetch("contract/none")
    assert caught.value.reason == "NotFound"
    assert caught.value.hint
    assert caught.value.__cause__ is None


def test_what_was_deleted_is_not_found(subject: Subject) -> None:
    """Also where the store keeps it for a while: deleted versions of KV v2, secrets scheduled for deletion."""
    subject.write("contract/deleted", DOCUMENT)
    subject.delete("contract/deleted")
    with pytest.raises(StoreRefused) as caught:
        subject.source.fetch("contract/deleted")
    assert caught.value.reason == "NotFound"


def test_a_version_is_what_it_was(subject: Subject) -> None:
    """A named version stays; without a name the newest comes."""
    first = subject.write("contract/versions", {"v": "1"})
    if not first:
        pytest.skip("KV v1 keeps no versions")
    subject.write("contract/versions", {"v": "2"})
    assert _text(subject.source.fetch("contract/versions", first)) == {"v": "1"}
    assert _text(subject.source.fetch("contract/versions")) == {"v": "2"}


def test_the_probe_says_whether_the_credential_is_accepted(subject: Subject) -> None:
    subject.source.probe()
    if subject.denied is None:
        pytest.skip("no credential is checked by this source")
    with pytest.raises(StoreRefused) as caught:
        subject.denied.probe()
    assert caught.value.reason == "Denied"
    assert CANARY not in f"{caught.value} {caught.value.hint}"


def test_a_credential_that_is_not_accepted_is_denied(subject: Subject) -> None:
    if subject.denied is None:
        pytest.skip("no credential is checked by this source")
    with pytest.raises(StoreRefused) as caught:
        subject.denied.fetch("contract/plain")
    assert caught.value.reason == "Denied"


def test_no_answer_is_unavailable(subject: Subject) -> None:
    """An outage is told from a no, and no library's exception comes along."""
    if subject.unreachable is None:
        pytest.skip("this source has no network")
    with pytest.raises(StoreUnavailable) as caught:
        subject.unreachable.fetch("contract/plain")
    assert caught.value.retry
    assert caught.value.__cause__ is None


def test_the_dialect_is_one_that_selection_knows(subject: Subject) -> None:
    assert subject.source.dialect in {"vault", "aws", "plain"}


def _text(found: Fetched) -> Any:
    return decode(found.document.reveal().decode())


# --- What only one of them can say ---------------------------------------------------------------------


def test_binary_secrets_of_aws_keep_their_bytes(moto: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = secrets_manager(moto.url, monkeypatch)
    aws_call(moto.url, "CreateSecret", Name="contract/bin", SecretBinary=base64.b64encode(b"\x00\x01\xff").decode())
    assert subject.source.fetch("contract/bin").document == Plaintext(b"\x00\x01\xff")


def test_aws_without_credentials_is_denied(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """The default chain ends without a request to an instance's metadata service."""
    from secretsops.adapters.aws_secrets import SecretsManagerSource

    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StoreRefused) as caught:
        SecretsManagerSource(AwsAccess(region="us-east-1")).probe()
    assert caught.value.reason == "Denied"
    with pytest.raises(StoreRefused):
        SecretsManagerSource(AwsAccess(region="us-east-1")).fetch("x")


@pytest.mark.parametrize("secret", [f"{CANARY}\u20ac".encode(), f"{CANARY}\nX-Evil: 1".encode(), b"\xff\xfe"])
def test_a_credential_that_is_no_header_is_denied_untold(
    openbao: OpenBao, moto: Aws, monkeypatch: pytest.MonkeyPatch, secret: bytes
) -> None:
    """A library that cannot send it would quote it."""
    from secretsops.adapters.aws_secrets import SecretsManagerSource
    from secretsops.adapters.vault import VaultSource

    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.url)
    key = Plaintext(secret)
    sources: list[SecretSource] = [
        VaultSource(VaultAccess(server=openbao.url, login=TokenLogin(token=key), path="secret")),
        SecretsManagerSource(AwsAccess(region="us-east-1", identity=_keys(key))),
    ]
    for source in sources:
        with pytest.raises((StoreRefused, StoreUnavailable)) as caught:
            source.fetch("contract/none")
        assert CANARY not in f"{caught.value} {caught.value.hint}"
        assert caught.value.__cause__ is None


@pytest.mark.parametrize("key", ["", "..", "../../sys/policy", "a/../b", "./a"])
def test_a_vault_key_never_leaves_its_mount(key: str) -> None:
    """The HTTP client would resolve dots: whoever may name a key could reach any path of the API."""
    from secretsops.adapters.vault import secret_path

    with pytest.raises(StoreRefused) as caught:
        secret_path("kv", "v2", key)
    assert caught.value.reason == "Invalid"


@pytest.mark.parametrize(
    ("mount", "version", "key", "result"),
    [
        ("kv", "v2", "app", ("kv", "app")),
        ("kv", "v2", "kv/data/app", ("kv", "app")),
        ("kv", "v2", "kv/app", ("kv", "app")),
        ("kv", "v1", "kv/data/app", ("kv", "data/app")),
        ("team/kv", "v2", "/a//b", ("team/kv", "a/b")),
        ("", "v2", "kv/app/x", ("kv", "app/x")),
        ("", "v2", "team/kv/data/app", ("team/kv", "app")),
        ("", "v1", "kv/app", ("kv", "app")),
    ],
)
def test_keys_become_mount_and_path(mount: str, version: str, key: str, result: tuple[str, str]) -> None:
    from secretsops.adapters.vault import secret_path

    assert secret_path(mount, version, key) == result


def test_vault_settings_that_cannot_work_are_refused() -> None:
    from secretsops.adapters.vault import VaultSource, secret_path

    login = _token(b"t")
    for access in (
        VaultAccess(server="ftp://vault", login=login),
        VaultAccess(server="https://vault", login=login, tls=Tls(ca_pem="no certificate")),
    ):
        with pytest.raises(StoreRefused) as caught:
            VaultSource(access)
        assert caught.value.reason == "Invalid"
    with pytest.raises(StoreRefused):
        secret_path("", "v2", "only-a-mount")
    with pytest.raises(StoreRefused):
        VaultSource(VaultAccess(server="http://vault", login=login, path="kv")).fetch("a", "latest")
