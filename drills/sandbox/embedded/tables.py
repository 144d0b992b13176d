"""Objects as tables, for `kubectl get`: columns per kind. Pure.

Sources: `pkg/printers/internalversion/printers.go` of Kubernetes 1.36, and `additionalPrinterColumns` of definitions.
Kinds that nobody here lists (admission policies, flow control, devices) have name and age. Never here: cells.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Any

from drills.sandbox.embedded import cells
from drills.sandbox.embedded.cells import Body, Cell
from drills.sandbox.embedded.kinds import Kind

Column = tuple[str, str, int, Cell]
"""Name, type, priority (0 always, 1 wide), and how its cell is made."""

_PATH_PART = re.compile(r"\.?([A-Za-z0-9_-]+)|\[(\d+)\]|\[\?\(@\.(\w+)==[\"']([^\"']+)[\"']\)\]")


def _text(name: str, cell: Cell) -> Column:
    return name, "string", 0, cell


def _integer(name: str, cell: Cell) -> Column:
    return name, "integer", 0, cell


def _boolean(name: str, cell: Cell) -> Column:
    return name, "boolean", 0, cell


def _wide(name: str, cell: Cell) -> Column:
    return name, "string", 1, cell


_EVENT = ("", "Event")
_NAME = _text("Name", cells.name)
_AGE = _text("Age", cells.age)
_CREATED: Column = ("Created At", "date", 0, cells.field("metadata", "creationTimestamp"))


def _template(*path: str) -> tuple[Column, Column]:
    return _wide("Containers", cells.containers("name", *path)), _wide("Images", cells.containers("image", *path))


_RUNS = _template("spec", "template")
_REPLICAS = (
    _integer("Desired", cells.number("spec", "replicas")),
    _integer("Current", cells.number("status", "replicas")),
    _integer("Ready", cells.number("status", "readyReplicas")),
    _AGE,
    *_RUNS,
    _wide("Selector", cells.selector("spec", "selector")),
)
_BINDING = (
    _text("Role", cells.referred("roleRef")),
    _AGE,
    _wide("Users", cells.subjects("User")),
    _wide("Groups", cells.subjects("Group")),
    _wide("ServiceAccounts", cells.subjects("ServiceAccount")),
)
_WEBHOOKS = (_integer("Webhooks", cells.counted("webhooks")), _AGE)

_COLUMNS: Mapping[tuple[str, str], Sequence[Column]] = {
    ("", "Pod"): (
        _text("Ready", cells.pod_ready),
        _text("Status", cells.pod_status),
        _text("Restarts", cells.restarts),
        _AGE,
        _wide("IP", cells.field("status", "podIP")),
        _wide("Node", cells.field("spec", "nodeName")),
        _wide("Nominated Node", cells.field("status", "nominatedNodeName")),
        _wide("Readiness Gates", cells.joined("spec", "readinessGates", key="conditionType")),
    ),
    ("", "PodTemplate"): (
        _text("Containers", cells.containers("name", "template")),
        _text("Images", cells.containers("image", "template")),
        _text("Pod Labels", cells.selector("template", "metadata", "labels")),
    ),
    ("", "ReplicationController"): _REPLICAS,
    ("", "Secret"): (_text("Type", cells.field("type")), _text("Data", cells.size("data")), _AGE),
    ("", "ConfigMap"): (_text("Data", cells.size("data", "binaryData")), _AGE),
    ("", "Namespace"): (_text("Status", cells.field("status", "phase")), _AGE),
    ("", "Service"): (
        _text("Type", cells.field("spec", "type")),
        _text("Cluster-IP", cells.field("spec", "clusterIP")),
        _text("External-IP", cells.external),
        _text("Port(s)", cells.ports),
        _AGE,
        _wide("Selector", cells.selector("spec", "selector")),
    ),
    ("", "ServiceAccount"): (_AGE,),
    ("", "LimitRange"): (_CREATED,),
    ("", "Node"): (
        _text("Status", cells.node_status),
        _text("Roles", cells.roles),
        _AGE,
        _text("Version", cells.field("status", "nodeInfo", "kubeletVersion")),
        _wide("Internal-IP", cells.address("InternalIP")),
        _wide("External-IP", cells.address("ExternalIP")),
        _wide("OS-Image", cells.field("status", "nodeInfo", "osImage", none="<unknown>")),
        _wide("Kernel-Version", cells.field("status", "nodeInfo", "kernelVersion", none="<unknown>")),
        _wide("Container-Runtime", cells.field("status", "nodeInfo", "containerRuntimeVersion", none="<unknown>")),
    ),
    ("", "PersistentVolumeClaim"): (
        _text("Status", cells.field("status", "phase")),
        _text("Volume", cells.field("spec", "volumeName", none="")),
        _text("Capacity", cells.field("status", "capacity", "storage", none="")),
        _text("Access Modes", cells.access_modes("status", "accessModes")),
        _text("StorageClass", cells.field("spec", "storageClassName", none="")),
        _text("VolumeAttributesClass", cells.field("spec", "volumeAttributesClassName", none="<unset>")),
        _AGE,
        _wide("VolumeMode", cells.field("spec", "volumeMode", none="<unset>")),
    ),
    ("", "PersistentVolume"): (
        _text("Capacity", cells.field("spec", "capacity", "storage", none="")),
        _text("Access Modes", cells.access_modes("spec", "accessModes")),
        _text("Reclaim Policy", cells.field("spec", "persistentVolumeReclaimPolicy", none="")),
        _text("Status", cells.field("status", "phase", none="")),
        _text("Claim", cells.claim),
        _text("StorageClass", cells.field("spec", "storageClassName", none="")),
        _text("VolumeAttributesClass", cells.field("spec", "volumeAttributesClassName", none="<unset>")),
        _text("Reason", cells.field("status", "reason", none="")),
        _AGE,
        _wide("VolumeMode", cells.field("spec", "volumeMode", none="<unset>")),
    ),
    _EVENT: (
        _text("Last Seen", cells.seen("lastTimestamp", "deprecatedLastTimestamp", "eventTime")),
        _text("Type", cells.field("type", none="")),
        _text("Reason", cells.field("reason", none="")),
        _text("Object", cells.involved),
        _wide("Subobject", cells.field("involvedObject", "fieldPath", none="")),
        _wide("Source", cells.source),
        _text("Message", cells.field("message", none="")),
        _wide("First Seen", cells.seen("firstTimestamp", "deprecatedFirstTimestamp", "eventTime")),
        _wide("Count", cells.text("count", none="1")),
        _wide("Name", cells.name),
    ),
    ("apps", "Deployment"): (
        _text("Ready", cells.of("readyReplicas", ("spec", "replicas"))),
        _text("Up-to-date", cells.number("status", "updatedReplicas")),
        _text("Available", cells.number("status", "availableReplicas")),
        _AGE,
        *_RUNS,
        _wide("Selector", cells.selector("spec", "selector")),
    ),
    ("apps", "ReplicaSet"): _REPLICAS,
    ("apps", "StatefulSet"): (_text("Ready", cells.of("readyReplicas", ("spec", "replicas"))), _AGE, *_RUNS),
    ("apps", "DaemonSet"): (
        _integer("Desired", cells.number("status", "desiredNumberScheduled")),
        _integer("Current", cells.number("status", "currentNumberScheduled")),
        _integer("Ready", cells.number("status", "numberReady")),
        _integer("Up-to-date", cells.number("status", "updatedNumberScheduled")),
        _integer("Available", cells.number("status", "numberAvailable")),
        _text("Node Selector", cells.selector("spec", "template", "spec", "nodeSelector")),
        _AGE,
        *_RUNS,
        _wide("Selector", cells.selector("spec", "selector")),
    ),
    ("apps", "ControllerRevision"): (
        _text("Controller", cells.controller),
        _text("Revision", cells.number("revision")),
        _AGE,
    ),
    ("batch", "Job"): (
        _text("Status", cells.job_status),
        _text("Completions", cells.completions),
        _text("Duration", cells.took),
        _AGE,
        *_RUNS,
        _wide("Selector", cells.selector("spec", "selector")),
    ),
    ("batch", "CronJob"): (
        _text("Schedule", cells.field("spec", "schedule")),
        _text("Timezone", cells.field("spec", "timeZone")),
        _boolean("Suspend", cells.capital("spec", "suspend")),
        _integer("Active", lambda body, _: len(cells.at(body, "status", "active") or [])),
        _text("Last Schedule", cells.since("status", "lastScheduleTime")),
        _AGE,
        *_template("spec", "jobTemplate", "spec", "template"),
        _wide("Selector", cells.selector("spec", "jobTemplate", "spec", "selector")),
    ),
    ("autoscaling", "HorizontalPodAutoscaler"): (
        _text("Reference", cells.referred("spec", "scaleTargetRef")),
        _text("Targets", cells.metrics),
        _text("MinPods", cells.text("spec", "minReplicas", none="<unset>")),
        _text("MaxPods", cells.number("spec", "maxReplicas")),
        _text("Replicas", cells.number("status", "currentReplicas")),
        _AGE,
    ),
    ("networking.k8s.io", "Ingress"): (
        _text("Class", cells.field("spec", "ingressClassName")),
        _text("Hosts", cells.hosts),
        _text("Address", cells.balanced),
        _text("Ports", cells.ingress_ports),
        _AGE,
    ),
    ("networking.k8s.io", "IngressClass"): (
        _text("Controller", cells.field("spec", "controller", none="")),
        _text("Parameters", cells.parameters),
        _AGE,
    ),
    ("networking.k8s.io", "NetworkPolicy"): (_text("Pod-Selector", cells.selector("spec", "podSelector")), _AGE),
    ("policy", "PodDisruptionBudget"): (
        _text("Min Available", cells.text("spec", "minAvailable", none="N/A")),
        _text("Max Unavailable", cells.text("spec", "maxUnavailable", none="N/A")),
        _integer("Allowed Disruptions", cells.number("status", "disruptionsAllowed")),
        _AGE,
    ),
    ("discovery.k8s.io", "EndpointSlice"): (
        _text("AddressType", cells.field("addressType", none="")),
        _text("Ports", cells.slice_ports),
        _text("Endpoints", cells.addresses),
        _AGE,
    ),
    ("rbac.authorization.k8s.io", "Role"): (_CREATED,),
    ("rbac.authorization.k8s.io", "ClusterRole"): (_CREATED,),
    ("rbac.authorization.k8s.io", "RoleBinding"): _BINDING,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _BINDING,
    ("storage.k8s.io", "StorageClass"): (
        _text("Provisioner", cells.field("provisioner", none="")),
        _text("ReclaimPolicy", cells.field("reclaimPolicy", none="Delete")),
        _text("VolumeBindingMode", cells.field("volumeBindingMode", none="Immediate")),
        _text("AllowVolumeExpansion", cells.text("allowVolumeExpansion", none="false")),
        _AGE,
    ),
    ("scheduling.k8s.io", "PriorityClass"): (
        _integer("Value", cells.number("value")),
        _boolean("Global-Default", cells.flag("globalDefault")),
        _AGE,
        _text("PreemptionPolicy", cells.field("preemptionPolicy", none="")),
    ),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): _WEBHOOKS,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): _WEBHOOKS,
    ("apiregistration.k8s.io", "APIService"): (
        _text("Service", cells.service),
        _text("Available", cells.condition("Available")),
        _AGE,
    ),
    ("coordination.k8s.io", "Lease"): (_text("Holder", cells.field("spec", "holderIdentity", none="")), _AGE),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): (_CREATED,),
}


def columns_of(kind: Kind) -> list[Column]:
    """Give the columns of a kind; kinds without any of their own have name and age."""
    if not kind.custom:
        found = _COLUMNS.get(kind.storage, (_AGE,))
        return [*found] if kind.storage == _EVENT else [_NAME, *found]
    told = [
        (each["name"], each.get("type", "string"), int(each.get("priority", 0)), _json_path(each))
        for each in kind.columns
    ]
    return [_NAME, *(told or [("Age", "date", 0, cells.age)])]


def _json_path(column: Mapping[str, Any]) -> Cell:
    path = str(column.get("jsonPath", ""))

    def cell(body: Body, now: dt.datetime) -> Any:
        found: Any = body
        for name, place, key, value in _PATH_PART.findall(path.replace("\\.", "\0")):
            if name:
                found = found.get(name.replace("\0", ".")) if isinstance(found, Mapping) else None
            elif place:
                found = found[int(place)] if isinstance(found, list) and int(place) < len(found) else None
            else:
                rows = found if isinstance(found, list) else []
                found = next((row for row in rows if isinstance(row, Mapping) and str(row.get(key)) == value), None)
        if column.get("type") == "date" and found is not None:
            return cells.lasting(found, now)
        return found

    return cell


def table(
    kind: Kind, bodies: Sequence[Body], metadata: Mapping[str, Any], now: dt.datetime, *, whole: bool
) -> dict[str, Any]:
    """Give a Table; rows carry the objects' metadata, or the whole objects."""
    columns = columns_of(kind)
    head = [
        {"name": name, "type": sort, "format": "name" * (name == "Name"), "description": "", "priority": rank}
        for name, sort, rank, _ in columns
    ]
    rows = []
    for body in bodies:
        about: Any = body
        if not whole:
            about = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": body["metadata"]}
        rows.append({"cells": [cell(body, now) for *_, cell in columns], "object": about})
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": dict(metadata),
        "columnDefinitions": head,
        "rows": rows,
    }
