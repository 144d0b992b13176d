"""From documents to Secret keys: whole values, properties, maps, key conversion, decoding, null bytes."""

from __future__ import annotations

import pytest

from secretsops.errors import InvalidManifest, SecretsOpsError, StoreRefused
from secretsops.external.select import checked_keys, convert_keys, decoded, extract, refuse_null_bytes, select
from secretsops.secret import Plaintext

CANARY = "canary-9f2c"


def text(value: Plaintext | None) -> str | None:
    return None if value is None else value.reveal().decode("utf-8", "replace")


def test_without_a_property_the_document_is_the_value() -> None:
    """Bytes pass untouched, whether or not they are text."""
    assert select(Plaintext(b"\x00\xff"), "", "aws") == Plaintext(b"\x00\xff")


@pytest.mark.parametrize(
    ("dialect", "name", "value"),
    [
        ("vault", "a.b", "literal"),
        ("vault", "o", '{"k":"\\u003c","z":1.0}'),
        ("vault", "n", "1.0"),
        ("vault", "nul", ""),
        ("vault", "t", "true"),
        ("vault", "o.k", "<"),
        ("aws", "a.b", "literal"),
        ("aws", "o", '{"z":1.0, "k":"<"}'),
        ("aws", "n", "1"),
        ("plain", "a.b", "nested"),
    ],
)
def test_each_provider_has_its_own_idea_of_a_property(dialect: str, name: str, value: str) -> None:
    """Vault and AWS take a literal name first; Vault re-encodes, AWS gives source text."""
    document = Plaintext(b'{"a.b":"literal","a":{"b":"nested"},"o":{"z":1.0, "k":"<"},"n":1.0,"nul":null,"t":true}')
    assert text(select(document, name, dialect)) == value


def test_extract_gives_strings_as_they_are_and_the_rest_as_json() -> None:
    document = Plaintext(b'{"s":"x","n":1.0,"big":9007199254740993,"o":{"b":[1, 2]},"nul":null,"t":true}')
    assert {key: text(value) for key, value in extract(document, "aws").items()} == {
        "s": "x", "n": "1.0", "big": "9007199254740993", "o": '{"b":[1, 2]}', "nul": "", "t": "true",
    }  # fmt: skip
    assert {key: text(value) for key, value in extract(document, "vault").items()} == {
        "s": "x", "n": "1", "big": "9007199254740992", "o": '{"b":[1,2]}', "nul": "", "t": "true",
    }  # fmt: skip


@pytest.mark.parametrize("number", [("1e21", "1000000000000000000000"), ("1e-7", "0.0000001"), ("1.5", "1.5")])
def test_vault_numbers_are_written_without_an_exponent(number: tuple[str, str]) -> None:
    assert text(extract(Plaintext(f'{{"n":{number[0]}}}'.encode()), "vault")["n"]) == number[1]


@pytest.mark.parametrize("number", [("1e21", "1e+21"), ("1e-7", "1e-7"), ("0.000001", "0.000001"), ("2e0", "2")])
def test_nested_vault_numbers_are_written_as_go_marshals_them(number: tuple[str, str]) -> None:
    assert text(extract(Plaintext(f'{{"o":[{number[0]}]}}'.encode()), "vault")["o"]) == f"[{number[1]}]"


@pytest.mark.parametrize("dialect", ["vault", "aws", "plain"])
@pytest.mark.parametrize(
    "document", ["[1]", "", f"{CANARY} is no JSON", f'{{"a":{CANARY}}}', "\udcff".encode("utf-8", "surrogateescape")]
)
def test_what_is_no_object_is_refused_without_being_told(dialect: str, document: str | bytes) -> None:
    """No parser's text and no part of the value appears in the refusal."""
    raw = document if isinstance(document, bytes) else document.encode()
    with pytest.raises(StoreRefused) as caught:
        extract(Plaintext(raw), dialect)
    assert caught.value.reason == "Invalid"
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_property_is_none() -> None:
    for dialect in ("vault", "aws", "plain"):
        assert select(Plaintext(b'{"a":1}'), "b", dialect) is None


def test_keys_are_made_valid_or_refused() -> None:
    """Bad characters become an underscore or their code; what still cannot be a key is refused, empty keys go."""
    value = Plaintext(b"v")
    assert list(convert_keys({"a b": value, "c/d": value, "ok.1": value}, "Default")) == ["a_b", "c_d", "ok.1"]
    assert list(convert_keys({"a b": value, "☃": value}, "Unicode")) == ["a_U0020_b", "_U2603_"]
    with pytest.raises(InvalidManifest, match="two keys become"):
        convert_keys({"a b": value, "a/b": value}, "Default")
    assert checked_keys({"": value, "a": value}) == {"a": value}
    with pytest.raises(InvalidManifest, match="cannot be a key"):
        checked_keys({"x" * 254: value})


@pytest.mark.parametrize(
    ("strategy", "value", "result"),
    [
        ("None", "aGk=", "aGk="),
        ("Base64", "aGk=", "hi"),
        ("Base64", "aG\nk=", "hi"),
        ("Base64URL", "_-8=", "\ufffd\ufffd"),
        ("Auto", "aGk=", "hi"),
        ("Auto", "_-8=", "\ufffd\ufffd"),
        ("Auto", "not base64!", "not base64!"),
    ],
)
def test_values_are_decoded_by_strategy(strategy: str, value: str, result: str) -> None:
    assert text(decoded(Plaintext(value.encode()), strategy, "k")) == result


@pytest.mark.parametrize(("strategy", "value"), [("Base64", CANARY + "!"), ("Base64URL", "a+b/"), ("Odd", "x")])
def test_what_does_not_decode_is_refused_by_key(strategy: str, value: str) -> None:
    with pytest.raises(InvalidManifest) as caught:
        decoded(Plaintext(value.encode()), strategy, "the-key")
    assert value not in str(caught.value)


def test_null_bytes_pass_unless_they_are_to_fail() -> None:
    values = {"k": Plaintext(b"a\0b")}
    refuse_null_bytes(values, "Ignore")
    with pytest.raises(SecretsOpsError, match="null bytes"):
        refuse_null_bytes(values, "Fail")
