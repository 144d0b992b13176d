"""Dummies of a rehearsal: the keys that a Secret will have and those that its type demands, each of a fitting form."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from recovery.rehearse import DUMMY, dummies_of, type_of
from secretsops.manifest import Manifest, load_all
from secretsops.sealing.certificate import read_certificate
from secretsops.sealing.keys import generate, read_private_key
from tests.recovery.proof.lint_cases import external, obj, sealed

KEY = generate(now=dt.datetime(2026, 1, 1, tzinfo=dt.UTC), bits=2048)


def one(text: str) -> Manifest:
    return load_all(text.encode())[0]


def typed(kind: str, items: str) -> Manifest:
    old = "encryptedData: {a: AgA=}"
    return one(sealed("s").replace(old, f"encryptedData: {{{items}}}, template: {{type: {kind}}}"))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("kubernetes.io/tls", {"a", "tls.crt", "tls.key"}),
        ("kubernetes.io/dockerconfigjson", {"a", ".dockerconfigjson"}),
        ("kubernetes.io/dockercfg", {"a", ".dockercfg"}),
        ("kubernetes.io/ssh-auth", {"a", "ssh-privatekey"}),
        ("kubernetes.io/basic-auth", {"a", "username", "password"}),
        ("Opaque", {"a"}),
    ],
)
def test_a_type_gets_the_keys_it_demands(kind: str, names: set[str]) -> None:
    """Beside its own."""
    maker = typed(kind, "a: AgA=")
    assert type_of(maker) == kind
    assert set(dummies_of(maker, KEY)) == names


def test_values_are_of_the_form_that_their_name_promises() -> None:
    """A pair that belongs together, JSON that parses; the rest says what it is."""
    items = "ca.crt: AgA=, config.json: AgA=, .dockerconfigjson: AgA=, a: AgA="
    found = dummies_of(typed("kubernetes.io/tls", items), KEY)
    certificate, private = read_certificate(found["tls.crt"]), read_private_key(found["tls.key"])
    assert certificate.public.public_numbers() == private.public_key().public_numbers()
    assert json.loads(found[".dockerconfigjson"]) == {"auths": {}}
    assert json.loads(found["config.json"]) == {}
    assert found["a"] == DUMMY


def test_other_makers() -> None:
    """An ExternalSecret has the keys it pulls, or those of its template; a Certificate a pair and its CA."""
    assert set(dummies_of(one(external("x")), KEY)) == {"a"}
    templated = external("x", more=", target: {template: {data: {url: 'x'}}}")
    assert set(dummies_of(one(templated), KEY)) == {"url"}
    certificate = one(obj("cert-manager.io/v1", "Certificate", "c", "spec: {secretName: t}"))
    assert set(dummies_of(certificate, KEY)) == {"ca.crt", "tls.crt", "tls.key"}
