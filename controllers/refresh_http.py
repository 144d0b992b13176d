"""`POST /v1/refresh`: somebody says that a value changed at its provider, and whoever reads it asks at once.

The caller shows a token of a service account or user made for the audience `secretsops` (TokenReview); it wakes those
ExternalSecrets that it may patch (SubjectAccessReview), which is the right to force a sync by an annotation. The answer
is the number of them and nothing else: what the caller may not see is not told from what is not there.

What never lives here: sockets (`controllers.http`), what a refresh does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from controllers.callers import AUDIENCE, User, may, who
from controllers.http import Limit, Reply, Route
from secretsops.errors import SecretsOpsError
from secretsops.manifest import ObjectKey
from secretsops.ports import Cluster

PATH = "/v1/refresh"
_EXTERNAL_SECRETS = ("external-secrets.io", "externalsecrets")
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
            user = who(cluster, token)
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


def _allowed(cluster: Cluster, user: User, wanted: Sequence[ObjectKey]) -> list[ObjectKey]:
    namespaces = sorted({key.namespace for key in wanted})
    if len(namespaces) > NAMESPACE_LIMIT:
        return list(wanted) if may(cluster, user, "patch", _EXTERNAL_SECRETS) else []
    granted = {each for each in namespaces if may(cluster, user, "patch", _EXTERNAL_SECRETS, namespace=each)}
    return [key for key in wanted if key.namespace in granted]


def _said(code: int, text: str) -> Reply:
    return Reply(code=code, body=text.encode() + b"\n")
