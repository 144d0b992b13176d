"""A kit on a disk: written all or nothing as a folder or an archive, and opened into a folder of our own.

An archive is plain tar, files alone, sorted, without times or owners, so that equal kits have equal bytes. What is
opened was copied and digested in one go: nobody can change it between the look and the use. Never here: what a kit
must hold (`kit.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from recovery.kit import FILE, FILE_LIMIT, SIZE_LIMIT, SUMS, Kit, Listed, broken, is_path, read_kit
from secretsops.errors import Refused, UsageError, WorldFailed

_CHUNK = 1024 * 1024
ARCHIVE = ".tar"


def listed(files: Mapping[str, bytes]) -> tuple[Listed, ...]:
    """Give files as a kit lists them."""
    return tuple(
        Listed(path=path, size=len(files[path]), sha256=hashlib.sha256(files[path]).hexdigest())
        for path in sorted(files)
    )


def write(target: Path, kit: Kit, files: Mapping[str, bytes]) -> None:
    """Write a kit: as an archive where the name ends in `.tar`, else as a folder; it appears whole or not at all.

    Raises:
        UsageError: something is there already. WorldFailed: it cannot be written; nothing is left.
    """
    whole = {**files, FILE: kit.text(), SUMS: kit.sums()}
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} is there already", reason="Exists", hint="a kit is never overwritten: name another")
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        _remove(temporary)
        if target.suffix == ARCHIVE:
            with temporary.open("xb") as file:
                _archive(file, whole)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        else:
            for path, content in sorted(whole.items()):
                place = temporary / path
                place.parent.mkdir(parents=True, exist_ok=True)
                with place.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            temporary.rename(target)
    except OSError as error:
        _remove(temporary)
        raise WorldFailed(f"cannot write {target}: {error.strerror}", reason="Unwritable") from None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _archive(file: IO[bytes], files: Mapping[str, bytes]) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(files):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(files[path]), 0o644
            archive.addfile(entry, io.BytesIO(files[path]))


@contextlib.contextmanager
def opened(source: Path) -> Iterator[tuple[Kit, Path]]:
    """Give a kit and a folder with its files, each proven to be what the kit lists; gone at the end.

    Raises:
        UsageError: there is no kit. Refused: reason `BrokenKit`; what is wrong is named.
    """
    with tempfile.TemporaryDirectory(prefix="secretsops-kit-") as name:
        folder = Path(name) / "kit"
        folder.mkdir(mode=0o700)
        if source.is_dir():
            found = _copy_folder(source, folder)
        elif source.is_file():
            found = _unpack(source, folder)
        else:
            raise UsageError(f"{source} is no kit", reason="NoKit", hint="secretsops recover kit write --to kit.tar")
        if FILE not in found:
            raise broken(f"{source} holds no {FILE}")
        kit = read_kit((folder / FILE).read_bytes())
        wanted = {one.path: one for one in kit.files}
        for path in sorted(found):
            if path not in wanted and path not in (FILE, SUMS):
                raise broken(f"{path} is in the kit and {FILE} does not list it")
        for path, one in wanted.items():
            if path not in found:
                raise broken(f"{path} is missing")
            if (found[path].size, found[path].sha256) != (one.size, one.sha256):
                raise broken(f"{path} is not what {FILE} lists")
        if SUMS not in found or (folder / SUMS).read_bytes() != kit.sums():
            raise broken(f"{SUMS} is not that of this kit")
        yield kit, folder


class _Budget:
    """What a kit may hold at most, while it is read."""

    def __init__(self) -> None:
        self.files, self.size = 0, 0

    def take(self, path: str, size: int) -> None:
        self.files, self.size = self.files + 1, self.size + size
        if self.files > FILE_LIMIT + 2 or self.size > SIZE_LIMIT:
            raise broken(f"the kit holds too much at {path}")


def _copy_folder(source: Path, folder: Path) -> dict[str, Listed]:
    found: dict[str, Listed] = {}
    budget = _Budget()
    for root, folders, names in os.walk(source):
        for name in [*folders, *names]:
            place = Path(root) / name
            path = place.relative_to(source).as_posix()
            if not is_path(path) or place.is_symlink() or not (place.is_dir() or place.is_file()):
                raise broken(f"{path[:200]!r} is no file of a kit")
            if place.is_dir():
                continue
            budget.take(path, place.stat().st_size)
            try:
                descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW)
            except OSError as error:
                raise Refused(f"cannot read {path}: {error.strerror}", reason="BrokenKit") from None
            with os.fdopen(descriptor, "rb") as file:
                found[path] = _take(file, path, folder)
    return found


def _unpack(source: Path, folder: Path) -> dict[str, Listed]:
    """Read an archive: regular files by plain names, each once; a link, a climbing or absolute name ends it."""
    found: dict[str, Listed] = {}
    budget = _Budget()
    try:
        with tarfile.open(source, mode="r:") as archive:
            for entry in archive:
                if not entry.isreg() or entry.issparse() or not is_path(entry.name) or entry.name in found:
                    raise broken(f"the archive holds {entry.name[:200]!r}, which is no file of a kit")
                budget.take(entry.name, entry.size)
                reader = archive.extractfile(entry)
                if reader is None:
                    raise broken(f"{entry.name} cannot be read")
                found[entry.name] = _take(reader, entry.name, folder)
    except (tarfile.TarError, EOFError, ValueError, OverflowError):
        raise broken(f"{source} is no archive of a kit") from None
    except OSError as error:
        raise Refused(f"cannot read {source}: {error.strerror}", reason="BrokenKit") from None
    return found


def _take(reader: IO[bytes], path: str, folder: Path) -> Listed:
    """Copy one file into our folder and digest it on the way; gives what it turned out to be."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with target.open("xb") as file:
        while part := reader.read(_CHUNK):
            digest.update(part)
            size += len(part)
            file.write(part)
    return Listed(path=path, size=size, sha256=digest.hexdigest())
