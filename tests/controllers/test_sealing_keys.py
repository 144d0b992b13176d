"""The key ring in the cluster: broken Secrets are left out, and a key is minted only when one is due."""

from __future__ import annotations

import datetime as dt
from typing import Any

from controllers.sealing_keys import KeyPolicy, Keys, mint, mint_reason, publish
from secretsops.manifest import Manifest
from secretsops.sealing.keys import generate, key_secret

NOW = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
POLICY = KeyPolicy(namespace="sealing", bits=2048)
OLD = generate(now=NOW - dt.timedelta(days=31), bits=2048)


class Memory:
    """List and create of key Secrets, apply of the ConfigMap."""

    def __init__(self) -> None:
        self.secrets: list[Manifest] = []
        self.applied: list[Manifest] = []

    def add(self, body: dict[str, Any]) -> Manifest:
        number = len(self.secrets)
        body["metadata"] |= {"name": f"key{number}", "uid": f"u{number}", "resourceVersion": "1"}
        self.secrets.append(Manifest(body))
        return self.secrets[-1]

    def list(self, kind: object, *, namespace: str = "", label_selector: str = "", field_selector: str = "") -> Any:
        assert namespace == "sealing"
        assert label_selector == "sealedsecrets.bitnami.com/sealed-secrets-key=active"
        return list(self.secrets)

    def create(self, manifest: Manifest, **_: Any) -> Manifest:
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
