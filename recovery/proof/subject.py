"""What rules look at: the estate, its graph, and what is known of the cluster that will be filled. Pure.

Never here: rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from recovery.needs import pod_of
from recovery.plain import entries, mapping, text_of
from recovery.proof.graph import BEFORE_ALL, Graph, Node
from recovery.walk import Estate
from secretsops.manifest import Manifest, ObjectKey

NEWEST = (1, 36)
"""The version of Kubernetes that is assumed where no target is named: the one everything here is tested on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The cluster that will be filled, as far as it is known: empty fields are not known.

    `classes` are its StorageClasses, IngressClasses and PriorityClasses, `skew` its clock against ours in seconds.
    """

    version: tuple[int, int] = NEWEST
    issuer: str = ""
    skew: float | None = None
    classes: frozenset[tuple[str, str]] = frozenset()
    kms_proven: Mapping[str, float] = field(default_factory=dict)
    """Days since each key of recovery.yaml last decrypted its canary; infinite where it never did."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One estate as rules see it."""

    estate: Estate
    graph: Graph
    target: Target = field(default_factory=Target)

    @cached_property
    def nodes(self) -> Sequence[Node]:
        """Give the objects that applications bring, in the order of the rebuild."""
        return [node for node in self.graph.nodes.values() if node.step != BEFORE_ALL]

    @cached_property
    def _by_kind(self) -> Mapping[tuple[str, str], Sequence[Node]]:
        found: dict[tuple[str, str], list[Node]] = {}
        for node in self.graph.nodes.values():
            found.setdefault((node.key.group, node.key.kind), []).append(node)
        return found

    def of(self, group: str, *kinds: str) -> list[Node]:
        """Give the objects of some kinds of one group, those that the rebuild installs among them."""
        return [node for kind in kinds for node in self._by_kind.get((group, kind), ())]

    def applications(self) -> list[Node]:
        """Give the Application objects, roots among them."""
        return self.of("argoproj.io", "Application")

    @cached_property
    def workloads(self) -> Sequence[tuple[Node, Mapping[str, object]]]:
        """Give the objects with a pod inside, each with its pod's spec."""
        found = [(node, pod_of(node.manifest)) for node in self.nodes]
        return [(node, mapping(pod.get("spec"))) for node, pod in found if pod]

    def is_before(self, one: Node, other: Node) -> bool:
        """Say whether `one` is over, healthy, before `other` is written."""
        if BEFORE_ALL in (one.step, other.step):
            return one.step == BEFORE_ALL != other.step
        return self.graph.schedule.is_before(one.step, other.step)

    def makers(self, keys: Sequence[ObjectKey]) -> list[Node]:
        """Give the objects among `keys` that Git has."""
        return [self.graph.nodes[key] for key in keys if key in self.graph.nodes]

    def behind(self, service: ObjectKey) -> list[Node]:
        """Give the workloads whose pods answer for a Service."""
        edges = self.graph.needed.get(service, ())
        return self.makers([key for edge in edges if "answer for the Service" in edge.need.why for key in edge.by])

    def gates(self, node: Node) -> bool:
        """Say whether some later step waits for the object's step."""
        return any(node.step in step.after for step in self.graph.schedule.steps)

    def setting(self, name: str, config_map: str = "argocd-cm") -> str:
        """Give a value of Argo CD's own ConfigMap where it is in Git, "" where it is not."""
        for node in self.of("", "ConfigMap"):
            if node.key.name == config_map:
                return text_of(mapping(node.manifest.body.get("data")).get(name))
        return ""


def containers(spec: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """Give every container of a pod's spec, init containers first."""
    for field_name in ("initContainers", "containers", "ephemeralContainers"):
        for container in entries(spec.get(field_name)):
            yield mapping(container)


def name_of(manifest: Manifest) -> str:
    """Name an object for people."""
    return str(manifest.key)
