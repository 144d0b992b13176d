"""Who asks over HTTP, and whether they may: the API server says (TokenReview, SubjectAccessReview).

A token counts that was made for our audience; one for the API server itself is not ours to take (SECURITY.md §5).
Never here: what is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from secretsops.errors import SecretsOpsError
from secretsops.ports import Cluster

AUDIENCE = "secretsops"
User = Mapping[str, Any]


def who(cluster: Cluster, token: str) -> User | None:
    """Give whose a token is, None for one that is nobody's or not made for us (`authentication.k8s.io/v1 TokenReview`).

    Raises:
        SecretsOpsError: the API server does not say.
    """
    if not token:
        return None
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


def may(cluster: Cluster, user: User, verb: str, resource: tuple[str, str], *, namespace: str = "") -> bool:
    """Say whether a user may do something with a resource (group, plural) of a namespace, "" for all.

    Raises:
        SecretsOpsError: the API server does not say (`authorization.k8s.io/v1 SubjectAccessReview`).
    """
    attributes = {"group": resource[0], "resource": resource[1], "verb": verb}
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
    answer = cluster.raw("POST", path, body=json.dumps(review).encode(), content_type="application/json")
    if answer.code >= 300:
        raise SecretsOpsError(f"the API server answered {answer.code}", reason="NotReviewed")
    found = json.loads(answer.body).get("status")
    return found if isinstance(found, dict) else {}
