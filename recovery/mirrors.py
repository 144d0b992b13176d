"""Repositories that are read from elsewhere when their host is down, or always: each place is tried in order.

A commit is what it says wherever it comes from: Git names it by its content, a chart by its digest. So files may come
from any mirror, and an answer about another commit is refused. What a branch is now only the host knows: a mirror is
asked for it when the host gives no answer, never when it says that there is none. Never here: speaking to a repository.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from recovery.setup import is_below
from secretsops.errors import GitUnavailable, UsageError
from secretsops.ports import Commit, GitRepos, Signature, SigningKeys, Tree

T = TypeVar("T")
_CHART = "helm+"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Where repositories at or below `from_` are, too. With `only` their host is never asked."""

    from_: str
    to: tuple[str, ...]
    only: bool = False


def check(mirrors: Sequence[Mirror]) -> tuple[Mirror, ...]:
    """Give the mirrors if each can mean something.

    Raises:
        UsageError: reason `InvalidMirror`.
    """
    for mirror in mirrors:
        if not mirror.from_ or not mirror.to or not all(mirror.to):
            raise UsageError(
                "a mirror needs an address and where it is mirrored", reason="InvalidMirror", hint="--mirror URL=URL"
            )
    return tuple(mirrors)


class Mirrored:
    """A Git door behind mirrors. Satisfies `secretsops.ports.GitRepos`."""

    def __init__(
        self,
        git: GitRepos,
        mirrors: Sequence[Mirror],
        tell: Callable[[str], None] | None = None,
        *,
        sign_in: Callable[[str], bool] | None = None,
    ) -> None:
        """Read through `git`; `tell` is told once of each address that is read elsewhere.

        `sign_in` is asked once for each place that gives no answer; where it says True the place is asked again.
        """
        self._sign_in, self._asked = sign_in, set[str]()
        self._git, self._mirrors = git, tuple(mirrors)
        self._tell = tell or (lambda _text: None)
        self._down: dict[str, GitUnavailable] = {}
        """Places that gave no answer in this run, with their last words: not asked again, each would cost minutes."""
        self._told: set[str] = set()

    def resolve(self, url: str, revision: str) -> str:
        """Give the commit, from the first place that answers."""
        return self.first(url, lambda place: self._git.resolve(place, revision), final=("RevisionNotFound",))

    def tree(self, url: str, revision: str, path: str = "") -> Tree:
        """Give the files of a commit, from the first place that has it.

        Raises:
            GitUnavailable: no place has it; reason `OtherCommit` where one answers with another.
        """

        def read(place: str) -> Tree:
            found = self._git.tree(place, revision, path)
            pinned = len(revision) in (40, 64) or "@sha256:" in revision
            if pinned and found.revision != revision:
                raise GitUnavailable(
                    f"{place} answers with {found.revision[:12]} for the pinned {revision[:12]}",
                    reason="OtherCommit",
                    hint="the mirror is wrong or was tampered with: do not use it",
                )
            return found

        return self.first(url, read, final=("OtherCommit",))

    def history(self, url: str, revision: str, *, limit: int = 1) -> Sequence[Commit]:
        """Give a history, from the first place that has it."""
        return self.first(url, lambda place: self._git.history(place, revision, limit=limit), final=())

    def annotated_tag(self, url: str, revision: str) -> bytes:
        """Give the annotated tag that a revision names, from the first place that answers."""
        return self.first(url, lambda place: self._git.annotated_tag(place, revision), final=("RevisionNotFound",))

    def signatures(self, objects: Sequence[bytes], keys: SigningKeys) -> Sequence[Signature]:
        """Check signatures; no place is asked."""
        return self._git.signatures(objects, keys)

    def first(self, url: str, read: Callable[[str], T], *, final: tuple[str, ...] = ()) -> T:
        """Give the answer of the first place; an answer whose reason is `final` ends the search."""
        places = self._places(url)
        problems: list[GitUnavailable] = []
        for number, place in enumerate(places):
            last = number == len(places) - 1
            if place in self._down and not last:
                problems.append(self._down[place])
                continue
            try:
                found = self._read(place, read)
            except GitUnavailable as error:
                if (last and not problems) or error.reason in final:
                    raise
                problems.append(error)
                if error.reason not in ("RevisionNotFound", "Denied", "TooLarge"):
                    self._down[place] = error
                continue
            if place != url and url not in self._told:
                self._told.add(url)
                why = (
                    "it is the only place allowed"
                    if url not in places
                    else self._down.get(url) or "its host has it not"
                )
                self._tell(f"{url} is read from {place}: {why}")
            return found
        said = "; ".join(error.message for error in problems)
        raise GitUnavailable(f"no place of {url} answers: {said}", reason=problems[-1].reason, hint=problems[-1].hint)

    def _read(self, place: str, read: Callable[[str], T]) -> T:
        try:
            return read(place)
        except GitUnavailable:
            if self._sign_in is None or place in self._asked:
                raise
            self._asked.add(place)
            if not self._sign_in(place):
                raise
        return read(place)

    def _places(self, url: str) -> list[str]:
        chart, address = (_CHART, url.removeprefix(_CHART)) if url.startswith(_CHART) else ("", url)
        bare, mark, name = address.partition("#")
        fitting = [one for one in self._mirrors if is_below(_plain(bare), _plain(one.from_))]
        if not fitting:
            return [url]
        longest = max(fitting, key=lambda one: len(one.from_))
        rest = "" if _plain(bare) == _plain(longest.from_) else bare[len(_plain(longest.from_)) :]
        places = [chart + to.rstrip("/") + rest + mark + name for to in longest.to]
        return places if longest.only else [url, *places]


def _plain(url: str) -> str:
    return url.rstrip("/").removesuffix(".git")
