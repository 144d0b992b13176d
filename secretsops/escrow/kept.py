"""The index of sealed copies: which last known good Secrets the sinks hold, and which must not come back. Pure.

One entry per epoch; each says all there is, so that the newest is enough: for every name (an HMAC) the epochs whose
bundles hold its copies, newest first, and a tombstone where the store said no or the object was deleted. Entries form a
chain by digest. A bundle is one age file of `kubectl apply`-able Secrets, padded to a power of two, for recipients of
its own; what a copy is bound to stands in an annotation inside it.

Never here: reading or writing sinks (`keeping.py`), which Secrets are kept (`secretsops.external.lastgood`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from secretsops.errors import BrokenEscrow, InvalidManifest
from secretsops.escrow import canonical
from secretsops.escrow.canonical import digest
from secretsops.escrow.signing import Signer, signed, signed_by
from secretsops.manifest import Manifest, dump_all, load_all
from secretsops.secret import Plaintext

PREFIX = "kept-"
BOUND_TO = "secretsops.dev/kept-copy"
"""Inside a bundle, on each Secret: what the copy is bound to."""
PAD_FROM = 4096
CONTENT_LIMIT = 512 * 1024
"""Bytes of one bundle's content: a sink in another cluster takes files up to 700 kB."""
TOMBSTONE_LIMIT = 10_000
"""Tombstones told of, newest kept; a name without a copy is not restored in any case."""
_NAME = re.compile(r"kept-(\d{8})\.json")
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One file of copies: its name, digest and size, when it was written by which incarnation of the cluster."""

    file: str
    sha256: str
    size: int
    created: str
    incarnation: str
    readers: str
    """Tells one set of recipients from another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the sinks hold as of one epoch. `names` tells which key the names are HMACs by.

    `copies` maps a name to epochs, newest first; `tombstones` maps one to epoch and reason.
    """

    epoch: int
    previous: str
    cluster: str
    incarnation: str
    created: str
    names: str
    recipients: Sequence[str]
    claim: int
    trust: str
    trust_version: int
    bundles: Mapping[int, Bundle]
    copies: Mapping[str, Sequence[int]]
    tombstones: Mapping[str, tuple[int, str]]
    signatures: Sequence[Mapping[str, str]] = ()

    @property
    def name(self) -> str:
        """Give the file name."""
        return entry_name(self.epoch)

    def body(self) -> dict[str, Any]:
        """Give the document."""
        fields: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("epoch", "previous", "cluster", "incarnation", "created", "names", "claim", "trust")
        }
        fields |= {
            "trustVersion": self.trust_version,
            "recipients": list(self.recipients),
            "bundles": {str(epoch): asdict(bundle) for epoch, bundle in self.bundles.items()},
            "copies": {name: list(epochs) for name, epochs in self.copies.items()},
            "tombstones": {name: {"epoch": at, "reason": why} for name, (at, why) in self.tombstones.items()},
            "signatures": [dict(each) for each in self.signatures],
        }
        return {"apiVersion": "secretsops.dev/v1", "kind": "KeptSecrets", **fields}

    def text(self) -> bytes:
        """Give the file's bytes."""
        return canonical.encode(self.body())

    @property
    def digest(self) -> str:
        """Give the digest of the file, which the next entry names."""
        return digest(self.text())

    def signed_with(self, signers: Sequence[Signer]) -> Kept:
        """Give the entry with these signatures."""
        return replace(self, signatures=signed(self.body(), signers)["signatures"]) if signers else self

    @property
    def signed_by(self) -> frozenset[str]:
        """Give the keys whose signature is valid."""
        return signed_by(self.body())

    def written(self, name: str) -> Bundle | None:
        """Give the bundle of a name's newest copy, None without one."""
        epochs = self.copies.get(name)
        return self.bundles[epochs[0]] if epochs else None


def entry_name(epoch: int) -> str:
    """Give the file name of an epoch's entry."""
    return f"{PREFIX}{epoch:08d}.json"


def entry_names(names: Sequence[str] | frozenset[str]) -> list[str]:
    """Give the names of entries among file names, oldest first."""
    return sorted(name for name in names if _NAME.fullmatch(name))


def bundle_name(epoch: int, sha256: str) -> str:
    """Give the file name of an epoch's bundle; it names its content."""
    return f"{PREFIX}{epoch:08d}-{sha256[:16]}.age"


def hidden(key: Plaintext, namespace: str, name: str) -> str:
    """Give the name under which a copy is listed: who has not the key cannot tell, or guess, whose it is."""
    return hmac.new(key.reveal(), f"{namespace}/{name}".encode(), hashlib.sha256).hexdigest()[:32]


def key_mark(key: Plaintext) -> str:
    """Give what tells one key of names from another, and nothing about it."""
    return hmac.new(key.reveal(), b"which key", hashlib.sha256).hexdigest()[:16]


def readers_mark(recipients: Sequence[str]) -> str:
    """Give what tells one set of recipients from another."""
    return digest("\n".join(sorted(recipients)).encode())[:16]


def read_kept(name: str, content: bytes) -> Kept:
    """Give the entry of one file; raises `BrokenEscrow` for anything but the text that `Kept.text` gives."""
    body = canonical.decode(content)
    try:
        found = _entry(body or {})
        sound = found.text() == content and found.name == name and _is_sound(found)
    except (KeyError, TypeError, ValueError, AttributeError):
        sound = False
    if not sound:
        raise BrokenEscrow(f"{name} is no index of kept copies", reason="Unreadable")
    return found


def _entry(body: Mapping[str, Any]) -> Kept:
    return Kept(
        epoch=body["epoch"],
        previous=body["previous"],
        cluster=body["cluster"],
        incarnation=body["incarnation"],
        created=body["created"],
        names=body["names"],
        recipients=body["recipients"],
        claim=body["claim"],
        trust=body["trust"],
        trust_version=body["trustVersion"],
        bundles={int(epoch): Bundle(**bundle) for epoch, bundle in body["bundles"].items()},
        copies=body["copies"],
        tombstones={name: (each["epoch"], each["reason"]) for name, each in body["tombstones"].items()},
        signatures=body["signatures"],
    )


def _is_sound(entry: Kept) -> bool:
    numbers = [entry.epoch, entry.claim, entry.trust_version, *(at for at, _ in entry.tombstones.values())]
    numbers += [bundle.size for bundle in entry.bundles.values()]
    texts = [entry.previous, entry.cluster, entry.incarnation, entry.created, entry.names, entry.trust]
    texts += [*entry.recipients, *(why for _, why in entry.tombstones.values())]
    texts += [text for b in entry.bundles.values() for text in (b.sha256, b.created, b.incarnation, b.readers)]
    return (
        all(type(number) is int and number >= 0 for number in numbers)
        and all(isinstance(text, str) for text in texts)
        and all(b.file == bundle_name(epoch, b.sha256) for epoch, b in entry.bundles.items())
        and all(_ID.fullmatch(name) for name in [*entry.copies, *entry.tombstones])
        and all(epochs and set(epochs) <= set(entry.bundles) for epochs in entry.copies.values())
        and not set(entry.copies) & set(entry.tombstones)
    )


def advanced(
    last: Kept | None, epoch: int, bundle: Bundle | None, names: Sequence[str], gone: Mapping[str, str], versions: int
) -> tuple[dict[int, Bundle], dict[str, list[int]], dict[str, tuple[int, str]]]:
    """Give bundles, copies and tombstones after one more epoch: `names` have a new copy in `bundle`, `gone` have none.

    Of each name `versions` copies are listed; a bundle that nothing refers to any more is left out.
    """
    copies = {name: list(epochs) for name, epochs in (last.copies if last else {}).items()}
    tombstones = dict(last.tombstones if last else {})
    for name in names:
        copies[name] = [epoch, *copies.get(name, [])][:versions]
        tombstones.pop(name, None)
    for name, reason in gone.items():
        copies.pop(name, None)
        tombstones[name] = (epoch, reason)
    newest = sorted(tombstones, key=lambda name: tombstones[name][0])[-TOMBSTONE_LIMIT:]
    known = dict(last.bundles if last else {}) | ({epoch: bundle} if bundle else {})
    used = {each for epochs in copies.values() for each in epochs}
    return (
        {each: known[each] for each in sorted(used)},
        copies,
        {name: tombstones[name] for name in newest},
    )


# --- Bundles -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One Secret as it was when its store last answered, and what it is bound to.

    `spec` is a digest of what the ExternalSecret asks for, `stores` names the stores, `versions` maps what was read
    there to the provider's version, `as_of` is the moment of that (RFC 3339, UTC).
    """

    secret: Manifest = field(repr=False)
    external: str
    spec: str
    stores: Sequence[str]
    versions: Mapping[str, str]
    as_of: str

    def bound_to(self, name: str, cluster: str, epoch: int) -> str:
        """Give the text of the annotation; `name` is the hidden one."""
        fields = {each: getattr(self, each) for each in ("external", "spec", "as_of")}
        fields |= {"stores": list(self.stores), "versions": dict(self.versions)}
        return canonical.encode(fields | {"cluster": cluster, "epoch": epoch, "name": name}).decode().strip()


def pack(copies: Mapping[str, Copy], cluster: str, epoch: int) -> Plaintext:
    """Give copies by hidden name as YAML documents, padded by a comment to a power of two: its size says little."""
    bodies = []
    for name, copy in sorted(copies.items()):
        annotations = {**copy.secret.annotations, BOUND_TO: copy.bound_to(name, cluster, epoch)}
        bodies.append({**copy.secret.body, "metadata": {**copy.secret.metadata, "annotations": annotations}})
    text = dump_all(bodies).encode()
    size = PAD_FROM
    while size < len(text) + 2:
        size *= 2
    return Plaintext(text + b"#" + b" " * (size - len(text) - 2) + b"\n")


def unpack(content: Plaintext, cluster: str, epoch: int) -> dict[str, Copy]:
    """Give the copies of a bundle that opened, by hidden name.

    Raises:
        BrokenEscrow: it holds something else than copies of this cluster and epoch.
    """
    try:
        found = [_copy(secret, cluster, epoch) for secret in load_all(content.reveal(), source="bundle")]
    except InvalidManifest as error:
        raise BrokenEscrow(f"the bundle opens, but does not hold: {error.problem}", reason="WrongContent") from None
    if not all(found):
        raise BrokenEscrow("the bundle opens, but is of another cluster or epoch", reason="WrongContent")
    return dict(each for each in found if each is not None)


def _copy(secret: Manifest, cluster: str, epoch: int) -> tuple[str, Copy] | None:
    annotations = dict(secret.annotations)
    try:
        bound = json.loads(annotations.pop(BOUND_TO, ""))
        if (bound["cluster"], bound["epoch"]) != (cluster, epoch) or secret.kind.kind != "Secret":
            return None
        versions = {str(name): str(version) for name, version in bound["versions"].items()}
        return str(bound["name"]), Copy(
            secret=Manifest({**secret.body, "metadata": {**secret.metadata, "annotations": annotations}}),
            external=str(bound["external"]),
            spec=str(bound["spec"]),
            stores=[str(store) for store in bound["stores"]],
            versions=versions,
            as_of=str(bound["as_of"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
