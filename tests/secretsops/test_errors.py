"""The tree of errors: every class has a stable reason, an exit code, and an answer to whether trying again helps."""

from __future__ import annotations

import inspect

import pytest

from secretsops import errors
from secretsops.errors import (
    AlreadyExists,
    ApiError,
    BrokenEscrow,
    CannotUnseal,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    InvalidManifest,
    MissingExtra,
    NotFound,
    NotOurs,
    Refused,
    SecretsOpsError,
    StoreRefused,
    StoreUnavailable,
    UsageError,
    WorldFailed,
)

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, SecretsOpsError)]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_in_the_drawn_tree(error: type[SecretsOpsError]) -> None:
    """The module's docstring shows it."""
    assert error.__name__ in str(errors.__doc__)


@pytest.mark.parametrize("error", CLASSES)
def test_exit_codes_follow_the_branch(error: type[SecretsOpsError]) -> None:
    """1 the answer is no, 2 usage, 3 the world failed."""
    expected = 1 if issubclass(error, Refused) else 2 if issubclass(error, UsageError) else 3
    assert error.exit_code == expected


@pytest.mark.parametrize("error", [NotFound, AlreadyExists, Invalid, MissingExtra, StoreRefused, UsageError, Refused])
def test_what_no_retry_cures(error: type[SecretsOpsError]) -> None:
    """A fact of the class."""
    assert error.retry is False


@pytest.mark.parametrize("error", [Conflict, Gone, Forbidden, WorldFailed, StoreUnavailable, ApiError])
def test_what_a_retry_may_cure(error: type[SecretsOpsError]) -> None:
    """The world may change."""
    assert error.retry is True


def test_reason_defaults_to_the_class() -> None:
    """So that there always is one; the text is the message alone."""
    error = NotFound("no such thing", code=404)
    assert (error.reason, error.message, str(error), error.hint) == ("NotFound", "no such thing", "no such thing", "")
    assert NotFound("x", reason="Other").reason == "Other"


def test_errors_carry_what_their_reader_needs() -> None:
    """Place, keys tried, owner, delay, extra."""
    broken = InvalidManifest("not YAML", where="a.yaml, line 3", reason="InvalidYaml")
    assert (str(broken), broken.problem, broken.where) == ("a.yaml, line 3: not YAML", "not YAML", "a.yaml, line 3")
    assert str(InvalidManifest("x")) == "x"
    assert CannotUnseal("no", tried=("a", "b")).tried == ("a", "b")
    assert NotOurs("no", owner="helm").owner == "helm"
    assert StoreUnavailable("down", retry_after=2.5).retry_after == 2.5
    assert (ApiError("x", code=500, retry_after=1).code, ApiError("x", retry_after=1).retry_after) == (500, 1)
    assert "pip install 'secretsops[aws]'" in MissingExtra("aws", needed_for="reading AWS").hint
    assert issubclass(BrokenEscrow, Refused)
