"""Last known good: what is sealed, when it is not any more, and that no restart, sink or fence makes it lie."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from controllers.external_kept import CONFIGURATION, Keeping
from controllers.external_secrets import ExternalSecrets
from controllers.fence import Fence
from controllers.observed import Observed
from controllers.stores import Stores
from secretsops.errors import BrokenEscrow, NotLetIn, SecretsOpsError, StoreRefused, StoreUnavailable
from secretsops.escrow import keeping
from secretsops.escrow.config import read_config
from secretsops.escrow.kept import Kept, hidden
from secretsops.escrow.places import opened
from secretsops.escrow.survey import look
from secretsops.external.lastgood import KEEP, kept_because, restored, spec_digest, unfit
from secretsops.external.model import RESTORED_FROM, read
from secretsops.manifest import Manifest
from tests.controllers.test_external_secrets import CANARY, PLACE, STORE, World, applied, external, vault_store
from tests.fakes.sink import FakeSink
from tests.secretsops.escrow.worlds import AGE, IDENTITY, OTHER, OTHER_IDENTITY, RECIPIENT, opening

NAMES = b"0123456789abcdef0123456789abcdef"


def configuration(recipient: str = RECIPIENT, names: bytes = NAMES, **more: Any) -> dict[str, Any]:
    """Give the Secret beside the controller: copies in two sinks, sealing keys not escrowed."""
    body = {
        "apiVersion": "secretsops.dev/v1",
        "kind": "EscrowConfig",
        "cluster": "prod",
        "policy": "off",
        "sinks": [{"name": name, "url": f"fake://{name}", "domain": f"office/{name}"} for name in ("a", "b")],
        "lastKnownGood": {"recipients": [recipient]} | more,
    }
    files = {"escrow.yaml": json.dumps(body).encode(), "names.key": names}
    data = {name: base64.b64encode(content).decode() for name, content in files.items()}
    metadata = {"name": CONFIGURATION, "namespace": "kube-system"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


class Town(World):
    """A world whose controller keeps copies in two sinks in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sinks = {name: FakeSink(name) for name in ("a", "b")}
        self.fence = Fence()
        token = {"token": "cm9vdA=="}
        metadata = {"name": "auth", "namespace": "shop"}
        self.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": token})
        body = vault_store()
        body["metadata"]["annotations"] = {KEEP: "true"}
        self.put(body)
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": "cluster-1"}})
        self.secret_configuration = self.put(configuration())
        self.woken: list[Any] = []
        self.start()

    def start(self) -> None:
        """Start the controller, anew."""
        doors = SimpleNamespace(sink=lambda place: self.sinks[place.url.removeprefix("fake://")], age=lambda: AGE)
        observed = Observed(self)  # type: ignore[arg-type]
        observed.watches_secrets()
        for (kind, namespace, name), body in self.objects.items():
            if kind == "Secret":
                version = int(body["metadata"]["resourceVersion"])
                observed.secret(namespace, name, exists=True, version=version)
        self.stores = Stores(self, self.open, self.emit, clock=self, observed=observed)  # type: ignore[arg-type]
        self.keeper = Keeping(self, self, doors, fence=self.fence, observed=observed, emit=self.emit)  # type: ignore[arg-type]
        self.keeper.living = lambda: [PLACE] if ("ExternalSecret", "shop", "app") in self.objects else []
        self.keeper.wake = self.woken.append
        self.keeper.configured(Manifest(self.secret_configuration))
        self.spine = ExternalSecrets(
            self,  # type: ignore[arg-type]
            self.stores,
            self.emit,
            clock=self,
            observed=observed,
            spread=lambda: 0.0,
        )
        self.spine.kept = self.keeper
        self.stores.reconcile(STORE)

    def index(self) -> Kept | None:
        """Give the newest index as anybody reads it."""
        return keeping.newest(look(self.escrow()))

    def escrow(self) -> Any:
        files = {name: base64.b64decode(text) for name, text in self.secret_configuration["data"].items()}
        doors = SimpleNamespace(sink=lambda place: self.sinks[place.url.removeprefix("fake://")], age=lambda: AGE)
        return opened(read_config(files), doors, in_cluster=False)

    def copies(self, identity: Any = IDENTITY, back: int = 0) -> dict[str, dict[str, str]]:
        """Open what is kept: data by ExternalSecret."""
        survey = look(self.escrow())
        entry = keeping.newest(survey)
        assert entry is not None
        found = keeping.opened(survey, entry, opening(identity), back=back)
        return {
            copy.external: {k: base64.b64decode(v).decode() for k, v in copy.secret.body["data"].items()}
            for copy in found
        }

    def kept(self) -> tuple[str, str] | None:
        found = [c for c in self.status()["conditions"] if c["type"] == "Kept"]
        return (found[0]["status"], found[0]["reason"]) if found else None

    def everything(self) -> bytes:
        return b"".join(content for sink in self.sinks.values() for content in sink.files.values())


@pytest.fixture
def town() -> Town:
    return Town()


def test_a_synced_secret_is_sealed_once_proven_and_told(town: Town) -> None:
    """In both sinks, for its own recipient, bound to what it was made from; the name is hidden and the size padded."""
    assert applied(town, town.spine) == "created"
    assert town.kept() is None
    town.keeper.look()
    assert town.copies() == {"app": {"user": CANARY}}
    assert town.kept() == ("True", "Sealed")
    assert town.sinks["a"].files == town.sinks["b"].files
    survey, index = look(town.escrow()), town.index()
    assert index is not None
    (copy,) = keeping.opened(survey, index, opening())
    assert copy.versions == {"SecretStore/store/db": "1"}
    assert (copy.stores, copy.spec) == (["SecretStore/store"], spec_digest(Manifest(external())))
    (bundle,) = index.bundles.values()
    assert 4096 <= bundle.size < 4096 + 400
    with pytest.raises(BrokenEscrow):
        town.copies(OTHER_IDENTITY)
    for word in (b"shop", b"app", CANARY.encode(), base64.b64encode(CANARY.encode())):
        assert word not in town.everything().replace(b"application", b"")
        assert word not in b"".join(gzip.compress(c)[:0] + c for c in town.sinks["a"].files.values() if c[:1] == b"{")


def test_the_same_again_is_not_sealed_again_and_its_age_is_that_of_the_last_answer(town: Town) -> None:
    applied(town, town.spine)
    town.keeper.look()
    before = list(town.sinks["a"].puts)
    for _ in range(3):
        town.pass_time(minutes=61)
        assert town.spine.reconcile(PLACE).action == "unchanged"
        town.keeper.look()
    assert town.sinks["a"].puts == before
    assert 'external_kept_age_seconds{store="SecretStore/shop/store"} 0' in town.keeper.metrics().text()
    town.failure = StoreUnavailable("down", reason="Unreachable")
    town.pass_time(minutes=90)
    with pytest.raises(StoreUnavailable):
        town.spine.reconcile(PLACE)
    assert 'external_kept_age_seconds{store="SecretStore/shop/store"} 5400' in town.keeper.metrics().text()
    assert town.copies() == {"app": {"user": CANARY}}, "an outage revokes nothing"


def test_a_new_value_is_a_new_version_and_older_ones_stay_for_a_while(town: Town) -> None:
    town.secret_configuration = town.put(configuration(versions=2))
    town.start()
    for number in range(4):
        town.values["db"] = f'{{"user":"v{number}"}}'
        town.pass_time(minutes=61)
        applied(town, town.spine)
        town.keeper.look()
    assert town.copies() == {"app": {"user": "v3"}}
    assert town.copies(back=1) == {"app": {"user": "v2"}}
    index = town.index()
    assert index is not None
    assert sorted(index.bundles) == [3, 4]


@pytest.mark.parametrize("reason", ["NotFound", "Denied"])
def test_a_no_of_the_store_is_a_tombstone(town: Town, reason: str) -> None:
    applied(town, town.spine)
    town.keeper.look()
    town.failure = StoreRefused("no", reason=reason)
    town.pass_time(minutes=61)
    with pytest.raises(SecretsOpsError):
        town.spine.reconcile(PLACE)
    town.keeper.look()
    assert town.copies() == {}
    index = town.index()
    assert index is not None
    assert [why for _, why in index.tombstones.values()] == [reason]
    assert town.kept() == ("False", reason)
    assert town.data() == {"user": CANARY}, "the Secret itself stays"
    town.failure = None
    town.pass_time(minutes=61)
    town.spine.reconcile(PLACE)
    town.keeper.look()
    assert town.copies() == {"app": {"user": CANARY}}


@pytest.mark.parametrize(
    "failure",
    [
        StoreUnavailable("down", reason="Unreachable"),
        StoreUnavailable("slow", reason="Throttled"),
        NotLetIn("who are you", reason="Denied"),
        StoreRefused("no mount", reason="MountMissing"),
        StoreRefused("no credential", reason="CredentialMissing"),
    ],
    ids=lambda failure: failure.reason,
)
def test_a_store_that_is_out_empty_or_does_not_know_us_revokes_nothing(town: Town, failure: SecretsOpsError) -> None:
    applied(town, town.spine)
    town.keeper.look()
    town.failure = failure
    town.pass_time(minutes=61)
    with pytest.raises(SecretsOpsError):
        town.spine.reconcile(PLACE)
    town.keeper.look()
    assert town.copies() == {"app": {"user": CANARY}}


def test_a_deleted_object_is_a_tombstone_even_when_the_process_died_before_it_was_written(town: Town) -> None:
    applied(town, town.spine)
    town.keeper.look()
    body = town.objects["ExternalSecret", "shop", "app"]
    body["metadata"]["deletionTimestamp"] = "2027-01-01T13:00:00Z"
    town.spine.reconcile(PLACE)
    town.start()  # nothing was flushed
    assert town.copies() != {}
    town.keeper.look()
    assert town.copies() == {}


def test_an_object_that_is_not_there_yet_on_a_new_cluster_keeps_its_copy(town: Town) -> None:
    applied(town, town.spine)
    town.keeper.look()
    del town.objects["ExternalSecret", "shop", "app"]
    town.objects["Namespace", "", "kube-system"]["metadata"]["uid"] = "cluster-2"
    town.start()
    town.keeper.look()
    assert town.copies() == {"app": {"user": CANARY}}


def test_without_the_owners_consent_nothing_is_written(town: Town) -> None:
    town.objects["SecretStore", "shop", "store"]["metadata"]["annotations"] = {}
    applied(town, town.spine)
    town.keeper.look()
    assert town.everything() == b""


@pytest.mark.parametrize(
    ("kind", "creation", "why"),
    [
        ("Password", "Owner", ""),
        ("VaultDynamicSecret", "Owner", "Lease"),
        ("STSSessionToken", "Owner", "Lease"),
        ("ECRAuthorizationToken", "Owner", "Lease"),
        ("Webhook", "Owner", "Lease"),
        ("ClusterGenerator", "Owner", "Lease"),
        ("Password", "Merge", "NotOurs"),
        ("Password", "None", "NotOurs"),
    ],
)
def test_leases_and_others_secrets_are_never_kept(kind: str, creation: str, why: str) -> None:
    made = {"sourceRef": {"generatorRef": {"kind": kind, "name": "made"}}}
    wanted = read(Manifest(external(dataFrom=[made], target={"creationPolicy": creation})))
    (ref,) = wanted.stores
    store = vault_store()
    assert kept_because(wanted, {ref: Manifest(store)}) == "NotAsked"
    store["metadata"]["annotations"] = {KEEP: "true"}
    assert kept_because(wanted, {ref: Manifest(store)}) == why


def test_consent_withdrawn_takes_the_copy_away(town: Town) -> None:
    applied(town, town.spine)
    town.keeper.look()
    town.objects["SecretStore", "shop", "store"]["metadata"]["annotations"] = {}
    town.pass_time(minutes=61)
    town.spine.reconcile(PLACE)
    town.keeper.look()
    assert town.copies() == {}


def test_after_a_restart_nothing_is_read_and_nothing_is_sealed_again(town: Town) -> None:
    applied(town, town.spine)
    town.keeper.look()
    puts, fetches = list(town.sinks["a"].puts), list(town.fetches)
    town.start()
    town.keeper.look()
    assert town.woken == [PLACE, PLACE]
    assert town.spine.reconcile(PLACE).action == "fresh"
    town.keeper.look()
    assert (town.sinks["a"].puts, town.fetches) == (puts, fetches)
    assert 'external_kept_secrets{state="sealed"} 1' in town.keeper.metrics().text()
    town.values["db"] = '{"user":"new"}'
    town.pass_time(minutes=61)
    town.spine.reconcile(PLACE)
    town.keeper.look()
    assert town.copies() == {"app": {"user": "new"}}


@pytest.mark.parametrize("change", ["edited", "sink lost", "other recipient", "other names"])
def test_after_a_restart_what_is_not_surely_sealed_is_sealed_anew(town: Town, change: str) -> None:
    applied(town, town.spine)
    town.keeper.look()
    identity = IDENTITY
    match change:
        case "edited":
            body = town.secret()
            body["metadata"]["labels"]["mine"] = "1"
            town.put(body)
        case "sink lost":
            for sink in town.sinks.values():
                sink.files.clear()
        case "other recipient":
            town.secret_configuration, identity = town.put(configuration(OTHER)), OTHER_IDENTITY
        case "other names":
            town.secret_configuration = town.put(configuration(names=NAMES[::-1]))
    town.start()
    town.keeper.look()
    asked = len(town.fetches)
    town.spine.reconcile(PLACE)
    assert len(town.fetches) == asked + 1
    town.keeper.look()
    assert town.copies(identity) == {"app": {"user": CANARY}}


def test_what_is_fetched_once_is_sealed_from_its_secret(town: Town) -> None:
    """Consent that comes later: the provider is not asked again, which might give something else."""
    town.objects["SecretStore", "shop", "store"]["metadata"]["annotations"] = {}
    applied(town, town.spine, refreshPolicy="CreatedOnce")
    town.objects["SecretStore", "shop", "store"]["metadata"]["annotations"] = {KEEP: "true"}
    town.values["db"] = '{"user":"another"}'
    town.keeper.look()
    assert town.spine.reconcile(PLACE).action == "fresh"
    town.keeper.look()
    assert town.copies() == {"app": {"user": CANARY}}


def test_a_sink_that_is_away_is_admitted_and_caught_up_with(town: Town) -> None:
    town.sinks["b"].away = True
    applied(town, town.spine)
    assert town.keeper.look() == 5.0
    assert town.kept() == ("False", "NoQuorum")
    assert town.keeper.look() == 10.0
    town.sinks["b"].away = False
    town.keeper.look()
    assert town.kept() == ("True", "Sealed")
    assert town.sinks["a"].files == town.sinks["b"].files


@pytest.mark.parametrize("left", range(5))
def test_killed_at_any_write_the_index_is_whole_and_the_next_run_goes_on(town: Town, left: int) -> None:
    applied(town, town.spine)
    town.keeper.look()
    town.values["db"] = '{"user":"second"}'
    town.pass_time(minutes=61)
    town.spine.reconcile(PLACE)
    sink = town.sinks["a" if left < 2 else "b"]
    sink.writes_left = left % 2
    town.keeper.look()
    sink.writes_left = 1000
    assert town.copies()["app"]["user"] in (CANARY, "second")
    town.start()
    town.pass_time(minutes=61)
    town.spine.reconcile(PLACE)
    town.keeper.look()
    town.keeper.look()
    assert town.copies() == {"app": {"user": "second"}}


def test_a_fenced_cluster_writes_nothing(town: Town) -> None:
    applied(town, town.spine)
    town.fence.why = "another has the claim"
    town.keeper.look()
    assert town.everything() == b""


def test_two_sinks_that_contradict_are_a_fork(town: Town) -> None:
    applied(town, town.spine)
    town.keeper.look()
    other = Town()
    other.pass_time(days=1)
    applied(other, other.spine)
    other.keeper.look()
    town.sinks["b"].files = dict(other.sinks["b"].files)
    with pytest.raises(BrokenEscrow) as caught:
        town.index()
    assert caught.value.reason == "Fork"


def test_a_damaged_bundle_is_taken_from_the_other_sink(town: Town) -> None:
    applied(town, town.spine)
    town.keeper.look()
    (name,) = (name for name in town.sinks["a"].files if name.endswith(".age"))
    town.sinks["a"].files[name] += b"x"
    assert town.copies() == {"app": {"user": CANARY}}
    town.sinks["b"].files[name] = b""
    with pytest.raises(BrokenEscrow):
        town.copies()


def test_a_restored_secret_says_so_until_the_store_answers(town: Town) -> None:
    """And belongs to nobody else: the same ExternalSecret takes it over."""
    applied(town, town.spine)
    town.keeper.look()
    survey, index = look(town.escrow()), town.index()
    assert index is not None
    (copy,) = keeping.opened(survey, index, opening())
    new = Town()
    new.put(restored(copy, "prod", index.epoch).body)
    new.start()
    new.failure = StoreUnavailable("down", reason="Unreachable")
    with pytest.raises(StoreUnavailable):
        applied(new, new.spine)
    assert new.data() == {"user": CANARY}
    (stale,) = (c for c in new.status()["conditions"] if c["type"] == "Stale")
    assert stale["message"].startswith("a sealed copy of prod epoch 1 as of 2027-01-01T12:00:00Z is kept: ")
    assert new.ready()[0] == "False"
    new.failure = None
    new.pass_time(minutes=2)
    assert new.spine.reconcile(PLACE).action == "updated"
    assert RESTORED_FROM not in new.secret()["metadata"]["annotations"]
    assert new.secret()["metadata"]["ownerReferences"][0]["name"] == "app"
    assert [c["type"] for c in new.status()["conditions"]] == ["Ready"]


def test_a_copy_comes_back_only_for_what_asks_for_the_same(town: Town) -> None:
    applied(town, town.spine)
    town.keeper.look()
    survey, index = look(town.escrow()), town.index()
    assert index is not None
    (copy,) = keeping.opened(survey, index, opening())
    assert unfit(copy, Manifest(external(refreshInterval="5m"))) == ""
    filled = external(target={"creationPolicy": "Owner", "deletionPolicy": "Retain", "name": "app"})
    assert unfit(copy, Manifest(filled)) == ""
    entry = {"secretKey": "user", "remoteRef": {"key": "other", "property": "user"}}
    for changed in ({"data": [entry]}, {"secretStoreRef": {"name": "mine"}}, {"target": {"name": "theirs"}}):
        assert unfit(copy, Manifest(external(**changed))) != ""
    with_template = external(target={"template": {"data": {"kind": "SecretStore"}}})
    assert spec_digest(Manifest(with_template)) != spec_digest(Manifest(external(target={"template": {"data": {}}})))


def test_names_hidden_by_another_key_are_others() -> None:
    config = read_config({n: base64.b64decode(t) for n, t in configuration()["data"].items()}).kept
    other = read_config({n: base64.b64decode(t) for n, t in configuration(names=NAMES[::-1])["data"].items()}).kept
    assert config is not None
    assert other is not None
    assert hidden(config.names, "shop", "app") != hidden(other.names, "shop", "app")
    assert replace(config, versions=1).versions == 1
