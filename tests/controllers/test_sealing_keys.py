"""The key ring in the cluster: broken Secrets are left out, and a key is minted only when one is due."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from controllers.sealing_keys import KeyPolicy, Keys, mint, mint_reason, publish
from secretsops.errors import AlreadyExists, NotFound, Refused
from secretsops.manifest import Manifest
from secretsops.sealing.keys import KEY_LABEL, generate, is_key_secret, key_secret

NOW = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
POLICY = KeyPolicy(namespace="sealing", bits=2048)
OLD = generate(now=NOW - dt.timedelta(days=31), bits=2048)


class Memory:
    """List and create of key Secrets, apply of the ConfigMap."""

    def __init__(self) -> None:
        self.secrets: list[Manifest] = []
        self.applied: list[Manifest] = []
        self.taken: set[str] = set()

    def add(self, body: dict[str, Any]) -> Manifest:
        number = len(self.secrets)
        body["metadata"] |= {"name": f"key{number}", "uid": f"u{number}", "resourceVersion": "1"}
        self.secrets.append(Manifest(body))
        return self.secrets[-1]

    def list(self, kind: object, *, namespace: str = "", label_selector: str = "", field_selector: str = "") -> Any:
        assert namespace == "sealing"
        assert label_selector == "sealedsecrets.bitnami.com/sealed-secrets-key=active"
        return list(self.secrets)

    def get(self, kind: object, name: str, namespace: str = "") -> Manifest:
        raise NotFound(name)

    def create(self, manifest: Manifest, **_: Any) -> Manifest:
        name = manifest.name
        if name in self.taken:
            raise AlreadyExists(name)
        self.taken.add(name)
        return self.add(manifest.body)

    def apply(self, manifest: Manifest, **_: Any) -> Manifest:
        self.applied.append(manifest)
        return manifest


def test_a_broken_key_secret_disables_that_key_alone() -> None:
    """Compat: the peer ends the process. The Secret and a reason are named."""
    cluster, keys = Memory(), Keys(POLICY)
    cluster.add(key_secret(OLD, namespace="sealing"))
    broken = key_secret(OLD, namespace="sealing")
    del broken["data"]["tls.crt"]
    cluster.add(broken)
    assert keys.load(cluster.secrets)
    assert keys.ring.fingerprints == (OLD.fingerprint,)
    assert keys.broken == {"sealing/key1": "KeyMissing"}
    assert not keys.load(cluster.secrets)


def test_a_relabelled_key_leaves_the_ring() -> None:
    """`compromised` takes effect at the next load, without a restart."""
    cluster, keys = Memory(), Keys(POLICY)
    cluster.add(key_secret(OLD, namespace="sealing"))
    keys.load(cluster.secrets)
    cluster.secrets[0].body["metadata"]["labels"] = {"sealedsecrets.bitnami.com/sealed-secrets-key": "compromised"}
    assert keys.load(cluster.secrets)
    assert len(keys.ring) == 0


def test_the_first_key_waits_for_a_restore() -> None:
    """Nothing is minted before the list stayed empty for a while, nor beside a Secret that is broken."""
    keys = Keys(POLICY)
    assert mint_reason(keys, now=NOW, empty_for=POLICY.settle - 0.1) == ""
    assert mint_reason(keys, now=NOW, empty_for=POLICY.settle) == "FirstKey"
    broken = key_secret(OLD, namespace="sealing") | {"data": {}}
    keys.load([Manifest(broken)])
    assert mint_reason(keys, now=NOW, empty_for=1e9) == ""


def test_a_key_that_arrived_meanwhile_stops_the_minting() -> None:
    """The API server is asked again just before: a restore in that moment wins."""
    cluster, keys = Memory(), Keys(POLICY)
    fresh = generate(now=NOW, bits=2048)
    cluster.add(key_secret(fresh, namespace="sealing"))
    assert mint(cluster, keys, reason="FirstKey", now=NOW) == ""  # type: ignore[arg-type]
    assert keys.ring.fingerprints == (fresh.fingerprint,)
    assert len(cluster.secrets) == 1


def test_renewal_keeps_the_old_key_and_publishes_the_new() -> None:
    """After the period a new key seals, the old one still opens, and the certificate is where clients read it."""
    cluster, keys = Memory(), Keys(POLICY)
    cluster.add(key_secret(OLD, namespace="sealing"))
    keys.load(cluster.secrets)
    assert mint_reason(keys, now=NOW, empty_for=0.0) == "Renewal"
    new = mint(cluster, keys, reason="Renewal", now=NOW)  # type: ignore[arg-type]
    assert keys.ring.fingerprints == (new, OLD.fingerprint)
    assert mint_reason(keys, now=NOW, empty_for=0.0) == ""
    publish(cluster, keys, now=NOW)  # type: ignore[arg-type]
    assert cluster.applied[0].body["data"]["fingerprint"] == new
    never = Keys(KeyPolicy(namespace="sealing", renew_every=0.0))
    never.load(cluster.secrets[:1])
    assert mint_reason(never, now=NOW, empty_for=0.0) == ""


def test_two_leaders_mint_one_successor() -> None:
    """The name follows from the predecessor: the second create of the same renewal is refused by the API server."""
    cluster = Memory()
    cluster.add(key_secret(OLD, namespace="sealing"))
    first, second = Keys(POLICY), Keys(POLICY)
    before = list(cluster.secrets)
    won = mint(cluster, first, reason="Renewal", now=NOW)  # type: ignore[arg-type]
    after = cluster.secrets
    calls = []

    def stale(*_: Any, **__: Any) -> Any:
        calls.append(1)
        return before if len(calls) == 1 else after

    cluster.list = stale  # type: ignore[method-assign]
    assert mint(cluster, second, reason="Renewal", now=NOW) == ""  # type: ignore[arg-type]
    assert second.ring.fingerprints == (won, OLD.fingerprint)
    assert len(cluster.secrets) == 2


def test_a_successor_that_was_set_aside_does_not_block_the_next() -> None:
    """Its name stays taken; another is drawn, and there is an end to drawing."""
    cluster, keys = Memory(), Keys(POLICY)
    cluster.add(key_secret(OLD, namespace="sealing"))
    assert mint(cluster, keys, reason="Renewal", now=NOW)  # type: ignore[arg-type]
    del cluster.secrets[1]
    assert mint(cluster, keys, reason="Renewal", now=NOW)  # type: ignore[arg-type]
    del cluster.secrets[1]
    cluster.create = _taken  # type: ignore[method-assign]
    with pytest.raises(Refused) as caught:
        mint(cluster, keys, reason="Renewal", now=NOW)  # type: ignore[arg-type]
    assert caught.value.reason == "NamesTaken"


def _taken(manifest: Manifest, **_: Any) -> Manifest:
    raise AlreadyExists(manifest.name)


def test_a_cutoff_replaces_older_keys_once() -> None:
    """At start alone; one that lies ahead replaces no key younger than an hour."""
    past = Keys(KeyPolicy(namespace="sealing", renew_every=0.0, cutoff=NOW - dt.timedelta(days=1)))
    ahead = Keys(KeyPolicy(namespace="sealing", renew_every=0.0, cutoff=NOW + dt.timedelta(days=1)))
    old, fresh = (Manifest(key_secret(key, namespace="sealing")) for key in (OLD, generate(now=NOW, bits=2048)))
    for keys in (past, ahead):
        keys.load([old])
        assert mint_reason(keys, now=NOW, empty_for=0.0, starting=True) == "Cutoff"
        assert mint_reason(keys, now=NOW, empty_for=0.0) == ""
    old.body["metadata"] |= {"uid": "a"}
    fresh.body["metadata"] |= {"uid": "b"}
    for keys in (past, ahead):
        keys.load([old, fresh])
        assert mint_reason(keys, now=NOW, empty_for=0.0, starting=True) == ""


def test_the_legacy_name_needs_no_label_but_obeys_one() -> None:
    """Compat: upstream reads the Secret of that name whatever its label says."""
    body = key_secret(OLD, namespace="sealing", name="sealed-secrets-key")
    for labels, read in (({}, True), ({KEY_LABEL: "active"}, True), ({KEY_LABEL: "compromised"}, False)):
        body["metadata"]["labels"] = labels
        assert is_key_secret(body, legacy_name="sealed-secrets-key") is read
    assert not is_key_secret({"metadata": {"name": "other"}}, legacy_name="sealed-secrets-key")
