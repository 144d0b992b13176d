"""The Secret an ExternalSecret asks for, from its values and the Secret that is there. Pure.

Marks, digests and the owner reference are the peer's to the byte, so that either controller takes over what the other
wrote. `decide` compares and gives one answer; the spine carries it out.

What never lives here: fetching and selecting values, the cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secretsops.external.model import (
    CREATED_BY,
    DATA_HASH,
    EXTERNAL_SECRET,
    GROUP,
    MANAGED,
    ExternalSecret,
    object_hash,
)
from secretsops.manifest import Manifest
from secretsops.ownership import Create, Leave, Refuse, Update, Write, controller_of
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


def decide(wanted: ExternalSecret, values: Mapping[str, Plaintext], live: Manifest | None) -> Write:
    """Decide about the target Secret; `None` is no business of this function, and `Merge` leaves an absent target.

    Refusals: another ExternalSecret, or under Owner any other controller, holds the Secret. A Secret that nobody
    controls is taken over, as the peer does: with Owner its data is replaced, with Merge it is laid over.
    """
    if live is None:
        if wanted.target.creation == "Merge":
            return Leave()
        return Create(Manifest(_body(wanted, values, None)))
    refusal = _refusal(wanted, live)
    if refusal is not None:
        return refusal
    body = _body(wanted, values, live)
    return Leave() if _slim(body) == _slim(live.body) else Update(Manifest(body))


def _refusal(wanted: ExternalSecret, live: Manifest) -> Refuse | None:
    owner = controller_of(live)
    if owner is None:
        return None
    group = str(owner.get("apiVersion") or "").partition("/")[0]
    ours = group == GROUP and owner.get("kind") == EXTERNAL_SECRET.kind
    if ours and owner.get("name") == wanted.name:
        # The uid may be that of an ExternalSecret from before a restore: the name is what counts.
        return None
    holder = f"{owner.get('kind')} {owner.get('name')}"
    if ours:
        return Refuse(
            "OwnedByAnother",
            f"unable to mutate secret {wanted.target.name}: "
            f"secret is owned by another ExternalSecret: {owner.get('name')}",
        )
    if wanted.target.creation == "Owner":
        return Refuse("OwnershipConflict", f"secret {wanted.target.name} is controlled by {holder}")
    return None


def _body(wanted: ExternalSecret, values: Mapping[str, Plaintext], live: Manifest | None) -> dict[str, Any]:
    old: dict[str, Any] = live.body if live is not None else {"apiVersion": "v1", "kind": "Secret"}
    metadata = dict(old.get("metadata") or {"name": wanted.target.name, "namespace": wanted.namespace})
    old_data: dict[str, str] = dict(old.get("data") or {})
    frozen = live is not None and wanted.target.immutable
    owned = _owned_fields(metadata, field_manager(wanted.name))
    labels, annotations = dict(metadata.get("labels") or {}), dict(metadata.get("annotations") or {})
    data = old_data
    if not frozen:
        # Compat: of an existing immutable target nothing but the marks is touched, as with the peer.
        data = SecretData(values).encoded()
        if wanted.target.creation in _KEEPS_FOREIGN:
            data = {key: text for key, text in old_data.items() if key not in owned["data"]} | data
        # Compat: labels and annotations once copied and now gone leave the Secret, at any length of the name.
        labels = {key: text for key, text in labels.items() if key not in owned["labels"]} | dict(wanted.labels)
        annotations = {key: text for key, text in annotations.items() if key not in owned["annotations"]}
        annotations |= dict(wanted.annotations)
    labels[MANAGED] = "true"
    labels.pop(CREATED_BY, None)
    if wanted.target.creation == "Owner":
        labels[CREATED_BY] = created_by(wanted)
    annotations[DATA_HASH] = data_hash(SecretData.of({"data": data}))
    metadata |= {"labels": labels, "annotations": annotations, "ownerReferences": _owners(wanted, metadata)}
    body = {**old, "metadata": metadata, "data": data, "type": old.get("type") or "Opaque"}
    if wanted.target.immutable:
        body["immutable"] = True
    return body


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


def _slim(body: Mapping[str, Any]) -> dict[str, Any]:
    """Give what an update would change, absent and empty being the same."""
    metadata = body.get("metadata") or {}
    return {
        "data": body.get("data") or {},
        "type": body.get("type") or "Opaque",
        "immutable": body.get("immutable") or False,
        "labels": metadata.get("labels") or {},
        "annotations": metadata.get("annotations") or {},
        "owners": metadata.get("ownerReferences") or [],
    }
