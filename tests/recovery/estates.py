"""A small estate in memory for tests of recovery: Git, cluster and clock, all fakes that keep the doors' contracts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from recovery.appset import APPLICATION_SET
from recovery.argo import APPLICATION, read_application
from recovery.running import Outcome, World
from recovery.sync import sync
from secretsops.errors import RenderFailed
from secretsops.manifest import GroupVersionKind, Manifest, load_all
from secretsops.ports import HelmTemplate, JsonnetProgram
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster
from tests.fakes.git import FakeGit

URL = "https://git.invalid/estate.git"
JOB = GroupVersionKind("batch", "v1", "Job")
_APPLICATION = """apiVersion: argoproj.io/v1alpha1
kind: Application
metadata:
  name: {name}
  namespace: argocd
  annotations: {{argocd.argoproj.io/sync-wave: "{wave}"}}
spec:
  project: default
  source: {{repoURL: "{url}", path: {path}, directory: {{recurse: true}}}}
  destination: {{server: https://kubernetes.default.svc, namespace: {namespace}}}
  syncPolicy: {{automated: {{}}, syncOptions: [{options}]{more}}}
"""


def application(name: str, path: str, *, wave: int = 0, options: str = "CreateNamespace=true", more: str = "") -> str:
    """Give an Application that fills the namespace of its own name."""
    return _APPLICATION.format(name=name, path=path, wave=wave, url=URL, namespace=name, options=options, more=more)


def config_map(name: str, *, annotations: Mapping[str, str] | None = None, **data: str) -> str:
    """Give a ConfigMap as YAML."""
    metadata = {"name": name, "annotations": dict(annotations or {})}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def job(name: str, hook: str) -> str:
    """Give a hook Job as YAML."""
    metadata = {"name": name, "annotations": {"argocd.argoproj.io/hook": hook}}
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "example.com/job"}]}
    spec = {"template": {"spec": pod}}
    return json.dumps({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})


FILES: Mapping[str, str] = {
    "root.yaml": application("root", "apps"),
    "apps/shop.yaml": application("shop", "shop", wave=1),
    "apps/blog.yaml": application("blog", "blog", wave=2),
    "shop/migrate.yaml": job("migrate", "PreSync"),
    "shop/settings.yaml": config_map("settings", colour="blue"),
    "shop/late.yaml": config_map("late", annotations={"argocd.argoproj.io/sync-wave": "3"}, colour="red"),
    "shop/secret.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: token}\nstringData: {a: b}\n",
    "blog/settings.yaml": config_map("settings", theme="dark"),
}


class WorkingCluster(FakeCluster):
    """A cluster with a job controller: a Job is complete by the time somebody reads it."""

    def create(self, manifest: Manifest, **options: Any) -> Manifest:
        """Create, and complete what is a Job, also where the answer is lost."""
        try:
            return super().create(manifest, **options)
        finally:
            for job in self.stored(JOB):
                if not job.status:
                    self.report(job, {"conditions": [{"type": "Complete", "status": "True"}], "succeeded": 1})


class NoRenderer:
    """A renderer for estates of plain folders: asking it is a mistake."""

    def helm(self, template: HelmTemplate) -> Sequence[tuple[str, str]]:
        """Refuse."""
        raise RenderFailed(f"no charts here: {template.release}")

    def kustomize(self, files: Mapping[str, bytes], folder: str, options: Sequence[str] = ()) -> str:
        """Refuse."""
        raise RenderFailed(f"no kustomizations here: {folder}")

    def jsonnet(self, program: JsonnetProgram) -> str:
        """Refuse."""
        raise RenderFailed(f"no Jsonnet here: {program.entry}")

    def lua_health(self, script: str, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Refuse."""
        raise RenderFailed(f"no Lua here: {script}, {len(body)}")


class Estate:
    """One world of fakes."""

    def __init__(self, files: Mapping[str, str] = FILES, **settings: Any) -> None:
        self.git, self.cluster, self.clock = FakeGit(), WorkingCluster(namespaces=["argocd"]), FakeClock()
        self.renderer = NoRenderer()
        self.cluster.serve(APPLICATION, "applications", status=False)
        self.cluster.serve(APPLICATION_SET, "applicationsets")
        self.commit = self.git.commit(URL, files)
        self.settings = settings

    def sync(self, root: str = "root.yaml", **settings: Any) -> list[Outcome]:
        """Sync the root Application; gives the outcomes."""
        text = self.git.tree(URL, "main").files[root]
        doors = {"cluster": self.cluster, "git": self.git, "renderer": self.renderer, "clock": self.clock}
        world = World(**{**doors, "parallel": 1, **self.settings, **settings})
        return sync([read_application(load_all(text)[0])], world)

    def state(self) -> dict[str, Any]:
        """Give what lives, without what differs from run to run (UIDs, times, versions)."""
        found = {}
        for resource in self.cluster.resources():
            for live in self.cluster.list(resource.kind):
                body = {name: value for name, value in live.body.items() if name not in ("metadata", "status")}
                if resource.kind == JOB:  # the server names its Pods by its uid
                    body["spec"] = {**body["spec"], "selector": {}, "template": body["spec"]["template"]["spec"]}
                sync = (live.status or {}).get("sync") if resource.kind == APPLICATION else None
                found[f"{resource.kind} {live.namespace}/{live.name}"] = (body, live.labels, live.annotations, sync)
        return found

    def made(self, plural: str) -> list[str]:
        """Give the names of objects that were created under a plural, in order, failed tries included."""
        return [request.name for request in self.cluster.log if request[:2] == ("create", plural)]
