"""Rules about data that Git does not hold: databases and volumes that a rebuild would start empty. Pure.

Sources: recovery realities (data: Velero, CNPG, snapshots); CloudNativePG 1.27 `Cluster.spec.bootstrap`; the finding
that manifests for a first install and for a recovery differ (CloudNativePG issue 5778).
"""

from __future__ import annotations

from collections.abc import Iterator

from recovery.needs import pod_of
from recovery.plain import entries, inside, mapping, text_of
from recovery.proof.finding import Found
from recovery.proof.graph import BEFORE_ALL
from recovery.proof.subject import Subject
from secretsops.manifest import Manifest

DATA = "secretsops.dev/data"
"""Annotation of what holds data: `disposable`, or by what it is restored (`velero:NAME`, `cnpg`, `snapshot:NAME`)."""


def empty_database(subject: Subject) -> Iterator[Found]:
    """A database is initialised empty where its data should be restored."""
    for node in subject.of("postgresql.cnpg.io", "Cluster"):
        bootstrap = mapping(node.manifest.spec.get("bootstrap"))
        if "recovery" not in bootstrap and "pg_basebackup" not in bootstrap and not _says(node.manifest):
            yield Found((str(node.key),), f"{node.key} begins with initdb: an empty database")
    for group, kind, field in (
        ("mysql.oracle.com", "InnoDBCluster", "initDB"),
        ("acid.zalan.do", "postgresql", "clone"),
        ("k8ssandra.io", "K8ssandraCluster", "medusa"),
    ):
        for node in subject.of(group, kind):
            if not node.manifest.spec.get(field) and not _says(node.manifest):
                yield Found((str(node.key),), f"{node.key} has no {field}: an empty database")


def empty_volume(subject: Subject) -> Iterator[Found]:
    """A volume starts empty, and nothing says that this is right or by what it is restored."""
    for node in subject.of("", "PersistentVolumeClaim"):
        if node.step != BEFORE_ALL and _is_empty(node.manifest.spec) and not _says(node.manifest):
            yield Found((str(node.key),), f"{node.key} starts empty")
    for node in subject.of("apps", "StatefulSet"):
        claims = [mapping(claim) for claim in entries(node.manifest.spec.get("volumeClaimTemplates"))]
        bare = [
            text_of(inside(claim, ("metadata",)).get("name"))
            for claim in claims
            if _is_empty(mapping(claim.get("spec"))) and not _says(Manifest(dict(claim)))
        ]
        if bare and node.step != BEFORE_ALL and not _says(node.manifest):
            yield Found((str(node.key),), f"{node.key}: volume(s) {', '.join(bare)} start empty")


def _is_empty(spec: object) -> bool:
    fields = mapping(spec)
    return not any(fields.get(name) for name in ("dataSource", "dataSourceRef", "volumeName"))


def _says(manifest: Manifest) -> bool:
    inner = Manifest(dict(pod_of(manifest))) if pod_of(manifest) else manifest
    return bool(text_of(manifest.annotations.get(DATA)) or text_of(inner.annotations.get(DATA)))
