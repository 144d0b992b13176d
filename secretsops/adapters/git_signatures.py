"""Who signed a commit or tag: its raw object is taken apart here, OpenPGP is checked by `gpg`, SSH by `cryptography`.

Nothing of the repository has a say: Git's own `verify-commit` is not asked (programs and keys come from configuration
there), `gpg` runs with a home of its own that holds the offered public keys alone and fetches none. Formats:
gitformat-signature(5), OpenSSH `PROTOCOL.sshsig`, GnuPG `doc/DETAILS`.

Never here: which keys may sign (`recovery/signatures.py`), reading objects (`git.py`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from secretsops.errors import UsageError, WorldFailed
from secretsops.ports import Signature, SignatureState, SigningKeys

OBJECT_LIMIT = 4 * 1024 * 1024
"""Bytes of one commit or tag object; a long message has kilobytes."""
SIGNATURE_LIMIT = 64 * 1024
KEYRING_LIMIT = 16 * 1024 * 1024
_PGP, _SSH = b"-----BEGIN PGP SIGNATURE-----", b"-----BEGIN SSH SIGNATURE-----"
_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedObject:
    """One commit or tag, taken apart: what is signed, and the signature (empty for none)."""

    payload: bytes
    signature: bytes
    broken: bool = False
    """Several signatures, or more bytes than are read: which one counts would be a guess."""


def taken_apart(raw: bytes) -> SignedObject:
    """Give what a raw commit or tag signs and its signature.

    A commit carries it in the header `gpgsig`, a tag at its end. Both hash functions' headers are left out of the
    payload (git 2.39 `commit.c`, `parse_buffer_signed_by_header`).
    """
    if len(raw) > OBJECT_LIMIT:
        return SignedObject(payload=b"", signature=b"", broken=True)
    header, gap, body = raw.partition(b"\n\n")
    if header.startswith(b"object "):
        return _tag(raw)
    kept: list[bytes] = []
    found: list[list[bytes]] = []
    inside: list[bytes] | None = None
    for line in header.split(b"\n"):
        if line.startswith(b" ") and inside is not None:
            inside.append(line[1:])
            continue
        name, _, value = line.partition(b" ")
        inside = None
        if name in (b"gpgsig", b"gpgsig-sha256"):
            inside = [value]
            if name == b"gpgsig":
                found.append(inside)
            continue
        kept.append(line)
    payload = b"\n".join(kept) + gap + body
    signature = b"\n".join(found[0]) if found else b""
    return SignedObject(payload=payload, signature=signature, broken=len(found) > 1 or len(signature) > SIGNATURE_LIMIT)


def _tag(raw: bytes) -> SignedObject:
    places = [place for mark in (_PGP, _SSH) for place in _line_starts(raw, mark)]
    if not places:
        return SignedObject(payload=raw, signature=b"")
    cut = max(places)
    signature = raw[cut:]
    return SignedObject(payload=raw[:cut], signature=signature, broken=len(signature) > SIGNATURE_LIMIT)


def _line_starts(raw: bytes, mark: bytes) -> list[int]:
    found: list[int] = []
    place = raw.find(mark)
    while place >= 0 and len(found) < 100:
        if place and raw[place - 1] == 0x0A:
            found.append(place)
        place = raw.find(mark, place + 1)
    return found


class Signatures:
    """Checks signatures; the home of `gpg` is made for the first OpenPGP one and goes with the process."""

    def __init__(self) -> None:
        self._homes: dict[tuple[bytes, ...], _OpenPgp] = {}

    def check(self, objects: Sequence[bytes], keys: SigningKeys) -> list[Signature]:
        """Give one answer per object, in order.

        Raises:
            WorldFailed: there is an OpenPGP signature and no `gpg`. UsageError: an offered key is none.
        """
        allowed = ssh_keys(keys.ssh)
        return [self._one(raw, keys, allowed) for raw in objects]

    def _one(self, raw: bytes, keys: SigningKeys, allowed: Mapping[bytes, str]) -> Signature:
        parts = taken_apart(raw)
        if parts.broken:
            return Signature(state=SignatureState.BAD)
        if not parts.signature:
            return Signature(state=SignatureState.UNSIGNED)
        if parts.signature.startswith(_SSH):
            return check_ssh(parts.payload, parts.signature, allowed)
        if parts.signature.startswith(_PGP):
            home = self._homes.get(tuple(keys.openpgp))
            if home is None:
                home = self._homes[tuple(keys.openpgp)] = _OpenPgp(keys.openpgp)
            return home.check(parts.payload, parts.signature)
        return Signature(state=SignatureState.MISSING_KEY)  # X.509 and whatever comes next


# --- OpenPGP -------------------------------------------------------------------------------------------

_STATES = {
    "GOODSIG": SignatureState.GOOD,
    "BADSIG": SignatureState.BAD,
    "EXPSIG": SignatureState.EXPIRED,
    "EXPKEYSIG": SignatureState.EXPIRED,
    "REVKEYSIG": SignatureState.REVOKED,
    "ERRSIG": SignatureState.MISSING_KEY,
}


class _OpenPgp:
    """A `gpg` home that holds these public keys and nothing else."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if shutil.which("gpg") is None:
            raise WorldFailed(
                "an OpenPGP signature has to be checked, and the program gpg is not installed",
                reason="NoGpg",
                hint="install GnuPG, or sign commits with SSH keys",
            )
        self._folder = tempfile.mkdtemp(prefix="secretsops-gpg-")
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        if sum(map(len, keys)) > KEYRING_LIMIT:
            raise UsageError("the OpenPGP keys are larger than 16 MiB", reason="TooLarge")
        for key in keys:
            # What is no key imports nothing: a commit that it should vouch for is then refused for want of a key.
            self._run(["--import-options", "import-clean", "--import"], key)

    def check(self, payload: bytes, signature: bytes) -> Signature:
        """Say what gpg makes of one detached signature: its status lines decide, never its exit code alone."""
        file = Path(self._folder) / "signature"
        file.write_bytes(signature)
        said = [
            words
            for line in self._run(["--verify", str(file), "-"], payload).decode("utf-8", "replace").splitlines()
            if (words := line.split())[:1] == ["[GNUPG:]"] and len(words) > 1
        ]
        verdicts = [words for words in said if words[1] in _STATES]
        if len(verdicts) != 1 or sum(words[1] == "NEWSIG" for words in said) > 1 or len(verdicts[0]) < 3:
            return Signature(state=SignatureState.BAD)
        state, key = _STATES[verdicts[0][1]], verdicts[0][2]
        valid = [words for words in said if words[1] == "VALIDSIG" and len(words) >= 12]
        if state is SignatureState.GOOD and len(valid) != 1:
            return Signature(state=SignatureState.BAD, key=key)
        if state is SignatureState.GOOD:
            return Signature(state=state, key=valid[0][2], primary=valid[0][11])
        return Signature(state=state, key=key)

    def _run(self, arguments: Sequence[str], stdin: bytes) -> bytes:
        command = [
            "gpg", "--homedir", self._folder, "--no-options", "--batch", "--no-tty", "--quiet",
            "--no-auto-check-trustdb", "--trust-model", "always", "--no-auto-key-retrieve", "--no-auto-key-locate",
            "--disable-dirmngr", "--status-fd", "1", *arguments,
        ]  # fmt: skip
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": self._folder, "LC_ALL": "C"}
        try:
            done = subprocess.run(
                command, input=stdin, capture_output=True, env=environment, timeout=_TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            raise WorldFailed(f"gpg took longer than {_TIMEOUT:g} s", reason="Timeout") from None
        except OSError as error:
            raise WorldFailed(f"gpg cannot be run: {error.strerror}", reason="NoGpg") from None
        return done.stdout


# --- SSH -----------------------------------------------------------------------------------------------

_NAMESPACE = b"git"
_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_RSA = {b"rsa-sha2-256": "SHA256", b"rsa-sha2-512": "SHA512"}
_CURVES = {
    b"nistp256": ("SECP256R1", "SHA256"),
    b"nistp384": ("SECP384R1", "SHA384"),
    b"nistp521": ("SECP521R1", "SHA512"),
}
_RSA_BITS = range(2048, 16385)


def ssh_keys(lines: Sequence[str]) -> dict[bytes, str]:
    """Give the key blobs of public key lines (`ssh-ed25519 AAAA… comment`) with their fingerprints.

    Raises:
        UsageError: a line is none.
    """
    found = {}
    for line in lines:
        words = line.split()
        try:
            blob = base64.b64decode(words[1], validate=True)
            _require(_Reader(blob).string() == words[0].encode())
        except (IndexError, ValueError, binascii.Error):
            raise UsageError(
                f"{line[:60]!r} is no SSH public key",
                reason="BadPublicKey",
                hint="the line of a .pub file: ssh-ed25519 AAAA…",
            ) from None
        found[blob] = fingerprint(blob)
    return found


def fingerprint(blob: bytes) -> str:
    """Give a key's fingerprint as `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _require(holds: bool) -> None:  # noqa: FBT001 - a condition
    if not holds:
        raise ValueError


class _Reader:
    """Strings of the SSH wire format (RFC 4251 §5); raises ValueError at whatever does not fit."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        _require(self._at + count <= len(self._data))
        found = self._data[self._at : self._at + count]
        self._at += count
        return found

    def string(self) -> bytes:
        return self.take(int.from_bytes(self.take(4), "big"))

    def end(self) -> None:
        _require(self._at == len(self._data))


def _wire(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def check_ssh(payload: bytes, armored: bytes, allowed: Mapping[bytes, str]) -> Signature:
    """Say whether an SSH signature of namespace `git` over the payload is good, and by which of the allowed keys."""
    from cryptography.exceptions import InvalidSignature

    try:
        lines = armored.strip().split(b"\n")
        _require(lines[0].strip() == _SSH and lines[-1].strip() == b"-----END SSH SIGNATURE-----")
        reader = _Reader(base64.b64decode(b"".join(line.strip() for line in lines[1:-1]), validate=True))
        _require(reader.take(6) == b"SSHSIG" and int.from_bytes(reader.take(4), "big") == 1)
        blob, namespace, reserved, name, signature = (reader.string() for _ in range(5))
        reader.end()
        _require(namespace == _NAMESPACE and name in _HASHES)
        if blob not in allowed:
            return Signature(state=SignatureState.MISSING_KEY, key=fingerprint(blob))
        signed = b"SSHSIG" + _wire(namespace, reserved, name, _HASHES[name](payload).digest())
        _verify(blob, signature, signed)
    except (ValueError, binascii.Error, InvalidSignature):
        return Signature(state=SignatureState.BAD)
    return Signature(state=SignatureState.GOOD, key=allowed[blob], primary=allowed[blob])


def _verify(blob: bytes, signature: bytes, signed: bytes) -> None:
    """Check one signature; raises ValueError or InvalidSignature where it does not hold."""
    key, answer = _Reader(blob), _Reader(signature)
    kind, algorithm = key.string(), answer.string()
    if kind == b"ssh-rsa":
        _verify_rsa(key, algorithm, answer, signed)
        return
    _require(algorithm == kind)
    hardware = kind.startswith(b"sk-")
    if kind in (b"ssh-ed25519", b"sk-ssh-ed25519@openssh.com"):
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        public = Ed25519PublicKey.from_public_bytes(key.string())
        value = answer.string()
        public.verify(value, _of_hardware(key, answer, signed) if hardware else signed)
    elif kind.removeprefix(b"sk-").startswith(b"ecdsa-sha2-"):
        _verify_ecdsa(key, answer, signed, hardware=hardware)
    else:
        raise ValueError
    key.end()
    answer.end()


def _of_hardware(key: _Reader, answer: _Reader, signed: bytes) -> bytes:
    """Give what a hardware key signs (OpenSSH `PROTOCOL.u2f`): somebody must have been there to touch it."""
    application, flags, counter = key.string(), answer.take(1), answer.take(4)
    _require(bool(flags[0] & 1))
    return hashlib.sha256(application).digest() + flags + counter + hashlib.sha256(signed).digest()


def _verify_rsa(key: _Reader, algorithm: bytes, answer: _Reader, signed: bytes) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    exponent, modulus = (int.from_bytes(key.string(), "big") for _ in range(2))
    value = answer.string()
    key.end()
    answer.end()
    # SHA-1 (`ssh-rsa`) vouches for nothing.
    _require(algorithm in _RSA and modulus.bit_length() in _RSA_BITS)
    digest: hashes.HashAlgorithm = getattr(hashes, _RSA[algorithm])()
    RSAPublicNumbers(exponent, modulus).public_key().verify(value, signed, PKCS1v15(), digest)


def _verify_ecdsa(key: _Reader, answer: _Reader, signed: bytes, *, hardware: bool) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    curve = key.string()
    _require(curve in _CURVES)
    name, digest = _CURVES[curve]
    public = ec.EllipticCurvePublicKey.from_encoded_point(getattr(ec, name)(), key.string())
    value = _Reader(answer.string())
    r, s = (int.from_bytes(value.string(), "big") for _ in range(2))
    value.end()
    signed = _of_hardware(key, answer, signed) if hardware else signed
    public.verify(encode_dss_signature(r, s), signed, ec.ECDSA(getattr(hashes, digest)()))
