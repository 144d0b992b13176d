"""Last known good: which Secrets are kept sealed for the day their store is gone, and which may come back. Pure.

The owner of a store opts in by an annotation on it. A copy is bound to what the ExternalSecret asks for
(`spec_digest`), the stores and the versions read there; it comes back only for one that asks for the same. What a
generator leases, what a fallback served and what belongs to somebody else's Secret is never kept.

What never lives here: sealing, sinks (`secretsops.escrow.keeping`), the controller that calls it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from secretsops.errors import NotLetIn, SecretsOpsError, StoreRefused
from secretsops.escrow import canonical
from secretsops.escrow.kept import Copy
from secretsops.external.entries import StoreRef
from secretsops.external.gather import Entry
from secretsops.external.model import RESTORED_FROM, ExternalSecret
from secretsops.external.render import compose
from secretsops.external.template import Filled
from secretsops.manifest import Manifest

KEEP = "secretsops.dev/keep-last-known-good"
"""An annotation of a store, by its owner: `true` has what it gave kept, sealed."""
LASTING = frozenset({"Password", "UUID", "SSHKey", "Fake"})
"""Generators whose values stay good; of all others they are leases or credentials of a session."""
REVOKED = frozenset({"NotFound", "Denied", "StoreDenied"})
"""A store's no: what it gave before must not come back."""
_KEPT_POLICIES = frozenset({"Owner", "Orphan", "CreateOrMerge"})
_DEFAULTS = {
    "kind": "SecretStore",
    "engineVersion": "v2",
    "mergePolicy": "Replace",
    "templateAs": "Values",
    "conversionStrategy": "Default",
    "decodingStrategy": "None",
    "metadataPolicy": "None",
    "nullBytePolicy": "Ignore",
    "valuesDecodingStrategy": "None",
    "apiVersion": "generators.external-secrets.io/v1alpha1",
    "priorityPolicy": "Strict",
    "conflictPolicy": "Error",
    "strategy": "Extract",
    "into": "",
    "immutable": False,
}
"""What API servers fill in, by field: an ExternalSecret in Git and the live one say the same."""
_FREE = frozenset({"labels", "annotations", "tags", "finalizers"})
"""Maps whose names are the user's."""


def kept_because(wanted: ExternalSecret, stores: Mapping[StoreRef, Manifest | None]) -> str:
    """Say why an ExternalSecret's Secret is not to be kept, "" where it is."""
    found = [stores.get(ref) for ref in wanted.stores]
    if not found or not all(store is not None and store.annotations.get(KEEP) == "true" for store in found):
        return "NotAsked"
    if any(pull.generator is not None and pull.generator.kind not in LASTING for pull in wanted.pulls):
        return "Lease"
    return "" if wanted.target.creation in _KEPT_POLICIES else "NotOurs"


def is_revoked(error: SecretsOpsError) -> bool:
    """Say whether a store said no to a secret, so that its last answer counts no more.

    A credential that we lack, or that the store does not know (as after it came up empty), is no such answer.
    """
    return isinstance(error, StoreRefused) and not isinstance(error, NotLetIn) and error.reason in REVOKED


def spec_digest(manifest: Manifest) -> str:
    """Give a digest of what an ExternalSecret asks for and how it is written; when it is refreshed is not in it."""
    spec = {name: manifest.spec.get(name) for name in ("secretStoreRef", "data", "dataFrom")}
    target = manifest.spec.get("target")
    target = {"creationPolicy": "Owner", "deletionPolicy": "Retain", **(target if isinstance(target, dict) else {})}
    spec["target"] = target | {"name": target.get("name") or manifest.name}
    return hashlib.sha256(canonical.encode(_plain(spec))).hexdigest()


def _plain(value: Any, name: str = "") -> Any:
    """Give a part of a spec without what is empty or what an API server fills in."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        free = name in _FREE
        parts = {str(key): _plain(each, "" if free else str(key)) for key, each in value.items()}
        # `data` of a template is the user's: a map from names to texts; that of a spec is a list.
        if free or name == "data":
            return parts
        kept = {key: each for key, each in parts.items() if not _is_default(key, each)}
        return {key: each for key, each in kept.items() if not (key == "target" and each == "Data")}
    return str(value) if isinstance(value, float) else value


def _is_default(key: str, value: Any) -> bool:
    return value in (None, "", [], {}) or (key in _DEFAULTS and value == _DEFAULTS[key])


def copy_of(
    manifest: Manifest,
    wanted: ExternalSecret,
    secret: Manifest,
    filled: Filled,
    entries: Sequence[Entry],
    as_of: str,
) -> Copy:
    """Give the copy of a Secret as a sync left it: `secret` is what was written, `filled` what it was made of."""
    fresh = compose(wanted, filled, None)
    metadata = {name: fresh.metadata[name] for name in ("name", "namespace", "labels", "annotations")}
    data = fresh.body["data"] if wanted.target.creation == "CreateOrMerge" else secret.body.get("data") or {}
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": secret.body.get("type") or "Opaque",
        "data": data,
    }
    if secret.body.get("immutable") is True:
        body["immutable"] = True
    versions = {
        f"{entry.pull.store.kind}/{entry.pull.store.name}/{entry.pull.key}": entry.version
        for entry in entries
        if entry.pull.store is not None and entry.version
    }
    return Copy(
        secret=Manifest(body),
        external=wanted.name,
        spec=spec_digest(manifest),
        stores=[f"{ref.kind}/{ref.name}" for ref in wanted.stores],
        versions=versions,
        as_of=as_of,
    )


def unfit(copy: Copy, manifest: Manifest) -> str:
    """Say why a copy must not come back for an ExternalSecret, "" where it may; `manifest` is of a trusted commit."""
    if copy.spec != spec_digest(manifest):
        return "the ExternalSecret asks for something else than when the copy was sealed"
    return ""


def restored(copy: Copy, cluster: str, epoch: int) -> Manifest:
    """Give the Secret of a copy, marked as what it is until the store answers again."""
    told = f"{cluster} epoch {epoch} as of {copy.as_of}"
    annotations = {**copy.secret.annotations, RESTORED_FROM: told}
    return Manifest({**copy.secret.body, "metadata": {**copy.secret.metadata, "annotations": annotations}})
