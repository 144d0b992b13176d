"""Recorded ApplicationSets carried out by `recover run --gate argo --sets`: status of the sets after every step."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from recovery.appset import APPLICATION_SET
from recovery.argo import APPLICATION
from recovery.observe import Doors
from recovery.project import PROJECT
from recovery.sets import REFRESH, reconcile_sets
from secretsops.manifest import Manifest
from tests.conformance.argocd_sync import CaseRepos
from tests.conformance.frame import folder, folders
from tests.conformance.test_argocd_appset import SUITE
from tests.conformance.test_argocd_live import EVERYTHING
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster
from tests.recovery.estates import NoRenderer

PROJECT_BODY = {
    "apiVersion": PROJECT.api_version,
    "kind": PROJECT.kind,
    "metadata": {"name": "default", "namespace": "argocd"},
    "spec": EVERYTHING,
}


class World:
    """A cluster with Argo CD's kinds and the commits of one case."""

    def __init__(self, case_id: str) -> None:
        self.name = case_id.rpartition("/")[2]
        self.case: dict[str, Any] = yaml.safe_load((folder(case_id) / "case.yaml").read_text())
        self.cluster = FakeCluster(namespaces=["argocd"])
        for kind, plural, status in (
            (APPLICATION, "applications", False),
            (APPLICATION_SET, "applicationsets", True),
            (PROJECT, "appprojects", False),
        ):
            self.cluster.serve(kind, plural, status=status)
        self.cluster.create(Manifest(PROJECT_BODY))
        for body in self.case.get("before") or []:
            self.cluster.create(Manifest(self.put(body)))
        self.commit = 1

    def put(self, value: Any) -> Any:
        """Give what a case writes with its repositories' addresses."""
        text = json.dumps(value)
        for repository in self.case.get("git") or {}:
            text = text.replace(f"{{{repository}}}", f"file:///{repository}")
        return json.loads(text)

    def step(self, step: dict[str, Any]) -> None:
        """Do what a step does, ask for a refresh as people do, and have the sets carried out."""
        self.commit = step.get("commit", self.commit)
        for body in step.get("apply") or []:
            self.cluster.apply(Manifest(self.put(body)), field_manager="kubectl", force=True)
        for item in step.get("patch") or []:
            kind = {"Application": APPLICATION, "ApplicationSet": APPLICATION_SET}[item["kind"]]
            self.cluster.patch(kind, item["name"], self.put(item["body"]), namespace=item.get("namespace", "argocd"))
        for name in step.get("refresh") or []:
            note = {"metadata": {"annotations": {REFRESH: "true"}}}
            self.cluster.patch(APPLICATION_SET, name, note, namespace="argocd")
        git = CaseRepos(self.name, suite=SUITE, git=self.case.get("git") or {}, number=self.commit)
        doors = Doors(cluster=self.cluster, git=git, renderer=NoRenderer(), clock=FakeClock())
        reconcile_sets(doors)
        before = self.writes()
        reconcile_sets(doors)
        assert self.writes() == before, "a second look writes nothing"

    def writes(self) -> int:
        """Count the requests that change something."""
        return sum(request.verb not in ("get", "list") for request in self.cluster.log)


@pytest.mark.parametrize("case_id", [one for one in folders(SUITE) if "rolling" not in str(one)])
def test_sets_tell_what_the_peer_told(case_id: str) -> None:
    """Conditions, counts and health; the text of a Go template's error is ours."""
    world = World(case_id)
    expected = yaml.safe_load((folder(case_id) / "expected.yaml").read_text())["steps"]
    for step, recorded in zip(world.case["steps"], expected, strict=True):
        world.step(step)
        for name, wanted in recorded["applicationSets"].items():
            found = world.cluster.get(APPLICATION_SET, name, "argocd")
            shown: dict[str, Any] = {
                "health": {k: v for k, v in found.status["health"].items() if k != "lastTransitionTime"}
            }
            fields = ("type", "status", "reason", "message")
            conditions = [{field: one[field] for field in fields} for one in found.status["conditions"]]
            shown["conditions"] = sorted(conditions, key=lambda one: one["type"])
            shown |= {k: found.status[k] for k in ("resourcesCount",) if found.status.get(k) is not None}
            told = {k: v for k, v in world.put(wanted).items() if k != "finalizers"}
            if "failed to execute go template" in json.dumps(told):
                for one in [*shown["conditions"], *told["conditions"], shown["health"], told["health"]]:
                    one["message"] = ""
            assert shown == told, name
            assert REFRESH not in found.annotations
