"""Objects the contract tests write. Pure."""

from __future__ import annotations

from typing import Any

from secretsops.manifest import GroupVersionKind, Manifest

SECRET = GroupVersionKind("", "v1", "Secret")
CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
DEPLOYMENT = GroupVersionKind("apps", "v1", "Deployment")


def config_map(namespace: str, name: str = "one", /, *, labels: dict[str, str] | None = None, **data: str) -> Manifest:
    """Give a ConfigMap."""
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if labels:
        metadata["labels"] = labels
    return Manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def secret(namespace: str, name: str = "one", /, **fields: Any) -> Manifest:
    """Give a Secret with these fields."""
    metadata = {"name": name, "namespace": namespace, **fields.pop("metadata", {})}
    return Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **fields})


def custom(kind: GroupVersionKind, namespace: str, name: str = "one", /, **fields: Any) -> Manifest:
    """Give a custom object."""
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name, "namespace": namespace}}
    return Manifest({**body, **fields})


def deployment(namespace: str, name: str = "one", /, *, image: str = "a:1") -> Manifest:
    """Give a Deployment of no replicas."""
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": image}, {"name": "side", "image": "side:1"}]},
    }
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template}
    return custom(DEPLOYMENT, namespace, name, spec=spec)


def changed(manifest: Manifest, **fields: Any) -> Manifest:
    """Give the manifest with top-level fields replaced."""
    return Manifest({**manifest.body, **fields})
