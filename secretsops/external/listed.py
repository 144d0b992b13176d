"""The secret source whose values stand in the store itself (the peer's `fake` provider). Pure; for trials and tests."""

from __future__ import annotations

from collections.abc import Mapping

from secretsops.errors import StoreRefused
from secretsops.external.patterns import found
from secretsops.ports import Fetched, Query, SecretSource
from secretsops.secret import Plaintext


class ListedSource(SecretSource):
    """Satisfies `secretsops.ports.SecretSource` over a mapping."""

    dialect = "plain"

    def __init__(self, values: Mapping[str, Plaintext]) -> None:
        self._values = values

    def fetch(self, key: str, version: str = "") -> Fetched:
        """Give the value listed under key and version; raises `StoreRefused` with reason `NotFound`."""
        found = self._values.get(key + version)
        if found is None:
            raise StoreRefused(f"{key!r} is not listed in the store", reason="NotFound", hint="add it to fake.data")
        return Fetched(document=found, version=version)

    def probe(self) -> None:
        """Do nothing: there is no credential."""

    def find(self, query: Query) -> Mapping[str, Fetched]:
        """Give what is listed under names that fit and begin with the path.

        Compat: as with the peer's fake provider there are no tags: a search by nothing else finds everything.
        """
        names = [key for key in self._values if key.startswith(query.path) and found(query.name, key)]
        return {key: Fetched(document=self._values[key]) for key in sorted(names)}
