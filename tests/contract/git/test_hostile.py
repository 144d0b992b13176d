"""Hosts that are down, slow or lie, and repositories made to hurt: each costs an error in time, never the process."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recovery.roots import Choice, estate_of
from secretsops.adapters import git as door_module
from secretsops.adapters.bounded import Bounds, Overflow, run
from secretsops.adapters.git import GitDoor
from secretsops.errors import GitUnavailable, SecretsOpsError
from tests.contract.git.signing import SignedRepository
from tests.recovery.estates import NoRenderer, config_map

APPLICATION = """apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: NAME, namespace: argocd}
spec:
  project: default
  source: {repoURL: "PLACE", path: NAME, targetRevision: main, directory: {recurse: true}}
  destination: {server: https://kubernetes.default.svc, namespace: NAME}
  syncPolicy: {automated: {}, syncOptions: [CreateNamespace=true]}
"""


@pytest.fixture
def silent() -> Iterator[str]:
    """Give the address of a host that takes connections and never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def take() -> None:
        while True:
            try:
                held.append(listener.accept()[0])
            except OSError:
                return

    threading.Thread(target=take, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/estate.git"
    listener.close()
    for one in held:
        one.close()


@pytest.fixture
def trickling() -> Iterator[str]:
    """Give the address of a host that answers a byte at a time, for ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def feed(connection: socket.socket) -> None:
        kind = b"Content-Type: application/x-git-upload-pack-advertisement"
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + kind + b"\r\n\r\n001e# service=git-upload-pack\n")
            while not ended.wait(0.2):
                connection.sendall(b"0")

    def take() -> None:
        while True:
            try:
                threading.Thread(target=feed, args=(listener.accept()[0],), daemon=True).start()
            except OSError:
                return

    threading.Thread(target=take, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/estate.git"
    ended.set()
    listener.close()


def processes_about(word: str) -> list[str]:
    """Give the command lines of living processes that hold a word."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if word in line and "git" in line and folder.name != str(os.getpid()):
            found.append(line)
    return found


@pytest.mark.parametrize("host", ["silent", "trickling"])
def test_a_slow_host_costs_its_deadline_and_leaves_nothing_behind(
    host: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The transport is a process of its own; it ends with the call."""
    url = request.getfixturevalue(host)
    door, began = GitDoor(cache=tmp_path, timeout=1.5), time.monotonic()
    with pytest.raises(GitUnavailable) as caught:
        door.resolve(url, "main")
    assert caught.value.reason == "Timeout"
    assert caught.value.retry
    assert time.monotonic() - began < 15
    if sys.platform == "linux":
        deadline = time.monotonic() + 10
        while processes_about(url) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert processes_about(url) == []


def test_a_host_that_comes_back_is_read(tmp_path: Path) -> None:
    """Down is an answer of the world (exit code 3), and nothing of it is remembered."""
    door = GitDoor(cache=tmp_path / "cache", timeout=20)
    repository = SignedRepository(tmp_path / "estate")
    commit = repository.put({"a.yaml": "one"})
    hidden = repository.folder.rename(tmp_path / "away")
    with pytest.raises(GitUnavailable) as caught:
        door.tree(repository.url, commit)
    assert caught.value.exit_code == 3
    hidden.rename(repository.folder)
    assert door.tree(repository.url, commit).files["a.yaml"] == b"one"


def test_a_branch_that_was_force_pushed_is_said(tmp_path: Path) -> None:
    """A pinned commit that the server has lost is never replaced by what the branch says now."""
    repository = SignedRepository(tmp_path / "estate")
    pinned = repository.put({"a.yaml": "one"})
    seen = GitDoor(cache=tmp_path / "seen", timeout=60)
    assert seen.tree(repository.url, pinned).files["a.yaml"] == b"one"
    repository.git("checkout", "--quiet", "--orphan", "other")
    repository.put({"a.yaml": "another"})
    repository.git("branch", "--force", "main", "other")
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("gc", "--quiet", "--prune=now")
    fresh = GitDoor(cache=tmp_path / "fresh", timeout=60)
    with pytest.raises(GitUnavailable) as caught:
        fresh.tree(repository.url, pinned)
    assert caught.value.reason == "RevisionNotFound"
    assert "force-pushed" in caught.value.hint
    assert seen.tree(repository.url, pinned).files["a.yaml"] == b"one"


def many_files(repository: SignedRepository, count: int) -> None:
    """Commit that many files below `big`, and one application beside them."""
    lines = [b"blob\nmark :1\ndata 2\na\n\n"]
    root = APPLICATION.replace("NAME", "shop").replace("PLACE", repository.url).encode()
    settings = config_map("settings").encode()
    for mark, text in ((2, root), (3, settings)):
        lines.append(b"blob\nmark :%d\ndata %d\n%s\n" % (mark, len(text), text))
    lines.append(b"commit refs/heads/main\ncommitter A <a@example.com> 0 +0000\ndata 1\nx\n")
    lines += [b"M 100644 :2 root.yaml\n", b"M 100644 :3 shop/settings.yaml\n"]
    lines += [b"M 100644 :1 big/%d/%d.txt\n" % (number % 500, number) for number in range(count)]
    repository.git("fast-import", "--quiet", stdin=b"".join(lines))


def test_a_repository_with_a_hundred_thousand_files(tmp_path: Path) -> None:
    """An estate in one folder of it is read as any other; the whole of it is refused by name, in bounded memory."""
    repository = SignedRepository(tmp_path / "estate")
    many_files(repository, door_module.FILE_LIMIT + 1)
    choice = Choice(repo=repository.url, revision="main", path="root.yaml")
    estate = estate_of(repository.door, NoRenderer(), choice)
    assert estate.problems == []
    assert [len(planned.tasks) for planned in estate.applications] == [2]
    with pytest.raises(GitUnavailable) as caught:
        repository.door.tree(repository.url, "main")
    assert caught.value.reason == "TooLarge"


def test_a_tree_that_holds_itself_ten_times_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A billion files in twelve objects: the listing is cut off, not kept."""
    monkeypatch.setattr(door_module, "ANSWER_LIMIT", 8 * 1024 * 1024)
    repository = SignedRepository(tmp_path / "estate")
    repository.put({"a.yaml": "one"})
    inner = repository.git("hash-object", "-w", "--stdin", stdin=b"boom")
    kind = "100644 blob"
    for _ in range(10):
        listing = "".join(f"{kind} {inner}\td{number}\n" for number in range(10))
        inner, kind = repository.git("mktree", stdin=listing.encode()), "40000 tree"
    commit = repository.git("commit-tree", "-m", "bomb", inner)
    repository.git("update-ref", "refs/heads/main", commit)
    began = time.monotonic()
    with pytest.raises(GitUnavailable) as caught:
        repository.door.tree(repository.url, "main")
    assert caught.value.reason == "TooLarge"
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("name", ["..", ".", ".git", "a/b", "a\\..\\b", "-x", "a\nb", "\x7f\x1b[31m"])
def test_names_that_climb_or_mislead(tmp_path: Path, name: str) -> None:
    """A tree entry is a key of a mapping: it is refused, or stays inside, and nothing is written anywhere."""
    repository = SignedRepository(tmp_path / "estate")
    blob = repository.git("hash-object", "-w", "--stdin", stdin=b"text")
    entry = b"100644 " + name.encode() + b"\0" + bytes.fromhex(blob)
    tree = repository.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=entry)
    commit = repository.git("commit-tree", "-m", "names", tree)
    repository.git("update-ref", "refs/heads/main", commit)
    before = sorted(tmp_path.parent.rglob("*"))
    try:
        files = repository.door.tree(repository.url, "main").files
    except SecretsOpsError:
        files = {}
    assert all(".." not in path.split("/") for path in files)
    outside = [path for path in tmp_path.parent.rglob("*") if path not in before and tmp_path not in path.parents]
    assert [path for path in outside if path != tmp_path] == []


def test_links_out_of_the_tree_and_a_broken_file_are_named_and_the_rest_is_planned(tmp_path: Path) -> None:
    """Whatever is wrong in one application, the others are planned; the wrong is told by file."""
    repository = SignedRepository(tmp_path / "estate")
    apps = "---\n".join(APPLICATION.replace("NAME", name).replace("PLACE", repository.url) for name in ("shop", "blog"))
    files = {
        "root.yaml": apps,
        "shop/fine.yaml": config_map("fine"),
        "shop/broken.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x\n",
        "blog/fine.yaml": config_map("fine"),
    }
    repository.put(files)
    (repository.folder / "shop" / "link.yaml").symlink_to("/etc/passwd")
    (repository.folder / "shop" / "up.yaml").symlink_to("../../outside.yaml")
    repository.commit("links")
    choice = Choice(repo=repository.url, revision="main", path="root.yaml")
    estate = estate_of(repository.door, NoRenderer(), choice)
    named = {problem.where: problem.reason for problem in estate.problems}
    assert set(named) >= {"shop/link.yaml", "shop/up.yaml"}
    assert any(where.startswith("shop/broken.yaml") for where in named)
    planned = {one.app.name: [task.manifest.name for task in one.tasks] for one in estate.applications}
    assert planned == {"shop": ["shop", "fine"], "blog": ["blog", "fine"]}


def test_a_program_is_ended_with_what_it_started(tmp_path: Path) -> None:
    """Past its time, or past its limit; what it said in time is whole, input of any size included."""
    environment = {"PATH": os.environ["PATH"]}

    def told(script: str, seconds: float = 30.0, size: int = 1 << 20, stdin: bytes = b"") -> bytes:
        command = [sys.executable, "-c", script]
        return run(command, Bounds(seconds=seconds, size=size), env=environment, cwd=str(tmp_path), stdin=stdin).stdout

    text = os.urandom(900_000)
    assert told("import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())", stdin=text) == text
    assert told("print('deaf')", stdin=text) == b"deaf\n"
    with pytest.raises(Overflow):
        told("while True: print('x' * 1000)")
    mark = tmp_path / "mark"
    child = f"import time; time.sleep(3); open({str(mark)!r}, 'w')"
    with pytest.raises(subprocess.TimeoutExpired):
        told(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])", seconds=1.0)
    time.sleep(3)
    assert not mark.exists()
