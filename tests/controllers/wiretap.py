"""A door in front of a cluster's door: notes what a reflector asks for, and breaks it off where a test says so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from secretsops.errors import SecretsOpsError
from secretsops.manifest import GroupVersionKind
from secretsops.ports import Cluster, EventType, Page, Watch, WatchEvent


class Asked(NamedTuple):
    """One list page (`token` is its continue token) or one watch (`token` is its resourceVersion)."""

    verb: str
    token: str
    at: float


@dataclass(kw_only=True)
class Wiretap:
    """Lists and watches through `cluster`; everything else is the door's own."""

    cluster: Cluster
    page_size: int = 500
    monotonic: Callable[[], float] = time.monotonic
    asked: list[Asked] = field(default_factory=list)
    broken: Callable[[str], SecretsOpsError | None] = lambda _verb: None
    """Gives the error of the next list or watch by its verb, None to let it pass."""
    bookmarks: int = 0
    forgotten: bool = False
    """Ask for the next watch from the server's first days, which a real one answers by 410 for certain."""
    open: Watch | None = None
    _cut: SecretsOpsError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cluster, name)

    def cut(self, error: SecretsOpsError) -> None:
        """Break the running watch off with an error."""
        self._cut = error
        assert self.open is not None
        self.open.close()

    def page(self, kind: GroupVersionKind, *, resume: str = "", **selection: Any) -> Page:
        self._ask("list", resume)
        return self.cluster.page(kind, resume=resume, limit=self.page_size, **selection)

    @contextmanager
    def watch(self, kind: GroupVersionKind, *, resource_version: str = "", **selection: Any) -> Iterator[Watch]:
        self._ask("watch", resource_version)
        if self.forgotten:
            self.forgotten, resource_version = False, "1"
        with self.cluster.watch(kind, resource_version=resource_version, **selection) as watch:
            self.open = watch
            try:
                yield _Tapped(self, watch)
            finally:
                self.open = None

    def _ask(self, verb: str, token: str) -> None:
        self.asked.append(Asked(verb, token, self.monotonic()))
        error = self.broken(verb)
        if error is not None:
            raise error

    def verbs(self) -> list[str]:
        """Give what was asked for, in order."""
        return [asked.verb for asked in self.asked]


class _Tapped:
    def __init__(self, tap: Wiretap, watch: Watch) -> None:
        self._tap, self._watch = tap, watch

    def __iter__(self) -> Iterator[WatchEvent]:
        for event in self._watch:
            self._tap.bookmarks += event.type is EventType.BOOKMARK
            yield event
        error, self._tap._cut = self._tap._cut, None
        if error is not None:
            raise error

    def close(self) -> None:
        self._watch.close()


def until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"awaited in vain: {what}"
        time.sleep(0.02)
