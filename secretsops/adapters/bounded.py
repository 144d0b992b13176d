"""Runs a program with an end: a deadline, a bounded answer, and nothing of it left behind.

What a stranger's repository makes `git` say may have no end (a tree that holds itself ten times, ten levels deep), and
its transports are processes of their own that outlive it. So the answer is read as it comes and cut off past its
limit, and the whole session is ended, not the program alone. Never here: which program, what its answer means.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

_CHUNK = 1 << 18
_STDERR = 1 << 16
"""Bytes of standard error that are kept: its end says why."""


class Overflow(Exception):
    """The answer is longer than it may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a program ended."""

    returncode: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Seconds until the end, and bytes of the answer."""

    seconds: float
    size: int


def run(
    command: Sequence[str],
    bounds: Bounds,
    *,
    env: Mapping[str, str],
    cwd: str,
    stdin: bytes = b"",
    pass_fds: tuple[int, ...] = (),
) -> Done:
    """Run a program in a session of its own and give what it said.

    Raises:
        subprocess.TimeoutExpired: it did not end in time. Overflow: it says more than it may. Both end the session.
        FileNotFoundError: there is no such program.
    """
    with subprocess.Popen(
        list(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        cwd=cwd,
        pass_fds=pass_fds,
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = _spoken(process, stdin, bounds)
            code = process.wait(max(0.1, bounds.seconds))
        except BaseException:
            _end(process)
            raise
        return Done(returncode=code, stdout=stdout, stderr=stderr)


def _spoken(process: subprocess.Popen[bytes], stdin: bytes, bounds: Bounds) -> tuple[bytes, bytes]:
    """Write the input and read both outputs to their ends."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    deadline, view = time.monotonic() + bounds.seconds, memoryview(stdin)
    chunks: list[bytes] = []
    size, complaint = 0, b""
    with selectors.DefaultSelector() as selector:
        for stream, events in (
            (process.stdout, selectors.EVENT_READ),
            (process.stderr, selectors.EVENT_READ),
            (process.stdin, selectors.EVENT_WRITE),
        ):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, events)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(process.args, bounds.seconds)
            for key, _ in selector.select(left):
                if key.fileobj is process.stdin:
                    with suppress(BlockingIOError):
                        view = _written(process, view)
                    if not view:
                        selector.unregister(process.stdin)
                        with suppress(OSError):
                            process.stdin.close()
                    continue
                with suppress(BlockingIOError):
                    chunk = os.read(key.fd, _CHUNK)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is process.stderr:
                        complaint = (complaint + chunk)[-_STDERR:]
                    else:
                        chunks.append(chunk)
                        size += len(chunk)
                        if size > bounds.size:
                            raise Overflow
    return b"".join(chunks), complaint


def _written(process: subprocess.Popen[bytes], view: memoryview) -> memoryview:
    """Write what the pipe takes; gives the rest, nothing where nobody reads any more."""
    assert process.stdin is not None
    try:
        return view[os.write(process.stdin.fileno(), view[:_CHUNK]) :] if view else view
    except BrokenPipeError:
        return view[:0]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program and whatever it started in its session."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
