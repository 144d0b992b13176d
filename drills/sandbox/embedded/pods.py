"""States of Pods and of the endpoints in front of them, as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Body = dict[str, Any]


def scheduled(body: Body, node: str) -> Body:
    """Give a Pod bound to a node."""
    return {**body, "spec": {**body["spec"], "nodeName": node}}


def ran(body: Body, address: str, now: str, *, fails: bool) -> Body:
    """Give the status of a Pod that runs, or, where nothing restarts it, has ended."""
    old = body.get("status") or {}
    spec = body["spec"]
    ends = spec.get("restartPolicy") in ("Never", "OnFailure")
    phase = ("Failed" if fails else "Succeeded") if ends else "Running"
    ready = phase == "Running" and not fails
    if old.get("phase") == phase and old.get("podIP"):
        return dict(old)
    conditions = [
        {"type": kind, "status": "True" if holds else "False", "lastProbeTime": None, "lastTransitionTime": now}
        for kind, holds in (
            ("PodReadyToStartContainers", True),
            ("Initialized", True),
            ("Ready", ready),
            ("ContainersReady", ready),
            ("PodScheduled", True),
        )
    ]
    return {
        **old,
        "phase": phase,
        "podIP": old.get("podIP") or address,
        "podIPs": [{"ip": old.get("podIP") or address}],
        "hostIP": "127.0.0.1",
        "startTime": old.get("startTime") or now,
        "conditions": conditions,
        "containerStatuses": [_container(each, now, phase, fails=fails) for each in spec["containers"]],
    }


def _container(container: Mapping[str, Any], now: str, phase: str, *, fails: bool) -> Body:
    state: Body = {"running": {"startedAt": now}}
    if phase in ("Succeeded", "Failed"):
        code, reason = (1, "Error") if fails else (0, "Completed")
        state = {"terminated": {"exitCode": code, "reason": reason, "startedAt": now, "finishedAt": now}}
    elif fails:
        state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}}
    running = "running" in state
    return {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": "",
        "ready": running,
        "started": running,
        "restartCount": 0,
        "state": state,
        "lastState": {},
    }


def answered(service: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> tuple[list[Body], list[Body]]:
    """Give the ports and endpoints of a Service's EndpointSlice."""
    ports = []
    for port in service["spec"].get("ports") or []:
        number = _resolved(port.get("targetPort", port.get("port")), pods)
        if number:
            ports.append({"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")})
    endpoints = []
    for pod in pods:
        metadata, status = pod["metadata"], pod["status"]
        conditions = status.get("conditions") or []
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
        terminating = bool(metadata.get("deletionTimestamp"))
        if status.get("phase") in ("Succeeded", "Failed"):
            continue
        endpoints.append(
            {
                "addresses": [status["podIP"]],
                "conditions": {"ready": ready and not terminating, "serving": ready, "terminating": terminating},
                "nodeName": pod["spec"].get("nodeName", ""),
                "targetRef": {
                    "kind": "Pod",
                    "namespace": metadata["namespace"],
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                },
            }
        )
    return ports, endpoints


def _resolved(target: Any, pods: Sequence[Mapping[str, Any]]) -> int:
    if isinstance(target, int):
        return target
    for pod in pods:
        for container in pod["spec"]["containers"]:
            for port in container.get("ports") or []:
                if port.get("name") == target:
                    return int(port["containerPort"])
    return int(target) if str(target).isdigit() else 0
