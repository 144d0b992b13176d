"""The pictures of a page as SVG text: the timeline, the critical path, the trend over runs. Pure.

Colours are classes of the page's style sheet; what a colour says is said by a shape or a word too. Every picture has
a title and a description, and its figures stand in a table as well. Never here: the page around them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from drills.evidence.facts import Bar, Facts, Stretch, shown
from drills.evidence.history import Outcome

WIDTH = 1000
_LEFT, _RIGHT, _ROW, _TOP = 250, 96, 24, 52
TIMELINE_ROWS, TREND_RUNS, COLOURS = 80, 40, 8
_MARKS = frozenset({"protected", "disrupted", "declared", "recovered"})
_STEPS = (1, 2, 5)


def recovery(facts: Facts) -> str:
    """Give the time from disruption to recovery alone, "" where either is not known."""
    marks = dict(facts.marks)
    start, end = marks.get("disrupted"), marks.get("recovered")
    if start is None or end is None or end <= start:
        return ""
    return _spans("recovery", "From disruption to recovery", facts, start, end)


def timeline(facts: Facts) -> str:
    """Give all steps and their parts as bars over time, with the marks, "" for a run without steps."""
    return _spans("timeline", "The whole drill", facts, 0, max([bar.start + bar.took for bar in facts.bars], default=0))


def _spans(name: str, title: str, facts: Facts, start: int, end: int) -> str:
    bars = [bar for bar in facts.bars if bar.depth < 3 and bar.start < end and bar.start + bar.took >= start]
    bars = bars[:TIMELINE_ROWS]
    if end <= start or not bars:
        return ""
    marks = [(words, at) for words, at in facts.marks if start <= at <= end]
    levels, count = _levels(marks, start, end)
    top = _TOP + 15 * max(count - 2, 0)
    height = top + len(bars) * _ROW + 34
    scale = Scale(start=start, end=end)
    slow = {(stretch.start, stretch.start + stretch.took) for stretch in facts.path}
    parts = [_open(name, height, title, f"{len(bars)} steps and parts over {shown(end - start)}")]
    lost, back = dict(facts.marks).get("disrupted"), dict(facts.marks).get("recovered")
    if lost is not None and back is not None and start < lost:
        parts.append(_rect("outage", scale.x(lost), top - 8, scale.x(back) - scale.x(lost), len(bars) * _ROW + 12))
    for at in ticks(end - start):
        x = scale.x(start + at)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 8}" y2="{height - 28}"/>')
        parts.append(_label("tick", x, height - 10, "0" if at == 0 else shown(at), anchor="middle"))
    parts += _mark_lines(marks, levels, scale, height)
    for number, bar in enumerate(bars):
        parts += _bar(bar, top + number * _ROW, scale, critical=_on_path(bar, slow))
    return "".join([*parts, "</svg>"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From ms to the width of the drawing between names and figures."""

    start: int
    end: int

    def x(self, at: int) -> float:
        """Give where a time lies; one outside lies at the edge."""
        inside = min(max(at, self.start), self.end)
        return _LEFT + (inside - self.start) * (WIDTH - _LEFT - _RIGHT) / (self.end - self.start)


def path_bar(path: Sequence[Stretch]) -> str:
    """Give the critical path as one bar of stretches, numbered as in its table."""
    whole = sum(stretch.took for stretch in path)
    if not whole:
        return ""
    parts = [_open("path", 44, "Critical path", f"{len(path)} stretches, {shown(whole)} in all")]
    x = 0.0
    numbers = numbered(path)
    for position, stretch in enumerate(path):
        width = stretch.took * WIDTH / whole
        number = numbers.get(position)
        colour = f"c{(number - 1) % COLOURS}" if number else "rest"
        title = escape(f"{stretch.name}: {shown(stretch.took)}")
        parts.append(f'<g class="{colour}"><title>{title}</title>')
        parts.append(_rect("piece", x, 4, max(width - 1.5, 0.8), 36))
        if number and width > 20:
            parts.append(_label("number", x + width / 2, 27, str(number), anchor="middle"))
        parts.append("</g>")
        x += width
    return "".join([*parts, "</svg>"])


def numbered(path: Sequence[Stretch]) -> dict[int, int]:
    """Give numbers, by position, to the stretches that took a hundredth of the whole or more, in order of time."""
    whole = sum(stretch.took for stretch in path)
    long = [position for position, stretch in enumerate(path) if stretch.took * 100 >= whole]
    return {position: number for number, position in enumerate(long, start=1)}


def trend(runs: Sequence[Outcome], *, now: str) -> str:
    """Give the recovery times of the last runs, oldest left, "" for fewer than two. `now` is the id of this one."""
    drawn = [run for run in runs if not run.running][-TREND_RUNS:]
    values = [run.recovered for run in drawn if run.recovered is not None]
    if len(drawn) < 2 or not values:
        return ""
    goals = [run.objective for run in drawn if run.objective is not None]
    # A goal far above would press the runs flat: it is then told, not drawn.
    far = bool(goals) and goals[-1] > 3 * max(values)
    top = max(values if far else [*values, *goals]) * (1.3 if far else 1.12)
    height, left, right, base = 250, 76, 24, 206
    step = (WIDTH - left - right) / max(len(drawn) - 1, 1)
    text = f"{len(drawn)} runs, {shown(min(values))} to {shown(max(values))}"
    parts = [_open("trend", height, "Recovery time over runs", text)]
    for at in ticks(round(top), count=4):
        y = base - at * (base - 24) / top
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_label("tick", left - 10, y + 4, "0" if at == 0 else shown(at), anchor="end"))
    if far:
        words = f"objective {shown(goals[-1])}, far above"
        parts.append(_label("goal-text", WIDTH - right, 18, words, anchor="end"))
    elif goals:
        y = base - goals[-1] * (base - 24) / top
        parts.append(f'<line class="goal" x1="{left}" x2="{WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_label("goal-text", WIDTH - right, y - 6, f"objective {shown(goals[-1])}", anchor="end"))
    places = [
        (left + number * step, base - (run.recovered or 0) * (base - 24) / top, run) for number, run in enumerate(drawn)
    ]
    one_day = drawn[0].started[:10] == drawn[-1].started[:10]
    known = [(x, y) for x, y, run in places if run.recovered is not None]
    parts.append(f'<polyline class="thread" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in known)}"/>')
    for number, (x, y, run) in enumerate(places):
        parts.append(_point(x, y, run, now=run.run_id == now))
        if number in (0, len(drawn) - 1) or len(drawn) <= 8:
            anchor = "start" if number == 0 else "end" if number == len(drawn) - 1 else "middle"
            parts.append(
                _label("tick", x, height - 14, run.started[11:16] if one_day else run.started[:10], anchor=anchor)
            )
    return "".join([*parts, "</svg>"])


def ticks(end: int, count: int = 8) -> list[int]:
    """Give at most `count` round times from 0 to `end`, ms."""
    size = 1
    while end > 0:
        for factor in _STEPS:
            if size * factor * count >= end:
                return list(range(0, end + 1, size * factor))
        size *= 10
    return [0]


def _bar(bar: Bar, y: int, scale: Scale, *, critical: bool) -> Iterator[str]:
    x = scale.x(bar.start)
    width = max(scale.x(bar.start + bar.took) - x, 2.0)
    state = "bad" if not bar.ok else "critical" if critical else "step" if bar.depth == 0 else "part"
    yield f"<g><title>{escape(f'{bar.path}: {shown(bar.took)}, from {shown(bar.start)}')}</title>"
    name = _cut(bar.name, 36 - 3 * bar.depth)
    yield _label("name" if bar.depth == 0 else "subname", 6 + 16 * bar.depth, y + 13, name)
    yield _rect(state, x, y + (3 if bar.depth == 0 else 5), width, _ROW - (9 if bar.depth == 0 else 13), rx=2)
    took = shown(bar.took) + ("" if bar.ok else " ✗ failed")
    if x + width + 6 + 7.2 * len(took) < WIDTH:
        yield _label("took", x + width + 6, y + 13, took) + "</g>"
    else:
        yield _label("inside", x + width - 6, y + 13, took, anchor="end") + "</g>"


def _levels(marks: Sequence[tuple[str, int]], start: int, end: int) -> tuple[list[int], int]:
    """Give for each mark the line its word stands on, so that no two words meet, and how many lines there are."""
    scale = Scale(start=start, end=end)
    taken: list[float] = []
    found: list[int] = []
    for words, at in marks:
        half = len(words) * 3.6 + 6
        left = scale.x(at) - half
        level = next((number for number, right in enumerate(taken) if left > right), len(taken))
        taken[level:] = [left + 2 * half, *taken[level + 1 :]]
        found.append(level)
    return found, len(taken)


def _mark_lines(marks: Sequence[tuple[str, int]], levels: Sequence[int], scale: Scale, height: int) -> Iterator[str]:
    for (name, at), level in zip(marks, levels, strict=True):
        x = scale.x(at)
        kind = name if name in _MARKS else "other"
        y = 13 + 15 * level
        yield f'<line class="mark m-{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{y + 5}" y2="{height - 28}"/>'
        yield _label(f"mark-text m-{kind}", x, y, _cut(name, 20), anchor="middle")


def _point(x: float, y: float, run: Outcome, *, now: bool) -> str:
    words = escape(f"{run.run_id}: {run.verdict}, {shown(run.recovered)}")
    ring = f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="9"/>' if now else ""
    if run.verdict == "passed":
        shape = f'<circle class="passed" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    elif run.verdict == "inconclusive":
        shape = f'<path class="inconclusive" d="M{x:.1f} {y - 6:.1f}l6 10.5h-12z"/>'
    else:
        shape = f'<path class="failed" d="M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10"/>'
    return f"<g><title>{words}</title>{ring}{shape}</g>"


def _on_path(bar: Bar, slow: set[tuple[int, int]]) -> bool:
    return bar.whole and any(start < bar.start + bar.took and end > bar.start for start, end in slow)


def _open(name: str, height: int, title: str, description: str) -> str:
    return (
        f'<svg class="{name}" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(description)}</desc>'
    )


def _rect(kind: str, x: float, y: float, width: float, height: float, rx: int = 0) -> str:
    round_ = f' rx="{rx}"' if rx else ""
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{round_}/>'


def _label(kind: str, x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
