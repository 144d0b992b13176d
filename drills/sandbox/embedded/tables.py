"""Objects as tables, for `kubectl get`: columns and cells per kind. Pure.

Sources: `pkg/printers/internalversion/printers.go` of Kubernetes 1.36, and `additionalPrinterColumns` of definitions.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drills.sandbox.embedded.kinds import Kind

Body = Mapping[str, Any]
Cell = Callable[[Body, dt.datetime], Any]
Column = tuple[str, str, int, Cell]
"""Name, type, priority (0 always, 1 wide), and how its cell is made."""

_PATH_PART = re.compile(r"\.?([A-Za-z0-9_-]+)|\[(\d+)\]|\[\?\(@\.(\w+)==[\"']([^\"']+)[\"']\)\]")


def age(since: Any, now: dt.datetime) -> str:
    """Give an age as `duration.HumanDuration`: 5s, 3m20s, 5h, 3d."""
    try:
        begun = dt.datetime.fromisoformat(str(since))
    except ValueError:
        return "<unknown>"
    seconds = max(int((now - begun).total_seconds()), 0)
    if seconds < 120:
        return f"{seconds}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d" if days < 730 else f"{days // 365}y"


def _at(body: Any, *path: str) -> Any:
    for name in path:
        body = body.get(name) if isinstance(body, Mapping) else None
    return body


def _name(body: Body, _: dt.datetime) -> str:
    return str(body["metadata"]["name"])


def _age(body: Body, now: dt.datetime) -> str:
    return age(body["metadata"].get("creationTimestamp"), now)


def _field(*path: str, none: Any = "<none>") -> Cell:
    def cell(body: Body, _: dt.datetime) -> Any:
        found = _at(body, *path)
        return none if found in (None, "", [], {}) else found

    return cell


def _size(*names: str) -> Cell:
    return lambda body, _: sum(len(body.get(name) or ()) for name in names)


def _pod_ready(body: Body, _: dt.datetime) -> str:
    states = _at(body, "status", "containerStatuses") or []
    return f"{sum(bool(each.get('ready')) for each in states)}/{len(_at(body, 'spec', 'containers') or [])}"


def _pod_status(body: Body, _: dt.datetime) -> str:
    if body["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for each in _at(body, "status", "containerStatuses") or []:
        reason = _at(each, "state", "waiting", "reason") or _at(each, "state", "terminated", "reason")
        if reason:
            return str(reason)
    return str(_at(body, "status", "reason") or _at(body, "status", "phase") or "Unknown")


def _restarts(body: Body, _: dt.datetime) -> int:
    return sum(int(each.get("restartCount", 0)) for each in _at(body, "status", "containerStatuses") or [])


def _of(ready: str, wanted: tuple[str, ...]) -> Cell:
    return lambda body, _: f"{_at(body, 'status', ready) or 0}/{_at(body, *wanted) or 0}"


def _ports(body: Body, _: dt.datetime) -> str:
    told = []
    for each in _at(body, "spec", "ports") or []:
        node = f":{each['nodePort']}" if each.get("nodePort") else ""
        told.append(f"{each.get('port')}{node}/{each.get('protocol', 'TCP')}")
    return ",".join(told) or "<none>"


def _completions(body: Body, _: dt.datetime) -> str:
    return f"{_at(body, 'status', 'succeeded') or 0}/{_at(body, 'spec', 'completions') or 1}"


def _job_status(body: Body, _: dt.datetime) -> str:
    for each in _at(body, "status", "conditions") or []:
        if each.get("status") == "True" and each.get("type") in ("Complete", "Failed", "Suspended"):
            return str(each["type"])
    return "Running"


def _node_status(body: Body, _: dt.datetime) -> str:
    conditions = _at(body, "status", "conditions") or []
    ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
    return "Ready" if ready else "NotReady"


def _number(*path: str) -> Cell:
    return lambda body, _: int(_at(body, *path) or 0)


def _involved(body: Body, _: dt.datetime) -> str:
    return f"{_at(body, 'involvedObject', 'kind')}/{_at(body, 'involvedObject', 'name')}".lower()


_NAME: Column = ("Name", "string", 0, _name)
_AGE: Column = ("Age", "string", 0, _age)

_COLUMNS: Mapping[tuple[str, str], Sequence[Column]] = {
    ("", "Pod"): (
        ("Ready", "string", 0, _pod_ready),
        ("Status", "string", 0, _pod_status),
        ("Restarts", "string", 0, _restarts),
        _AGE,
        ("IP", "string", 1, _field("status", "podIP")),
        ("Node", "string", 1, _field("spec", "nodeName")),
    ),
    ("", "Secret"): (("Type", "string", 0, _field("type")), ("Data", "string", 0, _size("data")), _AGE),
    ("", "ConfigMap"): (("Data", "string", 0, _size("data", "binaryData")), _AGE),
    ("", "Namespace"): (("Status", "string", 0, _field("status", "phase")), _AGE),
    ("", "Service"): (
        ("Type", "string", 0, _field("spec", "type")),
        ("Cluster-IP", "string", 0, _field("spec", "clusterIP")),
        ("External-IP", "string", 0, _field("status", "loadBalancer", "ingress")),
        ("Port(s)", "string", 0, _ports),
        _AGE,
    ),
    ("", "ServiceAccount"): (_AGE,),
    ("", "Node"): (
        ("Status", "string", 0, _node_status),
        _AGE,
        ("Version", "string", 0, _field("status", "nodeInfo", "kubeletVersion")),
    ),
    ("", "PersistentVolumeClaim"): (
        ("Status", "string", 0, _field("status", "phase")),
        ("Volume", "string", 0, _field("spec", "volumeName", none="")),
        ("Capacity", "string", 0, _field("status", "capacity", "storage", none="")),
        ("StorageClass", "string", 0, _field("spec", "storageClassName", none="")),
        _AGE,
    ),
    ("", "Event"): (
        ("Type", "string", 0, _field("type")),
        ("Reason", "string", 0, _field("reason")),
        ("Object", "string", 0, _involved),
        ("Message", "string", 0, _field("message", none="")),
    ),
    ("apps", "Deployment"): (
        ("Ready", "string", 0, _of("readyReplicas", ("spec", "replicas"))),
        ("Up-to-date", "string", 0, _number("status", "updatedReplicas")),
        ("Available", "string", 0, _number("status", "availableReplicas")),
        _AGE,
    ),
    ("apps", "ReplicaSet"): (
        ("Desired", "integer", 0, _number("spec", "replicas")),
        ("Current", "integer", 0, _number("status", "replicas")),
        ("Ready", "integer", 0, _number("status", "readyReplicas")),
        _AGE,
    ),
    ("apps", "StatefulSet"): (("Ready", "string", 0, _of("readyReplicas", ("spec", "replicas"))), _AGE),
    ("apps", "DaemonSet"): (
        ("Desired", "integer", 0, _number("status", "desiredNumberScheduled")),
        ("Ready", "integer", 0, _number("status", "numberReady")),
        _AGE,
    ),
    ("batch", "Job"): (("Status", "string", 0, _job_status), ("Completions", "string", 0, _completions), _AGE),
    ("batch", "CronJob"): (
        ("Schedule", "string", 0, _field("spec", "schedule")),
        ("Suspend", "boolean", 0, lambda body, _: bool(_at(body, "spec", "suspend"))),
        _AGE,
    ),
    ("coordination.k8s.io", "Lease"): (("Holder", "string", 0, _field("spec", "holderIdentity", none="")), _AGE),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): (
        ("Created At", "date", 0, _field("metadata", "creationTimestamp")),
    ),
}  # fmt: skip


def columns_of(kind: Kind) -> list[Column]:
    """Give the columns of a kind; kinds without any of their own have name and age."""
    if not kind.custom:
        return [_NAME, *_COLUMNS.get(kind.storage, (_AGE,))]
    told = [
        (each["name"], each.get("type", "string"), int(each.get("priority", 0)), _json_path(each))
        for each in kind.columns
    ]
    return [_NAME, *(told or [_AGE])]


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
            return age(found, now)
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
