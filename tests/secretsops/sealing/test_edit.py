"""`seal edit`: values in memory only, an editor that keeps nothing, only what changed sealed again."""

from __future__ import annotations

import base64
import tomllib
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from secretsops.cli import run
from secretsops.errors import Forbidden, NotFound, Refused, SecretsOpsError, UsageError
from secretsops.manifest import GroupVersionKind, Manifest, load_all
from secretsops.sealing import editor as room
from secretsops.sealing.cli import seal
from secretsops.sealing.keys import KeyPair, KeyRing
from secretsops.sealing.sealed import open_sealed
from secretsops.secret import Plaintext
from tests.secretsops.sealing.test_cli import Doors, ProxyCluster

pytestmark = pytest.mark.skipif(not room._in_memory("/dev/shm"), reason="/dev/shm is no memory file system here")

SECRET = b"""\
apiVersion: v1
kind: Secret
metadata: {name: db, namespace: shop}
stringData: {user: admin, password: canary-one, "no": "010"}
data: {raw: /wAB}
"""


class SecretCluster(ProxyCluster):
    """A cluster that holds one Secret, or refuses it."""

    def __init__(self, error: SecretsOpsError | None = None) -> None:
        super().__init__()
        self.error = error

    def get(self, kind: GroupVersionKind, name: str, namespace: str = "") -> Manifest:
        if self.error:
            raise self.error
        assert (kind.kind, name, namespace) == ("Secret", "db", "shop")
        values = {"user": "admin", "password": "canary-one", "templated": "x"}
        return Manifest({"data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}})


@pytest.fixture
def sealed(tmp_path: Path, key_folder: Path) -> Path:
    (tmp_path / "in.yaml").write_bytes(SECRET)
    path = tmp_path / "sealed.yaml"
    call(["--cert", certificate(key_folder), "-f", str(tmp_path / "in.yaml"), "-w", str(path)])
    path.write_text("# ours\n" + path.read_text())
    return path


def certificate(key_folder: Path) -> str:
    return str(key_folder / "alpha" / "tls.crt")


def call(arguments: list[str], cluster: Any = None) -> int:
    return run(seal, arguments, prog="seal", doors=Doors(cluster or ProxyCluster()))


def editor(folder: Path, script: str) -> str:
    """Give an editor named vim that notes its options and where the file lies, then runs a sed script."""
    path = folder / "vim"
    path.write_text(
        f'#!/bin/sh\nfor last; do :; done\necho "$@" > {folder}/argv\nstat -f -c %T "$last" > {folder}/where\n'
        f'stat -c %a "$last" "$(dirname "$last")" >> {folder}/where\nsed -i -e \'{script}\' "$last"\n'
    )
    path.chmod(0o755)
    return str(path)


def values_of(path: Path, key: KeyPair) -> dict[str, bytes]:
    [manifest] = load_all(path.read_bytes())
    data = open_sealed(manifest, KeyRing([key])).secret.body["data"]
    return {name: base64.b64decode(text) for name, text in data.items()}


def ciphertexts(path: Path) -> dict[str, str]:
    items: dict[str, str] = load_all(path.read_bytes())[0].spec["encryptedData"]
    return items


def test_only_what_changed_is_sealed_again(sealed: Path, tmp_path: Path, key_folder: Path, alpha: KeyPair) -> None:
    before = ciphertexts(sealed)
    script = "s/canary-one/canary two/; /^user/d; s/^raw: .*/raw:/; s/^  .wAB/  010\\nnew: yes/"
    arguments = ["edit", str(sealed), "--editor", editor(tmp_path, script), "--cert", certificate(key_folder)]
    assert call([*arguments, "--recovery-private-key", str(key_folder / "alpha" / "tls.key")]) == 0
    after = ciphertexts(sealed)
    assert values_of(sealed, alpha) == {"no": b"010", "password": b"canary two", "raw": b"010", "new": b"yes"}
    assert before["no"] == after["no"]
    assert sealed.read_text().startswith("# ours\n")


def test_the_text_is_in_memory_and_the_editor_keeps_nothing(
    sealed: Path, tmp_path: Path, key_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = sealed.read_bytes()
    arguments = ["edit", str(sealed), "--editor", editor(tmp_path, ""), "--cert", certificate(key_folder)]
    assert call([*arguments, "--recovery-private-key", str(key_folder / "alpha" / "tls.key")]) == 0
    where = (tmp_path / "where").read_text().split()
    assert where[0] in {"tmpfs", "ramfs"}
    assert where[1:] == ["600", "700"]
    options = (tmp_path / "argv").read_text()
    assert "noswapfile" in options
    assert "noundofile" in options
    assert not Path(options.split()[-1]).exists()
    assert content == sealed.read_bytes()
    out, err = capfd.readouterr()
    assert out == ""
    assert "nothing was changed" in err
    assert "canary" not in err


def test_values_come_from_the_persons_own_right(sealed: Path, tmp_path: Path, key_folder: Path, alpha: KeyPair) -> None:
    """What the cluster's Secret holds is edited; sealed items it lacks stay as they are, others are not shown."""
    before = ciphertexts(sealed)
    script = "s/canary-one/three/"
    arguments = ["edit", str(sealed), "--editor", editor(tmp_path, script), "--cert", certificate(key_folder)]
    assert call(arguments, SecretCluster()) == 0
    assert values_of(sealed, alpha)["password"] == b"three"
    assert {key: text for key, text in ciphertexts(sealed).items() if key != "password"} == {
        key: text for key, text in before.items() if key != "password"
    }


@pytest.mark.parametrize(
    ("error", "told"), [(NotFound("no", code=404), "NoSecret"), (Forbidden("no", code=403), "your own right")]
)
def test_without_the_right_nothing_is_edited(
    error: SecretsOpsError, told: str, sealed: Path, tmp_path: Path, key_folder: Path, capfd: Any
) -> None:
    arguments = ["edit", str(sealed), "--editor", editor(tmp_path, ""), "--cert", certificate(key_folder)]
    assert call(arguments, SecretCluster(error)) in {1, 3}
    assert told in capfd.readouterr().err
    assert not (tmp_path / "argv").exists()


@pytest.mark.parametrize("script", ["s/^password.*/password: [1]/", "s/^password.*/: {/", "d", "$a user: twice"])
def test_a_broken_text_changes_nothing(
    script: str, sealed: Path, tmp_path: Path, key_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = sealed.read_bytes()
    arguments = ["edit", str(sealed), "--editor", editor(tmp_path, script), "--cert", certificate(key_folder)]
    assert call([*arguments, "--recovery-private-key", str(key_folder / "alpha" / "tls.key")]) == 1
    assert content == sealed.read_bytes()
    assert "canary" not in capfd.readouterr().err


def test_an_editor_that_fails_changes_nothing(sealed: Path, tmp_path: Path, key_folder: Path) -> None:
    content = sealed.read_bytes()
    arguments = ["edit", str(sealed), "--editor", editor(tmp_path, "nonsense"), "--cert", certificate(key_folder)]
    assert call([*arguments, "--recovery-private-key", str(key_folder / "alpha" / "tls.key")]) == 3
    assert content == sealed.read_bytes()


def test_no_memory_no_editing(monkeypatch: pytest.MonkeyPatch, sealed: Path, tmp_path: Path, capfd: Any) -> None:
    monkeypatch.setattr(room, "_in_memory", lambda _folder: False)
    assert call(["edit", str(sealed), "--editor", editor(tmp_path, ""), "--recovery-private-key", "absent"]) == 1
    assert "NoMemoryFileSystem" in capfd.readouterr().err


def test_an_unknown_editor_is_refused_unless_trusted() -> None:
    with pytest.raises(Refused, match="how to keep cat"):
        room.editor_command("cat -n", trusted=False)
    assert room.editor_command("cat -n", trusted=True)[1:] == ["-n"]
    with pytest.raises(UsageError):
        room.editor_command("no-such-program", trusted=True)
    with pytest.raises(UsageError):
        room.editor_command("", trusted=True)


@given(
    st.dictionaries(
        st.text("ab-._Z9", min_size=1, max_size=5), st.binary(max_size=20) | st.text().map(str.encode), min_size=1
    )
)
def test_what_is_shown_is_what_is_read(values: dict[str, bytes]) -> None:
    """Bytes and texts of any kind come back as they were, `no`, `1.50` and control characters too."""
    text = room.written({key: Plaintext(value) for key, value in values.items()}, name="a/b", unknown=["gone"])
    assert {key: value.reveal() for key, value in room.read_back(text).items()} == values


def test_the_plugin_is_the_same_command() -> None:
    """`kubectl seal` finds a program of this name."""
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert project["project"]["scripts"]["kubectl-seal"] == project["project"]["scripts"]["seal"]
