"""What one rendering may cost: steps, bytes, seconds; and the meter that ends it. Pure: the clock is an argument.

A template comes from whoever may write an ExternalSecret, so every loop, allocation and recursion of this package is
paid for here first. Steps bound the work, `seconds` catches what steps do not see.

What never lives here: what the work is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from secretsops.errors import TemplateFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one rendering. A Secret holds 1 MiB, so the defaults leave room for every honest template."""

    source_bytes: int = 1024 * 1024
    """The template's own text."""
    output_bytes: int = 4 * 1024 * 1024
    memory_bytes: int = 64 * 1024 * 1024
    """All that functions and literals may allocate in one rendering, counted and never given back."""
    steps: int = 1_000_000
    seconds: float = 0.8
    items: int = 100_000
    """Items of a list that a function makes (`until`, `seq`, `splitList`)."""
    templates: int = 100
    """Templates that may be inside one another (Go: 100,000)."""
    depth: int = 100
    """Levels of a value that is printed, encoded, compared or copied; a dict can hold itself."""
    keys: int = 3
    """Private keys one rendering may generate; RSA 4096 counts as two, DSA as three: they take seconds."""
    digests: int = 8
    """Slow digests of passwords (bcrypt, PKCS#12; scrypt counts as two) one rendering may compute: a second of them."""


class Meter:
    """What is left of the limits of one rendering. `tick` gives seconds that only grow."""

    __slots__ = ("_deadline", "_digests", "_keys", "_memory", "_next", "_output", "_steps", "_tick", "limits")

    def __init__(self, limits: Limits, tick: Callable[[], float]) -> None:
        self.limits = limits
        self._tick = tick
        self._deadline = tick() + limits.seconds
        self._steps = limits.steps
        self._memory = limits.memory_bytes
        self._output = limits.output_bytes
        self._keys = limits.keys
        self._digests = limits.digests
        self._next = self._steps - 64

    def step(self, count: int = 1) -> None:
        """Pay for work; about a microsecond each."""
        self._steps -= count
        if self._steps < self._next:
            self._next = self._steps - 64
            if self._steps < 0:
                raise limit("more work than a template may cause")
            if self._tick() > self._deadline:
                raise limit("it takes too long")

    def grow(self, size: int) -> None:
        """Pay for memory before it is taken, in bytes."""
        self._memory -= size
        if self._memory < 0:
            raise limit("more memory than a template may take")
        if size > 4096:
            self.step(size >> 12)

    def items(self, count: int) -> None:
        """Pay for a list before it is made."""
        if count > self.limits.items:
            raise limit("a longer list than a template may make")
        self.grow(64 * count)

    def output(self, size: int) -> None:
        """Pay for text that is written."""
        self._output -= size
        if self._output < 0:
            raise limit("more output than a template may write")

    def depth(self, level: int) -> None:
        """Refuse a value that is nested too deep."""
        if level > self.limits.depth:
            raise limit("a value is nested too deep")

    def key(self, count: int) -> None:
        """Pay for a private key; the time it takes is not the template's."""
        self._keys -= count
        if self._keys < 0:
            raise limit("more generated keys than a template may ask for")

    def digest(self, count: int = 1) -> None:
        """Pay for a slow password digest."""
        self._digests -= count
        if self._digests < 0:
            raise limit("more password digests than a template may ask for")

    def pause(self) -> Callable[[], None]:
        """Stop the clock; the answer starts it again."""
        since = self._tick()

        def resume() -> None:
            self._deadline += self._tick() - since

        return resume


def limit(problem: str) -> TemplateFailed:
    """Give the error of a rendering that asks for too much."""
    return TemplateFailed(problem, reason="TemplateLimit", hint="make the template smaller or simpler")
