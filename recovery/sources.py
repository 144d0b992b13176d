"""From an application's sources to files: which commit, which tool, what else of the repository a tool may read.

Rules: argo-cd v3.6 `reposerver/repository/repository.go` (`GetAppType`, `mergeSourceParameters`).
`check_out` is the one place that reads Git for an application: plan and sync see the same files. Never here: rendering.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from recovery.app import App, Source
from secretsops.errors import InvalidManifest, RenderFailed
from secretsops.manifest import load_values
from secretsops.ports import GitRepos, Tree

Pin = Callable[[str, str], str]
"""Give the commit of (url, revision); one text of one repository is one commit for the whole run."""
Merge = Callable[[Source, Mapping[str, Any]], Source]
"""Give a source with the settings of an `.argocd-source.yaml` merged in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """One source at its commit: `tree` is its folder, `repository` all that its tool may read (empty for a folder)."""

    source: Source
    tool: str
    tree: Tree
    repository: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    lent: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict, repr=False)


def check_out(
    app: App, git: GitRepos, pin: Pin, merge: Merge, disabled: frozenset[str] = frozenset()
) -> list[Checkout]:
    """Give the sources that render something, in order, each at its pinned commit; `disabled` tools read plain files.

    Raises:
        GitUnavailable: a repository gives no answer or has no such revision.
        RenderFailed: two sources lend their files under one name, or settings in Git are not YAML.
    """
    lent = {source.ref: source for source in app.sources if source.ref}
    if len(lent) != sum(1 for source in app.sources if source.ref):
        raise RenderFailed(f"Application {app.name}: two sources have the same ref", reason="InvalidSpec")
    found = []
    for source in app.sources:
        commit = pin(source.location, source.revision)
        if source.ref and not source.path and not source.chart:
            continue  # it only lends its files
        tree = git.tree(source.location, commit, source.path)
        merged = _with_settings_in_git(app, source, tree, merge)
        tool = merged.tool or detected(tree)
        tool = "directory" if tool in disabled else tool
        needs_all = tool in ("helm", "kustomize") or any(path.endswith(".jsonnet") for path in tree.files)
        files: Mapping[str, bytes] = git.tree(source.location, commit).files if needs_all else {}
        asked = {text[1:].partition("/")[0] for text in _files_asked(merged) if text.startswith("$")}
        borrowed = {
            name: git.tree(lent[name].url, pin(lent[name].url, lent[name].revision)).files for name in asked & set(lent)
        }
        found.append(Checkout(source=merged, tool=tool, tree=tree, repository=files, lent=borrowed))
    return found


def _files_asked(source: Source) -> list[str]:
    return [*source.helm.value_files, *(path for _, path in source.helm.file_parameters)]


def detected(tree: Tree) -> str:
    """Name the tool that the files on the top level ask for; of several the lexically last one decides."""
    tool = "directory"
    for path in sorted(tree.files):
        if "/" in path:
            continue
        if path.endswith("Chart.yaml"):
            tool = "helm"
        elif path in ("kustomization.yaml", "kustomization.yml", "Kustomization"):
            tool = "kustomize"
    return tool


def _with_settings_in_git(app: App, source: Source, tree: Tree, merge: Merge) -> Source:
    """Merge `.argocd-source.yaml` and `.argocd-source-NAME.yaml` of the folder; where it comes from stays."""
    for name in (".argocd-source.yaml", f".argocd-source-{app.name}.yaml"):
        if name not in tree.files:
            continue
        where = f"{source.path}/{name}".strip("/")
        try:
            documents: Sequence[Any] = [value for value in load_values(tree.files[name], source=where) if value]
        except InvalidManifest as error:
            raise RenderFailed(f"{error.where or where}: {error.problem}", reason=error.reason) from None
        if len(documents) != 1 or not isinstance(documents[0], dict):
            raise RenderFailed(f"{where} is not one mapping", reason="InvalidYaml")
        merged = merge(source, documents[0])
        source = replace(
            merged, url=source.url, path=source.path, revision=source.revision, ref=source.ref, chart=source.chart
        )
    return source


class Pins:
    """Commits by `url@revision`: resolved once, then fixed. `known` is what a journal or a caller fixed already."""

    def __init__(self, git: GitRepos, known: dict[str, str]) -> None:
        self._git, self.known = git, known

    def __call__(self, url: str, revision: str) -> str:
        """Give the commit, asking Git at the first time only; raises `GitUnavailable`."""
        text = f"{url}@{revision or 'HEAD'}"
        if text not in self.known:
            self.known[text] = self._git.resolve(url, revision or "HEAD")
        return self.known[text]
