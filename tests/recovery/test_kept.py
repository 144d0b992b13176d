"""Stage 4 on sealed copies: what Git asks for comes back, marked, and holds nothing up; nothing else does."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from recovery.app import Health, HealthState
from recovery.bootstrap import rebuild
from recovery.events import Stage
from recovery.judge import lenient
from recovery.kept import restore_copies
from recovery.request import RebuildRequest
from secretsops.errors import BrokenEscrow
from secretsops.escrow import keeping
from secretsops.escrow.kept import Copy, hidden, key_mark
from secretsops.escrow.survey import look
from secretsops.external.lastgood import KEEP, spec_digest
from secretsops.external.model import RESTORED_FROM
from secretsops.manifest import GroupVersionKind, Manifest, load_all
from secretsops.secret import Plaintext
from tests.fakes.cluster import FakeCluster
from tests.recovery.estates import Estate, application
from tests.secretsops.escrow.worlds import NOW, OTHER_IDENTITY, RECIPIENT, escrow, opening, reading, sinks

SECRET = GroupVersionKind("", "v1", "Secret")
NAMES = Plaintext(b"n" * 32)
VALUE = base64.b64encode(b"canary-77ab").decode()


def external(name: str, key: str = "db") -> dict[str, Any]:
    spec = {"secretStoreRef": {"name": "vault"}, "dataFrom": [{"extract": {"key": key}}]}
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": metadata, "spec": spec}


def kept(found: Any, **copies: dict[str, Any] | None) -> None:
    """Write an epoch of copies by name of the ExternalSecret; None is a tombstone."""
    survey = look(found)
    made = {}
    for name, body in copies.items():
        if body is None:
            continue
        metadata = {"name": name, "namespace": "shop", "labels": {}, "annotations": {}}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": {"a": VALUE}}
        made[hidden(NAMES, "shop", name)] = Copy(
            secret=Manifest(secret),
            external=name,
            spec=spec_digest(Manifest(body)),
            stores=["SecretStore/vault"],
            versions={},
            as_of="2026-03-01T00:00:00Z",
        )
    gone = {hidden(NAMES, "shop", name): "Denied" for name, body in copies.items() if body is None}
    terms = keeping.Terms(
        recipients=[RECIPIENT],
        names=key_mark(NAMES),
        versions=3,
        incarnation="old",
        now=NOW.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    keeping.write(survey, keeping.newest(survey), made, gone, terms)


def town() -> FakeCluster:
    cluster = FakeCluster()
    cluster.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}))
    return cluster


@pytest.fixture
def found() -> Any:
    return escrow(sinks(3))


def test_only_what_git_asks_for_in_the_same_words_comes_back(found: Any) -> None:
    kept(found, app=external("app"), other=external("other"), revoked=external("revoked"), changed=external("changed"))
    kept(found, revoked=None)
    cluster = town()
    asked = [external("app"), external("revoked"), external("changed", key="another"), external("new")]
    done = restore_copies(reading(found), opening())(cluster, [Manifest(body) for body in asked])
    assert [key.name for key in done.as_of] == ["app"]
    secret = cluster.get(SECRET, "app", "shop")
    assert secret.body["data"] == {"a": VALUE}
    assert secret.annotations[RESTORED_FROM] == "prod epoch 2 as of 2026-03-01T00:00:00Z"
    assert [each.name for each in cluster.list(SECRET, namespace="shop")] == ["app"]
    assert done.notes == [
        (
            "1 of 4 ExternalSecrets stand on sealed copies, the oldest as of 2026-03-01T00:00:00Z, "
            "until their stores answer"
        ),
        "Git asks for something else than the copies of shop/changed were sealed for: they were left out",
    ]
    # Once more, as after a kill: the same; a Secret that somebody else made stays.
    assert list(restore_copies(reading(found), opening())(cluster, [Manifest(asked[0])]).as_of) == list(done.as_of)
    there = town()
    metadata = {"name": "app", "namespace": "shop"}
    there.create(Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"mine": VALUE}}))
    assert restore_copies(reading(found), opening())(there, [Manifest(asked[0])]).as_of == {}
    assert there.get(SECRET, "app", "shop").body["data"] == {"mine": VALUE}


def test_copies_that_do_not_hold_or_open_write_nothing(found: Any) -> None:
    cluster = FakeCluster()
    with pytest.raises(BrokenEscrow) as caught:
        restore_copies(found, opening())(cluster, [])
    assert caught.value.reason == "Empty"
    kept(found, app=external("app"))
    with pytest.raises(BrokenEscrow):
        restore_copies(reading(found), opening(OTHER_IDENTITY))(cluster, [Manifest(external("app"))])
    for place in found.places:
        name = next(name for name in place.writer.files if name == "kept-00000001.json")
        place.writer.files[name] = place.writer.files[name].replace(b'"incarnation":"old"', b'"incarnation":"odd"')
    with pytest.raises(BrokenEscrow) as caught:
        restore_copies(reading(found), opening())(cluster, [Manifest(external("app"))])
    assert caught.value.reason == "Untrusted"
    assert cluster.writes() == []


def test_a_rebuild_waits_for_no_store_where_copies_stand_in(found: Any) -> None:
    """Without them the stage waits in vain; the store that keeps may be out, another's may not."""
    kept(found, app=external("app"))
    store = {
        "apiVersion": "external-secrets.io/v1",
        "kind": "SecretStore",
        "metadata": {"name": "vault", "annotations": {KEEP: "true"}},
        "spec": {"provider": {"vault": {"server": "https://vault.invalid"}}},
    }
    body = external("app")
    del body["metadata"]["namespace"]
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definitions = [
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.external-secrets.io"},
            "spec": {
                "group": "external-secrets.io",
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural},
                "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
            },
        }
        for kind, plural in (("ExternalSecret", "externalsecrets"), ("SecretStore", "secretstores"))
    ]
    files = {
        "root.yaml": application("root", "apps"),
        "apps/shop.yaml": application("shop", "shop"),
        "shop/namespace.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n",
        "shop/store.yaml": json.dumps(store),
        "shop/app.yaml": json.dumps(body),
    }
    for restore in (restore_copies(reading(found), opening()), None):
        estate = Estate(files)
        request = RebuildRequest(
            roots=load_all(files["root.yaml"].encode()),
            install=[Manifest(definition) for definition in definitions],
            restore_secrets=restore,
            patience=30,
            parallel=1,
        )
        report = rebuild(request, cluster=estate.cluster, git=estate.git, renderer=estate.renderer, clock=estate.clock)
        if restore is None:
            assert report.stages[-1].stage is Stage.SECRETS
            assert not report.ok
        else:
            assert report.ok, [entry.message for entry in report.stages]
            assert estate.cluster.get(SECRET, "app", "shop").annotations[RESTORED_FROM]
            assert any("stand on sealed copies" in note for note in report.notes)


def test_only_what_stands_on_copies_is_excused() -> None:
    ailing = Health(HealthState.DEGRADED, "out")
    app, other = Manifest(external("app")), Manifest(external("other"))
    keeping_store = Manifest(
        {
            "apiVersion": "external-secrets.io/v1",
            "kind": "SecretStore",
            "metadata": {"name": "a", "namespace": "shop", "annotations": {KEEP: "true"}},
        }
    )
    judged = lenient(lambda _: ailing, {app.key})
    assert [judged(each).state for each in (app, other, keeping_store)] == [  # type: ignore[union-attr]
        HealthState.HEALTHY,
        HealthState.DEGRADED,
        HealthState.HEALTHY,
    ]
    assert lenient(lambda _: ailing, set())(keeping_store) == ailing
