"""Submodules of a tree, followed where somebody consented: `submodules` of the file that SECRETSOPS_REPOSITORIES names.

A submodule is read with our credentials, so that whoever may push could otherwise have any repository read that we
may read and they may not, the one next door as well. Without consent it stays a link that whoever renders refuses by
name. The commit is the one that the parent's tree pins, so a signature of the parent covers it.

Format: gitmodules(5). Never here: speaking to a repository (`git.py`).
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from secretsops.errors import GitUnavailable
from secretsops.ports import Tree

DEPTH_LIMIT = 8
COUNT_LIMIT = 100
"""Submodules below each other, and of one tree."""
FILE_LIMIT = 100_000
TOTAL_LIMIT = 256 * 1024 * 1024
"""Files and bytes of a tree with all its submodules."""


class Modules(Protocol):
    """A Git door that can also say what `.gitmodules` says."""

    def tree(self, url: str, revision: str, path: str = "") -> Tree:
        """Read the files of a commit below `path`."""

    def modules(self, url: str, revision: str) -> Mapping[str, tuple[str, str]]:
        """Give each submodule's path with the commit that is pinned and the URL as it is written."""


def with_submodules(
    door: Modules, url: str, revision: str, path: str, *, address: Callable[[str], str], consents: Callable[[str], bool]
) -> Tree:
    """Give a tree with the files of its submodules in their place, as far as there is consent.

    `url` is the repository as it is named, `address` gives where a named one is read.

    Raises:
        GitUnavailable: a repository gives no answer, lacks the pinned commit, or there are too many.
    """
    return _Reader(door, address, consents).tree(url, revision, path, 0)


class _Reader:
    def __init__(self, door: Modules, address: Callable[[str], str], consents: Callable[[str], bool]) -> None:
        self._door, self._address, self._consents = door, address, consents
        self._count = 0

    def tree(self, url: str, revision: str, path: str, depth: int) -> Tree:
        """Give one tree, its submodules' trees in it."""
        address, base = self._address(url), posixpath.normpath(path.strip("/")) if path.strip("/.") else ""
        tree = self._door.tree(address, revision, path)
        if not tree.submodules and (not base or tree.files or tree.links):
            return tree
        files, links = dict(tree.files), dict(tree.links)
        for place, (commit, written) in self._door.modules(address, tree.revision).items():
            if not (not base or place == base or _below(place, base) or _below(base, place)):
                continue
            target, inside = resolved(url, written), base[len(place) :].strip("/")
            prefix = "" if inside or place == base else place[len(base) :].strip("/")
            name = prefix or (base if inside else place).rpartition("/")[2]
            if not target or not self._consents(target):
                said = f"the submodule {written[:200]!r} is not followed: the repositories file does not consent to it"
                links[name] = said
                continue
            below = self._follow(target, commit, inside, depth)
            links.pop(name, None)
            lead = f"{prefix}/" if prefix else ""
            files |= {lead + name: content for name, content in below.files.items()}
            links |= {lead + name: said for name, said in below.links.items()}
        if len(files) > FILE_LIMIT or sum(map(len, files.values())) > TOTAL_LIMIT:
            raise GitUnavailable(f"{tree.url} holds too much with its submodules", reason="TooLarge")
        return replace(tree, files=files, links=links, submodules={})

    def _follow(self, url: str, commit: str, path: str, depth: int) -> Tree:
        self._count += 1
        if depth >= DEPTH_LIMIT or self._count > COUNT_LIMIT:
            raise GitUnavailable(
                f"more than {DEPTH_LIMIT} submodules below each other, or {COUNT_LIMIT} in all", reason="TooLarge"
            )
        return self.tree(url, commit, path, depth + 1)


def _below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")


def resolved(url: str, written: str) -> str:
    """Give the URL of a submodule: as written, or relative to its parent's (`../lib.git`); "" above the host."""
    if not written.startswith(("./", "../")):
        return written
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    for step in written.split("/"):
        if step == "..":
            if not path.strip("/"):
                return ""
            path = path.rpartition("/")[0]
        elif step not in ("", "."):
            path = f"{path}/{step}"
    return urlunsplit(parts._replace(path=path, query="", fragment=""))
