"""Generators: what a recipe gives, what it refuses, and that chance alone decides."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from secretsops.errors import InvalidManifest, NotFound
from secretsops.external.entries import GeneratorRef
from secretsops.external.generating import Generators, ssh_keys
from secretsops.external.generators import Generator, _below, passwords
from secretsops.manifest import GroupVersionKind, Manifest


class Draws:
    """A source of bytes that repeats itself for a seed."""

    def __init__(self, seed: int = 0) -> None:
        self._count = seed << 32

    def __call__(self, size: int) -> bytes:
        self._count += 1
        return hashlib.shake_128(self._count.to_bytes(8, "big")).digest(size)


def _password(**spec: Any) -> Mapping[str, bytes]:
    generator = Generator(kind="Password", name="g", namespace="a", spec=spec)
    return {key: value.reveal() for key, value in passwords(generator, Draws()).items()}


def test_a_password_has_what_the_recipe_says() -> None:
    text = _password(length=40, digits=5, symbols=3, symbolCharacters="-_", allowRepeat=True)["password"].decode()
    assert len(text) == 40
    assert len(re.findall("[0-9]", text)) == 5
    assert len(re.findall("[-_]", text)) == 3


def test_by_default_a_quarter_are_digits_and_a_quarter_symbols_and_none_repeats() -> None:
    text = _password()["password"].decode()
    assert len(text) == len(set(text)) == 24
    assert len(re.findall("[0-9]", text)) == 6
    assert len(re.findall("[A-Za-z]", text)) == 12


def test_every_key_gets_a_password_of_its_own() -> None:
    made = _password(secretKeys=["a", "b"], allowRepeat=True)
    assert made.keys() == {"a", "b"}
    assert made["a"] != made["b"]


@pytest.mark.parametrize(
    ("encoding", "decode"),
    [("base64", base64.b64decode), ("base64url", base64.urlsafe_b64decode), ("base32", base64.b32decode)],
)
def test_a_password_is_encoded(encoding: str, decode: Any) -> None:
    assert decode(_password(encoding=encoding)["password"]) == _password()["password"]
    assert bytes.fromhex(_password(encoding="hex")["password"].decode()) == _password()["password"]


@pytest.mark.parametrize(
    "spec",
    [
        {"length": 5, "digits": 4, "symbols": 4},
        {"length": 40, "digits": 11, "symbols": 0},
        {"length": 40, "digits": 0, "symbols": 3, "symbolCharacters": "--"},
        {"length": 60, "digits": 0, "symbols": 0, "noUpper": True},
        {"length": 10, "symbols": 1, "symbolCharacters": "", "allowRepeat": True},
        {"length": 10**9, "allowRepeat": True},
        {"secretKeys": ["a", "a"]},
        {"secretKeys": [""]},
        {"secretKeys": [str(n) for n in range(101)]},
    ],
)
def test_a_recipe_that_cannot_be_met_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(InvalidManifest) as refused:
        _password(**spec)
    assert refused.value.hint


def test_draws_are_even() -> None:
    """A remainder alone would prefer small numbers; draws from beyond the last whole range are not used."""
    seen = [b"\xff\xff\xff\xff", b"\x00\x00\x00\x07"]
    assert _below(10, lambda _: seen.pop(0)) == 7
    draws = Draws()
    counted = Counter(_below(7, draws) for _ in range(7000))
    assert min(counted.values()) > 850
    assert max(counted.values()) < 1150


@pytest.mark.parametrize(
    "spec", [{}, {"keyType": "rsa", "keySize": 1024}, {"keyType": "ecdsa", "keySize": 384}, {"keyType": "ed25519"}]
)
def test_ssh_keys_are_a_pair(spec: dict[str, Any]) -> None:
    made = ssh_keys(Generator(kind="SSHKey", name="g", namespace="a", spec={**spec, "comment": "me@x\nssh-rsa evil"}))
    private = load_ssh_private_key(made["privateKey"].reveal(), None)
    public = load_ssh_public_key(made["publicKey"].reveal())
    assert private.public_key() == public
    assert made["publicKey"].reveal().count(b"\n") == 1, "a comment adds no line"


def test_ssh_keys_that_nobody_makes_are_refused() -> None:
    for spec in ({"keyType": "dsa"}, {"keyType": "rsa", "keySize": 256}):
        with pytest.raises(InvalidManifest):
            ssh_keys(Generator(kind="SSHKey", name="g", namespace="a", spec=spec))


# --- Which generator -----------------------------------------------------------------------------------


def _generators(*manifests: Manifest) -> Generators:
    known = {(each.kind.kind, each.namespace, each.name): each for each in manifests}

    def lookup(kind: GroupVersionKind, name: str, namespace: str) -> Manifest:
        found = known.get((kind.kind, namespace, name))
        if found is None:
            raise NotFound("no")
        return found

    return Generators(lookup, chance=Draws())


def _object(kind: str, spec: dict[str, Any], namespace: str = "") -> Manifest:
    metadata = {"name": "g", "namespace": namespace} if namespace else {"name": "g"}
    return Manifest(
        {"apiVersion": "generators.external-secrets.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
    )


def test_a_generator_of_another_namespace_is_not_found() -> None:
    generators = _generators(_object("Fake", {"data": {"k": "v"}}, "theirs"))
    with pytest.raises(InvalidManifest) as refused:
        generators(GeneratorRef("Fake", "g"), "ours")
    assert refused.value.reason == "GeneratorMissing"
    assert generators(GeneratorRef("Fake", "g"), "theirs")["k"].reveal() == b"v"


def test_a_cluster_generator_is_the_generator_it_holds() -> None:
    holder = _object("ClusterGenerator", {"kind": "Fake", "generator": {"fakeSpec": {"data": {"k": "v"}}}})
    assert _generators(holder)(GeneratorRef("ClusterGenerator", "g"), "any")["k"].reveal() == b"v"


@pytest.mark.parametrize(
    "spec", [{"kind": "Grafana", "generator": {"grafanaSpec": {}}}, {"kind": "Fake", "generator": {"uuidSpec": {}}}, {}]
)
def test_a_cluster_generator_that_holds_none_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(InvalidManifest):
        _generators(_object("ClusterGenerator", spec))(GeneratorRef("ClusterGenerator", "g"), "any")


def test_a_kind_that_is_not_built_is_refused_before_it_is_looked_for() -> None:
    with pytest.raises(InvalidManifest) as refused:
        _generators()(GeneratorRef("GithubAccessToken", "g"), "a")
    assert refused.value.reason == "Unsupported"


def test_an_identifier_is_of_version_4() -> None:
    made = _generators(_object("UUID", {}, "a"))(GeneratorRef("UUID", "g"), "a")
    assert re.fullmatch(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", made["uuid"].reveal())
