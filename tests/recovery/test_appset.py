"""ApplicationSets in an estate: planned from Git, generated in a rebuild, step by step."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recovery.appset import applications_of, read_application_set, writes_of
from recovery.generators import GenerationFailed, Language, Sources, flattened, generate, sanitised
from recovery.setup import Setup
from recovery.walk import walk
from secretsops.manifest import Manifest, load_all
from tests.fakes.git import FakeGit
from tests.recovery.estates import FILES, URL, Estate, NoRenderer, application, config_map


def application_set(*generators: dict[str, Any], **spec: Any) -> Manifest:
    template = {
        "metadata": {"name": "{{name}}", "labels": {"env": "{{env}}"}},
        "spec": {
            "project": "default",
            "source": {"repoURL": URL, "path": "{{name}}", "directory": {"recurse": True}},
            "destination": {"server": "https://kubernetes.default.svc", "namespace": "{{name}}"},
            "syncPolicy": {"syncOptions": ["CreateNamespace=true"]},
        },
    }
    return Manifest(
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "ApplicationSet",
            "metadata": {"name": "teams", "namespace": "argocd"},
            "spec": {"generators": list(generators), "template": template, **spec},
        }
    )


def elements(**by_name: str) -> dict[str, Any]:
    return {"list": {"elements": [{"name": name, "env": env} for name, env in by_name.items()]}}


ROLLING = {
    "type": "RollingSync",
    "rollingSync": {
        "steps": [
            {"matchExpressions": [{"key": "env", "operator": "In", "values": ["dev"]}]},
            {"matchExpressions": [{"key": "env", "operator": "In", "values": ["prod"]}]},
        ]
    },
}


def files(manifest: Manifest) -> dict[str, str]:
    kept = {path: text for path, text in FILES.items() if not path.startswith("apps/")}
    return {**kept, "apps/teams.yaml": json.dumps(manifest.body)}


def test_a_set_below_a_root_is_planned_and_rebuilt_step_by_step() -> None:
    """`blog` is dev, `shop` prod: the second step starts when the first is through, and all that Git wants is there."""
    manifest = application_set(elements(shop="prod", blog="dev"), strategy=ROLLING)
    estate = Estate(files(manifest))
    text = estate.git.tree(URL, "main").files["root.yaml"]
    planned = walk(load_all(text), estate.git, NoRenderer())
    assert not planned.problems
    shown = [(one.app.name, one.made_by, one.step) for one in planned.applications]
    assert shown == [("root", "", 0), ("blog", "argocd/teams", 1), ("shop", "argocd/teams", 2)]

    outcomes = {outcome.app.name: outcome for outcome in estate.sync()}
    assert {name: outcome.succeeded for name, outcome in outcomes.items()} == {"root": True, "blog": True, "shop": True}
    order = [request.namespace for request in estate.cluster.log if request[:2] == ("create", "configmaps")]
    assert order == ["blog", "shop", "shop"]
    made = estate.cluster.get(manifest.kind.__class__("argoproj.io", "v1alpha1", "Application"), "shop", "argocd")
    assert made.metadata["ownerReferences"][0]["name"] == "teams"
    assert made.metadata["finalizers"] == ["resources-finalizer.argocd.argoproj.io"]
    assert made.spec["syncPolicy"]["syncOptions"] == ["CreateNamespace=true"]


def test_a_step_that_fails_holds_the_next_one_back() -> None:
    """What comes after a failed step is not started, and says why."""
    manifest = application_set(elements(shop="prod", blog="dev"), strategy=ROLLING)
    broken = {**files(manifest), "blog/settings.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: [\n"}
    estate = Estate(broken)
    outcomes = {outcome.app.name: outcome for outcome in estate.sync()}
    assert not outcomes["blog"].succeeded
    assert "an earlier step of its ApplicationSet failed" in outcomes["shop"].message
    assert not outcomes["root"].succeeded
    assert estate.made("configmaps") == []


def test_a_second_run_writes_no_application_again() -> None:
    """What a set generated before is as it generates it now."""
    estate = Estate(files(application_set(elements(shop="prod", blog="dev"))))
    estate.sync()
    before = len(estate.made("applications"))
    assert all(outcome.succeeded for outcome in estate.sync())
    assert len(estate.made("applications")) == before


@pytest.mark.parametrize("kind", ["scmProvider", "pullRequest", "plugin", "clusterDecisionResource"])
def test_a_generator_outside_git_is_reported_by_name(kind: str) -> None:
    """The plan names it, also inside a matrix, and nothing is generated."""
    estate = Estate(files(application_set({"matrix": {"generators": [elements(shop="a"), {kind: {}}]}})))
    text = estate.git.tree(URL, "main").files["root.yaml"]
    problems = walk(load_all(text), estate.git, NoRenderer()).problems
    assert [problem.reason for problem in problems] == ["NotDerivable"]
    assert kind in problems[0].message


def sources(files_: dict[str, str] | None = None, setup: Setup | None = None) -> Sources:
    git = FakeGit()
    git.commit(URL, files_ or {"a/x": ""})
    return Sources(git=git, pin=git.resolve, setup=setup or Setup())


def of(entry: dict[str, Any], files_: dict[str, str] | None = None) -> list[dict[str, Any]]:
    return generate(entry, sources(files_), Language(go=None))


def test_folders_of_a_repository() -> None:
    """`*` stops at a slash, an exclude beats any include, folders with a dot are never entered."""
    tree = dict.fromkeys(("apps/a/x", "apps/b/deep/x", "apps/.git/x", "apps/skip/x", "x", ".hidden/apps/c/x"), "")
    git = {"repoURL": URL, "directories": [{"path": "apps/*"}, {"path": "apps/skip", "exclude": True}]}
    assert [params["path"] for params in of({"git": git}, tree)] == ["apps/a", "apps/b"]
    found = of({"git": {**git, "pathParamPrefix": "my"}}, tree)[0]
    assert (found["my.path.basename"], found["my.path[0]"]) == ("a", "apps")


def test_files_of_a_repository() -> None:
    """A file is one set, a list many, an empty one a set with its path alone; numbers print as Go does."""
    tree = {"e/a.json": '{"m": 5.0, "deep": {"k": [1, null]}}', "e/b.yaml": "- {m: x}\n- {m: z}\n", "e/c.yaml": ""}
    found = of({"git": {"repoURL": URL, "files": [{"path": "e/*"}]}}, tree)
    assert [params.get("m") for params in found] == ["5", "x", "z", None]
    assert found[0]["deep.k.0"] == "1"
    assert found[0]["deep.k.1"] == "<nil>"
    assert found[0]["path.filename"] == "a.json"


def test_matrix_and_merge() -> None:
    """A matrix refuses a clash, a merge lets the later one win and refuses equal sets."""
    left, right = elements(shop="a", blog="b"), {"list": {"elements": [{"region": "x"}]}}
    assert len(of({"matrix": {"generators": [left, right]}})) == 2
    with pytest.raises(GenerationFailed, match="duplicate key"):
        of({"matrix": {"generators": [left, elements(blog="b")]}})
    merged = of({"merge": {"mergeKeys": ["name"], "generators": [left, elements(shop="z", none="y")]}})
    assert merged == [{"name": "shop", "env": "z"}, {"name": "blog", "env": "b"}]
    with pytest.raises(GenerationFailed, match="not unique"):
        of({"merge": {"mergeKeys": ["env"], "generators": [elements(a="x", b="x"), left]}})
    nested = {
        "matrix": {"generators": [{"matrix": {"generators": [left, right]}}, {"list": {"elements": [{"z": "1"}]}}]}
    }
    assert len(of(nested)) == 2
    with pytest.raises(GenerationFailed, match="nested deeper"):
        of({"matrix": {"generators": [nested, right]}})


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"list": {"elements": "x"}},
        {"list": {"elementsYaml": "a: 1"}},
        {"git": {"repoURL": URL}},
        {"git": {"repoURL": "https://nowhere.invalid/x", "files": [{"path": "*"}]}},
        {"matrix": {"generators": [elements(a="x")]}},
        {"merge": {"generators": [elements(a="x"), elements(a="x")]}},
        {"list": {"elements": [{"a": 1}]}},
        {"unknown": {}},
    ],
)
def test_a_generator_that_cannot_be_read_fails_its_set(entry: dict[str, Any]) -> None:
    """One generator that gives no answer, and nothing is generated, changed or deleted."""
    wanted = read_application_set(application_set(elements(a="x"), entry))
    found = applications_of(wanted, sources())
    assert found.failed
    assert not found.applications
    live = Manifest({"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": "old"}})
    assert writes_of(wanted, found, [live]).delete == ()


def test_the_application_of_another_set_is_left_alone() -> None:
    """An owner is never replaced; an Application without one is taken over."""
    wanted = read_application_set(application_set(elements(a="x", b="x")))
    owner = {"kind": "ApplicationSet", "name": "other", "uid": "2", "controller": True}
    live = [
        Manifest({"metadata": {"name": "a", "namespace": "argocd", "ownerReferences": [owner]}, "spec": {}}),
        Manifest({"metadata": {"name": "b", "namespace": "argocd"}, "spec": {}}),
    ]
    writes = writes_of(wanted, applications_of(wanted, sources()), live)
    assert [found.name for found, _ in writes.patch] == ["b"]
    assert "already owned by another" in writes.problems[0].message


def test_names_and_flat_parameters() -> None:
    """Sanitising cuts and trims as the peer does; empty maps leave nothing."""
    assert sanitised("My_App/1.") == "my-app-1"
    assert len(sanitised("a" * 300)) == 253
    assert flattened({"a": {"b": [{"c": 1}]}, "d": {}}) == {"a.b.0.c": 1}


def test_a_root_may_be_a_set() -> None:
    """An ApplicationSet that one applies by hand is a root like an Application."""
    estate = Estate({"shop/settings.yaml": config_map("settings"), "x.yaml": application("x", "x")})
    planned = walk([application_set(elements(shop="prod"))], estate.git, NoRenderer())
    assert [one.app.name for one in planned.applications] == ["shop"]
    assert not planned.problems
