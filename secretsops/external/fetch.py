"""The one way to a store: what several ask for at the same time is asked for once, and nobody is asked too often.

A `Shared` stands before one opened source of one identity (store, its generation, the credentials' versions, and for
referent stores the namespace), so that sharing never widens access. It knows:

- single flight: whoever wants the document that is being read waits for it;
- age: nobody gets a document whose request began before the moment they name;
- batches: what others wait for too comes along where the source reads several at once;
- limits per namespace: a token bucket and a circuit breaker, so that one tenant can't use up or shut another's way;
- Retry-After of the store;
- denial: once we are denied, nothing that was read before is given out again.

What never lives here: which store, whether it may be used, what a document means.
"""

from __future__ import annotations

import copy
import datetime as dt
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from secretsops.errors import SecretsOpsError, StoreRefused, StoreUnavailable
from secretsops.ports import Ask, Clock, Fetched, Put, Query, SecretSource
from secretsops.secret import Plaintext

KEEP = 300.0
"""Seconds for which a document may serve again, if whoever asks allows one that old."""
DOCUMENT_LIMIT, BYTE_LIMIT = 4096, 64 * 1024 * 1024
"""Documents, and bytes of them, kept per identity."""
RATE, BURST = 100.0, 400.0
"""Requests per second and at once, per namespace."""
TRIPS, FIRST_PAUSE, LONGEST_PAUSE = 5, 2.0, 60.0
"""Failures in a row that open the breaker; seconds without requests, doubling."""
RETRY_AFTER_LIMIT = 300.0
"""Seconds; a store that wants to be left alone for longer is asked anyway."""
BATCHES_AGAIN = 600.0
"""Seconds for which batches are not tried again after the store refused one."""
REFUSAL_AGE = 10.0
"""Seconds for which a refusal answers those who only try again."""
LANE_LIMIT = 4096
DEPTH = 50
"""How many batches deep we look for documents that somebody waits for and nobody reads yet."""

More = Callable[[int], Iterable[Ask]]
"""Gives up to so many other documents that somebody waits for."""


@dataclass(slots=True)
class Counts:
    """What was asked of the provider, and what was not; for metrics."""

    requests: int = 0
    shared: int = 0
    refused_here: int = 0


@dataclass(slots=True)
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    started: dt.datetime | None = None
    answer: Any = None
    size: int = 0
    failed: tuple[float, SecretsOpsError] | None = None
    refused: dict[str, tuple[dt.datetime, StoreRefused]] = field(default_factory=dict)


@dataclass(slots=True)
class _Lane:
    tokens: float
    at: float
    failures: int = 0
    shut_until: float = 0.0
    cause: str = ""


class Shared:
    """A source whose readers share. Safe for several threads."""

    def __init__(self, source: SecretSource, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._slots: OrderedDict[Hashable, _Slot] = OrderedDict()
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()
        self._bytes = 0
        self._batches_from = 0.0
        self.counts = Counts()

    @property
    def dialect(self) -> str:
        """Name the property rules of the documents."""
        return self._source.dialect

    def log_in(self) -> None:
        """Get the credential the store is read by, where there is one to get."""
        self._source.log_in()

    def probe(self) -> None:
        """Check the credential."""
        self._source.probe()

    def close(self) -> None:
        """Give back what was got for this identity, and forget what was read."""
        with self._lock:
            self._slots.clear()
            self._bytes = 0
        self._source.close()

    def read(
        self,
        ask: Ask,
        not_before: dt.datetime,
        *,
        namespace: str = "",
        retry: bool = False,
        more: More | None = None,
    ) -> Fetched:
        """Give a document whose request began at `not_before` or later; a `retry` takes a refusal of a moment ago.

        Raises:
            StoreUnavailable: no usable answer; `CircuitOpen` and `Paced` where we did not ask at all.
            StoreRefused: the store said no, now or in an answer that is recent enough.
        """

        def get() -> Fetched:
            if ask.metadata:
                return self._source.metadata(ask.key, ask.version)
            if ask.property:
                return self._source.fetch_property(ask.key, ask.version, ask.property)
            return self._batched(ask, more, namespace) or self._source.fetch(ask.key, ask.version)

        found: Fetched = self._share(ask, get, not_before, namespace, retry=retry)
        return found

    def find(
        self, query: Query, not_before: dt.datetime, *, namespace: str = "", retry: bool = False
    ) -> Mapping[str, Fetched]:
        """Give all documents that fit, from a search that began at `not_before` or later; raises as `read` does."""
        name = (query.path, query.name, tuple(sorted(query.tags.items())))
        found: Mapping[str, Fetched] = self._share(
            name, lambda: self._source.find(query), not_before, namespace, retry=retry
        )
        return found

    # --- Writing ---------------------------------------------------------------------------------------

    def exists(self, key: str, property_path: str = "", *, namespace: str = "") -> bool:
        """Say whether there is something under a key, and in it the property."""
        found: bool = self._alone(lambda: self._source.exists(key, property_path), namespace)
        return found

    def put(self, put: Put, *, namespace: str = "") -> bool:
        """Write; says whether there was something to change. What was read of that key before is forgotten."""
        try:
            changed: bool = self._alone(lambda: self._source.put(put), namespace)
        finally:
            self._forget_key(put.key)
        return changed

    def remove(self, key: str, property_path: str = "", *, namespace: str = "") -> None:
        """Delete what we once wrote."""
        try:
            self._alone(lambda: self._source.remove(key, property_path), namespace)
        finally:
            self._forget_key(key)

    def call(self, operation: str, arguments: Mapping[str, Any], *, namespace: str = "") -> Plaintext:
        """Send one request of the provider's own API; it is never shared, for what it gives is made for one."""
        answer: Plaintext = self._alone(lambda: self._source.call(operation, arguments), namespace)
        return answer

    def _alone(self, act: Callable[[], Any], namespace: str) -> Any:
        self._admit(namespace)
        try:
            answer = act()
        except SecretsOpsError as error:
            self._judge(namespace, error)
            raise
        self._judge(namespace, None)
        return answer

    def _forget_key(self, key: str) -> None:
        """Forget the documents of a key, and every search: what is read next is read anew."""
        with self._lock:
            for name, slot in list(self._slots.items()):
                if (not isinstance(name, Ask) or name.key == key) and not slot.lock.locked():
                    self._drop(name)

    def forget(self, before: dt.datetime) -> None:
        """Drop documents that were read before a moment: plaintext is not kept for longer than it may serve."""
        with self._lock:
            for name, slot in list(self._slots.items()):
                if slot.started is not None and slot.started < before and not slot.lock.locked():
                    self._drop(name)

    # --- Sharing ---------------------------------------------------------------------------------------

    def _share(
        self, name: Hashable, get: Callable[[], Any], not_before: dt.datetime, namespace: str, *, retry: bool
    ) -> Any:
        asked = self._clock.monotonic()
        slot = self._slot(name)
        with slot.lock:
            oldest = max(not_before, self._clock.now() - dt.timedelta(seconds=KEEP))
            if slot.answer is not None and slot.started is not None and slot.started >= oldest:
                self.counts.shared += 1
                return slot.answer
            if slot.failed is not None and slot.failed[0] >= asked:
                raise copy.copy(slot.failed[1])
            refused = slot.refused.get(namespace)
            patience = self._clock.now() - dt.timedelta(seconds=REFUSAL_AGE) if retry else oldest
            if refused is not None and refused[0] >= patience:
                self.counts.shared += 1
                raise copy.copy(refused[1])
            self._admit(namespace)
            started = self._clock.now()
            try:
                answer = get()
            except StoreRefused as error:
                self._judge(namespace, None)
                self._refused(name, slot, error, started, namespace)
                raise
            except SecretsOpsError as error:
                # What was read before stays: an outage says nothing about it.
                self._judge(namespace, error)
                slot.failed = (self._clock.monotonic(), error)
                raise
            self._judge(namespace, None)
            return self._fill(slot, answer, started)

    def _fill(self, slot: _Slot, answer: Any, started: dt.datetime) -> Any:
        """Keep an answer, with the moment at which its request began; gives it as it is kept."""
        if isinstance(answer, Mapping):
            answer = {name: replace(fetched, at=started) for name, fetched in answer.items()}
        else:
            answer = replace(answer, at=started)
        documents = answer.values() if isinstance(answer, Mapping) else [answer]
        size = sum(len(fetched.document) for fetched in documents)
        with self._lock:
            self._bytes += size - slot.size
            slot.started, slot.answer, slot.size, slot.failed = started, answer, size, None
            slot.refused.clear()
            for name, other in list(self._slots.items()):
                if len(self._slots) <= DOCUMENT_LIMIT and self._bytes <= BYTE_LIMIT:
                    break
                if other is not slot and not other.lock.locked():
                    self._drop(name)
        return answer

    def _refused(self, name: Hashable, slot: _Slot, error: StoreRefused, started: dt.datetime, namespace: str) -> None:
        with self._lock:
            if error.reason == "Denied":
                # A credential that lost its right must not live on in what it once read.
                for other in list(self._slots):
                    if other != name:
                        self._drop(other)
            self._bytes -= slot.size
            slot.started, slot.answer, slot.size = None, None, 0
            slot.refused[namespace] = (started, error)
            while len(slot.refused) > LANE_LIMIT:
                del slot.refused[next(iter(slot.refused))]

    def _slot(self, name: Hashable) -> _Slot:
        with self._lock:
            slot = self._slots.pop(name, None) or _Slot()
            self._slots[name] = slot
            return slot

    def _drop(self, name: Hashable) -> None:
        slot = self._slots.pop(name, None)
        if slot is not None:
            self._bytes -= slot.size

    # --- Batches ---------------------------------------------------------------------------------------

    def _batched(self, ask: Ask, more: More | None, namespace: str) -> Fetched | None:
        """Read a document together with others that somebody waits for; None where it has to be read alone."""
        size = self._source.batch
        if size <= 1 or more is None or ask.version or self._clock.monotonic() < self._batches_from:
            return None
        others = self._held(more(size * DEPTH), ask, size - 1)
        if not others:
            return None
        try:
            started = self._clock.now()
            answers = self._source.fetch_many([ask, *others])
            if not answers:
                self._batches_from = self._clock.monotonic() + BATCHES_AGAIN
                self.counts.requests += 1
                return None
            for other, slot in others.items():
                answer = answers.get(other)
                if isinstance(answer, Fetched):
                    self._fill(slot, answer, started)
                elif answer is not None:
                    slot.refused[namespace] = (started, answer)
        finally:
            for slot in others.values():
                slot.lock.release()
        answer = answers.get(ask)
        if isinstance(answer, StoreRefused):
            raise answer
        return answer

    def _held(self, candidates: Iterable[Ask], ask: Ask, room: int) -> dict[Ask, _Slot]:
        """Take the slots of documents that nobody reads yet, so that whoever wants one waits for our batch."""
        held: dict[Ask, _Slot] = {}
        for other in candidates:
            if len(held) >= room:
                break
            if other == ask or other in held or other.metadata or other.version or other.property:
                continue
            slot = self._slot(other)
            if slot.lock.acquire(blocking=False):
                if slot.answer is None and not slot.refused:
                    held[other] = slot
                else:
                    slot.lock.release()
        return held

    # --- Limits per namespace --------------------------------------------------------------------------

    def _admit(self, namespace: str) -> None:
        with self._lock:
            now = self._clock.monotonic()
            lane = self._lanes.pop(namespace, None) or _Lane(BURST, now)
            self._lanes[namespace] = lane
            while len(self._lanes) > LANE_LIMIT:
                self._lanes.popitem(last=False)
            lane.tokens, lane.at = min(BURST, lane.tokens + (now - lane.at) * RATE), now
            if now < lane.shut_until:
                self.counts.refused_here += 1
                left = lane.shut_until - now
                raise StoreUnavailable(
                    lane.cause, retry_after=left, reason="CircuitOpen", hint=f"the store is asked again in {left:.0f} s"
                )
            if lane.tokens < 1:
                self.counts.refused_here += 1
                raise StoreUnavailable(
                    f"namespace {namespace} asks this store too often",
                    retry_after=(1 - lane.tokens) / RATE,
                    reason="Paced",
                    hint="it goes on by itself; a longer refreshInterval asks less",
                )
            lane.tokens -= 1
            self.counts.requests += 1
            if lane.failures >= TRIPS:
                lane.shut_until = now + FIRST_PAUSE  # one at a time finds out whether the store is back

    def _judge(self, namespace: str, error: SecretsOpsError | None) -> None:
        with self._lock:
            lane = self._lanes.get(namespace)
            if lane is None:
                return
            if not isinstance(error, StoreUnavailable):
                lane.failures, lane.shut_until = 0, 0.0
                return
            lane.failures, lane.cause = lane.failures + 1, error.message
            pause = 0.0
            if lane.failures >= TRIPS:
                pause = min(FIRST_PAUSE * 2.0 ** min(lane.failures - TRIPS, 10), LONGEST_PAUSE)
            pause = max(pause, min(error.retry_after, RETRY_AFTER_LIMIT))
            lane.shut_until = self._clock.monotonic() + pause
