"""`remoteRef.property` as a path into a JSON document: the syntax of gjson, over source text. Pure.

Keys, `*` and `?`, `\\` escapes, array indices, `#`, queries `#(a=="b")` and `#(...)#`, pipes, multipaths `[a,b]` and
`{a,"b":c}`, literals `!"x"` and modifiers. Rules after github.com/tidwall/gjson v1.18 (`SYNTAX.md`, `gjson.go`), judged
by recorded cases. An own walker, because answers are source text and because paths and documents are input of
tenants: length, work and recursion are bounded.

Compat: `@pretty` and `@dig` are refused by name; the peer has them.

    >>> lookup('{"db":{"user":"bob"}}', "db.user").string()
    'bob'
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from secretsops.errors import InvalidManifest
from secretsops.external.rawjson import MISSING, Raw, elements, is_json, members, parse, quote, unquote

PATH_LIMIT = 1024
"""Characters; the longest path of the recorded cases and upstream's manifests has under 100."""
WORK_LIMIT = 300_000
"""Values looked at, each counting once more per 64 characters of its text, scanned at every level: about a second."""


class _Work:
    """What one lookup may still cost, over all its nested lookups."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = WORK_LIMIT

    def spend(self, size: int) -> None:
        self.left -= 1 + size // 64
        if self.left < 0:
            raise _refused("PathTooCostly", "it looks at too many values")


def _refused(reason: str, why: str) -> InvalidManifest:
    return InvalidManifest(
        f"property path refused: {why}", reason=reason, hint="name a key, or nested keys joined by dots"
    )


def lookup(document: str, path: str) -> Raw:
    """Give the value a path leads to, `MISSING` when there is none.

    Raises:
        InvalidManifest: the path is too long, nested or costly, or uses a modifier we do not have.
    """
    if len(path) > PATH_LIMIT:
        raise _refused("PathTooLong", f"it has more than {PATH_LIMIT} characters")
    try:
        return _get(document, path, _Work())
    except RecursionError:
        raise _refused("PathTooDeep", "it is nested too deeply") from None


def literally(path: str) -> str:
    """Give the path that means the key of this very name, dots and all."""
    return path.replace(".", "\\.")


# --- The walk ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Search:
    """One walk: the value found so far, and the path to be applied to it afterwards."""

    work: _Work
    value: Raw = MISSING
    pipe: str | None = None


def _get(text: str, path: str, work: _Work) -> Raw:
    work.spend(len(text))
    if len(path) > 1 and path[0] in "@!":
        done = _modified(text, path) if path[0] == "@" else _static(path)
        if done is not None:
            result, rest = done
            return _get(result, rest[1:], work) if rest[:1] in {"|", "."} else parse(result)
    if len(path) > 1 and path[0] in "[{":
        found = _multipath(text, path, work)
        if found is not None:
            return found
    search = _Search(work)
    if path.startswith(".."):
        _in_array(search, elements(text, 0), path[2:])
    else:
        start = re.search(r"[{\[]", text)
        if start is not None:
            _in(search, Raw("object" if start[0] == "{" else "array", text[start.start() :]), path)
    return search.value if search.pipe is None else _get(search.value.text, search.pipe, work)


def _in(search: _Search, value: Raw, path: str) -> bool:
    if value.kind == "object":
        return _in_object(search, value.text, path)
    return _in_array(search, elements(value.text), path)


@dataclass(frozen=True, slots=True)
class _Step:
    """The first component of a path and what follows: `rest` inside the value, `pipe` after it."""

    part: str
    rest: str | None = None
    pipe: str | None = None
    wild: bool = False


def _in_object(search: _Search, text: str, path: str) -> bool:
    step = _object_step(path)
    if step.pipe is not None:
        search.pipe = step.pipe
    for quoted, value in members(text):
        search.work.spend(len(value.text))
        key = unquote(quoted)
        if not (_like(key, step.part, search.work) if step.wild else key == step.part):
            continue
        if step.rest is None:
            search.value = value
            return True
        # A match without what is asked below it does not end the walk: a wildcard or a duplicate key may have it.
        if value.kind in {"object", "array"} and _in(search, value, step.rest):
            return True
    return False


def _in_array(search: _Search, items: object, path: str) -> bool:
    step = _array_step(path)
    if step.pipe is not None and step.rest is None:
        search.pipe = step.pipe
    values = items if isinstance(items, list) else list(items)  # type: ignore[call-overload]
    for value in values:
        search.work.spend(len(value.text))
    if step.query is not None:
        return _by_query(search, values, step)
    if step.part == "#":
        if step.rest is None:
            search.value = Raw("number", str(len(values)))
        else:
            inner = _split_pipe(search, step.rest)
            found = [_get(value.text, inner, search.work) for value in values]
            search.value = Raw("array", "[" + ",".join(raw.text for raw in found if raw.exists) + "]")
        return True
    if "#" in step.part or not re.fullmatch("[0-9]{1,18}", step.part) or int(step.part) >= len(values):
        return False
    value = values[int(step.part)]
    if step.rest is None:
        search.value = value
        return True
    return value.kind in {"object", "array"} and _in(search, value, step.rest)


def _by_query(search: _Search, values: list[Raw], step: _ArrayStep) -> bool:
    query = step.query
    assert query is not None
    inner = _split_pipe(search, step.rest) if step.rest is not None else None
    results = []
    for value in values:
        if value.kind in {"object", "array"}:
            probed = _get(value.text, query.path, search.work)
        elif query.path:
            continue
        else:
            probed = value
        if not _matches(query, probed, search.work):
            continue
        result = value if inner is None else _get(value.text, inner, search.work)
        if not query.every:
            search.value = result
            return True
        if result.exists:
            results.append(result.text)
    if query.every and not search.value.exists:
        search.value = Raw("array", "[" + ",".join(results) + "]")
    return False


# --- Reading one component -----------------------------------------------------------------------------


def _starts_pipe(rest: str) -> bool:
    """Say whether what follows a dot works on the value as a whole: a modifier or a multipath."""
    if rest[:1] == "@":
        return re.split(r"[.|:]", rest[1:], maxsplit=1)[0] in (*MODIFIERS, *_REFUSED_MODIFIERS)
    return rest[:1] in {"[", "{"}


def _object_step(path: str) -> _Step:
    part: list[str] = []
    wild = escaped = False
    position = 0
    while position < len(path):
        char = path[position]
        if char == "|":
            return _Step("".join(part), pipe=path[position + 1 :], wild=wild)
        if char == ".":
            rest = path[position + 1 :]
            if rest and _starts_pipe(rest):
                return _Step("".join(part), pipe=rest, wild=wild)
            return _Step("".join(part), rest=rest, wild=wild)
        if char == "\\":
            position += 1
            escaped = True
            part.append(path[position : position + 1])
        else:
            wild = wild or char in "*?"
            part.append(char)
        position += 1
    return _Step("".join(part) if escaped or wild else path, wild=wild)


@dataclass(frozen=True, slots=True)
class _Query:
    path: str
    operator: str
    operand: str
    every: bool


@dataclass(frozen=True, slots=True)
class _ArrayStep:
    part: str
    rest: str | None = None
    pipe: str | None = None
    query: _Query | None = None


def _array_step(path: str) -> _ArrayStep:
    start, query = 0, None
    if path[:2] in {"#(", "#["}:
        end = _end_of_query(path)
        if end is None:
            return _ArrayStep(path)
        query = _read_query(path[2:end], every=path[end + 1 : end + 2] == "#")
        start = end + 1
    for position in range(start, len(path)):
        if path[position] == "|":
            return _ArrayStep(path[:position], pipe=path[position + 1 :], query=query)
        if path[position] == ".":
            rest = path[position + 1 :]
            # After `#` a modifier works on each element, elsewhere on the element found.
            if "#" not in path[:position] and rest and _starts_pipe(rest):
                return _ArrayStep(path[:position], pipe=rest, query=query)
            return _ArrayStep(path[:position], rest=rest, query=query)
    return _ArrayStep(path, query=query)


_QUERY_TOKEN = re.compile(r'\\.|"[^"\\]*(?:\\.[^"\\]*)*"|[\[\](){}!=<>%]', re.DOTALL)


def _end_of_query(path: str) -> int | None:
    depth = 0
    for found in _QUERY_TOKEN.finditer(path, 1):
        if found[0] in {"[", "("}:
            depth += 1
        elif found[0] in {"]", ")"}:
            depth -= 1
            if depth == 0:
                return found.start()
    return None


def _read_query(text: str, *, every: bool) -> _Query:
    depth = 0
    for found in _QUERY_TOKEN.finditer(text):
        token = found[0]
        if token in {"[", "("}:
            depth += 1
        elif token in {"]", ")"}:
            depth -= 1
        elif token in {"!", "=", "<", ">", "%"} and depth == 0:
            operator = re.match(r"!=|!%|<=|>=|==|[!=<>%]", text[found.start() :])
            assert operator is not None
            operand = text[found.start() + operator.end() :].strip()
            if len(operand) >= 2 and operand[0] == operand[-1] == '"':
                operand = unquote(operand)
            return _Query(text[: found.start()].strip(), operator[0].replace("==", "="), operand, every)
    return _Query(text.strip(), "", "", every)


def _split_pipe(search: _Search, path: str) -> str:
    """Take `|...` off a path that runs per element: it applies to the collected result."""
    depth, position = 0, 0
    while position < len(path):
        char = path[position]
        if char == "\\":
            position += 1
        elif char == '"' and depth:
            found = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"').match(path, position)
            position = found.end() - 1 if found else position
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "|" and depth <= 0:
            search.pipe = path[position + 1 :]
            return path[:position]
        position += 1
    return path


# --- Queries -------------------------------------------------------------------------------------------


def _matches(query: _Query, value: Raw, work: _Work) -> bool:
    operand = query.operand
    if operand.startswith("~"):
        ish = _is_ish(value, operand[1:])
        if ish is None:
            return False
        operand, value = "true", Raw("true" if ish else "false", "true" if ish else "false")
    if not value.exists:
        return False
    if not query.operator:
        return True
    if value.kind == "string":
        return _compare_text(value.string(), query.operator, operand, work)
    if value.kind == "number":
        return _compare(_number(value.text), query.operator, _number(operand))
    if value.kind in {"true", "false"}:
        return _compare_truth(value.kind, query.operator, operand)
    return False


def _is_ish(value: Raw, word: str) -> bool | None:
    """Answer `~null`, `~true`, `~false` and `~*`, None for another word."""
    text = value.string().lower() if value.kind == "string" else ""
    number = _number(value.text) if value.kind == "number" else None
    answers = {
        "*": value.exists,
        "null": value.kind == "null",
        "true": value.kind == "true" or text in {"1", "t", "true"} or bool(number),
        "false": value.kind in {"null", "false"} or text in {"0", "f", "false"} or number == 0,
    }
    return answers.get(word)


def _number(text: str) -> float:
    try:
        return float(text) if "_" not in text else 0.0
    except ValueError:
        return 0.0


def _compare(left: float, operator: str, right: float) -> bool:
    order: dict[str, Callable[[], bool]] = {
        "=": lambda: left == right,
        "!=": lambda: left != right,
        "<": lambda: left < right,
        "<=": lambda: left <= right,
        ">": lambda: left > right,
        ">=": lambda: left >= right,
    }
    return operator in order and order[operator]()


def _compare_text(left: str, operator: str, right: str, work: _Work) -> bool:
    if operator in {"%", "!%"}:
        return _like(left, right, work) == (operator == "%")
    rank = (left > right) - (left < right)
    return _compare(rank, operator, 0)


def _compare_truth(kind: str, operator: str, operand: str) -> bool:
    if operator in {"=", "!="}:
        return (operand == kind) == (operator == "=")
    if kind == "true":
        return operator == ">=" or (operator == ">" and operand == "false")
    return operator == "<=" or (operator == "<" and operand == "true")


def _like(text: str, pattern: str, work: _Work) -> bool:
    """Match `*` and `?`; a backslash makes the next character plain. Quadratic at worst, and paid for as such."""
    work.spend(len(text) * len(pattern) if "*" in pattern else len(pattern))
    tokens = re.findall(r"\\?.", pattern, re.DOTALL)
    at = token = 0
    star, resume = -1, 0
    while at < len(text):
        if token < len(tokens) and tokens[token] == "*":
            star, resume = token, at
            token += 1
        elif token < len(tokens) and (tokens[token] == "?" or tokens[token][-1] == text[at]):
            at, token = at + 1, token + 1
        elif star >= 0:
            resume += 1
            at, token = resume, star + 1
        else:
            return False
    return all(left == "*" for left in tokens[token:])


# --- Multipaths, literals, modifiers -------------------------------------------------------------------


def _balanced(text: str) -> str:
    """Give the bracketed or quoted start of a text, with everything up to its end when it is not closed."""
    if text[:1] == '"':
        found = re.match(r'"[^"\\]*(?:\\.[^"\\]*)*"', text)
        return found[0] if found else text
    depth = 0
    for found in re.finditer(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\](){}]', text):
        if found[0] in {"[", "(", "{"}:
            depth += 1
        elif found[0] in {"]", ")", "}"}:
            depth -= 1
            if depth == 0:
                return text[: found.end()]
    return text


def _multipath(text: str, path: str, work: _Work) -> Raw | None:
    split = _selectors(path)
    if split is None or (split[1] and split[1][0] not in "|."):
        return None
    selectors, rest = split
    pieces = []
    for name, inner in selectors:
        found = _get(text, inner, work)
        if found.exists:
            pieces.append((_label(name, inner) + ":" if path[0] == "{" else "") + found.text)
    result = path[0] + ",".join(pieces) + ("}" if path[0] == "{" else "]")
    if rest:
        return _get(result, rest[1:], work)
    return Raw("object" if path[0] == "{" else "array", result)


def _selectors(path: str) -> tuple[list[tuple[str, str]], str] | None:
    found: list[tuple[str, str]] = []
    depth, start, colon, modifier, position = 1, 1, 0, False, 1

    def push() -> None:
        found.append((path[start:colon], path[colon + 1 : position]) if colon else ("", path[start:position]))

    while position < len(path):
        char = path[position]
        if char == "\\":
            position += 1
        elif char == "@" and path[position - 1] in ".|":
            modifier = True
        elif char == ":" and not modifier and not colon and depth == 1:
            colon = position
        elif char == "," and depth == 1:
            push()
            start, colon, modifier = position + 1, 0, False
        elif char == '"':
            position += len(_balanced(path[position:])) - 1
        elif char in "[({":
            depth += 1
        elif char in "])}":
            depth -= 1
            if depth == 0:
                push()
                return found, path[position + 1 :]
        position += 1
    return None


def _label(name: str, path: str) -> str:
    if name:
        return name if name[0] == '"' and is_json(name) else quote(name)
    last = re.split(r"(?<!\\)[|.]", path)[-1]
    return quote("_" if re.search(r"[\x00-\x1f\[\]{}()#|!]", last) else last)


def _static(path: str) -> tuple[str, str] | None:
    """Read `!value`: the literal, and the rest of the path."""
    body = path[1:]
    if body[0] in '{["' and parse(body).exists:
        literal = _balanced(body)
        return literal, body[len(literal) :]
    end = re.search(r"[.|]", body)
    return (body[: end.start()], body[end.start() :]) if end else (body.lower(), "")


def _modified(text: str, path: str) -> tuple[str, str] | None:
    """Apply the modifier a path starts with; None when it names none (then `@` belongs to a key)."""
    named = re.match(r"@([^:|.]*)(.?)", path, re.DOTALL)
    assert named is not None
    if named[1] in _REFUSED_MODIFIERS:
        raise _refused("UnknownModifier", f"the modifier @{named[1]} is not supported")
    if named[1] not in MODIFIERS:
        return None
    rest, argument = path[named.end(1) :], ""
    if named[2] == ":":
        rest = rest[1:]
        if rest[:1] and rest[0] in '{["' and parse(rest).exists:
            argument = _balanced(rest)
        else:
            argument = re.split(r"\|", rest, maxsplit=1)[0]
        rest = rest[len(argument) :]
    return MODIFIERS[named[1]](text, argument), rest


def _flag(argument: str, name: str) -> bool:
    return any(unquote(key) == name and value.kind == "true" for key, value in members(argument))


def _reverse(text: str, _argument: str) -> str:
    value = parse(text)
    if value.kind == "array":
        return "[" + ",".join(item.text for item in reversed(list(elements(value.text)))) + "]"
    if value.kind == "object":
        return "{" + ",".join(f"{key}:{item.text}" for key, item in reversed(list(members(value.text)))) + "}"
    return text


def _keys(text: str, _argument: str) -> str:
    value = parse(text)
    if value.kind == "object":
        return "[" + ",".join(key for key, _ in members(value.text)) + "]"
    count = len(list(elements(value.text))) if value.kind == "array" else int(value.exists)
    return "[" + ",".join(["null"] * count) + "]"


def _values(text: str, _argument: str) -> str:
    value = parse(text)
    if value.kind == "array":
        return text
    if value.kind == "object":
        return "[" + ",".join(item.text for _, item in members(value.text)) + "]"
    return f"[{value.text}]"


def _flatten(text: str, argument: str) -> str:
    value = parse(text)
    if value.kind != "array":
        return text
    pieces = []
    for item in elements(value.text):
        raw = item.text
        if item.kind == "array":
            raw = (_flatten(raw, argument) if _flag(argument, "deep") else raw).strip()[1:-1]
        if raw.strip():
            pieces.append(raw.strip())
    return "[" + ",".join(pieces) + "]"


def _join(text: str, argument: str) -> str:
    value = parse(text)
    if value.kind != "array":
        return text
    objects = [item for item in elements(value.text) if item.kind == "object"]
    if _flag(argument, "preserve"):
        return "{" + ",".join(item.text.strip()[1:-1] for item in objects) + "}"
    joined: dict[str, tuple[str, str]] = {}
    for item in objects:
        for key, inner in members(item.text):
            first = joined.get(unquote(key), (key, ""))[0]
            joined[unquote(key)] = (first, inner.text)
    return "{" + ",".join(f"{key}:{inner}" for key, inner in joined.values()) + "}"


def _group(text: str, _argument: str) -> str:
    value = parse(text)
    if value.kind != "object":
        return ""
    rows: list[list[str]] = []
    for key, column in members(value.text):
        for number, item in enumerate(elements(column.text) if column.kind == "array" else ()):
            if number == len(rows):
                rows.append([])
            rows[number].append(f"{key}:{item.text}")
    return "[" + ",".join("{" + ",".join(row) + "}" for row in rows) + "]"


def _ugly(text: str, _argument: str) -> str:
    return re.sub(r'("[^"\\]*(?:\\.[^"\\]*)*")|[\x00-\x20]+', lambda m: m[1] or "", text)


MODIFIERS: dict[str, Callable[[str, str], str]] = {
    "this": lambda text, _argument: text,
    "valid": lambda text, _argument: text if is_json(text) else "",
    "tostr": lambda text, _argument: quote(text),
    "fromstr": lambda text, _argument: parse(text).string() if is_json(text) else "",
    "reverse": _reverse,
    "keys": _keys,
    "values": _values,
    "flatten": _flatten,
    "join": _join,
    "group": _group,
    "ugly": _ugly,
}
_REFUSED_MODIFIERS = frozenset({"pretty", "dig"})

__all__ = ["MODIFIERS", "PATH_LIMIT", "WORK_LIMIT", "literally", "lookup"]
