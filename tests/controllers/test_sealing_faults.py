"""The sealing part under faults: an API server that refuses or forgets, processes that die, leases that are lost."""

from __future__ import annotations

import base64
import datetime as dt
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from controllers.fence import ClusterReplaced, Fence
from controllers.leader import Fenced, NotLeading
from controllers.loop import Loop, Runtime
from controllers.sealed_secrets import Doing, SealedSecrets
from controllers.sealing_keys import CERTIFICATE_CONFIG_MAP, SELECTOR, KeyPolicy, Keys, Renewal, published
from controllers.sealing_parts import build
from secretsops.clock import SystemClock
from secretsops.errors import (
    ApiError,
    Conflict,
    NotFound,
    SecretsOpsError,
    ServerFailure,
    TooManyRequests,
    Unreachable,
)
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.sealing.certificate import read_certificate
from secretsops.sealing.keys import KEY_LABEL, KeyRing, generate, key_secret
from secretsops.sealing.sealed import SEALED_SECRET, SECRET, Wishes, seal_secret
from tests.controllers.test_sealed_secrets import KEY, PLACE, Memory, sealed_body
from tests.controllers.wiretap import until
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster, Request

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
OLD = generate(now=NOW - dt.timedelta(days=31), bits=2048)
POOL = [generate(now=NOW, bits=2048) for _ in range(3)]
CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")


def api_server() -> FakeCluster:
    cluster = FakeCluster(namespaces=["shop"])
    cluster.serve(SEALED_SECRET, "sealedsecrets")
    return cluster


def sealed(name: str, value: str, namespace: str = "shop") -> Manifest:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {"password": value},
    }
    return Manifest(seal_secret(secret, OLD.certificate.public, Wishes(), default_namespace=lambda: ""))


@contextmanager
def running(cluster: Any, **options: Any) -> Iterator[Loop]:
    """Run the sealing part in its loop, without an election."""
    doors: Any = None
    given = {"key_renew_period": 0.0, "key_size": 2048, **options}
    runtime = Runtime(cluster=cluster, clock=SystemClock(), doors=doors, namespace="kube-system", options=given)
    loop = Loop(runtime, build(runtime), None)
    loop.start()
    try:
        yield loop
    finally:
        assert loop.stop(20)


def value(cluster: FakeCluster, name: str) -> str:
    try:
        return base64.b64decode(cluster.get(SECRET, name, "shop").body["data"]["password"]).decode()
    except NotFound:
        return ""


# --- an API server in trouble ------------------------------------------------------------------------------

TROUBLE: list[Callable[[], ApiError]] = [
    lambda: TooManyRequests("slow down", code=429, retry_after=0.1),
    lambda: ServerFailure("internal error", code=500),
    lambda: Unreachable("no answer"),
    lambda: Conflict("stale", code=409),
]


@pytest.mark.parametrize("seed", range(4))
def test_every_secret_comes_true_however_often_requests_fail(seed: int) -> None:
    """A third of all writes fails, before or after it took effect; nothing is lost, doubled or left saying False."""
    cluster, chance = api_server(), random.Random(seed)
    cluster.create(Manifest(key_secret(OLD, namespace="kube-system")))
    for _ in range(12):
        cluster.fail(chance.choice(TROUBLE)(), verb=chance.choice(["create", "patch"]), after=chance.random() < 0.5)
    with running(cluster):
        for number in range(20):
            while True:
                try:
                    cluster.create(sealed(f"app-{number}", f"value-{number}"))
                    break
                except (ApiError, SecretsOpsError) as error:
                    if error.reason == "AlreadyExists":
                        break
        until(lambda: all(value(cluster, f"app-{n}") == f"value-{n}" for n in range(20)), "every Secret", 30)

        def synced() -> bool:
            found = cluster.list(SEALED_SECRET, namespace="shop")
            return all((each.status.get("conditions") or [{}])[0].get("status") == "True" for each in found)

        until(synced, "every status", 30)
    assert len(cluster.list(SECRET, namespace="kube-system", label_selector=SELECTOR)) == 1


def test_a_watch_that_was_forgotten_loses_nothing() -> None:
    """410 while objects come, change and go: what is there in the end is right."""
    cluster = api_server()
    cluster.create(Manifest(key_secret(OLD, namespace="kube-system")))
    with running(cluster):
        cluster.create(sealed("stays", "one"))
        until(lambda: value(cluster, "stays") == "one", "the first Secret")
        cluster.compact()
        cluster.delete(SECRET, "stays", namespace="shop")
        cluster.create(sealed("new", "two"))
        cluster.compact()
        until(lambda: (value(cluster, "stays"), value(cluster, "new")) == ("one", "two"), "both Secrets", 30)


def test_trouble_of_the_api_server_is_not_told_as_trouble_of_the_object() -> None:
    """Two failures in a row leave status as it was; a third one is said. A conflict never is."""
    cluster = Memory()
    cluster.put(sealed_body())
    spine = SealedSecrets(cluster, lambda: KeyRing([KEY]), cluster.emit, clock=cluster)  # type: ignore[arg-type]
    make = cluster.create

    def refuse(*_: Any, **__: Any) -> Manifest:
        raise ServerFailure("failed calling webhook", code=500)

    cluster.create = refuse  # type: ignore[method-assign]
    for expected in ([], [], ["False"]):
        with pytest.raises(ServerFailure):
            spine.reconcile(PLACE)
        conditions = (cluster.sealed().get("status") or {}).get("conditions") or []
        assert [each["status"] for each in conditions] == expected
    cluster.create = make  # type: ignore[method-assign]
    assert spine.reconcile(PLACE) == "created"
    assert cluster.condition()["status"] == "True"


def test_a_certificate_that_was_written_over_is_put_right_within_a_minute() -> None:
    """A late write of the leader before us, or a person: clients must not seal with another key for long."""
    cluster, clock = api_server(), FakeClock(NOW)
    cluster.create(Manifest(key_secret(POOL[0], namespace="kube-system")))
    renewal = Renewal(cluster, Keys(_policy()), clock)
    renewal._keys.load(cluster.list(SECRET, namespace="kube-system", label_selector=SELECTOR))

    def applied() -> int:
        return sum(each.verb == "apply" for each in asked)

    asked: list[Request] = []
    cluster.on_request = asked.append
    for _ in range(5):
        clock.sleep(renewal.look())
    assert applied() == 1, "nothing is written while it is right"
    patch = {"data": {"tls.crt": OLD.certificate.pem.decode()}}
    cluster.patch(CONFIG_MAP, CERTIFICATE_CONFIG_MAP, patch, namespace="kube-system")
    clock.sleep(60)
    renewal.look()
    assert published(cluster, _policy()) == POOL[0].certificate.pem


# --- the lease ---------------------------------------------------------------------------------------------


def test_a_lease_lost_while_opening_writes_nothing() -> None:
    """Opening takes its time; the write that follows asks again. Once we lead again it is done."""
    cluster, leads = Memory(), [True]
    cluster.put(sealed_body())

    def ring() -> KeyRing:
        leads[0] = False  # it runs out while we open
        return KeyRing([KEY])

    door: Any = Fenced(cluster, lambda: leads[0])
    spine = SealedSecrets(door, ring, cluster.emit, clock=cluster)
    with pytest.raises(NotLeading):
        spine.reconcile(PLACE)
    assert (cluster.writes, cluster.events) == ([], [])
    again = SealedSecrets(cluster, lambda: KeyRing([KEY]), cluster.emit, clock=cluster)  # type: ignore[arg-type]
    assert again.reconcile(PLACE) == "created"


def test_a_cluster_that_was_replaced_deletes_no_secret_of_a_sealed_secret() -> None:
    """`--old-gc-behavior` waits while the fence is up, and is made up for once it is down."""
    cluster, fence = api_server(), Fence()
    cluster.create(Manifest(key_secret(OLD, namespace="kube-system")))
    door: Any = Fenced(cluster, lambda: True, fence)
    spine = SealedSecrets(door, lambda: KeyRing([OLD]), lambda *_: None, doing=Doing(old_gc=True))
    made = cluster.create(sealed("app", "value"))
    assert spine.reconcile(made.key) == "created"
    left = cluster.get(SECRET, "app", "shop")
    cluster.delete(SEALED_SECRET, "app", namespace="shop")
    # Not collected yet: the API server's garbage collector takes its time.
    kept = {name: left.metadata[name] for name in ("name", "namespace", "ownerReferences")}
    cluster.create(Manifest({**left.body, "metadata": kept}))
    fence.why = "claim 2 is of another incarnation"
    with pytest.raises(ClusterReplaced):
        spine.reconcile(made.key)
    assert value(cluster, "app") == "value"
    fence.why = ""
    assert spine.reconcile(made.key) == "gone"
    assert value(cluster, "app") == ""


def test_a_leader_that_lost_its_lease_writes_nothing_any_more() -> None:
    """The whole part at work, objects and keys coming and going: from the moment on nothing is written, all is read."""
    cluster, leads = api_server(), [True]
    cluster.create(Manifest(key_secret(OLD, namespace="kube-system")))
    door: Any = Fenced(cluster, lambda: leads[0])
    ours = threading.local()
    written: list[Request] = []

    def record(request: Request) -> None:
        if request.verb not in ("get", "list", "watch") and not getattr(ours, "test", False):
            written.append(request)

    with running(door, key_renew_period=3600.0):
        ours.test = True
        for number in range(10):
            cluster.create(sealed(f"app-{number}", "v"))
        until(lambda: all(value(cluster, f"app-{n}") for n in range(10)), "every Secret")
        leads[0] = False
        time.sleep(0.2)  # what was on its way has arrived
        cluster.on_request = record
        for number in range(10, 20):
            cluster.create(sealed(f"app-{number}", "v"))
        for number in range(5):
            cluster.delete(SECRET, f"app-{number}", namespace="shop")
        cluster.create(Manifest(key_secret(POOL[0], namespace="kube-system", name="newer")))
        time.sleep(1.0)
        assert written == []
        leads[0] = True
        until(lambda: all(value(cluster, f"app-{n}") for n in range(20)), "every Secret, once it leads again", 30)
    assert written


# --- processes that die ------------------------------------------------------------------------------------


class Killed(BaseException):
    """kill -9: nothing of ours runs after it."""


def _policy() -> KeyPolicy:
    return KeyPolicy(namespace="kube-system", bits=2048, settle=0.0)


@pytest.mark.parametrize("seed", range(100))
def test_a_process_killed_at_any_write_of_a_renewal_leaves_one_successor(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before or after any write, several in a row, two at once: one new key, and its certificate is served."""
    monkeypatch.setattr("controllers.sealing_keys.generate", lambda **_: random.choice(POOL))
    cluster, chance = api_server(), random.Random(seed)
    cluster.create(Manifest(key_secret(OLD, namespace="kube-system", name="sealed-secrets-key0")))

    def one_life(fatal: int, *, after: bool) -> bool:
        """Run one process until its `fatal`-th write; says whether it outlived it."""
        left = [fatal]

        class Door:
            def __getattr__(self, name: str) -> Any:
                found = getattr(cluster, name)
                if name not in ("create", "apply"):
                    return found

                def write(*given: Any, **options: Any) -> Any:
                    left[0] -= 1
                    if left[0] == 0 and not after:
                        raise Killed
                    answer = found(*given, **options)
                    if left[0] == 0:
                        raise Killed
                    return answer

                return write

        renewal = Renewal(Door(), Keys(_policy()), SystemClock())
        renewal._keys.load(cluster.list(SECRET, namespace="kube-system", label_selector=SELECTOR))
        try:
            renewal.look()
        except Killed:
            return False
        return True

    deaths = [(chance.randint(1, 3), chance.random() < 0.5) for _ in range(chance.randint(1, 4))]
    for fatal, after in deaths:
        threads = [threading.Thread(target=one_life, args=(fatal,), kwargs={"after": after}) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert one_life(99, after=False)
    keys = cluster.list(SECRET, namespace="kube-system", label_selector=SELECTOR)
    assert len(keys) == 2, [key.name for key in keys]
    newest = next(key for key in keys if key.name != "sealed-secrets-key0")
    served = cluster.get(CONFIG_MAP, CERTIFICATE_CONFIG_MAP, "kube-system").body["data"]
    assert base64.b64decode(newest.body["data"]["tls.crt"]).decode() == served["tls.crt"]


# --- objects that are not as they should be ------------------------------------------------------------------


def test_a_broken_key_secret_and_a_broken_object_stop_nothing() -> None:
    """#505, and the panic on a labelled Secret without certificate: one is left out, everything else goes on."""
    cluster = api_server()
    cluster.create(Manifest(key_secret(OLD, namespace="kube-system")))
    bad = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"tls.key": "bm8="}}
    place = {"name": "bad", "namespace": "kube-system", "labels": {KEY_LABEL: "active"}}
    cluster.create(Manifest({**bad, "metadata": place}))
    for name, spec in (
        ("number", {"encryptedData": {"a": 3}}),
        ("list", {"encryptedData": ["a"]}),
        ("template", {"encryptedData": {}, "template": "text"}),
        ("none", {}),
    ):
        metadata = {"name": name, "namespace": "shop"}
        body = {"apiVersion": SEALED_SECRET.api_version, "kind": "SealedSecret", "metadata": metadata, "spec": spec}
        cluster.create(Manifest(body))
    with running(cluster):
        cluster.create(sealed("good", "value"))
        until(lambda: value(cluster, "good") == "value", "the good one")

        def told(name: str) -> str:
            conditions = cluster.get(SEALED_SECRET, name, "shop").status.get("conditions") or [{}]
            return str(conditions[0].get("status"))

        until(lambda: [told(name) for name in ("number", "list", "template")] == ["False"] * 3, "their statuses")


@pytest.mark.parametrize("size", [900 * 1024])
def test_a_secret_of_nearly_a_mebibyte_passes(size: int) -> None:
    """And is neither kept in memory nor opened twice."""
    cluster = api_server()
    cluster.create(Manifest(key_secret(OLD, namespace="kube-system")))
    with running(cluster):
        cluster.create(sealed("big", "x" * size))
        until(lambda: len(value(cluster, "big")) == size, "the Secret")
        time.sleep(0.3)
        assert [each for each in cluster.writes() if each[1] == "secrets" and each[3] == "big"] == [
            ("create", "secrets", "shop", "big")
        ]


def test_unchanged_objects_are_asked_for_never_again() -> None:
    """A restart lists and watches; it reads no object and writes nothing (upstream: two reads each)."""
    cluster = api_server()
    cluster.create(Manifest(key_secret(OLD, namespace="kube-system")))
    with running(cluster):
        for number in range(30):
            cluster.create(sealed(f"app-{number}", "v"))
        until(lambda: all(value(cluster, f"app-{n}") for n in range(30)), "every Secret")

        def synced() -> bool:
            return all(each.status.get("conditions") for each in cluster.list(SEALED_SECRET, namespace="shop"))

        until(synced, "every status")
        time.sleep(0.5)
    asked: list[Request] = []
    cluster.on_request = asked.append
    with running(cluster) as loop:
        until(lambda: 'outcome="unchanged",part="sealed-secrets"} 30' in loop.metrics.text(), "the passes")
    writes = {(each.verb, each.resource) for each in asked} - {("apply", "configmaps")}
    reads = [each for each in asked if each.verb == "get" and each.resource in ("secrets", "sealedsecrets")]
    assert {verb for verb, _ in writes} <= {"get", "list", "watch"}
    assert [each for each in reads if each.namespace == "shop"] == []


def test_the_certificate_is_that_of_the_newest_key() -> None:
    """Also right after a newer one was restored, and after it went."""
    cluster = api_server()
    cluster.create(Manifest(key_secret(OLD, namespace="kube-system", name="old")))
    new = generate(now=NOW - dt.timedelta(days=1), bits=2048)

    def served() -> str:
        try:
            text = cluster.get(CONFIG_MAP, CERTIFICATE_CONFIG_MAP, "kube-system").body["data"]["tls.crt"]
        except NotFound:
            return ""
        return read_certificate(text.encode()).fingerprint

    with running(cluster):
        until(lambda: served() == OLD.fingerprint, "the old certificate")
        cluster.create(Manifest(key_secret(new, namespace="kube-system", name="new")))
        until(lambda: served() == new.fingerprint, "the new certificate", 5)
        cluster.delete(SECRET, "new", namespace="kube-system")
        until(lambda: served() == OLD.fingerprint, "the old certificate again", 5)
