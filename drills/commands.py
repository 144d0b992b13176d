"""Our own commands, run as a person runs them: a process each. Never here: what they are for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence

from secretsops.errors import WorldFailed
from secretsops.manifest import Manifest, load_all

SECRETSOPS = (sys.executable, "-m", "secretsops")
LIMIT = 300.0
"""Seconds a command may take."""


def run(*arguments: str, stdin: bytes = b"") -> str:
    """Run `secretsops ARGUMENTS` and give its output.

    Raises:
        WorldFailed: it failed; the message is what it said, the reason the one it named.
    """
    try:
        done = subprocess.run(
            [*SECRETSOPS, *arguments],
            input=stdin,
            capture_output=True,
            timeout=LIMIT,
            check=False,
            env=dict(os.environ),
        )
    except subprocess.TimeoutExpired:
        called = " ".join(arguments[:2])
        raise WorldFailed(f"secretsops {called} did not end within {LIMIT:g} s", reason="Timeout") from None
    if done.returncode:
        raise failed(arguments, done.stderr.decode(errors="replace"))
    return done.stdout.decode()


def install() -> list[Manifest]:
    """Give what a person would apply: the output of `secretsops install`, nothing else."""
    return load_all(run("install").encode(), source="secretsops install")


def failed(arguments: Sequence[str], said: str) -> WorldFailed:
    """Give the error of a command of ours from what it said on standard error."""
    lines = [line for line in said.strip().splitlines() if line]
    named = re.search(r"\((\w+)\)", " ".join(lines))
    reason = named[1] if named else "CommandFailed"
    return WorldFailed(f"secretsops {' '.join(arguments[:2])}: {' '.join(lines[-3:])}", reason=reason)
