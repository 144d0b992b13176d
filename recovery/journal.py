"""The journal: what a killed run has to know when it starts again. JSON lines on disk, appended and flushed.

The header binds the journal to one plan and one cluster (SECURITY.md §7); a resume that does not match is refused.
Only what a cluster cannot tell again is written: pinned revisions, when an attempt began, which hooks ran with which
UID. Plain objects are observed anew. Never here: object bodies, messages of foreign programs, secret data.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from secretsops.errors import ApiError, SyncRefused, WorldFailed
from secretsops.manifest import GroupVersionKind
from secretsops.ports import Cluster

FILE = "journal.jsonl"
VERSION = 1
SIZE_LIMIT = 256 * 1024 * 1024
"""Bytes of a journal: about 200 bytes a hook step, so a million steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a journal belongs to: the plan's hash, the kube-system UID, a digest of the API server's public keys."""

    plan: str
    cluster: str
    keys: str
    version: int = VERSION


@dataclass(slots=True, kw_only=True)
class HookStep:
    """One hook of an attempt: UID before it ran, UID it was created with, outcome (`Succeeded`, `Failed`, "")."""

    before: str = ""
    uid: str = ""
    outcome: str = ""


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One sync of one application: pinned revision, start (Unix seconds), its hooks, how it ended ("" not yet)."""

    revision: str
    started: int
    number: int
    ended: str = ""
    hooks: dict[str, HookStep] = field(default_factory=dict)


def fingerprint(cluster: Cluster) -> tuple[str, str]:
    """Give the UID of kube-system and a digest of the service-account public keys, which no two clusters share.

    The digest is "" where the keys may not be read; the UID binds alone then.
    """
    uid = cluster.get(GroupVersionKind("", "v1", "Namespace"), "kube-system").uid
    try:
        answer = cluster.raw("GET", "/openid/v1/jwks")
    except ApiError:
        return uid, ""
    return uid, hashlib.sha256(answer.body).hexdigest() if answer.code == 200 else ""


class Journal:
    """An open journal, locked against a second run. Use as a context manager."""

    def __init__(self, folder: Path, header: Header, *, resume: bool) -> None:
        self._path = folder / FILE
        self._header = header
        self.attempts: dict[str, Attempt] = {}
        self.pins: dict[str, str] = {}
        self.stages: set[str] = set()
        self.spared: set[str] = set()
        self.let_go: set[str] = set()
        self.facts: dict[str, str] = {}
        """What else was decided once for the whole run: `hold`, `unfenced`, `live`."""
        self.resumed = False
        self._writing = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = self._path.open("ab+")
        except OSError as error:
            raise WorldFailed(f"cannot open the journal in {folder}: {error.strerror}", reason="Unwritable") from None
        try:
            self._lock()
            self._load(resume=resume)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the journal."""
        self._file.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SyncRefused(
                f"another run holds the journal {self._path}", reason="RunInProgress", hint="wait for it, or stop it"
            ) from None

    def _load(self, *, resume: bool) -> None:
        lines = read_lines(self._path)
        if not lines:
            self._file.truncate(0)
            self._append({"event": "header", **asdict(self._header)})
            return
        if not resume:
            raise SyncRefused(
                f"{self._path} holds an earlier run",
                reason="JournalExists",
                hint="continue it with `secretsops recover resume`, or give another --journal folder",
            )
        written = lines[0]
        for name, wanted in asdict(self._header).items():
            if written.get(name) != wanted:
                raise SyncRefused(
                    f"the journal is of another {_OF[name]}: it says {str(written.get(name))[:16]!r},"
                    f" this is {str(wanted)[:16]!r}",
                    reason="JournalMismatch",
                    hint="resume against the cluster and plan the run was started with, or start a new one",
                )
        self.resumed = True
        self._drop_torn_line(lines)
        try:
            for line in lines[1:]:
                self._replay(line)
        except (KeyError, AttributeError):
            raise SyncRefused(
                f"{self._path} tells of steps that never began", reason="JournalBroken", hint="start a new run"
            ) from None

    def _drop_torn_line(self, lines: list[dict[str, Any]]) -> None:
        """Cut what a kill left half-written, so that the next line does not grow out of it."""
        whole = sum(len(_encode(line)) for line in lines)
        self._file.truncate(whole)

    def _replay(self, line: Mapping[str, Any]) -> None:
        event, app = line["event"], line.get("app", "")
        if event == "pin":
            self.pins[line["source"]] = line["revision"]
        elif event == "attempt":
            self.attempts[app] = Attempt(revision=line["revision"], started=line["started"], number=line["number"])
        elif event == "intent":
            self.attempts[app].hooks[line["task"]] = HookStep(before=line["before"])
        elif event == "hook":
            self.attempts[app].hooks[line["task"]].uid = line["uid"]
        elif event == "outcome":
            self.attempts[app].hooks.setdefault(line["task"], HookStep()).outcome = line["outcome"]
        elif event == "ended":
            self.attempts[app].ended = line["outcome"]
        elif event == "stage":
            self.stages.add(line["stage"])
        elif event == "spared":
            self.spared.add(line["object"])
        elif event == "released":
            self.let_go.add(line["object"])
        elif event == "fact":
            self.facts[line["name"]] = line["value"]

    def record(self, event: str, **values: str | int) -> None:
        """Append one line, then take it into account as a resume would.

        A kill loses nothing that was appended. A power failure may lose the begin or end of a sync, which only has it
        looked over again; what must not be lost is on the disk when this returns, with everything before it.
        """
        line = {"event": event, **values}
        with self._writing:
            self._append(line, sync=event not in ("attempt", "ended"))
            self._replay(line)

    def _append(self, line: Mapping[str, Any], *, sync: bool = True) -> None:
        try:
            self._file.write(_encode(line))
            self._file.flush()
            if sync:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise WorldFailed(f"cannot write the journal {self._path}: {error.strerror}", reason="Unwritable") from None


_OF = {"plan": "plan", "cluster": "cluster", "keys": "API server", "version": "format"}


def _encode(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Give the whole lines of a journal; a last line torn by a kill is left out.

    Raises:
        SyncRefused: a line in the middle is broken; the journal was altered.
    """
    try:
        with path.open("rb") as source:
            content = source.read(SIZE_LIMIT)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise WorldFailed(f"cannot read {path}: {error.strerror}", reason="Unreadable") from None
    whole = content[: content.rfind(b"\n") + 1]
    lines = []
    for number, text in enumerate(whole.splitlines(), start=1):
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not isinstance(line, dict) or "event" not in line:
            raise SyncRefused(
                f"{path}, line {number} is broken", reason="JournalBroken", hint="start a new run with a new folder"
            )
        lines.append(line)
    return lines
