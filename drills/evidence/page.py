"""A run as one self-contained HTML page that an auditor keeps: no script, no network, light, dark and on paper. Pure.

Nothing is fetched and nothing runs (Content-Security-Policy); what stands in a record reaches the page as text only.
Never here: the pictures (`drawing.py`), what follows from a run (`findings.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

from drills.evidence.drawing import COLOURS, numbered, path_bar, recovery, timeline, trend
from drills.evidence.facts import Facts, day, shown
from drills.evidence.findings import controls, remarks, summed_up
from drills.evidence.history import Outcome, Slot, spread

SIGNS = {"passed": "✓", "failed": "✗", "inconclusive": "?", "missed": "✗", "due": "…", "running": "…"}
_CHECK = {"pass": ("passed", "✓ held"), "fail": ("failed", "✗ failed")}
_MET = {True: ("passed", "✓ met"), False: ("failed", "✗ missed"), None: ("inconclusive", "? not measured")}
_RECOVERED = {
    "recovered": ("passed", "✓ recovered"),
    "equal": ("passed", "✓ equal"),
    "missing": ("failed", "✗ missing"),
}
ROWS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a record comes from: its place in the chain, who signed it, and what the chain's judgement was."""

    sequence: int = 0
    digest: str = ""
    previous: str = ""
    signer: str = ""
    judgement: str = "unsigned: this is a report, not evidence"
    good: bool = False


def page(
    facts: Facts,
    *,
    provenance: Provenance,
    runs: Sequence[Outcome] = (),
    population: Sequence[Slot] = (),
) -> str:
    """Give the page of a run; `runs` are those of its scenario with this one among them, for the trend."""
    style = resources.files("drills.evidence").joinpath("page.css").read_text()
    body = "".join(
        [
            _head(facts),
            _tiles(facts),
            _section("Timeline", _timeline(facts)),
            _section("Critical path", _path(facts)),
            _section("Objectives against measured", _goals(facts)),
            _section("Findings", _findings(facts)),
            _section("Checks", _checks(facts)),
            _section("Secrets", _secrets(facts)),
            _section("Applications", _apps(facts)),
            _section("Trend over runs", _trend(facts, runs)),
            _section("Population", _population(population)),
            _section("What was run, on what", _facts(facts)),
            _section("Controls this run supports", _controls(facts)),
            _section("Provenance", _provenance(provenance)),
        ]
    )
    title = escape(f"Drill {facts.scenario}: {facts.verdict}")
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{title}</title><style>{style}</style></head>'
        f"<body><main>{body}</main></body></html>\n"
    )


def _head(facts: Facts) -> str:
    when = day(facts.started)
    due = f" · due {escape(day(facts.slot))}, {escape(shown(facts.late))} late" if facts.slot else ""
    attempt = f" · attempt {facts.attempt}" if facts.attempt > 1 else ""
    message = f'<p class="why">{escape(facts.message)}</p>' if facts.message else ""
    hypothesis = f'<p class="dim">Hypothesis: {escape(facts.hypothesis)}</p>' if facts.hypothesis else ""
    return (
        f'<header class="{facts.verdict}"><p class="kind">Disaster recovery drill</p><div class="row">'
        f"<h1>{escape(facts.scenario)}</h1>{_badge(facts.verdict, f'{SIGNS[facts.verdict]} {facts.verdict}')}</div>"
        f'<p class="sum">{escape(summed_up(facts))}</p>{message}{hypothesis}'
        f'<p class="dim">{escape(when)}{due}{attempt} · run <code>{escape(facts.run_id)}</code></p></header>'
    )


def _tiles(facts: Facts) -> str:
    tiles = []
    for goal in [goal for goal in facts.goals if not goal.not_applicable][:3]:
        share = min(100, (goal.measured or 0) * 100 // goal.goal) if goal.goal else (0 if not goal.measured else 100)
        state, words = _MET[goal.met]
        meter = (
            f'<div class="meter" role="img" aria-label="{share} percent of the objective">'
            f'<span class="{state}" style="width:{share}%"></span></div>'
            if goal.measured is not None and goal.goal
            else ""
        )
        small = f"objective {shown(goal.goal)} · {words}"
        tiles.append(_tile(goal.name, shown(goal.measured), small, meter))
    held = sum(1 for check in facts.checks if check.verdict == "pass")
    tiles.append(_tile("Checks held", f"{held} of {len(facts.checks)}", "each must hold for a pass"))
    if facts.expected_secrets is not None:
        recovered = facts.recovered_secrets if facts.recovered_secrets is not None else "?"
        tiles.append(
            _tile("Secrets recovered", f"{recovered} of {facts.expected_secrets}", "values compared, never kept")
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _timeline(facts: Facts) -> str:
    drawn = timeline(facts)
    if not drawn:
        return ""
    legend = (
        '<p class="legend"><span class="key k-outage"></span>from disruption to recovery '
        '<span class="key k-critical"></span>on the critical path <span class="key k-step"></span>step '
        '<span class="key k-part"></span>part of a step <span class="key k-bad"></span>failed</p>'
    )
    rows = [
        (
            f'<span class="d{min(bar.depth, 3)}">{escape(bar.name)}</span>',
            shown(bar.start),
            shown(bar.took),
            escape(bar.message),
        )
        for bar in facts.bars[:ROWS]
    ]
    table = _table(("Step", "From", "Took", "Message"), rows, numeric=(1, 2))
    near = recovery(facts)
    titles = ("<h3>From disruption to recovery</h3>", "<h3>The whole drill</h3>") if near else ("", "")
    whole = f"{titles[1]}{drawn}"
    return f"{titles[0]}{near}{whole}{legend}<details><summary>As a table</summary>{table}</details>"


def _path(facts: Facts) -> str:
    whole = sum(stretch.took for stretch in facts.path)
    if not whole:
        return ""
    longest = max(facts.path, key=lambda stretch: stretch.took)
    said = f"<p><strong>{shown(longest.took)} of {shown(whole)}</strong>: {escape(longest.name)}.</p>"
    rows = [
        (
            f'<span class="nw"><span class="key c{(number - 1) % COLOURS}"></span>{number}</span>',
            escape(facts.path[position].name),
            shown(facts.path[position].took),
            f"{facts.path[position].took * 100 / whole:.0f} %",
        )
        for position, number in numbered(facts.path).items()
    ]
    rest = sum(each.took for position, each in enumerate(facts.path) if position not in numbered(facts.path))
    if rest:
        rows.append(('<span class="key rest"></span>', "shorter ones", shown(rest), f"{rest * 100 / whole:.0f} %"))
    return said + path_bar(facts.path) + _table(("", "Stretch", "Took", "Of recovery"), rows, numeric=(2, 3))


def _goals(facts: Facts) -> str:
    rows = []
    for goal in facts.goals:
        state, words = ("s-low", "not applicable") if goal.not_applicable else _MET[goal.met]
        # What does not apply has no figure: one beside a service objective would be read as met.
        measured = None if goal.not_applicable else goal.measured
        room = shown(goal.goal - measured) if measured is not None else "none"
        found = "none" if goal.not_applicable else shown(measured)
        rows.append((escape(goal.name), shown(goal.goal), found, room, _badge(state, words)))
    table = _table(("Objective", "Goal", "Measured", "Room", "Verdict"), rows, numeric=(1, 2, 3))
    clocks = [(escape(name), shown(value)) for name, value in facts.measures if name != "Lost"]
    lost = [(f"Lost: {escape(name)}", shown(value)) for name, value in facts.rpa]
    both = _table(("Clock", "Measured"), [*clocks, *lost], numeric=(1,))
    note = "<p class='dim'>Nodes were simulated: no figure here counts towards a service objective.</p>"
    return table + both + (note if facts.simulated and table else "")


def _findings(facts: Facts) -> str:
    rows = [
        (
            _badge(f"s-{each.severity}", each.severity),
            escape(each.text),
            *(
                f'<span class="nw">{escape(text)}</span>' if text else ""
                for text in (each.owner, each.due, each.ticket)
            ),
        )
        for each in remarks(facts)[:ROWS]
    ]
    if not rows:
        return "<p>Nothing to deal with.</p>"
    return _table(("Severity", "Finding", "Owner", "Due", "Ticket"), rows)


def _checks(facts: Facts) -> str:
    rows = []
    for check in facts.checks:
        state, words = _CHECK.get(check.verdict, ("inconclusive", f"? {check.verdict}"))
        found = check.actual + (f" (expected {check.expected})" if check.expected else "")
        rows.append((escape(check.name), escape(check.sort), escape(found), _badge(state, words)))
    if not rows:
        return "<p>No check was made: such a run never passes.</p>"
    return _table(("Check", "Class", "Found", "Verdict"), rows)


def _secrets(facts: Facts) -> str:
    rows = []
    for each in facts.secrets[:ROWS]:
        state, words = _RECOVERED.get(each.verdict, ("failed", f"✗ {each.verdict}"))
        rows.append((f"<code>{escape(each.name)}</code>", escape(each.source), _badge(state, words), escape(each.note)))
    if not rows:
        return ""
    note = '<p class="dim">Values are compared in memory by an HMAC with a key of the run; neither is kept.</p>'
    return _table(("Secret", "Source", "Verdict", "Note"), rows) + note


def _apps(facts: Facts) -> str:
    rows = []
    for app in facts.apps[:ROWS]:
        took = app.healthy - app.started if app.healthy is not None and app.started is not None else None
        rows.append((escape(app.name), shown(app.started), shown(took), escape(app.waited), escape(app.result)))
    return _table(("Application", "Began", "Healthy after", "Waited for", "Result"), rows, numeric=(1, 2))


def _trend(facts: Facts, runs: Sequence[Outcome]) -> str:
    drawn = trend(runs, now=facts.run_id)
    if not drawn:
        return ""
    runs = [run for run in runs if not run.running]
    found = spread([run.recovered for run in runs])
    passed = sum(1 for run in runs if run.verdict == "passed")
    said = (
        f"<p>{len(runs)} runs, {passed} passed. Recovery: median {shown(found.median)}, "
        f"90th percentile {shown(found.p90)}, worst {shown(found.worst)}.</p>"
    )
    legend = '<p class="legend">● passed &nbsp; ▲ inconclusive &nbsp; ✕ failed &nbsp; ◯ this run</p>'
    rows = [
        (
            escape(run.run_id),
            escape(run.started),
            shown(run.recovered),
            _badge(run.verdict, run.verdict),
            escape(run.message[:160]),
        )
        for run in reversed(runs[-ROWS:])
    ]
    table = _table(("Run", "Started", "Recovery", "Verdict", "Message"), rows, numeric=(2,))
    return f"{said}{drawn}{legend}<details><summary>As a table</summary>{table}</details>"


def _population(population: Sequence[Slot]) -> str:
    if not population:
        return ""
    done = sum(1 for slot in population if slot.fate == "done")
    missed = sum(1 for slot in population if slot.fate == "missed")
    rows = []
    for slot in population[-ROWS:]:
        verdict = slot.outcome.verdict if slot.outcome and slot.fate == "done" else slot.fate.value
        state = {"missed": "failed", "due": "inconclusive", "running": "inconclusive"}.get(verdict, verdict)
        run = slot.outcome.run_id if slot.outcome else ""
        rows.append(
            (escape(slot.start), _badge(state, f"{SIGNS.get(verdict, '')} {verdict}"), escape(run), escape(slot.reason))
        )
    said = f"<p>{len(population)} slots: {done} done, {missed} missed.</p>"
    return said + _table(("Slot", "Verdict", "Run", "Reason"), rows)


def _facts(facts: Facts) -> str:
    rows = [*facts.facts, ("Trigger", facts.trigger), ("Ended", facts.ended), ("Clean-up", facts.cleanup)]
    rows += [("Isolation", text) for text in facts.isolation]
    rows += [(f"Objects, {name}", text) for name, text in facts.inventory]
    cells = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows if value
    )
    return f'<table class="pairs"><tbody>{cells}</tbody></table>'


def _controls(facts: Facts) -> str:
    rows = [
        (
            escape(each.framework),
            escape(each.clause),
            escape(each.asks),
            f"supports: {escape(each.supports)}" if each.supported else "nothing in this run",
        )
        for each in controls(facts)
    ]
    note = '<p class="dim">Clauses by number, in our words. Whether a control is met is for an auditor to say.</p>'
    return _table(("Framework", "Clause", "Asks that", "This run"), rows) + note


def _provenance(provenance: Provenance) -> str:
    pairs = [
        ("Judgement", provenance.judgement),
        ("Record", f"{provenance.sequence} of the chain" if provenance.sequence else ""),
        ("File, SHA-256", provenance.digest),
        ("Record before it, SHA-256", provenance.previous or ("none: the first" if provenance.sequence else "")),
        ("Signed by", provenance.signer),
    ]
    cells = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in pairs if value
    )
    how = (
        "<p class='dim'>This page is drawn from a signed record and proves nothing by itself. To check the record: "
        "<code>secretsops drill report verify --evidence PLACE --key KEY --countersigner KEY</code>; any DSSE reader "
        "checks the signature.</p>"
    )
    state = "good" if provenance.good else "doubt"
    return f'<table class="pairs {state}"><tbody>{cells}</tbody></table>{how}'


def _tile(name: str, figure: str, small: str, meter: str = "") -> str:
    return (
        f'<div class="tile"><p class="label">{escape(name)}</p><p class="figure">{escape(figure)}</p>{meter}'
        f'<p class="dim">{escape(small)}</p></div>'
    )


def _badge(state: str, words: str) -> str:
    return f'<span class="badge {escape(state)}">{escape(words)}</span>'


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Sequence[int] = ()) -> str:
    """Give a table of cells that are HTML already; columns that are empty in every row are left out."""
    if not rows:
        return ""
    kept = [number for number in range(len(heads)) if any(row[number] for row in rows)]
    return (
        f"<table><thead><tr>{''.join(_cells('th', heads, kept, numeric))}</tr></thead><tbody>"
        + "".join(f"<tr>{''.join(_cells('td', row, kept, numeric))}</tr>" for row in rows)
        + "</tbody></table>"
    )


def _cells(tag: str, row: Sequence[str], kept: Sequence[int], numeric: Sequence[int]) -> Iterator[str]:
    scope = ' scope="col"' if tag == "th" else ""
    for number in kept:
        kind = ' class="num"' if number in numeric else ""
        yield f"<{tag}{scope}{kind}>{row[number]}</{tag}>"
