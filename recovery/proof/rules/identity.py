"""Rules about identities that end with a cluster: trust policies, stores' credentials, keys, owners, members. Pure.

Sources: recovery realities (OIDC and IRSA, Vault Kubernetes auth, KMS, generators, a store's own credential,
finalizers and owners, StatefulSet identity); Argo CD reference §8.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from recovery.plain import entries, inside, mapping, text_of
from recovery.proof.finding import Found
from recovery.proof.graph import BEFORE_ALL, Node
from recovery.proof.rules.marks import FINALIZERS
from recovery.proof.subject import Subject, containers
from secretsops.manifest import ObjectKey

REGENERABLE = "secretsops.dev/regenerable"
"""Annotation, "true": a new value is as good as the old one."""
KMS_DAYS = 180
"""How long a decrypted canary proves a key of a KMS; as long as a custodian's answer does."""
_ISSUER = re.compile(
    r"oidc\.eks\.[a-z0-9-]+\.amazonaws\.com/id/[0-9A-F]{8,64}|[a-z0-9.-]{1,80}\.oic\.[a-z-]{1,20}\.azure\.com/[0-9a-f/-]{8,120}"
    r"|container\.googleapis\.com/v1/projects/[\w/.-]{1,200}"
)
_FEDERATED = (
    "eks.amazonaws.com/role-arn",
    "azure.workload.identity/client-id",
    "iam.gke.io/gcp-service-account",
)
_BUILT_IN_FINALIZERS = (
    "kubernetes",
    "kubernetes.io/pvc-protection",
    "kubernetes.io/pv-protection",
    "foregroundDeletion",
    "orphan",
    *FINALIZERS,
    "argocd.argoproj.io/hook-finalizer",
)
_NEVER_RESTORED = (
    ("coordination.k8s.io", "Lease"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("", "Event"),
    ("", "Node"),
    ("certificates.k8s.io", "CertificateSigningRequest"),
)
_TEXT_LIMIT = 200_000


def trust_names_lost_issuer(subject: Subject) -> Iterator[Found]:
    """A trust policy in Git names the token issuer of the lost cluster; the new one is another."""
    for node in subject.nodes:
        kind = node.key.kind
        if kind in ("Secret", "SealedSecret") or not any(
            word in kind for word in ("Role", "Polic", "OpenID", "Provider")
        ):
            continue
        text = json.dumps(node.manifest.body, default=str)[:_TEXT_LIMIT].replace('\\"', '"')
        for issuer in sorted(set(_ISSUER.findall(text))):
            if not subject.target.issuer or issuer not in subject.target.issuer:
                yield Found((str(node.key),), f"{node.key} trusts {issuer}")


def federated_identity(subject: Subject) -> Iterator[Found]:
    """A ServiceAccount takes a cloud role by a token of this cluster: the role has to trust the new issuer."""
    if subject.target.issuer:
        return  # then trust_names_lost_issuer compares what is in Git
    for node in subject.of("", "ServiceAccount"):
        roles = [node.manifest.annotations[name] for name in _FEDERATED if name in node.manifest.annotations]
        if roles and node.step != BEFORE_ALL:
            yield Found((str(node.key),), f"{node.key} takes the role {roles[0]}")


def vault_trusts_lost_cluster(subject: Subject) -> Iterator[Found]:
    """Vault checks tokens of this cluster at the API server, CA and issuer of the lost one."""
    for node in subject.of("external-secrets.io", "SecretStore", "ClusterSecretStore"):
        auth = inside(node.manifest.spec, ("provider", "vault", "auth"))
        way = next((way for way in ("kubernetes", "jwt") if way in auth), "")
        if way == "jwt" and not inside(auth, ("jwt", "kubernetesServiceAccountToken")):
            way = ""
        if way:
            mount = text_of(inside(auth, (way,)).get("mountPath") or inside(auth, (way,)).get("path")) or way
            yield Found((str(node.key),), f"{node.key} signs in to Vault's {mount!r}, which trusts the lost cluster")


def kms_unproven(subject: Subject) -> Iterator[Found]:
    """A key of a KMS that the rebuild relies on was not seen to decrypt for half a year."""
    for name, days in sorted(subject.target.kms_proven.items()):
        if days > KMS_DAYS:
            said = "never" if days == float("inf") else f"{days:.0f} days ago"
            yield Found((name,), f"KMS key {name} decrypted its canary {said}")


def store_reads_itself(subject: Subject) -> Iterator[Found]:
    """A store's own credential comes from that very store: nobody can sign in first."""
    for keys in subject.graph.cycles():
        stores = [key for key in keys if key.kind in ("SecretStore", "ClusterSecretStore")]
        if stores:
            yield Found(tuple(map(str, keys)), f"{stores[0]} signs in with a Secret that only it can give")


def generator_mints_new(subject: Subject) -> Iterator[Found]:
    """A generator makes a new value, which whatever was restored refuses."""
    for node in subject.of("external-secrets.io", "ExternalSecret", "ClusterExternalSecret"):
        spec = mapping(node.manifest.spec.get("externalSecretSpec")) or node.manifest.spec
        for entry in entries(spec.get("dataFrom")):
            generator = inside(mapping(entry), ("sourceRef", "generatorRef"))
            if generator and not is_regenerable(subject, node, generator) and not _is_sealed_too(subject, node):
                names = (str(node.key), f"{generator.get('kind')} {generator.get('name')}")
                yield Found(names, f"{node.key} takes a new value from {names[1]}")


def is_regenerable(subject: Subject, node: Node, generator: Mapping[str, Any]) -> bool:
    """Say whether the consumer or the generator says that a new value is as good."""
    key = ObjectKey(
        "generators.external-secrets.io",
        text_of(generator.get("kind")),
        "" if text_of(generator.get("kind")) == "ClusterGenerator" else node.key.namespace,
        text_of(generator.get("name")),
    )
    found = subject.graph.nodes.get(key)
    marked = [node.manifest, *([found.manifest] if found else [])]
    return any(manifest.annotations.get(REGENERABLE) == "true" for manifest in marked)


def _is_sealed_too(subject: Subject, node: Node) -> bool:
    target = text_of(inside(node.manifest.spec, ("target",)).get("name")) or node.key.name
    makers = subject.graph.made.get(ObjectKey("", "Secret", node.key.namespace, target), ())
    return any(key.kind == "SealedSecret" for key in makers)


def old_owner(subject: Subject) -> Iterator[Found]:
    """An object names an owner by a UID of the old cluster: the garbage collector deletes it."""
    for node in subject.nodes:
        owners = [mapping(owner) for owner in entries(node.manifest.metadata.get("ownerReferences"))]
        if any(text_of(owner.get("uid")) for owner in owners):
            names = ", ".join(f"{owner.get('kind')} {owner.get('name')}" for owner in owners)
            yield Found((str(node.key),), f"{node.key} is owned by {names} of the old cluster")


def stray_finalizer(subject: Subject) -> Iterator[Found]:
    """An object carries a finalizer from Git: without its controller nobody can delete it."""
    for node in subject.nodes:
        if node.task and node.task.hook:
            continue
        for name in entries(node.manifest.metadata.get("finalizers")):
            if name not in _BUILT_IN_FINALIZERS:
                yield Found((str(node.key),), f"{node.key} carries the finalizer {name}")


def runtime_object(subject: Subject) -> Iterator[Found]:
    """Something is in Git that only a running cluster makes: leases, endpoints, nodes."""
    services = {(node.key.namespace, node.key.name): node for node in subject.of("", "Service")}
    for node in subject.nodes:
        kind = (node.key.group, node.key.kind)
        service = services.get((node.key.namespace, node.key.name))
        copied = kind == ("", "Endpoints") and service is not None and mapping(service.manifest.spec.get("selector"))
        if kind in _NEVER_RESTORED or copied:
            yield Found((str(node.key),), f"{node.key} belongs to the old cluster")
    for planned in subject.estate.applications:
        for key in planned.excluded:
            yield Found((str(key),), f"{key} stands in Git and is never applied")


def peer_identity(subject: Subject) -> Iterator[Found]:
    """A member starts into a cluster that exists no more: its peers' ids do not match."""
    for node, spec in subject.workloads:
        for container in containers(spec):
            said = {text_of(mapping(e).get("name")): mapping(e).get("value") for e in entries(container.get("env"))}
            words = [text_of(word) for word in (*entries(container.get("command")), *entries(container.get("args")))]
            if any(name.endswith("INITIAL_CLUSTER_STATE") and value == "existing" for name, value in said.items()) or (
                "--initial-cluster-state=existing" in words
            ):
                yield Found((str(node.key),), f"{node.key} joins members that died with the cluster")
