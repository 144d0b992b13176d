"""Uninstalling on a real cluster with its garbage collector: nothing anybody made goes with us."""

from __future__ import annotations

import secrets
import time

import pytest
from click.testing import CliRunner

from controllers.cli import uninstall
from controllers.install import manifests
from controllers.uninstall import CRD, CRD_NAME, release
from drills.sandbox.world import Sandbox
from secretsops.cli import RealDoors
from secretsops.errors import ApiError, NotFound
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import ClusterTarget
from secretsops.sealing.sealed import SEALED_SECRET, SECRET, owner_reference
from tests.controllers.wiretap import until

pytestmark = pytest.mark.e2e
NAMESPACE = GroupVersionKind("", "v1", "Namespace")


def test_secrets_and_keys_outlive_the_kind(sandbox: Sandbox, control_plane_binaries: None) -> None:
    """Their SealedSecrets go with the kind; the garbage collector, which takes what is owned, takes none of them."""
    plane = sandbox.cluster(f"leave-{secrets.token_hex(2)}", nodes=False)
    cluster = RealDoors().cluster(ClusterTarget(kubeconfig=str(plane.kubeconfig)))
    for manifest in manifests():
        cluster.apply(manifest, field_manager="test", force=True)

    def served() -> bool:
        try:
            cluster.list(SEALED_SECRET)
        except ApiError:
            return False
        return True

    until(served, "the kind")
    spec = {"encryptedData": {"a": "AgA="}}
    for name in ("kept", "control"):
        metadata = {"name": name, "namespace": "default"}
        sealed = cluster.create(
            Manifest(
                {"apiVersion": SEALED_SECRET.api_version, "kind": "SealedSecret", "metadata": metadata, "spec": spec}
            )
        )
        owned = {**metadata, "ownerReferences": [owner_reference(sealed)]}
        cluster.create(Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": owned, "stringData": {"a": "b"}}))
    key = {"name": "sealed-secrets-keyabcde", "namespace": "kube-system", "labels": {"x": "y"}}
    cluster.create(Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": key}))
    # The control: the garbage collector is awake and does take what is owned.
    cluster.delete(SEALED_SECRET, "control", namespace="default")
    until(lambda: not _is_there(cluster, "control"), "the garbage collector", 90)

    given = ["--kubeconfig", str(plane.kubeconfig), "--yes"]
    done = CliRunner().invoke(uninstall, [*given, "--with-kind"], obj=RealDoors())
    assert done.exit_code == 0, done.output
    assert "let go of 1 Secrets" in done.output
    until(lambda: not any(each.name == CRD_NAME for each in cluster.list(CRD)), "the end of the kind")
    time.sleep(5)
    assert cluster.get(SECRET, "kept", "default").body["data"] == {"a": "Yg=="}
    assert cluster.get(SECRET, "sealed-secrets-keyabcde", "kube-system").name == key["name"]
    left = [each for each in manifests() if each.kind.kind not in ("CustomResourceDefinition", "Namespace")]
    assert [each.name for each in left if _exists(cluster, each)] == []
    assert release(cluster) == 0
    again = CliRunner().invoke(uninstall, given, obj=RealDoors())
    assert (again.exit_code, again.output) == (0, ""), "a second time there is nothing to do"


def _is_there(cluster: object, name: str) -> bool:
    return _exists(
        cluster, Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"}})
    )


def _exists(cluster: object, manifest: Manifest) -> bool:
    try:
        cluster.get(manifest.kind, manifest.name, manifest.namespace)  # type: ignore[attr-defined]
    except NotFound:
        return False
    return True
