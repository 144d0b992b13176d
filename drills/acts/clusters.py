"""Acts on clusters: make one anew, install the controller, fill it from Git, apply something by hand, wait.

Never here: escrow and keys (`escrows.py`), rebuilding (`recovery.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from drills.kinds import Kind, Table
from drills.scene import PATIENCE, Scene, until
from drills.strict import Duration, Name, text_at
from recovery.events import Stage
from recovery.request import RebuildRequest
from secretsops.errors import WorldFailed
from secretsops.manifest import GroupVersionKind, Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Install:
    """Install the controller, from the output of `secretsops install`."""

    cluster: str = ""
    arguments: tuple[str, ...] = ()
    """More arguments of the controller."""


def install(scene: Scene, act: Install) -> str:
    """Apply what the command prints and wait until the controller is available."""
    manifests = scene.install()
    if act.arguments:
        manifests = [with_arguments(one, act.arguments) if one.kind.kind == "Deployment" else one for one in manifests]
    scene.rebuild(act.cluster, RebuildRequest(roots=(), install=manifests, until=Stage.CONTROLLERS, patience=PATIENCE))
    return "the controller is available"


def with_arguments(deployment: Manifest, arguments: tuple[str, ...]) -> Manifest:
    """Give a Deployment whose first container has these arguments instead of those of the same option, or more."""
    body = deployment.body
    template = body["spec"]["template"]
    first, *rest = template["spec"]["containers"]
    options = {one.partition("=")[0] for one in arguments}
    kept = [one for one in first.get("args", []) if one.partition("=")[0] not in options]
    container = {**first, "args": [*kept, *arguments]}
    spec = {**template["spec"], "containers": [container, *rest]}
    return Manifest({**body, "spec": {**body["spec"], "template": {**template, "spec": spec}}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """Fill the cluster from Git, as its controllers would have done over time."""

    cluster: str = ""
    repository: str = ""
    patience: Duration = PATIENCE


def fill(scene: Scene, act: Fill) -> str:
    """Sync the estate at its newest commit."""
    roots, pins = scene.roots(scene.repository(act.repository))
    request = RebuildRequest(roots=roots, pins=pins, install=scene.namespaces(), patience=act.patience)
    report = scene.rebuild(act.cluster, request)
    return f"{len(report.apps)} applications synced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replace:
    """Start an empty cluster."""

    cluster: str = ""


def replace(scene: Scene, act: Replace) -> str:
    """Start the target of the sandbox; a given one is there already."""
    name = act.cluster or scene.scenario.target
    if scene.entry(name).given:
        return f"cluster {name} is given"
    scene.ready(name)
    return f"cluster {name} answers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """Apply objects by hand, past Git."""

    cluster: str = ""
    objects: tuple[Any, ...]

    def __post_init__(self) -> None:
        """Refuse what is no object."""
        if not all(isinstance(one, dict) and {"apiVersion", "kind", "metadata"} <= set(one) for one in self.objects):
            raise ValueError("each of `objects` has apiVersion, kind and metadata")


def apply(scene: Scene, act: Apply) -> str:
    """Apply them server-side, as a person of the team."""
    door = scene.door(act.cluster)
    for body in act.objects:
        door.apply(Manifest(body), field_manager="kubectl", force=True)
    return f"{len(act.objects)} object(s) applied by hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete one object by hand."""

    cluster: str = ""
    api_version: str
    kind: str
    namespace: str = ""
    name: Name


def delete(scene: Scene, act: Delete) -> str:
    """Delete it; that it is not there is an error."""
    scene.door(act.cluster or scene.scenario.target).delete(
        GroupVersionKind.of(act.api_version, act.kind), act.name, namespace=act.namespace
    )
    return f"{act.kind} {act.namespace}/{act.name} deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Await:
    """Wait until an object is there, and has a condition or a field if told."""

    cluster: str = ""
    api_version: str
    kind: str
    namespace: str = ""
    name: Name
    condition: str = ""
    """A condition that must be True."""
    field: str = ""
    """A place such as `.data.status` that must be `equals`."""
    equals: str = ""
    absent: bool = False
    patience: Duration = PATIENCE


def await_(scene: Scene, act: Await) -> str:
    """Look at it again and again until it is so."""
    door, kind = scene.door(act.cluster), GroupVersionKind.of(act.api_version, act.kind)

    def holds() -> bool:
        found = [one for one in door.list(kind, namespace=act.namespace) if one.name == act.name]
        if act.absent or not found:
            return act.absent and not found
        conditions = found[0].status.get("conditions") or []
        true = {one.get("type") for one in conditions if one.get("status") == "True"}
        fits = not act.field or text_at(found[0].body, act.field) == act.equals
        return fits and (not act.condition or act.condition in true)

    wanted = act.condition or (f"with {act.field} {act.equals}" if act.field else "to exist")
    what = f"{act.kind} {act.namespace}/{act.name} {'to be gone' if act.absent else wanted}"
    until(scene, what, holds, seconds=act.patience)
    return what


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectAbsent:
    """No object of these kinds is in the cluster at this moment; else the drill ends here."""

    cluster: str = ""
    kinds: tuple[str, ...] = (
        "Secret", "Deployment", "CustomResourceDefinition", "Application", "SealedSecret", "ExternalSecret",
    )  # fmt: skip
    namespaces: tuple[Name, ...] = ()
    """Only these; none named means all."""


def expect_absent(scene: Scene, act: ExpectAbsent) -> str:
    """Look at it, and stop the drill if there is something."""
    seen = scene.look(act.cluster or scene.scenario.target)
    found = sorted(
        str(key)
        for key in seen.picture.objects
        if key.kind in act.kinds and (not act.namespaces or key.namespace in act.namespaces)
    )
    if found:
        raise WorldFailed(f"{len(found)} object(s) were written: {'; '.join(found[:3])}", reason="NotAbsent")
    return f"no {', '.join(act.kinds)} is there"


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdSnapshot:
    """Keep a snapshot of etcd's disk."""

    cluster: str = ""


def etcd_snapshot(scene: Scene, act: EtcdSnapshot) -> str:
    """Copy it to outside the cluster."""
    place = scene.outside / "etcd"
    scene.backend(act.cluster).snapshot(place)
    scene.notes["etcd"] = place
    return "etcd's data is kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartController:
    """Restart the controller: its Pods are deleted, new ones come."""

    cluster: str = ""


def restart_controller(scene: Scene, act: RestartController) -> str:
    """Delete the Pods and wait until the Deployment is available with others."""
    door = scene.door(act.cluster)
    kind = GroupVersionKind("", "v1", "Pod")

    def pods() -> dict[str, bool]:
        return {
            pod.uid: any(
                one.get("type") == "Ready" and one.get("status") == "True" for one in pod.status.get("conditions") or []
            )
            for pod in door.list(kind, namespace="kube-system")
            if pod.name.startswith("secretsops-controller")
        }

    old = set(pods())
    for pod in door.list(kind, namespace="kube-system"):
        if pod.uid in old:
            door.delete(kind, pod.name, namespace="kube-system")
    until(
        scene,
        "a new Pod of the controller to be ready",
        lambda: any(ready and uid not in old for uid, ready in pods().items()),
    )
    return f"{len(old)} Pod(s) replaced"


TABLE: Table = {
    "etcd-snapshot": Kind(parameters=EtcdSnapshot, act=etcd_snapshot),
    "restart-controller": Kind(parameters=RestartController, act=restart_controller),
    "expect-absent": Kind(parameters=ExpectAbsent, act=expect_absent),
    "install": Kind(parameters=Install, act=install),
    "fill": Kind(parameters=Fill, act=fill),
    "replace": Kind(parameters=Replace, act=replace),
    "apply": Kind(parameters=Apply, act=apply),
    "delete": Kind(parameters=Delete, act=delete),
    "await": Kind(parameters=Await, act=await_),
}
