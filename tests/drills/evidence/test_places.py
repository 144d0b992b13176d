"""The chain on real places with real key services, the schedule on a real API server, and no secret in any of it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.server
import json
import re
import secrets
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from drills import estate
from drills.cli import drill
from drills.evidence.chain import Stage, verify
from drills.evidence.ledger import Ledger, append, countersign, judged, read_files, take_turn
from drills.evidence.statement import is_signature, read_key
from drills.record import ended_record, of_report
from drills.sandbox.cluster import ControlPlane
from secretsops.adapters.kube import connect
from secretsops.adapters.notary import open_notary
from secretsops.adapters.sinks import FolderSink
from secretsops.cli import RealDoors
from secretsops.errors import SecretsOpsError, UsageError
from secretsops.escrow.signing import new_signer
from secretsops.manifest import Manifest
from secretsops.ports import ClusterTarget, Notary
from secretsops.secret import Plaintext
from tests.contract.secret_source.servers import vault_call
from tests.contract.sink.worlds import world
from tests.drills.evidence.chains import DAY, OTHER, RUNNER, report, run
from tests.fakes.clock import FakeClock

SCHEDULE = ["schedule", "cluster-lost", "git-lost", "--cron", "weekly", "--evidence", "s3://evidence/drills"]


def whole(ledger: Ledger, number: int) -> None:
    """Write a whole run."""
    which = take_turn(ledger, run(number), patience=0, waiting=lambda _: None).run
    append(ledger, Stage.ENDED, ended_record(which, of_report(report()), ended=DAY))


@pytest.mark.parametrize("kind", ["folder", "s3", "git", "vault"])
def test_a_chain_lives_in_every_kind_of_place(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Written by one credential, judged by another; a head from elsewhere; what is written stays as it is."""
    place = world(kind, request, tmp_path)
    ledger = Ledger(places=[place.writer], notary=RUNNER, clock=FakeClock(DAY))
    whole(ledger, 1)
    found, _ = judged([place.reader], runners=frozenset((RUNNER.public,)), countersigners=None)
    countersign([place.writer, FolderSink(tmp_path / "heads")], found, OTHER, at="2026-01-06T00:00:00Z")
    whole(ledger, 2)
    found, _ = judged([place.reader], runners=frozenset((RUNNER.public,)), countersigners=frozenset((OTHER.public,)))
    assert (found.holds, len(found.links), found.vouched) == (True, 4, 2)
    with pytest.raises(SecretsOpsError):
        place.writer.put("drill-00000001.json", b"{}")
    assert verify(read_files(place.reader)).holds
    if place.retained:
        assert place.reader.describe("drill-00000001.json").retained_until > "2026-12"


@pytest.fixture(params=["kms", "transit"])
def key(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the URL of a signing key of a service."""
    if request.param == "kms":
        import boto3

        url = request.getfixturevalue("moto").url
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secrets.token_hex(8))
        client = boto3.client("kms", endpoint_url=url, region_name="eu-west-1")
        made = client.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["KeyId"]
        return f"aws-kms:///{made}?region=eu-west-1&endpoint={url}"
    bao = request.getfixturevalue("openbao")
    monkeypatch.setenv("VAULT_TOKEN", bao.token)
    mount = f"transit-{secrets.token_hex(3)}"
    vault_call(bao.url, bao.token, "POST", f"sys/mounts/{mount}", {"type": "transit"})
    vault_call(bao.url, bao.token, "POST", f"{mount}/keys/drills", {"type": "ed25519"})
    return f"vault-transit+{bao.url}/{mount}/drills"


def test_a_key_service_signs(key: str, tmp_path: Path) -> None:
    """What KMS or Vault signs is checked with the public key alone, offline; another's signature is none."""
    notary: Notary = open_notary(key)
    assert read_key(notary.public) == notary.public
    content = b"DSSEv1 " + bytes(4000)
    made = notary.sign_bytes(content)
    assert is_signature(notary.public, made, content)
    assert not is_signature(notary.public, made, content + b"x")
    assert not is_signature(RUNNER.public, made, content)
    long = b"DSSEv1 " + bytes(9000)
    # The emulation of KMS takes a digest for a message and hashes it once more; AWS does not.
    seen = hashlib.sha256(long).digest() if key.startswith("aws-kms") else long
    assert is_signature(notary.public, notary.sign_bytes(long), seen)
    ledger = Ledger(places=[FolderSink(tmp_path)], notary=notary, clock=FakeClock(DAY))
    take_turn(ledger, run(1), patience=0, waiting=lambda _: None)
    files = read_files(FolderSink(tmp_path))
    assert verify(files, runners=frozenset((notary.public,))).holds
    assert not verify(files, runners=frozenset((RUNNER.public,))).holds


def test_what_is_no_signing_key_is_refused(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another scheme, a key that encrypts, a file that everybody can read."""
    from drills.evidence.options import the_notary

    bao = request.getfixturevalue("openbao")
    monkeypatch.setenv("VAULT_TOKEN", bao.token)
    mount = f"transit-{secrets.token_hex(3)}"
    vault_call(bao.url, bao.token, "POST", f"sys/mounts/{mount}", {"type": "transit"})
    vault_call(bao.url, bao.token, "POST", f"{mount}/keys/aes", {})
    with pytest.raises(UsageError):
        _ = open_notary(f"vault-transit+{bao.url}/{mount}/aes").public
    with pytest.raises(UsageError):
        open_notary("gcp-kms:///x")
    file = tmp_path / "signer.key"
    file.write_bytes(new_signer()[1].reveal())
    file.chmod(0o644)
    with pytest.raises(UsageError) as caught:
        the_notary(RealDoors(), str(file))
    assert caught.value.reason == "OpenSigner"
    file.chmod(0o440)
    assert the_notary(RealDoors(), str(file)).public.startswith("ed25519:")


def printed(*arguments: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(drill, [*SCHEDULE, *arguments], obj=RealDoors())
    assert done.exception is None, done.output
    return list(yaml.safe_load_all(done.output))


def test_the_schedule_is_taken_by_a_real_api_server_and_may_write_nothing(control_plane: ControlPlane) -> None:
    """Every object is accepted as it is; the runner reads what it needs, no Secret, and writes nothing."""
    cluster = connect(ClusterTarget(kubeconfig=str(control_plane.kubeconfig)))
    namespace = f"drills-{secrets.token_hex(3)}"
    bodies = printed("--namespace", namespace, "--notify", "--push", "--key", RUNNER.public)
    for body in bodies:
        made = cluster.apply(Manifest(body), field_manager="test")
        assert made.name == body["metadata"]["name"]
    jobs = [body for body in bodies if body["kind"] == "CronJob"]
    assert [job["metadata"]["name"] for job in jobs] == ["drill-cluster-lost", "drill-git-lost", "drill-countersign"]
    user = f"system:serviceaccount:{namespace}:secretsops-drill"

    def may(verb: str, resource: str, group: str = "", who: str = user) -> bool:
        attributes = {"verb": verb, "resource": resource, "group": group, "namespace": "default"}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "metadata": {},
            "spec": {"user": who, "resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        answer = cluster.raw("POST", path, body=json.dumps(review).encode(), content_type="application/json")
        return bool(json.loads(answer.body)["status"]["allowed"])

    assert may("list", "sealedsecrets", "bitnami.com")
    assert may("watch", "applications", "argoproj.io")
    assert not may("get", "secrets")
    for verb in ("create", "update", "patch", "delete", "deletecollection"):
        assert not any(may(verb, kind, group) for kind, group in (("configmaps", ""), ("deployments", "apps")))
    assert not may("list", "configmaps", who=user + "-countersigner")


def test_what_is_scheduled_is_what_the_commands_take() -> None:
    """Arguments in CronJobs and cron lines are parsed by our own commands; who runs and who vouches differ."""
    jobs = [body for body in printed("--key", RUNNER.public) if body["kind"] == "CronJob"]
    pods = [job["spec"]["jobTemplate"]["spec"]["template"]["spec"] for job in jobs]
    assert len({pod["serviceAccountName"] for pod in pods}) == 2
    assert len({pod["volumes"][0]["secret"]["secretName"] for pod in pods}) == 2
    for pod in pods:
        words = pod["containers"][0]["args"]
        assert words[0] == "drill"
        command: Any = drill
        rest = words[1:]
        while hasattr(command, "commands"):
            command, rest = command.commands[rest[0]], rest[1:]
        command.make_context("x", list(rest), obj=RealDoors())
    assert jobs[0]["spec"]["concurrencyPolicy"] == "Forbid"
    lines = CliRunner().invoke(drill, [*SCHEDULE, "--as", "crontab"], obj=RealDoors()).output.splitlines()
    assert lines[2].startswith("0 0 * * 1 secretsops drill run cluster-lost --cluster auto --schedule '0 0 * * 1'")
    rules = yaml.safe_load(CliRunner().invoke(drill, [*SCHEDULE, "--alerts", "file"], obj=RealDoors()).output)
    missed = next(rule for rule in rules["groups"][0]["rules"] if rule["alert"] == "SecretsopsDrillMissed")
    assert missed["expr"].endswith(f"> {round(1.5 * 7 * 86400)}")
    for wrong in (["--evidence", "./folder"], ["--deadline", "1s"], ["--cron", "never"], ["--key", "x"]):
        done = CliRunner().invoke(drill, [*SCHEDULE, *wrong], obj=RealDoors())
        assert isinstance(done.exception, UsageError), wrong


class _Hook(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted; answers what the path says."""

    bodies: list[bytes]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(int(self.path.rpartition("/")[2]))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def hook() -> Iterator[tuple[str, list[bytes]]]:
    """Give the URL of a webhook, and what it got."""
    handler = type("Hook", (_Hook,), {"bodies": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/services/T0K3N", handler.bodies  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


def test_a_webhook_gets_the_summary_and_its_url_is_never_told(hook: tuple[str, list[bytes]]) -> None:
    """A refusal names the host alone: the path of a webhook is its credential."""
    url, bodies = hook
    doors = RealDoors()
    doors.announce(Plaintext(f"{url}/200".encode()), b'{"text": "x"}')
    assert bodies == [b'{"text": "x"}']
    for wrong in (f"{url}/500", "http://127.0.0.1:1/T0K3N", "ftp://x/T0K3N", "http://[T0K3N"):
        with pytest.raises(SecretsOpsError) as caught:
            doors.announce(Plaintext(wrong.encode()), b"{}")
        assert "T0K3N" not in str(caught.value) + caught.value.hint


def spelled(value: bytes) -> list[bytes]:
    """Give the ways in which a value could stand somewhere."""
    found = [
        value,
        base64.b64encode(value).rstrip(b"="),
        base64.urlsafe_b64encode(value).rstrip(b"="),
        value.hex().encode(),
    ]
    found += [urllib.parse.quote(value).encode(), json.dumps(value.decode()).encode()[1:-1]]
    for name in ("md5", "sha1", "sha256", "sha512", "sha3_256"):
        digest = hashlib.new(name, value)
        found += [digest.hexdigest().encode(), base64.b64encode(digest.digest()).rstrip(b"=")]
    return found


@pytest.mark.nightly
def test_a_whole_drill_leaves_no_secret_in_its_evidence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hook: tuple[str, list[bytes]]
) -> None:
    """A drill on the stand-in with every value caught as it is made: none is in chain, page, texts, summary, output."""
    made: list[bytes] = []
    original = estate.made_up

    def caught() -> Plaintext:
        value = original()
        made.append(value.reveal())
        return value

    monkeypatch.setattr(estate, "made_up", caught)
    monkeypatch.setenv("SECRETSOPS_DRILL_WEBHOOK", f"{hook[0]}/200")
    pem = new_signer()[1].reveal()
    signer = tmp_path / "signer.key"
    signer.write_bytes(pem)
    signer.chmod(0o600)
    out = tmp_path / "out"
    out.mkdir()
    place = tmp_path / "ledger"
    command = [
        "run",
        "cluster-lost",
        "--cluster",
        "embedded",
        "--evidence",
        str(place),
        "--signer",
        str(signer),
        "--notify",
    ]
    for option, name in (("--html", "d.html"), ("--junit", "d.xml"), ("--metrics", "d.prom"), ("--report", "d.json")):
        command += [option, str(out / name)]
    done = CliRunner().invoke(drill, command, obj=RealDoors(), standalone_mode=False)
    assert done.exception is None, done.output[-2000:]
    for output in ("table", "json", "yaml", "html", "markdown", "junit", "openmetrics"):
        shown = CliRunner().invoke(drill, ["report", "--evidence", str(place), "-o", output], obj=RealDoors())
        (out / f"shown.{output}").write_text(shown.output)
    files = [path.read_bytes() for folder in (out, place) for path in sorted(folder.iterdir())]
    told = [*files, *hook[1], done.output.encode(), done.stderr.encode()]
    told += [base64.b64decode(part) for text in files for part in re.findall(rb'"payload":"([^"]+)"', text)]
    assert len(made) >= 4
    assert len(hook[1]) == 1
    assert len(files) >= 13
    secret_lines = [line for line in pem.splitlines() if b"PRIVATE KEY" not in line]
    for value in [*made, *secret_lines, b"T0K3N"]:
        for spelling in spelled(value):
            assert not any(spelling in text for text in told)
            assert not any(gzip.compress(spelling, mtime=0)[10:-8] in text for text in told)
