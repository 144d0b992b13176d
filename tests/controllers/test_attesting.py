"""The controller attests what it opens: when, what of, and never more than it saw; `verify --attested` rests on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controllers.attesting import APART, DAILY, Attester
from controllers.sealed_secrets import SealedSecrets
from controllers.sealed_view import View
from recovery.proof.escrowed import read_escrow
from recovery.proof.evidence import Escrowed, Verdict, judge_sealed
from secretsops.errors import SecretsOpsError
from secretsops.escrow.attestation import PREFIX, read_attestations
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ports import EventType
from secretsops.sealing.keys import KeyPair, KeyRing, generate
from secretsops.sealing.sealed import SEALED_SECRET, Wishes, seal_secret
from tests.controllers.test_escrow import World, _quick_keys  # noqa: F401 - a fixture
from tests.secretsops.escrow.worlds import NOW, reading

STRANGER = generate(now=NOW, bits=2048)


class Attested:
    """A controller with an escrowed key, SealedSecrets in the cluster, and whoever verifies far from it."""

    def __init__(self) -> None:
        self.world = World()
        self.world.run()
        key = self.world.sealing()
        assert key is not None
        self.key: KeyPair = key
        self.world.cluster.serve(SEALED_SECRET, "sealedsecrets", status=True)
        self.world.cluster.create(Manifest({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}))
        self.restart()

    def restart(self) -> None:
        """Start anew: what was looked at before is forgotten."""
        self.view = View()
        self.ring = KeyRing([self.key])
        self.spine = SealedSecrets(
            self.world.cluster,
            lambda: self.ring,
            lambda *_: None,
            view=self.view,
            clock=self.world.clock,
        )
        for sealed in self.world.cluster.list(SEALED_SECRET):
            self.view.changed(EventType.MODIFIED, self.view.keep(sealed))
        self.attester = Attester(self.world.clock, self.world.gate, self.spine.statements)

    def put(self, name: str, key: KeyPair | None = None, *, look: bool = True) -> Manifest:
        """Bring a SealedSecret with two items to the cluster."""
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": "shop"},
            "stringData": {"a": "canary-value", "b": "canary-value"},
        }
        public = (key or self.key).certificate.public
        body = seal_secret(secret, public, Wishes(), default_namespace=lambda: "")
        made = self.world.cluster.create(Manifest(body))
        self.view.changed(EventType.MODIFIED, self.view.keep(made))
        if look:
            self.pass_over(name)
        return made

    def pass_over(self, name: str) -> None:
        """Let the controller deal with one."""
        try:
            self.spine.reconcile(ObjectKey(SEALED_SECRET.group, SEALED_SECRET.kind, "shop", name))
        except SecretsOpsError:
            return

    def after(self, seconds: float) -> list[str]:
        """Let time pass and the leader look; gives the names of the documents in the first sink."""
        self.world.clock.sleep(seconds)
        self.attester.look()
        return sorted(name for name in self.world.sinks["one"].files if name.startswith(PREFIX))

    def escrowed(self) -> Escrowed:
        """Give what somebody reads who has the sinks and the digest of the trust root alone."""
        return read_escrow(reading(self.world.escrow()), self.world.clock.now())

    def verdict(self, sealed: Manifest) -> tuple[Verdict, str]:
        """Judge a SealedSecret from Git, whose hint says nothing."""
        bare = Manifest({**sealed.body, "metadata": {"name": sealed.name, "namespace": sealed.namespace}})
        found = judge_sealed(bare, self.escrowed(), lambda _: "")
        return found.verdict, found.how


@pytest.fixture
def attested() -> Attested:
    return Attested()


def test_what_opens_is_attested_and_verified_without_a_key(attested: Attested) -> None:
    """Item by item, in every sink, with no value in it; what Git changed since is not vouched for."""
    sealed = attested.put("db")
    assert attested.verdict(sealed) == (Verdict.UNKNOWN, "hint")
    (name,) = attested.after(0)
    content = attested.world.sinks["one"].files[name]
    assert attested.world.sinks["two"].files[name] == content
    assert b"canary" not in content
    made = read_attestations(content)
    assert made is not None
    assert {one.key for one in made.statements} == {attested.key.fingerprint}
    assert len(made.statements) == 2
    assert attested.verdict(sealed) == (Verdict.RECOVERABLE, "attested")
    other = Manifest({**sealed.body, "metadata": {**sealed.metadata, "name": "moved"}})
    assert attested.verdict(other)[0] is Verdict.UNKNOWN


def test_what_opens_no_more_is_a_hole_whatever_was_said_before(attested: Attested) -> None:
    """The key left the cluster, or the item is another's: the newest word counts, older files stay where they are."""
    sealed = attested.put("db")
    attested.after(0)
    attested.ring = KeyRing([STRANGER])
    attested.view.changed(EventType.MODIFIED, attested.view.keep(sealed))
    attested.pass_over("db")
    assert attested.verdict(sealed)[0] is Verdict.RECOVERABLE
    assert len(attested.after(APART)) == 2
    assert attested.verdict(sealed) == (Verdict.HOLE, "attested")
    strange = attested.put("strange", STRANGER)
    attested.ring = KeyRing([attested.key])
    attested.after(APART)
    assert attested.verdict(strange)[0] is not Verdict.RECOVERABLE


def test_nothing_is_attested_before_everything_was_looked_at(attested: Attested) -> None:
    """A restart, or one that waits: half of the truth would take the other half back."""
    attested.put("db")
    attested.put("late", look=False)
    assert attested.after(0) == []
    attested.pass_over("late")
    assert len(attested.after(0)) == 1
    attested.restart()
    assert len(attested.after(DAILY)) == 1
    for name in ("db", "late"):
        attested.pass_over(name)
    assert len(attested.after(0)) == 2


def test_a_document_is_written_on_change_and_once_a_day(attested: Attested) -> None:
    """Ten minutes apart at most often; one that nobody renews is stale after three days."""
    sealed = attested.put("db")
    assert len(attested.after(0)) == 1
    assert len(attested.after(APART)) == 1
    attested.put("more")
    assert len(attested.after(0)) == 2
    attested.put("again")
    assert len(attested.after(APART / 2)) == 2
    assert len(attested.after(APART / 2)) == 3
    assert len(attested.after(DAILY)) == 4
    attested.world.clock.sleep(3 * 86400 + 1)
    assert attested.verdict(sealed)[0] is Verdict.UNKNOWN
    assert any("counts for nothing" in note for note in attested.escrowed().notes)
    attested.after(0)
    assert attested.verdict(sealed)[0] is Verdict.RECOVERABLE


def test_a_sink_that_is_away_and_a_role_that_is_missing(attested: Attested, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few sinks: it is tried again, and nothing counts meanwhile as written. Without the role nothing is."""
    attested.put("db")
    sink = attested.world.sinks["two"]
    sink.away = True
    attested.after(0)
    sink.away = False
    attested.after(0)
    names = [{name for name in one.files if name.startswith(PREFIX)} for one in attested.world.sinks.values()]
    assert names[0] & names[1]
    parts = attested.world.gate.signed_escrow()
    assert parts is not None
    nobody = replace(parts[0], versions=parts[0].versions[:1])
    monkeypatch.setattr(attested.world.gate, "signed_escrow", lambda: (nobody, *parts[1:]))
    attested.restart()
    attested.pass_over("db")
    before = attested.after(0)
    assert attested.after(DAILY) == before


def test_a_fenced_or_held_back_controller_says_nothing(attested: Attested) -> None:
    """Somebody else has the cluster's name, or a living peer does the work."""
    attested.put("db")
    attested.world.gate.fence.why = "replaced"
    assert attested.after(DAILY) == []
    attested.world.gate.fence.why = ""
    attested.attester = Attester(
        attested.world.clock, attested.world.gate, attested.spine.statements, held_back=lambda: "a peer"
    )
    assert attested.after(DAILY) == []


def test_files_that_a_liar_adds_do_not_hide_the_truth(attested: Attested) -> None:
    """A sink full of forged documents with high serials: the other sink's good one still counts, and none of theirs."""
    sealed = attested.put("db")
    (name,) = attested.after(0)
    for number in range(50):
        attested.world.sinks["one"].files[f"{PREFIX}{10**11 + number:012d}-{'0' * 16}.json"] = b"{}"
    assert attested.verdict(sealed) == (Verdict.RECOVERABLE, "attested")
    del attested.world.sinks["two"].files[name]
    assert attested.verdict(sealed)[0] is Verdict.UNKNOWN
