"""The pinned kubectl on the stand-in: what a person types has to work, and to say what it says elsewhere."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.sandbox.embedded_cluster import EmbeddedCluster

KUBECTL = Path(sys.executable).parent / "kubectl"
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: main, image: "nginx:1", ports: [{containerPort: 80}], env: [{name: A, value: "1"}]}
"""


class Person:
    """Somebody with a terminal and a namespace."""

    def __init__(self, cluster: EmbeddedCluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        self._start = [str(KUBECTL), "--kubeconfig", str(cluster.kubeconfig), "-n", namespace]

    def types(self, *arguments: str, stdin: str = "", code: int = 0, editor: str = "") -> str:
        environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "KUBE_EDITOR": editor}
        done = subprocess.run(
            [*self._start, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=environment,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def starts(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen([*self._start, *arguments], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def person(embedded_cluster: EmbeddedCluster) -> Iterator[Person]:
    """Give a person in a new namespace."""
    if not KUBECTL.is_file():
        pytest.skip("no kubectl: install the extra `render`")
    found = Person(embedded_cluster, f"person-{secrets.token_hex(3)}")
    found.types("create", "namespace", found.namespace)
    yield found
    found.types("delete", "namespace", found.namespace, "--wait=false")


def test_a_deployment_is_applied_looked_at_and_becomes_ready(person: Person) -> None:
    """apply, rollout, get in three forms, wait, describe."""
    assert "deployment.apps/web created" in person.types("apply", "-f", "-", stdin=DEPLOYMENT)
    person.types("rollout", "status", "deployment/web", "--timeout=20s")
    person.types("wait", "--for=condition=Available", "deployment/web", "--timeout=20s")
    assert "2/2" in person.types("get", "deployments")
    wide = person.types("get", "pods", "-o", "wide")
    assert "sandbox-node" in wide
    assert "10.243." in wide
    assert "nginx:1" in person.types("get", "deployment", "web", "-o", "yaml")
    told = person.types("describe", "deployment", "web")
    assert "2 desired | 2 updated | 2 total | 2 available" in told
    assert "Image:" in person.types("describe", "pod", "-l", "app=web")


def test_an_applied_change_is_a_patch_of_what_changed(person: Person) -> None:
    """Client-side apply merges lists by key; fields set by others stay; a second apply changes nothing."""
    person.types("apply", "-f", "-", stdin=DEPLOYMENT)
    assert "unchanged" in person.types("apply", "-f", "-", stdin=DEPLOYMENT)
    person.types("set", "env", "deployment/web", "B=2")
    assert "configured" in person.types("apply", "-f", "-", stdin=DEPLOYMENT.replace("nginx:1", "nginx:2"))
    body = json.loads(person.types("get", "deployment", "web", "-o", "json"))
    (container,) = body["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "nginx:2"
    assert {each["name"] for each in container["env"]} == {"A", "B"}


def test_diff_says_what_apply_would_do(person: Person) -> None:
    """Exit code 1 and the changed line; 0 and silence once it is there; both kinds of apply."""
    for kind in ("--server-side=false", "--server-side"):
        person.types("apply", kind, "-f", "-", stdin=DEPLOYMENT)
        shown = person.types("diff", kind, "-f", "-", stdin=DEPLOYMENT.replace("nginx:1", "nginx:3"), code=1)
        assert "nginx:3" in shown
        assert person.types("diff", kind, "-f", "-", stdin=DEPLOYMENT) == ""
        person.types("delete", "deployment", "web")


def test_server_side_apply_has_owners(person: Person) -> None:
    """A field of another manager is a conflict, --force-conflicts takes it."""
    person.types("apply", "--server-side", "--field-manager=one", "-f", "-", stdin=DEPLOYMENT)
    changed = DEPLOYMENT.replace("replicas: 2", "replicas: 3")
    refused = person.types("apply", "--server-side", "--field-manager=two", "-f", "-", stdin=changed, code=1)
    assert 'conflict with "one"' in refused
    person.types("apply", "--server-side", "--field-manager=two", "--force-conflicts", "-f", "-", stdin=changed)
    assert person.types("get", "deployment", "web", "-o", "jsonpath={.spec.replicas}") == "3"


def test_an_editor_changes_an_object(person: Person, tmp_path: Path) -> None:
    """`kubectl edit` with a script as the editor."""
    person.types("create", "configmap", "settings", "--from-literal=colour=red")
    script = tmp_path / "editor"
    script.write_text('#!/bin/sh\nsed -i s/red/blue/ "$1"\n')
    script.chmod(0o755)
    assert "edited" in person.types("edit", "configmap", "settings", editor=str(script))
    assert person.types("get", "configmap", "settings", "-o", "jsonpath={.data.colour}") == "blue"


def test_a_watch_shows_what_happens(person: Person) -> None:
    """`get --watch` prints a line per change."""
    person.types("create", "configmap", "first", "--from-literal=a=1")
    with person.starts("get", "configmaps", "--watch", "-o", "name") as watching:
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(watching.stdout or ()), daemon=True)
        reader.start()
        deadline = time.monotonic() + 10
        while not lines and time.monotonic() < deadline:
            time.sleep(0.05)
        person.types("create", "configmap", "second", "--from-literal=a=1")
        while "configmap/second\n" not in lines and time.monotonic() < deadline:
            time.sleep(0.05)
        watching.terminate()
        reader.join(10)
    assert "configmap/second\n" in lines


def test_typed_commands_work(person: Person) -> None:
    """kubectl's own objects come as protobuf: Secrets, accounts, roles, jobs, services."""
    person.types("create", "secret", "generic", "login", "--from-literal=user=a", "--from-literal=pass=b")
    assert json.loads(person.types("get", "secret", "login", "-o", "json"))["data"] == {"user": "YQ==", "pass": "Yg=="}
    person.types("create", "serviceaccount", "robot")
    person.types("create", "role", "reader", "--verb=get,list", "--resource=configmaps")
    person.types("create", "rolebinding", "robot", "--role=reader", f"--serviceaccount={person.namespace}:robot")
    who = f"--as=system:serviceaccount:{person.namespace}:robot"
    assert person.types("auth", "can-i", "get", "configmaps", who) == "yes\n"
    assert person.types("auth", "can-i", "get", "secrets", who, code=1) == "no\n"
    assert "forbidden" in person.types("get", "secrets", who, code=1)
    person.types("create", "job", "once", "--image=busybox", "--", "true")
    person.types("wait", "--for=condition=Complete", "job/once", "--timeout=20s")
    person.types("create", "deployment", "web", "--image=nginx", "--replicas=1", "--port=80")
    person.types("expose", "deployment", "web", "--port=8080", "--target-port=80")
    person.types("scale", "deployment", "web", "--replicas=3")
    person.types("rollout", "status", "deployment/web", "--timeout=20s")
    assert "3/3" in person.types("get", "deployment", "web")


def test_what_is_wrong_is_said_as_elsewhere(person: Person) -> None:
    """Unknown fields, bad names and missing things: kubectl shows the server's own words."""
    unknown = person.types("apply", "-f", "-", stdin=DEPLOYMENT.replace("replicas: 2", "replicaz: 2"), code=1)
    assert 'unknown field "spec.replicaz"' in unknown
    assert 'configmaps "nothing" not found' in person.types("get", "configmap", "nothing", code=1)
    assert "Invalid value" in person.types("create", "configmap", "Not_A_Name", code=1)


def test_the_version_says_what_it_is(person: Person) -> None:
    """Nobody takes it for a cluster."""
    assert "secretsops-embedded" in person.types("version")
