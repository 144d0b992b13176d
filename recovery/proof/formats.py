"""Findings as table, JSON, SARIF 2.1.0 and JUnit. Pure text. Never here: what is found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from recovery.proof.finding import Finding, Rule, Severity
from secretsops import __version__

FORMATS = ("table", "json", "yaml", "sarif", "junit")
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def body_of(findings: Sequence[Finding]) -> dict[str, Any]:
    """Give findings as stable plain data."""
    return {
        "findings": [
            {
                "rule": finding.rule,
                "severity": finding.severity.value,
                "objects": list(finding.objects),
                "message": finding.message,
                "cure": finding.cure,
            }
            for finding in findings
        ],
        "counts": counts(findings),
    }


def counts(findings: Sequence[Finding]) -> Mapping[str, int]:
    """Give how many findings there are of each severity."""
    return {s.value: sum(1 for finding in findings if finding.severity is s) for s in Severity}


def table(findings: Sequence[Finding]) -> str:
    """Give findings for a terminal, the cure of each rule once."""
    lines = []
    for number, finding in enumerate(findings):
        lines.append(f"{finding.severity.value:<8}{finding.rule}: {finding.message}")
        following = findings[number + 1] if number + 1 < len(findings) else None
        if following is None or following.rule != finding.rule:
            lines.append(f"{'':<8}cure: {finding.cure}")
    number_of = counts(findings)
    lines.append(", ".join(f"{number_of[s.value]} {s.value}(s)" for s in Severity))
    return "\n".join(lines) + "\n"


def sarif(findings: Sequence[Finding], rules: Sequence[Rule], *, where: str) -> str:
    """Give SARIF 2.1.0, as code-scanning services read it; `where` is the file that stands for the estate."""
    driver = {
        "name": "secretsops recover lint",
        "version": __version__,
        "rules": [
            {
                "id": rule.id,
                "shortDescription": {"text": rule.title},
                "help": {"text": rule.cure},
                "defaultConfiguration": {"level": rule.severity.value},
            }
            for rule in rules
        ],
    }
    results = [
        {
            "ruleId": finding.rule,
            "level": finding.severity.value,
            "message": {"text": f"{finding.message}. Cure: {finding.cure}."},
            "locations": [
                {
                    "physicalLocation": {"artifactLocation": {"uri": where}},
                    "logicalLocations": [{"fullyQualifiedName": name} for name in finding.objects],
                }
            ],
        }
        for finding in findings
    ]
    run = {"tool": {"driver": driver}, "results": results}
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def junit(findings: Sequence[Finding], rules: Sequence[Rule]) -> str:
    """Give JUnit XML: one case per rule; errors fail it, warnings and notes are its output."""
    cases = []
    failed = 0
    for rule in rules:
        mine = [finding for finding in findings if finding.rule == rule.id]
        text = escape(_printable("\n".join(finding.message for finding in mine)))
        inner = ""
        if mine and rule.severity is Severity.ERROR:
            failed += 1
            inner = f"<failure message={quoteattr(f'{len(mine)} finding(s); cure: {rule.cure}')}>{text}</failure>"
        elif mine:
            inner = f"<system-out>{text}</system-out>"
        cases.append(f'  <testcase classname="recover.lint" name={quoteattr(rule.id)}>{inner}</testcase>')
    head = f'<testsuite name="recover lint" tests="{len(rules)}" failures="{failed}">'
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', head, *cases, "</testsuite>", ""])


def _printable(text: str) -> str:
    """Leave out what XML 1.0 has no way to write."""
    return "".join(letter for letter in text if letter in "\t\n\r" or ord(letter) >= 32)
