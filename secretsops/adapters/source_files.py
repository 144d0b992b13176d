"""Repositories and charts as files that are read with no network: Git bundles and chart archives.

A bundle holds the whole history of the commits it was made for (stock `git clone -b kit-… FILE` reads it), and its
bytes follow from them: the same commits give the same file with the same Git. Opening one checks every object's digest.
Never here: which commits a rebuild needs, what else a kit holds (`recovery/kit.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from secretsops.adapters.charts import PREFIX, ChartRepos
from secretsops.adapters.git import GitDoor
from secretsops.adapters.repositories import Repositories, SourceDoor, normal, signing_in
from secretsops.adapters.submodules import COUNT_LIMIT, resolved
from secretsops.errors import GitUnavailable, Refused
from secretsops.files import write_atomic
from secretsops.ports import GitRepos, RepositoryLogin, SourceFile, Tree

BUNDLE_LIMIT = 2 * 1024 * 1024 * 1024
"""Bytes of one bundle."""
_HEAD = b"# v2 git bundle\n"
_FULL = re.compile(r"[0-9a-f]{40}")
_PIN = re.compile(r"[^@\s]+@sha256:([0-9a-f]{64})")


class _Bundler(GitDoor):
    """The Git door, which also writes and reads bundles."""

    def bundle(self, url: str, commits: Sequence[str]) -> bytes:
        """Give a bundle of these commits with all their history, one branch `kit-DIGITS` for each.

        Raises:
            GitUnavailable: no answer, a commit is not there, or it is too large.
        """
        remote, wanted = self._remote(url), sorted(set(commits))
        with self._repository(remote, "-whole") as repository:
            for commit in wanted:
                self._fetch_whole(url, repository, commit)
            asked = "".join(f"{commit}\n" for commit in wanted).encode()
            listed = self._git(["rev-list", "--objects", "--stdin"], remote, repository, stdin=asked)
            # One thread and nothing reused: the bytes follow from the objects alone, not from how they came here.
            options = ["--stdout", "--quiet", "--threads=1", "--no-reuse-delta", "--no-reuse-object"]
            pack = self._git(["pack-objects", *options], remote, repository, stdin=listed, what="pack")
        if len(pack) > BUNDLE_LIMIT:
            raise GitUnavailable(f"{url} makes a bundle of more than 2 GiB", reason="TooLarge")
        refs = b"".join(f"{commit} refs/heads/{branch_of(commit)}\n".encode() for commit in wanted)
        return _HEAD + refs + b"\n" + pack

    def _fetch_whole(self, url: str, repository: Path, commit: str) -> None:
        ref, remote = f"refs/heads/{branch_of(commit)}", self._remote(url)
        if (repository / ref).exists():
            return
        command = ["fetch", "--quiet", "--no-tags", "--force", "--no-write-fetch-head", "--", remote.url]
        try:
            self._git([*command, f"+{commit}:{ref}"], remote, repository, what="fetch from")
        except GitUnavailable as error:
            if error.reason == "Timeout":
                raise
            refspecs = ["+refs/heads/*:refs/remotes/all/*", "+refs/tags/*:refs/tags/*"]
            self._git([*command, *refspecs], remote, repository, what="fetch from")
            if not self._is_commit(remote, repository, commit):
                raise GitUnavailable(
                    f"{url} has no commit {commit}",
                    reason="RevisionNotFound",
                    hint="was the branch force-pushed since the revision was pinned?",
                ) from None
            self._git(["update-ref", ref, commit], remote, repository)

    def unbundle(self, file: Path, commits: Sequence[str], folder: Path) -> None:
        """Make a bare repository of a bundle; raises `Refused` with reason `BrokenBundle` where a commit is missing."""
        remote = self._remote(folder.as_uri())
        try:
            self._git(["init", "--quiet", "--bare", str(folder)], remote)
            command = ["-c", "fetch.fsckObjects=true", "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--"]
            self._git([*command, str(file), "+refs/heads/*:refs/heads/*"], remote, folder)
            found = [self._git(["rev-parse", f"refs/heads/{branch_of(c)}^{{commit}}"], remote, folder) for c in commits]
        except GitUnavailable as error:
            raise Refused(f"{file.name} is no whole bundle: {error.message}", reason="BrokenBundle") from None
        if [text.decode().strip() for text in found] != list(commits):
            raise Refused(f"{file.name} holds another commit than it says", reason="BrokenBundle")


def branch_of(commit: str) -> str:
    """Give the branch of a bundle that names a commit."""
    return f"kit-{commit[:12]}"


class SourceFiles:
    """Writes and opens files of sources. Satisfies `secretsops.ports.SourceFiles`."""

    def __init__(
        self,
        *,
        repositories: Repositories | None = None,
        cache: Path | None = None,
        lent: Sequence[RepositoryLogin] = (),
    ) -> None:
        """Read repositories as `repositories` says; caches are below `cache`, by default the user's."""
        self._known = repositories or Repositories()
        login = signing_in(self._known, lent)
        self._git = _Bundler(cache=cache, login=login, ssh=self._known.ssh, timeout=600.0)
        self._archives = self._git.cache / "charts"
        self._charts = ChartRepos(cache=self._archives, login=login)

    def places(self, url: str, commit: str) -> Sequence[tuple[str, str]]:
        """Give the source itself and the submodules below it that are consented to, each with its commit."""
        found: list[tuple[str, str]] = []
        todo = [(url, commit)]
        while todo:
            one = todo.pop(0)
            if one in found:
                continue
            found.append(one)
            if len(found) > COUNT_LIMIT:
                raise GitUnavailable(f"more than {COUNT_LIMIT} submodules below {url}", reason="TooLarge")
            if one[0].startswith(PREFIX) or not self._known.submodules:
                continue
            modules = self._git.modules(self._known.mirrored(normal(one[0])), one[1]).values()
            named = [(resolved(normal(one[0]), written), sha) for sha, written in modules]
            todo += [(target, sha) for target, sha in named if target and self._known.consents(target)]
        return found

    def pack(self, url: str, commits: Sequence[str]) -> bytes:
        """Give the bundle of a repository at these commits, or the archive of a chart at its one pin."""
        if not url.startswith(PREFIX):
            return self._git.bundle(self._known.mirrored(normal(url)), commits)
        (pin,) = commits
        found = _PIN.fullmatch(pin)
        if found is None:
            raise GitUnavailable(f"{url}: {pin[:80]!r} is no pinned chart", reason="RevisionNotFound")
        address, mark, chart = url.removeprefix(PREFIX).partition("#")
        self._charts.tree(PREFIX + self._known.mirrored(address) + mark + chart, pin)
        return (self._archives / f"{found[1]}.tgz").read_bytes()

    def opened(self, files: Sequence[SourceFile], folder: str) -> GitRepos:
        """Give the door that reads sources from these files and from nothing else; what it needs is below `folder`.

        Raises:
            Refused: reason `BrokenBundle`; a file is not what it says.
        """
        work = Path(folder)
        door = _Bundler(cache=work / "cache", timeout=600.0)
        (work / "cache" / "charts").mkdir(parents=True, exist_ok=True)
        places: dict[str, str] = {}
        for number, one in enumerate(files):
            if one.url.startswith(PREFIX):
                digests = [found[1] for pin in one.commits for found in [_PIN.fullmatch(pin)] if found]
                for digest in digests:
                    write_atomic(work / "cache" / "charts" / f"{digest}.tgz", Path(one.path).read_bytes())
                continue
            target = work / "repositories" / f"{number}.git"
            target.parent.mkdir(exist_ok=True)
            if any(not _FULL.fullmatch(commit) for commit in one.commits):
                raise Refused(f"{one.url}: a commit of it is none", reason="BrokenBundle")
            door.unbundle(Path(one.path), one.commits, target)
            places[one.url] = target.as_uri()
        inside = SourceDoor(cache=work / "cache", repositories=_exactly(places))
        return _Closed(inside, places)


def _exactly(places: Mapping[str, str]) -> Repositories:
    """Give what reads each URL from its place; every repository in the kit may be a submodule of another."""
    return Repositories(
        mirrors=tuple((normal(url), place) for url, place in places.items()),
        submodules=tuple(normal(url) for url in places),
    )


class _Closed(SourceDoor):
    """A door that knows some repositories, and asks nobody for any other."""

    def __init__(self, inside: SourceDoor, places: Mapping[str, str]) -> None:
        super().__init__(cache=inside._git.cache, repositories=inside._known)  # noqa: SLF001 - the same class
        self._places = {normal(url) for url in places}

    def _door(self, url: str) -> tuple[GitRepos, str]:
        if url.startswith(PREFIX):
            raise _not_in_kit(url)
        return super()._door(url)

    def tree(self, url: str, revision: str, path: str = "") -> Tree:
        """Give the files of a commit, or of a chart whose archive is here."""
        pinned = _PIN.fullmatch(revision) if url.startswith(PREFIX) else None
        if pinned and (self._git.cache / "charts" / f"{pinned[1]}.tgz").is_file():
            return self._charts.tree(url, revision, path)
        return super().tree(url, revision, path)

    def _address(self, url: str) -> str:
        if normal(url) not in self._places:
            raise _not_in_kit(url)
        return super()._address(url)


def _not_in_kit(url: str) -> GitUnavailable:
    return GitUnavailable(f"{url} is not in the kit", reason="NotInKit", hint="make a new kit of this estate")
