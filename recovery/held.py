"""What acts on the outside, held back in a rebuild until a person says `go-live`. Pure.

A lost cluster may be alive after all: two of them that write DNS records, push secrets, commit images and run nightly
jobs do harm that no fence in the cluster undoes (SECURITY.md §3). Held is what would be new in the cluster; what lives
there already is spared. Never here: which objects live, letting go (`golive.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from recovery.marks import PREFIX
from recovery.needs import pod_of
from recovery.plain import entries, mapping, text_of
from recovery.remap import Change
from secretsops.manifest import Manifest

HOLD = "secretsops.dev/hold"
"""Annotation: "true" holds an object that the rules do not know, "false" lets one go that they would hold."""
_SUSPENDED: Mapping[tuple[str, str], str] = {
    ("batch", "CronJob"): "its jobs may reach out",
    ("argoproj.io", "CronWorkflow"): "its workflows may reach out",
    ("image.toolkit.fluxcd.io", "ImageUpdateAutomation"): "it commits to Git",
    ("notification.toolkit.fluxcd.io", "Alert"): "it sends messages",
}
"""Kinds with `spec.suspend`."""
_LEFT_OUT: Mapping[tuple[str, str], str] = {
    ("external-secrets.io", "PushSecret"): "it writes into a store",
    ("external-secrets.io", "ClusterPushSecret"): "it writes into a store",
    ("externaldns.k8s.io", "DNSEndpoint"): "it makes DNS records",
}
_STOPPED: Mapping[str, str] = {
    "external-dns": "it writes DNS records",
    "argocd-image-updater": "it commits to Git",
    "argocd-notifications": "it sends messages",
    "argocd-notifications-controller": "it sends messages",
    "image-automation-controller": "it commits to Git",
    "notification-controller": "it sends messages",
}
"""Programs by the last part of an image's name or the first word of a command."""
_SCALED = (("apps", "Deployment"), ("apps", "StatefulSet"))


def held(manifest: Manifest, spared: frozenset[str]) -> tuple[Manifest, list[Change]]:
    """Give an object as it stands until `go-live`, and what that changes; itself where nothing is held.

    Jobs with a schedule are suspended, programs that write outward have no pod, what pushes on its own is not applied.
    `spared` are objects by key that are left as Git has them.
    """
    kind, word = (manifest.kind.group, manifest.kind.kind), manifest.annotations.get(HOLD, "")
    if str(manifest.key) in spared or word == "false":
        return manifest, []
    why = "its annotation says so" if word == "true" else ""
    if kind in _SUSPENDED:
        if manifest.spec.get("suspend") is True:
            return manifest, []
        return _with(manifest, "suspend", value=True, before="false", why=why or _SUSPENDED[kind])
    if kind in _SCALED:
        why = why or next((_STOPPED[name] for name in _programs(manifest) if name in _STOPPED), "")
        replicas = manifest.spec.get("replicas", 1)
        return (
            _with(manifest, "replicas", value=0, before=str(replicas), why=why) if why and replicas else (manifest, [])
        )
    if kind in _LEFT_OUT or word == "true":
        body = copy.deepcopy(manifest.body)
        annotations = {**manifest.annotations, f"{PREFIX}hook": "Skip"}
        body["metadata"] = {**manifest.metadata, "annotations": annotations}
        change = _change(manifest, "", "applied", "left out", why or _LEFT_OUT[kind])
        return Manifest(body), [change]
    return manifest, []


def _with(manifest: Manifest, field: str, *, value: Any, before: str, why: str) -> tuple[Manifest, list[Change]]:
    body = copy.deepcopy(manifest.body)
    body["spec"] = {**mapping(body.get("spec")), field: value}
    return Manifest(body), [_change(manifest, f"spec.{field}", before, str(value).lower(), why)]


def _change(manifest: Manifest, field: str, before: str, after: str, why: str) -> Change:
    reason = f"held until go-live: {why}"
    return Change(object=str(manifest.key), field=field, before=before, after=after, reason=reason, held=True)


def _programs(manifest: Manifest) -> Iterator[str]:
    for container in entries(mapping(pod_of(manifest).get("spec")).get("containers")):
        one = mapping(container)
        image = text_of(one.get("image")).partition("@")[0].rpartition("/")[2].partition(":")[0]
        words = [text_of(word) for word in (*entries(one.get("command")), *entries(one.get("args")))]
        yield from (image, *(word.rpartition("/")[2] for word in words[:2]))
