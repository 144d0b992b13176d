"""The cluster door deletes: preconditions, finalizers, owners, namespaces."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from secretsops.errors import ApiError, Conflict, Forbidden, NotFound
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Cluster
from tests.contract.cluster.backends import NAMESPACE, eventually
from tests.contract.cluster.objects import CONFIG_MAP, SECRET, config_map, secret


def _gone(cluster: Cluster, kind: GroupVersionKind, name: str, namespace: str = "") -> bool:
    try:
        cluster.get(kind, name, namespace)
    except NotFound:
        return True
    return False


def _with(manifest: Manifest, **metadata: Any) -> Manifest:
    return Manifest({**manifest.body, "metadata": {**manifest.metadata, **metadata}})


def _owned_by(owner: Manifest, **fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": owner.kind.api_version,
        "kind": owner.kind.kind,
        "name": owner.name,
        "uid": owner.uid,
        **fields,
    }


def test_a_deleted_object_is_gone(cluster: Cluster, namespace: str) -> None:
    """Once it is deleted; then it is not found."""
    cluster.create(config_map(namespace))
    cluster.delete(CONFIG_MAP, "one", namespace=namespace)
    assert _gone(cluster, CONFIG_MAP, "one", namespace)
    with pytest.raises(NotFound):
        cluster.delete(CONFIG_MAP, "one", namespace=namespace)


def test_preconditions_hold_a_delete_back(cluster: Cluster, namespace: str) -> None:
    """Another uid or resourceVersion than the named is a conflict; the right ones are none."""
    first = cluster.create(config_map(namespace))
    with pytest.raises(Conflict):
        cluster.delete(CONFIG_MAP, "one", namespace=namespace, uid="11111111-2222-4333-8444-555555555555")
    second = cluster.patch(CONFIG_MAP, "one", {"data": {"a": "1"}}, namespace=namespace)
    with pytest.raises(Conflict):
        cluster.delete(CONFIG_MAP, "one", namespace=namespace, resource_version=first.resource_version)
    cluster.delete(CONFIG_MAP, "one", namespace=namespace, uid=first.uid, resource_version=second.resource_version)
    assert _gone(cluster, CONFIG_MAP, "one", namespace)


def test_a_finalizer_keeps_an_object_until_it_is_taken_off(cluster: Cluster, namespace: str) -> None:
    """Deleted means marked; deleting again changes nothing; the last finalizer's removal removes the object."""
    first = cluster.create(_with(config_map(namespace), finalizers=["example.com/a", "example.com/b"]))
    cluster.delete(CONFIG_MAP, "one", namespace=namespace)
    marked = cluster.get(CONFIG_MAP, "one", namespace)
    assert marked.metadata["deletionTimestamp"]
    assert marked.uid == first.uid
    cluster.delete(CONFIG_MAP, "one", namespace=namespace)
    assert cluster.get(CONFIG_MAP, "one", namespace) == marked
    less = cluster.replace(_with(marked, finalizers=["example.com/b"]))
    assert less.metadata["finalizers"] == ["example.com/b"]
    cluster.patch(CONFIG_MAP, "one", {"metadata": {"finalizers": None}}, namespace=namespace)
    assert _gone(cluster, CONFIG_MAP, "one", namespace)


def test_dependents_follow_their_owner(cluster: Cluster, namespace: str) -> None:
    """In the background what only the owner kept goes; what has another owner stays."""
    owner = cluster.create(config_map(namespace, "owner"))
    other = cluster.create(config_map(namespace, "other"))
    cluster.create(secret(namespace, "only", metadata={"ownerReferences": [_owned_by(owner)]}))
    both = [_owned_by(owner), _owned_by(other)]
    cluster.create(secret(namespace, "both", metadata={"ownerReferences": both}))
    cluster.delete(CONFIG_MAP, "owner", namespace=namespace)
    eventually(lambda: _gone(cluster, SECRET, "only", namespace))
    assert not _gone(cluster, SECRET, "both", namespace)


def test_orphans_stay(cluster: Cluster, namespace: str) -> None:
    """With `Orphan` the owner goes, the dependent loses its reference."""
    owner = cluster.create(config_map(namespace, "owner"))
    cluster.create(secret(namespace, metadata={"ownerReferences": [_owned_by(owner)]}))
    cluster.delete(CONFIG_MAP, "owner", namespace=namespace, propagation="Orphan")
    eventually(lambda: _gone(cluster, CONFIG_MAP, "owner", namespace))
    assert not cluster.get(SECRET, "one", namespace).metadata.get("ownerReferences")


def test_in_the_foreground_dependents_go_first(cluster: Cluster, namespace: str) -> None:
    """With `Foreground` all are gone in the end."""
    owner = cluster.create(config_map(namespace, "owner"))
    reference = _owned_by(owner, blockOwnerDeletion=True)
    cluster.create(secret(namespace, metadata={"ownerReferences": [reference]}))
    cluster.delete(CONFIG_MAP, "owner", namespace=namespace, propagation="Foreground")
    eventually(lambda: _gone(cluster, CONFIG_MAP, "owner", namespace))
    assert _gone(cluster, SECRET, "one", namespace)


def test_a_namespace_takes_its_content_along(cluster: Cluster) -> None:
    """While something with a finalizer is left it is Terminating and takes nothing new; then it is gone."""
    name = f"contract-{secrets.token_hex(4)}"
    cluster.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
    cluster.create(secret(name))
    cluster.create(_with(config_map(name), finalizers=["example.com/hold"]))
    cluster.delete(NAMESPACE, name)
    eventually(lambda: _gone(cluster, SECRET, "one", name))
    home = cluster.get(NAMESPACE, name)
    assert home.status["phase"] == "Terminating"
    with pytest.raises(Forbidden):
        cluster.create(secret(name, "late"))
    cluster.patch(CONFIG_MAP, "one", {"metadata": {"finalizers": []}}, namespace=name)
    eventually(lambda: _gone(cluster, NAMESPACE, name))
    with pytest.raises(ApiError):
        cluster.create(secret(name, "later"))


def test_a_new_namespace_is_active_and_labelled(cluster: Cluster, namespace: str) -> None:
    """The label that NetworkPolicies and selectors rely on is there from the start."""
    found = cluster.get(NAMESPACE, namespace)
    assert found.status["phase"] == "Active"
    assert found.labels["kubernetes.io/metadata.name"] == namespace


def test_a_new_namespace_is_filled_by_controllers(cluster: Cluster, namespace: str, backend: Any) -> None:
    """The default service account and the cluster's authority appear."""
    backend.needs("controllers")
    account = GroupVersionKind("", "v1", "ServiceAccount")
    eventually(lambda: not _gone(cluster, account, "default", namespace))
    eventually(lambda: not _gone(cluster, CONFIG_MAP, "kube-root-ca.crt", namespace))
