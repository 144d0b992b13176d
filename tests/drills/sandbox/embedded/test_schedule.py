"""When a CronJob is due."""

from __future__ import annotations

import datetime as dt

import pytest

from drills.sandbox.embedded.schedule import last_due, problem, seconds_to_next


def at(text: str) -> dt.datetime:
    """Give a time of one day in UTC."""
    return dt.datetime.fromisoformat(f"2026-03-02T{text}+00:00")  # a Monday


@pytest.mark.parametrize(
    ("schedule", "zone", "since", "now", "due", "wait"),
    [
        ("*/5 * * * *", "", "09:58:00", "10:00:00", "10:00:00", 300),
        ("*/5 * * * *", "", "10:00:00", "10:04:59", None, 1),
        ("0 3 * * *", "", "01:00:00", "10:00:00", "03:00:00", 17 * 3600),
        ("0 3 * * *", "Europe/Berlin", "01:00:00", "10:00:00", "02:00:00", 16 * 3600),
        ("@hourly", "", "08:30:00", "10:30:00", "10:00:00", 1800),
        ("@every 1h30m", "", "08:00:00", "12:00:00", "11:00:00", 5400),
        ("0 0 31 2 *", "", "08:00:00", "12:00:00", None, None),
        ("no schedule", "", "08:00:00", "12:00:00", None, None),
    ],
)
def test_it_is_due(schedule: str, zone: str, since: str, now: str, due: str | None, wait: float | None) -> None:
    """The newest missed time, in one step however long ago; then the seconds to the next."""
    assert last_due(schedule, zone, since=at(since), now=at(now)) == (at(due) if due else None)
    assert seconds_to_next(schedule, zone, now=at(now)) == wait


@pytest.mark.parametrize(
    ("schedule", "zone", "said"),
    [
        ("*/5 * * * *", "Europe/Berlin", ""),
        ("@daily", "", ""),
        ("@every 10m", "", ""),
        ("@every soon", "", "5 fields"),
        ("* * * * * *", "", "5 fields"),
        ("61 * * * *", "", "minute"),
        ("* * * * *", "Mars/Olympus", "time zone"),
    ],
)
def test_what_is_no_schedule_is_said(schedule: str, zone: str, said: str) -> None:
    """Or nothing."""
    found = problem(schedule, zone)
    assert said in found
    assert bool(found) == bool(said)
