"""Sealing anew what is not on the newest key, over many files: what is due, one file at a time, all or none of it.

A file is replaced whole or not at all, so a run that ends early is continued by running it again: what is done is not
due any more. What opens nowhere is reported and stops nothing else.

What never lives here: options, Git, progress on a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from secretsops.errors import InvalidManifest, Refused, SecretsOpsError
from secretsops.files import read_input, write_atomic
from secretsops.sealing.sealed_file import Found, item_changes, sealed_secrets
from secretsops.sealing.yaml_edit import edit

if TYPE_CHECKING:
    from secretsops.manifest import Manifest
    from secretsops.sealing.certificate import Certificate
    from secretsops.sealing.keys import KeyRing

AHEAD = 8
"""Files per worker that are under way at most: memory stays bounded however many there are."""
Reseal = Callable[[Found], tuple[Mapping[str, str], Mapping[str, str]]]
"""Gives the items of an object that are due, sealed anew, and fingerprints by item as known; called by many threads."""


class Outcome(StrEnum):
    """What became of a file."""

    CURRENT = "current"
    DUE = "due"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One file: how many items were due (or done), and what failed, by object."""

    path: str
    outcome: Outcome
    items: int = 0
    problems: tuple[str, ...] = ()


def by_keys(ring: KeyRing, certificate: Certificate) -> Reseal:
    """Give what opens with private keys: whether an item is due is proven by opening it, the hint only orders keys."""
    from secretsops.sealing.sealed import reseal

    return lambda one: reseal(one.manifest, ring, certificate)


def by_controller(rotate: Callable[[Manifest], Mapping[str, str]], fingerprint: str, *, trust_hints: bool) -> Reseal:
    """Give what asks the controller, which does all items of an object at once.

    An object whose hint names the newest key for every item is not sent, unless hints are not trusted.
    """

    def reseal(one: Found) -> tuple[Mapping[str, str], Mapping[str, str]]:
        if trust_hints and not due_by_hint(one, fingerprint):
            return {}, {}
        items = rotate(one.manifest)
        changed = {key: text for key, text in items.items() if text != one.items.get(key)}
        return changed, dict.fromkeys(items, fingerprint)

    return reseal


def by_hints(fingerprint: str) -> Reseal:
    """Give what names the items that are not said to be on the newest key, and seals nothing."""
    return lambda one: ({item: str(one.items[item]) for item in due_by_hint(one, fingerprint)}, {})


def due_by_hint(one: Found, fingerprint: str) -> list[str]:
    """Name the items that are not said to be sealed with the newest key."""
    return [item for item in one.items if one.hint.key_of(item) != fingerprint]


def run(paths: Iterable[str], reseal: Reseal, *, write: bool, workers: int) -> Iterator[Result]:
    """Give the result of every file with SealedSecrets in it, as they are done. `write=False` only counts."""
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="reencrypt") as pool:
        under_way: set[Future[Result | None]] = set()
        try:
            for path in paths:
                under_way.add(pool.submit(_file, path, reseal, write=write))
                while len(under_way) >= workers * AHEAD:
                    done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                    yield from filter(None, (future.result() for future in done))
            while under_way:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                yield from filter(None, (future.result() for future in done))
        finally:
            for future in under_way:
                future.cancel()


def _file(path: str, reseal: Reseal, *, write: bool) -> Result | None:
    """Do one file; None where it holds no SealedSecret."""
    try:
        content = read_input(path)
        if b"SealedSecret" not in content:
            return None
        found = [one for one in sealed_secrets(content, source="") if one.items]
    except InvalidManifest as error:
        return Result(path=path, outcome=Outcome.FAILED, problems=(f"{error.message} ({error.reason})",))
    except SecretsOpsError as error:
        return Result(path=path, outcome=Outcome.FAILED, problems=(error.message,))
    if not found:
        return None
    changes, problems, count = {}, [], 0
    for one in found:
        try:
            items, keys = reseal(one)
        except SecretsOpsError as error:
            problems.append(f"{one.manifest.namespace}/{one.manifest.name}: {error.message}")
            continue
        if items:
            changes[one.document] = item_changes(one, items, keys)
            count += len(items)
    if changes and write:
        try:
            edited = edit(content, changes, source=path)
            if read_input(path) != content:
                raise Refused("it was changed by somebody else meanwhile", reason="FileChanged")
            write_atomic(Path(path), edited)
        except SecretsOpsError as error:
            return Result(path=path, outcome=Outcome.FAILED, items=count, problems=(*problems, error.message))
    outcome = Outcome.CURRENT if not changes else Outcome.DONE if write else Outcome.DUE
    return Result(path=path, outcome=Outcome.FAILED if problems else outcome, items=count, problems=tuple(problems))
