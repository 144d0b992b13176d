"""An Application that is being deleted: its objects go in reverse wave order, then its finalizers.

Rules: argo-cd v3.6 `controller/appcontroller.go` (`finalizeApplicationDeletion`), `controller/hook.go`. Recovery never
deletes an Application by itself; this is the peer's gate seeing one that a person, or a prune, has deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from recovery.app import Health, HealthState
from recovery.apply import look, remove
from recovery.appset import FINALIZER
from recovery.argo import APPLICATION
from recovery.compare import owner_of
from recovery.inventory import Inventory
from recovery.marks import PREFIX, options_of, wave_of
from recovery.setup import Setup
from secretsops.errors import NotFound
from secretsops.manifest import Manifest
from secretsops.ports import Cluster

PRE, POST = "pre-delete-finalizer.argocd.argoproj.io", "post-delete-finalizer.argocd.argoproj.io"
CASCADES = {FINALIZER: "Foreground", FINALIZER + "/foreground": "Foreground", FINALIZER + "/background": "Background"}


def hooks_of(manifests: Sequence[Manifest], word: str) -> list[Manifest]:
    """Give the hooks of one kind of deletion (`PreDelete`, `PostDelete`; Helm's names count too)."""
    helm = {"PreDelete": "pre-delete", "PostDelete": "post-delete"}[word]
    found = []
    for one in manifests:
        own = one.annotations.get(PREFIX + "hook")
        text, wanted = (own, word) if own else (one.annotations.get("helm.sh/hook"), helm)
        if wanted in [part.strip() for part in str(text or "").split(",")]:
            found.append(one)
    return found


def finalizers_wanted(live: Manifest, manifests: Sequence[Manifest]) -> list[str] | None:
    """Give the finalizers with those added that hooks of deletion need, None where none is missing."""
    have = list(live.metadata.get("finalizers") or [])
    wanted = list(have)
    for word, finalizer in (("PreDelete", PRE), ("PostDelete", POST)):
        if hooks_of(manifests, word):
            wanted += [name for name in (finalizer, f"{finalizer}/cleanup") if name not in wanted]
    return wanted if wanted != have else None


def advance_deletion(
    cluster: Cluster,
    live: Manifest,
    manifests: Sequence[Manifest],
    inventory: Inventory,
    setup: Setup,
    judge: Callable[[Manifest], Health | None],
) -> bool:
    """Take a deletion one step further; say whether it moved."""
    finalizers = list(live.metadata.get("finalizers") or [])
    for word, finalizer in (("PreDelete", PRE), ("cascade", ""), ("PostDelete", POST)):
        if word == "cascade":
            name = next((one for one in finalizers if one in CASCADES), "")
            if name:
                if _cascade(cluster, live, inventory, setup, CASCADES[name]):
                    return True
                return _take_off(cluster, live, name) if not _left(live, inventory, setup) else False
            continue
        if finalizer in finalizers:
            done, moved = _hooks(cluster, hooks_of(manifests, word), judge)
            return _take_off(cluster, live, finalizer) if done else moved
    cleanup = next((one for one in finalizers if one in (f"{PRE}/cleanup", f"{POST}/cleanup")), "")
    return _take_off(cluster, live, cleanup) if cleanup else False


def _left(live: Manifest, inventory: Inventory, setup: Setup) -> list[Manifest]:
    """Give what an application still has: no CRDs, nothing that is to stay, not itself."""
    name = live.name if live.namespace == "argocd" else f"{live.namespace}_{live.name}"
    return [
        one
        for one in inventory.objects.values()
        if owner_of(one, setup.settings) == name
        and one.kind.kind != "CustomResourceDefinition"
        and not one.metadata.get("ownerReferences")
        and not {"Delete=false", "helm.sh/resource-policy: keep"} & options_of(one)
        and one.annotations.get("helm.sh/resource-policy") != "keep"
        and one.key != live.key
    ]


def _cascade(cluster: Cluster, live: Manifest, inventory: Inventory, setup: Setup, propagation: str) -> bool:
    """Delete the highest wave that is left, unless one is still going."""
    left = _left(live, inventory, setup)
    if any(one.metadata.get("deletionTimestamp") for one in left) or not left:
        return False
    highest = max(wave_of(one) for one in left)
    for one in left:
        if wave_of(one) == highest:
            remove(cluster, one, propagation=propagation)
    return True


def _hooks(
    cluster: Cluster, hooks: Sequence[Manifest], judge: Callable[[Manifest], Health | None]
) -> tuple[bool, bool]:
    """Run hooks of deletion; give (all are through, something moved)."""
    done, moved = True, False
    for hook in hooks:
        found = look(cluster, hook.kind, hook.key)
        if found is None:
            cluster.create(hook)
            done, moved = False, True
            continue
        health = judge(found)
        done = done and (health is None or health.state is HealthState.HEALTHY)
    return done, moved


def _take_off(cluster: Cluster, live: Manifest, name: str) -> bool:
    """Remove one finalizer. Compat: the last one takes its place, as the peer's list does it."""
    finalizers = list(live.metadata.get("finalizers") or [])
    finalizers[finalizers.index(name)] = finalizers[-1]
    patch: Mapping[str, object] = {"metadata": {"finalizers": finalizers[:-1]}}
    try:
        cluster.patch(APPLICATION, live.name, patch, namespace=live.namespace)
    except NotFound:
        return False
    return True
