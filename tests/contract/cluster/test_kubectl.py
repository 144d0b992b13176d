"""Side by side with the real kubectl: what one writes the other reads and respects."""

from __future__ import annotations

import json

import pytest

from secretsops.errors import Conflict, NotFound
from secretsops.manifest import Manifest
from tests.contract.cluster.backends import Backend
from tests.contract.cluster.objects import CONFIG_MAP, SECRET, config_map, secret


@pytest.fixture(autouse=True)
def _with_kubectl(backend: Backend) -> None:
    backend.needs("kubectl")


def _json(manifest: Manifest) -> bytes:
    return json.dumps(manifest.body).encode()


def test_kubectl_reads_what_we_write(backend: Backend, namespace: str) -> None:
    """`kubectl get -o json` shows what our get shows."""
    backend.cluster.create(secret(namespace, stringData={"a": "1"}))
    shown = backend.kubectl("get", "secret", "one", "-n", namespace, "-o", "json", "--show-managed-fields")
    assert json.loads(shown.stdout) == backend.cluster.get(SECRET, "one", namespace).body


def test_we_read_what_kubectl_writes(backend: Backend, namespace: str) -> None:
    """create, replace, patch, label, delete."""
    cluster = backend.cluster
    backend.kubectl("create", "configmap", "one", "-n", namespace, "--from-literal=a=1")
    assert cluster.get(CONFIG_MAP, "one", namespace).body["data"] == {"a": "1"}
    backend.kubectl("replace", "-f", "-", stdin=_json(config_map(namespace, a="2")))
    backend.kubectl("patch", "configmap", "one", "-n", namespace, "--type=json",
                    "-p", '[{"op": "add", "path": "/data/b", "value": "3"}]')  # fmt: skip
    backend.kubectl("label", "configmap", "one", "-n", namespace, "x=y")
    found = cluster.get(CONFIG_MAP, "one", namespace)
    assert (found.body["data"], found.labels) == ({"a": "2", "b": "3"}, {"x": "y"})
    backend.kubectl("delete", "configmap", "one", "-n", namespace)
    with pytest.raises(NotFound):
        cluster.get(CONFIG_MAP, "one", namespace)


def test_kubectl_meets_our_fields_as_conflicts(backend: Backend, namespace: str) -> None:
    """Its server-side apply names our manager; with --force-conflicts it takes over, and then we meet it."""
    backend.cluster.apply(config_map(namespace, a="1"), field_manager="secretsops")
    wanted = _json(config_map(namespace, a="2"))
    refused = backend.kubectl("apply", "--server-side", "-f", "-", stdin=wanted)
    assert refused.returncode == 1
    assert b'conflict with "secretsops"' in refused.stderr
    taken = backend.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=wanted)
    assert taken.returncode == 0, taken.stderr
    with pytest.raises(Conflict, match='"kubectl"'):
        backend.cluster.apply(config_map(namespace, a="3"), field_manager="secretsops")


def test_kubectl_sees_no_difference_after_our_apply(backend: Backend, namespace: str) -> None:
    """`kubectl diff --server-side` is quiet about what we applied."""
    backend.cluster.apply(config_map(namespace, a="1"), field_manager="kubectl")
    shown = backend.kubectl("diff", "--server-side", "-f", "-", stdin=_json(config_map(namespace, a="1")))
    assert (shown.returncode, shown.stdout) == (0, b"")
