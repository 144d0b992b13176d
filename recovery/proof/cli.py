"""`secretsops recover plan` and `lint`: what can be told from Git alone, before anything is written.

Never here: rules; these commands read options, call one function each, and print.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recovery.options import chosen, estate_options, formatted
from recovery.proof.formats import FORMATS
from recovery.recovery_plan import FILE, RecoveryPlan
from recovery.roots import estate_of
from secretsops.errors import UsageError
from secretsops.files import read_input, write_atomic, write_output
from secretsops.manifest import Manifest, load_all
from secretsops.ports import ClusterTarget, Doors

if TYPE_CHECKING:
    from recovery.proof.subject import Target

INSTALLED = click.option(
    "--install", "install", multiple=True, help="Manifests that the rebuild applies before any application."
)


@click.command(epilog="Example: secretsops recover plan --repo https://git.example/estate.git --html plan.html")
@estate_options
@INSTALLED
@click.option("--html", type=click.Path(dir_okay=False), help="Also write the plan as one self-contained page.")
@click.option("-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
@click.pass_obj
def plan(doors: Doors, /, html: str | None, install: tuple[str, ...], output: str, **options: Any) -> int:
    """Print what a rebuild would apply, in exact order, with the reason for each position; needs no cluster.

    Exit code 1 when something in Git cannot be carried out; it is named, and the rest is planned.
    """
    from recovery.proof.graph import build
    from recovery.proof.listing import plan_body, plan_table

    meant = chosen(doors, options)
    estate = estate_of(meant.git, doors.renderer(), meant.choice)
    graph = build(estate, installed=read_installed(install))
    body = plan_body(estate, graph)
    if html:
        from recovery.proof.page import page

        write_atomic(Path(html), page(body).encode())
    write_output((plan_table(body) if output == "table" else formatted(body, output)).encode())
    for problem in estate.problems:
        click.echo(f"problem: {problem}", err=True)
    return 1 if estate.problems else 0


@click.command(epilog="Example: secretsops recover lint --repo https://git.example/estate.git --revision main -o sarif")
@estate_options
@INSTALLED
@click.option("--kube-version", default="", help="Version of the cluster to be filled, such as 1.34.")
@click.option("--issuer", default="", help="Token issuer of the cluster to be filled.")
@click.option("--target", default="", help="Context of the cluster to be filled: read, never written.")
@click.option("--kubeconfig", default="", help="Where --target is; kubectl's rules where not given.")
@click.option("--ignore", "ignored", multiple=True, help="Leave a rule out, by its id.")
@click.option("--strict", is_flag=True, help="Warnings make the exit code 1, too.")
@click.option("-o", "output", type=click.Choice(FORMATS), default="table", show_default=True)
@click.pass_obj
def lint(doors: Doors, /, strict: bool, output: str, ignored: tuple[str, ...], **options: Any) -> int:
    """Say what would go wrong in a rebuild, from Git alone, with objects and cure; exit code 1 on any error.

    Cycles, orders that deadlock on an empty cluster, Argo CD's silent traps, and what goes wrong in real rebuilds.
    """
    from recovery.proof import formats
    from recovery.proof.graph import build
    from recovery.proof.lint import RULES
    from recovery.proof.lint import lint as judge
    from recovery.proof.subject import Subject

    unknown = set(ignored) - {rule.id for rule in RULES}
    if unknown:
        raise UsageError(f"there is no rule {min(unknown)!r}", reason="UnknownRule", hint="see recovery/README.md")
    meant = chosen(doors, options)
    choice, plan = meant.choice, meant.plan
    estate = estate_of(meant.git, doors.renderer(), choice)
    graph = build(estate, installed=read_installed(options["install"]))
    target = replace(_target(doors, options), kms_proven=_kms_days(plan, doors.clock.now().date()))
    findings = judge(Subject(estate=estate, graph=graph, target=target), ignored=ignored)
    if output == "table":
        text = formats.table(findings)
    elif output == "sarif":
        text = formats.sarif(findings, RULES, where=choice.path or choice.file or ".")
    elif output == "junit":
        text = formats.junit(findings, RULES)
    else:
        text = formatted(formats.body_of(findings), output)
    write_output(text.encode())
    counts = formats.counts(findings)
    return 1 if counts["error"] or (strict and counts["warning"]) else 0


@click.command(epilog="Example: secretsops recover gap --repo https://git.example/estate.git --context prod")
@estate_options
@INSTALLED
@click.option("--context", default="", help="The living cluster: read, never written.")
@click.option("--kubeconfig", default="", help="Where it is; kubectl's rules where not given.")
@click.option("--ignore-file", default="", help="Gaps that are meant, with reasons (kind GapIgnore).")
@click.option("--all", "everything", is_flag=True, help="Show what is ignored, too.")
@click.option("-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
@click.pass_obj
def gap(doors: Doors, /, context: str, kubeconfig: str, ignore_file: str, output: str, **options: Any) -> int:
    """Say what lives in a cluster that Git would not recreate; exit code 1 on any gap that is not ignored.

    Unowned objects, Secrets made by hand, drift, fields set by hand, data of volumes, custom objects whose controller
    is not in Git; ranked by what depends on them.
    """
    import secrets

    from recovery.proof.gap import body_of, gaps, read_ignores, table
    from recovery.proof.graph import build
    from recovery.proof.living import living, masking
    from recovery.proof.subject import Subject

    ignores = read_ignores(read_input(ignore_file), source=ignore_file) if ignore_file else []
    meant = chosen(doors, options)
    estate = estate_of(meant.git, doors.renderer(), meant.choice)
    subject = Subject(estate=estate, graph=build(estate, installed=read_installed(options["install"])))
    masked = masking(secrets.token_bytes(32))
    live, unread = living(doors.cluster(ClusterTarget(kubeconfig=kubeconfig, context=context)), masked)
    found = gaps(subject, live, ignores, doors.clock.now().date(), masked=masked)
    body = {**body_of(found), "unread": unread}
    text = table(found, everything=options["everything"]) if output == "table" else formatted(body, output)
    write_output(text.encode())
    for kind in unread:
        click.echo(f"could not be read, so nothing is known of it: {kind}", err=True)
    return 1 if found.new or unread else 0


@click.command(epilog="Example: secretsops recover spof --repo https://git.example/estate.git --revision main")
@estate_options
@click.option("-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
@click.pass_obj
def spof(doors: Doors, /, output: str, **options: Any) -> int:
    """Name the smallest sets of people, things and accounts whose loss makes a rebuild impossible (sizes 1 and 2).

    From recovery.yaml and what the estate needs; exit code 1 when one loss alone is enough.
    """
    from recovery.proof.graph import build
    from recovery.proof.spof import body_of, exposure, needed_by, table
    from recovery.proof.subject import Subject

    meant = chosen(doors, options)
    plan = meant.plan
    if not plan.declared:
        raise UsageError(f"there is no {FILE}", reason="NoRecoveryPlan", hint="see recovery/proof/README.md")
    estate = estate_of(meant.git, doors.renderer(), meant.choice)
    subject = Subject(estate=estate, graph=build(estate))
    found = exposure(plan, needed_by(subject, plan))
    body = body_of(found)
    write_output((table(body) if output == "table" else formatted(body, output)).encode())
    return 1 if found.single or found.already else 0


def _kms_days(plan: RecoveryPlan, today: dt.date) -> dict[str, float]:
    """Give the days since each KMS key that the plan names last decrypted its canary."""
    return {key.name: float((today - key.proven).days) if key.proven else float("inf") for key in plan.kms}


def _target(doors: Doors, options: dict[str, Any]) -> Target:
    from recovery.proof.subject import NEWEST, Target
    from recovery.proof.target import read_target

    version = NEWEST
    if options["kube_version"]:
        major, _, minor = options["kube_version"].removeprefix("v").partition(".")
        minor = minor.partition(".")[0]
        if not major.isdigit() or not minor.isdigit():
            raise UsageError(
                f"{options['kube_version']!r} is no version of Kubernetes", reason="Usage", hint="write 1.34"
            )
        version = (int(major), int(minor))
    if not options["target"]:
        return Target(version=version, issuer=options["issuer"])
    cluster = doors.cluster(ClusterTarget(kubeconfig=options["kubeconfig"], context=options["target"]))
    found = read_target(cluster, doors.clock)
    version = version if options["kube_version"] else found.version
    return replace(found, version=version, issuer=options["issuer"] or found.issuer)


def read_installed(files: tuple[str, ...]) -> list[Manifest]:
    """Give the objects of the files that a rebuild installs first."""
    return [manifest for file in files for manifest in load_all(read_input(file), source=file)]
