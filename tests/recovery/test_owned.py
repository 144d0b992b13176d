"""Would a server-side apply change anything? Read from managedFields: what we own and Git no longer says has to go."""

from __future__ import annotations

from typing import Any

import pytest

from recovery.owned import is_as_applied
from secretsops.manifest import Manifest

WANTED: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
}
OWNED: dict[str, Any] = {
    "f:metadata": {"f:labels": {"f:app": {}}},
    "f:spec": {"f:selector": {}, "f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}}},
}


def live(owned: dict[str, Any], manager: str = "argocd-controller", **spec: Any) -> Manifest:
    entry = {"manager": manager, "operation": "Apply", "fieldsV1": owned}
    port = {"port": 80, "protocol": "TCP", "targetPort": 80}
    return Manifest(
        {
            **WANTED,
            "metadata": {**WANTED["metadata"], "uid": "1", "resourceVersion": "2", "managedFields": [entry]},
            "spec": {**WANTED["spec"], "ports": [port], "clusterIP": "10.0.0.1", **spec},
        }
    )


def test_what_is_there_and_owned_as_wanted_needs_no_request() -> None:
    """Defaults that the server filled in are nobody's difference."""
    assert is_as_applied(live(OWNED), Manifest(WANTED), "argocd-controller")


@pytest.mark.parametrize(
    "more",
    [
        {"f:metadata": {"f:labels": {"f:app": {}, "f:old": {}}}},
        {"f:spec": {"f:selector": {}, "f:ports": {'k:{"port":81,"protocol":"TCP"}': {".": {}}}}},
        {"f:spec": {"f:type": {}}},
        {"f:metadata": {"f:finalizers": {'v:"a/b"': {}}}},
        {"f:spec": {"f:ports": {"k:broken": {}}}},
        {"x:unknown": {}},
    ],
    ids=["label", "port", "field", "set", "broken", "unknown"],
)
def test_what_we_own_and_git_no_longer_says_has_to_go(more: dict[str, Any]) -> None:
    """Also where it cannot be read: rather one request too many."""
    assert not is_as_applied(live({**OWNED, **more}), Manifest(WANTED), "argocd-controller")


def test_what_another_manager_owns_is_not_ours_to_remove() -> None:
    """Its fields do not count."""
    other = live({"f:spec": {"f:type": {}}}, manager="somebody", type="ClusterIP")
    assert is_as_applied(other, Manifest(WANTED), "argocd-controller")


def test_a_difference_or_a_deletion_is_one() -> None:
    """A changed value, and an object on its way out."""
    assert not is_as_applied(live(OWNED, selector={"app": "other"}), Manifest(WANTED), "argocd-controller")
    going = live(OWNED)
    going.metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not is_as_applied(going, Manifest(WANTED), "argocd-controller")
