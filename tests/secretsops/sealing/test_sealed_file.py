"""What changes in a file of SealedSecrets: items, metadata, and the hint which key sealed what."""

from __future__ import annotations

from typing import Any

import pytest

from secretsops.errors import Refused, SecretsOpsError
from secretsops.manifest import Manifest
from secretsops.sealing.own_metadata import decorated
from secretsops.sealing.sealed_file import Found, item_changes, merge_changes, sealed_secrets, the_one
from secretsops.sealing.sealed_with import ANNOTATION

A, B = ("SHA256:" + letter * 43 for letter in "ab")
FILE = b"""\
kind: ConfigMap
---
kind: SealedSecret
apiVersion: bitnami.com/v1alpha1
metadata: {name: db, namespace: shop}
spec: {encryptedData: {user: AgA, port: AgB}}
---
kind: SealedSecret
apiVersion: bitnami.com/v1alpha1
metadata: {name: web, annotations: {sealedsecrets.bitnami.com/cluster-wide: "true"}}
"""


def found(hint: str = "", **items: str) -> Found:
    annotations = {ANNOTATION: hint} if hint else {}
    body = {"metadata": {"annotations": annotations}, "spec": {"encryptedData": items}}
    return Found(document=0, manifest=Manifest(body))


def test_a_stream_is_searched_for_sealed_secrets() -> None:
    db, web = sealed_secrets(FILE, source="f")
    assert (db.document, db.label, sorted(db.items)) == (1, b"shop/db", ["port", "user"])
    assert (web.document, web.label, dict(web.items)) == (2, b"", {})
    assert the_one([db, web], source="f", name="web", namespace="any") is web
    for name in ("", "absent"):
        with pytest.raises(Refused):
            the_one([db, web], source="f", name=name)
    with pytest.raises(SecretsOpsError):
        the_one([], source="f")


def test_the_hint_follows_the_items() -> None:
    one = found(f"{A}", x="1", y="2")
    tree: Any = item_changes(one, {"y": "3", "z": "4", "x": None}, {"y": B, "z": A})
    assert tree == {
        "spec": {"encryptedData": {"y": "3", "z": "4", "x": None}},
        "metadata": {"annotations": {ANNOTATION: f"{A} {B}=y"}},
    }


@pytest.mark.parametrize(("hint", "begun", "written"), [("", True, f"{B}=y"), ("", False, ""), (A, False, f"{A}=x")])
def test_a_hint_is_begun_only_where_wanted_but_never_left_wrong(hint: str, begun: bool, written: str) -> None:
    tree: Any = item_changes(found(hint, x="1", y="2"), {"y": "3"}, {"y": B}, hint=begun)
    assert tree.get("metadata", {}).get("annotations", {}).get(ANNOTATION, "") == written


def test_a_hint_without_anything_known_goes() -> None:
    tree: Any = item_changes(found(A, x="1"), {"x": "2"}, {}, hint=False)
    assert tree["metadata"]["annotations"] == {ANNOTATION: None}


def test_merging_lays_template_metadata_over() -> None:
    addition = {"spec": {"encryptedData": {"p": "1"}, "template": {"metadata": {"name": "n", "labels": {"l": "v"}}}}}
    tree: Any = merge_changes(found(A, x="1"), addition, A, hint=True)
    assert tree["spec"] == {"encryptedData": {"p": "1"}, "template": {"metadata": {"labels": {"l": "v"}}}}
    assert tree["metadata"] == {"annotations": {ANNOTATION: A}}


def test_metadata_of_its_own_leaves_the_template_alone() -> None:
    template = {"metadata": {"labels": {"app": "db"}, "annotations": {"wave": "1", "x": "y"}}}
    body = {
        "metadata": {"name": "db", "annotations": {"scope": "true"}},
        "spec": {"encryptedData": {"a": "1"}, "template": template},
    }
    plain = decorated(body, labels={"l": "v"}, annotations={"wave": "2"}, keep=False, fingerprint=A)
    assert plain["metadata"]["labels"] == {"l": "v"}
    assert plain["metadata"]["annotations"] == {"scope": "true", "wave": "2", ANNOTATION: A}
    kept = decorated(body, labels={}, annotations={"wave": "2"}, keep=True)
    assert kept["metadata"]["labels"] == {"app": "db"}
    assert kept["metadata"]["annotations"] == {"scope": "true", "wave": "2", "x": "y"}
    assert kept["spec"] is body["spec"]
