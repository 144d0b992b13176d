"""JSON as Go's encoding/json writes and reads it (go1.26, v1 semantics). Pure.

Written: keys sorted, `<`, `>`, `&`, U+2028 and U+2029 escaped, floats without exponent between 1e-6 and 1e21. Read:
numbers are float64, the last of equal keys wins, half a surrogate pair becomes U+FFFD.

What never lives here: sprig's habit of swallowing errors.
"""

from __future__ import annotations

import json
import re
from typing import Any

from secretsops.templating.formatting import digits_of, plain_decimal, runes
from secretsops.templating.gotypes import INVALID, Struct
from secretsops.templating.meter import Meter

SOURCE_LIMIT = 2 * 1024 * 1024
"""Bytes of a document that is read; a Secret holds half of that."""
DEPTH_LIMIT = 100


class NoJson(ValueError):
    """The text is no JSON, or the value has none. Says nothing else: a parser quotes what it reads."""


_PLAIN = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_ESCAPES = re.compile(r'["\\\x00-\x1f\u2028\u2029\udc80-\udcff]')
_HTML_ESCAPES = re.compile(r'["\\\x00-\x1f\u2028\u2029\udc80-\udcff<>&]')


def encode(value: Any, meter: Meter, *, html: bool = True, indent: int = 0) -> bytes:
    """Give a value as JSON.

    Raises:
        NoJson: it holds a number that is not finite, or something that has no JSON.
    """
    pieces: list[str] = []
    _Writer(pieces, meter, html=html, indent=indent).write(value, 0)
    return "".join(pieces).encode()


class _Writer:
    def __init__(self, pieces: list[str], meter: Meter, *, html: bool, indent: int) -> None:
        self._pieces = pieces
        self._meter = meter
        self._escapes = _HTML_ESCAPES if html else _ESCAPES
        self._indent = indent

    def _add(self, piece: str) -> None:
        self._meter.grow(len(piece))
        self._pieces.append(piece)

    def _text(self, text: bytes) -> str:
        return f'"{self._escapes.sub(_escaped, text.decode("utf-8", "surrogateescape"))}"'

    def _line(self, level: int) -> str:
        return "\n" + " " * (self._indent * level) if self._indent else ""

    def write(self, value: Any, level: int) -> None:
        self._meter.step()
        self._meter.depth(level)
        if isinstance(value, bytes):
            self._add(self._text(value))
        elif value is None or value is INVALID or type(value).__name__.startswith("Nil"):
            self._add("null")
        elif isinstance(value, bool):
            self._add("true" if value else "false")
        elif isinstance(value, int):
            self._add(str(int(value)))
        elif isinstance(value, float):
            self._add(number_text(value))
        elif isinstance(value, list):
            self._many("[", "]", [("", item) for item in value], level)
        elif isinstance(value, dict):
            colon = ": " if self._indent else ":"
            self._many("{", "}", [(self._text(key) + colon, value[key]) for key in sorted(value)], level)
        elif (text := getattr(value, "go_json", None)) is not None:
            self._add(self._text(text()))
        elif isinstance(value, Struct):
            colon = ": " if self._indent else ":"
            self._many("{", "}", [(self._text(name) + colon, item) for name, item in value.fields.items()], level)
        else:
            raise NoJson

    def _many(self, begin: str, end: str, items: list[tuple[str, Any]], level: int) -> None:
        self._add(begin)
        for number, (name, item) in enumerate(items):
            self._add(("," if number else "") + self._line(level + 1) + name)
            self.write(item, level + 1)
        self._add((self._line(level) if items else "") + end)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    # A byte that is no UTF-8 is written as an escaped U+FFFD; a real one stands as it is.
    code = 0xFFFD if ord(character) >= 0xDC80 else ord(character)
    return _PLAIN.get(character) or f"\\u{code:04x}"


def number_text(value: float) -> str:
    """Give a float as encoding/json writes it."""
    if value != value or value in {float("inf"), float("-inf")}:  # noqa: PLR0124 - NaN
        raise NoJson
    sign = "-" if str(value).startswith("-") else ""
    digits, exponent = digits_of(abs(value))
    if value == 0 or -7 < exponent < 21:
        return sign + plain_decimal(digits, exponent)
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}".replace("e-0", "e-")


_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


def decode(text: bytes, meter: Meter) -> Any:
    """Give the value of a JSON text: bytes, float, bool, None, list and dict.

    Raises:
        NoJson: it is none, or nested deeper than 100 levels.
    """
    if len(text) > SOURCE_LIMIT:
        raise NoJson
    meter.grow(16 * len(text))
    meter.step(len(text) // 16)
    try:
        found = _DECODER.decode(runes(text).strip(" \t\r\n"))
        return _as_go(found, 0)
    except (ValueError, RecursionError):
        raise NoJson from None


def _refuse_constant(_name: str) -> Any:
    raise NoJson


def _as_float(text: str) -> float:
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        raise NoJson
    return number


_DECODER = json.JSONDecoder(parse_int=_as_float, parse_float=_as_float, parse_constant=_refuse_constant)


def _as_go(value: Any, level: int) -> Any:
    if level > DEPTH_LIMIT:
        raise NoJson
    if isinstance(value, str):
        return text_of(value)
    if isinstance(value, list):
        return [_as_go(item, level + 1) for item in value]
    if isinstance(value, dict):
        return {text_of(key): _as_go(item, level + 1) for key, item in value.items()}
    return value


def text_of(text: str) -> bytes:
    """Give a text as bytes, half surrogate pairs as U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _LONE_SURROGATE.sub("�", text).encode()
