"""`secretsops sandbox`: bring a disposable world up, say how it is, run a command in it, take it down.

A world brought up here belongs to one process that holds a lock on its state folder: whether it lives is whether the
lock is held, so a stale file misleads nobody. Never here: how the parts work.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from drills.sandbox.backend import Backend
from drills.sandbox.world import Sandbox
from secretsops.command_group import CommandGroup
from secretsops.errors import MissingExtra, Refused, Timeout, UsageError, WorldFailed
from secretsops.files import write_atomic, write_output

PARTS = ("cluster", "openbao", "aws", "git")

_DOWN = 20.0
"""Seconds a world has to leave; it needs one."""

_name_option = click.option(
    "--name", default="default", show_default=True, help="Which sandbox, where there are several."
)
_output_option = click.option(
    "-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True
)


@click.group(cls=CommandGroup, epilog="Example: secretsops sandbox up --detach")
def sandbox() -> None:
    """Start a disposable cluster, Vault, AWS and Git on loopback."""


@sandbox.command(epilog="Example: secretsops sandbox up --detach --cluster a --cluster b")
@click.option("--cluster", "clusters", multiple=True, default=("a",), show_default=True, help="Name; may be repeated.")
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Only these parts; may be repeated.")
@click.option(
    "--kind",
    type=click.Choice(["real", "embedded", "auto"]),
    default="real",
    show_default=True,
    help="Kind of clusters: the real control plane, the embedded stand-in, or real where its binaries are there.",
)
@click.option(
    "--journal",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder in which embedded clusters are kept: a later `up` goes on from there. It holds their Secrets.",
)
@click.option("--audit", is_flag=True, help="Keep the API servers' audit log.")
@click.option("--detach", is_flag=True, help="Return when everything is ready; `down` ends it.")
@click.option("--apart", is_flag=True, hidden=True)  # what --detach starts
@_name_option
@_output_option
def up(
    *,
    clusters: tuple[str, ...],
    parts: tuple[str, ...],
    kind: str,
    journal: Path | None,
    audit: bool,
    detach: bool,
    apart: bool,
    name: str,
    output: str,
) -> None:
    """Start the world and say how to reach it; without --detach it ends with this command."""
    place = _Place(name)
    if journal is not None and kind != "embedded":
        raise UsageError(
            f"--journal is for embedded clusters, not for --kind {kind}", reason="NoJournal", hint="--kind embedded"
        )
    if place.alive():
        raise Refused(
            f"sandbox '{name}' is up already",
            reason="AlreadyUp",
            hint="`secretsops sandbox status` says how to reach it, `secretsops sandbox down` ends it",
        )
    if detach:
        wanted = [*(f"--cluster={each}" for each in clusters), *(f"--part={each}" for each in parts), f"--kind={kind}"]
        wanted += [f"--journal={journal.absolute()}"] if journal is not None else []
        wanted += ["--audit"] if audit else []
        _show(_start_apart(place, wanted), output)
        return
    stop = threading.Event()

    def interrupt(*_: object) -> None:
        """Leave in the middle of starting; noted as well, since an exception in a finalizer is swallowed."""
        stop.set()
        raise KeyboardInterrupt

    _on_signals(interrupt)
    if journal is not None:
        journal.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A folder per run: the supervisor of a killed run may still be deleting its own.
    folder = place.folder / f"world-{os.getpid()}"
    with place.held(), Sandbox(folder, progress=_say, keep=False, kind=kind, journals=journal) as world:
        try:
            facts = {"name": name, "pid": os.getpid(), **_bring_up(world, clusters, parts, audit=audit)}
            facts["since"] = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
            write_atomic(place.file, json.dumps(facts).encode(), mode=0o600)
            _show(place.facts(), output)
            _on_signals(lambda *_: stop.set())
            if not apart:
                _say("ready; Ctrl-C ends it")
            while not stop.wait(1):
                pass
        finally:
            place.file.unlink(missing_ok=True)


@sandbox.command(epilog="Example: secretsops sandbox status -o json")
@_name_option
@_output_option
def status(name: str, output: str) -> int:
    """Say whether the world is up, which parts answer, and how to reach it; exit code 1 unless all do."""
    place = _Place(name)
    if not place.alive():
        _show({"name": name, "running": False}, output)
        return 1
    facts = place.facts()
    parts = [*facts["clusters"], *(facts[part] for part in PARTS[1:] if facts[part])]
    for part in parts:
        part["answers"] = _answers(str(part.get("server") or part["url"]))
    _show(facts, output)
    return 0 if all(part["answers"] for part in parts) else 1


@sandbox.command(epilog="Example: secretsops sandbox logs a/kube-apiserver --lines 20")
@click.option(
    "--lines", default=100, show_default=True, type=click.IntRange(1, 100_000), help="How many, from the end."
)
@_name_option
@_output_option
@click.argument("part", required=False)
def logs(lines: int, name: str, output: str, part: str | None) -> None:
    """Print what a part of the world wrote; without a part, say which there are."""
    place = _Place(name)
    if not place.alive():
        raise _not_up(name)
    files = _logs(Path(place.facts()["folder"]))
    if part is None:
        if not files:
            _say(f"no part of sandbox '{name}' writes a log")
        rows = [{"part": each, "bytes": path.stat().st_size, "file": str(path)} for each, path in files.items()]
        text = "".join(f"{row['bytes']:>10}  {row['part']}\n" for row in rows)
        write_output(_written({"logs": rows}, output, text).encode())
        return
    if part not in files:
        hint = f"there are: {', '.join(files)}" if files else "no part of it writes a log"
        raise UsageError(f"no log of '{part}' in sandbox '{name}'", reason="NoSuchLog", hint=hint)
    with files[part].open(errors="replace") as log:
        last = [line.rstrip("\n") for line in deque(log, maxlen=lines)]
    write_output(_written({"part": part, "lines": last}, output, "".join(f"{line}\n" for line in last)).encode())


@sandbox.command(epilog="Example: secretsops sandbox down")
@_name_option
def down(name: str) -> None:
    """End the world and delete its data; nothing happens when it is not up."""
    place = _Place(name)
    pid = place.holder()
    if not pid:
        _say(f"sandbox '{name}' is not up")
        return
    for number, patience in ((signal.SIGTERM, _DOWN), (signal.SIGKILL, 5.0)):
        if place.holder() != pid:
            break  # gone; the number may be somebody else's by now
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + patience
        while place.alive() and time.monotonic() < deadline:
            time.sleep(0.05)
    if place.alive():
        raise Timeout(f"process {pid} of sandbox '{name}' did not end", hint=f"kill -9 {pid}")
    place.clear()
    _say(f"sandbox '{name}' is gone")


@sandbox.command(
    "exec",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Example: secretsops sandbox exec -- kubectl get pods -A",
)
@click.option("--cluster", default="", help="Which cluster KUBECONFIG names; the first unless told.")
@_name_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(cluster: str, name: str, command: tuple[str, ...]) -> None:
    """Run a command with KUBECONFIG, VAULT_ADDR, AWS_ENDPOINT_URL and the like set; its exit code is ours."""
    place = _Place(name)
    if not place.alive():
        raise _not_up(name)
    environment = {**os.environ, **_environment(place.facts(), cluster)}
    # The tools of our own environment (kubectl, bao) are found even when it is not activated.
    environment["PATH"] = f"{environment.get('PATH', os.defpath)}{os.pathsep}{Path(sys.executable).parent}"
    found = shutil.which(command[0], path=environment["PATH"])
    if found is None:
        raise UsageError(f"{command[0]}: no such command", reason="NoSuchCommand")
    sys.stdout.flush()
    os.execve(found, list(command), environment)  # noqa: S606 -- the command is the user's own


class _Place:
    """The state folder of one named sandbox: `lock` (held by the process that owns it), `world.json`, `up.log`."""

    def __init__(self, name: str) -> None:
        if not name.replace("-", "").isalnum() or not name.isascii():
            raise UsageError(f"'{name}' is no name for a sandbox", reason="BadName", hint="letters, digits, dashes")
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        self.name = name
        self.folder = Path(state) / "secretsops" / "sandbox" / name
        self.file = self.folder / "world.json"
        self.log = self.folder / "up.log"
        self._lock = self.folder / "lock"

    def alive(self) -> bool:
        """Whether a process owns this sandbox now."""
        return self.holder() != 0

    def holder(self) -> int:
        """Give the process id that owns it, 0 when nobody does."""
        try:
            with self._lock.open() as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return int(lock.read().strip() or 0)
        except FileNotFoundError:
            pass
        return 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Own it; Refused when another process was faster."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._lock.open("a+") as lock:
            for attempt in range(5):  # `status` of somebody holds it for a moment
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if attempt == 4:
                        raise Refused(f"sandbox '{self.name}' is being started already", reason="AlreadyUp") from None
                    time.sleep(0.05)
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            self.clear()
            yield

    def clear(self) -> None:
        """Remove what a run left behind."""
        self.file.unlink(missing_ok=True)
        for world in self.folder.glob("world-*"):
            shutil.rmtree(world, ignore_errors=True)

    def facts(self) -> dict[str, Any]:
        """Give how it is reached.

        Raises:
            WorldFailed: it is still starting.
        """
        try:
            found: dict[str, Any] = json.loads(self.file.read_bytes())
        except FileNotFoundError:
            raise WorldFailed(
                f"sandbox '{self.name}' is still starting", reason="NotReady", hint="try again in some seconds"
            ) from None
        return {**found, "running": True}


def _bring_up(world: Sandbox, clusters: Sequence[str], parts: Sequence[str], *, audit: bool) -> dict[str, Any]:
    """Start the parts and give how they are reached; a part that is not installed is left out unless asked for."""
    facts: dict[str, Any] = {"folder": str(world.folder), "clusters": [], "openbao": None, "aws": None, "git": None}
    for part in parts or PARTS:
        if part == "cluster":
            continue  # last, since its Pods are told about the others
        try:
            facts[part] = _bring_up_part(world, part)
        except MissingExtra as error:
            if parts:
                raise
            _say(f"without {part}: {error} ({error.hint})")
    if not parts or "cluster" in parts:
        pods = {"AWS_ENDPOINT_URL": facts["aws"]["url"], "AWS_REGION": facts["aws"]["region"]} if facts["aws"] else {}
        for name in dict.fromkeys(clusters):
            cluster = world.cluster(name, audit=audit)
            world.pods(cluster, pods)
            facts["clusters"].append(_reach(cluster))
    return facts


def _bring_up_part(world: Sandbox, part: str) -> dict[str, str]:
    if part == "openbao":
        bao = world.openbao()
        return {"url": bao.url, "token": bao.token}
    if part == "aws":
        aws = world.aws()
        return {"url": aws.url, "region": aws.region, "accessKey": aws.access_key, "secretKey": aws.secret_key}
    return {"url": world.git().url, "folder": str(world.git().folder)}


def _reach(cluster: Backend) -> dict[str, Any]:
    return {
        "name": cluster.name,
        "kubeconfig": str(cluster.kubeconfig),
        "kind": "embedded" if cluster.stand_in else "real",
        "server": cluster.server,
        "auditLog": str(cluster.audit_log) if cluster.audit_log else None,
    }


def _environment(facts: Mapping[str, Any], cluster: str) -> dict[str, str]:
    """Give the variables by which kubectl, bao, aws and git tools find the sandbox."""
    names = {each["name"]: each for each in facts["clusters"]}
    if cluster and cluster not in names:
        raise UsageError(f"no cluster '{cluster}'", reason="NoSuchCluster", hint=f"there are: {', '.join(names)}")
    values = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
    if names:
        values["KUBECONFIG"] = names[cluster or next(iter(names))]["kubeconfig"]
    if bao := facts["openbao"]:
        values |= {f"{kind}_{what}": bao[key] for kind in ("VAULT", "BAO") for what, key in _VAULT_VARIABLES}
    if aws := facts["aws"]:
        values |= {variable: aws[key] for variable, key in _AWS_VARIABLES}
    if git := facts["git"]:
        values["SECRETSOPS_SANDBOX_GIT"] = git["url"]
    return values


_VAULT_VARIABLES = (("ADDR", "url"), ("TOKEN", "token"))
_AWS_VARIABLES = (
    ("AWS_ENDPOINT_URL", "url"),
    ("AWS_REGION", "region"),
    ("AWS_DEFAULT_REGION", "region"),
    ("AWS_ACCESS_KEY_ID", "accessKey"),
    ("AWS_SECRET_ACCESS_KEY", "secretKey"),
)


def _start_apart(place: _Place, wanted: Sequence[str]) -> dict[str, Any]:
    """Start `sandbox up` as a process of its own, pass on what it says, give how it is reached once it is ready."""
    place.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    place.file.unlink(missing_ok=True)  # of a run that was killed
    command = [sys.executable, "-m", "secretsops", "sandbox", "up", "--apart", "--name", place.name, *wanted]
    with os.fdopen(os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True, cwd="/"
        )
    with place.log.open() as said:
        while process.poll() is None and not place.file.exists():
            click.echo(said.read(), err=True, nl=False)
            time.sleep(0.05)
        click.echo(said.read(), err=True, nl=False)
    if process.returncode is not None:
        raise WorldFailed("the sandbox did not come up", reason="NotReady", hint=f"what it said: {place.log}")
    return place.facts()


def _not_up(name: str) -> Refused:
    other = "" if name == "default" else f" --name {name}"
    return Refused(f"sandbox '{name}' is not up", reason="NotUp", hint=f"secretsops sandbox up --detach{other}")


def _answers(url: str) -> bool:
    """Say whether something accepts connections there."""
    there = urlsplit(url)
    try:
        socket.create_connection((str(there.hostname), there.port or 443), timeout=2).close()
    except OSError:
        return False
    return True


def _logs(folder: Path) -> dict[str, Path]:
    """Give what the parts write, by the name of the part: `a/etcd`, `a/pods/NAMESPACE.NAME/container`, `openbao`."""
    roots = (folder / "clusters", folder / "processes")
    found = {
        str(path.relative_to(root).with_suffix("")): path
        for root in roots
        for path in root.rglob("*.log")
        if path.name != "audit.log"
    }
    return dict(sorted(found.items()))


def _show(facts: Mapping[str, Any], output: str) -> None:
    table = "".join(f"{label:<10}{value}\n" for label, value in _rows(facts))
    write_output(_written(facts, output, table).encode())


def _written(facts: Mapping[str, Any], output: str, table: str) -> str:
    """Give facts in the form asked for."""
    if output == "json":
        return json.dumps(facts, indent=2) + "\n"
    if output == "yaml":
        import yaml

        return str(yaml.safe_dump(dict(facts), sort_keys=False))
    return table


def _rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give the lines for people; credentials are in the files named and in `-o json`."""
    if not facts["running"]:
        yield "sandbox", f"'{facts['name']}' is not up"
        return
    yield (
        "sandbox",
        f"'{facts['name']}', process {facts['pid']}, since {facts.get('since', 'long ago')}, {facts['folder']}",
    )
    for each in facts["clusters"]:
        what = f"{each['name']} ({_KINDS[each.get('kind', 'real')]})"
        yield "cluster", f"{what}  {each['server']}  KUBECONFIG={each['kubeconfig']}{_silence(each)}"
        if each["auditLog"]:
            yield "", f"audit log {each['auditLog']}"
    for part in ("openbao", "aws", "git"):
        if facts[part]:
            yield part, f"{facts[part]['url']}{_silence(facts[part])}"
    named = "" if facts["name"] == "default" else f"--name {facts['name']} "
    command = "kubectl get pods -A" if facts["clusters"] else "env"
    yield "try", f"secretsops sandbox exec {named}-- {command}"


_KINDS = {"real": "real control plane", "embedded": "embedded stand-in"}


def _silence(part: Mapping[str, Any]) -> str:
    return "" if part.get("answers", True) else "  DOES NOT ANSWER: secretsops sandbox logs"


def _on_signals(act: Callable[..., None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, act)


def _say(text: str) -> None:
    click.echo(text, err=True)
