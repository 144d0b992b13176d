"""The order of a whole rebuild, who needs whom, which roots there are, and the page that shows it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from recovery.cli import recover
from recovery.proof.graph import Graph, build
from recovery.proof.listing import plan_body, plan_table
from recovery.proof.page import page
from recovery.proof.schedule import Schedule, schedule
from secretsops.cli import run
from secretsops.errors import UsageError
from secretsops.manifest import ObjectKey, load_all
from tests.fakes.clock import FakeClock
from tests.fakes.git import FakeGit
from tests.recovery.estates import FILES, URL, NoRenderer, application, config_map
from tests.recovery.proof.subjects import walked


def graph_of(objects: str, *, installed: str = "") -> Graph:
    """Give the graph of one application that renders `objects`."""
    files = {"root.yaml": application("shop", "shop"), "shop/all.yaml": objects}
    return build(walked(files), installed=load_all(installed.encode()))


def by_app(found: Schedule) -> dict[str, list[int]]:
    result: dict[str, list[int]] = {}
    for step in found.steps:
        result.setdefault(step.app.removeprefix("argocd/"), []).append(step.number)
    return result


# --- order ---------------------------------------------------------------------------------------------


def test_a_parent_waits_for_its_children_and_siblings_do_not_wait_for_each_other() -> None:
    """The strict gate: steps of a child stand between two steps of its parent."""
    files = {**FILES, "apps/news.yaml": application("news", "blog", wave=2)}
    found = schedule(walked(files))
    steps = by_app(found)
    assert [step.app for step in found.steps][:2] == ["argocd/root", "argocd/root"]
    for child in ("shop", "blog", "news"):
        assert found.is_before(steps["root"][1], steps[child][0])
    assert found.is_before(steps["shop"][-1], steps["root"][2])
    assert not found.is_before(steps["blog"][-1], steps["news"][0])
    assert not found.is_before(steps["news"][0], steps["blog"][-1])


def test_the_critical_path_is_the_longest_chain() -> None:
    """It runs through the child with more steps, and each of its steps waits for the one before."""
    found = schedule(walked(FILES))
    chain = found.critical
    assert all(before in found.steps[number].after for before, number in itertools.pairwise(chain))
    assert len(chain) == len(found.steps)  # nothing is side by side here


def test_applications_that_name_each_other_are_placed_once() -> None:
    """A loop of Applications ends."""
    files = {"root.yaml": application("root", "apps"), "apps/root.yaml": application("root", "apps", wave=1)}
    assert len({step.app for step in schedule(walked(files)).steps}) == 1


# --- dependencies --------------------------------------------------------------------------------------

WEB = """apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: a, env: [{name: A, valueFrom: {secretKeyRef: {name: token, key: a}}}]}]}
---
apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
metadata: {name: token, namespace: shop}
spec: {encryptedData: {}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}}
"""
HOOK = """
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: guard, annotations: {argocd.argoproj.io/sync-wave: "WAVE"}}
webhooks:
- name: guard.example.com
  failurePolicy: Fail
  clientConfig: {service: {name: web, namespace: shop}}
  rules: [{apiGroups: [RULEGROUP], apiVersions: ["*"], operations: [CREATE], resources: [RESOURCES]}]
"""


def _edges(graph: Graph, needer: str) -> dict[str, tuple[str, ...]]:
    return {str(edge.need.key): tuple(map(str, edge.by)) for edge in graph.edges if str(edge.needer) == needer}


def test_a_secret_comes_from_what_makes_it() -> None:
    """The consumer's need is met by the SealedSecret, the Service by the pods that answer."""
    graph = graph_of(WEB)
    assert _edges(graph, "apps/Deployment shop/web") == {
        "Namespace shop": ("Namespace shop",),
        "Secret shop/token": ("bitnami.com/SealedSecret shop/token",),
    }
    assert _edges(graph, "Service shop/web")["apps/Deployment shop/web"] == ("apps/Deployment shop/web",)
    assert graph.dependants[ObjectKey("", "Secret", "shop", "token")] == 2


@pytest.mark.parametrize(
    ("wave", "resources", "cycle"),
    [("-1", "pods", True), ("0", "pods", False), ("1", "pods", False), ("-1", "secrets", False)],
)
def test_a_webhook_that_guards_its_own_backend_is_a_cycle(wave: str, resources: str, *, cycle: bool) -> None:
    """Its pods are asked about at the very webhook they would answer, if that is there first."""
    text = HOOK.replace("WAVE", wave).replace("RESOURCES", resources).replace("RULEGROUP", '""')
    graph = graph_of(WEB + text)
    kinds = [[key.kind for key in found] for found in graph.cycles()]
    assert kinds == ([["Service", "Deployment"]] if cycle else [])


def test_an_object_written_before_a_webhook_is_not_asked_about() -> None:
    """Only what comes after the configuration is intercepted."""
    text = HOOK.replace("RESOURCES", "configmaps").replace("RULEGROUP", '""')
    extra = (
        f"\n---\n{config_map('early', annotations={'argocd.argoproj.io/sync-wave': '-5'})}\n---\n{config_map('late')}"
    )
    graph = graph_of(WEB + text.replace("WAVE", "-1") + extra)
    asked = {str(edge.needer) for edge in graph.edges if "webhook" in edge.need.why and edge.needer.kind == "ConfigMap"}
    assert asked == {"ConfigMap shop/late"}


def test_what_the_rebuild_installs_counts_as_there() -> None:
    """A kind may be defined by the manifests of --install."""
    widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}"
    crd = (
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets.example.com}\n"
        "spec: {group: example.com, names: {kind: Widget}}"
    )
    bare, helped = graph_of(widget), graph_of(widget, installed=crd)
    key = "apiextensions.k8s.io/CustomResourceDefinition Widget.example.com"
    assert _edges(bare, "example.com/Widget shop/w")[key] == ()
    assert _edges(helped, "example.com/Widget shop/w")[key] != ()


# --- roots ---------------------------------------------------------------------------------------------


def test_roots_are_the_applications_that_none_renders() -> None:
    """No path is needed: children are told from roots."""
    found = walked(FILES, path="")
    assert [root.name for root in found.roots] == ["root"]
    assert found.digest == walked(FILES).digest


def test_a_repository_without_applications_has_no_root() -> None:
    """It is said, with what to do."""
    with pytest.raises(UsageError) as caught:
        walked({"a.yaml": config_map("a")}, path="")
    assert caught.value.reason == "NoRoot"


# --- what is printed -----------------------------------------------------------------------------------


class Doors(SimpleNamespace):
    """The doors of one command."""

    def __init__(self, files: Mapping[str, str]) -> None:
        git = FakeGit()
        git.commit(URL, files)
        super().__init__(git=lambda: git, renderer=NoRenderer, clock=FakeClock())


def test_the_command_prints_every_object_once_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON and as a table; positions count up without a gap, nothing of a Secret's body is in it."""
    doors = Doors(FILES)
    assert run(recover, ["plan", "--repo", URL, "--revision", "main", "-o", "json"], prog="recover", doors=doors) == 0
    body: dict[str, Any] = json.loads(capsys.readouterr().out)
    entries = [entry for step in body["steps"] for entry in step["objects"]]
    assert [entry["position"] for entry in entries] == list(range(1, len(entries) + 1))
    assert all(entry["reason"] for entry in entries)
    assert "stringData" not in json.dumps(body)
    run(recover, ["plan", "--repo", URL, "--revision", "main"], prog="recover", doors=doors)
    table = capsys.readouterr().out
    assert all(f" {entry['name']}" in table or f"/{entry['name']}" in table for entry in entries)


def test_the_table_says_what_an_object_waits_for_and_what_git_lacks() -> None:
    """Dependencies are part of the reason."""
    estate = walked({"root.yaml": application("shop", "shop"), "shop/all.yaml": WEB.split("---", maxsplit=1)[0]})
    text = plan_table(plan_body(estate, build(estate)))
    assert "needs Secret shop/token, which Git lacks (container web reads env A from it)" in text


def test_the_page_is_alone_and_hostile_names_stay_text() -> None:
    """No address is in it, our script is the only one allowed, and no name ends the data."""
    files = {"root.yaml": application("shop", "shop"), "shop/a.yaml": config_map("</script><script>alert(1)")}
    estate = walked(files)
    body = plan_body(estate, build(estate))
    text = page(body)
    assert text.count("<script") == 2
    assert "http://www.w3.org/2000/svg" in text  # a name of XML, not an address that is fetched
    assert text.replace("http://www.w3.org/2000/svg", "").replace(URL, "").count("://") == json.dumps(body).count(
        "kubernetes.default.svc"
    )
    start = text.index('id="plan">') + len('id="plan">')
    assert json.loads(text[start : text.index("</script>", start)]) == json.loads(json.dumps(body))


def test_what_configures_argo_cd_beside_the_roots_is_a_root_too() -> None:
    """A project that no Application renders is applied by hand, as the roots are; one that is rendered is not."""
    project = "apiVersion: argoproj.io/v1alpha1\nkind: AppProject\nmetadata: {name: NAME, namespace: argocd}\nspec: {}"
    beside = {"boot/team.yaml": project.replace("NAME", "team")}
    found = walked({**FILES, **beside, "apps/inner.yaml": project.replace("NAME", "inner")}, path="")
    assert sorted(root.name for root in found.roots) == ["root", "team"]


APPSET = """apiVersion: argoproj.io/v1alpha1
kind: ApplicationSet
metadata: {name: all, namespace: argocd}
spec:
  STRATEGY
  generators: [{list: {elements: [{name: late}, {name: early}]}}]
  template:
    metadata: {name: "{{name}}", labels: {env: "{{name}}"}}
    spec:
      project: default
      source: {repoURL: "https://git.invalid/estate.git", path: blog}
      destination: {server: https://kubernetes.default.svc, namespace: "{{name}}"}
"""
ROLLING = (
    "strategy: {type: RollingSync, rollingSync: {steps: ["
    "{matchExpressions: [{key: env, operator: In, values: [early]}]}, "
    "{matchExpressions: [{key: env, operator: In, values: [late]}]}]}}"
)


@pytest.mark.parametrize("rolls", [False, True])
def test_generated_applications_stand_where_their_set_does(*, rolls: bool) -> None:
    """They start with the step that holds the ApplicationSet, side by side or rolling; the parent waits for them."""
    text = APPSET.replace("STRATEGY", ROLLING if rolls else "goTemplate: false")
    late = config_map("late", annotations={"argocd.argoproj.io/sync-wave": "5"})
    files = {**FILES, "root.yaml": application("root", "sets"), "sets/all.yaml": text, "sets/late.yaml": late}
    found = schedule(walked(files))
    steps = by_app(found)
    assert found.is_before(steps["root"][1], steps["early"][0])
    assert found.is_before(steps["early"][-1], steps["root"][2])
    assert found.is_before(steps["late"][-1], steps["root"][2])
    assert found.is_before(steps["early"][-1], steps["late"][0]) is rolls


def test_an_application_set_may_be_a_root() -> None:
    """It is found, and what it generates is placed."""
    found = walked({"set.yaml": APPSET.replace("STRATEGY", ""), "blog/a.yaml": config_map("a")}, path="")
    assert set(by_app(schedule(found))) == {"early", "late"}
