"""sprig's dates, and what a template can call on a time (sprig v3.3.0 `date.go`, go1.26 `src/time/time.go`).

What never lives here: layouts and zones (`gotime`), the clock, which a rendering brings along.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from secretsops.templating.evaluator import Run
from secretsops.templating.formatting import duration_text, show
from secretsops.templating.gotime import NANO, ZERO, Time, format_time, in_zone, parse_duration, parse_time
from secretsops.templating.gotypes import Duration, Int64, Month, Weekday, wrap64
from secretsops.templating.signature import CallFailed, Function, function


def _text(value: bytes) -> str:
    return value[:1000].decode("utf-8", "replace")


def _now(run: Run) -> Time:
    return Time(run.world.now())


def _time_of(run: Run, value: Any) -> Time:
    if isinstance(value, Time):
        return value
    if type(value) in {int, Int64}:
        return Time(int(value) * NANO)
    return _now(run)


def _date_in_zone(run: Run, layout: bytes, value: Any, zone: bytes) -> bytes:
    run.meter.step(len(layout) // 8)
    return format_time(in_zone(_time_of(run, value), _text(zone)), layout.decode("utf-8", "surrogateescape")).encode(
        "utf-8", "surrogateescape"
    )


def _modified(change: bytes, time: Time, *, must: bool) -> Time:
    nanoseconds = parse_duration(_text(change))
    if nanoseconds is None:
        if must:
            raise CallFailed("invalid duration")
        return time
    return Time(time.nanoseconds + nanoseconds, time.zone, time.offset)


def _to_date(layout: bytes, text: bytes, *, must: bool) -> Time:
    time = parse_time(_text(layout), _text(text))
    if time is None and must:
        raise CallFailed("the text is no date of this layout")
    return time if time is not None else ZERO


def _ago(run: Run, value: Any) -> bytes:
    since = run.world.now() - _time_of(run, value).nanoseconds
    seconds = (abs(since) + NANO // 2) // NANO * (1 if since >= 0 else -1)
    return duration_text(seconds * NANO).encode()


def _duration(value: Any) -> bytes:
    number = 0
    if isinstance(value, bytes):
        text = value[:40].decode("ascii", "replace")
        if re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII):
            number = max(-(2**63), min(2**63 - 1, int(text)))
    elif isinstance(value, Int64):
        number = int(value)
    return duration_text(wrap64(number * NANO)).encode()


_ROUNDS = (("y", 365 * 24 * 3600), ("mo", 30 * 24 * 3600), ("d", 24 * 3600), ("h", 3600), ("m", 60), ("s", 1))


def _duration_round(run: Run, value: Any) -> bytes:
    nanoseconds = 0
    if isinstance(value, bytes):
        nanoseconds = parse_duration(_text(value)) or 0
    elif isinstance(value, Int64):
        nanoseconds = int(value)
    elif isinstance(value, Time):
        nanoseconds = run.world.now() - value.nanoseconds
    size = abs(nanoseconds)
    for name, seconds in _ROUNDS:
        if size > seconds * NANO:
            return f"{size // (seconds * NANO)}{name}".encode()
    return b"0s"


_IN_ZONE = function("string any string", _date_in_zone, run=True)
_MODIFY = function("string time", lambda change, time: _modified(change, time, must=False))
_MUST_MODIFY = function("string time", lambda change, time: _modified(change, time, must=True))

TABLE: dict[str, Function] = {
    "now": function("", _now, run=True),
    "date": function("string any", lambda run, layout, value: _date_in_zone(run, layout, value, b""), run=True),
    "dateInZone": _IN_ZONE,
    "date_in_zone": _IN_ZONE,
    "htmlDate": function("any", lambda run, value: _date_in_zone(run, b"2006-01-02", value, b""), run=True),
    "htmlDateInZone": function(
        "any string", lambda run, value, zone: _date_in_zone(run, b"2006-01-02", value, zone), run=True
    ),
    "dateModify": _MODIFY,
    "date_modify": _MODIFY,
    "mustDateModify": _MUST_MODIFY,
    "must_date_modify": _MUST_MODIFY,
    "toDate": function("string string", lambda layout, text: _to_date(layout, text, must=False)),
    "mustToDate": function("string string", lambda layout, text: _to_date(layout, text, must=True)),
    "unixEpoch": function("time", lambda time: str(time.nanoseconds // NANO).encode()),
    "ago": function("any", _ago, run=True),
    "duration": function("any", _duration),
    "durationRound": function("any", _duration_round, run=True),
}


def _added(time: Time, years: int, months: int, days: int) -> Time:
    _year, day, _second = time.civil
    month = day.year * 12 + day.month - 1 + months + 12 * years
    try:
        first = date(month // 12, month % 12 + 1, 1).toordinal()
        moved = date.fromordinal(first + day.day - 1 + days).toordinal()
    except (ValueError, OverflowError):
        raise CallFailed("the year is not between 1 and 9999") from None
    return Time(time.nanoseconds + (moved - day.toordinal()) * 86400 * NANO, time.zone, time.offset)


def _clock(part: int) -> Function:
    return function("", lambda time: (time.civil[2] // 3600, time.civil[2] // 60 % 60, time.civil[2] % 60)[part])


def _formatted(run: Run, time: Time, layout: bytes) -> bytes:
    run.meter.step(len(layout) // 8)
    return format_time(time, layout.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


METHODS: dict[bytes, Function] = {
    b"Year": function("", lambda time: time.civil[0]),
    b"Month": function("", lambda time: Month(time.civil[1].month)),
    b"Day": function("", lambda time: time.civil[1].day),
    b"Weekday": function("", lambda time: Weekday(time.civil[1].isoweekday() % 7)),
    b"YearDay": function("", lambda time: time.civil[1].timetuple().tm_yday),
    b"Hour": _clock(0),
    b"Minute": _clock(1),
    b"Second": _clock(2),
    b"Nanosecond": function("", lambda time: time.nanoseconds % NANO),
    b"Unix": function("", lambda time: Int64(time.nanoseconds // NANO)),
    b"UnixMilli": function("", lambda time: Int64(time.nanoseconds // 10**6)),
    b"UnixMicro": function("", lambda time: Int64(time.nanoseconds // 10**3)),
    b"UnixNano": function("", lambda time: Int64(wrap64(time.nanoseconds))),
    b"UTC": function("", lambda time: Time(time.nanoseconds)),
    b"Local": function("", lambda time: Time(time.nanoseconds)),
    b"String": function("", Time.go_string),
    b"Format": function("string", _formatted, run=True),
    b"AddDate": function("int int int", _added),
    b"Add": function("duration", lambda time, by: Time(time.nanoseconds + by, time.zone, time.offset)),
    b"Sub": function("time", lambda time, other: Duration(wrap64(time.nanoseconds - other.nanoseconds))),
    b"Before": function("time", lambda time, other: time.nanoseconds < other.nanoseconds),
    b"After": function("time", lambda time, other: time.nanoseconds > other.nanoseconds),
    b"Equal": function("time", lambda time, other: time.nanoseconds == other.nanoseconds),
    b"IsZero": function("", lambda time: time.nanoseconds == ZERO.nanoseconds),
}
"""What a template can call on a time."""


DURATION_METHODS: dict[bytes, Function] = {
    b"Hours": function("", lambda value: value / (3600 * NANO)),
    b"Minutes": function("", lambda value: value / (60 * NANO)),
    b"Seconds": function("", lambda value: value / NANO),
    b"Milliseconds": function("", lambda value: Int64(int(value / 10**6))),
    b"Nanoseconds": function("", Int64),
    b"String": function("", lambda value: duration_text(int(value)).encode()),
}
WORD: Function = function("", lambda run, value: show(value, run.meter), run=True)
"""`String` of a month or weekday."""
