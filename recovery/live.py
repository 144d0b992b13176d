"""What lives of what is wanted: one list per kind, shared by all applications of a run while it is fresh.

As the peer's cache, but asked for: no request per object. Never here: judging, writing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from recovery.apply import look
from secretsops.errors import Gone, UnknownKind
from secretsops.manifest import GroupVersionKind, Manifest, ObjectKey
from secretsops.ports import Clock, Cluster

LIST_FROM = 4
"""Objects of one kind from which a list is cheaper than single reads."""
NAMESPACES_EACH = 3
"""Namespaces up to which each is listed by itself; more, and the whole cluster is."""
FRESH = 10.0
"""Seconds for which what was listed counts for an application that starts; its own writes meet what is newer anyway."""


def fetch(cluster: Cluster, wanted: Sequence[Manifest]) -> dict[ObjectKey, Manifest]:
    """Give the live objects among `wanted`: one list per kind where that is cheaper than reading each."""
    places: dict[GroupVersionKind, dict[str, set[ObjectKey]]] = {}
    for manifest in wanted:
        key = manifest.key
        places.setdefault(manifest.kind, {}).setdefault(key.namespace, set()).add(key)
    live: dict[ObjectKey, Manifest] = {}
    for kind, by_namespace in places.items():
        keys = frozenset[ObjectKey]().union(*by_namespace.values())
        try:
            if len(keys) < LIST_FROM:
                found = [look(cluster, kind, key) for key in sorted(keys)]
                live.update({one.key: one for one in found if one is not None})
                continue
            namespaces = sorted(by_namespace) if len(by_namespace) <= NAMESPACES_EACH else [""]
            for namespace in namespaces:
                for one in _listed(cluster, kind, namespace):
                    key = one.key
                    if key in keys:
                        live[key] = one
        except UnknownKind:
            continue
    return live


def _listed(cluster: Cluster, kind: GroupVersionKind, namespace: str) -> Iterator[Manifest]:
    """Give the objects page by page, so that what nobody wants is not held; all at once when the pages expire."""
    page = cluster.page(kind, namespace=namespace)
    while True:
        yield from page.items
        if not page.resume:
            return
        try:
            page = cluster.page(kind, namespace=namespace, resume=page.resume)
        except Gone:
            yield from cluster.list(kind, namespace=namespace)
            return


class Sight:
    """What lives of a whole plan. `expect` names what will be asked for, so that one look serves all."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster, self._clock = cluster, clock
        self._expected: dict[ObjectKey, Manifest] = {}
        self._covered: set[ObjectKey] = set()
        self._live: dict[ObjectKey, Manifest] = {}
        self._at = float("-inf")

    def expect(self, manifests: Iterable[Manifest]) -> None:
        """Name objects that applications of this run will ask for."""
        self._expected.update({manifest.key: manifest for manifest in manifests if manifest.name})

    def of(self, manifests: Sequence[Manifest]) -> dict[ObjectKey, Manifest]:
        """Give what lives of `manifests`, at most `FRESH` seconds old; raises `ApiError`."""
        keys = {manifest.key for manifest in manifests}
        now = self._clock.monotonic()
        if now - self._at > FRESH or not keys <= self._covered:
            self.expect(manifests)
            self._live = fetch(self._cluster, list(self._expected.values()))
            self._covered, self._at = set(self._expected), now
        for key in keys:
            self._expected.pop(key, None)  # a later look need not cover who has had his
        return {key: self._live[key] for key in keys if key in self._live}

    def note(self, live: Manifest) -> None:
        """Take an object of our own making into account, of a kind that several applications may ask for."""
        if live.key in self._covered:
            self._live[live.key] = live
