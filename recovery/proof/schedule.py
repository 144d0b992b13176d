"""The order of the whole rebuild as steps that wait for each other: app, phase, wave. Pure.

A step is what runs together: the tasks of one application in one phase and wave. Children start when the step that
holds them is written, and the parent's next step waits for all of theirs (the strict gate). SyncFail hooks and
deletions are no part of it. Never here: how tasks of one application are ordered (`recovery.order`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from recovery.app import CONTROL_NAMESPACE
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
        self._by_key = {planned.app.key: planned for planned in estate.applications}
        self._children: dict[str, list[Planned]] = {}
        for planned in estate.applications:
            self._children.setdefault(planned.parent, []).append(planned)
        self._placed: set[str] = set()
        for planned in self._children.get("", []):
            self._place(planned, ())

    def _place(self, planned: Planned, before: tuple[int, ...]) -> tuple[int, ...]:
        """Add the application's steps and those below it; gives the steps that are last."""
        key = planned.app.key
        if key in self._placed:
            return before
        self._placed.add(key)
        groups = list(_groups(planned.tasks))
        named = [self._named(tasks, key) for _, tasks in groups]
        others = [child for child in self._children.get(key, []) if not any(child in found for found in named)]
        makers = [number for number, (_, tasks) in enumerate(groups) if _makes_applications(tasks)]
        for number, ((phase, wave), tasks) in enumerate(groups):
            step = Step(number=len(self.steps), app=key, phase=phase, wave=wave, tasks=tasks, after=before)
            self.steps.append(step)
            before = (step.number,)
            generated = others if number == (makers[0] if makers else len(groups) - 1) else []
            ends: list[int] = []
            for child in (*named[number], *generated):
                ends += self._place(child, (step.number,))
            before = tuple(sorted({*ends})) or before
        return before

    def _named(self, tasks: Sequence[Task], parent: str) -> list[Planned]:
        """Give the children whose Applications stand among the tasks."""
        keys = [f"{t.manifest.namespace or CONTROL_NAMESPACE}/{t.manifest.name}" for t in tasks if _is_child(t)]
        found = [self._by_key[key] for key in keys if key in self._by_key]
        return [planned for planned in found if planned.parent == parent]


def _is_child(task: Task) -> bool:
    return is_application(task.manifest)


def _makes_applications(tasks: Sequence[Task]) -> bool:
    return any(task.key.group == "argoproj.io" and task.key.kind == "ApplicationSet" for task in tasks)


def _groups(tasks: Sequence[Task]) -> Iterator[tuple[tuple[Phase, int], list[Task]]]:
    plain = [task for task in tasks if task.phase is not Phase.SYNC_FAIL and not task.prune]
    for place, group in groupby(plain, key=lambda task: (task.phase, task.wave)):
        yield place, list(group)


def positions(steps: Sequence[Step]) -> Mapping[str, int]:
    """Give task ids (with their application) to step numbers."""
    return {f"{step.app} {task.id}": step.number for step in steps for task in step.tasks}
