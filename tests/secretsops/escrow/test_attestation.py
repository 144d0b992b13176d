"""The controller's word about what opens: forged, replayed, stale or of somewhere else it counts for nothing."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from secretsops.escrow import canonical
from secretsops.escrow import trust as roots
from secretsops.escrow.attestation import (
    AHEAD,
    MAX_AGE,
    TIME,
    Attestations,
    Standing,
    Statement,
    item_digest,
    read_attestations,
    serial_of,
    standing,
    statements_of,
)
from secretsops.escrow.signing import new_signer
from secretsops.manifest import Manifest
from tests.secretsops.escrow import worlds
from tests.secretsops.escrow.worlds import NOW, PIN, VERSIONS

WITNESS, _ = new_signer()
*_before, _newest = roots.successor(
    VERSIONS, add=[roots.Holder(name="controller", key=WITNESS.public, roles=("evidence",))]
)
TRUST = roots.prove([*_before, roots.countersigned(_newest, worlds.ROOT)], PIN)
ITEM = item_digest(b"shop/db", "a", "ciphertext")


def statement(*, key: str = "k1", digest: str = ITEM) -> Statement:
    return Statement(digest=digest, label="shop/db", key=key, opened=bool(key), at=NOW.strftime(TIME))


def document(
    *statements: Statement,
    serial: int = 1,
    made: dt.datetime = NOW,
    cluster: str = "prod",
    incarnation: str = "uid-1",
) -> Attestations:
    found = Attestations(
        cluster=cluster,
        incarnation=incarnation,
        serial=serial,
        made=made.strftime(TIME),
        statements=statements or (statement(),),
    )
    return found.signed_with([WITNESS])


def counted(*contents: bytes, now: dt.datetime = NOW, trust: roots.Trust | None = TRUST) -> Standing:
    return standing(contents, cluster="prod", incarnation="uid-1", trust=trust, now=now)


def test_what_the_controller_signed_counts() -> None:
    """It reads back as it was, and its name says its place in the order."""
    made = document()
    read = read_attestations(made.text())
    assert read is not None
    assert (read.text(), tuple(read.statements)) == (made.text(), tuple(made.statements))
    assert serial_of(made.name) == 1
    found = counted(made.text())
    assert found.statements[ITEM].key == "k1"
    assert (found.problem, found.made) == ("", NOW.strftime(TIME))


def _stranger() -> bytes:
    return replace(document(), signatures=()).signed_with([worlds.STRANGER]).text()


def _other_role() -> bytes:
    return replace(document(), signatures=()).signed_with([worlds.SIGNER]).text()


def _changed() -> bytes:
    body = json.loads(document(statement(key="")).text())
    body["statements"][0] |= {"key": "k1", "opened": True}
    return canonical.encode(body)


def _moved() -> bytes:
    """Put a good signature under another document's name."""
    return replace(document(statement(digest="0" * 64)), statements=(statement(),)).text()


FORGED: dict[str, Callable[[], bytes]] = {
    "unsigned": lambda: replace(document(), signatures=()).text(),
    "a stranger's": _stranger,
    "a signer's of bundles": _other_role,
    "changed": _changed,
    "moved": _moved,
    "another cluster's": lambda: document(cluster="stage").text(),
    "of before the rebuild": lambda: document(incarnation="uid-0").text(),
    "of tomorrow": lambda: document(made=NOW + AHEAD + dt.timedelta(seconds=1)).text(),
    "too old": lambda: document(made=NOW - MAX_AGE - dt.timedelta(seconds=1)).text(),
    "cut": lambda: document().text()[:-40],
    "empty": lambda: b"",
    "deep": lambda: b"[" * 100_000,
    "another kind": lambda: document().text().replace(b'"Attestations"', b'"EscrowOpened"'),
    "spelled otherwise": lambda: json.dumps(json.loads(document().text()), indent=1).encode(),
    "a key where nothing opened": lambda: (
        replace(document(), statements=(replace(statement(), opened=False),), signatures=())
        .signed_with([WITNESS])
        .text()
    ),
}


@pytest.mark.parametrize("kind", FORGED)
def test_what_is_not_its_word_counts_for_nothing(kind: str) -> None:
    """Alone it says nothing and is named; beside a good one it takes nothing away and adds nothing."""
    forged = FORGED[kind]()
    alone = counted(forged)
    assert alone.statements == {}
    assert alone.problem
    other = document(statement(digest="1" * 64), serial=5)
    assert set(counted(forged, other.text()).statements) == {"1" * 64}


def test_without_a_trust_root_nobody_s_word_counts() -> None:
    """The digest comes from outside, or there is none."""
    found = counted(document().text(), trust=None)
    assert found.statements == {}
    assert "trust root" in found.problem


def test_an_older_document_is_not_played_again() -> None:
    """Whatever the order, and however often: the newest alone says what opens now."""
    old, new = document(serial=7), document(statement(key=""), serial=8, made=NOW + dt.timedelta(minutes=1))
    for contents in ([old, new], [new, old], [old, new, old, old]):
        found = counted(*(one.text() for one in contents), now=NOW + dt.timedelta(hours=1))
        assert not found.statements[ITEM].opened
    gone = document(statement(digest="1" * 64), serial=9, made=NOW + dt.timedelta(minutes=2))
    assert ITEM not in counted(old.text(), new.text(), gone.text(), now=NOW + dt.timedelta(hours=1)).statements
    # With the newest withheld an old one serves for three days at most.
    assert counted(old.text(), now=NOW + MAX_AGE).statements
    late = counted(old.text(), now=NOW + MAX_AGE + dt.timedelta(seconds=1))
    assert late.statements == {}
    assert "3 days ago" in late.problem


def test_a_signer_who_was_removed_vouches_for_nothing() -> None:
    """Roles are those of now."""
    *before, newest = roots.successor(TRUST.versions, remove=["controller"])
    trust = roots.prove([*before, roots.countersigned(newest, worlds.ROOT)], PIN)
    assert counted(document().text(), trust=trust).statements == {}


def test_a_statement_is_of_one_item_at_one_place() -> None:
    """Another name, namespace, scope, item or byte of the ciphertext is another item."""
    body = {
        "apiVersion": "bitnami.com/v1alpha1",
        "kind": "SealedSecret",
        "metadata": {"name": "db", "namespace": "shop"},
        "spec": {"encryptedData": {"a": "AgA", "b": "AgB"}},
    }
    one, other = statements_of(Manifest(body), {"a": "k1"}, NOW)
    assert (one.label, one.key, one.opened) == ("shop/db", "k1", True)
    assert (other.key, other.opened) == ("", False)
    seen = {item_digest(b"shop/db", "a", "AgA")}
    assert seen == {one.digest}
    for label, item, text in (
        (b"shop/d", "a", "AgA"),
        (b"shop/db", "b", "AgA"),
        (b"shop/db", "a", "AgB"),
        (b"", "a", "AgA"),
    ):
        seen.add(item_digest(label, item, text))
    assert len(seen) == 5
    assert statements_of(Manifest({**body, "spec": {"encryptedData": ["x"]}}), {}, NOW) == ()
