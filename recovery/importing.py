"""An export into a cluster: what is not there is made, what is there is left and told. And a trial of it.

Never here: what an export holds (`export.py`), opening one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recovery.app import App, Source
from recovery.apply import is_established, look, patiently
from recovery.diff import in_sync
from recovery.order import ordered
from secretsops.errors import AlreadyExists, ApiError, UnknownKind
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ports import Clock, Cluster

_APP = App(name="import", namespace="", source=Source(url="", path=""), destination="")
_NAMESPACE = GroupVersionKind("", "v1", "Namespace")
MANAGER = "secretsops"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What came of each object: made, there already (the same or another), its kind not served, or refused."""

    made: Sequence[str] = ()
    same: Sequence[str] = ()
    other: Sequence[str] = ()
    unserved: Sequence[str] = ()
    refused: Mapping[str, str] = ()  # type: ignore[assignment]

    @property
    def ok(self) -> bool:
        """Say whether all that the cluster can hold is in it as exported."""
        return not self.other and not self.refused

    def body(self) -> dict[str, Any]:
        """Give it as plain data; names alone."""
        lists = {name: list(getattr(self, name)) for name in ("made", "same", "other", "unserved")}
        return {**lists, "refused": dict(self.refused)}


def bring(cluster: Cluster, manifests: Sequence[Manifest], clock: Clock) -> Imported:
    """Create every object that is not there, in Argo CD's kind order, definitions first; nothing is overwritten.

    Called again it goes on. What an object says of its owner is resolved by name; one that is not there is left out.

    Raises:
        ApiError: the API server gives no usable answer at all.
    """
    made, same, other, unserved = [], [], [], []  # type: ignore[var-annotated]
    refused: dict[str, str] = {}
    for manifest in _owners_first(manifests):
        key = str(manifest.key)
        try:
            live = look(cluster, manifest.kind, manifest.key)
            if live is not None:
                (same if in_sync(live, _owned(cluster, manifest), ()) else other).append(key)
                continue
            cluster.resource(manifest.kind)
            _make_namespace(cluster, manifest.namespace)
            wanted = _owned(cluster, manifest)
            patiently(lambda w=wanted: cluster.create(w, field_manager=MANAGER), clock)  # type: ignore[misc]
            _establish(cluster, manifest, clock)
            made.append(key)
        except UnknownKind:
            unserved.append(key)
        except AlreadyExists:
            made.append(key)  # the first try had come through
        except ApiError as error:
            if error.retry:
                raise
            refused[key] = error.reason  # a message of the API server may quote what it refuses
    return Imported(made=made, same=same, other=other, unserved=unserved, refused=refused)


def _owners_first(manifests: Sequence[Manifest]) -> list[Manifest]:
    """Give the objects in kind order, each after its owners as far as they are among them."""
    by_key = {manifest.key: manifest for manifest in manifests}
    left = [by_key[task.key] for task in ordered(_APP, list(map(_unhooked, manifests)), revision="", started=0)]
    found: list[Manifest] = []
    while left:
        waiting = {(one.kind.kind, one.name) for one in left}
        free = [one for one in left if not waiting & _owners(one)] or left
        found += free
        taken = set(map(id, free))
        left = [one for one in left if id(one) not in taken]
    return found


def _owners(manifest: Manifest) -> set[tuple[str, str]]:
    return {(str(one.get("kind")), str(one.get("name"))) for one in manifest.metadata.get("ownerReferences") or []}


def _unhooked(manifest: Manifest) -> Manifest:
    """Give the object as one without marks, for its place: an import knows no phases and no waves."""
    return Manifest({**manifest.body, "metadata": {**manifest.metadata, "annotations": {}}})


def _make_namespace(cluster: Cluster, name: str) -> None:
    if name and look(cluster, _NAMESPACE, ObjectKey("", "Namespace", "", name)) is None:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        cluster.apply(Manifest(body), field_manager=MANAGER)


def _owned(cluster: Cluster, manifest: Manifest) -> Manifest:
    owners = []
    for owner in manifest.metadata.get("ownerReferences") or []:
        kind = GroupVersionKind.of(str(owner.get("apiVersion")), str(owner.get("kind")))
        for namespace in dict.fromkeys((manifest.namespace, "")):
            try:
                live = look(cluster, kind, ObjectKey(kind.group, kind.kind, namespace, str(owner.get("name"))))
            except ApiError:
                live = None
            if live is not None:
                owners.append({**owner, "uid": live.uid})
                break
    metadata = {key: value for key, value in manifest.metadata.items() if key != "ownerReferences"}
    return Manifest({**manifest.body, "metadata": {**metadata, "ownerReferences": owners} if owners else metadata})


def _establish(cluster: Cluster, manifest: Manifest, clock: Clock) -> None:
    if manifest.kind.kind != "CustomResourceDefinition":
        return
    for pause in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2):
        live = look(cluster, manifest.kind, manifest.key)
        if live is not None and is_established(live):
            break
        clock.sleep(pause)
    cluster.resources(refresh=True)
