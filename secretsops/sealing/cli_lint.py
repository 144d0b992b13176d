"""`seal lint`: options and output; the rules are `lint.py`'s.

What never lives here: rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from secretsops.files import write_output
from secretsops.sealing.findings import FORMATS, fails, rendered
from secretsops.sealing.options import key_files, key_options

if TYPE_CHECKING:
    from secretsops.ports import Doors


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
    **options: Any,
) -> int:
    """Find SealedSecrets that will not open, and say why.

    Files, folders (the present one when none is named) or a Git revision are judged offline. With private keys every
    item is opened, and what does not open is told apart: namespace, name, scope, key, damage. Exit code 1 on findings.
    """
    from secretsops.sealing.gathering import sources
    from secretsops.sealing.keys import KeyRing
    from secretsops.sealing.lint import lint as judged
    from secretsops.sealing.offline import key_ring

    files = key_files(options)
    ring = key_ring(files) if files else KeyRing()
    found = sources(paths or (".",), doors, revision=revision, changed_since=changed_since)
    findings, counts = judged(found, ring)
    findings = [finding for finding in findings if finding.rule not in ignore]
    write_output(rendered(findings, counts, output).encode())
    return 1 if fails(findings) else 0
