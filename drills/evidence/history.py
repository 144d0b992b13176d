"""What a chain says of the runs in it: outcomes, the population of slots, spread, trend, regression. Pure.

A slot is the time from one tick of a schedule to the next. Done is one in which a run ended, whatever its verdict;
missed is one that passed without, with the reason where the chain knows it. Never here: reading places, drawing.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from drills.evidence.chain import Link, Stage
from secretsops.errors import UsageError

SCHEDULES: Mapping[str, str] = {
    "yearly": "0 0 1 1 *",
    "quarterly": "0 0 1 */3 *",
    "monthly": "0 0 1 * *",
    "weekly": "0 0 * * 1",
    "daily": "0 0 * * *",
    "hourly": "0 * * * *",
}
"""Words for schedules: calendar periods in UTC, weeks from Monday."""
SLOT_LIMIT = 10_000
"""Slots of one population: a drill an hour for a year."""
Ticks = Callable[[dt.datetime], Iterator[dt.datetime]]
"""Gives the ticks of a schedule after a time, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One attempt of a run. `verdict` is `failed` for one without an end; times in ms, None where not measured."""

    run_id: str
    attempt: int
    scenario: str
    slot: str
    trigger: str
    started: str
    ended: str
    verdict: str
    message: str
    provider: str
    recovered: int | None
    lost: int | None
    objective: int | None
    sequence: int
    running: bool = False


class Fate(StrEnum):
    """What became of a slot. `due` is the one that is not over yet."""

    DONE = "done"
    MISSED = "missed"
    DUE = "due"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One slot of a schedule: from `start` to the next tick, RFC 3339; the run that it had, or why it had none."""

    start: str
    end: str
    fate: Fate
    outcome: Outcome | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Figures of several runs in ms; `count` are those that reached the end."""

    count: int
    median: int | None
    p90: int | None
    worst: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Now against before: medians in ms, and the change in percent; None where either is not known."""

    now: int | None
    before: int | None
    percent: int | None
    regressed: bool


def outcomes(links: Sequence[Link], *, now: str, scenario: str = "") -> list[Outcome]:
    """Give every attempt in the order in which they began; one that began and never ended has failed."""
    ends = {(link.run_id, link.attempt): link for link in links if link.stage is Stage.ENDED}
    found = []
    for link in links:
        if link.stage is Stage.STARTED:
            outcome = _outcome(link, ends.get((link.run_id, link.attempt)), now)
            if not scenario or outcome.scenario == scenario:
                found.append(outcome)
    return found


def slots(
    found: Sequence[Outcome],
    ticks: Ticks,
    *,
    since: dt.datetime,
    until: dt.datetime,
    skipped: Mapping[str, str] | None = None,
) -> list[Slot]:
    """Give the population: every slot that began from `since` on, up to `until` (now).

    Of several runs in a slot the best counts: passed, then inconclusive, then failed. `skipped` maps slots to reasons.

    Raises:
        UsageError: more than `SLOT_LIMIT` slots.
    """
    starts = []
    for tick in ticks(since - dt.timedelta(seconds=1)):
        starts.append(tick)
        if tick > until:
            break
        if len(starts) > SLOT_LIMIT:
            raise UsageError(f"that are more than {SLOT_LIMIT} slots", reason="TooMany", hint="--since later")
    made = []
    for start, end in itertools.pairwise(starts):
        made.append(_slot(found, _text(start), _text(end), over=end <= until, skipped=skipped or {}))
    return made


def skips(links: Sequence[Link]) -> dict[str, str]:
    """Give why slots had no run, where somebody wrote that down."""
    found = {}
    for link in links:
        if link.stage is Stage.SKIPPED:
            slot, reason = _at(link.record, "schedule", "expectedAt"), link.record.get("message")
            found[_string(slot)] = _string(reason)
    return found


def with_notes(link: Link, links: Sequence[Link]) -> dict[str, Any]:
    """Give the record of a run with what was noted of it later: findings, and who reviewed it when.

    The record itself stays as it was signed: this is for showing.
    """
    record = dict(link.record)
    noted = [each for each in links if each.stage is Stage.NOTED and each.run_id == link.run_id]
    found = [each.record["deviation"] for each in noted if isinstance(each.record.get("deviation"), dict)]
    given = record.get("deviations")
    record["deviations"] = [*(given if isinstance(given, list) else []), *found]
    people = record.get("people")
    for each in noted:
        if _string(each.record.get("reviewer")):
            signed = {"independentReviewer": each.record["reviewer"], "signoffAt": _string(each.record.get("at"))}
            record["people"] = {**(people if isinstance(people, dict) else {}), **signed}
    return record


def spread(values: Sequence[int | None]) -> Spread:
    """Give median, 90th percentile (nearest rank) and worst."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return Spread(count=0, median=None, p90=None, worst=None)
    middle = len(known) // 2
    median = known[middle] if len(known) % 2 else (known[middle - 1] + known[middle]) // 2
    rank = -(-9 * len(known) // 10)
    return Spread(count=len(known), median=median, p90=known[rank - 1], worst=known[-1])


def trend(now: Sequence[int | None], before: Sequence[int | None], *, threshold: int, floor: int = 1000) -> Trend:
    """Hold the median of runs against that of earlier ones; regressed past `threshold` percent and `floor` ms."""
    new, old = spread(now).median, spread(before).median
    if new is None or not old:
        return Trend(now=new, before=old, percent=None, regressed=False)
    percent = (new - old) * 100 // old
    return Trend(now=new, before=old, percent=percent, regressed=percent > threshold and new - old > floor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Runs that may be held against each other: of one scenario on one kind of cluster."""

    scenario: str
    provider: str
    spread: Spread
    trend: Trend


def kinds(runs: Sequence[Outcome], *, threshold: int, latest: int = 3, before: int = 20) -> list[Kind]:
    """Give spread and trend (the `latest` runs against up to `before` earlier ones) for every kind of run there is."""
    found = []
    for scenario, provider in sorted({(run.scenario, run.provider) for run in runs if run.recovered is not None}):
        mine = [run.recovered for run in runs if (run.scenario, run.provider) == (scenario, provider)]
        times = [each for each in mine if each is not None]
        moved = trend(times[-latest:], times[:-latest][-before:], threshold=threshold)
        found.append(Kind(scenario=scenario, provider=provider, spread=spread(times), trend=moved))
    return found


def cron(expression: str) -> Ticks:
    """Give the ticks of a word of `SCHEDULES` or of a cron expression of five fields, in UTC.

    Raises:
        UsageError: it is neither. MissingExtra: the library that reads cron is not installed.
    """
    text = SCHEDULES.get(expression, expression).strip()
    try:
        from cronsim import CronSim, CronSimError
    except ImportError:
        from secretsops.errors import MissingExtra

        raise MissingExtra("render", needed_for="cron expressions") from None
    try:
        if len(text.split()) != 5 or len(text) > 200:
            raise UsageError(
                f"{expression[:60]!r} is no schedule",
                reason="BadSchedule",
                hint=f"{', '.join(SCHEDULES)}, or five fields",
            )
        CronSim(text, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    except CronSimError:
        raise UsageError(
            f"{expression[:60]!r} is no schedule", reason="BadSchedule", hint="minute hour day month weekday"
        ) from None
    return lambda after: iter(CronSim(text, after))


def slot_of(ticks: Ticks, now: dt.datetime) -> dt.datetime:
    """Give the slot that a moment lies in: the last tick up to it.

    Raises:
        UsageError: the schedule had no tick within the last two years.
    """
    for days in (2, 8, 40, 130, 400, 800):
        last = None
        for count, tick in enumerate(ticks(now - dt.timedelta(days=days))):
            if tick > now or count > SLOT_LIMIT:
                break
            last = tick
        if last is not None:
            return last
    raise UsageError("the schedule had no slot within two years", reason="BadSchedule")


def _outcome(start: Link, end: Link | None, now: str) -> Outcome:
    record = (end or start).record
    deadline = _string(_at(start.record, "schedule", "deadline"))
    running = end is None and deadline > now
    verdict = _string(record.get("verdict")) if end else "failed"
    message = _string(record.get("message")) if end else "it began and never ended"
    return Outcome(
        run_id=start.run_id,
        attempt=start.attempt,
        scenario=_string(_at(start.record, "identity", "drillName")),
        slot=_string(_at(start.record, "schedule", "expectedAt")),
        trigger=_string(_at(start.record, "schedule", "trigger")),
        started=_string(_at(start.record, "schedule", "startedAt")),
        ended=_string(_at(record, "schedule", "endedAt")) if end else "",
        verdict="running" if running else verdict if verdict in ("passed", "inconclusive") else "failed",
        message="" if running else message,
        provider=_string(_at(record, "environment", "clusterProvider")),
        recovered=_number(_at(record, "measured", "rtaFromDisruptionMs")),
        lost=_number(_at(record, "measured", "rpaMs")),
        objective=_number(_at(record, "objectives", "controlPlaneRtoMs")),
        sequence=start.sequence,
        running=running,
    )


_RANK = {"passed": 3, "inconclusive": 2, "failed": 1, "running": 0}


def _slot(found: Sequence[Outcome], start: str, end: str, *, over: bool, skipped: Mapping[str, str]) -> Slot:
    mine = [each for each in found if start <= (each.slot or each.started) < end]
    ended = [each for each in mine if each.ended]
    if ended:
        best = max(ended, key=lambda each: _RANK[each.verdict])
        return Slot(start=start, end=end, fate=Fate.DONE, outcome=best, reason=best.message)
    reason = skipped.get(start, "")
    if mine:
        reason = reason or ("it is running" if mine[-1].running else "a run began and never ended")
    fate = Fate.MISSED if over else Fate.DUE
    if not reason:
        reason = "no run was started" if over else "not over yet"
    return Slot(start=start, end=end, fate=fate, outcome=mine[-1] if mine else None, reason=reason)


def _at(record: Mapping[str, Any], section: str, name: str) -> Any:
    found = record.get(section)
    return found.get(name) if isinstance(found, dict) else None


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int | None:
    return value if type(value) is int else None


def _text(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
