"""Submodules: followed where somebody consented, named where nobody did, and never a way to somewhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from secretsops.adapters.repositories import Repositories, SourceDoor, read_repositories
from secretsops.adapters.submodules import resolved
from secretsops.errors import GitUnavailable, SecretsOpsError, UsageError
from tests.contract.git.signing import SignedRepository


class World:
    """Three repositories in one folder: `parent` takes `lib`, which takes `deep`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parent, self.lib, self.deep = (SignedRepository(folder / name) for name in ("parent", "lib", "deep"))
        self.deep.put({"d.yaml": "deep"})
        self.lib.put({"l.yaml": "lib"})
        self.take(self.lib, "nested", "../deep", self.deep)
        self.parent.put({"p.yaml": "parent"})
        self.take(self.parent, "vendor/lib", "../lib", self.lib)

    def take(self, into: SignedRepository, path: str, url: str, other: SignedRepository, more: str = "") -> str:
        """Add a submodule as the tree and `.gitmodules` say it; nothing is cloned."""
        sha = other.git("rev-parse", "HEAD")
        into.git("update-index", "--add", "--cacheinfo", f"160000,{sha},{path}")
        text = f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n{more}'
        file = into.folder / ".gitmodules"
        file.write_text((file.read_text() if file.exists() else "") + text)
        into.git("add", ".gitmodules")
        into.git("commit", "--quiet", "-m", "take a submodule")
        return into.git("rev-parse", "HEAD")

    def door(self, *consents: str) -> SourceDoor:
        """Give the door of somebody who consents to these addresses."""
        known = Repositories(submodules=tuple(f"{self.folder.as_uri()}/{one}" for one in consents))
        return SourceDoor(cache=self.folder / "cache", repositories=known)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_with_consent_its_files_stand_in_their_place(world: World) -> None:
    """At the pinned commit, to any depth, relative URLs as their parent is named, below a path and inside one."""
    pinned = world.parent.git("rev-parse", "HEAD")
    world.lib.put({"l.yaml": "newer"})
    door = world.door("lib", "deep")
    whole = door.tree(world.parent.url, pinned)
    assert {name: text for name, text in whole.files.items() if name != ".gitmodules"} == {
        "p.yaml": b"parent",
        "vendor/lib/l.yaml": b"lib",
        "vendor/lib/.gitmodules": whole.files["vendor/lib/.gitmodules"],
        "vendor/lib/nested/d.yaml": b"deep",
    }
    assert whole.links == {}
    for path, expected in (
        ("vendor", {"lib/l.yaml", "lib/.gitmodules", "lib/nested/d.yaml"}),
        ("vendor/lib", {"l.yaml", ".gitmodules", "nested/d.yaml"}),
        ("vendor/lib/nested", {"d.yaml"}),
        ("vendor/lib/nested/d.yaml", {"d.yaml"}),
        ("vendor/lib/nothing", set()),
    ):
        found = door.tree(world.parent.url, pinned, path)
        assert set(found.files) == expected, path
        assert found.links == {}


def test_without_consent_it_is_named(world: World) -> None:
    """None at all, for another address, or for the outer one alone: the rest is read."""
    pinned = world.parent.git("rev-parse", "HEAD")
    assert set(world.door().tree(world.parent.url, pinned).links) == {"vendor/lib"}
    other = world.door("lib-evil", "li").tree(world.parent.url, pinned)
    assert set(other.links) == {"vendor/lib"}
    assert "does not consent" in other.links["vendor/lib"]
    outer = world.door("lib").tree(world.parent.url, pinned)
    assert set(outer.files) >= {"p.yaml", "vendor/lib/l.yaml"}
    assert set(outer.links) == {"vendor/lib/nested"}
    assert set(world.door("deep").tree(world.parent.url, pinned, "vendor/lib").links) == {"lib"}


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% pwned",
        "--upload-pack=touch pwned",
        "FOLDER/lib/../secret",
        "FOLDER/lib/%2e%2e/secret",
        "../lib/../secret",
        "/etc",
        "",
        "http://user:token@127.0.0.1:1/lib",
    ],
)
def test_an_address_is_no_way_around_the_consent(world: World, url: str) -> None:
    """Whatever `.gitmodules` writes, only what lies below a consented address is asked, by git's own transports."""
    secret = SignedRepository(world.folder / "secret")
    secret.put({"s.yaml": "hidden"})
    written = url.replace("FOLDER", world.folder.as_uri())
    head = world.take(world.parent, "other", f'"{written}"', secret)
    tree = world.door("lib", "deep").tree(world.parent.url, head)
    assert "other" in tree.links
    assert b"hidden" not in b"".join(tree.files.values())
    assert not list(world.folder.rglob("pwned"))


def test_circles_lost_commits_and_broken_files_are_errors(world: World) -> None:
    """A submodule of itself ends; one whose commit is gone, or a .gitmodules that is none, is said."""
    door = world.door("lib", "deep", "parent")
    lost = "1" * 40
    world.parent.git("update-index", "--add", "--cacheinfo", f"160000,{lost},vendor/lib")
    world.parent.git("commit", "--quiet", "-m", "pin what is not there")
    with pytest.raises(GitUnavailable, match="has no commit 111"):
        door.tree(world.parent.url, "main")
    (world.parent.folder / ".gitmodules").write_text("[submodule")
    world.parent.git("add", ".gitmodules")
    world.parent.git("commit", "--quiet", "-m", "broken")
    with pytest.raises(GitUnavailable):
        door.tree(world.parent.url, "main")
    chain = SignedRepository(world.folder / "lib" / "chain")
    chain.put({"c.yaml": "0"})
    for number in range(10):
        before = SignedRepository(world.folder / "lib" / f"chain{number}")
        before.put({"c.yaml": str(number)})
        world.take(before, "next", chain.url, chain)
        chain = before
    with pytest.raises(GitUnavailable, match="below each other"):
        door.tree(chain.url, "main")


def test_an_include_of_a_stranger_s_file_is_not_read(world: World, tmp_path: Path) -> None:
    """`[include]` in .gitmodules would read files of this machine."""
    (tmp_path / "outside").write_text('[submodule "x"]\n\tpath = other\n\turl = ../lib\n')
    more = f"[include]\n\tpath = {tmp_path}/outside\n"
    head = world.take(world.parent, "other", "", world.lib, more)
    tree = world.door("lib", "deep").tree(world.parent.url, head)
    assert "other" in tree.links


@pytest.mark.parametrize(
    ("parent", "written", "found"),
    [
        ("https://git.example/org/a.git", "../b.git", "https://git.example/org/b.git"),
        ("https://git.example/org/a.git/", "./b", "https://git.example/org/a.git/b"),
        ("ssh://git@git.example/org/a", "../../x/b", "ssh://git@git.example/x/b"),
        ("https://git.example/a", "../../b", ""),
        ("https://git.example/org/a", "https://other.example/b", "https://other.example/b"),
    ],
)
def test_relative_addresses(parent: str, written: str, found: str) -> None:
    assert resolved(parent, written) == found


def test_the_file_says_where_submodules_may_come_from() -> None:
    """A list of addresses, in either way of writing SSH; anything else is refused."""
    known = read_repositories(b"submodules: [https://git.example/org/, git@git.example:team]", "x")
    assert known.consents("https://git.example/org/lib")
    assert known.consents("git@git.example:team/lib.git")
    assert not known.consents("https://git.example/org-evil/lib")
    assert not known.consents("https://git.example/org/../other")
    for wrong in (b"submodules: yes", b"submodules: [1]", b"submodules: [{url: a}]"):
        with pytest.raises(UsageError):
            read_repositories(wrong, "x")


def test_a_credential_is_not_lent_past_its_folder() -> None:
    """`org/../other` is another repository, however it is spelled."""
    known = read_repositories(b"repositories: [{url: https://git.example/org, passwordFile: /nowhere}]", "x")
    with pytest.raises(SecretsOpsError):
        known.login("https://git.example/org/lib")
    for url in (
        "https://git.example/org/../other",
        "https://git.example/org/%2E%2e/other",
        "https://git.example/org-x",
    ):
        assert known.login(url) is None
