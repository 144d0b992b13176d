"""Kubernetes objects as values, and YAML as the cluster's tools read it.

`Manifest` is a view over an untouched body: unknown fields survive read and write. `load_all` reads YAML 1.1 as
sigs.k8s.io/yaml (go-yaml v2) does, with limits against hostile input; its errors are rebuilt from line and column,
because PyYAML's own messages quote the line they fail on, which may be a secret.

What never lives here: clusters, files, secrets' meaning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from secretsops.errors import InvalidManifest

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML without libyaml: the same dialect, slower
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

DEPTH_LIMIT = 128
"""Nested levels at most; Kubernetes' deepest schema (JSONSchemaProps aside) stays under 40."""
NODE_LIMIT = 1_000_000
"""Values at most in one document, aliases counted each time they are used: a billion laughs ends here."""
DOCUMENT_LIMIT = 10_000
"""Documents at most in one stream."""


@dataclass(frozen=True, slots=True, order=True)
class GroupVersionKind:
    """A kind with its API group and version; the core group is the empty string."""

    group: str
    version: str
    kind: str

    @classmethod
    def of(cls, api_version: str, kind: str) -> GroupVersionKind:
        """Split `apps/v1` or `v1`."""
        group, slash, version = api_version.rpartition("/")
        return cls(group if slash else "", version, kind)

    @property
    def api_version(self) -> str:
        """Give `group/version`, or the version alone for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        return f"{self.api_version}/{self.kind}"


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """What names an object across versions: group, kind, namespace ("" when cluster-scoped), name."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """Print as `apps/Deployment shop/web`, `Namespace shop`."""
        kind = f"{self.group}/{self.kind}" if self.group else self.kind
        return f"{kind} {self.namespace}/{self.name}" if self.namespace else f"{kind} {self.name}"


class Manifest:
    """One Kubernetes object: typed views over `body`, which is never altered here. Prints its key alone."""

    __slots__ = ("body",)

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body

    @property
    def kind(self) -> GroupVersionKind:
        """Give group, version and kind."""
        return GroupVersionKind.of(str(self.body.get("apiVersion", "")), str(self.body.get("kind", "")))

    @property
    def key(self) -> ObjectKey:
        """Give what names the object."""
        kind = self.kind
        return ObjectKey(kind.group, kind.kind, self.namespace, self.name)

    @property
    def metadata(self) -> dict[str, Any]:
        """Give `metadata`, an empty dictionary when there is none (not attached to the body)."""
        found = self.body.get("metadata")
        return found if isinstance(found, dict) else {}

    @property
    def name(self) -> str:
        """Give `metadata.name`, "" when there is none."""
        return str(self.metadata.get("name") or "")

    @property
    def namespace(self) -> str:
        """Give `metadata.namespace`, "" when there is none."""
        return str(self.metadata.get("namespace") or "")

    @property
    def labels(self) -> Mapping[str, str]:
        """Give the labels, none where they are no mapping."""
        found = self.metadata.get("labels")
        return found if isinstance(found, dict) else {}

    @property
    def annotations(self) -> Mapping[str, str]:
        """Give the annotations, none where they are no mapping."""
        found = self.metadata.get("annotations")
        return found if isinstance(found, dict) else {}

    @property
    def uid(self) -> str:
        """Give `metadata.uid`, "" before the server set one."""
        return str(self.metadata.get("uid") or "")

    @property
    def resource_version(self) -> str:
        """Give `metadata.resourceVersion`, "" before the server set one."""
        return str(self.metadata.get("resourceVersion") or "")

    @property
    def generation(self) -> int:
        """Give `metadata.generation`, 0 when there is none."""
        return int(self.metadata.get("generation") or 0)

    @property
    def spec(self) -> dict[str, Any]:
        """Give `spec`, an empty dictionary when there is none (not attached to the body)."""
        found = self.body.get("spec")
        return found if isinstance(found, dict) else {}

    @property
    def status(self) -> dict[str, Any]:
        """Give `status`, an empty dictionary when there is none (not attached to the body)."""
        found = self.body.get("status")
        return found if isinstance(found, dict) else {}

    def __eq__(self, other: object) -> bool:
        return self.body == other.body if isinstance(other, Manifest) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Manifest({self.key})"


# --- YAML ----------------------------------------------------------------------------------------------

_BOOL_TRUE = ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")
_BOOL_FALSE = ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")
_INT = re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[1-9][0-9_]*|0)")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)


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
                return node.value in _BOOL_TRUE
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
    where = _where("", mark.line + 1, mark.column + 1) if mark else ""
    return InvalidManifest(message.format(**values), where=where, reason="InvalidYaml")


def _construct_bool(loader: _GoYaml, node: yaml.ScalarNode) -> bool:
    return str(loader.construct_scalar(node)) in _BOOL_TRUE


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
    "tag:yaml.org,2002:bool", re.compile("^(?:" + "|".join(_BOOL_TRUE + _BOOL_FALSE) + ")$"), list("yYnNtTfFoO")
)
_GoYaml.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(f"^(?:{_INT.pattern})$"), list("-+0123456789"))
_GoYaml.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^(?:{_FLOAT.pattern})$"), list("-+0123456789."))
_GoYaml.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile("^<<$"), ["<"])
_GoYaml.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_GoYaml.add_constructor("tag:yaml.org,2002:bool", _construct_bool)
_GoYaml.add_constructor("tag:yaml.org,2002:int", _construct_int)
_GoYaml.add_constructor("tag:yaml.org,2002:float", _construct_float)
_GoYaml.add_constructor("tag:yaml.org,2002:binary", _construct_binary)
_GoYaml.add_constructor(None, _construct_unknown)


_SUSPICIOUS_INDENT = re.compile(r"^[ \t\-?:]{500}", re.MULTILINE)


def load_values(text: bytes, *, source: str = "", unique_keys: bool = True) -> Iterator[Any]:
    """Give each document of a YAML or JSON stream as plain data; empty documents are None.

    Scalars follow go-yaml v2 as sigs.k8s.io/yaml v1.4 uses it. `source` names the file in errors. Equal keys are
    refused as kubectl does; without `unique_keys` the last one wins, as where sigs.k8s.io/yaml is not strict.

    Raises:
        InvalidManifest: broken or hostile input, with line and column and without any of its text.
    """
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = _where(source, text.count(b"\n", 0, error.start) + 1)
        raise InvalidManifest("not UTF-8 text", where=where, reason="NotUtf8") from None
    try:
        if decoded.lstrip()[:1] == "{":
            values = _json_values(decoded) if unique_keys else None
            if values is not None:
                yield from values
                return
        if decoded.count("[") + decoded.count("{") > 500 or _SUSPICIOUS_INDENT.search(decoded):
            _refuse_depth(decoded)
        yield from _yaml_values(decoded, unique_keys=unique_keys)
    except InvalidManifest as error:
        where = ", ".join(filter(None, [source, error.where]))
        raise InvalidManifest(error.problem, where=where, reason=error.reason, hint=error.hint) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = _where(source, mark.line + 1, mark.column + 1) if mark else source
        raise InvalidManifest("not valid YAML", where=where, reason="InvalidYaml") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InvalidManifest("not valid YAML", where=source, reason="InvalidYaml") from None


def _where(source: str, line: int, column: int = 0) -> str:
    place = f"line {line}, column {column}" if column else f"line {line}"
    return f"{source}, {place}" if source else place


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


def _json_values(text: str) -> list[Any] | None:
    """Give the values of a stream of JSON objects, None when it is no JSON (then it is read as YAML)."""
    decoder = json.JSONDecoder(object_pairs_hook=_unique_pairs)
    values: list[Any] = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError:
            return None
        values.append(value)
        while position < len(text) and text[position] in " \t\r\n":
            position += 1
    return values


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidManifest(f"duplicate key {key!r}", reason="InvalidYaml")
            seen.add(key)
    return body


def load_all(text: bytes, *, source: str = "", expand_lists: bool = True) -> list[Manifest]:
    """Give every object of a YAML or JSON stream; empty documents are skipped, `List` kinds expanded.

    Raises:
        InvalidManifest: broken input, or a document that is no Kubernetes object.
    """
    manifests: list[Manifest] = []
    for number, value in enumerate(load_values(text, source=source), start=1):
        if value is None:
            continue
        where = f"{source}, document {number}" if source else f"document {number}"
        if not isinstance(value, dict):
            raise InvalidManifest("not a mapping", where=where, reason="NotAnObject")
        if not isinstance(value.get("kind"), str) or not isinstance(value.get("apiVersion"), str):
            raise InvalidManifest("apiVersion or kind is missing", where=where, reason="NotAnObject")
        if expand_lists and value["kind"].endswith("List") and isinstance(value.get("items"), list):
            manifests.extend(Manifest(item) for item in value["items"] if isinstance(item, dict))
        else:
            manifests.append(Manifest(value))
    return manifests


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Block style, no aliases, and quotes around every string that go-yaml v2 would read as something else."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _represent_str(dumper: Any, text: str) -> yaml.ScalarNode:
    style: str | None = None
    if "\n" in text:
        style = "|"
    elif text in _BOOL_TRUE or text in _BOOL_FALSE or _INT.fullmatch(text) or _FLOAT.fullmatch(text):
        style = '"'
    node: yaml.ScalarNode = dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)
    return node


_Dumper.add_representer(str, _represent_str)


def dump(body: Mapping[str, Any]) -> str:
    """Give one object as YAML, keys sorted, as sigs.k8s.io/yaml writes it; read back by any YAML 1.1 or 1.2 reader."""
    lines: list[str] = []
    if _dump_simple(body, "", lines):
        return "".join(lines)
    text: str = yaml.dump(
        dict(body), Dumper=_Dumper, sort_keys=True, default_flow_style=False, allow_unicode=True, width=2**30
    )
    return text


_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._/+=-]*(?::[A-Za-z0-9._/+=-]+)*")
_WORDS = frozenset((*_BOOL_TRUE, *_BOOL_FALSE, "null", "Null", "NULL"))
_KEY_LENGTH = 100
"""Characters of a key that every emitter still writes on one line with its value."""


def _dump_simple(body: Mapping[str, Any], indent: str, lines: list[str]) -> bool:
    """Write mappings of words, and say False at the first value that may need quotes: PyYAML then writes it all.

    The same text in an eighth of the time; names, base64 and flags are most of what we write.
    """
    if not body:
        return False
    for key in sorted(body, key=str):
        value: Any = body[key]
        if not isinstance(value, str | bool | dict) or type(key) is not str:
            return False
        if len(key) > _KEY_LENGTH or key in _WORDS or not _PLAIN.fullmatch(key):
            return False
        if isinstance(value, str):
            if value in _WORDS or not _PLAIN.fullmatch(value):
                return False
            lines.append(f"{indent}{key}: {value}\n")
        elif isinstance(value, bool):
            lines.append(f"{indent}{key}: {'true' if value else 'false'}\n")
        else:
            lines.append(f"{indent}{key}:\n")
            if not _dump_simple(value, indent + "  ", lines):
                return False
    return True


def dump_all(bodies: list[dict[str, Any]]) -> str:
    """Give objects as a YAML stream, each after a `---` line."""
    return "".join(f"---\n{dump(body)}" for body in bodies)
