"""Kits on a disk: every byte counts, nothing climbs out, a bundle gives what it says; on real files and real Git."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from recovery.kit import FILE, SUMS, Kit, KitRepos, Packed, read_kit
from recovery.kit_files import listed, opened, write
from secretsops.adapters.source_files import SourceFiles, branch_of
from secretsops.errors import GitUnavailable, Refused, UsageError, WorldFailed
from secretsops.ports import SourceFile

FILES = {"git/a-1.bundle": b"one" * 99, "escrow/epoch-00000001.json": b"{}", "README.md": b"read me", "empty": b""}


def a_kit(files: dict[str, bytes] = FILES) -> Kit:
    source = Packed(url="https://git.invalid/a.git", file="git/a-1.bundle", commits=("a" * 40,))
    facts = {"created": "2026-01-01T00:00:00Z", "repo": "https://git.invalid/a.git", "revision": "main", "path": ""}
    return Kit(**facts, plan="p", sources=(source,), files=listed(files))  # type: ignore[arg-type]


def test_equal_kits_have_equal_bytes(tmp_path: Path) -> None:
    """As archive and as folder, whenever and by whomever they are written; both open as they were."""
    for name in ("one.tar", "two.tar", "folder"):
        write(tmp_path / name, a_kit(), FILES)
        with opened(tmp_path / name) as (kit, folder):
            assert kit == a_kit()
            assert {path: (folder / path).read_bytes() for path in FILES} == FILES
        assert not folder.exists()
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    sums = subprocess.run(["sha256sum", "-c", "--quiet", SUMS], cwd=tmp_path / "folder", check=False)
    assert sums.returncode == 0
    with pytest.raises(UsageError, match="is there already"):
        write(tmp_path / "one.tar", a_kit(), FILES)


def test_every_byte_of_a_kit_counts(tmp_path: Path) -> None:
    """One changed bit of any file, one file less, a link in its place, one more: each is refused."""
    whole = tmp_path / "kit"
    write(whole, a_kit(), FILES)
    for path in [*FILES, FILE, SUMS]:
        copy = tmp_path / "copy"
        shutil.copytree(whole, copy)
        content = bytearray((copy / path).read_bytes() or b"x")
        for position in {0, len(content) // 2, len(content) - 1}:
            content[position] ^= 1
            (copy / path).write_bytes(bytes(content))
            with pytest.raises(Refused) as caught, opened(copy):
                pass
            assert caught.value.reason == "BrokenKit", path
            content[position] ^= 1
        (copy / path).unlink()
        with pytest.raises(Refused), opened(copy):
            pass
        (copy / path).symlink_to(whole / path)
        with pytest.raises(Refused), opened(copy):
            pass
        shutil.rmtree(copy)
    (whole / "more.txt").write_text("x")
    with pytest.raises(Refused, match=r"more\.txt"), opened(whole):
        pass


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"kind": "Other"},
        {"more": 1},
        {"files": [{"path": "../x", "size": 1, "sha256": ""}]},
        {"files": [{"path": "a", "size": True, "sha256": ""}]},
        {"files": [{"path": "b", "size": 1, "sha256": ""}, {"path": "a", "size": 1, "sha256": ""}]},
        {"files": [{"path": "kit.json", "size": 1, "sha256": ""}]},
        {"files": [{"path": "a", "size": 1 << 60, "sha256": ""}]},
        {"files": 1},
        {"sources": [{"url": "x", "file": "elsewhere", "commits": []}]},
    ],
)
def test_what_is_no_manifest(change: dict[str, object]) -> None:
    """Another version, field, order, type or path is refused, not guessed at."""
    from secretsops.escrow import canonical

    assert read_kit(a_kit().text()) == a_kit()
    with pytest.raises(Refused) as caught:
        read_kit(canonical.encode({**a_kit().body(), **change}))
    assert caught.value.reason == "BrokenKit"


@pytest.mark.parametrize("name", ["kit.tar", "kit"])
def test_a_full_disk_leaves_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write is all or nothing; the next one is not in its way."""
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorldFailed, match="No space left"):
        write(tmp_path / name, a_kit(), FILES)
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / name, a_kit(), FILES)


NAMES = ("../evil", "/etc/evil", "a/../../evil", "escrow/./x", ".hidden", "a//b", "x" * 250, "git/\x00x", "café")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_an_archive_cannot_climb_out(name: str, kind: bytes, tmp_path: Path) -> None:
    """Climbing, absolute, hidden and odd names, links and devices end the reading; nothing appears outside."""
    file = tmp_path / "kit.tar"
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("plain" if kind != tarfile.REGTYPE and name == NAMES[0] else name)
        entry.type, entry.linkname = kind, "../../evil"
        archive.addfile(entry)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Refused) as caught, opened(file):
        pass
    assert caught.value.reason == "BrokenKit"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("cut", [0, 1, 511, 512, 700, 1024])
def test_half_an_archive_is_no_kit(cut: int, tmp_path: Path) -> None:
    """A download that was cut off is refused, whatever is left of it."""
    file = tmp_path / "kit.tar"
    with tarfile.open(file, "w") as archive:
        archive.add(__file__, "README.md")
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(Refused), opened(file):
        pass


# --- bundles -------------------------------------------------------------------------------------------


def _git(folder: Path, *words: str) -> str:
    person = {f"GIT_{who}_{what}": "t@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    plain = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, **person}
    done = subprocess.run(["git", *words], cwd=folder, env=plain, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, str, str]:
    """Give a repository with two commits, and both."""
    work = tmp_path / "work"
    work.mkdir()
    _git(work, "init", "--quiet", "--initial-branch=main")
    shas = []
    for number in (1, 2):
        (work / "a.yaml").write_text(f"a: {number}\n" * 100)
        _git(work, "add", "--all")
        _git(work, "commit", "--quiet", "--message=change")
        shas.append(_git(work, "rev-parse", "HEAD"))
    return work, shas[0], shas[1]


def test_a_bundle_is_what_git_reads_and_always_the_same(repository: tuple[Path, str, str], tmp_path: Path) -> None:
    """From two caches the same bytes; stock git clones it; opened, it gives its commits and nothing else."""
    work, first, second = repository
    one = SourceFiles(cache=tmp_path / "c1").pack(work.as_uri(), [second, first])
    also = SourceFiles(cache=tmp_path / "c2")
    also.pack(work.as_uri(), [first])
    assert also.pack(work.as_uri(), [first, second]) == one
    file = tmp_path / "a.bundle"
    file.write_bytes(one)
    _git(tmp_path, "clone", "--quiet", "-b", branch_of(second), str(file), "clone")
    assert (tmp_path / "clone" / "a.yaml").read_text() == "a: 2\n" * 100
    shutil.rmtree(work)
    source = SourceFile(url="https://git.invalid/a.git", commits=(first, second), path=str(file))
    door = SourceFiles(cache=tmp_path / "c3").opened([source], str(tmp_path / "opened"))
    pins = {"https://git.invalid/a.git@main": second, "https://git.invalid/a.git@v1": first}
    kit = KitRepos(door, pins)
    assert kit.tree("https://git.invalid/a.git", "main").files == {"a.yaml": b"a: 2\n" * 100}
    assert kit.tree("https://git.invalid/a.git", first).revision == first
    assert [each.sha for each in kit.history("https://git.invalid/a.git", "main", limit=9)] == [second, first]
    for url, revision in (("https://git.invalid/a.git", "dev"), ("https://git.invalid/b.git", second)):
        with pytest.raises(GitUnavailable) as caught:
            kit.tree(url, revision)
        assert caught.value.reason == "NotInKit"
    with pytest.raises(GitUnavailable) as caught:
        door.tree("helm+https://charts.invalid#x", "1.0@sha256:" + "a" * 64)
    assert caught.value.reason == "NotInKit"


def test_a_bundle_that_was_changed_does_not_open(repository: tuple[Path, str, str], tmp_path: Path) -> None:
    """Git names content by its digest: a flipped bit anywhere, a cut, or another commit than listed is refused."""
    work, first, second = repository
    whole = SourceFiles(cache=tmp_path / "c").pack(work.as_uri(), [second])
    file = tmp_path / "a.bundle"
    changed = [whole[:-30], b"", whole.replace(second.encode(), first.encode())]
    changed += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), len(whole) // 12)]
    for number, content in enumerate(changed):
        file.write_bytes(content)
        source = SourceFile(url="https://git.invalid/a.git", commits=(second,), path=str(file))
        with pytest.raises(Refused) as caught:
            SourceFiles(cache=tmp_path / "c").opened([source], str(tmp_path / f"opened{number}"))
        assert caught.value.reason == "BrokenBundle"


def test_a_commit_that_a_force_push_took_is_named(repository: tuple[Path, str, str], tmp_path: Path) -> None:
    """Between the point and the kit: nothing else is packed in its place."""
    work, _, _ = repository
    with pytest.raises(GitUnavailable) as caught:
        SourceFiles(cache=tmp_path / "c").pack(work.as_uri(), ["b" * 40])
    assert caught.value.reason == "RevisionNotFound"
    assert "force-pushed" in caught.value.hint
