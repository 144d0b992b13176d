"""What status says about ExternalSecrets and stores: conditions with the peer's reasons and wording. Pure.

Compat: as in External Secrets 2.9.0 the message of `Ready` is one of a fixed set; the cause is in the event.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

READY = "Ready"

SYNCED = "SecretSynced"
SYNCED_ERROR = "SecretSyncedError"
DELETED = "SecretDeleted"
MISSING = "SecretMissing"

VALID = "Valid"
INVALID_PROVIDER = "InvalidProviderConfig"
INVALID_STORE = "InvalidStoreConfiguration"


def stamp(moment: dt.datetime) -> str:
    """Give a time as Kubernetes writes it: UTC, whole seconds."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def with_ready(
    status: Mapping[str, Any], *, ready: bool, reason: str, message: str, now: dt.datetime
) -> dict[str, Any]:
    """Give the status with its `Ready` condition set; `lastTransitionTime` moves only when the verdict flips."""
    verdict = "True" if ready else "False"
    conditions = [c for c in status.get("conditions") or [] if isinstance(c, dict)]
    old: dict[str, Any] = next((c for c in conditions if c.get("type") == READY), {})
    moved = old.get("lastTransitionTime") if old.get("status") == verdict else None
    new = {
        "type": READY,
        "status": verdict,
        "reason": reason,
        "message": message,
        "lastTransitionTime": moved or stamp(now),
    }
    return {**status, "conditions": [c for c in conditions if c.get("type") != READY] + [new]}


def is_ready(status: Mapping[str, Any]) -> bool:
    """Say whether `Ready` is True."""
    conditions = status.get("conditions") or []
    return any(isinstance(c, dict) and c.get("type") == READY and c.get("status") == "True" for c in conditions)
