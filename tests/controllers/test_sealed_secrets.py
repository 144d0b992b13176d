"""The sealing spine against an API server in memory: who may write, what status says, what is never told."""

from __future__ import annotations

import copy
import datetime as dt
from typing import Any

import pytest

from controllers.sealed_secrets import SealedSecrets, synced_status
from controllers.sealed_view import masked
from secretsops.errors import CannotUnseal, InvalidManifest, NotFound, NotOurs
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ownership import MANAGED, PATCH, SKIP_OWNER
from secretsops.sealing.keys import KeyPair, KeyRing, generate
from secretsops.sealing.sealed import Wishes, seal_secret

NOW = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
KEY = generate(now=NOW, bits=2048)
OTHER = generate(now=NOW - dt.timedelta(days=1), bits=2048)
PLACE = ObjectKey("bitnami.com", "SealedSecret", "shop", "db")


class Memory:
    """Get, create, replace and status patch of an API server; counts writes."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.writes: list[str] = []
        self.events: list[tuple[str, str, str]] = []
        self._version = 0

    def put(self, body: dict[str, Any]) -> None:
        body = copy.deepcopy(body)
        self._version += 1
        body["metadata"] |= {
            "resourceVersion": str(self._version),
            "uid": body["metadata"].get("uid") or f"u{self._version}",
        }
        if body["kind"] == "Secret":
            body.setdefault("type", "Opaque")
        self.objects[body["kind"], body["metadata"]["namespace"], body["metadata"]["name"]] = body

    def secret(self) -> dict[str, Any]:
        return self.objects["Secret", "shop", "db"]

    def sealed(self) -> dict[str, Any]:
        return self.objects["SealedSecret", "shop", "db"]

    def condition(self) -> dict[str, Any]:
        found: dict[str, Any] = self.sealed()["status"]["conditions"][0]
        return found

    def get(self, kind: GroupVersionKind, name: str, namespace: str = "") -> Manifest:
        found = self.objects.get((kind.kind, namespace, name))
        if found is None:
            raise NotFound(f"{kind.kind} {name} not found")
        return Manifest(copy.deepcopy(found))

    def create(self, manifest: Manifest, **_: Any) -> Manifest:
        self.writes.append(f"create {manifest.kind.kind}")
        self.put(manifest.body)
        return Manifest(copy.deepcopy(self.secret()))

    def replace(self, manifest: Manifest, **_: Any) -> Manifest:
        assert manifest.resource_version == self.secret()["metadata"]["resourceVersion"]
        self.writes.append(f"replace {manifest.kind.kind}")
        self.put(manifest.body)
        return manifest

    def patch(self, kind: GroupVersionKind, name: str, patch: Any, *, subresource: str = "", **_: Any) -> Manifest:
        assert subresource == "status"
        assert patch["metadata"]["resourceVersion"] == self.sealed()["metadata"]["resourceVersion"]
        self.writes.append("patch status")
        self.put(self.sealed() | {"status": patch["status"]})
        return Manifest(self.sealed())

    def emit(self, manifest: Manifest, kind: str, reason: str, message: str) -> None:
        self.events.append((kind, reason, message))

    def now(self) -> dt.datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError("the spine never waits")


def sealed_body(key: KeyPair = KEY, *, values: dict[str, str] | None = None, **metadata: Any) -> dict[str, Any]:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "db", "namespace": "shop"} | metadata,
        "stringData": values or {"user": "canary-value"},
    }
    body = seal_secret(secret, key.certificate.public, Wishes(), default_namespace=lambda: "")
    body["metadata"] |= {"generation": 1, "uid": "owner"}
    return body


@pytest.fixture
def cluster() -> Memory:
    return Memory()


@pytest.fixture
def spine(cluster: Memory) -> SealedSecrets:
    return fresh(cluster)


def fresh(cluster: Memory) -> SealedSecrets:
    """Give a spine that remembers nothing, as after a restart."""
    return SealedSecrets(cluster, lambda: KeyRing([KEY]), cluster.emit, clock=cluster)  # type: ignore[arg-type]


def test_a_secret_is_made_reported_and_left_alone(cluster: Memory, spine: SealedSecrets) -> None:
    """One create, one status, one event; the second pass writes nothing and says nothing."""
    cluster.put(sealed_body())
    assert spine.reconcile(PLACE) == "created"
    assert cluster.secret()["data"] == {"user": "Y2FuYXJ5LXZhbHVl"}
    assert cluster.secret()["metadata"]["ownerReferences"][0]["uid"] == "owner"
    assert cluster.condition()["status"] == "True"
    assert cluster.sealed()["status"]["observedGeneration"] == 1
    assert spine.reconcile(PLACE) == "unchanged"
    assert cluster.writes == ["create Secret", "patch status"]
    assert cluster.events == [("Normal", "Unsealed", "SealedSecret unsealed successfully")]


def test_what_does_not_open_writes_no_secret_and_keeps_the_old(cluster: Memory, spine: SealedSecrets) -> None:
    """Status and event name the item; the last good Secret stays; a key that arrives cures it."""
    cluster.put(sealed_body())
    spine.reconcile(PLACE)
    good = cluster.secret()
    cluster.put(sealed_body(OTHER) | {"status": cluster.sealed()["status"]})
    cluster.sealed()["metadata"]["generation"] = 2
    for _ in range(2):
        with pytest.raises(CannotUnseal):
            spine.reconcile(PLACE)
    assert good == cluster.secret()
    assert cluster.condition()["message"] == "no key could decrypt secret (user)"
    said = "Failed to unseal: no key could decrypt secret (user)"
    assert cluster.events[1:] == [("Warning", "ErrUnsealFailed", said)], "once, however often it is tried"
    assert cluster.writes.count("patch status") == 2
    cured = SealedSecrets(cluster, lambda: KeyRing([KEY, OTHER]), cluster.emit, clock=cluster)  # type: ignore[arg-type]
    cured.reconcile(PLACE)
    assert cluster.condition()["status"] == "True"
    assert "message" not in cluster.condition()


def foreign(**annotations: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "db", "namespace": "shop", "annotations": annotations, "labels": {"l": "1"}},
        "data": {"old": "eA=="},
    }


def test_a_foreign_secret_is_never_overwritten(cluster: Memory, spine: SealedSecrets) -> None:
    """Without an agreement in its own annotations it stays as it is, and status says so."""
    cluster.put(foreign(**{MANAGED: "TRUE"}))
    cluster.put(sealed_body())
    before = cluster.secret()
    with pytest.raises(NotOurs):
        spine.reconcile(PLACE)
    assert before == cluster.secret()
    said = 'Resource "db" already exists and is not managed by SealedSecret'
    assert cluster.condition()["message"] == f"failed update: {said}"
    assert cluster.events == [("Warning", "ErrUpdateFailed", said)]


def test_a_managed_secret_is_taken_over(cluster: Memory, spine: SealedSecrets) -> None:
    """Data, labels and annotations become the template's, and the SealedSecret its owner."""
    cluster.put(foreign(**{MANAGED: "true"}))
    cluster.put(sealed_body())
    assert spine.reconcile(PLACE) == "updated"
    assert sorted(cluster.secret()["data"]) == ["user"]
    assert "labels" not in cluster.secret()["metadata"]
    assert cluster.secret()["metadata"]["ownerReferences"][0]["uid"] == "owner"


def test_patch_lays_keys_over_and_takes_no_ownership(cluster: Memory, spine: SealedSecrets) -> None:
    """Other keys, labels and the lack of an owner stay."""
    cluster.put(foreign(**{PATCH: "true"}))
    cluster.put(sealed_body(labels={"t": "2"}))
    assert spine.reconcile(PLACE) == "updated"
    assert sorted(cluster.secret()["data"]) == ["old", "user"]
    assert cluster.secret()["metadata"]["labels"] == {"l": "1", "t": "2"}
    assert "ownerReferences" not in cluster.secret()["metadata"]
    assert spine.reconcile(PLACE) == "unchanged"


def test_drift_is_healed_but_foreign_annotations_stay(cluster: Memory, spine: SealedSecrets) -> None:
    """Data and labels we wrote come back; what another controller added is not fought over until the spec changes."""
    cluster.put(sealed_body(labels={"app": "web"}))
    spine.reconcile(PLACE)
    before = masked(Manifest(cluster.secret()))
    live = cluster.secret()
    live["data"]["user"] = "aGFja2Vk"
    live["metadata"]["labels"]["app"] = "hacked"
    live["metadata"]["annotations"] = {"reloader": "seen"}
    assert before.body["data"] != masked(Manifest(live)).body["data"]
    assert spine.reconcile(PLACE) == "updated"
    assert cluster.secret()["data"] == {"user": "Y2FuYXJ5LXZhbHVl"}
    assert cluster.secret()["metadata"]["labels"] == {"app": "web"}
    assert cluster.secret()["metadata"]["annotations"] == {"reloader": "seen"}
    cluster.sealed()["metadata"]["generation"] = 2
    assert spine.reconcile(PLACE) == "updated"
    assert "annotations" not in cluster.secret()["metadata"]


def test_without_owner_reference_it_still_counts_as_ours(cluster: Memory, spine: SealedSecrets) -> None:
    """Compat: the peer refuses the Secret it just made."""
    cluster.put(sealed_body(annotations={SKIP_OWNER: "true"}))
    assert spine.reconcile(PLACE) == "created"
    assert "ownerReferences" not in cluster.secret()["metadata"]
    assert spine.reconcile(PLACE) == "unchanged"
    assert cluster.condition()["status"] == "True"


def test_a_sealed_secret_being_deleted_makes_nothing(cluster: Memory, spine: SealedSecrets) -> None:
    """Compat: the peer makes its Secret anew while a finalizer holds the SealedSecret."""
    cluster.put(sealed_body())
    cluster.sealed()["metadata"]["deletionTimestamp"] = "2027-01-01T00:00:00Z"
    assert spine.reconcile(PLACE) == "gone"
    assert cluster.writes == []
    del cluster.objects["SealedSecret", "shop", "db"]
    assert spine.reconcile(PLACE) == "gone"


def test_a_broken_template_is_said_without_its_text(cluster: Memory, spine: SealedSecrets) -> None:
    """No Secret is made, and nothing of the template or of what `fail` is given is repeated."""
    body = sealed_body()
    body["spec"]["template"]["data"] = {"url": "{{ fail `canary` }}"}
    cluster.put(body)
    with pytest.raises(InvalidManifest):
        spine.reconcile(PLACE)
    assert "template.data does not render (url)" in str(cluster.sealed()["status"])
    assert "canary" not in str(cluster.sealed()["status"]) + str(cluster.events)


def test_what_chance_made_stays_until_the_sealed_secret_changes(cluster: Memory, spine: SealedSecrets) -> None:
    """Compat: with the peer a generated password is another one at each pass, also after a restart."""
    body = sealed_body()
    body["spec"]["template"]["data"] = {"token": "{{ randAlphaNum 20 }}", "plain": "x"}
    cluster.put(body)
    assert spine.reconcile(PLACE) == "created"
    made = cluster.secret()["data"]["token"]
    restarted = fresh(cluster)
    assert restarted.reconcile(PLACE) == "unchanged"
    assert cluster.secret()["data"]["token"] == made
    cluster.sealed()["metadata"]["generation"] += 1
    assert fresh(cluster).reconcile(PLACE) == "updated"
    assert cluster.secret()["data"]["token"] != made


def test_nothing_told_holds_a_value(cluster: Memory, spine: SealedSecrets) -> None:
    """Status, events and errors of good and bad objects are free of plaintext and its usual encodings."""
    cluster.put(sealed_body())
    spine.reconcile(PLACE)
    told = str(cluster.sealed()["status"]) + str(cluster.events)
    assert "canary" not in told
    assert "Y2FuYXJ5" not in told


def test_status_changes_once_per_change() -> None:
    """The transition time moves only when the verdict flips; a new message alone is published too."""
    sealed = Manifest({"metadata": {"generation": 3}})
    first = synced_status(sealed, "a", now=NOW)
    assert first is not None
    sealed.body["status"] = first
    assert synced_status(sealed, "a", now=NOW) is None
    later = NOW + dt.timedelta(hours=1)
    second = synced_status(sealed, "b", now=later)
    assert second is not None
    assert second["conditions"][0]["lastTransitionTime"] == "2027-01-01T00:00:00Z"
    assert second["conditions"][0]["lastUpdateTime"] == "2027-01-01T01:00:00Z"
    sealed.body["metadata"]["generation"] = 4
    assert synced_status(sealed, "a", now=later) is not None
