"""Which objects a change concerns: an index of targets, sources, stores and credentials, fed by what watches see.

A Secret that is edited, deleted or stripped of its label wakes the ExternalSecret that made it; a store that becomes
ready, or is changed while it is, wakes those that failed on it, so that nobody waits out a back-off for a cause that is
gone; a ConfigMap or Secret wakes whoever makes a template of it or pushes it, and the stores whose credential it holds.
Changes of status alone wake nobody.

What never lives here: requests, queues, values.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

from secretsops.external.model import (
    CLUSTER_SECRET_STORE,
    EXTERNAL_SECRET,
    FINALIZER,
    remote_keys,
    sources_of,
    store_refs,
    target_name,
    template_sources,
)
from secretsops.external.push import PUSH_SECRET
from secretsops.external.status import is_ready
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ports import EventType

_FORCED_BY_ANNOTATION = (EXTERNAL_SECRET.kind, PUSH_SECRET.kind)
"""Kinds of which any edit of an annotation asks for a sync."""


class ExternalIndex:
    """Remembers per object what it reads and writes and whether it is ready. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[ObjectKey, set[Hashable]] = {}
        self._waiting: dict[Hashable, set[ObjectKey]] = defaultdict(set)
        self._signs: dict[ObjectKey, Hashable] = {}
        self._failed: set[ObjectKey] = set()
        self._since: dict[ObjectKey, dt.datetime] = {}
        self._forced: set[ObjectKey] = set()

    def external(self, manifest: Manifest, now: dt.datetime) -> list[ObjectKey]:
        """Take note of an ExternalSecret; gives its key when it is new or more than its status changed."""
        key = manifest.key
        places: set[Hashable] = {("Secret", manifest.namespace, target_name(manifest))}
        for ref in store_refs(manifest):
            home = "" if ref.kind == CLUSTER_SECRET_STORE.kind else manifest.namespace
            places.add((ref.kind, home, ref.name))
        places |= {("source", kind, manifest.namespace, name) for kind, name in template_sources(manifest)}
        places |= {("remote", remote) for remote in remote_keys(manifest)}
        with self._lock:
            self._replace(key, places)
            self._failed.discard(key)
            if not is_ready(manifest.status):
                self._failed.add(key)
            # That our finalizer turned up is our own doing; that it went is not.
            if not self._is_news(key, _sign(manifest), _sign(manifest, without=FINALIZER)):
                return []
            # The newest change counts: a value read before it must not serve it.
            self._since[key] = now
            return [key]

    def since(self, key: ObjectKey) -> tuple[dt.datetime | None, bool]:
        """Give, once, when somebody told of an ExternalSecret (None: another cause), and whether it has to be asked."""
        with self._lock:
            forced = key in self._forced
            self._forced.discard(key)
            return self._since.pop(key, None), forced

    def on_store(self, store: ObjectKey, now: dt.datetime) -> list[ObjectKey]:
        """Give the ExternalSecrets of a store, and have each ask it at its next pass, whatever is due."""
        with self._lock:
            concerned = sorted(self._waiting.get((store.kind, store.namespace, store.name), set()))
            self._force(concerned, now)
            return concerned

    def readers(self, remote: str) -> list[ObjectKey]:
        """Give the ExternalSecrets that read a key at its provider; those that search may."""
        with self._lock:
            exact = self._waiting.get(("remote", remote.strip("/")), set())
            return sorted(exact | self._waiting.get(("remote", "*"), set()))

    def force(self, keys: Sequence[ObjectKey], now: dt.datetime) -> list[ObjectKey]:
        """Have ExternalSecrets ask their stores at their next pass, whatever is due; gives those that are known."""
        with self._lock:
            known = [key for key in keys if key in self._places]
            self._force(known, now)
            return known

    def _force(self, keys: Iterable[ObjectKey], now: dt.datetime) -> None:
        for key in keys:
            self._forced.add(key)
            self._since[key] = now

    def externals(self) -> list[ObjectKey]:
        """Give every ExternalSecret that is known."""
        with self._lock:
            return [key for key in self._places if key.kind == EXTERNAL_SECRET.kind]

    def external_gone(self, key: ObjectKey) -> None:
        """Forget an ExternalSecret."""
        with self._lock:
            self._replace(key, set())
            self._failed.discard(key)
            self._signs.pop(key, None)
            self._since.pop(key, None)
            self._forced.discard(key)

    def push(self, manifest: Manifest, now: dt.datetime) -> list[ObjectKey]:
        """Take note of a PushSecret; gives its key when it is new or more than its status changed."""
        key, selector = manifest.key, manifest.spec.get("selector")
        secret = selector.get("secret") if isinstance(selector, dict) else None
        name = str(secret.get("name") or "*") if isinstance(secret, dict) else ""
        places: set[Hashable] = {("source", "Secret", manifest.namespace, name)} if name else set()
        template = manifest.spec.get("template")
        for kind, source in sources_of(template) if isinstance(template, dict) else ():
            places.add(("source", kind, manifest.namespace, source))
        with self._lock:
            self._replace(key, places)
            (self._failed.discard if is_ready(manifest.status) else self._failed.add)(key)
            if not self._is_news(key, _sign(manifest)):
                return []
            self._since[key] = now
            return [key]

    def credentials(self, store: ObjectKey, refs: Iterable[tuple[str, str, str]]) -> None:
        """Take note of what holds the credentials of a store: kind, namespace ("" for any) and name."""
        with self._lock:
            self._replace(store, {("credential", *ref) for ref in refs})

    def source(self, kind: EventType, manifest: Manifest, now: dt.datetime) -> list[ObjectKey]:
        """Give whom a ConfigMap or Secret concerns that others read from.

        One that turns up (the first list, too) wakes those that failed; one that changes or goes has all of them look
        again, whatever is due.
        """
        about, home, name = manifest.kind.kind, manifest.namespace, manifest.name
        with self._lock:
            readers = self._waiting.get(("source", about, home, name), set())
            readers = readers | self._waiting.get(("source", about, home, "*"), set())
            stores = self._waiting.get(("credential", about, home, name), set())
            stores = stores | self._waiting.get(("credential", about, "", name), set())
            if kind is EventType.ADDED:
                return sorted((readers | stores) & self._failed)
            self._force(readers, now)
            return sorted(readers | stores)

    def store(self, manifest: Manifest) -> tuple[list[ObjectKey], list[ObjectKey]]:
        """Take note of a store; gives what to validate (itself, when changed) and the ExternalSecrets to wake."""
        key, ready = manifest.key, is_ready(manifest.status)
        with self._lock:
            itself = [key] if self._is_news(key, _sign(manifest)) else []
            (self._failed.discard if ready else self._failed.add)(key)
            turned = self._is_news(ObjectKey("ready", key.kind, key.namespace, key.name), ready)
            concerned = self._waiting.get((key.kind, key.namespace, key.name), set())
            woken = sorted(concerned & self._failed) if ready and (turned or itself) else []
        return itself, woken

    def store_gone(self, key: ObjectKey) -> None:
        """Forget a store."""
        with self._lock:
            self._signs.pop(key, None)
            self._signs.pop(ObjectKey("ready", key.kind, key.namespace, key.name), None)
            self._replace(key, set())
            self._failed.discard(key)

    def secret(self, manifest: Manifest) -> list[ObjectKey]:
        """Give the ExternalSecrets whose target a changed or deleted Secret is."""
        with self._lock:
            return sorted(self._waiting.get(("Secret", manifest.namespace, manifest.name), set()))

    def _is_news(self, key: ObjectKey, sign: Hashable, before: Hashable = None) -> bool:
        """Say whether a state is another than the last one; `before` is one that we make this one of ourselves."""
        known = self._signs.get(key)
        self._signs[key] = sign
        return known != sign and (before is None or known != before)

    def _replace(self, key: ObjectKey, places: set[Hashable]) -> None:
        for place in self._places.pop(key, set()) - places:
            self._waiting[place].discard(key)
            if not self._waiting[place]:
                del self._waiting[place]
        for place in places:
            self._waiting[place].add(key)
        if places:
            self._places[key] = places


def _sign(manifest: Manifest, *, without: str = "") -> Hashable:
    """Give what tells one state of an object from another, its status aside and as if one finalizer were not there."""
    metadata = manifest.metadata
    return (
        manifest.uid,
        manifest.generation,
        tuple(sorted(manifest.labels.items())),
        # Finalizers count: what removes ours has to see it put back. Events of our own status writes do not.
        tuple(sorted(manifest.annotations.items())) if manifest.kind.kind in _FORCED_BY_ANNOTATION else (),
        tuple(name for name in metadata.get("finalizers") or () if name != without),
        metadata.get("deletionTimestamp") is not None,
    )
