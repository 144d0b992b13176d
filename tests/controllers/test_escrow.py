"""Escrow before use: killed at any write, with sinks away, lying or weak, no key is ever served without its receipt."""

from __future__ import annotations

import base64
import datetime as dt
import random
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from controllers import claims, sealing_keys
from controllers.claims import CONFIG_MAP, CONFIGURATION
from controllers.escrow import KeyEscrow
from controllers.fence import Fence
from controllers.sealing_keys import KeyPolicy, Keys, Renewal, held
from secretsops.escrow import backup, bundle, custody, receipt
from secretsops.escrow import trust as roots
from secretsops.escrow.bundle import PENDING
from secretsops.escrow.config import Policy
from secretsops.escrow.places import Escrow
from secretsops.escrow.signing import new_signer
from secretsops.escrow.survey import look
from secretsops.manifest import Manifest
from secretsops.ports import PatchType, SinkAccess
from secretsops.sealing.keys import ACTIVE, KEY_LABEL, KeyPair, KeyState, generate, issue, key_secret
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster
from tests.fakes.sink import FakeSink
from tests.secretsops.escrow import worlds
from tests.secretsops.escrow.worlds import AGE, CLAIMER, IDENTITY, PIN, RECIPIENT, VERSIONS, opening, reading

SECRET = backup.SECRET
HOME = "kube-system"
PERIOD = 30 * 86400.0
POLICY = KeyPolicy(namespace=HOME, bits=2048, renew_every=PERIOD)
SIGNER, SIGNER_PEM = new_signer()
POOL = [generate(now=worlds.NOW, bits=2048).private for _ in range(6)]


class Killed(BaseException):
    """The process is gone."""


class Doom:
    """Kills at the n-th write, before or after it happened."""

    def __init__(self) -> None:
        self.left, self.after = -1, False

    def write(self, act: Any) -> Any:
        """Do a write, or die."""
        if self.left == 0 and not self.after:
            self.left = -1
            raise Killed
        done = act()
        if self.left == 0:
            self.left = -1
            raise Killed
        self.left -= self.left > 0
        return done


class MortalSink(FakeSink):
    """A sink during whose writes the process may die."""

    doom = Doom()

    def put(self, name: str, content: bytes) -> Any:
        return self.doom.write(lambda: super(MortalSink, self).put(name, content))


class MortalCluster(FakeCluster):
    """An API server during whose writes the process may die."""

    doom = Doom()
    mortal = False

    def _doomed(self, act: Any) -> Any:
        return self.doom.write(act) if self.mortal else act()

    def create(self, manifest: Manifest, **options: Any) -> Manifest:
        return self._doomed(lambda: super(MortalCluster, self).create(manifest, **options))  # type: ignore[no-any-return]

    def replace(self, manifest: Manifest, **options: Any) -> Manifest:
        return self._doomed(lambda: super(MortalCluster, self).replace(manifest, **options))  # type: ignore[no-any-return]

    def apply(self, manifest: Manifest, **options: Any) -> Manifest:
        return self._doomed(lambda: super(MortalCluster, self).apply(manifest, **options))  # type: ignore[no-any-return]


class Doors:
    """Sinks by URL; everything else is real."""

    def __init__(self, sinks: dict[str, FakeSink]) -> None:
        self._sinks = sinks

    def sink(self, place: str | SinkAccess) -> FakeSink:
        assert isinstance(place, SinkAccess)
        return self._sinks[place.url.removeprefix("fake://")]

    def age(self) -> Any:
        return AGE


def trust_file() -> bytes:
    """Give a root with the controller's signer of bundles and one of claims."""
    *before, newest = roots.successor(
        VERSIONS, add=[roots.Holder(name="controller", key=SIGNER.public, roles=("bundles", "evidence"))]
    )
    return roots.text([*before, roots.countersigned(newest, worlds.ROOT)])


TRUST = trust_file()


class World:
    """A cluster, its sinks, and a controller that can be started again."""

    def __init__(
        self, *, policy: str = "required", sinks: dict[str, FakeSink] | None = None, proven: bool = True
    ) -> None:
        self.cluster = MortalCluster()
        fresh: dict[str, FakeSink] = {name: MortalSink(name) for name in ("one", "two")}
        self.sinks = sinks if sinks is not None else fresh
        self.clock = FakeClock(worlds.NOW)
        self.checked: object = None
        if policy != "none":
            self.configure(policy)
        if proven:
            worlds.prove(self.escrow(), RECIPIENT, IDENTITY, now=self.clock.now())
        self.restart()

    def configure(self, policy: str = "required", *, home: tuple[str, ...] = ()) -> None:
        """Write the configuration, as `kubectl create secret generic --from-file` does."""
        config = {
            "apiVersion": "secretsops.dev/v1",
            "kind": "EscrowConfig",
            "cluster": "prod",
            "policy": policy,
            "trust": PIN,
            "home": list(home),
            "recipients": [RECIPIENT],
            "sinks": [
                {"name": name, "url": f"fake://{name}", "domain": f"office/{name}", "writer": "w", "reader": "r"}
                for name in self.sinks
            ],
        }
        files = {
            "escrow.yaml": yaml.safe_dump(config).encode(),
            "credentials.yaml": b"w: {token: writer}\nr: {token: reader}\n",
            "signer.key": SIGNER_PEM.reveal(),
            "trust.json": TRUST,
        }
        data = {name: base64.b64encode(content).decode() for name, content in files.items()}
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": CONFIGURATION, "namespace": HOME},
            "data": data,
        }
        self.cluster.seed(body)

    def escrow(self) -> Escrow:
        """Give the escrow as the command line sees it."""
        found = worlds.escrow(list(self.sinks.values()))
        return replace(found, signers=[SIGNER], versions=roots.read_versions(TRUST))

    def restart(self) -> None:
        """Start the controller anew: only the cluster and the sinks remember."""
        self.gate = KeyEscrow(
            self.cluster,
            self.clock,
            Doors(self.sinks),  # type: ignore[arg-type]
            namespace=HOME,
            legacy=POLICY.prefix,
        )
        self.gate.fetch()
        self.keys = Keys(POLICY, self.gate)
        self.renewal = Renewal(self.cluster, self.keys, self.clock)
        self.keys.load(held(self.cluster, POLICY))

    def run(self, seconds: float = 30.0) -> None:
        """Let the leader look now and then; key Secrets are seen as a watch shows them."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            self.keys.load(held(self.cluster, POLICY))
            wait = self.renewal.look()
            self.check()
            self.clock.sleep(min(wait, max(0.5, end - self.clock.monotonic())))

    def check(self) -> None:
        """What is served has its receipt in every sink; looked at where keys or sinks changed."""
        key = self.sealing()
        state = (key and key.fingerprint, [len(sink.files) for sink in self.sinks.values()])
        if state == self.checked:
            return
        self.checked = state
        if key is not None and self.gate.policy is Policy.REQUIRED:
            away = [sink for sink in self.sinks.values() if sink.away]
            for sink in away:
                sink.away = False
            assert self.is_escrowed(key.fingerprint), "a key is served that is not in the escrow"
            for sink in away:
                sink.away = True

    def is_escrowed(self, fingerprint: str) -> bool:
        """Say whether every sink holds, in a signed chain, an epoch with the key and the receipt of that epoch."""
        escrow = self.escrow()
        for place, sink in zip(escrow.places, self.sinks.values(), strict=True):
            survey = look(replace(reading(escrow), places=[place]))
            receipts = {name[:16] for name in sink.files if name.startswith("receipt-")}
            epochs = [entry for entry in survey.chain if f"receipt-{entry.epoch:08d}" in receipts]
            if not any(fingerprint == record.fingerprint for entry in epochs for record in entry.keys):
                return False
        return True

    def sealing(self) -> KeyPair | None:
        """Give the key that is served."""
        return self.keys.ring.sealing_key(self.clock.now())

    def labels(self) -> list[str]:
        """Give the labels of all key Secrets."""
        found = self.cluster.list(SECRET, namespace=HOME, label_selector=KEY_LABEL)
        return sorted(secret.labels[KEY_LABEL] for secret in found)

    def seed(self, pair: KeyPair, name: str, **labels: str) -> None:
        """Put a key Secret there by hand."""
        body = key_secret(pair, namespace=HOME, name=name)
        body["metadata"]["labels"] |= labels
        self.cluster.seed(body)


@pytest.fixture(autouse=True)
def _quick_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Minting takes RSA keys made beforehand."""
    numbers = iter(range(10_000))

    def quick(*, now: dt.datetime, bits: int, ttl: dt.timedelta, common_name: str) -> KeyPair:
        assert bits == 2048
        return issue(POOL[next(numbers) % len(POOL)], now=now, ttl=ttl, common_name=common_name)

    monkeypatch.setattr(sealing_keys, "generate", quick)
    yield
    MortalCluster.mortal = False


def test_the_first_key_is_used_once_it_is_escrowed() -> None:
    """Pending first, then active with its receipt; the bundle opens and holds it."""
    world = World()
    seen: list[list[str]] = []
    original = world.sinks["one"].put

    def put(name: str, content: bytes) -> Any:
        seen.append(world.labels())
        return original(name, content)

    world.sinks["one"].put = put  # type: ignore[method-assign]
    world.run()
    key = world.sealing()
    assert key is not None
    assert [PENDING] in seen
    assert world.labels() == [ACTIVE]
    target = FakeCluster()
    backup.restore(target, reading(world.escrow()), opening())
    restored = target.list(SECRET, namespace=HOME, label_selector=f"{KEY_LABEL}={ACTIVE}")
    assert [bundle.records([each])[0].fingerprint for each in restored] == [key.fingerprint]
    assert world.gate.standing.reason == "Escrowed"
    assert "secretsops_escrow_unescrowed_keys 0" in world.gate.exposed()


def test_a_sink_that_is_away_keeps_the_previous_key_in_use() -> None:
    """Sealing never stops; the new key comes into use by itself once the sink is back."""
    world = World()
    world.run()
    first = world.sealing()
    world.sinks["two"].away = True
    world.clock.sleep(PERIOD)
    world.run(600)
    assert world.sealing() == first
    assert world.labels() == [ACTIVE, PENDING]
    world.restart()
    world.run(600)
    assert (world.sealing() is not None, world.labels()) == (True, [ACTIVE, PENDING])
    assert world.sealing().fingerprint == first.fingerprint  # type: ignore[union-attr]
    world.sinks["two"].away = False
    world.run(120)
    assert world.labels() == [ACTIVE, ACTIVE]
    assert world.sealing().fingerprint != first.fingerprint  # type: ignore[union-attr]


def test_an_unproven_recipient_blocks_activation() -> None:
    """The key is in the escrow already, but nobody has shown to be able to open it."""
    world = World(proven=False)
    world.run(60)
    assert (world.sealing(), world.labels(), world.gate.standing.reason) == (None, [PENDING], "Unproven")
    worlds.prove(world.escrow(), RECIPIENT, IDENTITY, now=world.clock.now())
    world.run(120)
    assert world.labels() == [ACTIVE]
    assert len(look(reading(world.escrow())).chain) == 1
    receipts = [name for name in world.sinks["one"].files if name.startswith("receipt-")]
    assert len(receipts) == 1, "a key that waits must not fill the sinks"


@pytest.mark.parametrize("weakness", ["canary", "home"])
def test_sinks_that_would_be_lost_do_not_count(weakness: str) -> None:
    """A canary that could be overwritten, or the cluster's own failure domain: no key is activated."""
    world = World()
    if weakness == "home":
        world.cluster.delete(SECRET, CONFIGURATION, namespace=HOME)
        world.configure(home=("office/one", "office/two"))
    else:
        for sink in world.sinks.values():
            sink.weak = "files can be deleted"
    world.restart()
    world.run(60)
    assert (world.sealing(), world.gate.standing.reason) == (None, "WeakSinks")


def test_under_preferred_nothing_waits() -> None:
    """The key is used at once, escrowed when it can be; a sink that is away is only a warning."""
    world = World(policy="preferred")
    for sink in world.sinks.values():
        sink.away = True
    world.run(30)
    assert world.labels() == [ACTIVE]
    assert world.sealing() is not None
    for sink in world.sinks.values():
        sink.away = False
    world.run(120)
    assert world.is_escrowed(world.sealing().fingerprint)  # type: ignore[union-attr]


def test_without_a_configuration_it_is_as_with_the_peer(caplog: pytest.LogCaptureFixture) -> None:
    """Off, and warned about."""
    world = World(policy="none", proven=False)
    world.run(10)
    assert (world.gate.policy, world.labels()) == (Policy.OFF, [ACTIVE])
    assert "not escrowed" in caplog.text


def test_a_key_labelled_by_hand_opens_but_does_not_seal_until_it_is_escrowed() -> None:
    """Nor does one from another cluster whose Secret came with its receipt; one from the future never seals."""
    world = World()
    world.run()
    first = world.sealing()
    assert first is not None
    theirs = issue(POOL[5], now=world.clock.now() + dt.timedelta(minutes=2), ttl=dt.timedelta(days=1))
    forged = receipt.of_key(
        cluster="prod",
        incarnation="elsewhere",
        fingerprint=theirs.fingerprint,
        epoch=1,
        entry="x",
        signers=[SIGNER],
    )
    body = key_secret(theirs, namespace=HOME, name="theirs", annotations={receipt.ANNOTATION: forged})
    world.cluster.seed(body)
    world.sinks["one"].away = True
    world.run(120)
    assert world.sealing().fingerprint == first.fingerprint  # type: ignore[union-attr]
    assert next(key.state for key in world.keys.ring if key.fingerprint == theirs.fingerprint) is KeyState.OPEN_ONLY
    world.sinks["one"].away = False
    world.run(300)
    assert world.sealing().fingerprint == theirs.fingerprint  # type: ignore[union-attr]
    future = issue(POOL[4], now=world.clock.now() + dt.timedelta(days=90), ttl=dt.timedelta(days=1))
    world.seed(future, "future")
    world.run(120)
    assert world.sealing().fingerprint == theirs.fingerprint  # type: ignore[union-attr]


def test_a_cluster_without_keys_waits_for_the_restore() -> None:
    """The sinks hold its keys: none is minted, whatever the time; what is restored is used without a restart."""
    old = World()
    old.run()
    key = old.sealing()
    assert key is not None
    new = World(sinks=old.sinks, proven=False)
    new.clock.sleep(60)
    new.run(120)
    assert (new.labels(), new.gate.standing.reason) == ([], "AwaitingRestore")
    claiming = replace(new.escrow(), signers=[CLAIMER])
    custody.claim(new.cluster, claiming, now=new.clock.now())
    backup.restore(new.cluster, reading(new.escrow()), opening())
    new.run(120)
    assert new.labels() == [ACTIVE]
    assert new.sealing().fingerprint == key.fingerprint  # type: ignore[union-attr]
    assert look(reading(new.escrow())).newest.claim == 1  # type: ignore[union-attr]


def test_a_stray_first_key_is_set_aside_when_a_restore_comes_first() -> None:
    """Pending when the restored keys arrive: it is superseded, nobody ever sealed with it."""
    world = World(proven=False)
    world.run(10)
    assert world.labels() == [PENDING]
    restored = issue(POOL[3], now=world.clock.now() - dt.timedelta(days=3), ttl=dt.timedelta(days=100))
    world.seed(restored, "restored")
    worlds.prove(world.escrow(), RECIPIENT, IDENTITY, now=world.clock.now())
    world.run(120)
    assert world.labels() == [ACTIVE, "superseded"]
    assert world.sealing().fingerprint == restored.fingerprint  # type: ignore[union-attr]


@pytest.mark.parametrize("policy", ["required", "preferred"])
def test_after_a_start_nothing_is_pruned_until_a_sink_has_spoken(policy: str) -> None:
    """Under `required`; `preferred` waits for none, and remembers what was seen before."""
    world = World(policy=policy)
    world.run()
    for sink in world.sinks.values():
        sink.away = True
    world.restart()
    seen = [world.gate.fence.unknown]
    world.run(30)
    seen.append(world.gate.fence.unknown)
    for sink in world.sinks.values():
        sink.away = False
    world.run(120)
    assert [*seen, world.gate.fence.unknown] == [True, policy == "required", False]
    assert World(policy="none", proven=False).gate.fence.unknown is False


def test_a_process_without_the_sealing_part_heeds_what_that_wrote_down() -> None:
    """`--controllers external-secrets`: the ConfigMap of escrow says whether this cluster was replaced."""
    cluster, fence = FakeCluster(), Fence()
    runtime: Any = SimpleNamespace(cluster=cluster, namespace=HOME, fence=fence)
    (part,) = claims.build(runtime)
    (tick,) = part.ticks
    assert (fence.why, fence.unknown) == ("", True)
    assert tick.act() > 0
    assert (fence.why, fence.unknown) == ("", False)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIGURATION, "namespace": HOME}}
    cluster.create(Manifest({**body, "data": {"fenced": "claim 2 is of another incarnation"}}))
    tick.act()
    assert fence.why == "claim 2 is of another incarnation"


def seeds(quick: int) -> list[Any]:
    """Give 100 seeds, the first ones for every run."""
    return [pytest.param(seed, marks=[pytest.mark.nightly] if seed >= quick else []) for seed in range(100)]


@pytest.mark.parametrize("seed", seeds(10))
def test_two_living_clusters(seed: int) -> None:
    """The one that was replaced goes on opening and mints nothing, also when its renewal was under way."""
    chance = random.Random(seed)
    old = World()
    old.run()
    old.clock.sleep(PERIOD + chance.randrange(3600))
    if chance.random() < 0.5:
        old.sinks["two"].away = True
        old.run(30)
        old.sinks["two"].away = False
    new = World(sinks=old.sinks, proven=False)
    new.clock.sleep((old.clock.now() - new.clock.now()).total_seconds())
    custody.claim(new.cluster, replace(new.escrow(), signers=[CLAIMER]), now=new.clock.now())
    backup.restore(new.cluster, reading(new.escrow()), opening())
    before = old.labels()
    for world in chance.sample([old, new] * 3, 6):
        world.run(chance.choice([1, 30, 90]))
    for world in (old, new):
        world.run(180)
    assert old.gate.fence.up
    assert not new.gate.fence.up
    assert (old.gate.standing.reason, old.labels()) == ("Fenced", before)
    assert len(old.keys.ring) == before.count(ACTIVE)
    assert new.gate.standing.reason == "Escrowed"
    old.restart()
    for sink in old.sinks.values():
        sink.away = True
    old.run(60)
    assert old.gate.fence.up, "a fence is remembered while no sink answers"
    held_up = old.cluster.get(CONFIG_MAP, CONFIGURATION, HOME).body["data"]
    assert held_up["status"] == "Fenced"


@pytest.mark.parametrize("seed", seeds(20))
def test_killed_at_any_write(seed: int) -> None:
    """First key and two renewals: never a served key without receipt, never two actives for one renewal."""
    chance = random.Random(seed)
    world = World()
    MortalCluster.mortal = True
    doom = MortalCluster.doom = MortalSink.doom = Doom()
    for renewals in range(3):
        if renewals:
            world.clock.sleep(PERIOD)
        for _ in range(chance.randrange(1, 4)):
            doom.left, doom.after = chance.randrange(0, 14), chance.random() < 0.5
            try:
                world.run(chance.choice([5, 40]))
            except Killed:
                world.restart()
                world.check()
        doom.left = -1
        world.run(200)
        assert world.labels().count(ACTIVE) == renewals + 1, (seed, world.labels(), world.gate.standing)
        assert PENDING not in world.labels()
    target = FakeCluster()
    backup.restore(target, reading(world.escrow()), opening())
    opens = {key.fingerprint for key in world.keys.ring}
    restored = target.list(SECRET, namespace=HOME, label_selector=f"{KEY_LABEL}={ACTIVE}")
    assert {bundle.records([each])[0].fingerprint for each in restored} == opens


def test_a_broken_configuration_mints_nothing_and_keeps_what_is_proven() -> None:
    """Sealing goes on with the key that has its receipt; a renewal waits until the configuration is repaired."""
    world = World()
    world.run()
    first = world.sealing()
    patch = {"data": {"escrow.yaml": base64.b64encode(b"kind: Nonsense\n").decode()}}
    world.cluster.patch(SECRET, CONFIGURATION, patch, namespace=HOME, patch_type=PatchType.MERGE)
    world.restart()
    world.clock.sleep(PERIOD)
    world.run(120)
    assert world.labels() == [ACTIVE]
    assert world.sealing().fingerprint == first.fingerprint  # type: ignore[union-attr]
    assert world.gate.standing.reason == "BadEscrowConfig"


def test_a_broken_key_secret_stops_no_escrow() -> None:
    """It is left out; the others are escrowed and used."""
    world = World()
    world.cluster.seed(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "broken", "namespace": HOME, "labels": {KEY_LABEL: ACTIVE}},
            "data": {},
        }
    )
    world.seed(issue(POOL[2], now=world.clock.now(), ttl=dt.timedelta(days=100)), "good")
    world.run(60)
    assert world.sealing() is not None
