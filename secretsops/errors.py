"""Every error the product raises on purpose, and nothing else.

    SecretsOpsError
    ├── UsageError            the command line or a configuration is wrong            exit 2
    ├── Refused               the answer is no, and a person has to decide            exit 1
    │   ├── InvalidManifest     a document is not what it claims to be
    │   ├── CannotUnseal        no offered key opens an item
    │   ├── NotOurs             the object belongs to somebody else
    │   ├── SyncRefused         a plan may not be carried out
    │   ├── RenderFailed        a chart, kustomization or program does not render
    │   ├── TemplateFailed      a Go template does not parse, run or stay within its limits
    │   └── BrokenEscrow        a bundle, index or receipt does not hold
    └── WorldFailed           something outside this process failed                   exit 3
        ├── MissingExtra        a library of an optional extra is not installed
        ├── StoreRefused        a secret store answered no (not found, denied)
        │   └── NotLetIn            ... since it did not accept who we are
        ├── StoreUnavailable    a secret store gave no usable answer
        ├── GitUnavailable      a repository gave no usable answer
        ├── Timeout             a deadline passed; names what was awaited
        └── ApiError            the Kubernetes API server answered with an error
            ├── NotFound  AlreadyExists  Conflict  Invalid  Forbidden  Unauthorized
            └── Gone  TooManyRequests  ServerFailure  Unreachable  UnknownKind

`reason` is stable: it is the condition reason, the metric label and what scripts match. `message` says
what was tried. `hint` is the line that cures it. No message may carry secret data, nor text of a library
that could (SECURITY.md: parser messages quote the line they fail on); raise `from None` where one might.
"""

from __future__ import annotations

from typing import ClassVar


class SecretsOpsError(Exception):
    """The root: a stable `reason`, a `message` saying what was tried, a `hint` that cures it."""

    exit_code: ClassVar[int] = 3
    retry: ClassVar[bool] = False
    """Whether trying again without a change elsewhere can help. A fact of the class, not a guess of the loop."""

    def __init__(self, message: str, *, reason: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).__name__
        self.hint = hint

    def __str__(self) -> str:
        """Give the message alone; the CLI prints the hint on a line of its own."""
        return self.message


class UsageError(SecretsOpsError):
    """The command line or a configuration file asks for something that makes no sense."""

    exit_code = 2


class Refused(SecretsOpsError):
    """The answer is no."""

    exit_code = 1


class InvalidManifest(Refused):
    """A document is not what it claims to be. `where` is `file:line:column` as far as known."""

    def __init__(self, message: str, *, where: str = "", reason: str = "", hint: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message, reason=reason, hint=hint)
        self.problem = message
        self.where = where


class CannotUnseal(Refused):
    """No offered key opens an item. `tried` are the fingerprints of the keys offered, newest first."""

    def __init__(self, message: str, *, tried: tuple[str, ...] = (), reason: str = "", hint: str = "") -> None:
        super().__init__(message, reason=reason, hint=hint)
        self.tried = tried


class NotOurs(Refused):
    """The object exists and belongs to `owner`, which did not agree to our writing it."""

    def __init__(self, message: str, *, owner: str = "", reason: str = "", hint: str = "") -> None:
        super().__init__(message, reason=reason, hint=hint)
        self.owner = owner


class SyncRefused(Refused):
    """A plan may not be carried out as it stands."""


class RenderFailed(Refused):
    """A chart, kustomization or Jsonnet program does not render, or not within its limits."""


class TemplateFailed(Refused):
    """A Go template does not parse, run or stay within its limits.

    `reason` is `TemplateSyntax`, `TemplateFailed` or `TemplateLimit`. `line` counts from 1, `column` bytes from 0, as
    Go has it; 0 and 0 where no place is known. `problem` names functions, fields and types of the template, never a
    value and never a constant of its text.
    """

    def __init__(self, problem: str, *, line: int = 0, column: int = 0, reason: str = "", hint: str = "") -> None:
        super().__init__(f"{line}:{column}: {problem}" if line else problem, reason=reason, hint=hint)
        self.problem = problem
        self.line = line
        self.column = column


class BrokenEscrow(Refused):
    """A bundle, index, receipt or proof does not hold."""


class WorldFailed(SecretsOpsError):
    """Something outside this process failed; nothing was half-written."""

    retry = True


class MissingExtra(WorldFailed):
    """A library of an optional extra is not installed."""

    retry = False

    def __init__(self, extra: str, *, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs the extra '{extra}', which is not installed",
            hint=f"install it: pip install 'secretsops[{extra}]'",
        )


class StoreRefused(WorldFailed):
    """A secret store answered no. `reason` is `NotFound`, `Denied` or `Invalid`."""

    retry = False


class NotLetIn(StoreRefused):
    """A secret store did not accept who we are; that says nothing about any secret."""


class StoreUnavailable(WorldFailed):
    """A secret store gave no usable answer. `retry_after` is in seconds, 0 when the store named none."""

    def __init__(self, message: str, *, retry_after: float = 0.0, reason: str = "", hint: str = "") -> None:
        super().__init__(message, reason=reason, hint=hint)
        self.retry_after = retry_after


class GitUnavailable(WorldFailed):
    """A Git repository gave no usable answer."""


class Timeout(WorldFailed):
    """A deadline passed. The message names the object and the condition that was awaited."""


class ApiError(WorldFailed):
    """The Kubernetes API server answered with an error `Status`.

    `code` is the HTTP status (0 when no answer came), `reason` the machine-readable reason of the Status
    (`k8s.io/apimachinery/pkg/apis/meta/v1/types.go`, `StatusReason`).
    """

    def __init__(
        self, message: str, *, code: int = 0, reason: str = "", hint: str = "", retry_after: float = 0.0
    ) -> None:
        super().__init__(message, reason=reason, hint=hint)
        self.code = code
        self.retry_after = retry_after


class NotFound(ApiError):
    """404: the object does not exist."""

    retry = False


class AlreadyExists(ApiError):
    """409 AlreadyExists: a create met an object of that name."""

    retry = False


class Conflict(ApiError):
    """409 Conflict: a stale resourceVersion, or another field manager owns a field (server-side apply)."""


class Invalid(ApiError):
    """400 or 422: the API server refused the body."""

    retry = False


class Forbidden(ApiError):
    """403: RBAC or admission said no."""


class Unauthorized(ApiError):
    """401: the credential was not accepted."""


class Gone(ApiError):
    """410: the resourceVersion or continue token is too old; list again."""


class TooManyRequests(ApiError):
    """429: slow down; `retry_after` says for how long."""


class ServerFailure(ApiError):
    """5xx: the API server or something behind it failed."""


class Unreachable(ApiError):
    """No answer: connection refused, reset, timed out, or TLS failed."""


class UnknownKind(ApiError):
    """The cluster serves no such kind (yet)."""
