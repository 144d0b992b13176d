"""When an ExternalSecret is fetched again: the refresh policies, as decisions over status and time. Pure.

Rules of External Secrets 2.9.0 (`pkg/controllers/externalsecret/externalsecret_controller.go`, `shouldRefresh`):

| policy | never synced | spec, labels or annotations changed | interval elapsed |
|---|---|---|---|
| Periodic, interval > 0 | yes | yes | yes |
| Periodic, interval 0 | yes | no | no |
| OnChange | yes | yes | no |
| CreatedOnce | yes | no | no |

Compat: OnChange and CreatedOnce objects are not queued again by time; the peer spins them through its rate limiter.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from secretsops.external.model import ExternalSecret, object_hash


def synced_version(wanted: ExternalSecret) -> str:
    """Give `status.syncedResourceVersion`: the generation and a digest of labels and annotations.

    The digest is over Go's `%+v` of both maps, so that status written by the peer is understood and the reverse.
    """
    shown = f"{{annotations:{_go_map(wanted.annotations)} labels:{_go_map(wanted.labels)}}}"
    return f"{wanted.generation}-{object_hash(shown)}"


def _go_map(values: Mapping[str, str]) -> str:
    return "map[" + " ".join(f"{key}:{values[key]}" for key in sorted(values)) + "]"


def refreshed_at(status: Mapping[str, object]) -> dt.datetime | None:
    """Give when the last success began, None when there was none."""
    stamp = status.get("refreshTime")
    if not isinstance(stamp, str):
        return None
    try:
        moment = dt.datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def is_due(wanted: ExternalSecret, status: Mapping[str, object], now: dt.datetime) -> bool:
    """Say whether the provider is to be asked, the Secret aside. A refreshTime in the future counts as none."""
    synced, at = str(status.get("syncedResourceVersion") or ""), refreshed_at(status)
    if not synced or at is None:
        return True
    if wanted.refresh == "CreatedOnce" or (wanted.refresh == "Periodic" and wanted.interval <= 0):
        return False
    if synced != synced_version(wanted):
        return True
    if wanted.refresh == "OnChange":
        return False
    return at > now or at + dt.timedelta(seconds=wanted.interval) < now


def next_pass(wanted: ExternalSecret, started: dt.datetime | None, now: dt.datetime) -> float:
    """Give seconds until the next periodic pass, 0 when none is planned."""
    if wanted.refresh != "Periodic" or wanted.interval <= 0:
        return 0.0
    elapsed = (now - started).total_seconds() if started else 0.0
    # refreshTime has whole seconds: half a second more makes sure that the interval has elapsed by then.
    return max(0.5, wanted.interval - max(elapsed, 0.0) + 0.5)


def oldest_acceptable(
    wanted: ExternalSecret, status: Mapping[str, object], since: dt.datetime | None, now: dt.datetime
) -> dt.datetime:
    """Give the moment from which on a value fetched for another object may serve this one too.

    That is when its reason to ask came up, by the controller's own clock: when the interval elapsed, or when the watch
    told of the object or its change (`since`). What was read later could have been read for it. Without such a moment
    (a drift, a retry) it is `now`, so that nobody gets a value older than what made them ask.
    """
    at, unchanged = refreshed_at(status), status.get("syncedResourceVersion") == synced_version(wanted)
    elapses = wanted.refresh == "Periodic" and wanted.interval > 0
    if at is not None and at <= now and unchanged and elapses and _ready(status):
        return min(now, at + dt.timedelta(seconds=wanted.interval))
    return min(now, since) if since is not None else now


def _ready(status: Mapping[str, object]) -> bool:
    conditions = status.get("conditions")
    found = conditions if isinstance(conditions, list) else []
    return any(isinstance(c, dict) and c.get("type") == "Ready" and c.get("status") == "True" for c in found)
