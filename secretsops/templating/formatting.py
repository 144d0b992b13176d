"""Values as text, as Go's fmt prints them: `%v` and all other verbs, `Print`, `Println`, `Printf`. Pure.

Rules from go1.26 `src/fmt/{print,format}.go` and `src/strconv`. Bad verbs, missing and extra arguments print as Go
prints them (`%!d(string=x)`): that text is output of the template, never an error of ours.

What never lives here: JSON, YAML.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from secretsops.templating.gotypes import INVALID, NilMap, Struct, type_name
from secretsops.templating.meter import Meter


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One verb with its flags."""

    verb: str = "v"
    plus: bool = False
    minus: bool = False
    sharp: bool = False
    space: bool = False
    zero: bool = False
    width: int | None = None
    precision: int | None = None
    named: bool = False
    """`%+v`: fields of structs with their names."""

    @property
    def as_source(self) -> bool:
        """Say whether this is `%#v`."""
        return self.verb == "v" and self.sharp


PLAIN = Format()


def show(value: Any, meter: Meter) -> bytes:
    """Give a value as `%v` prints it."""
    if type(value) is bytes:
        return value
    return Printer(meter).show(value, PLAIN)


def sprint(values: Sequence[Any], meter: Meter) -> bytes:
    """Give `fmt.Sprint`: a space between two operands of which neither is a string."""
    pieces: list[bytes] = []
    for number, value in enumerate(values):
        if number and not isinstance(value, bytes) and not isinstance(values[number - 1], bytes):
            pieces.append(b" ")
        pieces.append(show(value, meter))
        meter.grow(len(pieces[-1]))
    return b"".join(pieces)


def sprintln(values: Sequence[Any], meter: Meter) -> bytes:
    """Give `fmt.Sprintln`."""
    pieces = []
    for value in values:
        pieces.append(show(value, meter))
        meter.grow(len(pieces[-1]))
    return b" ".join(pieces) + b"\n"


class Printer:
    """Prints values within what a meter allows."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def show(self, value: Any, form: Format, depth: int = 0) -> bytes:
        """Give a value under a verb."""
        text = self._value(value, form, depth)
        self._meter.grow(len(text))
        self._meter.step()
        return text

    def _value(self, value: Any, form: Format, depth: int) -> bytes:  # noqa: PLR0911 - one return per kind
        self._meter.depth(depth)
        if form.verb == "T":
            return _padded(type_name(value).encode(), replace(form, verb="s"))
        if value is None or value is INVALID:
            if depth:
                return b"interface {}(nil)" if form.as_source else b"<nil>"
            return _padded(b"<nil>", form) if form.verb == "v" else self._bad(value, form)
        text = getattr(value, "go_string", None)
        if text is not None and form.verb in "vsxXq" and not form.as_source:
            return _string(text(), replace(form, verb="s") if form.verb == "v" else form)
        if isinstance(value, bool):
            return _padded(b"true" if value else b"false", form) if form.verb in "tv" else self._bad(value, form)
        if isinstance(value, bytes):
            return _string(value, form) if form.verb in "vsxXq" else self._bad(value, form)
        if isinstance(value, int):
            shown = _named(value) if form.verb in "vs" and not form.as_source else None
            if shown is not None:
                return _padded(shown, form)
            return _integer(value, form) if form.verb in "vbdoOxXcqU" else self._bad(value, form)
        if isinstance(value, float):
            return _float(value, form) if form.verb in "vbgGxXfFeE" else self._bad(value, form)
        if isinstance(value, complex):
            return self._complex(value, form)
        return self._compound(value, form, depth)

    def _bad(self, value: Any, form: Format) -> bytes:
        if value is None or value is INVALID:
            return b"%!" + form.verb.encode() + b"(<nil>)"
        # Go prints the value under %v with the flags of the verb that does not fit.
        shown = self.show(value, replace(form, verb="v"), 1)
        return (
            b"%!"
            + form.verb.encode("utf-8", "surrogateescape")
            + b"("
            + type_name(value).encode()
            + b"="
            + shown
            + b")"
        )

    def _complex(self, value: complex, form: Format) -> bytes:
        if form.verb not in "vbgGxXfFeE":
            return self._bad(value, form)
        real = _float(value.real, form)
        return b"(" + real + _float(value.imag, replace(form, plus=True)) + b"i)"

    def _compound(self, value: Any, form: Format, depth: int) -> bytes:
        inner = depth + 1
        if isinstance(value, list):
            if form.as_source:
                if value.__class__.__name__.startswith("Nil"):
                    return type_name(value).encode() + b"(nil)"
                return self._joined(type_name(value).encode() + b"{", b", ", value, b"}", form, inner)
            return self._joined(b"[", b" ", value, b"]", form, inner)
        if isinstance(value, dict):
            return self._map(value, form, inner)
        if isinstance(value, Struct):
            body = b"{" + b" ".join(self.show(item, form, inner) for item in value.fields.values()) + b"}"
            if form.named or form.as_source:
                named = (name + b":" + self.show(item, form, inner) for name, item in value.fields.items())
                separator = b", " if form.as_source else b" "
                body = (value.name.encode() if form.as_source else b"") + b"{" + separator.join(named) + b"}"
            return body
        return self._bad(type_name(value).encode(), replace(form, verb="s"))

    def _joined(self, begin: bytes, separator: bytes, items: list[Any], end: bytes, form: Format, depth: int) -> bytes:
        return begin + separator.join([self.show(item, form, depth) for item in items]) + end

    def _map(self, value: dict[bytes, Any], form: Format, depth: int) -> bytes:
        shown = ((self.show(key, form, depth), self.show(value[key], form, depth)) for key in sorted(value))
        pieces = [key + b":" + item for key, item in shown]
        if form.as_source:
            if isinstance(value, NilMap):
                return type_name(value).encode() + b"(nil)"
            return type_name(value).encode() + b"{" + b", ".join(pieces) + b"}"
        return b"map[" + b" ".join(pieces) + b"]"


# --- Scalars -------------------------------------------------------------------------------------------


def runes(text: bytes) -> str:
    """Give the text's characters, one U+FFFD for each byte that is no UTF-8, as Go's `range` sees a string."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return "".join("�" if "\udc80" <= c <= "\udcff" else c for c in text.decode("utf-8", "surrogateescape"))


def _padded(text: bytes, form: Format) -> bytes:
    if form.width is None:
        return text
    missing = form.width - len(runes(text))
    if missing <= 0:
        return text
    if form.minus:
        return text + b" " * missing
    return (b"0" if form.zero else b" ") * missing + text


def _string(text: bytes, form: Format) -> bytes:
    if form.verb in "xX":
        return _padded(_hexadecimal(text, form), form)
    if form.precision is not None:
        text = runes(text)[: form.precision].encode() if len(text) > form.precision else text
    if form.verb == "q" or form.as_source:
        if form.sharp and form.verb == "q" and _can_backquote(text):
            return _padded(b"`" + text + b"`", form)
        return _padded(quoted(text, ascii_only=form.plus and form.verb == "q"), form)
    return _padded(text, form)


def _hexadecimal(text: bytes, form: Format) -> bytes:
    text = text[: form.precision] if form.precision is not None else text
    if not text:
        return b""
    digits = text.hex(" ") if form.space else text.hex()
    if form.sharp:
        digits = "0x" + digits.replace(" ", " 0x")
    return (digits.upper() if form.verb == "X" else digits).encode()


def _can_backquote(text: bytes) -> bool:
    try:
        shown = text.decode()
    except UnicodeDecodeError:
        return False
    return not any(c in "`\x7f\ufeff" or (c < " " and c != "\t") for c in shown)


_QUOTE_ESCAPES = {7: "\\a", 8: "\\b", 12: "\\f", 10: "\\n", 13: "\\r", 9: "\\t", 11: "\\v", 92: "\\\\"}


def quoted(text: bytes, quote: str = '"', *, ascii_only: bool = False) -> bytes:
    """Give Go's `strconv.Quote`."""
    pieces = []
    for character in text.decode("utf-8", "surrogateescape"):
        code = ord(character)
        if character == quote or code in _QUOTE_ESCAPES:
            pieces.append(_QUOTE_ESCAPES.get(code, "\\" + character))
        elif 0xDC80 <= code <= 0xDCFF:
            pieces.append(f"\\x{code - 0xDC00:02x}")
        elif 32 <= code < 127 or (not ascii_only and code > 127 and is_printable(character)):
            pieces.append(character)
        elif code < 128:
            pieces.append(f"\\x{code:02x}")
        else:
            pieces.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return (quote + "".join(pieces) + quote).encode()


def is_printable(character: str) -> bool:
    """Say whether Go's `strconv.IsPrint` holds; U+00AD and odd spaces are not printable in either language."""
    return character.isprintable() and character != "\u00ad"


def _integer(value: int, form: Format) -> bytes:
    verb = form.verb
    if verb == "c":
        return _padded(_rune(value).encode(), form)
    if verb == "q":
        return _padded(quoted(_rune(value).encode(), "'", ascii_only=form.plus), form)
    if verb == "U":
        shown = f"U+{abs(value) if value >= 0 else value % 2**64:04X}"
        if form.sharp and 0 <= value <= 0x10FFFF and is_printable(chr(value)):
            shown += f" '{chr(value)}'"
        return _padded(shown.encode(), replace(form, zero=False))
    base = {"b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}.get(verb, "d")
    digits = format(abs(value), base)
    if form.precision is not None:
        if form.precision == 0 and value == 0:
            return b" " * (form.width or 0)
        digits = digits.rjust(form.precision, "0")
    elif form.zero and not form.minus and form.width is not None:
        digits = digits.rjust(form.width - (value < 0 or form.plus or form.space), "0")
    prefix = ""
    if form.sharp and verb != "v":
        prefix = {"b": "0b", "x": "0x", "X": "0X", "o": "" if digits.startswith("0") else "0"}.get(verb, "")
    if verb == "O":
        prefix = "0o"
    sign = "-" if value < 0 else "+" if form.plus else " " if form.space else ""
    return _padded((sign + prefix + digits).encode(), replace(form, zero=False))


def _rune(value: int) -> str:
    return chr(value) if 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000 else "�"


def _float(value: float, form: Format) -> bytes:
    verb = "g" if form.verb == "v" else form.verb
    text = format_float(abs(value), verb, form.precision, sharp=form.sharp and form.verb != "v")
    negative = str(value).startswith("-")
    sign = "-" if negative else "+" if form.plus else " " if form.space else ""
    if text in {"Inf", "NaN"}:
        sign = "+" if text == "Inf" and not sign else "" if text == "NaN" and not form.plus else sign
        return _padded((sign + text).encode(), replace(form, zero=False))
    if form.zero and not form.minus and form.width is not None:
        text = text.rjust(form.width - len(sign), "0")
    return _padded((sign + text).encode(), replace(form, zero=False))


def format_float(value: float, verb: str, precision: int | None, *, sharp: bool = False) -> str:
    """Give `strconv.FormatFloat` of a positive number; no precision is the shortest, or 6 for `%e` and `%f`."""
    if value != value:  # noqa: PLR0124 - the one number that is not itself
        return "NaN"
    if value == float("inf"):
        return "Inf"
    if verb in "eEfF":
        text = format(value, f".{6 if precision is None else precision}{verb.lower()}")
        return text.upper() if verb == "E" else text
    if verb in "xXb":
        return _binary_float(value, verb, precision)
    if precision is None and not sharp:
        text = _shortest(value)
    else:
        text = format(value, f"{'#' if sharp else ''}.{6 if precision is None else precision}g")
    return text.upper() if verb == "G" else text


def _shortest(value: float) -> str:
    """Give `%g` with the fewest digits: an exponent below -4 and from 6 on (`strconv.FormatFloat`)."""
    digits, exponent = digits_of(value)
    if exponent < -4 or exponent >= 6:
        mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
        return f"{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    return plain_decimal(digits, exponent)


def digits_of(value: float) -> tuple[str, int]:
    """Give the shortest digits that read back as a positive float, and the exponent of the first one."""
    if value == 0:
        return "0", 0
    mantissa, _, power = format_repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    exponent = len(whole) - 1 if whole.strip("0") else -(len(fraction) - len(fraction.lstrip("0"))) - 1
    digits = digits.rstrip("0") or "0"
    return digits, exponent + int(power or 0)


def format_repr(value: float) -> str:
    """Give Python's own shortest text of a float."""
    return float.__repr__(value)


def plain_decimal(digits: str, exponent: int) -> str:
    """Write digits without an exponent."""
    if exponent < 0:
        return "0." + "0" * (-exponent - 1) + digits
    if len(digits) <= exponent + 1:
        return digits + "0" * (exponent + 1 - len(digits))
    return digits[: exponent + 1] + "." + digits[exponent + 1 :]


def _binary_float(value: float, verb: str, precision: int | None) -> str:
    if verb == "b":
        mantissa, exponent = math.frexp(value)
        return f"{int(mantissa * 2**53)}p{exponent - 53:+d}" if value else "0p-1074"
    body, _, power = value.hex().partition("p")
    if precision is None or precision < 0:
        body = body.rstrip("0").rstrip(".") if "." in body else body
    shown = f"{body}p{'-' if power.startswith('-') else '+'}{power.lstrip('+-').rjust(2, '0')}"
    return shown.upper() if verb == "X" else shown


_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]


def _named(value: int) -> bytes | None:
    """Give the words for the integers that have some: durations, months, weekdays."""
    match type_name(value):
        case "time.Duration":
            return duration_text(int(value)).encode()
        case "time.Month":
            return (_MONTHS[value - 1] if 1 <= value <= 12 else f"%!Month({int(value)})").encode()
        case "time.Weekday":
            return (_DAYS[value] if 0 <= value <= 6 else f"%!Weekday({int(value)})").encode()
    return None


def duration_text(nanoseconds: int) -> str:
    """Give Go's text of a duration: `1h1m1.5s`."""
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest < 10**9:
        for unit, size in (("ms", 10**6), ("µs", 10**3), ("ns", 1)):
            if rest >= size:
                return f"{sign}{_decimal(rest, size)}{unit}"
        return "0s"
    minutes, seconds = divmod(rest, 60 * 10**9)
    text = f"{_decimal(seconds, 10**9)}s"
    hours, left = divmod(minutes, 60)
    if minutes:
        text = f"{left}m{text}"
    return f"{sign}{hours}h{text}" if hours else sign + text


def _decimal(number: int, size: int) -> str:
    whole, fraction = divmod(number, size)
    digits = str(fraction).rjust(len(str(size)) - 1, "0").rstrip("0") if size > 1 else ""
    return f"{whole}.{digits}" if digits else str(whole)
