"""Held back until a person says so; stage 0 and 5; who runs. On fakes, with every answer an API server may give."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from recovery.bootstrap import rebuild
from recovery.data import DataStep, failed, lacks
from recovery.events import Stage, Waiting
from recovery.golive import Live, go_live
from recovery.held import held
from recovery.rebuild_report import Report
from recovery.recovery_plan import read_recovery_plan
from recovery.request import RebuildRequest
from recovery.runner import LEASE, NAME, NAMESPACE, running, take
from secretsops.errors import BrokenEscrow, InvalidManifest, Refused, SecretsOpsError
from secretsops.manifest import GroupVersionKind, Manifest, load_all
from secretsops.ports import Answer, Cluster
from tests.fakes.cluster import FakeCluster
from tests.recovery.estates import FILES, Estate
from tests.recovery.test_sync import FAULTS

CRON = GroupVersionKind("batch", "v1", "CronJob")
DEPLOYMENT = GroupVersionKind("apps", "v1", "Deployment")
PUSH = GroupVersionKind("external-secrets.io", "v1alpha1", "PushSecret")


def pods(image: str, *command: str) -> dict[str, Any]:
    return {"template": {"spec": {"containers": [{"name": "a", "image": image, "command": list(command)}]}}}


def thing(kind: GroupVersionKind, name: str, spec: dict[str, Any], **annotations: str) -> Manifest:
    metadata = {"name": name, "annotations": {f"secretsops.dev/{key}": value for key, value in annotations.items()}}
    return Manifest({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec})


@pytest.mark.parametrize(
    ("manifest", "field", "after"),
    [
        (thing(CRON, "night", {"schedule": "0 0 * * *"}), "spec.suspend", "true"),
        (thing(CRON, "night", {"suspend": True}), "", ""),
        (thing(CRON, "night", {"schedule": "0 0 * * *"}, hold="false"), "", ""),
        (thing(DEPLOYMENT, "dns", pods("registry.k8s.io/external-dns/external-dns:v0.19")), "spec.replicas", "0"),
        (
            thing(DEPLOYMENT, "n", pods("quay.io/argoproj/argocd:v3.6", "/bin/argocd-notifications")),
            "spec.replicas",
            "0",
        ),
        (thing(DEPLOYMENT, "web", pods("example.com/web")), "", ""),
        (thing(DEPLOYMENT, "mail", {"replicas": 3, **pods("example.com/mail")}, hold="true"), "spec.replicas", "0"),
        (thing(DEPLOYMENT, "mail", {"replicas": 0, **pods("example.com/mail")}, hold="true"), "", ""),
        (thing(PUSH, "up", {}), "", "left out"),
        (thing(GroupVersionKind("", "v1", "ConfigMap"), "c", {}, hold="true"), "", "left out"),
    ],
)
def test_what_acts_on_the_outside_is_held(manifest: Manifest, field: str, after: str) -> None:
    """By kind, by program, by annotation; told with the reason; what lives already is spared."""
    found, changes = held(manifest, frozenset())
    assert [(change.field, change.after, change.held) for change in changes] == (
        [(field, after, True)] if after else []
    )
    assert all(change.reason.startswith("held until go-live: ") for change in changes)
    assert (found == manifest) is not bool(after)
    assert held(manifest, frozenset({str(manifest.key)})) == (manifest, [])


OUTWARD = {
    **FILES,
    "shop/night.yaml": json.dumps(thing(CRON, "night", {"schedule": "0 0 * * *"}).body),
    "shop/mail.yaml": json.dumps(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "mail", "annotations": {"secretsops.dev/hold": "true"}},
        }
    ),
}


def outward() -> Estate:
    estate = Estate(OUTWARD)
    estate.cluster.serve(CRON, "cronjobs")
    return estate


def request(journal: Path | None, **changes: Any) -> RebuildRequest:
    settings = {"roots": load_all(FILES["root.yaml"].encode()), "parallel": 1, "hold": True, "journal": journal}
    return RebuildRequest(**{**settings, **changes})


def run(estate: Estate, wanted: RebuildRequest, observer: Any = None) -> Report:
    return rebuild(
        wanted,
        cluster=estate.cluster,
        git=estate.git,
        renderer=estate.renderer,
        clock=estate.clock,
        observer=observer,
    )


def let_go(estate: Estate, wanted: RebuildRequest) -> Live:
    return go_live(wanted, cluster=estate.cluster, git=estate.git, renderer=estate.renderer, clock=estate.clock)


def stand(estate: Estate) -> tuple[Any, bool]:
    """Give whether the CronJob is suspended, and whether the held ConfigMap is there."""
    cron = estate.cluster.get(CRON, "night", "shop").spec.get("suspend")
    maps = [m.name for m in estate.cluster.list(GroupVersionKind("", "v1", "ConfigMap"), namespace="shop")]
    return cron, "mail" in maps


def test_a_rebuild_holds_back_and_go_live_lets_go_once(tmp_path: Path) -> None:
    """The gate is green with things held; only then may they go; a second call finds nothing to do."""
    estate = outward()
    wanted = request(tmp_path)
    with pytest.raises(Refused, match="no run held"):
        let_go(estate, wanted)
    assert estate.cluster.writes() == []
    report = run(estate, wanted)
    assert report.ok, [entry.message for entry in report.stages]
    assert "2 object(s) are held back until `secretsops recover go-live`" in report.notes
    assert stand(estate) == (True, False)
    found = let_go(estate, wanted)
    assert found.released == ["ConfigMap shop/mail", "batch/CronJob shop/night"]
    assert stand(estate) == (None, True)
    writes = len(estate.cluster.writes())
    again = let_go(estate, wanted)
    assert (again.released, sorted(again.before)) == ([], sorted(found.released))
    assert len(estate.cluster.writes()) == writes
    live = estate.cluster.get(CRON, "night", "shop")
    assert live.spec == {"schedule": "0 0 * * *"}, "what was let go is not what Git says"
    assert "argocd.argoproj.io/tracking-id" in live.annotations


def test_what_lives_already_is_not_stopped(tmp_path: Path) -> None:
    """Argo CD is lost, the cluster is not: its CronJob goes on; a killed run's own is not taken for one of those."""
    estate = outward()
    estate.cluster.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}))
    cron = Manifest(json.loads(OUTWARD["shop/night.yaml"]))
    alive = estate.cluster.create(Manifest({**cron.body, "metadata": {**cron.metadata, "namespace": "shop"}}))
    ran = {"lastScheduleTime": "2026-01-01T00:00:00Z", "lastSuccessfulTime": "2026-01-01T00:00:09Z"}
    estate.cluster.replace(Manifest({**alive.body, "status": ran}), subresource="status")
    report = run(estate, request(tmp_path / "adopt"))
    assert report.ok, [entry.message for entry in report.stages]
    assert stand(estate) == (None, False)
    assert "1 object(s) are held back until `secretsops recover go-live`" in report.notes
    fresh = outward()
    assert run(fresh, request(tmp_path / "killed")).ok
    assert run(fresh, request(tmp_path / "killed", resume=True)).ok
    assert stand(fresh) == (True, False)


@pytest.mark.parametrize("fault", FAULTS)
def test_go_live_survives_or_names_one_bad_answer_anywhere(fault: str, tmp_path: Path) -> None:
    """Called once more it ends as undisturbed: nothing is lost between the journal and the cluster."""
    undisturbed = outward()
    run(undisturbed, request(tmp_path / "u"))
    before = len(undisturbed.cluster.log)
    let_go(undisturbed, request(tmp_path / "u"))
    for position in range(len(undisturbed.cluster.log) - before):
        estate, folder = outward(), tmp_path / str(position)
        assert run(estate, request(folder)).ok
        estate.cluster.fail(FAULTS[fault](), skip=position)
        try:
            let_go(estate, request(folder))
        except SecretsOpsError:
            let_go(estate, request(folder))
        assert stand(estate) == (None, True), position
        assert estate.state() == undisturbed.state(), position


def test_nothing_goes_live_before_its_end_or_unfenced(tmp_path: Path) -> None:
    """An unfinished run, and one that fenced nobody, are refused by name; a reason or a claim lets them."""
    estate = outward()
    assert run(estate, request(tmp_path, until=Stage.DATA, unfenced="no way to a sink")).ok
    with pytest.raises(Refused) as caught:
        let_go(estate, request(tmp_path))
    assert caught.value.reason == "NotRebuilt"
    report = run(estate, request(tmp_path, resume=True, unfenced="no way to a sink"))
    assert "the lost cluster was not fenced: no way to a sink" in report.notes
    with pytest.raises(Refused) as caught:
        let_go(estate, request(tmp_path))
    assert caught.value.reason == "NotFenced"
    assert stand(estate) == (True, False)
    assert let_go(estate, request(tmp_path, prove=lambda _cluster: ["claimed"])).notes == ["claimed"]
    assert stand(estate) == (None, True)


# --- stage 0 -------------------------------------------------------------------------------------------


def test_stage_0_comes_before_the_first_write() -> None:
    """A claim that somebody else has, or a clock that is off, leaves the cluster untouched."""
    estate = Estate()

    def lost(_cluster: Cluster) -> list[str]:
        raise BrokenEscrow("another rebuild has claim 2", reason="ClaimLost")

    report = run(estate, request(None, prove=lost))
    assert [(entry.stage, entry.ok) for entry in report.stages] == [(Stage.TRUST, False)]
    assert "ClaimLost" in report.stages[0].message
    assert estate.cluster.writes() == []
    late = (estate.clock.now() + dt.timedelta(seconds=90)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    estate.cluster.answers["GET", "/version"] = Answer(code=200, headers={"Date": late}, body=b"{}")
    report = run(estate, request(None))
    assert "ClockSkew" in report.stages[0].message
    assert estate.cluster.writes() == []


def test_the_second_person_is_told_who_runs() -> None:
    """By name and since when; the first goes on; one that died lets go by itself, its own person comes back at once."""
    cluster, estate = FakeCluster(namespaces=["kube-system"]), Estate()
    clock = estate.clock
    with running(cluster, "ada@desk", clock):
        with (
            pytest.raises(Refused, match="ada@desk rebuilds this cluster since") as caught,
            running(cluster, "ben@lap", clock),
        ):
            pass
        assert caught.value.reason == "RunInProgress"
        take(cluster, "ada@desk", clock.now())
    assert [m.name for m in cluster.list(LEASE, namespace=NAMESPACE)] == []
    take(cluster, "ada@desk", clock.now())
    take(cluster, "ada@desk", clock.now())
    clock.sleep(61)
    take(cluster, "ben@lap", clock.now())
    assert cluster.get(LEASE, NAME, NAMESPACE).spec["holderIdentity"] == "ben@lap"
    with running(cluster, "", clock):
        pass


# --- stage 5 -------------------------------------------------------------------------------------------

RESTORE = DataStep(
    name="shop", object="velero.io/Restore/velero/shop", command="velero restore create shop", deadline="10m"
)


def live(api: str, kind: str, status: dict[str, Any], spec: dict[str, Any] | None = None) -> Manifest:
    return Manifest({"apiVersion": api, "kind": kind, "metadata": {"name": "x"}, "spec": spec or {}, "status": status})


VOLSYNC, CNPG = ("volsync.backube/v1alpha1", "ReplicationDestination"), ("postgresql.cnpg.io/v1", "Cluster")
OTHER, FINE = ("a.example/v1", "Other"), {"phase": "Cluster in healthy state"}
RECOVERED = {"bootstrap": {"recovery": {"source": "backup"}}}


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (None, "does not exist yet"),
        (live("v1", "PersistentVolumeClaim", {"phase": "Bound"}), ""),
        (live("v1", "PersistentVolumeClaim", {}), "is Pending"),
        (live("velero.io/v1", "Restore", {"phase": "Completed"}), ""),
        (live("velero.io/v1", "Restore", {"phase": "InProgress"}), "is InProgress"),
        (live(*VOLSYNC, {"lastSyncTime": "x"}), ""),
        (
            live(
                "volsync.backube/v1alpha1",
                "ReplicationDestination",
                {"lastSyncTime": "x", "latestMoverStatus": {"result": "Failed"}},
            ),
            "has not synced (Failed)",
        ),
        (live(*CNPG, FINE, RECOVERED), ""),
        (
            live(*CNPG, FINE),
            "was not made by recovery: its data is new",
        ),
        (live(*OTHER, {"conditions": [{"type": "Ready", "status": "True"}]}), ""),
        (
            live(*OTHER, {"conditions": [{"type": "Ready", "status": "False", "reason": "No"}]}),
            "has Ready not True (No)",
        ),
        (live(*OTHER, {}), "has no condition Ready yet"),
    ],
)
def test_data_is_done_by_its_operators_own_words(found: Manifest | None, problem: str) -> None:
    """A database that initialised itself is not a restored one."""
    assert lacks(RESTORE, found) == problem


def _restores(estate: Estate, phase: str) -> None:
    kind = GroupVersionKind("velero.io", "v1", "Restore")
    estate.cluster.serve(kind, "restores")
    body = {"apiVersion": "velero.io/v1", "kind": "Restore", "metadata": {"name": "shop", "namespace": "velero"}}
    estate.cluster.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "velero"}}))
    estate.cluster.create(Manifest(body))
    estate.cluster.replace(
        Manifest({**estate.cluster.get(kind, "shop", "velero").body, "status": {"phase": phase}}), subresource="status"
    )


@pytest.mark.parametrize(
    ("phase", "ok", "said"),
    [
        ("Completed", True, ""),
        ("InProgress", False, "velero restore create shop"),
        ("PartiallyFailed", False, "ended as PartiallyFailed"),
    ],
)
def test_no_application_starts_before_its_data(phase: str, ok: bool, said: str) -> None:
    """It waits to the entry's own deadline, names object, state and command; a failed restore ends it at once."""
    estate = Estate()
    _restores(estate, phase)
    before, told = estate.clock.monotonic(), []

    class Seen:
        def event(self, event: Any) -> None:
            told.append(event)

    report = run(estate, request(None, data=[RESTORE]), Seen())
    assert report.ok is ok
    last = report.stages[-1]
    if not ok:
        assert (last.stage, said in last.message) == (Stage.DATA, True), last.message
        assert not [entry for entry in estate.cluster.writes() if entry.resource == "applications"]
    if phase == "InProgress":
        assert 600 <= estate.clock.monotonic() - before < 660
        assert any("run: velero restore create shop" in r for e in told if isinstance(e, Waiting) for r in e.reasons)


def test_data_stands_in_recovery_yaml() -> None:
    """Strictly read: no object, no time."""
    head = (
        "apiVersion: secretsops.dev/v1\nkind: RecoveryPlan\nspec:\n  data: [{name: shop, object: %s, deadline: %s}]\n"
    )
    plan = read_recovery_plan((head % ("velero.io/Restore/velero/shop", "30m")).encode())
    assert (plan.data[0].seconds, plan.data[0].key.namespace) == (1800.0, "velero")
    for wrong in (("nothing", "30m"), ("velero.io/Restore/velero/shop", "soon")):
        with pytest.raises(InvalidManifest):
            read_recovery_plan((head % wrong).encode())


def test_a_failed_restore_is_told_from_one_that_works() -> None:
    """Others are never given up early."""
    assert failed(live("velero.io/v1", "Restore", {"phase": "FailedValidation"}))
    assert not failed(live("velero.io/v1", "Restore", {"phase": "New"}))
    assert not failed(None)
