"""Processes that die with us: start, signal, wait. The owner of the processes is `drills/sandbox/supervisor.py`.

    with Processes(folder) as processes:
        etcd = processes.start("etcd", ["/path/to/etcd", "--data-dir", "..."])
        etcd.stop(5)

Each process writes its output to `FOLDER/NAME.log`. Never here: what runs.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from secretsops.errors import Timeout, WorldFailed

_ANSWER = 20.0
"""Seconds the supervisor has to start a process: it forks in milliseconds, the rest is a loaded machine."""


class Process:
    """One running process. `code` is None while it runs, then its exit code (negative: the signal)."""

    def __init__(self, owner: Processes, number: int, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self.pid = 0
        self.code: int | None = None
        self.failed = ""
        self.started = threading.Event()
        self.ended = threading.Event()
        self._owner = owner
        self._number = number

    def signal(self, number: int) -> None:
        """Send a signal to the process and all it started."""
        self._owner.send({"do": "signal", "id": self._number, "signal": int(number)})

    def wait(self, seconds: float) -> bool:
        """Wait for the end; whether it came."""
        return self.ended.wait(seconds)

    def stop(self, grace: float) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds; return once it is gone."""
        if self.ended.is_set():
            return
        self.signal(signal.SIGTERM)
        if not self.wait(grace):
            self.kill()

    def kill(self) -> None:
        """SIGKILL, and return once it is gone."""
        self.signal(signal.SIGKILL)
        self.wait(_ANSWER)

    def tail(self, lines: int = 5) -> str:
        """Give the last lines of its output."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""


class Processes:
    """A set of processes, all gone when this object is closed or its process dies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._started: dict[int, Process] = {}
        self._count = 0
        program = Path(__file__).with_name("supervisor.py")
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal is for us; we then stop things in order
            env={"PATH": os.environ.get("PATH", os.defpath)},
        )
        self._reader = threading.Thread(target=self._read, name="sandbox-processes", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def supervisor_pid(self) -> int:
        """Give the process id of the supervisor."""
        return self._supervisor.pid

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        log: Path | None = None,
    ) -> Process:
        """Start a process with exactly the environment given (default: PATH and a HOME inside the folder).

        Raises:
            WorldFailed: it cannot be started.
        """
        with self._lock:
            self._count += 1
            number = self._count
            process = self._started[number] = Process(self, number, name, log or self.folder / f"{name}.log")
        plain = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder)}
        request = {"do": "start", "id": number, "argv": [str(part) for part in argv], "log": str(process.log)}
        self.send(
            {**request, "env": dict(plain if environment is None else environment), "cwd": str(cwd or self.folder)}
        )
        if not process.started.wait(_ANSWER):
            raise Timeout(f"{name} did not start within {_ANSWER:g} s", hint="the machine is overloaded: try again")
        if process.failed:
            raise WorldFailed(f"cannot start {argv[0]}: {process.failed}", reason="CannotStart")
        return process

    def remove_at_end(self, folder: Path) -> None:
        """Delete a folder when everything has ended, also when we are killed: it holds keys, tokens, a database."""
        self.send({"do": "remove", "path": str(folder)})

    def send(self, request: dict[str, Any]) -> None:
        """Hand a request to the supervisor; it may have gone already when everything is being closed."""
        line = (json.dumps(request) + "\n").encode()
        with self._lock, contextlib.suppress(BrokenPipeError, ValueError):
            assert self._supervisor.stdin is not None
            self._supervisor.stdin.write(line)
            self._supervisor.stdin.flush()

    def close(self) -> None:
        """Kill what still runs and wait for it."""
        assert self._supervisor.stdin is not None
        assert self._supervisor.stdout is not None
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._supervisor.stdin.close()
        self._supervisor.wait()
        self._reader.join(_ANSWER)
        self._supervisor.stdout.close()
        for process in self._started.values():
            process.started.set()
            process.ended.set()

    def _read(self) -> None:
        assert self._supervisor.stdout is not None
        for line in self._supervisor.stdout:
            report = json.loads(line)
            process = self._started[report["id"]]
            if "code" in report:
                process.code = report["code"]
                process.ended.set()
                continue
            process.pid, process.failed = report.get("pid", 0), report.get("failed", "")
            if process.failed:
                process.ended.set()
            process.started.set()


_PORTS = range(20_000, 32_000)
"""Ports we listen on: below those that Linux (32768) and macOS (49152) give to outgoing connections, which come and go
by the hundred while a slow program is still loading."""
_next_port = itertools.count(secrets.randbelow(len(_PORTS)))


def free_port() -> int:
    """Give a TCP port of loopback that nobody listens on now, and that this process was not given before.

    Raises:
        WorldFailed: all are taken.
    """
    for _ in _PORTS:
        port = _PORTS[next(_next_port) % len(_PORTS)]
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise WorldFailed("no port of loopback is free", reason="NoPort", hint="something listens on thousands of them")


def port_was_taken(process: Process, *ports: int) -> bool:
    """Say whether a process ended because somebody else took its port: by its own word, or since it is taken now."""
    if not process.ended.is_set():
        return False
    return "address already in use" in process.tail(50).lower() or any(_is_taken(port) for port in ports)


def start_on_a_port(
    begin: Callable[[int], Process], ready: Callable[[int], bool], *, seconds: float, interval: float = 0.05
) -> tuple[Process, int]:
    """Start a process on a free port and wait until it is ready; once more when somebody else took that in between.

    Raises:
        WorldFailed, Timeout: as `await_ready`.
    """
    for last in (False, True):
        port = free_port()
        process = begin(port)
        try:
            await_ready(process, functools.partial(ready, port), seconds=seconds, interval=interval)
        except WorldFailed:
            if last or not port_was_taken(process, port):
                raise
        else:
            break
    return process, port


def _is_taken(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def await_ready(process: Process, ready: Callable[[], bool], *, seconds: float, interval: float = 0.05) -> None:
    """Wait until `ready` is true.

    Raises:
        WorldFailed: the process ended first; the message quotes its last lines.
        Timeout: the time is up.
    """
    deadline = time.monotonic() + seconds
    # What answers on the port of a process that has ended is somebody else's.
    while process.ended.is_set() or not ready():
        if process.ended.wait(interval):
            raise WorldFailed(
                f"{process.name} ended with code {process.code} before it was ready: {process.tail()}",
                reason="NotReady",
                hint=f"its whole output: {process.log}",
            )
        if time.monotonic() > deadline:
            raise Timeout(
                f"{process.name} was not ready within {seconds:g} s: {process.tail()}",
                hint=f"its whole output: {process.log}",
            )
