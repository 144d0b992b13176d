"""ExternalSecrets end to end: a real API server with garbage collection, real OpenBao and moto behind the stores.

One story per provider, and what the peer's users fear most: an outage, a hand that edits, a hand that deletes.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from drills.sandbox.aws import Aws
from drills.sandbox.cluster import ControlPlane
from drills.sandbox.openbao import OpenBao
from secretsops.cli import RealDoors
from secretsops.errors import NotFound
from secretsops.external.model import EXTERNAL_SECRET, SECRET, SECRET_STORE
from secretsops.manifest import Manifest
from secretsops.ports import Cluster, ClusterTarget
from tests.conformance.external_traces import Running
from tests.conformance.test_external_secrets import install_crds
from tests.contract.secret_source.servers import aws_call

pytestmark = pytest.mark.e2e
CANARY = "canary-e2e-51c0"


class Shop:
    """One namespace of the cluster, with words for what a team does in it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def apply(self, body: dict[str, Any]) -> None:
        self.cluster.apply(Manifest(body), field_manager="team", force=True)

    def secret(self, name: str, **data: str) -> None:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        metadata = {"name": name, "namespace": self.name}
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded})

    def store(self, provider: dict[str, Any]) -> None:
        self._external("SecretStore", "store", {"provider": provider})
        self.until(lambda: self.ready(SECRET_STORE, "store") == "True", "the store is ready")

    def external(self, name: str = "app", **spec: Any) -> None:
        self._external("ExternalSecret", name, {"refreshInterval": "2s", "secretStoreRef": {"name": "store"}} | spec)

    def _external(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        metadata = {"name": name, "namespace": self.name}
        self.apply({"apiVersion": "external-secrets.io/v1", "kind": kind, "metadata": metadata, "spec": spec})

    def data(self, name: str = "app") -> dict[str, str] | None:
        try:
            found = self.cluster.get(SECRET, name, self.name)
        except NotFound:
            return None
        return {key: base64.b64decode(text).decode() for key, text in (found.body.get("data") or {}).items()}

    def ready(self, kind: Any = EXTERNAL_SECRET, name: str = "app") -> str:
        conditions = self.cluster.get(kind, name, self.name).status.get("conditions") or []
        return str(conditions[0]["status"]) if conditions else ""

    def until(self, holds: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
        limit = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < limit, f"awaited in vain: {what}"
            time.sleep(0.1)


class Wire:
    """A TCP forwarder to a server, which can be cut."""

    def __init__(self, url: str) -> None:
        target = urlsplit(url)
        self._target = (target.hostname or "", target.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._is_cut = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        self._is_cut.set()

    def mend(self) -> None:
        self._is_cut.clear()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
            back.start()
            self._pump(client, server)
            back.join(5)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        source.settimeout(0.1)
        try:
            while not self._is_cut.is_set():
                try:
                    chunk = source.recv(65536)
                except TimeoutError:
                    continue
                if not chunk:
                    break
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


@pytest.fixture(scope="module")
def cluster(control_plane: ControlPlane) -> Cluster:
    found = RealDoors().cluster(ClusterTarget(kubeconfig=str(control_plane.kubeconfig)))
    install_crds(found)
    return found


@pytest.fixture(scope="module")
def controllers(cluster: Cluster, moto: Aws) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", moto.url)
        running = Running(cluster)
        yield running
        running.stop()


@pytest.fixture
def wire(openbao: OpenBao) -> Iterator[Wire]:
    found = Wire(openbao.url)
    yield found
    found.close()


def vault(url: str) -> dict[str, Any]:
    auth = {"tokenSecretRef": {"name": "vault", "key": "token"}}
    return {"vault": {"server": url, "path": "secret", "version": "v2", "auth": auth}}


def test_a_vault_secret_through_its_life(cluster: Cluster, controllers: Running, openbao: OpenBao, wire: Wire) -> None:
    """Applied, changed in Vault, edited and deleted by hand, an outage, deleted: the Secret follows."""
    shop = Shop(cluster, "e2e-vault")
    openbao.write("e2e/db", {"user": "alice", "password": CANARY})
    shop.secret("vault", token=openbao.token)
    shop.store(vault(wire.url))
    shop.external(
        dataFrom=[{"extract": {"key": "e2e/db"}}],
        data=[{"secretKey": "login", "remoteRef": {"key": "e2e/db", "property": "user"}}],
    )
    first = {"user": "alice", "password": CANARY, "login": "alice"}
    shop.until(lambda: shop.data() == first, "the Secret is made")
    assert shop.ready() == "True"

    openbao.write("e2e/db", {"user": "bob", "password": CANARY})
    second = first | {"user": "bob", "login": "bob"}
    shop.until(lambda: shop.data() == second, "the change arrives")

    cluster.patch(SECRET, "app", {"data": {"user": "bWFsbG9yeQ==", "extra": "MQ=="}}, namespace=shop.name)
    shop.until(lambda: shop.data() == second, "the edit is healed")
    cluster.delete(SECRET, "app", namespace=shop.name)
    shop.until(lambda: shop.data() == second, "the Secret is made again")

    wire.cut()
    shop.until(lambda: shop.ready() == "False", "the status admits the outage")
    assert shop.data() == second
    cluster.patch(SECRET, "app", {"metadata": {"labels": {"mine": "1"}}}, namespace=shop.name)
    time.sleep(1)
    assert shop.data() == second
    wire.mend()
    openbao.write("e2e/db", {"user": "carol", "password": CANARY})
    shop.until(lambda: (shop.data() or {}).get("user") == "carol", "it recovers", 70)
    shop.until(lambda: shop.ready() == "True", "the status says so")

    cluster.delete(EXTERNAL_SECRET, "app", namespace=shop.name)
    shop.until(lambda: shop.data() is None, "the Secret is garbage-collected", 40)
    told = json.dumps([(about.body.get("status"), *event) for about, *event in controllers.events], default=str)
    assert CANARY not in told


def test_an_aws_secret_and_a_deletion_policy(cluster: Cluster, controllers: Running, moto: Aws) -> None:
    """Static credentials by reference, a property of JSON, and Delete when the provider's secret is gone."""
    shop = Shop(cluster, "e2e-aws")
    moto.put_secret("e2e/api", json.dumps({"key": CANARY, "a.b": "dotted"}))
    shop.secret("aws", id=moto.access_key, secret=moto.secret_key)
    keys = {
        "accessKeyIDSecretRef": {"name": "aws", "key": "id"},
        "secretAccessKeySecretRef": {"name": "aws", "key": "secret"},
    }
    shop.store({"aws": {"service": "SecretsManager", "region": moto.region, "auth": {"secretRef": keys}}})
    entries = [
        {"secretKey": name, "remoteRef": {"key": "e2e/api", "property": prop}}
        for name, prop in (("key", "key"), ("dotted", "a.b"))
    ]
    shop.external(data=entries, target={"name": "api", "deletionPolicy": "Delete"})
    shop.until(lambda: shop.data("api") == {"key": CANARY, "dotted": "dotted"}, "the Secret is made")

    aws_call(moto.url, "DeleteSecret", region=moto.region, SecretId="e2e/api")
    shop.until(lambda: shop.data("api") is None, "the Secret goes with its source")
    assert shop.ready() == "True"


def test_many_objects_of_one_path_are_synced(cluster: Cluster, controllers: Running, openbao: OpenBao) -> None:
    """Forty ExternalSecrets of one path become Secrets; each keeps to its own."""
    shop = Shop(cluster, "e2e-many")
    openbao.write("e2e/shared", {"value": "v"})
    shop.secret("vault", token=openbao.token)
    shop.store(vault(openbao.url))
    entry = {"secretKey": "value", "remoteRef": {"key": "e2e/shared", "property": "value"}}
    for number in range(40):
        shop.external(f"app{number}", data=[entry], refreshInterval="1h")
    shop.until(
        lambda: all(shop.data(f"app{number}") == {"value": "v"} for number in range(40)), "all Secrets are made", 40
    )
    for number in range(40):
        (owner,) = cluster.get(SECRET, f"app{number}", shop.name).metadata["ownerReferences"]
        assert owner["name"] == f"app{number}"
