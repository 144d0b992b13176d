"""The loop of the in-cluster process: reflectors feed queues, workers reconcile, only while we lead.

A spine (`controllers.sealed_secrets`, `controllers.external_secrets`) offers `build(runtime)` and gives `Part`s: what
it watches, and how one key is brought in line. Level-triggered: a crash anywhere is a restart.
Never here: what a key means, the API server's paths.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controllers.events import Emit, Events
from controllers.fence import Fence
from controllers.http import Route
from controllers.leader import Election
from controllers.metrics import Metrics
from controllers.queue import Queue
from controllers.reflector import Reflector, Selection, without_managed_fields
from secretsops.errors import SecretsOpsError
from secretsops.logs import fields
from secretsops.manifest import Manifest, ObjectKey
from secretsops.ports import Clock, Cluster, Doors, EventType

log = logging.getLogger(__name__)

WAIT = 0.5
"""Seconds after which a thread that waits looks whether it shall end."""
HUNG = 120.0
"""Seconds without one good answer after which a reflector makes the process unhealthy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a pass did, in a word (`created`, `unchanged`, …); due again in `again_after` seconds, 0 for no time."""

    action: str
    again_after: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One kind a part watches. `keys` gives what a change concerns; of an object only what `keep` gives is kept."""

    selection: Selection
    keys: Callable[[EventType, Manifest], Iterable[ObjectKey]]
    keep: Callable[[Manifest], Manifest] = without_managed_fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Something to do now and then while we lead: `act` gives the seconds until next time.

    It starts once everything the part watches was listed. Setting `wake` makes it act at once.
    """

    name: str
    act: Callable[[], float]
    wake: threading.Event = field(default_factory=threading.Event)


class Waker:
    """Puts a key into the queue of the part that holds it, for another cause than a watch."""

    def __init__(self) -> None:
        self.add: Callable[[ObjectKey], None] = lambda _key: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One use case of the process."""

    name: str
    watched: Sequence[Watched]
    reconcile: Callable[[ObjectKey], Result]
    ticks: Sequence[Tick] = ()
    routes: Mapping[str, Route] = field(default_factory=dict)
    direct: Mapping[str, Route] = field(default_factory=dict)
    """Routes for callers who come past the service proxy and say who they are."""
    unready: Callable[[], str] = lambda: ""
    """Says what is missing before the process may be called ready, "" when nothing is."""
    workers: int = 2
    exposed: Callable[[], str] = lambda: ""
    """Gives metrics of the part's own, in the exposition format."""
    asked: Callable[[], None] = lambda: None
    """What SIGUSR1 asks of it."""
    ended: Callable[[], None] = lambda: None
    """What is given back when the process ends and nothing works any more: sessions at other servers."""
    waker: Waker | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What a spine is built with."""

    cluster: Cluster
    clock: Clock
    doors: Doors
    namespace: str
    """Our own namespace."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The command line's options by name."""
    fence: Fence = field(default_factory=Fence)
    """Says whether another cluster has taken our place."""

    def events(self, component: str, *, sparing: bool = False) -> Emit:
        """Give what publishes events under a source component; `sparing` leaves good news out in a flood."""
        return Events(self.cluster, component, clock=self.clock, sparing=sparing).emit


class Loop:
    """All parts of one process while they run."""

    def __init__(
        self, runtime: Runtime, parts: Sequence[Part], election: Election | None, metrics: Metrics | None = None
    ) -> None:
        self._runtime = runtime
        self._parts = parts
        self._election = election
        self.metrics = metrics or Metrics()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._queues = {part.name: Queue() for part in parts}
        self._reflectors: dict[str, list[Reflector]] = {part.name: [] for part in parts}
        for part in parts:
            if part.waker is not None:
                part.waker.add = self._queues[part.name].add
            for watched in part.watched:
                handle = _feeding(self._queues[part.name], watched)
                reflector = Reflector(runtime.cluster, watched.selection, handle, keep=watched.keep)
                self._reflectors[part.name].append(reflector)
        self.metrics.gauge("workqueue_depth", "Keys that wait for a worker.", lambda: self._each(len))
        self.metrics.gauge(
            "workqueue_adds_total", "Keys added.", lambda: self._each(lambda queue: queue.adds), counter=True
        )
        self.metrics.gauge(
            "workqueue_retries_total",
            "Keys that failed.",
            lambda: self._each(lambda queue: queue.retries),
            counter=True,
        )
        self.metrics.gauge("leader", "1 while this process acts.", lambda: {"": float(self.leads())})

    def leads(self) -> bool:
        """Say whether we may act now."""
        return self._election is None or self._election.leads()

    def unready(self) -> str:
        """Say why the process is not ready, "" when it is: every list complete, every part content."""
        for part in self._parts:
            for reflector in self._reflectors[part.name]:
                if not reflector.synced.is_set():
                    return f"{part.name}: {reflector.selection.kind.kind} is not listed yet"
            if missing := part.unready():
                return f"{part.name}: {missing}"
        return ""

    def unhealthy(self) -> str:
        """Say why the process should be started anew, "" when it should not: a dead thread, a watch long unanswered."""
        dead = [thread.name for thread in self._threads if not thread.is_alive()]
        if dead and not self._stop.is_set():
            return f"thread {dead[0]} ended"
        now = self._runtime.clock.monotonic()
        for reflector in (each for some in self._reflectors.values() for each in some):
            since = reflector.failing_since
            if since is not None and now - since > HUNG:
                return f"no answer about {reflector.selection.kind.kind} for {now - since:.0f} s"
        return ""

    def start(self) -> None:
        """Start every thread."""
        for part in self._parts:
            for reflector in self._reflectors[part.name]:
                self._spawn(f"watch-{reflector.selection.kind.kind}", reflector.run)
            for number in range(part.workers):
                self._spawn(f"{part.name}-{number}", self._work, part)
            for tick in part.ticks:
                self._spawn(f"{part.name}-{tick.name}", self._tick, part, tick)
        if self._election is not None:
            self._spawn("election", self._election.run)

    def stop(self, seconds: float) -> bool:
        """End: give out no more keys, let what is in work finish for `seconds`; says whether all did."""
        self._stop.set()
        for tick in (each for part in self._parts for each in part.ticks):
            tick.wake.set()
        for queue in self._queues.values():
            queue.close()
        for reflector in (each for some in self._reflectors.values() for each in some):
            reflector.stop()
        deadline = self._runtime.clock.monotonic() + seconds
        workers = [thread for thread in self._threads if thread.name != "election"]
        for thread in workers:
            thread.join(max(0.0, deadline - self._runtime.clock.monotonic()))
        for part in self._parts:
            part.ended()
        if self._election is not None:
            # Last, so that nobody takes over while we still write.
            self._election.stop(release=not any(thread.is_alive() for thread in workers))
            for thread in set(self._threads) - set(workers):
                thread.join(max(0.1, deadline - self._runtime.clock.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _spawn(self, name: str, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=_guarded, args=(name, target, *arguments), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _each(self, number: Callable[[Queue], int]) -> dict[str, float]:
        return {f'name="{name}"': float(number(queue)) for name, queue in self._queues.items()}

    def _may_act(self, part: Part) -> bool:
        return self.leads() and all(reflector.synced.is_set() for reflector in self._reflectors[part.name])

    def _work(self, part: Part) -> None:
        queue, pause = self._queues[part.name], WAIT / 10
        while not self._stop.is_set():
            if not self._may_act(part):
                # Quick at the start; a candidate that waits for days costs next to nothing.
                self._stop.wait(pause)
                pause = min(pause * 1.2, WAIT)
                continue
            pause = WAIT / 10
            key = queue.take(WAIT)
            if key is not None:
                self._process(part, queue, key)

    def _process(self, part: Part, queue: Queue, key: ObjectKey) -> None:
        began = self._runtime.clock.monotonic()
        outcome = "error"
        try:
            result = part.reconcile(key)
        except SecretsOpsError as error:
            delay = queue.failed(key)
            note = fields(object=str(key), reason=error.reason, again_in=round(delay, 1))
            log.log(logging.DEBUG if error.reason == "Conflict" else logging.WARNING, error.message, extra=note)
            self.metrics.count("reconcile_errors_total", "Failed passes.", part=part.name, reason=error.reason)
        except Exception as error:  # noqa: BLE001 - one object's bug must not end the worker of all others
            queue.failed(key)
            _log_bug("a pass failed unexpectedly", error, object=str(key))
            self.metrics.count("reconcile_errors_total", "Failed passes.", part=part.name, reason="Unexpected")
        else:
            outcome = result.action
            queue.done(key, again_after=result.again_after)
            log.debug(result.action, extra=fields(object=str(key)))
        self.metrics.count("reconcile_total", "Passes by what they did.", part=part.name, outcome=outcome)
        self.metrics.observe("reconcile_seconds", self._runtime.clock.monotonic() - began, part=part.name)

    def _tick(self, part: Part, tick: Tick) -> None:
        pause = 0.0
        while True:
            tick.wake.wait(pause)
            tick.wake.clear()
            if self._stop.is_set():
                return
            pause = WAIT / 5
            if not self._may_act(part):
                continue
            try:
                pause = max(tick.act(), 0.05)
            except SecretsOpsError as error:
                pause = 2.0
                log.warning(error.message, extra=fields(part=part.name, tick=tick.name, reason=error.reason))


def _guarded(name: str, target: Callable[..., None], *arguments: object) -> None:
    """Run a thread; a bug ends it, which makes the process unhealthy."""
    try:
        target(*arguments)
    except Exception as error:  # noqa: BLE001 - the interpreter would print the message as well
        _log_bug("a thread ended unexpectedly", error, thread=name)


def _log_bug(what: str, error: Exception, **about: str) -> None:
    """Log where it happened, without the message: that may carry a value."""
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error(what, extra=fields(error=type(error).__name__, at=where, **about))


def _feeding(queue: Queue, watched: Watched) -> Callable[[EventType, Manifest], None]:
    def handle(kind: EventType, manifest: Manifest) -> None:
        for key in watched.keys(kind, manifest):
            queue.add(key)

    return handle
