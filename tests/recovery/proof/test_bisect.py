"""Which commit broke rebuildability: the search on random histories, and the command on a real repository."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recovery.cli import recover
from recovery.proof.bisect import bisect
from secretsops.cli import run
from secretsops.errors import GitUnavailable, UsageError
from secretsops.ports import Commit
from tests.contract.git.signing import SignedRepository
from tests.fakes.clock import FakeClock
from tests.recovery.estates import NoRenderer, config_map
from tests.recovery.proof.lint_cases import config, deployment

APPLICATION = """apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: shop, namespace: argocd}
spec:
  project: default
  source: {repoURL: "PLACE", path: shop, targetRevision: main}
  destination: {server: https://kubernetes.default.svc, namespace: shop}
  syncPolicy: {automated: {}, syncOptions: [CreateNamespace=true]}
"""


def history_of(chance: random.Random, size: int) -> list[Commit]:
    """Give a history with branches and merges, children before parents."""
    made = [Commit(sha="c0")]
    for number in range(1, size):
        parents = {chance.choice(made[-4:]).sha for _ in range(chance.choice((1, 1, 1, 2, 3)))}
        made.append(Commit(sha=f"c{number}", parents=tuple(sorted(parents))))
    leaves = {one.sha for one in made} - {parent for one in made for parent in one.parents}
    tip = Commit(sha=f"c{size}", parents=tuple(sorted(leaves)))
    return [tip, *reversed(made)]


@pytest.mark.parametrize("seed", range(60))
def test_what_is_named_broke_it(seed: int) -> None:
    """Errors that come with a commit, spread to its descendants, and are cured by another: never a wrong name."""
    chance = random.Random(seed)
    history = history_of(chance, 40)
    parents = {one.sha: one.parents for one in history}
    has: dict[str, set[str]] = {}
    for commit in reversed(history):
        inherited = set().union(*(has[parent] for parent in commit.parents)) if commit.parents else set[str]()
        lost = {name for name in inherited if chance.random() < 0.05}
        came = {f"e{chance.randint(0, 3)}"} if chance.random() < 0.1 else set[str]()
        has[commit.sha] = (inherited - lost) | came
    asked: list[str] = []

    def judge(sha: str) -> Mapping[str, str]:
        asked.append(sha)
        return dict.fromkeys(has[sha], "broken")

    found = bisect(history, "c0", judge)
    new = has[history[0].sha] - has["c0"]
    assert {name for one in found.broken for name in one.errors} == new
    for one in found.broken:
        for name in one.errors:
            assert name in has[one.commit.sha]
            assert not any(name in has[parent] for parent in parents[one.commit.sha])
    assert len(asked) == len(set(asked)) == found.judged or not new


def test_it_halves() -> None:
    """A thousand commits in a row cost a dozen verdicts."""
    history = [Commit(sha=str(number), parents=(str(number - 1),) if number else ()) for number in range(1000)][::-1]
    found = bisect(history, "0", lambda sha: {"e": ""} if int(sha) >= 731 else {})
    assert [one.commit.sha for one in found.broken] == ["731"]
    assert found.judged <= 14
    with pytest.raises(UsageError, match="no ancestor"):
        bisect(history[:10], "0", lambda _: {})


@pytest.fixture
def repository(tmp_path: Path) -> SignedRepository:
    found = SignedRepository(tmp_path / "estate")
    for folder in ("shop", "docs"):
        (found.folder / folder).mkdir()
    return found


def change(repository: SignedRepository, message: str, **files: str) -> str:
    for name, text in files.items():
        (repository.folder / "shop" / f"{name}.yaml").write_text(text)
    return repository.commit(message)


def test_the_command_names_each_commit_that_broke_something(
    repository: SignedRepository, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """On a real repository, through a merge; applications that follow the branch go back in time with it."""
    (repository.folder / "root.yaml").write_text(APPLICATION.replace("PLACE", repository.url))
    good = change(repository, "start", settings=config_map("settings"), web=deployment("web"))
    for number in range(5):
        change(repository, f"note {number}", settings=config_map("settings", n=str(number)))
    repository.git("checkout", "--quiet", "-b", "side")
    lost = change(
        repository, "use a secret\n\nlong text", web=deployment("web", "imagePullSecrets: [{name: registry}]")
    )
    change(repository, "more", more=config("more"))
    repository.git("checkout", "--quiet", "main")
    change(repository, "meanwhile", other=config("other"))
    repository.git("merge", "--quiet", "--no-ff", "-m", "merge side", "side")
    doubled = change(repository, "twice \x1b[31m", again=config("more"))
    change(repository, "last", last=config("last"))
    doors = SimpleNamespace(git=lambda: repository.door, renderer=NoRenderer, clock=FakeClock())
    arguments = ["bisect", "--repo", repository.url, "--revision", "main", "--path", "root.yaml", "--good", good]
    assert run(recover, [*arguments, "-o", "json"], doors=doors, prog="recover") == 1
    body = json.loads(capsysbinary.readouterr().out)
    assert [one["commit"] for one in body["broken"]] == [lost, doubled]
    assert body["broken"][0]["subject"] == "use a secret"
    assert any("registry" in line for line in body["broken"][0]["errors"])
    assert any("RepeatedResource" in line for line in body["broken"][1]["errors"])
    assert body["judged"] < body["range"]
    assert run(recover, arguments, doors=doors, prog="recover") == 1
    table = capsysbinary.readouterr().out.decode()
    assert f"broken by {lost[:12]} (Ada, " in table
    assert "\x1b" not in table
    assert run(recover, [*arguments[:-1], "main"], doors=doors, prog="recover") == 0
    assert run(recover, arguments[:-2], doors=doors, prog="recover") == 2
    repository.git("checkout", "--quiet", "--orphan", "elsewhere")
    stranger = repository.commit("stranger")
    assert run(recover, [*arguments[:-1], stranger], doors=doors, prog="recover") == 2


def test_silence_of_the_world_is_no_verdict(
    repository: SignedRepository, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A host that stops answering in the middle ends the search: no commit is blamed for it."""
    (repository.folder / "root.yaml").write_text(APPLICATION.replace("PLACE", repository.url))
    good = change(repository, "start", settings=config_map("settings"), web=deployment("web"))
    change(repository, "broken", web=deployment("web", "imagePullSecrets: [{name: registry}]"))
    tree, asked = repository.door.tree, list[str]()

    def failing(url: str, revision: str, path: str = "") -> Any:
        asked.append(revision)
        if revision == good:
            raise GitUnavailable("no answer", reason="Timeout")
        return tree(url, revision, path)

    monkeypatch.setattr(repository.door, "tree", failing)
    doors = SimpleNamespace(git=lambda: repository.door, renderer=NoRenderer, clock=FakeClock())
    arguments = ["bisect", "--repo", repository.url, "--revision", "main", "--path", "root.yaml", "--good", good]
    assert run(recover, arguments, doors=doors, prog="recover") == 3
    assert b"broken by" not in capsysbinary.readouterr().out
