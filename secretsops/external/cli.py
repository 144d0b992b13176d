"""`secretsops external`: what ExternalSecrets would write, what is wrong with them, how they differ, in plain words.

Nothing is written anywhere. Exit codes: 0 all is well, 1 the answer is no (a finding, a difference, something that
cannot be rendered), 2 usage, 3 the world failed.

What never lives here: the work (`offline.py`, `linting.py`, `explaining.py`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from secretsops.command_group import CommandGroup
from secretsops.errors import InvalidManifest, UsageError
from secretsops.files import write_output
from secretsops.manifest import Manifest, load_all
from secretsops.ports import ClusterTarget, Doors

if TYPE_CHECKING:
    from secretsops.external.offline import Objects, Outcome

FILE_LIMIT = 16 * 1024 * 1024
SIGNS = {"+": "added", "-": "removed", "~": "changed"}


def _files(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what all of them take."""
    options = [
        click.argument("files", nargs=-1, required=True, type=click.File("rb")),
        click.option("--namespace", "-n", default="default", show_default=True, help="Of objects that name none."),
        click.option("--kubeconfig", default="", help="Take what the files do not hold from this cluster."),
        click.option("--context", default="", help="Context of the kubeconfig."),
        click.option("-o", "output", type=click.Choice(["text", "json"]), default="text", show_default=True),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group(cls=CommandGroup, epilog="Example: secretsops external check app.yaml stores.yaml")
def external() -> None:
    """Try ExternalSecrets before they are applied, with the same store manifests."""


@external.command(epilog="Example: secretsops external render app.yaml store.yaml credentials.yaml")
@_files
@click.option("--show-values", is_flag=True, help="Print values, too; on a terminal only.")
@click.pass_obj
def render(doors: Doors, /, files: Sequence[Any], output: str, show_values: bool, **given: Any) -> int:
    """Ask the stores and show what would be written: keys and sizes."""
    if show_values and not sys.stdout.isatty():
        raise UsageError(
            "--show-values prints secrets, and this is no terminal",
            reason="NotATerminal",
            hint="leave it out; keys and sizes are shown",
        )
    outcomes = _rendered(doors, _objects(doors, files, given))
    if output == "json":
        _print_json([_as_json(each) for each in outcomes])
    else:
        write_output("".join(_as_text(each, show_values=show_values) for each in outcomes).encode())
    return 1 if any(each.error for each in outcomes) else 0


@external.command(epilog="Example: secretsops external diff app.yaml --kubeconfig prod.yaml")
@_files
@click.pass_obj
def diff(doors: Doors, /, files: Sequence[Any], output: str, **given: Any) -> int:
    """Ask the stores and compare with the Secrets of the cluster, by key; values are not shown."""
    from secretsops.external.offline import changes

    if not given["kubeconfig"] and not given["context"]:
        raise UsageError("there is nothing to compare with", reason="NoCluster", hint="give --kubeconfig or --context")
    outcomes = _rendered(doors, _objects(doors, files, given))
    rows = [(each, changes(each)) for each in outcomes]
    if output == "json":
        _print_json([_as_json(each) | {"changes": {key: SIGNS[sign] for key, sign in keys}} for each, keys in rows])
    else:
        for each, keys in rows:
            lines = [_head(each), *(f"  {sign} {key}" for key, sign in keys)]
            write_output("".join(f"{line}\n" for line in lines).encode())
    return 1 if any(each.error or keys or each.action in {"create", "delete"} for each, keys in rows) else 0


@external.command(epilog="Example: secretsops external check app.yaml stores.yaml")
@_files
@click.pass_obj
def check(doors: Doors, /, files: Sequence[Any], output: str, **given: Any) -> int:
    """Find what would fail, asking no store: fields, templates by line and column, patterns, store conditions."""
    from secretsops.external.linting import check as find

    objects = _objects(doors, files, given)
    findings = find(objects)
    fatal = [finding for finding in findings if finding.fatal]
    if output == "json":
        shown = [{name: getattr(f, name) for name in ("where", "reason", "message", "hint", "fatal")} for f in findings]
        _print_json(shown)
    else:
        for finding in findings:
            kind = "error" if finding.fatal else "note"
            hint = f" ({finding.hint})" if finding.hint else ""
            write_output(f"{kind}: {finding.where}: {finding.message}{hint}\n".encode())
        counted = f"{len(objects.externals)} ExternalSecrets, {len(objects.stores)} stores: {len(fatal)} errors\n"
        write_output(counted.encode())
    return 1 if fatal else 0


@external.command(epilog="Example: secretsops external explain app.yaml --kubeconfig prod.yaml")
@_files
@click.pass_obj
def explain(doors: Doors, /, files: Sequence[Any], output: str, **given: Any) -> int:
    """Say what an ExternalSecret reads, what it writes and when, and what its status says."""
    from secretsops.external.explaining import explain as sentences

    objects = _objects(doors, files, given)
    told = {f"{each.namespace}/{each.name}": sentences(objects.current(each), objects) for each in objects.externals}
    if output == "json":
        _print_json(told)
    else:
        for name, lines in told.items():
            write_output("".join([f"{name}\n", *(f"  {line}\n" for line in lines)]).encode())
    return 0


# --- Reading and showing -------------------------------------------------------------------------------


def _objects(doors: Doors, files: Sequence[Any], given: dict[str, Any]) -> Objects:
    from secretsops.external.offline import Objects

    manifests: list[Manifest] = []
    for file in files:
        content = file.read(FILE_LIMIT + 1)
        if len(content) > FILE_LIMIT:
            raise InvalidManifest(f"{file.name} has more than {FILE_LIMIT} bytes", reason="TooLarge")
        manifests += load_all(content, source=file.name)
    wants = given["kubeconfig"] or given["context"]
    target = ClusterTarget(kubeconfig=given["kubeconfig"], context=given["context"])
    found = Objects(manifests, given["namespace"], doors.cluster(target) if wants else None)
    if not found.externals and not found.stores:
        raise UsageError("the files hold no ExternalSecret", reason="Nothing", hint="give manifests of ExternalSecrets")
    return found


def _rendered(doors: Doors, objects: Objects) -> list[Outcome]:
    from secretsops.external.offline import Rendering

    rendering = Rendering(objects, doors.secret_source, doors.clock)
    try:
        return [rendering.render(each) for each in objects.externals]
    finally:
        rendering.close()


def _head(outcome: Outcome) -> str:
    name = f"{outcome.namespace}/{outcome.name}"
    if outcome.error is not None:
        place = f"{outcome.place}: " if outcome.place else ""
        hint = f" (hint: {outcome.error.hint})" if outcome.error.hint else ""
        return f"{name}: error: {place}{outcome.error.message}{hint}"
    secret = f" Secret {outcome.secret.name} ({outcome.secret.body.get('type')})" if outcome.secret is not None else ""
    return f"{name}: {outcome.action}{secret}"


def _as_text(outcome: Outcome, *, show_values: bool) -> str:
    lines = [_head(outcome)]
    width = max((len(key) for key in outcome.values), default=0)
    for key, value in sorted(outcome.values.items()):
        shown = f"  {value.reveal().decode('utf-8', 'backslashreplace')}" if show_values else ""
        lines.append(f"  {key:<{width}}  {len(value.reveal())} bytes{shown}")
    lines += [f"  absent at the provider: {pull.place}" for pull in outcome.absent]
    return "".join(f"{line}\n" for line in lines)


def _as_json(outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = {"namespace": outcome.namespace, "name": outcome.name, "action": outcome.action}
    if outcome.error is not None:
        error = {"reason": outcome.error.reason, "message": outcome.error.message, "hint": outcome.error.hint}
        found["error"] = error | ({"place": outcome.place} if outcome.place else {})
    if outcome.secret is not None:
        found |= {"secret": outcome.secret.name, "type": outcome.secret.body.get("type")}
        found["bytes"] = {key: len(value.reveal()) for key, value in sorted(outcome.values.items())}
    return found | ({"absent": [pull.place for pull in outcome.absent]} if outcome.absent else {})


def _print_json(value: Any) -> None:
    write_output(json.dumps(value, indent=2).encode() + b"\n")
