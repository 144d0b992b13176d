"""Acts on repositories: commit the estate, and later changes to it.

Never here: what the files of an estate mean.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from drills import estate
from drills.kinds import Kind, Table
from drills.scene import Scene
from drills.strict import Name, Path
from secretsops.errors import UsageError
from secretsops.files import write_atomic


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
    revision = scene.timed("push", lambda: estate.commit(repository.work, repository.push, act.message))
    return f"{act.message}: {revision[:12]}"


TABLE: Table = {"commit": Kind(parameters=Commit, act=commit)}
