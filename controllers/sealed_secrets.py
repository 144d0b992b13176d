"""SealedSecret to Secret, in the cluster: observe, open, decide, act, report. The spine of sealing.

Opening is `secretsops.sealing.sealed`, who may write is `secretsops.ownership`; here they meet the API server.
Status and events carry names and reasons, never values. `build` offers it to the process: what is watched, what a
change concerns.

What never lives here: the wire format, key Secrets (`controllers.sealing_keys`), threads.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import os
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

from secretsops.clock import SystemClock
from secretsops.errors import Invalid, NotFound, NotOurs, Refused, SecretsOpsError
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ownership import Create, Leave, Refuse, Update, Write, decide_unsealed
from secretsops.ports import Clock, Cluster, EventType, PatchType
from secretsops.sealing.keys import KeyRing
from secretsops.sealing.sealed import SEALED_SECRET, SECRET, Opened, open_sealed

if TYPE_CHECKING:
    from controllers.loop import Part, Runtime

Emit = Callable[[Manifest, str, str, str], None]
"""Publishes an event: object, type (`Normal`, `Warning`), reason, message."""

SYNCED = "Synced"
_RUN_KEY = os.urandom(32)


class SealedSecrets:
    """Reconciles one SealedSecret at a time; remembers per object only key fingerprints and digests."""

    def __init__(
        self, cluster: Cluster, ring: Callable[[], KeyRing], emit: Emit, *, clock: Clock | None = None
    ) -> None:
        self._cluster = cluster
        self._ring = ring
        self._emit = emit
        self._clock = clock or SystemClock()
        self._opened_by: dict[ObjectKey, tuple[str, ...]] = {}
        self._left: dict[ObjectKey, str] = {}
        self._closed: set[ObjectKey] = set()

    def closed(self) -> list[ObjectKey]:
        """Give the SealedSecrets that did not open when last tried: a new key may change that."""
        return sorted(self._closed.copy())

    def is_as_left(self, secret: Manifest) -> bool:
        """Say whether a watched Secret (as `fingerprinted` keeps it) is as our last pass left it."""
        key = ObjectKey(SEALED_SECRET.group, SEALED_SECRET.kind, secret.namespace, secret.name)
        return self._left.get(key) == secret.body.get(DIGEST)

    def reconcile(self, key: ObjectKey) -> str:
        """Bring one Secret in line with its SealedSecret; gives what was done: created, updated, unchanged, gone.

        Raises:
            SecretsOpsError: it could not be done; status and event say why, the queue tries again.
        """
        # 1. Observe the SealedSecret. Compat: one that is being deleted makes no Secret anew.
        try:
            sealed = self._cluster.get(SEALED_SECRET, key.name, key.namespace)
        except NotFound:
            self._opened_by.pop(key, None)
            self._left.pop(key, None)
            self._closed.discard(key)
            return "gone"
        if sealed.metadata.get("deletionTimestamp"):
            return "gone"
        # 2. Open it, all items or none.
        try:
            opened = self._open(key, sealed)
        except SecretsOpsError as error:
            self._report(sealed, error, event=("ErrUnsealFailed", f"Failed to unseal: {error.message}"))
            raise
        # 3. Observe the Secret, 4. decide who may write it, 5. act.
        try:
            live = self._live(key)
            decision = decide_unsealed(opened.secret, live, sealed.uid, renewed=_is_renewed(sealed))
            done, left = self._act(decision, live)
            self._left[key] = digest(left) if left else ""
        except SecretsOpsError as error:
            self._report(sealed, error, event=("ErrUpdateFailed", error.message))
            raise
        # 6. Report.
        self._report(
            sealed, None, event=("Unsealed", "SealedSecret unsealed successfully"), changed=done != "unchanged"
        )
        return done

    def _open(self, key: ObjectKey, sealed: Manifest) -> Opened:
        self._closed.add(key)
        opened = open_sealed(sealed, self._ring(), first=self._opened_by.get(key, ()))
        self._closed.discard(key)
        self._opened_by[key] = tuple(dict.fromkeys(opened.keys.values()))
        return opened

    def _live(self, key: ObjectKey) -> Manifest | None:
        try:
            return self._cluster.get(SECRET, key.name, key.namespace)
        except NotFound:
            return None

    def _act(self, decision: Write, live: Manifest | None) -> tuple[str, Manifest | None]:
        """Carry a decision out; gives what was done and the Secret as it is now."""
        match decision:
            case Create(manifest):
                return "created", self._cluster.create(manifest)
            case Update(manifest):
                try:
                    return "updated", self._cluster.replace(manifest)
                except Invalid as error:
                    raise _explained(error, manifest) from None
            case Leave():
                return "unchanged", live
            case Refuse(reason, message):
                raise NotOurs(message, reason=reason, hint="annotate the Secret sealedsecrets.bitnami.com/managed=true")
        raise AssertionError(f"sealing never decides to {type(decision).__name__}")

    def _report(
        self, sealed: Manifest, error: SecretsOpsError | None, *, event: tuple[str, str], changed: bool = True
    ) -> None:
        """Write status where it changed, and an event where something happened."""
        status = synced_status(sealed, error.message if error else "", now=self._clock.now())
        if status is not None:
            patch = {"metadata": {"resourceVersion": sealed.resource_version}, "status": status}
            self._cluster.patch(
                SEALED_SECRET,
                sealed.name,
                patch,
                namespace=sealed.namespace,
                patch_type=PatchType.MERGE,
                subresource="status",
            )
        if status is not None or changed:
            self._emit(sealed, "Warning" if error else "Normal", *event)


def synced_status(sealed: Manifest, problem: str, *, now: dt.datetime) -> dict[str, Any] | None:
    """Give the new status, None when it says that already. Pure.

    `lastTransitionTime` moves when the verdict flips; conditions of others are kept.
    Compat: a changed message alone is published too; the peer shows the first one for ever.
    """
    verdict = "False" if problem else "True"
    conditions = [c for c in sealed.status.get("conditions") or [] if isinstance(c, dict)]
    old = next((c for c in conditions if c.get("type") == SYNCED), {})
    same = (old.get("status"), old.get("message") or "") == (verdict, problem)
    if same and sealed.status.get("observedGeneration") == sealed.generation:
        return None
    stamp = now.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    moved = stamp if old.get("status") != verdict else old.get("lastTransitionTime") or stamp
    new = {"type": SYNCED, "status": verdict, "lastUpdateTime": stamp, "lastTransitionTime": moved}
    if problem:
        new["message"] = problem
    others = [c for c in conditions if c.get("type") != SYNCED]
    return {"observedGeneration": sealed.generation, "conditions": [new, *others]}


def digest(secret: Manifest) -> str:
    """Give what tells one state of a Secret from another, keyed for this process: it says nothing outside it.

    Cached in place of the data, so that a Secret changed by hand is noticed without keeping its values.
    """
    owned = {
        "data": secret.body.get("data") or {},
        "type": secret.body.get("type") or "Opaque",
        "labels": secret.labels,
        "annotations": secret.annotations,
        "owners": secret.metadata.get("ownerReferences") or [],
    }
    return hmac.new(_RUN_KEY, json.dumps(owned, sort_keys=True).encode(), hashlib.sha256).hexdigest()


DIGEST = "digest"
"""Where `fingerprinted` puts what is left of a Secret's values."""


def fingerprinted(secret: Manifest) -> Manifest:
    """Give what is kept of a watched Secret: name, version, owners and a keyed digest; no values."""
    names = ("name", "namespace", "uid", "resourceVersion")
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {name: secret.metadata.get(name) for name in names}}
    return Manifest({**body, DIGEST: digest(secret)})


def noted(sealed: Manifest) -> Manifest:
    """Give what is kept of a watched SealedSecret: name, version, and a digest of what else wakes us; no items."""
    wakes = (
        sorted(sealed.labels.items()),
        sorted(sealed.annotations.items()),
        sealed.metadata.get("deletionTimestamp"),
    )
    names = ("name", "namespace", "uid", "resourceVersion", "generation")
    body = {"apiVersion": SEALED_SECRET.api_version, "kind": SEALED_SECRET.kind}
    metadata = {name: sealed.metadata.get(name) for name in names}
    return Manifest({**body, "metadata": metadata, DIGEST: hash(json.dumps(wakes))})


class _News:
    """Tells a change from an echo of our own status write. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._signs: dict[ObjectKey, Hashable] = {}

    def sealed(self, kind: EventType, sealed: Manifest) -> list[ObjectKey]:
        """Give the key of a SealedSecret of which more than the status changed."""
        sign = (sealed.uid, sealed.generation, sealed.body.get(DIGEST))
        with self._lock:
            if kind is EventType.DELETED:
                self._signs.pop(sealed.key, None)
                return [sealed.key]
            known, self._signs[sealed.key] = self._signs.get(sealed.key), sign
            return [sealed.key] if known != sign else []

    def of_secret(self, secret: Manifest) -> list[ObjectKey]:
        """Give the SealedSecret that a Secret's name belongs to, where there is one."""
        key = ObjectKey(SEALED_SECRET.group, SEALED_SECRET.kind, secret.namespace, secret.name)
        with self._lock:
            return [key] if key in self._signs else []

    def all(self) -> list[ObjectKey]:
        """Give every SealedSecret there is."""
        with self._lock:
            return sorted(self._signs)


def build(runtime: Runtime) -> Sequence[Part]:
    """Give the one part that keeps Secrets in line with SealedSecrets, and the sealing keys with their policy.

    Options are those of `secretsops controller`. A key Secret that comes wakes the SealedSecrets that
    did not open, one that goes wakes all: their status shall say that they do not open any more.
    """
    from controllers.loop import Part, Result, Tick, Watched
    from controllers.reflector import Selection
    from controllers.sealing_http import routes
    from controllers.sealing_keys import SELECTOR, Keys, policy, tick

    keys, news = Keys(policy(runtime.namespace, runtime.options)), _News()
    emit = runtime.events("sealed-secrets")
    spine = SealedSecrets(runtime.cluster, lambda: keys.ring, emit, clock=runtime.clock)
    held: dict[ObjectKey, Manifest] = {}

    def secret(kind: EventType, manifest: Manifest) -> Sequence[ObjectKey]:
        unchanged = kind is not EventType.DELETED and spine.is_as_left(manifest)
        return [] if unchanged else news.of_secret(manifest)

    def key_secret(kind: EventType, manifest: Manifest) -> Sequence[ObjectKey]:
        if kind is EventType.DELETED:
            held.pop(manifest.key, None)
        else:
            held[manifest.key] = manifest
        changed = keys.load(held.values())
        # A key that we minted is in the ring already: whoever waits for it is woken all the same.
        return news.all() if changed and kind is EventType.DELETED else spine.closed()

    def missing() -> str:
        return "" if keys.ring.sealing_key(runtime.clock.now()) else "there is no key to seal with yet"

    own = Selection(kind=SECRET, namespace=runtime.namespace, label_selector=SELECTOR)
    watched = [
        Watched(selection=own, keys=key_secret),
        Watched(selection=Selection(kind=SEALED_SECRET), keys=news.sealed, keep=noted),
        Watched(selection=Selection(kind=SECRET), keys=secret, keep=fingerprinted),
    ]
    return [
        Part(
            name="sealed-secrets",
            watched=watched,
            reconcile=lambda key: Result(action=spine.reconcile(key)),
            ticks=[Tick(name="keys", act=tick(runtime.cluster, keys, runtime.clock))],
            routes=routes(lambda: keys.ring, runtime.clock),
            unready=missing,
        )
    ]


def _is_renewed(sealed: Manifest) -> bool:
    """Say whether the SealedSecret changed since its last success."""
    conditions = sealed.status.get("conditions") or []
    synced = any(isinstance(c, dict) and c.get("type") == SYNCED and c.get("status") == "True" for c in conditions)
    return not synced or sealed.status.get("observedGeneration") != sealed.generation


def _explained(error: Invalid, manifest: Manifest) -> SecretsOpsError:
    """Say what cures a refused update; the API server's text names fields, and for `data` never their values."""
    if "immutable" in error.message:
        return Refused(
            f"the Secret {manifest.namespace}/{manifest.name} is immutable or would change its type",
            reason="Immutable",
            hint="delete the Secret; it is made anew from the SealedSecret",
        )
    return Refused(
        f"the API server refused the Secret {manifest.namespace}/{manifest.name}",
        reason="Invalid",
        hint="try it by kubectl apply --dry-run=server",
    )
