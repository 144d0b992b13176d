"""Counters and gauges in Prometheus' text format (version 0.0.4). Labels are bounded; objects are never labels.

Own lines instead of `prometheus_client`: three kinds of numbers do not need 100 ms of import and a registry.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

PREFIX = "secretsops_"
SERIES_LIMIT = 256
"""Label sets of one name; what comes after counts under `other`."""
BUCKETS = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)


class Metrics:
    """The numbers of one process whose names begin with `prefix`; histograms have `buckets` (upper bounds, seconds)."""

    def __init__(self, prefix: str = PREFIX, buckets: tuple[float, ...] = BUCKETS) -> None:
        self._prefix, self._buckets = prefix, buckets
        self._lock = threading.Lock()
        self._help: dict[str, tuple[str, str]] = {}
        self._counters: dict[str, dict[str, float]] = {}
        self._gauges: dict[str, Callable[[], Mapping[str, float]]] = {}
        self._times: dict[str, dict[str, list[float]]] = {}

    def count(self, name: str, text: str, **labels: str) -> None:
        """Add one to a counter."""
        series = label_text(labels)
        with self._lock:
            self._help.setdefault(name, (text, "counter"))
            values = self._counters.setdefault(name, {})
            if series not in values and len(values) >= SERIES_LIMIT:
                series = label_text(dict.fromkeys(labels, "other"))
            values[series] = values.get(series, 0.0) + 1

    def observe(self, name: str, seconds: float, text: str = "", **labels: str) -> None:
        """Add a duration to a histogram."""
        series = label_text(labels)
        with self._lock:
            self._help.setdefault(name, (text, "histogram"))
            row = self._times.setdefault(name, {}).setdefault(series, [0.0] * (len(self._buckets) + 2))
            for number, bound in enumerate(self._buckets):
                if seconds <= bound:
                    row[number] += 1
            row[-2] += 1
            row[-1] += seconds

    def gauge(self, name: str, text: str, read: Callable[[], Mapping[str, float]], *, counter: bool = False) -> None:
        """Have a number read when somebody asks; `read` gives values by label text (`name="x"`, or "")."""
        self._help[name] = (text, "counter" if counter else "gauge")
        self._gauges[name] = read

    def text(self) -> str:
        """Give everything in the exposition format."""
        lines: list[str] = []
        with self._lock:
            counters = {name: dict(values) for name, values in self._counters.items()}
            times = {name: {series: list(row) for series, row in rows.items()} for name, rows in self._times.items()}
        for name, values in [*counters.items(), *((name, read()) for name, read in self._gauges.items())]:
            text, kind = self._help[name]
            full = self._prefix + name
            lines += [f"# HELP {full} {text}", f"# TYPE {full} {kind}"] if values else []
            lines += [f"{full}{_braced(series)} {_number(value)}" for series, value in sorted(values.items())]
        for name, rows in times.items():
            full, text = self._prefix + name, self._help[name][0]
            lines += [f"# HELP {full} {text}"] if text else []
            lines.append(f"# TYPE {full} histogram")
            for series, row in sorted(rows.items()):
                joint = "," if series else ""
                bounds = [*(f"{bound:g}" for bound in self._buckets), "+Inf"]
                lines += [
                    f'{full}_bucket{{{series}{joint}le="{bound}"}} {_number(value)}'
                    for bound, value in zip(bounds, row[:-1], strict=True)
                ]
                lines.append(f"{full}_count{_braced(series)} {_number(row[-2])}")
                lines.append(f"{full}_sum{_braced(series)} {_number(row[-1])}")
        return "\n".join(lines) + "\n"


def label_text(labels: Mapping[str, str]) -> str:
    """Give labels as they stand between braces, by name."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in sorted(labels.items()))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")[:100]


def _braced(series: str) -> str:
    return f"{{{series}}}" if series else ""


def _number(value: float) -> str:
    """Give a value without loss: `:g` would round a counter beyond a million."""
    return str(int(value)) if value == int(value) else repr(value)
