"""Rules against the cluster that will be filled: API versions, quotas, Pod Security, priorities, its clock. Pure.

Sources: Kubernetes deprecation guide (versions by release), `k8s.io/pod-security-admission` v1.36 (a part of the
baseline and restricted checks: those a template's own fields decide), recovery realities.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from recovery.plain import entries, inside, mapping, text_of
from recovery.proof.finding import Found
from recovery.proof.graph import BEFORE_ALL, is_given
from recovery.proof.subject import Subject, containers

REMOVED: Mapping[tuple[str, str], tuple[tuple[int, int], str]] = {
    ("extensions/v1beta1", "Ingress"): ((1, 22), "networking.k8s.io/v1"),
    ("extensions/v1beta1", "Deployment"): ((1, 16), "apps/v1"),
    ("extensions/v1beta1", "DaemonSet"): ((1, 16), "apps/v1"),
    ("extensions/v1beta1", "ReplicaSet"): ((1, 16), "apps/v1"),
    ("extensions/v1beta1", "NetworkPolicy"): ((1, 16), "networking.k8s.io/v1"),
    ("extensions/v1beta1", "PodSecurityPolicy"): ((1, 16), "none: Pod Security admission"),
    ("apps/v1beta1", "Deployment"): ((1, 16), "apps/v1"),
    ("apps/v1beta1", "StatefulSet"): ((1, 16), "apps/v1"),
    ("apps/v1beta2", "Deployment"): ((1, 16), "apps/v1"),
    ("apps/v1beta2", "StatefulSet"): ((1, 16), "apps/v1"),
    ("apps/v1beta2", "DaemonSet"): ((1, 16), "apps/v1"),
    ("apps/v1beta2", "ReplicaSet"): ((1, 16), "apps/v1"),
    ("networking.k8s.io/v1beta1", "Ingress"): ((1, 22), "networking.k8s.io/v1"),
    ("networking.k8s.io/v1beta1", "IngressClass"): ((1, 22), "networking.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1", "Role"): ((1, 22), "rbac.authorization.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1", "ClusterRole"): ((1, 22), "rbac.authorization.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1", "RoleBinding"): ((1, 22), "rbac.authorization.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1", "ClusterRoleBinding"): ((1, 22), "rbac.authorization.k8s.io/v1"),
    ("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition"): ((1, 22), "apiextensions.k8s.io/v1"),
    ("admissionregistration.k8s.io/v1beta1", "ValidatingWebhookConfiguration"): (
        (1, 22),
        "admissionregistration.k8s.io/v1",
    ),
    ("admissionregistration.k8s.io/v1beta1", "MutatingWebhookConfiguration"): (
        (1, 22),
        "admissionregistration.k8s.io/v1",
    ),
    ("apiregistration.k8s.io/v1beta1", "APIService"): ((1, 22), "apiregistration.k8s.io/v1"),
    ("scheduling.k8s.io/v1beta1", "PriorityClass"): ((1, 22), "scheduling.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", "StorageClass"): ((1, 22), "storage.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", "CSIDriver"): ((1, 22), "storage.k8s.io/v1"),
    ("batch/v1beta1", "CronJob"): ((1, 25), "batch/v1"),
    ("discovery.k8s.io/v1beta1", "EndpointSlice"): ((1, 25), "discovery.k8s.io/v1"),
    ("policy/v1beta1", "PodDisruptionBudget"): ((1, 25), "policy/v1"),
    ("policy/v1beta1", "PodSecurityPolicy"): ((1, 25), "none: Pod Security admission"),
    ("node.k8s.io/v1beta1", "RuntimeClass"): ((1, 25), "node.k8s.io/v1"),
    ("autoscaling/v2beta1", "HorizontalPodAutoscaler"): ((1, 25), "autoscaling/v2"),
    ("autoscaling/v2beta2", "HorizontalPodAutoscaler"): ((1, 26), "autoscaling/v2"),
    ("flowcontrol.apiserver.k8s.io/v1beta1", "FlowSchema"): ((1, 26), "flowcontrol.apiserver.k8s.io/v1"),
    ("flowcontrol.apiserver.k8s.io/v1beta2", "FlowSchema"): ((1, 29), "flowcontrol.apiserver.k8s.io/v1"),
    ("flowcontrol.apiserver.k8s.io/v1beta3", "FlowSchema"): ((1, 32), "flowcontrol.apiserver.k8s.io/v1"),
    ("flowcontrol.apiserver.k8s.io/v1beta3", "PriorityLevelConfiguration"): (
        (1, 32),
        "flowcontrol.apiserver.k8s.io/v1",
    ),
}
"""(apiVersion, kind) → the first release without it, and what to write instead."""
_SUFFIXES = {
    "": Fraction(1),
    "m": Fraction(1, 1000),
    "k": Fraction(1000),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
}
SKEW_LIMIT = 60.0


def removed_api(subject: Subject) -> Iterator[Found]:
    """The target no longer serves the version of an object."""
    for node in subject.nodes:
        gone = REMOVED.get((node.manifest.kind.api_version, node.key.kind))
        if gone and subject.target.version >= gone[0]:
            version = ".".join(map(str, gone[0]))
            message = f"{node.key} is of {node.manifest.kind.api_version}, gone since {version}; now {gone[1]}"
            yield Found((str(node.key),), message)


def quota_exceeded(subject: Subject) -> Iterator[Found]:
    """The workloads of a namespace ask for more than its quota gives."""
    for quota in subject.of("", "ResourceQuota"):
        hard = mapping(quota.manifest.spec.get("hard"))
        if quota.manifest.spec.get("scopes") or quota.manifest.spec.get("scopeSelector"):
            continue
        asked = _asked(subject, quota.key.namespace)
        for name, limit in sorted(hard.items()):
            most, wanted = quantity(limit), asked.get(str(name).removeprefix("requests."))
            if most is not None and wanted is not None and wanted > most:
                message = f"namespace {quota.key.namespace} asks for {_shown(wanted)} {name}, its quota gives {limit}"
                yield Found((str(quota.key),), message)


def _asked(subject: Subject, namespace: str) -> dict[str, Fraction]:
    """Give pods, cpu and memory that the workloads of a namespace ask for; Jobs come and go, they do not count."""
    total: dict[str, Fraction] = {"pods": Fraction(0), "cpu": Fraction(0), "memory": Fraction(0)}
    for node, spec in subject.workloads:
        if node.key.namespace != namespace or node.key.kind in ("Job", "CronJob", "DaemonSet"):
            continue
        replicas = node.manifest.spec.get("replicas", 1) if node.key.kind != "Pod" else 1
        count = replicas if isinstance(replicas, int) else 1
        total["pods"] += count
        for container in entries(spec.get("containers")):
            requests = inside(mapping(container), ("resources", "requests"))
            limits = inside(mapping(container), ("resources", "limits"))
            for name in ("cpu", "memory"):
                total[name] += count * (quantity(requests.get(name, limits.get(name))) or 0)
    return total


def quantity(value: Any) -> Fraction | None:
    """Read a quantity of Kubernetes, None where it is none or of a suffix that no quota here uses."""
    text = str(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else ""
    number = text.rstrip("kKMGTim")
    suffix = text[len(number) :]
    if suffix not in _SUFFIXES or len(number) > 32 or not number.replace(".", "", 1).isdigit():
        return None
    return Fraction(number) * _SUFFIXES[suffix]


def _shown(value: Fraction) -> str:
    return f"{float(value):g}"


def pod_security(subject: Subject) -> Iterator[Found]:
    """The namespace enforces a level of Pod Security that refuses the pods of a workload."""
    levels = {
        node.key.name: text_of(node.manifest.labels.get("pod-security.kubernetes.io/enforce"))
        for node in subject.of("", "Namespace")
    }
    for node, spec in subject.workloads:
        level = levels.get(node.key.namespace, "")
        broken = _broken(spec, level) if level in ("baseline", "restricted") else ""
        if broken and node.step != BEFORE_ALL:
            message = f"pods of {node.key} are refused: {broken}, and {node.key.namespace} enforces {level}"
            yield Found((str(node.key), f"Namespace {node.key.namespace}"), message)


def _broken(spec: Mapping[str, object], level: str) -> str:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field) is True:
            return f"{field} is true"
    if any("hostPath" in mapping(volume) for volume in entries(spec.get("volumes"))):
        return "a hostPath volume"
    pod = mapping(spec.get("securityContext"))
    for container in containers(spec):
        own = mapping(container.get("securityContext"))
        if own.get("privileged") is True:
            return f"container {container.get('name')} is privileged"
        if any(mapping(port).get("hostPort") for port in entries(container.get("ports"))):
            return f"container {container.get('name')} asks for a hostPort"
        if level == "restricted":
            if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
                return f"container {container.get('name')} does not set runAsNonRoot"
            if own.get("allowPrivilegeEscalation") is not False:
                return f"container {container.get('name')} allows privilege escalation"
            if "ALL" not in entries(inside(own, ("capabilities",)).get("drop")):
                return f"container {container.get('name')} keeps capabilities"
    return ""


def priority_class(subject: Subject) -> Iterator[Found]:
    """Pods name a PriorityClass that neither Git nor the target has: none of them is admitted."""
    for edge in subject.graph.edges:
        key = edge.need.key
        known = is_given(key) or ("PriorityClass", key.name) in subject.target.classes
        if key.kind == "PriorityClass" and not edge.by and not known:
            yield Found((str(edge.needer), str(key)), f"{edge.needer} names {key}, which Git lacks")


def clock_skew(subject: Subject) -> Iterator[Found]:
    """The target's clock is more than a minute off."""
    skew = subject.target.skew
    if skew is not None and abs(skew) > SKEW_LIMIT:
        yield Found(("the target's API server",), f"its clock is {skew:+.0f} s off ours")
