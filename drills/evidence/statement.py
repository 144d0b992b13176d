"""The signed form of a record: an in-toto statement in a DSSE envelope, one canonical text each. Pure.

Any DSSE reader checks it (`cosign verify-blob-attestation` among them): payload type `application/vnd.in-toto+json`,
`keyid` the OpenSSH fingerprint of the key. Keys are written `ed25519:BASE64` or, of AWS KMS, `ecdsa-p256:BASE64` (the
SubjectPublicKeyInfo). Sources: secure-systems-lab/dsse v1.0 `protocol.md`, in-toto/attestation `spec/v1/statement.md`.

Never here: what a record says, who may sign (`secretsops.escrow.trust`), private keys.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secretsops.errors import UsageError
from secretsops.escrow import canonical, signing
from secretsops.ports import Notary

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE = "https://secretsops.dev/drill/"
ECDSA = "ecdsa-p256:"
SIGNATURE_LIMIT = 8
"""Signatures of one envelope: a runner's, a few countersigners'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature: fingerprint of its key, and its bytes."""

    keyid: str
    made: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A payload with signatures, as read. Nothing in it is believed before `signed_by` names a known key."""

    payload: bytes
    signatures: Sequence[Signature]

    def text(self) -> bytes:
        """Give the file's bytes."""
        body = {
            "payloadType": PAYLOAD_TYPE,
            "payload": base64.b64encode(self.payload).decode(),
            "signatures": [
                {"keyid": each.keyid, "sig": base64.b64encode(each.made).decode()} for each in self.signatures
            ],
        }
        return canonical.encode(body)

    def signed_by(self, keys: Iterable[str]) -> frozenset[str]:
        """Give those of `keys` (public texts) whose signature is there and valid."""
        content = pre_authentication(self.payload)
        by_id = {each.keyid: each.made for each in self.signatures}
        found = set()
        for key in keys:
            made = by_id.get(fingerprint(key))
            if made is not None and is_signature(key, made, content):
                found.add(key)
        return frozenset(found)


def sealed(predicate_type: str, name: str, predicate: Mapping[str, Any], notaries: Sequence[Notary]) -> bytes:
    """Give the envelope of a predicate: its subject is the canonical text of the predicate itself."""
    payload = statement(predicate_type, name, predicate)
    content = pre_authentication(payload)
    made = [Signature(keyid=fingerprint(each.public), made=each.sign_bytes(content)) for each in notaries]
    return Envelope(payload=payload, signatures=sorted(made, key=lambda each: each.keyid)).text()


def statement(predicate_type: str, name: str, predicate: Mapping[str, Any]) -> bytes:
    """Give the in-toto statement as canonical JSON."""
    text = canonical.encode(predicate)
    body = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": canonical.digest(text)}}],
        "predicateType": PREDICATE + predicate_type,
        "predicate": predicate,
    }
    return canonical.encode(body)


def read_envelope(content: bytes) -> Envelope | None:
    """Give the envelope of a file, None unless it is exactly the text that `Envelope.text` gives."""
    body = canonical.decode(content)
    try:
        if body is None or body["payloadType"] != PAYLOAD_TYPE or len(body["signatures"]) > SIGNATURE_LIMIT:
            return None
        made = [
            Signature(keyid=each["keyid"], made=base64.b64decode(each["sig"], validate=True))
            for each in body["signatures"]
        ]
        found = Envelope(payload=base64.b64decode(body["payload"], validate=True), signatures=made)
        return found if found.text() == content else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def read_predicate(payload: bytes, predicate_type: str) -> dict[str, Any] | None:
    """Give the predicate of a statement of this type, None for any other payload or one whose subject is another."""
    body = canonical.decode(payload)
    try:
        if body is None or body["predicateType"] != PREDICATE + predicate_type:
            return None
        predicate = body["predicate"]
        name = body["subject"][0]["name"]
        right = isinstance(predicate, dict) and statement(predicate_type, name, predicate) == payload
    except (KeyError, TypeError, IndexError, ValueError, RecursionError):
        return None
    return predicate if right else None


def pre_authentication(payload: bytes) -> bytes:
    """Give what is signed: DSSE's pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def read_key(text: str) -> str:
    """Give the canonical text of a public key: `ed25519:…`, `ecdsa-p256:…`, an OpenSSH line, or PEM.

    Raises:
        UsageError: it is none of them.
    """
    if text.startswith(ECDSA):
        if _spki(text) is None:
            raise UsageError(f"{text[:60]!r} is no P-256 public key", reason="BadPublicKey", hint="ecdsa-p256:BASE64")
        return text
    if "BEGIN PUBLIC KEY" in text[:64]:
        return _from_pem(text)
    return signing.read_public(text)


def fingerprint(key: str) -> str:
    """Give the fingerprint of a key as OpenSSH writes it: `SHA256:` and base64; of the text where it is no key."""
    kind, _, encoded = key.partition(":")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raw = encoded.encode()
    if kind == "ed25519":
        blob = _ssh(b"ssh-ed25519") + _ssh(raw)
    else:
        # The last 65 bytes of a P-256 SubjectPublicKeyInfo are the uncompressed point.
        blob = _ssh(b"ecdsa-sha2-nistp256") + _ssh(b"nistp256") + _ssh(raw[-65:])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def is_signature(key: str, made: bytes, content: bytes) -> bool:
    """Say whether a signature of bytes is of this public key."""
    if not key.startswith(ECDSA):
        return signing.is_signature(key, made, content)
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    public = _spki(key)
    try:
        assert public is not None
        public.verify(made, content, ec.ECDSA(SHA256()))
    except (InvalidSignature, AssertionError, ValueError):
        return False
    return True


def _spki(key: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

    try:
        raw = base64.b64decode(key.removeprefix(ECDSA), validate=True)
        public = load_der_public_key(raw)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
        return None
    same = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == raw
    return public if same and ECDSA + base64.b64encode(raw).decode() == key else None


def _from_pem(text: str) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    try:
        public = load_pem_public_key(text.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        public = None
    if isinstance(public, ed25519.Ed25519PublicKey):
        return signing.ALGORITHM + base64.b64encode(public.public_bytes_raw()).decode()
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name == "secp256r1":
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return ECDSA + base64.b64encode(der).decode()
    raise UsageError(
        "the public key is neither ed25519 nor ECDSA P-256", reason="BadPublicKey", hint="PEM, ed25519:… or ssh-ed25519"
    )


def _ssh(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part
