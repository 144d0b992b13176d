"""The process that owns a sandbox's processes: it starts them, and ends them when its parent is gone, however it went.

Run as a program by `drills.sandbox.processes`, with the standard library alone so that it starts in 20 ms. Requests
are JSON lines on standard input, reports JSON lines on standard output:

    {"do": "start", "id": 1, "argv": [...], "env": {...}, "cwd": "...", "log": "..."}  -> {"id": 1, "pid": 4711}
                                                                      or -> {"id": 1, "failed": "No such file"}
    {"do": "signal", "id": 1, "signal": 15}
    {"do": "remove", "path": "..."}                     a folder that goes with the processes
                                                       later, by itself -> {"id": 1, "code": -15}

End of input, or another parent than at the start, means the parent died: every process group gets SIGKILL. On Linux
the children also die with this process (PR_SET_PDEATHSIG); elsewhere the pipe alone has to do, which leaves one case
open: both this process and its parent killed in the same instant.

Never here: what the processes are.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PARENT_CHECK = 2.0
"""Seconds between looks at the parent: a process forked by it may hold the pipe open after its death."""


class _Children:
    """The processes by request id."""

    def __init__(self) -> None:
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        self._own = os.getpid()
        self._folders: list[str] = []

    def serve(self, request: dict[str, Any]) -> None:
        """Carry one request out."""
        if request["do"] == "start":
            self.start(request)
        elif request["do"] == "signal":
            self.send(request)
        else:
            self._folders.append(request["path"])

    def start(self, request: dict[str, Any]) -> None:
        """Start one process in a session of its own, output appended to its log file."""
        try:
            log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                child = subprocess.Popen(
                    request["argv"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=request["env"],
                    cwd=request["cwd"],
                    start_new_session=True,
                    preexec_fn=self._die_with_us,  # noqa: PLW1509 -- this process has one thread, so the hook is safe
                )
            finally:
                os.close(log)
        except (OSError, subprocess.SubprocessError) as error:
            _report(id=request["id"], failed=getattr(error, "strerror", "") or type(error).__name__)
        else:
            self._running[request["id"]] = child
            _report(id=request["id"], pid=child.pid)

    def send(self, request: dict[str, Any]) -> None:
        """Send a signal to a process and all it started; nothing happens when it has ended."""
        child = self._running.get(request["id"])
        if child is not None and child.poll() is None:
            _signal_group(child.pid, request["signal"])

    def reap(self) -> None:
        """Report what has ended."""
        for number, child in list(self._running.items()):
            if child.poll() is not None:
                # What it started and left behind goes with it.
                _signal_group(child.pid, signal.SIGKILL)
                del self._running[number]
                _report(id=number, code=child.returncode)

    def kill(self) -> None:
        """Kill everything, wait until it is gone, remove the folders that go with it."""
        for child in self._running.values():
            _signal_group(child.pid, signal.SIGKILL)
        for child in self._running.values():
            child.wait()
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _die_with_us(self) -> None:
        if self._libc is not None:
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != self._own:
                os._exit(1)


def main() -> None:
    """Serve requests until the parent is gone."""
    # Ours to leave is when the pipe closes. Handlers, not SIG_IGN: that would be inherited by what we start.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    wake, wake_write = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    parent, children, buffered = os.getppid(), _Children(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while os.getppid() == parent:
            ready = [key.fd for key, _ in selector.select(_PARENT_CHECK)]
            if wake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake, 4096)
            if 0 in ready:
                if not (content := os.read(0, 65536)):
                    break
                *lines, buffered = (buffered + content).split(b"\n")
                for line in lines:
                    children.serve(json.loads(line))
            children.reap()
    children.kill()


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _report(**values: Any) -> None:
    with contextlib.suppress(BrokenPipeError):  # the parent died: the next read says so
        sys.stdout.write(json.dumps(values) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
