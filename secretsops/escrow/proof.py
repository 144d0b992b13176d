"""Possession proofs: that somebody still holds the identity of a recipient. Pure.

A challenge is a random text encrypted to one recipient, with the digest of its answer; who opens it can give the
answer, which anybody can compare. The answer is derived from the text: a custodian never hands out what was decrypted,
so that a bundle dressed up as a challenge gets nothing opened. A proof counts 180 days from the challenge.

Never here: encryption, places.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from secretsops.errors import BrokenEscrow
from secretsops.escrow import canonical
from secretsops.escrow.signing import Signer, signed, signed_by
from secretsops.escrow.trust import Role, Trust
from secretsops.secret import Plaintext

PERIOD = dt.timedelta(days=180)
"""How long an answered challenge counts (SECURITY.md §1)."""
NONCE = 32
"""Bytes of chance in a challenge."""
TIME = "%Y-%m-%dT%H:%M:%SZ"
_CHALLENGE = re.compile(r"challenge-[0-9a-f]{16}\.json")
_HEAD = b"secretsops escrow challenge\n"


class Standing(StrEnum):
    """How well a recipient is proven."""

    PROVEN = "proven"
    UNPROVEN = "unproven"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One challenge. `ciphertext` is base64 of an age file, `answer` the SHA-256 of the right answer."""

    cluster: str
    recipient: str
    created: str
    ciphertext: str
    answer: str
    signatures: Sequence[Mapping[str, str]] = ()

    def body(self) -> dict[str, Any]:
        """Give the document."""
        signatures = [dict(each) for each in self.signatures]
        return {"apiVersion": "secretsops.dev/v1", "kind": "EscrowChallenge", **asdict(self), "signatures": signatures}

    def text(self) -> bytes:
        """Give the file's bytes."""
        return canonical.encode(self.body())

    @property
    def name(self) -> str:
        """Give the file name, from what is asked."""
        return f"challenge-{self.answer[:16]}.json"

    @property
    def answer_name(self) -> str:
        """Give the file name of its answer."""
        return f"answer-{self.answer[:16]}.json"

    @property
    def until(self) -> dt.datetime:
        """Give until when an answer to it counts."""
        return _time(self.created) + PERIOD


def question(*, cluster: str, recipient: str, nonce: bytes) -> Plaintext:
    """Give what is encrypted to a recipient."""
    lines = [_HEAD, cluster.encode() + b"\n", recipient.encode() + b"\n", nonce.hex().encode() + b"\n"]
    return Plaintext(b"".join(lines))


def make(
    *, cluster: str, recipient: str, nonce: bytes, ciphertext: bytes, now: dt.datetime, signers: Sequence[Signer]
) -> Challenge:
    """Give a challenge whose question was encrypted."""
    asked = question(cluster=cluster, recipient=recipient, nonce=nonce)
    made = Challenge(
        cluster=cluster,
        recipient=recipient,
        created=now.strftime(TIME),
        ciphertext=base64.b64encode(ciphertext).decode(),
        answer=hashlib.sha256(_derived(asked)).hexdigest(),
    )
    return replace(made, signatures=signed(made.body(), signers)["signatures"])


def read_challenge(content: bytes, *, name: str = "the challenge") -> Challenge:
    """Give the challenge of a file; raises `BrokenEscrow` for anything else."""
    body = canonical.decode(content)
    try:
        fields = {key: value for key, value in (body or {}).items() if key not in ("apiVersion", "kind")}
        found = Challenge(**fields)
        sound = all(isinstance(each, str) for each in (found.cluster, found.recipient, found.ciphertext, found.answer))
        sound = sound and bool(_CHALLENGE.fullmatch(found.name)) and found.text() == content
        _time(found.created)
    except (TypeError, AttributeError, ValueError):
        sound = False
    if not sound:
        raise BrokenEscrow(f"{name} is no challenge", reason="Unreadable")
    return found


def ciphertext_of(challenge: Challenge) -> bytes:
    """Give the age file of a challenge; raises `BrokenEscrow` when there is none."""
    try:
        return base64.b64decode(challenge.ciphertext, validate=True)
    except (binascii.Error, ValueError):
        raise BrokenEscrow("the challenge holds no age file", reason="Unreadable") from None


def answer(challenge: Challenge, opened: Plaintext) -> bytes:
    """Give the file that answers; `opened` is what the identity decrypted.

    Raises:
        BrokenEscrow: reason `NotAChallenge`: what was decrypted is something else, and nothing of it is given away.
    """
    expected = question(cluster=challenge.cluster, recipient=challenge.recipient, nonce=b"").reveal()[:-1]
    text = opened.reveal()
    if not text.startswith(expected) or len(text) != len(expected) + 2 * NONCE + 1:
        raise BrokenEscrow(
            "what this decrypts to is no challenge for this cluster and recipient: nothing of it is shown",
            reason="NotAChallenge",
            hint="somebody may be after your key's services: ask who sent it",
        )
    derived = _derived(opened)
    if not hmac.compare_digest(hashlib.sha256(derived).hexdigest(), challenge.answer):
        raise BrokenEscrow("the challenge does not fit what it encrypts", reason="NotAChallenge")
    body = {
        "apiVersion": "secretsops.dev/v1",
        "kind": "EscrowAnswer",
        "challenge": challenge.name,
        "answer": derived.hex(),
    }
    return canonical.encode(body)


def challenge_of(content: bytes) -> str:
    """Give the file name of the challenge that an answer is for; raises `BrokenEscrow` when it is no answer."""
    body = canonical.decode(content) or {}
    name = body.get("challenge")
    if body.get("kind") != "EscrowAnswer" or not isinstance(name, str) or not _CHALLENGE.fullmatch(name):
        raise BrokenEscrow("that is no answer to a challenge", reason="Unreadable", hint="secretsops escrow answer")
    return name


def is_answered(challenge: Challenge, content: bytes) -> bool:
    """Say whether a file is the right answer to a challenge."""
    body = canonical.decode(content) or {}
    try:
        given = bytes.fromhex(str(body.get("answer")))
    except ValueError:
        return False
    right = hmac.compare_digest(hashlib.sha256(given).hexdigest(), challenge.answer)
    return right and (body.get("kind"), body.get("challenge")) == ("EscrowAnswer", challenge.name)


def proven_until(
    files: Mapping[str, bytes], *, cluster: str, recipients: Iterable[str], trust: Trust | None
) -> dict[str, dt.datetime | None]:
    """Give for each recipient until when it is proven, None when it never was. `files` are of the sinks, by name.

    A challenge counts once it is signed by a signer of bundles (any challenge where there is no trust root).
    """
    found: dict[str, dt.datetime | None] = dict.fromkeys(recipients)
    for name, content in files.items():
        if not _CHALLENGE.fullmatch(name):
            continue
        try:
            challenge = read_challenge(content, name=name)
        except BrokenEscrow:
            continue
        trusted = trust is None or trust.allows(signed_by(challenge.body()), Role.BUNDLES)
        if challenge.recipient not in found or challenge.cluster != cluster or not trusted:
            continue
        if is_answered(challenge, files.get(challenge.answer_name, b"")):
            before = found[challenge.recipient]
            found[challenge.recipient] = max(challenge.until, before or challenge.until)
    return found


def standing(until: dt.datetime | None, now: dt.datetime) -> Standing:
    """Say how well a recipient is proven at a time."""
    if until is None:
        return Standing.UNPROVEN
    return Standing.PROVEN if now < until <= now + PERIOD + dt.timedelta(minutes=5) else Standing.EXPIRED


def _derived(asked: Plaintext) -> bytes:
    return hashlib.sha256(b"secretsops escrow answer\n" + asked.reveal()).digest()


def _time(text: str) -> dt.datetime:
    return dt.datetime.strptime(text, TIME).replace(tzinfo=dt.UTC)
