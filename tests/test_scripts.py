"""Command-line sessions in files: `tests/scripts/**/*.txt`, one test each, in the manner of Go's testscript.

    # why this session exists
    -- in.yaml --            an inline file, up to the next such line
    $ seal --cert {cert:alpha} -f in.yaml -w out.yaml     runs without a shell; `< FILE` and `> FILE` redirect
    exit 1                   expected exit code, 0 when not said
    stdout PATTERN           a regular expression found in the output; `! stdout PATTERN` must not be found
    stderr PATTERN
    empty stdout
    exists FILE · missing FILE · unchanged FILE
    limit BYTES              largest file that later commands may write: a disk that fills up

Placeholders: `{cert:KEY}` and `{key:KEY}` are files of the conformance keys.
"""

from __future__ import annotations

import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent / "scripts"
KEYS = Path(__file__).resolve().parent / "conformance" / "corpus" / "sealed-secrets" / "keys"
_FILE = re.compile(r"^-- (\S+) --$", re.MULTILINE)


def _scripts() -> list[object]:
    return [pytest.param(path, id=str(path.relative_to(SCRIPTS))) for path in sorted(SCRIPTS.rglob("*.txt"))]


@pytest.mark.parametrize("path", _scripts())
def test_session(path: Path, tmp_path: Path) -> None:
    """Commands, exit codes, output and files are as the session says."""
    session, *inline = _FILE.split(path.read_text())
    for name, content in zip(inline[::2], inline[1::2], strict=True):
        (tmp_path / name).write_text(content.removeprefix("\n"))
    Session(tmp_path).play(session)


class Session:
    """One folder in which commands run one after another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: subprocess.CompletedProcess[bytes] | None = None
        self.wanted = 0
        self.file_limit = 0
        self.before: dict[str, bytes] = {}

    def play(self, text: str) -> None:
        for line in text.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line.startswith("$ "):
                self._settle()
                self._run(line[2:])
            elif line.startswith("exit "):
                self.wanted = int(line[5:])
            elif line.startswith("limit "):
                self.file_limit = int(line[6:])
            else:
                self._expect(line)
        self._settle()

    def _settle(self) -> None:
        """Judge the exit code of the command before."""
        if self.done is not None:
            assert self.wanted == self.done.returncode, self.done.stderr.decode()
        self.done, self.wanted = None, 0

    def _run(self, line: str) -> None:
        words = shlex.split(
            re.sub(
                r"\{(cert|key):([\w-]+)\}",
                lambda m: str(KEYS / m[2] / f"tls.{'crt' if m[1] == 'cert' else 'key'}"),
                line,
            )
        )
        source, target = Path(os.devnull), self.folder / ".stdout"
        if ">" in words:
            target = self.folder / words.pop(words.index(">") + 1)
            words.remove(">")
        if "<" in words:
            source = self.folder / words.pop(words.index("<") + 1)
            words.remove("<")
        entry = "seal" if words[0] == "seal" else "main"
        program = [sys.executable, "-c", f"from secretsops.cli import {entry}; {entry}()", *words[1:]]
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONPATH": os.pathsep.join(sys.path)}
        self.before = {entry.name: entry.read_bytes() for entry in self.folder.iterdir() if entry.is_file()}

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.file_limit, self.file_limit))

        with source.open("rb") as stdin, target.open("wb") as stdout:
            self.done = subprocess.run(
                program,
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                cwd=self.folder,
                env=env,
                timeout=60,
                check=False,
                preexec_fn=limit if self.file_limit else None,
            )

    def _expect(self, line: str) -> None:
        assert self.done is not None, f"no command before {line!r}"
        negated = line.startswith("! ")
        verb, _, argument = line.removeprefix("! ").partition(" ")
        streams = {"stdout": self.folder / ".stdout"}
        if verb in {"stdout", "stderr"}:
            text = (streams[verb].read_bytes() if verb == "stdout" else self.done.stderr).decode("utf-8", "replace")
            assert bool(re.search(argument, text)) is not negated, f"{line!r} against:\n{text[:2000]}"
        elif verb == "empty":
            assert (streams["stdout"].read_bytes() if argument == "stdout" else self.done.stderr) == b""
        elif verb in {"exists", "missing"}:
            assert (self.folder / argument).exists() is (verb == "exists"), line
        elif verb == "unchanged":
            assert self.before[argument] == (self.folder / argument).read_bytes(), line
        else:
            pytest.fail(f"unknown line {line!r}")
