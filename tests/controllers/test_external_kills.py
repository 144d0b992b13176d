"""The process dies before or after any write, 200 times: no Secret is lost, emptied or half-written, and all heals.

Also who takes over from whom: what the peer left is taken as it is, and what we would write is what it wrote.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from controllers.external_secrets import ExternalSecrets
from controllers.stores import Stores
from secretsops.errors import AlreadyExists, Conflict, SecretsOpsError, ServerFailure, TooManyRequests, Unreachable
from secretsops.external.model import read
from secretsops.external.render import compose
from secretsops.external.template import Filled
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ownership import Leave, decide_external
from secretsops.secret import Plaintext, SecretData
from tests.conformance.external_traces import end_of
from tests.controllers.test_external_secrets import PLACE, STORE, World, external, vault_store


class Killed(BaseException):
    """The process ends here."""


class Deadly(World):
    """A world whose writes may kill whoever sends them, before or after they count, or fail in the usual ways."""

    def __init__(self) -> None:
        super().__init__()
        self.chance = random.Random(0)
        self.lethal = 0.0
        self.flaky = 0.0
        self.good: set[str] = set()

    def _write(self, act: Any) -> Any:
        if self.chance.random() < self.flaky:
            kinds: list[SecretsOpsError] = [
                Conflict("409"),
                ServerFailure("500"),
                TooManyRequests("429"),
                Unreachable("-"),
            ]
            raise self.chance.choice(kinds)
        if self.chance.random() < self.lethal:
            raise Killed
        done = act()
        self.look()
        if self.chance.random() < self.lethal:
            raise Killed
        if self.chance.random() < self.flaky:
            raise Unreachable("the answer was lost")
        return done

    def create(self, manifest: Manifest, **options: Any) -> Manifest:
        def act() -> Manifest:
            if (manifest.kind.kind, manifest.namespace, manifest.name) in self.objects:
                raise AlreadyExists("409")
            return super(Deadly, self).create(manifest, **options)

        found: Manifest = self._write(act)
        return found

    def replace(self, manifest: Manifest, **options: Any) -> Manifest:
        found: Manifest = self._write(lambda: super(Deadly, self).replace(manifest, **options))
        return found

    def patch(self, *arguments: Any, **options: Any) -> Manifest:
        found: Manifest = self._write(lambda: super(Deadly, self).patch(*arguments, **options))
        return found

    def delete(self, *arguments: Any, **options: Any) -> None:
        self._write(lambda: super(Deadly, self).delete(*arguments, **options))

    def made(self) -> dict[str, dict[str, str]]:
        """Give the data of the Secrets that ExternalSecrets made."""
        found = {}
        for (kind, _, name), body in self.objects.items():
            if kind == "Secret" and name != "auth":
                data = SecretData.of(body)
                found[name] = {key: value.reveal().decode() for key, value in data.items()}
        return found

    def look(self) -> None:
        """See that every Secret holds one whole document, and that there is one once there was one."""
        for name, data in self.made().items():
            assert data["user"] == data["pass"], f"{name} is half of one and half of another"
            assert data["user"] in self.good
        if self.seen:
            assert self.made(), "there was a Secret, and now there is none"
        self.seen = self.seen or bool(self.made())

    seen = False


def _entries() -> list[dict[str, Any]]:
    return [{"secretKey": key, "remoteRef": {"key": "db", "property": key}} for key in ("user", "pass")]


def _changed(world: Deadly, turn: int) -> None:
    """Have the world do something: rotate the value, rename the target, edit or delete the Secret, force a sync."""
    live = world.objects["ExternalSecret", "shop", "app"]
    match world.chance.randrange(5):
        case 0:
            value = f"v{turn}"
            world.good.add(value)
            world.values["db"] = f'{{"user":"{value}","pass":"{value}"}}'
            world.pass_time(hours=2)
        case 1:
            live["spec"]["target"] = {"name": world.chance.choice(["app", "other"])}
            live["metadata"]["generation"] += 1
            world.put(live)
        case 2:
            for name in list(world.made()):
                del world.objects["Secret", "shop", name]
            world.seen = False
        case 3:
            live["metadata"].setdefault("annotations", {})["force-sync"] = str(turn)
            world.put(live)
        case 4:
            world.pass_time(minutes=5)


@pytest.mark.parametrize("block", range(10))
def test_no_kill_and_no_fault_costs_a_secret(block: int) -> None:
    for seed in range(block * 20, block * 20 + 20):
        world = Deadly()
        world.chance = random.Random(seed)
        token = {"token": "cm9vdA=="}
        metadata = {"name": "auth", "namespace": "shop"}
        world.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": token})
        world.put(vault_store())
        Stores(world, world.open, world.emit, clock=world).reconcile(STORE)  # type: ignore[arg-type]
        world.values["db"] = '{"user":"v","pass":"v"}'
        world.good = {"v"}
        world.put(external(data=_entries()))
        world.lethal, world.flaky = 0.15, 0.1
        for turn in range(12):
            _attempt(world)
            _changed(world, turn)
        world.lethal = world.flaky = 0.0
        for _ in range(4):
            _attempt(world)
            world.pass_time(seconds=11)
        target = world.objects["ExternalSecret", "shop", "app"]["spec"].get("target", {}).get("name", "app")
        assert set(world.made()) == {target}, f"seed {seed}"
        assert world.ready()[0] == "True", f"seed {seed}"


def _attempt(world: Deadly) -> None:
    """Start anew, as after a kill, and make one pass."""
    stores = Stores(world, world.open, world.emit, clock=world)  # type: ignore[arg-type]
    spine = ExternalSecrets(world, stores, world.emit, clock=world, spread=lambda: 0.0)  # type: ignore[arg-type]
    try:
        spine.reconcile(PLACE)
    except (Killed, SecretsOpsError):
        world.look()


# --- Taking over ---------------------------------------------------------------------------------------

CORPUS = Path(__file__).parent.parent / "conformance" / "corpus" / "external-secrets" / "sync"


@cache
def _recorded() -> dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Give the cases that end with a synced ExternalSecret that nobody patched, and with its Secret."""
    found = {}
    for folder in sorted(CORPUS.iterdir()):
        case = yaml.safe_load((folder / "case.yaml").read_text())
        end = end_of(yaml.safe_load((folder / "expected.yaml").read_text()))
        home = case["namespaces"][0]
        state, secret = end.get(f"ExternalSecret/{home}/app"), end.get(f"Secret/{home}/app")
        applied = [b for s in case["steps"] for b in s.get("apply") or [] if b["kind"] == "ExternalSecret"]
        patched = [p for s in case["steps"] for p in s.get("patch") or []]
        conditions = (state or {}).get("status", {}).get("conditions") or [{}]
        if state and secret and len(applied) == 1 and not patched and conditions[0].get("reason") == "SecretSynced":
            found[folder.name] = (applied[0], state, secret)
    return found


def _put(world: World, applied: Mapping[str, Any], state: Mapping[str, Any], secret: Mapping[str, Any]) -> Manifest:
    """Put the objects as the peer left them; gives the Secret."""
    status = copy.deepcopy(state["status"])
    stamp = world.time.strftime("%Y-%m-%dT%H:%M:%SZ")
    status["refreshTime"] = stamp
    status["conditions"][0]["lastTransitionTime"] = stamp
    parts = {name: state[name] for name in ("labels", "annotations", "finalizers") if name in state}
    metadata = {"name": "app", "namespace": "shop", "uid": "es", "generation": state["generation"]} | parts
    spec = {"refreshInterval": "1h", **applied["spec"]}
    world.put({**applied, "metadata": metadata, "spec": spec, "status": status})
    owners = [{**owner, "uid": "es"} for owner in secret.get("ownerReferences") or []]
    kept = {name: secret[name] for name in ("labels", "annotations") if name in secret}
    body = {"apiVersion": "v1", "kind": "Secret", "type": secret["type"], "data": secret["data"]}
    body["metadata"] = {"name": "app", "namespace": "shop", "ownerReferences": owners} | kept
    return Manifest(world.put(body | ({"immutable": True} if secret.get("immutable") else {})))


@pytest.mark.parametrize("name", _recorded())
def test_what_the_peer_left_is_taken_over_without_a_request_or_a_write(name: str) -> None:
    world = World()
    world.put(vault_store())
    _put(world, *_recorded()[name])
    stores = Stores(world, world.open, world.emit, clock=world)  # type: ignore[arg-type]
    spine = ExternalSecrets(world, stores, world.emit, clock=world)  # type: ignore[arg-type]
    assert spine.reconcile(ObjectKey("external-secrets.io", "ExternalSecret", "shop", "app")).action == "fresh"
    assert world.writes == []
    assert world.events == []
    assert world.fetches == []


@pytest.mark.parametrize("name", [name for name, found in _recorded().items() if "template" not in str(found[0])])
def test_what_we_would_write_is_what_the_peer_wrote(name: str) -> None:
    """Marks, digests and owner as it knows them: given the same values there is nothing for either to change."""
    world = World()
    applied, state, secret = _recorded()[name]
    live = _put(world, applied, state, secret)
    manifest = Manifest(world.objects["ExternalSecret", "shop", "app"])
    wanted = read(manifest)
    values = {key: Plaintext(value.reveal()) for key, value in SecretData.of(live.body).items()}
    # The label that names who made it is a digest of namespace and name; the namespace is another one here.
    created = "reconcile.external-secrets.io/created-by"
    new = compose(wanted, Filled(values=values, labels=wanted.labels, annotations=wanted.annotations), live)
    body = copy.deepcopy(new.body)
    if created in live.labels:
        assert created in new.labels
        body["metadata"]["labels"][created] = live.labels[created]
    decided = decide_external(Manifest(body), live, name="app", creation=wanted.target.creation)
    assert decided == Leave()
