"""SealedSecret to Secret, in the cluster: observe, open, decide, act, report. The spine of sealing.

Opening is `secretsops.sealing.sealed`, who may write is `secretsops.ownership`; here they meet the API server.
Status and events carry names and reasons, never values.

What never lives here: the wire format, key Secrets (`controllers.sealing_keys`), queues and watches.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import os
from collections.abc import Callable
from typing import Any

from secretsops.clock import SystemClock
from secretsops.errors import Invalid, NotFound, NotOurs, Refused, SecretsOpsError
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ownership import Create, Leave, Refuse, Update, Write, decide_unsealed
from secretsops.ports import Clock, Cluster, PatchType
from secretsops.sealing.keys import KeyRing
from secretsops.sealing.sealed import SEALED_SECRET, SECRET, Opened, open_sealed

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
            decision = decide_unsealed(opened.secret, self._live(key), sealed.uid, renewed=_is_renewed(sealed))
            done = self._act(decision)
        except SecretsOpsError as error:
            self._report(sealed, error, event=("ErrUpdateFailed", error.message))
            raise
        # 6. Report.
        self._report(
            sealed, None, event=("Unsealed", "SealedSecret unsealed successfully"), changed=done != "unchanged"
        )
        return done

    def _open(self, key: ObjectKey, sealed: Manifest) -> Opened:
        opened = open_sealed(sealed, self._ring(), first=self._opened_by.get(key, ()))
        self._opened_by[key] = tuple(dict.fromkeys(opened.keys.values()))
        return opened

    def _live(self, key: ObjectKey) -> Manifest | None:
        try:
            return self._cluster.get(SECRET, key.name, key.namespace)
        except NotFound:
            return None

    def _act(self, decision: Write) -> str:
        match decision:
            case Create(manifest):
                self._cluster.create(manifest)
                return "created"
            case Update(manifest):
                try:
                    self._cluster.replace(manifest)
                except Invalid as error:
                    raise _explained(error, manifest) from None
                return "updated"
            case Leave():
                return "unchanged"
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
