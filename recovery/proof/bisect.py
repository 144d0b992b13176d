"""Which commit broke rebuildability: a search by halves through a history with branches and merges. Pure.

A commit is judged by the errors that lint, plan and verify find in it; judging is handed in. For each error that the
newer end has and the older end lacks, one commit is named that has it while none of its parents does. Never here:
rules, Git, printing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secretsops.errors import UsageError
from secretsops.ports import Commit

RANGE_LIMIT = 10_000
"""Commits between the two ends: a year of a busy repository."""

Judge = Callable[[str], Mapping[str, str]]
"""Give the errors of a commit: what each is (stable from commit to commit), and what it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """One commit that broke something: errors it has and none of its parents does."""

    commit: Commit
    errors: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bisection:
    """The answer: commits that broke something, oldest first, of `range` commits of which `judged` were looked at."""

    good: str
    bad: str
    broken: Sequence[Broken]
    range: int
    judged: int

    def body(self) -> dict[str, Any]:
        """Give it as stable plain data."""
        return {
            "apiVersion": "secretsops.dev/v1",
            "kind": "Bisection",
            "good": self.good,
            "bad": self.bad,
            "range": self.range,
            "judged": self.judged,
            "broken": [
                {
                    "commit": one.commit.sha,
                    "author": _author(one.commit),
                    "date": _date(one.commit),
                    "subject": _subject(one.commit),
                    "errors": [f"{name}: {said}" for name, said in sorted(one.errors.items())],
                }
                for one in self.broken
            ],
        }

    def table(self) -> str:
        """Give it for a terminal."""
        lines = []
        for one in self.broken:
            by = f"{_author(one.commit)}, {_date(one.commit)}"
            lines.append(f"broken by {one.commit.sha[:12]} ({by}): {_subject(one.commit)}")
            lines += [f"  {name}: {said}" for name, said in sorted(one.errors.items())]
        lines.append(f"{self.judged} of {self.range} commit(s) after {self.good[:12]} judged")
        if not self.broken:
            lines.append(f"{self.bad[:12]} has no error that {self.good[:12]} lacks")
        return "\n".join(lines) + "\n"


def bisect(history: Sequence[Commit], good: str, judge: Judge) -> Bisection:
    """Find what broke between `good` and the newest commit of a history (children before parents).

    Raises:
        UsageError: `good` is no ancestor of it, or too many commits lie between.
    """
    bad = history[0].sha
    between = _between(history, good)
    memo: dict[str, Mapping[str, str]] = {}

    def judged(sha: str) -> Mapping[str, str]:
        if sha not in memo:
            memo[sha] = judge(sha)
        return memo[sha]

    by_sha = {commit.sha: commit for commit in history}
    new = {name for name in judged(bad) if name not in judged(good)} if bad != good else set[str]()
    found: dict[str, dict[str, str]] = {}
    for name in sorted(new):
        sha = _first(name, between, judged)
        found.setdefault(sha, {})[name] = judged(sha)[name]
    order = [commit.sha for commit in reversed(history) if commit.sha in found]
    broken = [Broken(commit=by_sha[sha], errors=found[sha]) for sha in order]
    return Bisection(good=good, bad=bad, broken=broken, range=len(between), judged=len(memo))


def _between(history: Sequence[Commit], good: str) -> dict[str, tuple[str, ...]]:
    """Give the commits that `good` does not have, each with its parents among them, parents before children."""
    parents = {commit.sha: commit.parents for commit in history}
    if good not in parents:
        raise UsageError(
            f"{good[:12]} is no ancestor of {history[0].sha[:12]}",
            reason="NotAnAncestor",
            hint="name a commit that lies behind --revision; a history that was rewritten has lost it",
        )
    behind, todo = {good}, [good]
    while todo:
        for parent in parents.get(todo.pop(), ()):
            if parent not in behind:
                behind.add(parent)
                todo.append(parent)
    between = {c.sha: tuple(p for p in c.parents if p not in behind) for c in reversed(history) if c.sha not in behind}
    if len(between) > RANGE_LIMIT:
        raise UsageError(f"more than {RANGE_LIMIT} commits lie between", reason="TooMany", hint="name a newer --good")
    return between


def _first(name: str, between: Mapping[str, tuple[str, ...]], judged: Judge) -> str:
    """Give a commit that has an error while none of its parents does.

    Halves as `git bisect` does; what it left unlooked is checked at the end, for an error may come, go and come back.
    """
    masks = _ancestors(between)
    names = list(between)
    todo = masks[names[-1]]
    known_bad = names[-1]
    while True:
        if todo.bit_count() > 1:
            candidate = _half(masks, names, todo, known_bad)
            if name in judged(candidate):
                todo, known_bad = todo & masks[candidate], candidate
            else:
                todo &= ~masks[candidate]
            continue
        worse = next((parent for parent in between[known_bad] if name in judged(parent)), None)
        if worse is None:
            return known_bad
        todo, known_bad = masks[worse], worse


def _ancestors(between: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """Give each commit's ancestors among `between`, itself included, as bits in the order of `between`."""
    masks: dict[str, int] = {}
    for number, (sha, parents) in enumerate(between.items()):
        mask = 1 << number
        for parent in parents:
            mask |= masks.get(parent, 0)
        masks[sha] = mask
    return masks


def _half(masks: Mapping[str, int], names: Sequence[str], todo: int, bad: str) -> str:
    """Give the commit, other than the one known bad, whose verdict leaves the smaller rest whichever way it goes."""
    total = todo.bit_count()
    best, least = "", total + 1
    for number, sha in enumerate(names):
        if not todo >> number & 1 or sha == bad:
            continue
        below = (masks[sha] & todo).bit_count()
        worst = max(below, total - below)
        if worst < least:
            best, least = sha, worst
    return best


# --- a commit for people -------------------------------------------------------------------------------


def _author(commit: Commit) -> str:
    return _clean(_header(commit, b"author").rpartition(">")[0].partition(" <")[0])


def _date(commit: Commit) -> str:
    words = _header(commit, b"author").rpartition(">")[2].split()
    try:
        return dt.datetime.fromtimestamp(int(words[0]), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (IndexError, ValueError, OverflowError, OSError):
        return ""


def _subject(commit: Commit) -> str:
    return _clean(commit.raw.partition(b"\n\n")[2].partition(b"\n")[0].decode("utf-8", "replace"))


def _header(commit: Commit, name: bytes) -> str:
    for line in commit.raw.partition(b"\n\n")[0].split(b"\n"):
        if line.startswith(name + b" "):
            return line[len(name) + 1 :].decode("utf-8", "replace")
    return ""


def _clean(text: str) -> str:
    """Give a stranger's text fit for one line of a terminal."""
    return "".join(letter for letter in text if letter.isprintable())[:120]
