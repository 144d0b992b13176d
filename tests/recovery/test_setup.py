"""What an installation is told beside its Applications, read from objects; and rules of ignoring."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from recovery.app import App, Health, HealthState, IgnoreRule, Source
from recovery.diff import in_sync
from recovery.jq import drop, parse
from recovery.judge import judge_of
from recovery.render import stamp
from recovery.setup import Settings, Setup, Tracking, read_setup
from secretsops.adapters.rendering import RenderWorkers
from secretsops.errors import RenderFailed, SyncRefused
from secretsops.manifest import Manifest

SHOP = App(name="shop", namespace="argocd", source=Source(url="", path=""), destination="shop")


def config(**data: str) -> Manifest:
    metadata = {"name": "argocd-cm", "namespace": "argocd"}
    return Manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def secret(secret_name: str, type_: str, **data: str) -> Manifest:
    labels = {"argocd.argoproj.io/secret-type": type_}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return Manifest(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret_name, "labels": labels}, "data": encoded}
    )


def test_settings_of_argocd_cm() -> None:
    cm = config(
        **{
            "application.resourceTrackingMethod": "label",
            "application.instanceLabelKey": "example.com/app",
            "resource.customizations.health.argoproj.io_Application": "return nil",
            "resource.customizations.ignoreDifferences.all": "jsonPointers: [/spec/replicas]",
            "resource.customizations.ignoreDifferences.apps_Deployment": "managedFieldsManagers: [hpa]",
            "resource.exclusions": "- apiGroups: [cilium.io]\n  kinds: [CiliumIdentity]\n",
            "kustomize.buildOptions": "--load-restrictor LoadRestrictionsNone",
            "helm.enable": "false",
        }
    )
    settings = read_setup([cm])[0].settings
    assert (settings.tracking, settings.label, settings.disabled) == (
        Tracking.LABEL,
        "example.com/app",
        frozenset({"helm"}),
    )
    assert settings.health == {"argoproj.io/Application": "return nil"}
    assert [(rule.group, rule.kind) for rule in settings.ignored] == [("*", "*"), ("apps", "Deployment")]
    kinds = [("cilium.io/v2", "CiliumIdentity"), ("cilium.io/v2", "CiliumNode")]
    manages = [settings.manages(Manifest({"apiVersion": version, "kind": kind}).kind) for version, kind in kinds]
    assert manages == [False, True]


@pytest.mark.parametrize(
    "data",
    [
        {"application.resourceTrackingMethod": "magic"},
        {"resource.exclusions": "nonsense"},
        {"resource.customizations": "a: [b"},
    ],
)
def test_settings_that_cannot_be_read_are_a_problem(data: dict[str, str]) -> None:
    assert [problem.reason for problem in read_setup([config(**data)])[1]] == ["InvalidSettings"]


def test_repositories_clusters_and_templates() -> None:
    sealed = Manifest(
        {
            "apiVersion": "bitnami.com/v1alpha1",
            "kind": "SealedSecret",
            "metadata": {"name": "deep"},
            "spec": {
                "encryptedData": {"password": "x"},
                "template": {
                    "metadata": {"labels": {"argocd.argoproj.io/secret-type": "repository"}},
                    "data": {"url": "https://git.example/org/deep", "password": "{{ .password }}"},
                },
            },
        }
    )
    setup, problems = read_setup(
        [
            secret("org", "repo-creds", url="https://git.example/org", username="u", password="org"),
            secret("one", "repository", url="https://git.example/org/one.git", password="one"),
            sealed,
            secret("east", "cluster", name="east", server="https://east.example/"),
        ]
    )
    assert not problems
    own, shared = setup.repository("https://git.example/org/one"), setup.repository("https://git.example/org/two")
    assert own
    assert own.login
    assert own.login[1].reveal() == b"one"
    assert shared
    assert shared.login
    assert shared.login[1].reveal() == b"org"
    assert setup.repository("https://git.example/org-evil/two") is None
    deep = setup.repository("https://git.example/org/deep.git")
    assert deep
    assert deep.sealed
    assert deep.login is None
    assert setup.server_of("east") == "https://east.example"
    assert setup.server_of("in-cluster") == "https://kubernetes.default.svc"
    assert setup.server_of("west") == ""


@pytest.mark.parametrize(
    ("method", "marked"),
    [
        ("annotation", (True, False)),
        ("label", (False, True)),
        ("annotation+label", (True, True)),
    ],
)
def test_objects_are_marked_by_each_method(method: str, marked: tuple[bool, bool]) -> None:
    settings = read_setup([config(**{"application.resourceTrackingMethod": method})])[0].settings
    raw = Manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})
    found = stamp(SHOP, raw, {}, settings)
    assert (
        "argocd.argoproj.io/tracking-id" in found.annotations,
        "app.kubernetes.io/instance" in found.labels,
    ) == marked
    crd = Manifest(
        {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "a"}}
    )
    assert stamp(SHOP, crd, {}, settings).body == crd.body


def test_global_projects_and_the_missing_one() -> None:
    body = {"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject"}
    everybody = Manifest({**body, "metadata": {"name": "all"}, "spec": {"sourceRepos": ["https://a/**"]}})
    team = Manifest({**body, "metadata": {"name": "team", "labels": {"tier": "x"}}, "spec": {}})
    cm = config(globalProjects="- labelSelector: {matchLabels: {tier: x}}\n  projectName: all\n")
    setup = read_setup([everybody, team, cm])[0]
    found = setup.project("team")
    assert found
    assert found.permits_source("https://a/b/c")
    assert setup.project("none") is None
    assert setup.project("default") is not None
    assert Setup(lenient=True).project("none") is not None


@pytest.mark.parametrize(
    ("expression", "left"),
    [
        (".a.b", {"a": {"c": [{"n": "x", "v": 1}, {"n": "y", "v": 2}]}}),
        ('.a.c[] | select(.n == "x")', {"a": {"b": 1, "c": [{"n": "y", "v": 2}]}}),
        ('.a.c[] | select(.n == "x") | .v', {"a": {"b": 1, "c": [{"n": "x"}, {"n": "y", "v": 2}]}}),
        ('.a["c"][0].v', {"a": {"b": 1, "c": [{"n": "x"}, {"n": "y", "v": 2}]}}),
        (".a.c[]?.v", {"a": {"b": 1, "c": [{"n": "x"}, {"n": "y"}]}}),
        (".nothing.here", {"a": {"b": 1, "c": [{"n": "x", "v": 1}, {"n": "y", "v": 2}]}}),
    ],
)
def test_jq_paths_are_removed(expression: str, left: dict[str, Any]) -> None:
    body = {"a": {"b": 1, "c": [{"n": "x", "v": 1}, {"n": "y", "v": 2}]}}
    drop(body, parse(expression))
    assert body == left


@pytest.mark.parametrize("expression", ["map(.a)", ".a | keys", "env", ".a += 1", "input_filename", ".a[1:2]"])
def test_the_rest_of_jq_is_refused_by_name(expression: str) -> None:
    with pytest.raises(SyncRefused):
        parse(expression)


def test_fields_of_a_manager_do_not_count() -> None:
    live = Manifest(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": "a",
                "managedFields": [{"manager": "hpa", "fieldsV1": {"f:spec": {"f:replicas": {}}}}],
            },
            "spec": {"replicas": 7},
        }
    )
    wanted = Manifest(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replicas": 1}}
    )
    rule = IgnoreRule(group="apps", kind="*", managers=("hpa",))
    assert not in_sync(live, wanted)
    assert in_sync(live, wanted, [rule])


def test_a_users_script_judges_first_and_never_turns_failure_into_health(renderer: RenderWorkers) -> None:
    scripts = {
        "apps/Deployment": 'return {status = "Degraded", message = obj.metadata.name}',
        "example.com/*": "error('x')",
        "other/*": 'return {status = "Fine"}',
    }
    judge = judge_of(Settings(health=scripts), renderer)
    paused = {"metadata": {"name": "web"}, "spec": {"paused": True}}
    assert judge(Manifest({"apiVersion": "apps/v1", "kind": "Deployment", **paused})) == Health(
        HealthState.DEGRADED, "web"
    )
    for group in ("example.com/v1", "other/v1"):
        found = judge(Manifest({"apiVersion": group, "kind": "Thing", "metadata": {"name": "a"}}))
        assert found is not None
        assert found.state is HealthState.UNKNOWN
    assert judge(Manifest({"apiVersion": "v1", "kind": "ConfigMap"})) is None


@pytest.mark.parametrize(
    "script",
    [
        "while true do end",
        "local s = 'a' while true do s = s .. s end",
        "return io.open('/etc/passwd')",
        "return os.execute('id')",
        "return require('os')",
        "return python.eval('1')",
        "return debug.getregistry()",
        "return string.dump(print)",
        "return loadstring('x=1')()",
        "return 5",
        "not lua",
    ],
)
def test_a_hostile_script_costs_an_error(renderer: RenderWorkers, script: str) -> None:
    with pytest.raises(RenderFailed):
        renderer.lua_health(script, {})


def test_what_a_script_says_when_it_fails_is_not_passed_on(renderer: RenderWorkers) -> None:
    with pytest.raises(RenderFailed) as caught:
        renderer.lua_health("error(obj.data.password)", {"data": {"password": "hunter2"}})
    assert "hunter2" not in str(caught.value)
