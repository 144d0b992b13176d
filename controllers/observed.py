"""The newest state of the objects our watches told of, so that a pass asks the API server for nothing it was told.

Never here: queues, what a change means. Of Secrets only names are known, never data.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ports import Cluster

_WRITTEN_LIMIT = 100_000


class Observed:
    """Objects by key, the newest of what a watch told and what our own writes gave back. Safe for several threads."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._objects: dict[ObjectKey, Manifest] = {}
        self._secrets: dict[tuple[str, str], tuple[str, int]] | None = None
        self._made: dict[tuple[str, str], set[str]] = {}
        self._written: dict[tuple[str, str], int] = {}
        self._in_work: set[tuple[str, str]] = set()

    def note(self, manifest: Manifest) -> Manifest:
        """Take note of an object, unless a newer state of it is known; gives the newest."""
        with self._lock:
            known = self._objects.get(manifest.key)
            if known is not None and known.uid == manifest.uid and version_of(known) > version_of(manifest):
                return known
            self._objects[manifest.key] = manifest
            return manifest

    def wrote(self, manifest: Manifest) -> Manifest:
        """Take note of what a write of ours gave back, where a watch tells of the object; gives it."""
        with self._lock:
            known = self._objects.get(manifest.key)
        return self.note(manifest) if known is not None else manifest

    def gone(self, key: ObjectKey) -> None:
        """Forget an object."""
        with self._lock:
            self._objects.pop(key, None)

    def get(self, kind: GroupVersionKind, name: str, namespace: str = "") -> Manifest:
        """Give an object from what is known, else from the API server; raises `NotFound`."""
        with self._lock:
            known = self._objects.get(ObjectKey(kind.group, kind.kind, namespace, name))
        return known if known is not None else self._cluster.get(kind, name, namespace)

    def secret(self, namespace: str, name: str, *, exists: bool, maker: str = "", version: int = 0) -> None:
        """Take note that a Secret exists, or does no more, and whose mark it has. From the first on all are watched."""
        place = (namespace, name)
        with self._lock:
            self._secrets = self._secrets if self._secrets is not None else {}
            before, _ = self._secrets.pop(place, ("", 0))
            if before:
                self._made[namespace, before].discard(name)
                if not self._made[namespace, before]:
                    del self._made[namespace, before]
            if not exists:
                self._written.pop(place, None)
                return
            self._secrets[place] = (maker, version)
            if maker:
                self._made.setdefault((namespace, maker), set()).add(name)

    @property
    def watches(self) -> bool:
        """Say whether every Secret is told by `secret`."""
        return self._secrets is not None

    def watches_secrets(self) -> None:
        """Say that every Secret is told by `secret`."""
        with self._lock:
            self._secrets = self._secrets if self._secrets is not None else {}

    def made_by(self, namespace: str, maker: str) -> list[str] | None:
        """Give the Secrets that carry a mark, None where nobody watches them."""
        with self._lock:
            return None if self._secrets is None else sorted(self._made.get((namespace, maker), set()))

    def wrote_secret(self, manifest: Manifest) -> None:
        """Take note of the Secret a write of ours gave back."""
        with self._lock:
            self._written[manifest.namespace, manifest.name] = version_of(manifest)
            while len(self._written) > _WRITTEN_LIMIT:
                del self._written[next(iter(self._written))]

    @contextmanager
    def writing(self, namespace: str, name: str) -> Iterator[None]:
        """Say that a Secret is being written: a watch often tells of it before the answer is here."""
        with self._lock:
            self._in_work.add((namespace, name))
        try:
            yield
        finally:
            with self._lock:
                self._in_work.discard((namespace, name))

    def is_ours(self, namespace: str, name: str) -> bool:
        """Say whether what a watch tells of a Secret is, or will turn out by whoever writes it, our own write."""
        with self._lock:
            in_work = (namespace, name) in self._in_work
        return in_work or self.is_as_written(namespace, name)

    def is_as_written(self, namespace: str, name: str) -> bool:
        """Say whether a Secret that is watched is as our last write left it, as far as the watch has come.

        What we wrote may be newer than what the watch told; what the watch told and is newer is somebody else's.
        """
        with self._lock:
            written = self._written.get((namespace, name), 0)
            if not written or self._secrets is None:
                return False
            _, seen = self._secrets.get((namespace, name), ("", 0))
            return seen <= written

    def secret_version(self, namespace: str, name: str) -> int:
        """Give the newest version of a Secret that is known, of a watch or of our own write; 0 for none."""
        with self._lock:
            _, seen = (self._secrets or {}).get((namespace, name), ("", 0))
            return max(seen, self._written.get((namespace, name), 0))

    def may_exist(self, namespace: str, name: str) -> bool:
        """Say whether a Secret has to be read: False where the watch knows none of that name.

        One that is younger may be there all the same: a create then says so.
        """
        with self._lock:
            return self._secrets is None or (namespace, name) in self._secrets


def version_of(manifest: Manifest) -> int:
    """Give a resourceVersion as the number it is since Kubernetes 1.35 says so, 0 for one that is none."""
    text = manifest.resource_version
    return int(text) if text.isdigit() else 0
