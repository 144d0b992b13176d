"""Git repositories in memory: the Git door for unit tests, held to `tests/contract/git`.

git = FakeGit()
first = git.commit("https://git.invalid/estate.git", {"apps/web.yaml": "…"})
git.fail(GitUnavailable("no answer", reason="Timeout"), times=2)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

from secretsops.errors import GitUnavailable, UsageError
from secretsops.ports import Commit, Signature, SignatureState, SigningKeys, Tree

Content = TypeVar("Content", bytes, str)
_FULL = re.compile(r"[0-9a-f]{40}")
_SHORT = re.compile(r"[0-9a-f]{7,39}")
_REVISION = re.compile(r"[A-Za-z0-9_./@+-]+")


@dataclass(slots=True)
class _Repository:
    commits: dict[str, Tree] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    raw: dict[str, Commit] = field(default_factory=dict)


class FakeGit:
    """Repositories by URL, each with its commits, branches and tags. Satisfies `secretsops.ports.GitRepos`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        """(verb, url, revision) of every call, in order."""
        self._repositories: dict[str, _Repository] = {}
        self._faults: list[GitUnavailable] = []
        self._signed: dict[bytes, str] = {}

    # --- for tests -------------------------------------------------------------------------------------

    def commit(
        self,
        url: str,
        files: Mapping[str, str | bytes],
        *,
        links: Mapping[str, str] | None = None,
        branch: str = "main",
        orphan: bool = False,
        signed: str = "",
        message: str = "a change",
    ) -> str:
        """Add a commit that changes `files` (and names `links`) on a branch; gives its SHA. `orphan` starts anew.

        `signed` is the fingerprint of an OpenPGP key that signs it.
        """
        repository = self._repositories.setdefault(url, _Repository())
        before = repository.commits.get(repository.branches.get(branch, "")) if not orphan else None
        contents = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
        merged = {**(before.files if before else {}), **contents}
        named = {**(before.links if before else {}), **(links or {})}
        text = repr((len(repository.commits), sorted(merged.items()), sorted(named.items())))
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        repository.commits[sha] = Tree(url=url, revision=sha, files=merged, links=named)
        parents = (repository.branches[branch],) if before else ()
        lines = [f"tree {sha}", *(f"parent {parent}" for parent in parents), "author A <a@example.com> 0 +0000"]
        raw = ("\n".join(lines) + f"\n\n{message}\n").encode()
        repository.raw[sha] = Commit(sha=sha, parents=parents, raw=raw)
        if signed:
            self._signed[raw] = signed
        repository.branches[branch] = sha
        return sha

    def remove(self, url: str, *paths: str) -> str:
        """Add a commit on main without these files; gives its SHA."""
        tip = self._repositories[url].branches["main"]
        sha = self.commit(url, {"removed": " ".join(paths)})
        found = self._repositories[url].commits
        kept = {path: text for path, text in found[tip].files.items() if path not in paths}
        found[sha] = Tree(url=url, revision=sha, files=kept, links=found[tip].links)
        return sha

    def tag(self, url: str, name: str, sha: str) -> None:
        """Name a commit by a tag."""
        self._repositories[url].tags[name] = sha

    def fail(self, error: GitUnavailable, *, times: int = 1) -> None:
        """Raise `error` for the next `times` calls."""
        self._faults.extend([error] * times)

    # --- the door --------------------------------------------------------------------------------------

    def resolve(self, url: str, revision: str) -> str:
        """Give the commit of a branch, tag, SHA or HEAD; a branch wins over a tag of its name."""
        self.asked.append(("resolve", url, revision))
        return self._resolve(url, revision or "HEAD")

    def tree(self, url: str, revision: str, path: str = "") -> Tree:
        """Give the files below `path`; one file goes by its base name, an absent path is empty."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if ".." in parts or "\x00" in path:
            raise UsageError(f"path {path!r} leaves the repository", reason="InvalidPath")
        self.asked.append(("tree", url, revision))
        whole = self._repository(url).commits[self._resolve(url, revision or "HEAD")]
        base = "/".join(parts)
        return Tree(url=url, revision=whole.revision, files=_below(whole.files, base), links=_below(whole.links, base))

    def history(self, url: str, revision: str, *, limit: int = 1) -> list[Commit]:
        """Give a commit and its ancestors, at most `limit`."""
        self.asked.append(("history", url, revision))
        known = self._repository(url).raw
        found = [known[self._resolve(url, revision or "HEAD")]]
        while len(found) < limit and found[-1].parents:
            found.append(known[found[-1].parents[0]])
        return found

    def annotated_tag(self, url: str, revision: str) -> bytes:
        """Give b"": tags here are light."""
        return b""

    def signatures(self, objects: Sequence[bytes], keys: SigningKeys) -> list[Signature]:
        """Say what `commit` was told, as if the key were on every keyring."""
        told = [self._signed.get(raw, "") for raw in objects]
        good, none = SignatureState.GOOD, SignatureState.UNSIGNED
        return [Signature(state=good if key else none, key=key, primary=key) for key in told]

    def _repository(self, url: str) -> _Repository:
        if urlsplit(url).scheme not in ("http", "https", "file"):
            raise UsageError(f"cannot read {url[:80]}: only http, https and file URLs", reason="UnsupportedUrl")
        if self._faults:
            raise self._faults.pop(0)
        if url not in self._repositories:
            raise GitUnavailable("no such repository", reason="GitUnavailable")
        return self._repositories[url]

    def _resolve(self, url: str, revision: str) -> str:
        if not _REVISION.fullmatch(revision) or ".." in revision or revision.startswith("-"):
            raise UsageError(f"{revision[:80]!r} is no Git revision", reason="InvalidRevision")
        repository = self._repository(url)
        known = {
            **{f"refs/tags/{name}": sha for name, sha in repository.tags.items()},
            **repository.tags,
            **{f"refs/heads/{name}": sha for name, sha in repository.branches.items()},
            **repository.branches,
            "HEAD": repository.branches.get("main", ""),
        }
        if revision in known:
            return known[revision]
        lower = revision.lower()
        if _FULL.fullmatch(lower) and lower in repository.commits:
            return lower
        matching = [sha for sha in repository.commits if sha.startswith(lower)] if _SHORT.fullmatch(lower) else []
        if len(matching) != 1:
            raise GitUnavailable(f"no branch, tag or commit {revision!r}", reason="RevisionNotFound")
        return matching[0]


def _below(entries: Mapping[str, Content], base: str) -> dict[str, Content]:
    if base in entries:
        return {base.rpartition("/")[2]: entries[base]}
    prefix = f"{base}/" if base else ""
    return {path.removeprefix(prefix): content for path, content in entries.items() if path.startswith(prefix)}
