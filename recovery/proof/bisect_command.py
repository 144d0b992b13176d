"""`secretsops recover bisect`: which commit broke rebuildability. Reads options, judges commits, prints.

Never here: the search (`bisect.py`), rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import click

from recovery.options import choice_of, estate_options, formatted, plan_text, read_points
from recovery.points import as_of
from recovery.project import normal_url
from recovery.proof.cli import INSTALLED, read_installed
from recovery.proof.verify_command import read_escrowed
from recovery.recovery_plan import RecoveryPlan, read_recovery_plan
from recovery.roots import Choice, estate_of, signed_repos
from secretsops.errors import Refused, SecretsOpsError, UsageError, WorldFailed
from secretsops.escrow import options as escrow_options
from secretsops.files import write_output
from secretsops.ports import Doors


@click.command(epilog="Example: secretsops recover bisect --repo https://git.example/estate.git --good v41")
@estate_options
@INSTALLED
@click.option(
    "--good", default="", help="Older revision to start from.  [default: the commit of the point of --points]"
)
@escrow_options.where("--from")
@escrow_options.cluster()
@click.option("-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
@click.pass_obj
def bisect(doors: Doors, /, good: str, output: str, **options: Any) -> int:
    """Name the commits that broke rebuildability since an older one: errors of plan, lint and verify that it lacks.

    Only the repository of --repo goes back in time; what its applications take from others stays as it is now. Sealed
    items are judged where --from names the escrow. Exit code 1 when something broke.
    """
    from recovery.proof.bisect import RANGE_LIMIT
    from recovery.proof.bisect import bisect as search

    choice = choice_of({**options, "points": "", "as_of": ""})
    if not choice.repo or choice.file:
        raise UsageError("which repository?", reason="Usage", hint="give --repo URL, with or without --path")
    git = doors.git()
    bad = git.resolve(choice.repo, choice.revision)
    first = git.resolve(choice.repo, good) if good else _pinned(choice, options)
    judge = _judge(doors, choice, bad, options)
    found = search(git.history(choice.repo, bad, limit=2 * RANGE_LIMIT), first, judge)
    write_output((found.table() if output == "table" else formatted(found.body(), output)).encode())
    return 1 if found.broken else 0


def _pinned(choice: Choice, options: Mapping[str, Any]) -> str:
    """Give the commit of the recovery point that is meant: it could be rebuilt when it was written."""
    if not options["points"]:
        raise UsageError("since when?", reason="Usage", hint="give --good REVISION, or --points FOLDER")
    point = as_of(read_points(options["points"]), options["as_of"])
    commit = point.pins.get(f"{choice.repo}@{choice.revision or 'HEAD'}", "")
    if not commit:
        raise UsageError(
            f"the recovery point of {point.created} is of another estate",
            reason="OtherEstate",
            hint="give the same --repo and --revision",
        )
    return commit


def _judge(doors: Doors, choice: Choice, bad: str, options: Mapping[str, Any]) -> Callable[[str], Mapping[str, str]]:
    """Give what judges a commit: the repository as it was then, every other one as it is now."""
    installed = read_installed(options["install"])
    escrowed = read_escrowed(doors, options)
    now = doors.clock.now()
    outside: dict[str, str] = {}
    """Pins of the newest commit, by which all are judged."""

    def at(sha: str) -> Choice:
        pins = {}
        for place, commit in {f"{choice.repo}@{choice.revision or 'HEAD'}": bad, **outside}.items():
            url = place.rpartition("@")[0]
            pins[place] = sha if normal_url(url) == normal_url(choice.repo) and commit == bad else commit
        return replace(choice, pins=pins)

    def judge(sha: str) -> Mapping[str, str]:
        if not outside:
            outside.update(_pins_of_now(doors, choice, bad))
        return _errors(doors, at(sha), (installed, escrowed, now))

    return judge


def _pins_of_now(doors: Doors, choice: Choice, bad: str) -> Mapping[str, str]:
    """Give the commits that the newest estate reads, and HEAD where it is the branch that is judged."""
    git = doors.git()
    head = {f"{choice.repo}@HEAD": bad} if git.resolve(choice.repo, "HEAD") == bad else {}
    try:
        estate = estate_of(signed_repos(git, choice), doors.renderer(), choice)
    except WorldFailed:
        raise
    except SecretsOpsError:
        return {**head, f"{choice.repo}@{choice.revision or 'HEAD'}": bad}
    return {**head, **estate.pins}


def _errors(doors: Doors, choice: Choice, given: tuple[Any, Any, Any]) -> Mapping[str, str]:
    """Give the errors of one commit by stable names; what cannot be read at all is one.

    Raises:
        WorldFailed: a repository, a registry or the escrow gives no answer: nothing is said of the commit then.
    """
    from recovery.proof.evidence import Escrowed, Mode, Verdict
    from recovery.proof.finding import Severity
    from recovery.proof.graph import build
    from recovery.proof.lint import lint
    from recovery.proof.subject import Subject
    from recovery.proof.verify import Proof
    from recovery.proof.verify import verify as prove

    installed, escrowed, now = given
    try:
        git = signed_repos(doors.git(), choice)
        text = plan_text(git, choice, "")
        plan = read_recovery_plan(text) if text else RecoveryPlan()
        estate = estate_of(git, doors.renderer(), choice)
    except (Refused, UsageError) as error:
        return {error.reason: error.message}
    found = {f"{problem.reason} {problem.where}": problem.message for problem in estate.problems}
    subject = Subject(estate=estate, graph=build(estate, installed=installed))
    for finding in lint(subject):
        if finding.severity is Severity.ERROR:
            found[f"{finding.rule} {' '.join(finding.objects)}".strip()] = finding.message
    report = prove(subject, Proof(mode=Mode.ATTESTED, escrowed=escrowed or Escrowed(), plan=plan), now)
    for row in report.holes:
        if escrowed is not None or not (row.items and row.verdict is not Verdict.RECOVERABLE):
            found[f"verify {row.object}"] = row.why
    return found
