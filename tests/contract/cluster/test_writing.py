"""The cluster door writes: create, replace, the patches, status, dry runs, optimistic locking."""

from __future__ import annotations

import pytest

from secretsops.errors import AlreadyExists, Conflict, Invalid, NotFound, ServerFailure
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Cluster, PatchType
from tests.contract.cluster.objects import CONFIG_MAP, DEPLOYMENT, changed, config_map, custom, deployment


def test_creating_twice_is_already_exists(cluster: Cluster, namespace: str) -> None:
    """The first stays as it is."""
    cluster.create(config_map(namespace, a="1"))
    with pytest.raises(AlreadyExists) as caught:
        cluster.create(config_map(namespace, a="2"))
    assert (caught.value.code, caught.value.reason) == (409, "AlreadyExists")
    assert cluster.get(CONFIG_MAP, "one", namespace).body["data"] == {"a": "1"}


def test_generate_name_is_filled_in(cluster: Cluster, namespace: str) -> None:
    """The server makes names that differ."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "key-", "namespace": namespace}}
    names = {cluster.create(Manifest(body)).name for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("key-") and len(name) > 4 for name in names)


def test_what_cannot_be_created(cluster: Cluster, namespace: str) -> None:
    """A set resourceVersion, a bad name and a missing namespace are refused, each by its own error."""
    with pytest.raises(ServerFailure):  # the server's own word for it is 500
        cluster.create(Manifest({**config_map(namespace).body, "metadata": {
            "name": "one", "namespace": namespace, "resourceVersion": "1"}}))  # fmt: skip
    with pytest.raises(Invalid):
        cluster.create(config_map(namespace, "Not_A_Name"))
    with pytest.raises(NotFound, match="not-there"):
        cluster.create(config_map("not-there"))
    with pytest.raises(Invalid) as caught:
        cluster.create(config_map(""))
    assert caught.value.reason == "NoNamespace"
    assert cluster.list(CONFIG_MAP, namespace=namespace, field_selector="metadata.name=one") == []


def test_a_stale_replace_is_a_conflict(cluster: Cluster, namespace: str) -> None:
    """The second writer of two who read the same state loses."""
    first = cluster.create(config_map(namespace, a="1"))
    cluster.replace(changed(first, data={"a": "2"}))
    with pytest.raises(Conflict) as caught:
        cluster.replace(changed(first, data={"a": "3"}))
    assert (caught.value.code, caught.value.reason, caught.value.retry) == (409, "Conflict", True)
    assert cluster.get(CONFIG_MAP, "one", namespace).body["data"] == {"a": "2"}


def test_a_replace_without_version_overwrites(cluster: Cluster, namespace: str) -> None:
    """No resourceVersion means no lock for built-in kinds; uid and creation time stay."""
    first = cluster.create(config_map(namespace, a="1"))
    second = cluster.replace(config_map(namespace, b="2"))
    assert second.body["data"] == {"b": "2"}
    assert (second.uid, second.metadata["creationTimestamp"]) == (first.uid, first.metadata["creationTimestamp"])
    assert second.resource_version != first.resource_version


def test_a_replace_of_another_incarnation_is_a_conflict(cluster: Cluster, namespace: str) -> None:
    """A uid in the body is a precondition."""
    first = cluster.create(config_map(namespace, a="1"))
    cluster.delete(CONFIG_MAP, "one", namespace=namespace)
    cluster.create(config_map(namespace, a="1"))
    metadata = {"name": "one", "namespace": namespace, "uid": first.uid}
    with pytest.raises(Conflict):
        cluster.replace(Manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}))


def test_replacing_nothing_is_not_found(cluster: Cluster, namespace: str) -> None:
    """A replace does not create."""
    with pytest.raises(NotFound):
        cluster.replace(config_map(namespace))


def test_a_write_that_changes_nothing_is_no_write(cluster: Cluster, namespace: str) -> None:
    """The resourceVersion stays, so nobody is woken."""
    first = cluster.create(config_map(namespace, a="1"), field_manager="same")
    second = cluster.replace(first, field_manager="same")
    third = cluster.patch(CONFIG_MAP, "one", {"data": {"a": "1"}}, namespace=namespace, field_manager="same")
    assert first.resource_version == second.resource_version == third.resource_version


def test_dry_runs_leave_no_trace(cluster: Cluster, namespace: str) -> None:
    """Each verb answers as it would, and nothing is there afterwards."""
    dry = cluster.create(config_map(namespace, a="1"), dry_run=True)
    assert dry.body["data"] == {"a": "1"}
    with pytest.raises(NotFound):
        cluster.get(CONFIG_MAP, "one", namespace)
    with pytest.raises(NotFound):
        cluster.delete(CONFIG_MAP, "one", namespace=namespace, dry_run=True)
    real = cluster.create(config_map(namespace, a="1"))
    with pytest.raises(AlreadyExists):
        cluster.create(config_map(namespace, a="1"), dry_run=True)
    assert cluster.replace(config_map(namespace, a="2"), dry_run=True).body["data"] == {"a": "2"}
    patched = cluster.patch(CONFIG_MAP, "one", {"data": {"a": "3"}}, namespace=namespace, dry_run=True)
    assert patched.body["data"] == {"a": "3"}
    applied = cluster.apply(config_map(namespace, b="4"), field_manager="test", dry_run=True)
    assert applied.body["data"] == {"a": "1", "b": "4"}
    cluster.delete(CONFIG_MAP, "one", namespace=namespace, dry_run=True)
    assert cluster.get(CONFIG_MAP, "one", namespace) == real


# --- patches -------------------------------------------------------------------------------------------


def test_a_merge_patch_sets_and_deletes(cluster: Cluster, namespace: str) -> None:
    """Null deletes a key; what is not named stays."""
    cluster.create(config_map(namespace, a="1", b="2"))
    found = cluster.patch(CONFIG_MAP, "one", {"data": {"b": None, "c": "3"}}, namespace=namespace)
    assert found.body["data"] == {"a": "1", "c": "3"}
    assert cluster.get(CONFIG_MAP, "one", namespace) == found


def test_a_json_patch_runs_its_operations(cluster: Cluster, namespace: str) -> None:
    """Add, replace, remove, move and copy, with escaped keys."""
    cluster.create(config_map(namespace, labels={"x/y": "1"}, a="1", b="2"))
    operations = [
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "replace", "path": "/data/a", "value": "9"},
        {"op": "remove", "path": "/data/b"},
        {"op": "add", "path": "/data/c", "value": "3"},
        {"op": "copy", "from": "/data/c", "path": "/data/d"},
        {"op": "move", "from": "/data/d", "path": "/data/e"},
        {"op": "replace", "path": "/metadata/labels/x~1y", "value": "2"},
    ]
    found = cluster.patch(CONFIG_MAP, "one", operations, namespace=namespace, patch_type=PatchType.JSON)
    assert found.body["data"] == {"a": "9", "c": "3", "e": "3"}
    assert found.labels == {"x/y": "2"}


def test_a_json_patch_whose_test_fails_changes_nothing(cluster: Cluster, namespace: str) -> None:
    """All operations or none."""
    first = cluster.create(config_map(namespace, a="1"))
    operations = [{"op": "add", "path": "/data/b", "value": "2"}, {"op": "test", "path": "/data/a", "value": "other"}]
    with pytest.raises(Invalid):
        cluster.patch(CONFIG_MAP, "one", operations, namespace=namespace, patch_type=PatchType.JSON)
    assert cluster.get(CONFIG_MAP, "one", namespace) == first


def test_a_strategic_patch_merges_lists_by_key(cluster: Cluster, namespace: str) -> None:
    """One container changes, the other stays; `$patch: delete` removes one."""
    cluster.create(deployment(namespace))

    def patch(container: dict[str, str]) -> dict[str, str]:
        body = {"spec": {"template": {"spec": {"containers": [container]}}}}
        found = cluster.patch(DEPLOYMENT, "one", body, namespace=namespace, patch_type=PatchType.STRATEGIC)
        return {each["name"]: each["image"] for each in found.spec["template"]["spec"]["containers"]}

    assert patch({"name": "main", "image": "a:2"}) == {"main": "a:2", "side": "side:1"}
    assert patch({"name": "side", "$patch": "delete"}) == {"main": "a:2"}


def test_a_merge_patch_replaces_lists(cluster: Cluster, namespace: str) -> None:
    """RFC 7386 knows no keys: the list is what was sent."""
    cluster.create(deployment(namespace))
    body = {"spec": {"template": {"spec": {"containers": [{"name": "new", "image": "n:1"}]}}}}
    found = cluster.patch(DEPLOYMENT, "one", body, namespace=namespace)
    assert [each["name"] for each in found.spec["template"]["spec"]["containers"]] == ["new"]


def test_custom_kinds_take_no_strategic_patch(cluster: Cluster, namespace: str, widget: GroupVersionKind) -> None:
    """The server says 415, which is an Invalid of ours."""
    cluster.create(custom(widget, namespace, spec={"size": 1}))
    with pytest.raises(Invalid) as caught:
        cluster.patch(widget, "one", {"spec": {"size": 2}}, namespace=namespace, patch_type=PatchType.STRATEGIC)
    assert caught.value.code == 415


def test_a_patch_with_a_stale_version_is_a_conflict(cluster: Cluster, namespace: str) -> None:
    """A resourceVersion in a merge patch is a lock."""
    first = cluster.create(config_map(namespace, a="1"))
    cluster.patch(CONFIG_MAP, "one", {"data": {"a": "2"}}, namespace=namespace)
    stale = {"metadata": {"resourceVersion": first.resource_version}, "data": {"a": "3"}}
    with pytest.raises(Conflict):
        cluster.patch(CONFIG_MAP, "one", stale, namespace=namespace)


def test_patching_nothing_is_not_found(cluster: Cluster, namespace: str) -> None:
    """A patch does not create."""
    with pytest.raises(NotFound):
        cluster.patch(CONFIG_MAP, "one", {}, namespace=namespace)


# --- status --------------------------------------------------------------------------------------------


def test_spec_and_status_are_written_apart(cluster: Cluster, namespace: str, widget: GroupVersionKind) -> None:
    """The main resource leaves status alone, the subresource everything else; generation counts spec alone."""
    first = cluster.create(custom(widget, namespace, spec={"size": 1}, status={"from": "create"}))
    assert (first.status, first.generation) == ({}, 1)
    second = cluster.replace(changed(first, spec={"size": 9}, status={"seen": 1}), subresource="status")
    assert (second.spec["size"], second.status, second.generation) == (1, {"seen": 1}, 1)
    third = cluster.replace(changed(second, spec={"size": 2}, status={"seen": 2}))
    assert (third.spec["size"], third.status, third.generation) == (2, {"seen": 1}, 2)
    fourth = cluster.patch(widget, "one", {"status": {"seen": 3}}, namespace=namespace, subresource="status")
    assert (fourth.spec["size"], fourth.status, fourth.generation) == (2, {"seen": 3}, 2)


def test_labels_are_no_part_of_the_generation(cluster: Cluster, namespace: str, widget: GroupVersionKind) -> None:
    """Metadata may change without a new generation."""
    cluster.create(custom(widget, namespace, spec={"size": 1}))
    found = cluster.patch(widget, "one", {"metadata": {"labels": {"a": "b"}}}, namespace=namespace)
    assert (found.labels, found.generation) == ({"a": "b"}, 1)


def test_a_subresource_that_is_not_there_is_not_found(cluster: Cluster, namespace: str) -> None:
    """A ConfigMap has no status to write."""
    first = cluster.create(config_map(namespace))
    with pytest.raises(NotFound):
        cluster.replace(first, subresource="status")


def test_a_custom_object_is_replaced_only_under_lock(
    cluster: Cluster, namespace: str, widget: GroupVersionKind
) -> None:
    """Custom kinds want a resourceVersion in a replace."""
    cluster.create(custom(widget, namespace, spec={"size": 1}))
    with pytest.raises(Invalid):
        cluster.replace(custom(widget, namespace, spec={"size": 2}))
