"""AWS Secrets Manager through boto3: GetSecretValue. The only file that knows boto3 and botocore.

Endpoints follow the SDK's variables (AWS_ENDPOINT_URL_SECRETS_MANAGER, AWS_ENDPOINT_URL) and, before these, the one
that External Secrets reads: AWS_SECRETSMANAGER_ENDPOINT.

What never lives here: property selection, stores as manifests.
"""

from __future__ import annotations

import os
from typing import Any

from secretsops.errors import MissingExtra, StoreRefused, StoreUnavailable
from secretsops.ports import AwsAccess, Fetched, SecretSource
from secretsops.secret import Plaintext

CONNECT_TIMEOUT, READ_TIMEOUT, ATTEMPTS = 5, 15, 3
"""Seconds, seconds, and how often the SDK tries (mode `standard`, exponential with jitter)."""
POOL = 16

_NOT_FOUND = frozenset({"ResourceNotFoundException"})
_DENIED = frozenset(
    {
        "AccessDeniedException",
        "AccessDenied",
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "ExpiredTokenException",
        "ExpiredToken",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "OptInRequired",
        "DecryptionFailure",
    }
)
_INVALID = frozenset({"InvalidParameterException", "InvalidRequestException", "ValidationException"})


class SecretsManagerSource(SecretSource):
    """Secrets Manager of one region with one identity. Satisfies `secretsops.ports.SecretSource`."""

    dialect = "aws"

    def __init__(self, access: AwsAccess) -> None:
        """Prepare a client without a request.

        Raises:
            MissingExtra: boto3 is not installed.
            StoreRefused: the region or an endpoint variable is not usable; reason `Invalid`.
        """
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError:
            raise MissingExtra("aws", needed_for="reading secrets from AWS Secrets Manager") from None
        self._prefix = access.prefix
        try:
            self._session = boto3.session.Session(
                aws_access_key_id=_text(access.access_key_id),
                aws_secret_access_key=_text(access.secret_access_key),
                aws_session_token=_text(access.session_token),
                region_name=access.region,
            )
            self._client = self._session.client(
                "secretsmanager",
                endpoint_url=os.environ.get("AWS_SECRETSMANAGER_ENDPOINT") or None,
                config=Config(
                    connect_timeout=CONNECT_TIMEOUT,
                    read_timeout=READ_TIMEOUT,
                    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                    max_pool_connections=POOL,
                ),
            )
        except (BotoCoreError, ValueError) as error:
            raise StoreRefused(
                f"no client for AWS Secrets Manager in region {access.region[:40]!r} ({type(error).__name__})",
                reason="Invalid",
                hint="check region and AWS_* variables",
            ) from None

    def fetch(self, key: str, version: str = "") -> Fetched:
        """Read one secret by name or ARN; `version` is a stage, or `uuid/` and a version id.

        Compat: a secret scheduled for deletion is `NotFound`; the peer calls it an ordinary error.

        Raises:
            StoreRefused: `NotFound`, `Denied` or `Invalid`.
            StoreUnavailable: no usable answer.
        """
        which = {"VersionStage": version or "AWSCURRENT"}
        if version.startswith("uuid/"):
            which = {"VersionId": version.removeprefix("uuid/")}
        answer = self._ask(key, {"SecretId": self._prefix + key, **which})
        text = answer.get("SecretString")
        binary = answer.get("SecretBinary")
        document = text.encode() if isinstance(text, str) else bytes(binary or b"")
        return Fetched(document=Plaintext(document), version=str(answer.get("VersionId") or ""))

    def probe(self) -> None:
        """Resolve the credentials, without a request: no AWS call is allowed to every identity.

        Compat: as with the peer a store stays ready through an outage or a missing grant; its ExternalSecrets say so.

        Raises:
            StoreRefused: there are none; reason `Denied`.
        """
        from botocore.exceptions import BotoCoreError

        try:
            found = self._session.get_credentials()
            frozen = found.get_frozen_credentials() if found else None
        except BotoCoreError as error:
            raise _no_credentials(type(error).__name__) from None
        if frozen is None or not frozen.access_key or not frozen.secret_key:
            raise _no_credentials("none found")

    def _ask(self, key: str, arguments: dict[str, str]) -> dict[str, Any]:
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            CredentialRetrievalError,
            NoCredentialsError,
            ParamValidationError,
            PartialCredentialsError,
        )

        try:
            answer: dict[str, Any] = self._client.get_secret_value(**arguments)
        except ClientError as error:
            raise _refusal(key, error.response) from None
        except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
            raise _no_credentials(type(error).__name__) from None
        except UnicodeError:
            raise StoreRefused(
                "the AWS credentials cannot be sent as a header", reason="Denied", hint="store them as plain text"
            ) from None
        except ParamValidationError:
            raise StoreRefused(
                f"AWS Secrets Manager knows no such name or version as {key!r}",
                reason="Invalid",
                hint="check remoteRef.key and remoteRef.version",
            ) from None
        except BotoCoreError as error:
            raise StoreUnavailable(
                f"reading {key!r}: no answer from AWS Secrets Manager ({type(error).__name__})",
                hint="check region, endpoint and network",
            ) from None
        return answer


def _refusal(key: str, response: dict[str, Any]) -> StoreRefused | StoreUnavailable:
    """Classify an error answer by its code; its text, which names request and account ids, stays behind."""
    found = response.get("Error") or {}
    code = str(found.get("Code") or "")
    marked = "marked for deletion" in str(found.get("Message") or "") or "marked deleted" in str(
        found.get("Message") or ""
    )
    if code in _NOT_FOUND or (code in _INVALID and marked):
        how = "is scheduled for deletion" if marked else "does not exist"
        return StoreRefused(
            f"secret {key!r} {how} in AWS Secrets Manager",
            reason="NotFound",
            hint="check name, version and region, or restore the secret",
        )
    if code in _DENIED:
        return StoreRefused(
            f"reading {key!r} from AWS Secrets Manager: denied ({code})",
            reason="Denied",
            hint="grant secretsmanager:GetSecretValue, and kms:Decrypt on its key",
        )
    if code in _INVALID:
        return StoreRefused(
            f"reading {key!r} from AWS Secrets Manager: invalid ({code})",
            reason="Invalid",
            hint="check remoteRef.key and remoteRef.version",
        )
    return StoreUnavailable(
        f"reading {key!r} from AWS Secrets Manager failed ({code or 'no code'})", hint="try again later"
    )


def _no_credentials(why: str) -> StoreRefused:
    return StoreRefused(
        f"no AWS credentials ({why})",
        reason="Denied",
        hint="set auth.secretRef on the store, or give the controller a role",
    )


def _text(value: Plaintext | None) -> str | None:
    return value.reveal().decode("utf-8", "replace").strip() if value is not None else None
