"""Time as manifests write it: Go durations (`1h30m`, `300ms`) and the names of schedules (`@daily`). Pure.

The grammar is Go's `time.ParseDuration` (go1.26 `src/time/format.go`): a sign, then decimal numbers each with a unit.
"""

from __future__ import annotations

import re

from secretsops.errors import InvalidManifest

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TERM = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
LIMIT = 2**63 / 1e9
"""Seconds: Go's Duration is 64 bits of nanoseconds (about 292 years)."""

CRON_NAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""Schedules with names, and what they stand for (robfig/cron v3 `parser.go`)."""


def parse_duration(text: str) -> float:
    """Give seconds.

    Raises:
        InvalidManifest: not a Go duration, or beyond 292 years.
    """
    body = text[1:] if text[:1] in {"-", "+"} else text
    if body == "0":
        return 0.0
    total, end = 0.0, 0
    for term in _TERM.finditer(body):
        if term.start() != end:
            break
        total += float(term[1]) * _SECONDS[term[2]]
        end = term.end()
    if not body or end != len(body) or total > LIMIT:
        raise InvalidManifest(
            f"{text[:64]!r} is not a duration", reason="InvalidDuration", hint="write it like 1h30m, 90s or 500ms"
        )
    return -total if text.startswith("-") else total


def format_duration(seconds: float) -> str:
    """Give `1h0m5s` as Go prints it, to the millisecond."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    whole, rest = divmod(milliseconds, 1000)
    hours, minutes, last = whole // 3600, whole // 60 % 60, whole % 60
    tail = f"{last}.{rest:03d}".rstrip("0").rstrip(".") + "s" if rest else f"{last}s"
    if hours:
        return f"{hours}h{minutes}m{tail}"
    return f"{minutes}m{tail}" if minutes else tail
