"""What AWS and its SDK say when something fails, in our classes and words; their texts quote requests.

What never lives here: what was asked.
"""

from __future__ import annotations

from typing import Any

from secretsops.errors import NotLetIn, SecretsOpsError, StoreRefused, StoreUnavailable

NOT_FOUND = frozenset({"ResourceNotFoundException", "ParameterNotFound", "ParameterVersionNotFound"})
DENIED = frozenset(
    {
        "AccessDeniedException",
        "AccessDenied",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "ExpiredTokenException",
        "ExpiredToken",
        "IncompleteSignature",
        "InvalidIdentityToken",
        "IDPRejectedClaim",
        "MissingAuthenticationTokenException",
        "MissingAuthenticationToken",
        "NotAuthorized",
        "OptInRequired",
        "DecryptionFailure",
        "InvalidKeyId",
    }
)
OF_A_SECRET = frozenset(
    {
        "AccessDeniedException",
        "AccessDenied",
        "UnauthorizedOperation",
        "NotAuthorized",
        "DecryptionFailure",
        "InvalidKeyId",
    }
)
"""Denials that are about what was asked for; the others are about who asks."""
THROTTLED = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "TooManyUpdates",
        "PriorRequestNotComplete",
    }
)
INVALID = frozenset(
    {
        "InvalidParameterException",
        "InvalidRequestException",
        "ValidationException",
        "ValidationError",
        "InvalidResourceId",
        "InvalidFilterKey",
        "InvalidFilterValue",
        "InvalidNextTokenException",
        "MalformedPolicyDocument",
        "PackedPolicyTooLarge",
        "ParameterLimitExceeded",
        "ParameterPatternMismatchException",
        "HierarchyTypeMismatch",
    }
)
_SKEWED = frozenset({"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"})


def refusal(what: str, error: BaseException, *, hint: str) -> SecretsOpsError:
    """Give our error for one of the SDK's; `what` says what was tried, `hint` what cures a denial."""
    from botocore.exceptions import (
        ClientError,
        CredentialRetrievalError,
        NoCredentialsError,
        ParamValidationError,
        PartialCredentialsError,
    )

    if isinstance(error, ClientError):
        return _answered(what, error.response, hint)
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return no_credentials(type(error).__name__)
    if isinstance(error, ParamValidationError):
        return StoreRefused(
            f"{what}: no such name or version can be",
            reason="Invalid",
            hint="check remoteRef.key and remoteRef.version",
        )
    if isinstance(error, UnicodeError | ValueError):
        return StoreRefused(
            f"{what}: the credentials cannot be sent as a header",
            reason="Denied",
            hint="store them as plain text without line breaks",
        )
    return StoreUnavailable(
        f"{what}: no answer ({type(error).__name__})", reason="Unreachable", hint="check network, region and endpoint"
    )


def _answered(what: str, response: Any, hint: str) -> SecretsOpsError:
    about = response.get("Error") or {}
    code, text = str(about.get("Code") or ""), str(about.get("Message") or "")
    metadata = response.get("ResponseMetadata") or {}
    if code in NOT_FOUND or (code in {"InvalidRequestException", "InvalidParameterException"} and _is_going(text)):
        how = "is scheduled for deletion" if code not in NOT_FOUND else "does not exist"
        return StoreRefused(
            f"{what}: it {how}", reason="NotFound", hint="check name, version and region, or restore the secret"
        )
    if code in _SKEWED or (code in DENIED and ("Signature expired" in text or "not yet current" in text)):
        return StoreUnavailable(
            f"{what}: our clock is wrong ({code})",
            reason="ClockSkew",
            hint="set the clock of the node: it has to be right to 5 minutes",
        )
    if code in THROTTLED or metadata.get("HTTPStatusCode") == 429:
        after = str((metadata.get("HTTPHeaders") or {}).get("retry-after") or "")
        return StoreUnavailable(
            f"{what}: throttled ({code or 429})",
            reason="Throttled",
            retry_after=float(after) if after.isdecimal() and len(after) < 7 else 0.0,
            hint="it is tried again; a longer refreshInterval asks less",
        )
    if code in DENIED:
        kind = StoreRefused if code in OF_A_SECRET else NotLetIn
        return kind(f"{what}: denied ({code})", reason="Denied", hint=hint)
    if code in INVALID:
        return StoreRefused(
            f"{what}: invalid ({code})", reason="Invalid", hint="check remoteRef.key and remoteRef.version"
        )
    return StoreUnavailable(f"{what}: failed ({code or 'no code'})", hint="try again later")


def _is_going(text: str) -> bool:
    return any(words in text for words in ("marked for deletion", "scheduled for deletion", "marked deleted"))


def no_credentials(why: str) -> StoreRefused:
    """Give the error for having no credentials at all."""
    return NotLetIn(
        f"no AWS credentials ({why})",
        reason="Denied",
        hint="set auth.secretRef on the store, or give the controller a role",
    )
