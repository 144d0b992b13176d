"""The credentials of a store, read from the cluster, and the source that is opened with them.

Every credential comes with the version of the object that holds it: together they are the identity under which what
was read may be shared.

What never lives here: which store, whether it may be used, what is kept open.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from secretsops.errors import ApiError, NotFound, StoreRefused, StoreUnavailable
from secretsops.external.held import Account, Held
from secretsops.external.listed import ListedSource
from secretsops.external.providers import Provider
from secretsops.external.references import AccountRef, KeyRef
from secretsops.manifest import GroupVersionKind
from secretsops.ports import Cluster, SecretSource
from secretsops.secret import Plaintext, SecretData
from secretsops.sources import Access, ListedAccess

_CORE = {"Secret": GroupVersionKind("", "v1", "Secret"), "ConfigMap": GroupVersionKind("", "v1", "ConfigMap")}
_ACCOUNT = GroupVersionKind("", "v1", "ServiceAccount")

OpenSource = Callable[[Access], SecretSource]
"""The `secret_source` door."""


def read_credentials(cluster: Cluster, provider: Provider, namespace: str) -> tuple[tuple[object, ...], Held]:
    """Read all a provider refers to: the identity that makes, and the credentials."""
    read = {ref: _read(cluster, ref, ref.namespace or namespace) for ref in provider.refs}
    accounts = {ref: _account(cluster, ref, ref.namespace or namespace) for ref in provider.accounts}
    identity = (
        *((ref, version) for ref, (version, _) in read.items()),
        *((ref, version) for ref, (version, _) in accounts.items()),
    )
    held = Held(
        values={ref: _one(ref, data, ref.namespace or namespace) for ref, (_, data) in read.items() if ref.key},
        secrets={ref: data for ref, (_, data) in read.items() if not ref.key},
        accounts={ref: account for ref, (_, account) in accounts.items()},
    )
    return identity, held


def _read(cluster: Cluster, ref: KeyRef, namespace: str) -> tuple[str, Mapping[str, Plaintext]]:
    what = _named(ref)
    try:
        found = cluster.get(_CORE[ref.kind], ref.name, namespace)
    except NotFound:
        raise StoreRefused(
            f'cannot get {what} "{ref.name}" from namespace "{namespace}": {ref.kind.lower()}s "{ref.name}" not found',
            reason="CredentialMissing",
            hint="create it, or correct the reference of the store",
        ) from None
    label, _, value = ref.label.partition("=")
    if label and found.labels.get(label) != value:
        raise StoreRefused(
            f'{what} "{ref.name}" of namespace "{namespace}" does not carry the label {label}: {value}',
            reason="CredentialMissing",
            hint=f"kubectl label secret {ref.name} {label}={value}, if it may be sent there",
        )
    version, held = f"{found.uid}/{found.resource_version}", found.body.get("data")
    if ref.kind == "ConfigMap":
        texts = held if isinstance(held, dict) else {}
        return version, {str(key): Plaintext(text.encode()) for key, text in texts.items() if isinstance(text, str)}
    return version, SecretData.of({"data": held})


def _one(ref: KeyRef, data: Mapping[str, Plaintext], namespace: str) -> Plaintext:
    value = data.get(ref.key)
    if value is None:
        raise StoreRefused(
            f'cannot find key "{ref.key}" in {_named(ref)} "{ref.name}" of namespace "{namespace}"',
            reason="CredentialMissing",
            hint="add the key, or correct the reference of the store",
        )
    return value


def _named(ref: KeyRef) -> str:
    return "Kubernetes secret" if ref.kind == "Secret" else "ConfigMap"


def _account(cluster: Cluster, ref: AccountRef, namespace: str) -> tuple[str, Account]:
    try:
        found = cluster.get(_ACCOUNT, ref.name, namespace)
    except NotFound:
        raise StoreRefused(
            f'cannot get service account "{ref.name}" from namespace "{namespace}"',
            reason="CredentialMissing",
            hint="create it, or correct the reference of the store",
        ) from None
    token = partial(_token, cluster, namespace, ref.name, found.uid)
    return f"{found.uid}/{found.resource_version}", Account(annotations=found.annotations, token=token)


def _token(cluster: Cluster, namespace: str, name: str, uid: str, audiences: Sequence[str], seconds: int) -> Plaintext:
    """Have a token made for a service account (`authentication.k8s.io/v1 TokenRequest`).

    The account has to be the one that was looked at: one that was deleted and made anew is another identity.
    """
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "metadata": {"uid": uid},
        "spec": {"audiences": list(audiences), "expirationSeconds": seconds},
    }
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    what = f'a token for service account "{name}" of namespace "{namespace}"'
    try:
        answer = cluster.raw("POST", path, body=json.dumps(body).encode(), content_type="application/json")
    except ApiError as error:
        raise StoreUnavailable(f"cannot get {what}: {error.message}", hint=error.hint) from None
    if answer.code in {401, 403, 404, 409, 422}:
        raise StoreRefused(
            f"cannot get {what} (the API server answered {answer.code})",
            reason="Denied",
            hint="let the controller create serviceaccounts/token, and check that the account exists",
        )
    try:
        token = json.loads(answer.body)["status"]["token"] if answer.code < 300 else ""
    except (ValueError, KeyError, TypeError):
        token = ""
    if not token:
        raise StoreUnavailable(f"cannot get {what} (the API server answered {answer.code})", hint="it is tried again")
    return Plaintext(str(token).encode())


def source_of(provider: Provider, held: Held, open_source: OpenSource) -> SecretSource:
    """Open a provider with its credentials, without a request."""
    access = provider.access(held)
    return ListedSource(access.values) if isinstance(access, ListedAccess) else open_source(access)
