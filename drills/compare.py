"""Is the rebuilt cluster the lost one? Pictures of both that hold no values, and what differs between them. Pure.

Values are compared by an HMAC with a key that lives in this process for this run (SECURITY.md §4): a plain digest of a
password is the password. Never here: requests.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from secretsops.manifest import Manifest, ObjectKey

OMITTED_KINDS: Mapping[str, str] = {
    "Pod": "made by controllers, names are random",
    "ReplicaSet": "made by Deployments, names are hashes of templates",
    "Event": "what happened, not what is",
    "Lease": "who leads now",
    "EndpointSlice": "made from Pods",
    "Endpoints": "made from Pods",
    "IPAddress": "made from a Service's address, which every cluster gives anew",
}
"""Kinds that are no part of what is rebuilt, and why."""
OMITTED_NAMES = frozenset({("ConfigMap", "kube-root-ca.crt")})
HOOK = "argocd.argoproj.io/hook"
SERVICE_ACCOUNT_TOKEN = "kubernetes.io/service-account-token"  # noqa: S105


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One cluster: the objects there are, and a keyed digest of each Secret's values."""

    objects: frozenset[ObjectKey]
    secrets: Mapping[ObjectKey, str] = field(repr=False)


def picture(manifests: Iterable[Manifest], *, key: bytes) -> Picture:
    """Give the picture of a cluster's objects; `key` is the run's."""
    objects: set[ObjectKey] = set()
    secrets: dict[ObjectKey, str] = {}
    for manifest in manifests:
        if is_omitted(manifest):
            continue
        objects.add(manifest.key)
        if manifest.kind.kind == "Secret" and not manifest.kind.group:
            secrets[manifest.key] = _fingerprint(manifest, key)
    return Picture(objects=frozenset(objects), secrets=secrets)


def is_omitted(manifest: Manifest) -> bool:
    """Say whether an object is no part of what is rebuilt."""
    kind = manifest.kind.kind
    return (
        kind in OMITTED_KINDS
        or (kind, manifest.name) in OMITTED_NAMES
        or manifest.body.get("type") == SERVICE_ACCOUNT_TOKEN
        or HOOK in manifest.annotations
    )


def differing_secrets(before: Picture, after: Picture) -> list[str]:
    """Name the Secrets that are missing, or hold other values or another type."""
    found = []
    for key, digest in sorted(before.secrets.items()):
        if key not in after.secrets:
            found.append(f"{key} is missing")
        elif not hmac.compare_digest(digest, after.secrets[key]):
            found.append(f"{key} holds other values")
    return found


def differing_objects(before: Picture, after: Picture) -> list[str]:
    """Name the objects that only one of the clusters has."""
    missing = [f"{key} is missing" for key in sorted(before.objects - after.objects)]
    return missing + [f"{key} was not there before" for key in sorted(after.objects - before.objects)]


def matrix(before: Picture, after: Picture) -> dict[str, Any]:
    """Give what became of each Secret, for the record of a run (section `secrets`): names and verdicts, no values.

    `source` is what made it in the lost cluster, as far as its name tells: a SealedSecret, an ExternalSecret, or the
    controller's own sealing key.
    """
    rows = []
    for key, digest in sorted(before.secrets.items()):
        if key not in after.secrets:
            verdict = "missing"
        else:
            verdict = "recovered" if hmac.compare_digest(digest, after.secrets[key]) else "differs"
        name = f"{key.namespace}/{key.name}"
        rows.append({"name": name, "source": _source(key, before), "verdict": verdict, "note": ""})
    held = sum(1 for row in rows if row["verdict"] == "recovered")
    return {"expected": len(rows), "recovered": held, "failed": len(rows) - held, "perKey": rows}


def inventory(before: Picture, after: Picture) -> dict[str, Any]:
    """Give which objects are there again, for the record of a run (section `inventory`)."""
    return {
        "expectedObjects": len(before.objects),
        "present": len(before.objects & after.objects),
        "missing": [str(key) for key in sorted(before.objects - after.objects)],
        "extra": [str(key) for key in sorted(after.objects - before.objects)],
        "differing": [],
    }


def _source(key: ObjectKey, picture: Picture) -> str:
    if "sealed-secrets-key" in key.name:
        return "sealing key"
    kinds = {each.kind for each in picture.objects if (each.namespace, each.name) == (key.namespace, key.name)}
    return "sealed" if "SealedSecret" in kinds else "external" if "ExternalSecret" in kinds else ""


def _fingerprint(secret: Manifest, key: bytes) -> str:
    values = {"type": secret.body.get("type"), "data": secret.body.get("data") or {}}
    return hmac.new(key, json.dumps(values, sort_keys=True).encode(), hashlib.sha256).hexdigest()
