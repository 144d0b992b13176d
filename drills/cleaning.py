"""Clean-up, a stage with proofs of its own: processes ended, folders gone, given clusters without what the drill made.

`drill gc` uses the same for runs that died. Never here: deciding that it is time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from drills.commands import install
from drills.isolation import CONFIG_MAP, MARK, NAMESPACE, OWN_NAMESPACES, Proof
from drills.scene import Scene
from secretsops.errors import NotFound, SecretsOpsError
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Cluster

NODE = GroupVersionKind("", "v1", "Node")
PATIENCE = 60.0
"""Seconds that namespaces have to go."""
KWOK = "kwok.x-k8s.io/node"


def simulated(scene: Scene) -> bool:
    """Say whether any node that workloads were rebuilt on is a simulated one; unknown counts as simulated."""
    entry = scene.entry(scene.scenario.target)
    if not entry.given:
        return True
    try:
        nodes = scene.door(entry.name).list(NODE)
    except SecretsOpsError:
        return True
    return not nodes or any(KWOK in node.annotations for node in nodes)


def clean(scene: Scene, *, keep: bool) -> list[Proof]:
    """End the world and give the proofs; with `keep` nothing is ended and nothing proven."""
    if keep:
        return [Proof(name="world", ok=None, message="kept on request")]
    found = [_given(scene, name) for name in _targets(scene)]
    scene.close()
    pid = scene.world.supervisor_pid
    started = [process for plane in scene.world.clusters.values() for process in plane.pids.values()]
    folder, goes = scene.world.folder, scene.world.goes
    scene.world.close()
    alive = [one for one in (pid, *started) if _alive(one)]
    found.append(Proof(
        name="processes", ok=not alive,
        message=f"{len(alive)} still run: {alive[:5]}" if alive else f"{len(started) + 1} ended",
    ))  # fmt: skip
    if goes:
        there = folder.exists()
        found.append(Proof(name="folder", ok=not there, message=f"{folder} is still there" if there else "deleted"))
    return found


def _targets(scene: Scene) -> list[str]:
    return [one.name for one in scene.scenario.spec.world.clusters if one.given and one.role == "target"]


def _given(scene: Scene, name: str) -> Proof:
    left = empty_target(scene.door(name), scene.scenario.name, scene.install())
    return Proof(name=f"target {name}", ok=not left, message=f"left: {', '.join(left[:5])}" if left else "empty again")


def empty_target(door: Cluster, scenario: str, installed: Sequence[Manifest]) -> list[str]:
    """Remove from a given target what a drill of this scenario rebuilt there; gives what is left.

    Only a cluster that carries the mark is touched: namespaces that are not the cluster's own, what `install` prints,
    and the mark at last.
    """
    try:
        marked = door.get(CONFIG_MAP, MARK, "default")
    except NotFound:
        return []
    if (marked.body.get("data") or {}).get("scenario") != scenario:
        return ["a mark of another drill"]
    ours = [one for one in door.list(NAMESPACE) if one.name not in OWN_NAMESPACES]
    for namespace in ours:
        _delete(door, NAMESPACE, namespace.name, "")
    for manifest in reversed(installed):
        _delete(door, manifest.kind, manifest.name, manifest.namespace)
    limit = time.monotonic() + PATIENCE
    while left := [f"namespace {one.name}" for one in door.list(NAMESPACE) if one.name not in OWN_NAMESPACES]:
        if time.monotonic() > limit:
            break
        time.sleep(0.2)
    if not left:
        _delete(door, CONFIG_MAP, MARK, "default")
    return left


def empty_again(scene_entry: Mapping[str, Any], door: Cluster) -> list[str]:
    """Remove what a dead run left in a given target, for `drill gc`."""
    return empty_target(door, str(scene_entry.get("scenario", "")), install())


def _delete(door: Cluster, kind: GroupVersionKind, name: str, namespace: str) -> None:
    try:
        door.delete(kind, name, namespace=namespace)
    except (NotFound, SecretsOpsError):
        return


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
