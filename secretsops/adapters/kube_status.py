"""A `Status` of the API server as one of our errors. Pure; never a request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from secretsops.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    ServerFailure,
    TooManyRequests,
    Unauthorized,
)

_BY_CODE: Mapping[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: TooManyRequests,
}
_HINTS: Mapping[type[ApiError], str] = {
    Unauthorized: "the credential is not accepted: log in again, or check the user of the kubeconfig",
    Forbidden: "RBAC or admission said no: kubectl auth can-i --list",
}
MESSAGE_LIMIT = 1000
_ADMISSION = re.compile(r"(denied (?:the )?request).*", re.DOTALL)
"""What a webhook or a ValidatingAdmissionPolicy says comes after these words, in text of its author's making."""
_WEBHOOK_DOWN = "Internal error occurred: failed calling webhook"


def api_error(
    status: Mapping[str, Any], *, what: str, code: int = 0, retry_after: str = "", secret: bool = False
) -> ApiError:
    """Give the error for a `Status` (`k8s.io/apimachinery/pkg/apis/meta/v1/types.go`).

    With `secret` the body was a Secret: the server quotes refused values, and so may whoever admits, so only fields and
    reasons are kept.
    """
    code = code or int(status.get("code") or 500)
    reason = str(status.get("reason") or "")
    kind = AlreadyExists if reason == "AlreadyExists" else _BY_CODE.get(code, ServerFailure)
    details = status.get("details") or {}
    message = str(status.get("message") or f"HTTP {code}")[:MESSAGE_LIMIT]
    if secret and (kind is Invalid or code == 500) and not message.startswith(_WEBHOOK_DOWN):
        message = _fields(details)
    elif secret and kind is Forbidden:
        message = _ADMISSION.sub(r"\1 (its words are withheld, they may quote values)", message)
    return kind(
        f"{what}: {message}",
        code=code,
        reason=reason or kind.__name__,
        hint=_HINTS.get(kind, ""),
        retry_after=_seconds(retry_after) or float(details.get("retryAfterSeconds") or 0),
    )


def _fields(details: Mapping[str, Any]) -> str:
    """Give field and reason of every cause, without the values that the server quotes.

    The words of an immutable field hold no value and tell what to do, so they stay.
    """
    causes = [cause for cause in details.get("causes") or [] if isinstance(cause, dict)]
    named = []
    for cause in causes[:20]:
        said = "is immutable" if "immutable" in str(cause.get("message")) else str(cause.get("reason") or "refused")
        named.append(f"{cause.get('field') or 'the object'} {said}")
    return "the Secret was refused: " + ("; ".join(named) or "the server's words are withheld, they may quote values")


def _seconds(header: str) -> float:
    """Read Retry-After in seconds; the API server never sends the date form."""
    return float(header) if header.isdigit() else 0.0
