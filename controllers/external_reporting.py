"""What is told of an ExternalSecret: its status and its events, in the peer's words where it has words for it.

Compat: as with the peer the message of `Ready` is one of a fixed set and the cause stands in the event; beside it our
own conditions (`secretsops.external.survival`) say what else there is to know, while there is.

What never lives here: what is done, and whether.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any

from controllers.observed import Observed
from secretsops.errors import ApiError, Invalid, SecretsOpsError, StoreRefused
from secretsops.external.due import synced_version
from secretsops.external.entries import Pull
from secretsops.external.gather import EntryFailed
from secretsops.external.model import ExternalSecret
from secretsops.external.status import SYNCED, SYNCED_ERROR, stamp, with_ready
from secretsops.external.survival import FALLBACK, KEPT, STALE, is_stale, stale_condition
from secretsops.manifest import Manifest
from secretsops.ports import Clock, Cluster

Emit = Callable[[Manifest, str, str, str], None]
"""Publishes an event: object, type (`Normal`, `Warning`), reason, message."""
_OURS = (STALE, FALLBACK)


class Reports:
    """Writes status and events of ExternalSecrets."""

    def __init__(self, cluster: Cluster, observed: Observed, emit: Emit, clock: Clock) -> None:
        self._cluster = cluster
        self._observed = observed
        self._clock = clock
        self._peers_schema = False
        self.emit = emit

    def succeed(
        self,
        manifest: Manifest,
        wanted: ExternalSecret,
        started: dt.datetime,
        *,
        reason: str = SYNCED,
        message: str = "secret synced",
        binding: str = "",
        fallback: str = "",
    ) -> None:
        """Say that the sync worked; `fallback` says which stores served instead of others."""
        status = with_ready(manifest.status, ready=True, reason=reason, message=message, now=self._clock.now())
        status |= {"refreshTime": stamp(started), "syncedResourceVersion": synced_version(wanted)}
        old = {c.get("type"): c for c in status["conditions"]}
        status["conditions"] = [c for c in status["conditions"] if c.get("type") not in _OURS]
        if fallback:
            status["conditions"].append(self._fallback(old.get(FALLBACK) or {}, fallback))
            if FALLBACK not in old:
                self.emit(manifest, "Warning", "FallbackUsed", fallback)
        self._write(manifest, status, binding)

    def fail(
        self,
        manifest: Manifest,
        message: str,
        cause: str,
        *,
        binding: str = "",
        wanted: ExternalSecret | None = None,
        error: SecretsOpsError | None = None,
        entries: str = "",
        restored: str = "",
    ) -> None:
        """Say that the sync failed; time and version of the last success stay, as the Secret does."""
        self.emit(manifest, "Warning", "UpdateFailed", cause)
        now = self._clock.now()
        status = with_ready(manifest.status, ready=False, reason=SYNCED_ERROR, message=message, now=now)
        if wanted is not None and error is not None and (restored or is_stale(wanted, manifest.status, now)):
            where = f"{cause} ({entries})" if entries else cause
            stale = stale_condition(manifest.status, error, where, stamp(now), restored=restored)
            status["conditions"] = [*(c for c in status["conditions"] if c.get("type") not in _OURS), stale]
        self._write(manifest, status, binding)

    def kept(self, manifest: Manifest, *, holds: bool, reason: str, message: str) -> None:
        """Say whether the sealed copy is of what is in the Secret now."""
        conditions: list[dict[str, Any]] = manifest.status.get("conditions") or []
        old = next((c for c in conditions if c.get("type") == KEPT), {})
        status = "True" if holds else "False"
        moved = old.get("lastTransitionTime") if old.get("status") == status else stamp(self._clock.now())
        condition = {"type": KEPT, "status": status, "reason": reason, "message": message, "lastTransitionTime": moved}
        others = [c for c in conditions if c.get("type") != KEPT]
        self._write(manifest, {**manifest.status, "conditions": [*others, condition]}, "")

    def _fallback(self, old: dict[str, Any], text: str) -> dict[str, Any]:
        since = old.get("lastTransitionTime") or stamp(self._clock.now())
        fixed = {"type": FALLBACK, "status": "True", "reason": "FallbackUsed"}
        return {**fixed, "message": text, "lastTransitionTime": since}

    def _write(self, manifest: Manifest, status: dict[str, Any], binding: str) -> None:
        old = manifest.status.get("binding")
        bound = {"name": binding} if binding else old if isinstance(old, dict) and old else {"name": ""}
        # The whole status is put, because a merge patch cannot write the null of a refreshTime that never was.
        status = {**status, "binding": bound, "refreshTime": status.get("refreshTime")}
        status = without_ours(status) if self._peers_schema else status
        if status == {**manifest.status, "refreshTime": manifest.status.get("refreshTime")}:
            return
        body = Manifest({**manifest.body, "status": status})
        try:
            written = self._cluster.replace(body, subresource="status")
        except Invalid:
            if without_ours(status) == status:
                raise
            # The peer's own CRD is installed, which names the types of conditions: ours are told by events alone.
            self._peers_schema = True
            written = self._cluster.replace(
                Manifest({**body.body, "status": without_ours(status)}), subresource="status"
            )
        self._observed.wrote(written)


def without_ours(status: dict[str, Any]) -> dict[str, Any]:
    """Give a status without the conditions that are ours alone."""
    ours = (*_OURS, KEPT)
    return {**status, "conditions": [c for c in status.get("conditions") or [] if c.get("type") not in ours]}


def told_missing(pulls: Sequence[Pull]) -> list[str]:
    """Say of each entry that the provider has nothing for it. Compat: the peer numbers `data` as spec.dataFrom too."""
    shown = [f"spec.dataFrom[{pull.index}]" + (f" (key={pull.key})" if pull.secret_key else "") for pull in pulls]
    return [f"secret does not exist at provider using {each}" for each in shown]


def told_failure(failure: EntryFailed) -> str:
    """Say why an entry could not be had. Compat: the peer's words for whatever a provider does not have."""
    text = failure.cause.message
    if isinstance(failure.cause, StoreRefused) and failure.cause.reason == "NotFound":
        text = "Secret does not exist"
    text = f"error getting all secrets: {text}" if failure.pull.find and text == "Secret does not exist" else text
    return f"error processing {failure.place}, err: {text}"


def told_refusal(error: SecretsOpsError) -> tuple[str, str]:
    """Give condition message and cause of a Secret that could not be written; the API server's text stays behind."""
    if error.reason == "OwnedByAnother":
        return "target is owned by another ExternalSecret", error.message
    if error.reason == "OwnershipConflict":
        return "failed to take ownership of target secret", error.message
    if isinstance(error, Invalid) and "immutable" in error.message:
        return "could not update secret, target is immutable", "the secret is immutable; delete it to have it made anew"
    if isinstance(error, ApiError):
        return "could not update secret", f"the API server refused the secret ({error.reason})"
    return "could not update secret", error.message
