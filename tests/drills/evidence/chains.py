"""Chains of made-up runs, for the tests of what is done with them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from drills.evidence.chain import Stage, new_link, read_link
from drills.record import Run, ended_record, started_record
from secretsops.escrow.signing import Signer, new_signer

DAY = dt.datetime(2026, 1, 5, 3, 0, tzinfo=dt.UTC)
RUNNER, OTHER = new_signer()[0], new_signer()[0]


def run(number: int, *, attempt: int = 1, slot: str = "", started: dt.datetime | None = None) -> Run:
    """Give a run of a made-up scenario, a day after the one before."""
    at = started or DAY + dt.timedelta(days=number)
    return Run(
        id=f"run-{number}",
        scenario="cluster-lost",
        started=at,
        deadline=at + dt.timedelta(hours=1),
        nonce=f"{number:032x}",
        tool="secretsops 0.1.0",
        slot=slot,
        attempt=attempt,
        initiator="ci",
        scenario_hash="0" * 64,
    )


def report(
    *, verdict: str = "passed", recovered: float = 42.0, at: dt.datetime = DAY, checks: Sequence[tuple[str, bool]] = ()
) -> dict[str, Any]:
    """Give what a drill reports (`Report.body`)."""
    spans = [
        {"name": "start", "at": 0.0, "seconds": 5.0, "ok": True},
        {"name": "destroy", "at": 5.0, "seconds": 1.0, "ok": True},
        {
            "name": "rebuild",
            "at": 8.0,
            "seconds": recovered - 2.5,
            "ok": verdict == "passed",
            "parts": [
                {"name": "keys", "at": 8.0, "seconds": 1.5, "ok": True},
                {"name": "apps", "at": 10.0, "seconds": recovered - 5.0, "ok": True, "message": "2 applications"},
            ],
        },
    ]
    marks = {"disrupted": 5.5, "declared": 6.0, "recovered": 5.5 + recovered}
    named = checks or (("secrets-equal", True), ("applications-healthy", verdict == "passed"))
    return {
        "apiVersion": "secretsops.dev/v1",
        "kind": "DrillReport",
        "scenario": "cluster-lost",
        "started": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "verdict": verdict,
        "message": "" if verdict == "passed" else "applications-healthy did not hold",
        "backend": "control-plane",
        "controlPlaneRto": {
            "fromDisruption": recovered,
            "fromDeclaration": recovered - 0.5,
            "machineTime": recovered - 2.5,
            "objective": 90.0,
        },
        "rpo": {"seconds": 0.0, "objective": 0.0},
        "checks": [{"name": name, "ok": ok, "message": "all equal" if ok else "1 lost"} for name, ok in named],
        "timeline": spans,
        "marks": [{"name": name, "at": when} for name, when in marks.items()],
    }


class Ledger:
    """A chain in memory, written as a runner writes it."""

    def __init__(self, signer: Signer = RUNNER) -> None:
        self.files: dict[str, bytes] = {}
        self.signer = signer
        self._last = ""

    def add(self, stage: Stage, record: Mapping[str, Any]) -> None:
        """Append one file."""
        name, text = new_link(len(self.files) + 1, self._last, stage, record, self.signer)
        link = read_link(text)
        assert link is not None
        self.files[name], self._last = text, link.digest

    def start(self, which: Run) -> None:
        """Append the start of a run."""
        self.add(Stage.STARTED, started_record(which))

    def whole(self, which: Run, body: Mapping[str, Any] | None = None) -> None:
        """Append start and end of a run."""
        from drills.record import of_report

        self.start(which)
        sections = of_report(body or report(at=which.started))
        self.add(Stage.ENDED, ended_record(which, sections, ended=which.started + dt.timedelta(minutes=2)))


def chain(runs: int = 3) -> Ledger:
    """Give a chain of some runs, all passed."""
    made = Ledger()
    for number in range(runs):
        made.whole(run(number))
    return made
