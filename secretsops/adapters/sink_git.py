"""A Git branch as an escrow sink: one commit per file, pushed without force, each file as it was first added.

    git+https://HOST/REPOSITORY.git#BRANCH   credential: username, password (or token)

The server must refuse forced pushes and deletion of BRANCH and of BRANCH-canary (a protection rule for `BRANCH*`, or
receive.denyNonFastForwards and receive.denyDeletes). A commit that changes or removes a file takes nothing away: the
history has it. A merge would let another history in front, so a branch with one is not read.

Never here: what the files mean; reading estates (`git.py`, whose closed way to run the program is used).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urldefrag

from secretsops.adapters.git import GitDoor, Remote
from secretsops.adapters.sinks import CANARY, SIZE_LIMIT, check_name, is_name
from secretsops.errors import BrokenEscrow, GitUnavailable, UsageError
from secretsops.ports import SinkAccess, Stored, Trial
from secretsops.secret import Plaintext

TRIES = 5
"""Pushes of one file while others push too."""
HISTORY_LIMIT = 64 * 1024 * 1024
"""Bytes of the list of added files: 500,000 of them."""
_WHO = ("-c", "user.name=secretsops escrow", "-c", "user.email=escrow@secretsops.invalid")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Added:
    commit: str
    blob: str


class GitSink(GitDoor):
    """One branch of a repository. Satisfies `secretsops.ports.Sink`."""

    def __init__(self, access: SinkAccess, *, cache: Path | None = None) -> None:
        """Prepare without a request; raises `UsageError` for a URL without a branch."""
        url, branch = urldefrag(access.url.removeprefix("git+"))
        fields = dict(access.credentials)
        if not branch or not branch.replace("/", "").replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise UsageError(
                "a Git sink is git+https://HOST/REPOSITORY.git#BRANCH", reason="BadSink", hint="name the branch after #"
            )
        if set(fields) - {"username", "password", "token"}:
            raise UsageError("a Git credential has username and password, or token", reason="BadSink")
        password = fields.get("password") or fields.get("token")
        user = fields.get("username", Plaintext(b"git")).reveal().decode("utf-8", "replace").strip()
        login = (user, Plaintext(password.reveal().strip())) if password is not None else None
        super().__init__(cache=cache, login=lambda _url: login)
        self._url, self._branch = url, branch

    @property
    def name(self) -> str:
        """Give repository and branch."""
        return f"git+{self._remote(self._url).url}#{self._branch}"

    def put(self, name: str, content: bytes) -> Stored:
        """Push a commit that adds the file; a push that is not a fast-forward is refused by the server."""
        check_name(name)
        problem: GitUnavailable | None = None
        for _ in range(TRIES):
            with self._fetched(self._branch) as (remote, repository, tip):
                added = self._added(remote, repository, tip)
                if name in added:
                    return self._same(remote, repository, added[name], name, content)
                commit = self._commit(remote, repository, tip, name, content)
                try:
                    self._push(remote, repository, f"{commit}:refs/heads/{self._branch}")
                except GitUnavailable as error:
                    # Somebody pushed meanwhile, or the answer got lost: what is there now decides.
                    problem = error
                    continue
                return Stored(version=commit)
        raise problem or GitUnavailable(f"cannot push to {self.name}")

    def get(self, name: str) -> bytes:
        """Read a file as it was first added."""
        check_name(name)
        with self._fetched(self._branch) as (remote, repository, tip):
            return self._blob(remote, repository, self._found(remote, repository, tip, name).blob, name)

    def names(self, prefix: str = "") -> Sequence[str]:
        """List what was ever added; a branch that is not there is empty."""
        with self._fetched(self._branch) as (remote, repository, tip):
            return sorted(name for name in self._added(remote, repository, tip) if name.startswith(prefix))

    def describe(self, name: str) -> Stored:
        """Give the commit that added a file; Git knows no retention."""
        with self._fetched(self._branch) as (remote, repository, tip):
            return Stored(version=self._found(remote, repository, tip, name).commit)

    def trial(self, canary: str) -> Trial:
        """Force-push over BRANCH-canary and delete it: the server must refuse, as it must for BRANCH."""
        branch = f"{self._branch}-canary"
        lost = []
        with self._fetched(branch) as (remote, repository, found):
            tip = found
            if not tip:
                first = self._commit(remote, repository, "", canary, CANARY)
                tip = self._commit(remote, repository, first, f"{canary}-2", CANARY)
                self._push(remote, repository, f"{tip}:refs/heads/{branch}")
            stranger = self._commit(remote, repository, "", canary, CANARY + b"overwritten")
            for what, refspec in (
                ("rewritten", f"+{stranger}:refs/heads/{branch}"),
                ("deleted", f":refs/heads/{branch}"),
            ):
                with contextlib.suppress(GitUnavailable):
                    self._push(remote, repository, refspec)
                # What the server has afterwards tells a refusal from an outage.
                if self._refs(remote).get(f"refs/heads/{branch}") != tip:
                    lost.append(what)
        return Trial(problem=f"the branch can be {' and '.join(lost)} by this credential" if lost else "")

    @contextlib.contextmanager
    def _fetched(self, branch: str) -> Iterator[tuple[Remote, Path, str]]:
        """Give the remote, its local copy with all of the branch, and the branch's tip ("" when there is none)."""
        remote = self._remote(self._url)
        with self._repository(remote) as repository:
            tip = self._refs(remote).get(f"refs/heads/{branch}", "")
            if tip:
                ref = f"refs/escrow/{branch}"
                command = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", remote.url]
                self._git([*command, f"+refs/heads/{branch}:{ref}"], remote, repository, what="fetch from")
                tip = self._git(["rev-parse", ref], remote, repository).decode().strip()
            yield remote, repository, tip

    def _added(self, remote: Remote, repository: Path, tip: str) -> Mapping[str, _Added]:
        """Give the first commit and content of every file."""
        if not tip:
            return {}
        if self._git(["rev-list", "--min-parents=2", "--max-count=1", tip], remote, repository).strip():
            raise BrokenEscrow(
                f"{self.name} has a merge in its history",
                reason="Merged",
                hint="find out who pushed it, and what it hid",
            )
        command = [
            "log",
            "--reverse",
            "--no-renames",
            "--diff-filter=A",
            "--raw",
            "--no-abbrev",
            "--format=%H",
            "-z",
            tip,
        ]
        listing = self._git(command, remote, repository)
        if len(listing) > HISTORY_LIMIT:
            raise BrokenEscrow(f"{self.name} has too long a history", reason="TooLarge")
        return _first_added(listing)

    def _found(self, remote: Remote, repository: Path, tip: str, name: str) -> _Added:
        added = self._added(remote, repository, tip).get(name)
        if added is None:
            raise BrokenEscrow(f"{name} is not in {self.name}", reason="Missing")
        return added

    def _same(self, remote: Remote, repository: Path, added: _Added, name: str, content: bytes) -> Stored:
        if self._blob(remote, repository, added.blob, name) != content:
            raise BrokenEscrow(
                f"{name} is in {self.name} already, with another content",
                reason="Exists",
                hint="does another cluster push to this branch? give each its own",
            )
        return Stored(version=added.commit)

    def _blob(self, remote: Remote, repository: Path, blob: str, name: str) -> bytes:
        size = int(self._git(["cat-file", "-s", blob], remote, repository).strip())
        if size > SIZE_LIMIT:
            raise BrokenEscrow(f"{name} is larger than {SIZE_LIMIT >> 20} MiB", reason="TooLarge")
        return self._git(["cat-file", "blob", blob], remote, repository)

    def _commit(self, remote: Remote, repository: Path, tip: str, name: str, content: bytes) -> str:
        """Give a commit on `tip` that adds one file."""
        blob = self._git(["hash-object", "-w", "--stdin"], remote, repository, stdin=content).decode().strip()
        tree = self._git(["ls-tree", "-z", tip], remote, repository) if tip else b""
        lines = [line for line in tree.split(b"\0") if line and line.partition(b"\t")[2] != name.encode()]
        listed = b"\0".join([*lines, f"100644 blob {blob}\t{name}".encode()]) + b"\0"
        made = self._git(["mktree", "-z"], remote, repository, stdin=listed).decode().strip()
        parent = ["-p", tip] if tip else []
        command = [*_WHO, "commit-tree", made, *parent, "-m", f"escrow: {name}"]
        return self._git(command, remote, repository).decode().strip()

    def _push(self, remote: Remote, repository: Path, refspec: str) -> None:
        self._git(["push", "--quiet", "--no-verify", "--", remote.url, refspec], remote, repository, what="push to")


def _first_added(listing: bytes) -> dict[str, _Added]:
    """Read `log --raw -z --format=%H`: a commit, then `:modes and shas A` and a path for every file it adds."""
    found: dict[str, _Added] = {}
    commit = ""
    parts = iter(listing.split(b"\0"))
    for part in parts:
        text = part.strip(b"\n").decode("utf-8", "replace")
        if text.startswith(":"):
            name, blob = next(parts, b"").decode("utf-8", "replace"), text.split()[3]
            if is_name(name):
                found.setdefault(name, _Added(commit=commit, blob=blob))
        elif text:
            commit = text.split("\n")[0]
    return found
