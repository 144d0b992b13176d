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
    """The numbers of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._help: dict[str, tuple[str, str]] = {}
        self._counters: dict[str, dict[str, float]] = {}
        self._gauges: dict[str, Callable[[], Mapping[str, float]]] = {}
        self._times: dict[str, dict[str, list[float]]] = {}

    def count(self, name: str, text: str, **labels: str) -> None:
        """Add one to a counter."""
        series = _labels(labels)
        with self._lock:
            self._help.setdefault(name, (text, "counter"))
            values = self._counters.setdefault(name, {})
            if series not in values and len(values) >= SERIES_LIMIT:
                series = _labels(dict.fromkeys(labels, "other"))
            values[series] = values.get(series, 0.0) + 1

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add a duration to a histogram."""
        series = _labels(labels)
        with self._lock:
            row = self._times.setdefault(name, {}).setdefault(series, [0.0] * (len(BUCKETS) + 2))
            for number, bound in enumerate(BUCKETS):
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
            lines += [f"# HELP {PREFIX}{name} {text}", f"# TYPE {PREFIX}{name} {kind}"]
            lines += [f"{PREFIX}{name}{_braced(series)} {value:g}" for series, value in sorted(values.items())]
        for name, rows in times.items():
            lines.append(f"# TYPE {PREFIX}{name} histogram")
            for series, row in sorted(rows.items()):
                joint = "," if series else ""
                bounds = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
                lines += [
                    f'{PREFIX}{name}_bucket{{{series}{joint}le="{bound}"}} {value:g}'
                    for bound, value in zip(bounds, row[:-1], strict=True)
                ]
                lines.append(f"{PREFIX}{name}_count{_braced(series)} {row[-2]:g}")
                lines.append(f"{PREFIX}{name}_sum{_braced(series)} {row[-1]:g}")
        return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in sorted(labels.items()))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")[:100]


def _braced(series: str) -> str:
    return f"{{{series}}}" if series else ""
