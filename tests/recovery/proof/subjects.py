"""Estates for tests of proofs, in memory."""

from __future__ import annotations

from collections.abc import Mapping

from recovery.proof.graph import build
from recovery.proof.subject import Subject, Target
from recovery.roots import Choice, estate_of
from recovery.walk import Estate
from secretsops.manifest import load_all
from tests.fakes.git import FakeGit
from tests.recovery.estates import URL, NoRenderer, application


def walked(files: Mapping[str, str], path: str = "root.yaml") -> Estate:
    """Give the estate below a root."""
    git = FakeGit()
    git.commit(URL, files)
    return estate_of(git, NoRenderer(), Choice(repo=URL, revision="main", path=path))


def subject_of(files: str | Mapping[str, str], *, installed: str = "", target: Target | None = None) -> Subject:
    """Give what rules look at: one application `shop` that renders a text, or an estate of files below `root.yaml`."""
    if isinstance(files, str):
        files = {"root.yaml": application("shop", "shop"), "shop/all.yaml": files}
    estate = walked(files)
    graph = build(estate, installed=load_all(installed.encode()))
    return Subject(estate=estate, graph=graph, target=target or Target())
