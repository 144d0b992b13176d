"""Reads documents for one ExternalSecret from the stores its namespace may use, as old as it allows.

What never lives here: what documents mean (`secretsops.external.gather`), how stores are opened and shared.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping

from secretsops.errors import InvalidManifest, NotFound
from secretsops.external.demand import Demand
from secretsops.external.entries import GeneratorRef, Pull, StoreRef
from secretsops.external.fetch import Shared
from secretsops.external.model import SECRET
from secretsops.external.opening import Openings
from secretsops.external.template import Texts
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Ask, Fetched, Query
from secretsops.secret import Plaintext, SecretData

Generate = Callable[[GeneratorRef, str], Mapping[str, Plaintext]]
"""Makes new values by a generator: which one, for which namespace."""


CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
Find = Callable[[StoreRef, str], Manifest | None]
"""Gives the store a reference of a namespace names."""


def no_generators(generator: GeneratorRef, _namespace: str) -> Mapping[str, Plaintext]:
    """Refuse: where there is no cluster, or no generators are served, none is made up."""
    raise InvalidManifest(
        f"generator {generator.kind} {generator.name!r} cannot be run here",
        reason="Unsupported",
        hint="generators run in the controller",
    )


class StoreReader:
    """Satisfies `secretsops.external.gather.Reader`.

    `serving` names the stores that serve instead of others, or for themselves; of these the answer counts and not what
    their status says: a store that is out says that it is not ready.
    """

    def __init__(
        self,
        openings: Openings,
        stores: Mapping[StoreRef, Manifest | None],
        namespace: str,
        not_before: dt.datetime,
        *,
        generate: Generate = no_generators,
        demand: Demand | None = None,
        serving: Mapping[StoreRef, StoreRef] | None = None,
        retry: bool = False,
    ) -> None:
        self._openings = openings
        self._stores = stores
        self._namespace = namespace
        self._not_before = not_before
        self._generate = generate
        self._demand = demand
        self._serving = serving or {}
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

    def again(self, pull: Pull, find: Find, namespace: str, not_before: dt.datetime) -> None:
        """Ask the store of an entry itself once more, as it is now; raises what `read` raises."""
        assert pull.store is not None
        source = self._openings.source(pull.store, find(pull.store, namespace), namespace, unready=True)
        if pull.ask is not None:
            source.read(pull.ask, not_before, namespace=namespace)
        elif pull.find is not None:
            source.find(pull.find, not_before, namespace=namespace)

    def _source(self, ref: StoreRef) -> Shared:
        if ref not in self._sources:
            by = self._serving.get(ref, ref)
            unready = ref in self._serving
            self._sources[ref] = self._openings.source(by, self._stores.get(by), self._namespace, unready=unready)
        return self._sources[ref]


def template_texts(lookup: Callable[[GroupVersionKind, str, str], Manifest], namespace: str) -> Texts:
    """Give what reads the ConfigMaps and Secrets that templates of a namespace name; there is no other namespace."""

    def read(kind: str, name: str) -> Mapping[str, bytes] | None:
        try:
            found = lookup(CONFIG_MAP if kind == "ConfigMap" else SECRET, name, namespace)
        except NotFound:
            return None
        if kind == "ConfigMap":
            return {key: str(text).encode() for key, text in (found.body.get("data") or {}).items()}
        return {key: value.reveal() for key, value in SecretData.of(found.body).items()}

    return read
