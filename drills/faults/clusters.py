"""Faults of clusters: lost, without a controller, without a namespace or a definition, set back to an older state.

Done to clusters of the sandbox alone. Never here: what lies outside a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

from drills.acts.escrows import DEPLOYMENT, HOME, KEY_LABEL, SECRET
from drills.kinds import Kind, Table
from drills.scene import Scene, until
from drills.strict import Name
from secretsops.errors import NotFound, Unreachable, WorldFailed
from secretsops.manifest import GroupVersionKind

NAMESPACE = GroupVersionKind("", "v1", "Namespace")
DEFINITION = GroupVersionKind("apiextensions.k8s.io", "v1", "CustomResourceDefinition")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destroy:
    """The cluster is lost: processes killed, data deleted."""

    cluster: str = ""


def destroy(scene: Scene, fault: Destroy) -> str:
    """Kill it, and see that it is gone."""
    door, plane = scene.door(fault.cluster), scene.backend(fault.cluster)
    scene.keep_evidence(plane)
    plane.destroy()
    try:
        door.raw("GET", "/readyz")
    except Unreachable:
        return f"cluster {plane.name} is gone"
    raise WorldFailed("the cluster still answers", reason="NotDestroyed")


@dataclass(frozen=True, slots=True, kw_only=True)
class SupposeLost:
    """The cluster is supposed to be lost; nothing is done to it, it lives on."""

    cluster: str = ""


def suppose_lost(scene: Scene, fault: SupposeLost) -> str:
    """Do nothing at all."""
    return f"cluster {fault.cluster or scene.scenario.source} is supposed to be lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoseController:
    """The controller is gone from a living cluster, with its rights, and its sealing keys where told."""

    cluster: str = ""
    keys: bool = True


def lose_controller(scene: Scene, fault: LoseController) -> str:
    """Delete what was installed but for definitions and namespaces, as a mistaken uninstall would."""
    scene.backend(fault.cluster)
    door, count = scene.door(fault.cluster), 0
    for manifest in reversed(scene.install()):
        if manifest.kind in (NAMESPACE, DEFINITION):
            continue
        try:
            door.delete(manifest.kind, manifest.name, namespace=manifest.namespace, propagation="Foreground")
            count += 1
        except NotFound:
            continue
    until(scene, "the controller to be gone", lambda: _is_gone(scene, fault.cluster))
    if fault.keys:
        for secret in door.list(SECRET, namespace=HOME, label_selector=KEY_LABEL):
            door.delete(SECRET, secret.name, namespace=HOME)
            count += 1
    return f"{count} objects of the controller deleted"


def _is_gone(scene: Scene, cluster: str) -> bool:
    door = scene.door(cluster)
    pods = door.list(GroupVersionKind("", "v1", "Pod"), namespace=HOME)
    deployments = [one for one in door.list(DEPLOYMENT, namespace=HOME) if one.name == "secretsops-controller"]
    return not deployments and not any(pod.name.startswith("secretsops-controller") for pod in pods)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteNamespace:
    """A namespace is deleted with everything in it."""

    cluster: str = ""
    namespace: Name


def delete_namespace(scene: Scene, fault: DeleteNamespace) -> str:
    """Delete it and wait until it is gone."""
    _delete(scene, fault.cluster, NAMESPACE, fault.namespace)
    return f"namespace {fault.namespace} is gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteDefinition:
    """A CustomResourceDefinition is deleted, and with it every object of its kind and what those own."""

    cluster: str = ""
    name: Name


def delete_definition(scene: Scene, fault: DeleteDefinition) -> str:
    """Delete it and wait until it is gone; finalizers are not waited for for ever."""
    _delete(scene, fault.cluster, DEFINITION, fault.name)
    return f"definition {fault.name} is gone"


def _delete(scene: Scene, cluster: str, kind: GroupVersionKind, name: str) -> None:
    """Delete an object of the whole cluster and wait until it is gone."""
    scene.backend(cluster)
    scene.door(cluster).delete(kind, name)
    until(scene, f"{kind.kind} {name} to be gone", lambda: not _named(scene, cluster, kind, name))


def _named(scene: Scene, cluster: str, kind: GroupVersionKind, name: str) -> bool:
    try:
        scene.door(cluster).get(kind, name)
    except NotFound:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdSetBack:
    """etcd is restored from the snapshot that was kept: the cluster is older than Git."""

    cluster: str = ""


def etcd_set_back(scene: Scene, fault: EtcdSetBack) -> str:
    """Put the data back and start the control plane anew."""
    place = scene.notes.get("etcd")
    if place is None:
        raise WorldFailed("no snapshot was kept", reason="NoSnapshot")
    scene.backend(fault.cluster).set_back(place)
    return "etcd is what it was at the snapshot"


TABLE: Table = {
    "etcd-set-back": Kind(parameters=EtcdSetBack, act=etcd_set_back),
    "destroy": Kind(parameters=Destroy, act=destroy),
    "suppose-lost": Kind(parameters=SupposeLost, act=suppose_lost),
    "lose-controller": Kind(parameters=LoseController, act=lose_controller),
    "delete-namespace": Kind(parameters=DeleteNamespace, act=delete_namespace),
    "delete-definition": Kind(parameters=DeleteDefinition, act=delete_definition),
}
