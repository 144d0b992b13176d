"""`secretsops recover verify`: options of the proof, and what it rests on in each mode.

Never here: rules. See `verify.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recovery.options import chosen, estate_options, formatted
from recovery.proof.cli import INSTALLED, read_installed
from recovery.roots import Choice, estate_of
from secretsops import __version__
from secretsops.errors import Refused, UsageError
from secretsops.escrow import options as escrow_options
from secretsops.files import read_input, write_output
from secretsops.ports import Doors

if TYPE_CHECKING:
    from recovery.proof.evidence import Escrowed, Opener
    from recovery.proof.verdicts import Verdicts
    from recovery.proof.verify import Proof
    from recovery.recovery_plan import RecoveryPlan
    from secretsops.manifest import Manifest

MODES = ("attested", "live", "escrow")
_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


@click.command(
    epilog="Example: secretsops recover verify --repo https://git.example/estate.git --revision main --from s3://escrow"
)
@estate_options
@INSTALLED
@click.option("--attested", "mode", flag_value="attested", default="attested", help="Hold no key (default).")
@click.option("--live", "mode", flag_value="live", help="Ask the running controller about what is not known yet.")
@click.option("--escrow", "mode", flag_value="escrow", help="Open everything with a real identity (attended).")
@escrow_options.where("--from")
@escrow_options.opening()
@escrow_options.cluster()
@click.option("--controller-namespace", default="kube-system", show_default=True, help="Where the controller is.")
@click.option("--controller-name", default="sealed-secrets-controller", show_default=True, help="Its Service.")
@click.option("--cache", "cache", default="", help="Folder of verdicts.  [default: the user's cache]")
@click.option("--no-cache", is_flag=True, help="Neither use nor keep verdicts.")
@click.option("--in-ci", "reason", default="", help="Allow --escrow in CI, for this reason; it becomes a finding.")
@click.option("--all", "everything", is_flag=True, help="Show the whole matrix, not the holes alone.")
@click.option("-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
@click.pass_obj
def verify(doors: Doors, /, mode: str, output: str, **options: Any) -> int:
    """Prove that Git and the escrow would give back every Secret the estate needs; exit code 1 on any hole.

    Each Secret that an object needs must have a producer that comes back; so must each store's own credential and those
    of repositories and clusters. Unknown is a hole.
    """
    from recovery.proof.verdicts import Verdicts, cache_folder
    from recovery.proof.verify import table

    findings = _refuse_unattended(options["reason"]) if mode == "escrow" else []
    folder = None if options["no_cache"] else Path(options["cache"]) if options["cache"] else cache_folder(os.environ)
    verdicts = Verdicts(folder, os.environ)
    if verdicts.distrusted:
        findings.append("the kept verdicts were not ours, and none of them was used")
    body = _prove(doors, mode, options, verdicts, findings)
    verdicts.save()
    write_output(
        (table(body, everything=options["everything"]) if output == "table" else formatted(body, output)).encode()
    )
    return 0 if body["verdict"] == "recoverable" else 1


def _refuse_unattended(reason: str) -> list[str]:
    """Refuse to hold a real identity where nobody attends (SECURITY.md §7)."""
    where = "CI is set" if os.environ.get("CI") else "a service account's token is mounted" if _TOKEN.exists() else ""
    if not where:
        return []
    if not reason:
        raise Refused(
            f"{where}: no service may hold an identity that opens the escrow",
            reason="Unattended",
            hint="use --attested there; --in-ci REASON overrides it, and the report says so",
        )
    return [f"a real identity was used where {where}: {reason}"]


def _prove(
    doors: Doors, mode: str, options: Mapping[str, Any], verdicts: Verdicts, findings: list[str]
) -> dict[str, Any]:
    """Give the report; an attested one of the very same commits, escrow and plan is taken from the cache."""
    from recovery.proof.graph import build
    from recovery.proof.subject import Subject
    from recovery.proof.verify import verify as judge

    meant, now = chosen(doors, options), doors.clock.now()
    git, choice, text, plan = meant.git, meant.choice, meant.text, meant.plan
    escrow, escrowed = _escrow(doors, options)
    installed = read_installed(options["install"])
    inputs = _inputs(choice, text, escrowed, installed)
    if mode == "attested" and not choice.file and not choice.pins:
        kept = verdicts.report_of(inputs, git.resolve)
        if kept is not None:
            return {**kept, "findings": [*findings, *kept["findings"]]}
    opener = None
    if mode == "escrow":
        from recovery.proof.escrowed import opener_of

        if escrow is None:
            raise UsageError("--escrow needs --from or --config", reason="Usage", hint="name the escrow's sinks")
        opener = opener_of(escrow, escrow_options.the_opening(options, doors))
    elif mode == "live":
        opener = _asking_controller(doors, options)
    estate = estate_of(git, doors.renderer(), choice)
    subject = Subject(estate=estate, graph=build(estate, installed=installed))
    proof = _proof(mode, escrowed, plan, verdicts, opener, now.strftime("%Y-%m-%dT%H:%M:%SZ"))
    report = judge(subject, proof, now)
    if mode == "attested" and not choice.pins:
        verdicts.keep_report(inputs, estate.pins, report.body())
    body = report.body()
    return {**body, "findings": [*findings, *body["findings"]]}


def _proof(
    mode: str, escrowed: Escrowed, plan: RecoveryPlan, verdicts: Verdicts, opener: Opener | None, at: str
) -> Proof:
    from recovery.proof.evidence import Mode
    from recovery.proof.verify import Proof

    return Proof(
        mode=Mode(mode),
        escrowed=escrowed,
        plan=plan,
        # An exercise with a real identity opens everything again: what was kept proves nothing new.
        known=(lambda _: "") if mode == "escrow" else verdicts.key_of,
        state=lambda statement, key, how: verdicts.state(statement, key=key, how=how, at=at),
        opener=opener,
    )


def _escrow(doors: Doors, options: Mapping[str, Any]) -> tuple[Any, Escrowed]:
    from recovery.proof.escrowed import read_escrow
    from recovery.proof.evidence import Escrowed

    if not options["places"] and not options["config"]:
        return None, Escrowed()
    escrow = escrow_options.the_escrow(doors, options)
    return escrow, read_escrow(escrow, doors.clock.now())


def read_escrowed(doors: Doors, options: Mapping[str, Any]) -> Escrowed | None:
    """Give what the escrow holds, None where none is named."""
    escrow, escrowed = _escrow(doors, options)
    return escrowed if escrow is not None else None


def _inputs(choice: Choice, plan: bytes, escrowed: Escrowed, installed: list[Manifest]) -> str:
    parts = [
        __version__,
        [choice.repo, choice.revision, choice.path, read_input(choice.signers).decode() if choice.signers else ""],
        hashlib.sha256(plan).hexdigest(),
        [sorted(escrowed.keys.items()), escrowed.epoch, escrowed.created, escrowed.unproven, escrowed.attested_at],
        [manifest.body for manifest in installed if manifest.kind.kind != "Secret"],
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _asking_controller(doors: Doors, options: Mapping[str, Any]) -> Opener:
    """Give what asks the running controller whether it opens a SealedSecret; which key did it does not tell."""
    from secretsops.sealing.options import Access
    from secretsops.sealing.service import Controller

    access = Access(
        controller_namespace=options["controller_namespace"],
        controller_name=options["controller_name"],
        kubeconfig=options["kubeconfig"],
        context=options["context"],
    )
    controller = Controller(access, doors)

    def ask(sealed: Manifest) -> Mapping[str, str]:
        try:
            controller.verify(sealed)
        except Refused:
            return {}
        return dict.fromkeys(sealed.spec.get("encryptedData") or {}, "")

    return ask
