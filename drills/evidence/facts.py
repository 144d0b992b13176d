"""What a record says, as values that can be drawn: every field typed, bounded, and absent where it is not there. Pure.

A record may be of another version, or of somebody who may not sign: nothing in it is taken to have a shape. Never here:
words for people beyond those of the record, drawing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ROW_LIMIT = 2_000
"""Rows of any table that is drawn; a page of more helps nobody."""
TEXT_LIMIT = 2_000
GOALS: Sequence[tuple[str, str, str, str]] = (
    ("controlPlaneRtoMs", "rtaFromDisruptionMs", "controlPlaneRto", "Control-plane RTO"),
    ("serviceRtoMs", "serviceRtaMs", "serviceRto", "Service RTO"),
    ("rpoMs", "rpaMs", "rpo", "RPO"),
    ("mtdMs", "rtaFromDisruptionMs", "mtd", "Maximum tolerable downtime"),
)
"""Objective, what is measured against it, its name under `measured.met`, words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One step or part of one: times in ms from the start of the drill, `depth` 0 for steps."""

    name: str
    path: str
    start: int
    took: int
    ok: bool
    message: str
    depth: int
    whole: bool
    """Without parts of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """One stretch of the critical path, ms."""

    name: str
    start: int
    took: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One objective and what was measured, ms; `met` is None where either is not known.

    `not_applicable` says why it cannot be measured on this cluster; then it is listed and never counts.
    """

    name: str
    goal: int
    measured: int | None
    met: bool | None
    not_applicable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One check: `verdict` is pass, fail, skip or inconclusive."""

    name: str
    sort: str
    verdict: str
    expected: str
    actual: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRow:
    """One Secret or external secret: where its value came from, what became of it."""

    name: str
    source: str
    verdict: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """Something that has to be dealt with: who does, by when."""

    finding: str
    severity: str
    owner: str
    due: str
    ticket: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRow:
    """One application: ms from the start of the drill, None not reached."""

    name: str
    started: int | None
    healthy: int | None
    result: str
    waited: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A whole record. `facts` are pairs of words for the table of what was run on what."""

    scenario: str
    run_id: str
    attempt: int
    verdict: str
    message: str
    provider: str
    simulated: bool
    hypothesis: str
    started: str
    ended: str
    slot: str
    late: int | None
    trigger: str
    bars: Sequence[Bar]
    marks: Sequence[tuple[str, int]]
    path: Sequence[Stretch]
    goals: Sequence[Goal]
    measures: Sequence[tuple[str, int]]
    rpa: Sequence[tuple[str, int | None]]
    checks: Sequence[Checked]
    secrets: Sequence[SecretRow]
    expected_secrets: int | None
    recovered_secrets: int | None
    apps: Sequence[AppRow]
    deviations: Sequence[Deviation]
    isolation: Sequence[str]
    inventory: Sequence[tuple[str, str]]
    cleanup: str
    facts: Sequence[tuple[str, str]]

    @property
    def seconds_lost(self) -> int | None:
        """Give how much was lost, ms."""
        return next((goal.measured for goal in self.goals if goal.name == "RPO"), dict(self.measures).get("Lost"))

    @property
    def recovered(self) -> int | None:
        """Give the time from disruption to recovery, ms."""
        return dict(self.measures).get("From disruption")

    @property
    def failed_checks(self) -> Sequence[Checked]:
        """Give the checks that did not hold, or were not made."""
        return [check for check in self.checks if check.verdict != "pass"]


def read_facts(record: Mapping[str, Any]) -> Facts:
    """Give the facts of a record; anything that is not of its type counts as absent."""
    identity, timing = _map(record, "identity"), _map(record, "schedule")
    environment, measured = _map(record, "environment"), _map(record, "measured")
    classification, secrets = _map(record, "classification"), _map(record, "secrets")
    verdict = _text(record, "verdict")
    return Facts(
        scenario=_text(identity, "drillName") or _text(classification, "scenario") or "drill",
        run_id=_text(identity, "runId"),
        attempt=_number(identity, "attempt") or 1,
        verdict=verdict if verdict in ("passed", "failed", "inconclusive") else "failed",
        message=_text(record, "message"),
        provider=_text(environment, "clusterProvider"),
        simulated=_text(classification, "nodes") != "real",
        hypothesis=_text(classification, "hypothesis"),
        started=_text(timing, "startedAt"),
        ended=_text(timing, "endedAt"),
        slot=_text(timing, "expectedAt"),
        late=_number(timing, "lateMs"),
        trigger=_text(timing, "trigger"),
        bars=list(_bars(record)),
        marks=[(_text(mark, "name"), _number(mark, "monotonicMs") or 0) for mark in _rows(record, "marks")],
        path=[
            Stretch(name=_text(each, "name"), start=_number(each, "atMs") or 0, took=_number(each, "durationMs") or 0)
            for each in _rows(record, "criticalPath")
        ],
        goals=list(_goals(_map(record, "objectives"), measured)),
        measures=list(_measures(measured)),
        rpa=[(str(name)[:80], value if type(value) is int else None) for name, value in _pairs(measured, "rpa")],
        checks=[_check(each) for each in _rows(record, "checks")],
        secrets=[_secret(each) for each in _rows(secrets, "perKey")],
        expected_secrets=_number(secrets, "expected"),
        recovered_secrets=_number(secrets, "recovered"),
        apps=[_app(each) for each in _rows(record, "apps")],
        deviations=[_deviation(each) for each in _rows(record, "deviations")],
        isolation=_texts(environment, "isolationTransforms"),
        inventory=list(_inventory(_map(record, "inventory"))),
        cleanup=_cleanup(_map(record, "cleanup")),
        facts=list(_facts(record)),
    )


def shown(milliseconds: int | None) -> str:
    """Give a time for people: `unknown`, `0 s`, `850 ms`, `42.0 s`, `3 min 05 s`, `1 h 02 min`."""
    if milliseconds is None:
        return "unknown"
    if milliseconds < 0:
        return "-" + shown(-milliseconds)
    if milliseconds < 1000:
        return f"{milliseconds} ms" if milliseconds else "0 s"
    if milliseconds < 120_000:
        return f"{milliseconds / 1000:.1f} s"
    whole = round(milliseconds / 1000)
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def day(text: str) -> str:
    """Give an RFC 3339 time for people, as it is where it is none."""
    try:
        return dt.datetime.fromisoformat(text).astimezone(dt.UTC).strftime("%d %b %Y, %H:%M UTC")
    except (ValueError, OverflowError):
        return text[:40]


def _bars(record: Mapping[str, Any]) -> Iterator[Bar]:
    stack = [("", 0, line) for line in reversed(_rows(record, "timeline"))]
    for _ in range(ROW_LIMIT):
        if not stack:
            return
        path, depth, line = stack.pop()
        name = _text(line, "event")
        parts = _rows(line, "parts") if depth < 4 else []
        yield Bar(
            name=name,
            path=f"{path}{name}",
            start=_number(line, "monotonicMs") or 0,
            took=_number(line, "durationMs") or 0,
            ok=line.get("ok") is True,
            message=_text(line, "message"),
            depth=depth,
            whole=not parts,
        )
        stack += [(f"{path}{name}: ", depth + 1, part) for part in reversed(parts)]


def _goals(objectives: Mapping[str, Any], measured: Mapping[str, Any]) -> Iterator[Goal]:
    met = _map(measured, "met")
    for goal, figure, name, words in GOALS:
        wanted = _number(objectives, goal)
        if wanted is None:
            continue
        found = _number(measured, figure)
        said = met.get(name) if name in met else (None if found is None else found <= wanted)
        yield Goal(name=words, goal=wanted, measured=found, met=said if isinstance(said, bool) else None)
    yield from _further(objectives)


def _further(objectives: Mapping[str, Any]) -> Iterator[Goal]:
    """Give goals of tiers, and those that the fixed fields do not hold."""
    names = {"controlPlaneRto": "Control-plane RTO", "serviceRto": "Service RTO", "rpo": "RPO", "mtd": "MTD"}
    for each in _rows(objectives, "goals"):
        name, tier = _text(each, "name"), _text(each, "tier")
        wanted, met = _number(each, "objectiveMs"), each.get("met")
        if wanted is None or (not tier and name in ("controlPlaneRto", "rpo")):
            continue
        yield Goal(
            name=names.get(name, name) + (f", tier {tier}" if tier else ""),
            goal=wanted,
            measured=_number(each, "measuredMs"),
            met=met if isinstance(met, bool) else None,
            not_applicable=_text(each, "notApplicable"),
        )


def _measures(measured: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    names = {
        "rtaFromDisruptionMs": "From disruption",
        "rtaFromDeclarationMs": "From declaration",
        "machineTimeMs": "Machine time",
        "verifiedTimeMs": "Until verified",
        "rpaMs": "Lost",
    }
    for name, words in names.items():
        if (value := _number(measured, name)) is not None:
            yield words, value


def _check(each: Mapping[str, Any]) -> Checked:
    verdict = _text(each, "verdict")
    return Checked(
        name=_text(each, "id"),
        sort=_text(each, "class"),
        verdict=verdict if verdict in ("pass", "fail", "skip", "inconclusive") else "inconclusive",
        expected=_text(each, "expected"),
        actual=_text(each, "actual"),
    )


def _secret(each: Mapping[str, Any]) -> SecretRow:
    return SecretRow(
        name=_text(each, "name"), source=_text(each, "source"), verdict=_text(each, "verdict"), note=_text(each, "note")
    )


def _app(each: Mapping[str, Any]) -> AppRow:
    return AppRow(
        name=_text(each, "name"),
        started=_number(each, "startedAtMs"),
        healthy=_number(each, "healthyAtMs"),
        result=_text(each, "result"),
        waited=_text(each, "waitReason"),
    )


def _deviation(each: Mapping[str, Any]) -> Deviation:
    names = ("finding", "severity", "owner", "due", "ticket")
    return Deviation(**{name: _text(each, name) for name in names})


def _inventory(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, words in (("expectedObjects", "expected"), ("present", "present")):
        if (count := _number(found, name)) is not None:
            yield words, str(count)
    for name in ("missing", "extra", "differing"):
        if named := _texts(found, name):
            more = f" and {len(named) - 10} more" if len(named) > 10 else ""
            yield name, ", ".join(named[:10]) + more


def _cleanup(found: Mapping[str, Any]) -> str:
    left = _texts(found, "leftover")
    if left:
        return f"{len(left)} left over: {', '.join(left[:5])}"
    verified, destroyed = _text(found, "verifiedAt"), _number(found, "destroyed")
    if not verified:
        return "not recorded"
    return f"{destroyed} destroyed, nothing left over, verified {verified}" if destroyed else f"verified {verified}"


def _facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    places = (
        ("Tool", "identity", "toolVersion"),
        ("Scenario, SHA-256", "identity", "scenarioHash"),
        ("Plan, SHA-256", "identity", "planHash"),
        ("Exercise type", "classification", "exerciseType"),
        ("Nodes", "classification", "nodes"),
        ("Tier", "classification", "tier"),
        ("Cluster", "environment", "clusterProvider"),
        ("Kubernetes", "environment", "k8sVersion"),
        ("Egress", "environment", "egressPolicy"),
        ("Repository", "source", "repoUrl"),
        ("Commit", "source", "commit"),
        ("Commit signed by", "source", "signer"),
        ("Initiated by", "people", "initiator"),
        ("Approved by", "people", "approver"),
        ("Reviewed by", "people", "independentReviewer"),
        ("Signed off", "people", "signoffAt"),
        ("Key ceremony", "keys", "ceremonyRef"),
    )
    for words, section, name in places:
        if value := _text(_map(record, section), name):
            yield words, value
    lists = (
        ("Operators", "people", "operators"),
        ("Scope", "classification", "scope"),
        ("Escrow", "keys", "escrowIds"),
        ("Sealing certificates", "keys", "certFingerprints"),
        ("Segregation proof", "environment", "segregationProof"),
    )
    for words, section, name in lists:
        if values := _texts(_map(record, section), name):
            yield words, ", ".join(values)


def _map(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = record.get(name)
    return found if isinstance(found, dict) else {}


def _pairs(record: Mapping[str, Any], name: str) -> list[tuple[Any, Any]]:
    return list(_map(record, name).items())[:ROW_LIMIT]


def _rows(record: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = record.get(name)
    return [each for each in found[:ROW_LIMIT] if isinstance(each, dict)] if isinstance(found, list) else []


def _texts(record: Mapping[str, Any], name: str) -> list[str]:
    found = record.get(name)
    return [str(each)[:TEXT_LIMIT] for each in found[:ROW_LIMIT]] if isinstance(found, list) else []


def _text(record: Mapping[str, Any], name: str) -> str:
    found = record.get(name)
    return found[:TEXT_LIMIT] if isinstance(found, str) else ""


def _number(record: Mapping[str, Any], name: str) -> int | None:
    found = record.get(name)
    return found if type(found) is int and abs(found) < 2**53 else None
