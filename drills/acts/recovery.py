"""Acts of the recovery itself: the same rebuild as in a real loss, as a call or as the command that may be killed.

Never here: how a rebuild works (`recovery/`).
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import click

from drills.commands import LIMIT, SECRETSOPS, failed
from drills.estate import filled
from drills.kinds import Kind, Table
from drills.scene import PATIENCE, Scene
from drills.strict import Duration
from recovery.escrow_options import escrow_options, escrow_parts
from recovery.request import RebuildRequest
from secretsops.errors import WorldFailed
from secretsops.files import write_atomic
from secretsops.manifest import dump_all


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuild:
    """Rebuild from Git and escrow: claim and keys, CRDs, controllers, secrets, applications, health."""

    cluster: str = ""
    repository: str = ""
    escrow: bool = True
    """Without it no key is restored."""
    identity: Literal["own", "wrong"] = "own"
    install: bool = True
    rehearsal: bool = False
    """Without a claim: the cluster that is escrowed goes on."""
    witness: bool = False
    """Hand in what `witness` kept elsewhere."""
    accept_stale: str = ""
    hooks: bool = True
    patience: Duration = PATIENCE
    kill: str = ""
    """Run it as a process and kill it (SIGKILL) once it has said this."""
    arguments: tuple[str, ...] = ()
    """Run it as a process with these arguments too; {repo}, {outside} and what acts have kept stand in braces."""


def rebuild(scene: Scene, act: Rebuild) -> str:
    """Carry it out."""
    name = act.cluster or scene.scenario.target
    scene.notes["rebuild"] = act
    if act.kill:
        return _kill(scene, name, act)
    if act.arguments:
        return _as_command(scene, "run", name, act, _new_journal(scene))
    roots, pins = scene.roots(scene.repository(act.repository))
    escrow = escrow_parts(scene.doors, _escrow_options(scene, act)).fields() if act.escrow else {}
    request = RebuildRequest(
        roots=roots,
        pins=pins,
        install=[*scene.namespaces(), *scene.install()] if act.install else scene.namespaces(),
        journal=_new_journal(scene),
        patience=act.patience,
        hooks=act.hooks,
        **escrow,
    )
    report = scene.rebuild(name, request)
    return f"{len(report.apps)} applications in {report.seconds:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Continue a rebuild that was killed, by `recover resume`."""

    cluster: str = ""
    repository: str = ""
    journal: Literal["kept", "lost"] = "kept"
    """Lost: the journal is gone and a new run has to start over."""
    patience: Duration = PATIENCE


def resume(scene: Scene, act: Resume) -> str:
    """Run the command to its end."""
    name = act.cluster or scene.scenario.target
    again = scene.notes.get("rebuild") or Rebuild()
    again = replace(again, cluster=act.cluster, repository=act.repository, patience=act.patience, kill="")
    journal = scene.notes.get("journal")
    if journal is None:
        raise WorldFailed("no rebuild was begun", reason="NoJournal")
    if act.journal == "lost":
        return _as_command(scene, "run", name, again, _new_journal(scene))
    return _as_command(scene, "resume", name, again, journal)


def _as_command(scene: Scene, verb: str, name: str, act: Rebuild, journal: Path) -> str:
    """Run `recover run` or `resume` to its end.

    Raises:
        WorldFailed: it failed; the reason is the last one that it named.
    """
    command = _command(scene, verb, name, act, journal)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = _follow(scene, process, "")
    if process.returncode:
        raise failed(command[3:], said)
    return f"recover {verb} came to its end"


def _kill(scene: Scene, name: str, act: Rebuild) -> str:
    command = _command(scene, "run", name, act, _new_journal(scene))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = _follow(scene, process, act.kill)
    if process.returncode != -9:
        raise WorldFailed(f"the rebuild ended before it said '{act.kill}': {said[-300:]}", reason="NotKilled")
    return f"killed at '{act.kill}'"


def _follow(scene: Scene, process: subprocess.Popen[str], kill: str) -> str:
    """Show what a command says until it ends; kill it at a text. Gives all it said."""
    timer = threading.Timer(LIMIT, process.kill)
    timer.start()
    lines: list[str] = []
    try:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            scene.show.line(line.strip())
            if kill and kill in line:
                process.kill()
        process.wait()
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
    return "".join(lines)


def _command(scene: Scene, verb: str, name: str, act: Rebuild, journal: Path) -> list[str]:
    """Give the command of a person on call."""
    repository, install = scene.repository(act.repository), scene.folder / "install.yaml"
    write_atomic(install, dump_all([one.body for one in (*scene.namespaces(), *scene.install())]).encode())
    words = [*SECRETSOPS, "recover", verb]
    if "--kit" not in act.arguments:  # a kit says itself which estate and which controllers
        words += ["--repo", repository.url, "--revision", "main"]
        words += ["--path", repository.entry.root] if repository.entry.root else []
        words += ["--install", str(install)] if act.install else []
    words += [*scene.options(name), "--journal", str(journal), "--patience", f"{act.patience:g}"]
    if act.escrow:
        custody = scene.custody
        places = (
            ["--escrow-config", str(custody.config)]
            if custody.config
            else [w for p in custody.places for w in ("--escrow", p)]
        )
        words += [*places, *(word for path in custody.identities for word in ("--identity", str(path)))]
    words += ["--rehearsal"] if act.rehearsal else []
    known = {**scene.addresses(repository), "outside": str(scene.outside), **scene.notes.get("words", {})}
    return words + [filled(word, known) for word in act.arguments]


def _new_journal(scene: Scene) -> Path:
    """Give the folder of a new run's journal, and remember it for a resume."""
    number = scene.notes["runs"] = scene.notes.get("runs", 0) + 1
    journal = scene.folder / ("journal" if number == 1 else f"journal-{number}")
    scene.notes["journal"] = journal
    return journal


def _escrow_options(scene: Scene, act: Rebuild) -> dict[str, Any]:
    """Give the options of `recover run` about the escrow."""
    custody = scene.custody
    identities = custody.identities
    if act.identity == "wrong":
        identity, _ = scene.doors.age().generate()
        identities = [scene.write_outside("wrong.txt", identity.reveal() + b"\n")]
    return {
        **_defaults(),
        "escrow": () if custody.config else tuple(custody.places),
        "escrow_config": str(custody.config or ""),
        "identities": tuple(str(path) for path in identities),
        "witnesses": tuple(scene.notes.get("witnesses", ())) if act.witness else (),
        "accept_stale": act.accept_stale,
        "rehearsal": act.rehearsal,
    }


def _defaults() -> dict[str, Any]:
    """Give what the options of `recover run` about the escrow are where a person says nothing."""

    def command() -> None:
        """Carry the options."""

    found: Sequence[click.Option] = escrow_options(command).__click_params__
    return {str(one.name): () if one.multiple else False if one.is_flag else "" for one in found}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconcile:
    """Do once what Argo CD would do now for the applications in the cluster: `recover run --gate argo`."""

    cluster: str = ""
    patience: Duration = 20.0


def reconcile(scene: Scene, act: Reconcile) -> str:
    """Run the command; that something is left waiting is no failure of the step."""
    words = ("recover", "run", "--gate", "argo", *scene.options(act.cluster or scene.scenario.target))
    done = subprocess.run(
        [*SECRETSOPS, *words, "--patience", f"{act.patience:g}"], capture_output=True, check=False, timeout=LIMIT
    )
    if done.returncode not in (0, 1):
        raise failed(words, done.stderr.decode(errors="replace"))
    return done.stdout.decode(errors="replace").strip().replace("\n", "; ")[:500] or "nothing is left to do"


TABLE: Table = {
    "reconcile": Kind(parameters=Reconcile, act=reconcile),
    "rebuild": Kind(parameters=Rebuild, act=rebuild),
    "resume": Kind(parameters=Resume, act=resume),
}
