"""What a project permits: rules of argo-cd v3.6 `types_test.go`, written as cases of our own."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from recovery.app import App, Source
from recovery.project import Project, normal_url, objection_to_app, objection_to_object, read_project
from recovery.windows import Window, gate, read_window
from secretsops.errors import InvalidManifest
from secretsops.manifest import Manifest

NOON = dt.datetime(2026, 3, 2, 12, 0, tzinfo=dt.UTC)


def project(**spec: Any) -> Project:
    return read_project(
        Manifest({"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject", "metadata": {"name": "p"}, "spec": spec})
    )


def app(**fields: Any) -> App:
    return App(
        **{
            "name": "shop",
            "namespace": "argocd",
            "source": Source(url="https://git.example/team/shop.git", path="a"),
            "destination": "shop",
            "project": "p",
            **fields,
        }
    )


def thing(api_version: str, kind: str, **metadata: str) -> Manifest:
    return Manifest({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a", **metadata}})


@pytest.mark.parametrize(
    ("patterns", "url", "permitted"),
    [
        (["*"], "https://git.example/a/b", True),
        ([], "https://git.example/a/b", False),
        (["https://git.example/*"], "https://git.example/a/b", False),  # one star stops at a slash
        (["https://git.example/**"], "https://git.example/a/b", True),
        (["https://git.example/team/*"], "https://git.example/team-evil/a", False),
        (["https://GIT.example/a.git"], "https://git.example/a", True),
        (["git@git.example:a/b.git"], "ssh://git@git.example/a/b", True),
        (["*", "!https://git.example/a/*"], "https://git.example/a/b", False),
        (["!https://git.example/a/*"], "https://git.example/c/d", True),  # Compat
    ],
)
def test_sources(patterns: list[str], url: str, permitted: bool) -> None:
    assert project(sourceRepos=patterns).permits_source(url) is permitted


@pytest.mark.parametrize(
    ("destinations", "namespace", "permitted"),
    [
        ([{"server": "*", "namespace": "*"}], "a", True),
        ([{"name": "in-cluster", "namespace": "team-*"}], "team-a", True),
        ([{"name": "in-cluster", "namespace": "team-*"}], "other", False),
        ([{"server": "*", "namespace": "*"}, {"server": "*", "namespace": "!kube-system"}], "kube-system", False),
        ([{"server": "*", "namespace": "*"}, {"server": "!https://kubernetes.*", "namespace": "*"}], "a", False),
    ],
)
def test_destinations(destinations: list[dict[str, str]], namespace: str, permitted: bool) -> None:
    found = project(destinations=destinations)
    assert found.permits_destination("https://kubernetes.default.svc", "in-cluster", namespace) is permitted


def test_cluster_scoped_kinds_must_be_listed_and_namespaced_ones_need_not() -> None:
    everywhere = [{"server": "*", "namespace": "*"}]
    plain = project(destinations=everywhere)
    role, config = thing("rbac.authorization.k8s.io/v1", "ClusterRole"), thing("v1", "ConfigMap", namespace="a")
    refusal = "resource rbac.authorization.k8s.io:ClusterRole is not permitted in project p"
    assert objection_to_object(role, plain, namespaced=False) == refusal
    assert objection_to_object(config, plain, namespaced=True) == ""
    listed = project(destinations=everywhere, clusterResourceWhitelist=[{"group": "rbac*", "kind": "Cluster*"}])
    assert objection_to_object(role, listed, namespaced=False) == ""
    named = project(clusterResourceWhitelist=[{"group": "*", "kind": "*", "name": "b*"}])
    assert objection_to_object(role, named, namespaced=False) == refusal
    none = project(destinations=everywhere, namespaceResourceWhitelist=[])
    assert objection_to_object(config, none, namespaced=True) == "resource :ConfigMap is not permitted in project p"
    denied = project(destinations=everywhere, namespaceResourceBlacklist=[{"group": "", "kind": "Config?ap"}])
    assert objection_to_object(config, denied, namespaced=True)
    fenced = project(destinations=[{"server": "*", "namespace": "b"}])
    assert objection_to_object(config, fenced, namespaced=True) == "namespace a is not permitted in project 'p'"


def test_an_application_elsewhere_needs_the_projects_leave() -> None:
    wide = {"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]}
    stranger = app(namespace="team-a")
    refusal = "application 'shop' in namespace 'team-a' is not allowed to use project 'p'"
    assert objection_to_app(stranger, project(**wide)) == refusal
    assert objection_to_app(stranger, project(**wide, sourceNamespaces=["team-*"])) == ""
    assert objection_to_app(stranger, project(**wide, sourceNamespaces=["/^team-[ab]$/"])) == ""
    assert objection_to_app(app(), None) == "Application referencing project p which does not exist"


def test_urls_are_compared_in_one_form() -> None:
    assert normal_url(" Git@Example.com:Org/Repo.git ") == normal_url("ssh://git@example.com/org/repo")


def window(**fields: Any) -> Window:
    return read_window(
        "p", {"kind": "deny", "schedule": "0 12 * * *", "duration": "1h", "applications": ["*"], **fields}
    )


def test_a_window_opens_after_its_start_and_closes_by_itself() -> None:
    found = window()
    moments = [NOON, NOON + dt.timedelta(seconds=1), NOON + dt.timedelta(minutes=59), NOON + dt.timedelta(hours=1)]
    assert [found.is_active(moment) for moment in moments] == [False, True, True, False]


def test_the_zone_of_a_window_counts() -> None:
    found = window(timeZone="Europe/Zurich")  # an hour ahead in winter
    assert found.is_active(NOON - dt.timedelta(minutes=30))
    assert not found.is_active(NOON + dt.timedelta(minutes=30))


def test_denies_win_and_inactive_allows_block() -> None:
    now = NOON + dt.timedelta(minutes=5)
    deny, allow, shut = window(), window(kind="allow"), window(kind="allow", schedule="0 3 * * *")
    assert gate([], now=now).automated
    assert not gate([deny, allow], now=now).automated
    assert gate([allow, shut], now=now).automated
    assert not gate([shut], now=now).manual
    assert gate([window(manualSync=True)], now=now) == gate(
        [window(kind="allow", schedule="0 3 * * *", manualSync=True)], now=now
    )
    assert gate([window(manualSync=True)], now=now).manual
    assert not gate([window(manualSync=True)], now=now).automated


def test_lists_of_a_window_are_alternatives_unless_it_says_and() -> None:
    lists = {"applications": ["shop"], "namespaces": ["other"]}
    assert window(**lists).is_for("shop", "x", ())
    assert not window(**lists, andOperator=True).is_for("shop", "x", ())
    assert window(**lists, andOperator=True).is_for("shop", "other", ())


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "maybe"},
        {"schedule": "@daily"},
        {"schedule": "61 * * * *"},
        {"duration": "soon"},
        {"timeZone": "Mars/Base"},
        {"applications": []},
    ],
)
def test_a_window_that_cannot_be_judged_is_an_error(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidManifest):
        window(**fields)
