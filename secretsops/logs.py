"""Logging for every process: text or JSON lines on standard error, one formatter, no secret.

Standard library only: structlog costs 170 ms to import. What is logged are names, reasons and counts; objects and
values are not (SECURITY.md). `fields(...)` attaches structured values to a line.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
import traceback
from typing import Any

_FIELDS = "secretsops_fields"


def configure(*, level: str = "info", style: str = "text") -> None:
    """Send the log of this process to standard error at `level`, as `text` or `json` lines; may be called again."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if style == "json" else _TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for library in ("urllib3", "botocore", "boto3", "kubernetes", "git", "hvac"):
        # Their debug output carries headers and bodies: never.
        logging.getLogger(library).setLevel(logging.WARNING)


def fields(**values: str | float | bool | None) -> dict[str, Any]:
    """Give the `extra` of a log call: `log.info("applied", extra=fields(app="shop", count=3))`."""
    return {_FIELDS: values}


class _TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        values = getattr(record, _FIELDS, {})
        tail = "".join(
            f" {key}={json.dumps(value) if isinstance(value, str) else value}" for key, value in values.items()
        )
        return f"{_time(record)} {record.levelname.lower()} {record.getMessage()}{tail}{_trace(record)}"


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        trace = _trace(record).strip()
        if trace:
            line["trace"] = trace
        return json.dumps(line, ensure_ascii=False)


def _time(record: logging.LogRecord) -> str:
    return dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _trace(record: logging.LogRecord) -> str:
    """Name where an unexpected error arose, without its text: the message of a foreign exception may carry values."""
    if not record.exc_info or record.exc_info[2] is None:
        return ""
    frames = [
        f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(record.exc_info[2])
    ]
    kind = record.exc_info[0].__name__ if record.exc_info[0] else "error"
    return f" [{kind} at {' < '.join(reversed(frames))}]"
