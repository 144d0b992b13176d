"""`recover spof`: which loss alone, or which two together, make a rebuild impossible."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.cli import recover
from recovery.proof.spof import Needed, exposure, needed_by
from recovery.recovery_plan import RecoveryPlan, read_recovery_plan
from secretsops.cli import run
from tests.fakes.clock import FakeClock
from tests.fakes.git import FakeGit
from tests.recovery.estates import URL, NoRenderer, application
from tests.recovery.proof.lint_cases import deployment, env, external, sealed, store
from tests.recovery.proof.subjects import subject_of


def plan(text: str) -> RecoveryPlan:
    return read_recovery_plan(f"apiVersion: secretsops.dev/v1\nkind: RecoveryPlan\nspec:\n{text}".encode())


TWO_PEOPLE = """
  people:
  - {name: ada, devices: [ada-laptop], accounts: [cloud]}
  - {name: bob, devices: [bob-laptop], accounts: [cloud]}
  devices: [{name: ada-laptop, holder: ada}, {name: bob-laptop, holder: bob}, {name: safe}]
"""


def sets(text: str, needed: Needed) -> list[tuple[str, ...]]:
    return [tuple(map(str, loss.elements)) for loss in exposure(plan(text), needed).losses]


def test_one_custodians_laptop_and_the_cloud_account() -> None:
    """The pair that the issue names: an identity on a laptop, or one in the cloud's KMS."""
    text = """
  people: [{name: ada, devices: [laptop], accounts: [cloud]}, {name: bob, accounts: [cloud]}]
  devices: [{name: laptop, holder: ada}]
  accounts: [{name: cloud}]
  kms: [{name: key, accounts: [cloud]}]
  identities: [{name: i, heldBy: [laptop, key]}]
  sinks: [{name: s3, accounts: [cloud]}, {name: disk}]
"""
    found = sets(text, Needed(sealed=True))
    assert ("account cloud", "device laptop") in found
    assert ("account cloud", "person ada") in found  # her laptop opens for nobody else
    assert ("KMS key key", "device laptop") in found
    assert ("sink disk", "sink s3") in found
    assert [one for one in found if len(one) == 1] == []


def test_a_single_point_of_failure_is_of_size_one_and_in_no_pair() -> None:
    """Sets are smallest."""
    text = TWO_PEOPLE + "  accounts: [{name: cloud}]\n  gitHosts: [{name: git.example, accounts: [cloud]}]\n"
    found = sets(text, Needed(hosts=("git.example",)))
    assert ("account cloud",) in found
    assert ("git host git.example",) in found
    assert not any("cloud" in name for one in found if len(one) == 2 for name in one)
    assert ("person ada", "person bob") in found


def test_a_mirror_takes_the_place_of_a_host() -> None:
    """Then only both together are fatal."""
    text = TWO_PEOPLE + (
        "  accounts: [{name: cloud}]\n"
        "  gitHosts: [{name: git.example, accounts: [cloud], mirrors: [mirror]}, "
        "{name: mirror, mirrors: [git.example]}]\n"
    )
    found = sets(text, Needed(hosts=("git.example",)))
    assert ("git host git.example", "git host mirror") in found
    assert ("account cloud", "git host mirror") in found
    assert all(len(one) == 2 for one in found)


def test_a_threshold_needs_that_many_holders() -> None:
    """Two of three: any two of them are fatal."""
    text = TWO_PEOPLE + (
        "  accounts: [{name: cloud}]\n  sinks: [{name: a}, {name: b}]\n"
        "  identities: [{name: i, heldBy: [ada-laptop, bob-laptop, safe], threshold: 2}]\n"
    )
    found = sets(text, Needed(sealed=True))
    assert ("device ada-laptop", "device safe") in found
    assert ("device ada-laptop", "person bob") in found
    assert all(len(one) == 2 for one in found)


def test_a_sign_on_that_ran_inside_opens_no_account() -> None:
    """It is gone with the cluster, before anything else is lost."""
    text = TWO_PEOPLE + (
        "  sso: [{name: keycloak, inside: true}]\n  accounts: [{name: cloud, sso: keycloak}]\n"
        "  gitHosts: [{name: git.example, accounts: [cloud]}]\n"
    )
    assert exposure(plan(text), Needed(hosts=("git.example",))).already == "the repositories of git.example"


def test_what_is_not_described_stands_for_itself() -> None:
    """A host, a store, the escrow: each alone is then fatal, and is named as not described."""
    found = exposure(plan("  people: [{name: a}, {name: b}]"), Needed(hosts=("h",), stores=("n/s",), sealed=True))
    assert {tuple(map(str, loss.elements)) for loss in found.single} == {
        ("git host h",),
        ("store n/s",),
        ("sink the escrow",),
        ("identity of the escrow",),
    }
    assert len(found.undescribed) == 4


def test_what_an_estate_needs_is_read_from_it() -> None:
    """Hosts of sources, stores, outside Secrets in use, whether anything is sealed."""
    text = deployment("web", container=env("token")) + external("x") + store("tokenSecretRef: {name: t, key: a}")
    secrets = plan("  secrets: [{name: shop/token, source: safe}, {name: other/unused, source: safe}]")
    assert needed_by(subject_of(text), secrets) == Needed(
        hosts=("git.invalid",), stores=("shop/vault",), secrets=("shop/token",), sealed=False
    )
    assert needed_by(subject_of(sealed("a", namespace="shop")), secrets).sealed


NAMES = st.sampled_from(["a", "b", "c"])


@given(
    people=st.lists(NAMES, min_size=1, max_size=3, unique=True),
    sinks=st.lists(NAMES, max_size=3, unique=True),
    holders=st.lists(NAMES, min_size=1, max_size=3, unique=True),
)
def test_every_set_is_fatal_and_none_contains_another(people: list[str], sinks: list[str], holders: list[str]) -> None:
    """The definition of a smallest set, on plans of people and sinks."""
    held = [name for name in holders if name in people] or people[:1]
    text = f"  people: [{', '.join(f'{{name: {p}}}' for p in people)}]\n"
    text += f"  sinks: [{', '.join(f'{{name: {s}}}' for s in sinks)}]\n"
    text += f"  identities: [{{name: i, heldBy: [{', '.join(held)}]}}]\n"
    found = [set(loss.elements) for loss in exposure(plan(text), Needed(sealed=True)).losses]
    assert not any(one < other for one in found for other in found)


def test_the_command_fails_on_a_single_point(capsys: pytest.CaptureFixture[str]) -> None:
    """And is told about a missing recovery.yaml."""
    git = FakeGit()
    git.commit(URL, {"root.yaml": application("shop", "shop"), "shop/a.yaml": deployment("a")})
    doors = SimpleNamespace(git=lambda: git, renderer=NoRenderer, clock=FakeClock())
    arguments = ["spof", "--repo", URL, "--revision", "main"]
    assert run(recover, arguments, prog="recover", doors=doors) == 2
    head = "apiVersion: secretsops.dev/v1\nkind: RecoveryPlan\nspec: "
    git.commit(URL, {"recovery.yaml": head + "{people: [{name: a}, {name: b}]}"})
    assert run(recover, arguments, prog="recover", doors=doors) == 1
    assert "1  git host git.invalid: then a rebuild lacks the repositories of git.invalid" in capsys.readouterr().out
    safe = "{people: [{name: a}, {name: b}], gitHosts: [{name: git.invalid, mirrors: [m]}, {name: m}]}"
    git.commit(URL, {"recovery.yaml": head + safe})
    assert run(recover, arguments, prog="recover", doors=doors) == 0
