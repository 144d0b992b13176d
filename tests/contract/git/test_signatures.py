"""Signed commits and tags, by keys that `gpg` and `ssh-keygen` made: what counts as signed, and what never does."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recovery.project import Signatures
from recovery.signatures import check
from secretsops.adapters.git_signatures import taken_apart
from secretsops.errors import GitUnavailable, SyncRefused, UsageError
from secretsops.ports import SignatureState, SigningKeys
from tests.contract.git.signing import OpenPgp, SignedRepository, run, ssh_key


@pytest.fixture(scope="module")
def pgp() -> Iterator[OpenPgp]:
    home = OpenPgp()
    yield home
    home.close()


@pytest.fixture(scope="module")
def trusted(pgp: OpenPgp) -> str:
    return pgp.key("trusted")


@pytest.fixture(scope="module")
def stranger(pgp: OpenPgp) -> str:
    return pgp.key("stranger")


@pytest.fixture
def repository(tmp_path: Path, pgp: OpenPgp) -> SignedRepository:
    return SignedRepository(tmp_path / "repository", pgp)


def verdict(repository: SignedRepository, asked: Signatures, revision: str = "main") -> str:
    """Give why a revision is refused, "" where it is not."""
    commit = repository.door.resolve(repository.url, revision)
    try:
        check(repository.door, repository.url, revision, commit, asked)
    except SyncRefused as error:
        return f"{error.reason}: {error.message}"
    return ""


def state(repository: SignedRepository, raw: bytes, *keys: bytes, ssh: tuple[str, ...] = ()) -> SignatureState:
    return repository.door.signatures([raw], SigningKeys(openpgp=keys, ssh=ssh))[0].state


def test_a_signature_of_a_listed_key_counts(repository: SignedRepository, pgp: OpenPgp, trusted: str) -> None:
    """By fingerprint or key id, in either case; another key's, or none at all, does not."""
    keyring = (pgp.public(),)
    repository.commit(pgp=trusted, a="1")
    for named in (trusted, trusted[-16:], trusted[-16:].lower()):
        assert verdict(repository, Signatures(keys=(named,), keyring=keyring)) == ""
    assert "signed with unallowed key" in verdict(repository, Signatures(keys=("0" * 16,), keyring=keyring))
    assert "signed with unallowed key" in verdict(repository, Signatures(keys=(), keyring=keyring))
    assert "signed with key not in keyring" in verdict(repository, Signatures(keys=(trusted,)))
    sha = repository.commit(a="2")
    refused = verdict(repository, Signatures(keys=(trusted,), keyring=keyring))
    assert f"Failed verifying revision {sha} by 'Ada <ada@example.com>': unsigned" in refused


def test_expired_and_revoked_keys_do_not_count(repository: SignedRepository, pgp: OpenPgp) -> None:
    """A signature that was good on its day is none today."""
    old = pgp.key("old", expires="seconds=1")
    repository.commit(pgp=old, a="1")
    gone = pgp.key("gone")
    repository.git("checkout", "--quiet", "-b", "other")
    repository.commit(pgp=gone, a="2")
    revocation = (pgp.home / "openpgp-revocs.d" / f"{gone}.rev").read_bytes().replace(b":-----BEGIN", b"-----BEGIN")
    pgp.gpg("--import", stdin=revocation)
    time.sleep(2.2)  # OpenPGP counts whole seconds, and a key lives to the end of its last one
    keyring = (pgp.public(),)
    assert "expired" in verdict(repository, Signatures(keys=(old,), keyring=keyring))
    assert "revoked" in verdict(repository, Signatures(keys=(gone,), keyring=keyring), "other")


@pytest.mark.parametrize(
    ("kind", "more"), [("ed25519", ()), ("ecdsa", ("-b", "256")), ("ecdsa", ("-b", "521")), ("rsa", ("-b", "3072"))]
)
def test_ssh_keys(repository: SignedRepository, tmp_path: Path, kind: str, more: tuple[str, ...]) -> None:
    """Each kind that ssh-keygen signs with; a key that is not listed is refused."""
    file, public = ssh_key(tmp_path, "mine", kind, *more)
    _, other = ssh_key(tmp_path, "other")
    repository.commit(ssh=file, a="1")
    assert verdict(repository, Signatures(keys=(), ssh=(other, public))) == ""
    assert "not in keyring" in verdict(repository, Signatures(keys=("*",), ssh=(other,)))
    with pytest.raises(UsageError):
        verdict(repository, Signatures(keys=(), ssh=("ssh-ed25519 AAAA",)))


def test_an_ssh_signature_for_something_else_is_none(repository: SignedRepository, tmp_path: Path) -> None:
    """What a key signed as a file, or with another program's namespace, vouches for no commit."""
    file, public = ssh_key(tmp_path, "mine")
    repository.commit(a="1")
    payload = tmp_path / "payload"
    payload.write_bytes(repository.raw())
    for namespace in ("file", "git"):
        (tmp_path / "payload.sig").unlink(missing_ok=True)
        run("ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(file), str(payload))
        armored = (tmp_path / "payload.sig").read_bytes().strip().replace(b"\n", b"\n ")
        header, gap, message = payload.read_bytes().partition(b"\n\n")
        raw = header + b"\ngpgsig " + armored + gap + message
        wanted = SignatureState.GOOD if namespace == "git" else SignatureState.BAD
        assert state(repository, raw, ssh=(public,)) is wanted


def test_nothing_can_be_moved_under_a_signature(
    repository: SignedRepository, pgp: OpenPgp, trusted: str, stranger: str, tmp_path: Path
) -> None:
    """A changed tree, message, parent or author; a signature of another commit; two of them; bytes cut or turned."""
    file, public = ssh_key(tmp_path, "mine")
    keyring = (pgp.public(),)
    for signer in ({"pgp": trusted}, {"ssh": file}):
        repository.commit("first", **signer, a="1")
        other = repository.raw()
        repository.commit("second", **signer, a="2")
        raw = repository.raw()
        assert state(repository, raw, *keyring, ssh=(public,)) is SignatureState.GOOD
        block = raw[raw.index(b"gpgsig ") : raw.index(b"\n\n", raw.rindex(b"-----END")) + 1]
        foreign = other[other.index(b"gpgsig ") : other.index(b"\n\n", other.rindex(b"-----END")) + 1]
        hostile = {
            "message": raw.replace(b"second", b"sec0nd"),
            "tree": re.sub(rb"tree .{40}", b"tree " + b"0" * 40, raw),
            "author": raw.replace(b"Ada <ada", b"Eve <eve", 1),
            "another's": raw.replace(block, foreign),
            "twice": raw.replace(block, block + block),
            "with another": raw.replace(block, foreign + block),
            "cut": raw.replace(block, block[:60] + block[90:]),
            "header added": raw.replace(b"\nauthor ", b"\nparent " + b"0" * 40 + b"\nauthor "),
        }
        for name, changed in hostile.items():
            assert state(repository, changed, *keyring, ssh=(public,)) is not SignatureState.GOOD, name
        stripped = raw.replace(block, b"")
        assert state(repository, stripped, *keyring, ssh=(public,)) is SignatureState.UNSIGNED
        # In the message it is text, wherever it stands.
        assert state(repository, stripped + block, *keyring, ssh=(public,)) is SignatureState.UNSIGNED


def test_hostile_signatures_cost_an_error(repository: SignedRepository, tmp_path: Path) -> None:
    """Garbage of every length in an SSH signature's place is a bad signature, never an exception."""
    file, public = ssh_key(tmp_path, "mine")
    repository.commit(ssh=file, a="1")
    raw = repository.raw()
    signature = taken_apart(raw).signature
    indented = signature.replace(b"\n", b"\n ")
    assert indented in raw
    for cut, turned in itertools.product(range(0, len(indented), 7), (b"", b"A", b"\xff", b"=")):
        changed = raw.replace(indented, indented[:cut] + turned + indented[cut + 1 :])
        if changed != raw:
            assert state(repository, changed, ssh=(public,)) is not SignatureState.GOOD, cut
    assert state(repository, b"", ssh=(public,)) is SignatureState.UNSIGNED
    assert state(repository, raw + b"x" * 5_000_000, ssh=(public,)) is SignatureState.BAD


def test_the_repository_s_configuration_has_no_say(
    repository: SignedRepository, trusted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gpg program, allowed signers or keys that configuration names are not asked."""
    yes = tmp_path / "yes"
    yes.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nprintf '[GNUPG:] GOODSIG {trusted} x\\n'\n")
    yes.chmod(0o755)
    repository.commit(pgp=trusted, a="1")
    for name in ("gpg.program", "gpg.openpgp.program", "gpg.ssh.program"):
        repository.git("config", name, str(yes))
    monkeypatch.setenv("GNUPGHOME", str(repository.pgp.home if repository.pgp else ""))
    assert "not in keyring" in verdict(repository, Signatures(keys=(trusted,)))
    assert not (tmp_path / "ran").exists()


def test_a_tag_is_what_is_looked_at(repository: SignedRepository, pgp: OpenPgp, trusted: str, stranger: str) -> None:
    """In mode `head` an annotated tag stands for its commit: signed it is enough, unsigned it is not."""
    asked = Signatures(keys=(trusted,), keyring=(pgp.public(),))
    repository.commit(a="1")
    repository.tag("v1.0.0", pgp=trusted)
    assert verdict(repository, asked, "v1.0.0") == ""
    assert verdict(repository, asked, "v1.*") == ""
    assert "unsigned" in verdict(repository, asked, "main")
    repository.commit(pgp=trusted, a="2")
    repository.tag("plain")
    repository.tag("strange", pgp=stranger)
    repository.git("tag", "light")
    assert "unsigned" in verdict(repository, asked, "plain")
    assert "unallowed key" in verdict(repository, asked, "strange")
    assert verdict(repository, asked, "light") == ""
    # An old signed tag under a new name would bring an old release back.
    repository.git("update-ref", "refs/tags/v2.0.0", repository.git("rev-parse", "refs/tags/v1.0.0"))
    assert "it was signed as the tag 'v1.0.0'" in verdict(repository, asked, "v2.0.0")


def test_strict_looks_at_the_whole_history(
    repository: SignedRepository, pgp: OpenPgp, trusted: str, stranger: str
) -> None:
    """One unsigned ancestor is enough, on any branch that was merged; a signed seal takes what lies behind it."""
    keyring = (pgp.public(),)
    strict, head = (Signatures(keys=(trusted,), keyring=keyring, mode=mode) for mode in ("strict", "head"))
    repository.commit(pgp=trusted, a="1")
    assert verdict(repository, strict) == ""
    repository.git("checkout", "--quiet", "-b", "side")
    unsigned = repository.commit(b="1")
    repository.git("checkout", "--quiet", "main")
    repository.commit(pgp=trusted, a="2")
    repository.git("-c", "gpg.format=openpgp", "merge", "--quiet", "--no-ff", f"-S{trusted}", "-m", "merge", "side")
    assert verdict(repository, head) == ""
    assert f"revision {unsigned}" in verdict(repository, strict)
    repository.commit("sealed\n\nArgocd-gpg-seal: because I say so", pgp=stranger)
    assert "unallowed key" in verdict(repository, strict)
    repository.commit("sealed\n\nArgocd-gpg-seal: reviewed", pgp=trusted)
    assert verdict(repository, strict) == ""
    repository.commit(pgp=trusted, a="3")
    assert verdict(repository, strict) == ""
    repository.commit(a="4")
    assert "unsigned" in verdict(repository, strict)


def test_a_history_that_was_cut_off_is_no_signed_one(
    repository: SignedRepository, pgp: OpenPgp, trusted: str, tmp_path: Path
) -> None:
    """A shallow server hides what came before: strict does not pass for that."""
    asked = Signatures(keys=(trusted,), keyring=(pgp.public(),), mode="strict")
    first = repository.commit(a="1")
    for number in "234":
        repository.commit(pgp=trusted, a=number)
    run("git", "clone", "--quiet", "--depth=2", repository.url, str(tmp_path / "shallow"))
    shallow = SignedRepository(tmp_path / "shallow-reader")
    commit = shallow.door.resolve((tmp_path / "shallow").as_uri(), "main")
    with pytest.raises((SyncRefused, GitUnavailable)):
        check(shallow.door, (tmp_path / "shallow").as_uri(), "main", commit, asked)
    assert f"revision {first}" in verdict(repository, asked)
