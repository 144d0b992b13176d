"""Where the time of a recovery went: what a rebuild tells, as times of applications and waits in order. Pure.

Never here: drawing; the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recovery.events import AppEnded, AppStarted, Event, StageEnded, StageStarted, StepDone, Waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A stretch of time and what it went into: `stage` and, where something was awaited, `what`."""

    start: float
    end: float
    stage: str
    what: str

    @property
    def seconds(self) -> float:
        """Give its length."""
        return self.end - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class AppTime:
    """One application: when its sync began and ended, and how. Seconds on the drill's clock, None not reached."""

    app: str
    started: float
    ended: float | None
    ok: bool
    objects: int
    revision: str = ""
    waves: Sequence[tuple[str, int, float]] = ()
    """(phase, wave, when its last object was settled)."""


class Recorder:
    """An observer of one rebuild. Times of events count from its start; `zero` puts them on the drill's clock."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._events: list[Event] = []

    def event(self, event: Event) -> None:
        """Keep an event and show what a person wants to see."""
        self._events.append(event)
        text = _line(event)
        if text:
            self._say(text)

    def waits(self, zero: float) -> list[Wait]:
        """Give the stretches in order; neighbours that went into the same are one."""
        found: list[Wait] = []
        stage, what, at = "", "", 0.0
        for event in self._events:
            if stage and event.at > at:
                found.append(Wait(start=zero + at, end=zero + event.at, stage=stage, what=what))
            at = event.at
            match event:
                case StageStarted(stage=begun):
                    stage, what = begun.label, ""
                case StageEnded():
                    stage, what = "", ""
                case Waiting(reasons=reasons):
                    what = next(iter(reasons), "")
                case _:
                    what = ""
        return merged(found)

    def apps(self, zero: float) -> dict[str, AppTime]:
        """Give the applications by name."""
        found: dict[str, AppTime] = {}
        for event in self._events:
            if isinstance(event, AppStarted):
                found[event.app] = AppTime(
                    app=event.app,
                    started=zero + event.at,
                    ended=None,
                    ok=False,
                    objects=event.objects,
                    revision=event.revision,
                )
            elif isinstance(event, AppEnded):
                old = found.get(event.app)
                found[event.app] = AppTime(
                    app=event.app,
                    started=old.started if old else zero + event.at,
                    ended=zero + event.at,
                    ok=event.ok,
                    objects=old.objects if old else 0,
                    revision=old.revision if old else "",
                    waves=self._waves(event.app, zero),
                )
        return found

    def _waves(self, app: str, zero: float) -> list[tuple[str, int, float]]:
        last: dict[tuple[str, int], float] = {}
        for event in self._events:
            if isinstance(event, StepDone) and event.app == app:
                last[event.phase, event.wave] = zero + event.at
        return [(phase, wave, at) for (phase, wave), at in last.items()]


def merged(waits: Sequence[Wait]) -> list[Wait]:
    """Make neighbours of the same stage and reason one."""
    found: list[Wait] = []
    for wait in waits:
        last = found[-1] if found else None
        if last and (last.stage, last.what, last.end) == (wait.stage, wait.what, wait.start):
            found[-1] = Wait(start=last.start, end=wait.end, stage=wait.stage, what=wait.what)
        else:
            found.append(wait)
    return found


def critical_path(waits: Sequence[Wait], limit: int = 10) -> list[Wait]:
    """Give the longest stretches, in the order of time: what would have to be faster for the whole to be faster."""
    longest = sorted(waits, key=lambda wait: -wait.seconds)[:limit]
    return sorted(longest, key=lambda wait: wait.start)


def _line(event: Event) -> str:
    match event:
        case StageStarted(stage=stage):
            return stage.label
        case StageEnded(stage=stage, ok=False, message=message):
            return f"{stage.label} FAILED: {message}"
        case AppEnded(app=app, ok=ok, message=message):
            return f"{app}: {'' if ok else 'FAILED: '}{message}"
        case Waiting(app=app, reasons=reasons):
            return f"{app + ': ' if app else ''}waiting for {'; '.join(reasons[:2])}"
        case _:
            return ""
