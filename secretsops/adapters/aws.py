"""AWS as a secret store: what Secrets Manager and Parameter Store have in common. The files beside it know the two.

What never lives here: property selection, stores as manifests.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from typing import Any

from secretsops.adapters.aws_errors import refusal
from secretsops.adapters.aws_identity import ATTEMPTS, ENDPOINTS, client_of, resolve, session_of
from secretsops.errors import SecretsOpsError, StoreRefused
from secretsops.ports import SecretSource
from secretsops.secret import Plaintext
from secretsops.sources import AwsAccess

MANAGED_BY, OURS = "managed-by", "external-secrets"
"""Compat: the tag of what a PushSecret wrote."""
PAGE_LIMIT, MATCH_LIMIT = 500, 5_000
"""Pages listed and documents read by one search."""
CALLS = frozenset(
    {
        "ecr:GetAuthorizationToken",
        "ecr-public:GetAuthorizationToken",
        "sts:GetSessionToken",
        "sts:AssumeRole",
        "sts:GetCallerIdentity",
    }
)
"""What generators may ask for: tokens of ours, nothing that changes anything."""


class AwsSource(SecretSource):
    """One service of one region with one identity."""

    dialect = "aws"
    service = ""
    right = ""

    def __init__(self, access: AwsAccess) -> None:
        """Prepare a client without a request.

        Raises:
            MissingExtra: boto3 is not installed.
            StoreRefused: the region or an endpoint variable is not usable; reason `Invalid`.
        """
        self.access = access
        attempts = access.retries.attempts + 1 if access.retries is not None and access.retries.attempts else ATTEMPTS
        self._session = session_of(access.identity, access.region)
        self._client = client_of(self._session, self.service, attempts=attempts)

    def probe(self) -> None:
        """Resolve the credentials, without a request to the service: no AWS call is allowed to every identity.

        Compat: as with the peer a store stays ready through an outage or a missing grant; its ExternalSecrets say so.

        Raises:
            StoreRefused: there are none; reason `Denied`.
        """
        resolve(self._session)

    def ask(self, what: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """Send one request; raises `StoreRefused` or `StoreUnavailable` in our words."""
        return self._sent(self._client, what, operation, arguments)

    def _sent(self, client: Any, what: str, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = getattr(client, operation)(**arguments)
        except SecretsOpsError:
            raise  # from a session of ours that was to be renewed
        except (ClientError, BotoCoreError, ValueError, OSError) as error:
            raise refusal(what, error, hint=f"grant {self.right}, and kms:Decrypt on its key") from None
        return answer

    def pages(self, what: str, operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Send a request for each page; raises `StoreRefused` with `TooMany` past the limit."""
        for _ in range(PAGE_LIMIT):
            answer = self.ask(what, operation, **arguments)
            yield answer
            following = answer.get("NextToken")
            if not following:
                return
            arguments["NextToken"] = following
        raise too_many(f"more than {PAGE_LIMIT} pages")

    def call(self, operation: str, arguments: Mapping[str, Any]) -> Plaintext:
        """Send one request that gives a token of ours (`sts:GetSessionToken`); times come as RFC 3339.

        Raises:
            StoreRefused: it is none of those.
        """
        service, _, name = operation.partition(":")
        if operation not in CALLS or service not in ENDPOINTS:
            raise StoreRefused(
                f"{operation[:60]} is no request that is made here", reason="Unsupported", hint="use another generator"
            )
        import botocore

        client = client_of(self._session, service)
        answer = self._sent(client, f"asking AWS for {operation}", botocore.xform_name(name), arguments)
        answer.pop("ResponseMetadata", None)
        return Plaintext(json.dumps(answer, default=_stamped).encode())


def open_aws(access: AwsAccess) -> AwsSource:
    """Open the service an access names, without a request."""
    if access.service == "ParameterStore":
        from secretsops.adapters.aws_parameters import ParameterStoreSource

        return ParameterStoreSource(access)
    from secretsops.adapters.aws_secrets import SecretsManagerSource

    return SecretsManagerSource(access)


def is_ours(tags: Any) -> bool:
    """Say whether tags hold the mark of what was pushed."""
    return any(isinstance(tag, dict) and (tag.get("Key"), tag.get("Value")) == (MANAGED_BY, OURS) for tag in tags or [])


def as_mapping(tags: Any) -> dict[str, str]:
    """Give tags as a mapping."""
    return {
        str(tag["Key"]): str(tag.get("Value") or "") for tag in tags or [] if isinstance(tag, dict) and "Key" in tag
    }


def wished_tags(spec: Mapping[str, Any]) -> list[dict[str, str]]:
    """Give the tags a PushSecret asks for, our mark among them."""
    tags = spec.get("tags")
    wished = {str(key): str(value) for key, value in tags.items()} if isinstance(tags, dict) else {}
    return [{"Key": key, "Value": value} for key, value in {**wished, MANAGED_BY: OURS}.items()]


def wishes(metadata: Mapping[str, Any], known: frozenset[str]) -> Mapping[str, Any]:
    """Give the `spec` of PushSecretMetadata; raises `StoreRefused` for a field that is not there."""
    spec = metadata.get("spec") if metadata.get("kind") == "PushSecretMetadata" else metadata
    spec = spec if isinstance(spec, dict) else {}
    if strange := sorted(set(spec) - known):
        raise StoreRefused(
            f"metadata field {str(strange[0])[:40]!r} of the PushSecret is not supported",
            reason="Unsupported",
            hint=f"known are {', '.join(sorted(known))}",
        )
    return spec


def not_ours(key: str) -> StoreRefused:
    """Give the refusal to overwrite what somebody else keeps."""
    return StoreRefused(
        f"{key!r} is not managed by external-secrets",
        reason="NotOurs",
        hint="push to another key, or give it the tag managed-by=external-secrets",
    )


def too_many(what: str) -> StoreRefused:
    """Give the refusal of a search without an end."""
    return StoreRefused(f"the search is too wide: {what}", reason="TooMany", hint="search below a path")


def _stamped(value: Any) -> str:
    return value.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, dt.datetime) else ""
