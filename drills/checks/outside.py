"""Checks from outside the clusters: HTTP, a command, a query of Prometheus, a Job, no plaintext, no write to a source.

Never here: comparing clusters (`clusters.py`).
"""

from __future__ import annotations

import base64
import json
import operator
import os
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import re2

from drills.acts.escrows import SECRET
from drills.kinds import Kind, Table
from drills.sandbox.loopback import send
from drills.scene import Scene, until
from drills.strict import Duration, Name
from secretsops.errors import WorldFailed
from secretsops.manifest import GroupVersionKind

Verdict = tuple[bool, str]
JOB = GroupVersionKind("batch", "v1", "Job")
COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """A URL answers with a status, and a body that fits a pattern where one is given."""

    url: str
    status: int = 200
    matches: str = ""


def http(_scene: Scene, check: Http) -> Verdict:
    """Ask once."""
    try:
        status, body = send("GET", check.url, headers={})
    except OSError:
        return False, f"{check.url} does not answer"
    fits = not check.matches or re2.search(check.matches, body[:65536].decode(errors="replace")) is not None
    return status == check.status and fits, f"{check.url} answered {status}{'' if fits else ', another body'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command ends with an exit code, or says what fits a pattern; {kubeconfig} is the recovered cluster's."""

    cluster: str = ""
    run: tuple[str, ...]
    exit_code: int = 0
    matches: str = ""
    timeout: Duration = 60.0

    def __post_init__(self) -> None:
        """Refuse a command that cannot fail."""
        if not self.run or self.run[0] in ("true", ":", "/bin/true", "echo"):
            raise ValueError("a check that cannot fail: `run` names a command whose answer depends on the cluster")


def command(scene: Scene, check: Command) -> Verdict:
    """Run it; its output stays here."""
    kubeconfig = scene.target(check.cluster or scene.scenario.target).kubeconfig
    words = [word.replace("{kubeconfig}", kubeconfig) for word in check.run]
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            timeout=check.timeout,
            check=False,
            env={**environment, "KUBECONFIG": kubeconfig},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WorldFailed(f"{words[0]} did not run ({type(error).__name__})", reason="CommandFailed") from None
    fits = not check.matches or re2.search(check.matches, done.stdout[:65536].decode(errors="replace")) is not None
    return (
        done.returncode == check.exit_code and fits,
        f"{words[0]} ended with {done.returncode}{'' if fits else ', said something else'}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromQL:
    """A query of Prometheus gives one number that compares as told."""

    url: str
    query: str
    compare: Literal["==", "!=", "<", "<=", ">", ">="]
    value: float


def promql(_scene: Scene, check: PromQL) -> Verdict:
    """Ask `/api/v1/query` once; no sample, or several, do not hold."""
    try:
        status, body = send(
            "GET", f"{check.url}/api/v1/query?query={urllib.parse.quote(check.query, safe='')}", headers={}
        )
    except OSError:
        raise WorldFailed(f"{check.url} does not answer", reason="Unreachable") from None
    try:
        result = json.loads(body)["data"]["result"] if status == 200 else None
        numbers = (
            [float(one["value"][1]) for one in result]
            if isinstance(result, list) and result and isinstance(result[0], dict)
            else []
        )
    except (ValueError, KeyError, TypeError, IndexError):
        raise WorldFailed(f"{check.url} gave no answer of Prometheus", reason="NotPrometheus") from None
    if len(numbers) != 1:
        return False, f"{len(numbers)} samples, one expected"
    return COMPARE[check.compare](numbers[0], check.value), f"{numbers[0]:g} {check.compare} {check.value:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSucceeds:
    """A Job of the recovered cluster has succeeded."""

    cluster: str = ""
    namespace: Name
    name: Name
    patience: Duration = 60.0


def job(scene: Scene, check: JobSucceeds) -> Verdict:
    """Wait for its end."""
    door = scene.door(check.cluster or scene.scenario.target)
    found: list[bool] = []

    def ended() -> bool:
        live = door.get(JOB, check.name, check.namespace)
        true = {one["type"] for one in live.status.get("conditions") or [] if one.get("status") == "True"}
        found[:] = ["Complete" in true]
        return bool(true & {"Complete", "Failed"})

    until(scene, f"Job {check.namespace}/{check.name}", ended, seconds=check.patience)
    return found[0], f"Job {check.namespace}/{check.name} {'succeeded' if found[0] else 'failed'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoPlaintext:
    """No value of any Secret stands in what the drill wrote: logs, journals, repositories, plain or as base64."""

    cluster: str = ""


_PRIVATE = ("off-cluster", "clusters/", "processes/")
"""Where values belong: the custodian's files, the API server's own storage and credentials."""


def no_plaintext(scene: Scene, check: NoPlaintext) -> Verdict:
    """Search every file of the drill's folder."""
    needles = [
        (f"{secret.namespace}/{secret.name}", needle)
        for secret in scene.door(check.cluster or scene.scenario.target).list(SECRET)
        for name, text in (secret.body.get("data") or {}).items()
        if name not in ("tls.crt", "id")
        for needle in _forms(text)
    ]
    found = sorted(
        {f"{who} in {place}" for place, content in _written(scene) for who, needle in needles if needle in content}
    )
    return not found and bool(needles), "; ".join(found[:5]) if found else f"{len(needles)} forms of values, none found"


def _forms(text: str) -> list[bytes]:
    value = base64.b64decode(text)
    return [] if len(value) < 12 else [value, text.encode(), value.hex().encode()]


def _written(scene: Scene) -> Iterator[tuple[str, bytes]]:
    for path in sorted(scene.folder.rglob("*")):
        place = str(path.relative_to(scene.folder))
        if path.is_file() and not path.is_symlink() and not place.startswith(_PRIVATE):
            yield place, path.read_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceUnwritten:
    """Nothing was written to a cluster from the disaster on: no object of it changed."""

    cluster: str = ""


def source_unwritten(scene: Scene, check: SourceUnwritten) -> Verdict:
    """Compare the UIDs of everything with those of before the disaster."""
    name = check.cluster or scene.scenario.source
    if name not in scene.before:
        raise WorldFailed("there is no picture from before", reason="NoPicture")
    old, new = scene.before[name], scene.look(name)
    changed = [key for key in old.uids if old.uids[key] != new.uids.get(key)] + [
        key for key in new.uids if key not in old.uids
    ]
    return not changed and bool(
        old.uids
    ), f"{len(changed)} object(s) changed" if changed else f"{len(old.uids)} objects, none changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedFor:
    """A step of the recovery was refused, and for this reason."""

    step: Name
    reason: str


def refused(scene: Scene, check: RefusedFor) -> Verdict:
    """Look at how the step ended."""
    found = scene.refusals.get(check.step, "")
    return found == check.reason, f"{check.step} was refused: {found}" if found else f"{check.step} was not refused"


TABLE: Table = {
    "http": Kind(parameters=Http, act=http),
    "command": Kind(parameters=Command, act=command),
    "promql": Kind(parameters=PromQL, act=promql),
    "job": Kind(parameters=JobSucceeds, act=job),
    "no-plaintext": Kind(parameters=NoPlaintext, act=no_plaintext),
    "source-unwritten": Kind(parameters=SourceUnwritten, act=source_unwritten),
    "refused": Kind(parameters=RefusedFor, act=refused),
}
