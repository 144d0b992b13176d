"""Files and streams: atomic output, bounded input. Standard library only, so that `seal` starts fast.

What never lives here: YAML, secrets' meaning, anything about clusters.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from secretsops.errors import UsageError, WorldFailed

INPUT_LIMIT = 64 * 1024 * 1024
"""Bytes read from one input at most: etcd refuses objects over 1.5 MiB, so 64 MiB is about forty of the largest."""


SPOOL_LIMIT = 16 * 1024 * 1024
"""Bytes of output held in memory at most before they go to an unnamed file."""


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


@contextlib.contextmanager
def open_input(path: str, *, limit: int = INPUT_LIMIT) -> Iterator[tuple[Iterator[bytes], int]]:
    """Give the lines of a file, or of standard input for `-`, as they come, and its size (0 when unknown).

    Raises:
        UsageError: the file is not there, is a folder, or one line is longer than `limit`.
        WorldFailed: it cannot be read.
    """
    try:
        with contextlib.ExitStack() as stack:
            source: IO[bytes] = sys.stdin.buffer if path == "-" else stack.enter_context(Path(path).open("rb"))
            yield _lines(source, path, limit), 0 if path == "-" else Path(path).stat().st_size
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file", reason="NoSuchFile") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder", reason="IsAFolder", hint="name a file") from None
    except OSError as error:
        raise WorldFailed(f"cannot read {path}: {error.strerror}", reason="Unreadable") from None


def _lines(source: IO[bytes], path: str, limit: int) -> Iterator[bytes]:
    while line := source.readline(limit + 1):
        if len(line) > limit:
            raise UsageError(f"{path}: a line is longer than {limit // (1024 * 1024)} MiB", reason="TooLarge")
        yield line


def write_atomic(path: Path, content: bytes | Iterable[bytes], *, mode: int | None = None) -> None:
    """Replace the file at `path` by `content` (or its parts), all or nothing, durably; keeps an existing file's mode.

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
            target.writelines([content] if isinstance(content, bytes) else content)
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


class Spool:
    """Bytes that are held back until all of them are there: in memory first, past `limit` in an unnamed file.

    For what may stand on a disk: sealed data, never plaintext.
    """

    def __init__(self, *, limit: int = SPOOL_LIMIT) -> None:
        self._parts: list[bytes] = []
        self._left = limit
        self._file: IO[bytes] | None = None

    def write(self, content: bytes) -> None:
        """Add a part.

        Raises:
            WorldFailed: the disk is full.
        """
        try:
            if self._file is None and len(content) <= self._left:
                self._left -= len(content)
                self._parts.append(content)
                return
            if self._file is None:
                import tempfile

                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - `close` does it
                self._file.writelines(self._parts)
                self._parts = []
            self._file.write(content)
        except OSError as error:
            raise WorldFailed(f"cannot hold the output back: {error.strerror}", reason="Unwritable") from None

    def close(self) -> None:
        """Let go of what is held."""
        self._parts = []
        if self._file is not None:
            self._file.close()

    def __iter__(self) -> Iterator[bytes]:
        if self._file is None:
            yield from self._parts
            return
        self._file.seek(0)
        while part := self._file.read(1024 * 1024):
            yield part


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
