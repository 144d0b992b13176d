"""The `provider` part of a store as a value, one kind per provider, with every reference to a credential. Pure.

What never lives here: the store around it (`secretsops.external.store`), credentials themselves, connections.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from secretsops.errors import InvalidManifest
from secretsops.secret import Plaintext


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRef:
    """One key of a Secret (or of a ConfigMap where that is allowed); an empty namespace is the user's own."""

    kind: str = "Secret"
    namespace: str = ""
    name: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """A KV engine of Vault or OpenBao, by a token."""

    server: str
    path: str = ""
    version: str = "v2"
    namespace: str = ""
    token: KeyRef
    ca_pem: str = field(default="", repr=False)
    ca: KeyRef | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def refs(self) -> list[KeyRef]:
        """Give every reference to a credential."""
        return [self.token, *([self.ca] if self.ca else [])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aws:
    """Secrets Manager of one region; without references the controller's own identity."""

    region: str
    prefix: str = ""
    access_key_id: KeyRef | None = None
    secret_access_key: KeyRef | None = None
    session_token: KeyRef | None = None

    @property
    def refs(self) -> list[KeyRef]:
        """Give every reference to a credential."""
        return [ref for ref in (self.access_key_id, self.secret_access_key, self.session_token) if ref]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Values written into the store itself (the peer's `fake` provider, for trials); by key and version joined."""

    values: Mapping[str, Plaintext]
    validation: int = 0

    @property
    def refs(self) -> list[KeyRef]:
        """Give every reference to a credential: there are none."""
        return []


Provider = Vault | Aws | Listed


def read_provider(spec: Mapping[str, Any], home: str, *, cluster: bool) -> Provider:
    """Give the provider a store's spec names; `home` is the namespace it may read credentials from, "" for any.

    Raises:
        InvalidManifest: it cannot be used; reason `Unsupported` names what is not built, `InvalidSpec` the rest.
    """
    providers = spec.get("provider")
    if not isinstance(providers, dict) or len(providers) != 1:
        raise _invalid("exactly one provider has to be named", "fill in spec.provider")
    ((kind, body),) = providers.items()
    body = body if isinstance(body, dict) else {}
    if kind == "vault":
        return _vault(body, home, cluster=cluster)
    if kind == "aws":
        return _aws(body, home)
    if kind == "fake":
        return _listed(body)
    raise _unsupported(f"provider {str(kind)[:40]}")


def _vault(body: Mapping[str, Any], home: str, *, cluster: bool) -> Vault:
    auth = _map(body, "auth")
    for name in ("tls", "checkAndSet"):
        if body.get(name):
            raise _unsupported(f"provider.vault.{name}")
    others = sorted(set(auth) - {"tokenSecretRef", "namespace"})
    if others:
        raise _unsupported(f"provider.vault.auth.{others[0][:40]}")
    if not isinstance(body.get("server"), str) or not body["server"]:
        raise _invalid("provider.vault.server is missing", "name the URL of Vault")
    return Vault(
        server=body["server"],
        path=str(body.get("path") or ""),
        version="v1" if body.get("version") == "v1" else "v2",
        namespace=str(body.get("namespace") or ""),
        token=_ref(auth, "tokenSecretRef", home, "provider.vault.auth"),
        ca_pem=_ca_bundle(str(body.get("caBundle") or "")),
        ca=_ca_provider(_map(body, "caProvider"), home, cluster=cluster),
        headers={str(name): str(value) for name, value in _map(body, "headers").items()},
    )


def _ca_bundle(text: str) -> str:
    """Give PEM, from PEM or base64 of PEM."""
    if not text or "-----BEGIN" in text:
        return text
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise _invalid("caBundle is neither PEM nor base64 of PEM", "encode the PEM file: base64 -w0 ca.pem") from None


def _ca_provider(body: Mapping[str, Any], home: str, *, cluster: bool) -> KeyRef | None:
    if not body:
        return None
    namespace = str(body.get("namespace") or "")
    if cluster and not namespace:
        raise _invalid("caProvider names no namespace", "a ClusterSecretStore has to name it")
    ref = KeyRef(
        kind="ConfigMap" if body.get("type") == "ConfigMap" else "Secret",
        namespace=namespace or home,
        name=str(body.get("name") or ""),
        key=str(body.get("key") or ("ca.crt" if body.get("type") == "ConfigMap" else "tls.crt")),
    )
    return _at_home(ref, home, "caProvider")


def _aws(body: Mapping[str, Any], home: str) -> Aws:
    service = body.get("service")
    if service != "SecretsManager":
        raise _unsupported(f"provider.aws.service {str(service)[:40]}")
    for name in ("role", "additionalRoles", "sessionTags", "customSessionTags"):
        if body.get(name):
            raise _unsupported(f"provider.aws.{name}")
    if not isinstance(body.get("region"), str) or not body["region"]:
        raise _invalid("provider.aws.region is missing", "name the region")
    auth = _map(body, "auth")
    if auth.get("jwt"):
        raise _unsupported("provider.aws.auth.jwt")
    keys = _map(auth, "secretRef")
    where = "provider.aws.auth.secretRef"
    both = bool(keys)
    return Aws(
        region=body["region"],
        prefix=str(body.get("prefix") or ""),
        access_key_id=_ref(keys, "accessKeyIDSecretRef", home, where) if both else None,
        secret_access_key=_ref(keys, "secretAccessKeySecretRef", home, where) if both else None,
        session_token=_ref(keys, "sessionTokenSecretRef", home, where) if keys.get("sessionTokenSecretRef") else None,
    )


def _listed(body: Mapping[str, Any]) -> Listed:
    values: dict[str, Plaintext] = {}
    entries = body.get("data")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            # Compat: key and version are joined without a separator, as the peer does.
            key = f"{entry.get('key') or ''}{entry.get('version') or ''}"
            values[key] = Plaintext(str(entry.get("value") or "").encode())
    result = body.get("validationResult")
    return Listed(values=values, validation=result if isinstance(result, int) else 0)


def _ref(body: Mapping[str, Any], name: str, home: str, where: str) -> KeyRef:
    found = _map(body, name)
    if not found.get("name") or not found.get("key"):
        raise _invalid(f"{where}.{name} needs name and key", "name the Secret and its key")
    ref = KeyRef(namespace=str(found.get("namespace") or home), name=str(found["name"]), key=str(found["key"]))
    return _at_home(ref, home, f"{where}.{name}")


def _at_home(ref: KeyRef, home: str, where: str) -> KeyRef:
    """Refuse a namespaced store that reaches into another namespace (the peer's CVE-2026-42875 was such a reach)."""
    if home and ref.namespace != home:
        raise _invalid(f"{where} names another namespace", "a SecretStore reads its own namespace only")
    return ref


def _map(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = body.get(name)
    return found if isinstance(found, dict) else {}


def _invalid(problem: str, hint: str) -> InvalidManifest:
    return InvalidManifest(problem, reason="InvalidSpec", hint=hint)


def _unsupported(what: str) -> InvalidManifest:
    return InvalidManifest(f"{what} is not supported", reason="Unsupported", hint="use a token, or static AWS keys")
