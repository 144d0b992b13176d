"""Deployments, ReplicaSets, StatefulSets and DaemonSets: what each brings along, and its status.

Follows `pkg/controller/{deployment,replicaset,statefulset,daemon}` in what a client can see once things are quiet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from drills.sandbox.embedded.client import CLAIM, NODE, Client, is_ready, owner_of
from drills.sandbox.embedded.scaling import scaled
from drills.sandbox.embedded.writes import Body

REVISION = "deployment.kubernetes.io/revision"
DEPLOYMENT, REPLICA_SET = ("apps", "Deployment"), ("apps", "ReplicaSet")
STATEFUL_SET, DAEMON_SET = ("apps", "StatefulSet"), ("apps", "DaemonSet")


def deployment(client: Client, body: Body) -> None:
    """Keep one ReplicaSet per template; the newest has the replicas, older ones none."""
    metadata, spec = body["metadata"], body["spec"]
    if metadata.get("deletionTimestamp"):
        return
    digest = _digest(spec["template"])
    name = f"{metadata['name']}-{digest}"
    sets = client.owned(REPLICA_SET, body)
    current = next((each for each in sets if each["metadata"]["name"] == name), None)
    revisions = [int((each["metadata"].get("annotations") or {}).get(REVISION, 0)) for each in sets]
    if current is None:
        told = {REVISION: str(max([0, *revisions]) + 1)}
        client.create(REPLICA_SET, _replica_set_of(body, name, digest, told))
        _annotate(client, body, told)
        return
    for each in sets:
        wanted = spec["replicas"] if each is current else 0
        if each["spec"].get("replicas") != wanted:
            client.put(REPLICA_SET, {**each, "spec": {**each["spec"], "replicas": wanted}})
    client.status(DEPLOYMENT, body, _deployment_status(client, body, current))


def _annotate(client: Client, body: Body, told: Mapping[str, str]) -> None:
    annotations = {**(body["metadata"].get("annotations") or {}), **told}
    client.put(DEPLOYMENT, {**body, "metadata": {**body["metadata"], "annotations": annotations}})


def _deployment_status(client: Client, body: Body, current: Body) -> Body:
    found = current.get("status") or {}
    ready, wanted = int(found.get("readyReplicas") or 0), int(body["spec"]["replicas"])
    status: Body = {"observedGeneration": body["metadata"]["generation"]}
    counts = {"replicas": found.get("replicas"), "updatedReplicas": found.get("replicas"), "readyReplicas": ready,
              "availableReplicas": ready, "unavailableReplicas": wanted - ready}  # fmt: skip
    status |= {name: count for name, count in counts.items() if count}
    name = current["metadata"]["name"]
    told = [
        ("Available", ready >= wanted, "MinimumReplicasAvailable", "MinimumReplicasUnavailable",
         "Deployment has minimum availability.", "Deployment does not have minimum availability."),
        ("Progressing", True, "NewReplicaSetAvailable" if ready >= wanted else "ReplicaSetUpdated", "",
         f'ReplicaSet "{name}" {"has successfully progressed." if ready >= wanted else "is progressing."}', ""),
    ]  # fmt: skip
    old = {each["type"]: each for each in (body.get("status") or {}).get("conditions") or []}
    status["conditions"] = [
        _condition(client, old.get(kind), kind, holds, yes if holds else no, text if holds else other)
        for kind, holds, yes, no, text, other in told
    ]
    return status


def _condition(client: Client, old: Body | None, kind: str, holds: bool, reason: str, message: str) -> Body:  # noqa: FBT001
    status = "True" if holds else "False"
    if old is not None and (old["status"], old["reason"], old["message"]) == (status, reason, message):
        return old
    since = old["lastTransitionTime"] if old is not None and old["status"] == status else client.now()
    return {"type": kind, "status": status, "lastUpdateTime": client.now(), "lastTransitionTime": since,
            "reason": reason, "message": message}  # fmt: skip


def replica_set(client: Client, body: Body) -> None:
    """Keep as many Pods as are wanted."""
    wanted = 0 if body["metadata"].get("deletionTimestamp") else int(body["spec"].get("replicas") or 0)
    pods = scaled(client, body, wanted, lambda _: {"generateName": f"{body['metadata']['name']}-"})
    ready = sum(is_ready(pod) for pod in pods)
    status: Body = {"observedGeneration": body["metadata"]["generation"], "replicas": len(pods)}
    counts = {"fullyLabeledReplicas": len(pods), "readyReplicas": ready, "availableReplicas": ready}
    client.status(REPLICA_SET, body, status | {name: count for name, count in counts.items() if count})


def stateful_set(client: Client, body: Body) -> None:
    """Keep Pods with names and claims of their own."""
    metadata, spec = body["metadata"], body["spec"]
    wanted = 0 if metadata.get("deletionTimestamp") else int(spec["replicas"])
    revision = f"{metadata['name']}-{_digest(spec['template'])}"
    for number in range(wanted):
        for claim in spec.get("volumeClaimTemplates") or []:
            name = f"{claim['metadata']['name']}-{metadata['name']}-{number}"
            if client.find(CLAIM, metadata["namespace"], name) is None:
                labels = {**(claim["metadata"].get("labels") or {}), **(spec["selector"].get("matchLabels") or {})}
                head = {"name": name, "namespace": metadata["namespace"], "labels": labels}
                client.create(CLAIM, {"metadata": head, "spec": claim["spec"]})
    pods = scaled(client, body, wanted, lambda number: {"name": f"{metadata['name']}-{number}"}, revision=revision)
    ready = sum(is_ready(pod) for pod in pods)
    status: Body = {"observedGeneration": metadata["generation"], "replicas": len(pods), "availableReplicas": ready,
                    "collisionCount": 0, "currentRevision": revision, "updateRevision": revision}  # fmt: skip
    counts = {"readyReplicas": ready, "currentReplicas": len(pods), "updatedReplicas": len(pods)}
    client.status(STATEFUL_SET, body, status | {name: count for name, count in counts.items() if count})


def daemon_set(client: Client, body: Body) -> None:
    """Keep a Pod on each node."""
    nodes = len(client.all(NODE))
    wanted = 0 if body["metadata"].get("deletionTimestamp") else nodes
    pods = scaled(client, body, wanted, lambda _: {"generateName": f"{body['metadata']['name']}-"})
    ready = sum(is_ready(pod) for pod in pods)
    status: Body = {
        "observedGeneration": body["metadata"]["generation"],
        "currentNumberScheduled": len(pods),
        "desiredNumberScheduled": nodes,
        "numberMisscheduled": 0,
        "numberReady": ready,
    }
    counts = {"updatedNumberScheduled": len(pods), "numberAvailable": ready, "numberUnavailable": nodes - ready}
    client.status(DAEMON_SET, body, status | {name: count for name, count in counts.items() if count})


def _replica_set_of(deployment: Body, name: str, digest: str, told: Mapping[str, str]) -> Body:
    metadata, spec = deployment["metadata"], json.loads(json.dumps(deployment["spec"]))
    template = spec["template"]
    labels = {**((template.get("metadata") or {}).get("labels") or {}), "pod-template-hash": digest}
    template["metadata"] = {**(template.get("metadata") or {}), "labels": labels}
    selector = {
        **spec["selector"],
        "matchLabels": {**(spec["selector"].get("matchLabels") or {}), "pod-template-hash": digest},
    }
    head = {
        "name": name,
        "namespace": metadata["namespace"],
        "labels": labels,
        "annotations": dict(told),
        "ownerReferences": [owner_of(deployment, "apps/v1", "Deployment")],
    }
    return {"metadata": head, "spec": {"replicas": spec["replicas"], "selector": selector, "template": template}}


def _digest(template: Mapping[str, Any]) -> str:
    """Name a template by its content; ten letters, as Kubernetes' own, whose hash is of Go structs."""
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()
    return "".join("bcdfghjklmnpqrst"[int(letter, 16)] for letter in digest[:10])
