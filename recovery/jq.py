"""The part of jq that ignore rules are written in: paths with fields, indexes, `[]` and `select(.a == "b")`. Pure.

A rule `.spec.template.spec.containers[] | select(.name == "proxy") | .image` names fields to leave out of a comparison
(argo-cd v3.6 `util/argo/normalizers`: `del(path)`). Anything else of the language is refused by name: to compute more
than a path is not what ignoring a field needs. Linear in the size of the object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from secretsops.errors import SyncRefused

_STEP = re.compile(
    r"""\s*(?:
      \.?\[\s*(?P<index>-?[0-9]{1,6})\s*\]
    | \.?\[\s*(?P<quoted>"(?:[^"\\]|\\.)*")\s*\]
    | \.(?P<text>"(?:[^"\\]|\\.)*")
    | \.?(?P<every>\[\s*\])
    | \.(?P<field>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<pipe>\|)
    | select\(\s*(?P<path>\.[A-Za-z0-9_."\[\]/-]*)\s*(?P<operator>==|!=)
      \s*(?P<value>"(?:[^"\\]|\\.)*"|-?[0-9]+|true|false|null)
      \s*\)
    | (?P<optional>\?)
    | (?P<self>\.)(?=\s*(?:\||$))
    )\s*""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a path: a field or index, every element, or a choice among what was reached."""

    name: str | int | None = None
    chosen: tuple[tuple[Step, ...], str, Any] | None = None


def parse(expression: str) -> tuple[Step, ...]:
    """Give the steps of a path expression.

    Raises:
        SyncRefused: it uses more of jq than paths and `select`.
    """
    steps: list[Step] = []
    position = 0
    text = expression.strip()
    while position < len(text):
        found = _STEP.match(text, position)
        if found is None or found.end() == position:
            raise SyncRefused(
                f"ignoreDifferences: the jq expression {expression[:120]!r} is more than a path",
                reason="NotSupported",
                hint='write fields, indexes, [] and select(.name == "x") only, or use jsonPointers',
            )
        position = found.end()
        if found["index"] is not None:
            steps.append(Step(int(found["index"])))
        elif found["quoted"] or found["text"]:
            steps.append(Step(json.loads(found["quoted"] or found["text"])))
        elif found["field"]:
            steps.append(Step(found["field"]))
        elif found["every"]:
            steps.append(Step())
        elif found["path"]:
            steps.append(Step(chosen=(parse(found["path"]), found["operator"], json.loads(found["value"]))))
    return tuple(steps)


def drop(body: Any, steps: tuple[Step, ...]) -> None:
    """Remove from `body` what the path names, if it is there."""
    while steps and steps[-1].chosen is not None:
        *before, last = steps
        if not before or before[-1] != Step():
            return  # `select` on a field alone: del() of the field itself
        for holder in _reached(body, tuple(before[:-1])):
            if isinstance(holder, list):
                holder[:] = [item for item in holder if not _is_chosen(item, last)]
        return
    if not steps:
        return
    for holder in list(_reached(body, steps[:-1])):
        name = steps[-1].name
        if name is None:
            if isinstance(holder, (list, dict)):
                holder.clear()
        elif isinstance(holder, dict) and isinstance(name, str):
            holder.pop(name, None)
        elif isinstance(holder, list) and isinstance(name, int) and -len(holder) <= name < len(holder):
            holder.pop(name)


def _reached(body: Any, steps: tuple[Step, ...]) -> Iterator[Any]:
    if not steps:
        yield body
        return
    step, rest = steps[0], steps[1:]
    if step.chosen is not None:
        if _is_chosen(body, step):
            yield from _reached(body, rest)
    elif step.name is None:
        for item in list(body.values()) if isinstance(body, dict) else list(body) if isinstance(body, list) else []:
            yield from _reached(item, rest)
    elif _has(body, step.name):
        yield from _reached(body[step.name], rest)


def _has(body: Any, name: str | int) -> bool:
    if isinstance(name, int):
        return isinstance(body, list) and -len(body) <= name < len(body)
    return isinstance(body, dict) and name in body


def _is_chosen(item: Any, step: Step) -> bool:
    assert step.chosen is not None
    path, operator, value = step.chosen
    found = next(_reached(item, path), None)
    return bool((found == value) == (operator == "=="))
