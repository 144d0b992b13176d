"""Sinks that lie: forks, gaps, replays, withheld epochs and forged signatures are never restored."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from secretsops.errors import BrokenEscrow, SecretsOpsError, WorldFailed
from secretsops.escrow import backup
from secretsops.escrow import trust as roots
from secretsops.escrow.index import read_entry
from secretsops.escrow.places import Escrow, plain
from secretsops.escrow.survey import look
from tests.fakes.cluster import FakeCluster
from tests.fakes.sink import FakeSink
from tests.secretsops.escrow.worlds import (
    AGE,
    NOW,
    PIN,
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
    reading,
    sinks,
)


def three_epochs(count: int = 3) -> tuple[list[FakeSink], Escrow, FakeCluster]:
    """Give sinks with three epochs, and the cluster they are of."""
    found, source = sinks(count), cluster(key(0))
    signed = escrow(found)
    create(source, signed)
    for number in (1, 2):
        source.seed(key(number).body)
        create(source, signed)
    return found, signed, source


def restore(found: Escrow, **options: object) -> set[str]:
    """Restore into an empty cluster and give the names of its keys."""
    target = FakeCluster()
    backup.restore(target, reading(found), opening(), **options)  # type: ignore[arg-type]
    return names_of(target)


def refusal(found: Escrow, **options: object) -> str:
    """Give the reason why nothing is restored, with the proof that nothing was."""
    target = FakeCluster()
    with pytest.raises(SecretsOpsError) as caught:
        backup.restore(target, reading(found), opening(), **options)  # type: ignore[arg-type]
    assert names_of(target) == set()
    return caught.value.reason


def drop(sink: FakeSink, *starts: str) -> None:
    """Withhold files."""
    sink.files = {name: text for name, text in sink.files.items() if not name.startswith(starts)}


def test_what_was_escrowed_comes_back() -> None:
    """With the digest of the trust root alone: the root itself is in the sinks."""
    _, signed, _ = three_epochs()
    assert restore(signed) == {"key0", "key1", "key2"}


def test_the_newest_epoch_of_the_quorum_counts() -> None:
    """One sink that withholds epochs, or is away, changes nothing."""
    found, signed, _ = three_epochs()
    drop(found[0], "epoch-00000003", "epoch-00000002", "receipt-")
    found[1].away = True
    assert restore(signed) == {"key0", "key1", "key2"}


def test_without_a_quorum_nothing_is_restored() -> None:
    """Two of three away is an outage, two of three broken a broken escrow."""
    found, signed, _ = three_epochs()
    found[0].away = found[1].away = True
    assert refusal(signed) == "NoQuorum"
    with pytest.raises(WorldFailed):
        look(reading(signed))
    found[0].away = found[1].away = False
    for sink in found[:2]:
        del sink.files["epoch-00000002.json"]
    assert refusal(signed) == "Gap"


def test_an_escrow_that_every_sink_withholds_is_found_by_a_witness() -> None:
    """An entry kept in Git is its own witness; older is taken only with a reason, and that is said."""
    found, signed, _ = three_epochs()
    witness = read_entry("epoch-00000003.json", found[0].files["epoch-00000003.json"])
    for sink in found:
        drop(sink, "epoch-00000003")
    assert refusal(signed, witnesses=[witness]) == "Stale"
    assert restore(signed, witnesses=[witness], accept_stale="bucket lost, agreed with Ann") == {"key0", "key1"}
    forged = replace(witness, signatures=()).signed_with([STRANGER])
    assert refusal(signed, witnesses=[forged]) == "WitnessUntrusted"
    other = replace(witness, epoch=2, bundle=witness.bundle.replace("3-", "2-"), signatures=()).signed_with([SIGNER])
    assert refusal(signed, witnesses=[other]) == "Fork"
    assert refusal(signed, witnesses=[other], accept_stale="no reason is good enough") == "Fork"


def test_two_epochs_of_one_number_are_a_fork() -> None:
    """Both signed: a stolen signer, or two clusters. A person has to decide."""
    _, signed, source = three_epochs()
    create(cluster_with(source, 3), replace(signed, places=signed.places[:1], quorum=1))
    other = cluster_with(source)
    other.delete(backup.SECRET, "key0", namespace="kube-system")
    create(other, replace(signed, places=signed.places[1:2], quorum=1))
    assert refusal(signed) == "Fork"


def cluster_with(source: FakeCluster, *more: int) -> FakeCluster:
    """Give the same cluster as it might go on elsewhere."""
    for number in more:
        source.seed(key(number).body)
    return source


TAMPERINGS: dict[str, Callable[[bytes], bytes]] = {
    "a state": lambda text: text.replace(b'"state":"compromised"', b'"state":"sealing"'),
    "a recipient": lambda text: text.replace(
        RECIPIENT.encode(), RECIPIENT[:-1].encode() + (b"p" if RECIPIENT[-1] == "q" else b"q")
    ),
    "the cluster": lambda text: text.replace(b'"cluster":"prod"', b'"cluster":"test"'),
    "no signature": lambda text: re.sub(rb'"signatures":\[[^]]*\]', b'"signatures":[]', text),
}


@pytest.mark.parametrize("what", TAMPERINGS)
def test_a_forged_newest_entry_is_refused(what: str) -> None:
    """Nothing follows it in the chain: its signature is what holds."""
    found, source = sinks(1), cluster(key(0), key(1, label="compromised"))
    signed = escrow(found)
    create(source, signed)
    text = found[0].files["epoch-00000001.json"]
    found[0].files["epoch-00000001.json"] = TAMPERINGS[what](text)
    assert found[0].files["epoch-00000001.json"] != text
    assert refusal(signed) in {"Untrusted", "Unsigned"}


def test_a_stranger_s_signature_is_refused() -> None:
    """And one by a signer who was removed since; a signer who may vouches anew."""
    found, signed, source = three_epochs(1)
    entry = read_entry("epoch-00000003.json", found[0].files["epoch-00000003.json"])
    found[0].files[entry.name] = replace(entry, signatures=()).signed_with([STRANGER]).text()
    assert refusal(signed) == "Untrusted"
    found[0].files[entry.name] = entry.text()
    *before, newest = roots.successor(
        VERSIONS, remove=["prod"], add=[roots.Holder(name="new", key=STRANGER.public, roles=("bundles",))]
    )
    versions = [*before, roots.countersigned(newest, ROOT)]
    removed = replace(signed, versions=versions)
    with pytest.raises(BrokenEscrow) as caught:
        look(removed)
    assert caught.value.reason == "Untrusted"
    assert create(source, replace(removed, signers=[STRANGER])).action == "created"
    assert look(reading(signed)).newest.epoch == 4  # type: ignore[union-attr]
    with pytest.raises(BrokenEscrow) as caught:
        create(source, removed)
    assert caught.value.reason == "SignerUntrusted"


def test_a_withheld_trust_root_is_seen() -> None:
    """An entry names the version it was signed under; an older root than that is not enough."""
    found, signed, _ = three_epochs(1)
    drop(found[0], "trust-")
    with pytest.raises(BrokenEscrow) as caught:
        look(replace(reading(signed), versions=VERSIONS[:1]))
    assert caught.value.reason == "TrustWithheld"
    assert refusal(signed) == "NoTrust"


def test_a_forged_trust_root_in_a_sink_is_passed_over() -> None:
    """Only versions that the digest from outside reaches count; two signed ones contradict each other loudly."""
    found, signed, _ = three_epochs(1)
    theirs = roots.countersigned(roots.first([roots.Holder(name="root", key=STRANGER.public)], 1), STRANGER)
    found[0].files["trust-00000009-0000000000000000.json"] = roots.text([theirs])
    found[0].files["trust-00000010-0000000000000000.json"] = b"rubbish"
    assert restore(signed) == {"key0", "key1", "key2"}
    other = roots.successor(VERSIONS[:1], add=[roots.Holder(name="x", key=STRANGER.public, roles=("bundles",))])[-1]
    found[0].files["trust-00000002-1111111111111111.json"] = roots.text([VERSIONS[0], roots.countersigned(other, ROOT)])
    assert refusal(signed) == "TrustFork"


def test_a_signed_escrow_needs_the_digest_from_outside() -> None:
    """Without it nobody says who may sign; the cure names the custody card."""
    found, _, _ = three_epochs(1)
    target = FakeCluster()
    with pytest.raises(BrokenEscrow) as caught:
        backup.restore(target, plain(found, AGE), opening())
    assert (caught.value.reason, names_of(target)) == ("TrustNeeded", set())
    assert "custody card" in caught.value.hint


def test_an_unsigned_escrow_is_adopted_once_and_then_vouched_for() -> None:
    """Refused with a digest at first, with the cure; after a signed epoch the old ones are listed as unsigned."""
    found, source = sinks(1), cluster(key(0))
    backup.create(source, plain(found, AGE), backup.Order(recipients=[RECIPIENT], namespace="kube-system", now=NOW))
    signed = escrow(found)
    assert refusal(replace(signed, versions=VERSIONS)) in {"Unsigned", "NoTrust"}
    with pytest.raises(BrokenEscrow) as caught:
        look(signed)
    assert (caught.value.reason, "--signer" in caught.value.hint) == ("Unsigned", True)
    made = create(source, signed)
    assert (made.action, made.entry.epoch) == ("created", 2)
    assert any("epochs 1 to 1 are unsigned" in note for note in look(reading(signed)).notes())
    assert restore(signed) == {"key0"}
    assert create(source, signed).action == "unchanged"


def test_a_chain_of_yesterday_is_read(yesterday: tuple[FakeSink, FakeCluster]) -> None:
    """Files as the version before signatures wrote them (schema 1) restore, and a signer continues them."""
    (sink, source), target = yesterday, FakeCluster()
    backup.restore(target, plain([sink], AGE), opening())
    assert names_of(target) == {"key0", "key1"}
    signed = escrow([sink])
    made = create(source, signed)
    assert made.entry.epoch == 2
    assert restore(signed) == {"key0", "key1"}


def test_a_sink_that_lags_is_brought_level() -> None:
    """By the next backup, from the others, byte for byte."""
    found, signed, source = three_epochs(2)
    whole = dict(found[1].files)
    drop(found[1], "epoch-00000003", "receipt-00000003")
    assert create(source, signed).action == "unchanged"
    assert {name: text for name, text in found[1].files.items() if name.startswith("epoch-")} == {
        name: text for name, text in whole.items() if name.startswith("epoch-")
    }


def test_a_backup_goes_to_every_sink_or_fails() -> None:
    """A sink that is away, full, or gives back other bytes is no place where a backup is."""
    found, signed, source = three_epochs(2)
    source.seed(key(3).body)
    found[1].away = True
    with pytest.raises(SecretsOpsError):
        create(source, replace(signed, quorum=1))
    found[1].away = False
    found[1].writes_left = 1
    with pytest.raises(WorldFailed):
        create(source, signed)
    found[1].writes_left = 1000
    made = create(source, signed)
    assert made.receipt is not None
    assert [confirmed.sink for confirmed in made.receipt.sinks] == ["sink0", "sink1"]
    assert restore(signed) == {"key0", "key1", "key2", "key3"}
    assert PIN
