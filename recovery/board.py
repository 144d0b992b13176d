"""How a run stands, gathered from its events: stages, applications, progress, what is awaited and why. Pure.

A view draws it, whatever the medium. Never here: printing, clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from recovery.events import AppEnded, AppStarted, Event, Expected, Stage, StageEnded, StageStarted, StepDone, Waiting


@dataclass(slots=True, kw_only=True)
class Row:
    """One application at work: `place` is phase and wave of its last write, `waits` what for, until `deadline`."""

    app: str
    revision: str
    objects: int
    started: float
    done: int = 0
    place: str = ""
    waits: Sequence[str] = ()
    deadline: float = 0.0


@dataclass(slots=True, kw_only=True)
class Board:
    """Everything that is shown of a run while it works."""

    expected: Expected | None = None
    stages: dict[Stage, str] = field(default_factory=dict)
    """Stage to `running`, `done` or why it failed."""
    seconds: dict[Stage, float] = field(default_factory=dict)
    """Stage to when it began; once it ended, how long it took."""
    rows: dict[str, Row] = field(default_factory=dict)
    """Applications at work, by `namespace/name`."""
    waits: Sequence[str] = ()
    """What a stage itself waits for."""
    deadline: float = 0.0
    synced: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Applications that failed, with the message."""
    written: int = 0
    total: int = 0
    last: str = ""

    def event(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Expected():
                self.expected, self.total = event, event.objects
            case StageStarted(stage=stage, at=at):
                self.stages[stage], self.seconds[stage], self.waits = "running", at, ()
            case StageEnded(stage=stage, at=at, ok=ok, message=message):
                self.stages[stage] = "done" if ok else message or "failed"
                self.seconds[stage], self.waits = at - self.seconds.get(stage, at), ()
            case StepDone():
                self._step(event)
            case AppStarted(app=app, revision=revision, objects=objects, at=at):
                self.rows[app] = Row(app=app, revision=revision, objects=objects, started=at)
            case AppEnded(app=app, ok=ok, message=message):
                self.rows.pop(app, None)
                self.synced += ok
                if not ok:
                    self.failed[app] = message
            case Waiting(app=app, reasons=reasons, deadline=deadline):
                self._wait(app, reasons, deadline)

    def _step(self, step: StepDone) -> None:
        self.last = step.action
        if not step.app:
            return
        self.written += 1
        self.total = max(self.total, self.written)
        row = self.rows.get(step.app)
        if row is not None:
            row.done = min(row.done + 1, row.objects)
            row.place, row.waits = f"{step.phase} wave {step.wave}", ()

    def _wait(self, app: str, reasons: Sequence[str], deadline: float) -> None:
        if not app:
            self.waits, self.deadline = reasons, deadline
            return
        row = self.rows.get(app)
        if row is not None:
            row.waits, row.deadline = reasons, deadline

    def busiest(self, limit: int) -> list[Row]:
        """Give the applications to show: those that wait for something first, the longest at work first."""
        return sorted(self.rows.values(), key=lambda row: (not row.waits, row.started, row.app))[:limit]
