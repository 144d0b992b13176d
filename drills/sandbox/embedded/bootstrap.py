"""What every new cluster has: its namespaces, a node, the roles that others refer to. Pure.

Source: `plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go`, as far as repositories refer to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Body = dict[str, Any]

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
NODE = "sandbox-node"
_READ, _WRITE = ["get", "list", "watch"], ["create", "delete", "deletecollection", "patch", "update"]
_RBAC = "rbac.authorization.k8s.io/v1"
_WORK = ["apps", "batch", "autoscaling", "networking.k8s.io", "policy", "discovery.k8s.io", "coordination.k8s.io"]
_CORE = [
    "configmaps", "endpoints", "events", "limitranges", "persistentvolumeclaims", "pods", "replicationcontrollers",
    "resourcequotas", "serviceaccounts", "services",
]  # fmt: skip


def _rule(groups: list[str], resources: list[str], verbs: list[str]) -> Body:
    return {"apiGroups": groups, "resources": resources, "verbs": verbs}


def _roles() -> dict[str, list[Body]]:
    everything = [_rule(["*"], ["*"], ["*"]), {"nonResourceURLs": ["*"], "verbs": ["*"]}]
    view = [_rule([""], _CORE, _READ), _rule(_WORK, ["*"], _READ)]
    edit = [_rule([""], [*_CORE, "secrets"], [*_READ, *_WRITE]), _rule(_WORK, ["*"], [*_READ, *_WRITE])]
    grant = [_rule(["rbac.authorization.k8s.io"], ["roles", "rolebindings"], [*_READ, *_WRITE])]
    reviews = [
        _rule(["authentication.k8s.io"], ["tokenreviews"], ["create"]),
        _rule(["authorization.k8s.io"], ["subjectaccessreviews"], ["create"]),
    ]
    own = [_rule(["authorization.k8s.io"], ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], ["create"])]
    paths = [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
    ]
    return {
        "cluster-admin": everything,
        "admin": [*edit, *grant],
        "edit": edit,
        "view": view,
        "system:auth-delegator": reviews,
        "system:basic-user": own,
        "system:discovery": [{"nonResourceURLs": paths, "verbs": ["get"]}],
    }


def objects() -> Iterator[Body]:
    """Give the objects to begin with, in order."""
    for name in NAMESPACES:
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    labels = {"kubernetes.io/bootstrapping": "rbac-defaults"}
    for name, rules in _roles().items():
        yield {"apiVersion": _RBAC, "kind": "ClusterRole", "metadata": {"name": name, "labels": labels}, "rules": rules}
    for role, group in (("cluster-admin", "system:masters"), ("system:basic-user", "system:authenticated"),
                        ("system:discovery", "system:authenticated")):  # fmt: skip
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}
        metadata = {"name": role, "labels": labels}
        yield {
            "apiVersion": _RBAC,
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": reference,
            "subjects": [subject],
        }
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": "10.96.0.1",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
        },
    }
