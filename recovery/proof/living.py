"""What lives in a cluster, read with as few requests as there are kinds, values of Secrets masked as they come.

Never here: judging, writing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from recovery.marks import LAST_APPLIED
from recovery.plain import mapping
from secretsops.errors import Forbidden, NotFound, ServerFailure, UnknownKind
from secretsops.manifest import Manifest
from secretsops.ports import Cluster, Resource

_NEVER_READ = {("", "Event"), ("events.k8s.io", "Event"), ("coordination.k8s.io", "Lease"), ("", "ComponentStatus")}
OBJECT_LIMIT = 200_000


def masking(key: bytes) -> Callable[[Manifest], Manifest]:
    """Give what puts a MAC in place of every value of a Secret: equal values stay equal, and nothing else is told.

    `key` is of this run alone (SECURITY.md §4: a digest of a low-entropy secret is the secret).
    """

    def masked(manifest: Manifest) -> Manifest:
        if (manifest.kind.group, manifest.kind.kind) != ("", "Secret"):
            return manifest
        values = {
            name: base64.b64encode(hmac.new(key, value, hashlib.sha256).digest()).decode()
            for name, value in _values(manifest.body).items()
        }
        body = {name: value for name, value in manifest.body.items() if name not in ("data", "stringData")}
        annotations = {name: text for name, text in manifest.annotations.items() if name != LAST_APPLIED}
        body["metadata"] = {**manifest.metadata, "annotations": annotations}
        return Manifest({**body, "data": values} if values else body)

    return masked


def _values(body: Mapping[str, Any]) -> dict[str, bytes]:
    found = {}
    for name, value in mapping(body.get("data")).items():
        try:
            found[str(name)] = base64.b64decode(str(value), validate=True)
        except (binascii.Error, ValueError):
            found[str(name)] = str(value).encode()
    return found | {str(name): str(value).encode() for name, value in mapping(body.get("stringData")).items()}


def living(cluster: Cluster, masked: Callable[[Manifest], Manifest]) -> tuple[list[Manifest], list[str]]:
    """Give every object of every listable kind, each once, and what could not be read.

    Raises:
        ApiError: the API server does not answer.
    """
    found: dict[str, Manifest] = {}
    unread: list[str] = []
    for resource in _listable(cluster):
        resume = ""
        while True:
            try:
                page = cluster.page(resource.kind, resume=resume)
            except (Forbidden, NotFound, ServerFailure, UnknownKind) as error:
                unread.append(f"{resource.kind}: {error.reason}")
                break
            for manifest in page.items:
                body = {**manifest.body, "apiVersion": resource.kind.api_version, "kind": resource.kind.kind}
                one = masked(Manifest(body))
                found.setdefault(one.uid or str(one.key), one)
            resume = page.resume
            if not resume or len(found) > OBJECT_LIMIT:
                break
    return list(found.values()), unread


def _listable(cluster: Cluster) -> Iterator[Resource]:
    """Give one version of each kind that can be listed: the first that discovery names is the preferred one."""
    seen = set()
    for resource in cluster.resources():
        named = (resource.kind.group, resource.kind.kind)
        if named in seen or named in _NEVER_READ or not {"list", "get"} <= resource.verbs:
            continue
        seen.add(named)
        yield resource
