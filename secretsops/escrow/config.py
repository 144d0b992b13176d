"""`escrow.yaml`: where escrow goes, for whom, under which policy. Pure but for the files it is given.

A folder and a Secret of the same file names say the same: `escrow.yaml`, `credentials.yaml`, `signer.key`,
`trust.json`, `names.key`. Never here: opening sinks (`places.py`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from secretsops.errors import InvalidManifest, UsageError
from secretsops.manifest import load_values
from secretsops.secret import Plaintext

CONFIG, CREDENTIALS, SIGNER, TRUST = "escrow.yaml", "credentials.yaml", "signer.key", "trust.json"
NAMES = "names.key"
SINK_LIMIT = 16
VERSIONS, VERSION_LIMIT = 3, 20
"""Copies listed of each Secret, where not told otherwise, and at most."""
_FIELDS = {"apiVersion", "kind", "cluster", "policy", "trust", "quorum", "home", "recipients", "sinks", "lastKnownGood"}
MIN_NAMES = 32
"""Characters of a key that names are hidden by."""
_KEPT_FIELDS = {"recipients", "versions"}
_SINK_FIELDS = {"name", "url", "domain", "retentionDays", "writer", "reader"}
_SHAPE = "see `Configuration` in the manual of secretsops/escrow"


class Policy(StrEnum):
    """When a new key may seal: once its escrow is proven, at once with a warning, or regardless."""

    REQUIRED = "required"
    PREFERRED = "preferred"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkSpec:
    """One sink of the configuration. `domain` is what it would be lost with, as `cloud/aws:1111` or `office/safe`."""

    name: str
    url: str
    domain: str
    retention_days: int = 0
    writer: Mapping[str, Plaintext] = field(default_factory=dict)
    reader: Mapping[str, Plaintext] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptConfig:
    """Sealed copies of last known good Secrets: for whom, how many of each, and the key that hides their names."""

    recipients: Sequence[str]
    versions: int
    names: Plaintext


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowConfig:
    """The whole of it. `home` lists the failure domains of the cluster itself; `quorum` is a number of sinks."""

    cluster: str
    policy: Policy
    recipients: Sequence[str]
    sinks: Sequence[SinkSpec]
    home: Sequence[str] = ()
    quorum: int = 0
    trust: str = ""
    signer: Plaintext | None = None
    trust_file: bytes = b""
    kept: KeptConfig | None = None


def read_config(files: Mapping[str, bytes]) -> EscrowConfig:
    """Give the configuration of files by name; `required` is the default once there is a sink.

    Raises:
        UsageError: something is missing, unknown or of the wrong type; the file and field are named.
    """
    body = _document(files, CONFIG)
    credentials = _document(files, CREDENTIALS) if CREDENTIALS in files else {}
    _refuse_unknown(body, _FIELDS, CONFIG)
    if (body.get("apiVersion"), body.get("kind")) != ("secretsops.dev/v1", "EscrowConfig"):
        raise _bad("apiVersion and kind are not secretsops.dev/v1 EscrowConfig")
    sinks = [_sink(each, credentials) for each in _list(body, "sinks")]
    names = [sink.name for sink in sinks]
    if len(set(names)) != len(names) or len(sinks) > SINK_LIMIT:
        raise _bad(f"two sinks have one name, or there are more than {SINK_LIMIT}")
    policy = str(body.get("policy") or (Policy.REQUIRED if sinks else Policy.OFF))
    if policy not in set(Policy):
        raise _bad(f"policy {policy[:40]!r} is none of {', '.join(Policy)}")
    found = EscrowConfig(
        cluster=_text(body, "cluster"),
        policy=Policy(policy),
        recipients=[_string(each, "recipients") for each in _list(body, "recipients")],
        sinks=sinks,
        home=[_string(each, "home") for each in _list(body, "home")],
        quorum=_number(body, "quorum"),
        trust=_text(body, "trust", needed=False),
        signer=Plaintext(files[SIGNER]) if SIGNER in files else None,
        trust_file=files.get(TRUST, b""),
        kept=_kept(body["lastKnownGood"], files) if body.get("lastKnownGood") is not None else None,
    )
    _refuse_useless(found)
    return found


def _refuse_useless(config: EscrowConfig) -> None:
    if config.policy is not Policy.OFF and not config.sinks:
        raise _bad(f"policy {config.policy} needs a sink")
    if config.kept is not None and not config.sinks:
        raise _bad("lastKnownGood needs a sink")
    if config.sinks and not config.recipients and (config.policy is not Policy.OFF or config.kept is None):
        raise _bad("there are sinks but no recipient")
    if config.quorum > len(config.sinks):
        raise _bad(f"a quorum of {config.quorum} cannot be had from {len(config.sinks)} sink(s)")
    if bool(config.trust) != bool(config.signer):
        raise _bad("trust and signer.key go together: who signs, and who says that it may")


def _kept(body: Any, files: Mapping[str, bytes]) -> KeptConfig:
    """Read `lastKnownGood`. Names are hidden by `names.key`, else by a key that follows from the signer's."""
    if not isinstance(body, dict):
        raise _bad("lastKnownGood is no mapping")
    _refuse_unknown(body, _KEPT_FIELDS, "lastKnownGood")
    recipients = [_string(each, "lastKnownGood.recipients") for each in _list(body, "recipients")]
    versions = _number(body, "versions") or VERSIONS
    secret = files.get(NAMES, b"").strip() or files.get(SIGNER, b"")
    if not recipients:
        raise _bad("lastKnownGood has no recipients of its own")
    if versions > VERSION_LIMIT:
        raise _bad(f"lastKnownGood.versions is above {VERSION_LIMIT}")
    if len(secret) < MIN_NAMES:
        raise _bad(f"lastKnownGood needs {NAMES} (openssl rand -hex 32), or a signer.key")
    key = hmac.new(secret, b"secretsops.dev names of kept copies", hashlib.sha256).digest()
    return KeptConfig(recipients=recipients, versions=versions, names=Plaintext(key))


def _sink(body: Any, credentials: Mapping[str, Any]) -> SinkSpec:
    if not isinstance(body, dict):
        raise _bad("a sink is no mapping")
    _refuse_unknown(body, _SINK_FIELDS, "a sink")
    return SinkSpec(
        name=_text(body, "name"),
        url=_text(body, "url"),
        domain=_text(body, "domain"),
        retention_days=_number(body, "retentionDays"),
        writer=_credential(_text(body, "writer", needed=False), credentials),
        reader=_credential(_text(body, "reader", needed=False), credentials),
    )


def _credential(name: str, credentials: Mapping[str, Any]) -> dict[str, Plaintext]:
    if not name:
        return {}
    found = credentials.get(name)
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise _bad(f"{CREDENTIALS} has no credential {name!r} that maps names to texts")
    return {str(key): Plaintext(value.encode()) for key, value in found.items()}


def _document(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    if name not in files:
        raise UsageError(f"there is no {name}", reason="NoEscrowConfig", hint=_SHAPE)
    try:
        found = [value for value in load_values(files[name], source=name) if value is not None]
    except InvalidManifest as error:
        raise UsageError(error.message, reason="BadEscrowConfig", hint=_SHAPE) from None
    if len(found) != 1 or not isinstance(found[0], dict):
        raise UsageError(f"{name} does not hold one mapping", reason="BadEscrowConfig", hint=_SHAPE)
    return found[0]


def _refuse_unknown(body: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := sorted(str(key) for key in set(body) - known):
        raise _bad(f"{where} has the unknown field {unknown[0][:60]!r}")


def _text(body: Mapping[str, Any], name: str, *, needed: bool = True) -> str:
    value = body.get(name, "")
    if needed and not value:
        raise _bad(f"{name} is missing")
    return _string(value, name)


def _string(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _bad(f"{name} is no text")
    return value


def _list(body: Mapping[str, Any], name: str) -> list[Any]:
    value = body.get(name) or []
    if not isinstance(value, list):
        raise _bad(f"{name} is no list")
    return value


def _number(body: Mapping[str, Any], name: str) -> int:
    value = body.get(name, 0)
    if type(value) is not int or value < 0:
        raise _bad(f"{name} is no whole number")
    return value


def _bad(problem: str) -> UsageError:
    return UsageError(f"{CONFIG}: {problem}", reason="BadEscrowConfig", hint=_SHAPE)
