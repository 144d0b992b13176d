"""SecretStores and ClusterSecretStores as values, and who may use them. Pure.

A SecretStore takes credentials from its own namespace alone. A ClusterSecretStore names a namespace, or leaves it out
and then the one of the ExternalSecret holds the credentials ("referent"). `admits` is the tenants' border: which
namespaces a ClusterSecretStore serves.

What never lives here: credentials themselves, connections, readiness over time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secretsops.durations import parse_duration
from secretsops.external.model import CLUSTER_SECRET_STORE
from secretsops.external.patterns import compiled, found
from secretsops.external.providers import Provider, read_provider
from secretsops.external.references import Scope, invalid
from secretsops.external.selectors import selects
from secretsops.manifest import Manifest

NAMESPACE_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """One store. `interval` is in seconds, 0 for the controller's default."""

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int
    controller: str
    interval: float
    provider: Provider

    @property
    def is_cluster(self) -> bool:
        """Say whether every namespace may name it."""
        return self.kind == CLUSTER_SECRET_STORE.kind

    @property
    def is_referent(self) -> bool:
        """Say whether credentials are those of the ExternalSecret's namespace."""
        named = [ref.namespace for ref in self.provider.refs] + [ref.namespace for ref in self.provider.accounts]
        return self.is_cluster and not all(named)


def controller_class(manifest: Manifest) -> str:
    """Give the controller class a store asks for, "" for any; also where the rest of it is not valid."""
    return str(manifest.spec.get("controller") or "")


def read_store(manifest: Manifest) -> Store:
    """Give the store a manifest describes.

    Raises:
        InvalidManifest: it cannot be used; reason `Unsupported` names what is not built, `InvalidSpec` the rest.
    """
    spec = manifest.spec
    for condition in spec.get("conditions") or []:
        for expression in condition.get("namespaceRegexes") or [] if isinstance(condition, dict) else []:
            compiled(str(expression))
    cluster = manifest.kind.kind == CLUSTER_SECRET_STORE.kind
    return Store(
        kind=manifest.kind.kind,
        namespace=manifest.namespace,
        name=manifest.name,
        uid=manifest.uid,
        generation=manifest.generation,
        controller=controller_class(manifest),
        interval=_interval(spec.get("refreshInterval")),
        provider=read_provider(
            spec,
            Scope(home="" if cluster else manifest.namespace, cluster=cluster),
            store=(manifest.kind.kind, manifest.name, manifest.namespace),
        ),
    )


def _interval(value: Any) -> float:
    """Read the store's refreshInterval: whole seconds, or a Go duration."""
    if value is None or value == "":
        return 0.0
    seconds = float(value) if isinstance(value, int) else parse_duration(str(value))
    if seconds < 0:
        raise invalid("refreshInterval is negative", "use 0 for the default")
    return seconds


# --- Who may use a ClusterSecretStore ------------------------------------------------------------------


def admits(manifest: Manifest, namespace: str, labels: Mapping[str, str]) -> bool:
    """Say whether the conditions of a ClusterSecretStore let a namespace use it; one fitting condition is enough.

    Raises:
        InvalidManifest: one of `namespaceRegexes` is none; nobody gets in by it.
    """
    conditions = manifest.spec.get("conditions")
    if not conditions:
        return True
    named = {**labels, NAMESPACE_LABEL: namespace}
    return any(_fits(condition, named) for condition in conditions if isinstance(condition, dict))


def needs_labels(manifest: Manifest) -> bool:
    """Say whether the conditions look at labels of namespaces."""
    conditions = manifest.spec.get("conditions")
    return any(isinstance(c, dict) and c.get("namespaceSelector") for c in conditions or [])


def _fits(condition: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    selector = condition.get("namespaceSelector")
    if isinstance(selector, dict) and selects(selector, labels):
        return True
    name = labels[NAMESPACE_LABEL]
    if name in (condition.get("namespaces") or []):
        return True
    expressions = condition.get("namespaceRegexes")
    return any(found(str(e), name) for e in (expressions if isinstance(expressions, list) else []))
