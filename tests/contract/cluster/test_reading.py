"""The cluster door reads: one object, lists, pages, selectors, discovery, raw paths."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from secretsops.errors import ApiError, Gone, Invalid, NotFound, UnknownKind
from secretsops.manifest import GroupVersionKind
from secretsops.ports import Cluster
from tests.contract.cluster.backends import Backend, install_widgets
from tests.contract.cluster.objects import CONFIG_MAP, DEPLOYMENT, SECRET, config_map, custom, secret


def test_a_missing_object_is_not_found(cluster: Cluster, namespace: str) -> None:
    """The error says which, with the server's code and reason, and is no reason to try again."""
    with pytest.raises(NotFound, match="nothing") as caught:
        cluster.get(CONFIG_MAP, "nothing", namespace)
    assert (caught.value.code, caught.value.reason, caught.value.retry) == (404, "NotFound", False)


def test_a_created_object_reads_back(cluster: Cluster, namespace: str) -> None:
    """Kind, key, data, uid and resourceVersion are those that the create answered."""
    created = cluster.create(config_map(namespace, a="1"))
    found = cluster.get(CONFIG_MAP, "one", namespace)
    assert (found.kind, found.name, found.namespace, found.body["data"]) == (CONFIG_MAP, "one", namespace, {"a": "1"})
    assert found.uid == created.uid != ""
    assert found.resource_version == created.resource_version != ""
    assert found.metadata["creationTimestamp"]


def test_a_list_is_of_one_namespace_or_of_all(cluster: Cluster, namespace: str) -> None:
    """An empty namespace means all; items say their kind, which the server leaves out."""
    cluster.create(secret(namespace))
    here = cluster.list(SECRET, namespace=namespace)
    everywhere = cluster.list(SECRET)
    assert [(found.kind, found.name) for found in here] == [(SECRET, "one")]
    assert here[0].key in {found.key for found in everywhere}


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("", ["a", "b", "c"]),
        ("tier=web", ["a"]),
        ("tier==web", ["a"]),
        ("tier!=web", ["b", "c"]),
        ("tier in (web,db)", ["a", "b"]),
        ("tier notin (web)", ["b", "c"]),
        ("tier", ["a", "b"]),
        ("!tier", ["c"]),
        ("tier in (web, db),!big", ["a"]),
    ],
)
def test_label_selectors(cluster: Cluster, namespace: str, selector: str, names: list[str]) -> None:
    """All forms of a selector select as kubectl's do."""
    for name, labels in (("a", {"tier": "web", "own": "x"}), ("b", {"tier": "db", "big": "1"}), ("c", {"own": "x"})):
        cluster.create(secret(namespace, name, metadata={"labels": labels}))
    found = cluster.list(SECRET, namespace=namespace, label_selector=selector)
    assert [each.name for each in found] == names


def test_field_selectors(cluster: Cluster, namespace: str) -> None:
    """Name and a Secret's type select; a field that is not offered is refused."""
    cluster.create(secret(namespace, "a"))
    cluster.create(secret(namespace, "b", type="example.com/own"))
    named = cluster.list(SECRET, namespace=namespace, field_selector="metadata.name=a")
    typed = cluster.list(SECRET, namespace=namespace, field_selector="type=example.com/own")
    others = cluster.list(SECRET, namespace=namespace, field_selector="type!=example.com/own")
    assert [[each.name for each in found] for found in (named, typed, others)] == [["a"], ["b"], ["a"]]
    with pytest.raises(Invalid):
        cluster.list(SECRET, namespace=namespace, field_selector="data.a=1")


def test_pages_give_every_object_once(cluster: Cluster, namespace: str) -> None:
    """Pages of three cover seven objects; only the last has no continue token; all name one resourceVersion."""
    for number in range(7):
        cluster.create(secret(namespace, f"s{number}"))
    names, sizes, versions, resume = [], [], set(), ""
    while True:
        page = cluster.page(SECRET, namespace=namespace, limit=3, resume=resume)
        names += [each.name for each in page.items]
        sizes.append(len(page.items))
        versions.add(page.resource_version)
        resume = page.resume
        if not resume:
            break
    assert (sizes, names) == ([3, 3, 1], [f"s{number}" for number in range(7)])
    assert len(versions) == 1


def test_an_expired_page_is_gone(backend: Backend, namespace: str, widget: GroupVersionKind) -> None:
    """A continue token from before the server's memory is 410, whose cure is to list again."""
    cluster = backend.cluster
    for number in range(4):
        cluster.create(custom(widget, namespace, f"w{number}", spec={"size": 1}))
    first = cluster.page(widget, namespace=namespace, limit=2)
    cluster.create(custom(widget, namespace, "later", spec={"size": 1}))
    backend.forget_history()
    with pytest.raises(Gone) as caught:
        cluster.page(widget, namespace=namespace, limit=2, resume=backend.aged(first.resume))
    assert caught.value.code == 410


def test_discovery_tells_how_kinds_are_reached(cluster: Cluster) -> None:
    """Plural, scope, verbs and subresources come from the server."""
    found = cluster.resource(DEPLOYMENT)
    assert (found.plural, found.namespaced) == ("deployments", True)
    assert {"get", "list", "watch", "create", "update", "patch", "delete"} <= found.verbs
    assert "status" in found.subresources
    assert "status" not in cluster.resource(SECRET).subresources
    assert not cluster.resource(GroupVersionKind("", "v1", "Namespace")).namespaced
    assert found.path(namespace="a", name="b") == "/apis/apps/v1/namespaces/a/deployments/b"
    assert found in cluster.resources()


def test_an_unknown_kind_is_named(cluster: Cluster) -> None:
    """Every verb says that the kind is not served, before a request for it."""
    kind = GroupVersionKind("example.com", "v1", "Nothing")
    for act in (
        lambda: cluster.resource(kind),
        lambda: cluster.get(kind, "a", "b"),
        lambda: cluster.list(kind),
        lambda: cluster.create(custom(kind, "a")),
    ):
        with pytest.raises(UnknownKind, match=r"Nothing in example\.com/v1"):
            act()


def test_a_kind_that_arrives_later_is_found(backend: Backend, namespace: str) -> None:
    """The cached discovery asks again for what it does not know."""
    backend.cluster.resources()
    kind = install_widgets(backend.cluster)
    backend.cluster.create(custom(kind, namespace, spec={"size": 1}))
    assert backend.cluster.get(kind, "one", namespace).spec["size"] == 1


def test_raw_gives_the_answer_whatever_its_code(cluster: Cluster) -> None:
    """A path that is no object: body and code as they came."""
    ready = cluster.raw("GET", "/readyz")
    assert (ready.code, ready.body) == (200, b"ok")
    assert int(json.loads(cluster.raw("GET", "/version").body)["minor"].rstrip("+")) >= 30
    assert cluster.raw("GET", "/apis/nothing.example.com/v1").code == 404


def test_errors_carry_code_and_reason(cluster: Cluster, namespace: str) -> None:
    """Whatever goes wrong is an ApiError of ours."""
    with pytest.raises(ApiError) as caught:
        cluster.get(replace(CONFIG_MAP, version="v9"), "one", namespace)
    assert caught.value.reason == "UnknownKind"
