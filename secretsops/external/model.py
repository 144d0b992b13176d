"""ExternalSecrets as values: what to pull from where, into which Secret, when. Pure.

`read` turns an `external-secrets.io/v1` (or v1beta1) manifest into an `ExternalSecret`. It repeats what the peer's
webhook checks and refuses by name every part of the kind that is not built, so that nothing is silently left out of
a Secret.

What never lives here: how one entry is read (`secretsops.external.entries`), stores, fetched values, decisions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from secretsops.durations import parse_duration
from secretsops.errors import InvalidManifest
from secretsops.external.entries import Pull, StoreRef, data, data_from, store_ref
from secretsops.external.windows import Windows, read_windows
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
RESTORED_FROM = "secretsops.dev/restored-from"
"""On a Secret that came from a sealed copy: of which cluster, epoch and moment; gone once its store answered."""

CREATION_POLICIES = ("Owner", "Orphan", "Merge", "CreateOrMerge", "None")
DELETION_POLICIES = ("Retain", "Delete", "Merge")
REFRESH_POLICIES = ("Periodic", "OnChange", "CreatedOnce")
DEFAULT_INTERVAL = "1h0m0s"
GENERIC_TARGET = "GenericTarget"
PULL_LIMIT = 1000
"""Entries; the provider calls of one object stay bounded."""
PRIVILEGED = ("kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token")
"""Types of Secret that make or are credentials of the cluster itself (the peer's CVE-2026-42876)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The Secret to write and by which rules."""

    name: str
    creation: str = "Owner"
    deletion: str = "Retain"
    immutable: bool = False
    template: Mapping[str, Any] | None = None
    """`spec.target.template` as it is written; None where there is none, which is not the same as an empty one."""


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
    windows: Windows | None = None
    pulls: Sequence[Pull]

    @property
    def stores(self) -> list[StoreRef]:
        """Give the stores it pulls from, each once, in order."""
        return list(dict.fromkeys(pull.store for pull in self.pulls if pull.store is not None))


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
    found = [store_ref(holder) for holder in holders if isinstance(holder, dict) and holder.get("name")]
    return list(dict.fromkeys(found))


def remote_keys(manifest: Manifest) -> set[str]:
    """Give the keys at providers that an ExternalSecret reads, without slashes around; `*` for a search."""
    refs = [_map(entry, "remoteRef").get("key") for entry in _list(manifest.spec, "data")]
    found = {str(key).strip("/") for key in refs if key}
    for entry in _list(manifest.spec, "dataFrom"):
        found |= {str(key).strip("/") for key in [_map(entry, "extract").get("key")] if key}
        found |= {"*"} if _map(entry, "find") else set()
    return found


def template_sources(manifest: Manifest) -> list[tuple[str, str]]:
    """Give kind and name of the ConfigMaps and Secrets a template is made from, also where the rest is not valid."""
    return sources_of(_map(_map(manifest.spec, "target"), "template"))


def sources_of(template: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Give kind and name of the ConfigMaps and Secrets a template is made from."""
    named = [
        (kind, _map(source, field).get("name"))
        for source in _list(template, "templateFrom")
        for kind, field in (("ConfigMap", "configMap"), ("Secret", "secret"))
    ]
    return [(kind, str(name)) for kind, name in dict.fromkeys(named) if name]


def read(manifest: Manifest) -> ExternalSecret:
    """Give the ExternalSecret a manifest describes.

    Raises:
        InvalidManifest: it cannot be synced; reason `Unsupported` names what we do not build, `InvalidSpec` the rest.
    """
    spec = manifest.spec
    target = _target(spec, manifest.name)
    default = _map(spec, "secretStoreRef")
    pulls = [data_from(entry, index, default) for index, entry in enumerate(_list(spec, "dataFrom"))]
    pulls += [data(entry, index, default) for index, entry in enumerate(_list(spec, "data"))]
    if not pulls:
        raise _invalid("either data or dataFrom should be specified", "name at least one value to fetch")
    if len(pulls) > PULL_LIMIT:
        raise _invalid(f"more than {PULL_LIMIT} entries", "split it into several ExternalSecrets")
    _refuse_contradictions(target, pulls)
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
        windows=read_windows(_map(spec, "syncWindows")),
        pulls=pulls,
    )


def _refuse_contradictions(target: Target, pulls: Sequence[Pull]) -> None:
    """Repeat the checks of the peer's webhook (`apis/externalsecrets/v1/externalsecret_validator.go`)."""
    if target.deletion == "Delete" and target.creation in {"Merge", "CreateOrMerge", "None"}:
        raise _invalid(
            f"deletionPolicy=Delete must not be used with creationPolicy={target.creation}",
            "a Secret that others share must not be deleted: use deletionPolicy Retain or Merge",
        )
    if target.deletion == "Merge" and target.creation == "None":
        raise _invalid("deletionPolicy=Merge must not be used with creationPolicy=None", "nothing is written there")
    keys = [pull.secret_key for pull in pulls if pull.secret_key]
    doubled = sorted({key for key in keys if keys.count(key) > 1}) if target.deletion == "Retain" else []
    if doubled:
        raise _invalid(f"duplicate secretKey found: {doubled[0][:253]}", "name every key once")
    template = target.template or {}
    metadata = template.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    if template.get("type") == PRIVILEGED[1] or (
        template.get("type") == PRIVILEGED[0] and _may_bind(annotations, _list(template, "templateFrom"))
    ):
        raise _invalid(
            f"a Secret of type {template['type']} must not be made from a template",
            "it would hand out a credential of the cluster itself",
        )


def _may_bind(annotations: Any, sources: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether a token Secret could name its service account, outright or by templates of annotations."""
    named = isinstance(annotations, dict) and "kubernetes.io/service-account.name" in annotations
    return named or any(str(source.get("target") or "").lower() == "annotations" for source in sources)


def _target(spec: Mapping[str, Any], name: str) -> Target:
    body = _map(spec, "target")
    template, kind = body.get("template"), body.get("manifest")
    if kind:
        # Compat: values go into Secrets alone; the peer writes other kinds under an unsafe flag.
        raise InvalidManifest(
            "generic targets are not written: spec.target.manifest", reason=GENERIC_TARGET, hint="write a Secret"
        )
    if isinstance(template, dict) and template.get("engineVersion") not in {None, "", "v2"}:
        raise _unsupported(f"template engine {str(template['engineVersion'])[:20]}")
    return Target(
        name=str(body.get("name") or name),
        creation=_one_of(body, "creationPolicy", CREATION_POLICIES, "spec.target.creationPolicy"),
        deletion=_one_of(body, "deletionPolicy", DELETION_POLICIES, "spec.target.deletionPolicy"),
        immutable=body.get("immutable") is True,
        template=template if isinstance(template, dict) else None,
    )


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
