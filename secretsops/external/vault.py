"""The `vault` provider of a store as a value: one KV engine of Vault or OpenBao, and how to log in. Pure.

The fields and defaults are those of External Secrets 2.9.0 (`apis/externalsecrets/v1/secretstore_vault_types.go`); of
several login methods the first counts, in the peer's order.

What never lives here: requests, tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from secretsops.external.aws import identity_of
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
    texts,
    unsupported,
)
from secretsops.secret import Plaintext
from secretsops.sources import AssumedRole, IamLogin, Retries, RoleLogin, TokenLogin, VaultAccess, VaultLogin

WHERE = "provider.vault.auth"
JWT_AUDIENCE = "vault"
TOKEN_LIFE = (600, 86400)
"""Seconds: the least Kubernetes gives, and what we ask for at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One login method: what it refers to, and the login that comes of it."""

    refs: Sequence[KeyRef] = ()
    accounts: Sequence[AccountRef] = ()
    login: Callable[[Held], VaultLogin] = field(repr=False)
    certificate: KeyRef | None = None
    key: KeyRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """A KV engine of Vault or OpenBao."""

    server: str
    path: str = ""
    version: str = "v2"
    namespace: str = ""
    login_namespace: str = ""
    method: Method | None = None
    ca_pem: str = field(default="", repr=False)
    ca: KeyRef | None = None
    certificate: KeyRef | None = None
    key: KeyRef | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    consistent: bool = False
    forwarded: bool = False
    retries: Retries | None = None
    check_and_set: bool = False

    @property
    def refs(self) -> list[KeyRef]:
        """Give every reference to a value."""
        own = [*self.method.refs, self.method.certificate, self.method.key] if self.method else []
        return [ref for ref in (*own, self.ca, self.certificate, self.key) if ref is not None]

    @property
    def accounts(self) -> list[AccountRef]:
        """Give every service account."""
        return list(self.method.accounts) if self.method else []

    def access(self, held: Held) -> VaultAccess:
        """Give the access with its credentials."""
        certificate, key = self.certificate, self.key
        if certificate is None and self.method is not None:
            certificate, key = self.method.certificate, self.method.key
        return VaultAccess(
            server=self.server,
            login=self.method.login(held) if self.method else None,
            path=self.path,
            version=self.version,
            namespace=self.namespace,
            login_namespace=self.login_namespace,
            tls=held.tls(self.ca_pem, self.ca, certificate, key),
            headers=self.headers,
            consistent=self.consistent,
            forwarded=self.forwarded,
            retries=self.retries,
            check_and_set=self.check_and_set,
        )


def read_vault(body: Mapping[str, Any], scope: Scope, again: Retries | None) -> Vault:
    """Give the provider of a store's spec; raises `InvalidManifest`."""
    if not isinstance(body.get("server"), str) or not body["server"]:
        raise invalid("provider.vault.server is missing", "name the URL of Vault")
    version = "v1" if body.get("version") == "v1" else "v2"
    required = bool(section(body, "checkAndSet").get("required"))
    if required and version == "v1":
        raise invalid("provider.vault.checkAndSet needs KV version 2", "KV v1 has no versions: remove it")
    tls, auth = section(body, "tls"), body.get("auth")
    where = "provider.vault.tls"
    certificate = optional_key_ref(tls, "certSecretRef", scope, where, key="tls.crt")
    key = optional_key_ref(tls, "keySecretRef", scope, where, key="tls.key")
    if (certificate is None) != (key is None):
        raise invalid("provider.vault.tls needs certSecretRef and keySecretRef", "name both, or none")
    own_namespace = str(body.get("namespace") or "")
    return Vault(
        server=body["server"],
        path=str(body.get("path") or ""),
        version=version,
        namespace=own_namespace,
        login_namespace=str(section(body, "auth").get("namespace") or own_namespace),
        # Compat: without `auth` nothing is logged in to; an empty one is a mistake.
        method=_method(auth, scope) if isinstance(auth, dict) else None,
        ca_pem=ca_bundle(str(body.get("caBundle") or "")),
        ca=ca_provider(section(body, "caProvider"), scope),
        certificate=certificate,
        key=key,
        headers={str(name): str(value) for name, value in section(body, "headers").items()},
        consistent=bool(body.get("readYourWrites") or body.get("forwardInconsistent")),
        forwarded=bool(body.get("readYourWrites") and body.get("forwardInconsistent")),
        retries=again,
        check_and_set=required,
    )


def _method(auth: Mapping[str, Any], scope: Scope) -> Method:
    for name, reader in METHODS.items():
        body = section(auth, name)
        if body:
            return reader(body, scope) if name != "tokenSecretRef" else reader(auth, scope)
    if section(auth, "gcp"):
        raise unsupported(f"{WHERE}.gcp", "log in by kubernetes, jwt or appRole")
    raise invalid("provider.vault.auth has no valid auth method", "fill in one of its methods, or remove auth")


def _token(auth: Mapping[str, Any], scope: Scope) -> Method:
    ref = key_ref(auth, "tokenSecretRef", scope, WHERE)
    return Method(refs=[ref], login=lambda held: TokenLogin(token=Plaintext(held.text(ref).encode())))


def _app_role(body: Mapping[str, Any], scope: Scope) -> Method:
    where = f"{WHERE}.appRole"
    secret = key_ref(body, "secretRef", scope, where)
    fixed = str(body.get("roleId") or "").strip()
    role = None if fixed else optional_key_ref(body, "roleRef", scope, where)
    if not fixed and role is None:
        raise invalid(f"{where} needs roleId or roleRef", "name the role id")

    def login(held: Held) -> VaultLogin:
        fields = {
            "role_id": Plaintext((fixed or (held.text(role) if role else "")).encode()),
            "secret_id": Plaintext(held.text(secret).encode()),
        }
        return RoleLogin(path=_path(body, "approle"), fields=fields)

    return Method(refs=[secret, *([role] if role else [])], login=login)


def _kubernetes(body: Mapping[str, Any], scope: Scope) -> Method:
    where, path = f"{WHERE}.kubernetes", _path(body, "kubernetes", name="mountPath")
    role = {"role": Plaintext(str(body.get("role") or "").encode())}
    if section(body, "serviceAccountRef"):
        account = account_ref(body, "serviceAccountRef", scope, where)

        def minted(held: Held) -> VaultLogin:
            return RoleLogin(path=path, fields=role, minted={"jwt": held.accounts[account].mint(account.audiences)})

        return Method(accounts=[account], login=minted)
    if section(body, "secretRef"):
        token = key_ref(body, "secretRef", scope, where, key="token")
        return Method(
            refs=[token],
            login=lambda held: RoleLogin(path=path, fields={**role, "jwt": Plaintext(held.text(token).encode())}),
        )
    return Method(login=lambda _: RoleLogin(path=path, fields=role, own_token="jwt"))  # noqa: S106 - a field's name


def _password(body: Mapping[str, Any], scope: Scope, kind: str, mount: str) -> Method:
    password = key_ref(body, "secretRef", scope, f"{WHERE}.{kind}")
    user = str(body.get("username") or "").strip()
    if not user:
        raise invalid(f"{WHERE}.{kind} needs a username", "name the user")
    return Method(
        refs=[password],
        login=lambda held: RoleLogin(
            path=_path(body, mount), user=user, fields={"password": Plaintext(held.text(password).encode())}
        ),
    )


def _jwt(body: Mapping[str, Any], scope: Scope) -> Method:
    where, path = f"{WHERE}.jwt", _path(body, "jwt")
    role = {"role": Plaintext(str(body.get("role") or "").strip().encode())}
    if section(body, "secretRef"):
        token = key_ref(body, "secretRef", scope, where)
        return Method(
            refs=[token],
            login=lambda held: RoleLogin(path=path, fields={**role, "jwt": Plaintext(held.text(token).encode())}),
        )
    asked = section(body, "kubernetesServiceAccountToken")
    if not asked:
        raise invalid(f"{where} needs secretRef or kubernetesServiceAccountToken", "name where the JWT comes from")
    account = account_ref(asked, "serviceAccountRef", scope, f"{where}.kubernetesServiceAccountToken")
    audiences = (*account.audiences, *(texts(asked.get("audiences")) or (JWT_AUDIENCE,)))
    life = asked.get("expirationSeconds")
    seconds = min(max(life, TOKEN_LIFE[0]), TOKEN_LIFE[1]) if isinstance(life, int) else TOKEN_LIFE[0]

    def login(held: Held) -> VaultLogin:
        return RoleLogin(path=path, fields=role, minted={"jwt": held.accounts[account].mint(audiences, seconds)})

    return Method(accounts=[account], login=login)


def _certificate(body: Mapping[str, Any], scope: Scope) -> Method:
    where = f"{WHERE}.cert"
    certificate = key_ref(body, "clientCert", scope, where, key="tls.crt")
    key = key_ref(body, "secretRef", scope, where, key="tls.key")
    role = str(body.get("vaultRole") or "")
    fields = {"name": Plaintext(role.encode())} if role else {}
    return Method(certificate=certificate, key=key, login=lambda _: RoleLogin(path=_path(body, "cert"), fields=fields))


def _iam(body: Mapping[str, Any], scope: Scope) -> Method:
    where = f"{WHERE}.iam"
    if not body.get("vaultRole"):
        raise invalid(f"{where}.vaultRole is missing", "name the role of Vault's aws auth method")
    refs, accounts, identity = identity_of(
        {name: body[name] for name in ("secretRef", "jwt") if body.get(name)}, scope, where
    )
    arn = str(body.get("role") or "")
    roles = [AssumedRole(arn=arn, external_id=str(body.get("externalID") or ""))] if arn else []

    def login(held: Held) -> VaultLogin:
        return IamLogin(
            path=_path(body, "aws"),
            role=str(body["vaultRole"]),
            region=str(body.get("region") or "us-east-1"),
            identity=identity(held, roles),
            server_id=str(body.get("vaultAwsIamServerID") or ""),
        )

    return Method(refs=refs, accounts=accounts, login=login)


def _path(body: Mapping[str, Any], default: str, *, name: str = "path") -> str:
    return f"{str(body.get(name) or default).strip('/')}/login"


METHODS: Mapping[str, Callable[[Mapping[str, Any], Scope], Method]] = {
    "tokenSecretRef": _token,
    "appRole": _app_role,
    "kubernetes": _kubernetes,
    "ldap": lambda body, scope: _password(body, scope, "ldap", "ldap"),
    "userPass": lambda body, scope: _password(body, scope, "userPass", "userpass"),
    "jwt": _jwt,
    "cert": _certificate,
    "iam": _iam,
}
"""The login methods, in the order in which the first one present counts."""
