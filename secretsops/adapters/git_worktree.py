"""The WorkTree door: a person's checkout, through the `git` program with their own configuration.

Unlike `git.py`, which reads strangers' repositories in a closed world, this acts for the person in their repository:
identity, signing and hooks of a commit are theirs. Reading runs no hook, no file-system monitor and no filter.

Never here: which files to change.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from secretsops.errors import GitUnavailable, Refused, UsageError

TIMEOUT = 120.0
FILE_LIMIT = 32 * 1024 * 1024
TOTAL_LIMIT = 512 * 1024 * 1024
"""Bytes of one file and of all files of a revision that are read."""
_QUIET = ("-c", "core.fsmonitor=false", "-c", "core.quotePath=false", "-c", "gc.auto=0")


def open_worktree(folder: str) -> GitWorkTree:
    """Give the checkout around a folder or file.

    Raises:
        UsageError: it lies in none.
    """
    path = Path(folder)
    start = path if path.is_dir() else path.parent
    done = _run(start, ["rev-parse", "--show-toplevel"], check=False)
    top = done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")
    if done.returncode or not top:
        raise UsageError(f"{folder} lies in no Git checkout", reason="NoCheckout", hint="run it inside one")
    return GitWorkTree(Path(top))


class GitWorkTree:
    """One checkout. Satisfies `secretsops.ports.WorkTree`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def root(self) -> str:
        """Give the top folder."""
        return str(self._root)

    def files(self, revision: str, paths: Sequence[str]) -> Mapping[str, bytes]:
        """Give the files of a revision; symbolic links and submodules are left out."""
        commit = self._commit_of(revision)
        listing = self._git(["ls-tree", "-r", "-z", "-l", "--full-tree", commit, *(["--", *paths] if paths else [])])
        entries: list[tuple[str, str, int]] = []
        for record in listing.split(b"\0"):
            facts, _, name = record.partition(b"\t")
            if not record or facts.split()[0] not in (b"100644", b"100755"):
                continue
            _, _, sha, size = facts.decode("ascii").split()
            entries.append((name.decode("utf-8", "surrogateescape"), sha, int(size)))
        if sum(size for _, _, size in entries) > TOTAL_LIMIT or any(size > FILE_LIMIT for _, _, size in entries):
            raise GitUnavailable(f"{revision} holds more than is read", reason="TooLarge", hint="name fewer paths")
        asked = "".join(f"{sha}\n" for _, sha, _ in entries).encode()
        answer = self._git(["cat-file", "--batch"], stdin=asked) if entries else b""
        return dict(_contents(entries, answer))

    def changed_since(self, revision: str) -> frozenset[str]:
        """Name what differs between a revision and the files on disk, and what Git does not know yet."""
        commit = self._commit_of(revision)
        changed = self._git(["diff", "--name-only", "-z", "--no-ext-diff", "--diff-filter=d", "--no-renames", commit])
        new = self._git(["ls-files", "--others", "--exclude-standard", "-z"])
        return frozenset(name for name in (changed + new).decode("utf-8", "surrogateescape").split("\0") if name)

    def start_branch(self, name: str) -> None:
        """Make a branch and switch to it; changed files come along."""
        if self._try(["check-ref-format", "--branch", name]).returncode or name.startswith("-"):
            raise UsageError(f"{name[:80]!r} is no branch name", reason="BadBranch")
        if self._try(["show-ref", "--verify", "--quiet", f"refs/heads/{name}"]).returncode == 0:
            raise Refused(f"branch {name} is there already", reason="BranchExists", hint="choose another --branch")
        self._git(["switch", "--quiet", "--create", name])

    def commit(self, paths: Sequence[str], message: str) -> str:
        """Commit these files as they are on disk; what else is staged stays staged."""
        listed = "".join(f":(top,literal){path}\0" for path in paths).encode("utf-8", "surrogateescape")
        more = ["--pathspec-from-file=-", "--pathspec-file-nul"]
        self._git(["commit", "--quiet", "--only", f"--message={message}", *more], stdin=listed, terminal=True)
        return self._git(["rev-parse", "HEAD"]).decode().strip()

    def _commit_of(self, revision: str) -> str:
        if revision.startswith("-"):
            raise UsageError(f"{revision[:80]!r} is no revision", reason="InvalidRevision")
        done = self._try(["rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"])
        if done.returncode:
            raise UsageError(
                f"{revision[:80]} names no commit here",
                reason="RevisionNotFound",
                hint="a shallow clone lacks older ones: git fetch --unshallow",
            )
        return done.stdout.decode().strip()

    def _try(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        return _run(self._root, arguments, check=False)

    def _git(self, arguments: Sequence[str], *, stdin: bytes = b"", terminal: bool = False) -> bytes:
        return _run(self._root, arguments, stdin=stdin, terminal=terminal).stdout


def _run(
    folder: Path, arguments: Sequence[str], *, stdin: bytes = b"", check: bool = True, terminal: bool = False
) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    if not terminal:
        environment["GIT_TERMINAL_PROMPT"] = "0"
    try:
        done = subprocess.run(
            ["git", *_QUIET, *arguments],
            input=stdin,
            capture_output=True,
            cwd=folder,
            env=environment,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise GitUnavailable(f"git {arguments[0]} took longer than {TIMEOUT:g} s", reason="Timeout") from None
    except FileNotFoundError:
        raise GitUnavailable("the program git is not installed", reason="NoGit", hint="install git") from None
    if check and done.returncode:
        said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        text = "".join(letter for letter in (said[-1] if said else "no message") if letter.isprintable())[:300]
        raise GitUnavailable(f"git {arguments[0]} failed: {text}", reason="GitFailed")
    return done


def _contents(entries: Sequence[tuple[str, str, int]], answer: bytes) -> Iterator[tuple[str, bytes]]:
    """Cut the answer of `cat-file --batch` into files."""
    position = 0
    for path, _, size in entries:
        start = answer.index(b"\n", position) + 1
        yield path, answer[start : start + size]
        position = start + size + 1
