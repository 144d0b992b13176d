"""How a store's spec points at credentials: keys of Secrets, service accounts, authorities; whose they may be. Pure.

A SecretStore reaches its own namespace alone. A ClusterSecretStore names a namespace, or leaves it out and then it is
the one of whoever uses it ("referent").

What never lives here: the credentials, a provider's own fields.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secretsops.durations import parse_duration
from secretsops.errors import InvalidManifest
from secretsops.sources import Retries

ATTEMPT_LIMIT, INTERVAL_LIMIT = 10, 30.0
"""How often, and after how many seconds, one read is tried again at most; a worker waits meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRef:
    """One key of a Secret (or of a ConfigMap where that is allowed); an empty namespace is the user's own.

    An empty `key` means all of them. With a `label` ("name=value") the Secret has to carry it.
    """

    kind: str = "Secret"
    namespace: str = ""
    name: str
    key: str
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRef:
    """A service account that tokens are made for; an empty namespace is the user's own."""

    namespace: str = ""
    name: str
    audiences: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where a store stands: the namespace it may reach ("" for any), and whether it is a ClusterSecretStore."""

    home: str = ""
    cluster: bool = False


def key_ref(body: Mapping[str, Any], name: str, scope: Scope, where: str, *, key: str = "") -> KeyRef:
    """Give the reference `name` of a part of a spec; `key` is taken where it names none.

    Raises:
        InvalidManifest: it is not there, not whole, or reaches into another namespace.
    """
    found = section(body, name)
    found_key = found.get("key") or key
    if not found.get("name") or not found_key:
        raise invalid(f"{where}.{name} needs name and key", "name the Secret and its key")
    namespace = str(found.get("namespace") or scope.home)
    ref = KeyRef(namespace=namespace, name=str(found["name"]), key=str(found_key))
    _at_home(ref.namespace, scope, f"{where}.{name}")
    return ref


def optional_key_ref(body: Mapping[str, Any], name: str, scope: Scope, where: str, *, key: str = "") -> KeyRef | None:
    """Give the reference where there is one."""
    return key_ref(body, name, scope, where, key=key) if section(body, name) else None


def account_ref(body: Mapping[str, Any], name: str, scope: Scope, where: str) -> AccountRef:
    """Give the service account a part of a spec names.

    Raises:
        InvalidManifest: it is not there, or in another namespace.
    """
    found = section(body, name)
    if not found.get("name"):
        raise invalid(f"{where}.{name} needs a name", "name the service account")
    namespace = str(found.get("namespace") or scope.home)
    _at_home(namespace, scope, f"{where}.{name}")
    return AccountRef(namespace=namespace, name=str(found["name"]), audiences=texts(found.get("audiences")))


def ca_bundle(text: str) -> str:
    """Give PEM, from PEM or base64 of PEM."""
    if not text or "-----BEGIN" in text:
        return text
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise invalid("caBundle is neither PEM nor base64 of PEM", "encode the PEM file: base64 -w0 ca.pem") from None


def ca_provider(body: Mapping[str, Any], scope: Scope) -> KeyRef | None:
    """Give the reference to authorities; one of another namespace is refused (the peer's CVE-2026-42875)."""
    if not body:
        return None
    namespace = str(body.get("namespace") or "")
    if scope.cluster and not namespace:
        raise invalid("caProvider names no namespace", "a ClusterSecretStore has to name it")
    if not body.get("name"):
        raise invalid("caProvider needs a name", "name the Secret or ConfigMap")
    of_map = body.get("type") == "ConfigMap"
    _at_home(namespace or scope.home, scope, "caProvider")
    return KeyRef(
        kind="ConfigMap" if of_map else "Secret",
        namespace=namespace or scope.home,
        name=str(body["name"]),
        key=str(body.get("key") or ("ca.crt" if of_map else "tls.crt")),
    )


def section(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Give a part of a spec, empty where there is none."""
    found = body.get(name)
    return found if isinstance(found, dict) else {}


def texts(value: Any) -> tuple[str, ...]:
    """Give a list of strings as it stands in a spec."""
    return tuple(str(each) for each in value) if isinstance(value, list) else ()


def retries(spec: Mapping[str, Any]) -> Retries | None:
    """Give a store's `retrySettings`, within limits; None where it has none."""
    settings = section(spec, "retrySettings")
    if not settings:
        return None
    attempts, interval = settings.get("maxRetries"), settings.get("retryInterval")
    return Retries(
        attempts=min(max(attempts, 0), ATTEMPT_LIMIT) if isinstance(attempts, int) else 0,
        interval=min(max(parse_duration(str(interval)), 0.0), INTERVAL_LIMIT) if interval else 0.0,
    )


def invalid(problem: str, hint: str) -> InvalidManifest:
    """Give the error for a store that cannot be used as it is written."""
    return InvalidManifest(problem, reason="InvalidSpec", hint=hint)


def unsupported(what: str, hint: str) -> InvalidManifest:
    """Give the error for a part that is not built."""
    return InvalidManifest(f"{what} is not supported", reason="Unsupported", hint=hint)


def _at_home(namespace: str, scope: Scope, where: str) -> None:
    if scope.home and namespace != scope.home:
        raise invalid(f"{where} names another namespace", "a SecretStore reads its own namespace only")
