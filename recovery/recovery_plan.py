"""`recovery.yaml` (kind RecoveryPlan): what a rebuild relies on outside of Git. Strict: an unknown field is an error.

People, devices and accounts; identities that open the escrow and who holds them; sinks, stores, Git hosts, single
sign-on, KMS keys; Secrets that come from outside and where from. Pure. Never here: judgement (`proof/`).
"""

from __future__ import annotations

import datetime as dt
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

from recovery import mirrors, remap
from recovery.clusters import ClusterPlace
from recovery.data import DataStep
from recovery.mirrors import Mirror
from recovery.remap import Remap
from secretsops.errors import InvalidManifest, UsageError
from secretsops.manifest import load_values

API_VERSION, KIND = "secretsops.dev/v1", "RecoveryPlan"
FILE = "recovery.yaml"
"""Where it is looked for at the top of a repository."""
ENTRY_LIMIT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who can act. What is listed here goes with them."""

    name: str
    devices: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A thing that can be lost: laptop, token, safe. `holder` is a person; a safe has none."""

    name: str
    holder: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account elsewhere (cloud, Git host). With `sso` it opens only through that sign-on."""

    name: str
    sso: str = ""
    devices: tuple[str, ...] = ()
    """Second factors: one of them is needed; none named means none needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What opens the escrow: `threshold` of the places in `held_by` (devices, KMS keys) are needed."""

    name: str
    held_by: tuple[str, ...]
    threshold: int = 1
    recipient: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkPlace:
    """One copy of the escrow; `accounts` any of which reaches it (none named: it needs none)."""

    name: str
    url: str = ""
    accounts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePlace:
    """One external store: `[ClusterSecretStore/|SecretStore/namespace/]name`.

    `survives` says that its credential does not die with the cluster, `retrusted` when (a date) it was last shown to
    trust a new cluster's identity, `restored_by` what brings a store back that ran inside.
    """

    name: str
    survives: bool = False
    retrusted: dt.date | None = None
    restored_by: str = ""
    accounts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHost:
    """One host of repositories; `mirrors` are others that hold the same. `anonymous`: it needs no credential."""

    name: str
    anonymous: bool = False
    credential: str = ""
    """Where the credential comes from, where no Secret in Git holds it."""
    accounts: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignOn:
    """A single sign-on. With `inside` it ran in the cluster that is lost."""

    name: str
    inside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsKey:
    """A key of a KMS; `proven` is the date on which it last decrypted its canary."""

    name: str
    accounts: tuple[str, ...] = ()
    proven: dt.date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideSecret:
    """A Secret that comes from outside Git: `namespace/name`, where it comes from, and who or what holds it."""

    name: str
    source: str
    held_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRepositories:
    """Repositories whose commits must be signed: by one of these keys, each given as its public part.

    `repositories` are globs (`!glob` leaves some out), `mode` is `head` or `strict` (the whole history).
    """

    name: str
    repositories: tuple[str, ...]
    mode: str = "head"
    ssh_keys: tuple[str, ...] = ()
    """Lines of `.pub` files."""
    gpg_keys: tuple[str, ...] = ()
    """Armored public keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPlan:
    """The whole file."""

    name: str = ""
    roots: tuple[str, ...] = ()
    people: tuple[Person, ...] = ()
    devices: tuple[Device, ...] = ()
    accounts: tuple[Account, ...] = ()
    identities: tuple[Identity, ...] = ()
    sinks: tuple[SinkPlace, ...] = ()
    stores: tuple[StorePlace, ...] = ()
    git_hosts: tuple[GitHost, ...] = ()
    sso: tuple[SignOn, ...] = ()
    kms: tuple[KmsKey, ...] = ()
    secrets: tuple[OutsideSecret, ...] = ()
    signatures: tuple[SignedRepositories, ...] = ()
    clusters: tuple[ClusterPlace, ...] = ()
    data: tuple[DataStep, ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    remap: Remap = field(default_factory=Remap)
    declared: bool = field(default=False, compare=False)
    """Whether there is such a file at all."""


def read_recovery_plan(text: bytes, *, source: str = FILE) -> RecoveryPlan:
    """Give the plan of a file.

    Raises:
        InvalidManifest: not such a file; an unknown field, a wrong type, a name that nothing has. The path is named.
    """
    documents = [value for value in load_values(text, source=source) if value is not None]
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise _wrong(source, "is not one mapping")
    body = documents[0]
    if (body.get("apiVersion"), body.get("kind")) != (API_VERSION, KIND):
        raise _wrong(source, f"is no {KIND} of {API_VERSION}")
    _refuse_others(body, {"apiVersion", "kind", "metadata", "spec"}, source)
    metadata, spec = body.get("metadata") or {}, body.get("spec") or {}
    if not isinstance(metadata, dict) or not isinstance(spec, dict):
        raise _wrong(source, "metadata and spec are mappings")
    _refuse_others(metadata, {"name"}, f"{source}: metadata")
    if not isinstance(metadata.get("name", ""), str):
        raise _wrong(f"{source}: metadata.name", "is no text")
    plan = _read(RecoveryPlan, {**spec, "name": metadata.get("name", ""), "declared": True}, f"{source}: spec")
    _refuse_strangers(plan, source)
    try:
        remap.check(plan.remap)
        mirrors.check(plan.mirrors)
        for step in plan.data:
            _ = step.key, step.seconds
    except UsageError as error:
        raise _wrong(f"{source}: spec", error.message) from None
    return plan


_NAMELESS = ("name", "roots", "mirrors", "remap", "declared")
T = TypeVar("T")


def _read(kind: type[T], body: Any, where: str) -> T:
    """Read a mapping into a dataclass: camelCase names, types checked, nothing unknown."""
    if not isinstance(body, dict):
        raise _wrong(where, "is not a mapping")
    known = {_camel(one.name): one for one in fields(kind)}  # type: ignore[arg-type]
    _refuse_others(body, set(known), where)
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, one in known.items():
        if name in body:
            values[one.name] = _value(hints[one.name], body[name], f"{where}.{name}")
        elif one.default is MISSING and one.default_factory is MISSING:
            raise _wrong(f"{where}.{name}", "is missing")
    return kind(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list) or len(value) > ENTRY_LIMIT:
            raise _wrong(where, f"is not a list of at most {ENTRY_LIMIT}")
        inner = typing.get_args(hint)[0]
        return tuple(_value(inner, one, f"{where}[{number}]") for number, one in enumerate(value))
    if isinstance(hint, types.UnionType):  # a date or nothing
        try:
            return dt.date.fromisoformat(value)
        except (TypeError, ValueError):
            raise _wrong(where, "is no date such as 2026-05-31") from None
    if hint in (str, bool, int):
        if type(value) is not hint:
            raise _wrong(where, f"is no {'text' if hint is str else 'number' if hint is int else 'true or false'}")
        return value
    return _read(hint, value, where)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _refuse_others(body: Mapping[str, Any], known: set[str], where: str) -> None:
    others = sorted(str(name) for name in set(body) - known)
    if others:
        raise _wrong(f"{where}.{others[0][:60]}", "is no field of it")


def _refuse_strangers(plan: RecoveryPlan, source: str) -> None:
    """Refuse two entries of one name, and names that nothing has: a single point of failure would hide behind one."""
    kinds: Mapping[str, Sequence[Any]] = {
        _camel(one.name): getattr(plan, one.name) for one in fields(plan) if one.name not in _NAMELESS
    }
    names: dict[str, set[str]] = {}
    for kind, listed in kinds.items():
        found = [one.name for one in listed]
        doubled = sorted({name for name in found if found.count(name) > 1})
        if doubled:
            raise _wrong(f"{source}: spec.{kind}", f"names {doubled[0]!r} twice")
        names[kind] = set(found)
    holders = names["devices"] | names["kms"] | names["people"] | names["accounts"]
    refers: list[tuple[str, tuple[str, ...], set[str]]] = []
    for person in plan.people:
        refers.append((f"people {person.name}", person.devices, names["devices"]))
        refers.append((f"people {person.name}", person.accounts, names["accounts"]))
    refers += [(f"devices {d.name}", (d.holder,) if d.holder else (), names["people"]) for d in plan.devices]
    refers += [(f"accounts {a.name}", (a.sso,) if a.sso else (), names["sso"]) for a in plan.accounts]
    refers += [(f"accounts {a.name}", a.devices, names["devices"]) for a in plan.accounts]
    refers += [(f"identities {i.name}", i.held_by, holders) for i in plan.identities]
    refers += [(f"secrets {s.name}", s.held_by, holders) for s in plan.secrets]
    for listed in (plan.sinks, plan.stores, plan.git_hosts, plan.kms):
        refers += [(one.name, one.accounts, names["accounts"]) for one in listed]
    refers += [(f"gitHosts {h.name}", h.mirrors, names["gitHosts"]) for h in plan.git_hosts]
    for where, wanted, known in refers:
        for name in wanted:
            if name not in known:
                raise _wrong(f"{source}: {where}", f"names {name!r}, which the file does not describe")
    for one in plan.signatures:
        where = f"{source}: signatures {one.name}"
        if one.mode not in ("head", "strict"):
            raise _wrong(where, "has a mode other than head and strict")
        if not (one.ssh_keys or one.gpg_keys) or not one.repositories:
            raise _wrong(where, "names no key, or no repository")
    for identity in plan.identities:
        if not 1 <= identity.threshold <= len(identity.held_by):
            raise _wrong(f"{source}: identities {identity.name}", "needs a threshold from 1 to the number of holders")


def _wrong(where: str, problem: str) -> InvalidManifest:
    return InvalidManifest(problem, where=where, reason="InvalidRecoveryPlan", hint="see recovery/proof/README.md")
