"""Two records of one scenario side by side: what got slower, what changed its verdict, what is new. Pure.

Never here: judging a trend over many runs (`history.py`), drawing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MEASURES: Mapping[str, str] = {
    "rtaFromDisruptionMs": "recovery from disruption",
    "rtaFromDeclarationMs": "recovery from declaration",
    "machineTimeMs": "machine time",
    "verifiedTimeMs": "until verified",
    "rpaMs": "changes lost",
}
SPAN_LIMIT = 2_000
"""Steps compared; a run has tens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One figure in both, ms; None where a record does not have it."""

    name: str
    before: int | None
    after: int | None

    @property
    def delta(self) -> int | None:
        """Give after minus before."""
        return None if self.before is None or self.after is None else self.after - self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What differs: measures, steps that took longer or shorter (most first), and facts in words."""

    measures: Sequence[Change]
    steps: Sequence[Change]
    facts: Sequence[str]

    def regressed(self, *, threshold: int, floor: int = 1000) -> bool:
        """Say whether recovery takes more than `threshold` percent and `floor` ms longer, or a verdict got worse."""
        first = self.measures[0]
        slower = (
            first.delta is not None
            and first.before is not None
            and first.delta > floor
            and first.delta * 100 > threshold * first.before
        )
        return slower or any(fact.startswith("worse: ") for fact in self.facts)


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    """Give what differs between two records (`drills.record`)."""
    measures = [
        Change(name=words, before=_measure(before, name), after=_measure(after, name))
        for name, words in MEASURES.items()
    ]
    first, second = dict(_spans(before)), dict(_spans(after))
    steps = [Change(name=name, before=first.get(name), after=second.get(name)) for name in {**first, **second}]
    changed = [step for step in steps if step.delta]
    return Comparison(
        measures=measures,
        steps=sorted(changed, key=lambda step: -abs(step.delta or 0)),
        facts=list(_facts(before, after)),
    )


def _facts(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    order = {"passed": 2, "inconclusive": 1, "failed": 0}
    old, new = before.get("verdict"), after.get("verdict")
    if old != new:
        worse = order.get(str(new), 0) < order.get(str(old), 0)
        yield f"{'worse' if worse else 'better'}: verdict {old} is now {new}"
    yield from _identity(before, after)
    first, second = _checks(before), _checks(after)
    for name in {**first, **second}:
        if first.get(name) == second.get(name):
            continue
        if name not in second:
            yield f"worse: check {name} is not made any more"
        elif name not in first:
            yield f"check {name} is new: {second[name]}"
        else:
            word = "better" if second[name] == "pass" else "worse"
            yield f"{word}: check {name} was {first[name]}, is {second[name]}"


def _identity(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    names = [("identity", name) for name in ("drillName", "scenarioHash", "toolVersion", "planHash")]
    names += [("source", "commit"), ("environment", "clusterProvider"), ("environment", "k8sVersion")]
    for section, name in names:
        old, new = _at(before, section, name), _at(after, section, name)
        if old != new:
            yield f"{name} was {str(old or 'unknown')[:64]}, is {str(new or 'unknown')[:64]}"


def _checks(record: Mapping[str, Any]) -> dict[str, str]:
    found = record.get("checks")
    checks = found if isinstance(found, list) else []
    return {str(each.get("id")): str(each.get("verdict")) for each in checks[:SPAN_LIMIT] if isinstance(each, dict)}


def _spans(record: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    seen = 0
    stack = [("", line) for line in reversed(_list(record.get("timeline")))]
    while stack and seen < SPAN_LIMIT:
        path, line = stack.pop()
        if not isinstance(line, dict):
            continue
        seen += 1
        name = f"{path}{line.get('event')}"
        if type(line.get("durationMs")) is int:
            yield name, line["durationMs"]
        stack += [(f"{name}: ", part) for part in reversed(_list(line.get("parts")))]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _measure(record: Mapping[str, Any], name: str) -> int | None:
    found = _at(record, "measured", name)
    return found if type(found) is int else None


def _at(record: Mapping[str, Any], section: str, name: str) -> Any:
    found = record.get(section)
    return found.get(name) if isinstance(found, dict) else None
