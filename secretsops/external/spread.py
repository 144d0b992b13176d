"""ClusterExternalSecrets and ClusterPushSecrets: which namespaces get a child, and what it looks like there. Pure.

Rules of External Secrets 2.9.0 (`pkg/controllers/clusterexternalsecret`, `pkg/controllers/pushsecret`).

What never lives here: the children's own sync, requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from secretsops.durations import parse_duration
from secretsops.errors import InvalidManifest
from secretsops.external.model import EXTERNAL_SECRET
from secretsops.external.push import PUSH_SECRET
from secretsops.external.selectors import selects
from secretsops.external.store import NAMESPACE_LABEL
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ownership import controller_of

CLUSTER_EXTERNAL_SECRET = GroupVersionKind("external-secrets.io", "v1", "ClusterExternalSecret")
CLUSTER_PUSH_SECRET = GroupVersionKind("external-secrets.io", "v1alpha1", "ClusterPushSecret")
FINALIZER = "externalsecrets.external-secrets.io/clusterexternalsecret-cleanup"
FORCE_SYNC = "external-secrets.io/force-sync"
"""An annotation that children get too, so that one edit refreshes all of them."""
DEFAULT_REFRESH = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A kind whose objects have a child in every chosen namespace, and where its parts stand.

    `present` is the peer's words for a child of that name which is not ours.
    """

    kind: GroupVersionKind
    child: GroupVersionKind
    stem: str
    present: str
    finalizer: str = ""


EXTERNAL_SECRETS = Family(
    kind=CLUSTER_EXTERNAL_SECRET,
    child=EXTERNAL_SECRET,
    stem="externalSecret",
    present="external secret already exists in namespace",
    finalizer=FINALIZER,
)
PUSH_SECRETS = Family(
    kind=CLUSTER_PUSH_SECRET,
    child=PUSH_SECRET,
    stem="pushSecret",
    present="push secret already exists in namespace",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One ClusterExternalSecret or ClusterPushSecret. `refresh` is in seconds."""

    family: Family
    name: str
    uid: str
    child: str
    spec: Mapping[str, Any]
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    selectors: Sequence[Mapping[str, Any]] = ()
    namespaces: Sequence[str] = ()
    refresh: float = DEFAULT_REFRESH

    def chooses(self, namespace: Manifest) -> bool:
        """Say whether a namespace gets a child; one that is going away gets none."""
        if namespace.metadata.get("deletionTimestamp"):
            return False
        labels = {**namespace.labels, NAMESPACE_LABEL: namespace.name}
        return namespace.name in self.namespaces or any(selects(selector, labels) for selector in self.selectors)

    def owns(self, child: Manifest) -> bool:
        """Say whether a child is one of ours. The name counts, as after a restore the uid is another."""
        owner = controller_of(child) or {}
        return (owner.get("kind"), owner.get("name")) == (self.family.kind.kind, self.name)

    def made(self, namespace: str, live: Manifest | None) -> Manifest:
        """Give the child for a namespace, on top of the one that is there."""
        old: dict[str, Any] = live.body if live is not None else {}
        metadata: dict[str, Any] = dict(old.get("metadata") or {"name": self.child, "namespace": namespace})
        owner = {
            "apiVersion": self.family.kind.api_version,
            "kind": self.family.kind.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
        metadata["ownerReferences"] = [owner]
        for name, wanted in (("labels", self.labels), ("annotations", self.annotations)):
            metadata.pop(name, None)
            if wanted:
                metadata[name] = dict(wanted)
        top = {"apiVersion": self.family.child.api_version, "kind": self.family.child.kind}
        return Manifest({**top, **old, "metadata": metadata, "spec": dict(self.spec)})


def read_spread(manifest: Manifest, family: Family = EXTERNAL_SECRETS) -> Spread:
    """Give the object a manifest describes.

    Raises:
        InvalidManifest: refreshTime is no duration, or there is no spec of the child.
    """
    spec = manifest.spec
    inner = spec.get(f"{family.stem}Spec")
    if not isinstance(inner, dict):
        raise InvalidManifest(f"spec.{family.stem}Spec is missing", reason="InvalidSpec")
    metadata = _map(spec, f"{family.stem}Metadata")
    annotations = {str(k): str(v) for k, v in _map(metadata, "annotations").items()}
    if family is EXTERNAL_SECRETS and FORCE_SYNC in manifest.annotations:
        annotations[FORCE_SYNC] = manifest.annotations[FORCE_SYNC]
    several = spec.get("namespaceSelectors")
    selectors = [each for each in several if isinstance(each, dict)] if isinstance(several, list) else []
    if isinstance(spec.get("namespaceSelector"), dict):
        selectors.append(spec["namespaceSelector"])
    named = spec.get("namespaces")
    refresh = spec.get("refreshTime")
    return Spread(
        family=family,
        name=manifest.name,
        uid=manifest.uid,
        child=str(spec.get(f"{family.stem}Name") or manifest.name),
        spec=inner,
        labels={str(k): str(v) for k, v in _map(metadata, "labels").items()},
        annotations=annotations,
        selectors=selectors,
        namespaces=[str(each) for each in named] if isinstance(named, list) else [],
        refresh=parse_duration(str(refresh)) if refresh else DEFAULT_REFRESH,
    )


def same(wanted: Manifest, live: Manifest) -> bool:
    """Say whether a child is as it should be; what the API server and we keep beside it does not count."""
    return bool(_decided(wanted) == _decided(live))


def _decided(manifest: Manifest) -> Any:
    owners = [
        {name: owner.get(name) for name in ("kind", "name", "uid", "controller")}
        for owner in manifest.metadata.get("ownerReferences") or []
    ]
    return manifest.spec, dict(manifest.labels), dict(manifest.annotations), owners


def spread_status(
    spread: Spread, old: Mapping[str, Any], provisioned: Sequence[str], failed: Mapping[str, str]
) -> dict[str, Any]:
    """Give the status. Compat: conditions have neither reason nor time, as with the peer."""
    ready: dict[str, Any] = {"type": "Ready", "status": "False" if failed else "True"}
    if failed:
        ready["message"] = "one or more namespaces failed"
    others = [c for c in old.get("conditions") or [] if isinstance(c, dict) and c.get("type") != "Ready"]
    status: dict[str, Any] = {"conditions": [*others, ready], f"{spread.family.stem}Name": spread.child}
    if provisioned:
        status["provisionedNamespaces"] = sorted(provisioned)
    if failed:
        status["failedNamespaces"] = [{"namespace": name, "reason": failed[name]} for name in sorted(failed)]
    return status


def _map(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = body.get(name)
    return found if isinstance(found, dict) else {}
