"""A recorded Argo CD trace played on a real API server: commits in real Git, steps, what stands there after each.

Only what no workload decides: traces whose Git content has Jobs, Deployments or Pods need pods with outcomes, which the
replay toolkit simulates.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from recovery.argo import APPLICATION
from recovery.observe import Doors
from recovery.reconcile import reconcile
from secretsops.adapters.git import GitDoor
from secretsops.clock import SystemClock
from secretsops.errors import ApiError, NotFound
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Cluster, PatchType, Renderer
from tests.conformance.argocd_sync import SYNC, case, expected
from tests.conformance.frame import root

HOME = "argocd"
CONFIG = GroupVersionKind("", "v1", "ConfigMap")
NAMESPACE = GroupVersionKind("", "v1", "Namespace")
PROJECT = GroupVersionKind("argoproj.io", "v1alpha1", "AppProject")
WORKLOADS = ("Job", "Deployment", "StatefulSet", "DaemonSet", "Pod", "ReplicaSet", "CronJob", "Rollout")
HEALS = "selfHeal"


@cache
def is_still(name: str) -> bool:
    """Say whether no workload is in a trace, and nothing but our own doing decides how it ends."""
    files = [path for path in (root() / SYNC / name).rglob("*") if path.is_file() and path.name != "case.yaml"]
    texts = [path.read_text() for path in files]
    kinds = {found for text in texts for found in re.findall(r"(?m)^kind: (\w+)", text)}
    return not kinds & set(WORKLOADS) and not any("Job" in text for text in texts) and HEALS not in str(case(name))


class Trace:
    """One trace while it is played."""

    def __init__(self, name: str, cluster: Cluster, renderer: Renderer, work: Path) -> None:
        self.name, self.cluster, self.renderer, self.work = name, cluster, renderer, work
        self.case, self.expected = case(name), expected(name)
        self.commits: dict[str, list[str]] = {repository: [] for repository in self.case.get("git") or {}}
        self.before = self._names()

    # --- Git -------------------------------------------------------------------------------------------

    def _url(self, repository: str) -> str:
        return f"file://{self.work}/{repository}.git"

    def _git(self, repository: str, *arguments: str) -> str:
        folder = self.work / repository
        folder.mkdir(exist_ok=True)
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self, number: int) -> None:
        """Make and push the commits of a step, in every repository that gets one."""
        for repository, commits in (self.case.get("git") or {}).items():
            what = commits[number - 1] if number <= len(commits) else None
            if not what:
                continue
            folder = self.work / repository
            if not self.commits[repository]:
                self._git(repository, "init", "-q")
                self._git(repository, "init", "-q", "--bare", str(self.work / f"{repository}.git"))
            branch = what.get("branch") or "main"
            exists = branch in self._git(repository, "branch", "--format=%(refname:short)").split()
            if self.commits[repository]:
                self._git(repository, "checkout", "-q", *([] if exists else ["-b"]), branch)
            for entry in folder.iterdir():
                if entry.name != ".git":
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            base = root() / SYNC / self.name / what["dir"]
            for path in sorted(base.rglob("*")):
                if path.is_file():
                    target = folder / path.relative_to(base)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_text(self.put(path.read_text()))
            self._git(repository, "add", "-A")
            self._git(repository, "commit", "-q", "--allow-empty", "-m", "c")
            self.commits[repository].append(self._git(repository, "rev-parse", "HEAD"))
            for tag in what.get("tags") or []:
                self._git(repository, "tag", tag)
            self._git(repository, "push", "-q", self._url(repository), "--all")
            self._git(repository, "push", "-q", self._url(repository), "--tags")

    def put(self, value: Any) -> Any:
        """Give a text or data with the placeholders filled in."""
        if not isinstance(value, str):
            return json.loads(self.put(json.dumps(value)))
        for repository, commits in self.commits.items():
            value = value.replace(f"{{{repository}}}", self._url(repository))
            for number, commit in enumerate(commits, start=1):
                value = value.replace(f"{{sha:{'' if repository == 'repo' else repository + ':'}{number}}}", commit)
        return value

    # --- steps -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Bring the world to where the trace begins."""
        self.commit(1)
        self.cluster.apply(_config(self.case.get("settings") or {}), field_manager="t", force=True)
        for body in self.case.get("before") or []:
            self._apply(self.put(body))

    def step(self, step: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one step and let our own controller settle; give what is compared."""
        for body in step.get("apply") or []:
            self._apply(self.put(body))
        if "commit" in step:
            self.commit(step["commit"])
        for item in step.get("delete") or []:
            kind = GroupVersionKind.of(item["apiVersion"], item["kind"])
            self.cluster.delete(kind, item["name"], namespace=item.get("namespace", ""))
        for item in step.get("patch") or []:
            kind = GroupVersionKind.of(item["apiVersion"], item["kind"])
            self.cluster.patch(kind, item["name"], self.put(item["body"]), namespace=item.get("namespace", ""))
        for name in step.get("refresh") or []:
            self._annotate(name)
        if "sync" in step:
            self.settle()
            self._ask(step["sync"])
        self.settle()
        for name in step.get("refreshAfter") or []:
            self._annotate(name)
            self.settle()
        return self.shown()

    def settle(self) -> None:
        """Run the controller once, to its end."""
        doors = Doors(
            cluster=self.cluster,
            git=GitDoor(cache=self.work / "cache"),
            renderer=self.renderer,
            clock=SystemClock(),
            settle=1.0,
            patience=20.0,
        )
        reconcile(doors)

    def _annotate(self, name: str) -> None:
        patch = {"metadata": {"annotations": {"argocd.argoproj.io/refresh": "normal"}}}
        self.cluster.patch(APPLICATION, name, patch, namespace=HOME)

    def _ask(self, ask: Mapping[str, Any]) -> None:
        live = self.cluster.get(APPLICATION, ask["app"], HOME)
        policy = live.spec.get("syncPolicy") or {}
        sync: dict[str, Any] = {"syncStrategy": ask.get("strategy", {"hook": {}})}
        sync |= {name: self.put(ask[name]) for name in ("prune", "dryRun", "resources", "revision") if name in ask}
        if policy.get("syncOptions"):
            sync["syncOptions"] = policy["syncOptions"]
        operation: dict[str, Any] = {"initiatedBy": {"username": "admin"}, "sync": sync}
        if policy.get("retry"):
            operation["retry"] = policy["retry"]
        self.cluster.patch(APPLICATION, ask["app"], {"operation": operation}, namespace=HOME)

    def _apply(self, body: dict[str, Any]) -> None:
        manifest = Manifest(body)
        try:
            self.cluster.create(manifest)
        except ApiError:
            self.cluster.patch(
                manifest.kind, manifest.name, body, namespace=manifest.namespace, patch_type=PatchType.MERGE
            )

    # --- what is compared ------------------------------------------------------------------------------

    def shown(self) -> dict[str, Any]:
        """Give every Application's status, reduced as the recording is by `reduced`."""
        found = {}
        for live in self.cluster.list(APPLICATION, namespace=HOME):
            status = live.status
            sync, health, state = status.get("sync") or {}, status.get("health") or {}, status.get("operationState")
            row: dict[str, Any] = {
                "sync": sync.get("status"),
                "revision": sync.get("revision") or sync.get("revisions"),
                "health": health.get("status"),
                "conditions": sorted((c["type"], c.get("message")) for c in status.get("conditions") or []),
                "resources": sorted(
                    (_named(r), r.get("status"), r.get("requiresPruning") is True)
                    for r in status.get("resources") or []
                ),
                "history": [h.get("revision") or h.get("revisions") for h in status.get("history") or []],
                "operation": None,
            }
            if state:
                results = (state.get("syncResult") or {}).get("resources") or []
                lines = sorted((_named(r), r.get("status"), r.get("hookPhase"), r.get("message")) for r in results)
                row["operation"] = (state.get("phase"), state.get("message"), lines)
            found[live.name] = row
        return found

    def wanted(self, number: int) -> dict[str, Any]:
        """Give what was recorded after a step, reduced the same way."""
        found = {}
        for name, app in (self.put(self.expected["steps"][number])["applications"] or {}).items():
            state = app.get("operationState")
            row: dict[str, Any] = {
                "sync": app.get("sync"),
                "revision": app.get("revision") or app.get("revisions"),
                "health": app.get("health"),
                "conditions": sorted((c["type"], c.get("message")) for c in app.get("conditions") or []),
                "resources": sorted(
                    ((r["kind"], r["name"]), r.get("status"), r.get("requiresPruning") is True)
                    for r in app.get("resources") or []
                ),
                "history": app.get("history") or [],
                "operation": None,
            }
            if state:
                lines = sorted(
                    ((r["kind"], r["name"]), r.get("status"), r.get("hookPhase"), r.get("message"))
                    for r in state.get("resources") or []
                )
                row["operation"] = (state.get("phase"), state.get("message"), lines)
            found[name] = row
        return found

    # --- the end ---------------------------------------------------------------------------------------

    def _names(self) -> set[str]:
        return {live.name for live in self.cluster.list(NAMESPACE)}

    def clean(self) -> None:
        """Take away what the trace left: Applications, projects, namespaces, cluster-scoped objects it names."""
        for kind in (APPLICATION, PROJECT):
            for live in self.cluster.list(kind, namespace=HOME):
                if (kind, live.name) == (PROJECT, "default"):
                    continue
                self._remove(live)
        for name in self._names() - self.before:
            self._remove(self.cluster.get(NAMESPACE, name))
        for entry in self.expected.get("live") or []:
            manifest = Manifest(self.put(entry["manifest"]))
            if not manifest.namespace and manifest.kind.kind != "Namespace":
                self._remove(manifest)

    def _remove(self, live: Manifest) -> None:
        try:
            if live.metadata.get("finalizers"):
                patch = {"metadata": {"finalizers": None}}
                self.cluster.patch(live.kind, live.name, patch, namespace=live.namespace)
            self.cluster.delete(live.kind, live.name, namespace=live.namespace)
        except NotFound:
            return


def _named(line: Mapping[str, Any]) -> tuple[str, str]:
    group = f"{line['group']}/" if line.get("group") else ""
    place = f"{line['namespace']}/" if line.get("namespace") else ""
    return f"{group}{line['version']}/{line['kind']}", f"{place}{line['name']}"


def _config(data: Mapping[str, str]) -> Manifest:
    metadata = {"name": "argocd-cm", "namespace": HOME}
    return Manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(data)})
