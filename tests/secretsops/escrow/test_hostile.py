"""Files of a sink as somebody hostile writes them: an error of ours, never a crash, a hang or a leak."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secretsops.errors import SecretsOpsError
from secretsops.escrow import bundle, canonical, proof
from secretsops.escrow import trust as roots
from secretsops.escrow.claim import read_claims
from secretsops.escrow.index import read_chain, read_entry
from secretsops.escrow.receipt import read_receipt, says_escrowed
from secretsops.escrow.signing import read_signer, signed_by
from secretsops.secret import Plaintext
from tests.secretsops.escrow.worlds import IDENTITY, PIN, RECIPIENT, cluster, create, escrow, key, prove, sinks


def documents() -> dict[str, bytes]:
    """Give one real file of each kind."""
    found = sinks(1)
    signed = escrow(found)
    create(cluster(key(0)), signed)
    prove(signed, RECIPIENT, IDENTITY)
    return {name: text for name, text in found[0].files.items() if name.endswith(".json")}


REAL = documents()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def read_everything(name: str, content: bytes) -> None:
    """Give a file to every reader there is; what they refuse has a reason."""
    reasons = []
    for read in (
        lambda: read_entry(name, content),
        lambda: read_chain({"epoch-00000001.json": content}),
        lambda: read_claims({"claim-00000001.json": content}, None),
        lambda: proof.read_challenge(content).until,
        lambda: proof.challenge_of(content),
        lambda: proof.proven_until({name: content}, cluster="prod", recipients=[RECIPIENT], trust=None),
        lambda: read_receipt(content),
        lambda: roots.read_trust(content, PIN),
        lambda: signed_by(canonical.decode(content) or {}),
        lambda: says_escrowed(content.decode("utf-8", "replace"), cluster="prod", incarnation="x", fingerprint="y"),
        lambda: read_signer(Plaintext(content)),
        lambda: bundle.unpack(Plaintext(content), []),
    ):
        try:
            read()
        except SecretsOpsError as error:
            reasons.append(error.reason)
    assert all(reasons)


@given(st.binary(max_size=400))
def test_rubbish(content: bytes) -> None:
    """Any bytes."""
    read_everything("epoch-00000001.json", content)


@settings(max_examples=200)
@given(st.sampled_from(sorted(REAL)), st.data())
def test_a_field_of_another_kind(name: str, data: st.DataObject) -> None:
    """A real document with one field replaced, dropped or added, written canonically."""
    body: dict[str, Any] = json.loads(REAL[name])
    field = data.draw(st.sampled_from([*sorted(body), "more"]))
    body[field] = data.draw(VALUES)
    if data.draw(st.booleans()):
        del body[field]
    try:
        content = canonical.encode(body)
    except ValueError:
        return
    read_everything(name, content)


@pytest.mark.parametrize(
    "content",
    [b"[" * 1_000_000, b'{"a":' * 500_000, b"{}" * 10, b'"' + b"a" * 5_000_000, b"1" * 100_000, b"\x00" * 1000],
    ids=["deep", "deeper", "many", "large", "number", "zeros"],
)
def test_large_and_deep(content: bytes) -> None:
    """Bounded, in a moment."""
    read_everything("epoch-00000001.json", content)
