"""The Secret an ExternalSecret asks for, from its values and the Secret that is there. Pure.

Marks, digests and the owner reference are the peer's to the byte, so that either controller takes over what the other
wrote. Who may write it is decided by `secretsops.ownership`.

What never lives here: fetching and selecting values, decisions, the cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secretsops.external.model import (
    CREATED_BY,
    DATA_HASH,
    EXTERNAL_SECRET,
    MANAGED,
    RESTORED_FROM,
    ExternalSecret,
    object_hash,
)
from secretsops.external.template import Filled
from secretsops.manifest import Manifest
from secretsops.secret import Plaintext, SecretData

_MANAGER = "externalsecrets.external-secrets.io/"
_MANAGER_LIMIT = 63
_KEEPS_FOREIGN = frozenset({"Merge", "CreateOrMerge"})


def field_manager(name: str) -> str:
    """Give the field manager of an ExternalSecret's writes; long names stand as their digest."""
    plain = _MANAGER + name
    return plain if len(plain) <= _MANAGER_LIMIT else f"{_MANAGER}sha3/{object_hash(name)}"


def created_by(wanted: ExternalSecret) -> str:
    """Give the value of the `created-by` label."""
    return object_hash(f"{wanted.namespace}/{wanted.name}")


def data_hash(data: Mapping[str, Plaintext]) -> str:
    """Give the value of the `data-hash` annotation: a digest of Go's `%+v` of a `map[string][]byte`.

    Compat: an unkeyed digest of secret data, readable by whoever may read the Secret's metadata; written because the
    peer knows its own Secrets by it.
    """
    shown = (f"{key}:[{' '.join(map(str, data[key].reveal()))}]" for key in sorted(data))
    return object_hash(f"map[{' '.join(shown)}]")


def is_intact(wanted: ExternalSecret, live: Manifest | None) -> bool:
    """Say whether the Secret is as it was left: there, marked, and its data matching the digest beside it.

    An Orphan target is its users' own: it counts as intact in any state, even gone.
    Compat: a missing owner reference is not seen here, as with the peer.
    """
    if wanted.target.creation == "Orphan":
        return True
    if live is None or live.labels.get(MANAGED) != "true":
        return False
    return live.annotations.get(DATA_HASH) == data_hash(SecretData.of({"data": live.body.get("data")}))


def own_keys(wanted: ExternalSecret, live: Manifest) -> list[str]:
    """Give the data keys of a Secret that this ExternalSecret wrote; all of them where managedFields do not say.

    What others put there in the meantime is not ours to keep.
    """
    there = SecretData.of({"data": live.body.get("data")})
    written = _owned_fields(live.metadata, field_manager(wanted.name))["data"] & set(there)
    untouched = live.annotations.get(DATA_HASH) == data_hash(there)
    return sorted(written or (there if untouched and wanted.target.creation not in _KEEPS_FOREIGN else ()))


def compose(wanted: ExternalSecret, filled: Filled, live: Manifest | None) -> Manifest:
    """Give the Secret as it should be, on top of the one that is there; it carries that one's resourceVersion.

    Owner and Orphan replace all data; Merge and CreateOrMerge lay theirs over it and take away what they laid before.
    """
    return Manifest(_body(wanted, filled, live))


def _body(wanted: ExternalSecret, filled: Filled, live: Manifest | None) -> dict[str, Any]:
    old: dict[str, Any] = live.body if live is not None else {"apiVersion": "v1", "kind": "Secret"}
    metadata = dict(old.get("metadata") or {"name": wanted.target.name, "namespace": wanted.namespace})
    old_data: dict[str, str] = dict(old.get("data") or {})
    frozen = live is not None and wanted.target.immutable
    owned = _owned_fields(metadata, field_manager(wanted.name))
    labels, annotations = dict(metadata.get("labels") or {}), dict(metadata.get("annotations") or {})
    data = old_data
    if not frozen:
        # Compat: of an existing immutable target nothing but the marks is touched, as with the peer.
        data = SecretData(filled.values).encoded()
        if wanted.target.creation in _KEEPS_FOREIGN:
            data = {key: text for key, text in old_data.items() if key not in owned["data"]} | data
        # Compat: labels and annotations once copied and now gone leave the Secret, at any length of the name.
        labels = {key: text for key, text in labels.items() if key not in owned["labels"]} | dict(filled.labels)
        annotations = {key: text for key, text in annotations.items() if key not in owned["annotations"]}
        annotations |= dict(filled.annotations)
        if filled.finalizers:
            metadata["finalizers"] = list(dict.fromkeys([*(metadata.get("finalizers") or []), *filled.finalizers]))
    annotations.pop(RESTORED_FROM, None)
    labels[MANAGED] = "true"
    labels.pop(CREATED_BY, None)
    if wanted.target.creation == "Owner":
        labels[CREATED_BY] = created_by(wanted)
    annotations[DATA_HASH] = data_hash(SecretData.of({"data": data}))
    metadata |= {"labels": labels, "annotations": annotations, "ownerReferences": _owners(wanted, metadata)}
    body = {**old, "metadata": metadata, "data": data, "type": _type(old, filled, frozen=frozen)}
    if wanted.target.immutable:
        body["immutable"] = True
    return body


def _type(old: Mapping[str, Any], filled: Filled, *, frozen: bool) -> str:
    """Give the type: the template's, else the one that is there."""
    wanted = "" if frozen else filled.kind
    return wanted or str(old.get("type") or "Opaque")


def _owners(wanted: ExternalSecret, metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give the owner references: ours as controller under Owner, taken away under every other policy."""
    others = [
        reference
        for reference in metadata.get("ownerReferences") or []
        if not (reference.get("kind") == EXTERNAL_SECRET.kind and reference.get("name") == wanted.name)
    ]
    if wanted.target.creation != "Owner":
        return others
    ours = {
        "apiVersion": EXTERNAL_SECRET.api_version,
        "kind": EXTERNAL_SECRET.kind,
        "name": wanted.name,
        "uid": wanted.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return [*others, ours]


def _owned_fields(metadata: Mapping[str, Any], manager: str) -> dict[str, set[str]]:
    """Give the data keys, labels and annotations that `manager` wrote, from managedFields."""
    owned: dict[str, set[str]] = {"data": set(), "labels": set(), "annotations": set()}
    for entry in metadata.get("managedFields") or []:
        if not isinstance(entry, dict) or entry.get("manager") != manager:
            continue
        fields = entry.get("fieldsV1") or {}
        inner = fields.get("f:metadata") or {}
        for name, holder in (("data", fields), ("labels", inner), ("annotations", inner)):
            owned[name] |= {key[2:] for key in holder.get(f"f:{name}") or {} if key.startswith("f:")}
    return owned
