"""The controller's word about what it opens, signed and kept in the escrow's sinks: `recover verify` rests on it in CI.

Signed once every SealedSecret was looked at since the start, when something changed (every ten minutes at most), and
once a day whatever happened: a document older than three days counts for nothing. Needs a signed escrow.

Never here: what a document is (`secretsops.escrow.attestation`), opening (`controllers.sealed_secrets`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from controllers.escrow import KeyEscrow
from secretsops.errors import BrokenEscrow, SecretsOpsError
from secretsops.escrow.attestation import PREFIX, STATEMENT_LIMIT, TIME, Attestations, Statement, serial_of
from secretsops.escrow.config import EscrowConfig
from secretsops.escrow.places import Escrow
from secretsops.escrow.trust import Role
from secretsops.logs import fields
from secretsops.ports import Clock

log = logging.getLogger(__name__)

LOOK = 30.0
APART = 600.0
"""Seconds between two documents that a change asks for."""
DAILY = 20 * 3600.0
"""Seconds after which one is signed though nothing changed: some hours before a day is over."""


class Attester:
    """What the leader does about attestations now and then."""

    def __init__(
        self,
        clock: Clock,
        gate: KeyEscrow,
        statements: Callable[[], Sequence[Statement] | None],
        *,
        held_back: Callable[[], str] = lambda: "",
    ) -> None:
        """`statements` gives what opened, None while something was not looked at yet."""
        self._clock, self._gate, self._statements, self._held_back = clock, gate, statements, held_back
        self._said: frozenset[tuple[str, str]] | None = None
        self._at = float("-inf")
        self._told = ""

    def look(self) -> float:
        """Sign and keep what is due; gives the seconds until the next look. Nothing is raised: it is tried again."""
        parts = self._gate.signed_escrow()
        if parts is None or self._held_back() or self._gate.fence.up:
            return LOOK
        statements = self._statements()
        if statements is None:
            return LOOK
        now = self._clock.monotonic()
        said = frozenset((one.digest, one.key) for one in statements)
        if now - self._at < (DAILY if said == self._said else APART):
            return LOOK
        try:
            self._keep(parts, statements)
        except SecretsOpsError as error:
            if self._told != error.reason:
                log.warning(
                    "nothing is attested: %s", error.message, extra=fields(reason=error.reason, hint=error.hint)
                )
            self._told = error.reason
            return APART / 2  # each try may leave a file in the sinks that do answer
        self._said, self._at, self._told = said, now, ""
        return LOOK

    def _keep(self, parts: tuple[Escrow, EscrowConfig, str], statements: Sequence[Statement]) -> None:
        """Write one document to every sink; a majority has to take it.

        Raises:
            BrokenEscrow: there is too much to say, our signature would not count, or too few sinks took it.
        """
        escrow, config, incarnation = parts
        trust = escrow.trust
        if trust is None or not trust.allows([signer.public for signer in escrow.signers], Role.EVIDENCE):
            raise BrokenEscrow(
                "the controller's key has not the role evidence in the trust root",
                reason="NoRole",
                hint="secretsops escrow trust add NAME=KEY:bundles,evidence, signed by the roots",
            )
        if len(statements) > STATEMENT_LIMIT:
            raise BrokenEscrow(f"more than {STATEMENT_LIMIT} sealed items", reason="TooMany")
        names: set[str] = set()
        for place in escrow.places:
            try:
                names.update(place.reader.names(PREFIX))
            except SecretsOpsError:
                continue
        made = Attestations(
            cluster=config.cluster,
            incarnation=incarnation,
            serial=1 + max(map(serial_of, names), default=0),
            made=self._clock.now().strftime(TIME),
            statements=sorted(statements, key=lambda one: one.digest),
        ).signed_with(escrow.signers)
        content, taken = made.text(), 0
        failed: SecretsOpsError | None = None
        for place in escrow.places:
            try:
                place.writer.put(made.name, content)
                taken += 1
            except SecretsOpsError as error:
                failed = error
        if taken < escrow.needed and failed is not None:
            raise failed
        log.info("attested what opens", extra=fields(items=len(statements), serial=made.serial, sinks=taken))
