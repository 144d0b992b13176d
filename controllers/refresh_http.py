"""`POST /v1/refresh`: somebody says that a value changed at its provider, and whoever reads it asks at once.

The caller shows a token of a service account or user made for the audience `secretsops` (TokenReview); it wakes those
ExternalSecrets that it may patch (SubjectAccessReview), which is the right to force a sync by an annotation. The answer
is the number of them and nothing else: what the caller may not see is not told from what is not there.

What never lives here: sockets (`controllers.http`), what a refresh does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from controllers.http import Limit, Reply, Route
from secretsops.errors import SecretsOpsError
from secretsops.manifest import ObjectKey
from secretsops.ports import Cluster

PATH, AUDIENCE = "/v1/refresh", "secretsops"
BODY_LIMIT = 64 * 1024
NAMESPACE_LIMIT = 50
"""Namespaces that are asked about one by one; beyond, the caller needs the right in all of them."""
_JSON = "application/json"

Readers = Callable[[str], Sequence[ObjectKey]]
"""Gives the ExternalSecrets that read a remote key."""


def route(cluster: Cluster, readers: Readers, refresh: Callable[[Sequence[ObjectKey]], None]) -> Route:
    """Give the route. Body: `{"key": "remote/key"}`, or `{"namespace": …, "name": …}` of one ExternalSecret."""

    def answer(body: bytes, token: str) -> Reply:
        wanted = _wanted(body, readers)
        if wanted is None:
            return _said(400, "give JSON with key, or with namespace and name")
        try:
            user = _user(cluster, token) if token else None
            if user is None:
                return _said(401, f"show a token for the audience {AUDIENCE} (kubectl create token --audience)")
            allowed = _allowed(cluster, user, wanted)
        except SecretsOpsError:
            return _said(503, "the API server does not say who you are")
        refresh(allowed)
        return Reply(code=202, body=json.dumps({"refreshing": len(allowed)}).encode() + b"\n", content_type=_JSON)

    return Route(
        answer=lambda _body: _said(401, "show a token"),
        answer_bearer=answer,
        methods=frozenset({"POST"}),
        limit=Limit(rate=10.0, burst=20, tells=False),
    )


def _wanted(body: bytes, readers: Readers) -> Sequence[ObjectKey] | None:
    try:
        found = json.loads(body) if len(body) <= BODY_LIMIT else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    key, namespace, name = (found.get(part) for part in ("key", "namespace", "name"))
    if isinstance(key, str) and key:
        return readers(key)
    if isinstance(namespace, str) and isinstance(name, str) and namespace and name:
        return [ObjectKey("external-secrets.io", "ExternalSecret", namespace, name)]
    return None


def _user(cluster: Cluster, token: str) -> Mapping[str, Any] | None:
    """Give who a token is, None for one that is not ours to take (`authentication.k8s.io/v1 TokenReview`)."""
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [AUDIENCE]},
    }
    status = _created(cluster, "/apis/authentication.k8s.io/v1/tokenreviews", review)
    user = status.get("user")
    if status.get("authenticated") is not True or AUDIENCE not in (status.get("audiences") or []):
        return None
    return user if isinstance(user, dict) and user.get("username") else None


def _allowed(cluster: Cluster, user: Mapping[str, Any], wanted: Sequence[ObjectKey]) -> list[ObjectKey]:
    namespaces = sorted({key.namespace for key in wanted})
    if len(namespaces) > NAMESPACE_LIMIT:
        return list(wanted) if _may(cluster, user, "") else []
    granted = {namespace for namespace in namespaces if _may(cluster, user, namespace)}
    return [key for key in wanted if key.namespace in granted]


def _may(cluster: Cluster, user: Mapping[str, Any], namespace: str) -> bool:
    """Say whether a user may patch ExternalSecrets of a namespace, "" for all (`SubjectAccessReview`)."""
    attributes = {"group": "external-secrets.io", "resource": "externalsecrets", "verb": "patch"}
    about = {"user": user["username"], "uid": user.get("uid"), "groups": user.get("groups"), "extra": user.get("extra")}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            **{name: value for name, value in about.items() if value},
            "resourceAttributes": attributes | ({"namespace": namespace} if namespace else {}),
        },
    }
    status = _created(cluster, "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return status.get("allowed") is True and not status.get("denied")


def _created(cluster: Cluster, path: str, review: Mapping[str, Any]) -> Mapping[str, Any]:
    answer = cluster.raw("POST", path, body=json.dumps(review).encode(), content_type=_JSON)
    if answer.code >= 300:
        raise SecretsOpsError(f"the API server answered {answer.code}", reason="NotReviewed")
    found = json.loads(answer.body).get("status")
    return found if isinstance(found, dict) else {}


def _said(code: int, text: str) -> Reply:
    return Reply(code=code, body=text.encode() + b"\n")
