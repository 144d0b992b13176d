"""The chain finds what was removed, altered, moved, hidden or written anew; its readers survive anything."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drills.evidence.chain import Stage, link_name, new_head, read_head, read_link, verify
from drills.evidence.statement import fingerprint, pre_authentication, read_envelope, read_key
from drills.record import started_record
from secretsops.escrow.signing import new_signer
from tests.drills.evidence.chains import OTHER, RUNNER, Ledger, chain, run

KEYS = frozenset((RUNNER.public,))
HEADS = frozenset((OTHER.public,))
WHOLE = chain(3).files
LINKS = verify(WHOLE, runners=KEYS).links
HEAD = new_head(LINKS, "2026-01-09T00:00:00Z", OTHER)[1]


def reasons(files: dict[str, bytes], heads: list[bytes] | None = None) -> set[str]:
    found = verify(files, heads=[HEAD] if heads is None else heads, runners=KEYS, countersigners=HEADS)
    return {finding.reason for finding in found.findings if not finding.note}


def test_a_whole_chain_holds() -> None:
    """Nothing is wrong with what was written; what no head vouches for is noted."""
    assert reasons(WHOLE) == set()
    found = verify(WHOLE, heads=[HEAD], runners=KEYS, countersigners=HEADS)
    assert (found.holds, found.vouched, found.findings, len(found.links)) == (True, 6, [], 6)
    alone = verify(WHOLE, runners=KEYS, countersigners=HEADS)
    assert [(each.reason, each.note) for each in alone.findings] == [("NotCountersigned", True)]


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_removed_record_is_found(name: str) -> None:
    """The first, one in the middle, and the last, which only a head can tell."""
    assert reasons({each: text for each, text in WHOLE.items() if each != name})


def test_a_tail_cut_off_is_found_by_a_head_kept_elsewhere_alone() -> None:
    """The chain that is left is whole in itself: that is why heads are countersigned."""
    cut = {name: text for name, text in WHOLE.items() if name <= link_name(4)}
    assert reasons(cut, heads=[]) == set()
    assert reasons(cut) == {"Hidden"}


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_any_changed_byte_is_found(data: st.DataObject) -> None:
    """One byte of one file, anywhere: in payload, signature, or around them."""
    name = data.draw(st.sampled_from(sorted(WHOLE)))
    place = data.draw(st.integers(0, len(WHOLE[name]) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != WHOLE[name][place]))
    text = WHOLE[name][:place] + bytes([byte]) + WHOLE[name][place + 1 :]
    assert reasons({**WHOLE, name: text}, heads=[])


@given(st.permutations(sorted(WHOLE)), st.sets(st.sampled_from(sorted(WHOLE))))
@settings(max_examples=60, deadline=None)
def test_any_other_order_or_subset_is_found(order: list[str], removed: set[str]) -> None:
    """Files under one another's names, some of them gone, renumbered or not."""
    files = {name: WHOLE[source] for name, source in zip(sorted(WHOLE), order, strict=True) if source not in removed}
    close = {link_name(number): text for number, (_, text) in enumerate(sorted(files.items()), start=1)}
    for given_files in (files, close):
        assert bool(reasons(given_files)) is (given_files != WHOLE)


def test_a_chain_written_anew_by_the_runner_itself_is_found() -> None:
    """Whoever holds the runner's key can make a chain that is whole, with the failed run left out; not the head."""
    anew = chain(3)
    forged = Ledger()
    for number in (0, 2, 3):
        forged.whole(run(number))
    assert set(anew.files) == set(forged.files)
    assert reasons(forged.files, heads=[]) == set()
    assert reasons(forged.files) == {"Rewritten"}


def test_a_run_replayed_at_the_end_is_found() -> None:
    """A passed run of last month does not stand in for one of today: its number and joint are signed."""
    files = {**WHOLE, link_name(7): WHOLE[link_name(5)], link_name(8): WHOLE[link_name(6)]}
    assert "Moved" in reasons(files)


def test_only_those_who_may_sign() -> None:
    """Another's records, another's heads, and a runner that vouches for itself."""
    strange = Ledger(new_signer()[0])
    strange.whole(run(1))
    assert "NotSigned" in reasons(strange.files, heads=[])
    assert verify(strange.files).holds, "against the key it names it holds"
    own = new_head(LINKS, "2026-01-09T00:00:00Z", RUNNER)[1]
    found = verify(WHOLE, heads=[own], runners=KEYS)
    assert [finding.reason for finding in found.findings if not finding.note] == ["SameSigner"]
    stranger = new_head(LINKS, "2026-01-09T00:00:00Z", new_signer()[0])[1]
    assert reasons(WHOLE, heads=[stranger]) == {"BadHead"}
    assert reasons(WHOLE, heads=[HEAD[:-3]]) == {"BadHead"}


def test_a_start_without_an_end_counts_and_an_end_without_a_start_is_refused() -> None:
    """A run that was killed stays in sight; the next one may start."""
    killed = Ledger()
    killed.start(run(1))
    killed.whole(run(1, attempt=2))
    found = verify(killed.files, runners=KEYS)
    assert [finding.reason for finding in found.findings] == ["Unfinished", "NotCountersigned"]
    assert "run-1, attempt 1" in found.findings[0].message
    lone = Ledger()
    lone.add(Stage.ENDED, started_record(run(1)))
    assert "NoStart" in reasons(lone.files, heads=[])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@given(st.binary(max_size=300) | JSON.map(lambda body: json.dumps(body).encode()))
@settings(max_examples=200, deadline=None)
def test_readers_survive_anything(content: bytes) -> None:
    """What is no record gives None, never an exception; as a chain it gives a finding."""
    assert read_envelope(content) is None
    assert read_link(content) is None
    assert read_head(content) is None
    assert reasons({link_name(1): content}, heads=[]) == {"Altered"}


@given(JSON)
@settings(max_examples=60, deadline=None)
def test_a_signed_record_of_any_shape_is_read_without_an_exception(body: object) -> None:
    """Who may sign may still write nonsense: run id and attempt of the wrong type stop nobody."""
    made = Ledger()
    made.add(Stage.STARTED, {"identity": body} if isinstance(body, dict | list | str) else {})
    found = verify(made.files, runners=KEYS)
    assert len(found.links) == 1


def test_the_envelope_is_what_other_readers_expect() -> None:
    """DSSE's own test vector of the encoding; the subject is the digest of the record; keys in three spellings."""
    import base64
    import hashlib

    from secretsops.escrow import canonical

    envelope = json.loads(WHOLE[link_name(2)])
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert (
        statement["subject"][0]["digest"]["sha256"]
        == hashlib.sha256(canonical.encode(statement["predicate"])).hexdigest()
    )
    assert pre_authentication(b"hello world") == b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"
    assert envelope["signatures"][0]["keyid"] == fingerprint(RUNNER.public)
    assert read_key(RUNNER.public) == RUNNER.public
