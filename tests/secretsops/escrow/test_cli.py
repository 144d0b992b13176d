"""The commands, on real folders: what they print and refuse, and that words and identities leave no other way."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from secretsops.adapters.age import AgeDoor
from secretsops.adapters.sinks import open_sink
from secretsops.adapters.slip39 import Slip39
from secretsops.errors import SecretsOpsError, UsageError
from secretsops.escrow.cli import escrow
from secretsops.escrow.config import Policy, read_config
from secretsops.escrow.places import opened
from secretsops.ports import SinkAccess
from tests.fakes.cluster import FakeCluster
from tests.secretsops.escrow.worlds import IDENTITY, NOW, OTHER, RECIPIENT, cluster, key, names_of


class Doors:
    """A cluster in memory, folders on disk, age and shares as they are."""

    def __init__(self, source: FakeCluster) -> None:
        self.source, self.time = source, NOW

    @property
    def clock(self) -> Any:
        return self

    def now(self) -> dt.datetime:
        return self.time

    def cluster(self, _target: object) -> FakeCluster:
        return self.source

    def sink(self, place: str | SinkAccess) -> Any:
        return open_sink(place)

    def age(self) -> AgeDoor:
        return AgeDoor()

    def shares(self) -> Slip39:
        return Slip39()


class Custody:
    """A configuration with trust root, signer and a folder as sink."""

    def __init__(self, folder: Path) -> None:
        self.doors = Doors(cluster(key(0)))
        self.folder = folder
        self.config = folder / "config"
        self.config.mkdir()
        self.identity = folder / "id.txt"
        self.identity.write_bytes(IDENTITY.reveal() + b"\n")
        self.identity.chmod(0o600)
        root = self.run("trust", "key", str(folder / "root.key")).output.strip()
        signer = self.run("trust", "key", str(self.config / "signer.key")).output.strip()
        trust, by = str(self.config / "trust.json"), ("--key", str(folder / "root.key"))
        shown = self.run("trust", "init", "--root", f"root={root}", *by, trust).output
        self.pin = next(line for line in shown.splitlines() if line.startswith("sha256:"))
        self.run("trust", "add", f"prod={signer}", "--role", "bundles", "--role", "claims", *by, trust)
        self.write()

    def write(self, **changes: Any) -> None:
        """Write escrow.yaml."""
        body = {
            "apiVersion": "secretsops.dev/v1",
            "kind": "EscrowConfig",
            "cluster": "prod",
            "trust": self.pin,
            "recipients": [RECIPIENT],
            "sinks": [{"name": "share", "url": str(self.folder / "share"), "domain": "office"}],
            **changes,
        }
        (self.config / "escrow.yaml").write_text(yaml.safe_dump(body))

    def run(self, *words: str, reason: str = "", stdin: str = "") -> Result:
        """Run a command, which must succeed or be refused for a reason."""
        done = CliRunner().invoke(escrow, words, obj=self.doors, input=stdin)
        found = done.exception.reason if isinstance(done.exception, SecretsOpsError) else ""
        assert found == reason, (done.output, done.exception)
        if not reason:
            assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        assert IDENTITY.reveal().decode() not in done.output
        return done

    def status(self) -> dict[str, Any]:
        """Give the status as a document."""
        done = CliRunner().invoke(escrow, ["status", "--config", str(self.config), "-o", "json"], obj=self.doors)
        found: dict[str, Any] = json.loads(done.output)
        return found


@pytest.fixture
def custody(tmp_path: Path) -> Custody:
    return Custody(tmp_path)


def test_a_configured_escrow_from_the_first_backup_to_the_restore(custody: Custody) -> None:
    """create, status, challenge, answer, verify, restore, claim: signed, proven, and told."""
    where = ("--config", str(custody.config))
    custody.run("create", *where)
    told = custody.status()
    assert (told["cluster"], told["epoch"], told["signedBy"]) == ("prod", 1, ["prod"])
    assert told["recipients"][0]["standing"] == "unproven"
    custody.run("verify", *where, reason="Unproven")
    custody.run("verify", *where, "--no-proofs", "--identity", str(custody.identity))
    out = custody.folder / "asked"
    custody.run("challenge", *where, "--out", str(out))
    (asked,) = out.iterdir()
    answered = custody.folder / "answer.json"
    answered.write_text(custody.run("answer", str(asked), "--identity", str(custody.identity)).output)
    custody.run("answer", str(answered), "--record", *where)
    assert "nobody is to be asked" in custody.run("challenge", *where).output
    custody.run("verify", *where, "--identity", str(custody.identity))
    assert custody.status()["recipients"][0]["standing"] == "proven"
    custody.doors.time = NOW + dt.timedelta(days=160)
    assert "challenge-" in custody.run("challenge", *where).output
    new = Doors(FakeCluster())
    custody.doors, old = new, custody.doors
    # The sinks and the custody card are enough to restore.
    card = ("--from", str(custody.folder / "share"), "--trust", custody.pin, "--identity", str(custody.identity))
    custody.run("restore", *card)
    assert names_of(new.source) == {"key0"}
    custody.run("create", *where, reason="NotClaimed")
    custody.run("claim", *where)
    assert "it has the claim" in custody.run("claim", *where).output
    custody.run("create", *where)
    custody.doors = old
    custody.run("create", *where, reason="Fenced")


def test_a_witness_in_git_stops_an_older_restore(custody: Custody) -> None:
    """A folder of entries is enough; a reason takes the older."""
    where, share = ("--config", str(custody.config)), custody.folder / "share"
    custody.run("create", *where)
    custody.doors.source.seed(key(1).body)
    custody.run("create", *where)
    kept = custody.folder / "git"
    kept.mkdir()
    for file in share.glob("epoch-*.json"):
        (kept / file.name).write_bytes(file.read_bytes())
    for file in share.glob("*00000002*"):
        if not file.name.startswith("trust"):
            file.unlink()
    custody.doors = Doors(FakeCluster())
    opening = ("--identity", str(custody.identity), "--witness", str(kept))
    custody.run("restore", *where, *opening, reason="Stale")
    assert names_of(custody.doors.source) == set()
    asked = ["status", *where, "--witness", str(kept)]
    assert CliRunner().invoke(escrow, asked, obj=custody.doors, standalone_mode=False).return_value == 1
    done = custody.run("restore", *where, *opening, "--accept-stale", "the share was restored from a backup")
    assert "the share was restored" in done.output


def test_a_lost_identity_is_replaced_in_one_command(custody: Custody) -> None:
    """A new one, in a file of its own, proven; the lost one is gone from the recipients."""
    where = ("--config", str(custody.config))
    custody.run("create", *where)
    new = custody.folder / "new.txt"
    done = custody.run("rotate", *where, "--remove", RECIPIENT, "--new-identity", str(new))
    assert new.stat().st_mode & 0o077 == 0
    assert new.read_text().strip() not in done.output
    told = custody.status()
    assert [each["standing"] for each in told["recipients"]] == ["proven"]
    assert told["recipients"][0]["recipient"] != RECIPIENT
    custody.run("rotate", *where, "--new-identity", str(new), reason="FileExists")
    custody.doors = Doors(FakeCluster())
    custody.run("restore", *where, "--identity", str(custody.identity), reason="WrongIdentity")
    custody.run("restore", *where, "--identity", str(new))
    assert names_of(custody.doors.source) == {"key0"}


def test_a_passphrase_is_asked_for(custody: Custody) -> None:
    """And never an argument; recipients beside it are refused."""
    place = str(custody.folder / "bare")
    custody.run("create", "--passphrase", "--to", place, stdin="open sesame\nopen sesame\n")
    custody.run("create", "--passphrase", "--recipient", OTHER, "--to", place, reason="Usage")
    custody.run("create", "--to", place, reason="NoRecipient")
    custody.doors = Doors(FakeCluster())
    custody.run("restore", "--from", place, "--identity", str(custody.identity), reason="NeedsPassphrase")
    custody.run("restore", "--from", place, "--passphrase", stdin="open sesame\n")
    assert names_of(custody.doors.source) == {"key0"}


def test_the_ceremony_writes_words_to_files_alone(custody: Custody) -> None:
    """Without a terminal nothing is shown; what custodians bring together opens."""
    people = [word for name in ("ann", "bob", "eve") for word in ("--custodian", name)]
    custody.run("ceremony", "--threshold", "2", *people, reason="NoTerminal")
    out = custody.folder / "shares"
    done = custody.run("ceremony", "--threshold", "2", *people, "--out", str(out))
    words = {file.stem: file.read_text() for file in out.iterdir()}
    assert set(words) == {"ann", "bob", "eve"}
    assert not any(text.strip() in done.output for text in words.values())
    assert all(file.stat().st_mode & 0o077 == 0 for file in out.iterdir())
    recipient = next(line for line in done.output.splitlines() if line.startswith("age1"))
    custody.run("create", "--recipient", recipient, "--to", str(custody.folder / "bare"))
    custody.run("ceremony", "--threshold", "2", *people, "--out", str(out), reason="FileExists")
    found = custody.folder / "found.txt"
    share = ("--share", str(out / "ann.txt"), "--share", str(out / "eve.txt"))
    custody.run("combine", "--share", str(out / "ann.txt"), "--out", str(found), reason="BadShares")
    custody.run("combine", *share, "--out", str(found))
    custody.doors = Doors(FakeCluster())
    custody.run("restore", "--from", str(custody.folder / "bare"), "--identity", str(found))
    assert names_of(custody.doors.source) == {"key0"}


def test_what_makes_no_sense_is_a_usage_error(custody: Custody) -> None:
    """Sinks and a configuration, neither, a signer without a digest, no opening."""
    config = ("--config", str(custody.config))
    custody.run("status", reason="Usage")
    custody.run("status", *config, "--from", "x", reason="Usage")
    custody.run(
        "create", "--to", "x", "--recipient", OTHER, "--signer", str(custody.folder / "root.key"), reason="Usage"
    )
    custody.run("restore", *config, reason="Usage")
    custody.run("create", *config, "--signer", str(custody.folder / "root.key"), reason="SignerUntrusted")


GOOD: Mapping[str, Any] = {
    "apiVersion": "secretsops.dev/v1",
    "kind": "EscrowConfig",
    "cluster": "prod",
    "recipients": [RECIPIENT],
    "sinks": [{"name": "a", "url": "/x", "domain": "office"}],
}


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "Other"},
        {"cluster": ""},
        {"policy": "sometimes"},
        {"unknown": 1},
        {"quorum": 2},
        {"quorum": "1"},
        {"recipients": []},
        {"recipients": "age1"},
        {"recipients": [1]},
        {"sinks": [], "policy": "required"},
        {"sinks": [{"name": "a", "url": "/x"}]},
        {"sinks": [{"name": "a", "url": "/x", "domain": "d", "writer": "nobody"}]},
        {"sinks": [{"name": "a", "url": "/x", "domain": "d"}] * 2},
        {"sinks": ["/x"]},
        {"trust": "sha256:00"},
    ],
    ids=str,
)
def test_a_configuration_that_is_wrong_says_where(change: Mapping[str, Any]) -> None:
    """With the file and the field; values of credentials never."""
    files = {"escrow.yaml": yaml.safe_dump({**GOOD, **change}).encode(), "credentials.yaml": b"w: {token: hunter2}\n"}
    with pytest.raises(UsageError) as caught:
        read_config(files)
    assert caught.value.hint
    assert "hunter2" not in str(caught.value)


def test_broken_files_are_refused() -> None:
    """No document, two, no mapping, YAML that is none."""
    for text in (b"", b"a: 1\n---\nb: 2\n", b"- x\n", b"a: [\n", b"\xff\xfe"):
        with pytest.raises(UsageError):
            read_config({"escrow.yaml": text})
    with pytest.raises(UsageError):
        read_config({})


def test_a_sink_makes_escrow_required(tmp_path: Path) -> None:
    """That is the default; a volume or Service of the cluster counts for nothing there."""
    found = read_config({"escrow.yaml": yaml.safe_dump({**GOOD, "home": ["rack"]}).encode()})
    assert found.policy is Policy.REQUIRED
    assert read_config({"escrow.yaml": yaml.safe_dump({**GOOD, "sinks": []}).encode()}).policy is Policy.OFF
    sinks = [
        {"name": "pvc", "url": str(tmp_path), "domain": "office"},
        {"name": "vault", "url": "vault+http://vault.vault.svc:8200/secret/x", "domain": "office"},
        {"name": "rack", "url": "s3://bucket/x?region=eu-west-1", "domain": "rack"},
        {"name": "far", "url": "s3://bucket/y?region=eu-west-1", "domain": "office"},
    ]
    config = read_config({"escrow.yaml": yaml.safe_dump({**GOOD, "home": ["rack"], "sinks": sinks}).encode()})
    places = opened(config, Doors(FakeCluster()), in_cluster=True).places  # type: ignore[arg-type]
    assert [bool(place.lost_with) for place in places] == [True, True, True, False]
