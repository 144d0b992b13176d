"""Who may write a Secret: every decision, as pure as it is."""

from __future__ import annotations

from typing import Any

import pytest

from secretsops.manifest import Manifest
from secretsops.ownership import (
    MANAGED,
    PATCH,
    SKIP_OWNER,
    Create,
    Leave,
    Refuse,
    Update,
    controller_of,
    decide_external,
    decide_unsealed,
    is_controlled_by,
    is_of_external_secret,
)

OURS = {"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "name": "db", "uid": "u1", "controller": True}
THEIRS = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u2", "controller": True}
ES = {"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "name": "db", "uid": "e1", "controller": True}


def _secret(*, owner: dict[str, Any] | None = None, **fields: Any) -> Manifest:
    metadata: dict[str, Any] = {"name": "db", "namespace": "shop"}
    if owner:
        metadata["ownerReferences"] = [owner]
    for name in ("labels", "annotations"):
        if name in fields:
            metadata[name] = fields.pop(name)
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": {"a": "MQ=="}}
    return Manifest({**body, **fields})


WANTED = _secret(owner=OURS)


def test_the_controller_is_the_reference_that_says_so() -> None:
    """Another owner is no controller, and an empty uid controls nothing."""
    assert controller_of(_secret(owner=OURS)) == OURS
    assert controller_of(_secret(owner={**OURS, "controller": False})) is None
    assert controller_of(_secret()) is None
    assert is_controlled_by(_secret(owner=OURS), "u1")
    assert not is_controlled_by(_secret(owner=OURS), "u2")
    assert not is_controlled_by(_secret(owner={**OURS, "uid": ""}), "")


# --- sealed --------------------------------------------------------------------------------------------


def test_what_is_missing_is_created() -> None:
    """Nobody can mind."""
    assert decide_unsealed(WANTED, None, "u1", renewed=True) == Create(WANTED)


def test_what_is_equal_is_left() -> None:
    """Also where the server added fields of its own."""
    live = Manifest({**WANTED.body, "metadata": {**WANTED.metadata, "uid": "x", "resourceVersion": "7"}})
    assert decide_unsealed(WANTED, live, "u1", renewed=False) == Leave()


@pytest.mark.parametrize("owner", [None, THEIRS, {**OURS, "uid": "another"}])
def test_what_is_not_ours_is_refused(owner: dict[str, Any] | None) -> None:
    """A Secret of another, of nobody, or of a SealedSecret of another life."""
    decided = decide_unsealed(WANTED, _secret(owner=owner, data={"x": "Mg=="}), "u1", renewed=True)
    assert isinstance(decided, Refuse)
    assert decided.reason == "Unmanaged"
    assert '"db" already exists' in decided.message


def test_an_annotation_on_the_live_secret_hands_it_over() -> None:
    """`managed` there, not on what we want; then it becomes ours."""
    live = _secret(data={"old": "Mg=="}, annotations={MANAGED: "true"})
    decided = decide_unsealed(WANTED, live, "u1", renewed=True)
    assert isinstance(decided, Update)
    assert decided.manifest.body["data"] == {"a": "MQ=="}
    assert decided.manifest.metadata["ownerReferences"] == [OURS]
    asked = _secret(owner=OURS, annotations={MANAGED: "true"})
    assert isinstance(decide_unsealed(asked, _secret(), "u1", renewed=True), Refuse)


def test_patch_lays_keys_over() -> None:
    """Other keys stay, and so does the owner, unless it is handed over as well."""
    live = _secret(data={"a": "b2xk", "x": "Mg=="}, annotations={PATCH: "true"}, owner=THEIRS)
    decided = decide_unsealed(WANTED, live, "u1", renewed=True)
    assert isinstance(decided, Update)
    assert decided.manifest.body["data"] == {"a": "MQ==", "x": "Mg=="}
    assert decided.manifest.metadata["ownerReferences"] == [THEIRS]
    both = _secret(data={"x": "Mg=="}, annotations={PATCH: "true", MANAGED: "true"})
    taken = decide_unsealed(WANTED, both, "u1", renewed=True)
    assert isinstance(taken, Update)
    assert taken.manifest.metadata["ownerReferences"] == [OURS]


def test_a_secret_without_owner_on_purpose_stays_ours() -> None:
    """skip-set-owner-references on both sides, and no controller there."""
    wanted = _secret(annotations={SKIP_OWNER: "true"}, data={"a": "Mg=="})
    assert isinstance(decide_unsealed(wanted, _secret(annotations={SKIP_OWNER: "true"}), "u1", renewed=True), Update)
    assert isinstance(decide_unsealed(wanted, _secret(), "u1", renewed=True), Refuse)
    of_others = _secret(annotations={SKIP_OWNER: "true"}, owner=THEIRS)
    assert isinstance(decide_unsealed(wanted, of_others, "u1", renewed=True), Refuse)


@pytest.mark.parametrize("renewed", [True, False])
def test_foreign_annotations_survive_healing_and_not_a_change(renewed: bool) -> None:
    """Only a changed SealedSecret replaces labels and annotations as a whole."""
    live = _secret(owner=OURS, annotations={"foreign": "1", "own": "old"}, labels={"l": "1"}, data={})
    wanted = _secret(owner=OURS, annotations={"own": "new"})
    decided = decide_unsealed(wanted, live, "u1", renewed=renewed)
    assert isinstance(decided, Update)
    kept = {} if renewed else {"foreign": "1"}
    assert decided.manifest.annotations == {"own": "new", **kept}
    assert decided.manifest.labels == ({} if renewed else {"l": "1"})


def test_an_update_carries_what_the_server_checks() -> None:
    """resourceVersion and uid of the live object; a type nobody named is not changed; immutable is set."""
    live = _secret(owner=OURS, data={}, type="example.com/own")
    live.metadata.update(resourceVersion="7", uid="x")
    wanted = Manifest({key: value for key, value in WANTED.body.items() if key != "type"} | {"immutable": True})
    decided = decide_unsealed(wanted, live, "u1", renewed=False)
    assert isinstance(decided, Update)
    assert (decided.manifest.resource_version, decided.manifest.uid) == ("7", "x")
    assert (decided.manifest.body["type"], decided.manifest.body["immutable"]) == ("example.com/own", True)


def test_deciding_alters_nothing() -> None:
    """Neither what is wanted nor what is there."""
    live = _secret(owner=OURS, annotations={"x": "1"}, data={"b": "Mg=="})
    before = repr(live.body), repr(WANTED.body)
    decide_unsealed(WANTED, live, "u1", renewed=True)
    assert (repr(live.body), repr(WANTED.body)) == before


# --- external ------------------------------------------------------------------------------------------


def test_an_external_secret_knows_its_own_by_name() -> None:
    """Any served version; the uid is of another life after a restore."""
    assert is_of_external_secret(
        _secret(owner={**ES, "uid": "older", "apiVersion": "external-secrets.io/v1beta1"}), "db"
    )
    assert not is_of_external_secret(_secret(owner=ES), "other")
    assert not is_of_external_secret(_secret(owner={**ES, "controller": False}), "db")
    assert not is_of_external_secret(_secret(), "db")


@pytest.mark.parametrize(
    ("creation", "live", "outcome"),
    [
        ("Owner", None, "Create"),
        ("Orphan", None, "Create"),
        ("Merge", None, "Leave"),
        ("Owner", _secret(), "Update"),
        ("Owner", _secret(owner=ES), "Leave"),
        ("Owner", _secret(owner=ES, data={"x": "Mg=="}), "Update"),
        ("Owner", _secret(owner=THEIRS), "OwnershipConflict"),
        ("Merge", _secret(owner=THEIRS, data={}), "Update"),
        ("Owner", _secret(owner={**ES, "name": "other"}), "OwnedByAnother"),
        ("Merge", _secret(owner={**ES, "name": "other"}), "OwnedByAnother"),
    ],
)
def test_external_decisions(creation: str, live: Manifest | None, outcome: str) -> None:
    """By creation policy and by who controls what is there."""
    decided = decide_external(_secret(owner=ES), live, name="db", creation=creation)
    assert outcome == (decided.reason if isinstance(decided, Refuse) else type(decided).__name__)
