"""Cells of tables: how one value of an object is shown. Pure.

Source: `pkg/printers/internalversion/printers.go` of Kubernetes 1.36.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

Body = Mapping[str, Any]
Cell = Callable[[Body, dt.datetime], Any]
_ACCESS = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def lasting(since: Any, now: dt.datetime) -> str:
    """Give how long ago a time was, as `duration.HumanDuration` writes it."""
    try:
        return duration((now - dt.datetime.fromisoformat(str(since))).total_seconds())
    except ValueError:
        return "<unknown>"


def duration(took: float) -> str:
    """Write seconds as `duration.HumanDuration`: 5s, 3m20s, 5h, 3d."""
    seconds = max(int(took), 0)
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


def at(body: Any, *path: str) -> Any:
    """Give the value at a path, None where there is none."""
    for part in path:
        body = body.get(part) if isinstance(body, Mapping) else None
    return body


def name(body: Body, _: dt.datetime) -> str:
    """Give the name."""
    return str(body["metadata"]["name"])


def age(body: Body, now: dt.datetime) -> str:
    """Give the age."""
    return lasting(body["metadata"].get("creationTimestamp"), now)


def field(*path: str, none: Any = "<none>") -> Cell:
    """Give a field."""

    def cell(body: Body, _: dt.datetime) -> Any:
        found = at(body, *path)
        return none if found in (None, "", [], {}) else found

    return cell


def size(*names: str) -> Cell:
    """Give how many keys there are in fields."""
    return lambda body, _: sum(len(body.get(each) or ()) for each in names)


def pod_ready(body: Body, _: dt.datetime) -> str:
    """Give ready containers of all."""
    states = at(body, "status", "containerStatuses") or []
    return f"{sum(bool(each.get('ready')) for each in states)}/{len(at(body, 'spec', 'containers') or [])}"


def pod_status(body: Body, _: dt.datetime) -> str:
    """Give a Pod's state in one word."""
    if body["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for each in at(body, "status", "containerStatuses") or []:
        reason = at(each, "state", "waiting", "reason") or at(each, "state", "terminated", "reason")
        if reason:
            return str(reason)
    return str(at(body, "status", "reason") or at(body, "status", "phase") or "Unknown")


def restarts(body: Body, _: dt.datetime) -> int:
    """Give how often containers were restarted."""
    return sum(int(each.get("restartCount", 0)) for each in at(body, "status", "containerStatuses") or [])


def of(ready: str, wanted: tuple[str, ...]) -> Cell:
    """Give ready ones of wanted ones."""
    return lambda body, _: f"{at(body, 'status', ready) or 0}/{at(body, *wanted) or 0}"


def ports(body: Body, _: dt.datetime) -> str:
    """Give a Service's ports."""
    told = []
    for each in at(body, "spec", "ports") or []:
        node = f":{each['nodePort']}" if each.get("nodePort") else ""
        told.append(f"{each.get('port')}{node}/{each.get('protocol', 'TCP')}")
    return ",".join(told) or "<none>"


def completions(body: Body, _: dt.datetime) -> str:
    """Give completed Pods of wanted ones."""
    return f"{at(body, 'status', 'succeeded') or 0}/{at(body, 'spec', 'completions') or 1}"


def job_status(body: Body, _: dt.datetime) -> str:
    """Give a Job's state."""
    for each in at(body, "status", "conditions") or []:
        if each.get("status") == "True" and each.get("type") in ("Complete", "Failed", "Suspended"):
            return str(each["type"])
    return "Running"


def node_status(body: Body, _: dt.datetime) -> str:
    """Give a Node's state."""
    conditions = at(body, "status", "conditions") or []
    ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
    return "Ready" if ready else "NotReady"


def number(*path: str) -> Cell:
    """Give a number, 0 where there is none."""
    return lambda body, _: int(at(body, *path) or 0)


def involved(body: Body, _: dt.datetime) -> str:
    """Give what an Event is about."""
    return f"{at(body, 'involvedObject', 'kind')}/{at(body, 'involvedObject', 'name')}".lower()


def since(*path: str, none: str = "<none>") -> Cell:
    """Give the time that has passed since a time of the object."""

    def cell(body: Body, now: dt.datetime) -> str:
        found = at(body, *path)
        return lasting(found, now) if found else none

    return cell


def took(body: Body, now: dt.datetime) -> str:
    """Give how long a Job has run."""
    begun, ended = at(body, "status", "startTime"), at(body, "status", "completionTime")
    if not begun:
        return ""
    return lasting(begun, dt.datetime.fromisoformat(str(ended)) if ended else now)


def flag(*path: str) -> Cell:
    """Give a truth as kubectl shows one."""
    return lambda body, _: bool(at(body, *path))


def text(*path: str, none: str = "<none>") -> Cell:
    """Give a truth, a number or a word as text."""

    def cell(body: Body, _: dt.datetime) -> str:
        found = at(body, *path)
        return none if found in (None, "") else str(found).lower() if isinstance(found, bool) else str(found)

    return cell


def joined(*path: str, key: str = "", none: str = "<none>") -> Cell:
    """Give the items of a list, or one field of each."""

    def cell(body: Body, _: dt.datetime) -> str:
        found = at(body, *path) or []
        return ",".join(str(at(each, key) if key else each) for each in found) or none

    return cell


def containers(field: str, *path: str) -> Cell:
    """Give names or images of the containers below a Pod's spec."""
    return joined(*path, "spec", "containers", key=field)


def selector(*path: str) -> Cell:
    """Give labels that are asked for, as a selector in its string form."""

    def cell(body: Body, _: dt.datetime) -> str:
        found = at(body, *path) or {}
        labels = found.get("matchLabels", {}) if "matchLabels" in found or "matchExpressions" in found else found
        told = [f"{key}={value}" for key, value in sorted(labels.items())]
        told += [_expression(each) for each in found.get("matchExpressions") or []]
        return ",".join(told) or "<none>"

    return cell


def _expression(each: Mapping[str, Any]) -> str:
    key, operator = str(each.get("key")), str(each.get("operator"))
    if operator in ("Exists", "DoesNotExist"):
        return f"{'!' * (operator == 'DoesNotExist')}{key}"
    return f"{key} {operator.lower()} ({','.join(str(value) for value in each.get('values') or [])})"


def access_modes(*path: str) -> Cell:
    """Give access modes by their short names."""
    return lambda body, _: ",".join(_ACCESS.get(each, each) for each in at(body, *path) or [])


def claim(body: Body, _: dt.datetime) -> str:
    """Give the claim of a volume."""
    found = at(body, "spec", "claimRef") or {}
    return f"{found.get('namespace')}/{found.get('name')}" if found else ""


def external(body: Body, _: dt.datetime) -> str:
    """Give what a Service is reached by from outside."""
    spec = body.get("spec") or {}
    given = [
        str(each.get("ip") or each.get("hostname")) for each in at(body, "status", "loadBalancer", "ingress") or []
    ]
    if spec.get("type") == "LoadBalancer":
        return ",".join([*given, *(spec.get("externalIPs") or [])]) or "<pending>"
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName"))
    return ",".join(spec.get("externalIPs") or []) or "<none>"


def roles(body: Body, _: dt.datetime) -> str:
    """Give the roles of a Node."""
    mark = "node-role.kubernetes.io/"
    return ",".join(sorted(key.removeprefix(mark) for key in body["metadata"].get("labels") or {}
                           if key.startswith(mark))) or "<none>"  # fmt: skip


def address(kind: str) -> Cell:
    """Give a Node's address of a kind."""

    def cell(body: Body, _: dt.datetime) -> str:
        found = at(body, "status", "addresses") or []
        return next((str(each.get("address")) for each in found if each.get("type") == kind), "<none>")

    return cell


def source(body: Body, _: dt.datetime) -> str:
    """Give who told an Event."""
    parts = (at(body, "source", "component") or body.get("reportingComponent"), at(body, "source", "host"))
    return ", ".join(str(each) for each in parts if each)


def seen(*names: str) -> Cell:
    """Give how long ago an Event was seen, by the first of its times that is set."""

    def cell(body: Body, now: dt.datetime) -> str:
        found = next((body[each] for each in names if body.get(each)), None)
        return lasting(found, now) if found else "<unknown>"

    return cell


def hosts(body: Body, _: dt.datetime) -> str:
    """Give the hosts of an Ingress."""
    found = [str(each["host"]) for each in at(body, "spec", "rules") or [] if each.get("host")]
    return ",".join(found[:3]) + (f" + {len(found) - 3} more..." if len(found) > 3 else "") or "*"


def balanced(body: Body, _: dt.datetime) -> str:
    """Give the addresses of a load balancer."""
    found = at(body, "status", "loadBalancer", "ingress") or []
    return ",".join(str(each.get("ip") or each.get("hostname")) for each in found)


def ingress_ports(body: Body, _: dt.datetime) -> str:
    """Give the ports of an Ingress."""
    return "80, 443" if at(body, "spec", "tls") else "80"


def referred(*path: str) -> Cell:
    """Give a reference as KIND/NAME."""

    def cell(body: Body, _: dt.datetime) -> str:
        found = at(body, *path) or {}
        return f"{found.get('kind')}/{found.get('name')}"

    return cell


def subjects(kind: str) -> Cell:
    """Give a binding's subjects of a kind."""

    def cell(body: Body, _: dt.datetime) -> str:
        found = [each for each in body.get("subjects") or [] if each.get("kind") == kind]
        return ", ".join(f"{each['namespace']}/{each['name']}" if each.get("namespace") else str(each.get("name"))
                         for each in found)  # fmt: skip

    return cell


def addresses(body: Body, _: dt.datetime) -> str:
    """Give the addresses of an EndpointSlice, three at most."""
    found = [str(each) for row in body.get("endpoints") or [] for each in row.get("addresses") or []]
    return ",".join(found[:3]) + (f" + {len(found) - 3} more..." if len(found) > 3 else "") or "<unset>"


def slice_ports(body: Body, _: dt.datetime) -> str:
    """Give the ports of an EndpointSlice."""
    return ",".join(str(each.get("port")) for each in body.get("ports") or []) or "<unset>"


def metrics(body: Body, _: dt.datetime) -> str:
    """Give what an autoscaler aims at; there is nobody here who measures."""
    told = []
    for each in at(body, "spec", "metrics") or []:
        wanted = at(each, "resource", "target") or {}
        aim = (
            f"{wanted['averageUtilization']}%"
            if "averageUtilization" in wanted
            else wanted.get("averageValue", "<auto>")
        )
        told.append(f"{at(each, 'resource', 'name') or each.get('type')}: <unknown>/{aim}")
    return ", ".join(told) or "<none>"


def service(body: Body, _: dt.datetime) -> str:
    """Give the Service behind an APIService."""
    found = at(body, "spec", "service") or {}
    return f"{found.get('namespace')}/{found.get('name')}" if found else "Local"


def condition(kind: str) -> Cell:
    """Give the status of a condition, with its reason where it does not hold."""

    def cell(body: Body, _: dt.datetime) -> str:
        for each in at(body, "status", "conditions") or []:
            if each.get("type") == kind:
                return str(each["status"]) if each["status"] == "True" else f"{each['status']} ({each.get('reason')})"
        return "Unknown"

    return cell


def counted(key: str) -> Cell:
    """Give how many items a list has."""
    return lambda body, _: len(body.get(key) or [])


def capital(*path: str) -> Cell:
    """Give a truth as Go's printer of CronJobs writes it."""
    return lambda body, _: str(bool(at(body, *path)))


def controller(body: Body, _: dt.datetime) -> str:
    """Give an object's controller as kind.group/name."""
    for each in body["metadata"].get("ownerReferences") or []:
        if each.get("controller"):
            group = str(each.get("apiVersion", "")).rpartition("/")[0]
            return f"{str(each.get('kind')).lower()}{'.' * bool(group)}{group}/{each.get('name')}"
    return "<none>"


def parameters(body: Body, _: dt.datetime) -> str:
    """Give the parameters of an IngressClass."""
    found = at(body, "spec", "parameters") or {}
    group = f".{found['apiGroup']}" if found.get("apiGroup") else ""
    return f"{found.get('kind')}{group}/{found.get('name')}" if found else "<none>"
