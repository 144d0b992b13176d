"""What the sinks of one escrow say together: the newest epoch of the quorum, or why there is none to trust.

Each copy is proven by itself; whole copies must agree up to where the shorter ends. A copy that lags is no fault, one
that says something else is a fork, and then nothing is restored. Never here: writing, opening bundles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from secretsops.errors import BrokenEscrow, SecretsOpsError, WorldFailed
from secretsops.escrow import trust as roots
from secretsops.escrow.canonical import digest
from secretsops.escrow.claim import Claim, claim_names, read_claims
from secretsops.escrow.index import Entry, entry_names, read_chain
from secretsops.escrow.places import Escrow, Place
from secretsops.escrow.trust import Role, Trust

TRUST_PREFIX = "trust-"
TRUST_COPIES = 64
"""Trust roots read from one sink, newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What one place holds; `error` says why it does not count, None when it does."""

    place: Place
    names: frozenset[str] = frozenset()
    chain: Sequence[Entry] = ()
    claims: Sequence[Claim] = ()
    error: SecretsOpsError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """All places together. `chain` and `claims` are the longest that hold, oldest first."""

    escrow: Escrow
    trust: Trust | None
    copies: Sequence[Copy]
    chain: Sequence[Entry]
    claims: Sequence[Claim]

    @property
    def newest(self) -> Entry | None:
        """Give the newest entry."""
        return self.chain[-1] if self.chain else None

    @property
    def sound(self) -> Sequence[Copy]:
        """Give the copies that hold."""
        return [copy for copy in self.copies if copy.error is None]

    @property
    def unsigned(self) -> int:
        """Count the entries without a signature, from the first on."""
        return sum(not entry.signatures for entry in self.chain)

    def notes(self) -> list[str]:
        """Give what a person should know beside the verdict, a line each."""
        found = [f"{copy.place.name}: {copy.error.message} ({copy.error.reason})" for copy in self.copies if copy.error]
        found += [
            f"{copy.place.name} is {len(self.chain) - len(copy.chain)} epoch(s) behind"
            for copy in self.sound
            if len(copy.chain) < len(self.chain)
        ]
        if self.trust is None and self.chain:
            found.append("the index is not signed: accidents are seen, a liar with write access is not")
        elif self.unsigned:
            found.append(f"epochs 1 to {self.unsigned} are unsigned, vouched for by the signature of a later one")
        return found


def look(escrow: Escrow, *, adopting: bool = False) -> Survey:
    """Read every place and give what holds.

    `adopting` takes an index whose newest entry nobody signed who may now, for a signer to continue it knowingly.

    Raises:
        BrokenEscrow: a fork, an escrow that needs a trust digest, or no quorum of whole copies.
        WorldFailed: too few places answered.
    """
    seen = [_read(escrow, place) for place in escrow.places]
    files = [names for _, names in seen]
    trust = _newest_trust(escrow, files)
    copies = [_judged(copy, trust, adopting=adopting) for copy, _ in seen]
    sound = [copy for copy in copies if copy.error is None]
    if len(sound) < escrow.needed:
        raise _no_quorum(copies, escrow.needed)
    chain = max((copy.chain for copy in sound), key=len)
    claims = max((copy.claims for copy in sound), key=len)
    _refuse_fork(chain, (copy.chain for copy in sound), "index")
    _refuse_fork(claims, (copy.claims for copy in sound), "claims")
    return Survey(escrow=escrow, trust=trust, copies=copies, chain=chain, claims=claims)


def newest_claims(escrow: Escrow) -> Sequence[Claim] | None:
    """Give the longest chain of claims that any one place holds and that is valid; None where no place answered.

    One place is enough to be fenced by: a cluster that was replaced must not need a quorum to learn it.
    """
    seen = [_read(escrow, place) for place in escrow.places]
    try:
        trust = _newest_trust(escrow, [files for _, files in seen])
    except BrokenEscrow:
        trust = escrow.trust
    found: Sequence[Claim] | None = None
    for copy, _ in seen:
        try:
            if copy.error is not None:
                continue
            claims = read_claims({claim.name: claim.text() for claim in copy.claims}, trust)
        except BrokenEscrow:
            continue
        if found is None or len(claims) > len(found):
            found = claims
    return found


def refuse_stale(survey: Survey, witnesses: Iterable[Entry], *, accepted: str = "") -> list[str]:
    """Refuse where a witness has seen a newer epoch, or another of the same number. Gives notes.

    `accepted` is why an older escrow is taken all the same; a fork is never taken.

    Raises:
        BrokenEscrow: reason `Fork`, `Stale` or `WitnessUntrusted`.
    """
    notes = []
    for witness in witnesses:
        if witness.epoch <= len(survey.chain):
            if survey.chain[witness.epoch - 1].digest != witness.digest:
                raise _fork(f"the witness of epoch {witness.epoch} says something else than the escrow")
            continue
        if survey.trust is not None and not survey.trust.allows(witness.signed_by, Role.BUNDLES):
            raise BrokenEscrow(
                f"the witness of epoch {witness.epoch} is not signed by a signer of bundles",
                reason="WitnessUntrusted",
                hint="an entry is its own witness: copy epoch-*.json from a sink into the repository",
            )
        if not accepted:
            raise BrokenEscrow(
                f"a witness has seen epoch {witness.epoch}, the sinks have {len(survey.chain)}",
                reason="Stale",
                hint="find the sink with the newer epoch; --accept-stale REASON takes the older all the same",
            )
        notes.append(f"epoch {witness.epoch} was seen and is not here; accepted: {accepted}")
    return notes


def trust_name(versions: Sequence[roots.Version], content: bytes) -> str:
    """Give the file name of a trust root in a sink."""
    return f"{TRUST_PREFIX}{len(versions):08d}-{digest(content)[:16]}.json"


def _read(escrow: Escrow, place: Place) -> tuple[Copy, dict[str, bytes]]:
    """Give the copy of a place and its trust roots; what fails is kept as the copy's error."""
    try:
        names = place.reader.names()
        chain = read_chain({name: escrow.read(place, name) for name in entry_names(names)})
        # After the entries: a claim precedes every entry that was written under it.
        claims = read_claims({name: escrow.read(place, name) for name in claim_names(place.reader.names())}, None)
        held = [name for name in names if name.startswith(TRUST_PREFIX)][-TRUST_COPIES:]
        trusts = {name: escrow.read(place, name) for name in held}
    except (BrokenEscrow, WorldFailed) as error:
        return Copy(place=place, error=error), {}
    return Copy(place=place, names=frozenset(names), chain=chain, claims=claims), trusts


def _newest_trust(escrow: Escrow, found: Sequence[Mapping[str, bytes]]) -> Trust | None:
    """Give the newest trust root that holds, of those at hand and in the sinks; None without a digest from outside."""
    if not escrow.pin:
        return None
    candidates: list[Trust] = []
    if escrow.versions:
        candidates.append(roots.read_trust(roots.text(escrow.versions), escrow.pin))
    problem: BrokenEscrow | None = None
    for content in {content for files in found for content in files.values()}:
        try:
            candidates.append(roots.read_trust(content, escrow.pin))
        except BrokenEscrow as error:
            problem = error
    if not candidates:
        raise problem or BrokenEscrow(
            "neither the sinks nor the command line have a trust root",
            reason="NoTrust",
            hint="give --trust-file trust.json; `secretsops escrow create --signer` puts it into the sinks",
        )
    candidates.sort(key=lambda trust: len(trust.versions))
    for older, newer in pairwise(candidates):
        if newer.versions[len(older.versions) - 1].digest != older.newest.digest:
            raise BrokenEscrow(
                f"there are two versions {len(older.versions)} of the trust root, both signed",
                reason="TrustFork",
                hint="ask the root holders which one counts, and make a new one that removes who signed both",
            )
    return candidates[-1]


def _judged(copy: Copy, trust: Trust | None, *, adopting: bool) -> Copy:
    if copy.error is not None or not copy.names:
        return copy
    try:
        _refuse_untrusted(copy, trust, adopting=adopting)
    except BrokenEscrow as error:
        return replace(copy, chain=(), claims=(), error=error)
    return copy


def _refuse_untrusted(copy: Copy, trust: Trust | None, *, adopting: bool) -> None:
    head = copy.chain[-1] if copy.chain else None
    if trust is None:
        if (head and head.signatures) or any(claim.signatures for claim in copy.claims):
            raise BrokenEscrow(
                f"the index in {copy.place.name} is signed; who may sign has to come from outside",
                reason="TrustNeeded",
                hint="give --trust sha256:… from the custody card",
            )
        return
    if head is not None:
        trust.refuse_older_than(head.trust_version, head.trust)
        if not head.signatures and not adopting:
            raise BrokenEscrow(
                f"{head.name} in {copy.place.name} is not signed",
                reason="Unsigned",
                hint="`secretsops escrow create --signer` adopts an escrow from before signatures, once you checked it",
            )
        if head.signatures and not adopting and not trust.allows(head.signed_by, Role.BUNDLES):
            raise BrokenEscrow(
                f"{head.name} in {copy.place.name} is signed by nobody who may sign bundles now",
                reason="Untrusted",
                hint="was the signer removed? one who may signs a new epoch: secretsops escrow rotate",
            )
    read_claims({claim.name: claim.text() for claim in copy.claims}, trust)


def _refuse_fork(
    longest: Sequence[Entry] | Sequence[Claim], others: Iterable[Sequence[Entry] | Sequence[Claim]], what: str
) -> None:
    known = [each.text() for each in longest]
    for other in others:
        if [each.text() for each in other] != known[: len(other)]:
            raise _fork(f"the sinks hold two {what} that contradict each other")


def _fork(message: str) -> BrokenEscrow:
    return BrokenEscrow(
        message,
        reason="Fork",
        hint="one of them was forged, or two clusters wrote: find out which before anything is restored",
    )


def _no_quorum(copies: Sequence[Copy], needed: int) -> SecretsOpsError:
    errors = [copy.error for copy in copies if copy.error is not None]
    if len(copies) == 1 and errors:
        return errors[0]
    said = "; ".join(f"{copy.place.name}: {copy.error.message}" for copy in copies if copy.error)
    broken = [error for error in errors if isinstance(error, BrokenEscrow)]
    message = f"{len(copies) - len(errors)} of {len(copies)} sinks hold, {needed} must ({said})"
    if broken:
        return BrokenEscrow(message, reason=broken[0].reason, hint=broken[0].hint)
    return WorldFailed(message, reason="NoQuorum", hint="bring the sinks back, or name those that answer with --from")
