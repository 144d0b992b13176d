"""Who may write a Secret: pure decisions shared by sealing and external secrets.

Each decision compares what is wanted with what exists and gives one answer: Create, Update, Leave, Refuse or Delete.
Nothing here talks to a cluster; the spines carry the answer out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from secretsops.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Create:
    """The object is not there: create `manifest`."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Update:
    """The object is ours and differs: replace it by `manifest`, which carries the live resourceVersion."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing to do."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """We may not write it: `reason` is stable, `message` names the owner and what would allow it."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Delete:
    """The object is ours and no longer wanted; `uid` is the precondition."""

    uid: str


Write = Create | Update | Leave | Refuse | Delete


def controller_of(manifest: Manifest) -> dict[str, object] | None:
    """Give the owner reference with `controller: true`, if there is one (at most one is allowed by the API server)."""
    for reference in manifest.metadata.get("ownerReferences") or []:
        if isinstance(reference, dict) and reference.get("controller") is True:
            return reference
    return None


def is_controlled_by(manifest: Manifest, uid: str) -> bool:
    """Say whether the object with `uid` is the controller of `manifest` (`metav1.IsControlledBy`)."""
    owner = controller_of(manifest)
    return owner is not None and bool(uid) and owner.get("uid") == uid


# --- SealedSecrets -------------------------------------------------------------------------------------

MANAGED = "sealedsecrets.bitnami.com/managed"
PATCH = "sealedsecrets.bitnami.com/patch"
SKIP_OWNER = "sealedsecrets.bitnami.com/skip-set-owner-references"


def decide_unsealed(wanted: Manifest, live: Manifest | None, uid: str, *, renewed: bool) -> Write:
    """Decide about the Secret of the SealedSecret with `uid` (`pkg/controller/controller.go`, v0.38.4).

    A Secret controlled by another, or by nobody, is only touched when its own annotations agree: `managed` hands it
    over, `patch` lets keys be laid over it. That check is what keeps authors of SealedSecrets from overwriting
    Secrets they may not write.

    `renewed` says that the SealedSecret changed since it was last synced: then labels and annotations are replaced as
    a whole, as the peer does. Otherwise only what we own is healed: data, type and the labels and annotations that
    the template names, so that another controller's annotation is not fought over.

    Compat: with skip-set-owner-references the Secret we made carries that annotation and counts as ours; the peer
    refuses its own Secret in the same pass. Compat: `immutable` is set on update too; the peer ignores it.
    """
    if live is None:
        return Create(wanted)
    agreed = live.annotations
    patch, managed = agreed.get(PATCH) == "true", agreed.get(MANAGED) == "true"
    unowned = controller_of(live) is None
    kept = unowned and agreed.get(SKIP_OWNER) == "true" and wanted.annotations.get(SKIP_OWNER) == "true"
    if not (is_controlled_by(live, uid) or managed or patch or kept):
        return Refuse("Unmanaged", f'Resource "{live.name}" already exists and is not managed by SealedSecret')
    body = _patched(wanted, live, managed=managed) if patch else _replaced(wanted, live, renewed=renewed)
    if body == _compared(live.body):
        return Leave()
    return _impossible(body, live) or Update(Manifest(body))


def _impossible(body: dict[str, Any], live: Manifest) -> Refuse | None:
    """Refuse what the API server would (`ValidateSecretUpdate`, Kubernetes 1.36), in its words."""
    invalid = f'Secret "{live.name}" is invalid: '
    if (live.body.get("type") or "Opaque") != (body.get("type") or "Opaque"):
        return Refuse("TypeImmutable", f'{invalid}type: Invalid value: "{body.get("type")}": field is immutable')
    frozen = live.body.get("immutable") is True
    if frozen and (body.get("immutable") is not True or (body.get("data") or {}) != (live.body.get("data") or {})):
        return Refuse("Immutable", f"{invalid}data: Forbidden: field is immutable when `immutable` is set")
    return None


def _compared(body: dict[str, Any]) -> dict[str, Any]:
    """Give the body with empty maps left out, so that absent and empty are the same."""
    metadata = {key: value for key, value in (body.get("metadata") or {}).items() if value not in ({}, [], None)}
    slim = {key: value for key, value in body.items() if value not in ({}, [], None)}
    return slim | {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}


def _patched(wanted: Manifest, live: Manifest, *, managed: bool) -> dict[str, Any]:
    """Lay the wanted data, labels and annotations over the live Secret; take it over only when `managed`."""
    body = dict(live.body)
    metadata = dict(live.metadata)
    for field, over in (("labels", wanted.labels), ("annotations", wanted.annotations)):
        metadata[field] = {**(metadata.get(field) or {}), **over}
    if managed and wanted.metadata.get("ownerReferences"):
        metadata["ownerReferences"] = wanted.metadata["ownerReferences"]
    body["metadata"] = metadata
    body["data"] = {**(live.body.get("data") or {}), **(wanted.body.get("data") or {})}
    return _compared(body)


def _replaced(wanted: Manifest, live: Manifest, *, renewed: bool) -> dict[str, Any]:
    """Give the live Secret with everything that the SealedSecret decides replaced."""
    body = dict(live.body)
    metadata = dict(live.metadata)
    for field, ours in (("labels", wanted.labels), ("annotations", wanted.annotations)):
        metadata[field] = dict(ours) if renewed else {**(metadata.get(field) or {}), **ours}
    metadata["ownerReferences"] = wanted.metadata.get("ownerReferences") or []
    body["metadata"] = metadata
    body["data"] = wanted.body.get("data") or {}
    # The API server fills in Opaque, so an unnamed type is no wish to change it.
    body["type"] = wanted.body.get("type") or live.body.get("type") or "Opaque"
    if wanted.body.get("immutable") is not None:
        body["immutable"] = wanted.body["immutable"]
    return _compared(body)


# --- ExternalSecrets -----------------------------------------------------------------------------------

_EXTERNAL = ("external-secrets.io", "ExternalSecret")


def is_of_external_secret(live: Manifest, name: str) -> bool:
    """Say whether the ExternalSecret of this name is the controller of a Secret.

    The name is what counts: after a restore the uid is that of an object from before (External Secrets 2.9.0 too).
    """
    owner = controller_of(live) or {}
    return (*_owner_kind(owner), owner.get("name")) == (*_EXTERNAL, name)


def decide_external(wanted: Manifest, live: Manifest | None, *, name: str, creation: str) -> Write:
    """Decide about the target Secret of the ExternalSecret `name` (`pkg/controllers/externalsecret`, v2.9.0).

    Another ExternalSecret's Secret is refused under every policy, another controller's under Owner. Merge waits until
    somebody makes the Secret. Compat: a Secret that nobody controls is taken over without a question.
    """
    if live is None:
        return Leave() if creation == "Merge" else Create(wanted)
    owner = controller_of(live)
    if owner is not None and not is_of_external_secret(live, name):
        if _owner_kind(owner) == _EXTERNAL:
            holder = owner.get("name")
            return Refuse(
                "OwnedByAnother",
                f"unable to mutate secret {live.name}: secret is owned by another ExternalSecret: {holder}",
            )
        if creation == "Owner":
            holder = f"{owner.get('kind')} {owner.get('name')}"
            return Refuse("OwnershipConflict", f"secret {live.name} is controlled by {holder}")
    return Leave() if _decided(wanted.body) == _decided(live.body) else Update(wanted)


def _owner_kind(owner: dict[str, object]) -> tuple[str, object]:
    return str(owner.get("apiVersion") or "").partition("/")[0], owner.get("kind")


def _decided(body: dict[str, Any]) -> dict[str, Any]:
    """Give what an ExternalSecret decides of a Secret; absent and empty are the same."""
    metadata = body.get("metadata") or {}
    return {
        "data": body.get("data") or {},
        "type": body.get("type") or "Opaque",
        "immutable": body.get("immutable") or False,
        "labels": metadata.get("labels") or {},
        "annotations": metadata.get("annotations") or {},
        "owners": metadata.get("ownerReferences") or [],
    }
