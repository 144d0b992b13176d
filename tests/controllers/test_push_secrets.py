"""PushSecrets on a fake API server and a store in memory: what is written, taken back, kept, and what a kill leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from controllers.fence import Fence
from controllers.observed import Observed
from controllers.push_secrets import PushSecrets
from controllers.stores import Stores
from secretsops.errors import NotFound, SecretsOpsError, StoreRefused, StoreUnavailable
from secretsops.external.generating import Generators
from secretsops.external.push import FINALIZER, STORE_FINALIZER
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ports import Fetched, Put
from secretsops.secret import Plaintext
from tests.controllers.test_external_secrets import World, vault_store

PUSH = ObjectKey("external-secrets.io", "PushSecret", "shop", "push")
STORE = ObjectKey("external-secrets.io", "SecretStore", "shop", "store")


class Killed(BaseException):
    """The process ends here."""


class Remote:
    """A store that can be written to; `foreign` keys are others'."""

    dialect = "vault"
    batch = 1

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], Any] = {}
        self.foreign: set[str] = set()
        self.calls: list[str] = []
        self.dies_at = -1
        self.failure: SecretsOpsError | None = None

    def _ask(self, what: str) -> None:
        self.calls.append(what)
        if self.failure:
            raise self.failure
        if len(self.calls) == self.dies_at:
            raise Killed

    def put(self, put: Put) -> bool:
        self._ask(f"put {put.key}/{put.property}")
        if put.key in self.foreign:
            raise StoreRefused("it is not ours", reason="NotOurs")
        value = put.value
        self.held[put.key, put.property] = (
            value.reveal() if isinstance(value, Plaintext) else {key: item.reveal() for key, item in value.items()}
        )
        return True

    def exists(self, key: str, property_path: str = "") -> bool:
        return (key, property_path) in self.held

    def remove(self, key: str, property_path: str = "") -> None:
        self._ask(f"remove {key}/{property_path}")
        self.held.pop((key, property_path), None)

    def fetch(self, key: str, version: str = "") -> Fetched:
        raise StoreRefused("unread", reason="NotFound")

    def probe(self) -> None:
        """It is well."""

    def log_in(self) -> None:
        """There is no login."""

    def close(self) -> None:
        """There is nothing to close."""


class Stage(World):
    """A world whose store can be written to."""

    def __init__(self) -> None:
        super().__init__()
        self.remote = Remote()

    def open(self, access: Any) -> Any:
        return self.remote

    def replace(self, manifest: Manifest, **options: Any) -> Manifest:
        self.remote.calls.append(f"write {manifest.kind.kind}")
        if len(self.remote.calls) == self.remote.dies_at:
            raise Killed
        return super().replace(manifest, **options)


def push(*entries: tuple[str, str, str], **spec: Any) -> dict[str, Any]:
    data = [
        {
            "match": ({"secretKey": key} if key else {})
            | {"remoteRef": {"remoteKey": remote} | ({"property": part} if part else {})}
        }
        for key, remote, part in entries
    ]
    body = {"secretStoreRefs": [{"name": "store"}], "selector": {"secret": {"name": "src"}}, "data": data} | spec
    metadata = {"name": "push", "namespace": "shop"}
    return {"apiVersion": "external-secrets.io/v1alpha1", "kind": "PushSecret", "metadata": metadata, "spec": body}


def source(**data: str) -> dict[str, Any]:
    metadata = {"name": "src", "namespace": "shop"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


@pytest.fixture
def stage() -> Stage:
    found = Stage()
    token = {"token": "cm9vdA=="}
    found.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "auth", "namespace": "shop"}, "data": token})
    found.put(source(a="MQ==", b="Mg==", c="Mw=="))
    found.put(vault_store())
    Stores(found, found.open, found.emit, clock=found).reconcile(STORE)  # type: ignore[arg-type]
    found.events.clear()
    return found


def spine(stage: Stage) -> PushSecrets:
    """Give a spine as after a start: it remembers nothing."""
    stores = Stores(stage, stage.open, stage.emit, clock=stage)  # type: ignore[arg-type]
    observed = Observed(stage)  # type: ignore[arg-type]
    return PushSecrets(stage, stores, stage.emit, stage, observed=observed, generators=Generators(stage.get))  # type: ignore[arg-type]


def put(stage: Stage, body: Mapping[str, Any]) -> None:
    live = stage.objects.get(("PushSecret", "shop", "push"))
    if live:
        kept = {key: live["metadata"][key] for key in ("uid", "finalizers") if key in live["metadata"]}
        kept["generation"] = live["metadata"]["generation"] + (live["spec"] != body["spec"])
        body = {**body, "metadata": body["metadata"] | kept, "status": live.get("status", {})}
    stage.put(dict(body))


def ready(stage: Stage) -> tuple[str, str, str]:
    (condition,) = stage.status("PushSecret", "shop", "push")["conditions"]
    return condition["status"], condition["reason"], condition["message"]


def test_values_go_where_they_are_wanted(stage: Stage) -> None:
    put(stage, push(("a", "p", "x"), ("", "whole", "")))
    assert spine(stage).reconcile(PUSH).action == "pushed"
    assert stage.remote.held == {("p", "x"): b"1", ("whole", ""): {"a": b"1", "b": b"2", "c": b"3"}}
    assert ready(stage) == ("True", "Synced", "PushSecret synced successfully")
    synced = stage.status("PushSecret", "shop", "push")["syncedPushSecrets"]["SecretStore/store"]
    assert set(synced) == {"p/x", "whole"}
    # Nothing is due again until the interval is over, or somebody asks.
    count = len(stage.remote.calls)
    assert spine(stage).reconcile(PUSH).action == "fresh"
    assert len(stage.remote.calls) == count
    stage.pass_time(hours=2)
    assert spine(stage).reconcile(PUSH).action == "pushed"


def test_a_cluster_that_was_replaced_pushes_nothing_and_takes_nothing_back(stage: Stage) -> None:
    """Neither a due push nor a deletion under `Delete` reaches the store while another incarnation has the claim."""
    put(stage, push(("a", "p", ""), deletionPolicy="Delete"))
    spine(stage).reconcile(PUSH)
    fence, fenced = Fence(), spine(stage)
    fenced._fence, fence.why = fence, "claim 1 is of another incarnation"
    held, count = dict(stage.remote.held), len(stage.remote.calls)
    stage.put({**stage.objects["Secret", "shop", "src"], "data": {"a": "OQ=="}})
    assert fenced.reconcile(PUSH, changed=True).action == "fenced"
    stage.objects["PushSecret", "shop", "push"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert fenced.reconcile(PUSH).action == "fenced"
    assert (stage.remote.held, len(stage.remote.calls)) == (held, count)
    fence.why = ""
    assert fenced.reconcile(PUSH).action != "fenced"


def test_a_changed_source_is_pushed_at_once(stage: Stage) -> None:
    put(stage, push(("a", "p", "")))
    spine(stage).reconcile(PUSH)
    stage.put({**stage.objects["Secret", "shop", "src"], "data": {"a": "OQ=="}})
    assert spine(stage).reconcile(PUSH, changed=True).action == "pushed"
    assert stage.remote.held["p", ""] == b"9"


def test_everything_goes_by_data_to(stage: Stage) -> None:
    """Explicit entries come first; keys are chosen by expression and renamed; a bundle takes all under one name."""
    store = {"storeRef": {"name": "store"}}
    rename = [{"regexp": {"source": "^", "target": "app-"}}]
    chosen = store | {"match": {"regexp": "^[ab]$"}, "rewrite": rename}
    put(stage, push(("a", "special", ""), dataTo=[chosen, store | {"remoteKey": "all"}]))
    spine(stage).reconcile(PUSH)
    assert stage.remote.held == {
        ("special", ""): b"1", ("app-b", ""): b"2", ("all", ""): {"b": b"2", "c": b"3"},
    }  # fmt: skip


def test_two_values_for_one_place_are_refused(stage: Stage) -> None:
    put(stage, push(("a", "p", ""), ("b", "p", "")))
    assert spine(stage).reconcile(PUSH).action == "refused"
    assert stage.remote.held == {}
    assert ready(stage)[:2] == ("False", "Errored")


def test_if_not_exists_leaves_what_is_there(stage: Stage) -> None:
    stage.remote.held["p", ""] = b"old"
    put(stage, push(("a", "p", ""), ("b", "q", ""), updatePolicy="IfNotExists"))
    spine(stage).reconcile(PUSH)
    assert stage.remote.held == {("p", ""): b"old", ("q", ""): b"2"}
    assert ready(stage)[2].endswith("Existing secrets in providers unchanged.")


def test_what_others_keep_is_refused_and_nothing_is_said_of_values(stage: Stage) -> None:
    stage.remote.foreign.add("p")
    put(stage, push(("a", "p", "")))
    with pytest.raises(StoreRefused):
        spine(stage).reconcile(PUSH)
    assert ready(stage)[:2] == ("False", "Errored")
    assert "could not write remote ref a to target secretstore store" in ready(stage)[2]


def test_dropped_entries_are_taken_back_only_where_the_policy_says_so(stage: Stage) -> None:
    for policy, left in (("None", {("p", ""), ("q", "")}), ("Delete", {("p", "")})):
        stage.remote.held.clear()
        put(stage, push(("a", "p", ""), ("b", "q", ""), deletionPolicy=policy))
        spine(stage).reconcile(PUSH)
        put(stage, push(("a", "p", ""), deletionPolicy=policy))
        spine(stage).reconcile(PUSH)
        assert set(stage.remote.held) == left, policy
    # The object goes: so does the rest.
    live = stage.objects["PushSecret", "shop", "push"]
    assert live["metadata"]["finalizers"] == [FINALIZER]
    live["metadata"]["deletionTimestamp"] = "2027-01-01T00:00:00Z"
    stage.put(live)
    assert spine(stage).reconcile(PUSH).action == "gone"
    assert stage.remote.held == {}
    assert ("PushSecret", "shop", "push") not in stage.objects


def test_a_store_that_is_out_keeps_the_object_until_it_could_be_cleaned(stage: Stage) -> None:
    put(stage, push(("a", "p", ""), deletionPolicy="Delete"))
    spine(stage).reconcile(PUSH)
    live = stage.objects["PushSecret", "shop", "push"]
    live["metadata"]["deletionTimestamp"] = "2027-01-01T00:00:00Z"
    stage.put(live)
    stage.remote.failure = StoreUnavailable("503")
    with pytest.raises(StoreUnavailable):
        spine(stage).reconcile(PUSH)
    assert stage.objects["PushSecret", "shop", "push"]["metadata"]["finalizers"] == [FINALIZER]
    stage.remote.failure = None
    stage.pass_time(minutes=5)
    spine(stage).reconcile(PUSH)
    assert stage.remote.held == {}


def test_a_source_that_is_gone(stage: Stage) -> None:
    put(stage, push(("a", "p", ""), deletionPolicy="Delete"))
    spine(stage).reconcile(PUSH)
    del stage.objects["Secret", "shop", "src"]
    assert spine(stage).reconcile(PUSH, changed=True).action == "deleted"
    assert stage.remote.held == {}
    assert ready(stage)[1] == "SourceDeleted"
    # Without the policy what was pushed stays.
    stage.put(source(a="MQ=="))
    put(stage, push(("a", "p", "")))
    spine(stage).reconcile(PUSH)
    del stage.objects["Secret", "shop", "src"]
    assert spine(stage).reconcile(PUSH, changed=True).action == "refused"
    assert stage.remote.held == {("p", ""): b"1"}


def test_a_store_is_kept_while_something_may_have_to_be_deleted_in_it(stage: Stage) -> None:
    put(stage, push(("a", "p", ""), deletionPolicy="Delete"))
    spine(stage).reconcile(PUSH)
    live = Manifest(stage.objects["PushSecret", "shop", "push"])
    store = stage.objects["SecretStore", "shop", "store"]
    spine(stage).guard(STORE, [live])
    assert stage.objects["SecretStore", "shop", "store"]["metadata"]["finalizers"] == [STORE_FINALIZER]
    spine(stage).guard(STORE, [])
    assert stage.objects["SecretStore", "shop", "store"]["metadata"]["finalizers"] == []
    assert store["spec"] == stage.objects["SecretStore", "shop", "store"]["spec"]


def test_a_secret_of_another_namespace_is_never_read(stage: Stage) -> None:
    """Neither by name nor by labels (GHSA-fcxq-v2r3-cc8h listed the whole cluster)."""
    body = {**source(a="eA=="), "metadata": {"name": "theirs", "namespace": "other", "labels": {"push": "me"}}}
    stage.put(body)
    for selector in ({"name": "theirs"}, {"selector": {"matchLabels": {"push": "me"}}}):
        put(stage, push(("a", "p", ""), selector={"secret": selector}))
        assert spine(stage).reconcile(PUSH, changed=True).action == "refused"
    assert stage.remote.held == {}


@pytest.mark.parametrize("at", range(1, 9))
def test_a_kill_at_any_step_leaves_nothing_that_nobody_knows_of(stage: Stage, at: int) -> None:
    """Whatever stands in the store is named in status when the process dies, and the next start finishes the work."""
    put(stage, push(("a", "p", ""), ("b", "q", ""), deletionPolicy="Delete"))
    stage.remote.dies_at = at
    try:
        spine(stage).reconcile(PUSH)
        put(stage, push(("a", "p", ""), deletionPolicy="Delete"))
        spine(stage).reconcile(PUSH)
    except Killed:
        known = stage.status("PushSecret", "shop", "push").get("syncedPushSecrets", {}).get("SecretStore/store", {})
        assert {key for key, _ in stage.remote.held} <= set(known)
    stage.remote.dies_at = -1
    stage.pass_time(minutes=1)
    put(stage, push(("a", "p", ""), deletionPolicy="Delete"))
    spine(stage).reconcile(PUSH)
    assert stage.remote.held == {("p", ""): b"1"}


def test_a_moved_place_is_not_deleted_through_the_old_store(stage: Stage) -> None:
    """Another store of the very same provider holds it now (the peer deletes the value: #5062)."""
    second = vault_store()
    second["metadata"]["name"] = "second"
    stage.put(second)
    key = ObjectKey("external-secrets.io", "SecretStore", "shop", "second")
    Stores(stage, stage.open, stage.emit, clock=stage).reconcile(key)  # type: ignore[arg-type]
    put(stage, push(("a", "p", ""), deletionPolicy="Delete"))
    spine(stage).reconcile(PUSH)
    put(stage, push(("a", "p", ""), deletionPolicy="Delete", secretStoreRefs=[{"name": "second"}]))
    spine(stage).reconcile(PUSH)
    assert stage.remote.held == {("p", ""): b"1"}


def test_the_object_that_went_is_gone(stage: Stage) -> None:
    assert spine(stage).reconcile(PUSH).action == "gone"
    with pytest.raises(NotFound):
        stage.get(Manifest(push()).kind, "push", "shop")
