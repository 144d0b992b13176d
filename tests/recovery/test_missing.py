"""What an object lacks that does not become healthy: of what it needs, what does not live."""

from __future__ import annotations

from recovery.missing import missing_of
from secretsops.manifest import GroupVersionKind, Manifest
from tests.fakes.cluster import FakeCluster

WIDGET = GroupVersionKind("example.com", "v1", "Widget")


def test_a_kind_that_is_served_has_its_definition() -> None:
    """The definition of a custom object is named only where the cluster does not serve its kind."""
    cluster = FakeCluster(namespaces=["shop"])
    widget = Manifest(
        {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "shop"}}
    )
    assert any("Widget" in text for text in missing_of(widget, cluster))
    cluster.serve(WIDGET, "widgets")
    assert missing_of(widget, cluster) == []
