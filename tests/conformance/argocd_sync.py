"""Recorded Argo CD syncs as data: the Git content of a case, its Applications, and what was created in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from secretsops.errors import GitUnavailable
from secretsops.manifest import Manifest
from secretsops.ports import Commit, Signature, SignatureState, SigningKeys, Tree
from tests.conformance.frame import root

SYNC = "argocd/sync"
FULL = "0123456789abcdef0123456789abcdef01234567"
"""Stands for the first commit of every repository of a case."""
FOREIGN = ("plugin", "chart")
"""Sources that need a program of the peer, or a chart repository."""


@cache
def case(name: str) -> dict[str, Any]:
    """Give `case.yaml` of a case."""
    found: dict[str, Any] = yaml.safe_load((root() / SYNC / name / "case.yaml").read_text())
    return found


@cache
def expected(name: str) -> dict[str, Any]:
    """Give `expected.yaml` of a case."""
    found: dict[str, Any] = yaml.safe_load((root() / SYNC / name / "expected.yaml").read_text())
    return found


def applications(name: str) -> list[Manifest]:
    """Give the Applications that the first step applies, with placeholders filled in."""
    objects = [_filled(body, case(name)) for body in case(name)["steps"][0].get("apply") or []]
    return [Manifest(body) for body in objects if body.get("kind") == "Application"]


def roots(name: str) -> list[Manifest]:
    """Give what the first step applies, with argocd-cm as it is set for the case."""
    objects = [Manifest(_filled(body, case(name))) for body in case(name)["steps"][0].get("apply") or []]
    metadata = {"name": "argocd-cm", "namespace": "argocd"}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": case(name).get("settings") or {}}
    return [*objects, Manifest(body)]


def created(name: str) -> dict[str, list[list[tuple[str, str]]]]:
    """Give (group/version/Kind, namespace/name) created in the first step: owner to groups in order."""
    step = expected(name)["steps"][0]
    found: dict[str, list[list[tuple[str, str]]]] = {}
    for owner, groups in (step.get("requests") or {}).items():
        kept = [
            [(request["kind"], request["name"]) for request in group if _creates(request)] for group in groups or []
        ]
        found[owner] = [group for group in kept if group]
    return found


def settles(name: str) -> bool:
    """Say whether the first step ended with every operation successful and nothing refused."""
    step = expected(name)["steps"][0]
    states = [(app.get("operationState") or {}).get("phase") for app in (step.get("applications") or {}).values()]
    requests = [r for groups in (step.get("requests") or {}).values() for group in groups or [] for r in group]
    return bool(states) and set(states) == {"Succeeded"} and not any(r.get("code") for r in requests)


def is_readable(name: str) -> bool:
    """Say whether every Application of the first step takes its manifests from Git alone."""
    sources = [source for app in applications(name) for source in _sources(app.spec)]
    return bool(sources) and all(not set(FOREIGN) & set(source) for source in sources)


def _sources(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    return spec.get("sources") or ([spec["source"]] if spec.get("source") else [])


def filled(value: Any, name: str) -> Any:
    """Give recorded data with the placeholders of repositories and commits filled in."""
    return _filled(value, case(name))


def _creates(request: dict[str, Any]) -> bool:
    return request["verb"] == "create" or request.get("mode") == "apply"


def _filled(value: Any, body: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(entry, body) for key, entry in value.items()}
    if isinstance(value, list):
        return [_filled(entry, body) for entry in value]
    if isinstance(value, str):
        for repository in body.get("git") or {}:
            value = value.replace(f"{{{repository}}}", f"file:///{repository}")
        return value.replace("{sha:1}", FULL)
    return value


class CaseRepos:
    """One commit of a case's repositories behind the Git door."""

    def __init__(self, name: str, *, suite: str = SYNC, git: Mapping[str, Any] | None = None, number: int = 1) -> None:
        self._base = root() / suite / name
        self._git = git if git is not None else case(name).get("git") or {}
        self._number = number

    def resolve(self, url: str, revision: str) -> str:
        """Give the one commit there is; a revision that the case does not have is not found."""
        commit = self._commit(url)
        if revision not in ("", "HEAD", "main", FULL, commit.get("branch"), *(commit.get("tags") or [])):
            raise GitUnavailable(f"{url}: no revision {revision}", reason="RevisionNotFound")
        return FULL

    def tree(self, url: str, revision: str, path: str = "") -> Tree:
        """Give the files below `path`."""
        base = self._base / self._commit(url)["dir"]
        folder = base / path
        files = {str(file.relative_to(folder)): _content(file) for file in _files(folder)}
        return Tree(url=url, revision=revision, files=files)

    def history(self, url: str, revision: str, *, limit: int = 1) -> list[Commit]:
        """Give the one commit there is."""
        return [Commit(sha=FULL)]

    def annotated_tag(self, url: str, revision: str) -> bytes:
        """Give b"": no case has an annotated tag."""
        return b""

    def signatures(self, objects: Sequence[bytes], keys: SigningKeys) -> list[Signature]:
        """Say that nothing is signed."""
        return [Signature(state=SignatureState.UNSIGNED) for _ in objects]

    def _commit(self, url: str) -> dict[str, Any]:
        commits = [one for one in (self._git.get(url.removeprefix("file:///")) or [])[: self._number] if one]
        if not commits:
            raise GitUnavailable(f"{url}: no such repository", reason="RepositoryNotFound")
        found: dict[str, Any] = commits[-1]
        return found


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def _content(file: Path) -> bytes:
    return file.read_bytes().replace(b"{repo}", b"file:///repo").replace(b"{sha:1}", FULL.encode())
