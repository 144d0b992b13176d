"""Secret values never print themselves."""

from __future__ import annotations

import base64
import copy
import io
import json
import logging
import pickle
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretsops.errors import InvalidManifest
from secretsops.secret import Plaintext, SecretData

CANARY = "canary-5e1f"


def test_a_value_prints_its_length() -> None:
    """However it is formatted."""
    value = Plaintext(CANARY.encode())
    shown = [
        repr(value),
        str(value),
        f"{value}",
        f"{value!r:>40}",
        f"{value:x^30}",
        repr([value]),
    ]
    assert all(CANARY not in text for text in shown)
    assert repr(value) == f"Plaintext({len(CANARY)} bytes)"


def test_a_value_does_not_leave_by_other_doors() -> None:
    """No pickle, no JSON, no hash, no attribute dictionary, no byte protocol."""
    value: Any = Plaintext(CANARY.encode())
    for act in (
        lambda: pickle.dumps(value),
        lambda: copy.deepcopy(value),
        lambda: json.dumps(value),
        lambda: hash(value),
        lambda: vars(value),
        lambda: bytes(value),
        lambda: b"" + value,
    ):
        with pytest.raises(TypeError) as caught:
            act()
        assert CANARY not in str(caught.value)


def test_a_value_is_not_in_tracebacks_and_logs() -> None:
    """Nor in what logging makes of it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.Logger("test")  # noqa: LOG001
    logger.addHandler(handler)
    error = ValueError(Plaintext(CANARY.encode()))
    logger.error("failed %s", Plaintext(CANARY.encode()), exc_info=error)
    assert CANARY not in "".join(traceback.format_exception(error))
    assert CANARY not in stream.getvalue()
    assert "Plaintext(11 bytes)" in stream.getvalue()


def test_values_compare() -> None:
    """With each other only; an empty value is a value."""
    assert Plaintext(b"a") == Plaintext(b"a")
    assert Plaintext(b"a") != Plaintext(b"b")
    assert Plaintext(b"a") != b"a"
    assert bool(Plaintext(b""))
    assert (len(Plaintext(b"abc")), Plaintext(b"abc").reveal()) == (3, b"abc")


@given(st.dictionaries(st.text(min_size=1, max_size=10), st.binary(max_size=50), max_size=5))
def test_data_decodes_and_encodes(values: dict[str, bytes]) -> None:
    """The two are inverse."""
    data = {key: base64.b64encode(value).decode() for key, value in sorted(values.items())}
    decoded = SecretData.of({"data": data})
    assert {key: value.reveal() for key, value in decoded.items()} == values
    assert decoded.encoded() == data


def test_string_data_wins() -> None:
    """As on the API server; null is empty; line breaks in base64 are skipped."""
    data = SecretData.of({"data": {"a": "b25l", "b": "dH\r\ndv", "n": None}, "stringData": {"a": "two", "c": None}})
    assert {key: value.reveal() for key, value in data.items()} == {"a": b"two", "b": b"two", "n": b"", "c": b""}
    assert SecretData.of({}).encoded() == {}
    assert SecretData.of({"data": None, "stringData": None}).encoded() == {}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"data": {"key": CANARY}}, "InvalidBase64"),
        ({"data": {"key": "a"}}, "InvalidBase64"),
        ({"data": {"key": "YQ=="+" "}}, "InvalidBase64"),
        ({"data": {"key": {"x": CANARY}}}, "InvalidBase64"),
        ({"data": {"key": 5}}, "InvalidBase64"),
        ({"stringData": {"key": 5}}, "InvalidString"),
        ({"stringData": {"key": [CANARY]}}, "InvalidString"),
    ],
)  # fmt: skip
def test_bad_data_names_the_key_alone(body: dict[str, Any], reason: str) -> None:
    """Never the value."""
    with pytest.raises(InvalidManifest, match="'key'") as caught:
        SecretData.of(body)
    assert caught.value.reason == reason
    assert caught.value.hint
    assert CANARY not in f"{caught.value}{caught.value.hint}"


def test_data_prints_keys_and_sizes() -> None:
    """Not values."""
    data = SecretData({"b": Plaintext(b"12"), "a": Plaintext(CANARY.encode())})
    assert repr(data) == str(data) == f"SecretData(a: {len(CANARY)} bytes, b: 2 bytes)"
    assert (sorted(data), len(data), "a" in data) == (["a", "b"], 2, True)
