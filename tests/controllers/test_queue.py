"""The queue keeps client-go's promises: one worker per key, nothing lost, fair back-off, two lanes."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

import pytest

from controllers.queue import FIRST_DELAY, JITTER, LONGEST_DELAY, Queue
from secretsops.manifest import ObjectKey


def key(name: str) -> ObjectKey:
    return ObjectKey("", "Secret", "shop", name)


A, B, C = key("a"), key("b"), key("c")


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    """Give the queue's clock."""
    return Time()


@pytest.fixture
def queue(clock: Time) -> Queue:
    """Give a queue whose jitter is as small as it gets."""
    return Queue(monotonic=clock, chance=lambda: 0.0)


def taken(queue: Queue) -> list[str]:
    """Take and finish everything that is due now."""
    found: list[str] = []
    while (each := queue.take(0)) is not None:
        found.append(each.name)
        queue.done(each)
    return found


def test_keys_come_in_order_and_once(queue: Queue) -> None:
    for each in (B, A, B, C, A):
        queue.add(each)
    assert len(queue) == 3
    assert taken(queue) == ["b", "a", "c"]


def test_a_key_under_way_is_not_given_out_again(queue: Queue) -> None:
    queue.add(A)
    assert queue.take(0) == A
    queue.add(A)
    assert queue.take(0) is None
    assert len(queue) == 0


def test_a_key_added_while_processed_runs_again_once(queue: Queue) -> None:
    queue.add(A)
    assert queue.take(0) == A
    queue.add(A)
    queue.add(A)
    queue.done(A)
    assert taken(queue) == ["a"]


def test_a_key_added_while_it_fails_runs_again_at_once(queue: Queue, clock: Time) -> None:
    queue.add(A)
    assert queue.take(0) == A
    queue.add(A)
    queue.failed(A)
    assert taken(queue) == ["a"]
    clock.now += LONGEST_DELAY
    assert taken(queue) == ["a"], "the retry is due all the same; level-triggered, it costs one look"


def test_what_changed_goes_before_what_is_only_due(queue: Queue) -> None:
    queue.add(A, periodic=True)
    queue.add(B, periodic=True)
    queue.add(C)
    queue.add(B)
    assert taken(queue) == ["c", "b", "a"]


def test_what_changed_stays_first_when_it_is_also_due(queue: Queue) -> None:
    queue.add(C, periodic=True)
    queue.add(A)
    queue.add(A, periodic=True)
    assert taken(queue) == ["a", "c"]


def test_changes_go_before_a_thousand_periodic_keys(queue: Queue) -> None:
    for number in range(1000):
        queue.add(key(f"p{number}"), periodic=True)
    assert queue.take(0) == key("p0")
    queue.add(A)
    assert queue.take(0) == A


def test_a_key_is_due_after_its_time_and_the_earliest_wish_counts(queue: Queue, clock: Time) -> None:
    queue.add_after(A, 10)
    queue.add_after(A, 5)
    queue.add_after(A, 20)
    queue.add_after(B, 7)
    clock.now += 4.9
    assert taken(queue) == []
    clock.now += 0.2
    assert taken(queue) == ["a"]
    clock.now += 60
    assert taken(queue) == ["b"]
    assert taken(queue) == []


def test_done_may_ask_for_another_time(queue: Queue, clock: Time) -> None:
    queue.add(A)
    assert queue.take(0) == A
    queue.done(A, again_after=30)
    clock.now += 29
    assert taken(queue) == []
    clock.now += 1
    assert taken(queue) == ["a"]


def test_back_off_doubles_up_to_a_cap_for_one_key_only(queue: Queue, clock: Time) -> None:
    delays: list[float] = []
    queue.add(A)
    for _ in range(16):
        assert queue.take(0) == A
        delays.append(queue.failed(A))
        assert queue.take(0) is None
        clock.now += delays[-1]
    assert delays[:4] == pytest.approx([FIRST_DELAY * 2**number for number in range(4)])
    assert delays[-3:] == [LONGEST_DELAY] * 3
    queue.add(B)
    assert {queue.take(0), queue.take(0)} == {A, B}
    assert queue.failed(B) == FIRST_DELAY
    queue.done(A)
    queue.add(A)
    assert queue.take(0) == A
    assert queue.failed(A) == FIRST_DELAY, "a success starts anew"


def test_jitter_spreads_keys_that_fail_together() -> None:
    queue = Queue(chance=random.Random(1).random)
    delays = []
    for number in range(50):
        queue.add(key(str(number)))
        taken_key = queue.take(0)
        assert taken_key is not None
        delays.append(queue.failed(taken_key))
    assert len({round(delay, 6) for delay in delays}) > 40
    assert all(FIRST_DELAY * (1 - JITTER) <= delay <= FIRST_DELAY for delay in delays)


def test_a_failing_key_is_never_forgotten_over_10000_failures(queue: Queue, clock: Time) -> None:
    queue.add(A)
    for _ in range(10_000):
        assert queue.take(0) == A
        clock.now += queue.failed(A)
    assert queue.retries == 10_000


def test_a_waiting_worker_is_woken_by_a_key_and_by_the_end() -> None:
    queue, found = Queue(), []
    workers = [threading.Thread(target=lambda: found.append(queue.take(30))) for _ in range(3)]
    for worker in workers:
        worker.start()
    queue.add(A)
    queue.add_after(B, 0.05)
    time.sleep(0.3)
    began = time.monotonic()
    queue.close()
    for worker in workers:
        worker.join(5)
    assert time.monotonic() - began < 1
    assert Counter(found) == {A: 1, B: 1, None: 1}
    queue.add(C)
    assert queue.take(0) is None, "a closed queue gives out nothing"


def test_no_key_is_processed_twice_at_once_or_lost_under_many_threads() -> None:
    """Eight workers, four writers, failures and changes while processed: the last version of each key is seen."""
    queue, lock, chance = Queue(chance=lambda: 1.0), threading.Lock(), random.Random(3)
    keys = [key(str(number)) for number in range(20)]
    written, seen, active = Counter[ObjectKey](), Counter[ObjectKey](), set[ObjectKey]()
    twice: list[ObjectKey] = []
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            mine = queue.take(0.05)
            if mine is None:
                continue
            with lock:
                twice.extend([mine] if mine in active else [])
                active.add(mine)
                version = written[mine]
            time.sleep(chance.random() / 2000)
            with lock:
                active.discard(mine)
                seen[mine] = version
            queue.failed(mine) if chance.random() < 0.02 else queue.done(mine)

    def write() -> None:
        for _ in range(500):
            mine = chance.choice(keys)
            with lock:
                written[mine] += 1
            queue.add(mine, periodic=chance.random() < 0.5)

    threads = [threading.Thread(target=work) for _ in range(8)]
    writers = [threading.Thread(target=write) for _ in range(4)]
    for thread in [*threads, *writers]:
        thread.start()
    for writer in writers:
        writer.join()
    deadline = time.monotonic() + 20
    while seen != written and time.monotonic() < deadline:
        time.sleep(0.02)
    ended.set()
    for thread in threads:
        thread.join(5)
    assert twice == []
    assert seen == written
