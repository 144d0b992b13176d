"""The work queue: de-duplicated, one worker per key, two lanes, back-off."""

from __future__ import annotations

import threading
import time
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.queue import LONGEST_DELAY, Queue
from secretsops.manifest import ObjectKey


def key(name: str) -> ObjectKey:
    return ObjectKey("", "ConfigMap", "default", name)


A, B, C = key("a"), key("b"), key("c")


class Time:
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def queue() -> tuple[Queue, Time]:
    """Give a queue without jitter on a clock of ours."""
    clock = Time()
    return Queue(monotonic=clock, chance=lambda: 0.0), clock


def test_a_key_stands_in_the_queue_once() -> None:
    """Adding again what waits already changes nothing."""
    q, _ = queue()
    for _ in range(3):
        q.add(A)
    q.add(B)
    assert [q.take(0), q.take(0), q.take(0)] == [A, B, None]


def test_a_key_added_while_it_is_processed_runs_again_afterwards() -> None:
    """It is not given to a second worker meanwhile, and runs once more, not twice."""
    q, _ = queue()
    q.add(A)
    assert q.take(0) == A
    q.add(A)
    q.add(A)
    assert q.take(0) is None
    q.done(A)
    assert [q.take(0), q.take(0)] == [A, None]


def test_what_changed_goes_before_what_is_only_due() -> None:
    """Two lanes: a change overtakes, also for a key that already waits in the slow lane."""
    q, _ = queue()
    q.add(A, periodic=True)
    q.add(B, periodic=True)
    q.add(C)
    q.add(B)
    assert [q.take(0) for _ in range(4)] == [C, B, A, None]


def test_failures_back_off_and_success_forgets_them() -> None:
    """0.1, 0.2, 0.4 seconds and so on, five minutes at most; done starts over."""
    q, clock = queue()
    delays = []
    q.add(A)
    for _ in range(20):
        assert q.take(0) == A
        delays.append(round(q.failed(A), 3))
        assert q.take(0) is None
        clock.now += delays[-1]
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == LONGEST_DELAY
    assert q.take(0) == A
    q.done(A)
    q.add(A)
    q.take(0)
    assert q.failed(A) == 0.1


def test_jitter_only_shortens() -> None:
    """Keys that fail together do not come back together."""
    q = Queue(monotonic=Time(), chance=lambda: 1.0)
    q.add(A)
    q.take(0)
    assert q.failed(A) == 0.1 * 0.8


def test_of_several_times_the_earliest_counts() -> None:
    """A later wish for the same key does not put it off, and it runs once."""
    q, clock = queue()
    q.add_after(A, 10)
    q.add_after(A, 5)
    q.add_after(A, 20)
    clock.now += 5
    assert q.take(0) == A
    q.done(A)
    clock.now += 100
    assert q.take(0) is None


def test_closing_wakes_workers() -> None:
    """A worker that waits returns at once, and nothing is given out any more."""
    q = Queue()
    found: list[object] = []
    worker = threading.Thread(target=lambda: found.append(q.take(30)))
    worker.start()
    time.sleep(0.05)
    q.close()
    worker.join(1)
    assert found == [None]
    q.add(A)
    assert q.take(0) is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcde"), st.booleans()), min_size=1, max_size=60), st.integers(1, 6))
def test_no_key_is_ever_processed_twice_at_once(adds: list[tuple[str, bool]], workers: int) -> None:
    """Whatever is added by whom, a key has one worker at a time, and is processed after its last add."""
    q = Queue()
    active: Counter[ObjectKey] = Counter()
    twice: list[ObjectKey] = []
    seen: dict[ObjectKey, int] = {}
    added: dict[ObjectKey, int] = {}
    lock = threading.Lock()

    def work() -> None:
        while (taken := q.take(0.1)) is not None:
            with lock:
                active[taken] += 1
                if active[taken] > 1:
                    twice.append(taken)
                seen[taken] = added.get(taken, 0)
            time.sleep(0.0005)
            with lock:
                active[taken] -= 1
            q.done(taken)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for name, periodic in adds:
        with lock:
            added[key(name)] = added.get(key(name), 0) + 1
        q.add(key(name), periodic=periodic)
    for thread in threads:
        thread.join()
    assert twice == []
    assert seen == added
