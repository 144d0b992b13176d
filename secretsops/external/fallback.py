"""Which store serves while another is out: the order its owner declares, the limits, and when the first one is back.

`secretsops.dev/fallback-stores` on a store names others, in order: `name` (of the same kind) or `Kind/name`. Only
outages count, never a no. A ClusterSecretStore falls back to ClusterSecretStores alone, each under its own conditions;
nothing falls back to a store of listed values or to a webhook, or to one of another provider, whose keys mean something
else. A fallback's own fallbacks are not followed. One pass takes all values of a store from one place.

What never lives here: requests, what a value means.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from secretsops.external.entries import StoreRef
from secretsops.external.model import CLUSTER_SECRET_STORE, SECRET_STORE
from secretsops.manifest import Manifest

FALLBACK_STORES = "secretsops.dev/fallback-stores"
FALLBACK_LIMIT = 5
"""Stores of one list."""
HOLD, STEADY = 30.0, 30.0
"""Seconds between two looks whether a store is back, and those for which it has to answer before it serves again."""
_REMEMBERED = 4096
_NEVER = frozenset({"fake", "webhook"})


def fallbacks(store: Manifest) -> list[StoreRef]:
    """Give the stores an owner declared, in order, without the store itself."""
    kinds = {SECRET_STORE.kind, CLUSTER_SECRET_STORE.kind}
    found = []
    for item in store.annotations.get(FALLBACK_STORES, "").split(","):
        kind, slash, name = item.strip().rpartition("/")
        ref = StoreRef(kind if slash else store.kind.kind, name)
        if name and ref.kind in kinds and (ref.kind, ref.name) != (store.kind.kind, store.name):
            found.append(ref)
    return list(dict.fromkeys(found))[:FALLBACK_LIMIT]


def unfit(store: Manifest, other: Manifest) -> str:
    """Say why a store must not serve instead of another, "" when it may."""
    if store.kind.kind == CLUSTER_SECRET_STORE.kind and other.kind.kind != CLUSTER_SECRET_STORE.kind:
        return "a ClusterSecretStore falls back to ClusterSecretStores alone"
    ours, theirs = _provider(store), _provider(other)
    if theirs in _NEVER:
        return f"a store of provider {theirs} is no fallback"
    if ours != theirs or not ours:
        return "it is of another provider"
    return ""


def _provider(store: Manifest) -> str:
    providers = store.spec.get("provider")
    return str(next(iter(providers), "")) if isinstance(providers, dict) and len(providers) == 1 else ""


Again = Callable[[], None]
"""Asks a store once more for what it could not give; raises where it still cannot."""


@dataclass(slots=True)
class _Outage:
    asked: float
    again: Again
    answers_since: float | None = None


class Outages:
    """Which stores were out of late, for whom. Times are monotonic seconds. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._out: OrderedDict[Hashable, _Outage] = OrderedDict()

    def is_out(self, store: Hashable) -> bool:
        """Say whether a store is to be spared."""
        with self._lock:
            return store in self._out

    def failed(self, store: Hashable, now: float, again: Again) -> None:
        """Take note that a store gave no usable answer, and how to ask whether it does again."""
        with self._lock:
            self._out[store] = _Outage(asked=now, again=again)
            self._out.move_to_end(store)
            while len(self._out) > _REMEMBERED:
                self._out.popitem(last=False)

    def to_try(self, now: float) -> list[tuple[Hashable, Again]]:
        """Give the stores to ask whether they are back: each once per `HOLD`."""
        with self._lock:
            due = [(store, outage) for store, outage in self._out.items() if now - outage.asked >= HOLD]
            for _, outage in due:
                outage.asked = now
            return [(store, outage.again) for store, outage in due]

    def answered(self, store: Hashable, now: float) -> bool:
        """Take note that a store answered; says whether it has done so for long enough to serve again."""
        with self._lock:
            outage = self._out.get(store)
            if outage is None:
                return True
            since = outage.answers_since = now if outage.answers_since is None else outage.answers_since
            if now - since < STEADY:
                return False
            del self._out[store]
            return True


def told(serving: Mapping[StoreRef, StoreRef]) -> str:
    """Say which stores serve instead of which, in the order of their names."""
    pairs = [
        f'{ref.kind} "{ref.name}" is out, {by.kind} "{by.name}" serves'
        for ref, by in sorted(serving.items())
        if by != ref
    ]
    return "; ".join(pairs)
