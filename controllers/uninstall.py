"""Taking the controller away again, so that nothing anybody made with it goes as well.

Deleting the kind SealedSecret deletes every SealedSecret, and the garbage collector then every Secret that one of them
owns: the whole cluster's passwords in a minute (bitnami/sealed-secrets #83, #914). So Secrets are let go of first, with
nobody left who would take them back. Key Secrets are never deleted. Never here: asking people.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from controllers.install import NAMESPACE, manifests
from controllers.leader import DURATION, LEASE, LEASE_NAME
from controllers.sealing_keys import CERTIFICATE_CONFIG_MAP
from controllers.shadow import Shadow
from secretsops.errors import Conflict, NotFound, Refused, Timeout
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ownership import controller_of
from secretsops.ports import Clock, Cluster, PatchType
from secretsops.sealing.sealed import SEALED_SECRET, SECRET

CRD = GroupVersionKind("apiextensions.k8s.io", "v1", "CustomResourceDefinition")
CRD_NAME = "sealedsecrets.bitnami.com"
CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
PATIENCE = 60.0
"""Seconds to wait until the last controller let its Lease go."""
ROUNDS = 5


def uninstall(cluster: Cluster, clock: Clock, *, namespace: str = NAMESPACE, with_kind: bool) -> Iterator[str]:
    """Take everything away that `secretsops install` made but CRDs; gives each thing done, in words.

    With `with_kind` the kind SealedSecret goes too, after every Secret of a SealedSecret was let go of.

    Raises:
        Refused: the peer's controller is at work and needs the kind.
        Timeout: a controller of ours still holds its Lease.
    """
    if with_kind and (why := Shadow(cluster, clock, namespace=namespace).why()):
        raise Refused(
            f"the peer's controller is at work ({why}) and lives by the kind SealedSecret",
            reason="PeerAtWork",
            hint="uninstall without --with-kind",
        )
    ours = [each for each in manifests(namespace=namespace) if each.kind.kind not in (CRD.kind, "Namespace")]
    for manifest in [each for each in ours if each.kind.kind == "Deployment"]:
        yield from _deleted(cluster, manifest)
    _await_end(cluster, clock, namespace)
    if with_kind:
        yield f"let go of {release(cluster)} Secrets"
        yield from _deleted(cluster, Manifest(_named(CRD, CRD_NAME, "")))
    for manifest in reversed([each for each in ours if each.kind.kind != "Deployment"]):
        yield from _deleted(cluster, manifest)
    yield from _deleted(cluster, Manifest(_named(LEASE, LEASE_NAME, namespace)))
    yield from _deleted(cluster, Manifest(_named(CONFIG_MAP, CERTIFICATE_CONFIG_MAP, namespace)))


def release(cluster: Cluster) -> int:
    """Take the owner reference of its SealedSecret from every Secret; gives how many were let go of.

    Raises:
        Refused: some are owned again and again: a controller is still at work.
    """
    count = 0
    for _ in range(ROUNDS):
        owned = [each for each in cluster.list(SECRET) if _is_owned(each)]
        if not owned:
            return count
        for secret in owned:
            kept = [each for each in secret.metadata["ownerReferences"] if each != controller_of(secret)]
            metadata = {"resourceVersion": secret.resource_version, "ownerReferences": kept or None}
            try:
                cluster.patch(
                    SECRET,
                    secret.name,
                    {"metadata": metadata},
                    namespace=secret.namespace,
                    patch_type=PatchType.MERGE,
                )
            except (Conflict, NotFound):
                continue  # the next round sees what became of it
            count += 1
    raise Refused(
        "Secrets are taken back while we let go of them",
        reason="StillAtWork",
        hint="stop every controller of SealedSecrets first",
    )


def _is_owned(secret: Manifest) -> bool:
    owner = controller_of(secret) or {}
    return owner.get("kind") == SEALED_SECRET.kind and str(owner.get("apiVersion")).startswith(SEALED_SECRET.group)


def _await_end(cluster: Cluster, clock: Clock, namespace: str) -> None:
    deadline = clock.monotonic() + PATIENCE
    while _is_held(cluster, clock, namespace):
        if clock.monotonic() >= deadline:
            raise Timeout(
                f"Lease {namespace}/{LEASE_NAME} is still being renewed",
                reason="StillAtWork",
                hint="a controller runs outside the Deployment: stop it",
            )
        clock.sleep(1.0)


def _is_held(cluster: Cluster, clock: Clock, namespace: str) -> bool:
    try:
        spec = cluster.get(LEASE, LEASE_NAME, namespace).spec
        renewed = dt.datetime.fromisoformat(str(spec.get("renewTime")))
    except (NotFound, ValueError):
        return False
    return bool(spec.get("holderIdentity")) and (clock.now() - renewed).total_seconds() < DURATION


def _deleted(cluster: Cluster, manifest: Manifest) -> Iterator[str]:
    try:
        cluster.delete(manifest.kind, manifest.name, namespace=manifest.namespace)
    except NotFound:
        return
    place = f"{manifest.namespace}/" if manifest.namespace else ""
    yield f"deleted {manifest.kind.kind} {place}{manifest.name}"


def _named(kind: GroupVersionKind, name: str, namespace: str) -> dict[str, object]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
