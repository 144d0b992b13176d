"""Keys and certificates: upstream's are read, ours have its shape, broken ones are told apart."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from secretsops.errors import CannotUnseal, InvalidManifest, Refused
from secretsops.sealing import envelope
from secretsops.sealing.certificate import read_certificate
from secretsops.sealing.keys import (
    KeyPair,
    KeyRing,
    KeyState,
    generate,
    is_key_secret,
    key_secret,
    read_key_pair,
    read_key_secret,
    read_private_key,
)
from secretsops.secret import Plaintext

NOW = dt.datetime(2027, 1, 1, 12, 0, 0, tzinfo=dt.UTC)


def test_recorded_key_secrets_load_with_their_fingerprint(key_folder: Path) -> None:
    """Fingerprint, validity and key of every key Secret are those recorded from upstream."""
    folders = sorted(path for path in key_folder.iterdir() if path.is_dir())
    assert folders
    for folder in folders:
        about = yaml.safe_load((folder / "about.yaml").read_text())
        key = read_key_secret(yaml.safe_load((folder / "secret.yaml").read_text()))
        assert about["fingerprint"] == key.fingerprint
        assert about["bits"] == key.private.key_size
        assert about["not_after"] == key.certificate.not_after.strftime("%Y-%m-%dT%H:%M:%SZ")
        assert about["not_before"] == key.certificate.not_before.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_our_certificate_has_the_shape_of_upstreams(key_folder: Path) -> None:
    """Same extensions in the same order and bytes, same names and signature algorithm; only key and dates differ."""
    theirs = x509.load_pem_x509_certificate((key_folder / "alpha" / "tls.crt").read_bytes())
    key = generate(now=NOW, bits=2048)
    ours = x509.load_pem_x509_certificate(key.certificate.pem)

    def shape(certificate: x509.Certificate, mask: bytes) -> tuple[object, ...]:
        tbs = certificate.tbs_certificate_bytes
        usage_on = tbs[tbs.index(b"\x06\x03\x55\x1d\x0f") :].replace(mask, b"*" * 20)
        return (
            certificate.subject,
            certificate.issuer,
            certificate.signature_algorithm_oid,
            certificate.version,
            usage_on,
        )

    def identifier(certificate: x509.Certificate) -> bytes:
        tbs = certificate.tbs_certificate_bytes
        start = tbs.index(b"\x06\x03\x55\x1d\x0e") + 9
        return tbs[start : start + 20]

    assert shape(theirs, identifier(theirs)) == shape(ours, identifier(ours))
    assert key.certificate.not_before == NOW
    assert dt.timedelta(days=3650) == key.certificate.not_after - key.certificate.not_before


def test_the_key_identifier_is_computed_as_upstream_does(key_folder: Path, alpha: KeyPair) -> None:
    """Issuing anew for a recorded key gives the recorded identifier."""
    from secretsops.sealing.keys import issue

    theirs = (key_folder / "alpha" / "tls.crt").read_bytes()
    ours = issue(alpha.private, now=NOW, ttl=dt.timedelta(days=1)).certificate.pem
    marker = b"\x06\x03\x55\x1d\x0e"
    found = []
    for pem in (theirs, ours):
        tbs = x509.load_pem_x509_certificate(pem).tbs_certificate_bytes
        found.append(tbs[tbs.index(marker) : tbs.index(marker) + 29])
    assert found[0] == found[1]


def test_a_minted_key_survives_its_secret() -> None:
    """What is stored is what is read; the Secret is labelled, and the key is PKCS#1 as upstream writes it."""
    key = generate(now=NOW, bits=2048, common_name="here")
    body = key_secret(key, namespace="sealing")
    assert is_key_secret(body)
    assert b"BEGIN RSA PRIVATE KEY" in key.private_pem()
    assert key.fingerprint == read_key_secret(body).fingerprint
    body["metadata"]["labels"] = {"sealedsecrets.bitnami.com/sealed-secrets-key": "compromised"}
    assert not is_key_secret(body)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "NotACertificate"),
        (b"hello", "NotACertificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "NotACertificate"),
        (b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", "NotACertificate"),
    ],
)
def test_what_is_no_certificate_is_refused(content: bytes, reason: str) -> None:
    """Text that is no certificate is an error of ours with a stable reason."""
    with pytest.raises(InvalidManifest) as caught:
        read_certificate(content)
    assert reason == caught.value.reason


def test_every_truncation_of_a_certificate_is_refused(key_folder: Path) -> None:
    """The walk over the outer structure never reads past the end, wherever it is cut."""
    der = x509.load_pem_x509_certificate((key_folder / "echo2048" / "tls.crt").read_bytes()).public_bytes(Encoding.DER)
    from secretsops.sealing.certificate import _as_pem

    for length in range(0, len(der), 7):
        with pytest.raises(InvalidManifest):
            read_certificate(_as_pem(der[:length]))


def test_a_chain_gives_its_first_certificate(key_folder: Path, alpha: KeyPair) -> None:
    """As upstream: what follows the first certificate is not looked at."""
    chain = b"".join((key_folder / name / "tls.crt").read_bytes() for name in ("alpha", "bravo"))
    assert alpha.fingerprint == read_certificate(b"subject=whoever\n" + chain).fingerprint


def test_a_key_and_a_certificate_that_do_not_belong_together_are_refused(alpha: KeyPair, bravo: KeyPair) -> None:
    """What clients would seal with that certificate could never be opened."""
    with pytest.raises(InvalidManifest) as caught:
        read_key_pair(alpha.private_pem(), bravo.certificate.pem)
    assert caught.value.reason == "KeyMismatch"


def test_other_private_keys_are_refused() -> None:
    """An EC key, an encrypted key and nonsense have one reason, and the library's text is not passed on."""
    curve = ec.generate_private_key(ec.SECP256R1())
    for text in (curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), b"canary", b""):
        with pytest.raises(InvalidManifest) as caught:
            read_private_key(text)
        assert caught.value.reason == "NotAPrivateKey"
        assert caught.value.__cause__ is None


def test_the_ring_orders_by_certificate_and_tries_all(alpha: KeyPair, bravo: KeyPair, echo: KeyPair) -> None:
    """Newest first, doubles once; an item of an old key opens and its key is named."""
    ring = KeyRing([alpha, bravo, alpha])
    assert ring.fingerprints == (bravo.fingerprint, alpha.fingerprint)
    text = envelope.seal(Plaintext(b"v"), label=b"a/b", public=alpha.certificate.public)
    value, key = ring.open(text, label=b"a/b", first=[echo.fingerprint, alpha.fingerprint])
    assert (value.reveal(), key) == (b"v", alpha.fingerprint)
    with pytest.raises(CannotUnseal) as caught:
        KeyRing([bravo]).open(text, label=b"a/b")
    assert caught.value.tried == (bravo.fingerprint,)


def test_open_only_and_future_keys_never_seal(alpha: KeyPair, bravo: KeyPair) -> None:
    """The newest key that is active and has begun is served; others still open."""
    from dataclasses import replace

    ring = KeyRing([alpha, replace(bravo, state=KeyState.OPEN_ONLY)])
    sealing = ring.sealing_key(NOW)
    assert sealing is not None
    assert alpha.fingerprint == sealing.fingerprint
    assert ring.sealing_key(alpha.certificate.not_before - dt.timedelta(hours=1)) is None
    assert KeyRing().sealing_key(NOW) is None


def test_an_expired_certificate_is_refused_for_sealing(key_folder: Path) -> None:
    """As kubeseal since 0.18."""
    certificate = read_certificate((key_folder / "golf-expired" / "tls.crt").read_bytes())
    with pytest.raises(Refused) as caught:
        certificate.refuse_expired(NOW)
    assert caught.value.reason == "CertificateExpired"


def test_nothing_prints_a_private_key(alpha: KeyPair) -> None:
    """Representations name fingerprints only."""
    assert "PRIVATE" not in repr(alpha) + repr(KeyRing([alpha]))
    assert "_RSAPrivateKey" not in repr(alpha)
