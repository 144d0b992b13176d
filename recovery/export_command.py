"""`secretsops recover export` and `import`: what Git legitimately lacks, encrypted, and back.

Never here: which objects (`export.py`), how they are brought in (`importing.py`).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from recovery import export as exports
from recovery.export import Export
from recovery.importing import Imported, bring
from recovery.options import chosen, estate_options, formatted
from recovery.proof.cli import INSTALLED, read_installed
from recovery.roots import estate_of
from secretsops.errors import BrokenEscrow, Refused, UsageError
from secretsops.escrow import canonical
from secretsops.escrow import options as escrow_options
from secretsops.files import read_input, write_output
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Cluster, ClusterTarget, Doors, Sink

if TYPE_CHECKING:
    from secretsops.escrow.trust import Trust

_TARGET = (
    click.option("--context", default="", help="Context of the kubeconfig."),
    click.option("--kubeconfig", default="", help="The cluster; kubectl's rules where not given."),
)
_NAME = re.compile(r"export-\d{8}\.json")


@click.command(
    "export", epilog="Example: secretsops recover export --context prod --recipient age1... --to s3://escrow/exports"
)
@estate_options
@INSTALLED
@_TARGET[0]
@_TARGET[1]
@click.option("--to", "places", multiple=True, required=True, help="Folder or URL of a sink; repeat for several.")
@click.option("--recipient", "recipients", multiple=True, required=True, help="age1… who can open it.")
@click.option("--signer", default="", help="Private key that signs it (ed25519).")
@click.option("--ignore-file", default="", help="Gaps that are meant, as for `recover gap`: they stay behind.")
@click.option("--trial", is_flag=True, help="First bring it into a disposable cluster; leave nothing where it fails.")
@click.pass_obj
def export(doors: Doors, /, places: Sequence[str], recipients: Sequence[str], signer: str, **options: Any) -> int:
    """Write what a cluster holds and Git legitimately lacks, encrypted to age recipients; reads the cluster alone.

    All of Argo CD's own state, without status; with --repo also Secrets made by hand and objects that nobody in Git
    makes. Exit code 1 where a kind could not be read, or the trial failed.
    """
    cluster = doors.cluster(ClusterTarget(kubeconfig=options["kubeconfig"], context=options["context"]))
    found, unread = _lacking(doors, cluster, options)
    content, keys = exports.pack(found)
    if not keys:
        raise Refused("there is nothing to export", reason="NothingToExport", hint="give --repo to compare with Git")
    if options["trial"]:
        with doors.disposable_cluster() as trial:
            _refuse_failed(bring(trial, [exports.cleaned(one) for one in found], doors.clock), found)
    sealed = doors.age().encrypt(content, list(recipients))
    sinks = [doors.sink(place) for place in places]
    known = _chain(sinks)
    number = len(known) + 1
    digest = canonical.digest(sealed)
    made = Export(
        number=number,
        previous=canonical.digest(known[-1].text()) if known else "",
        created=doors.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        cluster=cluster.get(GroupVersionKind("", "v1", "Namespace"), "kube-system").uid,
        file=f"{exports.PREFIX}{number:08d}-{digest[:16]}.age",
        sha256=digest,
        size=len(sealed),
        recipients=tuple(sorted(recipients)),
        objects=tuple(keys),
    ).signed_with(_signers(signer))
    for sink in sinks:  # the file first: a document without its file would be a promise that nobody can keep
        for one in known:
            _level(sink, one, sinks)
        sink.put(made.file, sealed)
        if sink.get(made.file) != sealed:
            raise BrokenEscrow(f"{sink.name} gives back other bytes than were written", reason="NotDurable")
        sink.put(made.name, made.text())
    for kind in unread:
        click.echo(f"could not be read, so nothing of it is in there: {kind}", err=True)
    write_output(f"export {number}: {len(keys)} object(s), sha256:{digest}, in {len(sinks)} place(s)\n".encode())
    return 1 if unread else 0


def _lacking(doors: Doors, cluster: Cluster, options: dict[str, Any]) -> tuple[list[Manifest], list[str]]:
    """Give the objects that go out, and the kinds that could not be read."""
    from recovery.proof.gap import Category, gaps, read_ignores
    from recovery.proof.graph import build
    from recovery.proof.living import living, masking
    from recovery.proof.subject import Subject

    live, unread = living(cluster, lambda manifest: manifest)
    wanted = {str(manifest.key) for manifest in live if exports.is_of_argo(manifest)}
    if options["repo"] or options["file"]:
        file = options["ignore_file"]
        ignores = read_ignores(read_input(file), source=file) if file else []
        meant = chosen(doors, options)
        estate = estate_of(meant.git, doors.renderer(), meant.choice)
        subject = Subject(estate=estate, graph=build(estate, installed=read_installed(options["install"])))
        masked, today = masking(secrets.token_bytes(32)), doors.clock.now().date()
        found = gaps(subject, [masked(manifest) for manifest in live], ignores, today, masked=masked)
        kinds = (Category.HAND_MADE_SECRET, Category.UNOWNED, Category.CONTROLLER_MISSING)
        wanted |= {gap.object for gap in found.new if gap.category in kinds}
    return [one for one in live if str(one.key) in wanted and exports.is_portable(one)], unread


def _signers(file: str) -> list[Any]:
    if not file:
        return []
    from secretsops.escrow.identity import read_identities
    from secretsops.escrow.signing import read_signer

    return [read_signer(read_identities([file])[0])]


def _chain(sinks: Sequence[Sink]) -> list[Export]:
    """Give the exports that the places hold; a place that lags is fine, one that contradicts is not."""
    chains = []
    for sink in sinks:
        names = [name for name in sink.names(exports.PREFIX) if _NAME.fullmatch(name)]
        chains.append(exports.read_exports({name: sink.get(name) for name in names}))
    longest = max(chains, key=len)
    for chain in chains:
        if [one.text() for one in chain] != [one.text() for one in longest[: len(chain)]]:
            raise BrokenEscrow("two places hold exports that contradict each other", reason="Fork")
    return longest


def _level(sink: Sink, one: Export, sinks: Sequence[Sink]) -> None:
    """Give a place an older export that it lacks."""
    if one.name in sink.names(exports.PREFIX):
        return
    source = next(each for each in sinks if one.name in each.names(exports.PREFIX))
    sink.put(one.file, source.get(one.file))
    sink.put(one.name, one.text())


def _refuse_failed(result: Imported, found: Sequence[Manifest]) -> None:
    if not result.ok:
        worst = next(iter(result.refused.items()), ("", ""))
        raise Refused(
            f"the trial import failed: {len(result.refused)} of {len(found)} object(s) refused"
            f" ({worst[0]}: {worst[1]}), {len(result.other)} came out otherwise",
            reason="TrialFailed",
            hint="nothing was written; leave what is refused out by --ignore-file",
        )


@click.command(
    "import",
    epilog="Example: secretsops recover import --from s3://escrow/exports --identity key.txt --context new",
)
@click.option("--from", "places", multiple=True, required=True, help="Folder or URL of a sink; repeat for several.")
@click.option("--identity", "identities", multiple=True, required=True, help="age identity file that opens it.")
@click.option("--number", default=0, help="Which export.  [default: the newest]")
@click.option("--trust", default="", help="sha256:… of the trust root: it must be signed by a signer of bundles.")
@click.option("--trust-file", default="", help="trust.json.")
@click.option("--trial", is_flag=True, help="Bring it into a disposable cluster and compare; no cluster is touched.")
@_TARGET[0]
@_TARGET[1]
@click.option("-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
@click.pass_obj
def bring_in(doors: Doors, /, places: Sequence[str], number: int, output: str, **options: Any) -> int:
    """Bring an export into a cluster: create what is not there, overwrite nothing; called again it goes on.

    Exit code 1 where something else stands under a name, or an object is refused.
    """
    sinks = [doors.sink(place) for place in places]
    known = _chain(sinks)
    if not 1 <= (number or len(known)) <= len(known):
        raise UsageError(f"the places hold {len(known)} export(s)", reason="NoExport", hint="secretsops recover export")
    chosen_one = known[(number or len(known)) - 1]
    if options["trust"]:
        from secretsops.escrow.trust import Role

        if not _trust(options).allows(chosen_one.signed_by, Role.BUNDLES):
            raise BrokenEscrow("the export is signed by nobody who may sign bundles", reason="Untrusted")
    source = next(sink for sink in sinks if chosen_one.file in sink.names(exports.PREFIX))
    sealed = source.get(chosen_one.file)
    if (canonical.digest(sealed), len(sealed)) != (chosen_one.sha256, chosen_one.size):
        raise BrokenEscrow(f"{chosen_one.file} is not what was written", reason="Damaged", hint="take another copy")
    opened = doors.age().decrypt(sealed, escrow_options.the_identities(doors, options["identities"]))
    found = exports.unpack(opened, chosen_one)
    if options["trial"]:
        with doors.disposable_cluster() as trial:
            result = bring(trial, found, doors.clock)
            again = bring(trial, found, doors.clock)
        result = result if again.ok and not again.made else again
    else:
        target = ClusterTarget(kubeconfig=options["kubeconfig"], context=options["context"])
        result = bring(doors.cluster(target), found, doors.clock)
    body = {"export": chosen_one.number, "created": chosen_one.created, **result.body()}
    write_output((_table(result, chosen_one) if output == "table" else formatted(body, output)).encode())
    return 0 if result.ok else 1


def _trust(options: dict[str, Any]) -> Trust:
    from secretsops.escrow.trust import read_trust

    if not options["trust_file"]:
        raise UsageError("--trust needs --trust-file", reason="NoTrust")
    return read_trust(read_input(options["trust_file"]), options["trust"])


def _table(result: Imported, one: Export) -> str:
    lines = [f"made {key}" for key in result.made]
    lines += [f"another stands there: {key}" for key in result.other]
    lines += [f"refused: {key} ({reason})" for key, reason in result.refused.items()]
    lines += [f"not served here, its definition comes from Git: {key}" for key in result.unserved]
    lines.append(f"export {one.number} of {one.created}: {len(result.made)} made, {len(result.same)} were there")
    return "\n".join(lines) + "\n"
