"""`secretsops drill schedule`: print what runs drills on a schedule. Prints; applies nothing.

Never here: what the manifests hold (`evidence/manifests.py`).
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import click

from drills.evidence import options as opts
from drills.evidence.history import SCHEDULES, cron
from drills.evidence.manifests import Timetable, crontab, manifests
from drills.evidence.metrics import alert_rules
from drills.evidence.statement import read_key
from secretsops import __version__
from secretsops.errors import UsageError
from secretsops.files import write_output
from secretsops.manifest import dump

WITHIN = 1.5
"""A drill is missed when none ended for that many times the longest pause of its schedule."""


@click.command(
    epilog="Example: secretsops drill schedule cluster-lost --cron '0 3 * * 1' --evidence s3://evidence/drills"
)
@click.argument("scenarios", nargs=-1, required=True)
@click.option("--cron", "when", required=True, help="Five fields in UTC, or weekly, monthly, quarterly …")
@click.option("--countersign", default="30 * * * *", show_default=True, help="When the other identity countersigns.")
@click.option("--namespace", default="secretsops-drills", show_default=True, help="Where they run.")
@click.option("--image", default=f"secretsops/controller:{__version__}", show_default=True, help="Image of secretsops.")
@click.option("--deadline", default="1h", show_default=True, help="When one run must have ended.")
@click.option(
    "--cluster",
    "kind",
    type=click.Choice(["auto", "real", "embedded"]),
    default="auto",
    show_default=True,
    help="Kind of cluster to rehearse on; on the embedded one no drill ever passes.",
)
@click.option("--key", "keys", multiple=True, help="Public key of the runner; the countersigner takes no other's.")
@click.option("--notify", is_flag=True, help="Post summaries: SECRETSOPS_DRILL_WEBHOOK in the environment Secret.")
@click.option("--push", is_flag=True, help="Push metrics: SECRETSOPS_DRILL_PUSH in the environment Secret.")
@click.option(
    "--alerts",
    type=click.Choice(["none", "operator", "file"]),
    default="none",
    show_default=True,
    help="Also print alert rules as a PrometheusRule; `file` prints a rule file for Prometheus and nothing else.",
)
@click.option("--as", "form", type=click.Choice(["cronjobs", "crontab"]), default="cronjobs", show_default=True)
@opts.places()
@click.option("-o", "output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def schedule(**options: Any) -> None:
    """Print CronJobs that run scenarios, their read-only rights, and a countersigner; or lines for cron.

    Two Secrets are yours to make, each with signer.key: secretsops-drill-signer and
    secretsops-drill-countersigner-signer. Optional ones named secretsops-drill-environment and
    secretsops-drill-countersigner-environment become environment: credentials of the places, a webhook.
    """
    when = SCHEDULES.get(options["when"], options["when"])
    ticks, _ = cron(when), cron(options["countersign"])
    deadline = round(opts.seconds(options["deadline"], "--deadline"))
    if not 60 <= deadline <= 24 * 3600:
        raise UsageError("--deadline is a minute to a day", reason="BadDeadline", hint="--deadline 1h")
    for name in options["scenarios"]:
        if not resources.files("drills").joinpath("scenarios", f"{name}.yaml").is_file():
            raise UsageError(f"there is no scenario '{name[:60]}'", reason="NoScenario", hint="secretsops drill list")
    for place in options["places"]:
        if options["form"] == "cronjobs" and "://" not in place:
            raise UsageError(
                f"{place} is a folder: a Pod's folder is gone with the Pod",
                reason="BadPlace",
                hint="s3://, git+https://",
            )
    table = Timetable(
        scenarios=options["scenarios"],
        schedule=when,
        countersign=SCHEDULES.get(options["countersign"], options["countersign"]),
        namespace=options["namespace"],
        image=options["image"],
        places=options["places"],
        retention_days=options["retention_days"],
        deadline=deadline,
        kind=options["kind"],
        keys=[read_key(key) for key in options["keys"]],
        push=options["push"],
        notify=options["notify"],
    )
    rules = alert_rules(namespace=table.namespace, within=_longest(ticks), threshold=opts.THRESHOLD)
    if options["alerts"] == "file":
        bodies: list[dict[str, Any]] = [rules["spec"]]
    elif options["form"] == "crontab":
        write_output(crontab(table).encode())
        return
    else:
        bodies = manifests(table) + ([rules] if options["alerts"] == "operator" else [])
    if options["output"] == "json":
        listed = bodies[0] if options["alerts"] == "file" else {"apiVersion": "v1", "kind": "List", "items": bodies}
        write_output((json.dumps(listed, indent=2) + "\n").encode())
    else:
        write_output("---\n".join(dump(body) for body in bodies).encode())


def _longest(ticks: Any) -> int:
    """Give after how many seconds without a run one was missed: from the longest pause of the next ticks."""
    import datetime as dt
    import itertools

    times = list(itertools.islice(ticks(dt.datetime(2026, 1, 1, tzinfo=dt.UTC)), 60))
    pauses = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(times)]
    return round(WITHIN * max(pauses, default=86_400.0))
