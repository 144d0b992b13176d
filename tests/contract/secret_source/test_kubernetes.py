"""Secrets of a cluster as a store, on a real API server: credentials, rights, any bytes, writing, minted tokens."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import pytest
import yaml

from drills.sandbox.cluster import ControlPlane
from secretsops.adapters.kubernetes import KubernetesSource
from secretsops.cli import RealDoors
from secretsops.errors import StoreRefused, StoreUnavailable
from secretsops.external.access import read_credentials
from secretsops.external.kubernetes import read_kubernetes
from secretsops.external.references import Scope
from secretsops.external.select import extract, select
from secretsops.manifest import Manifest
from secretsops.ports import Cluster, ClusterTarget, Put, Query
from secretsops.secret import Plaintext
from secretsops.sources import KubernetesAccess, Tls
from tests.contract.secret_source.servers import free_port

pytestmark = pytest.mark.e2e


class Remote:
    """A namespace of the session's cluster, as somebody else's."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.plane = control_plane
        self.cluster: Cluster = RealDoors().cluster(ClusterTarget(kubeconfig=str(control_plane.kubeconfig)))
        self.namespace = f"source-{uuid.uuid4().hex[:8]}"
        self.apply("v1", "Namespace", self.namespace, namespace="")

    @property
    def tls(self) -> Tls:
        return Tls(ca_pem=self.plane.pki.ca.read_text())

    def apply(self, version: str, kind: str, name: str, *, namespace: str | None = None, **body: Any) -> None:
        metadata = {"name": name, **body.pop("metadata", {})}
        if namespace is None:
            metadata["namespace"] = self.namespace
        self.cluster.create(Manifest({"apiVersion": version, "kind": kind, "metadata": metadata, **body}))

    def open(self, **more: Any) -> KubernetesSource:
        chosen = {"token": Plaintext(self.plane.token.encode()), "tls": self.tls, **more}
        return KubernetesSource(KubernetesAccess(server=self.plane.server, namespace=self.namespace, **chosen))

    def reader(self) -> Any:
        """Make a service account that may read Secrets here; gives the provider of a store that uses it."""
        self.apply("v1", "ServiceAccount", "reader")
        rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]}]
        self.apply("rbac.authorization.k8s.io/v1", "Role", "reader", rules=rules)
        subject = {"kind": "ServiceAccount", "name": "reader", "namespace": self.namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
        self.apply("rbac.authorization.k8s.io/v1", "RoleBinding", "reader", subjects=[subject], roleRef=role)
        body = {
            "server": {"url": self.plane.server, "caBundle": base64.b64encode(self.tls.ca_pem.encode()).decode()},
            "auth": {"serviceAccount": {"name": "reader"}},
            "remoteNamespace": self.namespace,
        }
        return read_kubernetes(body, Scope(home=self.namespace))


@pytest.fixture
def remote(control_plane: ControlPlane) -> Remote:
    return Remote(control_plane)


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def test_a_secret_is_a_document_of_any_bytes(remote: Remote) -> None:
    values = {"text": b"a<&>\n", "binary": b"\x00\xff\xfe\xed\xa0\x80", "a.b": b"dotted", "empty": b""}
    remote.apply("v1", "Secret", "src", data={key: b64(value) for key, value in values.items()})
    found = remote.open().fetch("src").document
    assert {key: value.reveal() for key, value in extract(found, "aws").items()} == values
    for key, value in values.items():
        assert select(found, key, "aws") == Plaintext(value)
    assert select(found, "none", "aws") is None


def test_what_is_absent_is_an_error_that_takes_nothing_away(remote: Remote) -> None:
    """Compat: as with the peer; `NotFound` would let deletionPolicy take the target along."""
    for read in (remote.open().fetch, remote.open().metadata):
        with pytest.raises(StoreRefused) as caught:
            read("none")
        assert caught.value.reason == "SourceMissing"
    for key in ("", "a/b", "..", "../configmaps/x"):
        with pytest.raises(StoreRefused) as caught:
            remote.open().fetch(key)
        assert caught.value.reason == "Invalid"


def test_labels_and_annotations_are_metadata_and_names_are_found(remote: Remote) -> None:
    for name in ("db-a", "db-b", "web"):
        remote.apply("v1", "Secret", name, data={"n": b64(name.encode())}, metadata={"labels": {"app": name[:2]}})
    source = remote.open()
    assert json.loads(source.metadata("web").document.reveal())["labels"] == {"app": "we"}
    assert list(source.find(Query(name="^db-"))) == ["db-a", "db-b"]
    assert list(source.find(Query(tags={"app": "we"}))) == ["web"]


def test_the_probe_knows_rights_from_doubt(remote: Remote) -> None:
    """Without the right the store can't be used; a token that is not accepted leaves it open (Compat)."""
    remote.open().probe()
    remote.apply("v1", "ServiceAccount", "nobody")
    path = f"/api/v1/namespaces/{remote.namespace}/serviceaccounts/nobody/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    answer = remote.cluster.raw("POST", path, body=json.dumps(body).encode(), content_type="application/json")
    weak = Plaintext(json.loads(answer.body)["status"]["token"].encode())
    for token, reason in ((weak, "Denied"), (Plaintext(b"wrong"), "ValidationUnknown")):
        with pytest.raises(StoreRefused) as caught:
            remote.open(token=token).probe()
        assert caught.value.reason == reason
        with pytest.raises(StoreRefused) as caught:
            remote.open(token=token).fetch("src")
        assert caught.value.reason == "Denied"


def test_a_service_account_gets_tokens_of_its_own(remote: Remote) -> None:
    """One token for many reads; a new one when the API server no longer takes the old; none for another account."""
    provider = remote.reader()
    remote.apply("v1", "Secret", "src", data={"a": b64(b"1")})
    identity, held = read_credentials(remote.cluster, provider, remote.namespace)
    assert any("reader" in str(part) for part in identity)
    source = KubernetesSource(provider.access(held))
    source.log_in()
    source.probe()
    assert source.fetch("src").document == source.fetch("src").document == Plaintext(b'{"a":"1"}')
    source._minted = (source._minted[0], "no longer good") if source._minted else None
    assert source.fetch("src").document == Plaintext(b'{"a":"1"}')
    path = f"/api/v1/namespaces/{remote.namespace}/serviceaccounts/reader"
    remote.cluster.raw("DELETE", path)
    remote.apply("v1", "ServiceAccount", "reader")
    with pytest.raises(StoreRefused) as caught:
        KubernetesSource(provider.access(held)).log_in()
    assert caught.value.reason == "Denied"


def test_a_kubeconfig_is_read_and_nothing_it_names_is_run(remote: Remote) -> None:
    remote.apply("v1", "Secret", "src", data={"a": b64(b"1")})
    cluster = {"server": remote.plane.server, "certificate-authority-data": b64(remote.tls.ca_pem.encode())}
    context = {"cluster": "c", "user": "u"}

    def config(user: dict[str, Any], **more: Any) -> Plaintext:
        return Plaintext(
            yaml.safe_dump(
                {
                    "current-context": "x",
                    "contexts": [{"name": "x", "context": context}],
                    "clusters": [{"name": "c", "cluster": {**cluster, **more}}],
                    "users": [{"name": "u", "user": user}],
                }
            ).encode()
        )

    good = config({"token": remote.plane.token})
    assert remote.open(kubeconfig=good, token=None, tls=Tls()).fetch("src").document == Plaintext(b'{"a":"1"}')
    marker = f"/tmp/{uuid.uuid4().hex}"
    for bad in (
        config({"exec": {"command": "touch", "args": [marker]}}),
        config({"tokenFile": "/etc/passwd"}),
        config({"client-certificate": "/etc/passwd", "client-key": "/etc/passwd"}),
        config({"token": "t"}, **{"certificate-authority": "/etc/passwd"}),
        config({"token": "t"}, **{"insecure-skip-tls-verify": True}),
        Plaintext(b"a: &a [*a, *a]"),
        Plaintext(b"\x00canary: ["),
        Plaintext(b"{}"),
    ):
        with pytest.raises(StoreRefused) as caught:
            remote.open(kubeconfig=bad)
        assert caught.value.reason == "Invalid"
        assert "canary" not in str(caught.value)


def test_no_answer_is_unavailable(remote: Remote) -> None:
    access = KubernetesAccess(server=f"https://127.0.0.1:{free_port()}", namespace="x", tls=remote.tls)
    with pytest.raises(StoreUnavailable):
        KubernetesSource(access).fetch("src")
    other = KubernetesAccess(server=remote.plane.server, namespace="x", token=Plaintext(b"t"))
    with pytest.raises(StoreUnavailable) as caught:
        KubernetesSource(other).fetch("src")
    assert caught.value.reason == "TlsFailed"


def test_keys_are_pushed_into_a_secret_and_taken_away(remote: Remote) -> None:
    source = remote.open()
    assert source.put(Put(key="pushed", property="a", value=Plaintext(b"1")))
    assert source.put(Put(key="pushed", value={"b": Plaintext(b"\xff"), "c": Plaintext(b"3")}))
    assert not source.put(Put(key="pushed", property="c", value=Plaintext(b"3")))
    assert source.exists("pushed", "b")
    source.remove("pushed", "b")
    source.remove("pushed", "never")
    assert source.fetch("pushed").document == Plaintext(b'{"a":"1","c":"3"}')
    source.remove("pushed", "a")
    source.remove("pushed", "c")
    assert not source.exists("pushed")
    with pytest.raises(StoreRefused):
        source.put(Put(key="pushed", value=Plaintext(b"1")))
