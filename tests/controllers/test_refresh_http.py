"""Who may have ExternalSecrets refreshed over HTTP: real tokens, real rights, on a real API server."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from controllers import refresh_http
from controllers.external_index import ExternalIndex
from controllers.http import HttpServer
from drills.sandbox.cluster import ControlPlane
from secretsops.adapters.kube import connect
from secretsops.clock import SystemClock
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ports import Cluster, ClusterTarget


def key(namespace: str) -> ObjectKey:
    return ObjectKey("external-secrets.io", "ExternalSecret", namespace, "app")


class Asked:
    """A server with the route, and what it woke."""

    def __init__(self, cluster: Cluster, readers: Sequence[ObjectKey]) -> None:
        self.woken: list[ObjectKey] = []
        route = refresh_http.route(cluster, lambda remote: readers if remote == "db" else [], self.woken.extend)
        self.server = HttpServer("127.0.0.1:0", {refresh_http.PATH: route})

    def post(self, body: bytes, token: str = "") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("POST", refresh_http.PATH, body, headers)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    control_plane: ControlPlane = request.getfixturevalue("control_plane")
    found = connect(ClusterTarget(kubeconfig=str(control_plane.kubeconfig)))
    for name in ("refresh-a", "refresh-b"):
        found.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
    rbac = "rbac.authorization.k8s.io/v1"
    rules = [{"apiGroups": ["external-secrets.io"], "resources": ["externalsecrets"], "verbs": ["patch"]}]
    meta: dict[str, Any] = {"name": "refresher", "namespace": "refresh-a"}
    subjects = [{"kind": "ServiceAccount", "name": "refresher", "namespace": "refresh-a"}]
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "refresher"}
    found.create(Manifest({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}))
    found.create(Manifest({"apiVersion": rbac, "kind": "Role", "metadata": meta, "rules": rules}))
    found.create(
        Manifest({"apiVersion": rbac, "kind": "RoleBinding", "metadata": meta, "roleRef": ref, "subjects": subjects})
    )
    return found


@pytest.fixture
def asked(cluster: Cluster) -> Iterator[Asked]:
    found = Asked(cluster, [key("refresh-a"), key("refresh-b")])
    yield found
    found.server.close()


def token(cluster: Cluster, *audiences: str) -> str:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": list(audiences)}}
    path = "/api/v1/namespaces/refresh-a/serviceaccounts/refresher/token"
    answer = cluster.raw("POST", path, body=json.dumps(body).encode(), content_type="application/json")
    found: str = json.loads(answer.body)["status"]["token"]
    return found


@pytest.mark.e2e
def test_a_caller_wakes_what_it_may_patch_and_hears_no_more(cluster: Cluster, asked: Asked) -> None:
    code, body = asked.post(b'{"key": "db"}', token(cluster, "secretsops"))
    assert (code, json.loads(body)) == (202, {"refreshing": 1})
    assert asked.woken == [key("refresh-a")]
    code, body = asked.post(b'{"key": "nothing"}', token(cluster, "secretsops"))
    assert (code, json.loads(body)) == (202, {"refreshing": 0})
    code, body = asked.post(b'{"namespace": "refresh-b", "name": "app"}', token(cluster, "secretsops"))
    assert (code, json.loads(body)) == (202, {"refreshing": 0})


@pytest.mark.e2e
def test_a_token_for_another_audience_is_none(cluster: Cluster, asked: Asked) -> None:
    """A token that leaked from a Vault login, or one of the API server, does not work here."""
    for wrong in (
        token(cluster, "vault"),
        token(cluster, "https://kubernetes.default.svc.cluster.local"),
        "nonsense",
        "",
    ):
        assert asked.post(b'{"key": "db"}', wrong)[0] == 401
    assert asked.woken == []


@pytest.mark.e2e
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"key": 1}', b'{"namespace": "a"}', b"[" * 60000])
def test_nonsense_is_refused(cluster: Cluster, asked: Asked, body: bytes) -> None:
    assert asked.post(body, token(cluster, "secretsops"))[0] == 400


def test_a_key_is_read_by_those_that_name_it_and_those_that_search() -> None:
    index, now = ExternalIndex(), SystemClock().now()

    def put(name: str, **spec: Any) -> None:
        metadata = {"name": name, "namespace": "a", "uid": name}
        body = {"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": metadata, "spec": spec}
        index.external(Manifest(body), now)

    put("one", data=[{"secretKey": "k", "remoteRef": {"key": "/app/db"}}])
    put("two", dataFrom=[{"extract": {"key": "app/db"}}])
    put("three", dataFrom=[{"find": {"name": {"regexp": "x"}}}])
    put("four", data=[{"secretKey": "k", "remoteRef": {"key": "app/other"}}])
    assert [found.name for found in index.readers("app/db")] == ["one", "three", "two"]
    ghost = ObjectKey("external-secrets.io", "ExternalSecret", "a", "ghost")
    four = ObjectKey("external-secrets.io", "ExternalSecret", "a", "four")
    index.since(four)
    assert index.force([ghost, four], now) == [four]
    assert index.since(four) == (now, True)
