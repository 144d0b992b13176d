"""SecretStores and ClusterSecretStores as values, and who may use them. Pure.

A SecretStore takes credentials from its own namespace alone. A ClusterSecretStore names a namespace, or leaves it out
and then the one of the ExternalSecret holds the credentials ("referent"). `admits` is the tenants' border: which
namespaces a ClusterSecretStore serves.

What never lives here: credentials themselves, connections, readiness over time.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from secretsops.durations import parse_duration
from secretsops.errors import InvalidManifest
from secretsops.external.model import CLUSTER_SECRET_STORE
from secretsops.manifest import Manifest
from secretsops.secret import Plaintext

NAMESPACE_LABEL = "kubernetes.io/metadata.name"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """One store. `interval` is in seconds, 0 for the controller's default."""

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int
    controller: str
    interval: float
    provider: Provider

    @property
    def is_cluster(self) -> bool:
        """Say whether every namespace may name it."""
        return self.kind == CLUSTER_SECRET_STORE.kind

    @property
    def is_referent(self) -> bool:
        """Say whether credentials are those of the ExternalSecret's namespace."""
        return self.is_cluster and any(not ref.namespace for ref in self.provider.refs)


def controller_class(manifest: Manifest) -> str:
    """Give the controller class a store asks for, "" for any; also where the rest of it is not valid."""
    return str(manifest.spec.get("controller") or "")


def read_store(manifest: Manifest) -> Store:
    """Give the store a manifest describes.

    Raises:
        InvalidManifest: it cannot be used; reason `Unsupported` names what is not built, `InvalidSpec` the rest.
    """
    spec = manifest.spec
    providers = spec.get("provider")
    if not isinstance(providers, dict) or len(providers) != 1:
        raise _invalid("exactly one provider has to be named", "fill in spec.provider")
    ((kind, body),) = providers.items()
    body = body if isinstance(body, dict) else {}
    cluster = manifest.kind.kind == CLUSTER_SECRET_STORE.kind
    home = "" if cluster else manifest.namespace
    provider: Provider
    if kind == "vault":
        provider = _vault(body, home, cluster=cluster)
    elif kind == "aws":
        provider = _aws(body, home)
    elif kind == "fake":
        provider = _listed(body)
    else:
        raise _unsupported(f"provider {str(kind)[:40]}")
    return Store(
        kind=manifest.kind.kind,
        namespace=manifest.namespace,
        name=manifest.name,
        uid=manifest.uid,
        generation=manifest.generation,
        controller=controller_class(manifest),
        interval=_interval(spec.get("refreshInterval")),
        provider=provider,
    )


def _interval(value: Any) -> float:
    """Read the store's refreshInterval: whole seconds, or a Go duration."""
    if value is None or value == "":
        return 0.0
    seconds = float(value) if isinstance(value, int) else parse_duration(str(value))
    if seconds < 0:
        raise _invalid("refreshInterval is negative", "use 0 for the default")
    return seconds


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


# --- Who may use a ClusterSecretStore ------------------------------------------------------------------


def admits(manifest: Manifest, namespace: str, labels: Mapping[str, str]) -> bool:
    """Say whether the conditions of a ClusterSecretStore let a namespace use it; one fitting condition is enough.

    Compat: `namespaceRegexes` let nobody in: Go's syntax needs RE2, which is not part of this installation.
    """
    conditions = manifest.spec.get("conditions")
    if not conditions:
        return True
    named = {**labels, NAMESPACE_LABEL: namespace}
    return any(_fits(condition, named) for condition in conditions if isinstance(condition, dict))


def needs_labels(manifest: Manifest) -> bool:
    """Say whether the conditions look at labels of namespaces."""
    conditions = manifest.spec.get("conditions")
    return any(isinstance(c, dict) and c.get("namespaceSelector") for c in conditions or [])


def _fits(condition: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    selector = condition.get("namespaceSelector")
    if isinstance(selector, dict) and _selects(selector, labels):
        return True
    return labels[NAMESPACE_LABEL] in (condition.get("namespaces") or [])


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Evaluate a label selector (`metav1.LabelSelectorAsSelector`); an unknown operator selects nothing."""
    wanted = selector.get("matchLabels") or {}
    expressions: Sequence[Any] = selector.get("matchExpressions") or []
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        isinstance(expression, dict) and _holds(expression, labels) for expression in expressions
    )


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = str(expression.get("key")), expression.get("values") or []
    match expression.get("operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False


def _map(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = body.get(name)
    return found if isinstance(found, dict) else {}


def _invalid(problem: str, hint: str) -> InvalidManifest:
    return InvalidManifest(problem, reason="InvalidSpec", hint=hint)


def _unsupported(what: str) -> InvalidManifest:
    return InvalidManifest(f"{what} is not supported", reason="Unsupported", hint="use a token, or static AWS keys")
