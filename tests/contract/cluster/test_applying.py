"""The cluster door applies on the server: field ownership, conflicts, force."""

from __future__ import annotations

from typing import Any

import pytest

from secretsops.errors import Conflict, NotFound
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Cluster
from tests.contract.cluster.objects import CONFIG_MAP, DEPLOYMENT, config_map, custom, deployment


def _owned(manifest: Manifest, manager: str, operation: str = "Apply") -> Any:
    for entry in manifest.metadata.get("managedFields") or []:
        if (entry["manager"], entry["operation"]) == (manager, operation):
            return entry["fieldsV1"]
    return None


def test_apply_creates(cluster: Cluster, namespace: str) -> None:
    """What was not there is created, owned by its manager field by field."""
    found = cluster.apply(config_map(namespace, labels={"x": "y"}, a="1"), field_manager="one")
    assert (found.body["data"], found.labels) == ({"a": "1"}, {"x": "y"})
    assert _owned(found, "one") == {"f:data": {"f:a": {}}, "f:metadata": {"f:labels": {"f:x": {}}}}


def test_applying_the_same_again_changes_nothing(cluster: Cluster, namespace: str) -> None:
    """No new resourceVersion."""
    first = cluster.apply(config_map(namespace, a="1"), field_manager="one")
    assert cluster.apply(config_map(namespace, a="1"), field_manager="one") == first


def test_what_is_no_longer_applied_goes(cluster: Cluster, namespace: str) -> None:
    """A field dropped from the configuration is dropped from the object; fields of others stay."""
    cluster.apply(config_map(namespace, a="1", b="2"), field_manager="one")
    cluster.apply(config_map(namespace, c="3"), field_manager="two")
    found = cluster.apply(config_map(namespace, b="2"), field_manager="one")
    assert found.body["data"] == {"b": "2", "c": "3"}


def test_a_conflict_names_manager_and_field(cluster: Cluster, namespace: str) -> None:
    """Nothing is changed, also not the fields without conflict."""
    cluster.apply(config_map(namespace, a="1"), field_manager="other-tool")
    with pytest.raises(Conflict, match=r'"other-tool".*\.data\.a') as caught:
        cluster.apply(config_map(namespace, a="2", b="2"), field_manager="one")
    assert caught.value.code == 409
    assert cluster.get(CONFIG_MAP, "one", namespace).body["data"] == {"a": "1"}


def test_force_takes_fields_over(cluster: Cluster, namespace: str) -> None:
    """The other manager keeps what was not taken, and loses the rest."""
    cluster.apply(config_map(namespace, a="1", b="1"), field_manager="two")
    found = cluster.apply(config_map(namespace, a="2"), field_manager="one", force=True)
    assert found.body["data"] == {"a": "2", "b": "1"}
    assert _owned(found, "one") == {"f:data": {"f:a": {}}}
    assert _owned(found, "two") == {"f:data": {"f:b": {}}}


def test_equal_values_are_owned_together(cluster: Cluster, namespace: str) -> None:
    """No conflict about what both want; it stays until both let go."""
    cluster.apply(config_map(namespace, a="1"), field_manager="one")
    cluster.apply(config_map(namespace, a="1", b="2"), field_manager="two")
    first = cluster.apply(config_map(namespace, c="3"), field_manager="one")
    assert first.body["data"] == {"a": "1", "b": "2", "c": "3"}
    second = cluster.apply(config_map(namespace, b="2"), field_manager="two")
    assert second.body["data"] == {"b": "2", "c": "3"}


def test_an_update_takes_fields_from_an_applier(cluster: Cluster, namespace: str) -> None:
    """A patch by another wins at once; the next apply meets it as a conflict, named by its manager."""
    cluster.apply(config_map(namespace, a="1", b="1"), field_manager="one")
    cluster.patch(CONFIG_MAP, "one", {"data": {"a": "9"}}, namespace=namespace, field_manager="by-hand")
    with pytest.raises(Conflict, match=r'"by-hand".*\.data\.a'):
        cluster.apply(config_map(namespace, a="1", b="1"), field_manager="one")
    healed = cluster.apply(config_map(namespace, a="1", b="1"), field_manager="one", force=True)
    assert healed.body["data"] == {"a": "1", "b": "1"}
    assert _owned(healed, "by-hand", "Update") is None


def test_lists_with_keys_are_shared(cluster: Cluster, namespace: str) -> None:
    """Two managers own one container each of a Deployment."""
    cluster.apply(deployment(namespace), field_manager="one")
    mine = {"spec": {"template": {"spec": {"containers": [{"name": "own", "image": "own:1"}]}}}}
    found = cluster.apply(custom(DEPLOYMENT, namespace, **mine), field_manager="two")
    assert {each["name"] for each in found.spec["template"]["spec"]["containers"]} == {"main", "side", "own"}
    theirs = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "x:1"}]}}}}
    with pytest.raises(Conflict, match=r'containers\[name="main"\]\.image'):
        cluster.apply(custom(DEPLOYMENT, namespace, **theirs), field_manager="two")


def test_lists_without_keys_have_one_owner(cluster: Cluster, namespace: str, widget: GroupVersionKind) -> None:
    """A list that declares nothing is replaced as a whole, or not at all."""
    cluster.apply(custom(widget, namespace, spec={"size": 1, "parts": ["a"]}), field_manager="one")
    with pytest.raises(Conflict, match=r"\.spec\.parts"):
        cluster.apply(custom(widget, namespace, spec={"size": 1, "parts": ["b"]}), field_manager="two")
    wanted = custom(widget, namespace, spec={"size": 1, "parts": ["b"]})
    assert cluster.apply(wanted, field_manager="two", force=True).spec["parts"] == ["b"]


def test_status_is_applied_apart(cluster: Cluster, namespace: str, widget: GroupVersionKind) -> None:
    """Applied to the subresource, only status counts; applied to the object, status does not."""
    with pytest.raises(NotFound):
        cluster.apply(custom(widget, namespace, status={"a": 1}), field_manager="one", subresource="status")
    first = cluster.apply(custom(widget, namespace, spec={"size": 1}, status={"a": 1}), field_manager="one")
    assert first.status == {}
    second = cluster.apply(custom(widget, namespace, status={"a": 1}), field_manager="one", subresource="status")
    assert (second.status, second.spec["size"]) == ({"a": 1}, 1)


def test_a_read_object_can_be_applied(cluster: Cluster, namespace: str) -> None:
    """managedFields of a body that was read do not stand in the way."""
    first = cluster.apply(config_map(namespace, a="1"), field_manager="one")
    body = {key: value for key, value in first.metadata.items() if key not in ("uid", "creationTimestamp")}
    again = cluster.apply(Manifest({**first.body, "metadata": body}), field_manager="one")
    assert again.resource_version == first.resource_version


def test_a_stale_version_is_a_conflict(cluster: Cluster, namespace: str) -> None:
    """A resourceVersion in the applied body is a lock."""
    first = cluster.apply(config_map(namespace, a="1"), field_manager="one")
    cluster.apply(config_map(namespace, a="2"), field_manager="one")
    metadata = {"name": "one", "namespace": namespace, "resourceVersion": first.resource_version}
    with pytest.raises(Conflict):
        cluster.apply(Manifest({**first.body, "metadata": metadata}), field_manager="one")
