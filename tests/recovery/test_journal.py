"""The journal: what was recorded is known again after any kill, and belongs to one plan and one cluster."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recovery.journal import FILE, Header, Journal, read_lines
from secretsops.errors import SyncRefused, WorldFailed

HEADER = Header(plan="p" * 64, cluster="uid", keys="k" * 64)


def write(folder: Path) -> bytes:
    """Record a run with one hook that ended and one that did not."""
    with Journal(folder, HEADER, resume=False) as journal:
        journal.record("pin", source="url@main", revision="a" * 40)
        journal.record("attempt", app="argocd/shop", revision="a" * 40, started=1, number=1)
        for task in ("one", "two"):
            journal.record("intent", app="argocd/shop", task=task, before="")
            journal.record("hook", app="argocd/shop", task=task, uid=f"uid-{task}")
        journal.record("outcome", app="argocd/shop", task="one", outcome="Succeeded")
        journal.record("stage", stage="KEYS")
    return (folder / FILE).read_bytes()


def test_what_was_recorded_is_known_again(tmp_path: Path) -> None:
    """Pins, attempts, hooks with their outcomes, stages."""
    write(tmp_path)
    with Journal(tmp_path, HEADER, resume=True) as journal:
        hooks = journal.attempts["argocd/shop"].hooks
        assert journal.resumed
        assert journal.pins == {"url@main": "a" * 40}
        assert {name: (step.uid, step.outcome) for name, step in hooks.items()} == {
            "one": ("uid-one", "Succeeded"),
            "two": ("uid-two", ""),
        }
        assert journal.stages == {"KEYS"}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000))
def test_a_line_torn_by_a_kill_is_left_out(tmp_path_factory: pytest.TempPathFactory, at: int) -> None:
    """Cut anywhere, the whole lines count, and what is recorded next is readable."""
    folder = tmp_path_factory.mktemp("journal")
    content = write(folder)
    cut = content[: at % (len(content) + 1)]
    (folder / FILE).write_bytes(cut)
    whole = cut.count(b"\n")
    with Journal(folder, HEADER, resume=True) as journal:
        journal.record("pin", source="after", revision="b" * 40)
    lines = read_lines(folder / FILE)
    assert len(lines) == max(whole, 1) + 1
    assert lines[-1]["source"] == "after"


@pytest.mark.parametrize("field", ["plan", "cluster", "keys"])
def test_another_plan_or_cluster_is_refused(tmp_path: Path, field: str) -> None:
    """By the field that differs; nothing is written."""
    before = write(tmp_path)
    other = replace(HEADER, **{field: "other"})  # type: ignore[arg-type]
    with pytest.raises(SyncRefused) as caught:
        Journal(tmp_path, other, resume=True)
    assert caught.value.reason == "JournalMismatch"
    assert (tmp_path / FILE).read_bytes() == before


def test_an_earlier_run_is_not_overwritten(tmp_path: Path) -> None:
    """A new run wants a new folder."""
    before = write(tmp_path)
    with pytest.raises(SyncRefused) as caught:
        Journal(tmp_path, HEADER, resume=False)
    assert (caught.value.reason, bool(caught.value.hint)) == ("JournalExists", True)
    assert (tmp_path / FILE).read_bytes() == before


def test_a_second_run_is_kept_out(tmp_path: Path) -> None:
    """While one process holds the journal another may not."""
    program = (
        "import sys; from pathlib import Path; from recovery.journal import *\n"
        "from secretsops.errors import SyncRefused\n"
        "try: Journal(Path(sys.argv[1]), Header(plan='p' * 64, cluster='uid', keys='k' * 64), resume=True)\n"
        "except SyncRefused as error: print(error.reason)\n"
    )
    with Journal(tmp_path, HEADER, resume=False):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
        )
    assert done.stdout.strip() == "RunInProgress", done.stderr


@pytest.mark.parametrize(
    "line", ["rubbish", "[]", '{"no":"event"}', '{"event":"hook","app":"x","task":"y","uid":"z"}', '{"event":"pin"}']
)
def test_an_altered_journal_is_refused(tmp_path: Path, line: str) -> None:
    """A line in the middle that is none, or tells of what never began."""
    content = write(tmp_path).splitlines(keepends=True)
    (tmp_path / FILE).write_bytes(b"".join([content[0], line.encode() + b"\n", *content[1:]]))
    with pytest.raises(SyncRefused) as caught:
        Journal(tmp_path, HEADER, resume=True)
    assert caught.value.reason == "JournalBroken"


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    """The run ends before it does what it could not write down."""
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(WorldFailed) as caught:
        Journal(tmp_path / "folder", HEADER, resume=False)
    assert caught.value.reason == "Unwritable"
    program = (
        "import resource, signal, sys; from pathlib import Path; from recovery.journal import *\n"
        "from secretsops.errors import WorldFailed\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))\n"
        "journal = Journal(Path(sys.argv[1]), Header(plan='p', cluster='u', keys='k'), resume=False)\n"
        "try:\n"
        "    for number in range(99): journal.record('pin', source=f's{number}', revision='a' * 40)\n"
        "except WorldFailed as error: print(error.reason)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "full")], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "Unwritable", done.stderr
