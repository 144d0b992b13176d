"""JSON as source text: walk it without decoding, and write it as Go's encoding/json does. Pure.

Property paths answer with the text as the provider stored it (key order, spaces, `1.0`, integers of any size), so
nothing here turns a value into a Python object that would forget how it was written. The walk is lenient as gjson's
is: a document that is cut off still answers for the part that is there.

What never lives here: path syntax (`secretsops.external.paths`), which provider behaves how.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

DEPTH_LIMIT = 200
"""Nested levels of a document that is decoded; what is only walked has no such limit."""
STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
"""A complete JSON string. Linear: the two classes cannot match the same character."""
_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{}]', re.DOTALL)
_NUMBER = re.compile(r"[^\x00-\x20,\]}]+")
_WORD = re.compile(r"[a-z]+")
_MEMBER_START = re.compile(r'["}]')
_VALUE_START = re.compile(r'["{\[}tfn+\-0-9iIN]')
_ITEM_START = re.compile(r'["{\[\]tfn+\-0-9iIN]')
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_SIMPLE = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "\\": "\\", "/": "/", '"': '"'}
_SURROGATES = re.compile("[\ud800-\udbff][\udc00-\udfff]")


@dataclass(frozen=True, slots=True)
class Raw:
    """One value as written: its kind (`object`, `array`, `string`, `number`, `true`, `false`, `null`) and its text.

    A value that is not there is a `null` without text. Prints its kind and size: the text is a secret.
    """

    kind: str
    text: str

    def __repr__(self) -> str:
        return f"Raw({self.kind}, {len(self.text)} characters)"

    @property
    def exists(self) -> bool:
        """Say whether there is a value; a written `null` is one."""
        return bool(self.text)

    def string(self) -> str:
        """Give the value as gjson's `Result.String` does: strings without quotes, null empty, `1.0` as 1."""
        if self.kind == "string":
            return unquote(self.text)
        if self.kind == "null":
            return ""
        if self.kind == "number" and not re.fullmatch(r"-?[0-9]+", self.text):
            return plain_number(self.text)
        return self.text


MISSING = Raw("null", "")


def unquote(text: str) -> str:
    """Decode a JSON string with its quotes; an unknown escape ends it, as in gjson."""
    inner = text[1:-1] if text.endswith('"') and len(text) > 1 else text[1:]
    if "\\" not in inner:
        return inner

    def one(match: re.Match[str]) -> str:
        return chr(int(match[1], 16)) if match[1] else _SIMPLE.get(match[2], "")

    return whole_surrogates(_ESCAPE.sub(one, inner))


def whole_surrogates(text: str) -> str:
    """Join surrogate pairs and put U+FFFD for halves, as Go's utf16 package does."""
    if not re.search("[\ud800-\udfff]", text):
        return text
    joined = _SURROGATES.sub(lambda m: m[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)
    # U+DC80..U+DCFF are also how bytes that are no UTF-8 are carried through (surrogateescape): these stay.
    return re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", joined)


def plain_number(text: str) -> str:
    """Give a number literal as `strconv.FormatFloat(f, 'f', -1, 64)` prints it: no exponent, shortest digits."""
    try:
        number = float(text)
    except ValueError:
        return "0"
    if not math.isfinite(number):
        return {"inf": "+Inf", "-inf": "-Inf"}.get(str(number), "NaN")
    shown = format(Decimal(repr(number)), "f")
    if "." in shown:
        shown = shown.rstrip("0").rstrip(".")
    return shown


def value_at(text: str, position: int) -> tuple[Raw, int]:
    """Give the value that starts at `position` and where the text goes on; `MISSING` for an unfinished string."""
    first = text[position]
    if first == '"':
        found = STRING.match(text, position)
        return (Raw("string", found[0]), found.end()) if found else (MISSING, len(text))
    if first in "{[":
        end = _end_of_brackets(text, position)
        return Raw("object" if first == "{" else "array", text[position:end]), end
    if first in "tf" or (first == "n" and text[position + 1 : position + 2] in {"u", ""}):
        word = _WORD.match(text, position)
        assert word is not None
        return Raw({"t": "true", "f": "false", "n": "null"}[first], word[0]), word.end()
    number = _NUMBER.match(text, position)
    assert number is not None
    return Raw("number", number[0]), number.end()


def _end_of_brackets(text: str, position: int) -> int:
    depth = 0
    for found in _BRACKET.finditer(text, position):
        mark = found[0]
        if mark in "{[":
            depth += 1
        elif mark in "}]":
            depth -= 1
            if depth == 0:
                return found.end()
        elif mark == '"':
            break
    return len(text)


def members(text: str) -> Iterator[tuple[str, Raw]]:
    """Give the key (as written, quoted) and value of each member of an object, duplicates too, in order."""
    position = text.find("{") + 1
    while found := _MEMBER_START.search(text, position):
        if found[0] == "}":
            return
        key = STRING.match(text, found.start())
        start = _VALUE_START.search(text, key.end()) if key else None
        if key is None or start is None or start[0] == "}":
            return
        value, position = value_at(text, start.start())
        if not value.exists:
            return
        yield key[0], value


def elements(text: str, position: int = -1) -> Iterator[Raw]:
    """Give each element of an array, or of the values from `position` on (JSON lines)."""
    position = text.find("[") + 1 if position < 0 else position
    while found := _ITEM_START.search(text, position):
        if found[0] == "]":
            return
        value, position = value_at(text, found.start())
        if not value.exists:
            return
        yield value


def parse(text: str) -> Raw:
    """Give the first value of a text; of an object or array everything up to the end of the text, as gjson does."""
    found = re.search(r"[^\x00-\x20]", text)
    if found is None or not _ITEM_START.match(text, found.start()) or found[0] == "]":
        return MISSING
    if found[0] in "{[":
        return Raw("object" if found[0] == "{" else "array", text[found.start() :])
    return value_at(text, found.start())[0]


class Number(str):
    """A number as it was written. A `str` so that nothing does arithmetic with it."""

    __slots__ = ()


def decode(text: str) -> Any:
    """Decode the first JSON value of a text as Go's `json.Decoder` with `UseNumber`: numbers stay literals.

    Raises:
        ValueError: not JSON. Its message is ours alone: the library's may quote the text.
    """
    if _is_deep(text):
        raise ValueError("nested too deeply")
    decoder = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=_no_constant)
    try:
        value, _ = decoder.raw_decode(text.lstrip(" \t\r\n"))
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    return value


def _is_deep(text: str) -> bool:
    """Say whether brackets nest deeper than `DEPTH_LIMIT`; plain documents are told by counting alone."""
    if text.count("[") + text.count("{") <= DEPTH_LIMIT:
        return False
    depth = 0
    for found in _BRACKET.finditer(text):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(found[0], 0)
        if depth > DEPTH_LIMIT:
            return True
    return False


def _no_constant(_name: str) -> Any:
    raise ValueError("no JSON constant")


def is_json(text: str) -> bool:
    """Say whether the whole text is one JSON value."""
    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    return True


_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_ESCAPED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"} | _HTML
_TO_ESCAPE = re.compile('[\x00-\x1f"\\\\<>&\u2028\u2029]')
_TO_ESCAPE_PLAIN = re.compile('[\x00-\x1f"\\\\\u2028\u2029]')


def quote(text: str, *, html: bool = True) -> str:
    """Write a string as Go's `json.Marshal`: `<`, `>` and `&` escaped, everything above ASCII left as it is."""
    pattern = _TO_ESCAPE if html else _TO_ESCAPE_PLAIN
    return '"' + pattern.sub(lambda m: _ESCAPED.get(m[0]) or f"\\u{ord(m[0]):04x}", whole_surrogates(text)) + '"'


def encode(value: Any, *, html: bool = True) -> str:
    """Write a decoded value as Go's `json.Marshal`: compact, keys sorted by their bytes, numbers as they came.

    `html=False` leaves `<`, `>` and `&` alone, as an encoder with SetEscapeHTML(false) does.
    """
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, str):
        return quote(value, html=html)
    if isinstance(value, dict):
        # Go sorts by bytes, and UTF-8 keeps the order of code points.
        members = (f"{quote(key, html=html)}:{encode(value[key], html=html)}" for key in sorted(value))
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(encode(item, html=html) for item in value) + "]"
    if isinstance(value, float):
        return float_literal(value)
    return {None: "null", True: "true", False: "false"}[value]


def float_literal(number: float) -> str:
    """Write a float64 as Go's `json.Marshal`: an exponent below 1e-6 and from 1e21 on."""
    size = abs(number)
    if size != 0 and (size < 1e-6 or size >= 1e21):
        digits, _, exponent = repr(number).partition("e")
        if not exponent:
            digits, _, exponent = f"{Decimal(digits):e}".partition("e")
        mantissa = digits.rstrip("0").rstrip(".") if "." in digits else digits
        power = int(exponent)
        # encoding/json writes e-09 as e-9 and leaves e+21 alone.
        return f"{mantissa}e{power:+d}"
    return plain_number(repr(number))
