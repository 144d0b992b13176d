"""`Printf` of Go's fmt: the layout, its flags, widths and argument indexes (go1.26 `src/fmt/print.go`). Pure.

Bad verbs, missing and extra arguments print as Go prints them: that text is output of the template, never an error.

What never lives here: how one value looks under one verb (`formatting`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from secretsops.templating.formatting import PLAIN, Format, Printer
from secretsops.templating.gotypes import is_integer, type_name
from secretsops.templating.meter import Meter

_WIDTH_LIMIT = 1_000_000
"""Go's own limit of widths and precisions; beyond it prints `%!(BADWIDTH)`."""


def sprintf(layout: bytes, values: Sequence[Any], meter: Meter) -> bytes:
    """Give `fmt.Sprintf`."""
    return _Layout(layout, values, meter).text()


_FLAGS = {"#": "sharp", "+": "plus", "-": "minus", " ": "space", "0": "zero"}
_INDEX = re.compile(r"\[([0-9]{1,9})\]")


class _Layout:
    """One call of Printf: the layout is walked once, arguments are taken in order or by index."""

    def __init__(self, layout: bytes, values: Sequence[Any], meter: Meter) -> None:
        self._text = layout.decode("utf-8", "surrogateescape")
        self._values = values
        self._meter = meter
        self._printer = Printer(meter)
        self._at = 0
        self._argument = 0
        self._reordered = False
        self._good_index = True

    def text(self) -> bytes:
        pieces = []
        for piece in self._pieces():
            self._meter.grow(len(piece))
            pieces.append(piece)
        if not self._reordered and self._argument < len(self._values):
            extra = []
            for value in self._values[self._argument :]:
                shown = self._printer.show(value, PLAIN)
                extra.append(b"<nil>" if value is None else type_name(value).encode() + b"=" + shown)
            pieces.append(b"%!(EXTRA " + b", ".join(extra) + b")")
        return b"".join(pieces)

    def _pieces(self) -> Iterator[bytes]:
        text, end = self._text, len(self._text)
        while self._at < end:
            percent = text.find("%", self._at)
            if percent < 0:
                percent = end
            if percent > self._at:
                yield text[self._at : percent].encode("utf-8", "surrogateescape")
            self._at = percent + 1
            if percent < end:
                self._meter.step()
                yield from self._verb()

    def _verb(self) -> Iterator[bytes]:
        flags: dict[str, Any] = {}
        self._good_index = True
        while (flag := self._text[self._at : self._at + 1]) in _FLAGS and flag:
            flags[_FLAGS[flag]] = True
            self._at += 1
        if flags.get("minus"):
            flags["zero"] = False
        indexed = self._take_index()
        width, bad = self._number(flags, indexed=indexed, name="width")
        if bad:
            yield b"%!(BADWIDTH)"
        flags["width"] = width
        if self._text.startswith(".", self._at):
            self._at += 1
            indexed = self._take_index()
            precision, bad = self._number(flags, indexed=indexed, name="precision")
            if bad:
                yield b"%!(BADPREC)"
            flags["precision"] = precision if precision is not None or bad else 0
        self._take_index()
        if self._at >= len(self._text):
            yield b"%!(NOVERB)"
            return
        verb = self._text[self._at]
        self._at += 1
        yield self._shown(verb, flags)

    def _shown(self, verb: str, flags: dict[str, Any]) -> bytes:
        name = verb.encode("utf-8", "surrogateescape")
        if verb == "%":
            return b"%"
        if not self._good_index:
            return b"%!" + name + b"(BADINDEX)"
        if self._argument >= len(self._values):
            return b"%!" + name + b"(MISSING)"
        value = self._values[self._argument]
        self._argument += 1
        self._meter.grow((flags.get("width") or 0) + (flags.get("precision") or 0))
        if verb == "v" and flags.pop("plus", False):
            flags["named"] = True
        form = Format(verb=verb, **flags)
        if verb == "w":
            return self._printer.show(value, replace(form, verb="\0")).replace(b"\0", b"w")
        return self._printer.show(value, form)

    def _take_index(self) -> bool:
        if not self._text.startswith("[", self._at):
            return False
        self._reordered = True
        found = _INDEX.match(self._text, self._at)
        close = self._text.find("]", self._at)
        number = int(found[1]) if found else 0
        if not 1 <= number <= len(self._values):
            self._good_index = False
            self._at = close + 1 if close >= 0 else self._at + 1
            return close >= 0
        self._argument = number - 1
        self._at += len(found[0]) if found else 1
        return True

    def _number(self, flags: dict[str, Any], *, indexed: bool, name: str) -> tuple[int | None, bool]:
        """Read a width or precision; the second answer says that it is none."""
        if self._text.startswith("*", self._at):
            self._at += 1
            value = self._values[self._argument] if self._argument < len(self._values) else None
            self._argument += self._argument < len(self._values)
            if value is None or not is_integer(value) or abs(value) > _WIDTH_LIMIT:
                return None, True
            if value < 0:
                if name == "precision":
                    return None, True
                flags["minus"], flags["zero"] = True, False
            return abs(int(value)), False
        begin = self._at
        while "0" <= self._text[self._at : self._at + 1] <= "9":
            self._at += 1
        digits = self._text[begin : self._at]
        if not digits:
            return None, False
        if indexed:
            self._good_index = False
        if len(digits) > 7 or int(digits) > _WIDTH_LIMIT:
            self._at = len(self._text)  # Go gives up here too: the rest is no verb
            return None, False
        return int(digits), False
