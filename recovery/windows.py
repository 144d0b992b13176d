"""Sync windows of a project: may an application be synced now? Pure, the time is an argument.

Rules: argo-cd v3.6 `pkg/apis/application/v1alpha1/types.go` (`SyncWindow`, `CanSync`). Never here: reading projects,
waiting, overriding (a person's decision, recorded by the run).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from recovery.globs import matches
from secretsops.durations import parse_duration
from secretsops.errors import InvalidManifest

BLOCKED = "Sync operation blocked by sync window"
"""The peer's words for it."""
_FIELD = re.compile(r"[0-9A-Za-z*?/,-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One window: when it opens (five-field cron in `zone`), for how many seconds, which applications it is for."""

    allows: bool
    schedule: str
    seconds: float
    applications: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    manual: bool = False
    zone: str = "UTC"
    all_of: bool = False
    overrun: bool = False

    def is_for(self, name: str, namespace: str, clusters: Sequence[str]) -> bool:
        """Say whether the window speaks of an application: any list matches, or with `all_of` each list set."""
        verdicts = [
            any(matches(pattern, value) for pattern in patterns for value in values)
            for patterns, values in (
                (self.applications, [name]),
                (self.namespaces, [namespace]),
                (self.clusters, clusters),
            )
            if patterns
        ]
        return bool(verdicts) and (all(verdicts) if self.all_of else any(verdicts))

    def is_active(self, now: dt.datetime) -> bool:
        """Say whether the window is open: its next start after `now - duration` is before `now`.

        Compat: the zone's offset of right now counts for the whole window, so one near a change of clocks is an hour
        off, as in the peer.
        """
        from cronsim import CronSim

        offset = now.astimezone(ZoneInfo(self.zone)).utcoffset() or dt.timedelta()
        local = now.astimezone(dt.UTC).replace(tzinfo=None) + offset
        try:
            following = next(CronSim(self.schedule, local - dt.timedelta(seconds=self.seconds)))
        except StopIteration:
            return False
        return following < local


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What the windows say: whether an automated and a manual sync may start."""

    automated: bool
    manual: bool
    overrun: bool


def gate(windows: Sequence[Window], *, now: dt.datetime) -> Gate:
    """Give the verdict of the windows that are for one application (`SyncWindows.CanSync`, in its order)."""
    active = [window for window in windows if window.is_active(now)]
    denies = [window for window in active if not window.allows]
    if denies:
        return Gate(automated=False, manual=all(w.manual for w in denies), overrun=all(w.overrun for w in denies))
    allows = [window for window in windows if window.allows]
    if not allows or any(window in active for window in allows):
        return Gate(automated=True, manual=True, overrun=True)
    return Gate(automated=False, manual=all(w.manual for w in allows), overrun=all(w.overrun for w in allows))


def read_window(project: str, raw: Mapping[str, Any]) -> Window:
    """Give a window of `spec.syncWindows`; raises `InvalidManifest` for one that could never be judged."""
    kind, schedule = raw.get("kind"), str(raw.get("schedule") or "")
    where = f"AppProject {project}: sync window {schedule!r}"
    if kind not in ("allow", "deny"):
        raise InvalidManifest(f"{where}: kind {kind!r} is neither allow nor deny", reason="InvalidWindow")
    fields = schedule.split()
    zone = str(raw.get("timeZone") or "UTC")
    try:
        from cronsim import CronSim, CronSimError

        ZoneInfo(zone)
        if len(fields) != 5 or not all(_FIELD.fullmatch(field) for field in fields):
            raise InvalidManifest(f"{where} is no schedule of five fields", reason="InvalidWindow")
        CronSim(schedule.replace("?", "*"), dt.datetime(2026, 1, 1))  # noqa: DTZ001 - only parsed
        seconds = parse_duration(str(raw.get("duration") or ""))
    except CronSimError as error:
        raise InvalidManifest(f"{where}: {error}", reason="InvalidWindow") from None
    except (ZoneInfoNotFoundError, ValueError):
        raise InvalidManifest(f"{where}: no time zone {zone!r}", reason="InvalidWindow") from None
    found = Window(
        allows=kind == "allow",
        schedule=schedule.replace("?", "*"),
        seconds=seconds,
        applications=_globs(raw, "applications"),
        namespaces=_globs(raw, "namespaces"),
        clusters=_globs(raw, "clusters"),
        manual=raw.get("manualSync") is True,
        zone=zone,
        all_of=raw.get("andOperator") is True,
        overrun=raw.get("syncOverrun") is True,
    )
    if not (found.applications or found.namespaces or found.clusters):
        raise InvalidManifest(f"{where} is for no application", reason="InvalidWindow")
    return found


def _globs(raw: Mapping[str, Any], field: str) -> tuple[str, ...]:
    found = raw.get(field) or []
    return tuple(str(one) for one in found) if isinstance(found, list) else ()
