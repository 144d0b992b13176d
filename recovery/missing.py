"""What an object that does not become healthy probably lacks: of all that it needs, what does not live.

Asked when a wait has ended in vain, to say more than "timed out". Never here: what is needed (`needs.py`).
"""

from __future__ import annotations

from recovery.apply import look
from recovery.needs import needs
from secretsops.errors import ApiError
from secretsops.manifest import Manifest
from secretsops.ports import Cluster

LIMIT = 20
"""Needs looked at: one request each."""


def missing_of(manifest: Manifest, cluster: Cluster) -> list[str]:
    """Give what the object needs and the cluster lacks, with the reason; nothing where the cluster does not say."""
    found: list[str] = []
    try:
        kinds = {(r.kind.group, r.kind.kind): r.kind for r in reversed(list(cluster.resources()))}
        for need in [need for need in needs(manifest) if not need.optional][:LIMIT]:
            if need.key.kind == "CustomResourceDefinition" and (manifest.kind.group, manifest.kind.kind) in kinds:
                continue  # asked for by the kind it defines, not by its name: what is served has one
            kind = kinds.get((need.key.group, need.key.kind))
            if kind is None or look(cluster, kind, need.key) is None:
                found.append(f"{need.key} is missing ({need.why})")
    except ApiError:
        return found
    return found
