"""What a rebuild would find in the cluster to be filled: version, token issuer, clock, classes. Reads, never writes.

Never here: judgement (`rules/target.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from recovery.proof.subject import NEWEST, Target
from secretsops.errors import ApiError
from secretsops.manifest import GroupVersionKind
from secretsops.ports import Answer, Clock, Cluster

_CLASSES = (
    GroupVersionKind("storage.k8s.io", "v1", "StorageClass"),
    GroupVersionKind("networking.k8s.io", "v1", "IngressClass"),
    GroupVersionKind("scheduling.k8s.io", "v1", "PriorityClass"),
    GroupVersionKind("node.k8s.io", "v1", "RuntimeClass"),
)


def read_target(cluster: Cluster, clock: Clock) -> Target:
    """Give what is known of a cluster; what it does not tell stays unknown.

    Raises:
        ApiError: it does not answer, or does not let us read classes.
    """
    before = clock.now()
    answer = cluster.raw("GET", "/version")
    version = _json(answer)
    numbers = (str(version.get("major", "")), str(version.get("minor", "")).rstrip("+"))
    classes = {(kind.kind, found.name) for kind in _CLASSES for found in cluster.list(kind)}
    return Target(
        version=(int(numbers[0]), int(numbers[1])) if all(n.isdigit() for n in numbers) else NEWEST,
        issuer=str(_json(cluster.raw("GET", "/.well-known/openid-configuration")).get("issuer", "")),
        skew=_skew(answer, before.timestamp(), clock.now().timestamp()),
        classes=frozenset(classes),
    )


def _json(answer: Answer) -> Mapping[str, Any]:
    if answer.code != 200:
        return {}
    try:
        found = json.loads(answer.body)
    except ValueError:
        raise ApiError("the API server answered with something else than JSON", reason="NotJson") from None
    return found if isinstance(found, dict) else {}


def _skew(answer: Answer, before: float, after: float) -> float | None:
    """Give how far the server's clock is ahead of ours, in seconds; HTTP dates are whole seconds."""
    text = next((value for name, value in answer.headers.items() if name.lower() == "date"), "")
    try:
        said = parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return None
    if before - 1 <= said <= after:
        return 0.0
    return said - (before if said < before else after)
