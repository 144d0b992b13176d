"""The hint which key sealed what: written, read back, and never an error."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from secretsops.sealing.sealed_with import ANNOTATION, SealedWith, is_fingerprint

A, B, C = ("SHA256:" + letter * 43 for letter in "abc")
KEYS = st.dictionaries(st.text("abcXYZ019-._", min_size=1, max_size=8), st.sampled_from(["", A, B, C]), max_size=12)


@given(KEYS)
def test_what_was_written_is_read(keys: dict[str, str]) -> None:
    hint = SealedWith.of_items(keys)
    again = SealedWith.read({ANNOTATION: hint.text})
    assert {item: again.key_of(item) for item in keys} == keys
    assert hint == again


def test_one_key_is_its_fingerprint_and_the_rarer_one_names_its_items() -> None:
    assert SealedWith.of_items({"x": A, "y": A}).text == A
    assert SealedWith.of_items({"x": A, "y": A, "t": B, "s": B, "u": A}).text == f"{A} {B}=s,t"
    assert SealedWith.of_items({"x": "", "y": A}).text == f"{A}=y"


def test_an_item_sealed_anew_moves_and_one_removed_goes() -> None:
    before = SealedWith.of_items({"x": A, "y": A, "z": A})
    after = before.changed({"y": B}, ["x", "y"])
    assert (after.key_of("x"), after.key_of("y"), after.fingerprints) == (A, B, (A, B))
    assert after.changed({"x": B}, ["x", "y"]).text == B


@pytest.mark.parametrize(
    "text", [None, 3, "", "x", "SHA256:", A[:-1], A + "a", "SHA256:" + "!" * 43, "=" + A, "a" * 300_000, f"{A} " * 9000]
)
def test_a_malformed_hint_is_no_hint(text: object) -> None:
    assert SealedWith.read({ANNOTATION: text}) == SealedWith()


def test_the_first_entry_for_an_item_counts() -> None:
    assert SealedWith.read({ANNOTATION: f"{A}=x {B}=x {C} {A} junk"}).key_of("x") == A
    assert SealedWith.read({ANNOTATION: f"{A} {B} {B}=x"}).key_of("y") == A


def test_only_sha256_names_are_fingerprints() -> None:
    assert is_fingerprint("SHA256:+/" + "a" * 41)
    assert not is_fingerprint("MD5:" + "a" * 46)
