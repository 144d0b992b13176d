"""Keeps the last known good value of ExternalSecrets, sealed, in the sinks of the escrow, for stores that ask for it.

The spine tells what a sync left and what a store revoked; a tick writes it in batches, reads it back and only then says
so in status. Recipients, sinks and the key of names come from the Secret `secretsops-escrow` alone. A copy is known
over restarts by the version of the Secret it was taken from, which the condition names. A cluster that was replaced
writes nothing.

What never lives here: formats and sinks (`secretsops.escrow.keeping`), what is kept (`secretsops.external.lastgood`).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime as dt
import hashlib
import hmac
import json
import logging
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from controllers.external_reporting import Emit, Reports
from controllers.fence import Fence
from controllers.metrics import Metrics, label_text
from controllers.observed import Observed
from secretsops.errors import Conflict, NotFound, SecretsOpsError
from secretsops.escrow import keeping
from secretsops.escrow.backup import NAMESPACE, TIME
from secretsops.escrow.config import EscrowConfig, KeptConfig, read_config
from secretsops.escrow.kept import CONTENT_LIMIT, Copy, Kept, hidden, key_mark, readers_mark
from secretsops.escrow.places import Escrow, opened
from secretsops.escrow.survey import look
from secretsops.external.entries import StoreRef
from secretsops.external.gather import Entry
from secretsops.external.lastgood import copy_of, is_revoked, kept_because
from secretsops.external.model import EXTERNAL_SECRET, SECRET_STORE, ExternalSecret
from secretsops.external.status import stamp
from secretsops.external.survival import KEPT
from secretsops.external.template import Filled
from secretsops.logs import fields
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ports import Clock, Cluster, Doors

log = logging.getLogger(__name__)

CONFIGURATION = "secretsops-escrow"
LOOK, AGAIN = 5.0, (5.0, 10.0, 20.0, 40.0, 60.0)
"""Seconds between two batches, and until the next try while a sink is away."""
RENEW = dt.timedelta(days=30)
"""The age at which a copy is sealed anew: what a sink keeps, it keeps for a time."""
SAY_AGAIN = 5
PENDING_LIMIT = 20_000
STORES_TOLD = 100
"""Stores whose age is among the metrics: those with the oldest copies."""
_SAID = re.compile(r"epoch (\d+), secret version (\d+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sealed:
    """A copy the sinks hold: its epoch, of when the data is, of which version of the Secret; `mark` is an HMAC."""

    epoch: int
    as_of: dt.datetime
    version: int
    mark: bytes = b""
    store: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """What is to be written of one ExternalSecret: a copy, or why there must be none any more."""

    sealed: _Sealed
    copy: Copy | None = None
    gone: str = ""


class Keeping:
    """The copies of one cluster. Safe for several threads; only the leader calls `look`."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        doors: Doors,
        *,
        fence: Fence,
        observed: Observed,
        emit: Emit,
    ) -> None:
        self._cluster, self._clock, self._doors = cluster, clock, doors
        self._fence, self._observed = fence, observed
        self._reports = Reports(cluster, observed, emit, clock)
        self._lock = threading.Lock()
        self._run_key = secrets.token_bytes(32)
        self._config: KeptConfig | None = None
        self._escrow: Escrow | None = None
        self._held: Kept | None = None
        self._loaded = False
        self._deleted: dict[str, str] = {}
        self._sealed: dict[ObjectKey, _Sealed] = {}
        self._waiting: dict[ObjectKey, _Waiting] = {}
        self._failures = 0
        self._problem = ""
        self._version = ""
        self.living: Callable[[], Iterable[ObjectKey]] = lambda: ()
        """Gives every ExternalSecret there is."""
        self.wake: Callable[[ObjectKey], None] = lambda _key: None
        """Has one looked at again."""

    # --- Configuration

    @property
    def on(self) -> bool:
        """Say whether copies are kept at all."""
        return self._config is not None

    def configured(self, secret: Manifest | None) -> None:
        """Take the configuration over, None for none; what cannot be used keeps nothing, and says so."""
        version = secret.resource_version if secret is not None else ""
        if version == self._version:
            return
        with self._lock:
            self._version = version
            self._config, self._escrow, self._held, self._loaded = None, None, None, False
            self._sealed.clear()
            self._waiting.clear()
        if secret is None:
            return
        try:
            config = read_config(_files(secret))
            if config.kept is not None:
                self._adopt(config)
        except SecretsOpsError as error:
            self._failed(error)

    def _adopt(self, config: EscrowConfig) -> None:
        escrow = replace(opened(config, self._doors, in_cluster=True), memory={})
        with self._lock:
            self._escrow, self._config = escrow, config.kept

    # --- What the spine tells

    def lacks(self, manifest: Manifest, wanted: ExternalSecret, stores: Mapping[StoreRef, Manifest | None]) -> bool:
        """Say whether the Secret is as it should be and yet there is no sealed copy of it, as after a restart."""
        if not self._loaded or kept_because(wanted, stores):
            return False
        with self._lock:
            if manifest.key in self._waiting or manifest.key in self._sealed:
                return False
        known = self._recognized(manifest, wanted)
        if known is not None:
            with self._lock:
                self._sealed.setdefault(manifest.key, known)
        return known is None

    def _recognized(self, manifest: Manifest, wanted: ExternalSecret) -> _Sealed | None:
        """Give the copy that status tells of, where the sinks hold it and the Secret is as it was then."""
        conditions: list[dict[str, Any]] = manifest.status.get("conditions") or []
        said = next((c for c in conditions if c.get("type") == KEPT), {})
        match = _SAID.search(str(said.get("message") or ""))
        held, config = self._held, self._config
        if match is None or held is None or config is None or said.get("status") != "True":
            return None
        epoch, version = int(match[1]), int(match[2])
        name = hidden(config.names, wanted.namespace, wanted.name)
        written = held.written(name)
        current = self._observed.secret_version(wanted.namespace, wanted.target.name)
        if written is None or held.copies[name][0] != epoch or not version or current != version:
            return None
        if self._is_old(wanted):
            return None
        as_of = dt.datetime.fromisoformat(str(manifest.status.get("refreshTime")))
        return _Sealed(epoch=epoch, as_of=as_of, version=version, store=_store(wanted))

    def good(
        self,
        manifest: Manifest,
        wanted: ExternalSecret,
        secret: Manifest,
        filled: Filled,
        entries: Sequence[Entry],
        as_of: dt.datetime,
    ) -> None:
        """Take note of what a sync left in a Secret; it is sealed with the next batch unless the same is already."""
        if not self.on:
            return
        copy = copy_of(manifest, wanted, secret, filled, entries, stamp(as_of))
        mark, version = self._mark(copy), self._observed.secret_version(wanted.namespace, wanted.target.name)
        sealed = _Sealed(epoch=0, as_of=as_of, version=version, mark=mark, store=_store(wanted))
        with self._lock:
            known = self._sealed.get(manifest.key)
            same = known is not None and (known.mark == mark or (not known.mark and known.version == version))
            if known is not None and same and not self._is_old(wanted):
                self._sealed[manifest.key] = replace(sealed, epoch=known.epoch, version=known.version)
                self._waiting.pop(manifest.key, None)
            elif len(self._waiting) < PENDING_LIMIT:
                self._waiting[manifest.key] = _Waiting(sealed=sealed, copy=copy)

    def revoked(self, manifest: Manifest, reason: str) -> None:
        """Take note that a copy must not come back: the store said no, or the object or its consent is gone."""
        config, held = self._config, self._held
        if config is None:
            return
        name = hidden(config.names, manifest.namespace, manifest.name)
        none = _Sealed(epoch=0, as_of=self._clock.now(), version=0)
        with self._lock:
            listed = not self._loaded or (held is not None and name in held.copies)
            self._sealed.pop(manifest.key, None)
            self._waiting.pop(manifest.key, None)
            if listed:
                self._waiting[manifest.key] = _Waiting(sealed=none, gone=reason)

    def failed(self, manifest: Manifest, error: SecretsOpsError) -> None:
        """Take note that a sync failed; only a store's no revokes what it gave before."""
        if self.on and is_revoked(error):
            self.revoked(manifest, error.reason)

    def _mark(self, copy: Copy) -> bytes:
        """Give what tells one content from another in this process alone."""
        body = [copy.secret.body, copy.spec, list(copy.stores)]
        return hmac.new(self._run_key, json.dumps(body, sort_keys=True).encode(), hashlib.sha256).digest()

    def _is_old(self, wanted: ExternalSecret) -> bool:
        """Say whether the newest copy is to be sealed anew: it is old, or for others than those who may open it now."""
        config, held = self._config, self._held
        if config is None or held is None:
            return False
        written = held.written(hidden(config.names, wanted.namespace, wanted.name))
        if written is None or written.readers != readers_mark(config.recipients):
            return True
        return self._clock.now() - _time(written.created) > RENEW

    # --- What the leader does

    def look(self) -> float:
        """Write what waits; gives the seconds until next time. Nothing is raised: it is logged and tried again."""
        if self._escrow is None or self._config is None or self._fence.up:
            return LOOK
        try:
            if not self._loaded:
                self._load()
            while self._flush():
                pass
        except SecretsOpsError as error:
            self._failed(error)
            return AGAIN[min(self._failures - 1, len(AGAIN) - 1)]
        if self._problem:
            log.info("last known good values are sealed again")
        self._failures, self._problem = 0, ""
        return LOOK

    def _load(self) -> None:
        """Read what the sinks hold; whoever was deleted while nobody looked gets a tombstone."""
        escrow, config = self._parts()
        held = keeping.newest(look(escrow))
        if held is not None and held.names != key_mark(config.names):
            log.warning("the key of names changed: every copy is sealed anew", extra=fields(epoch=held.epoch))
            held = replace(held, copies={}, tombstones={}, bundles={})
        living = list(self.living())
        names = {hidden(config.names, key.namespace, key.name) for key in living}
        uid = self._uid()
        deleted = {
            name: "Deleted"
            for name in (held.copies if held else {})
            # Those of an incarnation before this one may just not have been applied yet.
            if name not in names and held is not None and (of := held.written(name)) and of.incarnation == uid
        }
        with self._lock:
            self._held, self._loaded, self._deleted = held, True, deleted
        for key in living:
            self.wake(key)

    def _flush(self) -> bool:
        """Write one epoch of what waits; says whether there was anything."""
        escrow, config = self._parts()
        with self._lock:
            batch: dict[ObjectKey, _Waiting] = {}
            size = 0
            for key, waiting in self._waiting.items():
                size += _size(waiting.copy)
                if batch and size > CONTENT_LIMIT:
                    break
                batch[key] = waiting
            deleted = self._deleted
        if not batch and not deleted:
            return False
        survey = look(escrow)
        last = keeping.newest(survey)
        names = {key: hidden(config.names, key.namespace, key.name) for key in batch}
        copies = {names[key]: each.copy for key, each in batch.items() if each.copy is not None}
        gone = deleted | {names[key]: each.gone for key, each in batch.items() if each.copy is None}
        gone = {name: reason for name, reason in gone.items() if last is not None and name in last.copies}
        held = last
        if copies or gone:
            terms = keeping.Terms(
                recipients=config.recipients,
                names=key_mark(config.names),
                versions=config.versions,
                incarnation=self._uid(),
                now=self._clock.now().strftime(TIME),
            )
            held = keeping.write(survey, last, copies, gone, terms)
            log.info("last known good values are sealed", extra=fields(epoch=held.epoch, copies=len(copies)))
        with self._lock:
            self._held, self._deleted = held, {}
            for key, each in batch.items():
                if self._waiting.get(key) is each:
                    del self._waiting[key]
                if each.copy is not None and held is not None:
                    self._sealed[key] = replace(each.sealed, epoch=held.epoch)
        for key, each in batch.items():
            if held is not None and (each.copy is not None or names[key] in gone):
                self._say(key, each, held.epoch)
        return True

    def _say(self, key: ObjectKey, each: _Waiting, epoch: int) -> None:
        if each.copy is not None:
            text = f"a copy as of {each.copy.as_of} is sealed in epoch {epoch}, secret version {each.sealed.version}"
            self._told(key, holds=True, reason="Sealed", message=text)
        elif each.gone != "Deleted":
            self._told(key, holds=False, reason=each.gone, message="no copy is kept any more")

    def _told(self, key: ObjectKey, *, holds: bool, reason: str, message: str) -> None:
        """Say in status what is sealed; what could not be said now is said with the next copy."""
        look_up = self._observed.get
        for _ in range(SAY_AGAIN):
            try:
                self._reports.kept(
                    look_up(EXTERNAL_SECRET, key.name, key.namespace), holds=holds, reason=reason, message=message
                )
            except Conflict:
                look_up = self._cluster.get  # somebody was faster than the watch tells
                continue
            except NotFound:
                return
            except SecretsOpsError as error:
                log.debug(error.message, extra=fields(reason=error.reason))
            return

    def _failed(self, error: SecretsOpsError) -> None:
        self._failures += 1
        if self._problem == error.message:
            return
        self._problem = error.message
        note = fields(reason=error.reason, hint=error.hint)
        log.warning("last known good values are not sealed: %s", error.message, extra=note)
        with self._lock:
            waiting = [(key, each) for key, each in self._waiting.items() if each.copy is not None]
        for key, each in waiting:
            text = f"data of {stamp(each.sealed.as_of)} is not sealed yet"
            self._told(key, holds=False, reason=error.reason, message=text)

    def _uid(self) -> str:
        return self._cluster.get(NAMESPACE, "kube-system").uid

    def _parts(self) -> tuple[Escrow, KeptConfig]:
        assert self._escrow is not None
        assert self._config is not None
        return self._escrow, self._config

    # --- Telling

    def metrics(self) -> Metrics:
        """Give the numbers of the part."""
        own = Metrics()
        own.gauge("external_kept_age_seconds", "The oldest sealed copy of a store: its Secrets' RPO.", self._ages)
        own.gauge("external_kept_secrets", "Secrets by whether a copy of their data is sealed.", self._counts)
        return own

    def _ages(self) -> dict[str, float]:
        now, found = self._clock.now(), dict[str, float]()
        with self._lock:
            sealed = list(self._sealed.values())
        for each in sealed:
            label = label_text({"store": each.store})
            found[label] = max(found.get(label, 0.0), (now - each.as_of).total_seconds())
        return dict(sorted(found.items(), key=lambda item: -item[1])[:STORES_TOLD])

    def _counts(self) -> dict[str, float]:
        if not self.on:
            return {}
        with self._lock:
            waiting = sum(each.copy is not None for each in self._waiting.values())
            sealed = len(set(self._sealed) - set(self._waiting))
        return {label_text({"state": state}): float(n) for state, n in (("sealed", sealed), ("waiting", waiting))}


def _store(wanted: ExternalSecret) -> str:
    """Name the first store, for metrics."""
    ref = wanted.stores[0]
    home = f"{wanted.namespace}/" if ref.kind == SECRET_STORE.kind else ""
    return f"{ref.kind}/{home}{ref.name}"


def _size(copy: Copy | None) -> int:
    """Estimate the bytes of a copy in a bundle."""
    return len(json.dumps(copy.secret.body)) + 1024 if copy is not None else 0


def _time(text: str) -> dt.datetime:
    return dt.datetime.strptime(text, TIME).replace(tzinfo=dt.UTC)


def _files(secret: Manifest) -> dict[str, bytes]:
    found = {}
    for name, value in (secret.body.get("data") or {}).items():
        with contextlib.suppress(binascii.Error, ValueError):
            found[str(name)] = base64.b64decode(str(value), validate=True)
    return found
