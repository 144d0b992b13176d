"""Sharing a source: one request for those who wait, ages, batches, limits per namespace, nothing after a denial."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Mapping, Sequence

import pytest

from secretsops.errors import SecretsOpsError, StoreRefused, StoreUnavailable
from secretsops.external.fetch import BURST, KEEP, LONGEST_PAUSE, TRIPS, Shared
from secretsops.ports import Ask, Fetched, Query, SecretSource
from secretsops.secret import Plaintext

HOUR = dt.timedelta(hours=1)
DB = Ask("db")


class Ticking:
    """A clock that stands still until told."""

    def __init__(self) -> None:
        self.time = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)

    def now(self) -> dt.datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody waits here")

    def pass_time(self, seconds: float) -> None:
        self.time += dt.timedelta(seconds=seconds)


class Counting(SecretSource):
    """Counts requests; fails as told; reads `batch` at once."""

    dialect = "plain"
    batch = 1

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.failure: SecretsOpsError | None = None
        self.absent: set[str] = set()
        self.no_batches = False

    def fetch(self, key: str, version: str = "") -> Fetched:
        self.asked.append([key])
        if self.failure:
            raise self.failure
        if key in self.absent:
            raise StoreRefused(f"{key} is not there", reason="NotFound")
        return Fetched(document=Plaintext(b"v"), version=str(len(self.asked)))

    def fetch_many(self, asks: Sequence[Ask]) -> Mapping[Ask, Fetched | StoreRefused]:
        self.asked.append([ask.key for ask in asks])
        if self.no_batches:
            return {}
        here = [ask for ask in asks if ask.key not in self.absent]
        return {ask: Fetched(document=Plaintext(b"v"), version=str(len(self.asked))) for ask in here}

    def find(self, query: Query) -> Mapping[str, Fetched]:
        self.asked.append([f"find {query.path}"])
        return {"a": Fetched(document=Plaintext(b"v"))}

    def metadata(self, key: str, version: str = "") -> Fetched:
        self.asked.append([f"metadata {key}"])
        return Fetched(document=Plaintext(b"{}"))

    def probe(self) -> None: ...


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def source() -> Counting:
    return Counting()


@pytest.fixture
def shared(source: Counting, clock: Ticking) -> Shared:
    return Shared(source, clock)


def test_a_document_serves_until_it_is_too_old_for_whoever_asks(
    shared: Shared, source: Counting, clock: Ticking
) -> None:
    first = shared.read(DB, clock.now())
    clock.pass_time(10)
    assert shared.read(DB, clock.now() - dt.timedelta(seconds=10)) is first
    assert shared.read(DB, clock.now()) is not first
    clock.pass_time(KEEP + 1)
    shared.read(DB, clock.now() - HOUR)
    assert len(source.asked) == 3
    assert (shared.counts.requests, shared.counts.shared) == (3, 1)


def test_versions_metadata_and_searches_are_told_apart(shared: Shared, source: Counting, clock: Ticking) -> None:
    for _ in range(2):
        shared.read(DB, clock.now())
        shared.read(Ask("db", "2"), clock.now())
        shared.read(Ask("db", metadata=True), clock.now())
        shared.find(Query(path="x"), clock.now())
        shared.find(Query(path="x", name="y"), clock.now())
    assert source.asked == [["db"], ["db"], ["metadata db"], ["find x"], ["find x"]]


def test_what_is_forgotten_is_read_again(shared: Shared, source: Counting, clock: Ticking) -> None:
    shared.read(DB, clock.now())
    shared.forget(clock.now() + HOUR)
    shared.read(DB, clock.now())
    assert len(source.asked) == 2


class Slow(Counting):
    """The first request waits until told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.began = threading.Event(), threading.Event()

    def fetch(self, key: str, version: str = "") -> Fetched:
        self.began.set()
        assert self.go.wait(10)
        return super().fetch(key, version)


@pytest.mark.parametrize("failure", [None, StoreUnavailable("down", retry_after=3.0)])
def test_readers_who_wait_for_a_request_share_its_outcome(failure: SecretsOpsError | None, clock: Ticking) -> None:
    """Ten waiting objects are one request, also when it fails: an outage costs one timeout, not ten."""
    source = Slow()
    source.failure = failure
    shared = Shared(source, clock)
    outcomes: list[str] = []
    lined_up = threading.Barrier(10)

    def ask() -> None:
        try:
            outcomes.append(shared.read(DB, clock.now()).version)
        except StoreUnavailable as error:
            outcomes.append(f"{error.message} {error.retry_after}")

    def ask_too() -> None:
        lined_up.wait(10)
        ask()

    threads = [threading.Thread(target=ask), *(threading.Thread(target=ask_too) for _ in range(9))]
    for thread in threads:
        thread.start()
    assert source.began.wait(10)
    lined_up.wait(10)
    time.sleep(0.2)  # until they wait at the lock; too short a time would only make the test prove less
    source.go.set()
    for thread in threads:
        thread.join(10)
    assert outcomes == ["1" if failure is None else "down 3.0"] * 10
    assert len(source.asked) == 1


# --- Batches -------------------------------------------------------------------------------------------


def test_what_others_wait_for_comes_along(shared: Shared, source: Counting, clock: Ticking) -> None:
    source.batch = 20
    keys = [Ask(f"k{number}") for number in range(100)]
    for ask in keys:
        shared.read(ask, clock.now(), more=lambda limit: keys[:limit] + keys)
    assert [len(asked) for asked in source.asked] == [20] * 5


def test_what_was_refused_does_not_come_along(shared: Shared, source: Counting, clock: Ticking) -> None:
    """A document nobody may have must not take a place in every batch."""
    source.failure = StoreRefused("none", reason="NotFound")
    with pytest.raises(StoreRefused):
        shared.read(Ask("k1"), clock.now())
    source.failure = None
    source.batch = 20
    shared.read(Ask("k0"), clock.now(), more=lambda _: [Ask("k1"), Ask("k2")])
    assert source.asked[-1] == ["k0", "k2"]


def test_a_no_to_one_of_a_batch_is_their_answer(shared: Shared, source: Counting, clock: Ticking) -> None:
    source.batch = 20
    source.fetch_many = lambda asks: {  # type: ignore[method-assign]
        ask: StoreRefused("none", reason="NotFound") if ask.key == "gone" else Fetched(document=Plaintext(b"v"))
        for ask in asks
    }
    shared.read(DB, clock.now(), namespace="shop", more=lambda _: [Ask("gone")])
    with pytest.raises(StoreRefused):
        shared.read(Ask("gone"), clock.now(), namespace="shop")
    assert (source.asked, shared.counts.requests) == ([], 1)


def test_what_a_batch_leaves_out_is_asked_for_alone(shared: Shared, source: Counting, clock: Ticking) -> None:
    source.batch, source.absent = 20, {"db"}
    with pytest.raises(StoreRefused):
        shared.read(DB, clock.now(), more=lambda _: [Ask("other")])
    assert source.asked == [["db", "other"], ["db"]]
    shared.read(Ask("other"), clock.now())
    assert len(source.asked) == 2


def test_refused_batches_are_remembered_and_are_no_outage(shared: Shared, source: Counting, clock: Ticking) -> None:
    source.batch, source.no_batches = 20, True
    for ask in (DB, Ask("other"), Ask("third")):
        assert shared.read(ask, clock.now(), more=lambda _: [Ask("x")]).version
    assert source.asked == [["db", "x"], ["db"], ["other"], ["third"]]


# --- Limits --------------------------------------------------------------------------------------------


def test_one_namespace_cannot_shut_another_ones_way(shared: Shared, source: Counting, clock: Ticking) -> None:
    source.failure = StoreUnavailable("sealed")
    for _ in range(TRIPS):
        with pytest.raises(StoreUnavailable, match="sealed"):
            shared.read(DB, clock.now(), namespace="a")
        clock.pass_time(0.1)
    count = len(source.asked)
    with pytest.raises(StoreUnavailable, match="sealed") as caught:
        shared.read(DB, clock.now(), namespace="a")
    assert (caught.value.reason, len(source.asked)) == ("CircuitOpen", count)
    source.failure = None
    assert shared.read(DB, clock.now(), namespace="b").version
    assert len(source.asked) == count + 1


def test_the_breaker_lets_one_try_through_and_closes_when_it_is_answered(
    shared: Shared, source: Counting, clock: Ticking
) -> None:
    source.failure = StoreUnavailable("sealed")
    while len(source.asked) < TRIPS + 12:
        with pytest.raises(StoreUnavailable):
            shared.read(DB, clock.now())
        clock.pass_time(1)
    clock.pass_time(LONGEST_PAUSE)
    source.failure = None
    assert shared.read(DB, clock.now()).version
    clock.pass_time(1)
    assert shared.read(DB, clock.now()).version


def test_retry_after_is_honoured(shared: Shared, source: Counting, clock: Ticking) -> None:
    source.failure = StoreUnavailable("throttled", retry_after=7.0)
    with pytest.raises(StoreUnavailable):
        shared.read(DB, clock.now())
    source.failure = None
    clock.pass_time(6.9)
    with pytest.raises(StoreUnavailable):
        shared.read(DB, clock.now())
    clock.pass_time(0.2)
    assert shared.read(DB, clock.now()).version
    assert len(source.asked) == 2


def test_a_namespace_that_asks_too_much_is_paced_alone(shared: Shared, source: Counting, clock: Ticking) -> None:
    for number in range(int(BURST)):
        shared.read(Ask(f"k{number}"), clock.now(), namespace="a")
    with pytest.raises(StoreUnavailable) as caught:
        shared.read(Ask("one-more"), clock.now(), namespace="a")
    assert caught.value.reason == "Paced"
    assert caught.value.retry_after > 0
    assert shared.read(Ask("one-more"), clock.now(), namespace="b").version
    clock.pass_time(caught.value.retry_after + 0.001)
    assert shared.read(Ask("another"), clock.now(), namespace="a").version


def test_a_refusal_is_remembered_for_the_namespace_that_asked(shared: Shared, source: Counting, clock: Ticking) -> None:
    source.absent = {"db"}
    before = clock.now()
    for namespace in ("a", "a", "b"):
        with pytest.raises(StoreRefused):
            shared.read(DB, before, namespace=namespace)
    assert len(source.asked) == 2
    source.absent = set()
    clock.pass_time(1)
    assert shared.read(DB, clock.now(), namespace="a").version


def test_nothing_that_was_read_outlives_a_denial(shared: Shared, source: Counting, clock: Ticking) -> None:
    """A revoked credential must not live on in what it once read; an outage says nothing about that."""
    shared.read(DB, clock.now())
    source.failure = StoreUnavailable("down")
    with pytest.raises(StoreUnavailable):
        shared.read(Ask("other"), clock.now())
    assert shared.read(DB, clock.now()).version
    source.failure = StoreRefused("no", reason="Denied")
    clock.pass_time(1)
    with pytest.raises(StoreRefused):
        shared.read(Ask("other"), clock.now())
    with pytest.raises(StoreRefused):
        shared.read(DB, clock.now() - HOUR)


def test_memory_is_bounded(source: Counting, clock: Ticking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secretsops.external.fetch.DOCUMENT_LIMIT", 10)
    shared = Shared(source, clock)
    for number in range(50):
        shared.read(Ask(f"k{number}"), clock.now())
    assert len(shared._slots) <= 10
    assert shared._bytes <= 10
