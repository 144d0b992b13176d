"""A store that is out, or gives less than before: what is kept, what is said, who serves instead."""

from __future__ import annotations

from typing import Any

import pytest

from controllers.external_secrets import ExternalSecrets
from controllers.external_values import Values
from controllers.stores import Stores
from secretsops.errors import Invalid, SecretsOpsError, StoreRefused, StoreUnavailable, TemplateFailed
from secretsops.external.fallback import FALLBACK_STORES, HOLD, STEADY
from secretsops.external.generating import Generators
from secretsops.external.survival import ACCEPT_DROP, FALLBACK, STALE, cause_class, is_outage
from secretsops.manifest import Manifest
from secretsops.ports import Fetched
from secretsops.secret import Plaintext
from tests.controllers.test_external_secrets import CANARY, PLACE, STORE, World, applied, vault_store


class Source:
    """One store, that may fail."""

    dialect = "vault"
    batch = 1

    def __init__(self, values: dict[str, str]) -> None:
        self.values = values
        self.failure: SecretsOpsError | None = None
        self.fetches: list[str] = []

    def fetch(self, key: str, version: str = "") -> Fetched:
        self.fetches.append(key)
        if self.failure:
            raise self.failure
        if key not in self.values:
            raise StoreRefused(f"{key} is not there", reason="NotFound")
        return Fetched(document=Plaintext(self.values[key].encode()), version=version or "1")

    def probe(self) -> None:
        if self.failure:
            raise self.failure

    def log_in(self) -> None:
        """There is no login."""

    def close(self) -> None:
        """There is nothing to close."""


class Worlds(World):
    """A world with several stores, told apart by their servers."""

    def __init__(self) -> None:
        super().__init__()
        document = f'{{"user":"{CANARY}","pass":"s3cret"}}'
        self.sources = {name: Source({"db": document}) for name in ("http://vault", "http://other")}

    def open(self, access: Any) -> Any:
        return self.sources[access.server]

    def condition(self, kind: str) -> dict[str, Any] | None:
        found = [c for c in self.status()["conditions"] if c["type"] == kind]
        return found[0] if found else None


@pytest.fixture
def world() -> Worlds:
    found = Worlds()
    token = {"token": "cm9vdA=="}
    found.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "auth", "namespace": "shop"}, "data": token})
    return found


@pytest.fixture
def stores(world: Worlds) -> Stores:
    return Stores(world, world.open, world.emit, clock=world)  # type: ignore[arg-type]


@pytest.fixture
def values(world: Worlds, stores: Stores) -> Values:
    return Values(stores, Generators(world.get))


@pytest.fixture
def spine(world: Worlds, stores: Stores, values: Values) -> ExternalSecrets:
    return ExternalSecrets(world, stores, world.emit, clock=world, values=values, spread=lambda: 0.0)  # type: ignore[arg-type]


def out(**options: Any) -> StoreUnavailable:
    return StoreUnavailable("Vault answered 503, sealed or down", **options)


def made(world: Worlds, stores: Stores, *, fallback: str = "", other: dict[str, Any] | None = None) -> None:
    """Put the store, with what falls back to what, and a second one."""
    store = vault_store()
    store["metadata"]["annotations"] = {FALLBACK_STORES: fallback} if fallback else {}
    world.put(store)
    second = other or vault_store()
    second["metadata"]["name"] = "other"
    if other is None:
        second["spec"]["provider"]["vault"]["server"] = "http://other"
    world.put(second)
    stores.reconcile(STORE)
    world.events.clear()


# --- Stale ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "cause", "outage"),
    [
        (StoreUnavailable("x", reason="TooSlow"), "Transient", True),
        (StoreUnavailable("x", reason="ClockSkew"), "Transient", True),
        (StoreUnavailable("x", reason="Conflict"), "Conflict", False),
        (StoreUnavailable("x", reason="Paced"), "Transient", False),
        (StoreRefused("x", reason="SourceMissing"), "NotFound", False),
        (StoreRefused("x", reason="MetadataMissing"), "NotFound", False),
        (StoreRefused("x", reason="CredentialMissing"), "Denied", False),
        (StoreRefused("x", reason="NotOurs"), "Conflict", False),
        (StoreRefused("x", reason="TooMany"), "Invalid", False),
        (TemplateFailed("x", line=1), "Template", False),
    ],
)
def test_what_providers_say_has_its_class(failure: SecretsOpsError, cause: str, outage: bool) -> None:
    assert (cause_class(failure), is_outage(failure)) == (cause, outage)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (out(), "Transient"),
        (out(reason="Throttled"), "Throttled"),
        (StoreRefused("permission denied", reason="Denied"), "Denied"),
        (StoreRefused("no such secret", reason="NotFound"), "NotFound"),
    ],
)
def test_data_that_is_older_than_promised_is_called_stale(
    world: Worlds, stores: Stores, spine: ExternalSecrets, failure: SecretsOpsError, reason: str
) -> None:
    made(world, stores)
    applied(world, spine)
    world.sources["http://vault"].failure = failure
    world.pass_time(minutes=61)
    with pytest.raises(type(failure)):
        spine.reconcile(PLACE)
    stale = world.condition(STALE)
    assert stale is not None
    assert (stale["status"], stale["reason"]) == ("True", reason)
    assert "2027-01-01T12:00:00Z" in stale["message"]
    assert "spec.data[0] (key: db)" in stale["message"]
    assert "0 read, 1 failed of 1 entries" in stale["message"]
    assert world.data() == {"user": CANARY}
    # It is written once, and gone with its cause.
    writes = len(world.writes)
    world.pass_time(minutes=1)
    with pytest.raises(type(failure)):
        spine.reconcile(PLACE)
    assert len(world.writes) == writes
    world.sources["http://vault"].failure = None
    world.pass_time(minutes=1)
    spine.reconcile(PLACE)
    assert world.condition(STALE) is None
    assert world.ready()[0] == "True"


def test_data_within_its_interval_is_not_stale(world: Worlds, stores: Stores, spine: ExternalSecrets) -> None:
    """A forced refresh that fails tells in `Ready` that it failed; the data is as fresh as was promised."""
    made(world, stores)
    applied(world, spine)
    world.sources["http://vault"].failure = out()
    world.pass_time(minutes=5)
    with pytest.raises(StoreUnavailable):
        applied(world, spine, metadata={"annotations": {"force-sync": "1"}})
    assert world.ready()[0] == "False"
    assert world.condition(STALE) is None


# --- Never an emptied Secret -----------------------------------------------------------------------------


def test_most_keys_are_not_dropped_until_somebody_says_so(
    world: Worlds, stores: Stores, spine: ExternalSecrets
) -> None:
    made(world, stores)
    source = world.sources["http://vault"]
    source.values["db"] = '{"a":"1","b":"2","c":"3"}'
    everything: dict[str, Any] = {"data": [], "dataFrom": [{"extract": {"key": "db"}}]}
    applied(world, spine, **everything)
    source.values["db"] = '{"a":"9"}'
    world.pass_time(hours=2)
    assert spine.reconcile(PLACE).action == "refused"
    assert world.data() == {"a": "1", "b": "2", "c": "3"}
    text = world.events[-1][2]
    assert "would lose 2 of its 3 keys (b, c)" in text
    wrong = {"annotations": {ACCEPT_DROP: "000000000000"}}
    assert applied(world, spine, metadata=wrong, **everything) == "refused"
    right = {"annotations": {ACCEPT_DROP: text.rpartition("=")[2]}}
    assert applied(world, spine, metadata=right, **everything) == "updated"
    assert world.data() == {"a": "9"}


def test_a_spec_that_asks_for_fewer_keys_is_a_wish(world: World, stores: Stores, spine: ExternalSecrets) -> None:
    assert isinstance(world, Worlds)
    made(world, stores)
    world.sources["http://vault"].values["db"] = '{"a":"1","b":"2","c":"3"}'
    applied(world, spine, data=[], dataFrom=[{"extract": {"key": "db"}}])
    entry = {"secretKey": "a", "remoteRef": {"key": "db", "property": "a"}}
    assert applied(world, spine, data=[entry], dataFrom=[]) == "updated"
    assert world.data() == {"a": "1"}


def test_what_others_added_to_our_secret_goes_without_a_question(
    world: Worlds, stores: Stores, spine: ExternalSecrets
) -> None:
    """Whoever may edit the Secret must not be able to keep it from being healed."""
    made(world, stores)
    applied(world, spine)
    secret = world.secret()
    fields: dict[str, Any] = {"f:data": {"f:user": {}}}
    manager = "externalsecrets.external-secrets.io/app"
    secret["metadata"]["managedFields"] = [{"manager": manager, "fieldsV1": fields}]
    secret["data"] |= {f"x{n}": "eA==" for n in range(9)}
    world.put(secret)
    assert spine.reconcile(PLACE).action == "updated"
    assert world.data() == {"user": CANARY}


# --- Fallback ------------------------------------------------------------------------------------------


def test_another_store_serves_while_the_first_is_out(
    world: Worlds, stores: Stores, spine: ExternalSecrets, values: Values
) -> None:
    made(world, stores, fallback="other")
    first, second = world.sources["http://vault"], world.sources["http://other"]
    second.values["db"] = '{"user":"from-other"}'
    first.failure = out()
    assert applied(world, spine) == "created"
    assert world.data() == {"user": "from-other"}
    assert world.ready()[0] == "True"
    told = world.condition(FALLBACK)
    assert told is not None
    assert told["message"] == 'SecretStore "store" is out, SecretStore "other" serves'
    assert ("Warning", "FallbackUsed", told["message"]) in world.events
    # It is spared as long as it is out, and serves again only after it has answered for a while.
    asked = len(first.fetches)
    world.pass_time(hours=2)
    spine.reconcile(PLACE)
    assert len(first.fetches) == asked
    first.failure = None
    world.pass_time(seconds=HOLD)
    assert values.look_for_recovery() == []
    world.pass_time(seconds=STEADY - 1)
    assert values.look_for_recovery() == []
    world.pass_time(seconds=2)
    assert values.look_for_recovery() == [STORE]
    assert spine.reconcile(PLACE, since=world.now(), forced=True).action == "updated"
    assert world.data() == {"user": CANARY}
    assert world.condition(FALLBACK) is None


def test_a_relapse_starts_the_wait_anew(world: Worlds, stores: Stores, spine: ExternalSecrets, values: Values) -> None:
    made(world, stores, fallback="other")
    first = world.sources["http://vault"]
    first.failure = out()
    applied(world, spine)
    first.failure = None
    world.pass_time(seconds=HOLD)
    assert values.look_for_recovery() == []
    first.failure = out()
    world.pass_time(seconds=HOLD)
    assert values.look_for_recovery() == []
    first.failure = None
    world.pass_time(seconds=HOLD)
    assert values.look_for_recovery() == [], "the first answer after a relapse is one, not the second"


def test_all_values_of_a_store_come_from_one_place(world: Worlds, stores: Stores, spine: ExternalSecrets) -> None:
    """A store that dies between two entries gives neither: no pair of a user and another's password."""
    made(world, stores, fallback="other")
    first, second = world.sources["http://vault"], world.sources["http://other"]
    first.values = {"u": '{"v":"old"}'}
    second.values = {"u": '{"v":"new"}', "p": '{"v":"new"}'}
    entries = [{"secretKey": key, "remoteRef": {"key": key, "property": "v"}} for key in ("u", "p")]
    fetch = first.fetch

    def dying(key: str, version: str = "") -> Fetched:
        if key == "p":
            raise out()
        return fetch(key, version)

    first.fetch = dying  # type: ignore[method-assign]
    applied(world, spine, data=entries)
    assert world.data() == {"u": "new", "p": "new"}


@pytest.mark.parametrize("reason", ["NotFound", "Denied", "Invalid"])
def test_a_no_is_an_answer(world: Worlds, stores: Stores, spine: ExternalSecrets, reason: str) -> None:
    made(world, stores, fallback="other")
    world.sources["http://vault"].failure = StoreRefused("no", reason=reason)
    with pytest.raises(StoreRefused):
        applied(world, spine)
    assert world.sources["http://other"].fetches == []


def _cluster_store(name: str, server: str, **spec: Any) -> dict[str, Any]:
    body = vault_store(kind="ClusterSecretStore", **spec)
    body["metadata"]["name"] = name
    vault = body["spec"]["provider"]["vault"]
    vault["server"] = server
    vault["auth"]["tokenSecretRef"]["namespace"] = "shop"
    return body


@pytest.mark.parametrize(
    "other",
    [
        _cluster_store("b", "http://other", conditions=[{"namespaces": ["elsewhere"]}]),
        vault_store() | {"metadata": {"name": "b", "namespace": "shop"}},
        {**_cluster_store("b", "http://other"), "spec": {"provider": {"fake": {"data": []}}}},
        {**_cluster_store("b", "http://other"), "spec": {"provider": {"webhook": {"url": "http://x"}}}},
        {**_cluster_store("b", "http://other"), "spec": {"provider": {"aws": {"region": "a"}}}},
    ],
    ids=["not admitted", "namespaced", "fake", "webhook", "another provider"],
)
def test_a_cluster_store_never_widens_access(
    world: Worlds, stores: Stores, spine: ExternalSecrets, other: dict[str, Any]
) -> None:
    first = _cluster_store("a", "http://vault")
    first["metadata"]["annotations"] = {FALLBACK_STORES: f"{other['kind']}/b"}
    world.put(first)
    world.put(other)
    world.sources["http://vault"].failure = out()
    with pytest.raises(SecretsOpsError):
        applied(world, spine, secretStoreRef={"name": "a", "kind": "ClusterSecretStore"})
    assert world.sources["http://other"].fetches == []
    assert not world.has_secret()


def test_what_a_fallback_is_decides_the_owner_of_the_store(
    world: Worlds, stores: Stores, spine: ExternalSecrets
) -> None:
    """The annotation counts on the store alone; on the ExternalSecret it is nothing."""
    made(world, stores)
    world.sources["http://vault"].failure = out()
    with pytest.raises(StoreUnavailable):
        applied(world, spine, metadata={"annotations": {FALLBACK_STORES: "other"}})


def test_a_store_that_says_it_is_not_ready_is_asked_all_the_same_where_it_has_a_fallback(
    world: Worlds, stores: Stores, spine: ExternalSecrets
) -> None:
    """While it is out it says so itself; that must not keep the other one from serving."""
    world.sources["http://vault"].failure = out()
    store = vault_store()
    store["metadata"]["annotations"] = {FALLBACK_STORES: "other"}
    world.put(store)
    second = vault_store()
    second["metadata"]["name"] = "other"
    second["spec"]["provider"]["vault"]["server"] = "http://other"
    world.put(second)
    with pytest.raises(StoreUnavailable):
        stores.reconcile(STORE)
    assert applied(world, spine) == "created"


def test_where_the_peers_own_crd_is_installed_ready_is_told_all_the_same(
    world: Worlds, stores: Stores, spine: ExternalSecrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its schema names the types of conditions there may be; then ours are left out, from the first refusal on."""
    made(world, stores)
    applied(world, spine)
    replace, refused = world.replace, []

    def strict(manifest: Manifest, **options: Any) -> Manifest:
        if any(c["type"] not in {"Ready", "Deleted"} for c in manifest.status.get("conditions") or []):
            refused.append(manifest.name)
            raise Invalid("status.conditions[1].type: Unsupported value")
        return replace(manifest, **options)

    monkeypatch.setattr(world, "replace", strict)
    world.sources["http://vault"].failure = out()
    for _ in range(2):
        world.pass_time(minutes=61)
        with pytest.raises(StoreUnavailable):
            spine.reconcile(PLACE)
    assert world.ready()[:2] == ("False", "SecretSyncedError")
    assert world.condition(STALE) is None
    assert refused == ["app"]
