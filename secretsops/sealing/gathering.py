"""Which files a command looks at: those named, those below folders, those of a Git revision, those that changed.

What never lives here: what is done with them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from secretsops.errors import UsageError
from secretsops.files import read_input
from secretsops.sealing.lint import Source

if TYPE_CHECKING:
    from secretsops.ports import Doors, WorkTree

SUFFIXES = (".yaml", ".yml", ".json")
FILE_LIMIT = 32 * 1024 * 1024
"""Bytes of one file below a folder; larger ones hold no manifests and are left out."""
COUNT_LIMIT = 500_000
_SKIPPED = frozenset({".git", ".hg", ".svn", "node_modules", ".venv", ".terraform"})


def manifest_files(paths: Iterable[str]) -> Iterator[str]:
    """Give the files named, and below folders every YAML and JSON file, sorted; links to folders are not followed.

    Raises:
        UsageError: a path is not there.
    """
    for path in paths:
        if Path(path).is_dir():
            yield from _below(path)
        elif Path(path).exists() or path == "-":
            yield path
        else:
            raise UsageError(f"{path}: no such file or folder", reason="NoSuchFile")


def _below(folder: str) -> Iterator[str]:
    count = 0
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        for name in sorted(files):
            path = os.path.normpath(os.path.join(here, name))  # noqa: PTH118 - a Path costs ten times as much
            if name.endswith(SUFFIXES) and os.path.isfile(path) and os.path.getsize(path) <= FILE_LIMIT:  # noqa: PTH113, PTH202
                count += 1
                if count > COUNT_LIMIT:
                    raise UsageError(f"{folder} holds more than {COUNT_LIMIT} manifests", reason="TooMany")
                yield path


def sources(paths: Sequence[str], doors: Doors, *, revision: str = "", changed_since: str = "") -> list[Source]:
    """Give what there is to judge: on disk or at `revision`, all of it or what differs from `changed_since`.

    Raises:
        UsageError: a path or revision is not there.
    """
    if not revision and not changed_since:
        return [Source(path=path, content=read_input(path)) for path in manifest_files(paths)]
    tree = doors.worktree(paths[0] if paths else ".")
    inside = [_relative(path, tree) for path in paths]
    scope = [] if "." in inside else inside
    if revision:
        content = {path: raw for path, raw in tree.files(revision, scope).items() if _chosen(path, inside)}
    else:
        changed = tree.changed_since(changed_since)
        content = {}
        for path in manifest_files(paths):
            relative = _relative(path, tree)
            if relative in changed:
                content[relative] = read_input(path)
    before = tree.files(changed_since, sorted(content)) if changed_since and content else {}
    if revision and changed_since:
        content = {path: raw for path, raw in content.items() if before.get(path) != raw}
    return [Source(path=path, content=raw, before=before.get(path)) for path, raw in sorted(content.items())]


def _relative(path: str, tree: WorkTree) -> str:
    try:
        # The folder is resolved, the file itself is not: a link is judged where it stands.
        full = Path(path).resolve() if Path(path).is_dir() else Path(path).parent.resolve() / Path(path).name
        return full.relative_to(Path(tree.root).resolve()).as_posix()
    except ValueError:
        raise UsageError(f"{path} lies outside the checkout {tree.root}", reason="OutsideCheckout") from None


def _chosen(path: str, named: Sequence[str]) -> bool:
    """Say whether a file of a revision is one to judge: named itself, or a manifest below a folder."""
    return path in named or path.endswith(SUFFIXES)
