"""`secretsops drill report|history|compare`, and the evidence that `drill run` leaves. Prints and writes files.

Never here: what a drill does, what is wrong with a chain, how a page looks.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from drills.evidence import options as opts
from drills.evidence.chain import Link, Stage, Verification, link_name, read_head, read_link, verify
from drills.evidence.comparison import compare
from drills.evidence.facts import read_facts
from drills.evidence.history import Fate, Outcome, Slot, cron, kinds, outcomes, skips, slot_of, slots, with_notes
from drills.evidence.junit import junit
from drills.evidence.ledger import Ledger, countersign, judged, read_files, read_latest, replicate
from drills.evidence.markdown import markdown, summary
from drills.evidence.metrics import openmetrics
from drills.evidence.page import Provenance, page
from drills.evidence.recording import carry_out, figures, note
from drills.evidence.tables import comparison_table, history_table, spread_line
from drills.record import KIND, Run, of_report, stamp
from drills.schedule_cli import schedule
from secretsops.command_group import CommandGroup
from secretsops.errors import Refused, SecretsOpsError, UsageError
from secretsops.escrow import canonical
from secretsops.files import read_input, write_atomic, write_output
from secretsops.manifest import dump
from secretsops.ports import Doors, Sink
from secretsops.secret import Plaintext

WEBHOOK, PUSH = "SECRETSOPS_DRILL_WEBHOOK", "SECRETSOPS_DRILL_PUSH"
FORMATS = ("table", "json", "yaml", "html", "markdown", "junit", "openmetrics")
_FILES = ("html", "markdown", "junit", "metrics")


class _ReportGroup(CommandGroup):
    """`drill report FILE` is `drill report show FILE`: the word that most people will type."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Take anything that is no sub-command as the argument of `show`."""
        if args and args[0] not in self.commands:
            args = ["show", *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let options of `show` stand first, as in `drill report --evidence PLACE`."""
        if args and args[0].startswith("-") and args[0] not in ("-h", "--help"):
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ReportGroup, epilog="Example: secretsops drill report --evidence ./evidence --html drill.html")
def report() -> None:
    """Show, verify or countersign what drills left; `drill report FILE` shows one run."""


@report.command("show", epilog="Example: secretsops drill report show drill-00000002.json --html drill.html")
@click.argument("source", required=False, default="")
@click.option("--run", "run_id", default="", help="Run of the chain.  [default: the last that ended]")
@opts.places(required=False)
@opts.keys()
@click.option("--expected", default="", help="Also show the population of this schedule (quarterly, …, or cron).")
@click.option("--html", default="", type=click.Path(dir_okay=False), help="Write the page here.")
@click.option("--markdown", default="", type=click.Path(dir_okay=False), help="Write Markdown for a pull request here.")
@click.option("--junit", default="", type=click.Path(dir_okay=False), help="Write JUnit XML here.")
@click.option("--metrics", default="", type=click.Path(dir_okay=False), help="Write OpenMetrics text here.")
@click.option("-o", "output", type=click.Choice(FORMATS), default="table", show_default=True)
@click.pass_obj
def show(doors: Doors, /, **options: Any) -> int:
    """Show one run: a record's file, or a run of a chain, as text, page, Markdown, JUnit or metrics."""
    given = _given(doors, options)
    texts = _renderings(doors, given, options)
    for name in _FILES:
        if options[name]:
            write_atomic(Path(options[name]), texts[{"metrics": "openmetrics"}.get(name, name)]().encode())
    write_output(texts[options["output"]]().encode())
    return 0


@report.command(
    "verify", epilog="Example: secretsops drill report verify --evidence ./evidence --key runner.pub --witness heads/"
)
@opts.places()
@opts.keys()
@click.option("--countersigned", is_flag=True, help="Fail while records have no head of another signer.")
@click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_obj
def verify_chain(doors: Doors, /, **options: Any) -> int:
    """Find what was removed, altered, moved or hidden; exit code 1 when the chain does not hold.

    Heads beside the chain count, and those given by --witness; without a head nobody can tell that the end of a chain
    was cut off.
    """
    found, differing = _judged(doors, options)
    strict = options["countersigned"] and any(each.reason == "NotCountersigned" for each in found.findings)
    holds = found.holds and not differing and not strict
    if options["output"] == "json":
        text = json.dumps(_verification(found, differing, holds=holds), indent=2) + "\n"
    else:
        lines = [f"{'note' if each.note else 'FAILED':<8}{each.reason}: {each.message}" for each in found.findings]
        lines += [f"{'FAILED':<8}CopiesDiffer: {each}" for each in differing]
        starts = sum(1 for link in found.links if link.stage is Stage.STARTED)
        told = (
            f"{len(found.links)} records of {starts} runs, {len(found.heads)} heads, vouched for up to {found.vouched}"
        )
        lines.append(f"{'holds' if holds else 'does NOT hold'}: {told}")
        text = "\n".join(lines) + "\n"
    write_output(text.encode())
    return 0 if holds else 1


@report.command(
    "countersign", epilog="Example: secretsops drill report countersign --evidence ./evidence --signer me.key"
)
@opts.places()
@opts.keys()
@opts.signer(required=True)
@click.option("--to", "also", multiple=True, help="Write the head here too, out of the runner's reach.")
@click.pass_obj
def countersign_chain(doors: Doors, /, **options: Any) -> int:
    """Vouch for a chain as it is now, with a key that signs none of its records; refused unless it holds."""
    found, differing = _judged(doors, options)
    if differing:
        raise Refused(differing[0], reason="CopiesDiffer", hint="secretsops drill report verify")
    notary = opts.the_notary(doors, options["signer"])
    sinks = [*opts.the_places(doors, options), *(doors.sink(place) for place in options["also"])]
    name = countersign(sinks, found, notary, at=stamp(doors.clock.now()))
    write_output(f"{name}: {len(found.links)} records\n".encode())
    return 0


@report.command(
    "note",
    epilog="Example: secretsops drill report note cluster-lost-20260105T030000Z --finding 'CRDs late' --owner ann "
    "--evidence ./ledger --signer me.key",
)
@click.argument("run", required=False, default="")
@opts.places()
@opts.signer(required=True)
@click.option("--finding", default="", help="What has to be dealt with.")
@click.option("--severity", type=click.Choice(["high", "medium", "low"]), default="medium", show_default=True)
@click.option("--owner", default="", help="Who deals with it.")
@click.option("--due", default="", help="By when.")
@click.option("--ticket", default="", help="Where it is followed.")
@click.option("--reviewer", default="", help="Who reviewed the run: the sign-off.")
@click.option("--missed", default="", help="Instead of a run: the slot (RFC 3339) that had none, ...")
@click.option("--reason", default="", help="... and why.")
@click.pass_obj
def note_run(doors: Doors, /, **options: Any) -> int:
    """Append to a chain what came of a run: a finding with its owner, a review; or why a slot was missed."""
    given = {name: options[name] for name in ("finding", "severity", "owner", "due", "ticket")}
    body: dict[str, Any] = {}
    if options["finding"]:
        body["deviation"] = given
    if options["reviewer"]:
        body["reviewer"] = options["reviewer"]
    slot = stamp(opts.moment(options["missed"], "--missed")) if options["missed"] else ""
    if slot:
        body = {"message": options["reason"]}
    right = bool(slot and options["reason"] and not options["run"]) if slot else bool(options["run"] and body)
    if not right:
        raise UsageError(
            "give a run with --finding or --reviewer, or --missed with --reason",
            reason="Usage",
            hint="secretsops drill report note --help",
        )
    ledger = opts.the_ledger(doors, options)
    assert ledger is not None
    if options["run"]:
        _run_of(verify(read_files(ledger.places[0])).links, options["run"])
    link = note(ledger, options["run"], body, slot=slot, by=opts.person())
    write_output(f"{link_name(link.sequence)}\n".encode())
    return 0


@click.command(epilog="Example: secretsops drill history --evidence ./evidence --expected quarterly --since 2026-01-01")
@opts.places()
@opts.keys()
@click.option("--scenario", default="", help="Only runs of this scenario.")
@click.option("--expected", default="", help="quarterly, monthly, weekly, daily, or a cron expression (UTC).")
@click.option("--since", default="", help="Begin of the time looked at.  [default: the first run, or a year ago]")
@click.option("--threshold", default=opts.THRESHOLD, show_default=True, help="Percent slower that fails.")
@click.option("--push", is_flag=True, help=f"Post metrics to the push gateway in {PUSH}.")
@click.option("-o", "output", type=click.Choice(["table", "json", "openmetrics"]), default="table", show_default=True)
@click.pass_obj
def history(doors: Doors, /, **options: Any) -> int:
    """List runs and, with --expected, the population: done and missed, with reasons; exit code 1 for a missed slot.

    Also exit code 1 when the chain does not hold, or the last runs are slower than those before.
    """
    found, differing = _judged(doors, options)
    now = doors.clock.now()
    runs = outcomes(found.links, now=stamp(now), scenario=options["scenario"])
    population = _population(doors, found.links, runs, options)
    if options["push"]:
        _push(doors, openmetrics(runs, population))
    moved = kinds(runs, threshold=options["threshold"])
    holds = found.holds and not differing
    if options["output"] == "openmetrics":
        text = openmetrics(runs, population)
    elif options["output"] == "json":
        body = {
            "holds": holds,
            "runs": [asdict(each) for each in runs],
            "kinds": [asdict(each) for each in moved],
            "population": [asdict(slot) for slot in population],
        }
        text = json.dumps(body, indent=2) + "\n"
    else:
        text = history_table(runs, moved, population, holds=holds)
    write_output(text.encode())
    missed = any(slot.fate is Fate.MISSED for slot in population)
    return 1 if missed or any(each.trend.regressed for each in moved) or not holds else 0


@click.command("compare", epilog="Example: secretsops drill compare before.json after.json")
@click.argument("before")
@click.argument("after")
@opts.places(required=False)
@click.option("--threshold", default=opts.THRESHOLD, show_default=True, help="Percent slower that fails.")
@click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_obj
def compare_runs(doors: Doors, /, before: str, after: str, **options: Any) -> int:
    """Hold one run against another: files, or with --evidence ids of runs; exit code 1 for a regression."""
    if options["places"]:
        files = read_files(opts.the_places(doors, options)[0])
        links = verify(files).links
        first, second = (_run_of(links, each).record for each in (before, after))
    else:
        first, second = (_record_of(read_input(each, limit=canonical.SIZE_LIMIT), each)[0] for each in (before, after))
    found = compare(first, second)
    regressed = found.regressed(threshold=options["threshold"])
    if options["output"] == "json":
        body = {**asdict(found), "regressed": regressed}
        text = json.dumps(body, indent=2) + "\n"
    else:
        text = comparison_table(found, regressed=regressed)
    write_output(text.encode())
    return 1 if regressed else 0


COMMANDS: Sequence[click.Command] = (report, history, compare_runs, schedule)
"""What is mounted under `drill`."""


def run_recorded(
    doors: Doors,
    options: Mapping[str, Any],
    named: tuple[str, bytes],
    once: Callable[[Run], Mapping[str, Any]],
    *,
    output: str,
) -> int:
    """Run a scenario (name and text) as the options say; gives the exit code. `once` gives a run's report as a body.

    Raises:
        Refused: it is not our turn. Whatever `once` raises.
    """
    ledger = opts.the_ledger(doors, options)
    plan = opts.the_plan(doors, options, scenario=named[0], content=named[1])
    series = carry_out(
        plan,
        lambda run: of_report(once(run)),
        ledger=ledger,
        clock=doors.clock,
        nonce=lambda: secrets.token_hex(16),
        say=_say,
        threshold=options["threshold"],
    )
    if len(series.records) > 1:
        body = figures(series)
        write_output((json.dumps(body, indent=2) + "\n" if output == "json" else spread_line(body)).encode())
    elif series.trend.regressed:
        _say(f"recovery is {series.trend.percent} % slower than the median of earlier runs")
    _after(doors, ledger, series.records[-1], options)
    return series.exit_code


def _after(doors: Doors, ledger: Ledger | None, record: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Write the files and send the summary: nothing of it changes the verdict."""
    files = read_latest(ledger.places[0]) if ledger else {}
    links = verify(files).links
    if ledger:
        for problem in replicate(ledger.places):
            _say(f"a copy of the evidence is behind: {problem}")
    facts = read_facts(record)
    runs = outcomes(links, now=stamp(doors.clock.now()), scenario=facts.scenario)
    if options["html"]:
        mine = [link for link in links if link.record == record]
        shown_page = page(facts, provenance=_provenance(mine[-1] if mine else None, None), runs=runs)
        write_atomic(Path(options["html"]), shown_page.encode())
    if options["junit"]:
        write_atomic(Path(options["junit"]), junit(facts).encode())
    if options["metrics"]:
        write_atomic(Path(options["metrics"]), openmetrics(runs).encode())
    if options["push"]:
        _push(doors, openmetrics(runs))
    if options["notify"]:
        _notify(doors, summary(facts))


def _push(doors: Doors, text: str) -> None:
    """Post metrics to a push gateway: groups of the same name are replaced there."""
    url = os.environ.get(PUSH, "")
    if not url:
        raise UsageError(f"--push needs a URL in {PUSH}", reason="NoPush", hint="https://HOST/metrics/job/drills")
    try:
        doors.announce(Plaintext(url.encode()), text.encode(), content_type="text/plain; version=0.0.4")
    except SecretsOpsError as error:
        _say(f"no metrics were pushed: {error.message} ({error.reason})")


def _notify(doors: Doors, body: Mapping[str, Any]) -> None:
    url = os.environ.get(WEBHOOK, "")
    if not url:
        raise UsageError(f"--notify needs a URL in {WEBHOOK}", reason="NoWebhook", hint="a URL of Slack or another")
    # Slack takes `text` alone and refuses what it does not know.
    slack = "hooks.slack." in url
    content = json.dumps({"text": body["text"]} if slack else body, ensure_ascii=False).encode()
    try:
        doors.announce(Plaintext(url.encode()), content)
    except SecretsOpsError as error:
        _say(f"no summary was sent: {error.message} ({error.reason})")


class _Given:
    """One record with what is known around it."""

    def __init__(self, record: Mapping[str, Any], link: Link | None, found: Verification | None) -> None:
        self.record, self.link, self.found = record, link, found


def _given(doors: Doors, options: Mapping[str, Any]) -> _Given:
    if bool(options["source"]) == bool(options["places"]):
        raise UsageError("give a file, or --evidence", reason="Usage", hint="secretsops drill report FILE")
    if options["source"]:
        record, link = _record_of(read_input(options["source"], limit=canonical.SIZE_LIMIT), options["source"])
        return _Given(record, link, None)
    found, _ = _judged(doors, options)
    link = _run_of(found.links, options["run_id"])
    return _Given(with_notes(link, found.links), link, found)


def _renderings(doors: Doors, given: _Given, options: Mapping[str, Any]) -> dict[str, Callable[[], str]]:
    facts = read_facts(given.record)
    links = given.found.links if given.found else []
    runs = outcomes(links, now=stamp(doors.clock.now()), scenario=facts.scenario)
    population = _population(doors, links, runs, options)
    record = dict(given.record)
    return {
        "table": lambda: markdown(facts, runs),
        "json": lambda: json.dumps(record, indent=2) + "\n",
        "yaml": lambda: dump(record),
        "html": lambda: page(facts, provenance=_provenance(given.link, given.found), runs=runs, population=population),
        "markdown": lambda: markdown(facts, runs),
        "junit": lambda: junit(facts),
        "openmetrics": lambda: openmetrics(runs or _alone(given), population),
    }


def _alone(given: _Given) -> list[Outcome]:
    """Give the outcome of a record without its chain."""
    facts = read_facts(given.record)
    return [
        Outcome(
            run_id=facts.run_id,
            attempt=facts.attempt,
            scenario=facts.scenario,
            slot=facts.slot,
            trigger=facts.trigger,
            started=facts.started,
            ended=facts.ended,
            verdict=facts.verdict,
            message=facts.message,
            provider=facts.provider,
            recovered=facts.recovered,
            lost=facts.seconds_lost,
            objective=next((goal.goal for goal in facts.goals), None),
            sequence=0,
        )
    ]


def _judged(doors: Doors, options: Mapping[str, Any]) -> tuple[Verification, list[str]]:
    runners, counter = opts.the_keys(options)
    sinks: Sequence[Sink] = opts.the_places(doors, options)
    return judged(sinks, runners=runners, countersigners=counter, witnesses=opts.the_witnesses(options))


def _record_of(content: bytes, source: str) -> tuple[Mapping[str, Any], Link | None]:
    """Give the record of a file: of an envelope, bare, or a report of `drill run --report`."""
    link = read_link(content)
    if link is not None:
        return link.record, link
    if read_head(content) is not None:
        raise UsageError(f"{source} is a head, no record", reason="NotARecord", hint="give drill-*.json")
    try:
        body = json.loads(content)
        if isinstance(body, dict) and body.get("kind") == KIND:
            return body, None
        if isinstance(body, dict) and body.get("kind") == "DrillReport":
            bare = of_report(body)
            timing = {"startedAt": body["started"], "trigger": "unrecorded"}
            return {**bare, "kind": KIND, "identity": {"drillName": body["scenario"]}, "schedule": timing}, None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise UsageError(f"{source} is no record of a drill", reason="NotARecord", hint="drill-*.json, or --report's file")


def _run_of(links: Sequence[Link], run_id: str) -> Link:
    """Give the end of a run, the last of all where none is named; raises `UsageError`."""
    ended = [
        link for link in links if link.stage is Stage.ENDED and run_id in ("", link.run_id, link_name(link.sequence))
    ]
    if not ended:
        named = f"run {run_id}" if run_id else "any run"
        raise UsageError(f"the chain has no end of {named}", reason="NoSuchRun", hint="secretsops drill history")
    return ended[-1]


def _population(doors: Doors, links: Sequence[Link], runs: Sequence[Outcome], options: Mapping[str, Any]) -> list[Slot]:
    if not options.get("expected"):
        return []
    now = doors.clock.now()
    since = options.get("since") or (runs[0].started if runs else "")
    begin = opts.moment(since, "--since") if since else now.replace(year=now.year - 1, day=min(now.day, 28))
    ticks = cron(options["expected"])
    if not options.get("since") and runs:
        # The slot that the first run lies in counts.
        begin = min(begin, slot_of(ticks, begin))
    return slots(runs, ticks, since=begin, until=now, skipped=skips(links))


def _provenance(link: Link | None, found: Verification | None) -> Provenance:
    if link is None:
        return Provenance()
    judgement, good = "signed; the chain around it was not judged", False
    if found is not None:
        wrong = [each for each in found.findings if not each.note]
        unpinned = any(each.reason == "KeysNotGiven" for each in found.findings)
        vouched = link.sequence <= found.vouched
        good = not wrong and not unpinned and vouched
        judgement = f"the chain does not hold: {wrong[0].message}" if wrong else "the chain holds"
        if not wrong:
            judgement += "; a head of another signer vouches for this record" if vouched else "; no head vouches yet"
            judgement += "; no key was given to hold signatures against" if unpinned else ""
    return Provenance(
        sequence=link.sequence,
        digest=link.digest,
        previous=link.previous,
        signer=link.signer,
        judgement=judgement,
        good=good,
    )


def _verification(found: Verification, differing: Sequence[str], *, holds: bool) -> dict[str, Any]:
    return {
        "holds": holds,
        "records": len(found.links),
        "runs": sum(1 for link in found.links if link.stage is Stage.STARTED),
        "heads": len(found.heads),
        "vouchedUpTo": found.vouched,
        "findings": [
            *(asdict(each) for each in found.findings),
            *({"reason": "CopiesDiffer", "where": "", "message": each, "note": False} for each in differing),
        ],
    }


def _say(text: str) -> None:
    click.echo(text, err=True)
