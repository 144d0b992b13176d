"""The order of the whole rebuild as steps that wait for each other: app, phase, wave. Pure.

A step is what runs together: the tasks of one application in one phase and wave. Children start when the step that
holds them is written, and the parent's next step waits for all of theirs (the strict gate). SyncFail hooks and
deletions are no part of it. Never here: how tasks of one application are ordered (`recovery.order`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from recovery.app import CONTROL_NAMESPACE
from recovery.appset import is_application_set
from recovery.argo import is_application
from recovery.marks import Phase
from recovery.order import Task
from recovery.walk import Estate, Planned


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Tasks that run together. `after` are the numbers of the steps it waits for; numbers count from 0 in order."""

    number: int
    app: str
    phase: Phase
    wave: int
    tasks: Sequence[Task]
    after: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """All steps in the order of a rebuild."""

    steps: Sequence[Step]

    @cached_property
    def _ancestors(self) -> list[int]:
        """Give for each step the set of steps that are over before it starts, as bits."""
        found: list[int] = []
        for step in self.steps:
            bits = 0
            for other in step.after:
                bits |= found[other] | 1 << other
            found.append(bits)
        return found

    def is_before(self, one: int, other: int) -> bool:
        """Say whether step `one` is over before step `other` starts; steps side by side are neither."""
        return bool(self._ancestors[other] >> one & 1)

    @cached_property
    def critical(self) -> tuple[int, ...]:
        """Give the longest chain of steps that wait for each other; of equal ones the one with more objects."""
        best: list[tuple[int, int, int]] = []
        for step in self.steps:
            length, objects, before = max(
                ((best[other][0], best[other][1], other) for other in step.after), default=(0, 0, -1)
            )
            best.append((length + 1, objects + len(step.tasks), before))
        if not best:
            return ()
        at = max(range(len(best)), key=lambda number: best[number][:2])
        chain = []
        while at >= 0:
            chain.append(at)
            at = best[at][2]
        return tuple(reversed(chain))


def schedule(estate: Estate) -> Schedule:
    """Give the steps of an estate; every application is placed once, where the walk met it first."""
    return Schedule(steps=_Placing(estate).steps)


class _Placing:
    def __init__(self, estate: Estate) -> None:
        self.steps: list[Step] = []
        self._children: dict[str, list[Planned]] = {}
        for planned in estate.applications:
            self._children.setdefault(planned.parent, []).append(planned)
        self._placed: set[str] = set()
        self._start(self._children.get("", []), ())

    def _start(self, children: Sequence[Planned], before: tuple[int, ...]) -> tuple[int, ...]:
        """Place applications side by side; of an ApplicationSet with RollingSync, one step of it after the other."""
        ends: list[int] = []
        rolling: dict[str, tuple[int, ...]] = {}
        turns = {(child.made_by, child.step) for child in children}
        for maker, step in sorted(turns, key=lambda turn: (turn[0], turn[1] < 0, turn[1])):
            start = rolling.get(maker, before)
            last: list[int] = []
            for child in children:
                if (child.made_by, child.step) == (maker, step):
                    last += self._place(child, start)
            rolling[maker] = tuple(sorted({*last})) or start
            ends += last
        return tuple(sorted({*ends}))

    def _place(self, planned: Planned, before: tuple[int, ...]) -> tuple[int, ...]:
        """Add the application's steps and those below it; gives the steps that are last."""
        key = planned.app.key
        if key in self._placed:
            return before
        self._placed.add(key)
        groups = list(_groups(planned.tasks))
        below = [self._below(tasks, key) for _, tasks in groups]
        placed = {child.app.key for found in below for child in found}
        others = [child for child in self._children.get(key, []) if child.app.key not in placed]
        for number, ((phase, wave), tasks) in enumerate(groups):
            step = Step(number=len(self.steps), app=key, phase=phase, wave=wave, tasks=tasks, after=before)
            self.steps.append(step)
            children = [*below[number], *(others if number == len(groups) - 1 else [])]
            before = self._start(children, (step.number,)) or (step.number,)
        return before

    def _below(self, tasks: Sequence[Task], parent: str) -> list[Planned]:
        """Give the children whose Applications stand among the tasks, or are generated by ApplicationSets there."""
        own = {_place_of(task) for task in tasks if is_application(task.manifest)}
        sets = {_place_of(task) for task in tasks if is_application_set(task.manifest)}
        return [
            child
            for child in self._children.get(parent, [])
            if (child.made_by in sets if child.made_by else child.app.key in own)
        ]


def _place_of(task: Task) -> str:
    return f"{task.manifest.namespace or CONTROL_NAMESPACE}/{task.manifest.name}"


def _groups(tasks: Sequence[Task]) -> Iterator[tuple[tuple[Phase, int], list[Task]]]:
    plain = [task for task in tasks if task.phase is not Phase.SYNC_FAIL and not task.prune]
    for place, group in groupby(plain, key=lambda task: (task.phase, task.wave)):
        yield place, list(group)
