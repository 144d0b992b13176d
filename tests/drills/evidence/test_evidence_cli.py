"""The commands over a chain in a folder: what they print, their exit codes, what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from drills.cli import drill
from drills.evidence.chain import link_name
from drills.evidence_cli import FORMATS
from secretsops.cli import RealDoors
from secretsops.escrow.signing import new_signer
from tests.drills.evidence.chains import RUNNER, Ledger, report, run


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with three runs, the last of them slower; a countersigner's key beside it."""
    made = Ledger()
    for number, recovered in enumerate((40, 42, 60)):
        made.whole(run(number), report(recovered=recovered))
    folder = tmp_path / "ledger"
    folder.mkdir()
    for name, text in made.files.items():
        (folder / name).write_bytes(text)
    key = tmp_path / "auditor.key"
    key.write_bytes(new_signer()[1].reveal())
    key.chmod(0o600)
    return folder


def call(*arguments: str, code: int = 0) -> Result:
    """Call `drill` and look at its exit code, as the umbrella command takes it from result or error."""
    done = CliRunner().invoke(drill, list(arguments), obj=RealDoors(), standalone_mode=False)
    got = getattr(done.exception, "exit_code", None) if done.exception else done.return_value or 0
    assert got == code, (done.exception, done.output)
    return done


def test_a_chain_is_verified_countersigned_and_then_nothing_can_go(place: Path, tmp_path: Path) -> None:
    """Without a head the end may be missing; with one kept elsewhere it is told; text and JSON say the same."""
    where, key = ("--evidence", str(place)), ("--key", RUNNER.public)
    call("report", "verify", *where, *key)
    call("report", "verify", *where, *key, "--countersigned", code=1)
    signer = ("--signer", str(tmp_path / "auditor.key"))
    call("report", "countersign", *where, *key, *signer, "--to", str(tmp_path / "heads"))
    call("report", "verify", *where, *key, "--countersigned", "--witness", str(tmp_path / "heads"))
    (place / link_name(6)).unlink()
    for head in place.glob("head-*"):
        head.unlink()
    assert call("report", "verify", *where, *key).output.startswith("note")
    done = call("report", "verify", *where, *key, "--witness", str(tmp_path / "heads"), "-o", "json", code=1)
    assert [each["reason"] for each in json.loads(done.output)["findings"] if not each["note"]] == ["Hidden"]
    call("report", "countersign", *where, "--key", "ed25519:" + "A" * 43 + "=", *signer, code=1)


def test_a_run_is_shown_in_every_form_and_as_a_file(place: Path, tmp_path: Path) -> None:
    """A run of the chain, a record's file, a bare record; `report FILE` is `report show FILE`."""
    for form in FORMATS:
        assert "cluster-lost" in call("report", "--evidence", str(place), "-o", form).output, form
    record = call("report", "show", "--evidence", str(place), "--run", "run-0", "-o", "json").output
    assert json.loads(record)["measured"]["rtaFromDisruptionMs"] == 40_000
    bare = tmp_path / "record.json"
    bare.write_text(record)
    page = tmp_path / "drill.html"
    call("report", str(bare), "--html", str(page), "--metrics", str(tmp_path / "m"), "--junit", str(tmp_path / "j"))
    assert "unsigned: this is a report, not evidence" in page.read_text()
    call("report", str(place / link_name(2)), "--html", str(page))
    assert "the chain around it was not judged" in page.read_text()
    kept = tmp_path / "report.json"
    kept.write_text(json.dumps(report(recovered=41)))
    assert "41.0 s" in call("report", str(kept)).output


def test_history_tells_runs_population_and_a_trend(place: Path) -> None:
    """A missed slot is exit code 1; so is a chain that does not hold."""
    where = ("--evidence", str(place))
    text = call("history", *where).output
    assert "cluster-lost on control-plane: 3 runs, median 42.0 s, p90 60.0 s, worst 60.0 s" in text
    body: dict[str, Any] = json.loads(
        call("history", *where, "--expected", "quarterly", "--since", "2026-01-01", "-o", "json", code=1).output
    )
    assert body["population"][0]["outcome"]["run_id"] == "run-0"
    assert {slot["fate"] for slot in body["population"]} >= {"done", "missed"}
    assert "slots_missed" in call("history", *where, "--expected", "monthly", "-o", "openmetrics", code=1).output
    (place / link_name(3)).unlink()
    assert "does NOT hold" in call("history", *where, code=1).output


def test_two_runs_of_a_chain_are_compared(place: Path) -> None:
    """Half as long again is a regression, unless the threshold allows it; files work the same."""
    where = ("--evidence", str(place))
    assert "regressed" in call("compare", "run-0", "run-2", *where, code=1).output
    call("compare", "run-0", "run-2", *where, "--threshold", "60")
    files = [str(place / link_name(number)) for number in (2, 4)]
    assert json.loads(call("compare", *files, "-o", "json").output)["regressed"] is False


def test_notes_reach_the_page(place: Path, tmp_path: Path) -> None:
    """A finding with its owner, a sign-off, and why a slot had no run."""
    where = ("--evidence", str(place), "--signer", str(tmp_path / "auditor.key"))
    call("report", "note", "run-2", *where, "--finding", "CRDs late", "--owner", "ann")
    call("report", "note", "run-2", *where, "--reviewer", "bob")
    call("report", "note", *where, "--missed", "2026-04-01", "--reason", "the data centre moved")
    page = call("report", "--evidence", str(place), "--run", "run-2", "-o", "html").output
    assert "CRDs late" in page
    assert "bob" in page
    told = call("history", "--evidence", str(place), "--expected", "quarterly", "--since", "2026-01-01", code=1).output
    assert "2026-04-01T00:00:00Z    missed                the data centre moved" in told


@pytest.mark.parametrize(
    "arguments",
    [
        ("report", "nowhere.json"),
        ("report", "--evidence", "PLACE", "--run", "run-9"),
        ("report", "note", "run-9", "--evidence", "PLACE", "--signer", "KEY", "--finding", "x"),
        ("report", "note", "run-0", "--evidence", "PLACE", "--signer", "KEY"),
        ("report", "verify", "--evidence", "PLACE", "--key", "ed25519:x"),
        ("report", "verify", "--evidence", "PLACE", "--trust", "sha256:x"),
        ("history", "--evidence", "PLACE", "--expected", "never"),
        ("history", "--evidence", "PLACE", "--expected", "hourly", "--since", "1970-01-01"),
        ("history", "--evidence", "PLACE", "--expected", "daily", "--since", "yesterday"),
        ("run", "cluster-lost", "--evidence", "PLACE"),
        ("run", "cluster-lost", "--evidence", "PLACE", "--signer", "KEY", "--slot", "noon"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(arguments: tuple[str, ...], place: Path, tmp_path: Path) -> None:
    """Exit code 2, with a hint, before anything is written."""
    before = sorted(place.iterdir())
    words = {"PLACE": str(place), "KEY": str(tmp_path / "auditor.key")}
    call(*(words.get(word, word) for word in arguments), code=2)
    assert sorted(place.iterdir()) == before
