"""Callers who come past the service proxy: TLS, tokens made for us, and the right to create what they ask about."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controllers.http import HttpServer, TlsFiles
from controllers.sealing_http import guarded, routes
from drills.sandbox.certificates import make_pki
from drills.sandbox.cluster import ControlPlane
from secretsops.adapters.kube import connect
from secretsops.clock import SystemClock
from secretsops.errors import UsageError
from secretsops.manifest import Manifest
from secretsops.ports import Cluster, ClusterTarget
from secretsops.sealing.keys import KeyRing, generate
from secretsops.sealing.sealed import Wishes, seal_secret

KEY = generate(now=dt.datetime.now(dt.UTC), bits=2048)


def sealed(namespace: str) -> bytes:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "db", "namespace": namespace},
        "stringData": {"password": "canary-direct-91"},
    }
    return json.dumps(seal_secret(secret, KEY.certificate.public, Wishes(), default_namespace=lambda: "")).encode()


class Direct:
    """The TLS address before a real API server; a service account that may create SealedSecrets of one namespace."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.pki = cluster, make_pki(folder, now=dt.datetime.now(dt.UTC))
        suffix = os.urandom(3).hex()
        self.mine, self.other = f"direct-{suffix}", f"direct-{suffix}-other"
        for name in (self.mine, self.other):
            cluster.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
        rbac, meta = "rbac.authorization.k8s.io", {"name": "sealer", "namespace": self.mine}
        rules = [{"apiGroups": ["bitnami.com"], "resources": ["sealedsecrets"], "verbs": ["create"]}]
        for body in (
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
            {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": meta, "rules": rules},
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "RoleBinding",
                "metadata": meta,
                "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "sealer"},
                "subjects": [{"kind": "ServiceAccount", **meta}],
            },
        ):
            cluster.create(Manifest(body))
        self.tls = TlsFiles(str(self.pki.server), str(self.pki.server_key))
        offered = routes(lambda: KeyRing([KEY]), SystemClock(), burst=100)
        self.server = HttpServer("127.0.0.1:0", guarded(offered, cluster), tls=self.tls)

    def token(self, *audiences: str) -> str:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": audiences}}
        path = f"/api/v1/namespaces/{self.mine}/serviceaccounts/sealer/token"
        answer = self.cluster.raw("POST", path, body=json.dumps(body).encode(), content_type="application/json")
        return str(json.loads(answer.body)["status"]["token"])

    def ask(self, method: str, path: str, body: bytes = b"", token: str = "") -> tuple[int, bytes]:
        context = ssl.create_default_context(cafile=str(self.pki.ca))
        connection = http.client.HTTPSConnection("127.0.0.1", self.server.port, timeout=20, context=context)
        try:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def direct(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Direct]:
    cluster = connect(ClusterTarget(kubeconfig=str(control_plane.kubeconfig)))
    found = Direct(cluster, tmp_path_factory.mktemp("tls"))
    yield found
    found.server.close()


@pytest.mark.e2e
def test_whoever_may_create_a_sealed_secret_may_ask_about_it(direct: Direct) -> None:
    """In that namespace, and no other; the certificate is for everybody."""
    token = direct.token("secretsops")
    assert direct.ask("POST", "/v1/verify", sealed(direct.mine), token) == (200, b"")
    assert direct.ask("POST", "/v1/rotate", sealed(direct.mine), token)[0] == 200
    for path in ("/v1/verify", "/v1/rotate"):
        assert direct.ask("POST", path, sealed(direct.other), token) == (403, b"")
        assert direct.ask("POST", path, b"{}", token) == (500, b"")
    assert direct.ask("GET", "/v1/cert.pem") == (200, KEY.certificate.pem)


@pytest.mark.e2e
def test_no_token_and_tokens_for_others_are_refused(direct: Direct) -> None:
    """Before anything is opened."""
    for token in ("", "nonsense", direct.token("vault"), direct.token("https://kubernetes.default.svc.cluster.local")):
        assert direct.ask("POST", "/v1/verify", sealed(direct.mine), token) == (401, b"")
        assert direct.ask("POST", "/v1/rotate", sealed(direct.mine), token) == (401, b"")


@pytest.mark.e2e
def test_a_certificate_that_is_renewed_is_served_without_a_restart(direct: Direct, tmp_path: Path) -> None:
    """And a broken one does not end the service."""
    renewed = make_pki(tmp_path, now=dt.datetime.now(dt.UTC))
    for ours, theirs in ((direct.pki.server, renewed.server), (direct.pki.server_key, renewed.server_key)):
        ours.write_bytes(theirs.read_bytes())
        os.utime(ours, (1, 1))
    before, direct.pki = direct.pki, renewed
    assert direct.ask("GET", "/v1/cert.pem")[0] == 200
    before.server.write_bytes(b"nothing")
    assert direct.ask("GET", "/v1/cert.pem")[0] == 200


def test_files_that_are_no_pair_are_refused_at_start(tmp_path: Path) -> None:
    pki: Any = make_pki(tmp_path, now=dt.datetime.now(dt.UTC))
    for certificate, key in ((pki.server, pki.client_key), (tmp_path / "none", pki.server_key)):
        with pytest.raises(UsageError) as caught:
            TlsFiles(str(certificate), str(key))
        assert caught.value.reason == "BadTls"
