"""`seal` in process: certificate through the service proxy, namespaces of a kubeconfig, large and odd input, budget."""

from __future__ import annotations

import datetime as dt
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from secretsops.cli import run
from secretsops.errors import NotFound, Unreachable
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.ports import Answer, ClusterTarget
from secretsops.sealing.cli import seal

SECRET = b"apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {user: canary-value}\n"


class ProxyCluster:
    """The two requests of a certificate fetch, and a verify answer, as an API server gives them."""

    def __init__(self, pem: bytes = b"", *, code: int = 200, down: bool = False) -> None:
        self.pem, self.code, self.down = pem, code, down
        self.paths: list[str] = []
        self.bodies: list[bytes] = []

    def get(self, kind: GroupVersionKind, name: str, namespace: str = "") -> Manifest:
        if self.down:
            raise Unreachable("no answer from the API server", hint="is the address right?")
        if (kind.kind, name, namespace) != ("Service", "sealed-secrets-controller", "kube-system"):
            raise NotFound(f"services {name} not found")
        return Manifest({"spec": {"ports": [{"name": "http", "port": 8080}]}})

    def raw(self, method: str, path: str, *, body: bytes = b"", content_type: str = "") -> Answer:
        self.paths.append(f"{method} {path}")
        self.bodies.append(body)
        return Answer(code=self.code, headers={}, body=self.pem)


class Doors:
    """Doors onto one cluster and the machine's time."""

    def __init__(self, cluster: ProxyCluster) -> None:
        self._cluster = cluster
        self.targets: list[ClusterTarget] = []

    @property
    def clock(self) -> Doors:
        return self

    def now(self) -> dt.datetime:
        return dt.datetime(2027, 1, 1, tzinfo=dt.UTC)

    def cluster(self, target: ClusterTarget) -> ProxyCluster:
        self.targets.append(target)
        return self._cluster


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    path = tmp_path / "in.yaml"
    path.write_bytes(SECRET)
    return str(path)


def call(arguments: list[str], cluster: ProxyCluster | None = None) -> int:
    return run(seal, arguments, prog="seal", doors=Doors(cluster or ProxyCluster()))


def test_the_certificate_comes_through_the_service_proxy(
    key_folder: Path, secret_file: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """The Service's first port name makes the path, slashes kept; the output is sealed for that key."""
    cluster = ProxyCluster((key_folder / "alpha" / "tls.crt").read_bytes())
    assert call(["-f", secret_file], cluster) == 0
    proxy = "/api/v1/namespaces/kube-system/services/http:sealed-secrets-controller:http/proxy"
    assert cluster.paths == [f"GET {proxy}/v1/cert.pem"]
    assert b"kind: SealedSecret" in capfdbinary.readouterr().out
    assert call(["--fetch-cert"], cluster) == 0
    assert cluster.pem == capfdbinary.readouterr().out


@pytest.mark.parametrize(
    ("cluster", "arguments", "told"),
    [
        (ProxyCluster(down=True), [], "no answer from the API server"),
        (ProxyCluster(code=503), [], "the controller answered 503"),
        (ProxyCluster(b"<html>"), [], "the controller's answer: there is no PEM certificate"),
        (ProxyCluster(), ["--controller-name", "other"], "there is no Service kube-system/other"),
    ],
)
def test_no_certificate_is_an_error_with_a_hint(
    cluster: ProxyCluster, arguments: list[str], told: str, secret_file: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every way to miss the certificate names what was tried and prints nothing on standard output."""
    assert call(["-f", secret_file, *arguments], cluster) in {1, 3}
    out, err = capfd.readouterr()
    assert out == ""
    assert told in err
    assert "seal: hint: " in err
    assert "canary" not in err


def test_validate_asks_the_controller(
    key_folder: Path, secret_file: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A yes is silent, a no is exit 1 and names the object."""
    sealed = str(tmp_path / "sealed.yaml")
    assert call(["--cert", str(key_folder / "alpha" / "tls.crt"), "-f", secret_file, "-w", sealed]) == 0
    yes, no = ProxyCluster(code=200), ProxyCluster(code=409)
    assert call(["--validate", "-f", sealed], yes) == 0
    assert json.loads(yes.bodies[0])["kind"] == "SealedSecret"
    assert call(["--validate", "-f", sealed], no) == 1
    assert "unable to decrypt sealed secret: db" in capfd.readouterr().err


@pytest.mark.parametrize("junk", [b"\0" * 50, SECRET + b"\0", b"\xff\xfe" + SECRET, b"[" * 100_000, b"%" * 1000])
def test_odd_bytes_are_refused(
    junk: bytes, key_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """NULs, other encodings and endless nesting end in one line of error, without a value."""
    path = tmp_path / "in.yaml"
    path.write_bytes(junk)
    assert call(["--cert", str(key_folder / "alpha" / "tls.crt"), "-f", str(path)]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "canary" not in err
    assert err.startswith("seal: error: ")


def test_a_document_of_ten_megabytes_is_sealed(key_folder: Path, tmp_path: Path) -> None:
    """Size alone is no error; the API server judges what it stores."""
    source, target = tmp_path / "in.yaml", tmp_path / "out.yaml"
    source.write_bytes(SECRET.replace(b"canary-value", b"x" * 10_000_000))
    start = time.process_time()
    assert call(["--cert", str(key_folder / "alpha" / "tls.crt"), "-f", str(source), "-w", str(target)]) == 0
    assert target.stat().st_size > 13_000_000
    assert time.process_time() - start < 20


def test_the_namespace_comes_from_the_kubeconfig(
    key_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where nothing else names one: the context's namespace, read without a cluster library."""
    config = {"current-context": "c", "contexts": [{"name": "c", "context": {"namespace": "from-context"}}]}
    (tmp_path / "config").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'absent'}:{tmp_path / 'config'}")
    (tmp_path / "in.yaml").write_bytes(SECRET.replace(b", namespace: shop", b""))
    assert call(["--cert", str(key_folder / "alpha" / "tls.crt"), "-f", str(tmp_path / "in.yaml")]) == 0
    assert "namespace: from-context" in capfd.readouterr().out


def _seal_process(certificate: Path) -> float:
    """Give the CPU seconds of one `seal` process, children's counters before and after."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    program = [sys.executable, "-c", "from secretsops.cli import seal; seal()", "--cert", str(certificate)]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "HOME": "/nowhere"}
    subprocess.run(program, input=SECRET, capture_output=True, check=True, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_sealing_with_a_local_certificate_is_cheap(key_folder: Path, record_property: Any) -> None:
    """The best of several runs; the budget is 110 ms, the gate is double so that a busy machine does not fail it."""
    best = min(_seal_process(key_folder / "alpha" / "tls.crt") for _ in range(5))
    record_property("cpu_seconds", best)
    assert best < 0.22


def test_sealing_loads_no_x509_library(key_folder: Path) -> None:
    """`cryptography.x509` costs 29 ms and is not needed for a public key."""
    program = (
        "import sys; from secretsops.cli import seal\n"
        f"sys.argv = ['seal', '--cert', {str(key_folder / 'alpha' / 'tls.crt')!r}]\n"
        "try: seal()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'cryptography.x509', 'kubernetes', 'boto3', 'hvac', 'git', 'urllib3', 'urllib.request', 'rich'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], input=SECRET, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
