"""All values of one ExternalSecret, from its stores or from those that serve instead while one is out.

What never lives here: what a value means (`secretsops.external.gather`), what becomes of it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Hashable, Mapping, Sequence
from functools import partial

from controllers.stores import Stores
from secretsops.errors import InvalidManifest, SecretsOpsError, StoreRefused
from secretsops.external.demand import Demand
from secretsops.external.entries import StoreRef
from secretsops.external.fallback import Outages, fallbacks, told, unfit
from secretsops.external.gather import EntryFailed, Gathered, gather
from secretsops.external.generating import Generators
from secretsops.external.model import ExternalSecret
from secretsops.external.reading import StoreReader
from secretsops.external.rewrite import Transform
from secretsops.external.survival import is_outage
from secretsops.external.template import transformed
from secretsops.manifest import Manifest, ObjectKey

Found = Mapping[StoreRef, Manifest | None]
"""The stores an ExternalSecret names, as they are in the cluster."""


class Values:
    """Gathers values. Safe for several threads."""

    def __init__(
        self,
        stores: Stores,
        generators: Generators,
        *,
        demand: Demand | None = None,
        transform: Transform = transformed,
    ) -> None:
        self._stores = stores
        self._generators = generators
        self._transform = transform
        self._outages = Outages()
        self.demand = demand or Demand()

    def gather(
        self, wanted: ExternalSecret, stores: Found, not_before: dt.datetime, *, retry: bool
    ) -> tuple[Gathered, str]:
        """Give all values, and which stores served instead of which, "" where all are their own.

        Raises:
            EntryFailed: an entry could be had from nowhere.
        """
        lists = {ref: self._fallbacks(store, wanted.namespace) for ref, store in stores.items() if store is not None}
        known: dict[StoreRef, Manifest | None] = {**stores}
        for found in lists.values():
            known |= found
        order = {ref: [ref, *found] for ref, found in lists.items()}
        for ref, candidates in order.items():
            if len(candidates) > 1 and self._outages.is_out(_name(stores[ref], wanted.namespace)):
                candidates.pop(0)
        while True:
            serving = {ref: candidates[0] for ref, candidates in order.items() if lists[ref]}
            reader = StoreReader(
                self._stores.open,
                known,
                wanted.namespace,
                not_before,
                generate=self._generators,
                demand=self.demand,
                serving=serving,
                retry=retry,
            )
            try:
                gathered = gather(wanted.pulls, reader, self._transform, skip_absent=wanted.target.deletion != "Retain")
            except EntryFailed as failure:
                if not self._goes_on(failure, order, stores, wanted, reader):
                    raise
                continue
            # Whoever failed goes on waiting: what they want comes along with what others read.
            self.demand.drop((wanted.namespace, wanted.name))
            return gathered, told(serving)

    def is_foreign(self, wanted: ExternalSecret) -> bool:
        """Say whether a generator asks for another controller class; one that is missing or wrong is ours to report."""
        for pull in wanted.pulls:
            if pull.generator is not None:
                with contextlib.suppress(InvalidManifest):
                    found = self._generators.find(pull.generator, wanted.namespace)
                    if self._stores.is_foreign_class(found.controller):
                        return True
        return False

    def _fallbacks(self, store: Manifest, namespace: str) -> dict[StoreRef, Manifest | None]:
        """Give the stores that may serve instead, in order; one that is missing or unfit is left out."""
        found: dict[StoreRef, Manifest | None] = {}
        for ref in fallbacks(store):
            other = self._stores.open.find(ref, namespace)
            if other is not None and not unfit(store, other) and not self._stores.is_foreign(other):
                found[ref] = other
        return found

    def _goes_on(
        self,
        failure: EntryFailed,
        order: Mapping[StoreRef, list[StoreRef]],
        stores: Found,
        wanted: ExternalSecret,
        reader: StoreReader,
    ) -> bool:
        """Say whether another store is to be asked for the values of the one that failed."""
        ref = failure.pull.store
        candidates = order.get(ref) if ref is not None else None
        if ref is None or not candidates or len(candidates) < 2:
            return False
        first = candidates[0] == ref
        # A fallback may say no, or be unfit in itself: the next one may still serve. The store's own no is an answer.
        if not is_outage(failure.cause) and (first or not isinstance(failure.cause, StoreRefused | InvalidManifest)):
            return False
        if first:
            again = partial(self._ask_again, reader, failure, wanted.namespace)
            self._outages.failed(_name(stores[ref], wanted.namespace), self._stores.open.clock.monotonic(), again)
        candidates.pop(0)
        return True

    def _ask_again(self, reader: StoreReader, failure: EntryFailed, namespace: str) -> None:
        """Ask a store that was out for what it could not give; a no is an answer as well."""
        with contextlib.suppress(StoreRefused, InvalidManifest):
            reader.again(failure.pull, self._stores.open.find, namespace, self._stores.open.clock.now())

    def look_for_recovery(self) -> Sequence[ObjectKey]:
        """Ask stores that were out whether they are back; gives those that serve again."""
        back: list[ObjectKey] = []
        for store, again in self._outages.to_try(self._stores.open.clock.monotonic()):
            try:
                again()
            except SecretsOpsError:
                self._outages.failed(store, self._stores.open.clock.monotonic(), again)
                continue
            if self._outages.answered(store, self._stores.open.clock.monotonic()):
                assert isinstance(store, tuple)
                back.append(store[0])
        return back


def _name(store: Manifest | None, namespace: str) -> Hashable:
    assert store is not None
    return (store.key, store.uid, namespace)
