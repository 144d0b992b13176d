"""One run as plain data for evidence: the record that is signed, kept, compared and drawn. Pure.

Texts, whole numbers, booleans, null, lists and mappings: no floating point, so that a record has one canonical text
(`secretsops.escrow.canonical`). Durations are whole milliseconds and end in `Ms`, times are RFC 3339 in UTC. A record
has every section of `SECTIONS`; what a run does not know is null or empty, never left out and never zero.

Never here: secret values or digests of them, signing (`drills/evidence`), drawing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secretsops.errors import Refused
from secretsops.escrow import canonical

API_VERSION, KIND, SCHEMA = "secretsops.dev/v1", "DrillRecord", 1
SECTIONS: Mapping[str, Any] = {
    "identity": {},
    "classification": {},
    "schedule": {},
    "people": {"initiator": "", "approver": "", "operators": [], "independentReviewer": "", "signoffAt": ""},
    "source": {"repoUrl": "", "commit": "", "signatureVerified": None, "signer": "", "revisionPerApp": {}},
    "environment": {
        "clusterProvider": "",
        "k8sVersion": "",
        "isolationTransforms": [],
        "egressPolicy": "",
        "segregationProof": [],
    },
    "keys": {"escrowIds": [], "certFingerprints": [], "shareIndexesUsed": [], "threshold": None, "ceremonyRef": ""},
    "timeline": [],
    "marks": [],
    "objectives": {},
    "measured": {},
    "apps": [],
    "criticalPath": [],
    "secrets": {"expected": None, "recovered": None, "failed": None, "perKey": [], "newerThanEscrow": None},
    "inventory": {"expectedObjects": None, "present": None, "missing": [], "extra": [], "differing": []},
    "checks": [],
    "manualInterventions": [],
    "deviations": [],
    "comparison": {},
    "controls": [],
    "cleanup": {"resourcesCreated": None, "destroyed": None, "leftover": [], "verifiedAt": ""},
    "verdict": "inconclusive",
    "message": "",
    "exitCode": 3,
    "artefacts": [],
}
"""Every section (D5 of the reference) and what stands there when a run knows nothing of it."""
EXIT_CODES: Mapping[str, int] = {"passed": 0, "failed": 1, "inconclusive": 3}
DEPTH_LIMIT, TEXT_LIMIT, ITEM_LIMIT = 12, 16_384, 20_000
"""Nesting, characters of one text, entries of one list or mapping: far above any real run."""
_OWN = ("people", "keys", "apps", "secrets", "inventory", "manualInterventions", "deviations", "artefacts")
"""Sections that a report may hold under their own names; every other is made by `of_report`."""
_GAP = "between steps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Who runs what, when and why: known before step one. `slot` is the time it was due, "" for a run by hand.

    `deadline` is when it must have ended: after it, a run without an end is a failed one and blocks no other.
    """

    id: str
    scenario: str
    started: dt.datetime
    deadline: dt.datetime
    nonce: str
    tool: str
    slot: str = ""
    schedule: str = ""
    trigger: str = "manual"
    attempt: int = 1
    initiator: str = ""
    scenario_hash: str = ""
    plan_hash: str = ""

    def identity(self) -> dict[str, Any]:
        """Give section `identity`."""
        return {
            "schemaVersion": SCHEMA,
            "reportId": f"{self.id}.{self.attempt}",
            "drillName": self.scenario,
            "runId": self.id,
            "attempt": self.attempt,
            "nonce": self.nonce,
            "toolVersion": self.tool,
            "planHash": self.plan_hash,
            "scenarioHash": self.scenario_hash,
        }

    def timing(self) -> dict[str, Any]:
        """Give section `schedule`; late is counted from the slot."""
        late = None
        if self.slot:
            late = _milliseconds((self.started - dt.datetime.fromisoformat(self.slot)).total_seconds())
        return {
            "trigger": self.trigger,
            "expectedAt": self.slot,
            "schedule": self.schedule,
            "startedAt": stamp(self.started),
            "deadline": stamp(self.deadline),
            "lateMs": late,
        }


def started_record(run: Run) -> dict[str, Any]:
    """Give what is written down before step one: slot, nonce, hashes, who."""
    return {
        "apiVersion": API_VERSION,
        "kind": "DrillStarted",
        "identity": run.identity(),
        "schedule": run.timing(),
        "people": {**SECTIONS["people"], "initiator": run.initiator},
    }


def ended_record(run: Run, sections: Mapping[str, Any], *, ended: dt.datetime) -> dict[str, Any]:
    """Give the record of a finished run: the sections it knows over those it does not.

    A mapping section is laid over its default field by field, so a drill gives only the fields that it measured.

    Raises:
        Refused: an unknown section, or something that canonical JSON cannot hold; reason `BadRecord`.
    """
    unknown = sorted(set(sections) - set(SECTIONS))
    if unknown:
        raise Refused(f"a drill's record has no section '{unknown[0]}'", reason="BadRecord")
    whole: dict[str, Any] = {"apiVersion": API_VERSION, "kind": KIND}
    for name, empty in SECTIONS.items():
        given = sections.get(name, empty)
        whole[name] = {**empty, **given} if isinstance(empty, dict) and isinstance(given, dict) else given
    plan = whole["identity"].get("planHash") or run.plan_hash
    whole["identity"] = {**whole["identity"], **run.identity(), "planHash": plan}
    whole["schedule"] = {**whole["schedule"], **run.timing(), "endedAt": stamp(ended)}
    whole["people"] = {**whole["people"], "initiator": whole["people"]["initiator"] or run.initiator}
    whole["exitCode"] = EXIT_CODES.get(whole["verdict"], 3)
    refuse_unfit(whole)
    return whole


def of_report(body: Mapping[str, Any]) -> dict[str, Any]:
    """Give the sections that a drill's report (`Report.body`, times in seconds) can fill.

    A section that the report holds under its own name and in its own shape is taken over as it is.
    """
    zero = dt.datetime.fromisoformat(body["started"])
    lines = [_line(span, zero) for span in body["timeline"]]
    marks = [{"name": mark["name"], **_moment(mark["at"], zero)} for mark in body["marks"]]
    at = {mark["name"]: mark["monotonicMs"] for mark in marks}
    path = critical_path(lines, at.get("disrupted"), at.get("recovered"))
    own = {name: settled(body[name]) for name in _OWN if isinstance(body.get(name), type(SECTIONS[name]))}
    return {
        **own,
        "classification": {
            "exerciseType": "functional",
            "scenario": body["scenario"],
            "nodes": "simulated" if body["backend"] in ("control-plane", "embedded") else "real",
            "hypothesis": body.get("hypothesis") or "",
            "scope": [],
            "tier": "",
            "twin": bool(body.get("twin")),
        },
        "source": {"revisionPerApp": settled(body.get("revisions") or {})},
        "environment": {
            "clusterProvider": body["backend"],
            "k8sVersion": body.get("kubernetes") or "",
            "isolationTransforms": list(body.get("transforms") or ()),
            "segregationProof": _proofs(body.get("isolation")),
        },
        "timeline": lines,
        "marks": marks,
        **_measured(body),
        "apps": own.get("apps") or [_app(app) for app in body.get("applications") or ()],
        "criticalPath": _with_waits(path, body.get("waits") or ()),
        "checks": [_check(check) for check in body["checks"]],
        "cleanup": _cleanup(body.get("cleanup"), zero, lines),
        "verdict": body["verdict"],
        "message": body["message"],
    }


def _measured(body: Mapping[str, Any]) -> dict[str, Any]:
    """Give sections `objectives` and `measured`."""
    rto, rpo = body["controlPlaneRto"], body["rpo"]
    recovered, goal = _milliseconds(rto["fromDisruption"]), _milliseconds(rto["objective"])
    lost, allowed = _milliseconds(rpo["seconds"]), _milliseconds(rpo["objective"])
    named = [settled(each) for each in body.get("objectives") or () if isinstance(each, Mapping)]
    return {
        "objectives": {
            "controlPlaneRtoMs": goal,
            "serviceRtoMs": None,
            "rpoMs": allowed,
            "mtdMs": None,
            "goals": named,
        },
        "measured": {
            "rtaFromDisruptionMs": recovered,
            "rtaFromDeclarationMs": _milliseconds(rto["fromDeclaration"]),
            "machineTimeMs": _milliseconds(rto["machineTime"]),
            "verifiedTimeMs": None,
            "rpaMs": lost,
            "rpa": settled(body.get("rpa") or {}),
            "met": {"controlPlaneRto": _met(recovered, goal), "serviceRto": None, "rpo": _met(lost, allowed)},
        },
    }


def _with_waits(path: Sequence[dict[str, Any]], waits: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Cut the stretches of a path where something by name was awaited: `11 s: waiting for the CRD of …`."""
    named = [
        (_milliseconds(wait["at"]) or 0, (_milliseconds(wait["at"]) or 0) + (_milliseconds(wait["seconds"]) or 0), wait)
        for wait in waits
        if wait.get("for")
    ]
    found: list[dict[str, Any]] = []
    for stretch in path:
        cursor, end = stretch["atMs"], stretch["atMs"] + stretch["durationMs"]
        for start, stop, wait in sorted(named, key=lambda each: each[0]):
            left, right = max(start, cursor), min(stop, end)
            if right <= left:
                continue
            if left > cursor:
                found.append({"name": stretch["name"], "atMs": cursor, "durationMs": left - cursor})
            words = f"{stretch['name']}: waiting for {wait['for']}"
            found.append({"name": words[:TEXT_LIMIT], "atMs": left, "durationMs": right - left})
            cursor = right
        if end > cursor:
            found.append({"name": stretch["name"], "atMs": cursor, "durationMs": end - cursor})
    return found


def _app(app: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": app["application"],
        "startedAtMs": _milliseconds(app["started"]),
        "healthyAtMs": _milliseconds(app["ended"]) if app["ok"] else None,
        "result": "healthy" if app["ok"] else "failed",
        "objects": app.get("objects"),
        "waitReason": "",
        "waves": settled(app.get("waves") or []),
    }


def _proofs(found: object) -> list[str]:
    """Give what was proven of isolation, or not, in words."""
    words = {True: "proven", False: "DISPROVEN", None: "not proven"}
    rows = found if isinstance(found, list | tuple) else []
    return [f"{each['name']}: {words[each['ok']]}{', ' + each['message'] if each['message'] else ''}" for each in rows]


def _cleanup(found: object, zero: dt.datetime, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if isinstance(found, Mapping):
        return dict(settled(found))
    rows = found if isinstance(found, list | tuple) else []
    left = [f"{each['name']}: {each['message']}" for each in rows if each["ok"] is not True]
    end = max([line["monotonicMs"] + line["durationMs"] for line in lines], default=0)
    verified = stamp(zero + dt.timedelta(milliseconds=end)) if rows and not left else ""
    return {"resourcesCreated": len(rows) or None, "destroyed": len(rows) - len(left) if rows else None,
            "leftover": left, "verifiedAt": verified}  # fmt: skip


def settled(value: Any) -> Any:
    """Give a value without floating point: seconds under `x` become whole milliseconds under `xMs`."""
    if isinstance(value, Mapping):
        pairs = [(f"{key}Ms" if isinstance(each, float) else str(key), each) for key, each in value.items()]
        return {key.replace("secondsMs", "durationMs"): settled(each) for key, each in pairs}
    if isinstance(value, list | tuple):
        return [settled(each) for each in value]
    return _milliseconds(value) if isinstance(value, float) else value


def critical_path(lines: Sequence[Mapping[str, Any]], start: int | None, end: int | None) -> list[dict[str, Any]]:
    """Give what the time from `start` to `end` (ms) went to, in order: walking back, always what ended last.

    Of steps that ran at once the one that ended last held the rest up; time that no step covers is named as such.
    Empty where either end is unknown.
    """
    if start is None or end is None or end <= start:
        return []
    leaves = [(line["monotonicMs"], line["monotonicMs"] + line["durationMs"], name) for name, line in _leaves(lines)]
    found: list[dict[str, Any]] = []
    cursor = end
    while cursor > start:
        before = [(min(stop, cursor), -begin, name) for begin, stop, name in leaves if begin < cursor and stop > start]
        stop, begin, name = max(before, default=(start, -start, ""))
        stop, begin = max(stop, start), max(-begin, start)
        if stop < cursor:
            found.append({"name": _around(lines, stop, cursor), "atMs": stop, "durationMs": cursor - stop})
        if stop > begin:
            found.append({"name": name, "atMs": begin, "durationMs": stop - begin})
        cursor = begin
    return found[::-1]


def refuse_unfit(body: object) -> None:
    """Refuse what has no canonical text or is past a limit.

    Raises:
        Refused: reason `BadRecord`; the path of what is wrong is named.
    """
    problem = next(_unfit(body, "record", 0), "")
    if not problem and len(canonical.encode(body)) > canonical.SIZE_LIMIT // 2:
        problem = f"record is larger than {canonical.SIZE_LIMIT // 2} bytes"
    if problem:
        raise Refused(problem, reason="BadRecord")


def stamp(moment: dt.datetime) -> str:
    """Give RFC 3339 in UTC, to the second."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _unfit(value: object, where: str, depth: int) -> Iterator[str]:
    if depth > DEPTH_LIMIT:
        yield f"{where} is nested too deep"
        return
    if isinstance(value, Mapping | list):
        if len(value) > ITEM_LIMIT:
            yield f"{where} has more than {ITEM_LIMIT} entries"
            return
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, each in pairs:
            if isinstance(value, Mapping) and not isinstance(key, str):
                yield f"{where} has a key that is no text"
            yield from _unfit(each, f"{where}.{key}", depth + 1)
    elif isinstance(value, str):
        if len(value) > TEXT_LIMIT or any("\ud800" <= char <= "\udfff" for char in value):
            yield f"{where} is no text of at most {TEXT_LIMIT} characters"
    elif not (value is None or type(value) in (bool, int)):
        yield f"{where} is a {type(value).__name__}, which a record cannot hold"
    elif type(value) is int and abs(value) > 2**53 - 1:
        yield f"{where} is no number that every reader of JSON keeps"


def _leaves(lines: Sequence[Mapping[str, Any]], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for line in lines:
        name = f"{path}{line['event']}"
        if line.get("parts"):
            yield from _leaves(line["parts"], f"{name}: ")
        else:
            yield name, line


def _around(lines: Sequence[Mapping[str, Any]], start: int, end: int) -> str:
    """Name the step that a time belongs to which none of its parts covers."""
    middle = (start + end) // 2
    inside = [line for line in lines if line["monotonicMs"] <= middle < line["monotonicMs"] + line["durationMs"]]
    return f"{inside[0]['event']}: not in any part" if inside else _GAP


def _line(span: Mapping[str, Any], zero: dt.datetime) -> dict[str, Any]:
    return {
        "event": span["name"],
        **_moment(span["at"], zero),
        "durationMs": _milliseconds(span["seconds"]),
        "ok": span["ok"],
        "actor": "automatic",
        "message": span.get("message", ""),
        "parts": [_line(part, zero) for part in span.get("parts", ())],
    }


def _moment(at: float, zero: dt.datetime) -> dict[str, Any]:
    return {"utc": stamp(zero + dt.timedelta(seconds=at)), "monotonicMs": _milliseconds(at)}


def _check(check: Mapping[str, Any]) -> dict[str, Any]:
    verdict = {True: "pass", False: "fail", None: "inconclusive"}[check["ok"]]
    return {
        "id": check["name"],
        "class": "integrity" if check["name"] != "applications-healthy" else "availability",
        "verdict": verdict,
        "expected": "",
        "actual": check["message"],
        "evidenceHash": "",
    }


def _met(measured: int | None, goal: int | None) -> bool | None:
    return None if measured is None or goal is None else measured <= goal


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
