"""Everything that lives in a cluster, one list per kind: what the peer keeps in its cache. Never here: comparing.

A one-shot controller looks again and again; every look is one list per kind it can list, whatever the number of
applications and objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from recovery.render import is_excluded
from secretsops.errors import ApiError, NotFound, UnknownKind
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ports import Cluster, Resource

UNSEEN = frozenset({"Event", "Endpoints", "EndpointSlice", "Lease", "ComponentStatus", "FlowSchema", "IPAddress",
                    "PriorityLevelConfiguration", "ControllerRevision", "Node", "CSINode", "ServiceCIDR"})  # fmt: skip
"""Kinds that no application makes and that change all the time, or that the server fills itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What lives, by key, and which kinds are served in which scope."""

    objects: Mapping[ObjectKey, Manifest]
    resources: Mapping[tuple[str, str], Resource]

    def serves(self, kind: GroupVersionKind) -> bool:
        """Say whether the server knows the kind in this very version."""
        found = self.resources.get((kind.group, kind.kind))
        return found is not None

    def is_namespaced(self, manifest: Manifest) -> bool:
        """Say whether objects of the kind live in namespaces; a kind that is not served is taken to."""
        found = self.resources.get((manifest.kind.group, manifest.kind.kind))
        return found is None or found.namespaced

    @property
    def mark(self) -> int:
        """Give a number that changes when anything does."""
        return hash(frozenset((key, one.resource_version) for key, one in self.objects.items()))


def take(cluster: Cluster) -> Inventory:
    """List everything, each kind once; a kind that cannot be listed is left out.

    Raises:
        ApiError: the server gives no answer at all.
    """
    resources: dict[tuple[str, str], Resource] = {}
    for resource in cluster.resources(refresh=True):
        resources.setdefault((resource.kind.group, resource.kind.kind), resource)
    objects: dict[ObjectKey, Manifest] = {}
    for resource in resources.values():
        if "list" not in resource.verbs or resource.kind.kind in UNSEEN or is_excluded(resource.kind):
            continue
        try:
            listed = cluster.list(resource.kind)
        except (NotFound, UnknownKind):
            continue
        except ApiError as error:
            if error.code in (403, 405):
                continue
            raise
        for found in listed:
            objects[found.key] = found
    return Inventory(objects=objects, resources=resources)
