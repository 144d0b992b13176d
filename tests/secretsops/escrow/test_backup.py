"""Escrow: what is written opens, what is changed is seen, what is restored is what was."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from secretsops.adapters.age import AgeDoor
from secretsops.errors import BrokenEscrow, Refused, SecretsOpsError, UsageError, WorldFailed
from secretsops.escrow import backup
from secretsops.escrow.backup import Opening, Order
from secretsops.escrow.cli import escrow
from secretsops.escrow.identity import read_identities
from secretsops.escrow.index import State
from secretsops.escrow.places import plain
from secretsops.manifest import GroupVersionKind, Manifest, load_all
from secretsops.sealing.keys import KEY_LABEL, STATE_ANNOTATION, generate, key_secret
from secretsops.secret import Plaintext
from tests.fakes.cluster import FakeCluster
from tests.fakes.sink import FakeSink

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
SECRET = GroupVersionKind("", "v1", "Secret")
IDENTITY, RECIPIENT = AgeDoor().generate()
BODIES = [key_secret(generate(now=NOW, bits=2048), namespace="kube-system") for _ in range(3)]


def key(number: int, *, label: str = "active", state: str = "") -> Manifest:
    """Give a key Secret, named and in a state."""
    body = BODIES[number]
    metadata = {"name": f"key{number}", "namespace": "kube-system", "labels": {KEY_LABEL: label}}
    if state:
        metadata["annotations"] = {STATE_ANNOTATION: state}
    return Manifest({**body, "metadata": metadata})


def cluster(*keys: Manifest) -> FakeCluster:
    found = FakeCluster()
    found.seed(*(manifest.body for manifest in keys))
    return found


def create(source: FakeCluster, sink: FakeSink, *recipients: str) -> backup.Outcome:
    order = Order(recipients=recipients or (RECIPIENT,), namespace="kube-system", now=NOW)
    return backup.create(source, plain([sink], AgeDoor()), order)


def verify(sink: FakeSink, *identities: Plaintext, source: FakeCluster | None = None) -> backup.Outcome:
    return backup.verify(plain([sink], AgeDoor()), now=NOW, opening=Opening(identities=identities), cluster=source)


def restore(target: FakeCluster, sink: FakeSink, *identities: Plaintext) -> backup.Outcome:
    return backup.restore(target, plain([sink], AgeDoor()), Opening(identities=identities))


def keys_of(found: FakeCluster) -> dict[str, tuple[object, ...]]:
    """Give what makes a key: data, label and state by name."""
    return {
        secret.name: (secret.body["data"], secret.labels.get(KEY_LABEL), secret.annotations.get(STATE_ANNOTATION))
        for secret in found.list(SECRET, namespace="kube-system", label_selector=KEY_LABEL)
    }


def test_keys_come_back_as_they_were_with_their_states() -> None:
    """A compromised key stays compromised, an open-only key open-only; a second restore changes nothing."""
    source, sink = cluster(key(0), key(1, label="compromised"), key(2, state="open-only")), FakeSink()
    made = create(source, sink)
    assert (made.action, [record.state for record in made.entry.keys]) == (
        "created",
        [State.SEALING, State.COMPROMISED, State.OPEN_ONLY],
    )
    target = FakeCluster()
    for _ in range(2):
        restore(target, sink, IDENTITY)
        assert keys_of(target) == keys_of(source)


def test_a_bundle_holds_plain_key_secrets() -> None:
    """Whoever opens it with age alone can apply it."""
    source, sink = cluster(key(0)), FakeSink()
    create(source, sink)
    content = AgeDoor().decrypt(next(text for name, text in sink.files.items() if name.endswith(".age")), [IDENTITY])
    found = load_all(content.reveal())[0]
    assert (found.name, found.labels, found.body["type"]) == ("key0", {KEY_LABEL: "active"}, "kubernetes.io/tls")


def test_the_same_keys_again_write_nothing_and_a_new_one_makes_an_epoch() -> None:
    """Epochs follow each other; each holds all keys."""
    source, sink = cluster(key(0)), FakeSink()
    create(source, sink)
    before = dict(sink.files)
    assert create(source, sink).action == "unchanged"
    assert sink.files == before
    source.seed(key(1).body)
    made = create(source, sink)
    assert (made.entry.epoch, len(made.entry.keys)) == (2, 2)
    assert verify(sink, IDENTITY, source=source).action == "verified"


def test_nothing_but_the_bundle_holds_private_bytes() -> None:
    """The index names fingerprints of public keys only."""
    source, sink = cluster(key(0)), FakeSink()
    create(source, sink)
    private = BODIES[0]["data"]["tls.key"]
    for content in sink.files.values():
        assert private.encode()[:60] not in content


def test_a_run_killed_between_bundle_and_entry_does_not_count() -> None:
    """There is no escrow then, and the next run makes one, whatever was left."""
    source, sink = cluster(key(0)), FakeSink()
    sink.writes_left = 1
    with pytest.raises(WorldFailed):
        create(source, sink)
    with pytest.raises(BrokenEscrow) as caught:
        verify(sink)
    assert caught.value.reason == "Empty"
    sink.writes_left = 10
    assert create(source, sink).action == "created"
    assert verify(sink, IDENTITY).entry.epoch == 1


def _chain() -> FakeSink:
    source, sink = cluster(key(0)), FakeSink()
    create(source, sink)
    source.seed(key(1).body)
    create(source, sink)
    return sink


CHAIN = _chain()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(CHAIN.files)), st.data())
def test_any_changed_byte_is_seen(name: str, data: st.DataObject) -> None:
    """In an entry or a bundle: verify refuses, or the entry still says the very same."""
    content = bytearray(CHAIN.files[name])
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    sink = FakeSink()
    sink.files = {**CHAIN.files, name: bytes(content)}
    last = max(entry for entry in CHAIN.files if entry.endswith(".json"))
    try:
        outcome = verify(sink, IDENTITY)
    except BrokenEscrow:
        return
    # The last entry is followed by none: of its own words, those that no proof touches could be others.
    assert name == last
    assert [record.fingerprint for record in outcome.entry.keys] == [
        record.fingerprint for record in verify(CHAIN).entry.keys
    ]


@pytest.mark.parametrize("missing", sorted(CHAIN.files))
def test_a_missing_file_is_seen(missing: str) -> None:
    """Only without its newest entry is a chain whole again: it is then the escrow of one epoch before."""
    sink = FakeSink()
    sink.files = {name: text for name, text in CHAIN.files.items() if name != missing}
    if missing == max(name for name in CHAIN.files if name.endswith(".json")):
        assert verify(sink).entry.epoch == 1
    else:
        with pytest.raises(BrokenEscrow):
            verify(sink)


def test_a_wrong_identity_restores_nothing() -> None:
    """Fail closed: the cluster is as before."""
    stranger, _ = AgeDoor().generate()
    for identities in ([stranger], [Plaintext(b"# nothing\n")], [Plaintext(b"rubbish")]):
        target = FakeCluster()
        with pytest.raises(BrokenEscrow):
            restore(target, CHAIN, *identities)
        assert keys_of(target) == {}


def test_another_key_under_the_name_is_not_replaced() -> None:
    """A person decides which is the right one."""
    other = Manifest({**key(2).body, "metadata": key(0).metadata})
    with pytest.raises(Refused) as caught:
        restore(cluster(other), CHAIN, IDENTITY)
    assert caught.value.reason == "KeyConflict"


def test_a_key_that_is_not_covered_is_named() -> None:
    """And one whose state changed since."""
    with pytest.raises(BrokenEscrow) as caught:
        verify(CHAIN, source=cluster(key(0), key(2)))
    assert (caught.value.reason, "key2" in caught.value.message) == ("NotCovered", True)
    with pytest.raises(BrokenEscrow) as caught:
        verify(CHAIN, source=cluster(key(0, label="compromised")))
    assert caught.value.reason == "StateChanged"


def test_without_keys_there_is_no_backup() -> None:
    """An empty backup would look like one."""
    with pytest.raises(Refused) as caught:
        create(FakeCluster(), FakeSink())
    assert caught.value.reason == "NoKeys"


def test_a_bad_recipient_is_a_usage_error() -> None:
    """Nothing is written."""
    sink = FakeSink()
    with pytest.raises(UsageError):
        create(cluster(key(0)), sink, "age1nonsense")
    assert sink.files == {}


def test_an_identity_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """As ssh does."""
    file = tmp_path / "key.txt"
    file.write_bytes(IDENTITY.reveal())
    file.chmod(0o644)
    with pytest.raises(UsageError) as caught:
        read_identities([str(file)])
    assert caught.value.reason == "OpenIdentity"
    file.chmod(0o600)
    assert read_identities([str(file)]) == [IDENTITY]


class _Doors:
    """Doors of one fake cluster and one fake sink."""

    def __init__(self, found: FakeCluster, sink: FakeSink) -> None:
        self._cluster, self._sink = found, sink

    @property
    def clock(self) -> object:
        class Still:
            def now(self) -> dt.datetime:
                return NOW

        return Still()

    def cluster(self, _target: object) -> FakeCluster:
        return self._cluster

    def sink(self, _url: str) -> FakeSink:
        return self._sink

    def age(self) -> AgeDoor:
        return AgeDoor()


def test_the_commands(tmp_path: Path) -> None:
    """create, verify and restore in a row, as JSON; what goes wrong is our error with a hint."""
    identity = tmp_path / "key.txt"
    identity.write_bytes(IDENTITY.reveal())
    identity.chmod(0o600)
    doors, runner = _Doors(cluster(key(0)), FakeSink()), CliRunner()
    for arguments, action in (
        (["create", "--recipient", RECIPIENT, "--to", "x"], "created"),
        (["create", "--recipient", RECIPIENT, "--to", "x"], "unchanged"),
        (["verify", "--from", "x", "--identity", str(identity)], "verified"),
        (["restore", "--from", "x", "--identity", str(identity)], "restored"),
    ):
        done = runner.invoke(escrow, [*arguments, "-o", "json"], obj=doors)
        assert done.exception is None, done.exception
        assert json.loads(done.stdout)["action"] == action
        assert IDENTITY.reveal().decode() not in done.output
    done = runner.invoke(escrow, ["verify", "--from", "x", "--offline"], obj=_Doors(FakeCluster(), FakeSink()))
    assert isinstance(done.exception, SecretsOpsError)
    assert done.exception.hint
