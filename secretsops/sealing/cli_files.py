"""`seal set`, `rm`, `diff` and `edit`: work on the items of one SealedSecret file.

What never lives here: how the text of a file changes (`yaml_edit.py`), how a person edits (`editor.py`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from secretsops.errors import ApiError, InvalidManifest, NotFound, Refused, UsageError
from secretsops.files import read_input, write_atomic
from secretsops.sealing.certificates import obtain_one
from secretsops.sealing.modes import warn
from secretsops.sealing.options import (
    Access,
    access,
    certificate_options,
    certificate_wishes,
    connection,
    key_files,
    key_options,
)
from secretsops.sealing.sealed_file import Found, item_changes, said_items, sealed_secrets, the_one

if TYPE_CHECKING:
    from secretsops.ports import Doors
    from secretsops.sealing.yaml_edit import Tree
    from secretsops.secret import Plaintext

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


def _which(command: Any) -> Any:
    """Add the options that choose one SealedSecret of several in a file."""
    command = click.option("--namespace", "-n", default="", help="Namespace of the one that is meant.")(command)
    return click.option("--name", default="", help="Which SealedSecret, where the file has several.")(command)


def _chosen(content: bytes, path: str, options: dict[str, Any]) -> Found:
    return the_one(
        sealed_secrets(content, source=path),
        source=path,
        name=options.pop("name"),
        namespace=options.pop("namespace"),
    )


def replace_file(path: str, before: bytes, document: int, tree: Tree) -> bool:
    """Write a file with one document changed, unless somebody else changed it since it was read; says if it differs.

    Raises:
        Refused: reason `FileChanged` or `CannotEdit`; the file is as it was.
    """
    from secretsops.sealing.yaml_edit import edit

    after = edit(before, {document: tree}, source=path)
    if read_input(path) != before:
        raise Refused(f"{path} was changed by somebody else meanwhile", reason="FileChanged", hint="try again")
    if after == before:
        return False
    write_atomic(Path(path), after)
    return True


@click.command(
    "set", epilog="Example: seal set sealed.yaml password --cert cert.pem < password.txt", context_settings=_SETTINGS
)
@click.argument("file", metavar="FILE")
@click.argument("key", metavar="KEY")
@click.option("--from-file", default="", metavar="PATH", help="Take the value from a file, byte by byte.")
@_which
@certificate_options
@connection
@click.pass_obj
def set_item(doors: Doors, /, *, file: str, key: str, from_file: str, **options: Any) -> None:
    """Seal one value into a SealedSecret file.

    The value comes from a prompt, from standard input or from a file, never from the command line. Name, namespace
    and scope are the file's; every other item keeps its ciphertext.
    """
    from secretsops.sealing import envelope

    _check_key(key)
    content = read_input(file)
    one = _chosen(content, file, options)
    certificate = obtain_one(certificate_wishes(options), access(options), doors, warn)
    sealed = envelope.seal(_value(from_file), label=one.label, public=certificate.public)
    replace_file(file, content, one.document, item_changes(one, {key: sealed}, {key: certificate.fingerprint}))


def _check_key(key: str) -> None:
    if (
        not key
        or len(key) > 253
        or not all(letter.isascii() and (letter.isalnum() or letter in "-._") for letter in key)
    ):
        raise UsageError(f"{key[:64]!r} is no key of a Secret", reason="BadKey", hint="letters, digits, '-', '_', '.'")


def _value(path: str) -> Plaintext:
    """Give the value from a file, from a prompt on a terminal, else from standard input as it is."""
    from secretsops.secret import Plaintext

    if not path and sys.stdin.isatty():
        typed = click.prompt(
            "Value", hide_input=True, confirmation_prompt=True, err=True, default="", show_default=False
        )
        return Plaintext(str(typed).encode())
    raw = read_input(path or "-")
    if raw.endswith(b"\n") and raw.count(b"\n") == 1:
        warn("warning: the value ends with a line break, which is sealed too; printf '%s' makes none")
    return Plaintext(raw)


@click.command("rm", epilog="Example: seal rm sealed.yaml old-token", context_settings=_SETTINGS)
@click.argument("file", metavar="FILE")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@_which
@click.pass_obj
def remove(_doors: Doors, /, *, file: str, keys: tuple[str, ...], **options: Any) -> None:
    """Remove items from a SealedSecret file. Needs neither certificate nor cluster."""
    content = read_input(file)
    one = _chosen(content, file, options)
    if missing := [key for key in keys if key not in one.items]:
        raise Refused(
            f"{file} has no item {', '.join(missing)}", reason="NoSuchItem", hint=f"it has {said_items(one.items)}"
        )
    replace_file(file, content, one.document, item_changes(one, dict.fromkeys(keys), {}))


# --- diff ----------------------------------------------------------------------------------------------


@click.command(epilog="Example: seal diff old.yaml sealed.yaml", context_settings=_SETTINGS)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", help="How to print it.")
@key_options
@click.pass_obj
def diff(_doors: Doors, /, *, a: str, b: str, output: str, **options: Any) -> int:
    """Compare two SealedSecrets by keys and fingerprints.

    Values are never shown. With private keys it is told whether a value changed or was only sealed anew. Exit code 1
    where anything differs.
    """
    from secretsops.sealing.compare import compared
    from secretsops.sealing.keys import KeyRing
    from secretsops.sealing.offline import key_ring

    files = key_files(options)
    ring = key_ring(files) if files else KeyRing()
    sides = [sealed_secrets(read_input(path), source=path) for path in (a, b)]
    for path, found in zip((a, b), sides, strict=True):
        if not found:
            raise InvalidManifest("there is no SealedSecret in it", where=path, reason="NotASealedSecret")
    rows = compared(sides[0], sides[1], ring)
    if output == "json":
        click.echo(json.dumps([row.record() for row in rows], indent=2))
    else:
        for row in rows:
            click.echo(row.line())
    return 1 if any(row.differs for row in rows) else 0


# --- edit ----------------------------------------------------------------------------------------------


@click.command(epilog="Example: EDITOR=vim seal edit sealed.yaml --cert cert.pem", context_settings=_SETTINGS)
@click.argument("file", metavar="FILE")
@click.option("--editor", envvar=["VISUAL", "EDITOR"], default="vi", show_default=True, help="The editor's command.")
@click.option("--trust-editor", is_flag=True, help="Run an editor whose swap and undo files can't be switched off.")
@_which
@certificate_options
@key_options
@connection
@click.pass_obj
def edit(doors: Doors, /, *, file: str, editor: str, trust_editor: bool, **options: Any) -> None:
    """Edit the values of a SealedSecret; only what changed is sealed.

    The values come from your own right to read the Secret in the cluster, or from a recovery key; the controller
    never hands them out. They are edited on a memory file system, or not at all.
    """
    from secretsops.sealing import editor as room
    from secretsops.sealing import envelope

    room.harden()
    keys = key_files(options)
    content = read_input(file)
    one = _chosen(content, file, options)
    reached = access(options)
    command = room.editor_command(editor, trusted=trust_editor)
    with room.memory_folder():  # refuse before anything is opened
        pass
    certificate = obtain_one(certificate_wishes(options), reached, doors, warn)
    before = _opened(one, keys) if keys else _read(one, reached, doors)
    unknown = sorted(set(one.items) - set(before))
    after = _edited(before, command, name=f"{one.manifest.namespace}/{one.manifest.name}", unknown=unknown)
    if clash := sorted(set(after) & set(unknown)):
        warn(f"{', '.join(clash)}: replaced, the old value was not known")
    wishes: dict[str, str | None] = {key: None for key in before if key not in after}
    for key, value in after.items():
        if key not in before or before[key] != value:
            wishes[key] = envelope.seal(value, label=one.label, public=certificate.public)
    if not wishes:
        warn("nothing was changed")
        return
    sealed = dict.fromkeys((key for key, text in wishes.items() if text is not None), certificate.fingerprint)
    replace_file(file, content, one.document, item_changes(one, wishes, sealed))
    warn(f"{file}: {len(sealed)} sealed, {len(wishes) - len(sealed)} removed")


def _edited(
    before: Mapping[str, Plaintext], command: list[str], *, name: str, unknown: list[str]
) -> Mapping[str, Plaintext]:
    """Give the values after the editor; a text that is no YAML is offered again on a terminal."""
    from secretsops.sealing import editor as room

    text = room.written(before, name=name, unknown=unknown)
    while True:
        text = room.edit_text(text, command)
        try:
            return room.read_back(text)
        except InvalidManifest as error:
            if not sys.stdin.isatty() or not click.confirm(f"{error.message}. Edit again?", default=True, err=True):
                raise


def _opened(one: Found, keys: tuple[str, ...]) -> dict[str, Plaintext]:
    from secretsops.sealing.offline import key_ring
    from secretsops.sealing.sealed import open_items

    return open_items(one.manifest, key_ring(keys))[0]


def _read(one: Found, reached: Access, doors: Doors) -> dict[str, Plaintext]:
    """Read the values by the caller's own right; only those of sealed items."""
    from secretsops.sealing.sealed import SECRET
    from secretsops.secret import SecretData

    place = f"{one.manifest.namespace}/{one.manifest.name}"
    try:
        secret = reached.cluster(doors).get(SECRET, one.manifest.name, one.manifest.namespace)
    except NotFound:
        raise Refused(
            f"there is no Secret {place} in the cluster to take the values from",
            reason="NoSecret",
            hint="apply the SealedSecret first, or open it with --recovery-private-key; seal set needs no old value",
        ) from None
    except ApiError as error:
        raise type(error)(
            f"cannot read Secret {place}: {error.message}",
            code=error.code,
            reason=error.reason,
            hint="seal edit uses your own right to read it; seal set FILE KEY needs none",
        ) from None
    data = SecretData.of(secret.body)
    return {key: data[key] for key in one.items if key in data}
