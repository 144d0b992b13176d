"""`seal reencrypt`: options, progress, Git; the work is `reencryption.py`'s.

What never lives here: opening and sealing.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from secretsops.errors import Refused, UsageError
from secretsops.sealing.certificates import obtain_one
from secretsops.sealing.gathering import manifest_files
from secretsops.sealing.modes import warn
from secretsops.sealing.options import (
    access,
    certificate_options,
    certificate_wishes,
    connection,
    key_files,
    key_options,
)
from secretsops.sealing.reencryption import Outcome, Reseal, Result, by_controller, by_hints, by_keys, run

if TYPE_CHECKING:
    from secretsops.ports import Doors, WorkTree
    from secretsops.sealing.certificate import Certificate


@click.command(
    epilog="Example: seal reencrypt . --recovery-private-key keys.yaml --branch reseal --commit",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option(
    "--check",
    is_flag=True,
    help="Change nothing; exit code 1 where anything is due: proven with private keys, by the hint without.",
)
@click.option("--all", "everything", is_flag=True, help="Ask the controller about objects hinted to be current.")
@click.option("--commit", is_flag=True, help="Commit the changed files.")
@click.option("--branch", default="", metavar="NAME", help="Make a branch first; implies --commit.")
@click.option("--message", "-m", default="", help="Message of the commit.")
@click.option("--jobs", "-j", type=click.IntRange(0, 64), default=0, help="Files at once; as many as processors.")
@click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@certificate_options
@key_options
@connection
@click.pass_obj
def reencrypt(
    doors: Doors,
    /,
    *,
    paths: tuple[str, ...],
    check: bool,
    everything: bool,
    commit: bool,
    branch: str,
    message: str,
    jobs: int,
    output: str,
    **options: Any,
) -> int:
    """Seal anew, in place, what is not on the newest key.

    Whole repositories at once: items on the newest key keep their ciphertext, comments and order stay. With private
    keys nobody is asked; without, the controller does it. A run that was broken off is continued by the same call.
    """
    tree = doors.worktree(paths[0]) if commit or branch else None
    reseal, certificate = _resealer(options, doors, check=check, trust_hints=not everything)
    if tree and branch and not check:
        _refuse_dirty(tree, paths)
        tree.start_branch(branch)
    files = list(manifest_files(paths))
    results = []
    with _progress(len(files)) as advance:
        for result in run(files, reseal, write=not check, workers=jobs or os.cpu_count() or 1):
            results.append(result)
            advance()
    results.sort(key=lambda result: result.path)
    done = [result.path for result in results if result.outcome is Outcome.DONE]
    sha = ""
    if tree and done and not check:
        sha = tree.commit([_inside(tree, path) for path in done], message or _message(results, certificate))
    _report(results, certificate, output, sha=sha)
    if any(result.outcome is Outcome.FAILED for result in results):
        return 1
    return 1 if check and any(result.outcome is Outcome.DUE for result in results) else 0


def _resealer(options: dict[str, Any], doors: Doors, *, check: bool, trust_hints: bool) -> tuple[Reseal, Certificate]:
    wishes, reached, keys = certificate_wishes(options), access(options), key_files(options)
    if keys:
        from secretsops.sealing.offline import key_ring, newest_certificate

        ring = key_ring(keys)
        if wishes.sources:
            certificate = obtain_one(wishes, reached, doors, warn)
        else:
            certificate = newest_certificate(ring, doors.clock.now())
        return by_keys(ring, certificate), certificate
    if check:
        certificate = obtain_one(wishes, reached, doors, warn)
        return by_hints(certificate.fingerprint), certificate
    if wishes.sources:
        raise UsageError(
            "--cert alone opens nothing",
            reason="KeysMissing",
            hint="add --recovery-private-key FILE, or drop --cert and let the controller do it",
        )
    from secretsops.sealing.service import Controller

    controller = Controller(reached, doors)
    certificate = controller.certificate()
    return by_controller(controller.rotate, certificate.fingerprint, trust_hints=trust_hints), certificate


def _refuse_dirty(tree: WorkTree, paths: Sequence[str]) -> None:
    """Refuse to carry a person's own changes of these files over into the commit."""
    changed = tree.changed_since("HEAD")
    if dirty := [path for path in manifest_files(paths) if _inside(tree, path) in changed]:
        raise Refused(
            f"{dirty[0]} has changes that are not committed", reason="Uncommitted", hint="commit or stash them first"
        )


def _inside(tree: WorkTree, path: str) -> str:
    return os.path.relpath(os.path.realpath(path), os.path.realpath(tree.root))


def _message(results: Sequence[Result], certificate: Certificate) -> str:
    items = sum(result.items for result in results if result.outcome is Outcome.DONE)
    files = sum(1 for result in results if result.outcome is Outcome.DONE)
    return f"Seal {items} items in {files} files anew with {certificate.fingerprint}"


def _report(results: Sequence[Result], certificate: Certificate, output: str, *, sha: str) -> None:
    if output == "json":
        body = {
            "fingerprint": certificate.fingerprint,
            "commit": sha,
            "files": [
                {
                    "path": result.path,
                    "outcome": result.outcome.value,
                    "items": result.items,
                    "problems": list(result.problems),
                }
                for result in results
            ],
        }
        click.echo(json.dumps(body, indent=2))
        return
    for result in results:
        if result.outcome is not Outcome.CURRENT:
            click.echo(f"{result.outcome.value:8} {result.path}  {result.items} items")
        for problem in result.problems:
            click.echo(f"         {problem}")
    counted = [f"{sum(1 for one in results if one.outcome is kind)} {kind.value}" for kind in Outcome]
    tail = f"; commit {sha[:12]}" if sha else ""
    click.echo(f"{', '.join(counted)}; newest key {certificate.fingerprint}{tail}")


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    with click.progressbar(length=total, label="files", file=sys.stderr) as bar:
        yield lambda: bar.update(1)
