"""Options that several commands of `secretsops recover` share, and the estate that they mean.

Never here: what an estate is (`roots.py`), which rules a remap follows (`remap.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from recovery import mirrors, remap
from recovery.mirrors import Mirror, Mirrored
from recovery.points import RecoveryPoint, as_of, read_point
from recovery.recovery_plan import FILE, RecoveryPlan, read_recovery_plan
from recovery.remap import ImageRule, Remap, ServerRule
from recovery.roots import Choice, signed_repos
from secretsops.errors import UsageError
from secretsops.files import read_input
from secretsops.manifest import dump
from secretsops.ports import Doors, GitRepos

if TYPE_CHECKING:
    from recovery.setup import Setup
    from secretsops.sealing.keys import KeyRing

F = TypeVar("F", bound=Callable[..., Any])


def estate_options(command: F) -> F:
    """Add the options that say which estate is meant (`roots.Choice`)."""
    for option in (
        click.option(
            "--signers",
            default="",
            envvar="SECRETSOPS_SIGNERS",
            help="recovery.yaml from outside: commits must be signed as its `signatures` say.",
        ),
        click.option(
            "--recovery-yaml", "plan_file", default="", help=f"The RecoveryPlan.  [default: {FILE} in --repo]"
        ),
        click.option("--mirrors-only", is_flag=True, help="Never ask the host of a repository that --mirror names."),
        click.option("--mirror", "mirrors", multiple=True, metavar="URL=URL", help="Where a repository is, too."),
        click.option("--remap-server", "servers", multiple=True, metavar="URL=NAME", help="Old API server to a name."),
        click.option(
            "--remap-image", "images", multiple=True, metavar="FROM=TO", help="Registry of images to another."
        ),
        click.option("--as-of", default="", help="Take the newest point of --points that is not younger (RFC 3339)."),
        click.option("--points", default="", help="Folder of recovery points: read the commits that one pins."),
        click.option("--app", "file", default="", help="File with the root Application(s); `-` is standard input."),
        click.option(
            "--path", default="", help="File or folder of the root Application(s) in --repo; found where left out."
        ),
        click.option("--revision", default="HEAD", show_default=True, help="Branch, tag or SHA of --repo."),
        click.option("--repo", default="", help="Repository that holds the root Application(s)."),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The estate that is meant: its choice, the door to read it by (mirrors included), its RecoveryPlan."""

    choice: Choice
    git: GitRepos
    plain: GitRepos
    """The same without a look at signatures."""
    plan: RecoveryPlan
    text: bytes = b""


def chosen(
    doors: Doors, options: Mapping[str, Any], *, pins: Mapping[str, str] | None = None, git: GitRepos | None = None
) -> Chosen:
    """Give the estate that the options and its RecoveryPlan mean; what the command line says comes first.

    `pins` are commits that are known already, in place of a recovery point's; `git` is read in place of the network.

    Raises:
        UsageError: an option is malformed, or as `choice_of`. InvalidManifest: the RecoveryPlan is none.
    """
    said = mirrors.check([_mirror(text, only=bool(options.get("mirrors_only"))) for text in options.get("mirrors", ())])
    rules = Remap(
        images=tuple(ImageRule(from_=old, to=new) for old, new in map(_pair, options.get("images", ()))),
        servers=tuple(ServerRule(server=old, name=new) for old, new in map(_pair, options.get("servers", ()))),
    )
    remap.check(rules)
    choice = replace(choice_of(options), pins=pins) if pins is not None else choice_of(options)
    base = git or doors.git()
    text = plan_text(Mirrored(base, said), choice, options.get("plan_file") or "")
    plan = read_recovery_plan(text) if text else RecoveryPlan()
    sign_in = _signing_in(doors, base, choice, options) if git is None else None
    plain = Mirrored(base, [*said, *plan.mirrors], _tell, sign_in=sign_in)
    git = signed_repos(plain, choice)
    return Chosen(choice=replace(choice, remap=rules.joined(plan.remap)), git=git, plain=plain, plan=plan, text=text)


def _tell(text: str) -> None:
    click.echo(f"note: {text}", err=True)


def _signing_in(doors: Doors, git: GitRepos, choice: Choice, options: Mapping[str, Any]) -> Callable[[str], bool]:
    """Give what finds the credential of a repository in the estate's own one, and signs in with it."""
    known: list[Setup] = []

    def ring() -> KeyRing | None:
        if not (options.get("identities") and (options.get("escrow") or options.get("escrow_config"))):
            return None
        from recovery.escrow_options import named_escrow
        from recovery.proof.escrowed import ring_of

        return ring_of(*named_escrow(doors, dict(options)))

    def sign_in(url: str) -> bool:
        if not choice.repo or url == choice.repo:
            return False
        from recovery.credentials import candidates, login_for, opened

        if not known:
            commit = choice.pins.get(f"{choice.repo}@{choice.revision}") or git.resolve(choice.repo, choice.revision)
            known.append(opened(candidates(git.tree(choice.repo, commit)), ring))
        login, problem = login_for(known[0], url)
        if problem:
            _tell(problem)
        if login is None:
            return False
        doors.sign_in(login)
        return True

    return sign_in


def _mirror(text: str, *, only: bool) -> Mirror:
    old, new = _pair(text)
    return Mirror(from_=old, to=(new,), only=only)


def _pair(text: str) -> tuple[str, str]:
    old, _, new = text.partition("=")
    if not old or not new:
        raise UsageError(
            f"{text[:80]!r} is no pair OLD=NEW", reason="Usage", hint="--remap-image docker.io=mirror.example"
        )
    return old.rstrip("/"), new.rstrip("/")


def plan_text(git: GitRepos, choice: Choice, file: str) -> bytes:
    """Give the bytes of the RecoveryPlan: as named, else of the repository, else none."""
    if file:
        return read_input(file)
    if not choice.repo:
        return b""
    commit = choice.pins.get(f"{choice.repo}@{choice.revision}") or git.resolve(choice.repo, choice.revision)
    return git.tree(choice.repo, commit, FILE).files.get(FILE, b"")


def choice_of(options: Mapping[str, Any]) -> Choice:
    """Give the estate that the options mean, at the commits of a recovery point where one is named.

    Raises:
        UsageError: no point fits, or it is of another estate.
    """
    choice = Choice(**{name: options[name] for name in ("repo", "revision", "path", "file", "signers")})
    if not options.get("points"):
        if options.get("as_of"):
            raise UsageError("--as-of needs --points", reason="Usage", hint="name the folder that keeps the points")
        return choice
    point = as_of(read_points(options["points"]), options["as_of"])
    if (point.repo, point.revision, point.path) != (choice.repo, choice.revision, choice.path):
        raise UsageError(
            f"the recovery point of {point.created} is of {point.repo} at {point.revision}, path {point.path!r}",
            reason="OtherEstate",
            hint="give the same --repo, --revision and --path",
        )
    return replace(choice, pins=dict(point.pins))


def read_points(folder: str) -> list[RecoveryPoint]:
    """Give the points of a folder.

    Raises:
        UsageError: there is no such folder. InvalidManifest: a file in it is no point.
    """
    place = Path(folder)
    if not place.is_dir():
        raise UsageError(f"{folder} is no folder", reason="NoRecoveryPoint", hint="secretsops recover point write")
    files = sorted(place.glob("point-*.json"))
    return [read_point(read_input(str(file)), source=file.name) for file in files]


def formatted(body: Any, output: str) -> str:
    """Give plain data as JSON or YAML text."""
    return json.dumps(body, indent=2) + "\n" if output == "json" else dump(body)
