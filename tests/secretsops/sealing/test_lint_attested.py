"""Linting by the controller's word: what opens, what does not, what it saw elsewhere, and whose word counts."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from secretsops.cli import RealDoors, run
from secretsops.escrow import trust as roots
from secretsops.escrow.attestation import TIME, Attestations, Statement, statements_of
from secretsops.escrow.signing import new_signer
from secretsops.manifest import Manifest, load_all
from secretsops.sealing.cli import seal
from secretsops.sealing.keys import KeyPair, KeyRing
from secretsops.sealing.lint import Source, lint
from tests.secretsops.escrow import worlds
from tests.secretsops.sealing.test_lint import document, item

NOW = dt.datetime.now(dt.UTC)
WITNESS, _ = new_signer()
*_before, _newest = roots.successor(
    worlds.VERSIONS, add=[roots.Holder(name="controller", key=WITNESS.public, roles=("evidence",))]
)
TRUST = roots.text([*_before, roots.countersigned(_newest, worlds.ROOT)])


def sealed(text: str) -> Manifest:
    return load_all(text.encode())[0]


def judged(text: str, *statements: Statement) -> tuple[list[str], int | None]:
    attested = {one.digest: one for one in statements}
    findings, counts = lint([Source(path="f.yaml", content=text.encode())], KeyRing(), attested)
    return [finding.rule for finding in findings], counts.opened


def test_each_item_is_judged_by_what_was_said_of_it(alpha: KeyPair) -> None:
    """Opened: nothing to say. Closed, seen elsewhere, or never seen: told apart."""
    text = document(item(alpha, b"shop/db"))
    opened = statements_of(sealed(text), {"password": alpha.fingerprint}, NOW)
    assert judged(text, *opened) == ([], 1)
    assert judged(text, *statements_of(sealed(text), {}, NOW)) == (["does-not-open"], 0)
    moved = text.replace('"shop"', '"blog"')
    assert judged(moved, *opened) == (["attested-elsewhere"], 0)
    assert judged(document(item(alpha, b"shop/db")), *opened) == (["not-attested"], 0)
    assert judged(text) == (["not-attested"], 0)


def test_keys_win_over_words(alpha: KeyPair, echo: KeyPair) -> None:
    """Whoever holds the keys opens it: what was said of it adds nothing."""
    text = document(item(alpha, b"shop/db"))
    closed = {one.digest: one for one in statements_of(sealed(text), {}, NOW)}
    assert lint([Source(path="f", content=text.encode())], KeyRing([echo, alpha]), closed)[0] == []


@pytest.fixture
def folder(tmp_path: Path, alpha: KeyPair) -> Path:
    text = document(item(alpha, b"shop/db"))
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "db.yaml").write_text(text)
    (tmp_path / "trust.json").write_bytes(TRUST)
    made = Attestations(
        cluster="prod",
        incarnation="uid",
        serial=1,
        made=NOW.strftime(TIME),
        statements=statements_of(sealed(text), {"password": alpha.fingerprint}, NOW),
    )
    (tmp_path / "good.json").write_bytes(made.signed_with([WITNESS]).text())
    (tmp_path / "forged.json").write_bytes(made.signed_with([worlds.STRANGER]).text())
    return tmp_path


def called(folder: Path, name: str, *more: str) -> int:
    trust = ["--trust", worlds.PIN, "--trust-file", str(folder / "trust.json")]
    arguments = ["lint", str(folder / "files"), "--attested", str(folder / name), *(more or trust)]
    return run(seal, arguments, prog="seal", doors=RealDoors())


def test_the_command(folder: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """A signed document proves what opens; a forged one, or one without a trust root, stops the run."""
    assert called(folder, "good.json") == 0
    assert b"1 proven to open" in capsysbinary.readouterr().out
    assert called(folder, "forged.json") == 1
    assert b"nobody who may sign evidence" in capsysbinary.readouterr().err
    assert called(folder, "good.json", "--trust", worlds.PIN) == 2
    assert called(folder, "good.json", "--trust", "sha256:" + "0" * 64, "--trust-file", str(folder / "trust.json")) == 1
