"""The manifests that install the controller: CRDs, namespace, RBAC, Service, Deployment. Pure but for package data.

`secretsops install` prints them, a rebuild and a drill apply them: there is one way to install. Never here: applying.
"""

from __future__ import annotations

import copy
from importlib import resources
from typing import Any

from secretsops import __version__
from secretsops.manifest import Manifest, load_all

NAMESPACE = "kube-system"
"""Where upstream's clients look for the controller."""
IMAGE = f"secretsops/controller:{__version__}"
PROXIER = "sealed-secrets-service-proxier"
_CLUSTER_SCOPED = ("ClusterRole", "ClusterRoleBinding")
_ALWAYS_THERE = ("kube-system", "default", "kube-public", "kube-node-lease")


def manifests(*, namespace: str = NAMESPACE, image: str = IMAGE, open_api: bool = False) -> list[Manifest]:
    """Give everything to apply, CRDs first, in an order that works for `kubectl apply`.

    `open_api` lets every authenticated user fetch the certificate and verify through the service proxy, as upstream's
    manifests do.
    """
    found = definitions()
    if namespace not in _ALWAYS_THERE:
        found.append(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))
    text = resources.files("controllers").joinpath("deploy/controller.yaml").read_bytes()
    placed = [_placed(manifest, namespace, image) for manifest in load_all(text, source="controller.yaml")]
    if open_api:
        everybody = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}
        for manifest in placed:
            if (manifest.kind.kind, manifest.name) == ("RoleBinding", PROXIER):
                manifest.body["subjects"].append(everybody)
    return found + placed


def definitions() -> list[Manifest]:
    """Give the CRDs alone: SealedSecret, External Secrets, and the Argo kinds a rebuild reads."""
    folder = resources.files("controllers").joinpath("deploy/crds")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    return [manifest for file in files for manifest in load_all(file.read_bytes(), source=file.name)]


def _placed(manifest: Manifest, namespace: str, image: str) -> Manifest:
    body: dict[str, Any] = copy.deepcopy(manifest.body)
    if manifest.kind.kind not in _CLUSTER_SCOPED:
        body["metadata"]["namespace"] = namespace
    for subject in body.get("subjects") or []:
        if subject["kind"] == "ServiceAccount":
            subject["namespace"] = namespace
    if manifest.kind.kind == "Deployment":
        body["spec"]["template"]["spec"]["containers"][0]["image"] = image
    return Manifest(body)
