"""Literals of Go: quoted strings, characters, numbers of every base (`strconv`, `parse/node.go` of go1.26). Pure.

What never lives here: what is done with them.
"""

from __future__ import annotations

import re

from secretsops.templating.nodes import Number

_ESCAPE = re.compile(
    r"""\\(?:([abfnrtv\\'"])|x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.?))""", re.DOTALL
)
_PLAIN = dict(zip("abfnrtv\\'\"", b"\a\b\f\n\r\t\v\\'\"", strict=True))


def unquote(text: str, quote: str) -> bytes | None:
    """Give what a quoted string stands for (Go's `strconv.Unquote`), None where it is not valid."""
    pieces, done = bytearray(), 0
    for found in _ESCAPE.finditer(text):
        pieces += text[done : found.start()].encode("utf-8", "surrogateescape")
        done = found.end()
        plain, byte, octal, short, long, _other = found.groups()
        if plain:
            if plain in "'\"" and plain != quote:
                return None
            pieces.append(_PLAIN[plain])
        elif byte or octal:
            code = int(byte, 16) if byte else int(octal, 8)
            if code > 255:
                return None
            pieces.append(code)
        elif short or long:
            code = int(short or long, 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                return None
            pieces += chr(code).encode()
        else:
            return None
    return bytes(pieces) + text[done:].encode("utf-8", "surrogateescape")


def character(raw: str) -> int | None:
    """Give the code point of a character constant without its quotes, None where it is none."""
    found = _ESCAPE.fullmatch(raw)
    if found is None:
        return ord(raw) if len(raw) == 1 and raw not in "'\\\n" and not 0xDC00 <= ord(raw) < 0xE000 else None
    if found[2] or found[3]:
        code = int(found[2], 16) if found[2] else int(found[3], 8)
        return code if code < 256 else None
    value = unquote(raw, "'")
    return ord(value.decode()) if value is not None else None


_INTEGER = re.compile(
    r"([+-]?)(0[xX]_?[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*|0[oO]?_?[0-7]+(?:_[0-7]+)*"
    r"|0[bB]_?[01]+(?:_[01]+)*|[1-9][0-9]*(?:_[0-9]+)*|0)"
)
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_HEX_FLOAT = re.compile(r"[+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+")


_MISPLACED = re.compile(r"(?:^|[^0-9a-fA-FxX])_|_(?:[^0-9a-fA-F]|$)")
"""An underscore that stands between no two digits."""


def read_integer(text: str) -> int | None:
    """Give the integer a Go literal of any base stands for (`strconv.ParseInt` with base 0, unbounded)."""
    found = _INTEGER.fullmatch(text) if len(text) <= 100 else None
    if found is None:
        return None
    sign, digits = found.groups()
    digits = digits.replace("_", "").lower()
    for prefix, base in (("0x", 16), ("0o", 8), ("0b", 2)):
        if digits.startswith(prefix):
            number = int(digits[2:], base)
            break
    else:
        number = int(digits, 8) if digits.startswith("0") else int(digits)
    return -number if sign == "-" else number


def read_float(text: str) -> float | None:
    """Give the float a Go literal stands for (`strconv.ParseFloat` without words); None also beyond float64."""
    if len(text) > 1000:
        return None
    if _MISPLACED.search(text):
        return None
    plain = text.replace("_", "")
    if _HEX_FLOAT.fullmatch(plain):
        try:
            return float.fromhex(plain)
        except OverflowError:
            return None
    if not _FLOAT.fullmatch(plain):
        return None
    number = float(plain)
    return None if number in {float("inf"), float("-inf")} else number


def read_number(text: str, position: int) -> Number | None:
    """Give the number a literal stands for, in every type that can hold it exactly (`newNumber`)."""
    if text.endswith("i"):
        split = max(text.rfind("+", 1), text.rfind("-", 1))
        if split > 0 and text[split - 1] in "eEpP":
            split = -1
        real = read_float(text[:split]) if split > 0 else 0.0
        imaginary = read_float(text[max(split, 0) : -1])
        if real is None or imaginary is None:
            return None
        return Number(position=position, text=text, complex=complex(real, imaginary))
    integer = read_integer(text)
    if integer is not None:
        signed = integer if -(2**63) <= integer < 2**63 else None
        unsigned = integer if 0 <= integer < 2**64 and text[:1] not in "+-" else None
        if signed is None and unsigned is None:
            return None
        return Number(position=position, text=text, integer=signed, unsigned=unsigned, floating=float(integer))
    number = read_float(text)
    if number is None or not any(mark in text for mark in ".eEpP"):
        return None
    whole = int(number) if number.is_integer() and abs(number) < 2**63 else None
    return Number(
        position=position,
        text=text,
        integer=whole,
        unsigned=whole if whole is not None and whole >= 0 else None,
        floating=number,
    )
