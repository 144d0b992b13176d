"""An identity wrapped by a key service: only that key, for that recipient, gives it back. On moto and OpenBao."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from click.testing import CliRunner

from secretsops.adapters.age import AgeDoor
from secretsops.adapters.wrapping import open_wrapping
from secretsops.cli import RealDoors
from secretsops.errors import BrokenEscrow, SecretsOpsError, UsageError, WorldFailed
from secretsops.escrow import wrapped
from secretsops.escrow.cli import escrow
from secretsops.escrow.options import the_identities
from secretsops.secret import Plaintext
from tests.contract.secret_source.servers import vault_call


@pytest.fixture(params=["kms", "transit"])
def keys(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Give the URLs of two keys of a service."""
    if request.param == "kms":
        import boto3

        url = request.getfixturevalue("moto").url
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secrets.token_hex(8))
        client = boto3.client("kms", endpoint_url=url, region_name="eu-west-1")
        names = [client.create_key()["KeyMetadata"]["KeyId"] for _ in range(2)]
        one, two = (f"aws-kms:///{name}?region=eu-west-1&endpoint={url}" for name in names)
        return one, two
    bao = request.getfixturevalue("openbao")
    monkeypatch.setenv("VAULT_TOKEN", bao.token)
    mount = f"transit-{secrets.token_hex(3)}"
    vault_call(bao.url, bao.token, "POST", f"sys/mounts/{mount}", {"type": "transit"})
    for name in ("one", "two"):
        vault_call(bao.url, bao.token, "POST", f"{mount}/keys/{name}", {})
    return f"vault-transit+{bao.url}/{mount}/one", f"vault-transit+{bao.url}/{mount}/two"


def test_it_opens_for_its_key_and_recipient_alone(keys: tuple[str, str], tmp_path: Path) -> None:
    """The file holds no identity; what it wraps opens what its recipient was sent."""
    file, doors, age = tmp_path / "wrapped.json", RealDoors(), AgeDoor()
    done = CliRunner().invoke(escrow, ["wrap", "--key", keys[0], "--out", str(file)], obj=doors)
    assert done.exception is None, done.exception
    recipient = done.output.strip()
    assert b"AGE-SECRET-KEY" not in file.read_bytes()
    sealed = age.encrypt(Plaintext(b"value"), [recipient])
    assert age.decrypt(sealed, the_identities(doors, [str(file)])).reveal() == b"value"
    _, _, ciphertext = wrapped.read(Plaintext(file.read_bytes()))
    for key, who in ((keys[1], recipient), (keys[0], "age1other")):
        with pytest.raises(SecretsOpsError) as caught:
            open_wrapping(key).unwrap(ciphertext, who)
        # The emulation calls another key AccessDenied, where AWS says IncorrectKey.
        assert caught.value.reason in {"WrongIdentity", "AccessDeniedException"}


def test_what_is_no_key_is_refused() -> None:
    """By its URL, or because nobody answers."""
    for url in ("gcp-kms:///x", "aws-kms://host/x", "aws-kms:///", "vault-transit+https://host/x"):
        with pytest.raises(UsageError):
            open_wrapping(url)
    with pytest.raises(WorldFailed):
        open_wrapping("vault-transit+http://127.0.0.1:1/transit/x").wrap(Plaintext(b"x"), "age1")
    with pytest.raises(BrokenEscrow):
        wrapped.read(Plaintext(b"{}"))
