"""A drill as a value: what the world holds, what is lost, what must be reached, what is checked. Pure.

A scenario is a YAML file (`apiVersion: secretsops.dev/v1`, `kind: Drill`). An unknown field, step or check is refused:
a check that is misspelt must not count as passed. Never here: carrying it out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secretsops.durations import parse_duration
from secretsops.errors import InvalidManifest
from secretsops.manifest import load_all

STEPS = ("start", "install", "commit", "fill", "escrow", "destroy", "replace", "rebuild")
"""What can be done, in the only order that makes sense; a scenario names all it needs."""
CHECKS = ("secrets-equal", "applications-healthy", "objects-equal", "keys-equal")
SCOPES = ("strict", "namespace-wide", "cluster-wide")
SOURCES = ("generated", "vault", "aws")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
LIMIT = 1000
"""Entries of one list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedEntry:
    """One Secret that is sealed into the repository. `source`: made up, or the login of a store."""

    name: str
    namespace: str
    scope: str
    keys: Sequence[str]
    file: str
    source: str = "generated"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry:
    """One document of a secret store, with made-up values."""

    store: str
    key: str
    values: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives:
    """What must be reached, in seconds: recovery time from disruption, and how much may be lost."""

    rto: float
    rpo: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One drill."""

    name: str
    estate: str
    root: str
    sealed: Sequence[SealedEntry]
    stores: Sequence[StoredEntry]
    objectives: Objectives
    steps: Sequence[str]
    checks: Sequence[str]


def read_scenario(text: bytes, *, source: str) -> Scenario:
    """Give the scenario of a file.

    Raises:
        InvalidManifest: it is no drill, or holds what this version does not know; names the field.
    """
    found = load_all(text, source=source)
    if len(found) != 1 or (found[0].body.get("apiVersion"), found[0].body.get("kind")) != (
        "secretsops.dev/v1",
        "Drill",
    ):
        raise InvalidManifest("not one document of kind Drill", where=source, hint="apiVersion: secretsops.dev/v1")
    at = _At(source, "spec")
    spec = at.mapping(found[0].body.get("spec"))
    at.only(spec, ("estate", "root", "sealed", "stores", "objectives", "steps", "checks"))
    goals = at.into("objectives").mapping(spec.get("objectives"))
    at.into("objectives").only(goals, ("rto", "rpo"))
    scenario = Scenario(
        name=at.name(found[0].name),
        estate=at.name(spec.get("estate")),
        root=at.path(spec.get("root")),
        sealed=[_sealed(entry, at.into(f"sealed[{n}]")) for n, entry in enumerate(at.entries(spec, "sealed"))],
        stores=[_stored(entry, at.into(f"stores[{n}]")) for n, entry in enumerate(at.entries(spec, "stores"))],
        objectives=Objectives(rto=_seconds(goals, "rto", at), rpo=_seconds(goals, "rpo", at)),
        steps=[at.into("steps").choice(step, STEPS) for step in at.entries(spec, "steps")],
        checks=[at.into("checks").choice(check, CHECKS) for check in at.entries(spec, "checks")],
    )
    if not scenario.checks or "rebuild" not in scenario.steps:
        raise at.refusal("a drill rebuilds something and checks something")
    if list(scenario.steps) != [step for step in STEPS if step in scenario.steps]:
        raise at.refusal(f"steps are out of order; the order is {', '.join(STEPS)}")
    return scenario


def _sealed(entry: object, at: _At) -> SealedEntry:
    body = at.mapping(entry)
    at.only(body, ("name", "namespace", "scope", "keys", "file", "from"))
    return SealedEntry(
        name=at.name(body.get("name")),
        namespace=at.name(body.get("namespace")),
        scope=at.choice(body.get("scope"), SCOPES),
        keys=[at.name(key) for key in at.entries(body, "keys")],
        file=at.path(body.get("file")),
        source=at.choice(body.get("from", "generated"), SOURCES),
    )


def _stored(entry: object, at: _At) -> StoredEntry:
    body = at.mapping(entry)
    at.only(body, ("store", "key", "values"))
    return StoredEntry(
        store=at.choice(body.get("store"), SOURCES[1:]),
        key=at.path(body.get("key")),
        values=[at.name(key) for key in at.entries(body, "values")],
    )


def _seconds(goals: Mapping[str, Any], name: str, at: _At) -> float:
    try:
        return parse_duration(str(goals.get(name)))
    except InvalidManifest:
        raise at.refusal(f"objectives.{name} is no duration such as 90s") from None


@dataclass(frozen=True, slots=True)
class _At:
    """A place in the file, for messages."""

    source: str
    where: str

    def into(self, field: str) -> _At:
        return _At(self.source, f"{self.where}.{field}")

    def refusal(self, message: str) -> InvalidManifest:
        return InvalidManifest(f"{self.where}: {message}", where=self.source, reason="InvalidScenario")

    def mapping(self, value: object) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self.refusal("should be a mapping")
        return value

    def entries(self, body: Mapping[str, Any], field: str) -> Sequence[Any]:
        value = body.get(field) or []
        if not isinstance(value, list) or len(value) > LIMIT:
            raise self.into(field).refusal(f"should be a list of at most {LIMIT}")
        return value

    def only(self, body: Mapping[str, Any], known: Sequence[str]) -> None:
        unknown = sorted(set(body) - set(known))
        if unknown:
            raise self.refusal(f"unknown field '{unknown[0]}'; known are {', '.join(known)}")

    def choice(self, value: object, known: Sequence[str]) -> str:
        if not isinstance(value, str) or value not in known:
            raise self.refusal(f"'{value}' is none of {', '.join(known)}")
        return value

    def name(self, value: object) -> str:
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise self.refusal(f"'{value}' is no name")
        return value

    def path(self, value: object) -> str:
        parts = value.split("/") if isinstance(value, str) else [""]
        if any(part in ("", ".", "..") for part in parts):
            raise self.refusal(f"'{value}' is no relative path")
        return "/".join(parts)
