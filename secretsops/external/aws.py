"""The `aws` provider of a store as a value: Secrets Manager or Parameter Store of one region, and who we are. Pure.

The fields are those of External Secrets 2.9.0 (`apis/externalsecrets/v1/secretstore_aws_types.go`): keys, or a service
account (IRSA), or else the controller's own identity; then `additionalRoles` in order, then `role`.

What never lives here: requests, sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from secretsops.errors import StoreRefused
from secretsops.external.held import Held
from secretsops.external.references import (
    AccountRef,
    KeyRef,
    Scope,
    account_ref,
    invalid,
    key_ref,
    optional_key_ref,
    section,
    texts,
    unsupported,
)
from secretsops.sources import AssumedRole, AwsAccess, AwsIdentity, Retries

ROLE_ANNOTATION = "eks.amazonaws.com/role-arn"
AUDIENCE_ANNOTATION = "eks.amazonaws.com/audience"
AUDIENCE = "sts.amazonaws.com"
SERVICES = ("SecretsManager", "ParameterStore")
OWN_TAGS = ("esoNamespace", "esoStoreName", "esoStoreKind")

Identify = Callable[[Held, Sequence[AssumedRole]], AwsIdentity]
"""Gives the identity with its credentials and the roles it assumes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aws:
    """A service of one region that keeps secrets; without references the controller's own identity."""

    region: str
    service: str = "SecretsManager"
    prefix: str = ""
    refs: Sequence[KeyRef] = ()
    accounts: Sequence[AccountRef] = ()
    identify: Identify = field(repr=False)
    roles: Sequence[AssumedRole] = ()
    retries: Retries | None = None
    delete_without_recovery: bool = False
    recovery_days: int = 0

    def access(self, held: Held) -> AwsAccess:
        """Give the access with its credentials."""
        return AwsAccess(
            region=self.region,
            service=self.service,
            identity=self.identify(held, self.roles),
            prefix=self.prefix,
            retries=self.retries,
            delete_without_recovery=self.delete_without_recovery,
            recovery_days=self.recovery_days,
        )


def read_aws(body: Mapping[str, Any], scope: Scope, again: Retries | None, *, store: tuple[str, str, str]) -> Aws:
    """Give the provider of a store's spec; `store` is its kind, name and namespace, for tags of a session.

    Raises:
        InvalidManifest: it cannot be used.
    """
    service = body.get("service")
    if service not in SERVICES:
        raise unsupported(f"provider.aws.service {str(service)[:40]}", "use SecretsManager or ParameterStore")
    if not isinstance(body.get("region"), str) or not body["region"]:
        raise invalid("provider.aws.region is missing", "name the region")
    refs, accounts, identify = identity_of(section(body, "auth"), scope, "provider.aws.auth")
    deletion = section(body, "secretsManager")
    days, at_once = deletion.get("recoveryWindowInDays"), bool(deletion.get("forceDeleteWithoutRecovery"))
    if days and at_once:
        raise invalid(
            "provider.aws.secretsManager: forceDeleteWithoutRecovery and recoveryWindowInDays exclude each other",
            "keep one of them",
        )
    if days is not None and days != 0 and not (isinstance(days, int) and 7 <= days <= 30):
        raise invalid("provider.aws.secretsManager.recoveryWindowInDays is not 7 to 30", "AWS allows 7 to 30 days")
    return Aws(
        region=body["region"],
        service=str(service),
        prefix=str(body.get("prefix") or ""),
        refs=refs,
        accounts=accounts,
        identify=identify,
        roles=_roles(body, store),
        retries=again,
        delete_without_recovery=at_once,
        recovery_days=days if isinstance(days, int) else 0,
    )


def identity_of(
    auth: Mapping[str, Any], scope: Scope, where: str
) -> tuple[Sequence[KeyRef], Sequence[AccountRef], Identify]:
    """Give what an `auth` refers to, and the identity that comes of it. Compat: a service account wins over keys."""
    if section(auth, "jwt"):
        account = account_ref(section(auth, "jwt"), "serviceAccountRef", scope, f"{where}.jwt")
        return [], [account], lambda held, roles: _web_identity(held, account, roles)
    keys = section(auth, "secretRef")
    if not keys:
        return [], [], lambda _, roles: AwsIdentity(roles=roles)
    where = f"{where}.secretRef"
    key_id = key_ref(keys, "accessKeyIDSecretRef", scope, where)
    secret = key_ref(keys, "secretAccessKeySecretRef", scope, where)
    session = optional_key_ref(keys, "sessionTokenSecretRef", scope, where)

    def identify(held: Held, roles: Sequence[AssumedRole]) -> AwsIdentity:
        return AwsIdentity(
            access_key_id=held.value(key_id),
            secret_access_key=held.value(secret),
            session_token=held.value(session),
            roles=roles,
        )

    return [key_id, secret, *([session] if session else [])], [], identify


def _web_identity(held: Held, ref: AccountRef, roles: Sequence[AssumedRole]) -> AwsIdentity:
    account = held.accounts[ref]
    arn = account.annotations.get(ROLE_ANNOTATION, "")
    if not arn:
        raise StoreRefused(
            f'service account "{ref.name}" has no annotation {ROLE_ANNOTATION}',
            reason="CredentialMissing",
            hint=f"kubectl annotate serviceaccount {ref.name} {ROLE_ANNOTATION}=arn:aws:iam::…:role/…",
        )
    audiences = (account.annotations.get(AUDIENCE_ANNOTATION) or AUDIENCE, *ref.audiences)
    return AwsIdentity(web_role=arn, web_token=account.mint(audiences), roles=roles)


def _roles(body: Mapping[str, Any], store: tuple[str, str, str]) -> list[AssumedRole]:
    """Give the chain: additional roles as they are, the last one with external id and tags."""
    chain = [AssumedRole(arn=arn) for arn in texts(body.get("additionalRoles"))]
    arn = str(body.get("role") or "")
    if arn:
        chain.append(
            AssumedRole(
                arn=arn,
                external_id=str(body.get("externalID") or ""),
                tags=_tags(body, store),
                transitive=texts(body.get("transitiveTagKeys")),
            )
        )
    return chain


def _tags(body: Mapping[str, Any], store: tuple[str, str, str]) -> Mapping[str, str]:
    policy = body.get("sessionTagsPolicy") or "None"
    if policy not in {"Simple", "Custom"}:
        found = body.get("sessionTags")
        tags = found if isinstance(found, list) else []
        return {str(tag.get("key")): str(tag.get("value") or "") for tag in tags if isinstance(tag, dict)}
    kind, name, namespace = store
    # Compat: these take the place of `sessionTags`.
    own = dict(zip(OWN_TAGS, (namespace, name, kind), strict=True))
    custom = section(body, "customSessionTags") if policy == "Custom" else {}
    if taken := sorted(set(custom) & set(own)):
        raise invalid(f"provider.aws.customSessionTags uses the reserved key {taken[0]}", "choose another key")
    return {**own, **{str(key): str(value) for key, value in custom.items()}}
