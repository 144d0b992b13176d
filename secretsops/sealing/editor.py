"""A person edits secret values: a folder in memory, an editor that keeps nothing, and the text between the two.

The text never touches a disk: it stands on a memory file system, in a folder of its own that only this user can read
and that goes away whatever happens; the editor runs without swap, undo, backup and history files. Where there is no
such file system, or the editor is not known, the answer is no.

What never lives here: where values come from, sealing.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from secretsops.errors import InvalidManifest, Refused, UsageError, WorldFailed
from secretsops.manifest import dump
from secretsops.secret import Plaintext

BUFFER_LIMIT = 4 * 1024 * 1024
"""Bytes of the edited text at most; a Secret holds 1 MiB."""
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_MEMORY = ("tmpfs", "ramfs")
_VIM = ("-n", "-i", "NONE", "--cmd", "set noswapfile nobackup nowritebackup noundofile viminfo= history=0 secure")
_SETTINGS: Mapping[str, Sequence[str]] = {
    "vim": _VIM,
    "gvim": ("-f", *_VIM),
    "nvim": (*_VIM[:-1], "set noswapfile nobackup nowritebackup noundofile shada= history=0"),
    "nano": ("--restricted",),
    "emacs": (
        "--no-init-file",
        "--no-window-system",
        "--eval",
        "(setq make-backup-files nil auto-save-default nil create-lockfiles nil auto-save-list-file-prefix nil)",
    ),
    "micro": ("-backup", "false", "-savehistory", "false", "-saveundo", "false"),
    "ed": (),
}
"""Editors by program name, with the options that keep copies and histories away."""


@contextlib.contextmanager
def memory_folder() -> Iterator[Path]:
    """Give an empty folder on a memory file system, for this user alone, removed at the end.

    Raises:
        Refused: there is none (reason `NoMemoryFileSystem`).
    """
    for candidate in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{os.getuid()}", "/dev/shm"):  # noqa: S108
        if candidate and _in_memory(candidate) and os.access(candidate, os.W_OK | os.X_OK):
            folder = tempfile.mkdtemp(prefix="seal-", dir=candidate)  # 0700
            try:
                yield Path(folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return
    raise Refused(
        "there is no memory file system here, and values are not written to a disk",
        reason="NoMemoryFileSystem",
        hint="seal set FILE KEY takes one value from a prompt; on Linux /dev/shm or XDG_RUNTIME_DIR would do",
    )


def _in_memory(folder: str) -> bool:
    """Say whether a folder lies on tmpfs or ramfs (Linux's mount table)."""
    try:
        real = Path(folder).resolve(strict=True)
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    kinds = {}
    for line in mounts.splitlines():
        _, place, kind, *_ = line.split(" ")
        kinds[place.replace("\\040", " ")] = kind
    for parent in (real, *real.parents):
        if str(parent) in kinds:
            return kinds[str(parent)] in _MEMORY
    return False


def editor_command(command: str, *, trusted: bool) -> list[str]:
    """Give `$EDITOR` with what keeps copies away.

    Raises:
        UsageError: no editor is set, or it is not there.
        Refused: an editor whose habits are not known (reason `UnknownEditor`), unless `trusted`.
    """
    words = shlex.split(command)
    program = shutil.which(words[0]) if words else None
    if program is None:
        raise UsageError(
            f"there is no editor {words[0]!r}" if words else "no editor is set",
            reason="NoEditor",
            hint="EDITOR=vim seal edit FILE, or seal set FILE KEY",
        )
    name = Path(program).resolve().name.partition(".")[0]  # vi -> /etc/alternatives/vi -> vim.basic
    settings = _SETTINGS.get(name, _SETTINGS.get(Path(words[0]).name))
    if settings is None and not trusted:
        raise Refused(
            f"how to keep {name} from writing swap, undo and backup files is not known",
            reason="UnknownEditor",
            hint=f"EDITOR=vim seal edit FILE ({', '.join(sorted(_SETTINGS))} are known); --trust-editor runs it anyway",
        )
    return [program, *(settings or ()), *words[1:]]


def edit_text(text: bytes, command: Sequence[str]) -> bytes:
    """Let a person edit a text and give it back.

    Raises:
        WorldFailed: the editor ended with an error.
        Refused: the text grew beyond the limit, or the file is gone.
    """
    with memory_folder() as folder:
        path = folder / "values.yaml"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            target.write(text)
        environment = {**os.environ, "TMPDIR": str(folder), "LESSHISTFILE": "-", "MYVIMRC": ""}
        done = subprocess.run([*command, str(path)], check=False, cwd=folder, env=environment)
        if done.returncode:
            raise WorldFailed(f"the editor ended with {done.returncode}; nothing was changed", reason="EditorFailed")
        try:
            if path.stat().st_size > BUFFER_LIMIT:
                raise Refused("the edited text is larger than 4 MiB", reason="TooLarge")
            return path.read_bytes()
        except FileNotFoundError:
            raise Refused("the edited file is gone; nothing was changed", reason="EditorFailed") from None


def harden() -> None:
    """Keep this process's memory out of core dumps and away from other processes of the user (SECURITY.md §4)."""
    import ctypes
    import resource

    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


# --- the text ------------------------------------------------------------------------------------------

_HEAD = """\
# Values of {name}; what you change is sealed again, what you take away is removed.
# Everything after a key is text, quotes or not; |- keeps several lines. Quit without saving to change nothing.
"""


def written(values: Mapping[str, Plaintext], *, name: str, unknown: Sequence[str] = ()) -> bytes:
    """Give the text that a person edits: one YAML mapping, other bytes than text as `!!binary`."""
    lines = [_HEAD.format(name=name)]
    lines += [f"# {key}: sealed, its value is not known here; it stays as it is\n" for key in unknown]
    return "".join([*lines, dump({key: _shown(value.reveal()) for key, value in values.items()})]).encode()


def _shown(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def read_back(text: bytes) -> dict[str, Plaintext]:
    """Give the values of an edited text. Every scalar is text, whatever YAML would make of it: `no`, `010`, `1.50`.

    Raises:
        InvalidManifest: no mapping of keys to texts; the message says where and quotes nothing.
    """
    try:
        root = yaml.compose(text.decode(), Loader=yaml.SafeLoader)
    except UnicodeDecodeError:
        raise InvalidManifest("not UTF-8 text", reason="NotUtf8") from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InvalidManifest("not valid YAML", where=where, reason="InvalidYaml") from None
    if not isinstance(root, yaml.MappingNode):
        raise InvalidManifest("no mapping of keys to values is left", reason="EmptyEdit")
    values: dict[str, Plaintext] = {}
    for key, value in root.value:
        where = f"line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode) or not isinstance(value, yaml.ScalarNode):
            raise InvalidManifest("a value is one text, no list and no mapping", where=where, reason="NotText")
        if not _KEY.fullmatch(key.value) or key.value in values:
            raise InvalidManifest("the key is not one of a Secret, or stands twice", where=where, reason="BadKey")
        if value.tag == "tag:yaml.org,2002:binary":
            try:
                values[key.value] = Plaintext(base64.b64decode("".join(value.value.split()), validate=True))
            except (binascii.Error, ValueError):
                raise InvalidManifest("!!binary is not base64", where=where, reason="InvalidBase64") from None
        else:
            values[key.value] = Plaintext(value.value.encode())
    return values
