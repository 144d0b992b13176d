"""Stores opened for those who may use them: one source per identity, its end, and whose credentials it has."""

from __future__ import annotations

import base64
import datetime as dt
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from secretsops.errors import InvalidManifest, NotFound, StoreRefused
from secretsops.external import opening
from secretsops.external.entries import StoreRef
from secretsops.external.opening import CREDENTIAL_AGE, RETIRED, Openings
from secretsops.external.store import read_store
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Ask, Fetched, SecretSource
from secretsops.secret import Plaintext
from secretsops.sources import Access, RoleLogin, TokenLogin, VaultAccess, WebhookAccess


class Source(SecretSource):
    """Knows with what it was opened, and whether it was closed."""

    dialect = "vault"

    def __init__(self, access: Access, world: World) -> None:
        self.access, self.world, self.closed = access, world, False

    def fetch(self, key: str, version: str = "") -> Fetched:
        assert not self.closed
        self.world.before_answer()
        assert isinstance(self.access, VaultAccess)
        assert isinstance(self.access.login, TokenLogin)
        return Fetched(document=self.access.login.token)

    def probe(self) -> None: ...

    def close(self) -> None:
        self.closed = True


class World:
    """Objects of a cluster, a clock, and what was opened."""

    def __init__(self) -> None:
        self.time = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
        self.objects: dict[tuple[str, str, str], Manifest] = {}
        self.opened: list[Source] = []
        self.before_answer: Any = lambda: None
        self.count = 0

    def put(self, kind: str, namespace: str, name: str, **body: Any) -> Manifest:
        self.count += 1
        metadata = {"name": name, "uid": f"uid-{kind}-{namespace}-{name}", "resourceVersion": str(self.count)}
        metadata |= {"namespace": namespace, **body.pop("metadata", {})}
        manifest = Manifest({"apiVersion": "v1", "kind": kind, "metadata": metadata, **body})
        self.objects[kind, namespace, name] = manifest
        return manifest

    def token(self, namespace: str, value: str) -> None:
        self.put("Secret", namespace, "auth", data={"token": base64.b64encode(value.encode()).decode()})

    def get(self, kind: GroupVersionKind, name: str, namespace: str = "") -> Manifest:
        try:
            return self.objects[kind.kind, namespace, name]
        except KeyError:
            raise NotFound(name) from None

    def now(self) -> dt.datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    def sleep(self, _seconds: float) -> None: ...

    def pass_time(self, seconds: float) -> None:
        self.time += dt.timedelta(seconds=seconds)

    def open(self, access: Access) -> Source:
        self.opened.append(Source(access, self))
        return self.opened[-1]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def openings(world: World) -> Openings:
    return Openings(world, world.open, world)  # type: ignore[arg-type]


def manifest(*, kind: str = "SecretStore", auth: Mapping[str, Any] | None = None, **spec: Any) -> Manifest:
    token = auth or {"tokenSecretRef": {"name": "auth", "key": "token"}}
    metadata = {"name": "store", "uid": "u1", "generation": 1}
    metadata |= {"namespace": "shop"} if kind == "SecretStore" else {}
    return Manifest(
        {
            "apiVersion": "external-secrets.io/v1",
            "kind": kind,
            "metadata": metadata,
            "spec": {"provider": {"vault": {"server": "http://vault", "auth": token}}, **spec},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
    )


def read(openings: Openings, store: Manifest, namespace: str) -> str:
    source = openings.source(StoreRef(store.kind.kind, "store"), store, namespace)
    return source.read(Ask("app"), openings.clock.now(), namespace=namespace).document.reveal().decode()


def test_those_who_come_together_open_one_source(world: World, openings: Openings) -> None:
    world.token("shop", "one")
    store = read_store(manifest())
    threads = [threading.Thread(target=openings.open, args=(store, "")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(world.opened) == 1


def test_a_rotated_credential_takes_over_and_the_old_one_finishes(world: World, openings: Openings) -> None:
    """Rotated while a read is on its way: that read ends well, the next has the new one, the old is given back."""
    world.token("shop", "old")
    on_its_way, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        on_its_way.set()
        go_on.wait(10)

    answers: list[str] = []
    world.before_answer = wait
    reader = threading.Thread(target=lambda: answers.append(read(openings, manifest(), "shop")))
    reader.start()
    assert on_its_way.wait(10)
    world.before_answer = lambda: None
    world.token("shop", "new")
    world.pass_time(CREDENTIAL_AGE)
    assert read(openings, manifest(), "shop") == "new"
    assert not world.opened[0].closed
    go_on.set()
    reader.join(10)
    assert answers == ["old"]
    world.pass_time(RETIRED)
    assert read(openings, manifest(), "shop") == "new"
    assert [source.closed for source in world.opened] == [True, False]


def test_an_account_made_anew_is_another_identity(world: World, openings: Openings) -> None:
    """Its uid and version are part of what was read is kept under."""
    auth = {"kubernetes": {"role": "r", "serviceAccountRef": {"name": "reader", "audiences": ["vault"]}}}
    world.put("ServiceAccount", "shop", "reader")
    openings.open(read_store(manifest(auth=auth)), "")
    world.pass_time(CREDENTIAL_AGE)
    openings.open(read_store(manifest(auth=auth)), "")
    assert len(world.opened) == 1
    world.put("ServiceAccount", "shop", "reader", metadata={"uid": "another"})
    world.pass_time(CREDENTIAL_AGE)
    openings.open(read_store(manifest(auth=auth)), "")
    assert len(world.opened) == 2
    access = world.opened[-1].access
    assert isinstance(access, VaultAccess)
    assert isinstance(access.login, RoleLogin)
    assert list(access.login.minted) == ["jwt"]


def test_a_referent_store_has_each_user_with_their_own_credential(world: World, openings: Openings) -> None:
    """What one namespace read serves no other: sharing never widens access."""
    world.token("shop", "of the shop")
    world.token("bank", "of the bank")
    store = manifest(kind="ClusterSecretStore")
    assert read(openings, store, "shop") == "of the shop"
    assert read(openings, store, "bank") == "of the bank"
    with pytest.raises(StoreRefused) as caught:
        read(openings, store, "nobody")
    assert caught.value.reason == "CredentialMissing"


def test_who_is_not_admitted_gets_nothing_not_even_from_memory(world: World, openings: Openings) -> None:
    auth = {"tokenSecretRef": {"name": "auth", "key": "token", "namespace": "vault"}}
    world.token("vault", "root")
    shared: dict[str, Any] = {"kind": "ClusterSecretStore", "auth": auth}
    assert read(openings, manifest(**shared, conditions=[{"namespaces": ["shop"]}]), "shop") == "root"
    for conditions in ([{"namespaces": ["shop"]}], [{"namespaceRegexes": ["^sh"]}]):
        with pytest.raises(StoreRefused) as caught:
            read(openings, manifest(**shared, conditions=conditions), "bank")
        assert caught.value.reason == "StoreDenied"
    with pytest.raises(InvalidManifest):
        read_store(manifest(**shared, conditions=[{"namespaceRegexes": ["("]}]))


def test_a_webhook_may_send_only_secrets_that_are_marked_for_it(world: World, openings: Openings) -> None:
    hook = {"url": "https://hook", "secrets": [{"name": "auth", "secretRef": {"name": "auth"}}]}
    store = manifest()
    store = Manifest({**store.body, "spec": {"provider": {"webhook": hook}}})
    world.token("shop", "t")
    with pytest.raises(StoreRefused) as caught:
        openings.open(read_store(store), "")
    assert caught.value.reason == "CredentialMissing"
    data = {"token": base64.b64encode(b"t").decode()}
    world.put("Secret", "shop", "auth", data=data, metadata={"labels": {"external-secrets.io/type": "webhook"}})
    openings.open(read_store(store), "")
    access = world.opened[-1].access
    assert isinstance(access, WebhookAccess)
    assert access.secrets["auth"]["token"] == Plaintext(b"t")


def test_everything_is_given_back_at_the_end(world: World, openings: Openings) -> None:
    for namespace in ("shop", "bank"):
        world.token(namespace, namespace)
        read(openings, manifest(kind="ClusterSecretStore"), namespace)
    world.token("shop", "new")
    world.pass_time(CREDENTIAL_AGE)
    read(openings, manifest(kind="ClusterSecretStore"), "shop")
    openings.close()
    assert [source.closed for source in world.opened] == [True] * 3


def test_sources_that_nobody_used_for_long_make_room(
    world: World, openings: Openings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "OPEN_LIMIT", 2)
    for namespace in ("a", "b", "c"):
        world.token(namespace, namespace)
    for namespace in ("a", "b", "a", "c", "a"):
        world.pass_time(CREDENTIAL_AGE)
        openings.open(read_store(manifest(kind="ClusterSecretStore")), namespace)
    assert len(world.opened) == 3
    world.pass_time(RETIRED)
    openings.open(read_store(manifest(kind="ClusterSecretStore")), "a")
    assert [source.closed for source in world.opened] == [False, True, False]
