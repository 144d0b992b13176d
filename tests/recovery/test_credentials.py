"""Credentials of repositories from the estate's own: plain and sealed ones are used, at their URL alone, if needed."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from recovery.credentials import candidates, login_for, opened
from recovery.mirrors import Mirrored
from recovery.options import chosen
from secretsops.adapters.repositories import Entry, Repositories, signing_in
from secretsops.errors import GitUnavailable
from secretsops.ports import RepositoryLogin, Tree
from secretsops.sealing.certificate import read_certificate
from secretsops.sealing.keys import KeyRing
from secretsops.secret import Plaintext
from tests.fakes.git import FakeGit
from tests.recovery.estates import URL

PRIVATE = "https://git.invalid/private/app.git"
LABEL = {"argocd.argoproj.io/secret-type": "repo-creds"}
KEYS = Path(__file__).resolve().parents[1] / "conformance/corpus/sealed-secrets/keys/alpha"


def secret(url: str, kind: str = "repo-creds", **data: str) -> str:
    metadata = {"name": "creds", "namespace": "argocd", "labels": {"argocd.argoproj.io/secret-type": kind}}
    values = {name: base64.b64encode(text.encode()).decode() for name, text in {"url": url, **data}.items()}
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": values})


class Guarded(FakeGit):
    """A Git host that gives one repository to nobody who has not signed in."""

    def __init__(self, files: dict[str, str]) -> None:
        super().__init__()
        self.logins: list[RepositoryLogin] = []
        self.commit(URL, {"a.yaml": "a: 1", **files})
        self.sha = self.commit(PRIVATE, {"b.yaml": "b: 1"})

    def _repository(self, url: str) -> Any:
        if url == PRIVATE and not self.logins:
            raise GitUnavailable("authentication failed", reason="Denied")
        return super()._repository(url)


class Doors:
    """Doors onto that host."""

    def __init__(self, git: Guarded) -> None:
        self._git = git

    def git(self) -> Guarded:
        return self._git

    def sign_in(self, login: RepositoryLogin) -> None:
        self._git.logins.append(login)


def meant(git: Guarded) -> Any:
    options = {"repo": URL, "revision": "main", "path": "", "file": "", "signers": ""}
    return chosen(Doors(git), options).git  # type: ignore[arg-type]


def test_a_credential_in_git_is_used_once_it_is_needed() -> None:
    """Nothing is looked for while every repository answers; then each place is tried once more."""
    git = Guarded({"argocd/creds.yaml": secret("https://git.invalid/private", username="ci", password="token-1")})
    door = meant(git)
    door.tree(URL, "main")
    assert git.logins == []
    assert door.tree(PRIVATE, "main").revision == git.sha
    (login,) = git.logins
    assert (login.url, login.username, login.password.reveal()) == ("https://git.invalid/private", "ci", b"token-1")
    assert "token-1" not in repr(login)


@pytest.mark.parametrize(
    "held",
    [
        secret("https://git.invalid/private-evil", username="ci", password="x"),
        secret("https://git.invalid/pri", username="ci", password="x"),
        secret("https://git.invalid/private", sshPrivateKey="x"),
        secret("https://git.invalid/private", kind="cluster", username="ci", password="x"),
        "kind: [not yaml argocd.argoproj.io/secret-type",
    ],
)
def test_a_credential_of_another_place_is_none(held: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Templates fit at path boundaries; what cannot be used is named without its value."""
    git = Guarded({"creds.yaml": held})
    with pytest.raises(GitUnavailable) as caught:
        meant(git).tree(PRIVATE, "main")
    assert caught.value.reason == "Denied"
    assert git.logins == []
    assert ("is an SSH key" in capsys.readouterr().err) is ("sshPrivateKey" in held)


def test_a_sealed_credential_opens_with_the_escrows_keys() -> None:
    """Without them it is named; with them it is used. Keys are asked for once, where something is sealed."""
    from secretsops.sealing.envelope import seal
    from secretsops.sealing.keys import KeyPair, read_key_secret

    pair = {name: base64.b64encode((KEYS / name).read_bytes()).decode() for name in ("tls.crt", "tls.key")}
    metadata = {"name": "k", "namespace": "kube-system"}
    key: KeyPair = read_key_secret({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": pair})
    public = read_certificate((KEYS / "tls.crt").read_bytes()).public
    items = {
        name: seal(Plaintext(text), label=b"argocd/creds", public=public)
        for name, text in {"username": b"ci", "password": b"token-2", "url": b"https://git.invalid/private"}.items()
    }
    template = {"metadata": {"labels": LABEL}}
    sealed = {
        "apiVersion": "bitnami.com/v1alpha1",
        "kind": "SealedSecret",
        "metadata": {"name": "creds", "namespace": "argocd"},
        "spec": {"encryptedData": items, "template": template},
    }
    tree = Tree(url=URL, revision="a" * 40, files={"s.yaml": json.dumps(sealed).encode()})
    asked: list[int] = []

    def ring() -> KeyRing:
        asked.append(1)
        return KeyRing([key])

    login, problem = login_for(opened(candidates(tree), ring), PRIVATE)
    assert login is not None
    assert (login.username, login.password.reveal(), problem) == ("ci", b"token-2", "")
    assert asked == [1]
    assert login_for(opened(candidates(tree), lambda: None), PRIVATE)[0] is None
    assert opened([], ring).repositories == ()
    assert asked == [1]


def test_a_lent_login_goes_to_its_own_address_alone() -> None:
    """The file of the person wins; of what is lent the longest address; never another host or a neighbour."""
    lent: list[RepositoryLogin] = []
    login = signing_in(Repositories(), lent)
    assert login(PRIVATE) is None
    for url, name in (("https://git.invalid/private", "org"), ("https://git.invalid/private/app", "app")):
        lent.append(RepositoryLogin(url=url, username=name, password=Plaintext(b"x")))
    found = login(PRIVATE)
    assert found is not None
    assert found[0] == "app"
    for other in (
        "https://git.invalid/private-evil/a.git",
        "https://evil.invalid/private/app.git",
        "https://git.invalid/private/../x",
    ):
        assert login(other) is None, other
    assert signing_in(Repositories(entries=(Entry(url="https://git.invalid"),)), lent)(PRIVATE) == found


def test_a_place_is_signed_in_to_once() -> None:
    """A credential that does not help is no loop."""
    git = Guarded({})
    asked: list[str] = []

    def sign_in(url: str) -> bool:
        asked.append(url)
        return True

    door = Mirrored(git, (), sign_in=sign_in)
    for _ in range(2):
        with pytest.raises(GitUnavailable):
            door.tree(PRIVATE, "main")
    assert asked == [PRIVATE]
