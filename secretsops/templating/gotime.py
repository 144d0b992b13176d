"""Go's times: layouts, zones, durations (go1.26 `src/time/{format,format_rfc3339,time}.go`). Pure.

Compat: the local zone of a template is UTC, as in the peers' images.

What never lives here: the clock, functions of templates.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

from secretsops.templating.signature import CallFailed

_EPOCH = date(1970, 1, 1).toordinal()
_CYCLE = 146097
"""Days of 400 years, after which the calendar repeats."""
NANO = 10**9


class Time:
    """Go's time.Time: nanoseconds since 1970, and the zone it is shown in."""

    __slots__ = ("nanoseconds", "offset", "zone")
    go_type = "time.Time"
    go_kind = "struct"

    def __init__(self, nanoseconds: int, zone: str = "UTC", offset: int = 0) -> None:
        self.nanoseconds = nanoseconds
        self.zone = zone
        self.offset = offset

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Time) and (self.nanoseconds, self.offset) == (other.nanoseconds, other.offset)

    def __hash__(self) -> int:
        return hash(self.nanoseconds)

    @property
    def civil(self) -> tuple[int, date, int]:
        """Give the year, the day in it and the seconds of the day, where the time is shown.

        Go's times without a year are in year 0, which Python lacks: that day stands in the same year of the next cycle.
        """
        days, seconds = divmod(self.nanoseconds // NANO + self.offset, 86400)
        shift = 0 if days + _EPOCH > 0 else 400
        try:
            day = date.fromordinal(days + _EPOCH + (_CYCLE if shift else 0))
            return day.year - shift, day, seconds
        except (ValueError, OverflowError):
            raise CallFailed("the year is not between 0 and 9999") from None

    def go_string(self) -> bytes:
        """Give `time.Time.String`."""
        return format_time(self, "2006-01-02 15:04:05.999999999 -0700 MST").encode()

    def go_json(self) -> bytes:
        """Give RFC 3339 with nanoseconds."""
        return format_time(self, "2006-01-02T15:04:05.999999999Z07:00").encode()


ZERO = Time((date(1, 1, 1).toordinal() - _EPOCH) * 86400 * NANO)

_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
_LAYOUT = re.compile(
    r"January|Jan|MST|Monday|Mon|2006|Z070000|Z07:00:00|Z0700|Z07:00|Z07|-070000|-07:00:00|-0700|-07:00|-07"
    r"|[.,](?:0+|9+)(?![0-9])|__2|002|01|02|03|04|05|06|15|_2(?!006)|1|2|3|4|5|PM|pm"
)


def _at(layout: str) -> list[tuple[str, str]]:
    """Cut a layout into (text before, element)."""
    found, done = [], 0
    for match in _LAYOUT.finditer(layout):
        element = match[0]
        if element == "Jan" and layout[match.end() : match.end() + 1].islower():
            continue
        if element == "Mon" and layout[match.end() : match.end() + 1].islower():
            continue
        found.append((layout[done : match.start()], element))
        done = match.end()
    found.append((layout[done:], ""))
    return found


def format_time(time: Time, layout: str) -> str:
    """Give `Time.Format`."""
    year, day, second = time.civil
    hour, minute, second = second // 3600, second // 60 % 60, second % 60
    pieces = []
    for before, element in _at(layout):
        pieces.append(before)
        pieces.append(_element(element, time, day, (year, hour, minute, second)))
    return "".join(pieces)


def _element(element: str, time: Time, day: date, rest: tuple[int, int, int, int]) -> str:
    year, hour, minute, second = rest
    twelve = hour % 12 or 12
    plain = {
        "": "",
        "January": _MONTHS[day.month - 1],
        "Jan": _MONTHS[day.month - 1][:3],
        "Monday": _DAYS[day.isoweekday() % 7],
        "Mon": _DAYS[day.isoweekday() % 7][:3],
        "MST": time.zone,
        "2006": f"{year:04d}",
        "06": f"{year % 100:02d}",
        "01": f"{day.month:02d}",
        "1": str(day.month),
        "02": f"{day.day:02d}",
        "_2": f"{day.day:2d}",
        "2": str(day.day),
        "002": f"{day.timetuple().tm_yday:03d}",
        "__2": f"{day.timetuple().tm_yday:3d}",
        "15": f"{hour:02d}",
        "03": f"{twelve:02d}",
        "3": str(twelve),
        "04": f"{minute:02d}",
        "4": str(minute),
        "05": f"{second:02d}",
        "5": str(second),
        "PM": "PM" if hour >= 12 else "AM",
        "pm": "pm" if hour >= 12 else "am",
    }
    if element in plain:
        return plain[element]
    if element[0] in ".,":
        return _fraction(element, time.nanoseconds % NANO)
    return _offset(element, time.offset)


def _fraction(element: str, nanoseconds: int) -> str:
    digits = f"{nanoseconds:09d}"[: len(element) - 1].ljust(len(element) - 1, "0")
    if element[1] == "0":
        return element[0] + digits
    digits = digits.rstrip("0")
    return element[0] + digits if digits else ""


def _offset(element: str, offset: int) -> str:
    if element[0] == "Z" and offset == 0:
        return "Z"
    sign, seconds = ("-", -offset) if offset < 0 else ("+", offset)
    parts = [f"{seconds // 3600:02d}", f"{seconds // 60 % 60:02d}", f"{seconds % 60:02d}"]
    count = 1 if len(element) == 3 else 3 if len(element) > 6 else 2
    return sign + (":" if ":" in element else "").join(parts[:count])


# --- Reading -------------------------------------------------------------------------------------------


def parse_time(layout: str, text: str) -> Time | None:
    """Give `time.ParseInLocation` with UTC, None where the text does not fit the layout."""
    found: dict[str, Any] = {}
    rest = text
    for before, element in _at(layout):
        taken = _skip(before, rest)
        if taken is None:
            return None
        rest = taken
        if not element:
            continue
        taken = _read(element, rest, found)
        if taken is None:
            return None
        rest = taken
        if element in {"05", "5"} and re.match(r"[.,][0-9]", rest):
            # Go takes a fraction after the seconds though the layout has none.
            digits = re.match(r"[.,]([0-9]+)", rest)
            if digits:
                found["nano"] = int(digits[1][:9].ljust(9, "0"))
                rest = rest[digits.end() :]
    return None if rest else _assembled(found)


def _skip(before: str, text: str) -> str | None:
    """Take literal text; a space in the layout stands for any number of them, not none."""
    while before:
        if before[0] == " ":
            if text and text[0] != " ":
                return None
            before, text = before.lstrip(" "), text.lstrip(" ")
            continue
        if not text or text[0] != before[0]:
            return None
        before, text = before[1:], text[1:]
    return text


_DIGITS = {
    "2006": ("year", r"\d{4}"),
    "06": ("short", r"\d{2}"),
    "01": ("month", r"\d{2}"),
    "1": ("month", r"\d{1,2}"),
    "02": ("day", r"\d{1,2}"),
    "_2": ("day", r" ?\d{1,2}"),
    "2": ("day", r"\d{1,2}"),
    "002": ("yearday", r"\d{3}"),
    "__2": ("yearday", r" {0,2}\d{1,3}"),
    "15": ("hour", r"\d{1,2}"),
    "03": ("twelve", r"\d{2}"),
    "3": ("twelve", r"\d{1,2}"),
    "04": ("minute", r"\d{2}"),
    "4": ("minute", r"\d{1,2}"),
    "05": ("second", r"\d{2}"),
    "5": ("second", r"\d{1,2}"),
}


def _read(element: str, text: str, found: dict[str, Any]) -> str | None:  # noqa: PLR0911 - one per element
    if element in _DIGITS:
        name, pattern = _DIGITS[element]
        match = re.match(pattern, text, re.ASCII)
        if not match:
            return None
        found[name] = int(match[0])
        return text[match.end() :]
    if element in {"January", "Jan", "Monday", "Mon"}:
        names = _MONTHS if element[0] == "J" else _DAYS
        for number, name in enumerate(names):
            shown = name if len(element) > 3 else name[:3]
            if text[: len(shown)].lower() == shown.lower():
                if element[0] == "J":
                    found["month"] = number + 1
                return text[len(shown) :]
        return None
    if element in {"PM", "pm"}:
        half = text[:2]
        if half not in ({"AM", "PM"} if element == "PM" else {"am", "pm"}):
            return None
        found["half"] = half.lower()
        return text[2:]
    if element == "MST":
        match = re.match(r"[A-Z]{3,4}(?:[-+]\d{1,2})?", text)
        if not match:
            return None
        found["zone"] = match[0]
        return text[match.end() :]
    if element[0] in ".,":
        match = re.match(r"[.,](\d+)" if element[1] == "9" else rf"[.,](\d{{{len(element) - 1}}})", text, re.ASCII)
        if not match:
            return text if element[1] == "9" else None
        found["nano"] = int(match[1][:9].ljust(9, "0"))
        return text[match.end() :]
    return _read_offset(element, text, found)


def _read_offset(element: str, text: str, found: dict[str, Any]) -> str | None:
    if element[0] == "Z" and text[:1] == "Z":
        found["offset"] = 0
        return text[1:]
    colon = ":" if ":" in element else ""
    parts = 1 if len(element) == 3 else 3 if len(element) > 6 else 2
    further = (colon + r"(\d\d)") * (parts - 1)
    match = re.match(r"([-+])(\d\d)" + further, text, re.ASCII)
    if not match:
        return None
    numbers = [int(part) for part in match.groups()[1:]]
    seconds = sum(number * size for number, size in zip(numbers, (3600, 60, 1), strict=False))
    found["offset"] = -seconds if match[1] == "-" else seconds
    return text[match.end() :]


def _assembled(found: dict[str, Any]) -> Time | None:
    year = found.get("year", 0)
    if "short" in found:
        year = found["short"] + (1900 if found["short"] >= 69 else 2000)
    hour = found.get("hour", found.get("twelve", 0))
    if "twelve" in found and "half" in found:
        hour = found["twelve"] % 12 + (12 if found["half"] == "pm" else 0)
    minute, second = found.get("minute", 0), found.get("second", 0)
    try:
        if "yearday" in found:
            day = date(year or 400, 1, 1).toordinal() + found["yearday"] - 1 - (0 if year else _CYCLE)
        else:
            month, of_month = found.get("month", 1), found.get("day", 1)
            # Year 0, where a layout has no year, is a leap year that Python does not know.
            day = date(year or 400, month, of_month).toordinal() - (0 if year else _CYCLE)
    except ValueError:
        return None
    if hour > 23 or minute > 59 or second > 59:
        return None
    offset = found.get("offset", 0)
    seconds = (day - _EPOCH) * 86400 + hour * 3600 + minute * 60 + second - offset
    zone = found.get("zone") or (
        "UTC" if offset == 0 else f"{'-' if offset < 0 else '+'}{abs(offset) // 3600:02d}{abs(offset) // 60 % 60:02d}"
    )
    return Time(seconds * NANO + found.get("nano", 0), zone, offset)


# --- Durations and zones -------------------------------------------------------------------------------

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": NANO, "m": 60 * NANO, "h": 3600 * NANO}
_TERM = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")


def parse_duration(text: str) -> int | None:
    """Give nanoseconds, None where the text is no Go duration."""
    body = text[1:] if text[:1] in {"-", "+"} else text
    if body == "0":
        return 0
    total, end = 0, 0
    for term in _TERM.finditer(body[:200]):
        whole, fraction, unit = term.groups()
        if term.start() != end or not (whole or fraction):
            return None
        total += int(whole or 0) * _UNITS[unit] + int((fraction or "0")[:18]) * _UNITS[unit] // 10 ** len(
            (fraction or "0")[:18]
        )
        end = term.end()
    if not body or end != len(body) or total >= 2**63:
        return None
    return -total if text.startswith("-") else total


_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,32}(?:/[A-Za-z0-9_+-]{1,32}){0,2}")


@lru_cache(maxsize=64)
def _zone(name: str) -> Any:
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name) if _ZONE.fullmatch(name) else None
    except (ValueError, OSError, LookupError):
        return None


def in_zone(time: Time, name: str) -> Time:
    """Give the same time as another zone shows it; a zone that is not known is UTC."""
    zone = _zone(name) if name not in {"", "Local", "UTC"} else None
    if zone is None:
        return Time(time.nanoseconds)
    from datetime import UTC, datetime

    try:
        shown = datetime.fromtimestamp(0, UTC) + timedelta(seconds=time.nanoseconds // NANO)
        local = shown.astimezone(zone)
    except OverflowError:
        return Time(time.nanoseconds)
    offset = local.utcoffset() or timedelta()
    return Time(time.nanoseconds, local.tzname() or "UTC", int(offset.total_seconds()))
