"""Kubernetes objects as values, and YAML as the cluster's tools read it.

`Manifest` is a view over an untouched body: unknown fields survive read and write. `load_all` reads YAML 1.1 as
sigs.k8s.io/yaml (go-yaml v2) does, with limits against hostile input; its errors are rebuilt from line and column,
because PyYAML's own messages quote the line they fail on, which may be a secret.

What never lives here: clusters, files, secrets' meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from secretsops.errors import InvalidManifest
from secretsops.plain_yaml import DEPTH_LIMIT, read_plain, write_plain


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
        line = text.count(b"\n", 0, error.start) + 1
        place = f"{source}, line {line}" if source else f"line {line}"
        raise InvalidManifest("not UTF-8 text", where=place, reason="NotUtf8") from None
    try:
        if decoded.lstrip()[:1] == "{":
            values = _json_values(decoded) if unique_keys else None
        else:
            values = read_plain(decoded)
        if values is not None:
            yield from values
            return
        from secretsops.go_yaml import read

        yield from read(decoded, source="", unique_keys=unique_keys)
    except InvalidManifest as error:
        where = ", ".join(filter(None, [source, error.where]))
        raise InvalidManifest(error.problem, where=where, reason=error.reason, hint=error.hint) from None


def _json_values(text: str) -> list[Any] | None:
    """Give the values of a stream of JSON objects, None when it is no JSON (then it is read as YAML)."""
    import json

    decoder = json.JSONDecoder(object_pairs_hook=_unique_pairs)
    values: list[Any] = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError:
            return None
        except RecursionError:
            raise _too_deep(len(values) + 1) from None
        values.append(value)
        while position < len(text) and text[position] in " \t\r\n":
            position += 1
    if text.count("{") + text.count("[") > DEPTH_LIMIT:
        for number, value in enumerate(values, start=1):
            if _is_deeper(value, DEPTH_LIMIT):
                raise _too_deep(number)
    return values


def _is_deeper(value: Any, limit: int) -> bool:
    """Say whether a value nests deeper than `limit`, as the reader of YAML counts."""
    level = [value]
    for _ in range(limit + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def _too_deep(document: int) -> InvalidManifest:
    message = f"nested deeper than {DEPTH_LIMIT} levels"
    return InvalidManifest(message, where=f"document {document}", reason="InvalidYaml")


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


def dump(body: Mapping[str, Any]) -> str:
    """Give one object as YAML, keys sorted, as sigs.k8s.io/yaml writes it; read back by any YAML 1.1 or 1.2 reader."""
    lines: list[str] = []
    if write_plain(body, "", lines):
        return "".join(lines)
    from secretsops.go_yaml import write

    return write(body)


def dump_all(bodies: list[dict[str, Any]]) -> str:
    """Give objects as a YAML stream, each after a `---` line."""
    return "".join(f"---\n{dump(body)}" for body in bodies)
