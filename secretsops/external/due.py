"""When an ExternalSecret is fetched again: the refresh policies, as decisions over status and time. Pure.

Rules of External Secrets 2.9.0 (`pkg/controllers/externalsecret/externalsecret_controller.go`, `shouldRefresh`):

| policy | never synced | spec, labels or annotations changed | interval elapsed |
|---|---|---|---|
| Periodic, interval > 0 | yes | yes | yes, inside `syncWindows` |
| Periodic, interval 0 | yes | no | no |
| OnChange | yes | yes | no |
| CreatedOnce | yes | no | no |

Compat: OnChange and CreatedOnce objects are not queued again by time; the peer spins them through its rate limiter.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from secretsops.external.model import ExternalSecret, object_hash

SPREAD, SPREAD_LIMIT = 0.05, 60.0
"""The share of an interval, and the seconds, over which refreshes that began together come apart."""
SLACK, SLACK_LIMIT = 0.1, 30.0
"""The share of an interval, and the seconds, by which a refresh may come early so that one request serves several."""
WINDOW_LOOK = 30.0
"""Seconds between two looks whether a sync window has opened."""


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
    if at > now:
        return True
    elapsed = at + dt.timedelta(seconds=wanted.interval) < now
    # Windows hold back nothing but this: a change or a first sync passes them, as with the peer.
    return elapsed and (wanted.windows is None or wanted.windows.admit(now))


def next_pass(wanted: ExternalSecret, started: dt.datetime | None, now: dt.datetime, *, spread: float = 0.0) -> float:
    """Give seconds until the next periodic pass, 0 when none is planned; `spread` (0 to 1) sets herds apart."""
    if wanted.refresh != "Periodic" or wanted.interval <= 0:
        return 0.0
    elapsed = (now - started).total_seconds() if started else 0.0
    apart = spread * min(SPREAD * wanted.interval, SPREAD_LIMIT)
    # refreshTime has whole seconds: half a second more makes sure that the interval has elapsed by then.
    left = max(0.5, wanted.interval - max(elapsed, 0.0) + 0.5) + apart
    return max(left, WINDOW_LOOK) if wanted.windows is not None and elapsed >= wanted.interval else left


def oldest_acceptable(
    wanted: ExternalSecret, status: Mapping[str, object], since: dt.datetime | None, now: dt.datetime
) -> dt.datetime:
    """Give the moment from which on a value fetched for another object may serve this one too.

    That is when its reason to ask came up, by the controller's own clock: when the interval elapsed (or shortly before
    for another's sake), or when the watch told of the object or its change (`since`). What was read later could have
    been read for it. Without such a moment (a retry) it is `now`: nobody gets a value older than what made them ask.
    """
    at, unchanged = refreshed_at(status), status.get("syncedResourceVersion") == synced_version(wanted)
    elapses = wanted.refresh == "Periodic" and wanted.interval > 0
    if at is not None and at <= now and unchanged and elapses and _ready(status):
        early = min(SLACK * wanted.interval, SLACK_LIMIT)
        return min(now, at + dt.timedelta(seconds=wanted.interval - early))
    return min(now, since) if since is not None else now


def mendable(wanted: ExternalSecret, status: Mapping[str, object], now: dt.datetime) -> dt.datetime:
    """Give the moment from which on a value may serve to repair a Secret that drifted, while nothing is due.

    A periodic object gets the current value at its next refresh anyway, so what its last one read will do, and nobody
    who edits a Secret over and over can drive requests. Under the other policies the repair is the only refresh.
    """
    at = refreshed_at(status)
    if wanted.refresh != "Periodic" or wanted.interval <= 0 or at is None:
        return now
    return at - dt.timedelta(seconds=min(SLACK * wanted.interval, SLACK_LIMIT))


def _ready(status: Mapping[str, object]) -> bool:
    conditions = status.get("conditions")
    found = conditions if isinstance(conditions, list) else []
    return any(isinstance(c, dict) and c.get("type") == "Ready" and c.get("status") == "True" for c in found)
