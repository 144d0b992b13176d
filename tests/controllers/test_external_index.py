"""Which ExternalSecrets a change concerns."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from controllers.external_index import ExternalIndex
from secretsops.external.model import FINALIZER
from secretsops.manifest import Manifest, ObjectKey

NOW = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
PLACE = ObjectKey("external-secrets.io", "ExternalSecret", "shop", "app")


def external(*, ready: bool = True, target: str = "", store: str = "store", **metadata: Any) -> Manifest:
    spec: dict[str, Any] = {"secretStoreRef": {"name": store}, "target": {"name": target} if target else {}}
    spec["data"] = [{"sourceRef": {"storeRef": {"name": "wide", "kind": "ClusterSecretStore"}}}, "nonsense"]
    return made("ExternalSecret", "app", spec, ready=ready, **metadata)


def made(kind: str, name: str, spec: dict[str, Any], *, ready: bool, **metadata: Any) -> Manifest:
    home = {} if kind == "ClusterSecretStore" else {"namespace": "shop"}
    return Manifest(
        {
            "apiVersion": "external-secrets.io/v1",
            "kind": kind,
            "metadata": {"name": name, "uid": "u", "generation": 1} | home | metadata,
            "spec": spec,
            "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
        }
    )


def secret(name: str) -> Manifest:
    return Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "shop"}})


@pytest.mark.parametrize(
    "change",
    [{"generation": 2}, {"labels": {"a": "b"}}, {"annotations": {"force-sync": "1"}}, {"uid": "other"},
     {"finalizers": ["x"]}, {"deletionTimestamp": "2027-01-01T00:00:00Z"}],
)  # fmt: skip
def test_a_change_of_more_than_status_is_news(change: dict[str, Any]) -> None:
    index = ExternalIndex()
    assert index.external(external(), NOW) == [PLACE]
    assert index.external(external(ready=False), NOW) == []
    assert index.external(external(**change), NOW) == [PLACE]


def test_our_own_finalizer_is_no_news_but_its_loss_is() -> None:
    index, ours = ExternalIndex(), [FINALIZER]
    assert index.external(external(), NOW) == [PLACE]
    assert index.external(external(finalizers=ours), NOW) == []
    assert index.external(external(finalizers=["x", *ours]), NOW) == [PLACE]
    assert index.external(external(finalizers=["x"]), NOW) == [PLACE]
    assert index.external(external(finalizers=["x", *ours], generation=2), NOW) == [PLACE]


def test_a_secret_wakes_the_external_secret_that_makes_it() -> None:
    """Under its own name or the target's, and no longer after it is renamed or gone."""
    index = ExternalIndex()
    index.external(external(), NOW)
    assert index.secret(secret("app")) == [PLACE]
    index.external(external(target="creds"), NOW)
    assert (index.secret(secret("app")), index.secret(secret("creds"))) == ([], [PLACE])
    index.external_gone(PLACE)
    assert index.secret(secret("creds")) == []
    assert index.external(external(), NOW) == [PLACE]


@pytest.mark.parametrize(("kind", "name"), [("SecretStore", "store"), ("ClusterSecretStore", "wide")])
def test_a_store_that_becomes_ready_wakes_those_that_failed_on_it(kind: str, name: str) -> None:
    index = ExternalIndex()
    index.external(external(ready=False), NOW)
    store = made(kind, name, {}, ready=False)
    assert index.store(store) == ([store.key], [])
    assert index.store(made(kind, name, {}, ready=True)) == ([], [PLACE])
    assert index.store(made(kind, name, {}, ready=True)) == ([], [])
    assert index.store(made(kind, name, {}, ready=True, generation=2)) == ([store.key], [PLACE])
    index.store_gone(store.key)
    assert index.store(made(kind, name, {}, ready=True)) == ([store.key], [PLACE])


def test_a_store_wakes_nobody_who_is_content_or_elsewhere() -> None:
    index = ExternalIndex()
    index.external(external(), NOW)
    assert index.store(made("SecretStore", "store", {}, ready=True))[1] == []
    index.external(external(ready=False, store="other"), NOW)
    assert index.store(made("SecretStore", "store", {}, ready=True, generation=2))[1] == []


def test_the_moment_of_the_newest_change_is_given_once() -> None:
    """It bounds the age of a shared value, so it never goes back and never serves a retry."""
    index = ExternalIndex()
    later = NOW + dt.timedelta(seconds=3)
    index.external(external(), NOW)
    index.external(external(generation=2), later)
    index.external(external(generation=2, ready=False), later + dt.timedelta(seconds=1))
    assert (index.since(PLACE), index.since(PLACE)) == ((later, False), (None, False))
