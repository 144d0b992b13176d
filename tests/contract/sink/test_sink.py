"""What every escrow sink keeps: files appear whole, once, and never change."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from secretsops.adapters.sinks import FolderSink, open_sink
from secretsops.errors import BrokenEscrow, UsageError, WorldFailed
from secretsops.ports import SinkAccess
from secretsops.secret import Plaintext
from tests.contract.sink.worlds import KINDS, World, world


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the contract on every kind of sink."""
    if "place" in metafunc.fixturenames:
        metafunc.parametrize("place", KINDS, indirect=True)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """Give an empty place of a kind."""
    return world(request.param, request, tmp_path)


def test_what_was_put_is_given_back(place: World) -> None:
    """To the reader, a credential of its own; names are sorted; an empty sink has none."""
    assert list(place.reader.names()) == []
    written = place.writer.put("b.age", b"two")
    place.writer.put("a.json", b"one")
    assert (list(place.reader.names()), place.reader.get("b.age")) == (["a.json", "b.age"], b"two")
    assert list(place.reader.names("b")) == ["b.age"]
    assert place.reader.describe("b.age") == written
    assert bool(written.retained_until) == place.retained


def test_nothing_is_overwritten(place: World) -> None:
    """The same content again is fine, another is refused, and the first stays."""
    first = place.writer.put("a", b"one")
    assert place.writer.put("a", b"one") == first
    with pytest.raises(BrokenEscrow) as caught:
        place.writer.put("a", b"two")
    assert caught.value.reason == "Exists"
    assert place.reader.get("a") == b"one"


def test_of_writers_that_race_one_wins(place: World) -> None:
    """Each name gets one content, whatever the order; every writer that was told yes wrote that."""

    def attempt(number: int) -> bytes:
        content = f"writer {number}".encode()
        try:
            place.writer.put("epoch", content)
        except BrokenEscrow:
            return b""
        return content

    with ThreadPoolExecutor(4) as pool:
        told = {content for content in pool.map(attempt, range(4)) if content}
    assert told == {place.reader.get("epoch")}


def test_a_missing_file_is_broken_escrow(place: World) -> None:
    """Not a crash of the library below."""
    place.writer.put("something", b"x")
    for ask in (place.reader.get, place.reader.describe):
        with pytest.raises(BrokenEscrow) as caught:
            ask("nothing")
        assert caught.value.reason == "Missing"
    with pytest.raises(BrokenEscrow):
        place.reader.get("../something")


def test_a_large_file_survives(place: World) -> None:
    """A bundle of 80 keys; random bytes, as ciphertext is."""
    content = os.urandom(500_000)
    place.writer.put("large.age", content)
    assert place.reader.get("large.age") == content


def test_a_guarded_place_keeps_its_canary(place: World) -> None:
    """And is found out where whoever writes may also overwrite or delete; a second trial says the same."""
    for _ in range(2):
        assert place.writer.trial("canary-1").durable == place.guarded
    assert place.weak.trial("canary-1").problem
    place.writer.put("epoch", b"one")
    assert place.reader.get("epoch") == b"one"


@pytest.mark.parametrize("kind", ["vault", "kube"])
def test_the_reader_cannot_write(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Where the server knows rights: the emulation of S3 and the sandbox's Git server take anybody."""
    place = world(kind, request, tmp_path)
    with pytest.raises(WorldFailed):
        place.reader.put("a", b"one")
    assert list(place.reader.names()) == []


def test_s3_reads_what_was_written_first(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A later version and a deletion marker hide nothing from us."""
    import boto3

    place = world("s3", request, tmp_path)
    place.writer.put("epoch", b"one")
    parts = urlsplit(place.writer.name)
    url = request.getfixturevalue("moto").url
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    client.put_object(Bucket=parts.netloc, Key="prod/epoch", Body=b"forged")
    assert place.reader.get("epoch") == b"one"
    client.delete_object(Bucket=parts.netloc, Key="prod/epoch")
    assert (place.reader.get("epoch"), list(place.reader.names())) == (b"one", ["epoch"])
    with pytest.raises(BrokenEscrow):
        place.writer.put("epoch", b"two")


def test_git_reads_what_was_added_first(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A commit that changes or removes a file takes nothing away; a merge is refused."""
    place = world("git", request, tmp_path)
    place.writer.put("epoch", b"one")
    url = place.writer.name.removeprefix("git+").partition("#")[0]
    work = tmp_path / "work"

    def git(*words: str) -> None:
        who = ["-c", "user.name=x", "-c", "user.email=x@x"]
        subprocess.run(["git", *who, *words], cwd=work, check=True, capture_output=True)

    work.mkdir()
    git("clone", "--quiet", "--branch", "escrow/prod", url, ".")
    (work / "epoch").write_bytes(b"forged")
    git("commit", "--quiet", "-am", "forge")
    git("push", "--quiet")
    assert place.reader.get("epoch") == b"one"
    git("rm", "--quiet", "epoch")
    git("commit", "--quiet", "-m", "remove")
    git("push", "--quiet")
    assert (place.reader.get("epoch"), list(place.reader.names())) == (b"one", ["epoch"])
    git("checkout", "--quiet", "--orphan", "other")
    (work / "epoch").write_bytes(b"another past")
    git("add", ".")
    git("commit", "--quiet", "-m", "another past")
    git("merge", "--quiet", "--allow-unrelated-histories", "--strategy=ours", "--no-edit", "escrow/prod")
    git("push", "--quiet", "origin", "other:escrow/prod")
    with pytest.raises(BrokenEscrow) as caught:
        place.reader.get("epoch")
    assert caught.value.reason == "Merged"


def test_a_vault_that_is_away_is_the_world_s_fault() -> None:
    """Said as such, without the token."""
    token = "s.very-secret-token"
    access = SinkAccess(url="vault+http://127.0.0.1:1/secret/x", credentials={"token": Plaintext(token.encode())})
    with pytest.raises(WorldFailed) as caught:
        open_sink(access).names()
    assert token not in f"{caught.value} {caught.value.hint}"


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
    for url in ("ftp://bucket/x", "https://x.example", "", "s3://", "git+https://x.example/y.git", "kube:///x"):
        with pytest.raises(UsageError):
            open_sink(url)
