"""The spine of recovery on fakes: order, gates, and every answer that an API server may give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from recovery.journal import Header, Journal
from recovery.project import DEFAULT, KindItem, read_project
from recovery.setup import Setup
from secretsops.errors import ApiError, Conflict, Forbidden, Invalid, ServerFailure, TooManyRequests, Unreachable
from secretsops.manifest import Manifest
from tests.fakes.cluster import Request
from tests.recovery.estates import FILES, URL, Estate, application, config_map

FAULTS: dict[str, Callable[[], ApiError]] = {
    "429": lambda: TooManyRequests("slow down", code=429, reason="TooManyRequests", retry_after=2.0),
    "500": lambda: ServerFailure("broken", code=500, reason="InternalError"),
    "409": lambda: Conflict("changed meanwhile", code=409, reason="Conflict"),
    "lost": lambda: Unreachable("the connection broke off", reason="NoAnswer"),
}


@pytest.fixture(scope="module")
def undisturbed() -> Estate:
    """One run without a fault: what every other run must end in."""
    estate = Estate()
    assert all(outcome.succeeded for outcome in estate.sync())
    return estate


def test_waves_hooks_and_children_come_in_order(undisturbed: Estate) -> None:
    """Parent before children, hook before what it prepares, wave by wave, one child after the other."""
    writes = [
        (request.resource, request.name)
        for request in undisturbed.cluster.writes()
        if request.verb in ("create", "apply")
    ]
    wanted = [
        ("applications", "shop"),
        ("namespaces", "shop"),
        ("jobs", "migrate"),
        ("secrets", "token"),
        ("configmaps", "settings"),
        ("configmaps", "late"),
        ("applications", "blog"),
        ("namespaces", "blog"),
        ("configmaps", "settings"),
    ]
    assert [entry for entry in writes if entry in wanted] == wanted


def test_a_second_run_writes_nothing_but_hooks() -> None:
    """What is as wanted is left alone; status is not written again as another state."""
    estate = Estate()
    estate.sync()
    before = len(estate.cluster.log)
    assert all(outcome.succeeded for outcome in estate.sync())
    again = [request for request in estate.cluster.log[before:] if request.verb in ("create", "update", "apply")]
    assert {request.resource for request in again} <= {"jobs", "secrets"}  # Secrets are applied by the server


def _positions() -> int:
    estate = Estate()
    estate.sync()
    return len(estate.cluster.log)


@pytest.mark.parametrize(
    ("fault", "after"),
    # 429 and 409 say that the request was not carried out; after the others it may have been.
    [*((fault, False) for fault in FAULTS), ("500", True), ("lost", True)],
)
def test_one_bad_answer_anywhere_changes_nothing(fault: str, after: bool, undisturbed: Estate) -> None:
    """Whichever request gets it, carried out or not: the same objects at the end, and every hook created once."""
    for position in range(_positions()):
        estate = Estate()
        hit: list[Request] = []
        estate.cluster.fail(FAULTS[fault](), skip=position, after=after)
        outcomes = estate.sync()
        hit = estate.cluster.log[position : position + 1]
        assert [outcome.message for outcome in outcomes if not outcome.succeeded] == [], (position, hit)
        expected = undisturbed.state()
        if hit and hit[0].resource == "applications" and hit[0].verb == "patch" and not after:
            continue  # a status that could not be written does not fail a rebuild (recovery/status.py)
        assert estate.state() == expected, (position, hit)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_never_recovers_ends_the_wait(fault: str) -> None:
    """Past the deadline the application fails by name, and nothing later was started."""
    estate = Estate(patience=30.0)
    estate.cluster.fail(FAULTS[fault](), times=2_000, resource="configmaps")
    outcomes = {outcome.app.name: outcome for outcome in estate.sync()}
    assert not outcomes["shop"].succeeded
    assert not outcomes["root"].succeeded
    assert "blog" not in outcomes
    assert "shop" in outcomes["root"].message
    assert estate.clock.monotonic() < 200


def test_retry_after_is_honoured() -> None:
    """The pause asked for by 429 is the pause made."""
    estate = Estate()
    estate.cluster.fail(TooManyRequests("slow", code=429, retry_after=3.5), resource="configmaps", verb="create")
    estate.sync()
    assert 3.5 in estate.clock.pauses


@pytest.mark.parametrize("refusal", [Forbidden, Invalid])
def test_a_refusal_fails_its_application_and_starts_nothing_later(refusal: type[ApiError]) -> None:
    """What was applied before stays; the message is the server's own."""
    estate = Estate()
    estate.cluster.fail(
        refusal("not on this cluster", code=403, reason="Refused"), times=2_000, name="late", verb="create"
    )
    outcomes = {outcome.app.name: outcome for outcome in estate.sync()}
    assert "not on this cluster" in outcomes["shop"].message
    assert not outcomes["shop"].succeeded
    assert ("create", "configmaps", "shop", "settings") in estate.cluster.log
    assert "blog" not in outcomes


def test_a_repository_that_does_not_answer_ends_its_application_by_reason() -> None:
    """The child fails with Git's reason; its parent names the child."""
    estate = Estate({**FILES, "apps/blog.yaml": application("blog", "blog", wave=2).replace(URL, f"{URL}/gone")})
    outcomes = {outcome.app.name: outcome for outcome in estate.sync()}
    assert "GitUnavailable" in outcomes["blog"].message
    assert "blog" in outcomes["root"].message
    assert outcomes["shop"].succeeded


def test_a_branch_that_moves_during_the_run_is_read_once() -> None:
    """One text of revision is one commit for the whole run."""
    estate = Estate()
    seen: list[str] = []

    def move(request: Request) -> None:
        if request.verb == "create" and not seen:
            seen.append(estate.git.commit(URL, {"blog/settings.yaml": config_map("settings", theme="moved")}))

    estate.cluster.on_request = move
    outcomes = estate.sync()
    assert {outcome.revision for outcome in outcomes} == {estate.commit}
    assert seen


def test_an_application_below_itself_ends() -> None:
    """Argo CD managing its own Application waits for nobody."""
    files = {
        "root.yaml": application("root", "apps"),
        "apps/root.yaml": application("root", "apps"),
        "apps/thing.yaml": config_map("thing"),
    }
    outcomes = Estate(files).sync()
    assert [(outcome.app.name, outcome.succeeded) for outcome in outcomes] == [("root", True)]


def test_retry_tries_the_whole_application_again() -> None:
    """A failed wave is tried as often as `retry.limit` says, with growing pauses, from the same commit."""
    retry = ", retry: {limit: 2, backoff: {duration: 7s, factor: 2, maxDuration: 1m}}"
    files = {"root.yaml": application("root", "apps", more=retry), "apps/thing.yaml": config_map("thing")}
    estate = Estate(files)
    estate.cluster.fail(Invalid("not yet", code=422, reason="Invalid"), times=2, name="thing", verb="create")
    outcomes = estate.sync()
    assert [outcome.succeeded for outcome in outcomes] == [True]
    assert estate.clock.monotonic() >= 7 + 14
    assert estate.made("configmaps") == ["thing", "thing", "thing"]


def test_a_journal_remembers_hooks_that_ran(tmp_path: Path) -> None:
    """A run that breaks off after the hook and is resumed does not run the hook again."""
    estate = Estate()
    header = Header(plan="p", cluster="c", keys="k")

    class Killed(Exception):
        """The process dies."""

    def die(request: Request) -> None:
        if request[:2] == ("create", "configmaps"):
            raise Killed

    estate.cluster.on_request = die
    with Journal(tmp_path, header, resume=False) as journal, pytest.raises(Killed):
        estate.sync(journal=journal)
    estate.cluster.on_request = None
    with Journal(tmp_path, header, resume=True) as journal:
        assert all(outcome.succeeded for outcome in estate.sync(journal=journal))
    assert estate.made("jobs") == ["migrate"]


def test_a_closed_window_holds_a_sync_back_until_a_reason_is_given() -> None:
    """The refusal is the peer's; the override is the person's."""
    deny = read_project(
        Manifest(
            {
                "apiVersion": "argoproj.io/v1alpha1",
                "kind": "AppProject",
                "metadata": {"name": "default"},
                "spec": {
                    "sourceRepos": ["*"],
                    "destinations": [{"server": "*", "namespace": "*"}],
                    "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
                    "syncWindows": [
                        {"kind": "deny", "schedule": "* * * * *", "duration": "24h", "applications": ["blog"]}
                    ],
                },
            }
        )
    )
    setup = Setup(projects={"default": deny})
    shut = {outcome.app.name: outcome for outcome in Estate().sync(setup=setup)}
    assert "Sync operation blocked by sync window" in shut["blog"].message
    assert shut["shop"].succeeded
    assert all(outcome.succeeded for outcome in Estate().sync(setup=setup, override_windows="the cluster is gone"))


def test_what_a_project_does_not_permit_is_not_applied() -> None:
    """One refused object stops its application before the first write."""
    narrow = replace(DEFAULT, namespaced_denied=(KindItem(group="", kind="Secret"),))
    estate = Estate()
    outcomes = {outcome.app.name: outcome for outcome in estate.sync(setup=Setup(projects={"default": narrow}))}
    assert "resource :Secret is not permitted in project default" in outcomes["shop"].message
    assert estate.made("configmaps") == []


def test_waves_follow_each_other_at_once_unless_a_delay_is_asked_for() -> None:
    """Without it nothing sleeps that waits for nothing; with it there is a pause after each wave but the last."""
    quick, slow = Estate(), Estate(wave_delay=60.0)
    assert all(outcome.succeeded for outcome in [*quick.sync(), *slow.sync()])
    assert quick.clock.monotonic() < 5
    # shop has four places (its namespace before the hook, the hook, two waves), root three, blog two.
    assert slow.clock.monotonic() > 60 * 4
    assert slow.state() == quick.state()
