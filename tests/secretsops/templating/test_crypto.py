"""Generated keys, certificates, digests and stores, looked at by other eyes than ours."""

from __future__ import annotations

import base64
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from secretsops.errors import TemplateFailed
from secretsops.templating import Template, World, external_secrets

NOW = 1_800_000_000 * 10**9


def made(text: str, **data: bytes) -> bytes:
    world = World(now=lambda: NOW)
    return Template.parse(text, functions=external_secrets()).render(data, world=world)


@pytest.mark.parametrize(
    ("kind", "header", "key_type"),
    [
        ("", "RSA PRIVATE KEY", rsa.RSAPrivateKey),
        ("ecdsa", "EC PRIVATE KEY", ec.EllipticCurvePrivateKey),
        ("ed25519", "PRIVATE KEY", ed25519.Ed25519PrivateKey),
        ("dsa", "DSA PRIVATE KEY", dsa.DSAPrivateKey),
    ],
)
def test_keys_come_in_sprigs_forms(kind: str, header: str, key_type: type) -> None:
    """PKCS#1, SEC 1, PKCS#8 and OpenSSL's own for DSA; of the sizes sprig makes."""
    text = made(f'{{{{ genPrivateKey "{kind}" }}}}')
    assert text.startswith(f"-----BEGIN {header}-----\n".encode())
    key = serialization.load_pem_private_key(text, None)
    assert isinstance(key, key_type)
    assert getattr(key, "key_size", 256) in {4096, 256, 2048}


def test_a_signed_certificate_verifies_against_its_authority(tmp_path: Path) -> None:
    """By OpenSSL's own program: chain, names, validity from the rendering's clock."""
    text = made(
        '{{ $ca := genCA "root" 10 }}{{ $c := genSignedCert "leaf" (list "10.0.0.1") (list "a.example") 5 $ca }}'
        "{{ dict `ca` $ca.Cert `cert` $c.Cert `key` $c.Key | toJson }}"
    )
    found = json.loads(text)
    for name, pem in found.items():
        (tmp_path / name).write_text(pem)
    checked = subprocess.run(
        ["openssl", "verify", "-CAfile", "ca", "-verify_hostname", "a.example", "-verify_ip", "10.0.0.1",
         "-attime", str(NOW // 10**9 + 60), "cert"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.stdout.strip() == "cert: OK", checked.stderr
    leaf = x509.load_pem_x509_certificate(found["cert"].encode())
    root = x509.load_pem_x509_certificate(found["ca"].encode())
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.not_valid_before_utc == datetime.fromtimestamp(NOW // 10**9, UTC)
    key = serialization.load_pem_private_key(found["key"].encode(), None)
    assert key.public_key() == leaf.public_key()


def test_a_key_of_ones_own_can_be_certified() -> None:
    """`genCAWithKey`, `genSelfSignedCertWithKey`, `buildCustomCert`."""
    made(
        '{{ $k := genPrivateKey "ecdsa" }}{{ $ca := genCAWithKey "x" 1 $k }}'
        "{{ if ne $ca.Key $k }}{{ fail `another key` }}{{ end }}"
        '{{ $c := genSelfSignedCertWithKey "y" nil nil 1 $k }}'
        "{{ $b := buildCustomCert (b64enc $c.Cert) (b64enc $c.Key) }}"
        "{{ if ne $b.Cert $c.Cert }}{{ fail `another certificate` }}{{ end }}"
    )


def test_stores_open_with_another_library() -> None:
    """With and without a password; a trust store holds no key."""
    setup = '{{ $c := genSelfSignedCert "x" nil (list "a.b") 1 }}'
    plain = made(setup + "{{ pemToPkcs12 $c.Cert $c.Key }}")
    assert pkcs12.load_pkcs12(base64.b64decode(plain), None).key is not None
    shut = made(setup + '{{ fullPemToPkcs12Pass $c.Cert $c.Key "pw" }}')
    assert pkcs12.load_pkcs12(base64.b64decode(shut), b"pw").cert is not None
    trust = made(setup + '{{ pemTruststoreToPKCS12Pass $c.Cert "pw" }}')
    found = pkcs12.load_pkcs12(base64.b64decode(trust), b"pw")
    assert (found.key, len(found.additional_certs)) == (None, 1)


def test_a_store_that_asks_for_endless_rounds_is_refused() -> None:
    """OpenSSL would count for hours."""
    huge = _with_rounds(0x7FFFFFFF)
    with pytest.raises(TemplateFailed, match="too many rounds"):
        made('{{ pkcs12keyPass "p" .store }}', store=huge)


def _with_rounds(rounds: int) -> bytes:
    """Give the beginning of a store's own digest: salt, rounds."""
    body = b"\x04\x08saltsalt\x02\x04" + rounds.to_bytes(4, "big")
    return b"\x30" + bytes([len(body)]) + body


def test_bcrypt_is_bcrypt() -> None:
    """The digest checks against itself by crypt(3); htpasswd puts the user in front; 72 bytes are the most."""
    from secretsops.templating.libcrypt import crypt

    digest = made("{{ bcrypt .p }}", p=b"hunter2")
    assert len(digest) == 60
    assert crypt(b"hunter2", digest[:29]) == digest
    assert crypt(b"hunter3", digest[:29]) != digest
    line = made('{{ htpasswd "u" .p "bcrypt" }}', p=b"x")
    assert line.startswith(b"u:$2a$10$")
    assert made("{{ bcrypt .p }}", p=b"x" * 73).startswith(b"failed to encrypt")


def test_chance_comes_from_the_world_and_is_even() -> None:
    """The same chance gives the same text, from the alphabets sprig has."""
    world = World(chance=lambda count: bytes(range(count)))
    text = "{{ randAlphaNum 8 }} {{ randNumeric 4 }} {{ uuidv4 }} {{ randBytes 3 }}"
    template = Template.parse(text, functions=external_secrets())
    assert template.render({}, world=world) == b"ABCDEFGH 0123 00010203-0405-4607-8809-0a0b0c0d0e0f AAEC"
