"""How a run is watched: redrawn on a terminal, one line per event elsewhere, one JSON object per event for programs.

All of it goes to standard error; the report alone goes to standard output. Never here: what is shown (`board.py`).
"""

from __future__ import annotations

import json
import sys
import threading
from abc import abstractmethod
from contextlib import AbstractContextManager
from dataclasses import asdict
from enum import Enum
from types import TracebackType
from typing import Any, Self

import click

from recovery.board import Board
from recovery.events import AppEnded, AppStarted, Event, Expected, Stage, StageEnded, StageStarted, StepDone, Waiting
from secretsops.manifest import ObjectKey

ROWS = 12
"""Applications shown at once."""
PER_SECOND = 4


def view_of(output: str) -> View:
    """Give how a run is to be watched: `json` for programs, else by what standard error is."""
    if output == "json":
        return JsonEvents()
    if sys.stderr.isatty():
        try:
            return Terminal()
        except ImportError:
            return Lines()
    return Lines()


class View(AbstractContextManager["View"]):
    """Receives every event. Use as a context manager."""

    @abstractmethod
    def event(self, event: Event) -> None:
        """Show it."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


class Lines(View):
    """Prints one line per event."""

    def __init__(self) -> None:
        self._one = threading.Lock()

    def event(self, event: Event) -> None:
        """Print it."""
        with self._one:
            click.echo(f"{event.at:7.1f}s {line(event)}", err=True)


class JsonEvents(View):
    """Prints one JSON object per event: `{"event": "StepDone", "at": 1.5, …}`."""

    def __init__(self) -> None:
        self._one = threading.Lock()

    def event(self, event: Event) -> None:
        """Print it."""
        with self._one:
            click.echo(json.dumps(body(event)), err=True)


class Terminal(View):
    """Redraws the board a few times a second."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self.board, self._turn, self._now = Board(), threading.Lock(), 0.0
        self._live = Live(
            console=Console(stderr=True), refresh_per_second=PER_SECOND, get_renderable=self._drawn, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def event(self, event: Event) -> None:
        """Take it in; what a person wants to keep stays above the board."""
        with self._turn:
            self.board.event(event)
            self._now = event.at
        if isinstance(event, Expected | StageEnded) or (isinstance(event, AppEnded) and not event.ok):
            self._live.console.print(f"{event.at:7.1f}s {line(event)}", markup=False, highlight=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def _drawn(self) -> Any:
        with self._turn:
            return drawn(self.board, self._now)


def drawn(board: Board, now: float) -> Any:
    """Give the board as something rich can print; names from Git reach it as text only."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    stages = Text()
    for stage in Stage:
        state = board.stages.get(stage, "")
        mark, style = {"": ("·", "dim"), "running": ("▶", "bold cyan"), "done": ("✓", "green")}.get(state, ("✗", "red"))
        stages.append(f" {mark} {stage.label} ", style=style)
    counts = f"{board.written} of about {board.total} objects, {board.synced} application(s) synced"
    if board.failed:
        counts += f", {len(board.failed)} failed"
    rows = Table.grid(padding=(0, 2))
    for row in board.busiest(ROWS):
        waits = f"waits until {row.deadline:.0f}s for {'; '.join(row.waits[:2])}" if row.waits else ""
        rows.add_row(Text(row.app), Text(f"{row.done}/{row.objects}"), Text(row.place), Text(waits, style="yellow"))
    more = len(board.rows) - ROWS
    parts: list[Any] = [
        stages,
        Text(f"{now:7.1f}s {counts}"),
        ProgressBar(total=max(board.total, 1), completed=board.written),
        rows,
    ]
    if more > 0:
        parts.append(Text(f"and {more} more at work", style="dim"))
    if board.waits:
        parts.append(Text(f"waits until {board.deadline:.0f}s for {'; '.join(board.waits[:3])}", style="yellow"))
    elif board.last:
        parts.append(Text(board.last.partition("\n")[0], style="dim"))
    return Group(*parts)


def line(event: Event) -> str:
    """Give an event as one line for people."""
    match event:
        case Expected(applications=applications, objects=objects, requests=requests, seconds=seconds, waiting=waiting):
            what = f"{applications} application(s), {objects} object(s): about {requests} requests"
            return f"{what}, {_minutes(seconds)} at least" + (
                f" ({_minutes(waiting)} of it for workloads on the longest chain)" if waiting else ""
            )
        case StageStarted(stage=stage):
            return f"stage {int(stage)} {stage.label}"
        case StageEnded(stage=stage, ok=ok, message=message):
            return f"stage {int(stage)} {stage.label} {'done' if ok else f'FAILED: {message}'}"
        case StepDone(app=app, phase=phase, wave=wave, action=action):
            place = f"{app} {phase} wave {wave}: " if app else ""
            return f"  {place}{action}"
        case AppStarted(app=app, revision=revision, objects=objects):
            return f"  {app}: {objects} object(s) at {revision[:12]}"
        case AppEnded(app=app, ok=ok, message=message):
            return f"  {app}: {'synced' if ok else 'FAILED'}: {message}"
        case Waiting(app=app, reasons=reasons, deadline=deadline):
            more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
            return f"  {app + ': ' if app else ''}waiting until {deadline:.0f}s for {'; '.join(reasons[:3])}{more}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} s"


def body(event: Event) -> dict[str, Any]:
    """Give an event as plain data for JSON: its kind, and its fields by name."""
    return (
        {"event": type(event).__name__} | {name: _plain(value) for name, value in asdict(event).items()} | _key(event)
    )


def _key(event: Event) -> dict[str, Any]:
    return {"key": str(event.key)} if isinstance(event, StepDone) else {}


def _plain(value: Any) -> Any:
    if isinstance(value, Stage):
        return value.label
    if isinstance(value, Enum | ObjectKey):
        return str(value)
    if isinstance(value, float):
        return None if value == float("inf") else round(value, 3)
    return list(value) if isinstance(value, tuple) else value
