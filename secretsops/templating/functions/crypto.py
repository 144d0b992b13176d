"""sprig's digests, passwords, ciphers and chance (sprig v3.3.0 `crypto.go`; `htpasswd` of External Secrets 2.9).

Chance comes from the rendering's `World`. `cryptography` is imported where it is used.

What never lives here: certificates (`certificates`), key stores (`keystores`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import zlib
from collections.abc import Callable

from secretsops.templating.evaluator import Run
from secretsops.templating.functions.encodings import decode_base64
from secretsops.templating.signature import CallFailed, Function, function

_DIGITS = b"0123456789"
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ASCII = bytes(range(32, 127))
RANDOM_LIMIT = 65536
"""Characters of random text."""


def _pick(run: Run, alphabet: bytes, count: int) -> bytes:
    """Give evenly chosen characters: a byte that would favour the first ones is thrown away."""
    if not 0 <= count <= RANDOM_LIMIT:
        raise CallFailed("the count is not between 0 and 65536")
    run.meter.step(count)
    ceiling = 256 - 256 % len(alphabet)
    found = bytearray()
    while len(found) < count:
        found += bytes(
            alphabet[byte % len(alphabet)] for byte in run.world.chance(count - len(found) + 8) if byte < ceiling
        )
    return bytes(found[:count])


def _random(alphabet: bytes) -> Function:
    return function("int", lambda run, count: _pick(run, alphabet, count), run=True)


def _random_bytes(run: Run, count: int) -> bytes:
    if not 0 <= count <= RANDOM_LIMIT:
        raise CallFailed("the count is not between 0 and 65536")
    return base64.b64encode(run.world.chance(count))


def _shuffle(run: Run, text: bytes) -> bytes:
    characters = list(text.decode("utf-8", "surrogateescape"))
    run.meter.step(2 * len(characters))
    for at in range(len(characters) - 1, 0, -1):
        other = int.from_bytes(run.world.chance(8), "big") % (at + 1)
        characters[at], characters[other] = characters[other], characters[at]
    return "".join(characters).encode("utf-8", "surrogateescape")


def _uuid(run: Run) -> bytes:
    raw = bytearray(run.world.chance(16))
    raw[6], raw[8] = raw[6] & 0x0F | 0x40, raw[8] & 0x3F | 0x80
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:])).encode()


def _digest(name: str) -> Function:
    def digest(run: Run, text: bytes) -> bytes:
        run.meter.step(len(text) >> 10)
        return hashlib.new(name, text, usedforsecurity=False).hexdigest().encode()

    return function("string", digest, run=True)


# --- Passwords -----------------------------------------------------------------------------------------


def bcrypt(run: Run, password: bytes) -> bytes:
    """Give a bcrypt digest of cost 10; a password past 72 bytes gives the text of the error, as with sprig."""
    if len(password) > 72:
        return b"failed to encrypt string with bcrypt: bcrypt: password length exceeds 72 bytes"
    from secretsops.templating.libcrypt import crypt

    return _slowly(run, lambda: crypt(password, b"$2a$10$" + _bcrypt_salt(run.world.chance(16))))


def _slowly(run: Run, digest: Callable[[], bytes], cost: int = 1) -> bytes:
    """Compute a digest that is slow on purpose: paid for by number, its time is not the template's."""
    run.meter.digest(cost)
    resume = run.meter.pause()
    try:
        return digest()
    finally:
        resume()


_BCRYPT = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def _bcrypt_salt(raw: bytes) -> bytes:
    """Give 16 bytes in bcrypt's own base64: 22 characters."""
    standard = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return base64.b64encode(raw).rstrip(b"=").translate(bytes.maketrans(standard, _BCRYPT))


def _htpasswd(run: Run, user: bytes, password: bytes, *algorithm: bytes) -> bytes:
    """Give a line of an htpasswd file: bcrypt, or `sha` where asked for."""
    if b":" in user:
        return b"invalid username: " + user
    if algorithm and algorithm[0] == b"sha":
        return user + b":{SHA}" + base64.b64encode(hashlib.sha1(password, usedforsecurity=False).digest())
    return user + b":" + bcrypt(run, password)


_TEMPLATES: dict[bytes, str] = {
    b"maximum": "anoxxxxxxxxxxxxxxxxx axxxxxxxxxxxxxxxxxno",
    b"long": "CvcvnoCvcvCvcv CvcvCvcvnoCvcv CvcvCvcvCvcvno CvccnoCvcvCvcv CvccCvcvnoCvcv CvccCvcvCvcvno CvcvnoCvccCvcv"
    " CvcvCvccnoCvcv CvcvCvccCvcvno CvcvnoCvcvCvcc CvcvCvcvnoCvcc CvcvCvcvCvccno CvccnoCvccCvcv CvccCvccnoCvcv"
    " CvccCvccCvcvno CvcvnoCvccCvcc CvcvCvccnoCvcc CvcvCvccCvccno CvccnoCvcvCvcc CvccCvcvnoCvcc CvccCvcvCvccno",
    b"medium": "CvcnoCvc CvcCvcno",
    b"short": "Cvcn",
    b"basic": "aaanaaan aannaaan aaannaaa",
    b"pin": "nnnn",
}
_VOWELS, _CONSONANTS = "AEIOU", "BCDFGHJKLMNPQRSTVWXYZ"
_BOTH = _VOWELS + _VOWELS.lower() + _CONSONANTS + _CONSONANTS.lower()
_CLASSES = {
    "V": _VOWELS,
    "C": _CONSONANTS,
    "v": _VOWELS.lower(),
    "c": _CONSONANTS.lower(),
    "A": _VOWELS + _CONSONANTS,
    "a": _BOTH,
    "n": "0123456789",
    "o": "@&%?,=[]_:-+*$#!'^~;()/.",
    "x": _BOTH + "0123456789!@#$%^&*()",
}
_SEED = b"com.lyndir.masterpassword"


def _derive(run: Run, counter: int, kind: bytes, password: bytes, user: bytes, site: bytes) -> bytes:
    """Give a password of the Master Password algorithm."""
    templates = _TEMPLATES.get(kind, "").split()
    if not templates:
        return b"cannot find password template " + kind
    salt = _SEED + len(user).to_bytes(4, "big") + user
    key = _slowly(run, lambda: hashlib.scrypt(password, salt=salt, n=32768, r=8, p=2, dklen=64, maxmem=2**26), cost=2)
    message = _SEED + len(site).to_bytes(4, "big") + site + counter.to_bytes(4, "big")
    seed = hmac.digest(key, message, "sha256")
    template = templates[seed[0] % len(templates)]
    classes = [_CLASSES[element] for element in template]
    return "".join(chars[seed[at + 1] % len(chars)] for at, chars in enumerate(classes)).encode()


# --- Ciphers -------------------------------------------------------------------------------------------


def _cipher(password: bytes, vector: bytes) -> object:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    return Cipher(algorithms.AES256(password[:32].ljust(32, b"\0")), modes.CBC(vector))


def _encrypt(run: Run, password: bytes, text: bytes) -> bytes:
    """Encrypt with AES-256-CBC, the password as the key. Compat: sprig's own format, without authentication."""
    if not text:
        return b""
    run.meter.grow(3 * len(text))
    vector = run.world.chance(16)
    padding = 16 - len(text) % 16
    encryptor = _cipher(password, vector).encryptor()  # type: ignore[attr-defined]
    sealed: bytes = encryptor.update(text + bytes([padding]) * padding) + encryptor.finalize()
    return base64.b64encode(vector + sealed)


def _decrypt(password: bytes, text: bytes) -> bytes:
    if not text:
        return b""
    sealed, wrong = decode_base64(text)
    if wrong >= 0:
        raise CallFailed("illegal base64 data")
    if len(sealed) < 32 or len(sealed) % 16:
        raise CallFailed("the text is not whole blocks")
    decryptor = _cipher(password, sealed[:16]).decryptor()  # type: ignore[attr-defined]
    plain: bytes = decryptor.update(sealed[16:]) + decryptor.finalize()
    if not len(plain) - plain[-1] >= 0:
        raise CallFailed("the padding is wrong")
    return plain[: len(plain) - plain[-1]]


TABLE: dict[str, Function] = {
    "sha1sum": _digest("sha1"),
    "sha256sum": _digest("sha256"),
    "sha512sum": _digest("sha512"),
    "adler32sum": function("string", lambda text: str(zlib.adler32(text)).encode()),
    "randAlphaNum": _random(_LETTERS + _DIGITS),
    "randAlpha": _random(_LETTERS),
    "randNumeric": _random(_DIGITS),
    "randAscii": _random(_ASCII),
    "randBytes": function("int", _random_bytes, run=True),
    "shuffle": function("string", _shuffle, run=True),
    "uuidv4": function("", _uuid, run=True),
    "bcrypt": function("string", bcrypt, run=True),
    "htpasswd": function("string string", _htpasswd, run=True),
    "derivePassword": function("uint32 string string string string", _derive, run=True),
    "encryptAES": function("string string", _encrypt, run=True),
    "decryptAES": function("string string", _decrypt),
}
HTPASSWD: dict[str, Function] = {"htpasswd": function("string string string", _htpasswd, run=True)}
"""External Secrets' own: its third argument names the digest."""
