"""`recovery.yaml`: read strictly, so that a misspelt field never hides a single point of failure."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest

from recovery import proof
from recovery.recovery_plan import read_recovery_plan
from secretsops.errors import InvalidManifest

HEAD = "apiVersion: secretsops.dev/v1\nkind: RecoveryPlan\nspec:\n"


def test_the_manuals_example_is_read() -> None:
    """Every field that the manual shows is known, and nothing else."""
    manual = (Path(proof.__file__).parent / "README.md").read_text()
    (example,) = re.findall(r"```yaml\n([^`]*kind: RecoveryPlan[^`]*)```", manual)
    plan = read_recovery_plan(example.encode())
    assert plan.name == "prod"
    assert plan.identities[0].held_by == ("ada-laptop", "office-safe")
    assert plan.stores[0].retrusted == dt.date(2026, 2, 1)
    assert plan.git_hosts[0].credential == "office safe"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("  person: []", "spec.person"),
        ("  people: [{name: a, phone: 1}]", "people[0].phone"),
        ("  people: [{}]", "people[0].name"),
        ("  people: [{name: 1}]", "people[0].name"),
        ("  people: {}", "spec.people"),
        ("  people: [{name: a, devices: [x]}]", "names 'x'"),
        ("  people: [{name: a}, {name: a}]", "'a' twice"),
        ("  stores: [{name: a, survives: 1}]", "stores[0].survives"),
        ("  kms: [{name: a, proven: soon}]", "kms[0].proven"),
        ("  identities: [{name: a, heldBy: []}]", "threshold"),
        ("  devices: [{name: d}]\n  identities: [{name: a, heldBy: [d], threshold: 2}]", "threshold"),
        ("  accounts: [{name: a, sso: nobody}]", "names 'nobody'"),
    ],
)
def test_what_is_wrong_is_named(text: str, where: str) -> None:
    """With its path."""
    with pytest.raises(InvalidManifest) as caught:
        read_recovery_plan((HEAD + text).encode())
    assert where in str(caught.value)
    assert caught.value.reason == "InvalidRecoveryPlan"


@pytest.mark.parametrize("text", ["", "[]", "kind: RecoveryPlan", HEAD.replace("v1", "v2") + "  people: []", "a: 1"])
def test_what_is_no_plan(text: str) -> None:
    """Another document is refused."""
    with pytest.raises(InvalidManifest):
        read_recovery_plan(text.encode())
