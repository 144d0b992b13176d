"""Pods of our image run as processes: reachable through the API server, probed, restarted, ended in order."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drills.sandbox.api import Api
from drills.sandbox.node_agent import NodeAgent
from secretsops import __version__
from secretsops.errors import ApiError, NotFound

pytestmark = pytest.mark.e2e
Wait = Callable[..., None]

IMAGE = f"secretsops/controller:{__version__}"
PROBE = {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1}


def deployment(name: str, **container: Any) -> dict[str, Any]:
    labels = {"app": name}
    main = {"name": "main", "image": IMAGE, "ports": [{"name": "http", "containerPort": 8080}], **container}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [main], "terminationGracePeriodSeconds": 1},
            },
        },
    }


def service(name: str) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    spec = {"selector": {"app": name}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def create(api: Api, *bodies: dict[str, Any]) -> None:
    for body in bodies:
        group = "/apis/apps/v1" if body["kind"] == "Deployment" else "/api/v1"
        api.call("POST", f"{group}/namespaces/default/{body['kind'].lower()}s", body)


def pods(api: Api, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.call("GET", f"/api/v1/namespaces/default/pods?labelSelector=app={name}")["items"]
    return found


def state(api: Api, name: str) -> dict[str, Any]:
    """Give the container's state of the one Pod, empty while there is none."""
    found = pods(api, name)
    status = (found[0]["status"].get("containerStatuses") or [{}])[0] if found else {}
    given: dict[str, Any] = status
    return given


def is_available(api: Api, name: str) -> bool:
    found = api.call("GET", f"/apis/apps/v1/namespaces/default/deployments/{name}")
    return bool(found.get("status", {}).get("availableReplicas"))


def ask(api: Api, name: str, path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(api.text(f"/api/v1/namespaces/default/services/http:{name}:http/proxy/{path}"))
    return found


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_deployment_is_reached_through_the_service_proxy(agent: NodeAgent, wait: Wait) -> None:
    """Install → Deployment → Pod → process → readiness → Service proxy, with arguments, env and a bound token."""
    api = agent.cluster.api()
    env = [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, {"name": "PLAIN", "value": "v"}]
    create(api, service("reach"), deployment("reach", args=["--one", "two"], env=env, readinessProbe=PROBE))
    wait(lambda: is_available(api, "reach"), "the Deployment is available")
    facts = ask(api, "reach")
    [pod] = pods(api, "reach")
    assert facts["args"] == ["--one", "two"]
    assert facts["env"]["POD"] == pod["metadata"]["name"]
    assert (facts["env"]["PLAIN"], facts["env"]["FROM_CLOUD"]) == ("v", "yes")
    assert pod["status"]["podIP"].startswith("10.244.")
    assert Path(facts["env"]["SECRETSOPS_SERVICEACCOUNT_DIR"], "namespace").read_text() == "default"
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": facts["token"]}}
    user = api.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]["user"]
    assert user["username"] == "system:serviceaccount:default:default"
    assert user["extra"]["authentication.kubernetes.io/pod-name"] == [pod["metadata"]["name"]]


def test_the_process_gets_no_environment_of_ours(agent: NodeAgent, wait: Wait, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the caller, such as a proxy or a credential, does not reach the Pod."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid")
    api = agent.cluster.api()
    create(api, service("bare"), deployment("bare", readinessProbe=PROBE))
    wait(lambda: is_available(api, "bare"), "the Deployment is available")
    assert "HTTPS_PROXY" not in ask(api, "bare")["env"]


def test_readiness_follows_the_probe(agent: NodeAgent, wait: Wait) -> None:
    """A Pod whose probe fails leaves its Service, and comes back."""
    api = agent.cluster.api()
    create(api, service("moody"), deployment("moody", readinessProbe=PROBE))
    wait(lambda: is_available(api, "moody"), "the Deployment is available")
    marker = Path(ask(api, "moody")["env"]["HOME"], "unready")
    marker.touch()
    wait(lambda: not state(api, "moody")["ready"], "the Pod is not ready")
    marker.unlink()
    wait(lambda: state(api, "moody")["ready"], "the Pod is ready again")


def test_a_crash_is_restarted_and_counted(agent: NodeAgent, wait: Wait) -> None:
    """The exit code stands in lastState, the back-off in the state, the log keeps both runs."""
    api = agent.cluster.api()
    create(api, service("crash"), deployment("crash", readinessProbe=PROBE))
    wait(lambda: is_available(api, "crash"), "the Deployment is available")
    with pytest.raises(ApiError):
        ask(api, "crash", "crash")
    wait(lambda: state(api, "crash").get("restartCount") == 1 and state(api, "crash")["ready"], "it runs again")
    assert state(api, "crash")["lastState"]["terminated"]["exitCode"] == 3


def test_a_process_that_does_not_live_is_restarted(agent: NodeAgent, wait: Wait) -> None:
    """Failing liveness ends the process, politely first; the Pod stays and counts it."""
    api = agent.cluster.api()
    create(api, service("lives"), deployment("lives", readinessProbe=PROBE, livenessProbe=PROBE))
    wait(lambda: is_available(api, "lives"), "the Deployment is available")
    [pod] = pods(api, "lives")
    Path(ask(api, "lives")["env"]["HOME"], "unready").touch()
    wait(lambda: state(api, "lives").get("restartCount") == 1 and state(api, "lives")["ready"], "it runs again")
    assert [each["metadata"]["uid"] for each in pods(api, "lives")] == [pod["metadata"]["uid"]]


def test_a_process_that_always_fails_backs_off(agent: NodeAgent, wait: Wait) -> None:
    """CrashLoopBackOff, with the place of its output."""
    api = agent.cluster.api()
    create(api, deployment("fails", args=["--fail"]))
    wait(
        lambda: state(api, "fails").get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff", "back-off"
    )
    assert "container.log" in state(api, "fails")["state"]["waiting"]["message"]


def test_deletion_ends_the_process_then_the_object(agent: NodeAgent, wait: Wait) -> None:
    """SIGTERM first; one that ignores it is killed after its grace, and only then the Pod object goes."""
    api = agent.cluster.api()
    create(api, deployment("stubborn", args=["--stubborn"]))
    wait(lambda: bool(state(api, "stubborn").get("ready")), "it runs")
    [pod] = pods(api, "stubborn")
    pid = int(state(api, "stubborn")["containerID"].removeprefix("process://"))
    api.call("DELETE", "/apis/apps/v1/namespaces/default/deployments/stubborn", {"propagationPolicy": "Background"})

    def gone() -> bool:
        try:
            api.call("GET", f"/api/v1/namespaces/default/pods/{pod['metadata']['name']}")
        except NotFound:
            return True
        return False

    wait(gone, "the Pod object is gone")
    assert not alive(pid)


def test_a_service_address_leads_to_the_process(agent: NodeAgent, wait: Wait) -> None:
    """What the API server dials by cluster address, such as a webhook, reaches a ready Pod."""
    api = agent.cluster.api()
    create(api, service("hook"), deployment("hook", readinessProbe=PROBE))
    wait(lambda: is_available(api, "hook"), "the Deployment is available")
    address = api.call("GET", "/api/v1/namespaces/default/services/hook")["spec"]["clusterIP"]
    wait(lambda: agent.cluster.egress.resolve(address, 80) > 0, "the endpoint is there")
    assert agent.cluster.egress.resolve(address, 81) == 0
    assert agent.cluster.egress.resolve("10.96.255.254", 80) == 0


@pytest.mark.parametrize(
    ("name", "container", "reason"),
    [
        ("version", {"image": "secretsops/controller:0.0.0-other"}, "ErrImagePull"),
        ("program", {"command": ["/bin/sh", "-c", "true"]}, "RunContainerError"),
        ("secret-env", {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}, "Create"),
    ],
)
def test_what_cannot_run_here_is_refused_with_a_reason(
    agent: NodeAgent, wait: Wait, name: str, container: dict[str, Any], reason: str
) -> None:
    """The Pod stays Pending and says why, as kubelet would."""
    api = agent.cluster.api()
    create(api, deployment(name, **container))
    wait(lambda: state(api, name).get("state", {}).get("waiting", {}).get("reason", "").startswith(reason), reason)


def test_other_images_are_left_to_kwok(agent: NodeAgent, wait: Wait) -> None:
    """A Deployment of any other image becomes available without a process."""
    api = agent.cluster.api()
    create(api, deployment("other", image="registry.example/shop:1"))
    wait(lambda: is_available(api, "other"), "the Deployment is available")
    assert not any(name.startswith("default/other") for name in agent.pods)


def test_a_lost_cluster_takes_its_processes_along(agent: NodeAgent, wait: Wait) -> None:
    """Destroying the cluster kills what ran on its node. (Last: the module's cluster is gone after it.)"""
    api = agent.cluster.api()
    create(api, deployment("doomed", readinessProbe=PROBE))
    wait(lambda: is_available(api, "doomed"), "the Deployment is available")
    pids = [pod.process.pid for pod in agent.pods.values() if pod.process is not None]
    agent.cluster.destroy()
    assert [pid for pid in pids if alive(pid)] == []
    assert not agent.cluster.folder.exists()
