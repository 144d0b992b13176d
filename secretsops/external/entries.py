"""The entries of an ExternalSecret, `data` and `dataFrom`, as values: one `Pull` each. Pure.

What never lives here: the object around them (`secretsops.external.model`), fetching, what rewriting does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from secretsops.errors import InvalidManifest
from secretsops.ports import Ask, Query

GENERATORS = "generators.external-secrets.io"
REWRITE_LIMIT = 100
"""Rewrite operations of one entry."""


@dataclass(frozen=True, slots=True, order=True)
class StoreRef:
    """Names a store: a `SecretStore` of the same namespace or a `ClusterSecretStore`."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True, order=True)
class GeneratorRef:
    """Names a generator of the same namespace, or a `ClusterGenerator`."""

    kind: str
    name: str
    api_version: str = f"{GENERATORS}/v1alpha1"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegexpRewrite:
    """Replace every match of `source` (RE2) in a key by `target`, where `$1` and `${name}` stand for groups."""

    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformRewrite:
    """Make each key anew from a template, in which `.value` is the key."""

    template: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeRewrite:
    """Make one map of the JSON objects that are the values."""

    into: str = ""
    priority: Sequence[str] = ()
    ignore_missing: bool = False
    ignore_conflicts: bool = False
    as_json: bool = False


Rewrite = RegexpRewrite | TransformRewrite | MergeRewrite


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """One entry: of `data` (it has a `secret_key`), or of `dataFrom`: extract, `find` or `generator`."""

    where: str
    index: int
    store: StoreRef | None
    key: str = ""
    secret_key: str = ""
    property_path: str = ""
    version: str = ""
    metadata: bool = False
    conversion: str = "Default"
    decoding: str = "None"
    null_bytes: str = "Ignore"
    find: Query | None = None
    generator: GeneratorRef | None = None
    rewrites: Sequence[Rewrite] = field(default=())

    @property
    def place(self) -> str:
        """Give how the peer names the entry in its events."""
        if self.secret_key:
            return f"{self.where} (key: {self.key})"
        if self.generator:
            return f"{self.where}.sourceRef.generatorRef"
        return f"{self.where}.{'find' if self.find else 'extract'}"

    @property
    def ask(self) -> Ask | None:
        """Give the one document it needs, None where it needs another number of them."""
        return None if self.find or self.generator else Ask(self.key, self.version, self.metadata)


def data(entry: Mapping[str, Any], index: int, default: Mapping[str, Any]) -> Pull:
    """Read one entry of `spec.data`; `default` is the object's `secretStoreRef`.

    Raises:
        InvalidManifest: it says too little, or what is not built.
    """
    where = f"spec.data[{index}]"
    secret_key = entry.get("secretKey")
    if not isinstance(secret_key, str) or not secret_key:
        raise _invalid(f"{where}.secretKey is missing", "name the key of the Secret")
    if _map(entry, "sourceRef").get("generatorRef"):
        raise InvalidManifest(
            f"{where}: generatorRef is not for data", reason="Unsupported", hint="move the generator to dataFrom"
        )
    return _remote(_map(entry, "remoteRef"), where, index, _store(entry, where, default), secret_key=secret_key)


def data_from(entry: Mapping[str, Any], index: int, default: Mapping[str, Any]) -> Pull:
    """Read one entry of `spec.dataFrom`: exactly one of extract, find and a generator.

    Raises:
        InvalidManifest: it says too little, too much, or what is not built.
    """
    where = f"spec.dataFrom[{index}]"
    generator = _map(entry, "sourceRef").get("generatorRef")
    kinds = [entry.get("extract"), entry.get("find"), generator]
    if sum(isinstance(kind, dict) for kind in kinds) > 1:
        raise _invalid("extract, find, or generatorRef cannot be set at the same time", f"split {where}")
    rewrites = _rewrites(entry.get("rewrite"), where)
    if isinstance(generator, dict):
        return Pull(where=where, index=index, store=None, generator=_generator(generator, where), rewrites=rewrites)
    if isinstance(entry.get("find"), dict):
        return _find(entry["find"], where, index, _store(entry, where, default), rewrites)
    if isinstance(entry.get("extract"), dict):
        return _remote(entry["extract"], where, index, _store(entry, where, default), rewrites=rewrites)
    raise _invalid("either extract, find, or sourceRef must be set to dataFrom", f"fill in {where}")


def store_ref(ref: Mapping[str, Any]) -> StoreRef:
    """Give the store a reference names."""
    return StoreRef(str(ref.get("kind") or "SecretStore"), str(ref["name"]))


def _store(entry: Mapping[str, Any], where: str, default: Mapping[str, Any]) -> StoreRef:
    ref = _map(entry, "sourceRef").get("storeRef")
    ref = ref if isinstance(ref, dict) else default
    if not ref.get("name"):
        raise _invalid(f"{where} names no store", "add secretStoreRef or sourceRef.storeRef")
    return store_ref(ref)


def _remote(
    ref: Mapping[str, Any],
    where: str,
    index: int,
    store: StoreRef,
    *,
    secret_key: str = "",
    rewrites: Sequence[Rewrite] = (),
) -> Pull:
    key = ref.get("key")
    if not isinstance(key, str) or not key:
        raise _invalid(f"{where} names no remote key", "add key")
    return Pull(
        where=where,
        index=index,
        store=store,
        key=key,
        secret_key=secret_key,
        property_path=str(ref.get("property") or ""),
        version=str(ref.get("version") or ""),
        metadata=ref.get("metadataPolicy") == "Fetch",
        conversion=str(ref.get("conversionStrategy") or "Default"),
        decoding=str(ref.get("decodingStrategy") or "None"),
        null_bytes=str(ref.get("nullBytePolicy") or "Ignore"),
        rewrites=rewrites,
    )


def _find(body: Mapping[str, Any], where: str, index: int, store: StoreRef, rewrites: Sequence[Rewrite]) -> Pull:
    tags = {str(name): str(value) for name, value in _map(body, "tags").items()}
    name = str(_map(body, "name").get("regexp") or "")
    return Pull(
        where=where,
        index=index,
        store=store,
        find=Query(path=str(body.get("path") or ""), name=name, tags=tags),
        conversion=str(body.get("conversionStrategy") or "Default"),
        decoding=str(body.get("decodingStrategy") or "None"),
        null_bytes=str(body.get("nullBytePolicy") or "Ignore"),
        rewrites=rewrites,
    )


def _generator(body: Mapping[str, Any], where: str) -> GeneratorRef:
    ref = GeneratorRef(
        kind=str(body.get("kind") or ""),
        name=str(body.get("name") or ""),
        api_version=str(body.get("apiVersion") or f"{GENERATORS}/v1alpha1"),
    )
    if not ref.kind or not ref.name or ref.api_version.partition("/")[0] != GENERATORS:
        raise _invalid(
            f"{where}.sourceRef.generatorRef names no generator", f"name a kind of {GENERATORS} and an object of it"
        )
    return ref


def _rewrites(body: Any, where: str) -> list[Rewrite]:
    entries = body if isinstance(body, list) else []
    if len(entries) > REWRITE_LIMIT:
        raise _invalid(f"{where} has more than {REWRITE_LIMIT} rewrite operations", "join them")
    return [
        _rewrite(entry if isinstance(entry, dict) else {}, f"{where}.rewrite[{n}]") for n, entry in enumerate(entries)
    ]


def _rewrite(entry: Mapping[str, Any], where: str) -> Rewrite:
    chosen = [name for name in ("regexp", "transform", "merge") if isinstance(entry.get(name), dict)]
    if len(chosen) != 1:
        raise _invalid(f"{where} needs exactly one of regexp, transform and merge", "split it")
    body = _map(entry, chosen[0])
    if chosen[0] == "regexp":
        return RegexpRewrite(source=str(body.get("source") or ""), target=str(body.get("target") or ""))
    if chosen[0] == "transform":
        return TransformRewrite(template=str(body.get("template") or ""))
    priority = body.get("priority")
    return MergeRewrite(
        into=str(body.get("into") or ""),
        priority=tuple(map(str, priority)) if isinstance(priority, list) else (),
        ignore_missing=body.get("priorityPolicy") == "IgnoreNotFound",
        ignore_conflicts=body.get("conflictPolicy") == "Ignore",
        as_json=body.get("strategy") == "JSON",
    )


def _map(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = body.get(name) if isinstance(body, dict) else None
    return found if isinstance(found, dict) else {}


def _invalid(problem: str, hint: str) -> InvalidManifest:
    return InvalidManifest(problem, reason="InvalidSpec", hint=hint)
