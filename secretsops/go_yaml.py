"""YAML 1.1 as sigs.k8s.io/yaml (go-yaml v2) reads and writes it, by PyYAML: the general way, bounded.

Errors are rebuilt from line and column, because PyYAML's own messages quote the line they fail on, which may be a
secret. What never lives here: Kubernetes objects (`manifest.py`, which decides whether this is needed at all).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from secretsops.errors import InvalidManifest
from secretsops.plain_yaml import BOOL_FALSE, BOOL_TRUE, DEPTH_LIMIT, DOCUMENT_LIMIT, FLOAT, INT, NODE_LIMIT

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML without libyaml: the same dialect, slower
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

_STR, _MAP, _SEQ, _NULL, _BOOL = (f"tag:yaml.org,2002:{name}" for name in ("str", "map", "seq", "null", "bool"))
_NOT_SIMPLE = object()


class _NotSimpleError(Exception):
    """The general way has to read this document."""


class _GoYaml(_Loader):
    """PyYAML with go-yaml v2's scalars: booleans y/n/on/off, 1e3 a float, 0o17 and 017 octal, no dates, no base 60."""

    def __init__(self, stream: bytes | str, *, unique_keys: bool = True) -> None:
        super().__init__(stream)
        self.sizes: dict[int, int] = {}
        self.unique_keys = unique_keys

    def measure(self, node: yaml.Node, depth: int = 0) -> int:
        """Count the values below `node` as if every alias were written out; refuse what goes past the limits."""
        if depth > DEPTH_LIMIT:
            raise _refusal("nested deeper than {limit} levels", node, limit=DEPTH_LIMIT)
        known = self.sizes.get(id(node))
        if known is not None:
            if known < 0:
                raise _refusal("an alias contains itself", node)
            return known
        self.sizes[id(node)] = -1
        total = 1
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                total += self.measure(key, depth + 1) + self.measure(value, depth + 1)
        elif isinstance(node, yaml.SequenceNode):
            for value in node.value:
                total += self.measure(value, depth + 1)
        if total > NODE_LIMIT:
            raise _refusal("more than {limit} values, aliases written out", node, limit=NODE_LIMIT)
        self.sizes[id(node)] = total
        return total

    def simple(self, node: yaml.Node) -> Any:
        """Give the data below a node without aliases, tags and merge keys; `_NOT_SIMPLE` where it is no such node.

        The same data and refusals as the general way gives, in a third of the time.
        """
        budget = [NODE_LIMIT]

        def walk(node: yaml.Node, depth: int) -> Any:
            budget[0] -= 1
            if depth > DEPTH_LIMIT or budget[0] < 0:
                raise _NotSimpleError
            tag = node.tag
            if tag == _STR:
                return node.value
            if tag == _MAP:
                result: dict[str, Any] = {}
                for key_node, value_node in node.value:
                    if key_node.tag != _STR or key_node.value in result:
                        raise _NotSimpleError
                    result[key_node.value] = walk(value_node, depth + 1)
                return result
            if tag == _SEQ:
                return [walk(child, depth + 1) for child in node.value]
            if tag == _NULL:
                return None
            if tag == _BOOL:
                return node.value in BOOL_TRUE
            raise _NotSimpleError

        try:
            return walk(node, 0)
        except _NotSimpleError:
            return _NOT_SIMPLE

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """Refuse duplicate keys (strict decoding of kubectl) and make scalar keys strings, as JSON has them."""
        if not isinstance(node, yaml.MappingNode):
            raise _refusal("expected a mapping", node)
        own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        self.flatten_mapping(node)
        result: dict[Any, Any] = {}
        seen: set[str] = set()
        explicit = {id(key) for key in own}
        for key_node, value_node in node.value:
            key = _json_key(self.construct_object(key_node, deep=True), key_node)
            if id(key_node) in explicit:
                if key in seen and self.unique_keys:
                    raise _refusal("duplicate key {key!r}", key_node, key=key)
                seen.add(key)
            result[key] = self.construct_object(value_node, deep=deep)
        return result


def _json_key(key: Any, node: yaml.Node) -> str:
    if isinstance(key, str):
        return key
    if key is True or key is False:
        return "true" if key else "false"
    if key is None:
        return "null"
    if isinstance(key, int | float):
        return json.dumps(key)
    raise _refusal("a key is not a scalar", node)


def _refusal(message: str, node: yaml.Node | yaml.Event, **values: object) -> InvalidManifest:
    mark = node.start_mark
    at = where("", mark.line + 1, mark.column + 1) if mark else ""
    return InvalidManifest(message.format(**values), where=at, reason="InvalidYaml")


def _construct_bool(loader: _GoYaml, node: yaml.ScalarNode) -> bool:
    return str(loader.construct_scalar(node)) in BOOL_TRUE


def _construct_int(loader: _GoYaml, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "")
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-").lower()
    for prefix, base in (("0b", 2), ("0o", 8), ("0x", 16)):
        if digits.startswith(prefix):
            return sign * int(digits[2:], base)
    if len(digits) > 1 and digits.startswith("0"):
        return sign * int(digits, 8)
    if len(digits) > 400:
        raise _refusal("a number is longer than 400 digits", node)
    return sign * int(digits)


def _construct_float(loader: _GoYaml, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node)).lower()
    if text.endswith(".inf"):
        return float("-inf") if text.startswith("-") else float("inf")
    return float("nan") if text == ".nan" else float(text)


def _construct_binary(loader: _GoYaml, node: yaml.ScalarNode) -> str:
    decoded: bytes = loader.construct_yaml_binary(node)
    return decoded.decode("utf-8", "surrogateescape")


def _construct_unknown(_loader: _GoYaml, node: yaml.Node) -> Any:
    raise _refusal("an unknown tag", node)


_GoYaml.yaml_implicit_resolvers = {}
_GoYaml.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(?:" + "|".join(BOOL_TRUE + BOOL_FALSE) + ")$"), list("yYnNtTfFoO")
)
_GoYaml.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(f"^(?:{INT.pattern})$"), list("-+0123456789"))
_GoYaml.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^(?:{FLOAT.pattern})$"), list("-+0123456789."))
_GoYaml.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile("^<<$"), ["<"])
_GoYaml.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_GoYaml.add_constructor("tag:yaml.org,2002:bool", _construct_bool)
_GoYaml.add_constructor("tag:yaml.org,2002:int", _construct_int)
_GoYaml.add_constructor("tag:yaml.org,2002:float", _construct_float)
_GoYaml.add_constructor("tag:yaml.org,2002:binary", _construct_binary)
_GoYaml.add_constructor(None, _construct_unknown)


_SUSPICIOUS_INDENT = re.compile(r"^[ \t\-?:]{500}", re.MULTILINE)


def _yaml_values(text: str, *, unique_keys: bool) -> Iterator[Any]:
    loader = _GoYaml(text, unique_keys=unique_keys)
    # Without anchors nothing is counted twice and nothing contains itself: one walk does what two do in general.
    simple = unique_keys and "&" not in text and "!" not in text and "<<" not in text
    try:
        for number in range(DOCUMENT_LIMIT + 1):
            if not loader.check_node():
                return
            if number == DOCUMENT_LIMIT:
                raise InvalidManifest(
                    f"more than {DOCUMENT_LIMIT} documents", reason="TooManyDocuments", hint="split the file"
                )
            node = loader.get_node()
            assert node is not None
            if simple:
                value = loader.simple(node)
                if value is not _NOT_SIMPLE:
                    yield value
                    continue
            loader.sizes.clear()
            loader.measure(node)
            yield loader.construct_document(node)
    finally:
        loader.dispose()


def _refuse_depth(text: str) -> None:
    """Count nesting from parser events: the composer recurses in C without a guard; 100,000 brackets kill us."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEPTH_LIMIT:
                raise _refusal("nested deeper than {limit} levels", event, limit=DEPTH_LIMIT)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Block style, no aliases, and quotes around every string that go-yaml v2 would read as something else."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _represent_str(dumper: Any, text: str) -> yaml.ScalarNode:
    style: str | None = None
    if "\n" in text:
        style = "|"
    elif text in BOOL_TRUE or text in BOOL_FALSE or INT.fullmatch(text) or FLOAT.fullmatch(text):
        style = '"'
    node: yaml.ScalarNode = dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)
    return node


_Dumper.add_representer(str, _represent_str)


def read(text: str, *, source: str, unique_keys: bool) -> Iterator[Any]:
    """Give each document as plain data; raises `InvalidManifest` with line and column, without any of the text."""
    try:
        if text.count("[") + text.count("{") > 500 or _SUSPICIOUS_INDENT.search(text):
            _refuse_depth(text)
        yield from _yaml_values(text, unique_keys=unique_keys)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = where(source, mark.line + 1, mark.column + 1) if mark else source
        raise InvalidManifest("not valid YAML", where=at, reason="InvalidYaml") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InvalidManifest("not valid YAML", where=source, reason="InvalidYaml") from None


def write(body: Mapping[str, Any]) -> str:
    """Give one object as YAML, keys sorted."""
    text: str = yaml.dump(
        dict(body), Dumper=_Dumper, sort_keys=True, default_flow_style=False, allow_unicode=True, width=2**30
    )
    return text


def where(source: str, line: int, column: int = 0) -> str:
    """Name a place of a source for people."""
    place = f"line {line}, column {column}" if column else f"line {line}"
    return f"{source}, {place}" if source else place
