"""Generators that ask somebody, run against real servers: Vault's paths, AWS registries and sessions."""

from __future__ import annotations

import http.server
import json
import threading
from typing import Any

import pytest

from drills.sandbox.aws import Aws
from drills.sandbox.openbao import OpenBao
from secretsops.cli import RealDoors
from secretsops.errors import InvalidManifest, NotFound, SecretsOpsError, StoreRefused
from secretsops.external.entries import GeneratorRef
from secretsops.external.generating import Generators
from secretsops.manifest import GroupVersionKind, Manifest
from tests.contract.secret_source.servers import vault_call
from tests.openbao_servers import b64


class Objects:
    """The objects of one namespace, for a lookup."""

    def __init__(self, *bodies: dict[str, Any]) -> None:
        self.found = {(b["kind"], b["metadata"].get("namespace", ""), b["metadata"]["name"]): b for b in bodies}

    def get(self, kind: GroupVersionKind, name: str, namespace: str = "") -> Manifest:
        if (kind.kind, namespace, name) not in self.found:
            raise NotFound(f"{name} not found")
        return Manifest(self.found[kind.kind, namespace, name])


def secret(namespace: str, name: str, **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "uid": "u", "resourceVersion": "1"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {k: b64(v) for k, v in data.items()}}


def made(kind: str, spec: dict[str, Any], *others: dict[str, Any], namespace: str = "shop") -> dict[str, bytes]:
    """Run a generator in a namespace and give what it made."""
    body = {
        "apiVersion": "generators.external-secrets.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": "g", "namespace": "" if kind == "ClusterGenerator" else namespace},
        "spec": spec,
    }
    objects = Objects(body, *others)
    doors = RealDoors()
    generators = Generators(objects.get, cluster=objects, open_source=doors.secret_source)  # type: ignore[arg-type]
    return {key: value.reveal() for key, value in generators(GeneratorRef(kind, "g"), namespace).items()}


KEYS = {
    "secretRef": {
        "accessKeyIDSecretRef": {"name": "aws", "key": "id"},
        "secretAccessKeySecretRef": {"name": "aws", "key": "secret"},
    }
}
AWS = secret("shop", "aws", id="test", secret="test")


@pytest.fixture
def aws(moto: Aws, monkeypatch: pytest.MonkeyPatch) -> Aws:
    for name in ("AWS_ECR_ENDPOINT", "AWS_ECR_PUBLIC_ENDPOINT", "AWS_STS_ENDPOINT"):
        monkeypatch.setenv(name, moto.url)
    return moto


@pytest.mark.e2e
def test_a_registry_login(aws: Aws) -> None:
    found = made("ECRAuthorizationToken", {"region": "eu-west-1", "auth": KEYS}, AWS)
    assert set(found) == {"username", "password", "proxy_endpoint", "expires_at"}
    assert found["username"] == b"AWS"
    assert found["proxy_endpoint"].startswith(b"https://")
    assert found["expires_at"].isdigit()


@pytest.mark.e2e
def test_session_credentials(aws: Aws) -> None:
    spec = {"region": "eu-west-1", "auth": KEYS, "requestParameters": {"sessionDuration": 3600}}
    found = made("STSSessionToken", spec, AWS)
    assert set(found) == {"access_key_id", "secret_access_key", "session_token", "expiration"}
    assert found["expiration"].isdigit()
    assert all(found.values())


def test_a_session_by_a_service_account_is_refused() -> None:
    spec = {"region": "eu-west-1", "auth": {"jwt": {"serviceAccountRef": {"name": "sa"}}}}
    with pytest.raises(InvalidManifest):
        made("STSSessionToken", spec)


def _vault(bao: OpenBao, path: str, **spec: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    auth = {"tokenSecretRef": {"name": "vault", "key": "token"}}
    return {"path": path, "provider": {"server": bao.url, "auth": auth}} | spec, secret(
        "shop", "vault", token=bao.token
    )


@pytest.mark.e2e
def test_what_a_path_of_vault_answers(openbao: OpenBao) -> None:
    """Data, auth or all of it; a method that is none of the named ones writes; nested values are JSON."""
    mount = "gen-dynamic"
    vault_call(openbao.url, openbao.token, "POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": "1"}})
    vault_call(openbao.url, openbao.token, "POST", f"{mount}/app", {"user": "alice", "n": 7, "o": {"a": [1, "x"]}})
    spec, token = _vault(openbao, f"/{mount}/app")
    assert made("VaultDynamicSecret", spec, token) == {"user": b"alice", "n": b"7", "o": b'{"a":[1,"x"]}'}
    spec, token = _vault(openbao, mount, method="LIST")
    assert made("VaultDynamicSecret", spec, token) == {"keys": b'["app"]'}
    parameters = {"policies": ["default"], "ttl": "1h"}
    spec, token = _vault(openbao, "auth/token/create", method="POST", parameters=parameters, resultType="Auth")
    found = made("VaultDynamicSecret", spec, token)
    assert found["client_token"]
    assert found["lease_duration"] == b"3600"
    spec, token = _vault(openbao, f"/{mount}/app", resultType="Raw")
    assert {"data", "lease_id", "request_id"} <= set(made("VaultDynamicSecret", spec, token))
    spec, token = _vault(openbao, f"/{mount}/app", method="DELETE")
    with pytest.raises(StoreRefused):
        made("VaultDynamicSecret", spec, token)
    spec, token = _vault(openbao, f"/{mount}/app", method="DELETE", allowEmptyResponse=True)
    assert made("VaultDynamicSecret", spec, token) == {}


@pytest.mark.e2e
def test_a_cluster_generator_uses_credentials_of_whoever_asks(openbao: OpenBao) -> None:
    """It is read as if it stood in the namespace that uses it: no credential of another one comes into reach."""
    spec, token = _vault(openbao, "sys/health")
    spec["provider"]["auth"]["tokenSecretRef"]["namespace"] = "kube-system"
    holder = {"kind": "VaultDynamicSecret", "generator": {"vaultDynamicSecretSpec": spec}}
    elsewhere = {**token, "metadata": {**token["metadata"], "namespace": "kube-system"}}
    with pytest.raises(SecretsOpsError) as refused:
        made("ClusterGenerator", holder, token, elsewhere)
    assert "another namespace" in refused.value.message


def test_no_request_is_made_without_credentials() -> None:
    spec = {
        "path": "a/b",
        "provider": {"server": "http://127.0.0.1:1", "auth": {"tokenSecretRef": {"name": "no", "key": "t"}}},
    }
    with pytest.raises(StoreRefused) as refused:
        made("VaultDynamicSecret", spec)
    assert refused.value.reason == "CredentialMissing"


class _Endpoint(http.server.BaseHTTPRequestHandler):
    """Answers with what it was asked by."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = {"data": {"said": body.decode(), "header": self.headers["X-Token"], "n": 7, "o": {"a": 1}}}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_what_an_endpoint_answers() -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        credential = secret("shop", "hook", token="t0k3n")
        credential["metadata"]["labels"] = {"external-secrets.io/type": "webhook"}
        spec = {
            "url": f"http://127.0.0.1:{server.server_port}/new",
            "method": "POST",
            "headers": {"X-Token": "{{ .hook.token }}"},
            "body": "please",
            "result": {"jsonPath": "$.data"},
            "secrets": [{"name": "hook", "secretRef": {"name": "hook"}}],
        }
        found = made("Webhook", spec, credential)
    finally:
        server.shutdown()
        server.server_close()
    assert found == {"said": b"please", "header": b"t0k3n", "n": b"7", "o": b'{"a":1}'}
