"""Every rule of `recover lint` finds what it is for, passes what is right, and names the objects."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recovery import proof
from recovery.cli import recover
from recovery.proof.finding import Severity
from recovery.proof.lint import RULES, lint
from recovery.proof.rules.inside import host_of
from secretsops.cli import run
from tests.fakes.clock import FakeClock
from tests.fakes.git import FakeGit
from tests.recovery.estates import FILES, URL, NoRenderer, application
from tests.recovery.proof.lint_cases import CASES, WITH_TOKEN, config, deployment, env
from tests.recovery.proof.subjects import subject_of

BY_ID = {rule.id: rule for rule in RULES}


def test_every_rule_has_a_case_and_says_what_it_is() -> None:
    """No rule is there without its test; ids are unique, titles and cures are said."""
    assert set(CASES) == set(BY_ID)
    assert len(BY_ID) == len(RULES)
    assert all(rule.title and rule.cure for rule in RULES)


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_finds_what_it_is_for(rule: str) -> None:
    """It names every object of the case."""
    case = CASES[rule]
    found = list(BY_ID[rule].check(subject_of(case.bad, target=case.bad_target)))
    assert found, "nothing was found"
    assert set(case.names) <= {name for one in found for name in one.objects}


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_passes_what_is_right(rule: str) -> None:
    """The cured estate is free of it."""
    case = CASES[rule]
    assert [one.message for one in BY_ID[rule].check(subject_of(case.good, target=case.good_target))] == []


@pytest.mark.parametrize("rule", CASES)
def test_no_rule_raises_on_the_estates_of_the_others(rule: str) -> None:
    """Every estate goes through the whole table; errors come first."""
    findings = lint(subject_of(CASES[rule].bad, target=CASES[rule].bad_target))
    ranks = [list(Severity).index(finding.severity) for finding in findings]
    assert ranks == sorted(ranks)
    assert rule in {finding.rule for finding in findings}


def test_the_manual_lists_every_rule() -> None:
    """`recovery/proof/README.md` has a row for each rule, as the rule itself says it."""
    manual = (Path(proof.__file__).parent / "README.md").read_text()
    rows = [f"| `{rule.id}` | {rule.severity.value} | {rule.title.rstrip('.')} |" for rule in RULES]
    assert [row for row in rows if row not in manual] == []


def test_a_plain_estate_has_no_error() -> None:
    """The small estate of the other tests may be rebuilt."""
    assert [f.message for f in lint(subject_of(FILES)) if f.severity is Severity.ERROR] == []


# --- the command ---------------------------------------------------------------------------------------


class Doors(SimpleNamespace):
    """The doors of one command."""

    def __init__(self, files: Mapping[str, str]) -> None:
        git = FakeGit()
        git.commit(URL, files)
        super().__init__(git=lambda: git, renderer=NoRenderer, clock=FakeClock())


def _lint(files: Mapping[str, str], *more: str) -> int:
    return run(recover, ["lint", "--repo", URL, "--revision", "main", *more], prog="recover", doors=Doors(files))


GOOD = {
    "root.yaml": application("shop", "shop"),
    "shop/all.yaml": WITH_TOKEN + deployment("web", container=env("token"), wave="1"),
}
BAD = {"root.yaml": application("shop", "shop"), "shop/all.yaml": deployment("web", container=env("token"))}
WARNED = {**GOOD, "shop/more.yaml": config("a", marks="argocd.argoproj.io/sync-options: CreateNamespace=true")}


def test_the_exit_code_says_whether_a_rebuild_would_come_to_its_end() -> None:
    """0 without errors, 1 with; warnings count only when asked; ignored rules do not."""
    assert _lint(GOOD) == 0
    assert _lint(BAD) == 1
    assert _lint(WARNED) == 0
    assert _lint(WARNED, "--strict") == 1
    assert _lint(BAD, "--ignore", "missing-secret") == 0
    assert _lint(BAD, "--ignore", "no-such-rule") == 2
    assert _lint(BAD, "--kube-version", "latest") == 2


def test_json_names_objects_and_cure(capsys: pytest.CaptureFixture[str]) -> None:
    """The shape that scripts read."""
    _lint(BAD, "-o", "json")
    body: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert body["counts"]["error"] == 1
    assert body["findings"][0]["rule"] == "missing-secret"
    assert body["findings"][0]["objects"] == ["apps/Deployment shop/web", "Secret shop/token"]
    assert body["findings"][0]["cure"]


def test_sarif_has_a_rule_for_every_result(capsys: pytest.CaptureFixture[str]) -> None:
    """SARIF 2.1.0: results refer to rules that are declared, each with a place."""
    _lint(BAD, "-o", "sarif")
    log = json.loads(capsys.readouterr().out)
    (only,) = log["runs"]
    declared = {rule["id"] for rule in only["tool"]["driver"]["rules"]}
    assert log["version"] == "2.1.0"
    assert {result["ruleId"] for result in only["results"]} <= declared
    assert all(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in only["results"])


def test_junit_fails_the_rules_that_found_errors(capsys: pytest.CaptureFixture[str]) -> None:
    """One case per rule, failures counted."""
    _lint(BAD, "-o", "junit")
    suite = ET.fromstring(capsys.readouterr().out)
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failed == ["missing-secret"]
    assert suite.get("failures") == "1"
    assert suite.get("tests") == str(len(RULES))


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://git.example/a.git", "git.example"),
        ("git@git.example:team/a.git", "git.example"),
        ("ssh://git@git.example:22/a.git", "git.example"),
        ("registry.example:5000/a/b", "registry.example"),
        ("https://user:pass@git.example/x", "git.example"),
        ("", ""),
        ("file:///a", ""),
    ],
)
def test_the_host_of_a_place(url: str, host: str) -> None:
    """Every spelling that Git, charts and images use."""
    assert host_of(url) == host
