"""ExternalSecrets as values: what to pull from where, into which Secret, when. Pure.

`read` turns an `external-secrets.io/v1` (or v1beta1) manifest into an `ExternalSecret`. It repeats what the peer's
webhook checks and refuses by name every part of the kind that is not built, so that nothing is silently left out of
a Secret.

What never lives here: stores (`secretsops.external.store`), fetched values, decisions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from secretsops.durations import parse_duration
from secretsops.errors import InvalidManifest
from secretsops.manifest import GroupVersionKind, Manifest

GROUP = "external-secrets.io"
EXTERNAL_SECRET = GroupVersionKind(GROUP, "v1", "ExternalSecret")
SECRET_STORE = GroupVersionKind(GROUP, "v1", "SecretStore")
CLUSTER_SECRET_STORE = GroupVersionKind(GROUP, "v1", "ClusterSecretStore")
SECRET = GroupVersionKind("", "v1", "Secret")

FINALIZER = "externalsecrets.external-secrets.io/externalsecret-cleanup"
MANAGED = "reconcile.external-secrets.io/managed"
CREATED_BY = "reconcile.external-secrets.io/created-by"
DATA_HASH = "reconcile.external-secrets.io/data-hash"

CREATION_POLICIES = ("Owner", "Orphan", "Merge", "CreateOrMerge", "None")
DELETION_POLICIES = ("Retain", "Delete", "Merge")
REFRESH_POLICIES = ("Periodic", "OnChange", "CreatedOnce")
DEFAULT_INTERVAL = "1h0m0s"
PULL_LIMIT = 1000
"""Entries; the provider calls of one object stay bounded."""


@dataclass(frozen=True, slots=True, order=True)
class StoreRef:
    """Names a store: a `SecretStore` of the same namespace or a `ClusterSecretStore`."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """One `data` entry (it has a `secret_key`) or one `dataFrom.extract` (it has none)."""

    where: str
    index: int
    store: StoreRef
    key: str
    secret_key: str = ""
    property: str = ""
    version: str = ""
    conversion: str = ""
    decoding: str = ""
    null_bytes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The Secret to write and by which rules."""

    name: str
    creation: str = "Owner"
    deletion: str = "Retain"
    immutable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalSecret:
    """One ExternalSecret as far as its sync goes. `interval` is in seconds; 0 or less means fetch once."""

    namespace: str
    name: str
    uid: str
    generation: int
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    target: Target
    refresh: str
    interval: float
    pulls: Sequence[Pull]

    @property
    def stores(self) -> list[StoreRef]:
        """Give the stores it pulls from, each once, in order."""
        return list(dict.fromkeys(pull.store for pull in self.pulls))


def object_hash(text: str) -> str:
    """Give the peer's digest of a text: SHA3-224, lowercase hex (`runtime/esutils/utils.go`, `ObjectHash`)."""
    return hashlib.sha3_224(text.encode()).hexdigest()


def target_name(manifest: Manifest) -> str:
    """Give the name of the Secret an ExternalSecret writes, also where the rest of it is not valid."""
    target = manifest.spec.get("target")
    named = target.get("name") if isinstance(target, dict) else ""
    return str(named or manifest.name)


def store_refs(manifest: Manifest) -> list[StoreRef]:
    """Give every store an ExternalSecret names, each once, also where the rest of it is not valid."""
    entries = [*_list(manifest.spec, "data"), *_list(manifest.spec, "dataFrom")]
    holders = [manifest.spec.get("secretStoreRef"), *(_map(entry, "sourceRef").get("storeRef") for entry in entries)]
    found = [_store_ref(holder) for holder in holders if isinstance(holder, dict) and holder.get("name")]
    return list(dict.fromkeys(found))


def read(manifest: Manifest) -> ExternalSecret:
    """Give the ExternalSecret a manifest describes.

    Raises:
        InvalidManifest: it cannot be synced; reason `Unsupported` names what we do not build, `InvalidSpec` the rest.
    """
    spec = manifest.spec
    target = _target(spec, manifest.name)
    default = _map(spec, "secretStoreRef")
    pulls = [_extract(entry, index, default) for index, entry in enumerate(_list(spec, "dataFrom"))]
    pulls += [_data(entry, index, default) for index, entry in enumerate(_list(spec, "data"))]
    if not pulls:
        raise _invalid("either data or dataFrom should be specified", "name at least one value to fetch")
    if len(pulls) > PULL_LIMIT:
        raise _invalid(f"more than {PULL_LIMIT} entries", "split it into several ExternalSecrets")
    if spec.get("syncWindows"):
        raise _unsupported("spec.syncWindows")
    return ExternalSecret(
        namespace=manifest.namespace,
        name=manifest.name,
        uid=manifest.uid,
        generation=manifest.generation,
        labels=dict(manifest.labels),
        annotations=dict(manifest.annotations),
        target=target,
        refresh=_one_of(spec, "refreshPolicy", REFRESH_POLICIES, "spec.refreshPolicy"),
        interval=parse_duration(str(spec.get("refreshInterval") or DEFAULT_INTERVAL)),
        pulls=pulls,
    )


def _target(spec: Mapping[str, Any], name: str) -> Target:
    body = _map(spec, "target")
    for part in ("template", "manifest"):
        if body.get(part):
            raise _unsupported(f"spec.target.{part}")
    return Target(
        name=str(body.get("name") or name),
        creation=_one_of(body, "creationPolicy", CREATION_POLICIES, "spec.target.creationPolicy"),
        deletion=_one_of(body, "deletionPolicy", DELETION_POLICIES, "spec.target.deletionPolicy"),
        immutable=body.get("immutable") is True,
    )


def _data(entry: Mapping[str, Any], index: int, default: Mapping[str, Any]) -> Pull:
    where = f"spec.data[{index}]"
    secret_key = entry.get("secretKey")
    if not isinstance(secret_key, str) or not secret_key:
        raise _invalid(f"{where}.secretKey is missing", "name the key of the Secret")
    return _pull(_map(entry, "remoteRef"), where, index, _source(entry, where, default), secret_key)


def _extract(entry: Mapping[str, Any], index: int, default: Mapping[str, Any]) -> Pull:
    where = f"spec.dataFrom[{index}]"
    source = _source(entry, where, default)
    for part in ("find", "rewrite"):
        if entry.get(part):
            raise _unsupported(f"{where}.{part}")
    if not isinstance(entry.get("extract"), dict):
        raise _invalid(f"{where} has neither extract nor find nor a generator", "add extract with a key")
    return _pull(_map(entry, "extract"), where, index, source, "")


def _pull(ref: Mapping[str, Any], where: str, index: int, store: StoreRef, secret_key: str) -> Pull:
    key = ref.get("key")
    if not isinstance(key, str) or not key:
        raise _invalid(f"{where} names no remote key", "add key")
    if ref.get("metadataPolicy") not in {None, "", "None"}:
        raise _unsupported(f"{where}: metadataPolicy {str(ref['metadataPolicy'])[:20]}")
    return Pull(
        where=where,
        index=index,
        store=store,
        key=key,
        secret_key=secret_key,
        property=str(ref.get("property") or ""),
        version=str(ref.get("version") or ""),
        conversion=str(ref.get("conversionStrategy") or "Default"),
        decoding=str(ref.get("decodingStrategy") or "None"),
        null_bytes=str(ref.get("nullBytePolicy") or "Ignore"),
    )


def _source(entry: Mapping[str, Any], where: str, default: Mapping[str, Any]) -> StoreRef:
    source = _map(entry, "sourceRef")
    if source.get("generatorRef"):
        raise _unsupported(f"{where}.sourceRef.generatorRef")
    ref = source.get("storeRef") if isinstance(source.get("storeRef"), dict) else default
    assert isinstance(ref, Mapping)
    if not ref.get("name"):
        raise _invalid(f"{where} names no store", "add secretStoreRef or sourceRef.storeRef")
    return _store_ref(ref)


def _store_ref(ref: Mapping[str, Any]) -> StoreRef:
    return StoreRef(str(ref.get("kind") or "SecretStore"), str(ref["name"]))


def _map(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = body.get(name) if isinstance(body, dict) else None
    return found if isinstance(found, dict) else {}


def _list(body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = body.get(name)
    return [entry if isinstance(entry, dict) else {} for entry in found] if isinstance(found, list) else []


def _one_of(body: Mapping[str, Any], name: str, allowed: tuple[str, ...], where: str) -> str:
    found = str(body.get(name) or allowed[0])
    if found not in allowed:
        raise _invalid(f"{where} {found[:40]!r} is unknown", f"use one of {', '.join(allowed)}")
    return found


def _invalid(problem: str, hint: str) -> InvalidManifest:
    return InvalidManifest(problem, reason="InvalidSpec", hint=hint)


def _unsupported(what: str) -> InvalidManifest:
    return InvalidManifest(
        f"{what} is not supported", reason="Unsupported", hint="let External Secrets Operator sync this object"
    )
