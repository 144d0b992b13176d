"""Who asks for signed commits, and that nothing of an unsigned one is planned, synced or rendered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from recovery.project import Project, Signatures, read_project
from recovery.recovery_plan import read_recovery_plan
from recovery.roots import Choice, estate_of, signed_repos
from recovery.signatures import check, demands_of
from secretsops.errors import InvalidManifest, SyncRefused
from secretsops.manifest import Manifest
from secretsops.ports import Commit
from tests.fakes.git import FakeGit
from tests.recovery.estates import FILES, URL, Estate, NoRenderer

KEY = "0123456789ABCDEF0123456789ABCDEF01234567"
OTHER = "F" * 40


def project(**spec: Any) -> Project:
    body = {"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject", "metadata": {"name": "p"}, "spec": spec}
    return read_project(Manifest(body))


def policy(*urls: str, **gpg: Any) -> dict[str, Any]:
    return {"repos": [{"url": url} for url in urls], **({"gpg": gpg} if gpg else {})}


def integrity(*policies: Mapping[str, Any]) -> dict[str, Any]:
    return {"git": {"policies": list(policies)}}


def test_what_a_project_asks() -> None:
    """The older list asks of every repository; policies of those they take, and win; none means none."""
    url = "https://git.example/team/shop.git"
    assert project().signatures_for(url) is None
    assert project(signatureKeys=[{"keyID": KEY}]).signatures_for(url) == Signatures(keys=(KEY,))
    strict = policy("https://git.example/*", mode="strict", keys=[KEY])
    asked = project(signatureKeys=[{"keyID": OTHER}], sourceIntegrity=integrity(strict))
    assert asked.signatures_for(url) == Signatures(keys=(KEY,), mode="strict")
    assert asked.signatures_for("https://git.other/shop") is None
    left_out = policy("*", "!https://git.example/team/*", mode="head", keys=[KEY])
    assert project(sourceIntegrity=integrity(left_out)).signatures_for(url) is None
    none = policy("*", mode="none")
    assert project(signatureKeys=[{"keyID": KEY}], sourceIntegrity=integrity(none)).signatures_for(url) is None
    with pytest.raises(SyncRefused, match="multiple"):
        project(sourceIntegrity=integrity(strict, none)).signatures_for(url)
    wrong: list[dict[str, Any]] = [{"sourceIntegrity": []}, {"sourceIntegrity": {"git": []}}, {"signatureKeys": KEY}]
    for broken in wrong:
        with pytest.raises(InvalidManifest):
            project(**broken)


def guarded(spec: Mapping[str, Any]) -> dict[str, str]:
    """Give the estate with a default project that asks."""
    allowed = {
        "sourceRepos": ["*"],
        "destinations": [{"server": "*", "namespace": "*"}],
        "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
    }
    body = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AppProject",
        "metadata": {"name": "default", "namespace": "argocd"},
        "spec": {**allowed, **spec},
    }
    return {**FILES, "root.yaml": FILES["root.yaml"] + "---\n" + json.dumps(body)}


@pytest.mark.parametrize(
    ("spec", "signed", "why"),
    [
        ({"signatureKeys": [{"keyID": KEY}]}, KEY, ""),
        ({"signatureKeys": [{"keyID": KEY[-16:]}]}, KEY, ""),
        ({"signatureKeys": [{"keyID": KEY}]}, OTHER, "signed with unallowed key"),
        ({"signatureKeys": [{"keyID": KEY}]}, "", "unsigned"),
        ({"sourceIntegrity": integrity(policy("*", mode="strict", keys=[KEY]))}, KEY, ""),
        ({"sourceIntegrity": integrity(policy("*", mode="lax", keys=[KEY]))}, KEY, "unknown signature mode"),
        ({"sourceIntegrity": integrity(policy("*", mode="head", keys=[]))}, KEY, "signed with unallowed key"),
        ({"sourceIntegrity": integrity(policy("*", mode="none"))}, "", ""),
        ({"sourceIntegrity": integrity(policy("*"))}, "", ""),
    ],
)
def test_a_project_s_demand_decides_the_plan(spec: Mapping[str, Any], signed: str, why: str) -> None:
    """Every application that is refused is a problem with the peer's words, and none of its objects is planned."""
    git = FakeGit()
    git.commit(URL, guarded(spec), signed=signed)
    estate = estate_of(git, NoRenderer(), Choice(repo=URL, revision="main", path="root.yaml"))
    said = [problem.message for planned in estate.applications for problem in planned.problems]
    assert bool(said) is bool(why)
    assert all(why in line for line in said)
    if why:
        assert [len(planned.tasks) for planned in estate.applications] == [0]


def test_a_sync_takes_nothing_from_a_commit_that_lost_its_signature() -> None:
    """What was signed at plan time and is not when it is synced fails the application; the cluster stays as it was."""
    from recovery.setup import read_setup
    from secretsops.manifest import load_all

    files = guarded({"signatureKeys": [{"keyID": KEY}]})
    estate = Estate()
    estate.git.commit(URL, {"shop/settings.yaml": files["shop/settings.yaml"], "x": "1"})
    setup, _ = read_setup(load_all(files["root.yaml"].encode()))
    outcomes = estate.sync(setup=setup, patience=1.0)
    assert [outcome.succeeded for outcome in outcomes] == [False]
    assert "unsigned" in outcomes[0].message
    assert estate.made("configmaps") == []


@pytest.mark.parametrize("signed", [KEY, ""])
def test_a_generator_reads_what_is_signed(signed: str) -> None:
    """Which applications there are comes from Git, too: an unsigned commit generates none, and is named."""
    generated = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "ApplicationSet",
        "metadata": {"name": "all", "namespace": "argocd"},
        "spec": {
            "generators": [{"git": {"repoURL": URL, "revision": "main", "directories": [{"path": "shop"}]}}],
            "template": {
                "metadata": {"name": "{{path.basename}}"},
                "spec": {
                    "project": "default",
                    "source": {"repoURL": URL, "path": "{{path}}"},
                    "destination": {"server": "https://kubernetes.default.svc", "namespace": "shop"},
                },
            },
        },
    }
    files = guarded({"signatureKeys": [{"keyID": KEY}]})
    files["root.yaml"] = files["root.yaml"].partition("---\n")[2] + "\n---\n" + json.dumps(generated)
    git = FakeGit()
    git.commit(URL, files, signed=signed)
    estate = estate_of(git, NoRenderer(), Choice(repo=URL, revision="main", path="root.yaml"))
    said = [problem.message for problem in estate.problems]
    assert [planned.app.name for planned in estate.applications] == (["shop"] if signed else [])
    assert bool(said) is not bool(signed)
    assert all("unsigned" in line for line in said)


class History(FakeGit):
    """A history of which the door hands out only the newest commits."""

    def history(self, url: str, revision: str, *, limit: int = 1) -> list[Commit]:
        return super().history(url, revision, limit=min(limit, 2))


def test_strict_wants_the_end_of_the_history() -> None:
    """A door that stops early, for its limit or a shallow server, leaves something unknown: refused."""
    git: FakeGit = History()
    for number in range(4):
        tip = git.commit(URL, {"a": str(number)}, signed=KEY)
    asked = Signatures(keys=(KEY,), mode="strict")
    with pytest.raises(SyncRefused, match="the history ends before"):
        check(git, URL, "main", tip, asked)
    git.commit(URL, {"a": "x"}, signed=KEY, message="Reviewed\n\nArgocd-GPG-seal: all of it")
    check(git, URL, "main", git.commit(URL, {"a": "y"}, signed=KEY), asked)


PLAN = """apiVersion: secretsops.dev/v1
kind: RecoveryPlan
spec:
  signatures:
  - {name: estate, repositories: ["https://git.invalid/*"], mode: MODE, gpgKeys: [KEYS]}
"""


def test_recovery_yaml_asks_of_everything_that_is_read(tmp_path: Path) -> None:
    """Of the roots too; by its own copy in the repository, or by one from outside, which wins."""
    git = FakeGit()
    plan = PLAN.replace("MODE", "head")
    git.commit(URL, {**FILES, "recovery.yaml": plan}, signed=KEY)
    choice = Choice(repo=URL, revision="main", path="root.yaml")
    assert estate_of(signed_repos(git, choice), NoRenderer(), choice).problems == []
    git.commit(URL, {"shop/late.yaml": ""})
    with pytest.raises(SyncRefused, match="unsigned"):
        estate_of(signed_repos(git, choice), NoRenderer(), choice)
    git.commit(URL, {"recovery.yaml": plan.replace("https://git.invalid/*", "https://nowhere.invalid/*")})
    assert estate_of(signed_repos(git, choice), NoRenderer(), choice).problems == []
    outside = tmp_path / "signers.yaml"
    outside.write_text(plan)
    kept = Choice(repo=URL, revision="main", path="root.yaml", signers=str(outside))
    with pytest.raises(SyncRefused, match="unsigned"):
        estate_of(signed_repos(git, kept), NoRenderer(), kept)


@pytest.mark.parametrize(
    "change",
    [("MODE", "lax"), ("gpgKeys: [KEYS]", "sshKeys: []"), ('["https://git.invalid/*"]', "[]"), ("mode", "modus")],
)
def test_a_demand_that_asks_nothing_is_refused(change: tuple[str, str]) -> None:
    """No key, no repository, another mode, another field: a gap must not look like a rule."""
    text = PLAN.replace(*change).replace("MODE", "head").encode()
    with pytest.raises(InvalidManifest):
        demands_of(read_recovery_plan(text))
