"""`recover gap`: what lives and Git would not recreate is named, what comes by itself is not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest

from recovery.proof.gap import Category, Gaps, Ignore, gaps, read_ignores, table
from recovery.proof.living import living, masking
from secretsops.errors import InvalidManifest
from secretsops.manifest import Manifest, dump, load_all
from tests.fakes.cluster import FakeCluster
from tests.recovery.proof.lint_cases import CRD, config, deployment, env, obj, pvc, sealed, stateful
from tests.recovery.proof.subjects import subject_of

TODAY = dt.date(2026, 5, 1)
MASK = masking(b"k" * 32)


def found(git: str, live: str | Sequence[Manifest], ignores: Sequence[Ignore] = ()) -> Gaps:
    """Give the gaps between a text in Git and one that lives."""
    objects = [MASK(manifest) for manifest in (load_all(live.encode()) if isinstance(live, str) else live)]
    return gaps(subject_of(git), objects, ignores, TODAY, masked=MASK)


def shop(text: str) -> str:
    """Put the objects of a text into the namespace where the application puts them."""
    manifests = load_all(text.encode())
    return "---\n".join(dump({**m.body, "metadata": {"namespace": "shop", **m.metadata}}) for m in manifests)


def applied(git: str) -> list[Manifest]:
    """Give the objects that an application applies, as they are applied."""
    return [node.manifest for node in subject_of(git).nodes if node.key.kind != "Namespace"]


def categories(result: Gaps) -> dict[str, Category]:
    return {gap.object: gap.category for gap in result.new}


def test_what_nobody_in_git_makes() -> None:
    """An unowned object and a Secret made by hand; what depends on them decides the rank."""
    live = shop(deployment("web", container=env("token")) + obj("v1", "Secret", "token") + config("left"))
    result = found(deployment("web", container=env("token")), live)
    assert [(gap.object, gap.category, gap.dependants) for gap in result.new][:2] == [
        ("Secret shop/token", Category.HAND_MADE_SECRET, 1),
        ("ConfigMap shop/left", Category.UNOWNED, 0),
    ]


def test_what_a_controller_or_the_cluster_makes_is_no_gap() -> None:
    """Owned objects, a Secret of a SealedSecret, the cluster's own."""
    owned = load_all(shop(config("child")).encode())[0].body
    owned["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "x"}]
    live = [
        Manifest(owned),
        *load_all(shop(obj("v1", "Secret", "token") + config("kube-root-ca.crt")).encode()),
        *load_all(b"apiVersion: v1\nkind: Namespace\nmetadata: {name: kube-system}"),
        *load_all(
            b"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: x, labels: "
            b"{kubernetes.io/bootstrapping: rbac-defaults}}"
        ),
    ]
    assert categories(found(sealed("token", namespace="shop"), live)) == {}


def test_an_object_whose_controller_git_lacks() -> None:
    """Its kind is defined by nothing in Git; one whose CRD is there is merely unowned."""
    widget = shop(obj("example.com/v1", "Widget", "w"))
    assert categories(found(config("a"), widget)) == {"example.com/Widget shop/w": Category.CONTROLLER_MISSING}
    assert categories(found(CRD, widget)) == {"example.com/Widget shop/w": Category.UNOWNED}


def test_a_volume_holds_data_until_something_says_how_it_comes_back() -> None:
    """Also where Git makes the claim."""
    bound = applied(pvc("data"))[0].body | {"status": {"phase": "Bound"}}
    assert categories(found(pvc("data"), [Manifest(bound)])) == {
        "PersistentVolumeClaim shop/data": Category.VOLUME_DATA
    }
    said = pvc("data", marks="secretsops.dev/data: velero:daily")
    assert Category.VOLUME_DATA not in categories(found(said, [Manifest(bound)])).values()
    claim = {**bound, "metadata": {"name": "d-db-1", "namespace": "shop"}}
    assert categories(found(stateful(claim="storageClassName: x"), [Manifest(claim)])) == {
        "PersistentVolumeClaim shop/d-db-1": Category.VOLUME_DATA
    }
    assert (
        categories(
            found(stateful(claim="storageClassName: x", marks="secretsops.dev/data: disposable"), [Manifest(claim)])
        )
        == {}
    )


def test_drift_names_fields_and_no_value_of_a_secret() -> None:
    """A Secret's values are compared by a MAC of this run; a ConfigMap's field is named."""
    git = obj("v1", "Secret", "token", "stringData: {a: hunter2}") + config("c", "{colour: blue}")
    live = applied(obj("v1", "Secret", "token", "stringData: {a: changed}") + config("c", "{colour: red}"))
    result = found(git, live)
    assert categories(result) == {"Secret shop/token": Category.DRIFT, "ConfigMap shop/c": Category.DRIFT}
    text = table(result, everything=True)
    assert "data.colour" in text
    assert "hunter2" not in text
    assert "changed" not in text
    assert categories(found(git, applied(git))) == {}


def test_a_hook_that_is_done_has_lost_its_finalizer_and_nothing_else() -> None:
    """A finished hook is as in Git; another finalizer that is gone is drift."""
    spec = "spec: {template: {spec: {restartPolicy: Never, containers: [{name: m, image: m}]}}}"
    git = obj("batch/v1", "Job", "migrate", spec, marks="argocd.argoproj.io/hook: PreSync")
    (wanted,) = applied(git)
    assert wanted.metadata["finalizers"]
    done = {key: value for key, value in wanted.metadata.items() if key != "finalizers"}
    assert categories(found(git, [Manifest({**wanted.body, "metadata": done})])) == {}
    kept = obj("v1", "ConfigMap", "kept").replace("metadata: {", "metadata: {finalizers: [example.com/a], ", 1)
    (wanted,) = applied(kept)
    bare = {key: value for key, value in wanted.metadata.items() if key != "finalizers"}
    assert categories(found(kept, [Manifest({**wanted.body, "metadata": bare})])) == {
        "ConfigMap shop/kept": Category.DRIFT
    }


def test_what_our_own_controller_publishes_is_no_gap() -> None:
    names = ("sealed-secrets-certificate", "secretsops-escrow", "other")
    live = [Manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": n, "namespace": "kube-system"}})
            for n in names]  # fmt: skip
    assert categories(found(config("a"), live)) == {"ConfigMap kube-system/other": Category.UNOWNED}


def test_fields_that_a_person_set_are_named() -> None:
    """Only what a hand tool owns and Git lacks."""
    body: dict[str, Any] = load_all(shop(config("c", "{colour: blue, size: big}")).encode())[0].body
    body["metadata"]["managedFields"] = [
        {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:data": {"f:size": {}, "f:colour": {}}}},
        {"manager": "argocd-controller", "operation": "Apply", "fieldsV1": {"f:data": {"f:other": {}}}},
    ]
    result = found(config("c", "{colour: blue}"), [Manifest(body)])
    hand = [gap for gap in result.new if gap.category is Category.LIVE_ONLY_FIELDS]
    assert [gap.detail for gap in hand] == ["set by hand and not in Git: data.size"]


IGNORES = """apiVersion: secretsops.dev/v1
kind: GapIgnore
spec:
  ignore:
  - {object: "ConfigMap shop/*", category: unowned, reason: written by the old installer, until: "2026-05-01"}
  - {object: "ConfigMap shop/gone", reason: was there once}
"""


def test_what_is_ignored_has_a_reason_and_an_end() -> None:
    """On the last day it still counts, the day after it does not; entries that fit nothing are named."""
    ignores = read_ignores(IGNORES.encode(), source="gaps.yaml")
    result = found(config("a"), shop(config("left")), ignores)
    assert result.new == []
    assert [gap.ignored for gap in result.found] == ["written by the old installer"]
    assert result.stale == ["ConfigMap shop/gone: fits nothing"]
    later = gaps(
        subject_of(config("a")), load_all(shop(config("left")).encode()), ignores, dt.date(2026, 5, 2), masked=MASK
    )
    assert [gap.object for gap in later.new] == ["ConfigMap shop/left"]
    assert "ConfigMap shop/*: ran out on 2026-05-01" in later.stale


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        IGNORES.replace("reason: was there once", "until: '2026-01-01'"),
        IGNORES.replace("category: unowned", "category: unknown"),
        IGNORES.replace("reason: was", "why: was"),
        IGNORES.replace('"2026-05-01"', "soon"),
    ],
)
def test_an_ignore_file_is_read_strictly(text: str) -> None:
    """No entry without a reason, no unknown field."""
    with pytest.raises(InvalidManifest):
        read_ignores(text.encode(), source="gaps.yaml")


def test_a_cluster_is_read_and_never_written() -> None:
    """One list for each kind; values of Secrets never leave the reader."""
    cluster = FakeCluster(namespaces=["shop"])
    cluster.seed(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "a", "namespace": "shop"},
            "data": {"a": "aHVudGVyMg=="},
        }
    )
    before = len(cluster.log)
    objects, unread = living(cluster, MASK)
    assert unread == []
    assert {request[0] for request in cluster.log[before:]} <= {"list", "page", "get"}
    (secret,) = [one for one in objects if one.kind.kind == "Secret"]
    assert "aHVudGVyMg==" not in str(secret.body)
    assert secret.body["data"].keys() == {"a"}
