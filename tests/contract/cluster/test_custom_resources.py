"""The cluster door and custom kinds: schemas, unknown fields, versions, removal."""

from __future__ import annotations

import pytest

from secretsops.errors import ApiError, Invalid, UnknownKind
from secretsops.manifest import GroupVersionKind
from secretsops.ports import Cluster
from tests.contract.cluster.backends import CRD, Backend, eventually, install_widgets
from tests.contract.cluster.objects import changed, custom, deployment


def test_a_schema_refuses(backend: Backend, namespace: str, widget: GroupVersionKind) -> None:
    """What the schema forbids is Invalid and named by its path."""
    for spec, field in (({"size": 0}, "spec.size"), ({"size": "big"}, "spec.size"), ({}, "spec.size")):
        with pytest.raises(Invalid, match=field) as caught:
            backend.cluster.create(custom(widget, namespace, spec=spec))
        assert caught.value.code == 422


def test_a_schema_fills_in(backend: Backend, namespace: str, widget: GroupVersionKind) -> None:
    """Defaults are there after the write."""
    assert backend.cluster.create(custom(widget, namespace, spec={"size": 1})).spec == {"size": 1, "colour": "red"}


def test_a_schema_prunes(backend: Backend, namespace: str, widget: GroupVersionKind) -> None:
    """What the schema does not know is dropped by the server."""
    found = backend.cluster.create(custom(widget, namespace, spec={"size": 1, "unknown": {"a": 1}}))
    assert "unknown" not in found.spec


def test_a_built_in_kind_refuses_the_wrong_type(backend: Backend, namespace: str) -> None:
    """A number where text is wanted is refused."""
    with pytest.raises(Invalid):
        backend.cluster.create(custom(GroupVersionKind("", "v1", "ConfigMap"), namespace, data={"a": 1}))


def test_a_built_in_kind_is_filled_in(backend: Backend, namespace: str) -> None:
    """Defaults of a Deployment are there after the write."""
    assert backend.cluster.create(deployment(namespace)).spec["strategy"]["type"] == "RollingUpdate"


def test_unknown_fields_survive_read_modify_write(cluster: Cluster, namespace: str, widget: GroupVersionKind) -> None:
    """What we do not know stays byte for byte, null, numbers and empty containers too."""
    free = {
        "text": "ä\u2028",
        "big": 12345678901234567,
        "half": 0.5,
        "none": [],
        "deep": {"a": [{"b": False}]},
        "e": {},
    }
    first = cluster.create(custom(widget, namespace, spec={"size": 1, "free": free}))
    assert first.spec["free"] == free
    second = cluster.replace(changed(first, spec={**first.spec, "size": 2}))
    assert second.spec["free"] == free
    assert cluster.list(widget, namespace=namespace)[0].spec["free"] == free


def test_two_versions_show_one_object(cluster: Cluster, namespace: str) -> None:
    """An object written in one served version is read in another, with the other's apiVersion."""
    kind = install_widgets(cluster)
    crd = cluster.get(CRD, f"widgets.{kind.group}")
    older = {**crd.spec["versions"][0], "name": "v1beta1", "storage": False}
    cluster.replace(changed(crd, spec={**crd.spec, "versions": [*crd.spec["versions"], older]}))
    beta = GroupVersionKind(kind.group, "v1beta1", "Widget")

    def served() -> bool:
        try:
            return cluster.list(beta, namespace=namespace) is not None
        except ApiError:
            return False

    eventually(served)
    first = cluster.create(custom(kind, namespace, spec={"size": 1}))
    found = cluster.get(beta, "one", namespace)
    assert (found.kind, found.uid, found.spec) == (beta, first.uid, first.spec)


def test_a_removed_definition_takes_its_objects_along(cluster: Cluster, namespace: str) -> None:
    """After the definition is gone the kind is unknown, once discovery is asked again."""
    kind = install_widgets(cluster)
    cluster.create(custom(kind, namespace, spec={"size": 1}))
    cluster.delete(CRD, f"widgets.{kind.group}")

    def unserved() -> bool:
        cluster.resources(refresh=True)
        try:
            cluster.resource(kind)
        except UnknownKind:
            return True
        return False

    eventually(unserved)
    with pytest.raises(UnknownKind):
        cluster.list(kind, namespace=namespace)
