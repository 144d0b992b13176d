"""`recover rehearse`: rebuild an estate on a disposable cluster with no secret present, and see whether it comes up.

Schemas, admission, order and health are real: it is the same rebuild on a real API server. Where the sandbox has no
controller somebody stands in: sealed and external secrets and certificates become Secrets of the right type and keys
with dummies for values; stores and issuers are ready, load balancers have an address, claims a volume. No key, no store
and no credential is asked, so it is safe for a stranger's pull request. Never here: starting a sandbox.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recovery.bootstrap import rebuild
from recovery.events import Observer
from recovery.needs import makes
from recovery.plain import entries, inside, mapping, text_of
from recovery.proof.graph import build
from recovery.rebuild_report import Report
from recovery.request import RebuildRequest
from recovery.walk import walk
from secretsops.errors import AlreadyExists, ApiError, NotFound, UnknownKind
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ports import Clock, Cluster, GitRepos, Renderer
from secretsops.sealing.keys import KeyPair, generate

log = logging.getLogger(__name__)
DUMMY = b"rehearsal"
LABEL = "secretsops.dev/rehearsal"
EVERY = 0.3
"""Seconds between two looks of the stand-in."""
_SECRET = GroupVersionKind("", "v1", "Secret")
_VOLUME = GroupVersionKind("", "v1", "PersistentVolume")
_CLAIM = GroupVersionKind("", "v1", "PersistentVolumeClaim")
_SERVICE = GroupVersionKind("", "v1", "Service")
_INGRESS = GroupVersionKind("networking.k8s.io", "v1", "Ingress")
_READY = {
    GroupVersionKind("bitnami.com", "v1alpha1", "SealedSecret"): "Synced",
    GroupVersionKind("external-secrets.io", "v1", "SecretStore"): "Ready",
    GroupVersionKind("external-secrets.io", "v1", "ClusterSecretStore"): "Ready",
    GroupVersionKind("external-secrets.io", "v1", "ExternalSecret"): "Ready",
    GroupVersionKind("cert-manager.io", "v1", "Issuer"): "Ready",
    GroupVersionKind("cert-manager.io", "v1", "ClusterIssuer"): "Ready",
    GroupVersionKind("cert-manager.io", "v1", "Certificate"): "Ready",
}
"""Kinds whose controller is not in a sandbox, and the condition that says that they are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """How it went. `dummies` counts the Secrets that were stood in for, `unproven` what a sandbox cannot show."""

    report: Report
    dummies: int
    unproven: Sequence[str]

    def body(self) -> dict[str, Any]:
        """Give it as stable plain data."""
        return {
            "apiVersion": "secretsops.dev/v1",
            "kind": "RehearsalReport",
            "ok": self.report.ok,
            "dummies": self.dummies,
            "unproven": list(self.unproven),
            "rebuild": self.report.body(),
        }

    def text(self) -> str:
        """Give it for a terminal."""
        lines = [
            f"stage {int(entry.stage)} {entry.stage.label:<20} {entry.seconds:7.1f}s  {'ok' if entry.ok else 'FAILED'}"
            + (f"  {entry.message}" if entry.message else "")
            for entry in self.report.stages
        ]
        lines += [f"  {app.app}: {app.message}" for app in self.report.apps if not app.ok]
        lines += [f"not proven: {text}" for text in self.unproven]
        lines.append(
            f"{'it rebuilds' if self.report.ok else 'it does NOT rebuild'}, with {self.dummies} dummy Secret(s), "
            f"in {self.report.seconds:.1f}s"
        )
        return "\n".join(lines) + "\n"


def rehearse(
    request: RebuildRequest, *, cluster: Cluster, git: GitRepos, renderer: Renderer, clock: Clock, observer: Observer
) -> Rehearsal:
    """Rebuild on a disposable cluster.

    Raises:
        SyncRefused: something in Git cannot be carried out. ApiError: the cluster does not answer.
    """
    estate = walk(request.roots, git, renderer, pins=dict(request.pins), remap=request.remap)
    graph = build(estate, installed=request.install)
    unproven = [
        f"webhook {hook.name} fails closed, and no container runs here that could answer for it"
        for hook in graph.webhooks
        if hook.fails_closed and hook.service is not None
    ]
    standing_in = StandIn(cluster, generate(now=clock.now(), bits=2048))
    standing_in.start()
    try:
        report = rebuild(request, cluster=cluster, git=git, renderer=renderer, clock=clock, observer=observer)
    finally:
        standing_in.stop()
    workloads = "that images exist, containers start and probes pass: nodes are simulated"
    return Rehearsal(report=report, dummies=standing_in.dummies, unproven=[*unproven, workloads])


class StandIn(threading.Thread):
    """Does what the controllers of a real cluster would do, as long as it runs."""

    def __init__(self, cluster: Cluster, key: KeyPair) -> None:
        super().__init__(daemon=True, name="stand-in")
        self._cluster, self._key, self._ended = cluster, key, threading.Event()
        self.dummies = 0

    def stop(self) -> None:
        """End it."""
        self._ended.set()
        self.join(10)

    def run(self) -> None:
        """Look again and again; an answer that fails is asked for again."""
        while not self._ended.wait(EVERY):
            for kind in (*_READY, _CLAIM, _SERVICE, _INGRESS):
                try:
                    for live in self._cluster.list(kind):
                        self._serve(kind, live)
                except UnknownKind:
                    continue
                except ApiError as error:
                    log.debug("the stand-in was answered %s", error.reason)

    def _serve(self, kind: GroupVersionKind, live: Manifest) -> None:
        if kind in _READY:
            self._finish(kind, live)
        elif kind == _CLAIM:
            self._give_volume(live)
        elif kind == _INGRESS or live.spec.get("type") == "LoadBalancer":
            address = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
            if not inside(live.status, ("loadBalancer",)).get("ingress"):
                self._cluster.patch(
                    kind, live.name, {"status": address}, namespace=live.namespace, subresource="status"
                )

    def _finish(self, kind: GroupVersionKind, live: Manifest) -> None:
        condition = _READY[kind]
        done = [c for c in map(mapping, entries(live.status.get("conditions"))) if c.get("type") == condition]
        if done and live.status.get("observedGeneration", live.generation) == live.generation:
            return
        for key in makes(live):
            self._give_secret(key, live)
        said = {"type": condition, "status": "True", "reason": "Rehearsal", "message": "stood in for"}
        status = {"observedGeneration": live.generation, "conditions": [said]}
        self._cluster.patch(kind, live.name, {"status": status}, namespace=live.namespace, subresource="status")

    def _give_secret(self, key: ObjectKey, maker: Manifest) -> None:
        if key.kind != "Secret":
            return
        data = {name: base64.b64encode(value).decode() for name, value in dummies_of(maker, self._key).items()}
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": key.name, "namespace": key.namespace, "labels": {LABEL: "true"}},
            "type": type_of(maker),
            "data": data,
        }
        try:
            self._cluster.create(Manifest(body))
        except AlreadyExists:
            return
        self.dummies += 1

    def _give_volume(self, claim: Manifest) -> None:
        """Make a volume bound to this very claim: nothing here provisions any."""
        if claim.status.get("phase") == "Bound" or text_of(claim.spec.get("volumeName")):
            return
        name = f"rehearsal-{claim.uid}"
        try:
            self._cluster.get(_VOLUME, name)
        except NotFound:
            size = inside(claim.spec, ("resources", "requests")).get("storage") or "1Gi"
            spec = {
                "capacity": {"storage": size},
                "accessModes": claim.spec.get("accessModes") or ["ReadWriteOnce"],
                "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.namespace}
                | {"name": claim.name, "uid": claim.uid},
                "hostPath": {"path": "/rehearsal"},
                "storageClassName": text_of(claim.spec.get("storageClassName")),
            }
            body = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
            self._cluster.create(Manifest(body))


def type_of(maker: Manifest) -> str:
    """Give the type of the Secret that a SealedSecret, ExternalSecret or Certificate makes."""
    if maker.kind.kind == "Certificate":
        return "kubernetes.io/tls"
    where = ("template",) if maker.kind.kind == "SealedSecret" else ("target", "template")
    return text_of(inside(maker.spec, where).get("type")) or "Opaque"


def dummies_of(maker: Manifest, key: KeyPair) -> Mapping[str, bytes]:
    """Give dummies for every key that the Secret will have, and for those that its type demands."""
    names = {*_required(type_of(maker)), *_named(maker)}
    return {name: _dummy(name, key) for name in sorted(names)}


def _required(kind: str) -> Sequence[str]:
    """Give the keys that the API server demands of a type (`pkg/apis/core/validation`, v1.36)."""
    return {
        "kubernetes.io/tls": ("tls.crt", "tls.key"),
        "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
        "kubernetes.io/dockercfg": (".dockercfg",),
        "kubernetes.io/ssh-auth": ("ssh-privatekey",),
        "kubernetes.io/basic-auth": ("username", "password"),
    }.get(kind, ())


def _named(maker: Manifest) -> Iterable[str]:
    if maker.kind.kind == "SealedSecret":
        items = mapping(maker.spec.get("encryptedData"))
        return [*map(str, items), *map(str, inside(maker.spec, ("template", "data")))]
    if maker.kind.kind == "ExternalSecret":
        pulled = [text_of(mapping(entry).get("secretKey")) for entry in entries(maker.spec.get("data"))]
        templated = inside(maker.spec, ("target", "template", "data"))
        return list(map(str, templated)) or [name for name in pulled if name]
    return ["ca.crt"]


def _dummy(name: str, key: KeyPair) -> bytes:
    """Give a value of the form that a key's name promises."""
    if name in (".dockerconfigjson", ".dockercfg"):
        return json.dumps({"auths": {}} if name == ".dockerconfigjson" else {}).encode()
    if name.endswith((".crt", ".pem", "ca.crt")):
        return key.certificate.pem
    if name.endswith(".key") or name == "ssh-privatekey":
        return key.private_pem()
    return b"{}" if name.endswith(".json") else DUMMY
