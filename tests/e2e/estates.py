"""Small Argo CD estates in Git for tests on a real cluster; every name ends in a suffix, so that many fit in one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from drills.sandbox.git_server import Repository

_APPLICATION = """apiVersion: argoproj.io/v1alpha1
kind: Application
metadata:
  name: {name}
  namespace: argocd
  annotations: {{argocd.argoproj.io/sync-wave: "{wave}"}}
spec:
  project: default
  source: {{repoURL: "{url}", path: {path}, targetRevision: main, directory: {{recurse: true}}}}
  destination: {{server: https://kubernetes.default.svc, namespace: {namespace}}}
  syncPolicy: {{automated: {{}}, syncOptions: [CreateNamespace=true]}}
"""
_HOOK = """apiVersion: batch/v1
kind: Job
metadata:
  name: {name}
  annotations: {{argocd.argoproj.io/hook: {phase}, argocd.argoproj.io/hook-delete-policy: {policy}}}
spec:
  template: {{spec: {{restartPolicy: Never, containers: [{{name: main, image: example.com/job}}]}}}}
"""
_DEPLOYMENT = """apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, annotations: {{argocd.argoproj.io/sync-wave: "{wave}"}}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{containers: [{{name: main, image: example.com/{name}}}]}}
"""


def application(name: str, url: str, path: str, *, wave: int = 0, namespace: str = "argocd") -> str:
    """Give an Application as text."""
    return _APPLICATION.format(name=name, url=url, path=path, wave=wave, namespace=namespace)


def shop_and_blog(url: str, suffix: str) -> dict[str, str]:
    """Give an App of Apps: `shop` with hooks of three phases and two waves, then `blog`."""
    shop, blog = f"shop-{suffix}", f"blog-{suffix}"
    return {
        "root.yaml": application(f"root-{suffix}", url, "apps"),
        "apps/shop.yaml": application(shop, url, "shop", wave=1, namespace=shop),
        "apps/blog.yaml": application(blog, url, "blog", wave=2, namespace=blog),
        "shop/migrate.yaml": _HOOK.format(name="migrate", phase="PreSync", policy="BeforeHookCreation"),
        "shop/seed.yaml": _HOOK.format(name="seed", phase="Sync", policy="BeforeHookCreation"),
        "shop/smoke.yaml": _HOOK.format(name="smoke", phase="PostSync", policy="HookSucceeded"),
        "shop/db.yaml": _DEPLOYMENT.format(name="db", wave=0),
        "shop/nested/web.yaml": _DEPLOYMENT.format(name="web", wave=1),
        "blog/blog.yaml": _DEPLOYMENT.format(name="blog", wave=0),
        "blog/settings.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {colour: blue}\n",
    }


def commit(repository: Repository, work: Path, files: dict[str, str]) -> str:
    """Write files, commit and push them; gives the SHA."""
    if not (work / ".git").exists():
        work.mkdir(parents=True, exist_ok=True)
        _git(work, "init", "--quiet", "--initial-branch=main")
    for path, text in files.items():
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text(text)
    _git(work, "add", "--all")
    _git(work, "commit", "--quiet", "--message=change")
    _git(work, "push", "--quiet", repository.url, "HEAD:main")
    return _git(work, "rev-parse", "HEAD").strip()


def _git(work: Path, *arguments: str) -> str:
    person = {"NAME": "Test", "EMAIL": "test@example.com"}
    environment = {f"GIT_{who}_{field}": value for who in ("AUTHOR", "COMMITTER") for field, value in person.items()}
    done = subprocess.run(
        ["git", *arguments],
        cwd=work,
        env={"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
