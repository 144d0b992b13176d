"""Places for escrow bundles: which URL is which sink, and the folder (a mounted disk, a synchronised share).

Files appear whole or not at all and are never overwritten. Never here: what the files mean, other vendors' sinks.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from secretsops.errors import BrokenEscrow, UsageError, WorldFailed
from secretsops.ports import Sink, SinkAccess, Stored, Trial

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
CANARY = b"canary of secretsops escrow: overwriting or deleting this must fail\n"
SIZE_LIMIT = 64 * 1024 * 1024
"""Bytes of one file; 1,000 keys take 6 MB."""


def is_name(name: str) -> bool:
    """Say whether a text can be the name of an escrow file: no folder, no hidden file, 200 characters."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> None:
    """Refuse what can be no name; raises `BrokenEscrow` with reason `BadName`."""
    if not is_name(name):
        raise BrokenEscrow(f"{name[:80]!r} is no name of an escrow file", reason="BadName")


_VENDORS = {
    "s3": ("secretsops.adapters.sink_s3", "S3Sink"),
    "git+https": ("secretsops.adapters.sink_git", "GitSink"),
    "git+http": ("secretsops.adapters.sink_git", "GitSink"),
    "git+file": ("secretsops.adapters.sink_git", "GitSink"),
    "vault+https": ("secretsops.adapters.sink_vault", "VaultSink"),
    "vault+http": ("secretsops.adapters.sink_vault", "VaultSink"),
    "kube": ("secretsops.adapters.sink_kube", "KubeSink"),
}
"""Class by scheme; a module is imported when its scheme is asked for."""


def open_sink(place: str | SinkAccess) -> Sink:
    """Open a sink by folder path or URL (`file`, `s3`, `git+https`, `vault+https`, `kube`), no request yet.

    Raises:
        UsageError: another scheme, no path, or a URL that its sink cannot use.
    """
    access = SinkAccess(url=place) if isinstance(place, str) else place
    parts = urlsplit(access.url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return FolderSink(Path(unquote(parts.path)))
    if parts.scheme in _VENDORS:
        module, name = _VENDORS[parts.scheme]
        opened: Sink = getattr(importlib.import_module(module), name)(access)
        return opened
    if "://" in access.url or not access.url:
        raise UsageError(
            f"'{parts.scheme}' is no place for an escrow",
            reason="UnknownSink",
            hint=f"give a folder, or a URL of {', '.join(_VENDORS)}",
        )
    return FolderSink(Path(access.url))


class FolderSink:
    """A folder. Satisfies `secretsops.ports.Sink`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def name(self) -> str:
        """Give the folder."""
        return str(self._folder)

    def put(self, name: str, content: bytes) -> Stored:
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
        return Stored()

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

    def describe(self, name: str) -> Stored:
        """Say that a file is there: a folder knows neither versions nor retention."""
        if not self._path(name).is_file():
            raise BrokenEscrow(f"{name} is not in {self.name}", reason="Missing")
        return Stored()

    def trial(self, canary: str) -> Trial:
        """Try to overwrite and to delete a canary; who owns a folder may, so only special file systems pass."""
        self.put(canary, CANARY)
        target = self._path(canary)
        lost = []
        try:
            target.write_bytes(CANARY + b"overwritten")
            lost.append("overwritten")
        except OSError:
            pass
        try:
            target.unlink()
            lost.append("deleted")
        except OSError:
            pass
        return Trial(problem=f"whoever writes here can have files {' and '.join(lost)}" if lost else "")

    def _path(self, name: str) -> Path:
        check_name(name)
        return self._folder / name

    def _sync(self) -> None:
        """Make the new name durable."""
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
