"""`secretsops recover kit`: gather a kit, prove one, and what a run reads from one instead of the network.

Never here: what a kit is (`kit.py`), how it lies on a disk (`kit_files.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recovery import kit as kits
from recovery.kit import Kit, KitRepos, Packed
from recovery.kit_files import listed, opened, write
from recovery.mirrors import Mirrored
from recovery.options import Chosen, chosen, estate_options, formatted, read_points
from recovery.points import RecoveryPoint, as_of, read_point
from recovery.proof.point_command import made
from recovery.roots import estate_of
from secretsops import __version__
from secretsops.command_group import CommandGroup
from secretsops.errors import Refused, SyncRefused, UsageError
from secretsops.files import read_input, write_output
from secretsops.manifest import load_all
from secretsops.ports import Doors, GitRepos, SourceFile

if TYPE_CHECKING:
    from secretsops.escrow.trust import Trust

_CHART = "helm+"
WHEEL_LIMIT = 512 * 1024 * 1024


@click.group(cls=CommandGroup, epilog="Example: secretsops recover kit verify kit.tar --trust sha256:...")
def kit() -> None:
    """Keep everything a rebuild needs in one signed file, for a day without a network."""


@kit.command(
    "write",
    epilog="Example: secretsops recover kit write --repo https://git.example/estate.git --install install.yaml "
    "--escrow /mnt/escrow --signer signer.key --trust sha256:... --to kit.tar",
)
@estate_options
@click.option("--to", "target", required=True, type=click.Path(), help="The kit: a folder, or an archive NAME.tar.")
@click.option("--install", "install", multiple=True, help="Manifests that the rebuild applies first.")
@click.option("--escrow", "places", multiple=True, help="Sink whose escrow goes in, encrypted as it is.")
@click.option("--signer", default="", help="Private key that signs the kit (role recovery-points).")
@click.option("--trust", default="", help="sha256:… of the trust root, from the custody card.")
@click.option("--trust-file", default="", help="trust.json; by default the newest that the sinks hold.")
@click.option("--lock", default="", help="requirements.lock of the tool: names, versions, digests.")
@click.option("--wheels", default="", type=click.Path(file_okay=False), help="Folder of wheels, as `pip download`.")
@click.pass_obj
def write_kit(doors: Doors, /, target: str, **options: Any) -> int:
    """Gather repositories, charts, recovery point, escrow, trust root, controllers and the tool into one kit.

    From the newest recovery point of --points (or that of --as-of) the same kit comes byte by byte. Prints its digest.
    """
    meant = chosen(doors, options)
    estate = estate_of(meant.git, doors.renderer(), meant.choice)
    if estate.problems:
        raise SyncRefused(f"{len(estate.problems)} problem(s) in Git: {estate.problems[0]}", reason="PlanHasProblems")
    point = as_of(read_points(options["points"]), options["as_of"]) if options["points"] else None
    point = point or made(doors, estate, meant, None)
    if unknown := sorted(set(estate.pins) - set(point.pins)):
        raise UsageError(f"the recovery point does not pin {unknown[0]}", reason="OtherEstate", hint="write a new one")
    files: dict[str, bytes] = {kits.POINT: point.text()}
    sources = _sources(doors, meant, point, files)
    if meant.text:
        files[kits.PLAN] = meant.text
    _add_install(options["install"], files)
    _add_escrow(doors, options, files)
    _add_tool(point, options, files)
    wheels = [path for path in files if path.startswith(f"{kits.TOOL}wheels/")]
    bare = Kit(
        created=point.created,
        repo=point.repo,
        revision=point.revision,
        path=point.path,
        plan=estate.digest,
        trust=options["trust"],
        sources=sources,
    )
    charts = sum(one.url.startswith(_CHART) for one in sources)
    files[kits.RUNBOOK] = kits.runbook(bare, pins=point.pins, charts=charts, wheels=wheels)
    whole = replace(bare, files=listed(files))
    write(Path(target), _signed(whole, options, files), files)
    size = sum(map(len, files.values()))
    write_output(f"{target}: {len(files)} files, {size} bytes, {whole.digest}\n".encode())
    return 0


def _sources(doors: Doors, meant: Chosen, point: RecoveryPoint, files: dict[str, bytes]) -> tuple[Packed, ...]:
    """Pack every source that the point pins, submodules included; each is read where it can be had."""
    door = doors.source_files()
    where = meant.plain if isinstance(meant.plain, Mirrored) else Mirrored(meant.plain, ())
    wanted: dict[str, set[str]] = {}
    for place, commit in sorted(point.pins.items()):
        url = place.rpartition("@")[0]
        places = where.first(url, partial(door.places, commit=commit))
        # What was read at a mirror goes by its own name.
        for source, sha in [(url, commit), *places[1:]]:
            wanted.setdefault(source, set()).add(sha)
    found = []
    for url, commits in sorted(wanted.items()):
        lots = [[one] for one in sorted(commits)] if url.startswith(_CHART) else [sorted(commits)]
        for lot in lots:
            path = _file_of(url, lot)
            files[path] = where.first(url, partial(door.pack, commits=lot))
            found.append(Packed(url=url, file=path, commits=tuple(lot)))
    return tuple(found)


def _file_of(url: str, commits: Sequence[str]) -> str:
    digest = hashlib.sha256(f"{url} {' '.join(commits)}".encode()).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9]+", "-", re.split(r"[/#:]", url.rstrip("/").removesuffix(".git"))[-1]).strip("-")[:60]
    chart = url.startswith(_CHART)
    return f"{'charts' if chart else 'git'}/{name or 'source'}-{digest}.{'tgz' if chart else 'bundle'}"


def _add_install(named: Sequence[str], files: dict[str, bytes]) -> None:
    for number, file in enumerate(named):
        content = read_input(file)
        plain = [m for m in load_all(content, source=file) if m.kind.kind == "Secret" and not m.kind.group]
        if any(manifest.body.get("data") or manifest.body.get("stringData") for manifest in plain):
            raise Refused(
                f"{file} holds a Secret in the clear", reason="PlaintextSecret", hint="seal it, or leave it out"
            )
        files[f"{kits.INSTALL}{number:02d}-{re.sub('[^A-Za-z0-9._-]', '-', Path(file).name).lstrip('.-')}"] = content


def _add_escrow(doors: Doors, options: Mapping[str, Any], files: dict[str, bytes]) -> None:
    """Copy what the sinks hold, once it is proven whole; canaries stay behind."""
    if options["trust_file"]:
        files[kits.TRUST] = read_input(options["trust_file"])
    if not options["places"]:
        return
    from secretsops.escrow.backup import verify
    from secretsops.escrow.options import the_escrow

    escrow = the_escrow(doors, {**options, "signer": "", "config": "", "cluster_name": "", "quorum": 0})
    verify(escrow, now=doors.clock.now())
    for place in escrow.places:
        for name in place.reader.names():
            content, path = (b"" if name.startswith("canary-") else place.reader.get(name)), f"{kits.ESCROW}{name}"
            if name.startswith("canary-"):
                continue
            if files.setdefault(path, content) != content:
                raise Refused(f"two sinks hold another {name}", reason="Fork", hint="secretsops escrow verify")
    roots = sorted(path for path in files if path.startswith(f"{kits.ESCROW}trust-"))
    if roots and kits.TRUST not in files:
        files[kits.TRUST] = files[roots[-1]]


def _add_tool(point: RecoveryPoint, options: Mapping[str, Any], files: dict[str, bytes]) -> None:
    """Add what made the kit: versions, the lock file, and wheels, each of which the lock file must name."""
    versions = {**point.tools, "secretsops": __version__}
    files[f"{kits.TOOL}versions.json"] = json.dumps(versions, indent=1, sort_keys=True).encode() + b"\n"
    lock = read_input(options["lock"]) if options["lock"] else b""
    if lock:
        files[f"{kits.TOOL}requirements.lock"] = lock
    for wheel in sorted(Path(options["wheels"]).glob("*.whl")) if options["wheels"] else ():
        content = read_input(str(wheel), limit=WHEEL_LIMIT)
        own = wheel.name.startswith("secretsops-")
        if lock and not own and f"sha256:{hashlib.sha256(content).hexdigest()}".encode() not in lock:
            raise Refused(f"{wheel.name} is not in the lock file", reason="UnknownWheel", hint="download it anew")
        files[f"{kits.TOOL}wheels/{wheel.name}"] = content


def _signed(kit: Kit, options: Mapping[str, Any], files: Mapping[str, bytes]) -> Kit:
    if not options["signer"]:
        click.echo("note: the kit is not signed: accidents are seen, a liar is not; write its digest down", err=True)
        return kit
    from secretsops.escrow.identity import read_identities
    from secretsops.escrow.signing import read_signer
    from secretsops.escrow.trust import Role, read_trust

    if not options["trust"] or kits.TRUST not in files:
        raise UsageError("--signer needs --trust and a trust root", reason="NoTrust", hint="give --trust-file")
    signer = read_signer(read_identities([options["signer"]])[0])
    if not read_trust(files[kits.TRUST], options["trust"]).allows([signer.public], Role.RECOVERY_POINTS):
        raise Refused(
            "the signer may not sign recovery points",
            reason="SignerUntrusted",
            hint="secretsops escrow trust add NAME --role recovery-points --key …",
        )
    return kit.signed_with([signer])


# --- reading -------------------------------------------------------------------------------------------


@kit.command("verify", epilog="Example: secretsops recover kit verify kit.tar --trust sha256:... -o json")
@click.argument("path", type=click.Path())
@click.option("--trust", default="", help="sha256:… of the trust root, from the custody card.")
@click.option("--digest", default="", help="sha256:… of the kit, as `kit write` printed it.")
@click.option("-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
@click.pass_obj
def verify_kit(doors: Doors, /, path: str, trust: str, digest: str, output: str) -> int:
    """Prove a kit with no network: every byte, signature, commit, escrow, and that its plan is what it says.

    Exit code 1 on the first thing that does not hold.
    """
    from secretsops.escrow.backup import verify as verify_escrow
    from secretsops.escrow.options import the_escrow

    with _kit(doors, path, trust=trust, digest=digest) as (found, folder, git, point, notes):
        options = {"repo": found.repo, "revision": found.revision, "path": found.path, "file": "", "signers": ""}
        meant = chosen(doors, {**options, **_plan_file(folder)}, pins=point.pins, git=git)
        estate = estate_of(meant.git, doors.renderer(), meant.choice)
        if estate.problems or estate.digest != found.plan:
            said = str(estate.problems[0]) if estate.problems else "another plan comes out of it"
            raise Refused(f"the kit cannot be rebuilt from: {said}", reason="BrokenKit", hint="write a new kit")
        facts = [f"{len(found.files)} file(s) as listed", f"{len(found.sources)} source(s) open and hold their commits"]
        facts.append(f"{len(estate.applications)} application(s), plan {found.plan[:16]} as signed for")
        if (folder / kits.ESCROW).is_dir():
            given = {"places": [str(folder / kits.ESCROW)], "config": "", "cluster_name": "", "quorum": 0}
            given |= {"trust": trust, "trust_file": _trust_file(folder) if trust else ""}
            outcome = verify_escrow(the_escrow(doors, given), now=doors.clock.now())
            facts += [f"escrow: {line}" for line in outcome.details]
        else:
            notes.append("there is no escrow in it: the sealing keys have to come from elsewhere")
        body = {"kit": path, "digest": found.digest, "created": found.created, "facts": facts, "notes": notes}
    rows = [*facts, *(f"note: {note}" for note in notes), f"{found.digest} of {found.created} holds"]
    write_output(("\n".join(rows) + "\n" if output == "table" else formatted(body, output)).encode())
    return 0


@contextlib.contextmanager
def _kit(
    doors: Doors, path: str, *, trust: str, digest: str
) -> Iterator[tuple[Kit, Path, GitRepos, RecoveryPoint, list[str]]]:
    """Open a kit and prove what needs no rendering; gives it, its files, the door to its sources, its point, notes."""
    with opened(Path(path)) as (found, folder):
        notes = []
        if digest and digest != found.digest:
            raise kits.broken(f"the kit is {found.digest}, not the one that was asked for")
        if trust:
            _refuse_untrusted(found, folder, trust)
        elif not digest:
            notes.append(f"nobody vouched for it: give --trust, or compare {found.digest} with what was written down")
        point = read_point((folder / kits.POINT).read_bytes(), source=kits.POINT)
        if (point.created, point.repo, point.revision, point.path) != (
            found.created,
            found.repo,
            found.revision,
            found.path,
        ):
            raise kits.broken("the recovery point is of another estate than the kit")
        packed = [SourceFile(url=one.url, commits=one.commits, path=str(folder / one.file)) for one in found.sources]
        git = KitRepos(doors.source_files().opened(packed, str(folder.parent / "sources")), point.pins)
        yield found, folder, git, point, notes


def _refuse_untrusted(found: Kit, folder: Path, pin: str) -> None:
    from secretsops.escrow.trust import Role

    if not _trust_of(folder, pin).allows(found.signed_by, Role.RECOVERY_POINTS):
        raise Refused(
            "the kit is signed by nobody who may sign recovery points",
            reason="KitUntrusted",
            hint="take a kit written with --signer; compare the digest of the trust root with the custody card",
        )


def _trust_of(folder: Path, pin: str) -> Trust:
    from secretsops.escrow.trust import read_trust

    if not _trust_file(folder):
        raise Refused("the kit holds no trust root", reason="KitUntrusted", hint="write it with --trust-file")
    return read_trust((folder / kits.TRUST).read_bytes(), pin)


def _trust_file(folder: Path) -> str:
    return str(folder / kits.TRUST) if (folder / kits.TRUST).is_file() else ""


def _plan_file(folder: Path) -> dict[str, str]:
    return {"plan_file": str(folder / kits.PLAN)} if (folder / kits.PLAN).is_file() else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a run reads: its options, and with a kit the door to its sources and the commits that it pins."""

    options: dict[str, Any]
    git: GitRepos | None = None
    pins: Mapping[str, str] | None = None


@contextlib.contextmanager
def given(doors: Doors, options: dict[str, Any]) -> Iterator[Given]:
    """Give a run's options, those of a kit filled in where one is named: estate, controllers, escrow, trust root.

    Raises:
        UsageError: reason `NotFenced`; the kit's own copy of the escrow can tell no other cluster that it was replaced.
    """
    if not options["kit"]:
        yield Given(options=options)
        return
    if options["repo"] or options["file"] or options["points"]:
        raise UsageError(
            "--kit says which estate at which moment", reason="Usage", hint="leave --repo and --points out"
        )
    with _kit(doors, options["kit"], trust=options["trust"], digest=options["kit_digest"]) as opened_kit:
        found, folder, git, point, notes = opened_kit
        for note in notes:
            click.echo(f"note: {note}", err=True)
        filled: dict[str, Any] = {
            **options,
            "repo": found.repo,
            "revision": found.revision,
            "path": found.path,
            **_plan_file(folder),
        }
        if options["plan_file"]:
            filled["plan_file"] = options["plan_file"]
        filled["install"] = options["install"] or tuple(map(str, sorted((folder / kits.INSTALL).glob("*"))))
        elsewhere = options["escrow"] or options["escrow_config"]
        if (folder / kits.ESCROW).is_dir() and not elsewhere and (options["identities"] or options["passphrase"]):
            filled["escrow"] = (str(folder / kits.ESCROW),)
            if not options["unfenced"] and not options["rehearsal"]:
                raise UsageError(
                    "the kit's escrow cannot tell the old cluster that it was replaced",
                    reason="NotFenced",
                    hint='give --escrow SINK to claim the cluster there, or --unfenced "why the old one cannot write"',
                )
        if options["trust"] and not options["trust_file"] and not options["escrow_config"]:
            filled["trust_file"] = _trust_file(folder)
        yield Given(options=filled, git=git, pins=point.pins)
