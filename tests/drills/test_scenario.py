"""Scenarios are read strictly: what is misspelt, senseless or could not fail is refused with its line."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from drills.cli import names, shipped, shipped_files
from drills.scenario import Scenario, read_scenario, schema
from drills.vocabulary import VOCABULARY
from secretsops.errors import InvalidManifest
from secretsops.manifest import load_values

GOOD = shipped("cluster-lost")[0].decode()


def read(text: str, **options: Any) -> Scenario:
    """Read a scenario of this text."""
    return read_scenario(text.encode(), source="x.yaml", vocabulary=VOCABULARY, **options)


@pytest.mark.parametrize("name", names())
def test_each_shipped_scenario_reads_with_its_twin(name: str) -> None:
    """It bears the name of its file, its estates are beside it, and its twin differs and names what then fails."""
    text, _ = shipped(name)
    scenario, twin = read(text.decode()), read(text.decode(), twin=True)
    assert (scenario.name, twin.is_twin, scenario.is_twin) == (name, True, False)
    for repository in scenario.spec.world.repositories:
        assert shipped_files().joinpath(repository.files).joinpath(repository.root).is_file()
    steps = [(one.given, one.disaster, one.recover, one.checks, one.spec.world) for one in (scenario, twin)]
    assert steps[0] != steps[1]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("kind: Drill", "kind: Dril", "is no Drill"),
        ("  world:", "  wold: {}\n  world:", "unknown field 'wold'"),
        ("checks: [secrets-equal", "checks: [secret-equal", "'secret-equal' is none of"),
        ("scope: strict", "scope: wide", "spec.world.repositories[0].sealed[0].scope: 'wide' is none of strict"),
        ("controlPlaneRto: 90s", "controlPlaneRto: soon", "objectives.controlPlaneRto: is no duration"),
        ("controlPlaneRto: 90s", "controlPlaneRto: 0s", "nothing can be met in no time"),
        ("file: shop/db-sealed.yaml", "file: ../../etc/passwd", "no relative path"),
        ("keys: [token]", "keys: {token: x}", "should be a list"),
        ("given: [install, commit, fill, escrow]", "given: []", "spec.given: is empty"),
        ("disaster: [destroy]", "disaster: [{destroy: {cluster: c}}]", "the world has no cluster 'c'"),
        ("disaster: [destroy]", "disaster: [{destroy: {}, escrow: {}}]", "should hold one name, it holds 2"),
        ("disaster: [destroy]", "disaster: [{destroy: {}, at: later}]", "is no duration"),
        ("disaster: [destroy]", "disaster: [install]", "'install' is none of"),
        ("checks: [secrets-equal, applications-healthy, objects-equal, keys-equal, no-plaintext]",
         "checks: [applications-healthy]", "no check here would notice lost data"),
        ("no-plaintext]", "{applications-healthy: {minimum: 0}}]", "a check that cannot fail"),
        ("no-plaintext]", "{command: {run: ['true']}}]", "a check that cannot fail"),
        ("no-plaintext]", "{command: {}}]", "the field 'run' is missing"),
        ("role: source", "role: target", "no cluster has the role source"),
        ("name: b, role: target", "name: a, role: target", "'a' is there twice"),
        ("fails: [rebuild]", "fails: [no-such-step]", "the twin has no step or check 'no-such-step'"),
        ("path: /recover/rebuild", "path: /recover/nothing", "no entry 'nothing'"),
        ("- {op: replace, path: /recover/rebuild, value: {rebuild: {escrow: false, patience: 15s}}}",
         "- {op: remove, path: /world}", "patched it is refused"),
        ("quick: true", "quick: &a true", "quick"),
    ],
)  # fmt: skip
def test_what_is_misspelt_or_senseless_is_refused_with_its_line(old: str, new: str, words: str) -> None:
    """A check that nobody makes must not count as passed; field and line are named."""
    assert old in GOOD
    if words == "quick":
        assert read(GOOD.replace(old, new, 1)).spec.quick  # an anchor alone does no harm; an alias is refused
        return
    with pytest.raises(InvalidManifest) as caught:
        read(GOOD.replace(old, new, 1))
    assert words in caught.value.message
    assert caught.value.reason == "InvalidScenario"
    line = GOOD[: GOOD.index(old)].count("\n") + 1
    near = int(caught.value.where.rpartition("line ")[2])
    assert abs(near - line) <= 4, (caught.value.where, line)


def test_an_alias_is_refused() -> None:
    """A line would mean two places."""
    text = GOOD.replace("quick: true", "quick: &q true").replace("keys: [token]", "keys: [*q]")
    with pytest.raises(InvalidManifest, match="aliases are not read here"):
        read(text)


def test_the_twin_is_the_scenario_without_its_protection() -> None:
    """Only what the patch names differs."""
    scenario, twin = read(GOOD), read(GOOD, twin=True)
    assert [step.name for step in scenario.recover] == [step.name for step in twin.recover] == ["replace", "rebuild"]
    assert (scenario.recover[1].parameters.escrow, twin.recover[1].parameters.escrow) == (True, False)
    assert (scenario.given, scenario.checks, scenario.spec.world) == (twin.given, twin.checks, twin.spec.world)


def test_a_recovery_that_is_not_told_is_the_one_of_a_real_loss() -> None:
    """A new cluster, then the rebuild."""
    text = GOOD.replace("  recover: [replace, rebuild]\n", "").partition("  twin:")[0]
    assert [step.name for step in read(text).recover] == ["replace", "rebuild"]


CHANGES = (("  world:", "  wold: {}\n  world:"), ("[destroy]", "[destory]"), ("scope: strict", "scope: wide"))


def test_the_schema_is_the_reader_s_own() -> None:
    """What is shipped is what the classes give; it takes every shipped scenario and refuses what is unknown."""
    shipped_schema = json.loads(resources.files("drills").joinpath("scenario.schema.json").read_bytes())
    assert shipped_schema == schema(VOCABULARY)
    validator = jsonschema.Draft202012Validator(shipped_schema)
    for name in names():
        (body,) = load_values(shipped(name)[0])
        assert [error.message for error in validator.iter_errors(body)] == [], name
    for old, new in (
        ("  world:", "  wold: {}\n  world:"),
        ("[destroy]", "[destory]"),
        ("scope: strict", "scope: wide"),
    ):
        (body,) = load_values(GOOD.replace(old, new, 1).encode())
        assert not validator.is_valid(body), new
