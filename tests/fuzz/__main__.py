"""Throw inputs at every entry point that strangers reach: `python -m tests.fuzz [--runs N] [--keep] [TARGET…]`.

atheris (libFuzzer) steers by coverage of our own code. What led somewhere new is kept in `corpus/TARGET.txt`, one input
a line in base64, and played by the tests; `--keep` writes these files anew with the shortest of them. A crash, a
second of CPU for one input, or a value told by an error ends the run with exit code 1; its input lies in `--artifacts`.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
INSIDE = "--inside"
SECOND = 1.0
LENGTH, KEPT, COUNT = 2048, 512, 250
"""Bytes of an input at most, and of one that is kept; how many of these at most."""


def main() -> int:
    """Run each target in a process of its own; gives the exit code."""
    if sys.argv[1:2] == [INSIDE]:
        return _inside(sys.argv[2], sys.argv[3:])
    given = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    given.add_argument("--runs", type=int, default=150_000, help="Inputs per target.")
    given.add_argument("--keep", action="store_true", help="Write the corpus anew.")
    given.add_argument("--artifacts", default=".", help="Where an input that fails is left.")
    given.add_argument("targets", nargs="*")
    options = given.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: it is made for Linux on x86_64", file=sys.stderr)
        return 2
    from tests.fuzz.targets import TARGETS

    failed = []
    for name in options.targets or TARGETS:
        if not _fuzz(name, options.runs, Path(options.artifacts), keep=options.keep):
            failed.append(name)
    return 1 if failed else 0


def _fuzz(name: str, runs: int, artifacts: Path, *, keep: bool) -> bool:
    """Fuzz one target; says whether nothing was found."""
    from tests.fuzz.targets import seeds

    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder)
        for number, content in enumerate([*seeds(name), *read(name)]):
            (found / f"seed-{number}").write_bytes(content)
        begun = time.monotonic()
        done = _atheris(name, f"-runs={runs}", f"-artifact_prefix={artifacts}/{name}-", str(found))
        size = len(list(found.iterdir()))
        print(f"{name:10} {runs:8} inputs in {time.monotonic() - begun:6.0f} s, corpus {size}", flush=True)
        if done == 0 and keep:
            write(name, [file.read_bytes() for file in found.iterdir()])
        return done == 0


def _atheris(name: str, *flags: str) -> int:
    command = [sys.executable, "-m", "tests.fuzz", INSIDE, name, f"-max_len={LENGTH}", "-timeout=20", "-len_control=20"]
    done = subprocess.run([*command, *flags], check=False, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if not line.startswith("#")]
        print("\n".join(lines)[-6000:], file=sys.stderr)
    return done.returncode


def _inside(name: str, flags: list[str]) -> int:
    """Run libFuzzer in this process, until it ends it."""
    import atheris

    with atheris.instrument_imports(include=["secretsops", "drills.evidence", "drills.record", "yaml"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]

    def one(data: bytes) -> None:
        begun = time.thread_time()
        target(data)
        assert time.thread_time() - begun < SECOND, "more than a second for one input"

    atheris.Setup(["fuzz", *flags], one)
    atheris.Fuzz()
    return 0


def read(name: str) -> list[bytes]:
    """Give the kept corpus of a target."""
    file = CORPUS / f"{name}.txt"
    return [base64.b64decode(line) for line in file.read_text().split()] if file.exists() else []


def write(name: str, inputs: list[bytes]) -> None:
    """Keep a corpus, shortest first."""
    chosen = sorted({each for each in inputs if len(each) <= KEPT}, key=lambda each: (len(each), each))
    lines = [base64.b64encode(each).decode() + "\n" for each in chosen[:COUNT]]
    (CORPUS / f"{name}.txt").write_text("".join(lines))


if __name__ == "__main__":
    sys.exit(main())
