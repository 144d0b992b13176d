"""Sealing keys: reading, minting and ordering them. Pure but for the random numbers of a new key.

A key Secret is what upstream stores (`pkg/controller/keys.go`, sealed-secrets v0.38.4): type `kubernetes.io/tls`,
label `sealedsecrets.bitnami.com/sealed-secrets-key=active`, a PKCS#1 key and a self-signed certificate.

What never lives here: clusters, deciding when to renew (`controllers.sealing_keys`).
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from secretsops.errors import InvalidManifest
from secretsops.sealing import envelope as wire
from secretsops.sealing.certificate import SMALLEST_KEY, Certificate, fingerprint_of, read_certificate
from secretsops.sealing.scope import PREFIX
from secretsops.secret import Plaintext

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

KEY_LABEL = PREFIX + "sealed-secrets-key"
ACTIVE = "active"
STATE_ANNOTATION = "secretsops.dev/key-state"
"""On a key Secret: `open-only` and `compromised` keep it for opening, as does any word not known here. Upstream
ignores it, so the label stays what it reads."""
COMPROMISED, RETIRED = "compromised", "retired"
"""Words for a key that somebody else has, and for one that nothing needs any more. As the annotation the first keeps
what it sealed readable until that is sealed anew; as the label's value each takes the key out of use."""
KEY_PREFIX = "sealed-secrets-key"
DEFAULT_BITS = 4096
DEFAULT_TTL = dt.timedelta(days=3650)
SKEW = dt.timedelta(minutes=5)
"""How far ahead another machine's clock may be before its certificate counts as from the future."""
_PROBE = bytes(range(32))


class KeyState(StrEnum):
    """What a key may be used for."""

    ACTIVE = "active"
    OPEN_ONLY = "open-only"


class KeyOrder(StrEnum):
    """What makes a key the newest (upstream's `--key-order-priority`)."""

    CERTIFICATE = "CertNotBefore"
    CREATION = "SecretCreationTimestamp"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """One sealing key: opens with `private`, is published as `certificate`. `source` names the Secret it came from."""

    private: RSAPrivateKey = field(repr=False)
    certificate: Certificate
    state: KeyState = KeyState.ACTIVE
    source: str = ""
    created: dt.datetime | None = None

    @property
    def fingerprint(self) -> str:
        """Give OpenSSH's name of the key."""
        return self.certificate.fingerprint

    def private_pem(self) -> bytes:
        """Give the private key as upstream stores it: PKCS#1, unencrypted."""
        from cryptography.hazmat.primitives import serialization as form

        return self.private.private_bytes(form.Encoding.PEM, form.PrivateFormat.TraditionalOpenSSL, form.NoEncryption())


class KeyRing:
    """Every usable key, newest first. Immutable; prints fingerprints only."""

    __slots__ = ("_by_name", "_keys", "order")

    def __init__(self, keys: Iterable[KeyPair] = (), *, order: KeyOrder = KeyOrder.CERTIFICATE) -> None:
        self.order = order
        self._by_name = {key.fingerprint: key for key in keys}
        # Newest first; the fingerprint settles ties so that every replica serves the same key.
        self._keys = tuple(
            sorted(self._by_name.values(), key=lambda key: (self.dated(key), key.fingerprint), reverse=True)
        )

    def __iter__(self) -> Iterator[KeyPair]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.fingerprints)})"

    def __contains__(self, fingerprint: object) -> bool:
        return fingerprint in self._by_name

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Name the keys, newest first."""
        return tuple(key.fingerprint for key in self._keys)

    def dated(self, key: KeyPair) -> dt.datetime:
        """Give the date by which a key is older or newer than others in this ring."""
        if self.order is KeyOrder.CREATION and key.created is not None:
            return key.created
        return key.certificate.not_before

    def likely(self, moment: dt.datetime) -> tuple[str, ...]:
        """Name the keys in the order in which they are likely to have sealed something at `moment`.

        Whoever sealed then used the newest certificate there was; later ones follow, oldest first.
        """
        before = [key.fingerprint for key in self._keys if key.certificate.not_before <= moment]
        after = [key.fingerprint for key in self._keys if key.certificate.not_before > moment]
        return (*before, *reversed(after))

    def sealing_key(self, now: dt.datetime) -> KeyPair | None:
        """Give the key to seal with: the newest active one whose certificate has begun; None when there is none.

        A certificate from the future is passed over: it would win over every key minted until its date.
        Compat: an expired certificate is still served, as upstream does; clients refuse to seal with it.
        """
        for key in self._keys:
            if key.state is KeyState.ACTIVE and key.certificate.not_before <= now + SKEW:
                return key
        return None

    def open(self, text: object, *, label: bytes, first: Iterable[str] = ()) -> tuple[Plaintext, str]:
        """Open one item; gives the value and the fingerprint of the key that did it.

        Keys named in `first` are tried before the others, which follow newest first: a wrong key costs as much as
        the right one (1.5 ms at 4096 bits), so the order decides the cost of a full pass.

        Raises:
            InvalidManifest: the text is no base64.
            CannotUnseal: no key opens it; the message is the same whatever the cause.
        """
        envelope = wire.parse(text)
        for key in self._ordered(first):
            value = wire.unwrap(envelope, label=label, private=key.private)
            if value is not None:
                return value, key.fingerprint
        raise wire.cannot_unseal(tried=self.fingerprints)

    def _ordered(self, first: Iterable[str]) -> Iterator[KeyPair]:
        preferred = dict.fromkeys(first)
        yield from (self._by_name[name] for name in preferred if name in self._by_name)
        yield from (key for key in self._keys if key.fingerprint not in preferred)


def read_private_key(text: bytes) -> RSAPrivateKey:
    """Give the RSA key of a PEM text, PKCS#1 or PKCS#8.

    OpenSSL's own check of the primes costs 214 ms per key and is left out; that the key works is shown by
    `read_key_pair`, which opens what its certificate sealed.

    Raises:
        InvalidManifest: no such key, an encrypted one, or not RSA (the library's text is not passed on).
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(text, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, RSAPrivateKey):
        raise InvalidManifest(
            "there is no readable RSA private key in it",
            reason="NotAPrivateKey",
            hint="sealing keys are unencrypted PEM, 'BEGIN RSA PRIVATE KEY' or 'BEGIN PRIVATE KEY'",
        )
    if private.key_size < SMALLEST_KEY:
        raise InvalidManifest(f"the RSA key has {private.key_size} bits", reason="WeakKey", hint="use at least 2048")
    return private


def read_key_pair(
    key_pem: bytes,
    certificate_pem: bytes,
    *,
    state: KeyState = KeyState.ACTIVE,
    source: str = "",
    created: dt.datetime | None = None,
) -> KeyPair:
    """Give the pair, once what the certificate seals is opened by the key (1.6 ms at 4096 bits).

    Compat: upstream takes a certificate and key that do not belong together; what clients then seal never opens.

    Raises:
        InvalidManifest: unreadable, not RSA, or not a pair (reason `KeyMismatch`).
    """
    certificate = read_certificate(certificate_pem)
    private = read_private_key(key_pem)
    if certificate.fingerprint != fingerprint_of(private.public_key()):
        raise InvalidManifest(
            "the certificate belongs to another key",
            reason="KeyMismatch",
            hint="put the certificate of this very key under tls.crt",
        )
    sealed = wire.seal_with(Plaintext(b""), label=b"", public=certificate.public, session_key=_PROBE)
    if wire.unwrap(wire.parse(sealed), label=b"", private=private) is None:
        raise InvalidManifest("the private key is damaged", reason="KeyMismatch", hint="restore it from its backup")
    return KeyPair(private=private, certificate=certificate, state=state, source=source, created=created)


def read_key_secret(secret: Mapping[str, Any]) -> KeyPair:
    """Give the key pair of a key Secret's body.

    Raises:
        InvalidManifest: data are missing or broken; the Secret is named, its content never.
    """
    metadata = _mapping(secret, "metadata")
    source = f"{metadata.get('namespace') or ''}/{metadata.get('name') or ''}"
    annotations = _mapping(metadata, "annotations")
    try:
        return read_key_pair(
            _data(secret, "tls.key"),
            _data(secret, "tls.crt"),
            state=KeyState.ACTIVE if annotations.get(STATE_ANNOTATION, ACTIVE) == ACTIVE else KeyState.OPEN_ONLY,
            source=source,
            created=_timestamp(metadata.get("creationTimestamp")),
        )
    except InvalidManifest as error:
        raise InvalidManifest(f"key Secret {source}: {error.problem}", reason=error.reason, hint=error.hint) from None


def is_key_secret(secret: Mapping[str, Any], *, legacy_name: str = "") -> bool:
    """Say whether the label makes this Secret a usable key; `compromised` and every other value disable it.

    `legacy_name` is the one name that needs no label (the layout before upstream's 0.9). Compat: one that is labelled
    otherwise is disabled all the same; upstream reads it whatever its label says.
    """
    metadata = _mapping(secret, "metadata")
    state = _mapping(metadata, "labels").get(KEY_LABEL)
    return bool(state == ACTIVE or (state is None and legacy_name and metadata.get("name") == legacy_name))


def generate(
    *, now: dt.datetime, bits: int = DEFAULT_BITS, ttl: dt.timedelta = DEFAULT_TTL, common_name: str = ""
) -> KeyPair:
    """Mint a key with a certificate of upstream's shape (0.5 s and more at 4096 bits)."""
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

    return issue(generate_private_key(65537, bits), now=now, ttl=ttl, common_name=common_name)


def issue(private: RSAPrivateKey, *, now: dt.datetime, ttl: dt.timedelta, common_name: str = "") -> KeyPair:
    """Give `private` with a self-signed certificate as upstream issues it.

    Key usage is encipherOnly alone, which `x509.KeyUsage` refuses to build, so its two bytes are given as they
    are. The subject key identifier is Go's since 1.25: 20 bytes of SHA-256 over the key (RFC 7093 §2).
    """
    import hashlib

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    public = private.public_key()
    pkcs1 = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    subject = x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)] if common_name else [],
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + ttl)
        .add_extension(x509.UnrecognizedExtension(x509.oid.ExtensionOID.KEY_USAGE, b"\x03\x02\x00\x01"), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier(hashlib.sha256(pkcs1).digest()[:20]), critical=False)
        .sign(private, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    return KeyPair(private=private, certificate=read_certificate(pem))


def key_secret(
    key: KeyPair,
    *,
    namespace: str,
    prefix: str = KEY_PREFIX,
    name: str = "",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Give the body of the key Secret as upstream would create it: `generateName`, label, type, data.

    With `name` the API server takes that one instead of drawing it. The key's own label can't be overridden.
    """
    metadata: dict[str, Any] = {"generateName": prefix, "namespace": namespace}
    metadata |= {"name": name} if name else {}
    metadata["labels"] = {**(labels or {}), KEY_LABEL: ACTIVE}
    metadata |= {"annotations": dict(annotations)} if annotations else {}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "kubernetes.io/tls",
        "data": {
            "tls.crt": base64.b64encode(key.certificate.pem).decode(),
            "tls.key": base64.b64encode(key.private_pem()).decode(),
        },
    }


def _mapping(body: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """Give a field's mapping, an empty one where it is none: files hold what people and enemies write."""
    found = body.get(field)
    return found if isinstance(found, dict) else {}


def _data(secret: Mapping[str, Any], key: str) -> bytes:
    value = _mapping(secret, "data").get(key)
    plain = _mapping(secret, "stringData").get(key)
    if isinstance(plain, str):
        return plain.encode()
    if not isinstance(value, str) or not value:
        raise InvalidManifest(f"{key} is missing", reason="KeyMissing", hint="restore the key Secret from its backup")
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidManifest(f"{key} is not base64", reason="InvalidBase64") from None


def _timestamp(text: object) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
