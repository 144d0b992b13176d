"""Scopes: names, labels, annotations."""

from __future__ import annotations

import pytest

from secretsops.sealing.scope import CLUSTER_WIDE, NAMESPACE_WIDE, Scope


@pytest.mark.parametrize(
    ("annotations", "scope"),
    [
        ({}, Scope.STRICT),
        ({NAMESPACE_WIDE: "true"}, Scope.NAMESPACE_WIDE),
        ({CLUSTER_WIDE: "true", NAMESPACE_WIDE: "true"}, Scope.CLUSTER_WIDE),
        ({CLUSTER_WIDE: "TRUE"}, Scope.STRICT),
        ({CLUSTER_WIDE: ""}, Scope.STRICT),
        ({CLUSTER_WIDE: "false", NAMESPACE_WIDE: "true"}, Scope.NAMESPACE_WIDE),
    ],
)
def test_scope_follows_from_annotations(annotations: dict[str, str], scope: Scope) -> None:
    """Cluster-wide wins, and only the exact text `true` counts."""
    assert scope is Scope.of(annotations)


def test_labels_are_upstreams() -> None:
    """A slash between namespace and name, the namespace alone, or nothing."""
    assert [scope.label("a", "b") for scope in Scope] == [b"a/b", b"a", b""]


@pytest.mark.parametrize("scope", Scope)
def test_what_a_scope_declares_is_read_back(scope: Scope) -> None:
    """Applying a scope replaces the other's annotation and keeps the rest."""
    applied = scope.applied_to({CLUSTER_WIDE: "true", NAMESPACE_WIDE: "true", "keep": "me"})
    assert scope is Scope.of(applied)
    assert applied["keep"] == "me"
