"""When a CronJob is due. Pure.

Follows `github.com/robfig/cron/v3` (`parser.go`, ParseStandard): five fields, `@daily` and the like, `@every DURATION`.
The five fields are read by `cronsim`; where it is not installed nothing is ever due.
"""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from secretsops.durations import CRON_NAMES, parse_duration
from secretsops.errors import InvalidManifest


def problem(schedule: str, zone: str) -> str:
    """Say what is wrong with a schedule or its time zone; nothing ("") where it can be read, or nobody can tell."""
    if _every(schedule) is not None:
        return ""
    try:
        from cronsim import CronSim, CronSimError
    except ImportError:
        return ""
    try:
        start = dt.datetime(2026, 1, 1, tzinfo=ZoneInfo(zone or "UTC"))
    except (ZoneInfoNotFoundError, ValueError):
        return "unknown time zone"
    try:
        CronSim(_fields(schedule), start)
    except (CronSimError, ValueError) as error:
        return str(error)
    return ""


def last_due(schedule: str, zone: str, *, since: dt.datetime, now: dt.datetime) -> dt.datetime | None:
    """Give the newest time after `since`, up to now, at which it was due; None where there was none."""
    every = _every(schedule)
    if every is not None:
        count = int((now - since).total_seconds() // every)
        return since + dt.timedelta(seconds=every * count) if count >= 1 else None
    # Backwards from the next second, so that now itself counts; however long ago `since` is, it is one step.
    found = _step(schedule, zone, now + dt.timedelta(seconds=1), reverse=True)
    return found if found is not None and found > since else None


def seconds_to_next(schedule: str, zone: str, *, now: dt.datetime) -> float | None:
    """Give how long it is until it is due again; None where it never will be."""
    every = _every(schedule)
    if every is not None:
        return every
    found = _step(schedule, zone, now, reverse=False)
    return (found - now).total_seconds() if found is not None else None


def _every(schedule: str) -> float | None:
    if not schedule.startswith("@every "):
        return None
    try:
        return max(float(int(parse_duration(schedule.removeprefix("@every ").strip()))), 1.0)
    except InvalidManifest:
        return None


def _fields(schedule: str) -> str:
    fields = CRON_NAMES.get(schedule, schedule).replace("?", "*")
    if len(fields.split()) != 5:  # cronsim takes six, and Kubernetes does not
        raise ValueError(f"expected exactly 5 fields, found {len(fields.split())}")
    return fields


def _step(schedule: str, zone: str, moment: dt.datetime, *, reverse: bool) -> dt.datetime | None:
    try:
        from cronsim import CronSim, CronSimError
    except ImportError:
        return None
    try:
        local = moment.astimezone(ZoneInfo(zone or "UTC"))
        found: dt.datetime = next(CronSim(_fields(schedule), local, reverse=reverse))
        return found.astimezone(dt.UTC)
    except (CronSimError, StopIteration, ZoneInfoNotFoundError, ValueError):
        return None
