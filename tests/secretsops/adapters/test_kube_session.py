"""Who we are on a cluster: kubeconfigs as kubectl reads them, plugins whose credential expires, proxies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secretsops.adapters import kube_session
from secretsops.adapters.kube import connect
from secretsops.errors import ApiError, MissingExtra, Unauthorized, UsageError
from secretsops.ports import ClusterTarget
from tests.secretsops.adapters.api_server import ApiServer, Reply, Seen, api_server

PLUGIN = """\
import json, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
with open(folder / "runs", "a") as runs:
    runs.write("x")
if (folder / "broken").exists():
    print("canary-of-the-plugin", file=sys.stderr)
    sys.exit(1)
count = len((folder / "runs").read_text())
status = {"token": f"t{count}"}
lifetime = float(sys.argv[2])
if lifetime:
    moment = time.gmtime(time.time() + lifetime)
    status["expirationTimestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)
version = "client.authentication.k8s.io/v1"
print(json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status}))
"""


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as running:
        yield running


def _write(path: Path, url: str, user: dict[str, Any], **more: Any) -> str:
    body = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u"}},
            {"name": "there", "context": {"cluster": "c", "user": "other"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": user}, {"name": "other", "user": {"token": "of-other"}}],
        **more,
    }
    path.write_text(json.dumps(body))
    return str(path)


def _with_plugin(folder: Path, url: str, *, lifetime: float) -> str:
    (folder / "plugin.py").write_text(PLUGIN)
    arguments = [str(folder / "plugin.py"), str(folder), str(lifetime)]
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": arguments}
    return _write(folder / "kubeconfig", url, {"exec": {**plugin, "interactiveMode": "Never"}})


def _runs(folder: Path) -> int:
    return len((folder / "runs").read_text())


def _accepting(*tokens: str) -> Any:
    def answer(seen: Seen) -> Reply:
        if seen.headers.get("Authorization", "").removeprefix("Bearer ") in tokens:
            return Reply(200, b"ok")
        return Reply(401, {"kind": "Status", "code": 401, "reason": "Unauthorized", "message": "no"})

    return answer


def test_a_refused_credential_is_fetched_anew_once(server: ApiServer, tmp_path: Path) -> None:
    """A plugin's token that the server no longer takes: the plugin runs again and the request is repeated."""
    cluster = connect(ClusterTarget(kubeconfig=_with_plugin(tmp_path, server.url, lifetime=0)))
    server.answer = _accepting("t1")
    assert cluster.raw("GET", "/readyz").code == 200
    server.answer = _accepting("t2")
    assert cluster.raw("POST", "/readyz", body=b"{}").code == 200
    assert _runs(tmp_path) == 2
    assert [seen.headers["Authorization"] for seen in server.seen] == ["Bearer t1", "Bearer t1", "Bearer t2"]


def test_a_credential_that_stays_refused_is_an_answer(server: ApiServer, tmp_path: Path) -> None:
    """One renewal per request, no loop; the error says that the credential is not accepted."""
    cluster = connect(ClusterTarget(kubeconfig=_with_plugin(tmp_path, server.url, lifetime=0)))
    server.answer = _accepting()
    assert cluster.raw("GET", "/readyz").code == 401
    assert (len(server.seen), _runs(tmp_path)) == (2, 2)


def test_an_expiring_token_is_replaced_before_it_is_refused(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its expirationTimestamp, mid-run, without a 401; not for every request."""
    cluster = connect(ClusterTarget(kubeconfig=_with_plugin(tmp_path, server.url, lifetime=2)))
    server.answer = _accepting("t1", "t2")
    for _ in range(5):
        assert cluster.raw("GET", "/readyz").code == 200
    assert _runs(tmp_path) <= 2
    monkeypatch.setattr(kube_session, "AUTHORIZATION_LIFETIME", 0.0)
    server.answer = _accepting("t3", "t4")
    cluster = connect(ClusterTarget(kubeconfig=str(tmp_path / "kubeconfig")))
    assert cluster.raw("GET", "/readyz").code == 200


def test_a_plugin_that_fails_is_named_and_not_quoted(
    server: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """At the start and mid-run: Unauthorized with a hint; what the plugin printed is not repeated."""
    path = _with_plugin(tmp_path, server.url, lifetime=0)
    cluster = connect(ClusterTarget(kubeconfig=path))
    (tmp_path / "broken").touch()
    server.answer = _accepting()
    for act in (lambda: cluster.raw("GET", "/readyz"), lambda: connect(ClusterTarget(kubeconfig=path))):
        with pytest.raises(Unauthorized, match="plugin") as caught:
            act()
        assert "canary" not in f"{caught.value} {caught.value.hint}"
        assert caught.value.hint
    assert "canary" not in caplog.text
    assert "canary" not in "".join(capfd.readouterr())


def test_threads_that_are_refused_together_renew_once(server: ApiServer, tmp_path: Path) -> None:
    """Eight threads meet a 401; the plugin runs once for all."""
    cluster = connect(ClusterTarget(kubeconfig=_with_plugin(tmp_path, server.url, lifetime=0)))
    server.answer = _accepting("t2")
    codes: list[int] = []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait(10)
        codes.append(cluster.raw("GET", "/readyz").code)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert codes == [200] * 8
    assert _runs(tmp_path) == 2


def test_contexts_and_several_files(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KUBECONFIG lists files; what the first names wins; a context may be chosen."""
    first = _write(
        tmp_path / "first", server.url, {"token": "first"}, users=[{"name": "u", "user": {"token": "first"}}]
    )
    second = _write(tmp_path / "second", "http://127.0.0.1:1", {"token": "second"})
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([first, str(tmp_path / "missing"), second]))
    server.answer = _accepting("first", "of-other")
    assert connect(ClusterTarget()).server == server.url
    assert connect(ClusterTarget()).raw("GET", "/readyz").code == 200
    connect(ClusterTarget(context="there")).raw("GET", "/readyz")
    assert [seen.headers["Authorization"] for seen in server.seen] == ["Bearer first", "Bearer of-other"]


def test_who_we_act_as_is_sent(server: ApiServer, tmp_path: Path) -> None:
    """`as` of a kubeconfig's user: ignoring it would act with more rights than were meant."""
    user = {"token": "t", "as": "dev", "as-uid": "7", "as-groups": ["a", "b"], "as-user-extra": {"Why": ["test"]}}
    server.script(Reply(200, b"ok"))
    connect(ClusterTarget(kubeconfig=_write(tmp_path / "k", server.url, user))).raw("GET", "/readyz")
    sent = server.seen[0].headers
    assert (sent["Impersonate-User"], sent["Impersonate-Uid"], sent["Impersonate-Extra-why"]) == ("dev", "7", "test")
    assert server.seen[0].groups == ("a", "b")


def test_the_user_agent_is_ours(server: ApiServer, tmp_path: Path) -> None:
    """The server names the field manager of updates by it."""
    server.script(Reply(200, b"ok"))
    target = ClusterTarget(kubeconfig=_write(tmp_path / "k", server.url, {"token": "t"}), user_agent="who/1")
    connect(target).raw("GET", "/readyz")
    assert server.seen[0].headers["User-Agent"] == "who/1"


@pytest.mark.parametrize("text", ["{canary: [", "just text canary", "[]", "apiVersion: v1\nkind: Config\n", ""])
def test_a_bad_kubeconfig_is_a_usage_error(tmp_path: Path, text: str) -> None:
    """Whatever is wrong with it, without its words."""
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        connect(ClusterTarget(kubeconfig=str(path)))
    assert caught.value.reason == "Kubeconfig"
    assert "canary" not in str(caught.value)


def test_an_unknown_context_is_a_usage_error(server: ApiServer, tmp_path: Path) -> None:
    """The error names the context."""
    path = _write(tmp_path / "k", server.url, {"token": "t"})
    with pytest.raises(UsageError, match="nowhere"):
        connect(ClusterTarget(kubeconfig=path, context="nowhere"))


def test_a_proxy_is_used_and_passed_by(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxy carries requests, except to hosts of NO_PROXY."""
    server.script(Reply(200, b"ok"))
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, server.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,.example.com")
    far = connect(ClusterTarget(kubeconfig=_write(tmp_path / "far", "http://kube.invalid:8080", {"token": "t"})))
    assert far.raw("GET", "/readyz").code == 200
    assert server.seen[-1].path == "http://kube.invalid:8080/readyz"
    near = connect(ClusterTarget(kubeconfig=_write(tmp_path / "near", server.url, {"token": "t"})))
    assert near.raw("GET", "/readyz").code == 200
    assert server.seen[-1].path == "/readyz"


def test_inside_a_pod_without_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service account folder without a token is named as the problem."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("SECRETSOPS_SERVICEACCOUNT_DIR", str(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    with pytest.raises(UsageError, match="token"):
        connect(ClusterTarget())


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the client's library the error says what to install."""
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(MissingExtra) as caught:
        connect(ClusterTarget())
    assert "secretsops[cluster]" in caught.value.hint


def test_importing_the_door_costs_nothing() -> None:
    """The client and urllib3 are loaded when a cluster is connected, not before."""
    program = "import sys, secretsops.adapters.kube; print(sorted({'kubernetes', 'urllib3'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


def test_errors_of_the_session_are_ours(server: ApiServer, tmp_path: Path) -> None:
    """TLS against a server that speaks none is Unreachable with a hint."""
    path = _write(tmp_path / "k", server.url.replace("http:", "https:"), {"token": "t"})
    with pytest.raises(ApiError) as caught:
        connect(ClusterTarget(kubeconfig=path)).raw("GET", "/readyz")
    assert caught.value.reason == "TlsFailed"
    assert "certificate" in caught.value.hint
