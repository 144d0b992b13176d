"""What a drill shows while it runs: live on a terminal, plain lines elsewhere. Standard error only.

Never here: what happens; results, which go to standard output.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import Any, Protocol, Self

import click


class Display(Protocol):
    """Shows steps as they begin and end, and what is going on in between."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def begin(self, name: str, what: str) -> None:
        """Show that a step began."""

    def line(self, text: str) -> None:
        """Show what is going on now."""

    def end(self, name: str, *, seconds: float, ok: bool, message: str) -> None:
        """Show how a step ended."""


def display() -> Display:
    """Give the live display on a terminal that can draw it, else plain lines."""
    if sys.stderr.isatty():
        try:
            return _Live()
        except ImportError:
            return _Lines()
    return _Lines()


class _Lines:
    def __init__(self) -> None:
        self._one = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def begin(self, name: str, what: str) -> None:
        self._say(f"{name}: {what}")

    def line(self, text: str) -> None:
        self._say(f"  {text}")

    def end(self, name: str, *, seconds: float, ok: bool, message: str) -> None:
        self._say(f"{name}: {'done' if ok else f'FAILED: {message}'} ({seconds:.1f} s)")

    def _say(self, text: str) -> None:
        with self._one:
            click.echo(text, err=True)


class _Live:
    """Finished steps with their times, the running one with a spinner and its last lines."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, refresh_per_second=8, transient=False)
        self._done: list[Any] = []
        self._now = ""
        self._last: deque[str] = deque(maxlen=6)
        self._one = threading.Lock()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._now = ""
        self._last.clear()
        self._draw()
        self._live.stop()

    def begin(self, name: str, what: str) -> None:
        with self._one:
            self._now = f"{name}: {what}"
            self._last.clear()
            self._draw()

    def line(self, text: str) -> None:
        with self._one:
            self._last.append(text)
            self._draw()

    def end(self, name: str, *, seconds: float, ok: bool, message: str) -> None:
        from rich.text import Text

        with self._one:
            sign, style = ("✓", "green") if ok else ("✗", "red")
            row = Text.assemble((f"{sign} ", style), (f"{name:<10}", "bold"), f"{seconds:6.1f} s  ", (message, style))
            self._done.append(row)
            self._now = ""
            self._last.clear()
            self._draw()

    def _draw(self) -> None:
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        rows: list[Any] = list(self._done)
        if self._now:
            rows.append(Spinner("dots", text=Text(self._now, style="bold")))
            rows += [Text(f"    {line}", style="dim", no_wrap=True, overflow="ellipsis") for line in self._last]
        self._live.update(Group(*rows))
