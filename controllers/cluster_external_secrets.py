"""ClusterExternalSecret to ExternalSecrets, one per chosen namespace: observe, compare, write, report.

What the ExternalSecrets do then is the business of `controllers.external_secrets`. ClusterPushSecrets go the same way.

Compat: no finalizer is put on Namespaces. The peer puts one there, and a namespace that was chosen once and then not
any more can never be deleted; the one it left is taken away.

What never lives here: what a ClusterExternalSecret says (`secretsops.external.spread`), queues and watches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from controllers.observed import Observed
from secretsops.errors import AlreadyExists, ApiError, Conflict, InvalidManifest, NotFound
from secretsops.external.spread import EXTERNAL_SECRETS, Family, Spread, read_spread, same, spread_status
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ownership import controller_of
from secretsops.ports import Cluster, EventType

if TYPE_CHECKING:
    from controllers.loop import Part, Runtime

NAMESPACE = GroupVersionKind("", "v1", "Namespace")
_PEERS_MARK = "externalsecrets.external-secrets.io/ces-"


class Spreading:
    """Reconciles one object at a time; `children` gives what a watch knows of its own."""

    def __init__(
        self,
        cluster: Cluster,
        family: Family = EXTERNAL_SECRETS,
        *,
        observed: Observed | None = None,
        namespaces: Callable[[], Sequence[Manifest]] | None = None,
        children: Callable[[str], Sequence[Manifest]] | None = None,
    ) -> None:
        self._cluster = cluster
        self._family = family
        self._observed = observed or Observed(cluster)
        self._namespaces = namespaces or (lambda: cluster.list(NAMESPACE))
        self._children = children or self._listed

    def reconcile(self, key: ObjectKey) -> float:
        """Bring the children of one object in line; gives seconds until the next time, 0 for never.

        Raises:
            SecretsOpsError: it could not be done; the queue tries again.
        """
        # 1. Observe it; let it go when it is being deleted (its children go by their owner reference); sign for it.
        try:
            manifest = self._observed.get(self._family.kind, key.name)
        except NotFound:
            return 0.0
        namespaces = self._namespaces()
        finalizers = list(manifest.metadata.get("finalizers") or [])
        if manifest.metadata.get("deletionTimestamp"):
            self._unmark(manifest.name, namespaces)
            if self._family.finalizer in finalizers:
                self._sign(manifest, [name for name in finalizers if name != self._family.finalizer])
            return 0.0
        if self._family.finalizer and self._family.finalizer not in finalizers:
            manifest = self._sign(manifest, [*finalizers, self._family.finalizer])
        # 2. Read it: what is not valid stays so until somebody changes it.
        try:
            spread = read_spread(manifest, self._family)
        except InvalidManifest as error:
            self._report(manifest, {"conditions": [{"type": "Ready", "status": "False", "message": error.message}]})
            return 0.0
        # 3. Write what is missing or differs, 4. take away what is not chosen any more, 5. report.
        chosen = [namespace.name for namespace in namespaces if spread.chooses(namespace)]
        failed = {name: reason for name in chosen if (reason := self._provide(spread, name))}
        for child in self._children(spread.name):
            if spread.owns(child) and (child.namespace not in chosen or child.name != spread.child):
                with contextlib.suppress(NotFound):
                    self._cluster.delete(self._family.child, child.name, namespace=child.namespace, uid=child.uid)
        self._unmark(spread.name, [each for each in namespaces if each.metadata.get("deletionTimestamp")])
        self._report(manifest, spread_status(spread, manifest.status, sorted({*chosen} - failed.keys()), failed))
        return spread.refresh

    def _listed(self, _name: str) -> Sequence[Manifest]:
        return self._cluster.list(self._family.child)

    def _sign(self, manifest: Manifest, finalizers: list[str]) -> Manifest:
        patch = {"metadata": {"resourceVersion": manifest.resource_version, "finalizers": finalizers}}
        return self._observed.wrote(self._cluster.patch(self._family.kind, manifest.name, patch))

    def _provide(self, spread: Spread, namespace: str) -> str:
        """Write the child of one namespace; gives the reason why not, "" when it is there."""
        try:
            live: Manifest | None = self._observed.get(self._family.child, spread.child, namespace)
        except NotFound:
            live = None
        if live is not None and not spread.owns(live):
            return self._family.present
        wanted = spread.made(namespace, live)
        try:
            if live is None:
                self._cluster.create(wanted)
            elif not same(wanted, live) and not live.metadata.get("deletionTimestamp"):
                self._observed.wrote(self._cluster.replace(wanted))
        except (AlreadyExists, Conflict):
            raise
        except ApiError as error:
            return f"could not create or update {self._family.child.kind} ({error.reason})"
        return ""

    def _unmark(self, name: str, namespaces: Sequence[Manifest]) -> None:
        """Take the peer's finalizer of this object off Namespaces that nothing holds any more."""
        for namespace in namespaces:
            marks = list(namespace.metadata.get("finalizers") or [])
            if _PEERS_MARK + name in marks:
                kept = [mark for mark in marks if mark != _PEERS_MARK + name]
                patch = {"metadata": {"resourceVersion": namespace.resource_version, "finalizers": kept or None}}
                with contextlib.suppress(NotFound):
                    self._cluster.patch(NAMESPACE, namespace.name, patch)

    def _report(self, manifest: Manifest, status: dict[str, Any]) -> None:
        if status != manifest.status:
            body = {**manifest.body, "status": status}
            self._observed.wrote(self._cluster.replace(Manifest(body), subresource="status"))


# --- In the process ------------------------------------------------------------------------------------


class _Seen:
    """What the watches of this part told: Namespaces, and which objects and children there are."""

    def __init__(self, family: Family) -> None:
        self.kind = family.kind
        self.namespaces: dict[str, Manifest] = {}
        self.spreads: set[ObjectKey] = set()
        self.children: dict[str, dict[ObjectKey, Manifest]] = {}

    def owner(self, child: Manifest) -> ObjectKey | None:
        owner = controller_of(child) or {}
        if owner.get("kind") != self.kind.kind:
            return None
        return ObjectKey(self.kind.group, self.kind.kind, "", str(owner.get("name")))


def build(runtime: Runtime) -> Sequence[Part]:
    """Give the part that keeps ClusterExternalSecrets."""
    return [spreading(runtime, EXTERNAL_SECRETS, "cluster-external-secrets")]


def spreading(runtime: Runtime, family: Family, name: str) -> Part:
    """Give the part that keeps the objects of a family."""
    from controllers.loop import Part, Result, Watched
    from controllers.reflector import Selection, without_managed_fields

    observed, seen = Observed(runtime.cluster), _Seen(family)
    spine = Spreading(
        runtime.cluster,
        family,
        observed=observed,
        namespaces=lambda: list(seen.namespaces.values()),
        children=lambda name: list(seen.children.get(name, {}).values()),
    )

    def reconcile(key: ObjectKey) -> Result:
        return Result(action="spread", again_after=spine.reconcile(key))

    def itself(kind: EventType, manifest: Manifest) -> Sequence[ObjectKey]:
        if kind is EventType.DELETED:
            observed.gone(manifest.key)
            seen.spreads.discard(manifest.key)
            return ()
        known = observed.note(manifest)
        seen.spreads.add(manifest.key)
        return [known.key]

    def child(kind: EventType, manifest: Manifest) -> Sequence[ObjectKey]:
        owner = seen.owner(manifest)
        gone = kind is EventType.DELETED
        (observed.gone(manifest.key) if gone else observed.note(manifest))
        if owner is None:
            return ()
        known = seen.children.setdefault(owner.name, {})
        before = known.get(manifest.key)
        if gone:
            known.pop(manifest.key, None)
        else:
            known[manifest.key] = manifest
        # A status that changes is none of our business.
        unchanged = before is not None and not gone and same(before, manifest)
        return () if unchanged else [owner]

    def namespace(kind: EventType, manifest: Manifest) -> Sequence[ObjectKey]:
        before = seen.namespaces.pop(manifest.name, None)
        if kind is not EventType.DELETED:
            seen.namespaces[manifest.name] = manifest
        same_labels = before is not None and kind is not EventType.DELETED and dict(before.labels) == manifest.labels
        terminating = bool(manifest.metadata.get("deletionTimestamp"))
        return () if same_labels and not terminating else sorted(seen.spreads)

    def labels_alone(manifest: Manifest) -> Manifest:
        names = ("name", "uid", "resourceVersion", "labels", "finalizers", "deletionTimestamp")
        metadata = {name: manifest.metadata[name] for name in names if name in manifest.metadata}
        return Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    watched = [
        Watched(selection=Selection(kind=family.kind), keys=itself),
        Watched(selection=Selection(kind=family.child), keys=child, keep=without_managed_fields),
        Watched(selection=Selection(kind=NAMESPACE), keys=namespace, keep=labels_alone),
    ]
    return Part(name=name, watched=watched, reconcile=reconcile, workers=1)
