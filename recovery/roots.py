"""Which Applications are the roots of an estate: named by path or file, or found in the repository.

Without a path the roots are the Applications that no other Application renders. Never here: rendering itself, clusters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recovery.app import CONTROL_NAMESPACE
from recovery.argo import is_application, read_application
from recovery.recovery_plan import FILE, read_recovery_plan
from recovery.remap import Remap
from recovery.signatures import SignedRepos, demands_of
from recovery.walk import Estate, check_roots, is_root, is_setup, read_roots, walk
from secretsops.errors import InvalidManifest, SyncRefused, UsageError
from secretsops.files import read_input
from secretsops.manifest import Manifest, load_all
from secretsops.ports import GitRepos, Renderer

_EXTENSIONS = (".yaml", ".yml", ".json")
FOUND_LIMIT = 5000
"""Applications looked at when roots are searched for; an estate holds no more (`walk.APP_LIMIT`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which estate is meant, as the command line says it."""

    repo: str = ""
    revision: str = "HEAD"
    path: str = ""
    file: str = ""
    pins: Mapping[str, str] = field(default_factory=dict)
    """`url@revision` to the commit that a recovery point pins; empty for the commits of now."""
    signers: str = ""
    """File of a RecoveryPlan from outside whose `signatures` count in place of the repository's own."""
    remap: Remap = field(default_factory=Remap)
    """What goes by another name in the cluster that is filled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An Application, or what configures Argo CD, found in a repository, and the folder of its file."""

    manifest: Manifest
    folder: str


def choose(git: GitRepos, choice: Choice) -> tuple[list[Manifest], dict[str, str]]:
    """Give the root Applications and what is pinned already; found ones may still turn out to be children.

    Raises:
        UsageError: nothing is named, or what is named holds no root.
        GitUnavailable, InvalidManifest: it cannot be read.
    """
    if choice.file:
        if choice.path:
            raise UsageError("--app and --path exclude each other", reason="Usage", hint="give one of them")
        roots = check_roots(load_all(read_input(choice.file), source=choice.file), choice.file)
        return roots, dict(choice.pins) or ({_place_of(choice): _commit(git, choice)} if choice.repo else {})
    if not choice.repo:
        raise UsageError("which estate?", reason="Usage", hint="give --repo URL, with --path P, or --app FILE")
    commit = _commit(git, choice)
    if choice.path:
        roots, _ = read_roots(git, choice.repo, commit, choice.path)
        return roots, {**choice.pins, _place_of(choice): commit}
    found = find_applications(git, choice.repo, commit)
    roots = [one.manifest for one in top_most(found, choice.repo)]
    return check_roots(roots, f"{choice.repo} at {choice.revision}"), {**choice.pins, _place_of(choice): commit}


def signed_repos(git: GitRepos, choice: Choice, pins: Mapping[str, str] | None = None) -> GitRepos:
    """Give the door that hands out what is signed as `recovery.yaml` asks: that of `--signers`, else of the repository.

    Whoever may push can change what the repository's own file asks; only one kept elsewhere stops them.

    Raises:
        UsageError, GitUnavailable, InvalidManifest: it cannot be read.
    """
    if choice.signers:
        text = read_input(choice.signers)
    else:
        text = git.tree(choice.repo, _commit(git, choice), FILE).files.get(FILE, b"") if choice.repo else b""
    demands = demands_of(read_recovery_plan(text, source=choice.signers or FILE)) if text else []
    return SignedRepos(git, demands, {**choice.pins, **(pins or {})}) if demands else git


def _place_of(choice: Choice) -> str:
    return f"{choice.repo}@{choice.revision or 'HEAD'}"


def _commit(git: GitRepos, choice: Choice) -> str:
    """Give the commit of the roots: as a recovery point pins it, else as Git has it now."""
    return choice.pins.get(_place_of(choice)) or git.resolve(choice.repo, choice.revision)


def estate_of(git: GitRepos, renderer: Renderer, choice: Choice) -> Estate:
    """Give the whole estate; a root that another root turns out to render is none.

    Raises:
        UsageError, GitUnavailable, InvalidManifest: as `choose`.
    """
    roots, pins = choose(git, choice)
    estate = walk(roots, git, renderer, pins=pins, remap=choice.remap)
    if choice.path or choice.file:
        return estate
    rendered = {
        _named(task.manifest)
        for planned in estate.applications
        for task in planned.tasks
        if not is_application(task.manifest) or _place(task.manifest) != planned.app.key
    }
    rest = [root for root in roots if _named(root) not in rendered]
    if len(rest) == len(roots) or not any(map(is_root, rest)):
        return estate
    return walk(rest, git, renderer, pins=estate.pins, remap=choice.remap)


def find_applications(git: GitRepos, url: str, commit: str) -> list[Candidate]:
    """Give every Application that stands in a file of a commit, and what configures Argo CD itself.

    Files that are no manifests (templates) are passed by.

    Raises:
        UsageError: more than one estate can hold.
    """
    found: list[Candidate] = []
    for path, content in sorted(git.tree(url, commit).files.items()):
        if not path.endswith(_EXTENSIONS) or not (b"argoproj.io/" in content or b"argocd" in content):
            continue
        try:
            manifests = load_all(content, source=path)
        except InvalidManifest:
            continue
        folder = path.rpartition("/")[0]
        wanted = [m for m in manifests if m.name and (is_root(m) or _configures(m))]
        found += [Candidate(manifest=manifest, folder=folder) for manifest in wanted]
        if len(found) > FOUND_LIMIT:
            raise UsageError(
                f"more than {FOUND_LIMIT} Applications in {url}", reason="TooMany", hint="name the roots by --path"
            )
    return found


def top_most(found: Sequence[Candidate], url: str) -> list[Candidate]:
    """Give those that stand in no folder which another of them renders from the same repository."""
    result = []
    for one in found:
        applications = (other.manifest for other in found if other is not one and is_application(other.manifest))
        below = any(_renders(manifest, url, one) for manifest in applications)
        if not below:
            result.append(one)
    return result


def _renders(parent: Manifest, url: str, child: Candidate) -> bool:
    try:
        sources = read_application(parent).sources
    except (InvalidManifest, SyncRefused):
        return False
    for source in sources:
        directory = source.directory
        if not _same(source.url, url) or source.tool not in ("", "directory") or directory.include or directory.exclude:
            continue  # what those render the walk will tell
        deeper = directory.recurse and (not source.path or child.folder.startswith(f"{source.path}/"))
        if deeper or child.folder == source.path:
            return True
    return False


def _same(one: str, other: str) -> bool:
    return one.rstrip("/").removesuffix(".git") == other.rstrip("/").removesuffix(".git")


def _configures(manifest: Manifest) -> bool:
    """Say whether an object configures Argo CD itself, by what it says of itself."""
    if not is_setup(manifest) or manifest.namespace not in ("", CONTROL_NAMESPACE):
        return False
    marked = any(name.startswith("argocd.argoproj.io/") for name in manifest.labels)
    return manifest.kind.kind == "AppProject" or manifest.name.startswith("argocd-") or marked


def _named(manifest: Manifest) -> tuple[str, str, str]:
    return manifest.kind.group, manifest.kind.kind, _place(manifest)


def _place(manifest: Manifest) -> str:
    return f"{manifest.namespace or CONTROL_NAMESPACE}/{manifest.name}"
