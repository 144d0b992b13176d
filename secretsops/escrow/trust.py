"""Who may sign what: `trust.json`, in versions that vouch for one another. Pure.

A version names root keys with a threshold, and signers with their roles. Version 1 is known by a digest that comes
from outside (the custody card), each later one is signed by the threshold of the version before and by its own (so that
nobody hands the root to keys that nobody holds). The newest version decides.

Never here: reading files, signing (`signing.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any

from secretsops.errors import BrokenEscrow, UsageError
from secretsops.escrow import canonical
from secretsops.escrow.signing import Signer, read_public, signed, signed_by

VERSION_LIMIT = 10_000
"""Versions in one file: one a day for 27 years."""
KEY_LIMIT = 256
"""Roots, or signers, of one version."""
_PIN = "sha256:"


class Role(StrEnum):
    """What a signer's word counts for."""

    BUNDLES = "bundles"
    CLAIMS = "claims"
    RECOVERY_POINTS = "recovery-points"
    COMMITS = "commits"
    EVIDENCE = "evidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A person or program with a key; `roles` is empty for a root."""

    name: str
    key: str
    roles: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of the trust root; `signatures` are as they stand in the file, valid or not."""

    version: int
    previous: str
    threshold: int
    roots: Sequence[Holder]
    signers: Sequence[Holder]
    signatures: Sequence[Mapping[str, str]] = ()

    def body(self) -> dict[str, Any]:
        """Give the document."""
        return {
            "apiVersion": "secretsops.dev/v1",
            "kind": "TrustRoot",
            "version": self.version,
            "previous": self.previous,
            "threshold": self.threshold,
            "roots": [{"name": each.name, "key": each.key} for each in self.roots],
            "signers": [{"name": each.name, "key": each.key, "roles": list(each.roles)} for each in self.signers],
            "signatures": [dict(each) for each in self.signatures],
        }

    @property
    def digest(self) -> str:
        """Give `sha256:` and the digest of everything but the signatures: more signatures don't change it."""
        body = {name: value for name, value in self.body().items() if name != "signatures"}
        return _PIN + canonical.digest(canonical.encode(body))

    def signed_by_roots_of(self, other: Version) -> int:
        """Count the roots of `other` that signed this version."""
        return len(signed_by(self.body()) & {root.key for root in other.roots})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """A chain of versions, oldest first, each proven; the newest decides."""

    versions: Sequence[Version]

    @property
    def newest(self) -> Version:
        """Give the version that decides."""
        return self.versions[-1]

    def allows(self, keys: Iterable[str], role: Role) -> bool:
        """Say whether one of these keys has the role now."""
        offered = set(keys)
        return any(role in signer.roles and signer.key in offered for signer in self.newest.signers)

    def named(self, key: str) -> str:
        """Give the name of a key's holder, the key itself where nobody has it."""
        holders = [*self.newest.signers, *self.newest.roots]
        return next((holder.name for holder in holders if holder.key == key), key)

    def refuse_older_than(self, number: int, digest: str) -> None:
        """Refuse when a document was made under a version that is not in this chain: a newer one is withheld.

        Raises:
            BrokenEscrow: reason `TrustWithheld`.
        """
        if number > len(self.versions) or (number and self.versions[number - 1].digest != digest):
            raise BrokenEscrow(
                f"the escrow was signed under version {number} of the trust root, which is not the one at hand",
                reason="TrustWithheld",
                hint="give the newest trust.json with --trust-file",
            )


@lru_cache(maxsize=16)
def read_trust(content: bytes, pin: str) -> Trust:
    """Give the trust of a file, once one of its versions has the digest that came from outside.

    Raises:
        UsageError: the pin is no digest. BrokenEscrow: the file is not what the pin names, or a version does not hold.
    """
    return prove(read_versions(content), pin)


def prove(versions: Sequence[Version], pin: str) -> Trust:
    """Give the trust of versions that hold: whole, signed, and pinned from outside.

    Raises:
        UsageError: the pin is no digest. BrokenEscrow: what does not hold.
    """
    text = pin.removeprefix(_PIN)
    if not pin.startswith(_PIN) or len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise UsageError(
            "the trust digest is not sha256: and 64 hexadecimal digits", reason="BadPin", hint="as on the custody card"
        )
    for number, version in enumerate(versions):
        _refuse_unproven(version, versions[number - 1] if number else None, number + 1)
    if pin not in {version.digest for version in versions}:
        raise BrokenEscrow(
            "no version of this trust root has the digest you gave",
            reason="WrongTrust",
            hint="compare with the custody card; never take the digest from the repository being judged",
        )
    return Trust(versions=tuple(versions))


def read_versions(content: bytes) -> list[Version]:
    """Give the versions of a file, whether they hold or not.

    Raises:
        BrokenEscrow: it is no trust root.
    """
    body = canonical.decode(content)
    listed = body.get("versions") if body and body.get("kind") == "Trust" else None
    if not isinstance(listed, list) or not 1 <= len(listed) <= VERSION_LIMIT:
        raise _unreadable()
    found = [_version(each) for each in listed]
    if text(found) != content:
        raise _unreadable()
    return found


def text(versions: Sequence[Version]) -> bytes:
    """Give the file of versions."""
    listed = [version.body() for version in versions]
    return canonical.encode({"apiVersion": "secretsops.dev/v1", "kind": "Trust", "versions": listed})


def successor(
    versions: Sequence[Version],
    *,
    add: Sequence[Holder] = (),
    add_roots: Sequence[Holder] = (),
    remove: Sequence[str] = (),
    threshold: int = 0,
) -> list[Version]:
    """Give the versions with a proposal at the end: a new one, or the unsigned last one changed further.

    Raises:
        UsageError: a name is unknown or taken, or the threshold cannot be met.
    """
    settled = list(versions)
    open_one = len(settled) > 1 and not is_complete(settled[-1], settled[-2])
    base = settled.pop() if open_one else settled[-1]
    known = {holder.name for holder in [*base.roots, *base.signers]}
    if unknown := sorted(set(remove) - known):
        raise UsageError(f"there is no '{unknown[0]}' in the trust root", reason="UnknownHolder")
    if taken := sorted(known & {holder.name for holder in [*add, *add_roots]} - set(remove)):
        raise UsageError(f"'{taken[0]}' is in the trust root already", reason="HolderExists", hint="remove it first")
    made = Version(
        version=settled[-1].version + 1,
        previous=settled[-1].digest,
        threshold=threshold or base.threshold,
        roots=[*(root for root in base.roots if root.name not in remove), *add_roots],
        signers=[*(each for each in base.signers if each.name not in remove), *add],
    )
    if not _is_sound(made):
        raise UsageError(
            f"{len(made.roots)} root(s) cannot meet a threshold of {made.threshold}, or a key is in it twice",
            reason="BadTrust",
            hint="each root has its own key; --threshold is at most their number",
        )
    return [*settled, made]


def first(roots: Sequence[Holder], threshold: int) -> Version:
    """Give version 1, unsigned; raises `UsageError` when the threshold cannot be met."""
    made = Version(version=1, previous="", threshold=threshold, roots=list(roots), signers=[])
    if not _is_sound(made):
        raise UsageError("the threshold is more than there are root keys, or a key is there twice", reason="BadTrust")
    return made


def countersigned(version: Version, signer: Signer) -> Version:
    """Give the version with one more signature."""
    return replace(version, signatures=signed(version.body(), [signer])["signatures"])


def is_complete(version: Version, before: Version | None) -> bool:
    """Say whether a version has the signatures that make it count."""
    own = version.signed_by_roots_of(version) >= version.threshold
    return own and (before is None or version.signed_by_roots_of(before) >= before.threshold)


def _refuse_unproven(version: Version, before: Version | None, number: int) -> None:
    if version.version != number or version.previous != (before.digest if before else ""):
        raise BrokenEscrow(f"version {number} of the trust root does not follow the one before", reason="TrustFork")
    if not is_complete(version, before):
        raise BrokenEscrow(
            f"version {number} of the trust root is not signed by enough roots",
            reason="TrustUnsigned",
            hint="secretsops escrow trust sign, by the holders of the version before and of this one",
        )


def _version(body: Any) -> Version:
    try:
        found = Version(
            version=body["version"],
            previous=body["previous"],
            threshold=body["threshold"],
            roots=[Holder(name=each["name"], key=each["key"]) for each in body["roots"]],
            signers=[
                Holder(name=each["name"], key=each["key"], roles=tuple(each["roles"])) for each in body["signers"]
            ],
            signatures=[{"key": each["key"], "signature": each["signature"]} for each in body["signatures"]],
        )
        sound = _is_sound(found) and found.body() == body
    except (KeyError, TypeError, AttributeError, UsageError):
        raise _unreadable() from None
    if not sound:
        raise _unreadable()
    return found


def _is_sound(version: Version) -> bool:
    """Say whether types, limits and keys are in order; raises `UsageError` for a key that is none."""
    holders = [*version.roots, *version.signers]
    names, keys = [holder.name for holder in holders], [root.key for root in version.roots]
    return (
        [type(each) for each in (version.version, version.threshold, version.previous)] == [int, int, str]
        and {type(name) for name in names} <= {str}
        and all(0 < len(name) <= 100 for name in names)
        and len(set(names)) == len(names)
        and len(set(keys)) == len(keys)
        and all(read_public(holder.key) == holder.key for holder in holders)
        and {role for signer in version.signers for role in signer.roles} <= set(Role)
        and len(version.signers) <= KEY_LIMIT
        and 1 <= version.threshold <= len(version.roots) <= KEY_LIMIT
    )


def _unreadable() -> BrokenEscrow:
    return BrokenEscrow(
        "the file is no trust root", reason="TrustUnreadable", hint="secretsops escrow trust show FILE shows a good one"
    )
