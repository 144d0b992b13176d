"""Another cluster as an escrow sink: immutable Secrets, created and never updated.

    kube:///NAMESPACE/PREFIX?context=…&kubeconfig=…   credential: kubeconfig (its text)

The writer's role has `create`, `get` and `list` on secrets of that namespace, the reader's `get` and `list`.

Never here: what the files mean, our own cluster.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from urllib.parse import parse_qs, urlsplit

from secretsops.adapters.kube import connect
from secretsops.adapters.sinks import CANARY, check_name, is_name
from secretsops.errors import AlreadyExists, ApiError, BrokenEscrow, NotFound, UsageError
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Cluster, ClusterTarget, SinkAccess, Stored, Trial
from secretsops.secret import Plaintext

SECRET = GroupVersionKind("", "v1", "Secret")
LABEL = "secretsops.dev/escrow"
TYPE = "secretsops.dev/escrow"
SIZE_LIMIT = 700_000
"""Bytes of one file: base64 makes a third more of it, and a Secret holds 1 MiB. 100 keys take 600 kB."""


class KubeSink:
    """Secrets of one namespace. Satisfies `secretsops.ports.Sink`."""

    _descriptor = -1

    def __init__(self, access: SinkAccess, cluster: Cluster | None = None) -> None:
        """Prepare a connection without a request; raises `UsageError` for a URL without namespace and prefix."""
        parts = urlsplit(access.url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self._namespace, _, self._prefix = parts.path.strip("/").partition("/")
        wrong = set(query) - {"context", "kubeconfig"} or set(access.credentials) - {"kubeconfig"}
        if not self._namespace or not self._prefix or "/" in self._prefix or parts.netloc or wrong:
            raise UsageError(
                "a cluster sink is kube:///NAMESPACE/PREFIX?context=…&kubeconfig=…, its credential kubeconfig",
                reason="BadSink",
            )
        path = query.get("kubeconfig", "")
        if "kubeconfig" in access.credentials:
            path = self._in_memory(access.credentials["kubeconfig"])
        self._cluster = cluster or connect(ClusterTarget(kubeconfig=path, context=query.get("context", "")))

    def __del__(self) -> None:
        """Let the kubeconfig's memory go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)

    @property
    def name(self) -> str:
        """Give server, namespace and prefix."""
        return f"kube:{self._cluster.server}/{self._namespace}/{self._prefix}"

    def put(self, name: str, content: bytes) -> Stored:
        """Create an immutable Secret."""
        check_name(name)
        if len(content) > SIZE_LIMIT:
            raise BrokenEscrow(
                f"{name} has {len(content)} bytes, a Secret holds {SIZE_LIMIT}",
                reason="TooLarge",
                hint="retire keys that nothing needs any more, or take another kind of sink",
            )
        metadata = {"name": self._named(name), "namespace": self._namespace, "labels": {LABEL: self._prefix}}
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "type": TYPE,
            "immutable": True,
            "data": {"name": base64.b64encode(name.encode()).decode(), "content": base64.b64encode(content).decode()},
        }
        try:
            return _stored(self._cluster.create(Manifest(body)))
        except AlreadyExists:
            if self.get(name) != content:
                raise BrokenEscrow(
                    f"{name} is in {self.name} already, with another content",
                    reason="Exists",
                    hint="does another cluster write to this prefix? give each its own",
                ) from None
            return self.describe(name)

    def get(self, name: str) -> bytes:
        """Read a Secret."""
        try:
            return base64.b64decode(str((self._read(name).body.get("data") or {})["content"]), validate=True)
        except (KeyError, binascii.Error, ValueError):
            raise BrokenEscrow(f"{name} in {self.name} is no file of an escrow", reason="Damaged") from None

    def names(self, prefix: str = "") -> Sequence[str]:
        """List names."""
        found = self._cluster.list(SECRET, namespace=self._namespace, label_selector=f"{LABEL}={self._prefix}")
        start = f"{self._prefix}."
        names = (secret.name.removeprefix(start) for secret in found if secret.name.startswith(start))
        return sorted(name for name in names if name.startswith(prefix) and is_name(name))

    def describe(self, name: str) -> Stored:
        """Give UID and resource version: neither can be had twice."""
        return _stored(self._read(name))

    def trial(self, canary: str) -> Trial:
        """Overwrite and delete a canary: RBAC must refuse both to this credential."""
        self.put(canary, CANARY)
        held = self._read(canary)
        changed = {**held.body, "data": {"content": base64.b64encode(CANARY + b"overwritten").decode()}}
        lost = []
        try:
            self._cluster.replace(Manifest(changed))
            lost.append("overwritten")
        except ApiError as error:
            _refuse_silence(error)
        try:
            self._cluster.delete(SECRET, held.name, namespace=self._namespace)
            lost.append("deleted")
        except ApiError as error:
            _refuse_silence(error)
        return Trial(problem=f"this credential can have Secrets {' and '.join(lost)}" if lost else "")

    def _read(self, name: str) -> Manifest:
        check_name(name)
        try:
            return self._cluster.get(SECRET, self._named(name), self._namespace)
        except NotFound:
            raise BrokenEscrow(f"{name} is not in {self.name}", reason="Missing") from None

    def _named(self, name: str) -> str:
        return f"{self._prefix}.{name}"

    def _in_memory(self, kubeconfig: Plaintext) -> str:
        """Give a path to a kubeconfig that lies on no disk."""
        if not hasattr(os, "memfd_create"):
            raise UsageError(
                "a kubeconfig inside credentials needs Linux", reason="BadSink", hint="name its file: ?kubeconfig=PATH"
            )
        self._descriptor = os.memfd_create("kubeconfig", os.MFD_CLOEXEC)
        os.write(self._descriptor, kubeconfig.reveal())
        return f"/proc/self/fd/{self._descriptor}"


def _refuse_silence(error: ApiError) -> None:
    """Pass on what is no answer: an outage proves nothing."""
    if not 400 <= error.code < 500 or error.code == 429:
        raise error


def _stored(secret: Manifest) -> Stored:
    return Stored(version=f"{secret.uid}/{secret.resource_version}")
