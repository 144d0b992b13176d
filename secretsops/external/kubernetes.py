"""The `kubernetes` provider of a store as a value: Secrets of one namespace of this or another cluster. Pure.

The fields are those of External Secrets 2.9.0 (`apis/externalsecrets/v1/secretstore_kubernetes_types.go`).

What never lives here: requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from secretsops.external.held import Held
from secretsops.external.references import (
    AccountRef,
    KeyRef,
    Scope,
    account_ref,
    ca_bundle,
    ca_provider,
    invalid,
    key_ref,
    optional_key_ref,
    section,
)
from secretsops.secret import Plaintext
from secretsops.sources import KubernetesAccess

DEFAULT_SERVER, DEFAULT_NAMESPACE = "https://kubernetes.default", "default"
WHERE = "provider.kubernetes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubernetes:
    """Secrets of one namespace, by a token, a client certificate, a service account or a kubeconfig."""

    server: str
    namespace: str
    ca_pem: str = field(default="", repr=False)
    ca: KeyRef | None = None
    token: KeyRef | None = None
    account: AccountRef | None = None
    certificate: KeyRef | None = None
    key: KeyRef | None = None
    kubeconfig: KeyRef | None = None

    @property
    def refs(self) -> list[KeyRef]:
        """Give every reference to a value."""
        return [ref for ref in (self.ca, self.token, self.certificate, self.key, self.kubeconfig) if ref is not None]

    @property
    def accounts(self) -> list[AccountRef]:
        """Give every service account."""
        return [self.account] if self.account is not None else []

    def access(self, held: Held) -> KubernetesAccess:
        """Give the access with its credentials."""
        account = held.accounts[self.account] if self.account is not None else None
        audiences = self.account.audiences if self.account is not None else ()
        return KubernetesAccess(
            server=self.server,
            namespace=self.namespace,
            tls=held.tls(self.ca_pem, self.ca, self.certificate, self.key),
            token=Plaintext(held.text(self.token).encode()) if self.token is not None else None,
            minted=account.mint(audiences) if account is not None else None,
            kubeconfig=held.value(self.kubeconfig),
        )


def read_kubernetes(body: Mapping[str, Any], scope: Scope) -> Kubernetes:
    """Give the provider of a store's spec; raises `InvalidManifest`."""
    server, auth = section(body, "server"), section(body, "auth")
    kubeconfig = optional_key_ref(body, "authRef", scope, WHERE)
    token = certificate = key = account = None
    if kubeconfig is None:
        where = f"{WHERE}.auth"
        ways = [name for name in ("cert", "token", "serviceAccount") if section(auth, name)]
        if len(ways) != 1:
            raise invalid(f"{where} needs exactly one of cert, token, serviceAccount", "fill in one of them")
        if ways == ["cert"]:
            certificate = key_ref(section(auth, "cert"), "clientCert", scope, f"{where}.cert", key="tls.crt")
            key = key_ref(section(auth, "cert"), "clientKey", scope, f"{where}.cert", key="tls.key")
        elif ways == ["token"]:
            token = key_ref(section(auth, "token"), "bearerToken", scope, f"{where}.token", key="token")
        else:
            account = account_ref(auth, "serviceAccount", scope, where)
        if not server.get("caBundle") and not section(server, "caProvider"):
            raise invalid(f"{WHERE}.server needs caBundle or caProvider", "name the cluster's authority")
    url = str(server.get("url") or DEFAULT_SERVER)
    return Kubernetes(
        # Compat: the peer's default has no scheme.
        server=url if "://" in url else f"https://{url}",
        namespace=str(body.get("remoteNamespace") or DEFAULT_NAMESPACE),
        ca_pem=ca_bundle(str(server.get("caBundle") or "")),
        ca=ca_provider(section(server, "caProvider"), scope),
        token=token,
        account=account,
        certificate=certificate,
        key=key,
        kubeconfig=kubeconfig,
    )
