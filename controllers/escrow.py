"""Escrow before use: no sealing key is used before its backup is proven, and a cluster that was replaced makes none.

The configuration is the Secret `secretsops-escrow` beside the controller (`escrow.yaml` and what goes with it). Under
`required` a new key is labelled `pending`, which upstream ignores; the leader writes it to every sink, has it read
back, and only then labels it `active`. A key that somebody labelled by hand, or a restore brought, opens but does not
seal until it is escrowed too. A sink that is away keeps the previous key in use.

What never lives here: what an escrow is (`secretsops.escrow`), when a key is due (`controllers.sealing_keys`).
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from controllers import claims
from controllers.claims import CONFIGURATION
from controllers.escrow_metrics import exposition
from controllers.fence import Fence
from secretsops.errors import BrokenEscrow, Conflict, NotFound, SecretsOpsError
from secretsops.escrow import backup, bundle, custody, receipt
from secretsops.escrow.bundle import PENDING, is_whole
from secretsops.escrow.config import EscrowConfig, Policy, read_config
from secretsops.escrow.index import State
from secretsops.escrow.places import Escrow, opened, refuse_weak, tried
from secretsops.escrow.survey import Survey, look, newest_claims
from secretsops.logs import fields
from secretsops.manifest import Manifest
from secretsops.ports import Clock, Cluster, Doors, Trial
from secretsops.sealing.certificate import Certificate, read_certificate
from secretsops.sealing.keys import ACTIVE, KEY_LABEL, KeyPair
from secretsops.sealing.sealed import SECRET

log = logging.getLogger(__name__)

SUCCEEDS = "secretsops.dev/succeeds"
"""On a pending key: the fingerprint of the key it is to take over from, empty for the first one of all."""
SUPERSEDED = "superseded"
"""Label value of a pending key that was not needed any more; nobody ever sealed with it."""
FIELD_MANAGER = "secretsops-escrow"
LOOK = 60.0
"""Seconds between two looks at claims, and at what has to be escrowed."""
AGAIN = (5.0, 10.0, 20.0, 40.0, 60.0)
"""Seconds until the next try while it fails."""
PROVE_AGAIN = 24 * 3600.0
"""Seconds after which an epoch is read back from every sink once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What the last good look left: which keys in which states for whom, when, and what the sinks confirmed."""

    keys: frozenset[tuple[str, State]] = frozenset()
    recipients: tuple[str, ...] = ()
    proven: float = float("-inf")
    receipt: receipt.Receipt | None = None
    custodians: Sequence[custody.Custodian] = ()
    opened: dt.datetime | None = None
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How escrow stands: a reason (`Escrowed`, `Off`, or what is in the way) and a sentence about it."""

    reason: str
    message: str = ""
    hint: str = field(default="", compare=False)


class KeyEscrow:
    """Satisfies `controllers.sealing_keys.Gate`. Only the leader calls `look`; `may_seal` is everybody's."""

    def __init__(
        self, cluster: Cluster, clock: Clock, doors: Doors, *, namespace: str, legacy: str, fence: Fence | None = None
    ) -> None:
        self._cluster, self._clock, self._doors = cluster, clock, doors
        self._namespace, self._legacy = namespace, legacy
        self.fence = fence or Fence()
        self.fence.unknown = True
        self.standing = Standing(reason="Unknown", message="the configuration was not read yet")
        self._config: EscrowConfig | None = None
        self._escrow: Escrow | None = None
        self._read: str | None = None
        self._incarnation = ""
        self._known = _Known()
        self._trials: dict[str, Trial] = {}
        self._tried = float("-inf")
        self._failures = 0
        self._next = float("-inf")
        self._told: dict[str, str] = {}
        self.moved = False
        self._settled: frozenset[tuple[str, str]] | None = None
        self._unescrowed = 0

    # --- configuration

    @property
    def policy(self) -> Policy:
        """Give the policy; `required` while the configuration is not known."""
        if self._read is None:
            return Policy.REQUIRED
        return self._config.policy if self._config is not None else Policy.OFF

    def configured(self, secret: Manifest | None) -> bool:
        """Take the configuration over, None for none; says whether it is another than before.

        One that cannot be used is as bad as a sink that is away: nothing new seals until it is repaired.
        """
        version = secret.resource_version if secret is not None else ""
        if version == self._read:
            return False
        self._config, self._escrow = None, None
        if secret is None:
            self._read, self.fence.unknown = version, False
            self._stand(Standing(reason="Off", message="sealing keys are not escrowed: they die with the cluster"))
            return True
        try:
            config = read_config(_files(secret))
            self._escrow = opened(config, self._doors, in_cluster=True) if config.sinks else None
            self._config = config
            self._read = version
            self.fence.unknown = bool(config.sinks) and config.policy is not Policy.OFF
        except SecretsOpsError as error:
            self._read = None
            self._failed(error)
            return True
        self._known, self._trials, self._next, self._settled = _Known(), {}, float("-inf"), None
        self._tried = float("-inf")
        self._stand(Standing(reason="Starting", message="the sinks were not looked at yet"))
        return True

    def fetch(self) -> None:
        """Ask the API server for the configuration, where no watch has told it yet."""
        try:
            self.configured(self._cluster.get(SECRET, CONFIGURATION, self._namespace))
        except NotFound:
            self.configured(None)
        except SecretsOpsError as error:
            self._failed(error)

    def signed_escrow(self) -> tuple[Escrow, EscrowConfig, str] | None:
        """Give the escrow, its configuration and this cluster's incarnation, None where nothing is signed."""
        escrow, config = self._escrow, self._config
        if escrow is None or config is None or not escrow.signers or not escrow.pin:
            return None
        try:
            return escrow, config, self._uid()
        except SecretsOpsError:
            return None

    # --- what the ring asks

    def may_seal(self, secret: Manifest, pair: KeyPair) -> bool:
        """Say whether a key may seal: under `required` once its Secret carries the receipt of this key and cluster."""
        if self.policy is not Policy.REQUIRED:
            return True
        return self._is_escrowed(secret, pair.fingerprint)

    @property
    def label(self) -> str:
        """Give the label value of a new key."""
        return PENDING if self.policy is Policy.REQUIRED else ACTIVE

    def refusal(self, *, first: bool) -> str:
        """Say why no key may be minted now, "" when one may; `first`: the cluster has none yet."""
        if self.fence.why:
            return "Fenced"
        if self.policy is Policy.OFF:
            return ""
        if self._read is None:
            return self.standing.reason
        if self._pending():
            return "Pending"
        return self._awaited() if first else ""

    # --- what the leader does

    def look(self) -> float:
        """Escrow what is not, admit what is, see whether we were replaced; gives the seconds until the next look.

        Nothing is raised: what is in the way is logged, kept as `standing`, and tried again.
        """
        if self._read is None:
            self.fetch()
        now = self._clock.monotonic()
        if self._escrow is None or self._config is None or self.policy is Policy.OFF:
            return LOOK
        if now < self._next:
            return self._next - now
        try:
            self._see_claims()
            if not self.fence.why:
                self._bring_in()
        except SecretsOpsError as error:
            self._failed(error)
            wait = AGAIN[min(self._failures - 1, len(AGAIN) - 1)]
        else:
            self._failures, wait = 0, LOOK
        self._next = self._clock.monotonic() + wait
        self._publish()
        return wait

    def hurry(self) -> None:
        """Have the next look do its work, however short ago the last one was."""
        self._next = float("-inf")

    def _bring_in(self) -> None:
        """One pass: observe keys, back them up, judge sinks and custodians, admit."""
        escrow, config = self._parts()
        secrets = backup.key_secrets(self._cluster, self._namespace, legacy=self._legacy)
        seen = frozenset((secret.uid, secret.resource_version) for secret in secrets)
        at = self._clock.monotonic()
        fresh = at - self._known.proven <= PROVE_AGAIN
        if fresh and seen == self._settled:
            return
        whole = [secret for secret in secrets if is_whole(secret)]
        self._unescrowed = sum(not self._carries_receipt(secret) for secret in whole if _is_usable(secret))
        if not whole:
            if self.standing.reason != "AwaitingRestore":
                self._stand(Standing(reason="Waiting", message="there is no key yet"))
            return
        records = bundle.records(whole)
        held = frozenset((record.fingerprint, record.state) for record in records)
        known = self._known
        same = (known.keys, known.recipients) == (held, tuple(config.recipients))
        if not same or at - known.proven > PROVE_AGAIN:
            escrow = self._escrow = replace(escrow, memory={})
            self._try_sinks(escrow)
            known = self._known = self._back_up(escrow, config, held)
        if self._unescrowed:
            self._judge(escrow, config)
            self._admit(whole, known)
        else:
            self._settled = seen
        self._stand(Standing(reason="Escrowed", message=f"{len(whole)} key(s) in epoch {known.epoch}"))

    def _back_up(self, escrow: Escrow, config: EscrowConfig, held: frozenset[tuple[str, State]]) -> _Known:
        now = self._clock.now()
        order = backup.Order(
            recipients=list(config.recipients),
            namespace=self._namespace,
            now=now,
            trials=self._trials,
            leave_broken=True,
            legacy=self._legacy,
        )
        outcome = backup.create(self._cluster, escrow, order)
        survey = look(escrow)
        return _Known(
            keys=held,
            recipients=tuple(config.recipients),
            proven=self._clock.monotonic(),
            receipt=outcome.receipt,
            custodians=custody.custodians(survey, config.recipients, now),
            opened=backup.last_opened(survey),
            epoch=outcome.entry.epoch,
        )

    def _try_sinks(self, escrow: Escrow) -> None:
        """Try the canaries, once a day; the name carries the day, as locks end some time."""
        at = self._clock.monotonic()
        if not self._trials or at - self._tried > PROVE_AGAIN:
            self._trials = tried(escrow.places, canary=f"{self._clock.now():%Y-%m-%d}")
            self._tried = at

    def _judge(self, escrow: Escrow, config: EscrowConfig) -> None:
        """Refuse where too few sinks count or a custodian is unproven; under `preferred` only say so."""
        try:
            refuse_weak(escrow.places, self._trials, quorum=config.quorum)
            people = custody.custodians(look(escrow), config.recipients, self._clock.now())
            backup.refuse_unproven({each.recipient: each.standing for each in people})
        except BrokenEscrow as error:
            if config.policy is Policy.REQUIRED:
                raise
            self._tell(error)

    def _admit(self, secrets: Sequence[Manifest], known: _Known) -> None:
        """Give every escrowed key its receipt; a pending one becomes active, unless it is not needed any more."""
        escrow, _ = self._parts()
        survey = look(escrow)
        newest = survey.newest
        if newest is None or known.receipt is None or newest.epoch != known.epoch:
            raise BrokenEscrow("the sinks changed while we looked", reason="NotDurable", hint="it is tried again")
        escrowed = {record.fingerprint for record in newest.keys}
        usable = [secret for secret in secrets if _is_usable(secret) and _fingerprint(secret) in escrowed]
        for secret in usable:
            if _label(secret) != PENDING and not self._carries_receipt(secret):
                self._mark(secret, ACTIVE, known, survey)
        for secret in usable:
            if _label(secret) == PENDING:
                self._mark(secret, self._next_label(secret), known, survey)

    def _next_label(self, pending: Manifest) -> str:
        """Give `active`, or `superseded` where the key it was to take over from is not the newest any more."""
        succeeds = pending.annotations.get(SUCCEEDS, "")
        secrets = backup.key_secrets(self._cluster, self._namespace, legacy=self._legacy)
        ours = [secret for secret in secrets if is_whole(secret) and _label(secret) == ACTIVE]
        if not ours:
            return ACTIVE
        if not succeeds:
            return SUPERSEDED
        sealing = [bundle.records([secret])[0] for secret in ours if self._carries_receipt(secret)]
        sealing = [record for record in sealing if record.state is State.SEALING]
        newer = [record for record in sealing if record.born > _born(pending)]
        known = any(record.fingerprint == succeeds for record in sealing)
        return SUPERSEDED if newer or (sealing and not known) else ACTIVE

    def _mark(self, secret: Manifest, label: str, known: _Known, survey: Survey) -> None:
        """Write label and receipt in one request; whoever changed the Secret meanwhile is looked at next time."""
        escrow, config = self._parts()
        newest = survey.newest
        assert newest is not None
        text = receipt.of_key(
            cluster=config.cluster,
            incarnation=self._uid(),
            fingerprint=_fingerprint(secret),
            epoch=known.epoch,
            entry=newest.digest,
            signers=escrow.signers,
        )
        metadata = {
            **secret.metadata,
            "labels": {**secret.labels, **({KEY_LABEL: label} if KEY_LABEL in secret.labels else {})},
            "annotations": {**secret.annotations, receipt.ANNOTATION: text},
        }
        try:
            self._cluster.replace(Manifest({**secret.body, "metadata": metadata}), field_manager=FIELD_MANAGER)
            self.moved = True
            self._unescrowed = max(0, self._unescrowed - 1)
        except (Conflict, NotFound):
            self.hurry()
            return
        log.info(
            "a sealing key is escrowed",
            extra=fields(secret=secret.name, fingerprint=_fingerprint(secret), label=label, epoch=known.epoch),
        )

    # --- claims

    def _see_claims(self) -> None:
        """Judge who has the claim by all sinks that answer; under `preferred` none has to."""
        escrow, config = self._parts()
        claims.judge(
            self.fence,
            newest_claims(escrow),
            uid=self._uid,
            kept=lambda: claims.kept_or_nothing(self._cluster, self._namespace),
        )
        if config.policy is not Policy.REQUIRED:
            self.fence.unknown = False
        if self.fence.why:
            hint = "if this is the right one: secretsops escrow claim"
            self._stand(Standing(reason="Fenced", message=self.fence.why, hint=hint))

    def _awaited(self) -> str:
        """Say `AwaitingRestore` where the sinks hold keys that this cluster does not have, else ""."""
        escrow = self._escrow
        if escrow is None:
            return ""
        try:
            survey = look(escrow, adopting=True)
        except SecretsOpsError as error:
            self._failed(error)
            return error.reason if self.policy is Policy.REQUIRED else ""
        if survey.newest is not None and survey.newest.usable:
            message = f"the sinks hold {len(survey.newest.usable)} key(s) of this cluster's past and it has none"
            self._stand(Standing(reason="AwaitingRestore", message=message, hint="secretsops escrow restore"))
            self._publish()
            return "AwaitingRestore"
        return ""

    # --- telling

    def exposed(self) -> str:
        """Give the metrics in Prometheus' text format."""
        if self.policy is Policy.OFF:
            return ""
        now, known = self._clock.now(), self._known
        return exposition(
            now=now,
            unescrowed=self._unescrowed,
            fenced=bool(self.fence.why),
            receipt=known.receipt,
            opened=known.opened,
            custodians=known.custodians,
        )

    def _publish(self) -> None:
        """Keep in a ConfigMap how escrow stands, where it changed."""
        known = self._known
        data = {"status": self.standing.reason, "message": self.standing.message, "fenced": self.fence.why}
        if known.receipt is not None:
            data["receipt"] = known.receipt.text().decode()
        if data == self._told:
            return
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CONFIGURATION, "namespace": self._namespace},
            "data": data,
        }
        try:
            self._cluster.apply(Manifest(body), field_manager=FIELD_MANAGER, force=True)
        except SecretsOpsError as error:
            log.debug(error.message, extra=fields(reason=error.reason))
            return
        self._told = data

    def _stand(self, standing: Standing) -> None:
        if standing != self.standing and standing.reason in ("Off", "AwaitingRestore"):
            log.warning(standing.message, extra=fields(reason=standing.reason, hint=standing.hint))
        self.standing = standing

    def _failed(self, error: SecretsOpsError) -> None:
        self._failures += 1
        self._tell(error)
        self.standing = Standing(reason=error.reason, message=error.message, hint=error.hint)

    def _tell(self, error: SecretsOpsError) -> None:
        if self.standing.reason != error.reason or self.standing.message != error.message:
            note = fields(reason=error.reason, hint=error.hint)
            log.warning("sealing keys are not escrowed: %s", error.message, extra=note)

    # --- keys

    def _pending(self) -> bool:
        selector = f"{KEY_LABEL}={PENDING}"
        return bool(self._cluster.list(SECRET, namespace=self._namespace, label_selector=selector))

    def _carries_receipt(self, secret: Manifest) -> bool:
        return self._is_escrowed(secret, _fingerprint(secret))

    def _is_escrowed(self, secret: Manifest, fingerprint: str) -> bool:
        """Say whether a Secret carries the receipt of its key. Its signer is known where the configuration is.

        Without one that can be used the receipt alone keeps a proven key in use: sealing never stops.
        """
        text = secret.annotations.get(receipt.ANNOTATION, "")
        try:
            uid = self._uid() if text else ""
        except SecretsOpsError:
            return False
        config, escrow = self._config, self._escrow
        signer = escrow.signers[0].public if escrow is not None and escrow.signers else ""
        cluster = config.cluster if config is not None else ""
        return bool(text) and receipt.says_escrowed(
            text, cluster=cluster, incarnation=uid, fingerprint=fingerprint, signer=signer
        )

    def _uid(self) -> str:
        if not self._incarnation:
            self._incarnation = self._cluster.get(backup.NAMESPACE, "kube-system").uid
        return self._incarnation

    def _parts(self) -> tuple[Escrow, EscrowConfig]:
        assert self._escrow is not None
        assert self._config is not None
        return self._escrow, self._config


def _files(secret: Manifest) -> dict[str, bytes]:
    found = {}
    for name, value in (secret.body.get("data") or {}).items():
        try:
            found[str(name)] = base64.b64decode(str(value), validate=True)
        except (binascii.Error, ValueError):
            continue
    return found


def _label(secret: Manifest) -> str:
    return secret.labels.get(KEY_LABEL, ACTIVE)


def _is_usable(secret: Manifest) -> bool:
    return _label(secret) in (ACTIVE, PENDING)


def _fingerprint(secret: Manifest) -> str:
    return _certificate(secret).fingerprint


def _born(secret: Manifest) -> str:
    return _certificate(secret).not_before.strftime(backup.TIME)


def _certificate(secret: Manifest) -> Certificate:
    """Give the certificate of a key Secret that was found whole."""
    return read_certificate(base64.b64decode((secret.body.get("data") or {})["tls.crt"]))
