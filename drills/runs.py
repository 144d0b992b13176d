"""The runs of this user: a folder each, with who runs it, what it did so far, what it left, and until when.

A run holds a lock on its folder while it lives, so whether it lives is whether the lock is held; a record on disk says
what there is to remove if it does not. `watch` follows a run, `abort` ends it in order, `gc` removes what dead or
overdue runs left. Never here: what a drill does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secretsops.errors import NotFound, Refused, SecretsOpsError, UsageError
from secretsops.files import write_atomic

RECORD, EVENTS, LOCK = "run.json", "events.jsonl", "lock"
KEEP = 50
"""Runs whose records are kept; older ones that left nothing go."""
PATIENCE = 30.0
"""Seconds a run has to end in order before it is killed."""


def home() -> Path:
    """Give the folder of all runs."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "secretsops" / "drills"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run as its folder tells."""

    folder: Path
    facts: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Give its id."""
        return self.folder.name

    @property
    def pid(self) -> int:
        """Give the process that carries it out now, 0 when nobody does."""
        return holder(self.folder / LOCK)

    @property
    def ended(self) -> bool:
        """Whether it came to its end, clean-up included."""
        return bool(self.facts.get("ended"))

    def overdue(self, now: float) -> bool:
        """Whether its time to live is over; `now` in Unix seconds."""
        return now > float(self.facts.get("started", 0)) + float(self.facts.get("ttl", 0))

    def state(self, now: float) -> str:
        """Give its state in a word."""
        if self.pid:
            return "overdue" if self.overdue(now) else "running"
        return str(self.facts.get("verdict", "ended")) if self.ended else "died"


def all_runs() -> list[Run]:
    """Give every run, the newest first."""
    found = []
    for record in home().glob(f"*/{RECORD}"):
        with contextlib.suppress(OSError, ValueError):
            found.append(Run(folder=record.parent, facts=json.loads(record.read_bytes())))
    return sorted(found, key=lambda run: run.id, reverse=True)


def find(name: str) -> Run:
    """Give a run by its id, or the newest for "".

    Raises:
        UsageError: there is none.
    """
    for run in all_runs():
        if name in ("", run.id):
            return run
    raise UsageError(
        f"there is no run {name}".rstrip(), reason="NoRun", hint="secretsops drill gc --dry-run lists them"
    )


class Record:
    """The folder of the run that this process carries out."""

    def __init__(self, run_id: str, facts: Mapping[str, Any], *, wall: Callable[[], float] = time.time) -> None:
        self.folder = home() / run_id
        self.folder.mkdir(parents=True, mode=0o700)
        self._lock = (self.folder / LOCK).open("a+")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._lock.write(str(os.getpid()))
        self._lock.flush()
        self._wall = wall
        self._facts: dict[str, Any] = {"runId": run_id, "started": wall(), **facts}
        self._write()
        self._events = (self.folder / EVENTS).open("a", encoding="utf-8")

    def note(self, **facts: Any) -> None:
        """Add to the record, before what it announces is done."""
        self._facts |= facts
        self._write()

    def event(self, **facts: Any) -> None:
        """Tell who watches."""
        self._events.write(json.dumps({"at": round(self._wall(), 3), **facts}) + "\n")
        self._events.flush()

    def close(self, **facts: Any) -> None:
        """Say how it ended, and let go."""
        self.note(ended=self._wall(), **facts)
        self.event(event="ended", **facts)
        self._events.close()
        self._lock.close()

    def _write(self) -> None:
        write_atomic(self.folder / RECORD, json.dumps(self._facts, indent=1).encode() + b"\n", mode=0o600)


def holder(lock: Path) -> int:
    """Give the process id that holds a lock file, 0 when nobody does."""
    try:
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read().strip() or 0)
    except FileNotFoundError:
        pass
    return 0


def follow(run: Run, *, sleep: Callable[[float], None] = time.sleep) -> Iterator[dict[str, Any]]:
    """Give the events of a run as they come, until it has ended or died."""
    with (run.folder / EVENTS).open(encoding="utf-8") as file:
        text = ""
        while True:
            alive = run.pid != 0
            text += file.read()
            *lines, text = text.split("\n")
            yield from (json.loads(line) for line in lines if line)
            if not alive:
                return
            sleep(0.2)


def abort(run: Run, *, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic) -> str:
    """End a run in order, so that it cleans up and reports `inconclusive`; else kill it. Gives how it went.

    Raises:
        Refused: it does not run.
    """
    pid = run.pid
    if not pid:
        raise Refused(
            f"run {run.id} does not run", reason="NotRunning", hint="`secretsops drill gc` removes what it left"
        )
    for number, patience in ((signal.SIGTERM, PATIENCE), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        limit = clock() + patience
        while run.pid == pid and clock() < limit:
            sleep(0.1)
        if run.pid != pid:
            return "ended in order" if number == signal.SIGTERM else "killed"
    return "does not end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What became of what one run left."""

    run: str
    state: str
    removed: tuple[str, ...]
    left: tuple[str, ...]


def collect(
    *, now: float, dry_run: bool = False, target: Callable[[Mapping[str, Any]], list[str]] | None = None
) -> list[Removal]:
    """Remove what dead runs left and end those whose time is over; a second call finds nothing more to do.

    `target` removes what a run made in a given cluster and gives what is left; it is called for runs that had one.
    """
    found = []
    for number, run in enumerate(all_runs()):
        state = run.state(now)
        if state == "running":
            continue
        if state == "overdue" and not dry_run:
            abort(run)
            run = find(run.id)  # noqa: PLW2901 -- its record says more now
        places = [Path(place) for place in run.facts.get("remove", ())]
        there = [str(place) for place in places if place.exists()]
        alive = [
            f"process {pid}"
            for pid in run.facts.get("processes", ())
            if _lives(int(pid), str(run.facts.get("world", "")))
        ]
        given = [one for one in run.facts.get("given", ()) if not run.facts.get("givenCleaned")]
        if dry_run:
            if there or alive or given:
                found.append(
                    Removal(
                        run=run.id, state=state, removed=(), left=(*there, *alive, *(str(g["name"]) for g in given))
                    )
                )
            continue
        left = _remove(places, alive, given, target)
        if there or alive or given or left:
            found.append(
                Removal(
                    run=run.id,
                    state=state,
                    removed=tuple(one for one in (*there, *alive) if one not in left),
                    left=tuple(left),
                )
            )
        if not left:
            if not run.ended or given:
                facts = {**run.facts, "ended": run.facts.get("ended") or now, "givenCleaned": True}
                facts.setdefault("verdict", "died")
                write_atomic(run.folder / RECORD, json.dumps(facts, indent=1).encode() + b"\n", mode=0o600)
            if number >= KEEP:
                shutil.rmtree(run.folder, ignore_errors=True)
    return found


def _remove(
    places: list[Path], alive: list[str], given: list[Any], target: Callable[[Mapping[str, Any]], list[str]] | None
) -> list[str]:
    left = []
    for one in alive:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(int(one.split()[1]), signal.SIGKILL)
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
        if place.exists():
            left.append(str(place))
    for entry in given:
        try:
            left += target(entry) if target is not None else [str(entry["name"])]
        except (NotFound, SecretsOpsError) as error:
            left.append(f"{entry['name']}: {error.reason}")
    return left


def _lives(pid: int, world: str) -> bool:
    """Whether that process lives and is the one we started: its command line or folder names the run's world."""
    try:
        os.kill(pid, 0)
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except (ProcessLookupError, PermissionError, OSError):
        return False
    return "supervisor.py" in command or (bool(world) and world in command)
