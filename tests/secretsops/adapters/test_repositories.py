"""Sources other than Git over HTTP: charts from a repository and a registry, SSH, mirrors, credentials from files."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from recovery.render import Kinds, render
from recovery.sources import Pins, check_out
from recovery.walk import walk
from secretsops.adapters.charts import ChartRepos
from secretsops.adapters.rendering import RenderWorkers
from secretsops.adapters.repositories import Entry, Repositories, SourceDoor, normal, read_repositories
from secretsops.errors import GitUnavailable, UsageError
from secretsops.manifest import Manifest
from secretsops.secret import Plaintext

LOGIN = ("ci", Plaintext(b"token-value-123"))
TEMPLATE = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {v: {{ .Chart.Version }}, k: {{ .Values.k }}}\n"


def archive(version: str, extra: dict[str, bytes] | None = None, link: str = "") -> bytes:
    """Give a chart's archive."""
    files = {
        "demo/Chart.yaml": f"apiVersion: v2\nname: demo\nversion: {version}\n".encode(),
        "demo/values.yaml": b"k: chart\n",
        "demo/templates/c.yaml": TEMPLATE.encode(),
        **(extra or {}),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as packed:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
        if link:
            entry = tarfile.TarInfo("demo/link")
            entry.type, entry.linkname = tarfile.SYMTYPE, link
            packed.addfile(entry)
    return out.getvalue()


class Host:
    """A chart repository at `/charts` and a registry at `/v2`, on loopback; both may ask for a credential."""

    def __init__(self) -> None:
        self.archives = {version: archive(version) for version in ("1.0.0", "1.2.0", "2.0.0-rc.1")}
        self.asks = False
        self.seen: list[tuple[str, str]] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                code, headers, body = host.answer(self.path, self.headers.get("Authorization") or "")
                self.send_response(code)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str, credential: str) -> tuple[int, dict[str, str], bytes]:
        self.seen.append((path, credential))
        wanted = "Basic " + base64.b64encode(b"ci:token-value-123").decode()
        if path.startswith("/token"):
            return (200, {}, b'{"token": "t"}') if not self.asks or credential == wanted else (401, {}, b"")
        if self.asks and credential not in (wanted, "Bearer t"):
            challenge = f'Bearer realm="http://{self.address}/token",service="r",scope="s"'
            return 401, {"WWW-Authenticate": challenge} if path.startswith("/v2") else {}, b""
        if path == "/charts/index.yaml":
            entries = [
                {"version": version, "urls": [f"demo-{version}.tgz"], "digest": hashlib.sha256(content).hexdigest()}
                for version, content in self.archives.items()
            ]
            return 200, {}, json.dumps({"entries": {"demo": entries}}).encode()
        for version, content in self.archives.items():
            digest = hashlib.sha256(content).hexdigest()
            if path in (f"/charts/demo-{version}.tgz", f"/v2/org/demo/blobs/sha256:{digest}"):
                return 200, {}, content
            if path == f"/v2/org/demo/manifests/{version}":
                media = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
                layer = {"mediaType": media, "digest": f"sha256:{digest}"}
                return 200, {}, json.dumps({"layers": [layer]}).encode()
        if path == "/v2/org/demo/tags/list":
            return 200, {}, json.dumps({"tags": list(self.archives)}).encode()
        return 404, {}, b""


@pytest.fixture
def host() -> Iterator[Host]:
    """Give a host for charts."""
    found = Host()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture(params=["http", "oci"])
def chart_url(request: pytest.FixtureRequest, host: Host) -> str:
    """Give the chart's URL, in a repository and in a registry."""
    return (
        f"helm+http://{host.address}/charts#demo" if request.param == "http" else f"helm+oci://{host.address}/org/demo"
    )


def test_versions_of_a_chart_are_chosen_and_pinned(host: Host, chart_url: str, tmp_path: Path) -> None:
    """Exact or by range, a pre-release only where it is asked for; what is pinned is read from the cache."""
    door = ChartRepos(cache=tmp_path)
    digest = hashlib.sha256(host.archives["1.2.0"]).hexdigest()
    assert door.resolve(chart_url, "^1.0.0") == door.resolve(chart_url, "1.2.0") == f"1.2.0@sha256:{digest}"
    tree = door.tree(chart_url, f"1.2.0@sha256:{digest}")
    assert sorted(tree.files) == ["Chart.yaml", "templates/c.yaml", "values.yaml"]
    host.archives.clear()
    assert ChartRepos(cache=tmp_path).tree(chart_url, f"1.2.0@sha256:{digest}").files == tree.files
    with pytest.raises(GitUnavailable) as caught:
        door.resolve(chart_url, "9.9.9")
    assert caught.value.reason == "RevisionNotFound"


def test_a_version_that_was_published_anew_is_refused(host: Host, tmp_path: Path) -> None:
    """Other bytes under the pinned digest are an error that says so."""
    url = f"helm+http://{host.address}/charts#demo"
    pin = ChartRepos(cache=tmp_path / "a").resolve(url, "1.0.0")
    host.archives["1.0.0"] = archive("1.0.0", {"demo/evil.yaml": b""})
    with pytest.raises(GitUnavailable) as caught:
        ChartRepos(cache=tmp_path / "b").tree(url, pin)
    assert caught.value.reason == "DigestMismatch"


def test_a_chart_that_asks_for_a_credential(host: Host, chart_url: str, tmp_path: Path) -> None:
    """Without one it is denied; with one it goes to its own host, and stands in no message."""
    host.asks = True
    with pytest.raises(GitUnavailable) as caught:
        ChartRepos(cache=tmp_path / "a").resolve(chart_url, "1.0.0")
    assert caught.value.reason == "Denied"
    door = ChartRepos(cache=tmp_path / "b", login=lambda _: LOGIN)
    assert door.tree(chart_url, "1.0.0").files["values.yaml"] == b"k: chart\n"
    with pytest.raises(GitUnavailable) as caught:
        door.resolve(chart_url, "7.7.7")
    assert "token-value" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        archive("1.0.0", {"demo/../../etc/x": b""}),
        archive("1.0.0", link="/etc/passwd"),
        b"no archive",
        archive("1.0.0")[:40],
    ],
    ids=["climbs", "links", "rubbish", "torn"],
)
def test_a_hostile_archive_costs_an_error(host: Host, tmp_path: Path, content: bytes) -> None:
    """Climbing names, links and rubbish are refused."""
    host.archives["1.0.0"] = content
    with pytest.raises(GitUnavailable):
        ChartRepos(cache=tmp_path).tree(f"helm+http://{host.address}/charts#demo", "1.0.0")


def application(host: Host, **source: object) -> Manifest:
    return Manifest(
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": {"name": "shop", "namespace": "argocd"},
            "spec": {
                "source": {"repoURL": f"http://{host.address}/charts", "chart": "demo", **source},
                "destination": {"server": "https://kubernetes.default.svc", "namespace": "shop"},
            },
        }
    )


def test_an_application_of_a_chart_is_planned(host: Host, tmp_path: Path, renderer: RenderWorkers) -> None:
    """The plan pins version and digest, and renders with the application's values."""
    wanted = application(host, targetRevision="~1.0", helm={"valuesObject": {"k": "mine"}})
    estate = walk([wanted], SourceDoor(cache=tmp_path), renderer)
    assert not estate.problems
    assert estate.applications[0].revision.startswith("1.0.0@sha256:")
    assert [task.manifest.body["data"] for task in estate.applications[0].tasks] == [{"v": "1.0.0", "k": "mine"}]
    assert walk([application(host)], SourceDoor(cache=tmp_path), renderer).problems


def test_a_mirror_stands_in_for_a_repository(host: Host, tmp_path: Path) -> None:
    """The longest prefix counts, at a path boundary."""
    known = Repositories(
        mirrors=(("https://charts.example/a", f"http://{host.address}/charts"), ("https://charts.example", "file:///x"))
    )
    door = SourceDoor(cache=tmp_path, repositories=known)
    assert door.resolve("helm+https://charts.example/a#demo", "1.0.0").startswith("1.0.0@")
    assert known.mirrored("https://charts.example.evil/a") == "https://charts.example.evil/a"
    assert known.mirrored("https://charts.example/ab") == "file:///x/ab"


def test_credentials_belong_to_a_path(tmp_path: Path) -> None:
    """`org` is not `org-evil`; the longest entry wins; the password is read from its file."""
    secret = tmp_path / "token"
    secret.write_text("t\n")
    text = f"""
repositories:
  - {{url: "https://git.example/org", username: ci, passwordFile: "{secret}"}}
  - {{url: "https://git.example/org/deep", username: other, passwordFile: "{secret}"}}
"""
    known = read_repositories(text.encode(), "r.yaml")
    found = known.login("https://git.example/org/deep/x.git")
    assert found is not None
    assert (found[0], found[1].reveal()) == ("other", b"t")
    assert known.login("https://git.example/org-evil/x") is None
    secret.unlink()
    with pytest.raises(UsageError):
        known.login("https://git.example/org/x")


@pytest.mark.parametrize(
    "text",
    ["- a", "other: 1", "repositories: x", "repositories: [{}]", "repositories: [{url: x, password: hunter2}]", "a: ["],
)
def test_a_wrong_file_is_an_error_without_its_content(text: str) -> None:
    """A secret that stands in the file itself is refused and not repeated."""
    with pytest.raises(UsageError) as caught:
        read_repositories(text.encode(), "r.yaml")
    assert "hunter2" not in str(caught.value)


def repository(folder: Path, files: dict[str, str]) -> str:
    """Make a Git repository; give its path."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "c"], ["tag", "v1.0.0"], ["tag", "v1.5.0"]):
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)
    return str(folder)


def test_ssh_uses_this_key_and_these_hosts_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git runs ssh with the key and known hosts that are named, without configuration, agent or questions."""
    place = repository(tmp_path / "r", {"a.yaml": "x"})
    log, programs = tmp_path / "ssh.log", tmp_path / "bin"
    programs.mkdir()
    stub = programs / "ssh"
    stub.write_text(f'#!/bin/sh\necho "$@" >> {log}\nfor last; do :; done\nexec sh -c "$last"\n')
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    key, hosts = tmp_path / "key", tmp_path / "hosts"
    key.write_text("k")
    hosts.write_text("h")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    url = f"git@git.example:{place}"
    entry = Entry(url="ssh://git@git.example", ssh_key=str(key), known_hosts=str(hosts))
    door = SourceDoor(cache=tmp_path / "cache", repositories=Repositories(entries=(entry,)))
    assert normal(url) == f"ssh://git@git.example{place}"
    assert door.tree(url, "^1.0").files == {"a.yaml": b"x"}
    said = log.read_text()
    for option in (f"IdentityFile={key}", f"UserKnownHostsFile={hosts}", "StrictHostKeyChecking=yes", "BatchMode=yes"):
        assert option in said


def test_ssh_without_key_and_hosts_is_refused(tmp_path: Path) -> None:
    """The user's own keys and hosts are never tried, and a host cannot be an option."""
    with pytest.raises(UsageError) as caught:
        SourceDoor(cache=tmp_path).resolve("git@git.example:org/x.git", "main")
    assert caught.value.reason == "NoCredential"
    entry = Entry(url="ssh://-oProxyCommand=x", ssh_key=__file__, known_hosts=__file__)
    door = SourceDoor(cache=tmp_path, repositories=Repositories(entries=(entry,)))
    with pytest.raises(UsageError):
        door.resolve("ssh://-oProxyCommand=x/y", "main")


def test_an_lfs_pointer_is_refused_by_name(tmp_path: Path, renderer: RenderWorkers) -> None:
    """What stands there is not what would be applied."""
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    place = repository(
        tmp_path / "r", {"big.yaml": pointer, "a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"}
    )
    from functools import partial

    from recovery.argo import merge_source, read_application

    body = {"repoURL": f"file://{place}", "path": "."}
    manifest = Manifest(
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": {"name": "shop"},
            "spec": {"source": body, "destination": {"name": "in-cluster", "namespace": "shop"}},
        }
    )
    app, git = read_application(manifest), SourceDoor(cache=tmp_path / "cache")
    checkouts = check_out(app, git, Pins(git, {}), partial(merge_source, app.name))
    found = render(app, checkouts, kinds=Kinds(), renderer=renderer)
    assert [(problem.where, problem.reason) for problem in found.problems] == [("big.yaml", "LfsPointer")]
    assert [one.name for one in found.manifests] == ["a"]
