"""The Git door over HTTP, over `file://` and in memory: revisions, trees, what a hostile repository cannot do."""

from __future__ import annotations

import http.server
import os
import secrets
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from drills.sandbox.git_server import GitServer, Repository
from secretsops.adapters.git import GitDoor
from secretsops.errors import GitUnavailable, UsageError
from secretsops.ports import GitRepos
from secretsops.secret import Plaintext
from tests.e2e.estates import _git, commit
from tests.fakes.git import FakeGit


class Source(Protocol):
    """A repository as the suite needs it: its URL, the door that reads it, and what a developer does to it."""

    url: str
    door: GitRepos
    first: str

    def commit(self, files: Mapping[str, str]) -> str:
        """Change files on main."""

    def tag(self, name: str, *, annotated: bool = False) -> None:
        """Name the first commit."""

    def rewrite(self) -> None:
        """Force-push another history to main."""

    def add_links(self) -> str:
        """Add the symbolic link `link.yaml` and the submodule `module` to main."""


class RealSource:
    """A bare repository on a server, and a work tree that pushes to it."""

    def __init__(self, repository: Repository, url: str, folder: Path) -> None:
        self.repository, self.url, self.work = repository, url, folder / "work"
        self.door: GitRepos = GitDoor(cache=folder / "cache", timeout=30)
        self.first = self.commit({"a.yaml": "one", "sub/b.yaml": "two", "sub/deep/c.yaml": "three"})

    def git(self, *arguments: str) -> str:
        return _git(self.work, *arguments).strip()

    def commit(self, files: Mapping[str, str]) -> str:
        return commit(self.repository, self.work, dict(files))

    def tag(self, name: str, *, annotated: bool = False) -> None:
        marks = ["--annotate", "--message=x"] if annotated else []
        self.git("tag", *marks, name, self.first)
        self.git("push", "--quiet", self.repository.url, f"refs/tags/{name}")

    def rewrite(self) -> None:
        self.git("checkout", "--quiet", "--orphan", "other")
        self.git("commit", "--quiet", "--message=rewritten", "--allow-empty")
        self.git("push", "--quiet", "--force", self.repository.url, "HEAD:main")

    def add_links(self) -> str:
        (self.work / "link.yaml").symlink_to("/etc/passwd")
        self.git("update-index", "--add", "--cacheinfo", f"160000,{self.first},module")
        return self.commit({"c.yaml": "x"})


class FakeSource:
    """A repository in memory."""

    def __init__(self) -> None:
        self.url, self.fake = "https://git.invalid/estate.git", FakeGit()
        self.door: GitRepos = self.fake
        self.first = self.commit({"a.yaml": "one", "sub/b.yaml": "two", "sub/deep/c.yaml": "three"})

    def commit(self, files: Mapping[str, str]) -> str:
        return self.fake.commit(self.url, files)

    def tag(self, name: str, *, annotated: bool = False) -> None:
        self.fake.tag(self.url, name, self.first)

    def rewrite(self) -> None:
        self.fake.commit(self.url, {}, orphan=True)

    def add_links(self) -> str:
        return self.fake.commit(self.url, {"c.yaml": "x"}, links={"link.yaml": "a link", "module": "a submodule"})


def _real(kind: str, server: GitServer, folder: Path) -> RealSource:
    repository = server.create(f"door-{secrets.token_hex(4)}")
    return RealSource(repository, repository.url if kind == "http" else repository.file_url, folder)


@pytest.fixture(params=["http", "file", "fake"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    if request.param == "fake":
        return FakeSource()
    return _real(request.param, request.getfixturevalue("git_server"), tmp_path)


@pytest.fixture(params=["http", "file"])
def real(request: pytest.FixtureRequest, git_server: GitServer, tmp_path: Path) -> RealSource:
    return _real(request.param, git_server, tmp_path)


def test_branches_tags_and_commits_resolve(source: Source) -> None:
    """HEAD, a branch, a light and an annotated tag, a whole and a short SHA name the commit."""
    source.tag("light")
    source.tag("heavy", annotated=True)
    for revision in ("", "HEAD", "main", "refs/heads/main", "light", "heavy", source.first, source.first[:8]):
        assert source.door.resolve(source.url, revision) == source.first, revision


def test_a_branch_wins_over_a_tag_of_its_name(source: Source) -> None:
    """As in the peer."""
    second = source.commit({"a.yaml": "changed"})
    source.tag("main")
    assert source.door.resolve(source.url, "main") == second


@pytest.mark.parametrize("revision", ["nope", "0" * 40, "abcdef0", "v1.*"])
def test_an_unknown_revision_is_said(source: Source, revision: str) -> None:
    """By name, with no other commit in its place."""
    with pytest.raises((GitUnavailable, UsageError)) as caught:
        source.door.tree(source.url, revision)
    assert caught.value.reason in ("RevisionNotFound", "InvalidRevision")


@pytest.mark.parametrize("revision", ["--upload-pack=touch /tmp/x", "a b", "x..y", "-x", "a\nb"])
def test_a_revision_is_never_an_option(source: Source, revision: str) -> None:
    """Nothing that git could take for a flag or a range reaches it."""
    with pytest.raises((UsageError, GitUnavailable)):
        source.door.resolve(source.url, revision)


def test_trees_are_read_below_a_path(source: Source) -> None:
    """Paths are relative to it; one file goes by its base name; an absent path is empty."""
    assert dict(source.door.tree(source.url, "main").files) == {
        "a.yaml": b"one",
        "sub/b.yaml": b"two",
        "sub/deep/c.yaml": b"three",
    }
    assert set(source.door.tree(source.url, "main", "sub").files) == {"b.yaml", "deep/c.yaml"}
    assert dict(source.door.tree(source.url, "main", "sub/b.yaml").files) == {"b.yaml": b"two"}
    assert source.door.tree(source.url, "main", "nothing").files == {}
    with pytest.raises(UsageError):
        source.door.tree(source.url, "main", "../outside")


def test_a_pinned_commit_survives_a_force_push(source: Source) -> None:
    """What was fetched once is read again, whatever the branch says now."""
    assert source.door.tree(source.url, source.first).revision == source.first
    source.rewrite()
    assert source.door.resolve(source.url, "main") != source.first
    assert source.door.tree(source.url, source.first).files["a.yaml"] == b"one"


def test_links_and_submodules_are_named_not_followed(source: Source) -> None:
    """Neither is among the files; whoever renders can refuse them by name."""
    tree = source.door.tree(source.url, source.add_links())
    assert set(tree.links) >= {"link.yaml"}
    assert not {"link.yaml", "module"} & set(tree.files)


def test_a_repository_s_hooks_and_filters_do_not_run(real: RealSource, tmp_path: Path) -> None:
    """Attributes that name a filter change no byte, and nothing is checked out."""
    second = real.commit({".gitattributes": "*.yaml filter=evil eol=crlf\n"})
    tree = real.door.tree(real.url, second)
    assert tree.files["a.yaml"] == b"one"
    assert not list((tmp_path / "cache").rglob("a.yaml"))


@pytest.mark.parametrize(
    "url", ["ext::sh -c touch% /tmp/pwned", "ssh://host/x", "git@host:x.git", "/etc", "-oProxyCommand=x", "ftp://h/x"]
)
def test_other_transports_are_refused(tmp_path: Path, url: str) -> None:
    """`ext::` runs commands; the rest is not spoken in this version."""
    with pytest.raises(UsageError):
        GitDoor(cache=tmp_path).resolve(url, "main")


def test_nobody_there(tmp_path: Path) -> None:
    """An unreachable server and a missing repository are the world's fault, without credentials in the words."""
    for url in ("http://user:s3cret-value@127.0.0.1:1/x.git", f"file://{tmp_path}/none.git"):
        with pytest.raises(GitUnavailable) as caught:
            GitDoor(cache=tmp_path / "cache", timeout=20).resolve(url, "main")
        assert "s3cret-value" not in str(caught.value)


class _Asked(http.server.BaseHTTPRequestHandler):
    """Notes what it is asked; asks for a login, or sends elsewhere."""

    seen: list[tuple[str, str]]
    elsewhere = ""

    def do_GET(self) -> None:
        """Answer once with 401, then redirect or refuse."""
        login = self.headers.get("Authorization") or ""
        self.seen.append((self.path, login))
        if not login:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
        elif self.elsewhere:
            self.send_response(302)
            self.send_header("Location", self.elsewhere + self.path)
        else:
            self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def servers() -> Iterator[list[tuple[str, type[_Asked]]]]:
    """Give two servers that note what they are asked."""
    found, running = [], []
    for _ in range(2):
        handler = type("_One", (_Asked,), {"seen": []})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        running.append(server)
        found.append((f"http://127.0.0.1:{server.server_address[1]}", handler))
    yield found
    for server in running:
        server.shutdown()
        server.server_close()


def test_a_credential_never_crosses_a_redirect(servers: list[tuple[str, type[_Asked]]], tmp_path: Path) -> None:
    """The server it is for sees it; the one it points to sees nothing."""
    (first, asked), (second, elsewhere) = servers
    asked.elsewhere = second
    door = GitDoor(cache=tmp_path, login=lambda _: ("user", Plaintext(b"token-value-123")), timeout=20)
    with pytest.raises(GitUnavailable) as caught:
        door.resolve(f"{first}/x.git", "main")
    assert any(login for _, login in asked.seen)
    assert elsewhere.seen == []
    assert "token-value-123" not in str(caught.value)


def test_a_credential_is_in_no_argv_and_no_environment(
    servers: list[tuple[str, type[_Asked]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program in git's place sees neither; the credential comes through a pipe."""
    (first, _), _ = servers
    spy = tmp_path / "bin" / "git"
    spy.parent.mkdir()
    spy.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {tmp_path}/seen\nenv >> {tmp_path}/seen\nexit 128\n')
    spy.chmod(spy.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{spy.parent}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(GitUnavailable):
        GitDoor(cache=tmp_path / "cache").resolve(first.replace("//", "//user:token-value-123@") + "/x.git", "main")
    seen = (tmp_path / "seen").read_text()
    assert "ls-remote" in seen
    assert "token-value-123" not in seen
    assert "protocol.ext.allow=never" in seen


def test_the_user_s_configuration_is_not_read(
    real: RealSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A global insteadOf that would send us elsewhere has no say."""
    config = tmp_path / "gitconfig"
    config.write_text('[url "http://127.0.0.1:1/"]\n\tinsteadOf = http://\n\tinsteadOf = file://\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert real.door.resolve(real.url, "main") == real.first
