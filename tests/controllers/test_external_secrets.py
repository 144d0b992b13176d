"""The external secrets spine against an API server in memory: what is fetched, written, healed, kept and told."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from controllers.external_parts import build
from controllers.external_secrets import ExternalSecrets
from controllers.fence import ClusterReplaced, Fence
from controllers.leader import Fenced
from controllers.observed import Observed
from controllers.stores import Stores
from secretsops.errors import (
    Conflict,
    Invalid,
    NotFound,
    SecretsOpsError,
    ServerFailure,
    StoreRefused,
    StoreUnavailable,
    WorldFailed,
)
from secretsops.external.model import CREATED_BY, DATA_HASH, FINALIZER, MANAGED
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ports import EventType, Fetched
from secretsops.secret import Plaintext, SecretData
from secretsops.sources import Access, AwsAccess, TokenLogin, VaultAccess

CANARY = "canary-4b1d"
PLACE = ObjectKey("external-secrets.io", "ExternalSecret", "shop", "app")
STORE = ObjectKey("external-secrets.io", "SecretStore", "shop", "store")
CLUSTER_STORE = ObjectKey("external-secrets.io", "ClusterSecretStore", "", "store")


class World:
    """An API server's get, list, create, replace, patch and delete, a clock, events, and a secret store."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.writes: list[str] = []
        self.events: list[tuple[str, str, str]] = []
        self.values: dict[str, str] = {"db": f'{{"user":"{CANARY}","pass":"s3cret"}}'}
        self.failure: SecretsOpsError | None = None
        self.refusal: SecretsOpsError | None = None
        self.fetches: list[str] = []
        self.opened: list[Access] = []
        self.time = dt.datetime(2027, 1, 1, 12, tzinfo=dt.UTC)
        self._version = 0

    # --- API server
    def put(self, body: dict[str, Any]) -> dict[str, Any]:
        body = copy.deepcopy(body)
        self._version += 1
        metadata = body["metadata"]
        metadata |= {"resourceVersion": str(self._version), "uid": metadata.get("uid") or f"u{self._version}"}
        metadata.setdefault("generation", 1)
        metadata.setdefault("creationTimestamp", self.time.strftime("%Y-%m-%dT%H:%M:%SZ"))
        self.objects[body["kind"], metadata.get("namespace", ""), metadata["name"]] = body
        return body

    def get(self, kind: GroupVersionKind, name: str, namespace: str = "") -> Manifest:
        found = self.objects.get((kind.kind, namespace, name))
        if found is None:
            raise NotFound(f"{kind.kind} {name} not found")
        return Manifest(copy.deepcopy(found))

    def list(
        self, kind: GroupVersionKind, *, namespace: str = "", label_selector: str = "", **_: Any
    ) -> Sequence[Manifest]:
        name, _sign, value = label_selector.partition("=")
        found = [body for (k, ns, _), body in self.objects.items() if (k, ns) == (kind.kind, namespace)]
        return [Manifest(copy.deepcopy(b)) for b in found if b["metadata"].get("labels", {}).get(name) == value]

    def create(self, manifest: Manifest, *, field_manager: str = "", **_: Any) -> Manifest:
        if self.refusal:
            raise self.refusal
        self.writes.append(f"create {manifest.kind.kind} by {field_manager}")
        return Manifest(self.put(manifest.body))

    def replace(self, manifest: Manifest, *, subresource: str = "", field_manager: str = "", **_: Any) -> Manifest:
        live = self.get(manifest.kind, manifest.name, manifest.namespace)
        if live.resource_version != manifest.resource_version:
            raise Conflict("stale")
        if self.refusal and not subresource:
            raise self.refusal
        self.writes.append(f"replace {manifest.kind.kind}{'/' + subresource if subresource else ''}")
        body = {**live.body, "status": manifest.body["status"]} if subresource else manifest.body
        return Manifest(self.put(body))

    def patch(self, kind: GroupVersionKind, name: str, patch: Any, *, namespace: str = "", **_: Any) -> Manifest:
        body = self.get(kind, name, namespace).body
        assert patch["metadata"]["resourceVersion"] == body["metadata"]["resourceVersion"]
        body["metadata"]["finalizers"] = patch["metadata"]["finalizers"]
        if body["metadata"].get("deletionTimestamp") and not body["metadata"]["finalizers"]:
            del self.objects[kind.kind, namespace, name]
            return Manifest(body)
        return Manifest(self.put(body))

    def delete(self, kind: GroupVersionKind, name: str, *, namespace: str = "", uid: str = "", **_: Any) -> None:
        assert uid == self.get(kind, name, namespace).uid
        self.writes.append(f"delete {kind.kind} {name}")
        del self.objects[kind.kind, namespace, name]

    # --- clock, events, store
    def now(self) -> dt.datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    def sleep(self, seconds: float) -> None:
        raise AssertionError("the spine never waits")

    def emit(self, manifest: Manifest, kind: str, reason: str, message: str) -> None:
        self.events.append((kind, reason, message))

    def open(self, access: Access) -> World:
        self.opened.append(access)
        return self

    dialect = "vault"
    batch = 1

    def fetch(self, key: str, version: str = "") -> Fetched:
        self.fetches.append(key)
        if self.failure:
            raise self.failure
        if key not in self.values:
            raise StoreRefused(f"{key} is not there", reason="NotFound")
        return Fetched(document=Plaintext(self.values[key].encode()), version="1")

    def log_in(self) -> None: ...

    def probe(self) -> None:
        if self.failure:
            raise self.failure

    # --- looking around
    def pass_time(self, **delta: float) -> None:
        self.time += dt.timedelta(**delta)

    def status(self, kind: str = "ExternalSecret", namespace: str = "shop", name: str = "app") -> dict[str, Any]:
        found: dict[str, Any] = self.objects[kind, namespace, name].get("status", {})
        return found

    def ready(self, kind: str = "ExternalSecret", namespace: str = "shop", name: str = "app") -> tuple[str, str, str]:
        (condition,) = [c for c in self.status(kind, namespace, name)["conditions"] if c["type"] == "Ready"]
        return condition["status"], condition["reason"], condition["message"]

    def secret(self, name: str = "app") -> dict[str, Any]:
        return self.objects["Secret", "shop", name]

    def data(self, name: str = "app") -> dict[str, str]:
        return {key: value.reveal().decode() for key, value in SecretData.of(self.secret(name)).items()}

    def has_secret(self, name: str = "app") -> bool:
        return ("Secret", "shop", name) in self.objects


def vault_store(*, kind: str = "SecretStore", **spec: Any) -> dict[str, Any]:
    auth = {"tokenSecretRef": {"name": "auth", "key": "token"}}
    home = {"namespace": "shop"} if kind == "SecretStore" else {}
    return {
        "apiVersion": "external-secrets.io/v1",
        "kind": kind,
        "metadata": {"name": "store"} | home,
        "spec": {"provider": {"vault": {"server": "http://vault", "path": "kv", "auth": auth}}} | spec,
    }


def external(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "app", "namespace": "shop"} | spec.pop("metadata", {})
    entry = {"secretKey": "user", "remoteRef": {"key": "db", "property": "user"}}
    body = {"secretStoreRef": {"name": "store"}, "refreshInterval": "1h", "data": [entry]} | spec
    return {"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": metadata, "spec": body}


@pytest.fixture
def world() -> World:
    found = World()
    token = {"token": "cm9vdA=="}
    found.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "auth", "namespace": "shop"}, "data": token})
    found.put(vault_store())
    return found


@pytest.fixture
def stores(world: World) -> Stores:
    return Stores(world, world.open, world.emit, clock=world)  # type: ignore[arg-type]


@pytest.fixture
def spine(world: World, stores: Stores) -> ExternalSecrets:
    stores.reconcile(STORE)
    world.events.clear()
    return ExternalSecrets(world, stores, world.emit, clock=world, spread=lambda: 0.0)  # type: ignore[arg-type]


def applied(world: World, spine: ExternalSecrets, **spec: Any) -> str:
    """Put the ExternalSecret and reconcile once."""
    live = world.objects.get(("ExternalSecret", "shop", "app"))
    body = external(**spec)
    if live:
        changed = live["spec"] != body["spec"]
        kept = {key: live["metadata"][key] for key in ("uid", "finalizers")}
        kept["generation"] = live["metadata"]["generation"] + changed
        body = {**body, "metadata": body["metadata"] | kept, "status": live.get("status", {})}
    world.put(body)
    return spine.reconcile(PLACE).action


# --- Creation and content ------------------------------------------------------------------------------


def test_a_secret_is_created_with_everything_the_peer_would_write(world: World, spine: ExternalSecrets) -> None:
    assert applied(world, spine, metadata={"labels": {"team": "a"}}) == "created"
    assert world.data() == {"user": CANARY}
    metadata = world.secret()["metadata"]
    assert set(metadata["labels"]) == {"team", MANAGED, CREATED_BY}
    assert set(metadata["annotations"]) == {DATA_HASH}
    assert metadata["ownerReferences"][0]["uid"] == world.objects["ExternalSecret", "shop", "app"]["metadata"]["uid"]
    assert world.ready() == ("True", "SecretSynced", "secret synced")
    assert world.status()["binding"] == {"name": "app"}
    assert world.status()["refreshTime"] == "2027-01-01T12:00:00Z"
    assert world.status()["syncedResourceVersion"].startswith("1-")
    assert world.objects["ExternalSecret", "shop", "app"]["metadata"]["finalizers"] == [FINALIZER]
    assert world.events == [("Normal", "Created", "secret created")]
    assert "create Secret by externalsecrets.external-secrets.io/app" in world.writes


def test_extract_comes_first_and_data_wins(world: World, spine: ExternalSecrets) -> None:
    world.values["more"] = '{"user":"other","a b":1}'
    spec = {"dataFrom": [{"extract": {"key": "db"}}, {"extract": {"key": "more"}}]}
    assert applied(world, spine, **spec) == "created"
    assert world.data() == {"user": CANARY, "pass": "s3cret", "a_b": "1"}


def test_one_document_is_fetched_once(world: World, spine: ExternalSecrets) -> None:
    """Five properties of a path are one request."""
    entries = [{"secretKey": f"k{n}", "remoteRef": {"key": "db", "property": "user"}} for n in range(5)]
    applied(world, spine, data=entries)
    assert world.fetches == ["db"]


def test_nothing_is_asked_or_written_when_nothing_is_due(world: World, spine: ExternalSecrets) -> None:
    applied(world, spine)
    world.fetches.clear()
    world.writes.clear()
    world.pass_time(minutes=30)
    done = spine.reconcile(PLACE)
    assert (done.action, done.again) == ("fresh", 1800.5)
    assert (world.fetches, world.writes) == ([], [])


def test_objects_that_the_watch_told_of_together_share_a_request(world: World, spine: ExternalSecrets) -> None:
    """Twenty ExternalSecrets on one path are one request; one that comes later asks anew."""
    since = world.time
    for number in range(20):
        world.put(external(metadata={"name": f"app{number}"}))
        world.pass_time(seconds=0.1)
        spine.reconcile(ObjectKey(PLACE.group, PLACE.kind, "shop", f"app{number}"), since=since)
    assert world.fetches == ["db"]
    world.put(external(metadata={"name": "late"}))
    spine.reconcile(ObjectKey(PLACE.group, PLACE.kind, "shop", "late"), since=world.time)
    assert world.fetches == ["db", "db"]


def test_objects_that_share_a_document_stay_together(world: World, spine: ExternalSecrets) -> None:
    """Who is served what another one read counts from there, so that the next request serves both again."""
    keys = [ObjectKey(PLACE.group, PLACE.kind, "shop", name) for name in ("app0", "app1")]
    for key in keys:
        world.put(external(metadata={"name": key.name}))
    since = world.time
    for turn in range(1, 4):
        for key in keys:
            spine.reconcile(key, since=since if turn == 1 else None)
            world.pass_time(seconds=4)
        times = {world.status(name=key.name)["refreshTime"] for key in keys}
        assert (len(times), len(world.fetches)) == (1, turn)
        world.pass_time(hours=1)


# --- Changes -------------------------------------------------------------------------------------------


def test_a_changed_value_arrives_when_the_interval_has_elapsed(world: World, spine: ExternalSecrets) -> None:
    applied(world, spine)
    world.values["db"] = '{"user":"bob"}'
    world.pass_time(minutes=59)
    assert spine.reconcile(PLACE).action == "fresh"
    world.pass_time(minutes=2)
    assert spine.reconcile(PLACE).action == "updated"
    assert world.data() == {"user": "bob"}
    assert world.events[-1] == ("Normal", "Updated", "secret updated")


def test_an_annotation_forces_a_sync_that_reads_anew(world: World, spine: ExternalSecrets) -> None:
    """A value read before the change is never used, however recent."""
    applied(world, spine)
    world.values["db"] = '{"user":"bob"}'
    world.pass_time(seconds=1)
    assert applied(world, spine, metadata={"annotations": {"force-sync": "1"}}) == "updated"
    assert world.data() == {"user": "bob"}


@pytest.mark.parametrize("drift", ["edited", "added", "unmarked", "unhashed", "deleted"])
def test_a_secret_that_drifted_is_healed_at_once(world: World, spine: ExternalSecrets, drift: str) -> None:
    applied(world, spine)
    before = world.data()
    secret = copy.deepcopy(world.secret())
    match drift:
        case "edited":
            secret["data"]["user"] = "Ym9i"
        case "added":
            secret["data"]["extra"] = "Ym9i"
        case "unmarked":
            del secret["metadata"]["labels"][MANAGED]
        case "unhashed":
            del secret["metadata"]["annotations"][DATA_HASH]
    if drift == "deleted":
        del world.objects["Secret", "shop", "app"]
    else:
        world.put(secret)
    world.pass_time(seconds=1)
    assert spine.reconcile(PLACE).action == ("created" if drift == "deleted" else "updated")
    assert world.data() == before
    assert world.secret()["metadata"]["labels"][MANAGED] == "true"


def test_who_writes_while_we_write_is_looked_at_again(
    world: World, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch tells of our write before its answer is here, and wakes nobody; what else it tells then is not lost."""
    observed = Observed(world)  # type: ignore[arg-type]
    observed.watches_secrets()
    stores.reconcile(STORE)
    spine = ExternalSecrets(world, stores, world.emit, clock=world, observed=observed, spread=lambda: 0.0)  # type: ignore[arg-type]
    create, seen = world.create, []

    def told_first(manifest: Manifest, **options: Any) -> Manifest:
        made = create(manifest, **options)
        if manifest.kind.kind == "Secret":
            seen.append(observed.is_ours("shop", "app"))
            observed.secret("shop", "app", exists=True, version=int(made.resource_version) + later)
        return made

    monkeypatch.setattr(world, "create", told_first)
    for later, again in ((0, 3600.5), (1, 0.1)):  # noqa: B007 - what is told beside reads it
        world.objects.pop(("Secret", "shop", "app"), None)
        world.objects.pop(("ExternalSecret", "shop", "app"), None)
        observed.secret("shop", "app", exists=False)
        world.put(external())
        assert spine.reconcile(PLACE).again == again
    assert seen == [True, True]
    assert not observed.is_ours("shop", "app")


def test_a_renamed_target_takes_its_old_secret_along(world: World, spine: ExternalSecrets) -> None:
    applied(world, spine, target={"name": "first"})
    assert applied(world, spine, target={"name": "second"}) == "created"
    assert (world.has_secret("first"), world.has_secret("second")) == (False, True)
    assert ("Normal", "Deleted", "secret deleted because it was orphaned") in world.events


def test_a_foreign_secret_with_our_label_is_not_deleted(world: World, spine: ExternalSecrets) -> None:
    applied(world, spine, target={"name": "first"})
    stolen = copy.deepcopy(world.secret("first"))
    stolen["metadata"] |= {"name": "theirs", "uid": "x", "ownerReferences": []}
    world.put(stolen)
    applied(world, spine, target={"name": "second"})
    assert world.has_secret("theirs")


# --- Policies ------------------------------------------------------------------------------------------


def test_merge_waits_for_its_target_and_keeps_foreign_keys(world: World, spine: ExternalSecrets) -> None:
    assert applied(world, spine, target={"creationPolicy": "Merge"}) == "unchanged"
    assert world.ready()[1] == "SecretMissing"
    metadata = {"name": "app", "namespace": "shop"}
    world.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"mine": "MQ=="}})
    world.pass_time(hours=2)
    assert spine.reconcile(PLACE).action == "updated"
    assert world.data() == {"mine": "1", "user": CANARY}
    assert not world.secret()["metadata"].get("ownerReferences")


def test_none_writes_no_secret(world: World, spine: ExternalSecrets) -> None:
    assert applied(world, spine, target={"creationPolicy": "None"}) == "unchanged"
    assert world.ready()[1] == "SecretSynced"
    assert not world.has_secret()


def test_another_external_secrets_target_is_left_alone(world: World, spine: ExternalSecrets) -> None:
    applied(world, spine)
    secret = copy.deepcopy(world.secret())
    secret["metadata"]["ownerReferences"][0]["name"] = "other"
    world.put(secret)
    assert applied(world, spine, metadata={"annotations": {"a": "b"}}) == "refused"
    assert world.secret()["metadata"]["ownerReferences"][0]["name"] == "other"
    assert world.ready() == ("False", "SecretSyncedError", "target is owned by another ExternalSecret")


@pytest.mark.parametrize(
    ("deletion", "action", "reason", "there"),
    [
        ("Retain", None, "SecretSyncedError", True),
        ("Delete", "deleted", "SecretDeleted", False),
        ("Merge", "refused", "SecretSyncedError", True),
    ],
)
def test_deletion_policy_decides_when_the_provider_has_nothing(
    world: World, spine: ExternalSecrets, deletion: str, action: str | None, reason: str, there: bool
) -> None:
    """Retain keeps the last good Secret and says so; Delete takes it away; Merge asks before it empties one."""
    applied(world, spine, target={"deletionPolicy": deletion})
    world.values.clear()
    world.pass_time(hours=2)
    if action is None:
        with pytest.raises(StoreRefused):
            spine.reconcile(PLACE)
        assert world.data() == {"user": CANARY}
    else:
        assert spine.reconcile(PLACE).action == action
    assert world.ready()[1] == reason
    assert world.has_secret() is there


def test_delete_without_ownership_is_refused(world: World, spine: ExternalSecrets) -> None:
    target = {"creationPolicy": "Orphan", "deletionPolicy": "Delete"}
    applied(world, spine, target=target)
    world.values.clear()
    world.pass_time(hours=2)
    assert spine.reconcile(PLACE).action == "refused"
    assert world.has_secret()


def test_a_cluster_that_was_replaced_deletes_no_secret(world: World, stores: Stores) -> None:
    """A provider that lost the value, and an ExternalSecret that goes under Delete: the Secret stays."""
    fence = Fence()
    door: Any = Fenced(world, lambda: True, fence)
    stores.reconcile(STORE)
    spine = ExternalSecrets(door, stores, world.emit, clock=world, spread=lambda: 0.0)
    applied(world, spine, target={"deletionPolicy": "Delete"})
    world.values.clear()
    world.pass_time(hours=2)
    fence.unknown = True
    with pytest.raises(ClusterReplaced):
        spine.reconcile(PLACE)
    world.objects["ExternalSecret", "shop", "app"]["metadata"]["deletionTimestamp"] = "2027-01-01T12:00:00Z"
    with pytest.raises(ClusterReplaced):
        spine.reconcile(PLACE)
    fence.unknown, fence.why = False, "claim 2 is of another incarnation"
    assert spine.reconcile(PLACE).action == "gone"
    assert ("ExternalSecret", "shop", "app") not in world.objects
    assert world.has_secret()


@pytest.mark.parametrize(("deletion", "gone"), [("Retain", False), ("Delete", True)])
def test_a_deleted_external_secret_lets_go(world: World, spine: ExternalSecrets, deletion: str, gone: bool) -> None:
    """Retain leaves the Secret to the garbage collector and its owner reference."""
    applied(world, spine, target={"deletionPolicy": deletion})
    world.objects["ExternalSecret", "shop", "app"]["metadata"]["deletionTimestamp"] = "2027-01-01T12:00:00Z"
    assert spine.reconcile(PLACE).action == "gone"
    assert ("ExternalSecret", "shop", "app") not in world.objects
    assert world.has_secret() is not gone
    assert spine.reconcile(PLACE).action == "gone"


def test_a_deleted_external_secret_leaves_anothers_secret(world: World, spine: ExternalSecrets) -> None:
    applied(world, spine, target={"deletionPolicy": "Delete"})
    world.secret()["metadata"]["ownerReferences"] = []
    world.objects["ExternalSecret", "shop", "app"]["metadata"]["deletionTimestamp"] = "2027-01-01T12:00:00Z"
    spine.reconcile(PLACE)
    assert world.has_secret()


# --- Failures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [StoreUnavailable("no answer"), StoreRefused("denied", reason="Denied"), StoreRefused("x", reason="Invalid")],
)
def test_a_failure_keeps_the_last_good_secret(world: World, spine: ExternalSecrets, failure: SecretsOpsError) -> None:
    applied(world, spine)
    before = copy.deepcopy(world.secret())
    refreshed = world.status()["refreshTime"]
    world.failure = failure
    world.pass_time(hours=2)
    with pytest.raises(type(failure)):
        spine.reconcile(PLACE)
    assert world.secret() == before
    assert world.ready() == ("False", "SecretSyncedError", "could not get secret data from provider")
    assert world.status()["refreshTime"] == refreshed
    world.failure = None
    world.pass_time(seconds=30)
    spine.reconcile(PLACE)
    assert world.ready()[0] == "True"


def test_a_failure_tells_its_entry_and_nothing_more(world: World, spine: ExternalSecrets) -> None:
    with pytest.raises(StoreRefused):
        applied(world, spine, data=[{"secretKey": "a", "remoteRef": {"key": "db", "property": "nope"}}])
    text = 'error processing spec.data[0] (key: db), err: cannot find secret data for key: "nope"'
    assert world.events == [("Warning", "UpdateFailed", text)]
    assert world.status()["refreshTime"] is None
    assert world.status()["binding"] == {"name": ""}


def test_a_repeated_failure_writes_status_once(world: World, spine: ExternalSecrets) -> None:
    world.failure = StoreUnavailable("no answer")
    with pytest.raises(StoreUnavailable):
        applied(world, spine)
    world.writes.clear()
    world.pass_time(seconds=9)
    with pytest.raises(StoreUnavailable):
        spine.reconcile(PLACE)
    assert world.writes == []


def test_all_or_nothing(world: World, spine: ExternalSecrets) -> None:
    """One entry that fails keeps the whole Secret from being written."""
    with pytest.raises(StoreRefused):
        applied(world, spine, dataFrom=[{"extract": {"key": "db"}}, {"extract": {"key": "none"}}])
    assert not world.has_secret()


def test_a_template_makes_the_secret_and_one_that_breaks_leaves_it(world: World, spine: ExternalSecrets) -> None:
    """Type, labels and data are the template's; nothing told holds a value, and the last good Secret stays."""
    good = {"data": {"url": "u:{{ .user }}"}, "metadata": {"labels": {"l": "x"}}, "type": "example.com/db"}
    assert applied(world, spine, target={"template": good}) == "created"
    assert world.data() == {"url": f"u:{CANARY}"}
    assert world.secret()["type"] == "example.com/db"
    assert world.secret()["metadata"]["labels"]["l"] == "x"
    broken = {"data": {"url": "{{ fail .user }}"}}
    assert applied(world, spine, target={"template": broken}) == "refused"
    assert world.data() == {"url": f"u:{CANARY}"}
    assert world.ready()[:2] == ("False", "SecretSyncedError")
    assert CANARY not in str(world.status()) + str(world.events)


def test_a_template_waits_for_its_configmap(world: World, spine: ExternalSecrets) -> None:
    """What is not there may come: the queue tries again, and nothing is written meanwhile."""
    target = {"template": {"templateFrom": [{"configMap": {"name": "conf", "items": [{"key": "url"}]}}]}}
    with pytest.raises(WorldFailed):
        applied(world, spine, target=target)
    assert not world.has_secret()
    metadata = {"name": "conf", "namespace": "shop"}
    world.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"url": "{{ .user }}!"}})
    assert applied(world, spine, target=target) == "created"
    assert world.data() == {"url": f"{CANARY}!"}


def test_an_immutable_secret_that_is_there_renders_nothing(world: World, spine: ExternalSecrets) -> None:
    """Compat: nothing of it would be written, so a template that broke since fails nothing."""
    applied(world, spine, target={"immutable": True, "template": {"data": {"a": "{{ .user }}"}}})
    broken = {"immutable": True, "template": {"data": {"a": "{{ .nope }}"}}}
    assert applied(world, spine, target=broken) == "unchanged"
    assert world.data() == {"a": CANARY}
    assert world.ready()[:2] == ("True", "SecretSynced")


@pytest.mark.parametrize(
    "spec", [{"refreshInterval": "soon"}, {"target": {"template": {"engineVersion": "v1"}}}, {"data": []}]
)
def test_an_invalid_spec_is_said_and_not_tried_again(
    world: World, spine: ExternalSecrets, spec: dict[str, Any]
) -> None:
    assert applied(world, spine, **spec) == "refused"
    assert world.ready()[:2] == ("False", "SecretSyncedError")
    assert world.fetches == []


def test_a_refused_secret_is_reported_without_the_servers_text(world: World, spine: ExternalSecrets) -> None:
    """The API server quotes what it refuses."""
    world.refusal = Invalid(f'data: Invalid value: "{CANARY}"', code=422, reason="Invalid")
    with pytest.raises(Invalid):
        applied(world, spine)
    assert world.ready() == ("False", "SecretSyncedError", "could not update secret")
    assert CANARY not in str(world.events)
    world.refusal = Invalid("field is immutable when `immutable` is set", code=422)
    with pytest.raises(Invalid):
        spine.reconcile(PLACE)
    assert world.ready()[2] == "could not update secret, target is immutable"
    world.refusal = ServerFailure("boom", code=500)
    with pytest.raises(ServerFailure):
        spine.reconcile(PLACE)


def test_no_value_is_told_anywhere(world: World, spine: ExternalSecrets) -> None:
    """Events, statuses and every object but the Secret are free of the canary."""
    applied(world, spine, dataFrom=[{"extract": {"key": "db"}}])
    world.values["db"] = f'{{"user": {CANARY}'
    world.pass_time(hours=2)
    with pytest.raises(StoreRefused) as caught:
        spine.reconcile(PLACE)
    told = [str(world.events), str(caught.value), repr(caught.value.hint)]
    told += [str(body) for (kind, _, _), body in world.objects.items() if kind != "Secret"]
    assert not [text for text in told if CANARY in text]


# --- Stores --------------------------------------------------------------------------------------------


def test_a_store_is_validated_and_says_so_once(world: World, stores: Stores) -> None:
    assert stores.reconcile(STORE) == 300.0
    assert world.ready("SecretStore", name="store") == ("True", "Valid", "store validated")
    assert world.status("SecretStore", name="store")["capabilities"] == "ReadWrite"
    world.writes.clear()
    stores.reconcile(STORE)
    assert world.writes == []
    assert world.events == [("Normal", "Valid", "store validated")]


def test_a_store_that_cannot_be_used_says_why(world: World, stores: Stores) -> None:
    """No credential, then an outage, then a provider that is not built."""
    secret = world.objects.pop(("Secret", "shop", "auth"))
    with pytest.raises(StoreRefused):
        stores.reconcile(STORE)
    assert world.ready("SecretStore", name="store") == ("False", "InvalidProviderConfig", "unable to create client")
    world.put(secret | {"data": {}})
    with pytest.raises(StoreRefused, match="cannot find key"):
        stores.reconcile(STORE)
    world.put(secret)
    world.failure = StoreUnavailable("no answer")
    with pytest.raises(StoreUnavailable):
        stores.reconcile(STORE)
    assert world.ready("SecretStore", name="store")[2] == "unable to validate store"
    world.put(vault_store(provider={"gcpsm": {}}))
    assert stores.reconcile(STORE) == 0.0
    assert world.events[-1] == ("Warning", "InvalidProviderConfig", "provider gcpsm is not supported")
    assert stores.reconcile(ObjectKey("", "SecretStore", "shop", "none")) == 0.0


def test_an_unready_or_missing_store_is_not_asked(world: World, spine: ExternalSecrets) -> None:
    world.put(vault_store())
    with pytest.raises(StoreRefused, match="is not ready"):
        applied(world, spine)
    del world.objects["SecretStore", "shop", "store"]
    with pytest.raises(StoreRefused, match="not found"):
        spine.reconcile(PLACE)
    assert world.fetches == []


def test_stores_of_another_class_are_left_alone(world: World, spine: ExternalSecrets, stores: Stores) -> None:
    """Neither the store nor its ExternalSecrets get a status from us."""
    world.put(vault_store(controller="other"))
    assert stores.reconcile(STORE) == 0.0
    assert applied(world, spine) == "skipped"
    assert (world.status(), world.status("SecretStore", name="store")) == ({}, {})


def test_a_cluster_store_serves_whom_it_admits(world: World, stores: Stores, spine: ExternalSecrets) -> None:
    """Credentials without a namespace are those of the ExternalSecret's."""
    world.put(vault_store(kind="ClusterSecretStore", conditions=[{"namespaces": ["other"]}]))
    assert stores.reconcile(CLUSTER_STORE) == 300.0
    ref = {"secretStoreRef": {"name": "store", "kind": "ClusterSecretStore"}}
    with pytest.raises(StoreRefused, match=r"denied by spec\.condition"):
        applied(world, spine, **ref)
    admitted = vault_store(
        kind="ClusterSecretStore", conditions=[{"namespaceSelector": {"matchLabels": {"team": "a"}}}]
    )
    world.put(admitted | {"status": world.status("ClusterSecretStore", "", "store")})
    with pytest.raises(StoreRefused, match=r"denied by spec\.condition"):
        spine.reconcile(PLACE)
    world.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "a"}}})
    assert spine.reconcile(PLACE).action == "created"


def test_a_rotated_credential_opens_the_store_anew(world: World, spine: ExternalSecrets) -> None:
    applied(world, spine)
    count = len(world.opened)
    world.put(world.objects["Secret", "shop", "auth"] | {"data": {"token": "bmV3"}})
    world.pass_time(hours=2)
    spine.reconcile(PLACE)
    access = world.opened[-1]
    assert len(world.opened) == count + 1
    assert isinstance(access, VaultAccess)
    assert access.login == TokenLogin(token=Plaintext(b"new"))


def test_aws_and_listed_stores_are_opened(world: World, stores: Stores, spine: ExternalSecrets) -> None:
    """AWS gets its key by reference; the fake provider answers from the manifest, with the peer's warning."""
    keys = {
        "accessKeyIDSecretRef": {"name": "auth", "key": "token"},
        "secretAccessKeySecretRef": {"name": "auth", "key": "token"},
    }
    provider = {"aws": {"service": "SecretsManager", "region": "eu-west-1", "auth": {"secretRef": keys}}}
    world.put(vault_store(provider=provider))
    stores.reconcile(STORE)
    access = world.opened[-1]
    assert isinstance(access, AwsAccess)
    who = access.identity
    assert (access.region, who.access_key_id, who.session_token) == ("eu-west-1", Plaintext(b"root"), None)
    world.put(vault_store(provider={"fake": {"data": [{"key": "db", "value": '{"user":"x"}'}]}}))
    stores.reconcile(STORE)
    assert ("Warning", "StoreUnmaintained") in {event[:2] for event in world.events}
    assert applied(world, spine) == "created"
    assert world.data() == {"user": "x"}
    assert world.fetches == []


@pytest.mark.parametrize(
    ("result", "status", "reason"), [(1, "True", "ValidationUnknown"), (2, "False", "InvalidProviderConfig")]
)
def test_a_listed_store_may_pretend(world: World, stores: Stores, result: int, status: str, reason: str) -> None:
    world.put(vault_store(provider={"fake": {"data": [], "validationResult": result}}))
    stores.reconcile(STORE)
    assert world.ready("SecretStore", name="store")[:2] == (status, reason)


def test_a_ca_bundle_may_come_from_a_config_map(world: World, stores: Stores) -> None:
    store = vault_store()
    store["spec"]["provider"]["vault"]["caProvider"] = {"type": "ConfigMap", "name": "ca", "key": "ca.crt"}
    world.put(store)
    metadata = {"name": "ca", "namespace": "shop"}
    world.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ca.crt": "PEM"}})
    stores.reconcile(STORE)
    access = world.opened[-1]
    assert isinstance(access, VaultAccess)
    assert access.tls.ca_pem == "PEM"


# --- In the process ------------------------------------------------------------------------------------


def test_the_part_watches_what_concerns_it_and_keeps_no_values(world: World) -> None:
    """A Secret wakes its ExternalSecret, a store itself and those that failed on it; Secrets are kept without data."""
    doors = SimpleNamespace(secret_source=world.open)
    runtime = SimpleNamespace(
        cluster=world,
        clock=world,
        doors=doors,
        options={},
        events=lambda _, **__: world.emit,
        fence=Fence(),
        namespace="home",
    )
    part, *_ = build(runtime)  # type: ignore[arg-type]
    watched = {which.selection.kind.kind: which for which in part.watched if not which.selection.namespace}
    (configuration,) = (which for which in part.watched if which.selection.namespace)
    assert configuration.selection.field_selector == "metadata.name=secretsops-escrow"
    assert configuration.keep(Manifest({"data": {"escrow.yaml": "e30="}})).body["data"], "it is handed on as it is kept"
    assert set(watched) == {
        "ExternalSecret", "PushSecret", "SecretStore", "ClusterSecretStore", "Secret", "ConfigMap"
    }  # fmt: skip
    assert watched["Secret"].selection.metadata_only

    store = Manifest(world.objects["SecretStore", "shop", "store"])
    assert list(watched["SecretStore"].keys(EventType.ADDED, store)) == [STORE]
    assert part.reconcile(STORE).again_after == 300.0
    world.put(external())
    made = Manifest(world.objects["ExternalSecret", "shop", "app"])
    assert list(watched["ExternalSecret"].keys(EventType.ADDED, made)) == [PLACE]
    assert part.reconcile(PLACE).action == "created"

    kept = watched["Secret"].keep(Manifest(world.secret()))
    assert CANARY not in str(kept.body)
    assert "data" not in kept.body
    assert list(watched["Secret"].keys(EventType.DELETED, kept)) == [PLACE]
    assert list(watched["ExternalSecret"].keys(EventType.DELETED, made)) == []
    assert list(watched["Secret"].keys(EventType.MODIFIED, kept)) == []
    assert list(watched["SecretStore"].keys(EventType.DELETED, store)) == []
