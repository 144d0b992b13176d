"""A signed escrow over sinks in memory, with roots, signers, a clock and clusters to back up."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from dataclasses import replace

from secretsops.adapters.age import AgeDoor
from secretsops.escrow import backup, custody, proof
from secretsops.escrow import trust as roots
from secretsops.escrow.backup import Opening, Order, Outcome
from secretsops.escrow.places import Escrow, Place
from secretsops.escrow.signing import new_signer
from secretsops.manifest import Manifest
from secretsops.ports import Age
from secretsops.sealing.keys import KEY_LABEL, STATE_ANNOTATION, generate, key_secret
from secretsops.secret import Plaintext
from tests.fakes.cluster import FakeCluster
from tests.fakes.sink import FakeSink

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
AGE: Age = AgeDoor()
IDENTITY, RECIPIENT = AGE.generate()
OTHER_IDENTITY, OTHER = AGE.generate()
ROOT, _ = new_signer()
SIGNER, _ = new_signer()
CLAIMER, _ = new_signer()
STRANGER, _ = new_signer()
BODIES = [key_secret(generate(now=NOW, bits=2048), namespace="kube-system") for _ in range(4)]


def trust_versions() -> list[roots.Version]:
    """Give two versions: the root alone, then with a signer of bundles and one of claims."""
    first = roots.countersigned(roots.first([roots.Holder(name="root", key=ROOT.public)], 1), ROOT)
    holders = [
        roots.Holder(name="prod", key=SIGNER.public, roles=("bundles",)),
        roots.Holder(name="oncall", key=CLAIMER.public, roles=("claims",)),
    ]
    *before, second = roots.successor([first], add=holders)
    return [*before, roots.countersigned(second, ROOT)]


VERSIONS = trust_versions()
PIN = VERSIONS[0].digest


def sinks(count: int = 3) -> list[FakeSink]:
    """Give sinks in memory."""
    return [FakeSink(f"sink{number}") for number in range(count)]


def escrow(found: Sequence[FakeSink], *, quorum: int = 0) -> Escrow:
    """Give a signed escrow in these sinks, with the signer of bundles at hand."""
    places = [Place(name=sink.name, writer=sink, reader=sink, domain="office", independent=True) for sink in found]
    return Escrow(places=places, age=AGE, cluster="prod", pin=PIN, versions=VERSIONS, signers=[SIGNER], quorum=quorum)


def key(number: int, *, label: str = "active", state: str = "") -> Manifest:
    """Give a key Secret, named and in a state."""
    metadata = {"name": f"key{number}", "namespace": "kube-system", "labels": {KEY_LABEL: label}}
    if state:
        metadata["annotations"] = {STATE_ANNOTATION: state}
    return Manifest({**BODIES[number], "metadata": metadata})


def cluster(*keys: Manifest) -> FakeCluster:
    """Give a cluster with these keys."""
    found = FakeCluster()
    found.seed(*(manifest.body for manifest in keys))
    return found


def order(*recipients: str, now: dt.datetime = NOW) -> Order:
    """Ask for a backup."""
    return Order(recipients=recipients or (RECIPIENT,), namespace="kube-system", now=now)


def create(source: FakeCluster, found: Escrow, *recipients: str) -> Outcome:
    """Back up."""
    return backup.create(source, found, order(*recipients))


def opening(*identities: Plaintext) -> Opening:
    """Open with identities."""
    return Opening(identities=identities or (IDENTITY,))


def reading(found: Escrow) -> Escrow:
    """Give the escrow as somebody without the signer sees it, who has the digest alone."""
    return replace(found, signers=(), versions=())


def prove(found: Escrow, recipient: str, identity: Plaintext, *, now: dt.datetime = NOW) -> custody.Custodian:
    """Challenge a custodian, who answers."""
    (asked,) = custody.challenge(found, [recipient], nonces=[os.urandom(proof.NONCE)], now=now)
    return custody.record(found, proof.answer(asked, AGE.decrypt(proof.ciphertext_of(asked), [identity])), now=now)


def names_of(found: FakeCluster) -> set[str]:
    """Give the names of the key Secrets of a cluster."""
    secrets = found.list(backup.SECRET, namespace="kube-system", label_selector=KEY_LABEL)
    return {secret.name for secret in secrets}
