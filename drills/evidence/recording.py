"""The spine of a recorded run: take a turn, carry the drill out, write down how it ended, repeat, judge the spread.

A run begins after its start is in the chain, and whatever happens then, short of the process being killed, its end
gets there too. Never here: what a drill does (it is called), options, drawing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drills.evidence.chain import Link, Stage, verify
from drills.evidence.history import Outcome, Trend, outcomes, spread, trend
from drills.evidence.ledger import Ledger, append, read_latest, take_turn
from drills.record import Run, ended_record, refuse_unfit, stamp
from secretsops.errors import Refused, SecretsOpsError
from secretsops.ports import Clock

TREND_WINDOW = 20
"""Earlier runs that new ones are held against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be run, when it was due, how often, and by when one run must have ended (seconds)."""

    scenario: str
    scenario_hash: str
    tool: str
    slot: str = ""
    schedule: str = ""
    trigger: str = "manual"
    initiator: str = ""
    approver: str = ""
    repeat: int = 1
    limit: float = 3600.0
    patience: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What came of a plan: a record per run, and the trend against earlier runs. `repeated`: the slot had its run."""

    records: Sequence[Mapping[str, Any]]
    trend: Trend
    repeated: bool = False

    @property
    def exit_code(self) -> int:
        """Give 0 when all passed, 1 when one failed or all got slower, 3 when one is inconclusive."""
        codes = {int(record.get("exitCode", 3)) for record in self.records}
        if 1 in codes or self.trend.regressed:
            return 1
        return 0 if codes == {0} else 3


def carry_out(
    plan: Plan,
    once: Callable[[Run], Mapping[str, Any]],
    *,
    ledger: Ledger | None,
    clock: Clock,
    nonce: Callable[[], str],
    say: Callable[[str], None],
    threshold: int,
) -> Series:
    """Run a plan; `once` carries one run out and gives its sections (`drills.record`).

    Raises:
        Refused: it is not our turn; that is written down for the slot. WorldFailed: the chain's first place is away.
        Whatever `once` raises, after the end of that run is in the chain.
    """
    before = _earlier(ledger, plan, clock)
    records: list[Mapping[str, Any]] = []
    for number in range(1, plan.repeat + 1):
        run = _new_run(plan, number, clock.now(), nonce())
        done = None
        if ledger is not None:
            run, done = _turn(ledger, run, plan, say)
        if done is not None:
            say(f"slot {plan.slot} has run {done.run_id}: {done.record.get('verdict')}")
            return Series(records=[done.record], trend=trend([], [], threshold=threshold), repeated=True)
        records.append(_one(run, plan, once, ledger, clock))
    new = [_figure(record) for record in records]
    old = [each.recovered for each in _comparable(before, records)]
    return Series(records=records, trend=trend(new, old, threshold=threshold))


def figures(series: Series) -> dict[str, Any]:
    """Give median, p90 and worst of the runs, and the trend, as stable plain data."""
    found = spread([_figure(record) for record in series.records])
    return {
        "kind": "DrillSpread",
        "runs": len(series.records),
        "verdicts": {
            verdict: sum(1 for record in series.records if record.get("verdict") == verdict)
            for verdict in ("passed", "failed", "inconclusive")
        },
        "recoveredMs": {"median": found.median, "p90": found.p90, "worst": found.worst},
        "trend": {
            "beforeMs": series.trend.before,
            "percent": series.trend.percent,
            "regressed": series.trend.regressed,
        },
    }


def _one(
    run: Run,
    plan: Plan,
    once: Callable[[Run], Mapping[str, Any]],
    ledger: Ledger | None,
    clock: Clock,
) -> Mapping[str, Any]:
    try:
        sections = dict(once(run))
    except SecretsOpsError as error:
        _end(run, plan, {"verdict": "inconclusive", "message": f"{error.message} ({error.reason})"}, ledger, clock)
        raise
    except BaseException as error:
        # Ctrl-C, SIGTERM, a defect: only the name, for the text of a strange exception may hold anything.
        _end(run, plan, {"verdict": "failed", "message": f"stopped by {type(error).__name__}"}, ledger, clock)
        raise
    return _end(run, plan, sections, ledger, clock)


def _end(run: Run, plan: Plan, sections: Mapping[str, Any], ledger: Ledger | None, clock: Clock) -> Mapping[str, Any]:
    people = {**(sections.get("people") or {}), "approver": plan.approver}
    record = ended_record(run, {**sections, "people": people}, ended=clock.now())
    if ledger is not None:
        append(ledger, Stage.ENDED, record)
    return record


def _turn(ledger: Ledger, run: Run, plan: Plan, say: Callable[[str], None]) -> tuple[Run, Link | None]:
    try:
        turn = take_turn(ledger, run, patience=plan.patience, waiting=say)
    except Refused as error:
        if error.reason == "DrillRunning" and plan.slot:
            append(ledger, Stage.SKIPPED, _skipped(run, error.message))
        raise
    return turn.run, turn.done


def _skipped(run: Run, message: str) -> dict[str, Any]:
    return {
        "apiVersion": "secretsops.dev/v1",
        "kind": "DrillSkipped",
        "identity": run.identity(),
        "schedule": run.timing(),
        "message": message,
    }


def note(ledger: Ledger, run_id: str, body: Mapping[str, Any], *, slot: str = "", by: str = "") -> Link:
    """Append what came of a run, or why a slot had none: a finding, a review; signed by whoever writes it.

    Raises:
        Refused: something that a record cannot hold.
    """
    record = {
        "apiVersion": "secretsops.dev/v1",
        "kind": "DrillNote",
        "identity": {"runId": run_id},
        "schedule": {"expectedAt": slot},
        "at": stamp(ledger.clock.now()),
        "by": by,
        **body,
    }
    refuse_unfit(record)
    return append(ledger, Stage.SKIPPED if slot else Stage.NOTED, record)


def _new_run(plan: Plan, number: int, now: dt.datetime, nonce: str) -> Run:
    when = dt.datetime.fromisoformat(plan.slot) if plan.slot else now
    parts = [plan.scenario, when.strftime("%Y%m%dT%H%M%SZ")]
    if not plan.slot:
        parts.append(nonce[:6])
    if plan.repeat > 1:
        parts.append(f"r{number:02d}")
    return Run(
        id="-".join(parts),
        scenario=plan.scenario,
        started=now,
        deadline=now + dt.timedelta(seconds=plan.limit),
        nonce=nonce,
        tool=plan.tool,
        slot=plan.slot,
        schedule=plan.schedule,
        trigger=plan.trigger,
        initiator=plan.initiator,
        scenario_hash=plan.scenario_hash,
    )


def _earlier(ledger: Ledger | None, plan: Plan, clock: Clock) -> list[Outcome]:
    """Give the latest runs of the scenario; whether the chain holds is not asked here, a start asks it of its end."""
    if ledger is None:
        return []
    found = verify(read_latest(ledger.places[0]))
    return outcomes(found.links, now=stamp(clock.now()), scenario=plan.scenario)


def _comparable(before: Sequence[Outcome], records: Sequence[Mapping[str, Any]]) -> list[Outcome]:
    """Give the latest earlier runs on the same kind of cluster that recovered."""
    provider = (records[-1].get("environment") or {}).get("clusterProvider")
    same = [each for each in before if each.provider == provider and each.recovered is not None]
    return same[-TREND_WINDOW:]


def _figure(record: Mapping[str, Any]) -> int | None:
    found = (record.get("measured") or {}).get("rtaFromDisruptionMs")
    return found if type(found) is int else None
