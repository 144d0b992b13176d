"""YAML as sigs.k8s.io/yaml reads and writes it: through JSON, scalars by the YAML 1.1 rules of go-yaml v2. Pure.

What never lives here: Kubernetes objects (`secretsops.manifest`, whose loader does the reading).
"""

from __future__ import annotations

import math
import re
from functools import cmp_to_key
from typing import Any

from secretsops.errors import InvalidManifest
from secretsops.templating.formatting import runes
from secretsops.templating.gojson import NoJson, number_text, text_of
from secretsops.templating.gotypes import INVALID, Struct
from secretsops.templating.meter import Meter

SOURCE_LIMIT = 2 * 1024 * 1024
"""Bytes of a document that is read."""
_WIDTH = 80
"""Columns after which go-yaml v2 folds plain text."""


class NoYaml(ValueError):
    """The text is no YAML. `problem` is in go-yaml's words as far as they quote nothing."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


def decode(text: bytes, meter: Meter) -> Any:
    """Give the first document's value: bytes, float, bool, None, list and dict with text keys.

    Raises:
        NoYaml: it is no YAML, or a hostile one.
    """
    from secretsops.manifest import load_values

    if len(text) > SOURCE_LIMIT:
        raise NoYaml("yaml: the text is too long")
    meter.grow(32 * len(text))
    meter.step(len(text) // 4)
    try:
        value = next(load_values(text, unique_keys=False), None)
        return _as_go(value, meter)
    except InvalidManifest as error:
        raise NoYaml(_told(text, error)) from None


def _told(text: bytes, error: InvalidManifest) -> str:
    """Say where it is broken and, where that is plain to see, how. go-yaml counts a parser's lines from 0."""
    found = re.search(r"line (\d+)", error.where)
    line = int(found[1]) if found else 0
    if text.rstrip()[-1:] not in {b"[", b"{", b",", b":"}:
        return f"yaml: line {line}: the text is no YAML" if line else "yaml: the text is no YAML"
    return "yaml: " + (f"line {line - 1}: " if line > 1 else "") + "did not find expected node content"


def _as_go(value: Any, meter: Meter) -> Any:
    meter.step()
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape") if value.isascii() else text_of(value)
    if isinstance(value, list):
        meter.grow(64 * len(value))
        return [_as_go(item, meter) for item in value]
    if isinstance(value, dict):
        meter.grow(128 * len(value))
        return {text_of(str(key)): _as_go(item, meter) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        shown = "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
        raise NoYaml(f"json: unsupported value: {shown}")
    if isinstance(value, int) and not isinstance(value, bool):
        if value.bit_length() > 1000:
            raise NoYaml("json: a number is out of range")
        return float(value)
    return value


def json_kind(value: Any) -> str:
    """Name the kind of a decoded value as encoding/json does in its errors."""
    if isinstance(value, bool):
        return "bool"
    return {bytes: "string", float: "number", list: "array", dict: "object"}.get(type(value), "null")


# --- Writing -------------------------------------------------------------------------------------------

_WORD = re.compile(
    r"|[yYnN~]|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF|true|True|TRUE|false|False|FALSE|null|Null|NULL"
    r"|\.nan|\.NaN|\.NAN|[-+]?\.(?:inf|Inf|INF)"
)
_NUMBER = re.compile(
    r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)"
    r"|[-+]?(?:\.[0-9_]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"
    r"|-?0b[01_]+"
)
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
    r"(?:[Tt ][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(?:\.[0-9]*)?(?: ?[Zz]|[-+][0-9]{1,2}:[0-9]{2})?)?"
)


def means_something_else(text: str) -> bool:
    """Say whether plain text would be read as a boolean, null, number or time (`resolve.go` of go-yaml v2)."""
    return bool(_WORD.fullmatch(text) or _NUMBER.fullmatch(text) or _TIME.fullmatch(text))


def encode(value: Any, meter: Meter) -> bytes:
    """Give a value as YAML, without the last line break.

    Raises:
        NoJson: it holds something that has no JSON.
    """
    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        def ignore_aliases(self, _data: Any) -> bool:
            return True

    # Nodes carry their own tags, resolved here: the dumper's resolvers are those of another YAML.
    Dumper.yaml_implicit_resolvers = {}
    text = yaml.serialize(_node(value, meter, yaml, 0), Dumper=Dumper, width=_WIDTH, allow_unicode=True)
    meter.grow(2 * len(text))
    shown: str = text.removesuffix("...\n").removesuffix("\n")
    return shown.encode()


def _node(value: Any, meter: Meter, yaml: Any, level: int) -> Any:  # noqa: PLR0911 - one return per kind
    meter.step(4)
    meter.depth(level)
    meter.grow(256)
    if isinstance(value, bytes):
        meter.grow(4 * len(value))
        meter.step(len(value) // 64)
        return _text_node(runes(value), yaml)
    if value is None or value is INVALID or type(value).__name__.startswith("Nil"):
        return _scalar("null", yaml)
    if isinstance(value, bool):
        return _scalar("true" if value else "false", yaml)
    if isinstance(value, int):
        return _scalar(str(int(value)), yaml)
    if isinstance(value, float):
        return _scalar(_number(value), yaml)
    if isinstance(value, list):
        items = [_node(item, meter, yaml, level + 1) for item in value]
        return yaml.SequenceNode("tag:yaml.org,2002:seq", items, flow_style=not items)
    if isinstance(value, dict):
        meter.step(4 * len(value))
        keys = sorted(value, key=cmp_to_key(_in_order))
        pairs = [(_text_node(runes(key), yaml), _node(value[key], meter, yaml, level + 1)) for key in keys]
        return yaml.MappingNode("tag:yaml.org,2002:map", pairs, flow_style=not pairs)
    if (text := getattr(value, "go_json", None)) is not None:
        return _text_node(runes(text()), yaml)
    if isinstance(value, Struct):
        return _node(value.fields, meter, yaml, level)
    raise NoJson


def _scalar(text: str, yaml: Any) -> Any:
    return yaml.ScalarNode("tag:yaml.org,2002:str", text)


def _text_node(text: str, yaml: Any) -> Any:
    style = "|" if "\n" in text else '"' if means_something_else(text) else None
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, style=style)


def _number(value: float) -> str:
    """Give a float as it looks after JSON and go-yaml: an integer where it is one of 64 bits."""
    shown = number_text(value)
    if "." not in shown and "e" not in shown and abs(value) < 2**64:
        return shown
    from secretsops.templating.formatting import format_float

    return ("-" if value < 0 else "") + format_float(abs(value), "g", None)


def _in_order(one: bytes, other: bytes) -> int:
    """Compare keys as go-yaml v2 sorts them (`sorter.go`): numbers within text by size, letters after the rest."""
    left, right = runes(one), runes(other)
    for at, (a, b) in enumerate(zip(left, right, strict=False)):
        if a == b:
            continue
        if a.isalpha() and b.isalpha():
            return -1 if a < b else 1
        if a.isalpha() or b.isalpha():
            return 1 if a.isalpha() else -1
        first, second = _digits(left, at), _digits(right, at)
        # Behind a digit that is not 0, a leading 0 counts.
        lead = "1" if "0" in {a, b} and left[:at][-1:].isdigit() and left[:at].strip("0")[-1:].isdigit() else ""
        numbers = int(lead + first or 0), int(lead + second or 0)
        if numbers[0] != numbers[1]:
            return -1 if numbers[0] < numbers[1] else 1
        if len(first) != len(second):
            return -1 if len(first) < len(second) else 1
        return -1 if a < b else 1
    return len(left) - len(right)


def _digits(text: str, at: int) -> str:
    end = at
    while end < len(text) and end - at < 400 and text[end] in "0123456789":
        end += 1
    return text[at:end]
