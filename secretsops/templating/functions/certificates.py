"""sprig's generated keys and certificates (sprig v3.3.0 `crypto.go`). Each key is paid for: it takes up to seconds.

Keys come from OpenSSL's own generator; serial numbers and dates from the rendering's `World`.

What never lives here: reading key stores (`keystores`).
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import Any

from secretsops.templating.evaluator import Run
from secretsops.templating.functions import pem
from secretsops.templating.functions.encodings import decode_base64
from secretsops.templating.gotypes import Struct
from secretsops.templating.signature import CallFailed, Function, function


def _generated(run: Run, kind: str, size: int = 2048) -> Any:
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

    run.world.chance(1)  # the key is OpenSSL's own chance: who watches the world is to know
    run.meter.key(3 if kind == "dsa" else 2 if size > 2048 else 1)
    resume = run.meter.pause()
    try:
        match kind:
            case "rsa":
                return rsa.generate_private_key(65537, size)
            case "dsa":
                return dsa.generate_private_key(2048)
            case "ecdsa":
                return ec.generate_private_key(ec.SECP256R1())
        return ed25519.Ed25519PrivateKey.generate()
    finally:
        resume()


def _private_key(run: Run, kind: bytes) -> bytes:
    name = kind.decode("utf-8", "replace") or "rsa"
    if name not in {"rsa", "dsa", "ecdsa", "ed25519"}:
        return b"Unknown type " + kind
    return pem.traditional(_generated(run, name, 4096))


def _given(text: bytes) -> Any:
    block = pem.first(text)
    if block is None:
        raise CallFailed("no PEM data in input")
    return pem.private_key(block)


def _certificate(text: bytes) -> Any:
    from cryptography import x509

    block = pem.first(text)
    if block is None:
        raise CallFailed("unable to decode certificate")
    try:
        return x509.load_der_x509_certificate(block.data)
    except ValueError:
        raise CallFailed("error parsing certificate") from None


def _names(ips: list[Any], dns: list[Any]) -> list[Any]:
    from cryptography import x509

    names: list[Any] = []
    for name in dns:
        if not isinstance(name, bytes):
            raise CallFailed("error processing alternate dns name: it is not a string")
        names.append(x509.DNSName(name.decode()))
    for address in ips:
        if not isinstance(address, bytes):
            raise CallFailed("error parsing ip: it is not a string")
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(address.decode())))
        except ValueError:
            raise CallFailed("error parsing ip") from None
    return names


def _issued(
    run: Run, name: bytes, days: int, key: Any, *, names: list[Any] | None = None, issuer: tuple[Any, Any] | None = None
) -> Struct:
    """Give certificate and key: self-signed, or by `issuer` (its certificate and key); a CA where `names` is None."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    signer = issuer[1] if issuer else key
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name.decode())] if name else [])
    start = datetime.fromtimestamp(run.world.now() // 10**9, UTC)
    usages = ("digital_signature", "key_encipherment", *(("key_cert_sign",) if names is None else ()))
    usage = {
        field: field in usages
        for field in (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        )
    }
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(run.world.chance(16), "big") >> 1 or 1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
    )
    if names is None:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    if issuer:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[1].public_key())
        builder = builder.add_extension(identifier, critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else SHA256()
    made = builder.sign(signer, digest)
    from cryptography.hazmat.primitives.serialization import Encoding

    encoded = pem.Block("CERTIFICATE", made.public_bytes(Encoding.DER)).encoded()
    return _pair(encoded, pem.traditional(key))


def _pair(certificate: bytes, key: bytes) -> Struct:
    return Struct("sprig.certificate", {b"Cert": certificate, b"Key": key})


def _ca(run: Run, name: bytes, days: int, *key: bytes) -> Struct:
    return _issued(run, name, days, _given(key[0]) if key else _generated(run, "rsa"))


def _self_signed(run: Run, name: bytes, ips: list[Any], dns: list[Any], days: int, *key: bytes) -> Struct:
    names = _names(ips, dns)
    return _issued(run, name, days, _given(key[0]) if key else _generated(run, "rsa"), names=names)


def _signed(run: Run, name: bytes, ips: list[Any], dns: list[Any], days: int, ca: Struct, *key: bytes) -> Struct:
    names = _names(ips, dns)
    issuer = _certificate(ca.fields[b"Cert"]), _given(ca.fields[b"Key"])
    own = _given(key[0]) if key else _generated(run, "rsa")
    return _issued(run, name, days, own, names=names, issuer=issuer)


def _custom(certificate: bytes, key: bytes) -> Struct:
    found, wrong = decode_base64(certificate)
    if wrong >= 0:
        raise CallFailed("unable to decode base64 certificate")
    private, wrong = decode_base64(key)
    if wrong >= 0:
        raise CallFailed("unable to decode base64 private key")
    _certificate(found)
    _given(private)
    return _pair(found, private)


TABLE: dict[str, Function] = {
    "genPrivateKey": function("string", _private_key, run=True),
    "genCA": function("string int", _ca, run=True),
    "genCAWithKey": function("string int string", _ca, run=True),
    "genSelfSignedCert": function("string list list int", _self_signed, run=True),
    "genSelfSignedCertWithKey": function("string list list int string", _self_signed, run=True),
    "genSignedCert": function("string list list int certificate", _signed, run=True),
    "genSignedCertWithKey": function("string list list int certificate string", _signed, run=True),
    "buildCustomCert": function("string string", _custom),
}
