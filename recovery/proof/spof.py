"""`recover spof`: the smallest sets of people, things and accounts whose loss makes a rebuild impossible. Pure.

A rebuild needs somebody, every Git host, every store and outside Secret that the estate uses, and, where something is
sealed, one sink of the escrow and one identity that opens it. What `recovery.yaml` does not describe stands for itself.

Never here: whether a Secret comes back at all (`verify.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from recovery.plain import mapping
from recovery.proof.graph import BEFORE_ALL
from recovery.proof.rules.inside import host_of
from recovery.proof.subject import Subject
from recovery.recovery_plan import Account, RecoveryPlan
from secretsops.errors import Refused

ELEMENT_LIMIT = 400
"""Elements whose pairs are tried: 80,000 sets, a few seconds."""


@dataclass(frozen=True, slots=True, order=True)
class Element:
    """Something that can be lost: its kind in words, and its name."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """What a rebuild of an estate needs from outside."""

    hosts: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    sealed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """One smallest set, and what then lacks."""

    elements: tuple[Element, ...]
    lacks: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """The answer. `already` says what lacks with nothing lost; then no set is smaller than none."""

    losses: Sequence[Loss]
    already: str = ""
    undescribed: Sequence[str] = ()

    @property
    def single(self) -> list[Loss]:
        """Give the sets of one."""
        return [loss for loss in self.losses if len(loss.elements) == 1]


def needed_by(subject: Subject, plan: RecoveryPlan) -> Needed:
    """Give what an estate needs: hosts of its sources, stores its ExternalSecrets read, outside Secrets it uses."""
    hosts = {host_of(s.url) for planned in subject.estate.applications for s in planned.app.sources if s.url}
    stores = set()
    for node in subject.of("external-secrets.io", "SecretStore", "ClusterSecretStore"):
        if "fake" not in mapping(node.manifest.spec.get("provider")):
            stores.add(f"{node.key.namespace}/{node.key.name}" if node.key.namespace else node.key.name)
    asked = {f"{key.namespace}/{key.name}" for key in subject.graph.asked if key.kind == "Secret"}
    sealed = any(node.step != BEFORE_ALL for node in subject.of("bitnami.com", "SealedSecret"))
    return Needed(
        hosts=tuple(sorted(hosts - {""})),
        stores=tuple(sorted(stores)),
        secrets=tuple(secret.name for secret in plan.secrets if secret.name in asked),
        sealed=sealed,
    )


def exposure(plan: RecoveryPlan, needed: Needed) -> Exposure:
    """Give the smallest sets of one and two whose loss makes a rebuild impossible.

    Raises:
        Refused: the plan names more elements than pairs of them can be tried.
    """
    world = _World(plan, needed)
    elements = world.elements()
    if len(elements) > ELEMENT_LIMIT:
        raise Refused(f"{len(elements)} elements are more than {ELEMENT_LIMIT}", reason="TooMany")
    already = world.lacks(frozenset())
    if already:
        return Exposure(losses=(), already=already, undescribed=world.undescribed)
    losses = [Loss(elements=(one,), lacks=lacks) for one in elements if (lacks := world.lacks(frozenset({one})))]
    rest = [one for one in elements if one not in {loss.elements[0] for loss in losses}]
    losses += [
        Loss(elements=pair, lacks=lacks) for pair in combinations(rest, 2) if (lacks := world.lacks(frozenset(pair)))
    ]
    return Exposure(losses=losses, undescribed=world.undescribed)


class _World:
    """Says what lacks once some elements are lost. Each question is a small and-or formula over the plan."""

    def __init__(self, plan: RecoveryPlan, needed: Needed) -> None:
        self.plan, self.needed = plan, needed
        self.accounts = {one.name: one for one in plan.accounts}
        self.devices = {one.name: one for one in plan.devices}
        self.hosts = {one.name: one for one in plan.git_hosts}
        self.kms = {one.name: one for one in plan.kms}
        self.sso = {one.name: one for one in plan.sso}
        self.secrets = {one.name: one for one in plan.secrets}
        self.stores = {want: self._store(want) for want in needed.stores}
        hosts = [f"git host {host}" for host in needed.hosts if host not in self.hosts]
        stores = [f"store {name}" for name, found in self.stores.items() if found is None]
        escrow = ["the escrow (spec.sinks)"] if needed.sealed and not plan.sinks else []
        identities = ["who opens the escrow (spec.identities)"] if needed.sealed and not plan.identities else []
        holders = [f"who holds {name}" for name in needed.secrets if not self.secrets[name].held_by]
        people = [] if plan.people else ["anybody (spec.people)"]
        self.undescribed = [*people, *hosts, *stores, *escrow, *identities, *holders]

    def _store(self, name: str) -> Any:
        base = name.rpartition("/")[2]
        wanted = {name, base, f"SecretStore/{name}", f"ClusterSecretStore/{name}"}
        return next((one for one in self.plan.stores if one.name in wanted), None)

    def elements(self) -> list[Element]:
        """Give everything that can be lost, described or not."""
        plan = self.plan
        found = [Element("person", one.name) for one in plan.people]
        found += [Element("device", one.name) for one in plan.devices]
        found += [Element("account", one.name) for one in plan.accounts]
        found += [Element("sink", one.name) for one in plan.sinks]
        found += [Element("single sign-on", one.name) for one in plan.sso]
        found += [Element("KMS key", one.name) for one in plan.kms]
        found += [Element("store", name) for name in self.needed.stores]
        found += [Element("git host", name) for name in dict.fromkeys([*self.needed.hosts, *self.hosts])]
        found += [Element("source", name) for name in self.needed.secrets if not self.secrets[name].held_by]
        if self.needed.sealed and not plan.sinks:
            found.append(Element("sink", "the escrow"))
        if self.needed.sealed and not plan.identities:
            found.append(Element("identity", "of the escrow"))
        return sorted(found)

    def lacks(self, lost: frozenset[Element]) -> str:
        """Give what a rebuild lacks then, "" where it is possible."""
        if self.plan.people and not any(self._person(one.name, lost) for one in self.plan.people):
            return "nobody is left"
        for host in self.needed.hosts:
            if not self._host(host, lost, frozenset()):
                return f"the repositories of {host}"
        for store in self.needed.stores:
            described = self.stores[store]
            accounts = described.accounts if described is not None else ()
            if Element("store", store) in lost or not self._any_account(accounts, lost):
                return f"the store {store}"
        for name in self.needed.secrets:
            holders = self.secrets[name].held_by
            if not (any(self._holder(h, lost) for h in holders) if holders else Element("source", name) not in lost):
                return f"the Secret {name}, which comes from outside"
        return self._escrow(lost) if self.needed.sealed else ""

    def _escrow(self, lost: frozenset[Element]) -> str:
        sinks = [
            one
            for one in self.plan.sinks
            if Element("sink", one.name) not in lost and self._any_account(one.accounts, lost)
        ]
        if not sinks and (self.plan.sinks or Element("sink", "the escrow") in lost):
            return "every copy of the escrow"
        identities = [
            one
            for one in self.plan.identities
            if sum(self._holder(name, lost) for name in one.held_by) >= one.threshold
        ]
        if not identities and (self.plan.identities or Element("identity", "of the escrow") in lost):
            return "an identity that opens the escrow"
        return ""

    def _person(self, name: str, lost: frozenset[Element]) -> bool:
        return Element("person", name) not in lost

    def _device(self, name: str, lost: frozenset[Element]) -> bool:
        """A device works with its holder; one that nobody holds (a safe) with anybody."""
        holder = self.devices[name].holder
        return Element("device", name) not in lost and (not holder or self._person(holder, lost))

    def _account(self, account: Account, lost: frozenset[Element]) -> bool:
        if Element("account", account.name) in lost:
            return False
        if account.sso and (self.sso[account.sso].inside or Element("single sign-on", account.sso) in lost):
            return False
        if account.devices and not any(self._device(name, lost) for name in account.devices):
            return False
        holders = [one for one in self.plan.people if account.name in one.accounts]
        return not holders or any(self._person(one.name, lost) for one in holders)

    def _any_account(self, names: Iterable[str], lost: frozenset[Element]) -> bool:
        listed = list(names)
        return not listed or any(self._account(self.accounts[name], lost) for name in listed)

    def _holder(self, name: str, lost: frozenset[Element]) -> bool:
        if name in self.devices:
            return self._device(name, lost)
        if name in self.kms:
            return Element("KMS key", name) not in lost and self._any_account(self.kms[name].accounts, lost)
        if name in self.accounts:
            return self._account(self.accounts[name], lost)
        return self._person(name, lost)

    def _host(self, name: str, lost: frozenset[Element], seen: frozenset[str]) -> bool:
        described = self.hosts.get(name)
        own = Element("git host", name) not in lost
        if described is None:
            return own
        if own and self._any_account(described.accounts, lost):
            return True
        return any(self._host(mirror, lost, seen | {name}) for mirror in described.mirrors if mirror not in seen)


def body_of(found: Exposure) -> dict[str, Any]:
    """Give the answer as stable plain data."""
    return {
        "already": found.already,
        "sets": [{"lost": list(map(str, loss.elements)), "lacks": loss.lacks} for loss in found.losses],
        "undescribed": list(found.undescribed),
    }


def table(body: Mapping[str, Any]) -> str:
    """Give the answer for a terminal."""
    lines = [f"not described in recovery.yaml, so it stands for itself: {text}" for text in body["undescribed"]]
    if body["already"]:
        lines.append(f"a rebuild is impossible as it is: it lacks {body['already']}")
    lines += [
        f"{len(loss['lost'])}  {' + '.join(loss['lost'])}: then a rebuild lacks {loss['lacks']}"
        for loss in body["sets"]
    ]
    single = sum(1 for loss in body["sets"] if len(loss["lost"]) == 1)
    lines.append(f"{single} single point(s) of failure, {len(body['sets']) - single} pair(s)")
    return "\n".join(lines) + "\n"
