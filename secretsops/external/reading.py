"""Reads documents for one ExternalSecret from the stores its namespace may use, as old as it allows.

What never lives here: what documents mean (`secretsops.external.gather`), how stores are opened and shared.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping

from secretsops.errors import InvalidManifest
from secretsops.external.demand import Demand
from secretsops.external.entries import GeneratorRef, StoreRef
from secretsops.external.fetch import Shared
from secretsops.external.opening import Openings
from secretsops.manifest import Manifest
from secretsops.ports import Ask, Fetched, Query
from secretsops.secret import Plaintext

Generate = Callable[[GeneratorRef, str], Mapping[str, Plaintext]]
"""Makes new values by a generator: which one, for which namespace."""


def no_generators(generator: GeneratorRef, _namespace: str) -> Mapping[str, Plaintext]:
    """Refuse: where there is no cluster, or no generators are served, none is made up."""
    raise InvalidManifest(
        f"generator {generator.kind} {generator.name!r} cannot be run here",
        reason="Unsupported",
        hint="generators run in the controller",
    )


class StoreReader:
    """Satisfies `secretsops.external.gather.Reader`."""

    def __init__(
        self,
        openings: Openings,
        stores: Mapping[StoreRef, Manifest | None],
        namespace: str,
        not_before: dt.datetime,
        *,
        generate: Generate = no_generators,
        demand: Demand | None = None,
        unready: bool = False,
        retry: bool = False,
    ) -> None:
        self._openings = openings
        self._stores = stores
        self._namespace = namespace
        self._not_before = not_before
        self._generate = generate
        self._demand = demand
        self._unready = unready
        self._retry = retry
        self._sources: dict[StoreRef, Shared] = {}

    def dialect(self, store: StoreRef) -> str:
        """Name the property rules of a store's documents."""
        return self._source(store).dialect

    def read(self, store: StoreRef, ask: Ask) -> Fetched:
        """Read one document, or what is kept beside it."""
        demand, place = self._demand, (store, self._namespace)
        now = self._openings.clock.now
        more = (lambda limit: demand.waiting(place, now(), limit)) if demand is not None else None
        return self._source(store).read(ask, self._not_before, namespace=self._namespace, retry=self._retry, more=more)

    def find(self, store: StoreRef, query: Query) -> Mapping[str, Fetched]:
        """Read all documents that fit."""
        return self._source(store).find(query, self._not_before, namespace=self._namespace, retry=self._retry)

    def generate(self, generator: GeneratorRef) -> Mapping[str, Plaintext]:
        """Make new values."""
        return self._generate(generator, self._namespace)

    def _source(self, ref: StoreRef) -> Shared:
        if ref not in self._sources:
            manifest = self._stores.get(ref)
            self._sources[ref] = self._openings.source(ref, manifest, self._namespace, unready=self._unready)
        return self._sources[ref]
