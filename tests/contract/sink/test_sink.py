"""What every escrow sink keeps: files appear whole, once, and never change."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from secretsops.adapters.sinks import FolderSink, open_sink
from secretsops.errors import BrokenEscrow, UsageError, WorldFailed
from secretsops.ports import Sink
from tests.fakes.sink import FakeSink


@pytest.fixture(params=["fake", "folder"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Sink:
    return FakeSink() if request.param == "fake" else FolderSink(tmp_path / "new" / "escrow")


def test_what_was_put_is_given_back(sink: Sink) -> None:
    """Names are sorted; an empty sink has none."""
    assert sink.names() == []
    sink.put("b.age", b"two")
    sink.put("a.json", b"one")
    assert (list(sink.names()), sink.get("b.age")) == (["a.json", "b.age"], b"two")
    assert list(sink.names("b")) == ["b.age"]


def test_nothing_is_overwritten(sink: Sink) -> None:
    """The same content again is fine, another is refused, and the first stays."""
    sink.put("a", b"one")
    sink.put("a", b"one")
    with pytest.raises(BrokenEscrow):
        sink.put("a", b"two")
    assert sink.get("a") == b"one"


def test_a_missing_file_is_broken_escrow(sink: Sink) -> None:
    """Not a crash of the library below."""
    with pytest.raises(BrokenEscrow) as caught:
        sink.get("nothing")
    assert caught.value.reason == "Missing"


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a\0b", "x" * 300])
def test_a_folder_is_not_left(tmp_path: Path, name: str) -> None:
    """A name from a hostile index reaches no other file."""
    with pytest.raises(BrokenEscrow):
        FolderSink(tmp_path / "escrow").put(name, b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_the_world_s_fault(tmp_path: Path) -> None:
    """Said as such, with its name."""
    (tmp_path / "escrow").write_text("x")
    with pytest.raises(WorldFailed, match="escrow"):
        FolderSink(tmp_path / "escrow").put("a", b"x")


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """No half-written file is visible, nor left behind."""
    program = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from pathlib import Path\n"
        "from secretsops.adapters.sinks import FolderSink\n"
        "from secretsops.errors import WorldFailed\n"
        "try: FolderSink(Path(sys.argv[1])).put('a', b'x' * 5000)\n"
        "except WorldFailed: sys.exit(7)\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=environment, check=False)
    assert done.returncode == 7
    assert list(tmp_path.iterdir()) == []


def test_urls(tmp_path: Path) -> None:
    """A path or file:// is a folder; anything else is refused by name."""
    assert open_sink(tmp_path.as_uri()).name == str(tmp_path)
    for url in ("s3://bucket/x", "https://x.example", ""):
        with pytest.raises(UsageError):
            open_sink(url)
