"""The demo as a user runs it, once: its story holds, nothing secret leaks, no right is granted that is not used."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from controllers.install import manifests
from drills.report import KEPT
from secretsops.adapters.kube import connect
from secretsops.errors import ApiError
from secretsops.manifest import GroupVersionKind
from secretsops.ports import Cluster, ClusterTarget

pytestmark = pytest.mark.e2e

SECRET = GroupVersionKind("", "v1", "Secret")
US = "system:serviceaccount:kube-system:secretsops-controller"


@dataclass(frozen=True)
class Story:
    """A finished demo whose world is still up."""

    world: Path
    output: Path
    errors: Path
    report: dict[str, Any]
    cluster: Cluster


@pytest.fixture(scope="module")
def story(control_plane_binaries: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Run `secretsops demo --keep` until its world stays up; end it by Ctrl-C afterwards, with exit code 0."""
    folder = tmp_path_factory.mktemp("demo")
    output, errors, report = folder / "stdout", folder / "stderr", folder / "report.json"
    command = [
        sys.executable,
        "-m",
        "secretsops",
        "--log-level",
        "debug",
        "demo",
        "--cluster",
        "real",
        "--keep",
        "-o",
        "json",
    ]
    with output.open("w") as out, errors.open("w") as err:
        process = subprocess.Popen(
            [*command, "--world", str(folder / "world"), "--report", str(report)], stdout=out, stderr=err
        )
    try:
        deadline = time.monotonic() + 240
        while "stays up" not in errors.read_text() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        assert process.poll() is None, errors.read_text()[-4000:]
        kubeconfig = re.search(r"KUBECONFIG=(\S+)", errors.read_text())
        assert kubeconfig, errors.read_text()[-4000:]
        yield Story(
            world=folder / "world",
            output=output,
            errors=errors,
            report=json.loads(report.read_text()),
            cluster=connect(ClusterTarget(kubeconfig=kubeconfig[1])),
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, errors.read_text()[-4000:]
    finally:
        process.kill()
        process.wait()


def test_the_rebuild_claimed_the_cluster(story: Story) -> None:
    """The lost cluster is fenced, were it alive after all: the escrow holds a claim of the new one."""
    claims = sorted(story.world.rglob("claim-*.json"))
    (home,) = (
        one.metadata["uid"] for one in [story.cluster.get(GroupVersionKind("", "v1", "Namespace"), "kube-system")]
    )
    assert [json.loads(claim.read_bytes())["incarnation"] for claim in claims] == [home]


def test_the_story_holds(story: Story) -> None:
    """Every check held, the objectives were met, and the JSON report says so with a whole timeline."""
    report = story.report
    assert json.loads(story.output.read_text()) == report
    # The world was kept, so nothing proves that it can be cleaned up: everything held, and yet it has not passed.
    assert (report["kind"], report["verdict"], report["message"]) == ("DrillReport", "inconclusive", KEPT)
    assert {check["name"]: check["ok"] for check in report["checks"]} == {
        "secrets-equal": True,
        "applications-healthy": True,
        "objects-equal": True,
        "keys-equal": True,
        "no-plaintext": True,
    }
    steps = [span["name"] for span in report["timeline"]]
    before = ["start", "install", "commit", "fill", "escrow", "observe", "isolate"]
    assert steps == [*before, "destroy", "replace", "rebuild", "check", "clean up"]
    assert [proof["ok"] for proof in report["isolation"]] == [True] * 3
    goals = {(goal["name"], goal["tier"]): goal for goal in report["objectives"]}
    assert goals["serviceRto", ""]["notApplicable"] == "simulated"
    assert goals["controlPlaneRto", "sells"]["met"] is True
    assert {app["application"] for app in report["applications"]} == {"argocd/root", "argocd/shop", "argocd/blog"}
    assert sum(wait["seconds"] for wait in report["waits"]) > 0
    # Both are whole milliseconds: a sum of two floats is none.
    ends = [round(1000 * span["at"]) + round(1000 * span["seconds"]) for span in report["timeline"]]
    assert ends == sorted(ends)
    clocks = report["controlPlaneRto"]
    assert 0 < clocks["machineTime"] <= clocks["fromDeclaration"] + 0.01 <= clocks["fromDisruption"] + 0.02
    assert clocks["fromDisruption"] <= clocks["objective"]
    assert report["rpo"]["seconds"] == 0.0


def test_the_rebuilt_cluster_holds_what_was_committed(story: Story) -> None:
    """Secrets of both kinds are there with their owners, and the Applications are tracked as the peer does."""
    owners = {
        (secret.namespace, secret.name): secret.metadata["ownerReferences"][0]["kind"]
        for secret in story.cluster.list(SECRET)
        if secret.metadata.get("ownerReferences")
    }
    assert owners == {
        ("shop", "db"): "SealedSecret",
        ("shop", "vault-login"): "SealedSecret",
        ("shop", "payment"): "ExternalSecret",
        ("blog", "aws-login"): "SealedSecret",
        ("blog", "mail"): "ExternalSecret",
    }
    web = story.cluster.get(GroupVersionKind("apps", "v1", "Deployment"), "web", "shop")
    assert web.annotations["argocd.argoproj.io/tracking-id"] == "shop:apps/Deployment:shop/web"


# --- canary ----------------------------------------------------------------------------------------------


def _planted(story: Story) -> dict[str, bytes]:
    """Give every secret value of this world by where it stands: Secrets, sealing keys, the age identity."""
    found = {
        f"{secret.namespace}/{secret.name}:{name}": base64.b64decode(text)
        for secret in story.cluster.list(SECRET)
        for name, text in (secret.body.get("data") or {}).items()
        if name not in ("tls.crt", "id")
    }
    found["identity"] = (story.world / "drill/off-cluster/identity.txt").read_bytes().strip()
    return {name: value for name, value in found.items() if len(value) >= 12}


def _disguises(value: bytes) -> dict[str, bytes]:
    """Give a value as it could leak: plain, encoded, compressed, or digested."""
    text = value.decode("latin-1")
    lines = [line for line in value.splitlines() if len(line) >= 24]
    plain = {f"line {number}": line for number, line in enumerate(lines[1:4])} if len(lines) > 3 else {"plain": value}
    encoded = base64.b64encode(value)
    # Inside a longer text the ends of base64 depend on what stands beside them: the middle of each alignment.
    shifted = {
        f"base64+{shift}": base64.b64encode(b"\0" * shift + value)[4:-4][:200] for shift in range(3) if len(value) > 11
    }
    digests = {
        name: hashlib.new(name, value).hexdigest().encode() for name in ("md5", "sha1", "sha256", "sha512", "sha3_256")
    }
    raw = {f"{name} base64": base64.b64encode(bytes.fromhex(digest.decode())) for name, digest in digests.items()}
    return {
        **plain,
        **shifted,
        **digests,
        **raw,
        "base64": encoded[:200],
        "base64url": base64.urlsafe_b64encode(value)[:200],
        "hex": value.hex().encode()[:400],
        "url": urllib.parse.quote(text, safe="").encode()[:400],
        "json": json.dumps(text)[1:-1].encode()[:400],
        "gzip": zlib.compress(value)[2:-4][:200],
    }


NOT_OURS = ("etcd", "off-cluster/identity.txt", "serviceaccount", "token", "pki", "service-account", "kubeconfig")
"""Where values belong: the API server's own storage and credentials, and the custodian's file."""


def _emitted(story: Story) -> Iterator[tuple[str, bytes]]:
    """Give every byte the run left behind, by place: output, files of the world, objects other than Secrets."""
    yield "stdout", story.output.read_bytes()
    yield "stderr", story.errors.read_bytes()
    for path in sorted(story.world.rglob("*")):
        place = str(path.relative_to(story.world))
        if path.is_file() and not path.is_symlink() and not any(part in place for part in NOT_OURS):
            yield place, path.read_bytes()
    for resource in story.cluster.resources(refresh=True):
        if "list" in resource.verbs and resource.kind.kind != "Secret":
            try:
                for manifest in story.cluster.list(resource.kind):
                    yield str(manifest.key), json.dumps(manifest.body).encode()
            except ApiError:
                continue


def test_no_value_leaves_its_place(story: Story) -> None:
    """No planted value, in any disguise, stands in output, logs, reports, journal, events, statuses or audit log."""
    planted = _planted(story)
    assert len(planted) >= 8, sorted(planted)
    needles = {
        (name, disguise): needle for name, value in planted.items() for disguise, needle in _disguises(value).items()
    }
    places = list(_emitted(story))
    seen = {place.rpartition("/")[2] for place, _ in places}
    assert {"stdout", "stderr", "audit.log", "container.log", "journal.jsonl"} <= seen, sorted(seen)
    leaks = [(place, *needle) for place, content in places for needle, text in needles.items() if text in content]
    assert leaks == []


def test_the_canary_is_found_where_it_is() -> None:
    """The search would see a leak: a value disguised in each way is found in a text around it."""
    value = b"pVx-canary-0123456789-Zq"
    for disguise, needle in _disguises(value).items():
        assert needle, disguise
    inside = base64.b64encode(b'{"password": "' + value + b'"}')
    assert any(needle in inside for name, needle in _disguises(value).items() if name.startswith("base64+"))


# --- rights ----------------------------------------------------------------------------------------------

UNUSED = {
    ("get", "bitnami.com", "sealedsecrets"): "one that is looked at again without a change of its own: a key went, a "
    "Secret drifted; none in the story",
    ("delete", "", "secrets"): "an ExternalSecret with deletionPolicy Delete, or a renamed target; none in the story",
    ("update", "", "secrets"): "a Secret that drifted is healed; nothing drifts in the story",
    ("get", "", "configmaps"): "a store's caProvider; the story's Vault speaks plain HTTP on loopback",
    ("get", "", "namespaces"): "conditions of a ClusterSecretStore; the story has none",
    **{
        ("get", "generators.external-secrets.io", plural): "ExternalSecrets that name a generator; the story has none"
        for plural in (
            "clustergenerators",
            "ecrauthorizationtokens",
            "fakes",
            "passwords",
            "sshkeys",
            "stssessiontokens",
            "uuids",
            "vaultdynamicsecrets",
            "webhooks",
        )
    },
    **{
        (verb, "external-secrets.io", "pushsecrets"): "PushSecrets, alone and in many namespaces; the story has none"
        for verb in ("get", "create", "update", "patch", "delete")
    },
    ("update", "external-secrets.io", "pushsecrets/status"): "PushSecrets; the story has none",
    ("get", "external-secrets.io", "clusterpushsecrets"): "the story has none",
    ("update", "external-secrets.io", "clusterpushsecrets/status"): "the story has none",
    ("update", "external-secrets.io", "clusterpushsecrets/finalizers"): "checked by admission, never requested",
    ("patch", "external-secrets.io", "secretstores"): "a store that a PushSecret deletes in; the story has none",
    ("patch", "external-secrets.io", "clustersecretstores"): "a store that a PushSecret deletes in; the story has none",
    ("create", "authentication.k8s.io", "tokenreviews"): "who asks for a refresh over HTTP; nobody does in the story",
    ("create", "authorization.k8s.io", "subjectaccessreviews"): "whether they may; nobody asks in the story",
    ("patch", "", "namespaces"): "a finalizer that the peer left; the story has none",
    ("get", "external-secrets.io", "externalsecrets"): "what the watch told of is not read again",
    ("create", "external-secrets.io", "externalsecrets"): "children of a ClusterExternalSecret; the story has none",
    ("update", "external-secrets.io", "externalsecrets"): "children of a ClusterExternalSecret; the story has none",
    ("delete", "external-secrets.io", "externalsecrets"): "children of a ClusterExternalSecret; the story has none",
    ("get", "external-secrets.io", "clusterexternalsecrets"): "the story has none",
    ("patch", "external-secrets.io", "clusterexternalsecrets"): "the story has none",
    ("update", "external-secrets.io", "clusterexternalsecrets/status"): "the story has none",
    ("update", "external-secrets.io", "clusterexternalsecrets/finalizers"): "checked by admission, never requested",
    ("update", "external-secrets.io", "externalsecrets/finalizers"): "checked by admission, never requested",
    ("update", "external-secrets.io", "clustersecretstores/status"): "the story has no ClusterSecretStore",
    ("get", "external-secrets.io", "clustersecretstores"): "the story has no ClusterSecretStore",
    ("create", "", "configmaps"): "the API server asks for it where an apply creates the object; the log says patch",
    ("patch", "", "events"): "an event that repeats; depends on timing",
}
"""Rights that the install grants and the story does not need, each with its reason."""
STAGES = ("ResponseStarted", "ResponseComplete")
"""A watch that is still open has only started."""
OTHERS = {"sealed-secrets-service-proxier"}
"""Roles that are not the controller's."""


def _granted() -> set[tuple[str, str, str]]:
    return {
        (verb, group, resource)
        for manifest in manifests()
        if manifest.kind.kind in ("Role", "ClusterRole") and manifest.name not in OTHERS
        for rule in manifest.body["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _asked(story: Story) -> Iterator[tuple[tuple[str, str, str], int, str]]:
    """Give what the controller asked of both clusters: (verb, group, resource), code, URI."""
    logs = [*story.world.glob("drill/evidence/*/audit.log"), *story.world.glob("clusters/*/**/audit*.log")]
    assert len(logs) >= 2, logs
    for log in logs:
        for line in log.read_text().splitlines():
            entry = json.loads(line)
            reference = entry.get("objectRef") or {}
            if (entry.get("user") or {}).get("username") == US and entry.get("stage") in STAGES and reference:
                resource = "/".join(filter(None, [reference.get("resource"), reference.get("subresource")]))
                asked = (entry["verb"], reference.get("apiGroup", ""), resource)
                yield asked, int((entry.get("responseStatus") or {}).get("code") or 0), entry["requestURI"]


def test_the_controller_has_the_rights_it_uses_and_no_others(story: Story) -> None:
    """Nothing was forbidden, and what is granted but was not used stands in a list with its reason."""
    asked = list(_asked(story))
    assert [uri for _, code, uri in asked if code == 403] == []
    used = {what for what, _, _ in asked}
    unused = _granted() - used
    assert unused - set(UNUSED) == set()
    assert {what for what in UNUSED if what not in _granted()} == set()
