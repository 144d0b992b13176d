"""What the watches told of SealedSecrets and Secrets, so that a pass asks the API server for nothing it was told.

A SealedSecret is held whole only while it waits for a pass, within a bound; of one that was dealt with and of every
Secret nothing is kept that could be read as a value: values become codes of a key that lives as long as this process
(SECURITY.md §4). Equal values have equal codes, so whether a Secret is as wanted is decided on codes.
Never here: deciding, requests.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Hashable, Mapping
from typing import Any

from secretsops.manifest import Manifest, ObjectKey
from secretsops.ports import EventType
from secretsops.sealing.scope import PREFIX
from secretsops.sealing.sealed import SEALED_SECRET

_RUN_KEY = os.urandom(32)
HELD_BYTES = 64 * 1024 * 1024
"""Sealed text that may wait in memory; what comes beyond it is asked for when its turn comes."""
_IDENTITY = ("name", "namespace", "uid", "resourceVersion")


def code(value: object) -> str:
    """Give what stands for a value: equal for equal values, in this process alone."""
    return hashlib.blake2b(str(value).encode("utf-8", "surrogatepass"), key=_RUN_KEY, digest_size=16).hexdigest()


def masked(secret: Manifest) -> Manifest:
    """Give a Secret with codes for its values; annotations too, for they may repeat values (last-applied).

    Our own annotations, labels, owners, type and immutability stay readable: they decide who may write.
    """
    metadata: dict[str, Any] = {name: secret.metadata.get(name) for name in _IDENTITY}
    metadata["labels"] = {sys.intern(key): sys.intern(str(value)) for key, value in secret.labels.items()}
    metadata["annotations"] = {
        key: value if key.startswith(PREFIX) else code(value) for key, value in secret.annotations.items()
    }
    for field in ("ownerReferences", "deletionTimestamp"):
        if secret.metadata.get(field):
            metadata[field] = secret.metadata[field]
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": secret.body.get("type")}
    data = secret.body.get("data") or {}
    body["data"] = {sys.intern(key): code(value) for key, value in data.items()}
    if secret.body.get("immutable") is not None:
        body["immutable"] = secret.body["immutable"]
    return Manifest(body)


def managers(secret: Manifest) -> frozenset[str]:
    """Name the field managers of a whole Secret."""
    entries = secret.metadata.get("managedFields") or []
    return frozenset(str(entry.get("manager") or "") for entry in entries if isinstance(entry, dict))


class View:
    """The watched state. Safe for several threads.

    Whoever builds it says whether Secrets are watched; where they are not, nothing is known of them.
    """

    def __init__(self, *, watches_secrets: bool = False) -> None:
        self.watches_secrets = watches_secrets
        self._lock = threading.Lock()
        self._signs: dict[ObjectKey, Hashable] = {}
        self._gone: set[ObjectKey] = set()
        self._waiting: dict[ObjectKey, Manifest] = {}
        self._wanted: set[ObjectKey] = set()
        self._bytes = 0
        self._secrets: dict[ObjectKey, Manifest] = {}

    # --- SealedSecrets
    def keep(self, sealed: Manifest) -> Manifest:
        """Hold a SealedSecret for the pass to come; gives what is kept of it for good: no items."""
        with self._lock:
            if self._bytes + _size(sealed) <= HELD_BYTES:
                self._drop(sealed.key)
                self._waiting[sealed.key] = sealed
                self._bytes += _size(sealed)
            else:
                self._drop(sealed.key)
        names = (*_IDENTITY, "generation", "deletionTimestamp")
        body = {"apiVersion": SEALED_SECRET.api_version, "kind": SEALED_SECRET.kind}
        wakes = hash((tuple(sorted(sealed.labels.items())), tuple(sorted(sealed.annotations.items()))))
        return Manifest({**body, "metadata": {name: sealed.metadata.get(name) for name in names}, "wakes": wakes})

    def changed(self, kind: EventType, kept: Manifest) -> list[ObjectKey]:
        """Give the key of a SealedSecret of which more than the status changed; that of our own writes is no news."""
        key = kept.key
        sign = (kept.uid, kept.generation, kept.body.get("wakes"), kept.metadata.get("deletionTimestamp"))
        with self._lock:
            if kind is EventType.DELETED:
                self._signs.pop(key, None)
                self._gone.add(key)
                self._drop(key)
                return [key]
            self._gone.discard(key)
            known, self._signs[key] = self._signs.get(key), sign
            if known != sign:
                self._wanted.add(key)
                return [key]
            if key not in self._wanted:
                self._drop(key)
            return []

    def sealed(self, key: ObjectKey) -> Manifest | None:
        """Give a SealedSecret that waits; None for one that has to be asked for."""
        with self._lock:
            return self._waiting.get(key)

    def is_gone(self, key: ObjectKey) -> bool:
        """Say whether the last thing told of a SealedSecret was that it is gone, or selected no more."""
        with self._lock:
            return key in self._gone

    def settled(self, sealed: Manifest) -> None:
        """Say that a pass dealt with this state: let go of it, unless a newer one waits."""
        with self._lock:
            held = self._waiting.get(sealed.key)
            if held is None or held.resource_version == sealed.resource_version:
                self._wanted.discard(sealed.key)
                self._drop(sealed.key)

    def forget(self, key: ObjectKey) -> None:
        """Have the next pass ask the API server: what waits here is stale."""
        with self._lock:
            self._drop(key)

    def keys(self) -> list[ObjectKey]:
        """Name every SealedSecret that exists."""
        with self._lock:
            return list(self._signs)

    def uid(self, key: ObjectKey) -> str:
        """Give the uid of a SealedSecret that exists, "" where there is none."""
        with self._lock:
            sign = self._signs.get(key)
        return str(sign[0]) if isinstance(sign, tuple) else ""

    def _drop(self, key: ObjectKey) -> None:
        held = self._waiting.pop(key, None)
        if held is not None:
            self._bytes -= _size(held)

    # --- Secrets
    def told(self, kind: EventType, secret: Manifest) -> None:
        """Take note of a masked Secret, unless a newer state of it is known."""
        key = of_secret(secret)
        with self._lock:
            if kind is EventType.DELETED:
                known = self._secrets.get(key)
                if known is None or known.uid == secret.uid:
                    self._secrets.pop(key, None)
            else:
                self._note(key, secret)

    def wrote(self, secret: Manifest) -> None:
        """Take note of what a write of ours gave back."""
        if self.watches_secrets:
            with self._lock:
                self._note(of_secret(secret), masked(secret))

    def secret(self, key: ObjectKey) -> Manifest | None:
        """Give the masked Secret that belongs to a SealedSecret's name."""
        with self._lock:
            return self._secrets.get(key)

    def _note(self, key: ObjectKey, secret: Manifest) -> None:
        known = self._secrets.get(key)
        if known is None or known.uid != secret.uid or _version(known) <= _version(secret):
            self._secrets[key] = secret


def of_secret(secret: Manifest) -> ObjectKey:
    """Give the key of the SealedSecret that a Secret's name belongs to."""
    return ObjectKey(SEALED_SECRET.group, SEALED_SECRET.kind, secret.namespace, secret.name)


def _version(manifest: Manifest) -> int:
    """Give a resourceVersion as the number it is since Kubernetes 1.35 says so, 0 for one that is none."""
    text = manifest.resource_version
    return int(text) if text.isdigit() else 0


def _size(sealed: Manifest) -> int:
    """Give roughly how much memory the items of a SealedSecret take."""
    spec: Mapping[str, Any] = sealed.spec
    items = spec.get("encryptedData")
    texts = items.values() if isinstance(items, dict) else ()
    return 2048 + sum(len(text) for text in texts if isinstance(text, str)) + len(str(spec.get("data") or ""))
