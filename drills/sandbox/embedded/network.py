"""Services and who answers behind them; what the world outside would give: addresses in front of them, volumes."""

from __future__ import annotations

from drills.sandbox.embedded.client import CLAIM, POD, SERVICE, Client, owner_of
from drills.sandbox.embedded.outcomes import READY, Outcomes
from drills.sandbox.embedded.pods import answered
from drills.sandbox.embedded.writes import Body

SLICE = ("discovery.k8s.io", "EndpointSlice")
INGRESS = ("networking.k8s.io", "Ingress")
_ADDRESS = [{"ip": "127.0.0.1"}]
"""What a load balancer answers with: there is none, but what waits for one goes on."""


def service(client: Client, body: Body, *, outcomes: Outcomes) -> None:
    """Keep a Service's endpoints, and give it an address where it asks for a load balancer."""
    endpoints(client, body)
    if body["spec"].get("type") == "LoadBalancer" and not body["metadata"].get("deletionTimestamp"):
        balanced = {"ip": "127.0.0.1", "ipMode": "VIP"}
        if outcomes.of(SERVICE, body) == READY:
            client.status(SERVICE, body, {**(body.get("status") or {}), "loadBalancer": {"ingress": [balanced]}})


def ingress(client: Client, body: Body, *, outcomes: Outcomes) -> None:
    """Give an Ingress an address."""
    if not body["metadata"].get("deletionTimestamp") and outcomes.of(INGRESS, body) == READY:
        client.status(INGRESS, body, {**(body.get("status") or {}), "loadBalancer": {"ingress": _ADDRESS}})


def claim(client: Client, body: Body, *, outcomes: Outcomes) -> None:
    """Bind a claim; there is no volume behind it."""
    spec, phase = body["spec"], (body.get("status") or {}).get("phase")
    if phase != "Pending" or body["metadata"].get("deletionTimestamp") or outcomes.of(CLAIM, body) != READY:
        return
    if not spec.get("volumeName"):
        client.put(CLAIM, {**body, "spec": {**spec, "volumeName": f"pvc-{body['metadata']['uid']}"}})
        return
    capacity = ((spec.get("resources") or {}).get("requests") or {}).get("storage", "1Gi")
    status = {"phase": "Bound", "accessModes": spec.get("accessModes") or [], "capacity": {"storage": capacity}}
    client.status(CLAIM, body, status)


def endpoints(client: Client, body: Body) -> None:
    """Keep the EndpointSlice of a Service with a selector."""
    metadata, selector = body["metadata"], body["spec"].get("selector")
    if not selector or metadata.get("deletionTimestamp"):
        return
    pods = [
        pod
        for pod in client.all(POD, metadata["namespace"])
        if all((pod["metadata"].get("labels") or {}).get(key) == value for key, value in selector.items())
        and (pod.get("status") or {}).get("podIP")
    ]
    ports, behind = answered(body, pods)
    found = next(iter(client.owned(SLICE, body)), None)
    if found is None:
        head = {
            "generateName": f"{metadata['name']}-",
            "namespace": metadata["namespace"],
            "labels": {
                "kubernetes.io/service-name": metadata["name"],
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
            "ownerReferences": [owner_of(body, "v1", "Service")],
        }
        client.create(SLICE, {"metadata": head, "addressType": "IPv4", "endpoints": behind, "ports": ports})
    elif (found.get("ports") or [], found.get("endpoints") or []) != (ports, behind):
        client.put(SLICE, {**found, "ports": ports, "endpoints": behind})
