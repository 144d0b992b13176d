"""What a rebuild came to: stages, applications, notes, and what lives otherwise than Git says. Pure.

Never here: a verdict on a drill (`drills/report.py`), printing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from recovery.events import Stage
from recovery.remap import Change


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """How one stage went: seconds since the start of the run, and its length."""

    stage: Stage
    at: float
    seconds: float
    ok: bool
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppReport:
    """How one application ended. `objects` counts what it wants; `health` is the last one seen, "" before stage 7."""

    app: str
    parent: str
    revision: str
    ok: bool
    message: str
    objects: int
    health: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of a rebuild. `ok` only if every stage that was asked for held."""

    ok: bool
    started: dt.datetime
    seconds: float
    cluster: str
    """UID of kube-system."""
    plan: str
    """Hash of the plan."""
    resumed: bool
    stages: Sequence[StageReport]
    apps: Sequence[AppReport]
    notes: Sequence[str]
    remapped: Sequence[Change] = ()
    """What lives otherwise than Git says, until Git says it, too."""

    def body(self) -> dict[str, Any]:
        """Give the report as plain data for JSON."""
        return {
            "ok": self.ok,
            "started": self.started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "seconds": round(self.seconds, 3),
            "cluster": self.cluster,
            "plan": self.plan,
            "resumed": self.resumed,
            "stages": [
                {
                    "stage": int(entry.stage),
                    "name": entry.stage.label,
                    "at": round(entry.at, 3),
                    "seconds": round(entry.seconds, 3),
                    "ok": entry.ok,
                    **({"message": entry.message} if entry.message else {}),
                }
                for entry in self.stages
            ],
            "applications": [
                {
                    "application": entry.app,
                    "parent": entry.parent,
                    "revision": entry.revision,
                    "ok": entry.ok,
                    "health": entry.health,
                    "objects": entry.objects,
                    "message": entry.message,
                }
                for entry in self.apps
            ],
            "notes": list(self.notes),
            "remapped": [asdict(change) for change in self.remapped],
        }
