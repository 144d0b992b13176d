"""A record has every section, one canonical text, no float, and says where the time went."""

from __future__ import annotations

from typing import Any

import pytest

from drills.compare import inventory, matrix, picture
from drills.evidence.facts import read_facts
from drills.record import SECTIONS, critical_path, ended_record, of_report, refuse_unfit, started_record
from secretsops.errors import Refused
from secretsops.escrow import canonical
from secretsops.manifest import Manifest
from tests.drills.evidence.chains import DAY, report, run


def test_a_record_has_every_section_and_one_text() -> None:
    """What a run does not know is null or empty, never left out; reading gives back what was written."""
    body = ended_record(run(0), of_report(report()), ended=DAY)
    assert set(body) == {"apiVersion", "kind", *SECTIONS}
    assert canonical.decode(canonical.encode(body)) == body
    assert body["measured"]["rtaFromDisruptionMs"] == 42_000
    assert body["measured"]["met"] == {"controlPlaneRto": True, "serviceRto": None, "rpo": True}
    assert (body["secrets"]["expected"], body["keys"]["escrowIds"]) == (None, [])
    assert (body["identity"]["runId"], body["schedule"]["lateMs"], body["exitCode"]) == ("run-0", None, 0)
    assert body["timeline"][1]["utc"] == "2026-01-05T03:00:05Z"
    assert canonical.decode(canonical.encode(started_record(run(0)))) is not None


def test_lateness_counts_from_the_slot() -> None:
    """A slot of 03:00 that began at 03:00:00 is not late."""
    found = started_record(run(0, slot="2026-01-05T02:58:00Z"))["schedule"]
    assert (found["lateMs"], found["expectedAt"]) == (120_000, "2026-01-05T02:58:00Z")


@pytest.mark.parametrize(
    ("section", "value", "words"),
    [
        ("measured", {"x": 1.5}, "record.measured.x is a float"),
        ("apps", [{"x": b"secret"}], "record.apps.0.x is a bytes"),
        ("message", "\ud800", "no text"),
        ("message", "x" * 20_000, "no text"),
        ("checks", [0] * 30_000, "entries"),
        ("measured", {"x": 2**60}, "number"),
        ("secret", {}, "no section 'secret'"),
    ],
)
def test_what_cannot_be_kept_is_refused(section: str, value: Any, words: str) -> None:
    """The place is named, the value is not."""
    with pytest.raises(Refused) as caught:
        ended_record(run(0), {**of_report(report()), section: value}, ended=DAY)
    assert words in caught.value.message


def test_depth_is_bounded() -> None:
    """A record as deep as it is long is refused, not recursed into."""
    deep: Any = []
    for _ in range(500):
        deep = [deep]
    with pytest.raises(Refused):
        refuse_unfit(deep)


def line(name: str, at: int, took: int, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"event": name, "monotonicMs": at, "durationMs": took, "parts": list(parts)}


def test_the_critical_path_covers_the_time_once() -> None:
    """Of what ran at once the longest counts; gaps are named; the parts add up to the whole."""
    lines = [
        line("start", 0, 50),
        line("replace", 100, 40),
        line("rebuild", 150, 100, line("a", 150, 30), line("b", 150, 60), line("c", 220, 30)),
    ]
    path = critical_path(lines, 100, 250)
    assert [(each["name"], each["durationMs"]) for each in path] == [
        ("replace", 40),
        ("between steps", 10),
        ("rebuild: b", 60),
        ("rebuild: not in any part", 10),
        ("rebuild: c", 30),
    ]
    assert sum(each["durationMs"] for each in path) == 150
    assert critical_path(lines, None, 250) == []
    assert critical_path([], 100, 250) == [{"name": "between steps", "atMs": 100, "durationMs": 150}]


def test_what_a_wider_report_holds_is_taken_over() -> None:
    """Goals of tiers, proofs of isolation, what was waited for, applications, clean-up with what it left."""
    body = {
        **report(),
        "objectives": [
            {"name": "controlPlaneRto", "tier": "", "objective": 90.0, "measured": 42.0, "met": True},
            {"name": "serviceRto", "tier": "gold", "objective": 60.0, "measured": 42.0, "met": None,
             "notApplicable": "simulated"},
        ],
        "isolation": [
            {"name": "target", "ok": True, "message": "empty"},
            {"name": "egress", "ok": None, "message": ""},
        ],
        "transforms": ["CronJobs suspended"],
        "waits": [{"at": 12.0, "seconds": 11.0, "stage": "apps", "for": "the CRD of cert-manager"}],
        "applications": [{"application": "argocd/shop", "started": 10.0, "ended": 20.0, "ok": True, "objects": 3}],
        "cleanup": [{"name": "cluster b", "ok": False, "message": "still there"}],
        "secrets": {"expected": 1, "recovered": 1},
    }  # fmt: skip
    found = ended_record(run(0), of_report(body), ended=DAY)
    facts = read_facts(found)
    assert [(goal.name, goal.not_applicable) for goal in facts.goals] == [
        ("Control-plane RTO", ""),
        ("RPO", ""),
        ("Service RTO, tier gold", "simulated"),
    ]
    assert ("rebuild: apps: waiting for the CRD of cert-manager", 11_000) in [(s.name, s.took) for s in facts.path]
    assert sum(stretch.took for stretch in facts.path) == 42_000
    assert found["environment"]["segregationProof"] == ["target: proven, empty", "egress: not proven"]
    assert facts.cleanup == "1 left over: cluster b: still there"
    assert [(app.name, app.healthy) for app in facts.apps] == [("argocd/shop", 20_000)]
    assert facts.expected_secrets == 1


def test_the_matrix_of_secrets_names_each_and_holds_no_value() -> None:
    """Recovered, differs, missing; sealed or external by the object of the same name; nothing of a value."""

    def objects(value: str, *, mail: bool) -> list[Manifest]:
        secret: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "data": {"a": value}}
        sealed: dict[str, Any] = {"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret"}
        names = [("db", secret), ("db", sealed), ("other", secret), *([("mail", secret)] if mail else [])]
        return [Manifest({**body, "metadata": {"name": name, "namespace": "shop"}}) for name, body in names]

    before = picture([*objects("aHVudGVyMg==", mail=True)], key=b"k")
    after = picture([*objects("aHVudGVyMg==", mail=False)], key=b"k")
    found = matrix(before, after)
    assert (found["expected"], found["recovered"], found["failed"]) == (3, 2, 1)
    assert [(row["name"], row["source"], row["verdict"]) for row in found["perKey"]] == [
        ("shop/db", "sealed", "recovered"),
        ("shop/mail", "", "missing"),
        ("shop/other", "", "recovered"),
    ]
    assert "aHVudGVyMg" not in str(found)
    assert {row["verdict"] for row in matrix(before, picture(objects("eA==", mail=True), key=b"k"))["perKey"]} == {
        "differs"
    }
    counted = inventory(before, after)
    assert (counted["expectedObjects"], counted["present"], counted["missing"]) == (4, 3, ["Secret shop/mail"])
