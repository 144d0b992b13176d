"""The stages of a rebuild on fakes: every answer an API server may give at every request, keys first, nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from recovery.bootstrap import rebuild
from recovery.events import Stage
from recovery.rebuild_report import Report
from recovery.request import RebuildRequest
from secretsops.errors import BrokenEscrow, SyncRefused, WorldFailed
from secretsops.manifest import Manifest, load_all
from secretsops.ports import Cluster
from tests.recovery.estates import FILES, Estate
from tests.recovery.test_sync import FAULTS

INSTALL = """apiVersion: v1
kind: Namespace
metadata: {name: keys}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: controller, namespace: keys}
"""


def request(journal: Path | None = None, **changes: object) -> RebuildRequest:
    def restore(cluster: Cluster) -> None:
        key = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key", "namespace": "keys"}}
        cluster.apply(Manifest(key), field_manager="test", force=True)

    settings = {"roots": load_all(FILES["root.yaml"].encode()), "install": load_all(INSTALL.encode()), "parallel": 1}
    return RebuildRequest(**{**settings, "restore_keys": restore, "journal": journal, **changes})  # type: ignore[arg-type]


def run(estate: Estate, wanted: RebuildRequest) -> Report:
    return rebuild(wanted, cluster=estate.cluster, git=estate.git, renderer=estate.renderer, clock=estate.clock)


def test_the_stages_come_in_order_and_keys_before_any_controller() -> None:
    """The key Secret is written before the first CRD, controllers before applications."""
    estate = Estate()
    report = run(estate, request())
    assert report.ok, [entry.message for entry in report.stages]
    assert [entry.stage for entry in report.stages] == list(Stage)
    writes = [(entry.resource, entry.name) for entry in estate.cluster.writes()]
    assert writes[:4] == [
        ("namespaces", "keys"),
        ("secrets", "key"),
        ("customresourcedefinitions", "widgets.example.com"),
        ("serviceaccounts", "controller"),
    ]


@pytest.mark.parametrize("fault", FAULTS)
def test_one_bad_answer_anywhere_is_survived_or_named(fault: str, tmp_path: Path) -> None:
    """The rebuild ends as undisturbed, or it says before its first write why it cannot start; no hook runs twice."""
    undisturbed = Estate()
    run(undisturbed, request())
    for position in range(len(undisturbed.cluster.log)):
        estate, folder = Estate(), tmp_path / str(position)
        estate.cluster.fail(FAULTS[fault](), skip=position)
        try:
            report = run(estate, request(folder))
        except WorldFailed:
            assert estate.cluster.log[-1].resource in ("namespaces", "/openid/v1/jwks")
            assert estate.cluster.writes() == []
            continue
        hit = estate.cluster.log[position]
        assert report.ok, (position, hit, [entry.message for entry in report.stages])
        assert estate.made("jobs").count("migrate") <= 1 + (hit.resource == "jobs"), (position, hit)
        if not (hit.resource == "applications" and hit.verb == "patch"):  # status is told, not demanded
            assert estate.state() == undisturbed.state(), (position, hit)


def test_keys_that_cannot_be_restored_stop_everything() -> None:
    """No CRD, no controller, no application without the keys."""
    estate = Estate()

    def refuse(_cluster: Cluster) -> None:
        raise BrokenEscrow("the bundle was changed", reason="Tampered")

    report = run(estate, request(restore_keys=refuse))
    assert not report.ok
    assert "Tampered" in report.stages[-1].message
    assert [entry.name for entry in estate.cluster.writes()] == ["keys"]


def test_a_plan_with_a_problem_writes_nothing() -> None:
    """A broken file anywhere is named before the first write."""
    estate = Estate({**FILES, "shop/broken.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: [}\n"})
    with pytest.raises(SyncRefused) as caught:
        run(estate, request())
    assert caught.value.reason == "PlanHasProblems"
    assert "shop/broken.yaml" in str(caught.value)
    assert estate.cluster.writes() == []


def test_a_run_killed_at_its_very_end_runs_no_hook_again(tmp_path: Path) -> None:
    """Applications that the killed run had finished are looked over, their hooks stay as they were."""
    estate = Estate()
    assert run(estate, request(tmp_path)).ok
    assert run(estate, request(tmp_path, resume=True)).ok
    assert estate.made("jobs") == ["migrate"]


def test_a_server_that_stays_away_ends_the_stage_by_name() -> None:
    """Patience over, the report names the stage and the server's last words."""
    estate = Estate()
    estate.cluster.fail(FAULTS["500"](), times=5_000, resource="customresourcedefinitions")
    report = run(estate, request(patience=60.0))
    assert report.stages[-1].stage is Stage.DEFINITIONS
    assert "InternalError" in report.stages[-1].message
    assert 60 <= estate.clock.monotonic() < 120


def test_until_stops_after_its_stage() -> None:
    """`until` leaves the applications alone."""
    estate = Estate()
    report = run(estate, request(until=Stage.CONTROLLERS))
    assert report.ok
    assert report.stages[-1].stage is Stage.CONTROLLERS
    assert not [entry for entry in estate.cluster.writes() if entry.resource == "applications"]
