"""What is known of Secrets without asking: whether they are there, whose they are, whether they are as we left them."""

from __future__ import annotations

from typing import Any

from controllers.observed import Observed
from secretsops.manifest import Manifest


def observed() -> Observed:
    found = Observed(None)  # type: ignore[arg-type]
    found.watches_secrets()
    return found


def secret(version: int) -> Manifest:
    metadata: dict[str, Any] = {"name": "s", "namespace": "a", "resourceVersion": str(version)}
    return Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})


def test_our_own_write_is_known_whether_the_watch_told_of_it_yet_or_not() -> None:
    known = observed()
    known.wrote_secret(secret(7))
    assert known.is_as_written("a", "s")
    known.secret("a", "s", exists=True, version=5)
    assert known.is_as_written("a", "s"), "what is older came late"
    known.secret("a", "s", exists=True, version=7)
    assert known.is_as_written("a", "s")
    known.secret("a", "s", exists=True, version=8)
    assert not known.is_as_written("a", "s"), "somebody else wrote"


def test_a_deletion_ends_that_knowledge() -> None:
    known = observed()
    known.wrote_secret(secret(7))
    known.secret("a", "s", exists=True, version=7)
    known.secret("a", "s", exists=False)
    assert not known.is_as_written("a", "s")
    assert not known.may_exist("a", "s")


def test_nothing_is_known_where_nobody_watches() -> None:
    unwatched = Observed(None)  # type: ignore[arg-type]
    unwatched.wrote_secret(secret(7))
    assert not unwatched.is_as_written("a", "s")
    assert unwatched.made_by("a", "mark") is None
    assert unwatched.may_exist("a", "s")


def test_marks_are_kept_by_maker() -> None:
    known = observed()
    known.secret("a", "one", exists=True, maker="m")
    known.secret("a", "two", exists=True, maker="m")
    known.secret("b", "three", exists=True, maker="m")
    assert known.made_by("a", "m") == ["one", "two"]
    known.secret("a", "one", exists=True, maker="")
    known.secret("a", "two", exists=False)
    assert known.made_by("a", "m") == []
