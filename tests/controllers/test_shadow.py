"""Next to a living peer nothing is written and nothing is minted (SECURITY.md §9)."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from controllers.leader import LEASE_NAME
from controllers.sealed_secrets import COMPARED, Doing, SealedSecrets
from controllers.sealing_keys import KeyPolicy, Keys, Renewal
from controllers.shadow import DEPLOYMENT, FRESH, WEEK, Adoption, Shadow
from secretsops.errors import Forbidden, Refused
from secretsops.manifest import Manifest
from secretsops.sealing.keys import KeyRing
from tests.controllers.test_sealed_secrets import KEY, NOW, OTHER, PLACE, Memory, foreign, sealed_body


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> dt.datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


class Workloads:
    """Deployments of a cluster, listed by label; `narrow` grants those of one namespace alone."""

    def __init__(self, *bodies: dict[str, Any], narrow: bool = False) -> None:
        self.bodies, self.narrow = list(bodies), narrow

    def list(self, kind: object, *, namespace: str = "", label_selector: str = "") -> list[Manifest]:
        assert kind == DEPLOYMENT
        if self.narrow and not namespace:
            raise Forbidden("no")
        key, _, value = label_selector.partition("=")
        found = [Manifest(body) for body in self.bodies]
        return [each for each in found if each.labels.get(key) == value and namespace in ("", each.namespace)]


def deployment(image: str, *, namespace: str = "kube-system", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "peer", "namespace": namespace, "labels": {"app.kubernetes.io/name": "sealed-secrets"}},
        "spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}, **spec},
    }


PEER_IMAGE = "docker.io/bitnami/sealed-secrets-controller:0.38.4"


@pytest.mark.parametrize(
    ("workloads", "seen"),
    [
        (Workloads(), False),
        (Workloads(deployment(PEER_IMAGE)), True),
        (Workloads(deployment(f"{PEER_IMAGE}@sha256:{'0' * 64}", namespace="elsewhere")), True),
        (Workloads(deployment(PEER_IMAGE, replicas=0)), False),
        (Workloads(deployment("registry.example:5000/secretsops/controller:1")), False),
        (Workloads(deployment(PEER_IMAGE), narrow=True), True),
        (Workloads(deployment(PEER_IMAGE, namespace="elsewhere"), narrow=True), False),
    ],
)
def test_a_peer_is_seen_by_its_workload(workloads: Workloads, seen: bool) -> None:
    """By chart label and image; scaled to nothing it is none, and our image under its chart is ours."""
    shadow = Shadow(workloads, Clock(), namespace="kube-system")  # type: ignore[arg-type]
    assert bool(shadow.why()) is seen


def test_a_peer_is_seen_by_a_fresh_mark() -> None:
    """A status that the peer's field manager wrote in the last minutes, wherever it runs."""
    clock = Clock()
    shadow = Shadow(Workloads(), clock, namespace="kube-system")  # type: ignore[arg-type]
    entry = {"manager": "controller", "operation": "Update", "subresource": "status", "time": "2026-12-31T23:59:00Z"}
    shadow.mark(Manifest({"metadata": {"managedFields": [{**entry, "manager": "kubectl"}, "junk", entry]}}))
    assert "field manager" in shadow.why()
    clock.at += FRESH
    shadow.look()
    assert shadow.why() == ""


def test_beside_a_peer_a_pass_compares_and_writes_nothing() -> None:
    """Neither Secret nor status nor event; what would be done is counted. Without the peer it is done."""
    cluster, why = Memory(), ["a peer"]
    cluster.put(sealed_body())
    doing = Doing(held_back=lambda: why[0])
    spine = SealedSecrets(cluster, lambda: KeyRing([KEY]), cluster.emit, doing=doing, clock=cluster)  # type: ignore[arg-type]
    assert spine.reconcile(PLACE) == COMPARED
    assert spine.compared() == {"create": 1.0}
    assert (cluster.writes, cluster.events) == ([], [])
    closed = SealedSecrets(cluster, lambda: KeyRing([OTHER]), cluster.emit, doing=doing, clock=cluster)  # type: ignore[arg-type]
    assert closed.reconcile(PLACE) == COMPARED
    assert closed.compared() == {"closed": 1.0}
    assert (cluster.writes, cluster.events) == ([], [])
    why[0] = ""
    assert spine.reconcile(PLACE) == "created"


def test_beside_a_peer_no_key_is_minted() -> None:
    """Not even the first, and not when somebody asks."""
    renewal = Renewal(None, Keys(KeyPolicy(namespace="n")), Clock(), held_back=lambda: "a peer")  # type: ignore[arg-type]
    renewal.ask()
    assert renewal.look() > 0


def test_what_the_peer_made_is_healed_after_a_week_only() -> None:
    """Drift is reported; a change of the SealedSecret is carried out at once."""
    cluster, over = Memory(), [False]
    cluster.put(sealed_body())
    doing = Doing(acknowledged=lambda: over[0])
    spine = SealedSecrets(cluster, lambda: KeyRing([KEY]), cluster.emit, doing=doing, clock=cluster)  # type: ignore[arg-type]
    assert spine.reconcile(PLACE) == "created"
    live = cluster.secret()
    live["metadata"]["managedFields"] = [{"manager": "controller"}]
    live["data"]["user"] = "aGFuZA=="
    with pytest.raises(Refused) as caught:
        spine.reconcile(PLACE)
    assert caught.value.reason == "Adopted"
    assert cluster.secret()["data"]["user"] == "aGFuZA=="
    over[0] = True
    cluster.sealed()["status"]["conditions"][0]["status"] = "True"
    assert spine.reconcile(PLACE) == "updated"
    over[0] = False
    cluster.put(foreign())
    cluster.secret()["metadata"]["managedFields"] = [{"manager": "controller"}]
    cluster.secret()["metadata"]["ownerReferences"] = [{"uid": "owner", "controller": True}]
    cluster.sealed()["metadata"]["generation"] = 2
    assert spine.reconcile(PLACE) == "updated"


def test_the_week_begins_with_our_lease() -> None:
    """It is made once; a restart does not begin it anew."""
    cluster, clock = Memory(), Clock()
    adoption = Adoption(cluster, clock, namespace="home")  # type: ignore[arg-type]
    assert not adoption.is_over()
    cluster.put(
        {"kind": "Lease", "metadata": {"name": LEASE_NAME, "namespace": "home", "creationTimestamp": NOW.isoformat()}}
    )
    assert not adoption.is_over()
    clock.at = NOW + WEEK + dt.timedelta(seconds=1)
    assert adoption.is_over()
