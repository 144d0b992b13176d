"""Who we are in AWS: keys, a web identity or the SDK's default chain, then a chain of roles, each refreshed in time.

Sessions of a role are got once and kept for as long as they live; the SDK renews them 15 minutes before their end.
Nothing is put into the process's environment: it belongs to all stores.

What never lives here: the services that are asked.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from secretsops.adapters.aws_errors import no_credentials, refusal
from secretsops.errors import MissingExtra, NotLetIn, StoreRefused
from secretsops.secret import Plaintext
from secretsops.sources import AssumedRole, AwsIdentity

SESSION_NAME = "external-secrets-provider-aws"
"""Compat: the peer's session name, which trust policies may ask for."""
CONNECT_TIMEOUT, READ_TIMEOUT, ATTEMPTS = 5, 15, 3
"""Seconds, seconds, and how often the SDK tries (mode `standard`, exponential with jitter)."""
POOL = 16
ENDPOINTS: Mapping[str, str] = {
    "secretsmanager": "AWS_SECRETSMANAGER_ENDPOINT",
    "ssm": "AWS_SSM_ENDPOINT",
    "sts": "AWS_STS_ENDPOINT",
    "ecr": "AWS_ECR_ENDPOINT",
    "ecr-public": "AWS_ECR_PUBLIC_ENDPOINT",
}
"""Compat: the peer's variables, which come before those of the SDK."""


def session_of(identity: AwsIdentity, region: str) -> Any:
    """Give a boto3 session with our credentials, without a request.

    Raises:
        MissingExtra: boto3 is not installed.
        StoreRefused: the region or an endpoint variable is not usable; reason `Invalid`.
    """
    boto3 = _boto3()
    from botocore.exceptions import BotoCoreError

    try:
        if identity.web_token is not None:
            session = _with(partial(_web_identity, identity, region), region)
        else:
            session = boto3.session.Session(
                aws_access_key_id=_text(identity.access_key_id),
                aws_secret_access_key=_text(identity.secret_access_key),
                aws_session_token=_text(identity.session_token),
                botocore_session=_plain_session(),
                region_name=region,
            )
        for role in identity.roles:
            session = _with(partial(_assumed, session, role), region)
    except (BotoCoreError, ValueError) as error:
        raise StoreRefused(
            f"no AWS session for region {region[:40]!r} ({type(error).__name__})",
            reason="Invalid",
            hint="check region and AWS_* variables",
        ) from None
    return session


def client_of(session: Any, service: str, *, attempts: int = ATTEMPTS, anonymous: bool = False) -> Any:
    """Give the client of a service; raises `StoreRefused` with reason `Invalid` for an unusable region or endpoint."""
    import botocore
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    options: dict[str, Any] = {"signature_version": botocore.UNSIGNED} if anonymous else {}
    try:
        return session.client(
            service,
            endpoint_url=os.environ.get(ENDPOINTS[service]) or None,
            config=Config(
                connect_timeout=CONNECT_TIMEOUT,
                read_timeout=READ_TIMEOUT,
                retries={"mode": "standard", "total_max_attempts": attempts},
                max_pool_connections=POOL,
                **options,
            ),
        )
    except (BotoCoreError, ValueError) as error:
        raise StoreRefused(
            f"no client for AWS {service} ({type(error).__name__})",
            reason="Invalid",
            hint="check region and AWS_* variables",
        ) from None


def resolve(session: Any) -> None:
    """Have credentials found, which assumes the roles; raises `StoreRefused` or `StoreUnavailable`."""
    from botocore.exceptions import BotoCoreError

    try:
        found = session.get_credentials()
        frozen = found.get_frozen_credentials() if found else None
    except BotoCoreError as error:
        raise no_credentials(type(error).__name__) from None
    if frozen is None or not frozen.access_key or not frozen.secret_key:
        raise no_credentials("none found")


def signed_caller_identity(identity: AwsIdentity, region: str, server_id: str) -> tuple[str, dict[str, list[str]], str]:
    """Sign `sts:GetCallerIdentity` for somebody else to send: URL, headers and body.

    Raises:
        StoreRefused: there are no credentials to sign with.
    """
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    session = session_of(identity, region)
    resolve(session)
    url = os.environ.get(ENDPOINTS["sts"]) or f"https://sts.{region}.amazonaws.com"
    body = "Action=GetCallerIdentity&Version=2011-06-15"
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    if server_id:
        headers["X-Vault-AWS-IAM-Server-ID"] = server_id
    request = AWSRequest(method="POST", url=f"{url.rstrip('/')}/", data=body, headers=headers)
    SigV4Auth(session.get_credentials().get_frozen_credentials(), "sts", region).add_auth(request)
    return request.url, {name: [str(value)] for name, value in request.headers.items()}, body


# --- Sessions that renew themselves --------------------------------------------------------------------


def _with(refresh: Callable[[], Mapping[str, str]], region: str) -> Any:
    """Give a session whose credentials come from a function and are asked for again before they end."""
    from botocore.credentials import CredentialProvider, CredentialResolver, DeferredRefreshableCredentials

    class _Renewing(CredentialProvider):  # type: ignore[misc,unused-ignore]
        METHOD = CANONICAL_NAME = "secretsops"

        def load(self) -> Any:
            return DeferredRefreshableCredentials(refresh_using=refresh, method=self.METHOD)

    inner = _plain_session()
    inner.register_component("credential_provider", CredentialResolver([_Renewing()]))
    return _boto3().session.Session(botocore_session=inner, region_name=region)


@cache
def _models() -> Any:
    """Give the loader of service models, one for all sessions: each would read and keep 8 MB of its own."""
    from botocore.loaders import create_loader

    return create_loader()


def _plain_session() -> Any:
    import botocore.session

    session = botocore.session.Session()
    session.register_component("data_loader", _models())
    return session


def _web_identity(identity: AwsIdentity, region: str) -> Mapping[str, str]:
    assert identity.web_token is not None
    token = identity.web_token().reveal().decode("ascii", "replace")
    client = client_of(
        _boto3().session.Session(botocore_session=_plain_session(), region_name=region), "sts", anonymous=True
    )
    arguments = {"RoleArn": identity.web_role, "RoleSessionName": SESSION_NAME, "WebIdentityToken": token}
    return _session(lambda: client.assume_role_with_web_identity(**arguments), identity.web_role)


def _assumed(session: Any, role: AssumedRole) -> Mapping[str, str]:
    arguments: dict[str, Any] = {"RoleArn": role.arn, "RoleSessionName": SESSION_NAME}
    if role.external_id:
        arguments["ExternalId"] = role.external_id
    if role.tags:
        arguments["Tags"] = [{"Key": key, "Value": value} for key, value in role.tags.items()]
    if role.transitive:
        arguments["TransitiveTagKeys"] = list(role.transitive)
    return _session(lambda: client_of(session, "sts").assume_role(**arguments), role.arn)


def _session(ask: Callable[[], Mapping[str, Any]], arn: str) -> Mapping[str, str]:
    from botocore.exceptions import BotoCoreError, ClientError

    what = f"assuming the role {arn[:200]}"
    try:
        found = ask()["Credentials"]
    except (ClientError, BotoCoreError) as error:
        found = refusal(what, error, hint="check the role's trust policy, external id and session tags")
        if isinstance(found, StoreRefused):
            found = NotLetIn(found.message, reason=found.reason, hint=found.hint)
        raise found from None
    expiry = found["Expiration"]
    return {
        "access_key": found["AccessKeyId"],
        "secret_key": found["SecretAccessKey"],
        "token": found["SessionToken"],
        "expiry_time": expiry.astimezone(dt.UTC).isoformat() if isinstance(expiry, dt.datetime) else str(expiry),
    }


def _boto3() -> Any:
    try:
        import boto3
    except ImportError:
        raise MissingExtra("aws", needed_for="reading secrets from AWS") from None
    return boto3


def _text(value: Plaintext | None) -> str | None:
    return value.reveal().decode("utf-8", "replace").strip() if value is not None else None
