"""Places for escrow bundles. A folder, for now: a mounted disk, a synchronised share, another repository's checkout.

Files appear whole or not at all and are never overwritten. Never here: what the files mean.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from secretsops.errors import BrokenEscrow, UsageError, WorldFailed
from secretsops.ports import Sink

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
SIZE_LIMIT = 64 * 1024 * 1024
"""Bytes of one file; 1,000 keys take 6 MB."""


def open_sink(url: str) -> Sink:
    """Open a sink by folder path or `file://` URL.

    Raises:
        UsageError: another scheme, or no path.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return FolderSink(Path(unquote(parts.path)))
    if "://" in url or not url:
        raise UsageError(
            f"'{parts.scheme}' is no place for an escrow in this version", reason="UnknownSink", hint="give a folder"
        )
    return FolderSink(Path(url))


class FolderSink:
    """A folder. Satisfies `secretsops.ports.Sink`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def name(self) -> str:
        """Give the folder."""
        return str(self._folder)

    def put(self, name: str, content: bytes) -> None:
        """Write a new file durably; the same content again is fine, another raises `BrokenEscrow`."""
        target = self._path(name)
        temporary = self._folder / f".{name}.{secrets.token_hex(6)}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            # A link, unlike a rename, never replaces what is there.
            os.link(temporary, target)
            self._sync()
        except FileExistsError:
            if self.get(name) != content:
                raise BrokenEscrow(
                    f"{name} is in {self.name} already, with another content",
                    reason="Exists",
                    hint="does another cluster write to this folder? give each its own",
                ) from None
        except OSError as error:
            raise WorldFailed(f"cannot write to {self.name}: {error.strerror}", reason="Unwritable") from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def get(self, name: str) -> bytes:
        """Read one file; raises `BrokenEscrow` with reason `Missing` when it is not there."""
        try:
            with self._path(name).open("rb") as file:
                content = file.read(SIZE_LIMIT + 1)
        except FileNotFoundError:
            raise BrokenEscrow(f"{name} is not in {self.name}", reason="Missing") from None
        except OSError as error:
            raise WorldFailed(f"cannot read from {self.name}: {error.strerror}", reason="Unreadable") from None
        if len(content) > SIZE_LIMIT:
            raise BrokenEscrow(f"{name} is larger than {SIZE_LIMIT >> 20} MiB", reason="TooLarge")
        return content

    def names(self, prefix: str = "") -> Sequence[str]:
        """List file names, sorted; a folder that is not there is empty."""
        try:
            found = [entry.name for entry in self._folder.iterdir() if entry.is_file()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise WorldFailed(f"cannot list {self.name}: {error.strerror}", reason="Unreadable") from None
        return sorted(name for name in found if name.startswith(prefix) and _NAME.fullmatch(name))

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise BrokenEscrow(f"{name[:80]!r} is no name of an escrow file", reason="BadName")
        return self._folder / name

    def _sync(self) -> None:
        """Make the new name durable."""
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
