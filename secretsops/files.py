"""Files and streams: atomic output, bounded input. Standard library only, so that `seal` starts fast.

What never lives here: YAML, secrets' meaning, anything about clusters.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from secretsops.errors import UsageError, WorldFailed

INPUT_LIMIT = 64 * 1024 * 1024
"""Bytes read from one input at most: etcd refuses objects over 1.5 MiB, so 64 MiB is about forty of the largest."""


def read_input(path: str, *, limit: int = INPUT_LIMIT) -> bytes:
    """Give the bytes of a file, or of standard input for `-`.

    Raises:
        UsageError: the file is not there, is a folder, or is larger than `limit`.
        WorldFailed: it cannot be read.
    """
    try:
        if path == "-":
            content = sys.stdin.buffer.read(limit + 1)
        else:
            with Path(path).open("rb") as source:
                content = source.read(limit + 1)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file", reason="NoSuchFile") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder", reason="IsAFolder", hint="name a file") from None
    except OSError as error:
        raise WorldFailed(f"cannot read {path}: {error.strerror}", reason="Unreadable") from None
    if len(content) > limit:
        raise UsageError(
            f"{path} is larger than {limit // (1024 * 1024)} MiB", reason="TooLarge", hint="split it into several files"
        )
    return content


def write_atomic(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Replace the file at `path` by `content`, all or nothing, durably; keeps the mode of an existing file.

    The bytes go to a temporary file beside it, are flushed to the disk, and take the name by rename; a crash
    or a full disk leaves the old file. `mode` is the permission of a new file (default 0644 less umask).

    Raises:
        WorldFailed: it cannot be written; nothing changed.
    """
    import tempfile  # 4 ms, and printing needs none of it

    path = path.resolve() if path.is_symlink() else path
    temporary = ""
    try:
        if mode is None:
            mode = path.stat().st_mode & 0o7777 if path.exists() else 0o666 & ~_umask()
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as target:
            target.write(content)
            target.flush()
            os.fchmod(target.fileno(), mode)
            os.fsync(target.fileno())
        Path(temporary).replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        raise WorldFailed(
            f"cannot write {path}: {error.strerror}", reason="Unwritable", hint="nothing was changed"
        ) from None


def write_output(content: bytes) -> None:
    """Write to standard output and flush, so that a full disk or a closed pipe is an error and not silence.

    Raises:
        WorldFailed: the other end is gone or full.
    """
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except OSError as error:
        # Python flushes again at exit and would print a second error: give it something that accepts the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise WorldFailed(f"cannot write to standard output: {error.strerror}", reason="Unwritable") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the rename durable; some file systems refuse to open folders, which costs only durability."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
