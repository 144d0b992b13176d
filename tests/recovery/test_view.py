"""What a person and a program see of a run while it works: forecast, board, lines, JSON, report, part of an estate."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from recovery.argo import APPLICATION
from recovery.board import Board
from recovery.bootstrap import rebuild
from recovery.cli import recover
from recovery.events import AppEnded, AppStarted, Event, Expected, Stage, StageStarted, StepDone, Waiting
from recovery.forecast import forecast
from recovery.preview import preview
from recovery.status_command import keep_report
from recovery.view import JsonEvents, Lines, drawn, line
from recovery.walk import walk
from secretsops.errors import UsageError
from secretsops.manifest import ObjectKey, load_all
from tests.recovery.estates import FILES, Estate
from tests.recovery.test_bootstrap import request


class Kept:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def event(self, event: Event) -> None:
        self.events.append(event)


def watched(estate: Estate, folder: Path, **changes: object) -> tuple[list[Event], bool]:
    seen = Kept()
    doors = {"cluster": estate.cluster, "git": estate.git, "renderer": estate.renderer, "clock": estate.clock}
    report = rebuild(request(folder / "journal", **changes), observer=seen, **doors)  # type: ignore[arg-type]
    keep_report(folder / "journal", report)
    return seen.events, report.ok


def test_what_is_ahead_is_told_before_the_first_stage_and_holds(tmp_path: Path) -> None:
    """Requests within a fifth of what was then sent; the wait for the hook's Job is on the longest chain."""
    estate = Estate()
    events, ok = watched(estate, tmp_path)
    ahead = events[0]
    assert ok
    assert isinstance(ahead, Expected)
    assert (ahead.applications, ahead.waiting) == (3, 20.0)
    assert "3 application(s)" in line(ahead)
    # The fake's discovery is not in its log, and looks at what waits depend on how long it takes.
    assert 0.5 * len(estate.cluster.log) < ahead.requests < 1.5 * len(estate.cluster.log)


def test_a_wait_counts_once_for_what_waits_side_by_side_and_adds_up_along_a_chain() -> None:
    """Two children in one wave cost one wait, in two waves two."""
    deployment = json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}})
    apps = {name: FILES["apps/shop.yaml"].replace("shop", name) for name in ("one", "two")}
    files = {"root.yaml": FILES["root.yaml"], "one/d.yaml": deployment, "two/d.yaml": deployment}
    files |= {f"apps/{name}.yaml": text for name, text in apps.items()}
    later = {**files, "apps/two.yaml": apps["two"].replace('sync-wave: "1"', 'sync-wave: "2"')}
    waits = []
    for these in (files, later):
        estate = Estate(these)
        waits.append(forecast(walk(load_all(these["root.yaml"].encode()), estate.git, estate.renderer)).waiting)
    assert waits == [20.0, 40.0]


def test_the_board_shows_stages_progress_and_what_is_awaited() -> None:
    """Names from Git reach the terminal as text, whatever they say."""
    board = Board()
    key = ObjectKey("", "ConfigMap", "shop", "[red]a")
    for event in (
        Expected(at=0, applications=2, objects=4, requests=9, seconds=30, waiting=20),
        StageStarted(stage=Stage.APPLICATIONS, at=1),
        AppStarted(at=1, app="argocd/[red]shop", parent="", revision="a" * 40, objects=3),
        AppStarted(at=1, app="argocd/blog", parent="", revision="a" * 40, objects=1),
        StepDone(at=2, app="argocd/[red]shop", phase="Sync", wave=3, key=key, action="configmap/[red]a created"),
        Waiting(at=3, app="argocd/[red]shop", reasons=["Deployment shop/web: to be healthy"], deadline=300.0),
        AppEnded(at=3, app="argocd/blog", ok=False, message="refused"),
    ):
        board.event(event)
    out = io.StringIO()
    Console(file=out, width=160, force_terminal=False).print(drawn(board, 3.0))
    shown = out.getvalue()
    assert "applications" in shown
    assert "1 of about 4 objects, 0 application(s) synced, 1 failed" in shown
    assert "argocd/[red]shop" in shown
    assert "1/3" in shown
    assert "Sync wave 3" in shown or "waits until 300s for Deployment shop/web: to be healthy" in shown
    assert "argocd/blog" not in shown


def test_lines_and_json_tell_every_event(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, one JSON object per event, on standard error alone; secret values in neither."""
    events, _ = watched(Estate(), tmp_path)
    for view in (Lines(), JsonEvents()):
        with view:
            for event in events:
                view.event(event)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 2 * len(events)
    told = [json.loads(text) for text in lines[len(events) :]]
    assert {"Expected", "StageStarted", "StageEnded", "AppStarted", "StepDone", "AppEnded"} <= {
        t["event"] for t in told
    }
    step = next(one for one in told if one["event"] == "StepDone" and one["app"])
    assert {"at", "app", "phase", "wave", "key", "action", "ok"} <= set(step)
    assert isinstance(step["key"], str)


def test_only_one_application_is_rebuilt_with_what_it_needs_to_be_found_again(tmp_path: Path) -> None:
    """Its own objects and its Application as its parent applies it; nothing of its siblings."""
    estate = Estate()
    events, ok = watched(estate, tmp_path, only=["blog"])
    assert ok
    assert {event.app for event in events if isinstance(event, AppStarted)} == {"argocd/blog"}
    assert estate.made("applications") == ["blog"]
    assert estate.made("configmaps") == ["settings"]
    (found,) = estate.cluster.list(APPLICATION)
    assert found.annotations["argocd.argoproj.io/tracking-id"] == "root:argoproj.io/Application:argocd/blog"


def test_an_application_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    """The hint names those that are."""
    with pytest.raises(UsageError) as caught:
        watched(Estate(), tmp_path, only=["blgo"])
    assert "argocd/blog" in str(caught.value.hint)


def test_a_preview_names_what_would_be_written(tmp_path: Path) -> None:
    """Create before the run, unchanged after it, change after somebody's edit; hooks would run. Nothing is written."""
    estate = Estate()
    whole = walk(load_all(FILES["root.yaml"].encode()), estate.git, estate.renderer)
    before = {str(step.key): step.action for step in preview(whole, estate.cluster)}
    assert set(before.values()) == {"create", "run"}
    assert estate.cluster.writes() == []
    assert watched(estate, tmp_path)[1]
    live = next(
        one for one in estate.cluster.list(load_all(FILES["shop/late.yaml"].encode())[0].kind) if one.name == "late"
    )
    estate.cluster.patch(live.kind, "late", {"data": {"colour": "green"}}, namespace="shop")
    after = {str(step.key): step.action for step in preview(whole, estate.cluster)}
    assert after.pop("ConfigMap shop/late") == "change"
    assert after.pop("batch/Job shop/migrate") == "run"
    assert set(after.values()) == {"unchanged"}


def test_status_and_report_are_told_from_the_folder(tmp_path: Path) -> None:
    """Complete after a whole run; a run without an end has no report, exit code 1."""
    journal = ["--journal", str(tmp_path / "journal")]
    assert watched(Estate(), tmp_path)[1]
    runner = CliRunner()
    done = runner.invoke(recover, ["status", *journal, "-o", "json"], standalone_mode=False)
    assert done.return_value == 0
    assert json.loads(done.stdout)["complete"] is True
    done = runner.invoke(recover, ["report", *journal], standalone_mode=False)
    assert done.return_value == 0
    assert "rebuilt in" in done.stdout
    assert "argocd/blog" in done.stdout
    (tmp_path / "journal" / "report.json").unlink()
    done = runner.invoke(recover, ["report", *journal], standalone_mode=False)
    assert "has not come to an end" in str(done.exception)
