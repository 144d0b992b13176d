"""sprig's strings (sprig v3.3.0 `strings.go`, goutils v1.1.1, xstrings v1.5.0), over bytes as Go has them. Pure.

What never lives here: regular expressions, encodings, random text.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from secretsops.templating.evaluator import Run
from secretsops.templating.formatting import quoted, runes, show
from secretsops.templating.gotypes import StringMap, StringSlice
from secretsops.templating.signature import CallFailed, Function, function

_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"


def _words(run: Run, text: bytes) -> str:
    """Give characters, paying for a look at each."""
    run.meter.step(len(text) // 2)
    return runes(text)


def _raw(run: Run, text: bytes) -> str:
    """Give characters, a byte that is none standing for itself."""
    run.meter.step(len(text) // 2)
    return text.decode("utf-8", "surrogateescape")


def string_of(run: Run, value: Any) -> bytes:
    """Give sprig's `strval`: text as it is, anything else as `%v`."""
    return value if isinstance(value, bytes) else show(value, run.meter)


def strings_of(run: Run, value: Any) -> StringSlice:
    """Give any list as texts, nil left out; anything else as a list of one (`strslice`)."""
    if isinstance(value, StringSlice):
        return value
    if isinstance(value, list):
        run.meter.grow(64 * len(value))
        return StringSlice(string_of(run, item) for item in value if item is not None)
    return StringSlice() if value is None else StringSlice([string_of(run, value)])


def repeated(run: Run, text: bytes, count: int) -> bytes:
    """Give a text many times, within the memory there is."""
    if count < 0:
        raise CallFailed("negative repeat count")
    run.meter.grow(len(text) * count)
    return text * count


def replaced(run: Run, old: bytes, new: bytes, text: bytes) -> bytes:
    """Give a text with every occurrence replaced; an empty one stands between characters."""
    if old:
        run.meter.grow(len(text) + text.count(old) * len(new))
        return text.replace(old, new)
    characters = _raw(run, text)
    run.meter.grow(len(text) + (len(characters) + 1) * len(new))
    return new + b"".join(character.encode("utf-8", "surrogateescape") + new for character in characters)


def split_text(run: Run, separator: bytes, text: bytes, count: int = -1) -> list[bytes]:
    """Give Go's `strings.SplitN`."""
    if count == 0:
        return []
    if not separator:
        run.meter.items(len(text) if count < 0 else min(count, len(text)))
        characters = [character.encode("utf-8", "surrogateescape") for character in _raw(run, text)]
        if 0 < count < len(characters):
            taken = characters[: count - 1]
            return [*taken, text[len(b"".join(taken)) :]]
        return characters
    run.meter.items(text.count(separator) + 1 if count < 0 else min(count, text.count(separator) + 1))
    return text.split(separator, count - 1 if count > 0 else -1)


def _split(run: Run, separator: bytes, text: bytes, count: int = -1) -> StringMap:
    parts = split_text(run, separator, text, count)
    return StringMap({b"_%d" % number: part for number, part in enumerate(parts)})


def _trim(run: Run, text: bytes) -> bytes:
    try:
        return text.decode().strip(_SPACE).encode()
    except UnicodeDecodeError:
        run.meter.step(len(text) // 16)
        return text.decode("utf-8", "surrogateescape").strip(_SPACE).encode("utf-8", "surrogateescape")


def _trim_all(characters: bytes, text: bytes) -> bytes:
    shown = text.decode("utf-8", "surrogateescape").strip(characters.decode("utf-8", "surrogateescape") or "\0\0")
    return shown.encode("utf-8", "surrogateescape") if characters else text


def _cased(run: Run, text: bytes, *, upper: bool) -> bytes:
    shown = _words(run, text)
    # Go maps character by character: ß stays ß, no final sigma.
    return (
        "".join(_one(character, upper=upper) for character in shown).encode()
        if not shown.isascii()
        else (shown.upper() if upper else shown.lower()).encode()
    )


def _one(character: str, *, upper: bool) -> str:
    other = character.upper() if upper else character.lower()[:1]
    return other if len(other) == 1 else character


def _title_one(character: str) -> str:
    other = character.title()
    return other if len(other) == 1 else character


def _title(run: Run, text: bytes) -> bytes:
    pieces, previous = [], " "
    for character in _words(run, text):
        pieces.append(_title_one(character) if _separates(previous) else character)
        previous = character
    return "".join(pieces).encode()


def _separates(character: str) -> bool:
    if character.isascii():
        return not (character.isalnum() or character == "_")
    return not (character.isalpha() or _is_digit(character)) and character in _SPACE


def _is_digit(character: str) -> bool:
    return unicodedata.category(character) == "Nd"


def _untitle(run: Run, text: bytes) -> bytes:
    pieces, start = [], True
    for character in _words(run, text):
        if character in _SPACE:
            start = True
        elif start:
            character, start = _one(character, upper=False), False  # noqa: PLW2901
        pieces.append(character)
    return "".join(pieces).encode()


def _swapcase(run: Run, text: bytes) -> bytes:
    pieces, space = [], True
    for character in _words(run, text):
        shown = character
        if character.isupper() or unicodedata.category(character) == "Lt":
            shown, space = _one(character, upper=False), False
        elif character.islower():
            shown, space = (_title_one(character) if space else _one(character, upper=True)), False
        else:
            space = character in _SPACE
        pieces.append(shown)
    return "".join(pieces).encode()


def _initials(run: Run, text: bytes) -> bytes:
    run.meter.step(len(text) // 2)
    pieces, gap = [], True
    for byte in text:
        character = chr(byte)  # goutils goes by bytes: one beyond ASCII stands for the Latin-1 character
        if character in _SPACE:
            gap = True
        elif gap:
            pieces.append(character)
            gap = False
    return "".join(pieces).encode()


def _nospace(text: bytes) -> bytes:
    # goutils goes by bytes here too, and garbles text beyond ASCII where there is a space to delete.
    kept = "".join(character for character in text.decode("latin-1") if character not in _SPACE)
    return text if len(kept) == len(text) else kept.encode()


def _abbreviated(width: int, text: bytes, offset: int = 0) -> bytes:
    size = len(text)
    if not text or size <= width:
        return text
    offset = min(offset, size)
    if size - offset < width - 3:
        offset = size - (width - 3)
    if offset <= 4:
        return text[: width - 3] + b"..."
    if width < 7:
        return b""
    if offset + width - 3 < size:
        return b"..." + _abbreviated(width - 3, text[offset:])
    return b"..." + text[size - (width - 3) :]


def _abbrevboth(left: int, right: int, text: bytes) -> bytes:
    return text if right < 4 or (left > 0 and right < 7) else _abbreviated(right, text, left)


def _trunc(count: int, text: bytes) -> bytes:
    if count < 0 and len(text) + count > 0:
        return text[len(text) + count :]
    return text[:count] if 0 <= count < len(text) else text


def _substr(start: int, end: int, text: bytes) -> bytes:
    size = len(text)
    if start < 0:
        start = 0
    elif end < 0 or end > size:
        end = size
    if not 0 <= start <= end <= size:
        raise CallFailed("slice bounds out of range")
    return text[start:end]


def _wrap(run: Run, width: int, text: bytes, newline: bytes = b"\n", *, long_words: bool = False) -> bytes:
    """Break lines at spaces (goutils `WrapCustom`); `long_words` says whether words may be cut."""
    newline, width = newline or b"\n", max(1, width)
    pieces, offset, size = [], 0, len(text)
    while size - offset > width:
        run.meter.step()
        if text[offset : offset + 1] == b" ":
            offset += 1
            continue
        at = text.rfind(b" ", offset, width + offset + 1)
        cut = at >= offset
        if not cut and not long_words:
            at = text.find(b" ", width + offset)
            if at < 0:
                break
            cut = True
        run.meter.grow(len(newline))
        end = at if cut else width + offset
        pieces += [text[offset:end], newline]
        offset = end + 1 if cut else end
    return b"".join(pieces) + text[offset:]


def _quote(run: Run, *values: Any) -> bytes:
    shown = []
    for value in values:
        if value is not None:
            text = string_of(run, value)
            run.meter.grow(2 * len(text))
            run.meter.step(len(text) // 4)
            shown.append(quoted(text))
    return b" ".join(shown)


def _squote(run: Run, *values: Any) -> bytes:
    shown = [show(value, run.meter) for value in values if value is not None]
    run.meter.grow(sum(map(len, shown)))
    return b" ".join(b"'" + text + b"'" for text in shown)


def _cat(run: Run, *values: Any) -> bytes:
    shown = [show(value, run.meter) for value in values if value is not None]
    run.meter.grow(sum(map(len, shown)))
    return b" ".join(shown)


def _indent(run: Run, count: int, text: bytes) -> bytes:
    if count < 0:
        raise CallFailed("negative repeat count")
    run.meter.grow(count * (text.count(b"\n") + 1) + len(text))
    pad = b" " * count
    return pad + text.replace(b"\n", b"\n" + pad)


def _join(run: Run, separator: bytes, value: Any) -> bytes:
    parts = strings_of(run, value)
    if any(not isinstance(part, bytes) for part in parts):
        parts = StringSlice(string_of(run, part) for part in parts)
    run.meter.grow(sum(map(len, parts)) + len(separator) * len(parts))
    return separator.join(parts)


# --- Cases of identifiers ------------------------------------------------------------------------------


def _connects(character: str) -> bool:
    return character in "-_" or character in _SPACE


def _pascal(run: Run, text: bytes) -> bytes:
    """Give `UpperCamelCase` (xstrings `ToPascalCase`)."""
    shown = _words(run, text)
    at, pieces = 0, []
    while at < len(shown) and _connects(shown[at]):
        pieces.append(shown[at])
        at += 1
    if at == len(shown):
        return "".join([*pieces, *pieces[-1:]]).encode()  # xstrings writes the last one twice
    first_upper = shown[at].isupper()
    current = _one(shown[at], upper=True)
    for following in shown[at + 1 :]:
        previous, current = current, following
        if _connects(current) and _connects(previous):
            pieces.append(previous)
            continue
        if _connects(previous):
            first_upper = current.isupper()
            current = _one(current, upper=True)
            continue
        if first_upper:
            if current.isupper():
                current = _one(current, upper=False)
            else:
                first_upper = False
        pieces.append(previous)
    pieces.append(current)
    return "".join(pieces).encode()


def _kind(character: str) -> str:
    if _connects(character):
        return "connector"
    if unicodedata.category(character).startswith("P"):
        return "punct"
    if character.isupper():
        return "upper"
    if _is_alphabet(character):
        return "alphabet"
    return "number" if unicodedata.category(character).startswith("N") else "other"


def _is_alphabet(character: str) -> bool:
    """Say whether a letter is of a script with case (xstrings `isAlphabet`)."""
    if not character.isalpha():
        return False
    return "a" <= character.lower() <= "z" or not (
        "\u3034" <= character <= "\u30ff" or "\u3400" <= character <= "\u9fff" or "\uf900" <= character <= "\ufaff"
    )


def _next_word(text: str) -> tuple[str, str, str]:
    """Cut one word off: its kind, the word, the rest (xstrings `nextWord`)."""
    if not text:
        return "", "", ""
    kind = _kind(text[0])
    end = 1
    if kind == "upper":
        while end < len(text) and text[end].isupper():
            end += 1
        if end > 1:
            # Of `HTTPServer` the word is HTTP: its last capital begins the next.
            if end < len(text) and _is_alphabet(text[end]):
                end -= 1
            return kind, text[:end], text[end:]
        while end < len(text) and _is_alphabet(text[end]) and not text[end].isupper():
            end += 1
        return kind, text[:end], text[end:]
    while end < len(text) and _kind(text[end]) == kind:
        end += 1
    return kind, text[:end], text[end:]


def _lower_case(run: Run, text: bytes, connector: str) -> bytes:  # noqa: C901 - xstrings' own state machine
    pieces: list[str] = []

    def emit(kind: str, word: str) -> None:
        if kind in {"upper", "alphabet"}:
            pieces.append("".join(_one(character, upper=False) for character in word))
        elif kind == "connector":
            pieces.append(connector * len(word))
        elif word:
            pieces.append(word)

    kind, word, rest = _next_word(_raw(run, text))
    while rest:
        run.meter.step()
        if kind != "connector":
            emit(kind, word)
        before, last = kind, word
        kind, word, rest = _next_word(rest)
        if before == "number":
            while kind in {"alphabet", "number"}:
                emit(kind, word)
                kind, word, rest = _next_word(rest)
            if kind not in {"", "punct", "connector"}:
                pieces.append(connector)
        elif before == "connector":
            emit(before, last)
        elif before == "punct":
            continue
        elif kind != "number":
            if kind not in {"connector", "punct"}:
                pieces.append(connector)
        elif rest:
            last = word
            kind, word, rest = _next_word(rest)
            if kind != "alphabet":
                emit("number", last)
                if kind not in {"connector", "punct"}:
                    pieces.append(connector)
                continue
            pieces.append(connector)
            emit("number", last)
            while kind in {"alphabet", "number"}:
                emit(kind, word)
                kind, word, rest = _next_word(rest)
            if kind not in {"", "connector", "punct"}:
                pieces.append(connector)
    emit(kind, word)
    return "".join(pieces).encode("utf-8", "surrogateescape")


# --- Argo CD's own ------------------------------------------------------------------------------------

_NOT_NAME = re.compile(rb"[^-a-z0-9.]+")
_NOT_SLUG = re.compile(rb"[^a-z0-9]+")


def _normalize(text: bytes) -> bytes:
    """Give a DNS-1123 name (Argo CD `applicationset/utils`, `SanitizeName`)."""
    shown = _NOT_NAME.sub(b"-", text.lower())[:253]
    return shown.strip(b"-.")


def _slugify(run: Run, *values: Any) -> bytes:
    """Give a slug: `slugify [length] [cut at words] text` (Argo CD `SlugifyName`)."""
    limit, smart, text = 50, False, b""
    if not values:
        raise CallFailed("no text to make a slug of")
    for value in values[:-1]:
        if isinstance(value, bool):
            smart = value
        elif isinstance(value, int):
            limit = int(value)
    text = string_of(run, values[-1])
    run.meter.step(len(text) // 4)
    plain = unicodedata.normalize("NFKD", runes(text)).encode("ascii", "ignore").lower()
    slug = _NOT_SLUG.sub(b"-", plain).strip(b"-")
    if 0 < limit < len(slug):
        cut = slug[:limit]
        slug = cut.rpartition(b"-")[0] if smart and slug[limit : limit + 1] != b"-" and b"-" in cut else cut
    return slug.strip(b"-")


def _text(call: Any) -> Function:
    return function("string", call, run=True)


TABLE: dict[str, Function] = {
    "hello": function("", lambda: b"Hello!"),
    "abbrev": function("int string", lambda width, text: text if width < 4 else _abbreviated(width, text)),
    "abbrevboth": function("int int string", _abbrevboth),
    "trunc": function("int string", _trunc),
    "trim": _text(_trim),
    "upper": _text(lambda run, text: _cased(run, text, upper=True)),
    "lower": _text(lambda run, text: _cased(run, text, upper=False)),
    "title": _text(_title),
    "untitle": _text(_untitle),
    "substr": function("int int string", _substr),
    "repeat": function("int string", lambda run, count, text: repeated(run, text, count), run=True),
    "trimall": function("string string", _trim_all),
    "trimAll": function("string string", _trim_all),
    "trimSuffix": function("string string", lambda end, text: text.removesuffix(end)),
    "trimPrefix": function("string string", lambda start, text: text.removeprefix(start)),
    "nospace": function("string", _nospace),
    "initials": _text(_initials),
    "swapcase": _text(_swapcase),
    "snakecase": _text(lambda run, text: _lower_case(run, text, "_")),
    "kebabcase": _text(lambda run, text: _lower_case(run, text, "-")),
    "camelcase": _text(_pascal),
    "wrap": function("int string", _wrap, run=True),
    "wrapWith": function(
        "int string string", lambda run, width, line, text: _wrap(run, width, text, line, long_words=True), run=True
    ),
    "contains": function("string string", lambda part, text: part in text),
    "hasPrefix": function("string string", lambda start, text: text.startswith(start)),
    "hasSuffix": function("string string", lambda end, text: text.endswith(end)),
    "quote": function("any...", _quote, run=True),
    "squote": function("any...", _squote, run=True),
    "cat": function("any...", _cat, run=True),
    "indent": function("int string", _indent, run=True),
    "nindent": function("int string", lambda run, count, text: b"\n" + _indent(run, count, text), run=True),
    "replace": function("string string string", replaced, run=True),
    "plural": function("string string int", lambda one, many, count: one if count == 1 else many),
    "toString": function("any", string_of, run=True),
    "split": function("string string", _split, run=True),
    "splitList": function("string string", lambda run, by, text: StringSlice(split_text(run, by, text)), run=True),
    "splitn": function("string int string", lambda run, by, count, text: _split(run, by, text, count), run=True),
    "toStrings": function("any", strings_of, run=True),
    "join": function("string any", _join, run=True),
    "sortAlpha": function(
        "any",
        lambda run, value: (
            StringSlice(sorted(strings_of(run, value)))
            if isinstance(value, list)
            else StringSlice([string_of(run, value)])
        ),
        run=True,
    ),
}
ARGO: dict[str, Function] = {
    "normalize": function("string", _normalize),
    "slugify": function("any...", _slugify, run=True),
}
