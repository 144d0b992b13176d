"""A record has every section, one canonical text, no float, and says where the time went."""

from __future__ import annotations

from typing import Any

import pytest

from drills.record import SECTIONS, critical_path, ended_record, of_report, refuse_unfit, started_record
from secretsops.errors import Refused
from secretsops.escrow import canonical
from tests.drills.evidence.chains import DAY, report, run


def test_a_record_has_every_section_and_one_text() -> None:
    """What a run does not know is null or empty, never left out; reading gives back what was written."""
    body = ended_record(run(0), of_report(report()), ended=DAY)
    assert set(body) == {"apiVersion", "kind", *SECTIONS}
    assert canonical.decode(canonical.encode(body)) == body
    assert body["measured"]["rtaFromDisruptionMs"] == 42_000
    assert body["measured"]["met"] == {"controlPlaneRto": True, "serviceRto": None, "rpo": True}
    assert (body["secrets"]["expected"], body["keys"]["escrowIds"]) == (None, [])
    assert (body["identity"]["runId"], body["schedule"]["lateMs"], body["exitCode"]) == ("run-0", None, 0)
    assert body["timeline"][1]["utc"] == "2026-01-05T03:00:05Z"
    assert canonical.decode(canonical.encode(started_record(run(0)))) is not None


def test_lateness_counts_from_the_slot() -> None:
    """A slot of 03:00 that began at 03:00:00 is not late."""
    found = started_record(run(0, slot="2026-01-05T02:58:00Z"))["schedule"]
    assert (found["lateMs"], found["expectedAt"]) == (120_000, "2026-01-05T02:58:00Z")


@pytest.mark.parametrize(
    ("section", "value", "words"),
    [
        ("measured", {"x": 1.5}, "record.measured.x is a float"),
        ("apps", [{"x": b"secret"}], "record.apps.0.x is a bytes"),
        ("message", "\ud800", "no text"),
        ("message", "x" * 20_000, "no text"),
        ("checks", [0] * 30_000, "entries"),
        ("measured", {"x": 2**60}, "number"),
        ("secret", {}, "no section 'secret'"),
    ],
)
def test_what_cannot_be_kept_is_refused(section: str, value: Any, words: str) -> None:
    """The place is named, the value is not."""
    with pytest.raises(Refused) as caught:
        ended_record(run(0), {**of_report(report()), section: value}, ended=DAY)
    assert words in caught.value.message


def test_depth_is_bounded() -> None:
    """A record as deep as it is long is refused, not recursed into."""
    deep: Any = []
    for _ in range(500):
        deep = [deep]
    with pytest.raises(Refused):
        refuse_unfit(deep)


def line(name: str, at: int, took: int, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"event": name, "monotonicMs": at, "durationMs": took, "parts": list(parts)}


def test_the_critical_path_covers_the_time_once() -> None:
    """Of what ran at once the longest counts; gaps are named; the parts add up to the whole."""
    lines = [
        line("start", 0, 50),
        line("replace", 100, 40),
        line("rebuild", 150, 100, line("a", 150, 30), line("b", 150, 60), line("c", 220, 30)),
    ]
    path = critical_path(lines, 100, 250)
    assert [(each["name"], each["durationMs"]) for each in path] == [
        ("replace", 40),
        ("between steps", 10),
        ("rebuild: b", 60),
        ("rebuild: not in any part", 10),
        ("rebuild: c", 30),
    ]
    assert sum(each["durationMs"] for each in path) == 150
    assert critical_path(lines, None, 250) == []
    assert critical_path([], 100, 250) == [{"name": "between steps", "atMs": 100, "durationMs": 150}]
