"""ExternalSecrets and stores as values, when they are due, and the Secret they ask for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import pytest

from secretsops.errors import InvalidManifest
from secretsops.external.aws import Aws
from secretsops.external.due import is_due, next_pass, oldest_acceptable, refreshed_at, synced_version
from secretsops.external.entries import StoreRef
from secretsops.external.model import (
    CREATED_BY,
    DATA_HASH,
    MANAGED,
    ExternalSecret,
    object_hash,
    read,
    store_refs,
    target_name,
)
from secretsops.external.providers import Listed
from secretsops.external.references import KeyRef
from secretsops.external.render import compose, created_by, data_hash, field_manager, is_intact
from secretsops.external.status import is_ready, stamp, with_ready
from secretsops.external.store import admits, needs_labels, read_store
from secretsops.external.template import Filled
from secretsops.external.vault import Vault
from secretsops.manifest import Manifest
from secretsops.ownership import Create, Leave, Refuse, Update, Write, decide_external
from secretsops.secret import Plaintext, SecretData

NOW = dt.datetime(2027, 1, 1, 12, tzinfo=dt.UTC)
VALUES = {"user": Plaintext(b"alice")}


def external(**spec: Any) -> Manifest:
    metadata = {"name": "app", "namespace": "shop", "uid": "u1", "generation": 1} | spec.pop("metadata", {})
    entry = {"secretKey": "user", "remoteRef": {"key": "db", "property": "user"}}
    body = {"secretStoreRef": {"name": "store"}, "data": [entry]} | spec
    return Manifest(
        {"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": metadata, "spec": body}
    )


# --- Reading -------------------------------------------------------------------------------------------


def test_defaults_are_the_peers() -> None:
    wanted = read(external())
    assert (wanted.target.name, wanted.target.creation, wanted.target.deletion) == ("app", "Owner", "Retain")
    assert (wanted.refresh, wanted.interval) == ("Periodic", 3600.0)
    assert wanted.stores == [StoreRef("SecretStore", "store")]


def test_data_from_comes_before_data_and_entries_may_name_their_store() -> None:
    """Order decides who wins on equal keys; a source of an entry takes precedence."""
    source = {"storeRef": {"name": "other", "kind": "ClusterSecretStore"}}
    manifest = external(dataFrom=[{"extract": {"key": "all"}, "sourceRef": source}], target={"name": "creds"})
    wanted = read(manifest)
    assert [pull.where for pull in wanted.pulls] == ["spec.dataFrom[0]", "spec.data[0]"]
    assert wanted.stores == [StoreRef("ClusterSecretStore", "other"), StoreRef("SecretStore", "store")]
    assert set(store_refs(manifest)) == set(wanted.stores)
    assert target_name(manifest) == "creds"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ({"template": {"engineVersion": "v1", "data": {"a": "b"}}}, "Unsupported"),
        ({"manifest": {"apiVersion": "v1", "kind": "ConfigMap"}}, "GenericTarget"),
    ],
)
def test_what_is_not_built_is_refused_by_name(target: dict[str, Any], reason: str) -> None:
    """Nothing is left out of a Secret in silence."""
    with pytest.raises(InvalidManifest) as caught:
        read(external(target=target))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "part",
    [
        {"data": []},
        {"data": [{"remoteRef": {"key": "a"}}]},
        {"data": [{"secretKey": "a"}]},
        {"data": [{"secretKey": "a", "remoteRef": {"key": "a"}}] * 1001},
        {"secretStoreRef": {}},
        {"dataFrom": [{}]},
        {"dataFrom": ["nonsense"]},
        {"refreshInterval": "soon"},
        {"refreshPolicy": "Sometimes"},
        {"target": {"creationPolicy": "Theft"}},
        {"target": {"creationPolicy": "Merge", "deletionPolicy": "Delete"}},
        {"target": {"creationPolicy": "None", "deletionPolicy": "Merge"}},
        {"data": [{"secretKey": "a", "remoteRef": {"key": "a"}}] * 2},
        {"data": [{"secretKey": "a", "sourceRef": {"generatorRef": {"kind": "UUID", "name": "x"}}}]},
        {"dataFrom": [{"extract": {"key": "a"}, "find": {"name": {"regexp": "x"}}}]},
        {"dataFrom": [{"sourceRef": {"generatorRef": {"kind": "UUID", "name": "x", "apiVersion": "v1"}}}]},
        {"dataFrom": [{"extract": {"key": "a"}, "rewrite": [{}]}]},
        {"dataFrom": [{"extract": {"key": "a"}, "rewrite": [{"regexp": {}, "merge": {}}]}]},
        {"syncWindows": {"kind": "sometimes", "windows": []}},
    ],
)
def test_what_makes_no_sense_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(InvalidManifest):
        read(external(**part))


# --- Due -----------------------------------------------------------------------------------------------


def synced(manifest: Manifest, *, ago: float = 10.0) -> dict[str, Any]:
    at = stamp(NOW - dt.timedelta(seconds=ago))
    ready = {"type": "Ready", "status": "True"}
    return {"refreshTime": at, "syncedResourceVersion": synced_version(read(manifest)), "conditions": [ready]}


@pytest.mark.parametrize(
    ("policy", "interval", "changed", "elapsed"),
    [
        ("Periodic", "1h", True, True),
        ("Periodic", "0", False, False),
        ("OnChange", "1h", True, False),
        ("CreatedOnce", "1h", False, False),
    ],
)
def test_refresh_policies_follow_the_table(policy: str, interval: str, changed: bool, elapsed: bool) -> None:
    """Never synced is always due; changes and elapsed time only where the policy says so."""
    manifest = external(refreshPolicy=policy, refreshInterval=interval)
    wanted, status = read(manifest), synced(manifest)
    assert is_due(wanted, {}, NOW)
    assert not is_due(wanted, status, NOW)
    annotated = external(refreshPolicy=policy, refreshInterval=interval, metadata={"annotations": {"force-sync": "1"}})
    assert is_due(read(annotated), status, NOW) is changed
    assert is_due(wanted, synced(manifest, ago=7200), NOW) is elapsed
    assert (next_pass(wanted, NOW - dt.timedelta(seconds=600), NOW) > 0) is (policy == "Periodic" and interval != "0")


def test_a_refresh_time_of_the_future_or_of_nonsense_is_none() -> None:
    manifest = external()
    assert is_due(read(manifest), synced(manifest, ago=-60), NOW)
    assert refreshed_at({"refreshTime": "yesterday"}) is None
    assert refreshed_at({"refreshTime": "2027-01-01T00:00:00"}) is None


def test_the_next_pass_comes_when_the_interval_has_elapsed() -> None:
    wanted = read(external(refreshInterval="10m"))
    assert next_pass(wanted, NOW - dt.timedelta(minutes=4), NOW) == 360.5
    assert next_pass(wanted, NOW - dt.timedelta(hours=4), NOW) == 0.5


def test_a_shared_value_is_never_older_than_the_reason_to_ask() -> None:
    """What came up by watch or by time may share what was read since; retries read anew."""
    manifest = external(refreshInterval="60s")
    wanted, since = read(manifest), NOW - dt.timedelta(seconds=5)
    assert oldest_acceptable(wanted, {}, since, NOW) == since
    assert oldest_acceptable(wanted, {}, None, NOW) == NOW
    assert oldest_acceptable(wanted, {}, NOW + dt.timedelta(hours=1), NOW) == NOW
    assert oldest_acceptable(wanted, synced(manifest, ago=100), None, NOW) == NOW - dt.timedelta(seconds=46)
    failed = synced(manifest, ago=100) | {"conditions": [{"type": "Ready", "status": "False"}]}
    assert oldest_acceptable(wanted, failed, None, NOW) == NOW
    changed = synced(manifest, ago=100) | {"syncedResourceVersion": "0-x"}
    assert oldest_acceptable(wanted, changed, since, NOW) == since


# --- The peer's digests --------------------------------------------------------------------------------


def test_digests_are_the_peers() -> None:
    """Vectors of External Secrets 2.9.0: adopting its Secrets and status needs them to the byte."""
    assert object_hash("hello there") == "f78681ec611ebaeea0689bff6c7812a83ff98a7faba986d9af76c999"
    data = {"bar": Plaintext(b"value2"), "foo": Plaintext(b"value1")}
    assert data_hash(data) == "1bed8bcbcb4547ffe19a19cd47d9078e84aa6598266d86b99f992d64"
    assert synced_version(read(external())) == "1-f47fe3c0b255b6dd8047cdffa772587bb829efe7a1cb70febeda2eb2"
    annotated = read(external(metadata={"annotations": {"force-sync": "1"}}))
    assert synced_version(annotated) == "1-3cb9936e04320bcee317a9aaadf651af57f2be9c1e224eca5ace6f9f"


def test_field_managers_of_long_names_are_digests() -> None:
    assert field_manager("app") == "externalsecrets.external-secrets.io/app"
    assert field_manager("a" * 29).startswith("externalsecrets.external-secrets.io/sha3/")


# --- The Secret ----------------------------------------------------------------------------------------


def decide(wanted: ExternalSecret, values: Mapping[str, Plaintext], live: Manifest | None) -> Write:
    """Compose and decide, as the spine does."""
    filled = Filled(values=values, labels=wanted.labels, annotations=wanted.annotations)
    composed = compose(wanted, filled, live)
    return decide_external(composed, live, name=wanted.name, creation=wanted.target.creation)


def made(**spec: Any) -> Manifest:
    decision = decide(read(external(**spec)), VALUES, None)
    assert isinstance(decision, Create)
    body = decision.manifest.body
    manager = {"manager": field_manager("app"), "fieldsV1": {"f:data": {"f:user": {}}}}
    body["metadata"] |= {"uid": "s1", "resourceVersion": "1", "managedFields": [manager]}
    return Manifest(body)


def updated(decision: object) -> Manifest:
    assert isinstance(decision, Update)
    return decision.manifest


def test_an_owned_secret_carries_marks_digest_and_owner() -> None:
    secret = made(metadata={"labels": {"team": "a"}, "annotations": {"note": "b"}})
    wanted = read(external())
    assert secret.labels == {"team": "a", MANAGED: "true", CREATED_BY: created_by(wanted)}
    assert secret.annotations == {"note": "b", DATA_HASH: data_hash(VALUES)}
    (owner,) = secret.metadata["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("ExternalSecret", "app", "u1", True)
    assert SecretData.of(secret.body) == VALUES
    assert secret.body["type"] == "Opaque"


@pytest.mark.parametrize("creation", ["Orphan", "CreateOrMerge"])
def test_other_policies_leave_no_owner(creation: str) -> None:
    secret = made(target={"creationPolicy": creation})
    assert secret.metadata["ownerReferences"] == []
    assert CREATED_BY not in secret.labels


def test_merge_never_creates() -> None:
    assert decide(read(external(target={"creationPolicy": "Merge"})), VALUES, None) == Leave()


def test_an_unchanged_secret_is_left_alone() -> None:
    assert decide(read(external()), VALUES, made()) == Leave()


@pytest.mark.parametrize("creation", ["Owner", "Orphan", "Merge", "CreateOrMerge"])
def test_foreign_keys_stay_only_where_secrets_are_merged(creation: str) -> None:
    """A key of ours that is no longer asked for goes under every policy."""
    live = made(target={"creationPolicy": "Owner" if creation == "Merge" else creation})
    live.body["data"]["mine"] = "MQ=="
    secret = updated(decide(read(external(target={"creationPolicy": creation})), {"new": Plaintext(b"x")}, live))
    assert set(secret.body["data"]) == ({"new", "mine"} if "Merge" in creation else {"new"})


def test_a_label_once_copied_and_now_gone_leaves_the_secret() -> None:
    """Also for names of 28 characters and more, where the peer forgets it."""
    live = made()
    live.body["metadata"]["labels"] |= {"team": "a", "mine": "b"}
    live.metadata["managedFields"][0]["fieldsV1"]["f:metadata"] = {"f:labels": {"f:team": {}}}
    assert set(updated(decide(read(external()), VALUES, live)).labels) == {"mine", MANAGED, CREATED_BY}


def test_a_secret_of_another_external_secret_is_refused() -> None:
    live = made()
    live.metadata["ownerReferences"][0]["name"] = "other"
    for creation in ("Owner", "Orphan", "Merge"):
        decision = decide(read(external(target={"creationPolicy": creation})), VALUES, live)
        assert isinstance(decision, Refuse)
        assert decision.reason == "OwnedByAnother"


def test_a_secret_of_another_controller_is_refused_under_owner_only() -> None:
    live = made()
    live.metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": "Thing", "name": "t", "controller": True}]
    assert isinstance(decide(read(external()), VALUES, live), Refuse)
    assert isinstance(decide(read(external(target={"creationPolicy": "Orphan"})), VALUES, live), Update)


def test_our_own_secret_from_before_a_restore_is_ours() -> None:
    """The name is what counts: the uid of a re-created ExternalSecret is another."""
    live = made(metadata={"uid": "old"})
    secret = updated(decide(read(external()), VALUES, live))
    assert [owner["uid"] for owner in secret.metadata["ownerReferences"]] == ["u1"]


def test_an_immutable_target_keeps_its_data() -> None:
    spec = {"target": {"immutable": True}}
    live = made(**spec)
    assert live.body["immutable"] is True
    assert decide(read(external(**spec)), {"user": Plaintext(b"bob")}, live) == Leave()


def test_a_secret_is_intact_while_marks_and_digest_hold() -> None:
    wanted = read(external())
    assert is_intact(wanted, made())
    assert not is_intact(wanted, None)
    for part, change in (
        ("data", {"data": {"user": "Ym9i"}}),
        ("metadata", {"metadata": {"labels": {}, "annotations": made().annotations}}),
        ("metadata", {"metadata": {"labels": made().labels}}),
    ):
        assert not is_intact(wanted, Manifest(made().body | change)), part
    assert is_intact(read(external(target={"creationPolicy": "Orphan"})), None)


# --- Status --------------------------------------------------------------------------------------------


def test_a_transition_is_a_change_of_verdict() -> None:
    """A new message alone moves no time; conditions of others stay."""
    other = {"type": "Deleted", "status": "False"}
    first = with_ready({"conditions": [other]}, ready=True, reason="A", message="a", now=NOW)
    later = with_ready(first, ready=True, reason="B", message="b", now=NOW + dt.timedelta(hours=1))
    assert later["conditions"][0] == other
    assert later["conditions"][1] | {"reason": "A", "message": "a"} == first["conditions"][1]
    assert is_ready(later)
    flipped = with_ready(later, ready=False, reason="C", message="c", now=NOW + dt.timedelta(hours=2))
    assert flipped["conditions"][1]["lastTransitionTime"] == "2027-01-01T14:00:00Z"
    assert not is_ready(flipped)


# --- Stores --------------------------------------------------------------------------------------------


def store(provider: dict[str, Any], *, kind: str = "SecretStore", **spec: Any) -> Manifest:
    metadata = {"name": "store", "namespace": "shop"} if kind == "SecretStore" else {"name": "store"}
    return Manifest(
        {
            "apiVersion": "external-secrets.io/v1",
            "kind": kind,
            "metadata": metadata | {"uid": "u", "generation": 2},
            "spec": {"provider": provider} | spec,
        }
    )


VAULT: dict[str, Any] = {"server": "http://vault", "auth": {"tokenSecretRef": {"name": "auth", "key": "token"}}}
AWS = {"service": "SecretsManager", "region": "r"}
KEYS = {
    "accessKeyIDSecretRef": {"name": "auth", "key": "id"},
    "secretAccessKeySecretRef": {"name": "auth", "key": "secret"},
}


def test_stores_are_read() -> None:
    """A namespaced store reads its own namespace; a bundle may be PEM or base64 of it."""
    found = read_store(store({"vault": VAULT | {"caBundle": "LS0tLS1CRUdJTi0tLS0t"}}, refreshInterval=60))
    assert isinstance(found.provider, Vault)
    assert found.provider.refs == [KeyRef(namespace="shop", name="auth", key="token")]
    assert found.provider.ca_pem == "-----BEGIN-----"
    assert (found.interval, found.is_cluster, found.is_referent) == (60.0, False, False)
    referent = read_store(store({"vault": VAULT}, kind="ClusterSecretStore", refreshInterval="1m"))
    assert (referent.interval, referent.is_cluster, referent.is_referent) == (60.0, True, True)
    aws = read_store(store({"aws": {"service": "SecretsManager", "region": "r", "auth": {"secretRef": KEYS}}})).provider
    assert isinstance(aws, Aws)
    assert [ref.key for ref in aws.refs] == ["id", "secret"]
    assert read_store(store({"aws": {"service": "SecretsManager", "region": "r"}})).provider.refs == []
    listed = read_store(store({"fake": {"data": [{"key": "a", "value": "1", "version": "v1"}]}})).provider
    assert isinstance(listed, Listed)
    assert listed.values == {"av1": Plaintext(b"1")}


@pytest.mark.parametrize(
    ("provider", "reason"),
    [
        ({}, "InvalidSpec"),
        ({"vault": VAULT, "aws": {}}, "InvalidSpec"),
        ({"vault": {"auth": VAULT["auth"]}}, "InvalidSpec"),
        ({"vault": VAULT | {"auth": {}}}, "InvalidSpec"),
        ({"vault": VAULT | {"caBundle": "%%%"}}, "InvalidSpec"),
        ({"vault": VAULT | {"auth": {"gcp": {"role": "r"}}}}, "Unsupported"),
        ({"vault": VAULT | {"tls": {"certSecretRef": {"name": "a"}}}}, "InvalidSpec"),
        ({"vault": VAULT | {"auth": {"tokenSecretRef": {"name": "a", "key": "b", "namespace": "x"}}}}, "InvalidSpec"),
        ({"vault": VAULT | {"caProvider": {"type": "Secret", "name": "a", "namespace": "other"}}}, "InvalidSpec"),
        ({"aws": {"service": "CertificateManager", "region": "r"}}, "Unsupported"),
        ({"aws": {"service": "SecretsManager"}}, "InvalidSpec"),
        ({"aws": AWS | {"auth": {"jwt": {"serviceAccountRef": {}}}}}, "InvalidSpec"),
        ({"aws": AWS | {"auth": {"secretRef": {"accessKeyIDSecretRef": {}}}}}, "InvalidSpec"),
        ({"gcpsm": {}}, "Unsupported"),
    ],
)  # fmt: skip
def test_stores_that_cannot_be_used_say_why(provider: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidManifest) as caught:
        read_store(store(provider))
    assert caught.value.reason == reason


def test_a_negative_interval_and_a_bundle_without_a_home_are_refused() -> None:
    with pytest.raises(InvalidManifest, match="negative"):
        read_store(store({"vault": VAULT}, refreshInterval=-1))
    ca = {"caProvider": {"type": "ConfigMap", "name": "a", "key": "b"}}
    with pytest.raises(InvalidManifest, match="namespace"):
        read_store(store({"vault": VAULT | ca}, kind="ClusterSecretStore"))


@pytest.mark.parametrize(
    ("conditions", "admitted"),
    [
        ([], True),
        ([{"namespaces": ["shop"]}], True),
        ([{"namespaces": ["other"]}], False),
        ([{"namespaces": ["other"]}, {"namespaceSelector": {"matchLabels": {"team": "a"}}}], True),
        ([{"namespaceSelector": {"matchLabels": {"team": "b"}}}], False),
        ([{"namespaceSelector": {}}], True),
        ([{"namespaceRegexes": [".*"]}], True),
        ([{"namespaceRegexes": ["^other-", "ho"]}], True),
        ([{"namespaceRegexes": ["^ho"]}], False),
        ([{}], False),
        ([{"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["a"]}]}}], True),
        ([{"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]}}], False),
        ([{"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}], True),
        ([{"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}}], False),
        ([{"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Odd"}]}}], False),
    ],
)
def test_conditions_are_the_tenants_border(conditions: list[Any], admitted: bool) -> None:
    """One fitting condition is enough; what is unknown admits nobody."""
    manifest = store({"vault": VAULT}, kind="ClusterSecretStore", conditions=conditions)
    assert admits(manifest, "shop", {"team": "a"}) is admitted
    assert needs_labels(manifest) is any(c.get("namespaceSelector") for c in conditions)
