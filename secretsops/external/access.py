"""The credentials of a store, read from the cluster, and the access a source is opened with.

Every credential comes with the version of the object that holds it: together they are the identity under which what
was read may be shared.

What never lives here: which store, whether it may be used, what is kept open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from secretsops.errors import NotFound, StoreRefused
from secretsops.external.listed import ListedSource
from secretsops.external.providers import Aws, KeyRef, Listed, Provider, Vault
from secretsops.manifest import GroupVersionKind
from secretsops.ports import AwsAccess, Cluster, SecretSource, VaultAccess
from secretsops.secret import Plaintext, SecretData

_CORE = {"Secret": GroupVersionKind("", "v1", "Secret"), "ConfigMap": GroupVersionKind("", "v1", "ConfigMap")}


OpenSource = Callable[[VaultAccess | AwsAccess], SecretSource]
"""The `secret_source` door."""


def read_credential(cluster: Cluster, ref: KeyRef, namespace: str) -> tuple[str, Plaintext]:
    """Read a credential: the version of the object that holds it, and the value."""
    kind = _CORE[ref.kind]
    what = "Kubernetes secret" if ref.kind == "Secret" else "ConfigMap"
    try:
        found = cluster.get(kind, ref.name, namespace)
    except NotFound:
        raise StoreRefused(
            f'cannot get {what} "{ref.name}" from namespace "{namespace}": {ref.kind.lower()}s "{ref.name}" not found',
            reason="CredentialMissing",
            hint="create it, or correct the reference of the store",
        ) from None
    version = f"{found.uid}/{found.resource_version}"
    if ref.kind == "ConfigMap":
        text = (found.body.get("data") or {}).get(ref.key)
        value = Plaintext(text.encode()) if isinstance(text, str) else None
    else:
        value = SecretData.of({"data": found.body.get("data")}).get(ref.key)
    if value is None:
        raise StoreRefused(
            f'cannot find key "{ref.key}" in {what} "{ref.name}" of namespace "{namespace}"',
            reason="CredentialMissing",
            hint="add the key, or correct the reference of the store",
        )
    return version, value


def source_of(provider: Provider, credentials: Mapping[KeyRef, Plaintext], open_source: OpenSource) -> SecretSource:
    """Open a provider with its credentials, without a request."""
    match provider:
        case Listed(values=values):
            return ListedSource(values)
        case Vault():
            bundle = credentials[provider.ca].reveal().decode("ascii", "replace") if provider.ca else ""
            return open_source(
                VaultAccess(
                    server=provider.server,
                    token=credentials[provider.token],
                    path=provider.path,
                    version=provider.version,
                    namespace=provider.namespace,
                    ca_pem=provider.ca_pem or bundle,
                    headers=provider.headers,
                )
            )
        case Aws():
            return open_source(
                AwsAccess(
                    region=provider.region,
                    prefix=provider.prefix,
                    access_key_id=_value(credentials, provider.access_key_id),
                    secret_access_key=_value(credentials, provider.secret_access_key),
                    session_token=_value(credentials, provider.session_token),
                )
            )


def _value(credentials: Mapping[KeyRef, Plaintext], ref: KeyRef | None) -> Plaintext | None:
    return credentials[ref] if ref is not None else None
