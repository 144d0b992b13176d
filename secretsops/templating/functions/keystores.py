"""External Secrets' own functions: PKCS#12, PEM chains, JWK, RSA (external-secrets 2.9 `runtime/template/v2`).

What never lives here: sprig's functions.
"""

from __future__ import annotations

import base64
from typing import Any

from secretsops.templating import gojson
from secretsops.templating.evaluator import Run
from secretsops.templating.functions import pem
from secretsops.templating.signature import CallFailed, Function, function

# --- PKCS#12 -------------------------------------------------------------------------------------------


def _opened(password: bytes, store: bytes, *, what: str) -> Any:
    from cryptography.hazmat.primitives.serialization import pkcs12

    if _rounds(store) > _ROUNDS_LIMIT:
        raise CallFailed(f"unable to decode pkcs12 {what}: it asks for too many rounds of its digest")
    try:
        found = pkcs12.load_pkcs12(store, password)
    except Exception:  # noqa: BLE001 - the library's text may say more than that
        raise CallFailed(f"unable to decode pkcs12 {what} with password") from None
    if found.key is None:
        raise CallFailed(f"unable to decode pkcs12 {what} with password: private key missing")
    if found.cert is None:
        raise CallFailed(f"unable to decode pkcs12 {what} with password: certificate missing")
    return found


_ROUNDS_LIMIT = 1_000_000
"""Rounds of a store's digest: OpenSSL has no limit of its own and would count to two thousand million."""
_SEQUENCE, _OCTETS, _INTEGER, _CONTEXT = 0x30, 0x04, 0x02, 0xA0


def _rounds(der: bytes, level: int = 0) -> int:
    """Give the largest number of rounds a store asks for: in DER, the integer right behind a salt."""
    found, at, before = 0, 0, 0
    while at + 2 <= len(der) and level < 24:
        tag, size, begin = der[at], der[at + 1], at + 2
        if size & 0x80:
            begin += size & 0x7F
            size = int.from_bytes(der[at + 2 : begin], "big") if 0 < size & 0x7F <= 4 else len(der) + 1
        if begin + size > len(der):
            break
        body = der[begin : begin + size]
        if tag in {_SEQUENCE, _OCTETS, _CONTEXT, 0x31, 0x24}:
            found = max(found, _rounds(body, level + 1))
        elif tag == _INTEGER and before == _OCTETS:
            found = max(found, int.from_bytes(body[:9], "big"))
        at, before = begin + size, tag
    return found


def _key(run: Run, password: bytes, store: bytes) -> bytes:
    run.meter.digest()
    return pem.pkcs8(_opened(password, store, what="private key").key)


def _certificates(run: Run, password: bytes, store: bytes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    run.meter.digest()
    found = _opened(password, store, what="certificate")
    own = found.cert.certificate
    chain = _ordered([own, *(extra.certificate for extra in found.additional_certs)])
    return b"".join(pem.Block("CERTIFICATE", item.public_bytes(Encoding.DER)).encoded() for item in chain)


def _loaded(text: bytes) -> list[Any]:
    """Give every certificate of a PEM text."""
    from cryptography import x509

    found = []
    for block, _rest in pem.blocks(text):
        if block.kind == "CERTIFICATE":
            try:
                found.append(x509.load_der_x509_certificate(block.data))
            except ValueError:
                raise CallFailed("failed to parse certificate") from None
    return found


def _packed(run: Run, certificates: list[Any], key: Any, password: bytes) -> bytes:
    """Give a store by the modern profile (PBES2, AES-256, SHA-256), as base64."""
    run.world.chance(1)  # its salt is OpenSSL's own chance: who watches the world is to know
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12

    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(2048)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(SHA256())
        .build(password or b"")
        if password
        else _without_password()
    )
    store = pkcs12.serialize_key_and_certificates(None, key, certificates[0], certificates[1:], encryption)
    return base64.b64encode(store)


def _without_password() -> Any:
    from cryptography.hazmat.primitives.serialization import NoEncryption

    return NoEncryption()


def _store(run: Run, certificate: bytes, key: bytes, password: bytes = b"", *, full: bool) -> bytes:
    run.meter.digest()
    chain = _loaded(certificate)
    if not chain:
        raise CallFailed("failed to decode PEM certificate")
    block = pem.first(key)
    if block is None:
        raise CallFailed("failed to decode PEM private key")
    return _packed(run, _ordered(chain) if full else chain, pem.private_key(block), password)


def _truststore(run: Run, certificates: bytes, password: bytes = b"") -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat, pkcs12

    run.meter.digest()
    run.world.chance(1)
    found = _loaded(certificates)
    if not found:
        raise CallFailed("no certificates found")
    encryption: Any = NoEncryption()
    if password:
        builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(2048)
        builder = builder.key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC).hmac_hash(SHA256())
        encryption = builder.build(password)
    entries = [pkcs12.PKCS12Certificate(item, item.subject.rfc4514_string().encode()) for item in found]
    return base64.b64encode(pkcs12.serialize_java_truststore(entries, encryption))


# --- PEM -----------------------------------------------------------------------------------------------


def _filtered(kind: bytes, text: bytes) -> bytes:
    """Give the blocks of one type. Trailing text that is no block is refused, as by the peer."""
    wanted, found, count, rest = kind.decode("utf-8", "replace").lower(), [], 0, text
    for block, after in pem.blocks(text):
        count, rest = count + 1, after
        if block.kind.lower() == wanted:
            found.append(block.encoded())
    if rest.strip() and not count:
        raise CallFailed("found junk")
    return b"".join(found)


def _chain_part(part: bytes, text: bytes) -> bytes:
    """Give leaf, intermediates or root of a chain, "" where it has none."""
    from cryptography.hazmat.primitives.serialization import Encoding

    if part not in {b"leaf", b"intermediate", b"root"}:
        raise CallFailed("unknown certificate type")
    chain = _ordered(_loaded(text))
    chosen = [item for number, item in enumerate(chain) if _role(item, number) == part.decode()]
    return b"".join(pem.Block("CERTIFICATE", item.public_bytes(Encoding.DER)).encoded() for item in chosen)


def _role(item: Any, number: int) -> str:
    if item.issuer == item.subject:
        return "root"
    return "leaf" if number == 0 and not _is_ca(item) else "intermediate"


def _is_ca(item: Any) -> bool:
    from cryptography import x509

    try:
        return bool(item.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, ValueError):
        return False


def _ordered(certificates: list[Any]) -> list[Any]:
    """Give a chain from leaf to root by key identifiers; as it came where it is not one chain (`pem_chain.go`)."""
    by_subject: dict[bytes, Any] = {}
    issued: set[bytes] = set()
    for item in certificates:
        subject, authority = _identifiers(item)
        if subject:
            by_subject[subject] = item
        if authority and authority != subject:
            issued.add(authority)
    leaves = [item for item in certificates if (_identifiers(item)[0] or _print(item)) not in issued]
    if len(leaves) != 1 or len(certificates) < 2:
        return certificates
    chain, current = [leaves[0]], leaves[0]
    while len(chain) < len(certificates):
        subject, authority = _identifiers(current)
        following = by_subject.get(authority) if authority and authority != subject else None
        if following is None or following in chain:
            return certificates
        chain.append(following)
        current = following
    return chain


def _print(item: Any) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256

    fingerprint: bytes = item.fingerprint(SHA256())
    return fingerprint


def _identifiers(item: Any) -> tuple[bytes, bytes]:
    from cryptography import x509

    found = []
    for kind, field in ((x509.SubjectKeyIdentifier, "digest"), (x509.AuthorityKeyIdentifier, "key_identifier")):
        try:
            found.append(getattr(item.extensions.get_extension_for_class(kind).value, field) or b"")
        except (x509.ExtensionNotFound, ValueError):
            found.append(b"")
    return found[0], found[1]


def _names(text: bytes) -> list[Any]:
    """Give a certificate's names: DNS, addresses, mail, URIs."""
    from cryptography import x509

    block = pem.first(text)
    if block is None:
        raise CallFailed("failed to decode PEM block")
    try:
        certificate = x509.load_der_x509_certificate(block.data)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except ValueError:
        raise CallFailed("failed to parse certificate") from None
    found: list[Any] = []
    for kind in (x509.DNSName, x509.IPAddress, x509.RFC822Name, x509.UniformResourceIdentifier):
        found += [str(value).encode() for value in names.get_values_for_type(kind)]
    return found


# --- JWK -----------------------------------------------------------------------------------------------

_CURVES = {b"P-256": "SECP256R1", b"P-384": "SECP384R1", b"P-521": "SECP521R1"}


def _jwk(run: Run, text: bytes) -> dict[bytes, Any]:
    try:
        found = gojson.decode(text, run.meter)
    except gojson.NoJson:
        raise CallFailed("the text is no JWK") from None
    if not isinstance(found, dict):
        raise CallFailed("the text is no JWK")
    return found


def _raw(jwk: dict[bytes, Any], name: bytes) -> bytes:
    text = jwk.get(name)
    if not isinstance(text, bytes) or not text or len(text) > 4096:
        raise CallFailed(f"the JWK has no {name.decode()}")
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))


def _number(jwk: dict[bytes, Any], name: bytes) -> int:
    return int.from_bytes(_raw(jwk, name), "big")


def _public(jwk: dict[bytes, Any]) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    match jwk.get(b"kty"):
        case b"RSA":
            return rsa.RSAPublicNumbers(_number(jwk, b"e"), _number(jwk, b"n")).public_key()
        case b"EC" if jwk.get(b"crv") in _CURVES:
            curve = getattr(ec, _CURVES[jwk[b"crv"]])()
            return ec.EllipticCurvePublicNumbers(_number(jwk, b"x"), _number(jwk, b"y"), curve).public_key()
        case b"OKP" if jwk.get(b"crv") == b"Ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(_raw(jwk, b"x"))
    raise CallFailed("a JWK of this type has no such key")


def _private(jwk: dict[bytes, Any]) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    match jwk.get(b"kty"):
        case b"RSA":
            numbers = rsa.RSAPublicNumbers(_number(jwk, b"e"), _number(jwk, b"n"))
            d = _number(jwk, b"d")
            if b"p" in jwk:
                p, q = _number(jwk, b"p"), _number(jwk, b"q")
            else:
                p, q = rsa.rsa_recover_prime_factors(numbers.n, numbers.e, d)
            parts = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
            return rsa.RSAPrivateNumbers(p, q, d, *parts, numbers).private_key()
        case b"EC" if jwk.get(b"crv") in _CURVES:
            public = _public(jwk).public_numbers()
            return ec.EllipticCurvePrivateNumbers(_number(jwk, b"d"), public).private_key()
        case b"OKP" if jwk.get(b"crv") == b"Ed25519":
            return ed25519.Ed25519PrivateKey.from_private_bytes(_raw(jwk, b"d"))
    raise CallFailed("a JWK of this type has no private key")


def _public_pem(run: Run, text: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization as form

    jwk = _jwk(run, text)
    key = _private(jwk).public_key() if b"d" in jwk else _public(jwk)
    der = key.public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
    return pem.Block("PUBLIC KEY", der).encoded()


def _private_pem(run: Run, text: bytes) -> bytes:
    return pem.pkcs8(_private(_jwk(run, text)))


# --- RSA -----------------------------------------------------------------------------------------------


def _rsa_decrypt(run: Run, scheme: bytes, digest: bytes, text: bytes, key: bytes) -> bytes:
    """Decrypt by `RSA-OAEP` with SHA1, SHA256 (the default) or SHA512; scheme `None` hands the text through."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    run.meter.step(2000)
    if scheme == b"None":
        return text
    if scheme != b"RSA-OAEP":
        raise CallFailed("the decryption scheme is not supported")
    block = pem.first(key)
    if block is None:
        raise CallFailed("failed to parse PEM block")
    private = pem.private_key(block)
    if not isinstance(private, rsa.RSAPrivateKey):
        raise CallFailed("could not parse RSA private key")
    algorithm = {b"SHA1": hashes.SHA1, b"SHA512": hashes.SHA512}.get(digest, hashes.SHA256)()
    try:
        return private.decrypt(text, padding.OAEP(padding.MGF1(algorithm), algorithm, None))
    except ValueError:
        raise CallFailed("decryption error") from None


TABLE: dict[str, Function] = {
    "pkcs12key": function("string", lambda run, store: _key(run, b"", store), run=True),
    "pkcs12keyPass": function("string string", _key, run=True),
    "pkcs12cert": function("string", lambda run, store: _certificates(run, b"", store), run=True),
    "pkcs12certPass": function("string string", _certificates, run=True),
    "pemToPkcs12": function("string string", lambda run, *parts: _store(run, *parts, full=False), run=True),
    "pemToPkcs12Pass": function("string string string", lambda run, *parts: _store(run, *parts, full=False), run=True),
    "fullPemToPkcs12": function("string string", lambda run, *parts: _store(run, *parts, full=True), run=True),
    "fullPemToPkcs12Pass": function(
        "string string string", lambda run, *parts: _store(run, *parts, full=True), run=True
    ),
    "pemTruststoreToPKCS12": function("string", _truststore, run=True),
    "pemTruststoreToPKCS12Pass": function("string string", _truststore, run=True),
    "filterPEM": function("string string", _filtered),
    "filterCertChain": function("string string", _chain_part),
    "certSANs": function("string", _names),
    "jwkPublicKeyPem": function("string", _public_pem, run=True),
    "jwkPrivateKeyPem": function("string", _private_pem, run=True),
    "rsaDecrypt": function("string string string string", _rsa_decrypt, run=True),
}
