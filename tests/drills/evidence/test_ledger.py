"""Turns, attempts and copies of the chain: who may start, what a lost answer or a killed run leaves, who vouches."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drills.evidence.chain import Stage, link_names, verify
from drills.evidence.history import cron, outcomes
from drills.evidence.ledger import Ledger, append, countersign, judged, read_files, replicate, take_turn
from drills.evidence.recording import Plan, Series, carry_out, figures
from drills.record import Run, ended_record, of_report
from secretsops.errors import Refused, WorldFailed
from secretsops.ports import Stored
from tests.drills.evidence.chains import DAY, OTHER, RUNNER, report, run
from tests.fakes.clock import FakeClock
from tests.fakes.sink import FakeSink

SLOT = "2026-01-05T03:00:00Z"
KEYS = frozenset((RUNNER.public,))


class Forgetful(FakeSink):
    """A sink that writes, but whose answers to the first writes get lost; or before whose answer another writes."""

    def __init__(self, *, lost: int = 0) -> None:
        super().__init__()
        self.lost = lost
        self.before: list[Any] = []

    def put(self, name: str, content: bytes) -> Stored:
        if self.before:
            self.before.pop()()
        stored = super().put(name, content)
        if self.lost:
            self.lost -= 1
            raise WorldFailed("no answer", reason="Unreachable")
        return stored


def ledger(*places: FakeSink) -> Ledger:
    return Ledger(places=list(places) or [FakeSink()], notary=RUNNER, clock=FakeClock(DAY))


def turn(where: Ledger, which: Run, patience: float = 0) -> Any:
    return take_turn(where, which, patience=patience, waiting=lambda _: None)


def end(where: Ledger, which: Run) -> None:
    append(where, Stage.ENDED, ended_record(which, of_report(report()), ended=DAY))


def stages(where: Ledger) -> list[str]:
    return [f"{link.stage}:{link.run_id}.{link.attempt}" for link in verify(read_files(where.places[0])).links]


def test_one_drill_at_a_time_and_a_killed_one_blocks_nobody_past_its_deadline() -> None:
    """A start without an end is the lock; after its deadline it counts as failed and the slot may be tried again."""
    where = ledger()
    turn(where, run(1, slot=SLOT, started=DAY))
    with pytest.raises(Refused) as caught:
        turn(where, run(2, started=DAY), patience=600)
    assert (caught.value.reason, len(where.clock.pauses)) == ("DrillRunning", 40)  # type: ignore[attr-defined]
    where.clock.sleep(3600)
    assert turn(where, replace(run(1, slot=SLOT, started=DAY), nonce="f" * 32)).run.attempt == 2
    end(where, run(1, slot=SLOT, attempt=2))
    assert stages(where) == ["started:run-1.1", "started:run-1.2", "ended:run-1.2"]
    found = outcomes(verify(read_files(where.places[0])).links, now="2026-01-05T05:00:00Z")
    assert [(each.attempt, each.verdict, each.message) for each in found] == [
        (1, "failed", "it began and never ended"),
        (2, "passed", ""),
    ]


def test_a_slot_has_one_run() -> None:
    """A second call for the same slot starts nothing and gives the run there is; by hand it is another run."""
    where = ledger()
    which = turn(where, run(1, slot=SLOT)).run
    end(where, which)
    again = turn(where, run(1, slot=SLOT))
    assert again.done is not None
    assert len(stages(where)) == 2
    assert turn(where, run(2)).done is None


def test_a_lost_answer_writes_nothing_twice() -> None:
    """What is there afterwards decides, for starts and for ends."""
    where = ledger(Forgetful(lost=1))
    assert turn(where, run(1, slot=SLOT)).run.attempt == 1
    where.places[0].lost = 1  # type: ignore[attr-defined]
    end(where, run(1, slot=SLOT))
    assert stages(where) == ["started:run-1.1", "ended:run-1.1"]
    assert verify(read_files(where.places[0]), runners=KEYS).holds


def test_of_two_that_start_at_once_one_runs() -> None:
    """The conditional write decides; the other reads again and finds it running."""
    sink = Forgetful()
    first, second = ledger(sink), ledger(sink)
    sink.before = [lambda: turn(second, run(2, started=DAY))]
    with pytest.raises(Refused) as caught:
        turn(first, run(1, started=DAY))
    assert caught.value.reason == "DrillRunning"
    assert stages(first) == ["started:run-2.1"]


def test_copies_are_healed_and_told_apart() -> None:
    """A copy that was away gets the same bytes later; one with other bytes is named; the first place must answer."""
    main, copy = FakeSink("main"), FakeSink("copy")
    where = ledger(main, copy)
    copy.away = True
    end_of = turn(where, run(1)).run
    assert "copy" in replicate(where.places)[0]
    copy.away = False
    end(where, end_of)
    assert copy.files == main.files
    found, differing = judged(where.places, runners=KEYS, countersigners=None)
    assert (found.holds, differing) == (True, [])
    del copy.files["drill-00000002.json"]
    assert judged(where.places, runners=KEYS, countersigners=None)[1] == ["copy lacks 1 record(s) of main"]
    copy.files["drill-00000001.json"] = main.files["drill-00000002.json"]
    assert "another drill-00000001.json" in judged(where.places, runners=KEYS, countersigners=None)[1][0]
    main.away = True
    with pytest.raises(WorldFailed):
        turn(where, run(2))


def test_nothing_is_appended_to_a_chain_that_does_not_hold() -> None:
    """A broken end is told, never covered by a new record."""
    sink = FakeSink()
    where = ledger(sink)
    end(where, turn(where, run(1)).run)
    sink.files["drill-00000002.json"] = sink.files["drill-00000001.json"]
    with pytest.raises(Refused) as caught:
        turn(where, run(2))
    assert caught.value.reason == "BrokenLedger"
    assert len(sink.files) == 2


def test_heads_are_for_others() -> None:
    """Another key vouches; the runner's own and a chain that does not hold are refused."""
    sink, safe = FakeSink(), FakeSink("safe")
    where = ledger(sink)
    end(where, turn(where, run(1)).run)
    found = verify(read_files(sink), runners=KEYS)
    with pytest.raises(Refused) as caught:
        countersign([sink], found, RUNNER, at=SLOT)
    assert caught.value.reason == "SameSigner"
    countersign([sink, safe], found, OTHER, at=SLOT)
    heads = list(safe.files.values())
    assert verify(read_files(sink), heads=heads, runners=KEYS).vouched == 2
    del sink.files["drill-00000002.json"]
    broken, _ = judged([sink], runners=KEYS, countersigners=None)
    assert [each.reason for each in broken.findings if not each.note] == ["Hidden"]
    with pytest.raises(Refused):
        countersign([sink], broken, OTHER, at=SLOT)


def series(where: Ledger, once: Any, **options: Any) -> Series:
    plan = Plan(scenario="cluster-lost", scenario_hash="0" * 64, tool="secretsops 0.1.0", **options)
    numbers = iter(range(1000))
    return carry_out(
        plan,
        once,
        ledger=where,
        clock=where.clock,
        nonce=lambda: f"{next(numbers):032x}",
        say=lambda _: None,
        threshold=25,
    )


def passing(recovered: float) -> Any:
    def once(_: Run) -> Mapping[str, Any]:
        return of_report(report(recovered=recovered))

    return once


def test_repeats_give_a_spread_and_a_regression_fails() -> None:
    """Median, nearest-rank p90, worst; slower than the runs before by more than the threshold is exit code 1."""
    where = ledger()
    times = iter([10, 11, 12, 13, 14, 15, 16, 17, 18, 40])

    def once(_: Run) -> Mapping[str, Any]:
        return of_report(report(recovered=next(times)))

    found = series(where, once, repeat=10)
    body = figures(found)
    assert (body["recoveredMs"], body["verdicts"]["passed"], found.exit_code) == (
        {"median": 14_500, "p90": 18_000, "worst": 40_000},
        10,
        0,
    )
    where.clock.sleep(60)
    slower = series(where, passing(20))
    assert (slower.trend.before, slower.trend.percent, slower.trend.regressed, slower.exit_code) == (
        14_500,
        37,
        True,
        1,
    )
    where.clock.sleep(60)
    assert series(where, passing(15)).exit_code == 0
    assert verify(read_files(where.places[0]), runners=KEYS).holds


@pytest.mark.parametrize(
    ("error", "verdict", "message"),
    [
        (WorldFailed("no cluster", reason="NoCluster"), "inconclusive", "no cluster (NoCluster)"),
        (KeyboardInterrupt(), "failed", "stopped by KeyboardInterrupt"),
        (RuntimeError("password=hunter2"), "failed", "stopped by RuntimeError"),
    ],
)
def test_whatever_happens_the_end_is_written(error: BaseException, verdict: str, message: str) -> None:
    """The error goes on to whoever called; the chain has the end, without the words of a strange exception."""
    where = ledger()

    def once(_: Run) -> Mapping[str, Any]:
        raise error

    with pytest.raises(type(error)):
        series(where, once)
    record = verify(read_files(where.places[0])).links[-1].record
    assert (record["verdict"], record["message"]) == (verdict, message)


def test_a_turn_that_was_not_had_is_written_down_for_its_slot() -> None:
    """Why a slot was missed stands in the chain, and does not disturb the run that is under way."""
    where = ledger()
    other = turn(where, run(9, started=DAY)).run
    with pytest.raises(Refused):
        series(where, passing(1), slot=SLOT)
    end(where, other)
    assert [each.partition(":")[0] for each in stages(where)] == ["started", "skipped", "ended"]
    assert verify(read_files(where.places[0]), runners=KEYS).holds


def test_a_run_killed_with_sigkill_stays_in_sight(tmp_path: Path) -> None:
    """`kill -9` between start and end, in a real process on a real folder: the start is there, the end is not."""
    program = f"""
import datetime as dt, os, signal
from pathlib import Path
from drills.evidence.ledger import Ledger
from drills.evidence.recording import Plan, carry_out
from secretsops.adapters.sinks import FolderSink
from secretsops.clock import SystemClock
from secretsops.escrow.signing import new_signer
carry_out(Plan(scenario="s", scenario_hash="", tool="t", limit=1.0), lambda run: os.kill(os.getpid(), signal.SIGKILL),
  ledger=Ledger(places=[FolderSink(Path({str(tmp_path)!r}))], notary=new_signer()[0], clock=SystemClock()),
  clock=SystemClock(), nonce=lambda: "0" * 32, say=print, threshold=25)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert link_names(files) == ["drill-00000001.json"]
    late = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert [each.verdict for each in outcomes(verify(files).links, now=late)] == ["failed"]


def test_schedules_are_read() -> None:
    """Words and cron expressions; nonsense is refused with its hint."""
    from drills.evidence.history import slot_of
    from secretsops.errors import UsageError

    at = dt.datetime(2026, 5, 20, 12, 0, tzinfo=dt.UTC)
    assert slot_of(cron("quarterly"), at) == dt.datetime(2026, 4, 1, tzinfo=dt.UTC)
    assert slot_of(cron("30 2 * * 1"), at) == dt.datetime(2026, 5, 18, 2, 30, tzinfo=dt.UTC)
    for text in ("never", "* * *", "99 * * * *", "0 0 31 2 *", "* * * * * *", "0 0 1 1 " + "*" * 300):
        with pytest.raises(UsageError):
            slot_of(cron(text), at)
