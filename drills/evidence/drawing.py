"""The pictures of a page as SVG text: the timeline, the critical path, the trend over runs. Pure.

Colours are classes of the page's style sheet; what a colour says is said by a shape or a word too. Every picture has
a title and a description, and its figures stand in a table as well. Never here: the page around them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from drills.evidence.facts import Bar, Facts, Stretch, shown
from drills.evidence.history import Outcome

WIDTH = 1000
_LEFT, _RIGHT, _ROW, _TOP = 250, 96, 24, 52
TIMELINE_ROWS, TREND_RUNS, COLOURS = 80, 40, 8
_MARKS = {"protected": "protected", "disrupted": "disrupted", "declared": "declared", "recovered": "recovered"}
_STEPS = (1, 2, 5)


def timeline(facts: Facts) -> str:
    """Give the steps and their parts as bars over time, with the marks, "" for a run without steps."""
    bars = [bar for bar in facts.bars if bar.depth < 3][:TIMELINE_ROWS]
    end = max([bar.start + bar.took for bar in bars], default=0)
    if not end:
        return ""
    height = _TOP + len(bars) * _ROW + 34
    scale = (WIDTH - _LEFT - _RIGHT) / end
    slow = {(stretch.start, stretch.start + stretch.took) for stretch in facts.path}
    parts = [_open("timeline", height, "Timeline", f"{len(bars)} steps and parts over {shown(end)}")]
    marks = dict(facts.marks)
    if "disrupted" in marks and "recovered" in marks:
        left, width = _LEFT + marks["disrupted"] * scale, (marks["recovered"] - marks["disrupted"]) * scale
        parts.append(_rect("outage", left, _TOP - 8, max(width, 1), len(bars) * _ROW + 12))
    for at in ticks(end):
        x = _LEFT + at * scale
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 8}" y2="{height - 28}"/>')
        parts.append(_label("tick", x, height - 10, "0" if at == 0 else shown(at), anchor="middle"))
    for number, bar in enumerate(bars):
        parts += _bar(bar, number, scale, critical=_on_path(bar, slow))
    parts += _mark_lines(facts, scale, height)
    return "".join([*parts, "</svg>"])


def path_bar(path: Sequence[Stretch]) -> str:
    """Give the critical path as one bar of stretches, numbered as in its table."""
    whole = sum(stretch.took for stretch in path)
    if not whole:
        return ""
    parts = [_open("path", 44, "Critical path", f"{len(path)} stretches, {shown(whole)} in all")]
    x = 0.0
    for number, stretch in enumerate(path):
        width = stretch.took * WIDTH / whole
        title = escape(f"{number + 1}. {stretch.name}: {shown(stretch.took)}")
        parts.append(f'<g class="c{number % COLOURS}"><title>{title}</title>')
        parts.append(_rect("piece", x, 4, max(width - 1.5, 0.8), 36))
        if width > 26:
            parts.append(_label("number", x + width / 2, 27, str(number + 1), anchor="middle"))
        parts.append("</g>")
        x += width
    return "".join([*parts, "</svg>"])


def trend(runs: Sequence[Outcome], *, now: str) -> str:
    """Give the recovery times of the last runs, oldest left, "" for fewer than two. `now` is the id of this one."""
    drawn = runs[-TREND_RUNS:]
    values = [run.recovered for run in drawn if run.recovered is not None]
    if len(drawn) < 2 or not values:
        return ""
    goals = [run.objective for run in drawn if run.objective is not None]
    top = max([*values, *goals]) * 1.12
    height, left, right, base = 250, 76, 24, 206
    step = (WIDTH - left - right) / max(len(drawn) - 1, 1)
    text = f"{len(drawn)} runs, {shown(min(values))} to {shown(max(values))}"
    parts = [_open("trend", height, "Recovery time over runs", text)]
    for at in ticks(round(top), count=4):
        y = base - at * (base - 24) / top
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_label("tick", left - 10, y + 4, "0" if at == 0 else shown(at), anchor="end"))
    if goals:
        y = base - goals[-1] * (base - 24) / top
        parts.append(f'<line class="goal" x1="{left}" x2="{WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_label("goal-text", WIDTH - right, y - 6, f"objective {shown(goals[-1])}", anchor="end"))
    places = [
        (left + number * step, base - (run.recovered or 0) * (base - 24) / top, run) for number, run in enumerate(drawn)
    ]
    known = [(x, y) for x, y, run in places if run.recovered is not None]
    parts.append(f'<polyline class="thread" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in known)}"/>')
    for number, (x, y, run) in enumerate(places):
        parts.append(_point(x, y, run, now=run.run_id == now))
        if number in (0, len(drawn) - 1) or len(drawn) <= 8:
            anchor = "start" if number == 0 else "end" if number == len(drawn) - 1 else "middle"
            parts.append(_label("tick", x, height - 14, run.started[:10], anchor=anchor))
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


def _bar(bar: Bar, number: int, scale: float, *, critical: bool) -> Iterator[str]:
    y = _TOP + number * _ROW
    x, width = _LEFT + bar.start * scale, max(bar.took * scale, 2.0)
    state = "bad" if not bar.ok else "critical" if critical else "step" if bar.depth == 0 else "part"
    yield f"<g><title>{escape(f'{bar.path}: {shown(bar.took)}, from {shown(bar.start)}')}</title>"
    name = _cut(bar.name, 36 - 3 * bar.depth)
    yield _label("name" if bar.depth == 0 else "subname", 6 + 16 * bar.depth, y + 13, name)
    yield _rect(state, x, y + (3 if bar.depth == 0 else 5), width, _ROW - (9 if bar.depth == 0 else 13), rx=2)
    took = shown(bar.took) + ("" if bar.ok else " ✗ failed")
    yield _label("took", x + width + 6, y + 13, took) + "</g>"


def _mark_lines(facts: Facts, scale: float, height: int) -> Iterator[str]:
    taken = [-1000.0, -1000.0]
    for name, at in facts.marks:
        x = _LEFT + at * scale
        words = _MARKS.get(name, _cut(name, 20))
        level = 0 if x - taken[0] > 84 else 1
        taken[level] = x
        kind = name if name in _MARKS else "other"
        yield f'<line class="mark m-{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{18 + 14 * level}" y2="{height - 28}"/>'
        yield _label(f"mark-text m-{kind}", x, 13 + 14 * level, words, anchor="middle")


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
