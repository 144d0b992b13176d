"""What is said, and what is not done, while a store is out or gives less than before. Pure.

A Secret keeps its last good data. Beside `Ready`, whose reasons and messages are the peer's, a condition `Stale` says
since when it is older than its refreshInterval promises, and for which class of cause. A sync that would take away most
of a Secret's keys, though nobody changed the ExternalSecret, is refused until somebody acknowledges it.

What never lives here: fetching, writing, which store serves instead (`secretsops.external.fallback`).
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secretsops.errors import (
    ApiError,
    InvalidManifest,
    NotOurs,
    SecretsOpsError,
    StoreRefused,
    StoreUnavailable,
    TemplateFailed,
)
from secretsops.external.due import refreshed_at
from secretsops.external.gather import EntryFailed
from secretsops.external.model import ExternalSecret

STALE, FALLBACK = "Stale", "Fallback"
"""Our own conditions; neither is there while all is well."""
KEPT = "Kept"
"""Our condition where copies are kept: whether the sealed one is of the data that is in the Secret."""
ACCEPT_DROP = "secretsops.dev/accept-dropped-keys"
"""An annotation of the ExternalSecret that lets one particular loss of keys happen."""
DROP_LIMIT = 0.5
"""The share of its keys that a Secret may lose at once, unless configured otherwise."""
NAMED_KEYS = 10


def cause_class(error: SecretsOpsError) -> str:
    """Give the class of a cause: a condition's reason, stable."""
    match error:
        case StoreUnavailable():
            return error.reason if error.reason in {"Throttled", "Conflict"} else "Transient"
        case StoreRefused():
            known = {"NotFound", "Denied", "PropertyMissing", "StoreDenied", "StoreMissing", "StoreNotReady"}
            renamed = {
                "CredentialMissing": "Denied",
                "SourceMissing": "NotFound",
                "MetadataMissing": "NotFound",
                "NotOurs": "Conflict",
            }
            return error.reason if error.reason in known else renamed.get(error.reason, "Invalid")
        case NotOurs():
            return "Conflict"
        case TemplateFailed():
            return "Template"
        case InvalidManifest():
            return "Template" if "Template" in error.reason else "Invalid"
        case ApiError():
            return "Cluster"
    return "Invalid"


def is_outage(error: SecretsOpsError) -> bool:
    """Say whether a store gave no usable answer; a no, or our own pacing, is none."""
    return isinstance(error, StoreUnavailable) and error.reason not in {"Paced", "Conflict"}


def is_stale(wanted: ExternalSecret, status: Mapping[str, Any], now: dt.datetime) -> bool:
    """Say whether the data is older than the ExternalSecret promises; where nothing is promised nothing is stale."""
    at = refreshed_at(status)
    promised = wanted.refresh == "Periodic" and wanted.interval > 0
    return promised and at is not None and now > at + dt.timedelta(seconds=wanted.interval)


def stale_condition(
    status: Mapping[str, Any], error: SecretsOpsError, where: str, now: str, *, restored: str = ""
) -> dict[str, Any]:
    """Give the condition `Stale`: of when the data is, and why there is none that is newer.

    `restored` says of which sealed copy the data is, where it came from one and no store has answered since.

    It says the same for as long as the cause is the same, so that it is written once.
    """
    old = next((c for c in status.get("conditions") or [] if isinstance(c, dict) and c.get("type") == STALE), {})
    kept = f"a sealed copy of {restored}" if restored else f"data of {status.get('refreshTime')}"
    return {
        "type": STALE,
        "status": "True",
        "reason": cause_class(error),
        "message": f"{kept} is kept: {where}",
        "lastTransitionTime": old.get("lastTransitionTime") or now,
    }


def told_entries(failure: EntryFailed, pulls: int) -> str:
    """Say how each entry of a failed sync fared."""
    read = sum(entry.outcome == "read" for entry in failure.entries)
    absent = len(failure.entries) - read
    parts = [f"{read} read", *([f"{absent} absent"] if absent else []), "1 failed"]
    left = pulls - len(failure.entries) - 1
    return ", ".join([*parts, *([f"{left} not tried"] if left else [])]) + f" of {pulls} entries"


# --- Never an emptied Secret ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Keys that a Secret would lose, out of how many."""

    keys: Sequence[str]
    of: int

    @property
    def token(self) -> str:
        """Give what acknowledges this loss and no other; key names are no secret."""
        return hashlib.sha256("\n".join(sorted(self.keys)).encode()).hexdigest()[:12]

    @property
    def message(self) -> str:
        """Say what would be lost and how to let it happen."""
        named = ", ".join(sorted(self.keys)[:NAMED_KEYS]) + (", …" if len(self.keys) > NAMED_KEYS else "")
        return (
            f"the secret would lose {len(self.keys)} of its {self.of} keys ({named}) though the ExternalSecret did not "
            f"change; if that is right, annotate it: {ACCEPT_DROP}={self.token}"
        )


def refused_drop(
    wanted: ExternalSecret, status: Mapping[str, Any], ours: Sequence[str], new: Sequence[str], limit: float
) -> Drop | None:
    """Give the loss that has to be acknowledged first, None where the sync may go on.

    `ours` are the keys that the last sync wrote and that are still there. A change of the spec is a wish, so nothing
    is asked then; a Secret that would lose all of them always asks.
    """
    generation = str(status.get("syncedResourceVersion") or "").partition("-")[0]
    lost = sorted(set(ours) - set(new))
    if not lost or generation != str(wanted.generation):
        return None
    if len(lost) < len(ours) and len(lost) <= limit * len(ours):
        return None
    drop = Drop(keys=lost, of=len(ours))
    return None if wanted.annotations.get(ACCEPT_DROP) == drop.token else drop
