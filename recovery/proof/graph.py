"""Who needs whom in an estate: objects, what makes them, and every dependency between them. Pure.

    CRD → CR · Namespace → object · StorageClass → claim → pod · store → ExternalSecret → Secret → consumer ·
    SealedSecret → Secret → consumer · workload → Service → webhook → kinds it intercepts · APIService · issuer →
    Certificate · ServiceAccount → workload · `secretsops.dev/depends-on`

What each object needs is read by `recovery.needs`; here it is matched with what Git has. Never here: judgement
(`lint`, `verify`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from recovery.needs import Need, defined_by, definition, makes, needs, pod_of
from recovery.order import Task
from recovery.plain import mapping, text_of
from recovery.proof.schedule import Schedule, schedule
from recovery.proof.webhooks import Webhook, intercepts, read_webhooks
from recovery.walk import Estate
from secretsops.manifest import Manifest, ObjectKey

BEFORE_ALL = -1
"""The step of what is there before the first application: what the rebuild installs."""
_GIVEN_NAMESPACES = frozenset({"default", "kube-system", "kube-public", "kube-node-lease", "argocd"})
_GIVEN_GROUPS = {
    "bitnami.com": ("SealedSecret",),
    "argoproj.io": ("Application", "AppProject", "ApplicationSet"),
    "external-secrets.io": ("ClusterExternalSecret", "ClusterSecretStore", "ExternalSecret", "SecretStore"),
}
"""Kinds that `secretsops install` defines, before any application is synced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One object of the estate and where it is applied; of one applied twice, the first place.

    `position` counts the objects of the whole rebuild in order, from 1; 0 is before all.
    """

    manifest: Manifest
    app: str
    step: int
    position: int = 0
    task: Task | None = None

    @property
    def key(self) -> ObjectKey:
        """Give what names the object."""
        return self.manifest.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """`needer` needs `need.key`; `by` are the objects in Git that are or make it, none where Git lacks it."""

    needer: ObjectKey
    need: Need
    by: tuple[ObjectKey, ...]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """All objects by key, and all edges in the order of the rebuild."""

    nodes: Mapping[ObjectKey, Node]
    edges: Sequence[Edge]
    schedule: Schedule
    webhooks: Sequence[Webhook] = ()
    made: Mapping[ObjectKey, Sequence[ObjectKey]] = field(default_factory=dict)
    """Objects that a controller makes, each with its makers."""

    @cached_property
    def needed(self) -> Mapping[ObjectKey, Sequence[Edge]]:
        """Give the edges that leave each object."""
        found: dict[ObjectKey, list[Edge]] = {}
        for edge in self.edges:
            found.setdefault(edge.needer, []).append(edge)
        return found

    @cached_property
    def asked(self) -> Mapping[ObjectKey, Sequence[Edge]]:
        """Give the edges by what is needed, whether Git has it or not."""
        found: dict[ObjectKey, list[Edge]] = {}
        for edge in self.edges:
            found.setdefault(edge.need.key, []).append(edge)
        return found

    @cached_property
    def dependants(self) -> Mapping[ObjectKey, int]:
        """Give how many objects depend on each needed or present key, directly or not."""
        users: dict[ObjectKey, set[ObjectKey]] = {}
        for edge in self.edges:
            for key in {edge.need.key, *edge.by} - {edge.needer}:
                users.setdefault(key, set()).add(edge.needer)
        return {key: len(reached(key, users)) for key in users}

    def cycles(self) -> list[list[ObjectKey]]:
        """Give each set of objects that cannot do without one another, ordered by name.

        These are strongly connected components (Tarjan). An object that several could make is no part of one.
        """
        return _components(
            {
                key: [edge.by[0] for edge in found if len(edge.by) == 1 and not edge.need.optional]
                for key, found in self.needed.items()
            }
        )


def reached(start: ObjectKey, users: Mapping[ObjectKey, set[ObjectKey]]) -> set[ObjectKey]:
    """Give whoever uses an object, directly or not."""
    seen: set[ObjectKey] = set()
    todo = [start]
    while todo:
        for user in users.get(todo.pop(), ()):
            if user not in seen:
                seen.add(user)
                todo.append(user)
    return seen - {start}


def build(estate: Estate, *, installed: Sequence[Manifest] = ()) -> Graph:
    """Give the graph of an estate; `installed` is what the rebuild applies before the first application."""
    order = schedule(estate)
    nodes: dict[ObjectKey, Node] = {m.key: Node(manifest=m, app="", step=BEFORE_ALL) for m in installed}
    position = 0
    for step in order.steps:
        for task in step.tasks:
            position += 1
            place = Node(manifest=task.manifest, app=step.app, step=step.number, position=position, task=task)
            nodes.setdefault(task.key, place)
    for root in estate.roots:
        nodes.setdefault(root.key, Node(manifest=root, app="", step=BEFORE_ALL))
    index = _Index(nodes, order)
    return Graph(nodes=nodes, edges=list(index.edges()), schedule=order, webhooks=index.webhooks, made=index.made)


class _Index:
    """What Git has, by all the names under which it is asked for."""

    def __init__(self, nodes: Mapping[ObjectKey, Node], order: Schedule) -> None:
        self.nodes, self.order = nodes, order
        self.made: dict[ObjectKey, list[ObjectKey]] = {}
        self.defined: dict[ObjectKey, ObjectKey] = {}
        self.served: dict[str, ObjectKey] = {}
        self.by_kind: dict[tuple[str, str, str], list[ObjectKey]] = {}
        self.workloads: dict[str, list[tuple[ObjectKey, Mapping[str, str]]]] = {}
        for key, node in nodes.items():
            self._enter(key, node.manifest)
        self.webhooks = [hook for node in nodes.values() for hook in read_webhooks(node.manifest)]
        self._labels = {k.name: dict(n.manifest.labels) for k, n in nodes.items() if k.kind == "Namespace"}

    def _enter(self, key: ObjectKey, manifest: Manifest) -> None:
        for made in makes(manifest):
            self.made.setdefault(made, []).append(key)
        defines = defined_by(manifest)
        if defines is not None:
            self.defined[defines] = key
        if key.kind == "APIService" and mapping(manifest.spec.get("service")):
            self.served[text_of(manifest.spec.get("group"))] = key
        pod = pod_of(manifest)
        if pod:
            labels = {str(k): str(v) for k, v in mapping(mapping(pod.get("metadata")).get("labels")).items()}
            self.workloads.setdefault(key.namespace, []).append((key, labels))

    def edges(self) -> Iterator[Edge]:
        for key, node in self.nodes.items():
            for need in (*needs(node.manifest), *self._backing(node.manifest), *self._intercepted(node.manifest)):
                if not is_given(need.key) and need.key != key:
                    yield Edge(needer=key, need=need, by=self.makers(need.key))

    def makers(self, key: ObjectKey) -> tuple[ObjectKey, ...]:
        """Give what is or makes an object, the object itself first."""
        if key in self.nodes:
            return (key, *self.made.get(key, ()))
        if key in self.defined:
            return (self.defined[key],)
        if key.kind == "CustomResourceDefinition":
            server = self.served.get(key.name.partition(".")[2])
            return (server,) if server else ()
        return tuple(self.made.get(key, ()))

    def _backing(self, manifest: Manifest) -> Iterable[Need]:
        """Give the workloads whose pods answer for a Service that something else waits for."""
        selector = mapping(manifest.spec.get("selector"))
        if (manifest.kind.group, manifest.kind.kind) != ("", "Service") or not selector:
            return
        for key, labels in self.workloads.get(manifest.namespace, ()):
            if key.kind not in ("Job", "CronJob") and all(labels.get(k) == str(v) for k, v in selector.items()):
                yield Need(key=key, why="its pods answer for the Service")

    def _intercepted(self, manifest: Manifest) -> Iterable[Need]:
        """Give the Services of webhooks that are asked before the object, or one of its pods, is written.

        A webhook that is configured only after the object was written is not asked; its pods come a little later.
        """
        labels = {"kubernetes.io/metadata.name": manifest.namespace, **self._labels.get(manifest.namespace, {})}
        pod = pod_of(manifest)
        for hook in self.webhooks:
            if not hook.fails_closed or hook.service is None or hook.configuration == manifest.key:
                continue
            if intercepts(hook, manifest, labels) and not self._written_before(manifest.key, hook.configuration):
                yield Need(key=hook.service, why=f"webhook {hook.name} is asked before it is written", hard=True)
            elif pod and manifest.kind.kind != "Pod" and intercepts(hook, _pod(manifest, pod), labels):
                race = self._written_before(manifest.key, hook.configuration)
                why = f"webhook {hook.name} is asked before its pods are written"
                yield Need(key=hook.service, why=why, optional=race)

    def _written_before(self, one: ObjectKey, other: ObjectKey) -> bool:
        first, second = self.nodes[one], self.nodes[other]
        if first.step == second.step:
            return first.position < second.position
        return first.step == BEFORE_ALL or (second.step != BEFORE_ALL and self.order.is_before(first.step, second.step))


def _pod(owner: Manifest, template: Mapping[str, object]) -> Manifest:
    metadata = {**mapping(template.get("metadata")), "name": owner.name, "namespace": owner.namespace}
    return Manifest({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})


def is_given(key: ObjectKey) -> bool:
    """Say whether any cluster has the object, or a rebuild makes it before the first application."""
    if key.kind == "Namespace" and not key.group:
        return key.name in _GIVEN_NAMESPACES
    if key.kind == "PriorityClass":
        return key.name in ("system-cluster-critical", "system-node-critical")
    if key.kind in ("ClusterRole", "ClusterRoleBinding"):
        return key.name.startswith("system:") or key.name in ("cluster-admin", "admin", "edit", "view")
    if key.kind == "ServiceAccount":
        return key.name == "default"
    if key.kind == "CustomResourceDefinition":
        return any(key == definition(group, kind) for group, kinds in _GIVEN_GROUPS.items() for kind in kinds)
    return (key.kind, key.namespace, key.name) == ("Service", "default", "kubernetes")


def _components(graph: Mapping[ObjectKey, Sequence[ObjectKey]]) -> list[list[ObjectKey]]:
    """Tarjan without recursion: an estate may chain thousands of objects."""
    order: dict[ObjectKey, int] = {}
    low: dict[ObjectKey, int] = {}
    stack: list[ObjectKey] = []
    held: set[ObjectKey] = set()
    found: list[list[ObjectKey]] = []
    for root in graph:
        if root in order:
            continue
        work: list[tuple[ObjectKey, Iterator[ObjectKey]]] = [(root, iter(graph[root]))]
        order[root] = low[root] = len(order)
        stack.append(root)
        held.add(root)
        while work:
            key, rest = work[-1]
            following = next(rest, None)
            if following is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[key])
                if low[key] == order[key]:
                    component: list[ObjectKey] = []
                    while not component or component[-1] != key:
                        component.append(stack.pop())
                        held.discard(component[-1])
                    if len(component) > 1:
                        found.append(sorted(component))
            elif following not in order:
                order[following] = low[following] = len(order)
                stack.append(following)
                held.add(following)
                work.append((following, iter(graph.get(following, ()))))
            elif following in held:
                low[key] = min(low[key], order[following])
    return sorted(found)
