"""OpenBao, AWS and Git of the sandbox do what their real ones do, as far as the product asks."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
from pathlib import Path

import pytest

from drills.sandbox.aws import Aws
from drills.sandbox.git_server import GitServer, Repository
from drills.sandbox.loopback import send
from drills.sandbox.openbao import OpenBao
from drills.sandbox.processes import Processes
from secretsops.errors import StoreRefused, UsageError
from secretsops.secret import Plaintext


def read(bao: OpenBao, path: str) -> tuple[int, dict[str, object]]:
    status, body = send("GET", f"{bao.url}/v1/secret/data/{path}", headers={"X-Vault-Token": bao.token})
    return status, (json.loads(body).get("data") or {})


def test_openbao_keeps_versions(openbao: OpenBao) -> None:
    """A second write is version 2; after a delete the path answers 404."""
    openbao.write("servers/a", {"key": "one"})
    openbao.write("servers/a", {"key": "two"})
    status, found = read(openbao, "servers/a")
    assert (status, found["data"]) == (200, {"key": "two"})
    assert isinstance(found["metadata"], dict)
    assert found["metadata"]["version"] == 2
    openbao.delete("servers/a")
    assert read(openbao, "servers/a")[0] == 404


def test_openbao_wants_its_token(openbao: OpenBao) -> None:
    """Another token is refused, and the token is no argument of the process."""
    status, _ = send("GET", f"{openbao.url}/v1/secret/data/x", headers={"X-Vault-Token": "made-up"})
    assert status == 403
    arguments = subprocess.run(["ps", "-o", "args=", "-p", str(openbao.process.pid)], capture_output=True, check=True)
    assert openbao.token.encode() not in arguments.stdout


def test_a_sealed_openbao_refuses(openbao: OpenBao, tmp_path: Path) -> None:
    """`seal` is the outage of a Vault: 503 until it is started anew."""
    with Processes(tmp_path) as processes:
        own = OpenBao(processes)
        own.write("a", {"b": "c"})
        own.seal()
        assert read(own, "a")[0] == 503
        with pytest.raises(StoreRefused):
            own.write("a", {"b": "d"})
        own.stop()
        assert own.process.ended.is_set()


def test_aws_keeps_the_newest_value(moto: Aws) -> None:
    """Create, new version, delete: what GetSecretValue answers."""
    headers = {
        "X-Amz-Target": "secretsmanager.GetSecretValue",
        "Content-Type": "application/x-amz-json-1.1",
        "Authorization": f"AWS4-HMAC-SHA256 Credential=x/20260101/{moto.region}/secretsmanager/aws4_request",
    }
    body = json.dumps({"SecretId": "servers/a"}).encode()
    moto.put_secret("servers/a", "one")
    moto.put_secret("servers/a", "two")
    status, answer = send("POST", moto.url, headers=headers, body=body)
    assert (status, json.loads(answer)["SecretString"]) == (200, "two")
    moto.delete_secret("servers/a")
    assert b"ResourceNotFoundException" in send("POST", moto.url, headers=headers, body=body)[1]
    moto.delete_secret("servers/none")


def git(*arguments: str, cwd: Path) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "GIT_CONFIG_NOSYSTEM": "1"}
    settings = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(
        ["git", *settings, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.fixture
def pushed(git_server: GitServer, tmp_path: Path) -> Repository:
    """Give a repository with one pushed commit that is larger than Git's post buffer, so that the push is chunked."""
    repository = git_server.create(f"team/{tmp_path.name}")
    git("clone", "--quiet", repository.url, "work", cwd=tmp_path)
    (tmp_path / "work" / "large").write_bytes(os.urandom(3 * 1024 * 1024))
    git("add", ".", cwd=tmp_path / "work")
    git("commit", "--quiet", "-m", "one", cwd=tmp_path / "work")
    git("push", "--quiet", "origin", "HEAD:main", cwd=tmp_path / "work")
    return repository


def test_git_is_pushed_and_cloned_over_http(pushed: Repository, tmp_path: Path) -> None:
    """What was pushed comes back, over HTTP and from the file URL, whole and shallow."""
    large = (tmp_path / "work" / "large").read_bytes()
    for number, (url, options) in enumerate([(pushed.url, []), (pushed.file_url, []), (pushed.url, ["--depth=1"])]):
        git("clone", "--quiet", *options, url, f"copy{number}", cwd=tmp_path)
        assert (tmp_path / f"copy{number}" / "large").read_bytes() == large
    assert "refs/heads/main" in git("ls-remote", pushed.url, cwd=tmp_path)


def test_git_fetches_what_is_new(pushed: Repository, tmp_path: Path) -> None:
    """A second commit reaches an existing clone (protocol 2, gzipped negotiation)."""
    git("clone", "--quiet", pushed.url, "copy", cwd=tmp_path)
    (tmp_path / "work" / "small").write_text("two")
    git("add", ".", cwd=tmp_path / "work")
    git("commit", "--quiet", "-m", "two", cwd=tmp_path / "work")
    git("push", "--quiet", "origin", "HEAD:main", cwd=tmp_path / "work")
    git("pull", "--quiet", cwd=tmp_path / "copy")
    assert (tmp_path / "copy" / "small").read_text() == "two"


@pytest.mark.parametrize("path", ["/none.git/info/refs?service=git-upload-pack", "/../../etc/passwd", "/"])
def test_git_serves_nothing_else(git_server: GitServer, path: str) -> None:
    """No repository, no parent folder, no listing."""
    assert send("GET", git_server.url + path)[0] in {403, 404}


def test_a_private_repository_asks_for_its_login(git_server: GitServer) -> None:
    """Without it, with a wrong one, and by another spelling of the path it answers 401; with it, refs."""
    name = f"private-{secrets.token_hex(3)}"
    git_server.create(name, login=("ci", Plaintext(b"token")))
    refs = f"/{name}.git/info/refs?service=git-upload-pack"
    for path in (refs, "/" + refs, "/." + refs, refs.replace("private", "%70rivate")):
        assert send("GET", git_server.url + path)[0] == 401, path
    for pair, code in ((b"ci:token", 200), (b"ci:other", 401)):
        login = {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        assert send("GET", git_server.url + refs, headers=login)[0] == code


def test_git_names_are_plain(git_server: GitServer) -> None:
    """A repository is created below the folder only."""
    for name in ("", "../x", "a/../../x", "/abs"):
        with pytest.raises(UsageError):
            git_server.create(name)
