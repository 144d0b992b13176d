"""Custodians prove what they hold, recipients change, and one incarnation at a time has the claim."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from secretsops.adapters.slip39 import Slip39
from secretsops.errors import BrokenEscrow, Refused, SecretsOpsError, UsageError
from secretsops.escrow import backup, bundle, ceremony, custody, proof
from secretsops.escrow import trust as roots
from secretsops.escrow.claim import Claim
from secretsops.escrow.index import State
from secretsops.escrow.places import Escrow, plain
from secretsops.escrow.proof import Standing
from secretsops.escrow.receipt import opened_record
from secretsops.escrow.survey import look
from secretsops.manifest import Manifest
from secretsops.secret import Plaintext
from tests.fakes.cluster import FakeCluster
from tests.fakes.sink import FakeSink
from tests.secretsops.escrow.worlds import (
    AGE,
    CLAIMER,
    IDENTITY,
    NOW,
    OTHER,
    OTHER_IDENTITY,
    RECIPIENT,
    ROOT,
    SIGNER,
    STRANGER,
    VERSIONS,
    cluster,
    create,
    escrow,
    key,
    names_of,
    opening,
    order,
    prove,
    reading,
    sinks,
)

DAY = dt.timedelta(days=1)


def made(*recipients: str) -> tuple[list[FakeSink], Escrow, FakeCluster]:
    """Give a signed escrow of one key."""
    found, source = sinks(2), cluster(key(0))
    signed = escrow(found)
    create(source, signed, *recipients)
    return found, signed, source


def standing(found: Escrow, now: dt.datetime, recipient: str = RECIPIENT) -> Standing:
    """Give how well a recipient counts."""
    (person,) = custody.custodians(look(reading(found)), [recipient], now)
    return person.standing


def test_an_answer_proves_a_recipient_for_180_days() -> None:
    """From the day of the challenge; verify says who is not, and blocks."""
    _, signed, _ = made()
    assert standing(signed, NOW) is Standing.UNPROVEN
    with pytest.raises(BrokenEscrow) as caught:
        backup.verify(reading(signed), now=NOW, proofs=True)
    assert (caught.value.reason, "challenge" in caught.value.hint) == ("Unproven", True)
    prove(signed, RECIPIENT, IDENTITY)
    assert standing(signed, NOW + 179 * DAY) is Standing.PROVEN
    assert backup.verify(reading(signed), now=NOW, proofs=True).action == "verified"
    assert standing(signed, NOW + 180 * DAY) is Standing.EXPIRED
    prove(signed, RECIPIENT, IDENTITY, now=NOW + 170 * DAY)
    assert standing(signed, NOW + 181 * DAY) is Standing.PROVEN


def test_a_challenge_from_the_future_counts_for_nothing() -> None:
    """Or a signer could prove a recipient for ever."""
    _, signed, _ = made()
    prove(signed, RECIPIENT, IDENTITY, now=NOW + 1000 * DAY)
    assert standing(signed, NOW) is Standing.EXPIRED


def test_only_the_right_answer_is_recorded() -> None:
    """Of another challenge, made up, or to a challenge that nobody asked."""
    found, signed, _ = made(RECIPIENT, OTHER)
    asked = custody.challenge(signed, [RECIPIENT, OTHER], nonces=[b"1" * 32, b"2" * 32], now=NOW)
    answers = [
        proof.answer(each, AGE.decrypt(proof.ciphertext_of(each), [identity]))
        for each, identity in zip(asked, (IDENTITY, OTHER_IDENTITY), strict=True)
    ]
    swapped = answers[0].replace(asked[0].name.encode(), asked[1].name.encode())
    for bad in (swapped, b"{}", answers[0].replace(b"challenge-", b"challenge-../"), b"\xff" * 40):
        with pytest.raises(BrokenEscrow):
            custody.record(signed, bad, now=NOW)
    for sink in found:
        del sink.files[asked[1].name]
    with pytest.raises(BrokenEscrow) as caught:
        custody.record(signed, answers[1], now=NOW)
    assert caught.value.reason == "NoChallenge"
    assert custody.record(signed, answers[0], now=NOW).recipient == RECIPIENT
    assert standing(signed, NOW, OTHER) is Standing.UNPROVEN


def test_a_custodian_is_no_oracle() -> None:
    """A bundle dressed up as a challenge gets nothing opened, and a challenge for another cluster no answer."""
    found, signed, _ = made()
    sealed = next(text for name, text in found[0].files.items() if name.endswith(".age"))
    dressed = proof.make(
        cluster="prod", recipient=RECIPIENT, nonce=b"3" * 32, ciphertext=sealed, now=NOW, signers=[SIGNER]
    )
    with pytest.raises(BrokenEscrow) as caught:
        proof.answer(dressed, AGE.decrypt(proof.ciphertext_of(dressed), [IDENTITY]))
    assert caught.value.reason == "NotAChallenge"
    assert "PRIVATE" not in f"{caught.value} {caught.value.hint}"
    (asked,) = custody.challenge(signed, [RECIPIENT], nonces=[b"4" * 32], now=NOW)
    moved = replace(asked, cluster="test")
    with pytest.raises(BrokenEscrow):
        proof.answer(moved, AGE.decrypt(proof.ciphertext_of(moved), [IDENTITY]))


def test_a_challenge_of_a_stranger_counts_for_nothing() -> None:
    """Whoever can write to a sink cannot make a lost recipient look proven."""
    found, signed, _ = made()
    asked = proof.question(cluster="prod", recipient=RECIPIENT, nonce=b"5" * 32)
    forged = proof.make(
        cluster="prod",
        recipient=RECIPIENT,
        nonce=b"5" * 32,
        ciphertext=AGE.encrypt(asked, [RECIPIENT]),
        now=NOW,
        signers=[STRANGER],
    )
    for sink in found:
        sink.files[forged.name] = forged.text()
        sink.files[forged.answer_name] = proof.answer(forged, asked)
    assert standing(signed, NOW) is Standing.UNPROVEN


def test_a_custodian_who_leaves() -> None:
    """Everything is written anew without them; the change is signed, and what they can still open is said."""
    _, signed, source = made(RECIPIENT, OTHER)
    outcome = custody.rotate(signed, order_of(), cluster=source, opening=backup.Opening(), remove=[OTHER])
    assert list(outcome.entry.recipients) == [RECIPIENT]
    assert any(OTHER[:24] in detail and "renew" in detail for detail in outcome.details)
    target = FakeCluster()
    with pytest.raises(BrokenEscrow):
        backup.restore(target, reading(signed), opening(OTHER_IDENTITY))
    backup.restore(target, reading(signed), opening())
    assert names_of(target) == {"key0"}
    with pytest.raises(Refused):
        custody.rotate(signed, order_of(), cluster=source, opening=backup.Opening(), remove=[RECIPIENT])


def order_of() -> backup.Order:
    """Ask for no recipients of its own: those of the newest epoch."""
    return backup.Order(recipients=(), namespace="kube-system", now=NOW)


def test_keys_that_only_old_epochs_hold_are_carried_on() -> None:
    """With an identity, as retired: what the cluster gave up stays openable for the new recipients."""
    _, signed, source = made()
    source.seed(key(1).body)
    create(source, signed)
    source.delete(backup.SECRET, "key0", namespace="kube-system")
    create(source, signed)
    outcome = custody.rotate(signed, order(OTHER), cluster=source, opening=opening())
    assert {(record.name, record.state) for record in outcome.entry.keys} == {
        ("key1", State.SEALING),
        ("key0", State.RETIRED),
    }
    assert create(source, signed, OTHER).action == "unchanged"
    target = FakeCluster()
    backup.restore(target, reading(signed), opening(OTHER_IDENTITY))
    assert names_of(target) == {"key0", "key1"}


def test_recipients_change_without_a_cluster() -> None:
    """From the newest epoch, with an identity; without one there is nothing to read keys from."""
    _, signed, _ = made()
    with pytest.raises(Refused) as caught:
        custody.rotate(signed, order(OTHER), cluster=None, opening=backup.Opening())
    assert caught.value.reason == "NoSource"
    assert custody.rotate(signed, order(OTHER), cluster=None, opening=opening()).entry.keys[0].state is State.SEALING
    target = FakeCluster()
    backup.restore(target, reading(signed), opening(OTHER_IDENTITY))
    assert names_of(target) == {"key0"}


def test_a_rebuild_claims_and_the_old_cluster_is_fenced() -> None:
    """The new incarnation writes the next epoch; the old one is told why it cannot, and may claim back."""
    _, signed, old = made()
    new = FakeCluster()
    backup.restore(new, reading(signed), opening())
    with pytest.raises(BrokenEscrow) as caught:
        create(new, signed)
    assert (caught.value.reason, "claim" in caught.value.hint) == ("NotClaimed", True)
    with pytest.raises(BrokenEscrow) as caught:
        custody.claim(new, signed, now=NOW)
    assert caught.value.reason == "SignerUntrusted"
    claiming = replace(signed, signers=[CLAIMER])
    claimed = custody.claim(new, claiming, now=NOW)
    assert claimed is not None
    assert claimed.number == 1
    assert custody.claim(new, claiming, now=NOW) is None
    assert create(new, signed).entry.claim == 1
    with pytest.raises(BrokenEscrow) as caught:
        create(old, signed)
    assert caught.value.reason == "Fenced"
    assert custody.claim(old, claiming, now=NOW) is not None
    with pytest.raises(BrokenEscrow):
        create(new, signed)
    assert create(old, signed).entry.claim == 2


def test_of_two_rebuilds_one_gets_the_claim() -> None:
    """By the conditional put of the first sink."""
    found, signed, _ = made()
    claiming = replace(signed, signers=[CLAIMER])
    one, two = FakeCluster(), FakeCluster()
    custody.claim(one, claiming, now=NOW)
    behind = dict(found[0].files)
    for sink in found:
        sink.files.pop("claim-00000001.json")
    custody.claim(two, claiming, now=NOW)
    found[0].files["claim-00000001.json"] = behind["claim-00000001.json"]
    with pytest.raises(BrokenEscrow) as caught:
        look(reading(signed))
    assert caught.value.reason == "Fork"

    class Late(FakeSink):
        """A sink where the other rebuild's claim appears between our look and our write."""

        def put(self, name: str, content: bytes):  # type: ignore[no-untyped-def]
            if name.startswith("claim-"):
                self.files.setdefault(name, behind["claim-00000001.json"])
            return super().put(name, content)

    late = Late()
    late.files = {name: text for name, text in found[1].files.items() if not name.startswith("claim-")}
    with pytest.raises(BrokenEscrow) as caught:
        custody.claim(FakeCluster(), replace(escrow([late]), signers=[CLAIMER]), now=NOW)
    assert caught.value.reason == "ClaimLost"


def test_a_forged_claim_fences_nobody() -> None:
    """Signed by the controller's key, which may not claim: the copy that holds it does not count."""
    found, signed, source = made()
    forged = Claim(cluster="prod", number=1, previous="", incarnation="elsewhere", claimed="2026-03-01T00:00:00Z")
    found[0].files[forged.name] = forged.signed_with([SIGNER]).text()
    with pytest.raises(BrokenEscrow) as caught:
        create(source, signed)
    assert caught.value.reason == "ClaimUntrusted"


def test_an_unsigned_escrow_can_be_claimed_too() -> None:
    """Where nobody signs, nobody's claim is worth more."""
    sink, old, new = FakeSink(), cluster(key(0)), FakeCluster()
    bare = plain([sink], AGE)
    create(old, bare)
    backup.restore(new, bare, opening())
    assert custody.claim(new, bare, now=NOW) is not None
    assert create(new, bare).action == "created"
    with pytest.raises(BrokenEscrow):
        create(old, bare)


def test_a_passphrase_stands_alone() -> None:
    """It opens its bundle, another does not; it cannot be challenged."""
    sink, source = FakeSink(), cluster(key(0))
    bare, phrase = plain([sink], AGE), Plaintext(b"correct horse")
    asked = backup.Order(recipients=(), namespace="kube-system", now=NOW, passphrase=phrase)
    assert list(backup.create(source, bare, asked).entry.recipients) == ["passphrase"]
    target = FakeCluster()
    for wrong in (backup.Opening(passphrase=Plaintext(b"x")), opening()):
        with pytest.raises(BrokenEscrow):
            backup.restore(target, bare, wrong)
    backup.restore(target, bare, backup.Opening(passphrase=phrase))
    assert names_of(target) == {"key0"}
    assert backup.recipients(look(bare), NOW) == {}


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_an_ssh_key_is_a_recipient(tmp_path: Path) -> None:
    """Challenged and proven like any other."""
    file = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(file)], check=True)
    recipient = (tmp_path / "id.pub").read_text().strip()
    _, signed, _ = made(recipient)
    prove(signed, recipient, Plaintext(file.read_bytes()))
    assert standing(signed, NOW, recipient) is Standing.PROVEN


def test_a_plugin_that_is_not_there_is_named() -> None:
    """As the reason why its recipient cannot be used."""
    with pytest.raises(UsageError) as caught:
        AGE.encrypt(Plaintext(b"x"), ["age1yubikey1q2w7u3vpya839jxxuq8g0sedh3d740d4xvn639sqhr95ejj8vu3hyfumptt"])
    assert "age-plugin-yubikey" in caught.value.hint


def test_every_subset_of_custodians_opens_and_fewer_do_not() -> None:
    """3 of 5; a wrong word, a share of another ceremony and too few are refused."""
    shares = Slip39()
    held = ceremony.hold(AGE, shares, threshold=3, count=5)
    other = ceremony.hold(AGE, shares, threshold=3, count=5)
    assert (held.subsets, len(held.shares)) == (10, 5)
    sealed = AGE.encrypt(Plaintext(b"value"), [held.recipient])
    assert AGE.decrypt(sealed, [shares.combine([held.shares[4], held.shares[0], held.shares[2]])]).reveal() == b"value"
    words = held.shares[0].reveal().split()
    wrong = Plaintext(b" ".join([words[1], words[0], *words[2:]]))
    for few in (held.shares[:2], [*held.shares[:2], other.shares[2]], [wrong, *held.shares[1:3]], []):
        with pytest.raises(BrokenEscrow):
            shares.combine(few)
    for threshold, count in ((1, 3), (4, 3), (2, 40)):
        with pytest.raises(SecretsOpsError):
            ceremony.hold(AGE, shares, threshold=threshold, count=count)


def test_an_identity_survives_the_split() -> None:
    """Letter for letter; an SSH key or a wrong checksum is refused."""
    identity, _ = AGE.generate()
    assert Slip39().combine(Slip39().split(identity, threshold=2, count=2)) == identity
    text = identity.reveal()
    for wrong in (text[:-1] + (b"Q" if text[-1:] != b"Q" else b"P"), b"-----BEGIN OPENSSH", b""):
        with pytest.raises(UsageError):
            Slip39().split(Plaintext(wrong), threshold=2, count=2)


def test_a_compromised_key_never_seals_again() -> None:
    """Whatever is rotated and restored."""
    found, source = sinks(1), cluster(key(0), key(1, label="compromised"))
    signed = escrow(found)
    create(source, signed)
    custody.rotate(signed, order(OTHER), cluster=None, opening=opening())
    target = FakeCluster()
    backup.restore(target, reading(signed), opening(OTHER_IDENTITY))
    secret: Manifest = target.get(backup.SECRET, "key1", "kube-system")
    assert bundle.state_of(secret) is State.COMPROMISED


def test_a_verified_restore_is_recorded_by_who_may_say_so() -> None:
    """With the role evidence; the controller's key has it not, and a forged record counts for nothing."""
    found, signed, _ = made()
    *before, newest = roots.successor(
        VERSIONS, add=[roots.Holder(name="auditor", key=STRANGER.public, roles=("evidence",))]
    )
    versions = [*before, roots.countersigned(newest, ROOT)]
    with pytest.raises(BrokenEscrow) as caught:
        backup.verify(replace(signed, versions=versions), now=NOW, opening=opening())
    assert caught.value.reason == "SignerUntrusted"
    name, text = opened_record(cluster="prod", epoch=1, entry="x", made="2030-01-01T00:00:00Z", signers=[SIGNER])
    found[0].files[name] = text
    auditing = replace(signed, versions=versions, signers=[STRANGER])
    assert backup.last_opened(look(auditing)) is None
    backup.verify(auditing, now=NOW, opening=opening())
    assert backup.last_opened(look(auditing)) == NOW
    quiet = replace(auditing, signers=[])
    backup.verify(quiet, now=NOW + DAY, opening=opening())
    assert backup.last_opened(look(auditing)) == NOW
