"""What a run tells while it works: typed events, and the `Observer` that receives them.

The CLI prints them, a drill times them, a live display draws them. Times are seconds on the run's own clock since its
start. Never here: printing, secret data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from secretsops.manifest import ObjectKey


class Stage(IntEnum):
    """The stages of a rebuild in order (DESIGN §4)."""

    TRUST = 0
    KEYS = 1
    DEFINITIONS = 2
    CONTROLLERS = 3
    SECRETS = 4
    DATA = 5
    APPLICATIONS = 6
    HEALTH = 7

    @property
    def label(self) -> str:
        """Name the stage for people."""
        return _LABELS[self]


_LABELS = {
    Stage.TRUST: "trust and claim",
    Stage.KEYS: "keys",
    Stage.DEFINITIONS: "CRDs and namespaces",
    Stage.CONTROLLERS: "controllers",
    Stage.SECRETS: "secrets readable",
    Stage.DATA: "data",
    Stage.APPLICATIONS: "applications",
    Stage.HEALTH: "health",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is ahead, told before the first stage: see `forecast.py`. `seconds` is how long it takes at least."""

    at: float
    applications: int
    objects: int
    requests: int
    seconds: float
    waiting: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStarted:
    """A stage began."""

    stage: Stage
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEnded:
    """A stage ended; `message` says why when it failed."""

    stage: Stage
    at: float
    ok: bool
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """One object was written, deleted or settled. `app` is `namespace/name`, "" outside applications."""

    at: float
    app: str
    phase: str
    wave: int
    key: ObjectKey
    action: str
    ok: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What `app` (or a stage, then "") waits for now; sent when it changes. `deadline` is when it gives up."""

    at: float
    app: str
    reasons: Sequence[str]
    deadline: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AppStarted:
    """An application was pinned, rendered and ordered: `objects` tasks at `revision`."""

    at: float
    app: str
    parent: str
    revision: str
    objects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AppEnded:
    """An application's sync ended."""

    at: float
    app: str
    ok: bool
    message: str


Event = Expected | StageStarted | StageEnded | StepDone | Waiting | AppStarted | AppEnded


class Observer(Protocol):
    """Receives every event, from one thread, in order; must not block for long."""

    def event(self, event: Event) -> None:
        """Take one event."""


class Quiet:
    """The observer that ignores everything."""

    def event(self, event: Event) -> None:
        """Ignore it."""
