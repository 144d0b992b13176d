"""Who an API server takes us for: a Pod's service account whose token rotates, and who we act as."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drills.sandbox.backend import Backend
from secretsops.adapters.kube import connect
from secretsops.errors import Forbidden, NotFound, Unauthorized
from secretsops.manifest import Manifest
from secretsops.ports import Cluster, ClusterTarget
from tests.contract.cluster.backends import eventually
from tests.contract.cluster.objects import CONFIG_MAP, config_map

REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}


@pytest.fixture(params=["control_plane", "embedded_cluster"])
def plane(request: pytest.FixtureRequest) -> Backend:
    """Give each kind of cluster in turn."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Backend)
    return found


def _who(cluster: Cluster) -> str:
    answer = cluster.raw(
        "POST",
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        body=json.dumps(REVIEW).encode(),
        content_type="application/json",
    )
    return str(json.loads(answer.body)["status"]["userInfo"]["username"])


def test_a_pod_is_its_service_account(plane: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token comes from the folder; one that is refused is read again, for the kubelet may have renewed it."""
    admin = connect(ClusterTarget(kubeconfig=str(plane.kubeconfig)))
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "contract", "namespace": "default"}}
    admin.apply(Manifest(account), field_manager="test")

    def token() -> str:
        path = "/api/v1/namespaces/default/serviceaccounts/contract/token"
        answer = admin.raw("POST", path, body=b'{"spec": {}}', content_type="application/json")
        return str(json.loads(answer.body)["status"]["token"])

    folder = tmp_path / "account"
    folder.mkdir()
    (folder / "token").write_text(token())
    (folder / "ca.crt").write_bytes(plane.pki.ca.read_bytes())
    host, _, port = plane.server.removeprefix("https://").partition(":")
    monkeypatch.setenv("SECRETSOPS_SERVICEACCOUNT_DIR", str(folder))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    pod = connect(ClusterTarget())
    assert _who(pod) == "system:serviceaccount:default:contract"
    with pytest.raises(Forbidden) as caught:
        pod.get(CONFIG_MAP, "one", "default")
    assert caught.value.hint

    # A new account of the same name makes the old token worthless, as its expiry would.
    admin.delete(Manifest(account).kind, "contract", namespace="default")
    admin.apply(Manifest(account), field_manager="test")
    eventually(lambda: pod.raw("GET", "/api").code == 401)
    with pytest.raises(Unauthorized):
        pod.get(CONFIG_MAP, "one", "default")
    (folder / "token").write_text(token())
    assert _who(pod) == "system:serviceaccount:default:contract"


def test_a_kubeconfig_may_act_as_another(plane: Backend, tmp_path: Path) -> None:
    """`as` and `as-groups` count: the server sees the other user, who may do nothing."""
    path = tmp_path / "kubeconfig"
    body = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {
                "name": "c",
                "cluster": {"server": plane.server, "certificate-authority": str(plane.pki.ca)},
            }
        ],
        "users": [{"name": "u", "user": {"token": plane.token, "as": "dev", "as-groups": ["devs"]}}],
    }
    path.write_text(json.dumps(body))
    cluster = connect(ClusterTarget(kubeconfig=str(path)))
    assert _who(cluster) == "dev"
    with pytest.raises(Forbidden, match='User "dev"'):
        cluster.create(config_map("default"))
    body["users"] = [{"name": "u", "user": {"token": plane.token}}]
    path.write_text(json.dumps(body))
    with pytest.raises(NotFound):
        connect(ClusterTarget(kubeconfig=str(path))).get(CONFIG_MAP, "one", "default")
