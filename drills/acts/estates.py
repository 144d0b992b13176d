"""Acts on repositories: commit the estate, and later changes to it.

Never here: what the files of an estate mean.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from drills import estate
from drills.kinds import Kind, Table
from drills.scene import Scene
from drills.strict import Name, Path
from secretsops.errors import UsageError, WorldFailed
from secretsops.files import write_atomic
from secretsops.manifest import dump, dump_all


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Commit to Git: first the whole estate with its sealed Secrets, then what is named here."""

    repository: str = ""
    cluster: str = ""
    """Whose certificate seals."""
    seal: tuple[Name, ...] = ()
    """Secrets marked `later` that are sealed now."""
    remove: tuple[Path, ...] = ()
    write: Mapping[str, str] = field(default_factory=dict)
    """Path to text; `{repo}` and the like are filled in."""
    message: str = "A change"
    unsigned: bool = False
    """Without the signature that a repository whose commits are signed wants."""


def commit(scene: Scene, act: Commit) -> str:
    """Write, seal, commit, push."""
    repository = scene.repository(act.repository)
    first = not repository.work.exists()
    addresses = scene.addresses(repository)
    entries = [one for one in repository.entry.sealed if one.name in act.seal or (first and not one.later)]
    if missing := set(act.seal) - {one.name for one in entries}:
        raise UsageError(f"the repository seals no '{min(missing)}'", reason="InvalidScenario")
    if first:
        estate.fill(scene.files / repository.entry.files, repository.work, addresses)
    for path in act.remove:
        place = repository.work / path
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink()
    for path, text in act.write.items():
        place = repository.work / path
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(place, estate.filled(text, addresses).encode())
    if entries:
        certificate = scene.folder / "cert.pem"
        scene.timed("fetch certificate", lambda: estate.fetch_certificate(scene.options(act.cluster), certificate))
        for entry in entries:
            name = f"seal {entry.namespace}/{entry.name} ({entry.scope})"
            scene.timed(
                name, partial(estate.seal, entry, scene.values(entry), certificate, repository.work / entry.file)
            )
    signing = None if act.unsigned else scene.notes.get("signing-key")
    scene.notes["previous"] = "" if first else estate.git(repository.work, "rev-parse", "HEAD").decode().strip()
    revision = scene.timed("push", lambda: estate.commit(repository.work, repository.push, act.message, signing))
    return f"{act.message}: {revision[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignCommits:
    """From now on commits are signed, and a file outside the repository says by whom they have to be."""


def sign_commits(scene: Scene, _act: SignCommits) -> str:
    """Make an SSH key and the RecoveryPlan that `recover run --signers` reads."""
    key = scene.outside / "signing-key"
    estate.command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "drill", "-f", str(key)])
    scene.notes["signing-key"] = key
    public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
    rule = {
        "name": "estate",
        "repositories": [f"{scene.gate('git').url}/**"],
        "mode": "head",
        "sshKeys": [f"{public} drill"],
    }
    plan = {"apiVersion": "secretsops.dev/v1", "kind": "RecoveryPlan", "spec": {"signatures": [rule]}}
    scene.write_outside("signers.yaml", dump(plan).encode())
    return "commits are signed; signers.yaml is outside"


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBack:
    """Put the branch back to the commit before the last one, by force."""

    repository: str = ""


def put_back(scene: Scene, act: PutBack) -> str:
    """Reset and push."""
    repository, previous = scene.repository(act.repository), scene.notes.get("previous")
    if not previous:
        raise WorldFailed("there is no commit before", reason="NoCommit")
    estate.git(repository.work, "reset", "--quiet", "--hard", previous)
    estate.git(repository.work, "push", "--quiet", "--force", repository.push, "HEAD:main")
    return f"main is {previous[:12]} again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Keep a mirror of the repository on another host; {mirror} is its address."""

    repository: str = ""


def mirror(scene: Scene, act: Mirror) -> str:
    """Push every ref to a second repository, which is reached past the gate."""
    repository = scene.repository(act.repository)
    made = scene.world.git().create(f"mirror/{repository.entry.name}")
    estate.git(repository.work, "push", "--quiet", "--mirror", made.url)
    estate.git(repository.work, "push", "--quiet", made.url, "HEAD:main")
    scene.notes.setdefault("words", {})["mirror"] = made.url
    return "a mirror holds the same commits"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteKit:
    """Write the kit: everything a rebuild needs in one file outside, for a day without a network."""

    repository: str = ""


def write_kit(scene: Scene, act: WriteKit) -> str:
    """Run `recover kit write`, and remember the digest that it prints."""
    repository, install = scene.repository(act.repository), scene.folder / "install.yaml"
    write_atomic(install, dump_all([one.body for one in (*scene.namespaces(), *scene.install())]).encode())
    words = [
        "--repo",
        repository.url,
        "--revision",
        "main",
        "--install",
        str(install),
        "--to",
        str(scene.outside / "kit.tar"),
    ]
    words += ["--path", repository.entry.root] if repository.entry.root else []
    words += [word for place in scene.custody.places for word in ("--escrow", place)]
    said = scene.run("recover", "kit", "write", *words)
    found = re.search(r"sha256:[0-9a-f]{64}", said)
    if found is None:
        raise WorldFailed("the kit has no digest", reason="NoDigest")
    scene.notes.setdefault("words", {})["kit-digest"] = found[0]
    return f"the kit is outside, {found[0][:20]}…"


TABLE: Table = {
    "write-kit": Kind(parameters=WriteKit, act=write_kit),
    "commit": Kind(parameters=Commit, act=commit),
    "sign-commits": Kind(parameters=SignCommits, act=sign_commits),
    "put-back": Kind(parameters=PutBack, act=put_back),
    "mirror": Kind(parameters=Mirror, act=mirror),
}
