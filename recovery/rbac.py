"""Roles and bindings as the peer applies them: `kubectl auth reconcile` first, then an ordinary apply.

Rules: argo-cd v3.6 `gitops-engine/pkg/utils/kube/resource_ops.go` (`rbacReconcile`), kubectl v1.36 `auth reconcile`.
Two requests where one would do; only the gate of the peer does it. Never here: other kinds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recovery.apply import Written, apply_client_side, words
from secretsops.errors import AlreadyExists
from secretsops.manifest import Manifest
from secretsops.ports import Cluster

_RULE = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")
_SUBJECT = ("kind", "apiGroup", "name", "namespace")


def apply_rbac(cluster: Cluster, wanted: Manifest, live: Manifest | None) -> Written:
    """Create without last-applied, then apply; give what lives and the peer's words for both."""
    if live is not None:
        return apply_client_side(cluster, wanted, live)
    try:
        made = cluster.create(wanted)
    except AlreadyExists:
        return apply_client_side(cluster, wanted, cluster.get(wanted.kind, wanted.name, wanted.namespace))
    done = apply_client_side(cluster, wanted, made)
    said = words(wanted, "reconciled. reconciliation required create") + _missing(wanted)
    return Written(live=done.live, message=said + done.message)


def _missing(wanted: Manifest) -> str:
    """List what was not there before, as Go prints the structs."""
    for field, what, names in (("rules", "rules", _RULE), ("subjects", "subjects", _SUBJECT)):
        entries = wanted.body.get(field)
        if isinstance(entries, list) and entries:
            return f"\n\tmissing {what} added:" + "".join(f"\n\t\t{_shown(entry, names)}" for entry in entries)
    return ""


def _shown(entry: Mapping[str, Any], names: Sequence[str]) -> str:
    shown = []
    for name in names:
        value = entry.get(name)
        title = "APIGroup" + name[8:] if name.startswith("apiGroup") else name[0].upper() + name[1:]
        if names is _RULE:
            value = f"[{' '.join(str(one) for one in value or [])}]"
        shown.append(f"{title}:{value or ''}")
    return "{" + " ".join(shown) + "}"
