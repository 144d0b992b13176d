"""`seal lint`: options and output; the rules are `lint.py`'s.

What never lives here: rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from secretsops.errors import BrokenEscrow, UsageError
from secretsops.files import read_input, write_output
from secretsops.sealing.findings import FORMATS, fails, rendered
from secretsops.sealing.options import key_files, key_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from secretsops.escrow.attestation import Statement
    from secretsops.ports import Doors

SIZE_LIMIT = 4 * 1024 * 1024
"""Bytes of one document of the controller."""


@click.command(
    epilog="Example: seal lint . --changed-since origin/main -o sarif",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.argument("paths", metavar="PATH...", nargs=-1)
@click.option("--revision", default="", metavar="REV", help="Judge the files of a Git revision, not those on disk.")
@click.option("--changed-since", default="", metavar="REV", help="Only what differs from a Git revision.")
@click.option("--ignore", multiple=True, metavar="RULE", help="Leave findings of a rule out; repeatable.")
@click.option(
    "-o", "output", type=click.Choice(FORMATS), default="table", show_default=True, help="Form of the report."
)
@click.option("--attested", "documents", multiple=True, help="Document of the controller (attested-*.json of a sink).")
@click.option("--trust", default="", help="sha256:… of the trust root, from the custody card: who may attest.")
@click.option("--trust-file", default="", help="trust.json.")
@key_options
@click.pass_obj
def lint(
    doors: Doors,
    /,
    *,
    paths: tuple[str, ...],
    revision: str,
    changed_since: str,
    ignore: tuple[str, ...],
    output: str,
    documents: tuple[str, ...],
    trust: str,
    trust_file: str,
    **options: Any,
) -> int:
    """Find SealedSecrets that will not open, and say why.

    Files, folders (the present one when none is named) or a Git revision are judged offline. With private keys every
    item is opened, and what does not open is told apart: namespace, name, scope, key, damage. Without keys what the
    controller attested tells what opens. Exit code 1 on findings.
    """
    from secretsops.sealing.gathering import sources
    from secretsops.sealing.keys import KeyRing
    from secretsops.sealing.lint import lint as judged
    from secretsops.sealing.offline import key_ring

    files = key_files(options)
    ring = key_ring(files) if files else KeyRing()
    found = sources(paths or (".",), doors, revision=revision, changed_since=changed_since)
    attested = _attested(doors, documents, trust, trust_file) if documents else None
    findings, counts = judged(found, ring, attested)
    findings = [finding for finding in findings if finding.rule not in ignore]
    write_output(rendered(findings, counts, output).encode())
    return 1 if fails(findings) else 0


def _attested(doors: Doors, documents: tuple[str, ...], trust: str, trust_file: str) -> Mapping[str, Statement]:
    """Give what the newest of these documents says that counts.

    Raises:
        UsageError: no trust root is named. BrokenEscrow: it does not hold, or no document counts.
    """
    from secretsops.escrow.attestation import standing
    from secretsops.escrow.trust import read_trust

    if not trust or not trust_file:
        raise UsageError(
            "who may attest?", reason="Usage", hint="give --trust sha256:… from the custody card, and --trust-file"
        )
    contents = [read_input(name, limit=SIZE_LIMIT) for name in documents]
    root = read_trust(read_input(trust_file), trust)
    found = standing(contents, cluster="", incarnation="", trust=root, now=doors.clock.now())
    if not found.made:
        raise BrokenEscrow(
            f"nothing is attested: {found.problem}", reason="NotAttested", hint="take the newest from the sinks"
        )
    return found.statements
