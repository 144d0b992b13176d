"""The trust root: each version is signed by the one before, the first is known from outside."""

from __future__ import annotations

import base64
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from secretsops.errors import BrokenEscrow, SecretsOpsError, UsageError
from secretsops.escrow import canonical
from secretsops.escrow import trust as roots
from secretsops.escrow.cli import escrow
from secretsops.escrow.signing import new_signer, read_public, read_signer, signed, signed_by
from secretsops.escrow.trust import Holder, Role
from secretsops.secret import Plaintext

ALICE, BOB, EVE = (new_signer()[0] for _ in range(3))


def holders(*signers: object) -> list[Holder]:
    return [Holder(name=f"root{number}", key=signer.public) for number, signer in enumerate(signers)]  # type: ignore[attr-defined]


def first() -> roots.Version:
    """Give version 1 of two roots that must both sign."""
    made = roots.first(holders(ALICE, BOB), 2)
    return roots.countersigned(roots.countersigned(made, ALICE), BOB)


def signed_version(version: roots.Version, *signers: object) -> roots.Version:
    for signer in signers:
        version = roots.countersigned(version, signer)  # type: ignore[arg-type]
    return version


def reason(versions: list[roots.Version], pin: str) -> str:
    with pytest.raises(SecretsOpsError) as caught:
        roots.prove(versions, pin)
    assert caught.value.hint or caught.value.reason == "TrustFork"
    return caught.value.reason


def test_a_chain_of_versions_is_proven_by_any_digest_of_it() -> None:
    """The card may be of version 1 or of the newest; what came later is vouched for by signatures."""
    one = first()
    two = roots.successor([one], add=[Holder(name="prod", key=EVE.public, roles=("bundles",))])[-1]
    two = signed_version(two, ALICE, BOB)
    for pin in (one.digest, two.digest):
        found = roots.read_trust(roots.text([one, two]), pin)
        assert found.allows([EVE.public], Role.BUNDLES)
        assert not found.allows([EVE.public], Role.CLAIMS)
        assert not found.allows([ALICE.public], Role.BUNDLES)
    assert reason([one, two], "sha256:" + "0" * 64) == "WrongTrust"
    assert reason([one, two], "0" * 64) == "BadPin"


def test_too_few_signatures_do_not_count() -> None:
    """One of two, a stranger's, the same one twice."""
    one = first()
    two = roots.successor([one], add=[Holder(name="prod", key=EVE.public, roles=("bundles",))])[-1]
    for version in (two, signed_version(two, ALICE), signed_version(two, ALICE, EVE)):
        assert reason([one, version], one.digest) == "TrustUnsigned"
    twice = signed_version(two, ALICE)
    twice = replace(twice, signatures=[*twice.signatures, *twice.signatures])
    assert reason([one, twice], one.digest) == "TrustUnsigned"


def test_a_stolen_repository_cannot_make_itself_trusted() -> None:
    """Another version 1, or a version 2 by other roots, is refused against the digest from outside."""
    one = first()
    theirs = signed_version(roots.first(holders(EVE), 1), EVE)
    assert reason([theirs], one.digest) == "WrongTrust"
    two = roots.Version(version=2, previous=one.digest, threshold=1, roots=holders(EVE), signers=[])
    assert reason([one, signed_version(two, EVE)], one.digest) == "TrustUnsigned"


def test_a_root_is_not_handed_to_keys_that_nobody_holds() -> None:
    """A new version is also signed by its own threshold."""
    one = first()
    two = roots.Version(version=2, previous=one.digest, threshold=1, roots=holders(EVE), signers=[])
    assert reason([one, signed_version(two, ALICE, BOB)], one.digest) == "TrustUnsigned"
    assert roots.prove([one, signed_version(two, ALICE, BOB, EVE)], one.digest).newest.threshold == 1


def test_a_version_left_out_is_seen() -> None:
    """Each names the one before."""
    one = first()
    two = signed_version(roots.successor([one], threshold=1)[-1], ALICE, BOB)
    three = signed_version(roots.successor([one, two], threshold=2)[-1], ALICE, BOB)
    assert roots.prove([one, two, three], one.digest).newest.threshold == 2
    assert reason([one, three], one.digest) == "TrustFork"


CONTENT = roots.text([first()])


@given(st.data())
def test_any_changed_byte_is_seen(data: st.DataObject) -> None:
    """Of names, keys, thresholds and signatures."""
    content = bytearray(CONTENT)
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SecretsOpsError):
        roots.read_trust(bytes(content), first().digest)


@given(st.binary(max_size=300))
def test_rubbish_is_refused(content: bytes) -> None:
    """Without a crash of a library."""
    with pytest.raises(BrokenEscrow):
        roots.read_versions(content)


def test_canonical_text_is_the_only_one() -> None:
    """White space, doubled keys, floats and huge nesting are no documents."""
    assert canonical.decode(canonical.encode({"b": [1, "ü"], "a": None})) == {"a": None, "b": [1, "ü"]}
    for text in (
        b'{"a": 1}\n',
        b'{"a":1,"a":1}\n',
        b'{"a":1.0}\n',
        b'{"a":NaN}\n',
        b"[]\n",
        b'{"a":1}',
        b"[" * 100_000,
    ):
        assert canonical.decode(text) is None


def test_a_signature_counts_for_its_kind_alone() -> None:
    """A document of another kind with the same fields is not signed by it."""
    body = {"kind": "EscrowClaim", "number": 1}
    made = signed(body, [ALICE])
    assert signed_by(made) == {ALICE.public}
    assert signed_by({**made, "kind": "EscrowEntry"}) == frozenset()
    for junk in ("x", [None], [{"key": ALICE.public}], [{"key": "ed25519:AA==", "signature": "AA=="}]):
        assert signed_by({**body, "signatures": junk}) == frozenset()


def test_keys_of_openssh_are_taken(tmp_path: Path) -> None:
    """As ssh-keygen writes them; another kind, or an encrypted one, is refused."""
    file = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    signer = read_signer(Plaintext(file.read_bytes()))
    assert read_public((tmp_path / "id.pub").read_text()) == signer.public
    for text in (b"rubbish", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"):
        with pytest.raises(UsageError):
            read_signer(Plaintext(text))
    with pytest.raises(UsageError):
        read_public("ed25519:" + base64.b64encode(b"short").decode())


def test_the_commands(tmp_path: Path) -> None:
    """key, init, add, sign, remove, show: a proposal waits until enough roots have signed."""
    runner, file = CliRunner(), str(tmp_path / "trust.json")

    def run(*words: str, code: int = 0) -> str:
        done = runner.invoke(escrow, ["trust", *words])
        assert (done.exit_code == 0) == (code == 0), done.output
        if code:
            assert isinstance(done.exception, SecretsOpsError)
        return done.output

    keys = {name: str(tmp_path / f"{name}.key") for name in ("alice", "bob", "prod")}
    public = {name: run("key", path).strip() for name, path in keys.items()}
    assert Path(keys["alice"]).stat().st_mode & 0o077 == 0
    run("key", keys["alice"], code=1)
    both = [word for name in ("alice", "bob") for word in ("--root", f"{name}={public[name]}")]
    assert "waits for signatures" in run("init", file, *both, "--threshold", "2", "--key", keys["alice"])
    assert "waits" not in run("sign", file, "--key", keys["bob"])
    pin = next(line for line in run("show", file).splitlines() if line.startswith("sha256:"))
    run("add", f"prod={public['prod']}", file, "--role", "bundles", "--key", keys["alice"])
    run("show", file, "--trust", pin, code=1)
    run("sign", file, "--key", keys["bob"])
    assert "prod" in run("show", file, "--trust", pin)
    run("sign", file, "--key", keys["prod"], code=1)
    run("remove", "prod", file, "--key", keys["alice"], "--key", keys["bob"])
    assert "prod" not in run("show", file, "--trust", pin)
    run("remove", "nobody", file, code=1)
