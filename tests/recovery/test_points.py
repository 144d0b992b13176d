"""Recovery points: a moment is pinned, found again by time, compared class by class, and refused when it is another."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recovery.cli import recover
from recovery.points import Moment, RecoveryPoint, as_of, differences, lost_between, point_of, read_point
from recovery.proof.point_command import KEY_VARIABLE
from recovery.roots import Choice, estate_of
from secretsops.cli import run
from secretsops.errors import InvalidManifest, UsageError
from tests.fakes.clock import FakeClock
from tests.fakes.git import FakeGit
from tests.recovery.estates import FILES, URL, NoRenderer
from tests.recovery.proof.lint_cases import config, deployment, external, sealed

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
KEY = b"k" * 32


def point(
    git: FakeGit, *, key: bytes | None = KEY, created: dt.datetime = NOW, pins: dict[str, str] | None = None
) -> RecoveryPoint:
    choice = Choice(repo=URL, revision="main", path="root.yaml", pins=pins or {})
    estate = estate_of(git, NoRenderer(), choice)
    return point_of(estate, Moment(created=created, repo=URL, revision="main", path="root.yaml", key=key))


@pytest.fixture
def git() -> FakeGit:
    found = FakeGit()
    found.commit(URL, FILES)
    return found


def test_a_point_reads_back_as_it_was_written(git: FakeGit) -> None:
    """Equal points are equal bytes, and name their content."""
    made = point(git)
    assert read_point(made.text(), source="x") == made
    assert point(git).text() == made.text()
    assert made.name.startswith("point-20260301T120000Z-")


def test_no_value_and_no_bare_digest_is_in_a_point(git: FakeGit) -> None:
    """Without a key nothing rendered is digested; with one, another key gives other digests."""
    git.commit(
        URL, {"shop/secret.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: token}\nstringData: {a: hunter2}\n"}
    )
    bare, keyed, other = point(git, key=None), point(git), point(git, key=b"x" * 32)
    assert (set(bare.objects.values()), bare.rendered) == ({""}, "")
    assert keyed.objects["Secret shop/token"] != other.objects["Secret shop/token"]
    assert b"hunter2" not in bare.text() + keyed.text()


def test_a_point_names_images_keys_and_stores(git: FakeGit) -> None:
    """What else a rebuild of that moment needs."""
    fingerprint = f"SHA256:{'a' * 43}"
    text = deployment("web").replace("example.com/web", "example.com/web@sha256:ab") + external("x")
    text += sealed("s", namespace="shop", marks=f'secretsops.dev/sealed-with: "{fingerprint}"')
    git.commit(URL, {"shop/more.yaml": text})
    made = point(git)
    assert made.images["example.com/web@sha256:ab"] == "sha256:ab"
    assert made.keys == [fingerprint]
    assert made.stores == {"SecretStore vault": 1}


def test_a_moment_is_found_by_time(git: FakeGit) -> None:
    """The newest that is not younger; a day means its end."""
    points = [point(git, created=NOW + dt.timedelta(days=days)) for days in (2, 0, 1)]
    assert as_of(points, "").created == "2026-03-03T12:00:00Z"
    assert as_of(points, "2026-03-02").created == "2026-03-02T12:00:00Z"
    assert as_of(points, "2026-03-02T11:59:59Z").created == "2026-03-01T12:00:00Z"
    for text in ("2026-02-28", "yesterday"):
        with pytest.raises(UsageError):
            as_of(points, text)
    with pytest.raises(UsageError):
        as_of([], "")


def test_what_would_be_lost_is_said_per_class(git: FakeGit) -> None:
    """Added, changed and removed since."""
    old = point(git)
    git.commit(
        URL,
        {"shop/settings.yaml": config("settings", "{colour: red}"), "shop/new.yaml": sealed("new", namespace="shop")},
    )
    assert lost_between(old, point(git)) == {
        "other objects": {"changed": ["ConfigMap shop/settings"]},
        "sealed secrets": {"added": ["bitnami.com/SealedSecret shop/new"]},
    }


def test_the_pins_bring_the_moment_back(git: FakeGit) -> None:
    """At its commits it is what it was; without its key that cannot be said."""
    old = point(git)
    git.commit(URL, {"shop/settings.yaml": config("settings", "{colour: red}")})
    assert differences(old, point(git, pins=dict(old.pins))) == []
    assert differences(old, point(git)) != []
    assert differences(old, point(git, key=None, pins=dict(old.pins))) == [
        "its HMAC cannot be compared without its key"
    ]
    assert differences(old, point(git, key=b"x" * 32, pins=dict(old.pins))) != []


@pytest.mark.parametrize(
    "change", [{"kind": "X"}, {"pins": 1}, {"pins": {"a": 1}}, {"extra": 1}, {"created": "x"}, {"charts": [1]}]
)
def test_what_is_no_point_is_refused(git: FakeGit, change: dict[str, Any]) -> None:
    """Unknown fields and wrong types."""
    body = {**json.loads(point(git).text()), **change}
    with pytest.raises(InvalidManifest):
        read_point(json.dumps(body).encode(), source="x")


# --- the command ---------------------------------------------------------------------------------------


class Doors(SimpleNamespace):
    """The doors of one command."""

    def __init__(self, git: FakeGit) -> None:
        super().__init__(git=lambda: git, renderer=NoRenderer, clock=FakeClock())


def test_write_check_and_plan_as_of(
    git: FakeGit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A point is written, proven after a change, and planned from; an older one of another estate is refused."""
    monkeypatch.setenv(KEY_VARIABLE, "k" * 32)
    doors, folder = Doors(git), str(tmp_path / "points")
    where = ["--repo", URL, "--revision", "main", "--path", "root.yaml"]

    def call(*arguments: str) -> int:
        return run(recover, [*arguments], prog="recover", doors=doors)

    assert call("point", "write", *where, "--to", folder) == 0
    capsys.readouterr()
    assert call("plan", *where, "-o", "json") == 0
    then = json.loads(capsys.readouterr().out)["plan"]
    git.commit(URL, {"shop/settings.yaml": config("settings", "{colour: red}")})
    assert call("point", "check", *where, "--points", folder, "-o", "json") == 0
    body = json.loads(capsys.readouterr().out)
    assert body["differences"] == []
    assert body["lost"] == {"other objects": {"changed": ["ConfigMap shop/settings"]}}
    assert call("plan", *where, "--points", folder, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["plan"] == then
    assert call("plan", *where, "--as-of", "2026-01-01") == 2
    assert call("plan", "--repo", URL, "--revision", "main", "--points", folder) == 2
    monkeypatch.delenv(KEY_VARIABLE)
    assert call("point", "check", *where, "--points", folder) == 1


def test_an_older_point_than_the_newest_is_rebuilt_only_for_a_reason(
    git: FakeGit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rollback is a decision of a person."""
    for days in (0, 1):
        made = point(git, created=NOW + dt.timedelta(days=days))
        (tmp_path / made.name).write_bytes(made.text())
    arguments = ["run", "--repo", URL, "--revision", "main", "--path", "root.yaml", "--points", str(tmp_path)]
    arguments += ["--as-of", "2026-03-01", "--journal", str(tmp_path / "journal")]
    assert run(recover, arguments, prog="recover", doors=Doors(git)) == 1
    assert "Rollback" in capsys.readouterr().err
