"""PushSecrets as values: which values of a Secret go where, what was written before and is wanted no more. Pure.

Rules of External Secrets 2.9.0 (`pkg/controllers/pushsecret`, `apis/externalsecrets/v1alpha1/pushsecret_types.go`).

What never lives here: reading Secrets, opening stores, writing into them.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from secretsops.durations import parse_duration
from secretsops.errors import InvalidManifest
from secretsops.external.due import refreshed_at
from secretsops.external.entries import GENERATORS, GeneratorRef, RegexpRewrite, Rewrite, StoreRef, TransformRewrite
from secretsops.external.model import object_hash
from secretsops.external.patterns import found
from secretsops.external.rewrite import Transform, rewritten
from secretsops.external.selectors import selects
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Put
from secretsops.secret import Plaintext

PUSH_SECRET = GroupVersionKind("external-secrets.io", "v1alpha1", "PushSecret")
FINALIZER = "pushsecret.externalsecrets.io/finalizer"
STORE_FINALIZER = "secretstore.externalsecrets.io/finalizer"
"""Keeps a store while a PushSecret may still have to delete in it."""
DEFAULT_INTERVAL = "1h0m0s"
LATE = 5.0
"""Seconds after the interval at which the peer comes back."""
ENTRY_LIMIT = 1000
_UNICODE = re.compile("_U([0-9a-fA-F]{4,5})_")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreChoice:
    """Stores of one kind, by name or by labels."""

    kind: str
    name: str = ""
    selector: Mapping[str, Any] | None = None

    def chooses(self, store: Manifest) -> bool:
        """Say whether a store is meant."""
        if store.kind.kind != self.kind:
            return False
        if self.name:
            return store.name == self.name
        return self.selector is not None and selects(self.selector, store.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One value and its place; without a `secret_key` it is the whole Secret."""

    secret_key: str = ""
    remote_key: str
    property_path: str = ""
    metadata: Any = None
    reverse: bool = False

    @property
    def place(self) -> str:
        """Give the name of the place in status."""
        return f"{self.remote_key}/{self.property_path}" if self.property_path else self.remote_key

    @property
    def shown(self) -> dict[str, Any]:
        """Give what status says of it: the entry as it would be written in the spec."""
        remote = {"remoteKey": self.remote_key} | ({"property": self.property_path} if self.property_path else {})
        match = {"remoteRef": remote} | ({"secretKey": self.secret_key} if self.secret_key else {})
        shown = {"conversionStrategy": "ReverseUnicode" if self.reverse else "None", "match": match}
        return shown | ({"metadata": self.metadata} if self.metadata is not None else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk:
    """One entry of `dataTo`: every key that fits, each by itself, or all bundled under `remote_key`."""

    store: StoreChoice
    remote_key: str = ""
    pattern: str = ""
    rewrites: Sequence[Rewrite] = ()
    metadata: Any = None
    reverse: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PushSecret:
    """One PushSecret. `interval` is in seconds."""

    namespace: str
    name: str
    generation: int
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    interval: float
    replaces: bool = True
    deletes: bool = False
    secret: str = ""
    selector: Mapping[str, Any] | None = None
    generator: GeneratorRef | None = None
    stores: Sequence[StoreChoice]
    entries: Sequence[Entry] = ()
    bulks: Sequence[Bulk] = ()
    template: Mapping[str, Any] | None = None

    @property
    def version(self) -> str:
        """Give `status.syncedResourceVersion`: the generation and a digest of labels and annotations."""
        shown = f"{{annotations:{_go_map(self.annotations)} labels:{_go_map(self.labels)}}}"
        return f"{self.generation}-{object_hash(shown)}"


Synced = dict[str, dict[str, Any]]
"""`status.syncedPushSecrets`: per `Kind/store` the entries that were written, by place."""


def read_push(manifest: Manifest) -> PushSecret:
    """Give the PushSecret a manifest describes.

    Raises:
        InvalidManifest: it cannot be pushed.
    """
    spec = manifest.spec
    selector = _map(spec, "selector")
    secret, generator = _map(selector, "secret"), selector.get("generatorRef")
    if bool(secret) == isinstance(generator, dict):
        raise _invalid("spec.selector needs exactly one of secret and generatorRef", "name where values come from")
    entries, bulks = _list(spec, "data"), _list(spec, "dataTo")
    if len(entries) + len(bulks) > ENTRY_LIMIT:
        raise _invalid(f"more than {ENTRY_LIMIT} entries", "split it into several PushSecrets")
    return PushSecret(
        namespace=manifest.namespace,
        name=manifest.name,
        generation=manifest.generation,
        labels=dict(manifest.labels),
        annotations=dict(manifest.annotations),
        interval=parse_duration(str(spec.get("refreshInterval") or DEFAULT_INTERVAL)),
        replaces=spec.get("updatePolicy") != "IfNotExists",
        deletes=deletes(manifest),
        secret=str(secret.get("name") or ""),
        selector=secret.get("selector") if isinstance(secret.get("selector"), dict) else None,
        generator=_generator(generator) if isinstance(generator, dict) else None,
        stores=store_choices(manifest),
        entries=[_entry(body, number) for number, body in enumerate(entries)],
        bulks=[_bulk(body, number) for number, body in enumerate(bulks)],
        template=spec.get("template") if isinstance(spec.get("template"), dict) else None,
    )


def deletes(manifest: Manifest) -> bool:
    """Say whether what was pushed is deleted with its entry; also where the rest of the object is not valid."""
    return manifest.spec.get("deletionPolicy") == "Delete"


def store_choices(manifest: Manifest) -> list[StoreChoice]:
    """Give the stores a PushSecret writes to."""
    return [_choice(ref) for ref in _list(manifest.spec, "secretStoreRefs")]


def synced(status: Mapping[str, Any]) -> Synced:
    """Give what was written before, as status says."""
    found = status.get("syncedPushSecrets")
    return {
        str(store): {str(place): entry for place, entry in entries.items()}
        for store, entries in (found if isinstance(found, dict) else {}).items()
        if isinstance(entries, dict)
    }


def store_of(name: str) -> StoreRef:
    """Give the store a key of `syncedPushSecrets` names."""
    kind, _, rest = name.partition("/")
    return StoreRef(kind, rest)


def remote_of(entry: Any) -> tuple[str, str]:
    """Give key and property of an entry of status."""
    remote = _map(_map(entry, "match"), "remoteRef")
    return str(remote.get("remoteKey") or ""), str(remote.get("property") or "")


def is_due(push: PushSecret, status: Mapping[str, Any], now: dt.datetime) -> bool:
    """Say whether it is to be pushed: never was, changed, or its interval elapsed (0 or less: once)."""
    at = refreshed_at(status)
    if at is None or at > now or status.get("syncedResourceVersion") != push.version:
        return True
    return push.interval > 0 and at + dt.timedelta(seconds=push.interval) <= now


def next_push(push: PushSecret, status: Mapping[str, Any], now: dt.datetime) -> float:
    """Give seconds until the next push, 0 for none."""
    at = refreshed_at(status)
    if push.interval <= 0 or at is None:
        return 0.0
    return max(0.5, push.interval - (now - at).total_seconds()) + min(LATE, push.interval * 0.1)


# --- What goes where -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One write, and the entry that status will show."""

    entry: Entry
    put: Put


def plan(push: PushSecret, data: Mapping[str, Plaintext], store: Manifest, transform: Transform) -> list[Planned]:
    """Give the writes for one store; an entry of `data` comes before one of `dataTo` for the same source key.

    Raises:
        InvalidManifest: a key is missing, or two values would go to one place.
    """
    planned = [Planned(entry=entry, put=_put(entry, _value(entry, data))) for entry in push.entries]
    named = {entry.secret_key for entry in push.entries if entry.secret_key}
    for bulk in push.bulks:
        if bulk.store.chooses(store):
            planned += _spread(bulk, data, named, transform)
    places = [item.entry.place for item in planned]
    doubled = sorted({place for place in places if places.count(place) > 1})
    if doubled:
        raise _invalid(f"two values go to {doubled[0][:200]!r}", "give each its own remoteKey or property")
    return planned


def _value(entry: Entry, data: Mapping[str, Plaintext]) -> Plaintext | Mapping[str, Plaintext]:
    source = _reversed(data) if entry.reverse else data
    if not entry.secret_key:
        return source
    if entry.secret_key not in source:
        raise _invalid(f"secret key {entry.secret_key} does not exist", "correct secretKey, or add it to the Secret")
    return source[entry.secret_key]


def _spread(bulk: Bulk, data: Mapping[str, Plaintext], named: set[str], transform: Transform) -> list[Planned]:
    source = _reversed(data) if bulk.reverse else data
    chosen = {
        key: value
        for key, value in source.items()
        if key not in named and (not bulk.pattern or found(bulk.pattern, key))
    }
    if bulk.remote_key:
        entry = Entry(remote_key=bulk.remote_key, metadata=bulk.metadata, reverse=bulk.reverse)
        return [Planned(entry=entry, put=_put(entry, chosen))] if chosen else []
    planned = []
    for key in sorted(chosen):
        (remote,) = rewritten({key: chosen[key]}, bulk.rewrites, transform)
        if not remote:
            raise _invalid(f"the rewrite leaves no name for {key[:200]!r}", "correct dataTo.rewrite")
        entry = Entry(secret_key=key, remote_key=remote, metadata=bulk.metadata, reverse=bulk.reverse)
        planned.append(Planned(entry=entry, put=_put(entry, chosen[key])))
    return planned


def _put(entry: Entry, value: Plaintext | Mapping[str, Plaintext]) -> Put:
    metadata = entry.metadata if isinstance(entry.metadata, dict) else {}
    return Put(key=entry.remote_key, property=entry.property_path, value=value, metadata=metadata)


def _reversed(data: Mapping[str, Plaintext]) -> dict[str, Plaintext]:
    """Undo conversionStrategy Unicode: `_U00e9_` is é again."""

    def character(match: re.Match[str]) -> str:
        code = int(match[1], 16)
        return chr(code) if not 0xD800 <= code <= 0xDFFF else match[0]

    return {_UNICODE.sub(character, key): value for key, value in data.items()}


def unwanted(old: Synced, new: Synced) -> list[tuple[str, Any]]:
    """Give what was written before and is wanted no more: the store's name in status, and the entry."""
    return [
        (store, entry)
        for store, entries in sorted(old.items())
        for place, entry in sorted(entries.items())
        if place not in new.get(store, {})
    ]


def both(old: Synced, new: Synced) -> Synced:
    """Give all that may stand in stores while a push is under way."""
    return {store: {**old.get(store, {}), **new.get(store, {})} for store in (*old, *(s for s in new if s not in old))}


# --- Reading -------------------------------------------------------------------------------------------


def _entry(body: Mapping[str, Any], number: int) -> Entry:
    match = _map(body, "match")
    remote = _map(match, "remoteRef")
    if not remote.get("remoteKey"):
        raise _invalid(f"spec.data[{number}] names no remoteKey", "name where the value goes")
    return Entry(
        secret_key=str(match.get("secretKey") or ""),
        remote_key=str(remote["remoteKey"]),
        property_path=str(remote.get("property") or ""),
        metadata=body.get("metadata"),
        reverse=body.get("conversionStrategy") == "ReverseUnicode",
    )


def _bulk(body: Mapping[str, Any], number: int) -> Bulk:
    where = f"spec.dataTo[{number}]"
    store = _choice(_map(body, "storeRef"))
    if not store.name and store.selector is None:
        raise _invalid(f"{where}.storeRef names no store", "give it a name or a labelSelector")
    rewrites = _list(body, "rewrite")
    if body.get("remoteKey") and rewrites:
        raise _invalid(f"{where} has remoteKey and rewrite", "a bundle has one name: remove one of them")
    return Bulk(
        store=store,
        remote_key=str(body.get("remoteKey") or ""),
        pattern=str(_map(body, "match").get("regexp") or ""),
        rewrites=[_rewrite(entry, where) for entry in rewrites],
        metadata=body.get("metadata"),
        reverse=body.get("conversionStrategy") == "ReverseUnicode",
    )


def _rewrite(entry: Mapping[str, Any], where: str) -> Rewrite:
    expression, template = entry.get("regexp"), entry.get("transform")
    if isinstance(expression, dict) == isinstance(template, dict):
        raise _invalid(f"{where}.rewrite: exactly one of regexp or transform must be set", "split it")
    if isinstance(expression, dict):
        return RegexpRewrite(source=str(expression.get("source") or ""), target=str(expression.get("target") or ""))
    return TransformRewrite(template=str(_map(entry, "transform").get("template") or ""))


def _choice(ref: Mapping[str, Any]) -> StoreChoice:
    selector = ref.get("labelSelector")
    return StoreChoice(
        kind=str(ref.get("kind") or "SecretStore"),
        name=str(ref.get("name") or ""),
        selector=selector if isinstance(selector, dict) else None,
    )


def _generator(body: Mapping[str, Any]) -> GeneratorRef:
    ref = GeneratorRef(kind=str(body.get("kind") or ""), name=str(body.get("name") or ""))
    if not ref.kind or not ref.name or str(body.get("apiVersion") or GENERATORS).partition("/")[0] != GENERATORS:
        raise _invalid("spec.selector.generatorRef names no generator", f"name a kind of {GENERATORS} and an object")
    return ref


def _go_map(values: Mapping[str, str]) -> str:
    return "map[" + " ".join(f"{key}:{values[key]}" for key in sorted(values)) + "]"


def _map(body: Any, name: str) -> Mapping[str, Any]:
    found_here = body.get(name) if isinstance(body, dict) else None
    return found_here if isinstance(found_here, dict) else {}


def _list(body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found_here = body.get(name)
    return [entry if isinstance(entry, dict) else {} for entry in found_here] if isinstance(found_here, list) else []


def _invalid(problem: str, hint: str) -> InvalidManifest:
    return InvalidManifest(problem, reason="InvalidSpec", hint=hint)
