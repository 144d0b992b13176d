"""`spec.syncWindows`: when a periodic refresh may ask the provider. Times are UTC. Pure.

Schedules are robfig/cron's standard ones, as the peer's (v3.0.1, `parser.go`, `spec.go`): five fields, names of months
and days, `@daily` and the like, `@every 1h`. One that cannot be read is never active, so that a list of nothing but
typos under `allow` stops every refresh.

What never lives here: the other reasons to refresh (`secretsops.external.due`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secretsops.durations import CRON_NAMES, parse_duration
from secretsops.errors import InvalidManifest

WINDOW_LIMIT = 100
_DAYS_AHEAD = 5 * 366
"""Days searched for the next firing; robfig/cron gives up after five years."""
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_WEEKDAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_RANGES: Sequence[tuple[int, int, Mapping[str, int]]] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, _MONTHS),
    (0, 6, _WEEKDAYS),
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When it fires: the minutes, hours, days, months and weekdays allowed; `any_day` where days are `*`."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool

    def fires_on(self, day: dt.date) -> bool:
        """Say whether it fires on a day: both of day and weekday where one is `*`, else either (cron's old rule)."""
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        fits = in_month and in_week if self.any_day else in_month or in_week
        return fits and day.month in self.months

    def next_after(self, moment: dt.datetime) -> dt.datetime | None:
        """Give the first firing after a moment, None where there is none within five years."""
        start = (moment + dt.timedelta(minutes=1)).replace(second=0, microsecond=0)
        for ahead in range(_DAYS_AHEAD):
            day = start.date() + dt.timedelta(days=ahead)
            if not self.fires_on(day):
                continue
            for hour in sorted(self.hours):
                for minute in sorted(self.minutes):
                    firing = dt.datetime(day.year, day.month, day.day, hour, minute, tzinfo=dt.UTC)
                    if firing >= start:
                        return firing
        return None


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of `duration` seconds after each firing. `every` is the period of an `@every` schedule."""

    duration: float
    schedule: Schedule | None = None
    every: float = 0.0

    def is_open(self, now: dt.datetime) -> bool:
        """Say whether a moment is in the window, both ends included (`syncwindow.go`, 2.9.0)."""
        early = now - dt.timedelta(seconds=self.duration + 1)
        if self.every:
            # robfig/cron counts an @every from the moment it is asked about, so that it fires `every` after `early`.
            firing: dt.datetime | None = early + dt.timedelta(seconds=max(1.0, self.every // 1))
        else:
            firing = self.schedule.next_after(early) if self.schedule else None
        return firing is not None and firing <= now <= firing + dt.timedelta(seconds=self.duration)


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows in which a refresh is allowed, or (`deny`) those in which it is not."""

    deny: bool
    windows: Sequence[Window]

    def admit(self, now: dt.datetime) -> bool:
        """Say whether a refresh that is due may happen now."""
        return any(window.is_open(now) for window in self.windows) != self.deny


def read_windows(body: Mapping[str, Any]) -> Windows | None:
    """Read `spec.syncWindows`, None where there are none.

    Raises:
        InvalidManifest: neither allow nor deny, or too many windows.
    """
    if not body:
        return None
    entries = body.get("windows")
    entries = entries if isinstance(entries, list) else []
    if body.get("kind") not in {"allow", "deny"} or len(entries) > WINDOW_LIMIT:
        raise InvalidManifest(
            f"spec.syncWindows needs kind allow or deny and at most {WINDOW_LIMIT} windows", reason="InvalidSpec"
        )
    found = [_window(entry) for entry in entries if isinstance(entry, dict)]
    return Windows(body["kind"] == "deny", [window for window in found if window])


def _window(entry: Mapping[str, Any]) -> Window | None:
    text = str(entry.get("schedule") or "").strip()
    try:
        duration = parse_duration(str(entry.get("duration") or ""))
        if text.startswith("@every "):
            return Window(duration, every=max(1.0, parse_duration(text.removeprefix("@every ").strip())))
        return Window(duration, schedule=read_schedule(text))
    except (InvalidManifest, ValueError):
        return None


def read_schedule(text: str) -> Schedule:
    """Read a cron expression; raises `ValueError` for what robfig/cron's standard parser does not take."""
    fields = CRON_NAMES.get(text, text).split()
    if len(fields) != len(_RANGES):
        raise ValueError("five fields are needed")
    minutes, hours, days, months, weekdays = (_field(field, *r) for field, r in zip(fields, _RANGES, strict=True))
    any_day = any(field[:1] in {"*", "?"} and "/" not in field for field in (fields[2], fields[4]))
    return Schedule(minutes, hours, days, months, weekdays, any_day)


def _field(text: str, low: int, high: int, names: Mapping[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        step = int(step_text) if slash else 1
        if span in {"*", "?"}:
            first, last = low, high
        else:
            begin, dash, end = span.partition("-")
            first = _number(begin, names)
            last = _number(end, names) if dash else high if slash else first
        if not (low <= first <= last <= high) or step <= 0:
            raise ValueError("out of range")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(text: str, names: Mapping[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not text.isascii() or not text.isdigit():
        raise ValueError("not a number")
    return int(text)
