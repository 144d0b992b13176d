"""Is the drill alone in its world? Proven before the disaster, from inside; what cannot be proven is unknown.

Sandbox clusters are processes of ours on loopback. A given source is read with a credential that may not write
(SelfSubjectAccessReview and a server dry-run say so); a given target is empty, or carries this drill's mark. Production
is refused by context name and by the UID of its kube-system. Addresses in the estate must be of this world. Never here:
changing anything but the mark.
"""

from __future__ import annotations

import ipaddress
import json
import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass

from drills.scenario import ClusterEntry
from drills.scene import Scene
from secretsops.errors import ApiError, Forbidden, NotFound, Refused
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Cluster

NAMESPACE = GroupVersionKind("", "v1", "Namespace")
CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
MARK = "secretsops-drill"
"""Name of the ConfigMap, in the namespace `default`, that says a cluster is a drill's target."""
OWN_NAMESPACES = frozenset({"default", "kube-system", "kube-public", "kube-node-lease"})
WRITES: Sequence[tuple[str, str, str]] = (
    ("create", "", "secrets"), ("update", "", "secrets"), ("delete", "", "secrets"), ("patch", "apps", "deployments"),
    ("create", "", "configmaps"), ("delete", "", "namespaces"), ("create", "batch", "jobs"), ("delete", "*", "*"),
)  # fmt: skip
"""(verb, group, resource) that a credential for reading must not have."""
TRANSFORMS = (
    "nodes are simulated: no image is pulled and no workload of the estate runs",
    "so no CronJob, image automation, notification, external-dns or ACME client acts",
    "stores, Git and buckets are emulations on loopback; every value is made up for the run",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One thing that had to be shown: `ok` is None where it could not be found out."""

    name: str
    ok: bool | None
    message: str


def refuse_production(scene: Scene) -> None:
    """Refuse, before anything is done, a cluster that the scenario names as production.

    Raises:
        Refused: reason `Production`.
    """
    refused = scene.scenario.spec.isolation
    for entry in scene.scenario.spec.world.clusters:
        if not entry.given:
            continue
        if entry.context in refused.production_contexts and entry.role != "source":
            raise Refused(f"context {entry.context} is production", reason="Production", hint="choose another target")
        uid = scene.door(entry.name).get(NAMESPACE, "kube-system").uid
        if uid in refused.production_clusters and entry.role != "source":
            raise Refused(
                f"cluster {entry.name} is production: its kube-system has the UID {uid}",
                reason="Production",
                hint="choose another target",
            )


def prove(scene: Scene) -> list[Proof]:
    """Give the proofs of every cluster and of the estate's addresses."""
    found: list[Proof] = []
    for entry in scene.scenario.spec.world.clusters:
        if not entry.given:
            found.append(_own(scene, entry))
        elif entry.role == "source":
            found += _read_only(scene.door(entry.name), entry)
        else:
            found.append(_claimed(scene.door(entry.name), entry, scene.scenario.name))
    found.append(_addresses(scene))
    return found


def _own(scene: Scene, entry: ClusterEntry) -> Proof:
    """A cluster of the sandbox: a child process of ours that listens on loopback, or one that does not run yet."""
    plane = scene.world.clusters.get(entry.name)
    if plane is None:
        return Proof(name=f"cluster {entry.name}", ok=True, message="does not exist yet")
    host = urllib.parse.urlsplit(plane.server).hostname or ""
    ok = plane.running and ipaddress.ip_address(host).is_loopback
    return Proof(
        name=f"cluster {entry.name}", ok=ok, message=f"a process of this drill at {host}, nothing else reaches it"
    )


def _read_only(door: Cluster, entry: ClusterEntry) -> list[Proof]:
    allowed = [f"{verb} {resource}" for verb, group, resource in WRITES if _may(door, verb, group, resource)]
    message = f"may {', '.join(allowed)}" if allowed else f"{len(WRITES)} kinds of writes are denied"
    found = [Proof(name=f"source {entry.name} is read-only", ok=not allowed, message=message)]
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": MARK, "namespace": "default"}}
    try:
        door.create(Manifest(body), dry_run=True)
    except Forbidden:
        found.append(Proof(name=f"source {entry.name} refuses a write", ok=True, message="a dry run was forbidden"))
    except ApiError as error:
        found.append(
            Proof(name=f"source {entry.name} refuses a write", ok=None, message=f"a dry run gave {error.reason}")
        )
    else:
        found.append(Proof(name=f"source {entry.name} refuses a write", ok=False, message="a dry run was let through"))
    return found


def _may(door: Cluster, verb: str, group: str, resource: str) -> bool:
    attributes = {"namespace": "default", "verb": verb, "group": group, "resource": resource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = door.raw("POST", path, body=json.dumps(review).encode(), content_type="application/json")
    # An answer that is none counts as a right: what is not known to be denied is not denied.
    return answer.code >= 300 or bool(json.loads(answer.body).get("status", {}).get("allowed", True))


def _claimed(door: Cluster, entry: ClusterEntry, scenario: str) -> Proof:
    """A given target is empty, and is marked now; or it carries the mark of an earlier drill of this scenario."""
    name = f"target {entry.name} is empty or a drill's"
    try:
        marked = (door.get(CONFIG_MAP, MARK, "default").body.get("data") or {}).get("scenario", "")
    except NotFound:
        marked = ""
    others = sorted({one.name for one in door.list(NAMESPACE)} - OWN_NAMESPACES)
    if others and marked != scenario:
        return Proof(name=name, ok=False, message=f"it has the namespace {others[0]} and no mark of this drill")
    data = {"scenario": scenario}
    metadata = {"name": MARK, "namespace": "default"}
    door.apply(
        Manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}),
        field_manager=MARK,
        force=True,
    )
    return Proof(name=name, ok=True, message="marked" if not marked else "carries the mark")


_URL = re.compile(rb"\b(?:https?|ssh|git|s3|postgres|redis)://([^\s\"'/:@]+@)?(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)")
_INSIDE = (".svc", ".svc.cluster.local", ".invalid", ".example", ".test", ".local")
_EXAMPLES = ("example.com", "example.org", "example.net")


def _addresses(scene: Scene) -> Proof:
    """Every address in the repositories leads to loopback, into the cluster, or nowhere (RFC 2606)."""
    strangers: set[str] = set()
    count = 0
    for repository in scene.repositories.values():
        for path in sorted(repository.work.rglob("*")):
            if not path.is_file() or ".git" in path.relative_to(repository.work).parts:
                continue
            for match in _URL.finditer(path.read_bytes()):
                host, count = match[2].decode().strip("[]").lower(), count + 1
                if not _stays(host):
                    strangers.add(host)
    if not scene.repositories:
        return Proof(name="addresses", ok=None, message="there is no repository to look at")
    if strangers:
        return Proof(name="addresses", ok=False, message=f"{', '.join(sorted(strangers)[:5])} would be reached")
    return Proof(name="addresses", ok=True, message=f"{count} addresses, all of this world")


def _stays(host: str) -> bool:
    if host == "localhost" or host.endswith(_INSIDE) or host.endswith(_EXAMPLES) or "." not in host:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
