"""The audit log: one JSON line per answer, in the form of `audit.k8s.io/v1`.

As the sandbox asks of the real server: of writes the bodies, of reads and of anything secret that they happened.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drills.sandbox.embedded.http import Request, Response

_WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


class Audit:
    """An open audit log."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(
        self, request: Request, user: Mapping[str, Any], about: Mapping[str, Any], answer: Any, begun: dt.datetime
    ) -> None:
        """Add one answer; `about` has verb, resource, group, version, namespace, name, subresource."""
        verb = str(about.get("verb") or request.method.lower())
        secret = about.get("resource") in ("secrets", "tokenreviews") or about.get("subresource") == "token"
        code = answer.code if isinstance(answer, Response) else 200
        query = "&".join(f"{name}={value}" for name, value in request.query.items())
        event: dict[str, Any] = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": "RequestResponse" if verb in _WRITES and not secret else "Metadata",
            "auditID": str(uuid.uuid4()),
            "stage": "ResponseComplete",
            "requestURI": f"{request.path}{'?' + query if query else ''}",
            "verb": verb,
            "user": user,
            "sourceIPs": ["127.0.0.1"],
            "userAgent": request.headers.get("user-agent", ""),
            "responseStatus": {"metadata": {}, "code": code},
            "requestReceivedTimestamp": _micro(begun),
            "stageTimestamp": _micro(dt.datetime.now(dt.UTC)),
        }
        if about.get("resource"):
            names = {"resource": "resource", "namespace": "namespace", "name": "name", "group": "apiGroup",
                     "version": "apiVersion", "subresource": "subresource"}  # fmt: skip
            event["objectRef"] = {other: about[name] for name, other in names.items() if about.get(name)}
        if event["level"] == "RequestResponse":
            for field, content in (("requestObject", request.body), ("responseObject", getattr(answer, "body", b""))):
                try:
                    event[field] = json.loads(content)
                except (ValueError, RecursionError):
                    continue
        self._file.write(json.dumps(event).encode() + b"\n")


def _micro(when: dt.datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
