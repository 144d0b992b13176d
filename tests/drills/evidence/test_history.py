"""The population of a schedule: what was due, done, missed and why; spread, trend, comparison of two runs."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drills.evidence.chain import Stage, verify
from drills.evidence.comparison import compare
from drills.evidence.history import Fate, cron, kinds, outcomes, skips, slots, spread, trend, with_notes
from drills.record import ended_record, of_report
from tests.drills.evidence.chains import DAY, Ledger, report, run

NOW = dt.datetime(2026, 12, 10, tzinfo=dt.UTC)


def at(month: int, day: int = 10) -> dt.datetime:
    return dt.datetime(2026, month, day, tzinfo=dt.UTC)


def test_the_population_of_a_year() -> None:
    """Quarters: one done, one with a run that never ended, one skipped for a reason, one that is not over."""
    made = Ledger()
    made.whole(run(1, started=at(2)), report(verdict="failed", at=at(2)))
    made.whole(run(2, started=at(3)), report(at=at(3)))
    made.start(run(3, started=at(5)))
    slot = run(4, slot="2026-07-01T00:00:00Z", started=at(7))
    skipped = {"identity": slot.identity(), "schedule": slot.timing(), "message": "run-9 runs"}
    made.add(Stage.SKIPPED, skipped)
    links = verify(made.files).links
    runs = outcomes(links, now="2026-12-10T00:00:00Z")
    found = slots(runs, cron("quarterly"), since=at(1, 1), until=NOW, skipped=skips(links))
    assert [(slot.start[:7], slot.fate, slot.reason) for slot in found] == [
        ("2026-01", Fate.DONE, ""),
        ("2026-04", Fate.MISSED, "a run began and never ended"),
        ("2026-07", Fate.MISSED, "run-9 runs"),
        ("2026-10", Fate.DUE, "not over yet"),
    ]
    assert found[0].outcome is not None
    assert found[0].outcome.run_id == "run-2", "the best of the runs of a slot counts"
    assert [slot.reason for slot in slots([], cron("monthly"), since=at(9, 1), until=at(11, 2))] == [
        "no run was started",
        "no run was started",
        "not over yet",
    ]


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=60))
def test_a_spread_is_of_its_values(values: list[int]) -> None:
    """Median ≤ p90 ≤ worst, all within the values; nine of ten are at most the p90."""
    found = spread([*values, None])
    assert found.count == len(values)
    assert found.median is not None
    assert found.p90 is not None
    assert min(values) <= found.median <= found.p90 <= (found.worst or 0) == max(values)
    assert sum(1 for value in values if value <= found.p90) * 10 >= 9 * len(values)
    assert found.p90 in values


def test_a_trend_needs_both_sides_and_more_than_noise() -> None:
    """Unknown is no regression; 30 % of half a second is noise; 30 % of ten seconds is not."""
    assert trend([None], [10], threshold=25).percent is None
    assert not trend([650], [500], threshold=25).regressed
    assert trend([13_000], [10_000], threshold=25).regressed
    assert not trend([12_000], [10_000], threshold=25).regressed


def test_runs_are_held_against_their_own_kind() -> None:
    """Another scenario, or the stand-in beside a real control plane, is no slower run of the same."""
    made = Ledger()
    for number in range(8):
        body = report(recovered=10 if number % 2 else 60)
        body["backend"] = "embedded" if number % 2 else "control-plane"
        made.whole(run(number), body)
    runs = outcomes(verify(made.files).links, now="2026-02-01T00:00:00Z")
    found = kinds(runs, threshold=25)
    assert [(each.provider, each.spread.median, each.trend.percent) for each in found] == [
        ("control-plane", 60_000, 0),
        ("embedded", 10_000, 0),
    ]
    made.whole(run(8), {**report(recovered=90), "backend": "embedded"})
    runs = outcomes(verify(made.files).links, now="2026-02-01T00:00:00Z")
    assert not any(each.trend.regressed for each in kinds(runs, threshold=25)), "one slow run of three is no trend"


def test_two_runs_side_by_side() -> None:
    """Measures and steps by how much they moved; a worse verdict or a check no longer made is a regression."""
    first = ended_record(run(1), of_report(report(recovered=40)), ended=DAY)
    second = ended_record(run(2), of_report(report(recovered=60)), ended=DAY)
    found = compare(first, second)
    assert [(each.name, each.delta) for each in found.steps[:2]] == [("rebuild", 20_000), ("rebuild: apps", 20_000)]
    assert found.regressed(threshold=25)
    assert not found.regressed(threshold=60)
    failed = ended_record(run(2), of_report(report(recovered=40, verdict="failed")), ended=DAY)
    facts = compare(first, failed).facts
    assert facts == [
        "worse: verdict passed is now failed",
        "worse: check applications-healthy was pass, is fail",
    ]
    fewer = ended_record(run(2), of_report(report(recovered=40, checks=[("secrets-equal", True)])), ended=DAY)
    assert compare(first, fewer).regressed(threshold=25), "a check that is not made any more is no improvement"
    assert not compare(first, first).regressed(threshold=0)


def test_notes_are_shown_and_change_no_record() -> None:
    """A finding with its owner and a review stand beside the run; what was signed stays; a note is no run."""
    made = Ledger()
    made.whole(run(1))
    made.add(Stage.NOTED, {"identity": {"runId": "run-1"}, "deviation": {"finding": "CRDs late", "owner": "ann"}})
    made.add(Stage.NOTED, {"identity": {"runId": "run-1"}, "reviewer": "bob", "at": "2026-01-07T00:00:00Z"})
    made.add(Stage.NOTED, {"identity": {"runId": "run-2"}, "deviation": {"finding": "another"}})
    found = verify(made.files)
    assert found.holds
    shown = with_notes(found.links[1], found.links)
    assert [each["finding"] for each in shown["deviations"]] == ["CRDs late"]
    assert (shown["people"]["independentReviewer"], shown["people"]["initiator"]) == ("bob", "ci")
    assert found.links[1].record["deviations"] == []
    assert len(outcomes(found.links, now="2026-02-01T00:00:00Z")) == 1


@pytest.mark.parametrize("body", [{}, {"timeline": 3, "checks": {}, "measured": []}, {"timeline": [{"parts": [1]}]}])
def test_comparing_survives_anything(body: dict[str, object]) -> None:
    """What has no shape gives no figures, never an exception."""
    found = compare(body, body)
    assert (found.steps, found.measures[0].delta) == ([], None)
