"""Output is all or nothing; input is bounded."""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from secretsops.errors import UsageError, WorldFailed
from secretsops.files import read_input, write_atomic


def test_a_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    """0666 less umask, or what was asked for."""
    old = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a", b"1")
        write_atomic(tmp_path / "b", b"1", mode=0o600)
    finally:
        os.umask(old)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "b")]
    assert modes == [0o640, 0o600]
    assert (tmp_path / "a").read_bytes() == b"1"


def test_an_existing_file_keeps_its_mode(tmp_path: Path) -> None:
    """Content changes, permission does not."""
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o604)
    write_atomic(path, b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o604)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """The file it points to is written."""
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


@pytest.mark.parametrize("step", ["fsync", "fchmod"])
def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """A full disk at any step: the old content, no temporary file, an error with a reason."""
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, full)
    with pytest.raises(WorldFailed, match="No space left") as caught:
        write_atomic(path, b"new")
    assert (caught.value.reason, caught.value.hint) == ("Unwritable", "nothing was changed")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """It is not made."""
    with pytest.raises(WorldFailed, match="nowhere"):
        write_atomic(tmp_path / "nowhere" / "a", b"1")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a folder, too large: each with its reason."""
    (tmp_path / "large").write_bytes(b"x" * 11)
    for name, reason in (("missing", "NoSuchFile"), (".", "IsAFolder"), ("large", "TooLarge")):
        with pytest.raises(UsageError) as caught:
            read_input(str(tmp_path / name), limit=10)
        assert caught.value.reason == reason


def test_input_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, or standard input for a dash."""
    (tmp_path / "a").write_bytes(b"\x00\xff")
    assert read_input(str(tmp_path / "a")) == b"\x00\xff"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"from stdin")))
    assert read_input("-") == b"from stdin"


def test_a_full_standard_output_is_an_error() -> None:
    """And one error only: Python's own flush at exit says nothing more."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    program = (
        "from secretsops.files import write_output\n"
        "from secretsops.errors import WorldFailed\n"
        "try: write_output(b'x' * 100000)\n"
        "except WorldFailed as error: raise SystemExit(error.exit_code)\n"
    )
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (3, b"")
