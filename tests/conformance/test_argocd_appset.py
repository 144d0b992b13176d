"""Recorded behaviour of Argo CD 3.6: which Applications an ApplicationSet generates, changes and deletes.

Judged without a cluster: every step of a recorded case is carried out on a dictionary of Applications.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from recovery.appset import ApplicationSet, applications_of, is_application_set, read_application_set, writes_of
from recovery.generators import Sources
from recovery.setup import read_setup
from secretsops.errors import InvalidManifest
from secretsops.manifest import Manifest
from tests.conformance.argocd_sync import CaseRepos
from tests.conformance.frame import folder, folders, upstream

SUITE = "argocd/appset"


class World:
    """The Applications and ApplicationSets of one case, and the problems of each set in its last round."""

    def __init__(self, case_id: str) -> None:
        self.name = case_id.rpartition("/")[2]
        self.case: dict[str, Any] = yaml.safe_load((folder(case_id) / "case.yaml").read_text())
        self.commit = 1
        self.applications: dict[str, dict[str, Any]] = {}
        self.sets: dict[str, Manifest] = {}
        self.problems: dict[str, list[str]] = {}
        self.setup = read_setup([Manifest(self.put(body)) for body in self.case.get("before") or []])[0]
        for body in self.case.get("before") or []:
            if body["kind"] == "Application":
                self.applications[body["metadata"]["name"]] = self.put(body)

    def put(self, value: Any) -> Any:
        text = json.dumps(value)
        for repository in self.case.get("git") or {}:
            text = text.replace(f"{{{repository}}}", f"file:///{repository}")
        return json.loads(text)

    def step(self, step: dict[str, Any]) -> None:
        self.commit = step.get("commit", self.commit)
        for body in step.get("apply") or []:
            manifest = Manifest(self.put(body))
            if is_application_set(manifest):
                manifest.metadata["uid"] = manifest.name
                self.sets[manifest.name] = manifest
        for item in step.get("patch") or []:
            # An application controller, where one ran, has taken the request to refresh off again.
            if item["kind"] == "Application" and not step.get("apps_refresh"):
                self.applications[item["name"]] = merged(self.applications[item["name"]], self.put(item["body"]))
        for name, manifest in self.sets.items():
            self.problems[name] = []
            try:
                flags = self.case.get("flags") or []
                wanted = read_application_set(manifest, progressive="--enable-progressive-syncs" in flags)
            except InvalidManifest:
                continue
            self.reconcile(name, wanted)

    def reconcile(self, name: str, wanted: ApplicationSet) -> None:
        git = CaseRepos(self.name, suite=SUITE, git=self.case.get("git") or {}, number=self.commit)
        sources = Sources(git=git, pin=git.resolve, setup=self.setup)
        generated = applications_of(wanted, sources)
        writes = writes_of(wanted, generated, [Manifest(body) for body in self.applications.values()])
        for manifest in writes.create:
            self.applications[manifest.name] = manifest.body
        for found, patch in writes.patch:
            self.applications[found.name] = merged(self.applications[found.name], dict(patch))
        for manifest in writes.delete:
            self.applications[manifest.name]["metadata"]["deletionTimestamp"] = "now"
            if not manifest.metadata.get("finalizers"):
                del self.applications[manifest.name]
        self.problems[name] = [problem.message for problem in (*generated.problems, *writes.problems)]

    def shown(self) -> list[dict[str, Any]]:
        found = []
        for name in sorted(self.applications):
            body = self.applications[name]
            meta = body["metadata"]
            row: dict[str, Any] = {"name": name}
            row |= {key: meta[key] for key in ("labels", "annotations", "finalizers") if meta.get(key)}
            if meta.get("ownerReferences"):
                row["owner"] = [
                    f"{o['kind']}/{o['name']} controller={o.get('controller')} "
                    f"blockOwnerDeletion={o.get('blockOwnerDeletion')}"
                    for o in meta["ownerReferences"]
                ]
            if meta.get("deletionTimestamp"):
                row["deleting"] = True
            found.append({**row, "spec": body["spec"]})
        return found


def merged(base: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(base) if isinstance(base, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


@pytest.mark.parametrize("case_id", folders(SUITE))
def test_applications_are_generated_as_recorded(case_id: str) -> None:
    """After every step the same Applications are there, field by field, and the same sets have failed."""
    world = World(case_id)
    expected = yaml.safe_load((folder(case_id) / "expected.yaml").read_text())["steps"]
    running = ("operationPhase", "operation", "health")  # of an application controller
    for step, recorded in zip(world.case["steps"], expected, strict=True):
        world.step(step)
        wanted = [{k: v for k, v in row.items() if k not in running} for row in recorded["applications"]]
        assert world.shown() == world.put(wanted)
        for name, shown in recorded["applicationSets"].items():
            message = next(
                (c["message"] for c in shown["conditions"] if (c["type"], c["status"]) == ("ErrorOccurred", "True")), ""
            )
            assert bool(message) == bool(world.problems[name]), name
            if message and "failed to execute go template" not in message:
                assert message in world.problems[name]


def test_upstream_examples_are_read() -> None:
    """Every ApplicationSet among upstream's example manifests becomes a value; foreign generators are named."""
    base = upstream("argocd", "upstream-appsets")
    read = 0
    for path in sorted(base.rglob("*.yaml")):
        for body in _documents(path):
            if isinstance(body, dict) and body.get("kind") == "ApplicationSet":
                wanted = read_application_set(Manifest(body))
                assert wanted.generators
                assert wanted.template
                read += 1
    assert read >= 20


def _documents(path: Path) -> list[Any]:
    try:
        return list(yaml.safe_load_all(path.read_text()))
    except yaml.YAMLError:
        return []  # a values file or a template, not a manifest
