"""What linting finds, and how it is printed: table, JSON, SARIF 2.1.0, JUnit. Pure text.

What never lives here: rules.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from xml.sax.saxutils import quoteattr

FORMATS = ("table", "json", "sarif", "junit")
_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"


class Severity(StrEnum):
    """An `error` does not open or does not belong in Git; a `note` does not change the exit code."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report. `object` is `namespace/name`; `line` counts from 1, 0 when unknown."""

    rule: str
    severity: Severity
    path: str
    line: int = 0
    object: str = ""
    item: str = ""
    message: str
    cure: str = ""

    @property
    def where(self) -> str:
        """Give `file:line` as editors open it."""
        return f"{self.path}:{self.line}" if self.line else self.path

    @property
    def what(self) -> str:
        """Name the object and item."""
        return " ".join(filter(None, (self.object, self.item and f"[{self.item}]")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was looked at: files, SealedSecrets, items, and items proven to open (None where no key was given)."""

    files: int
    objects: int
    items: int
    opened: int | None


def rendered(findings: Sequence[Finding], counts: Counts, style: str) -> str:
    """Give the report in one of `FORMATS`."""
    return {"table": _table, "json": _json, "sarif": _sarif, "junit": _junit}[style](findings, counts)


def _table(findings: Sequence[Finding], counts: Counts) -> str:
    lines = []
    for finding in findings:
        head = f"{finding.where}: {finding.severity.value}: {finding.message}"
        lines.append(f"{head} ({finding.rule})")
        if finding.what:
            lines.append(f"    {finding.what}")
        if finding.cure:
            lines.append(f"    hint: {finding.cure}")
    opened = "" if counts.opened is None else f", {counts.opened} proven to open"
    summary = f"{counts.objects} SealedSecrets in {counts.files} files, {counts.items} items{opened}"
    lines.append(f"{summary}; {len(findings) or 'no'} finding{'' if len(findings) == 1 else 's'}")
    return "\n".join(lines) + "\n"


def _json(findings: Sequence[Finding], counts: Counts) -> str:
    body = {
        "findings": [
            {
                "rule": finding.rule,
                "severity": finding.severity.value,
                "path": finding.path,
                "line": finding.line,
                "object": finding.object,
                "item": finding.item,
                "message": finding.message,
                "cure": finding.cure,
            }
            for finding in findings
        ],
        "counts": {
            "files": counts.files,
            "objects": counts.objects,
            "items": counts.items,
            "opened": counts.opened,
            "findings": len(findings),
        },
    }
    return json.dumps(body, indent=2) + "\n"


def _sarif(findings: Sequence[Finding], _counts: Counts) -> str:
    from secretsops import __version__

    rules = sorted({finding.rule for finding in findings})
    level = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}
    results = [
        {
            "ruleId": finding.rule,
            "ruleIndex": rules.index(finding.rule),
            "level": level[finding.severity],
            "message": {"text": " ".join(filter(None, (finding.what, finding.message)))},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": finding.path},
                        **({"region": {"startLine": finding.line}} if finding.line else {}),
                    }
                }
            ],
        }
        for finding in findings
    ]
    driver = {"name": "seal lint", "version": __version__, "rules": [{"id": rule} for rule in rules]}
    return (
        json.dumps(
            {"$schema": _SARIF, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]},
            indent=2,
        )
        + "\n"
    )


def _junit(findings: Sequence[Finding], counts: Counts) -> str:
    """Give one test case per finding, and one that passes where there is none."""
    by_path: dict[str, list[Finding]] = {}
    for finding in findings:
        by_path.setdefault(finding.path, []).append(finding)
    failed = sum(1 for finding in findings if finding.severity is not Severity.NOTE)
    lines = ['<?xml version="1.0" encoding="UTF-8"?>']
    lines.append(f'<testsuite name="seal lint" tests="{max(1, len(findings))}" failures="{failed}">')
    for path, found in by_path.items():
        for finding in found:
            name = quoteattr(f"{finding.what or path}: {finding.rule}")
            lines.append(f"  <testcase classname={quoteattr(path)} name={name}>")
            tag = "skipped" if finding.severity is Severity.NOTE else "failure"
            message = quoteattr(f"{finding.where}: {finding.message}")
            kind = "" if tag == "skipped" else f" type={quoteattr(finding.rule)}"
            lines.append(f"    <{tag}{kind} message={message}/>")
            lines.append("  </testcase>")
    if not findings:
        lines.append(
            f'  <testcase classname="seal lint" name="{counts.items} items of {counts.objects} SealedSecrets"/>'
        )
    return "\n".join([*lines, "</testsuite>"]) + "\n"


def fails(findings: Sequence[Finding]) -> bool:
    """Say whether the exit code is 1."""
    return any(finding.severity is not Severity.NOTE for finding in findings)
