"""Who may write a Secret: pure decisions shared by sealing and external secrets.

`decide` compares what is wanted with what exists and gives one answer: Create, Update, Leave, Refuse or Delete.
Nothing here talks to a cluster; the spines carry the answer out.
"""

from __future__ import annotations

from dataclasses import dataclass

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
