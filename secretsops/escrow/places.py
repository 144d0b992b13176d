"""The opened sinks of an escrow, and which of them count. Never here: what is written there.

A sink that would be lost together with the cluster counts for nothing: a failure domain that is `home`, a volume or a
Vault inside the cluster. One that lets a canary be overwritten or deleted is written to, but not counted as durable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from secretsops.errors import BrokenEscrow, UsageError
from secretsops.escrow.config import EscrowConfig, SinkSpec
from secretsops.escrow.signing import Signer, read_signer
from secretsops.escrow.trust import Trust, Version, read_trust, read_versions, text
from secretsops.ports import Age, Doors, Sink, SinkAccess, Trial

CANARY = "canary-"
_INSIDE = (".svc", ".svc.cluster.local", ".cluster.local")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One opened sink. `lost_with` says why it counts for nothing, "" when it counts."""

    name: str
    writer: Sink
    reader: Sink
    domain: str = ""
    independent: bool = False
    lost_with: str = ""
    retention_days: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Escrow:
    """What the commands and the controller work over. `trust` and `signers` are empty in an unsigned escrow."""

    places: Sequence[Place]
    age: Age
    cluster: str = ""
    pin: str = ""
    versions: Sequence[Version] = ()
    signers: Sequence[Signer] = ()
    quorum: int = 0
    memory: dict[tuple[str, str], bytes] | None = field(default=None, repr=False, compare=False)
    """Where given: small files that were read already, by place and name. What is to be proven is read anew."""

    def read(self, place: Place, name: str) -> bytes:
        """Read a small file, from memory where it was read before."""
        if self.memory is None:
            return place.reader.get(name)
        found = self.memory.get((place.name, name))
        if found is None:
            found = self.memory[place.name, name] = place.reader.get(name)
        return found

    @property
    def needed(self) -> int:
        """Give how many places must answer: as configured, else more than half."""
        return self.quorum or len(self.places) // 2 + 1

    @property
    def trust(self) -> Trust | None:
        """Give the trust of the versions at hand; None where no digest came from outside."""
        return read_trust(text(self.versions), self.pin) if self.pin and self.versions else None


def plain(sinks: Sequence[Sink], age: Age) -> Escrow:
    """Give an unsigned escrow in these sinks."""
    return Escrow(places=[Place(name=sink.name, writer=sink, reader=sink) for sink in sinks], age=age)


def opened(config: EscrowConfig, doors: Doors, *, in_cluster: bool) -> Escrow:
    """Open every sink of a configuration, no request yet.

    Raises:
        UsageError: a URL, key or credential is not usable. BrokenEscrow: the trust root does not hold.
    """
    signers = [read_signer(config.signer)] if config.signer else []
    if config.trust and not config.trust_file:
        raise UsageError("the configuration has a trust digest but no trust.json", reason="NoTrust")
    return Escrow(
        places=[_place(spec, config, doors, in_cluster=in_cluster) for spec in config.sinks],
        age=doors.age(),
        cluster=config.cluster,
        pin=config.trust,
        versions=read_versions(config.trust_file) if config.trust else (),
        signers=signers,
        quorum=config.quorum,
    )


def _place(spec: SinkSpec, config: EscrowConfig, doors: Doors, *, in_cluster: bool) -> Place:
    writer = doors.sink(SinkAccess(url=spec.url, credentials=spec.writer, retention_days=spec.retention_days))
    separate = bool(spec.reader) and dict(spec.reader) != dict(spec.writer)
    reader = doors.sink(SinkAccess(url=spec.url, credentials=spec.reader)) if separate else writer
    return Place(
        name=spec.name,
        writer=writer,
        reader=reader,
        domain=spec.domain,
        independent=separate,
        lost_with=_lost_with(spec, config.home, in_cluster=in_cluster),
        retention_days=spec.retention_days,
    )


def _lost_with(spec: SinkSpec, home: Sequence[str], *, in_cluster: bool) -> str:
    parts = urlsplit(spec.url)
    if in_cluster and parts.scheme in ("", "file"):
        return "a volume of the cluster"
    if (parts.hostname or "").endswith(_INSIDE):
        return "a service inside the cluster"
    return f"its failure domain {spec.domain} is the cluster's own" if spec.domain in home else ""


def tried(places: Sequence[Place], *, canary: str) -> dict[str, Trial]:
    """Give for each place whether it refused to lose a canary; raises what a place raises that gives no answer."""
    return {place.name: place.writer.trial(CANARY + canary) for place in places}


def refuse_weak(places: Sequence[Place], trials: Mapping[str, Trial], *, quorum: int) -> None:
    """Refuse where too few places would outlive the cluster and keep what they have.

    Raises:
        BrokenEscrow: reason `WeakSinks`; each place that does not count is named with its reason.
    """
    lacking = {}
    for place in places:
        if problem := place.lost_with or trials[place.name].problem:
            lacking[place.name] = problem
        elif not place.independent:
            lacking[place.name] = "there is no separate credential to read it back with"
    counted = len(places) - len(lacking)
    if counted < max(quorum, 1):
        why = "; ".join(f"{name}: {problem}" for name, problem in lacking.items())
        raise BrokenEscrow(
            f"{counted} of {len(places)} sink(s) count, {max(quorum, 1)} must ({why})",
            reason="WeakSinks",
            hint="one outside the cluster, its cloud account and Git host, with object lock or the like, and a reader",
        )
