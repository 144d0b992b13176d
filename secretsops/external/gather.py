"""All values of one ExternalSecret, entry by entry, from whoever reads: the provider's answers become keys. Pure.

`dataFrom` in order, then `data` in order; the later one wins. Per entry: read, rewrite or convert keys, check them,
decode, refuse null bytes (External Secrets 2.9.0, `externalsecret_controller_secret.go`).

What never lives here: connections, caches, which Secret the values go into.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from secretsops.errors import SecretsOpsError, StoreRefused
from secretsops.external.entries import GeneratorRef, Pull, StoreRef
from secretsops.external.rewrite import Transform, rewritten
from secretsops.external.select import checked_keys, convert_keys, decoded, extract, refuse_null_bytes, select
from secretsops.ports import Ask, Fetched, Query
from secretsops.secret import Plaintext


class Reader(Protocol):
    """Whoever gets documents for one namespace. Raises a `SecretsOpsError`, `NotFound` for what is not there."""

    def dialect(self, store: StoreRef) -> str:
        """Name the property rules of a store's documents."""

    def read(self, store: StoreRef, ask: Ask) -> Fetched:
        """Read one document, or what is kept beside it."""

    def find(self, store: StoreRef, query: Query) -> Mapping[str, Fetched]:
        """Read all documents that fit."""

    def generate(self, generator: GeneratorRef) -> Mapping[str, Plaintext]:
        """Make new values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What came of one entry: `read` or `absent`, the provider's version, when it was read, and the keys it gave."""

    pull: Pull
    outcome: str
    version: str = ""
    at: dt.datetime | None = None
    keys: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """The data of the Secret before any template, and how each entry fared."""

    values: Mapping[str, Plaintext] = field(repr=False)
    entries: Sequence[Entry]

    def as_of(self, started: dt.datetime) -> dt.datetime:
        """Give the moment the values are of: that of a document that was read before we began, for somebody else.

        Counting a refresh from there keeps objects that share a document together, so that one request goes on
        serving them all.
        """
        return min([started, *(entry.at for entry in self.entries if entry.at is not None)])

    @property
    def absent(self) -> list[Pull]:
        """Give the entries the provider has nothing for."""
        return [entry.pull for entry in self.entries if entry.outcome == "absent"]


class EntryFailed(Exception):
    """An entry could not be had; `place` names it as the peer does, `cause` says why, `entries` are those before it."""

    def __init__(self, pull: Pull, cause: SecretsOpsError, entries: Sequence[Entry] = ()) -> None:
        super().__init__(pull.place)
        self.pull = pull
        self.place = pull.place
        self.cause = cause
        self.entries = tuple(entries)


def gather(pulls: Sequence[Pull], reader: Reader, transform: Transform, *, skip_absent: bool) -> Gathered:
    """Give all values, or none.

    `skip_absent` leaves out what the provider does not have; without it that is a failure like any other.

    Raises:
        EntryFailed: the first entry that could not be had.
    """
    values: dict[str, Plaintext] = {}
    entries: list[Entry] = []
    for pull in pulls:
        try:
            found, version, at = _pulled(pull, reader, transform)
        except SecretsOpsError as error:
            if not (skip_absent and isinstance(error, StoreRefused) and error.reason == "NotFound"):
                raise EntryFailed(pull, error, entries) from None
            entries.append(Entry(pull=pull, outcome="absent"))
            continue
        values |= found
        entries.append(Entry(pull=pull, outcome="read", version=version, at=at, keys=sorted(found)))
    return Gathered(values=values, entries=entries)


_Pulled = tuple[dict[str, Plaintext], str, dt.datetime | None]


def _pulled(pull: Pull, reader: Reader, transform: Transform) -> _Pulled:
    if pull.generator is not None:
        # Compat: what a generator makes is neither converted nor decoded.
        made = rewritten(reader.generate(pull.generator), pull.rewrites, transform)
        return checked_keys(made), "", None
    assert pull.store is not None
    if pull.find is not None:
        found = reader.find(pull.store, pull.find)
        documents = {name: fetched.document for name, fetched in found.items()}
        moments = [fetched.at for fetched in found.values() if fetched.at is not None]
        return _finished(documents, pull, transform), "", min(moments, default=None)
    assert pull.ask is not None
    dialect, ask, path = reader.dialect(pull.store), pull.ask, pull.property_path
    if dialect == "webhook":
        ask, path = replace(ask, property=path), ""
    fetched = reader.read(pull.store, ask)
    value = select(fetched.document, path, dialect)
    if value is None:
        raise _property_missing(pull, dialect)
    if not pull.secret_key:
        return _finished(extract(value, dialect), pull, transform), fetched.version, fetched.at
    single = {pull.secret_key: decoded(value, pull.decoding, pull.secret_key)}
    refuse_null_bytes(single, pull.null_bytes)
    return single, fetched.version, fetched.at


def _finished(values: Mapping[str, Plaintext], pull: Pull, transform: Transform) -> dict[str, Plaintext]:
    # Compat: keys are converted only where no rewrite makes them.
    values = rewritten(values, pull.rewrites, transform) if pull.rewrites else convert_keys(values, pull.conversion)
    values = {key: decoded(item, pull.decoding, key) for key, item in checked_keys(values).items()}
    refuse_null_bytes(values, pull.null_bytes)
    return values


def _property_missing(pull: Pull, dialect: str) -> StoreRefused:
    """Compat: a missing property is an error under every deletionPolicy; only the fake provider calls it absent."""
    if dialect == "plain":
        return StoreRefused(f"{pull.key!r} has no property {pull.property_path!r}", reason="NotFound")
    text = f'cannot find secret data for key: "{pull.property_path}"'
    if dialect == "aws":
        text = f"key {pull.property_path} does not exist in secret {pull.key}"
    return StoreRefused(text, reason="PropertyMissing", hint="check remoteRef.property")
