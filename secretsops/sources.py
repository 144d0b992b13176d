"""How each kind of secret store is reached and who we are there: the values a source is opened with. Pure.

A credential that has to be made anew from time to time is a `Mint`: it is called whenever one is needed. Everything
else is held here as `Plaintext` and prints as its length.

What never lives here: where credentials come from (`secretsops.external.access`), what is done with them (adapters).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from secretsops.secret import Plaintext

Mint = Callable[[], Plaintext]
"""Makes a short-lived credential: the token of a service account. Raises a `SecretsOpsError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Whom we trust and who we are in TLS, in PEM; an empty `ca_pem` means the system's authorities."""

    ca_pem: str = field(default="", repr=False)
    certificate: Plaintext | None = None
    key: Plaintext | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """What a store's `retrySettings` ask for within one read; `interval` is in seconds."""

    attempts: int = 0
    interval: float = 0.0


# --- AWS -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AssumedRole:
    """One hop of a chain of roles."""

    arn: str
    external_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    transitive: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsIdentity:
    """Who we are to AWS: keys, or a web identity, or else what the SDK's default chain finds; then roles in order."""

    access_key_id: Plaintext | None = None
    secret_access_key: Plaintext | None = None
    session_token: Plaintext | None = None
    web_role: str = ""
    web_token: Mint | None = field(default=None, repr=False)
    roles: Sequence[AssumedRole] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsAccess:
    """How a service of AWS that keeps secrets is reached: `SecretsManager` or `ParameterStore` of one region."""

    region: str
    service: str = "SecretsManager"
    identity: AwsIdentity = AwsIdentity()
    prefix: str = ""
    retries: Retries | None = None
    delete_without_recovery: bool = False
    recovery_days: int = 0


# --- Vault ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogin:
    """A token somebody made for us."""

    token: Plaintext


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleLogin:
    """A login by `POST auth/PATH` with a JSON body: AppRole, Kubernetes, JWT, LDAP, userpass, certificates.

    `minted` fields are made anew for each login; the field `own_token` takes the token of our own service account. A
    `user` stands at the end of the path.
    """

    path: str
    user: str = ""
    fields: Mapping[str, Plaintext] = field(default_factory=dict)
    minted: Mapping[str, Mint] = field(default_factory=dict, repr=False)
    own_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IamLogin:
    """A login by a signed request to AWS STS, which Vault sends to learn who we are."""

    path: str
    role: str
    region: str
    identity: AwsIdentity
    server_id: str = ""


VaultLogin = TokenLogin | RoleLogin | IamLogin


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultAccess:
    """How one Vault KV engine is reached: an empty `path` means that keys begin with their mount.

    Without a `login` requests carry no token (an agent beside us adds it). `consistent` makes reads see our writes on
    every node (`X-Vault-Index`), `forwarded` has requests that can't be served yet sent to the active node.
    """

    server: str
    login: VaultLogin | None
    path: str = ""
    version: str = "v2"
    namespace: str = ""
    login_namespace: str = ""
    tls: Tls = Tls()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    consistent: bool = False
    forwarded: bool = False
    retries: Retries | None = None
    check_and_set: bool = False


# --- Others --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesAccess:
    """How Secrets of one namespace of a cluster are read; an empty `server` means the cluster we run in."""

    server: str
    namespace: str
    tls: Tls = Tls()
    token: Plaintext | None = None
    minted: Mint | None = field(default=None, repr=False)
    kubeconfig: Plaintext | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookAccess:
    """An HTTP endpoint; `url`, `headers`, `body` and `json_path` are templates over `remoteRef` and `secrets`."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: str = field(default="", repr=False)
    json_path: str = ""
    timeout: float = 0.0
    secrets: Mapping[str, Mapping[str, Plaintext]] = field(default_factory=dict)
    tls: Tls = Tls()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedAccess:
    """Values that stand in the store itself, by key and version joined."""

    values: Mapping[str, Plaintext]


Access = VaultAccess | AwsAccess | KubernetesAccess | WebhookAccess | ListedAccess
