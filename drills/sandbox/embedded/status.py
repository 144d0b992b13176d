"""What the server refuses, as `Status` objects with Kubernetes' codes, reasons and messages. Pure.

Source of the words: `k8s.io/apimachinery/pkg/api/errors/errors.go`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drills.sandbox.embedded.schema import Problem


class Refused(Exception):
    """A request is answered with a Status."""

    def __init__(
        self, code: int, reason: str, message: str, *, headers: Mapping[str, str] | None = None, **details: Any
    ):
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = {name: value for name, value in details.items() if value not in (None, "", [])}
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """Give the Status."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details:
            status["details"] = self.details
        return status | {"code": self.code}


def success(**details: Any) -> dict[str, Any]:
    """Give the Status of a deletion."""
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def not_found(plural: str, group: str, name: str) -> Refused:
    """Say that an object is not there."""
    text = f'{_qualified(plural, group)} "{name}" not found'
    return Refused(404, "NotFound", text, name=name, group=group, kind=plural)


def no_such_path() -> Refused:
    """Say that a path is not served."""
    return Refused(404, "NotFound", "the server could not find the requested resource")


def already_exists(plural: str, group: str, name: str) -> Refused:
    """Say that a name is taken."""
    text = f'{_qualified(plural, group)} "{name}" already exists'
    return Refused(409, "AlreadyExists", text, name=name, group=group, kind=plural)


def conflict(plural: str, group: str, name: str, why: str) -> Refused:
    """Say that somebody else was faster."""
    text = f'Operation cannot be fulfilled on {_qualified(plural, group)} "{name}": {why}'
    return Refused(409, "Conflict", text, name=name, group=group, kind=plural)


def forbidden(message: str, **details: Any) -> Refused:
    """Say that this is not allowed."""
    return Refused(403, "Forbidden", message, **details)


def bad_request(message: str) -> Refused:
    """Say that the request makes no sense."""
    return Refused(400, "BadRequest", message)


def invalid(kind: str, group: str, name: str, problems: Sequence[Problem]) -> Refused:
    """Say what of an object is refused, each with its field."""
    told = [f"{each.field}: {each.message}" for each in problems]
    text = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    causes = [{"reason": each.reason, "message": each.message, "field": each.field} for each in problems]
    where = f"{kind}.{group}" if group else kind
    message = f'{where} "{name}" is invalid: {text}'
    return Refused(422, "Invalid", message, name=name, group=group, kind=kind, causes=causes)


def _qualified(plural: str, group: str) -> str:
    return f"{plural}.{group}" if group else plural
