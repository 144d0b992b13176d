"""The wire format: round trips, what is bound, what errors never tell."""

from __future__ import annotations

import base64
import contextlib
import traceback

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from secretsops.errors import CannotUnseal, InvalidManifest
from secretsops.sealing.envelope import Envelope, compose, parse, seal, seal_with, unwrap
from secretsops.secret import Plaintext

PRIVATE = rsa.generate_private_key(65537, 2048)
PUBLIC = PRIVATE.public_key()


@settings(deadline=None, max_examples=60)
@given(value=st.binary(max_size=300), label=st.binary(max_size=40))
def test_what_is_sealed_opens_to_the_same_bytes(value: bytes, label: bytes) -> None:
    """Sealing and opening are inverse for any value and label."""
    opened = unwrap(parse(seal(Plaintext(value), label=label, public=PUBLIC)), label=label, private=PRIVATE)
    assert opened is not None
    assert value == opened.reveal()


@settings(deadline=None, max_examples=60)
@given(label=st.binary(max_size=20), other=st.binary(max_size=20))
def test_only_its_own_label_opens(label: bytes, other: bytes) -> None:
    """A ciphertext is bound to the place it was sealed for."""
    text = seal(Plaintext(b"v"), label=label, public=PUBLIC)
    assert (label == other) == (unwrap(parse(text), label=other, private=PRIVATE) is not None)


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_a_flipped_bit_never_opens(data: st.DataObject) -> None:
    """Every bit is authenticated; a damaged item is an error of ours or does not open."""
    raw = bytearray(base64.b64decode(seal(Plaintext(b"value"), label=b"a/b", public=PUBLIC)))
    position = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[position // 8] ^= 1 << position % 8
    with contextlib.suppress(CannotUnseal):
        assert unwrap(parse(base64.b64encode(raw).decode()), label=b"a/b", private=PRIVATE) is None


@settings(deadline=None, max_examples=200)
@given(text=st.text(max_size=400))
def test_any_text_is_an_envelope_or_our_error(text: str) -> None:
    """Hostile input never ends in a foreign exception."""
    with contextlib.suppress(InvalidManifest, CannotUnseal):
        unwrap(parse(text), label=b"", private=PRIVATE)


@given(wrapped=st.binary(max_size=600), body=st.binary(min_size=16, max_size=60))
def test_parse_and_compose_are_inverse(wrapped: bytes, body: bytes) -> None:
    """The framing keeps both parts apart whatever they hold."""
    envelope = Envelope(wrapped=wrapped, body=body)
    assert envelope == parse(compose(envelope))


def test_the_same_session_key_gives_the_same_body() -> None:
    """Chance is an argument of the inner function: only the RSA part differs."""
    first, second = (
        parse(seal_with(Plaintext(b"x"), label=b"", public=PUBLIC, session_key=bytes(32))) for _ in range(2)
    )
    assert first.body == second.body
    assert first.wrapped != second.wrapped


def test_errors_hold_no_plaintext_and_no_ciphertext() -> None:
    """What is wrong with an item is said without any of it."""
    for text in ("hunter2-canary!", base64.b64encode(b"\x00\x05hunter2-canary").decode()):
        with pytest.raises((InvalidManifest, CannotUnseal)) as caught:
            parse(text)
        told = "".join(traceback.format_exception(caught.value, chain=True))
        assert "canary" not in told.split("secretsops.errors")[-1]
        assert caught.value.__cause__ is None
