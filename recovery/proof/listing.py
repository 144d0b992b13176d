"""A plan as plain data and as a table: every object at its place, with the reason and what it depends on. Pure.

No object's body is in it, so no secret is. Never here: how the order comes about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from recovery.order import Task
from recovery.proof.graph import BEFORE_ALL, Edge, Graph
from recovery.walk import Estate
from secretsops.manifest import ObjectKey


def plan_body(estate: Estate, graph: Graph) -> dict[str, Any]:
    """Give the plan as stable plain data; positions and steps count from 1 in the order of the rebuild."""
    applications = {planned.app.key: planned for planned in estate.applications}
    position = 0
    steps = []
    for step in graph.schedule.steps:
        objects = []
        for task in step.tasks:
            position += 1
            objects.append(_object(position, task, graph))
        steps.append(
            {
                "step": step.number + 1,
                "application": step.app,
                "phase": step.phase.value,
                "wave": step.wave,
                "after": [number + 1 for number in step.after],
                "critical": step.number in graph.schedule.critical,
                "objects": objects,
            }
        )
    return {
        "plan": estate.digest,
        "pins": dict(sorted(estate.pins.items())),
        "remapped": [asdict(change) for change in estate.changes],
        "applications": [
            {
                "application": planned.app.key,
                "parent": planned.parent,
                "depth": planned.depth,
                "revision": planned.revision,
                "problems": [{"where": p.where, "reason": p.reason, "message": p.message} for p in planned.problems],
                "excluded": [str(key) for key in planned.excluded],
                "steps": [step["step"] for step in steps if step["application"] == planned.app.key],
            }
            for planned in applications.values()
        ],
        "steps": steps,
        "criticalPath": [number + 1 for number in graph.schedule.critical],
    }


def _object(position: int, task: Task, graph: Graph) -> dict[str, Any]:
    edges = _distinct(graph.needed.get(task.key, ()))
    return {
        "position": position,
        **_named(task.key),
        "version": task.manifest.kind.version,
        "hook": task.hook,
        "reason": task.reason,
        "needs": [_need(edge, graph) for edge in edges],
    }


def _distinct(edges: Sequence[Edge]) -> list[Edge]:
    """Give the edges worth showing: a namespace, a kind's definition and the like once, in the order found."""
    return list({(edge.need.key, edge.need.why): edge for edge in edges}.values())


def _named(key: ObjectKey) -> dict[str, str]:
    return {"group": key.group, "kind": key.kind, "namespace": key.namespace, "name": key.name}


def _need(edge: Edge, graph: Graph) -> dict[str, Any]:
    maker = edge.by[0] if edge.by else None
    node = graph.nodes.get(maker) if maker else None
    return {
        "object": str(edge.need.key),
        "why": edge.need.why,
        "optional": edge.need.optional,
        "from": str(maker) if maker else "",
        "position": node.position if node else None,
        "step": node.step + 1 if node and node.step != BEFORE_ALL else 0 if node else None,
    }


def plan_table(body: Mapping[str, Any]) -> str:
    """Give the plan for a terminal: steps in order, objects with their reasons, what each depends on."""
    applications = {entry["application"]: entry for entry in body["applications"]}
    lines: list[str] = []
    for step in body["steps"]:
        app = applications[step["application"]]
        below = f", child of {app['parent']}" if app["parent"] else ""
        waits = f"; waits for step {', '.join(map(str, step['after']))}" if step["after"] else ""
        lines.append(
            f"step {step['step']}  {app['application']} at {app['revision'][:12] or '?'}{below}  {step['phase']} wave "
            f"{step['wave']}{waits}{'  *' if step['critical'] else ''}"
        )
        rows = [(str(entry["position"]), _name(entry), _reason(entry)) for entry in step["objects"]]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        for number, name, reason in rows:
            lines.append(f"  {number.rjust(widths[0])}  {name.ljust(widths[1])}  {reason}")
    for app in applications.values():
        lines += [f"  {app['application']}: never applied: {name}, Argo CD leaves it alone" for name in app["excluded"]]
        lines += [f"  PROBLEM {p['where']}: {p['message']} ({p['reason']})" for p in app["problems"]]
    lines += remapped_lines(body["remapped"])
    total = sum(len(step["objects"]) for step in body["steps"])
    lines.append(
        f"{len(applications)} application(s), {len(body['steps'])} step(s), {total} object(s); critical path (*): "
        f"{len(body['criticalPath'])} step(s); plan {body['plan'][:16]}"
    )
    return "\n".join(lines) + "\n"


def remapped_lines(changes: Sequence[Mapping[str, str]]) -> list[str]:
    """Give what lives otherwise than Git says, a line for each reason with the first few fields."""
    by_reason: dict[str, list[str]] = {}
    for change in changes:
        arrow = f" -> {change['after']}" if change["after"] else ""
        by_reason.setdefault(change["reason"], []).append(
            f"    {change['object']} {change['field']}: {change['before']}{arrow}"
        )
    lines = []
    for reason, found in by_reason.items():
        more = [f"    and {len(found) - _SHOWN} more, all with -o json"] if len(found) > _SHOWN else []
        lines += [f"  remapped, {len(found)} field(s): {reason}", *found[:_SHOWN], *more]
    return lines


_SHOWN = 10


def _name(entry: Mapping[str, Any]) -> str:
    return str(ObjectKey(entry["group"], entry["kind"], entry["namespace"], entry["name"]))


def _reason(entry: Mapping[str, Any]) -> str:
    """Give why it stands there; needs that any order meets (its namespace, its kind) only where Git lacks them."""
    said = [entry["reason"]]
    for need in entry["needs"]:
        if need["position"] is None and not need["optional"]:
            said.append(f"needs {need['object']}, which Git lacks ({need['why']})")
        elif need["position"] is not None and need["why"] != "it lives there":
            maker = "" if need["from"] == need["object"] else f" from {need['from']}"
            said.append(f"needs {need['object']}{maker} at {need['position']} ({need['why']})")
    return "; ".join(said)
