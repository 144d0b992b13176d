"""The public half of a sealing key: reading a certificate without a full X.509 library. Pure.

Sealing needs three facts of a certificate: its RSA key and the two ends of its validity. `cryptography.x509`
costs 29 ms to import, a quarter of the budget of `seal`, and refuses to list the extensions of upstream's
certificates (encipherOnly without keyAgreement); so the outer structure (RFC 5280 §4.1) is walked here and the key
is handed to `cryptography`. No signature is checked: whoever names the certificate file is trusted, as upstream.

What never lives here: private keys.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from secretsops.errors import InvalidManifest, Refused

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----")
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_RSA_ENCRYPTION = bytes.fromhex("2a864886f70d010101")
SMALLEST_KEY = 2048
"""Bits: anything shorter can be factored."""
WARN_DAYS = 30
"""How far ahead the end of a certificate is warned about: upstream renews after as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What clients seal with. `pem` is the first certificate of the text alone; times are UTC."""

    public: RSAPublicKey = field(repr=False)
    not_before: dt.datetime
    not_after: dt.datetime
    pem: bytes = field(repr=False)
    fingerprint: str

    def ends_soon(self, now: dt.datetime) -> str:
        """Give a warning in the last 30 days before the end and after it, "" before."""
        left = (self.not_after - now) // dt.timedelta(days=1)
        if left >= WARN_DAYS:
            return ""
        when = f"expired on {self.not_after:%Y-%m-%d}" if left < 0 else f"expires in {left} days"
        return f"the certificate {when} ({self.fingerprint}); fetch the present one: seal --fetch-cert > cert.pem"

    def refuse_expired(self, now: dt.datetime) -> None:
        """Refuse to seal with a certificate past its end, as kubeseal does.

        Raises:
            Refused: reason `CertificateExpired`.
        """
        if now > self.not_after:
            raise Refused(
                f"the certificate expired on {self.not_after:%Y-%m-%d} ({self.fingerprint})",
                reason="CertificateExpired",
                hint="fetch the present one: seal --fetch-cert > cert.pem; --allow-expired seals with it all the same",
            )


def read_certificate(text: bytes) -> Certificate:
    """Give the first certificate of a PEM text; what follows it (a chain, a key) is not looked at.

    Raises:
        InvalidManifest: no certificate, a broken one, or one whose key is not RSA of at least 2048 bits.
    """
    found = _PEM.search(text)
    if found is None:
        raise InvalidManifest(
            "there is no PEM certificate in it",
            reason="NotACertificate",
            hint="a certificate begins with '-----BEGIN CERTIFICATE-----'; fetch it: seal --fetch-cert",
        )
    try:
        der = base64.b64decode(b"".join(found[1].split()), validate=True)
        not_before, not_after, key = _essentials(der)
    except (ValueError, IndexError, binascii.Error):
        raise InvalidManifest("the certificate is damaged", reason="NotACertificate", hint="fetch it again") from None
    public = _rsa(key)
    return Certificate(
        public=public,
        not_before=not_before,
        not_after=not_after,
        pem=_as_pem(der),
        fingerprint=fingerprint_of(public),
    )


def fingerprint_of(public: RSAPublicKey) -> str:
    """Give OpenSSH's name of a key: `SHA256:` and the unpadded base64 digest of its `ssh-rsa` form (RFC 4253 §6.6)."""
    numbers = public.public_numbers()
    wire = b"".join(len(part).to_bytes(4, "big") + part for part in (b"ssh-rsa", _mpint(numbers.e), _mpint(numbers.n)))
    return "SHA256:" + base64.b64encode(hashlib.sha256(wire).digest()).decode().rstrip("=")


def _mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _as_pem(der: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return b"-----BEGIN CERTIFICATE-----\n" + b"\n".join(lines) + b"\n-----END CERTIFICATE-----\n"


def _rsa(spki: bytes) -> RSAPublicKey:
    """Give the key of a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7, RFC 8017 §A.1.1).

    `cryptography.hazmat.primitives.serialization` would do it and costs 9 ms to import, for the sake of SSH keys.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    public = None
    try:
        algorithm = _read(spki, _read(spki, 0, _SEQUENCE).start, _SEQUENCE)
        bits = _read(spki, algorithm.end, 0x03)
        key = spki[bits.start + 1 : bits.end]
        inner = _read(key, 0, _SEQUENCE)
        modulus = _read(key, inner.start, 0x02)
        exponent = _read(key, modulus.end, 0x02)
        oid = _read(spki, algorithm.start, 0x06)
        if spki[oid.start : oid.end] == _RSA_ENCRYPTION and exponent.end == inner.end == len(key):
            numbers = [int.from_bytes(key[part.start : part.end], "big") for part in (exponent, modulus)]
            public = RSAPublicNumbers(*numbers).public_key()
    except (ValueError, IndexError, TypeError):
        pass
    if public is None:
        raise InvalidManifest(
            "the certificate holds no RSA key", reason="NotRsa", hint="sealing keys are RSA; is this a TLS certificate?"
        )
    if public.key_size < SMALLEST_KEY:
        raise InvalidManifest(
            f"the certificate's RSA key has {public.key_size} bits", reason="WeakKey", hint="use at least 2048"
        )
    return public


def _essentials(der: bytes) -> tuple[dt.datetime, dt.datetime, bytes]:
    """Give notBefore, notAfter and the SubjectPublicKeyInfo of `Certificate.tbsCertificate`."""
    outer = _read(der, 0, _SEQUENCE)
    if outer.end != len(der):
        raise ValueError("bytes after the certificate")
    tbs = _read(der, outer.start, _SEQUENCE)
    position = tbs.start
    if der[position] == _VERSION:
        position = _read(der, position, _VERSION).end
    for tag in (0x02, _SEQUENCE, _SEQUENCE):  # serialNumber, signature, issuer
        position = _read(der, position, tag).end
    validity = _read(der, position, _SEQUENCE)
    begin = _read(der, validity.start)
    end = _read(der, begin.end)
    subject = _read(der, validity.end, _SEQUENCE)
    key = _read(der, subject.end, _SEQUENCE)
    return _time(der, begin), _time(der, end), der[subject.end : key.end]


@dataclass(frozen=True, slots=True)
class _Element:
    tag: int
    start: int
    end: int


def _read(der: bytes, position: int, tag: int = 0) -> _Element:
    """Give the element at `position`: definite lengths of at most three bytes, as DER has them."""
    found, length = der[position], der[position + 1]
    start = position + 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 3:
            raise ValueError("length")
        length = int.from_bytes(der[start : start + count], "big")
        start += count
    if (tag and found != tag) or start + length > len(der):
        raise ValueError("structure")
    return _Element(found, start, start + length)


def _time(der: bytes, element: _Element) -> dt.datetime:
    text = der[element.start : element.end].decode("ascii")
    if element.tag == _UTC_TIME:
        # RFC 5280 §4.1.2.5.1: two-digit years from 50 on are of the last century.
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif element.tag != _GENERALIZED_TIME:
        raise ValueError("time")
    if len(text) != 15 or text[14] != "Z":
        raise ValueError("time")
    cuts = ((0, 4), (4, 6), (6, 8), (8, 10), (10, 12), (12, 14))
    year, month, day, hour, minute, second = (int(text[begin:end]) for begin, end in cuts)
    return dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
