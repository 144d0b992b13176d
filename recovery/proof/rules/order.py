"""Rules about order: cycles, what deadlocks on an empty cluster, what Git lacks. Pure.

Sources: Argo CD reference §13.3 to §13.5 and §13.11 (waits without an end, health that blocks waves on a fresh cluster,
definitions by another application), `gitops-engine/pkg/sync` v3.6.
"""

from __future__ import annotations

from collections.abc import Iterator

from recovery.marks import PREFIX, Phase, ignores_health, wave_of
from recovery.needs import WORKLOADS, declared_texts, read_reference
from recovery.plain import text_of
from recovery.proof.finding import Found
from recovery.proof.graph import BEFORE_ALL, Edge, Node, is_given
from recovery.proof.subject import Subject, name_of
from secretsops.manifest import ObjectKey

_CLASSES = ("StorageClass", "IngressClass", "RuntimeClass", "GatewayClass")
_WITH_HEALTH = {
    *WORKLOADS,
    ("", "PersistentVolumeClaim"),
    ("apiregistration.k8s.io", "APIService"),
    ("argoproj.io", "Application"),
    ("bitnami.com", "SealedSecret"),
    ("cert-manager.io", "Certificate"),
    ("cert-manager.io", "ClusterIssuer"),
    ("cert-manager.io", "Issuer"),
    ("external-secrets.io", "ClusterSecretStore"),
    ("external-secrets.io", "ExternalSecret"),
    ("external-secrets.io", "SecretStore"),
} - {("batch", "CronJob")}
"""Kinds that are waited for until they are healthy, and are not without what they need."""


def cannot_be_carried_out(subject: Subject) -> Iterator[Found]:
    """What stands in Git cannot be carried out."""
    for problem in subject.estate.setup_problems:
        yield Found((problem.where,), f"{problem.where}: {problem.message} ({problem.reason})")
    for planned in subject.estate.applications:
        for problem in planned.problems:
            if problem.reason not in ("InvalidYaml", "NotAnObject", "NotUtf8", "UnknownHook"):
                yield Found((planned.app.key,), f"{problem.where}: {problem.message} ({problem.reason})")


def cycle(subject: Subject) -> Iterator[Found]:
    """Objects need each other in a circle."""
    for keys in subject.graph.cycles():
        names = tuple(map(str, keys))
        inner = [e for key in keys for e in subject.graph.needed.get(key, ()) if set(e.by) & set(keys)]
        whys = "; ".join(f"{edge.needer} needs {edge.need.key}: {edge.need.why}" for edge in inner[:6])
        yield Found(names, f"none of {len(keys)} objects can come first: {whys}")


def deadlock(subject: Subject) -> Iterator[Found]:
    """This order deadlocks on an empty cluster: a wave waits for an object that needs one of a later wave."""
    for edge, needer, late in _too_late(subject):
        if not needer.task or not needer.task.hook:
            yield _late(edge, needer, late)


def hook_deadlock(subject: Subject) -> Iterator[Found]:
    """A hook needs what is applied only after it; it worked on the old cluster, where that was there already."""
    for edge, needer, late in _too_late(subject):
        if needer.task and needer.task.hook:
            yield _late(edge, needer, late)


def _too_late(subject: Subject) -> Iterator[tuple[Edge, Node, Node]]:
    for edge in subject.graph.edges:
        needer = subject.graph.nodes[edge.needer]
        waits = edge.need.hard or (needer.key.group, needer.key.kind) in _WITH_HEALTH or "depends-on" in edge.need.why
        if edge.need.optional or not waits or needer.step == BEFORE_ALL or ignores_health(needer.manifest):
            continue
        if "webhook " in edge.need.why:
            continue  # network.webhook_before_backend says it better
        makers = subject.makers(edge.by)
        if makers and all(subject.is_before(needer, maker) for maker in makers):
            yield edge, needer, makers[0]


def _late(edge: Edge, needer: Node, late: Node) -> Found:
    what = str(edge.need.key) if late.key == edge.need.key else f"{edge.need.key} (from {late.key})"
    return Found(
        (str(needer.key), str(late.key)),
        f"{needer.key} ({_place(needer)}) needs {what} ({_place(late)}), which comes only once it is healthy: "
        f"{edge.need.why}",
    )


def _place(node: Node) -> str:
    return f"{node.app} {node.task.phase.value} wave {node.task.wave}" if node.task else "before all"


def missing(subject: Subject) -> Iterator[Found]:
    """An object needs what neither Git nor the rebuild brings."""
    for edge in subject.graph.edges:
        key = edge.need.key
        if edge.by or edge.need.optional or key.kind in (*_CLASSES, "Secret", "PriorityClass"):
            continue
        if "depends-on" not in edge.need.why:
            yield Found((str(edge.needer), str(key)), f"{edge.needer} needs {key}, which Git lacks: {edge.need.why}")


def missing_secret(subject: Subject) -> Iterator[Found]:
    """An object needs a Secret that nothing in Git makes: somebody made it by hand."""
    for edge in subject.graph.edges:
        if edge.need.key.kind == "Secret" and not edge.by and not edge.need.optional:
            message = f"{edge.needer} needs {edge.need.key}, which nothing in Git makes: {edge.need.why}"
            yield Found((str(edge.needer), str(edge.need.key)), message)


def missing_class(subject: Subject) -> Iterator[Found]:
    """An object names a class that Git lacks; a cloud brings its own, another one may not."""
    for edge in subject.graph.edges:
        key = edge.need.key
        known = (key.kind, key.name) in subject.target.classes
        if not edge.by and key.kind in _CLASSES and not known and not edge.need.optional:
            yield Found((str(edge.needer), str(key)), f"{edge.needer} needs {key}, which Git lacks: {edge.need.why}")


def foreign_definition(subject: Subject) -> Iterator[Found]:
    """A custom object's CRD comes from another application that nothing puts first: the whole sync fails."""
    for edge in subject.graph.edges:
        if edge.need.key.kind != "CustomResourceDefinition" or not edge.need.hard:
            continue
        needer, makers = subject.graph.nodes[edge.needer], subject.makers(edge.by)
        apart = [m for m in makers if m.app != needer.app and m.step != BEFORE_ALL]
        if needer.step == BEFORE_ALL or len(apart) < len(makers) or not makers:
            continue
        if not any(subject.is_before(maker, needer) or subject.is_before(needer, maker) for maker in makers):
            yield Found(
                (str(needer.key), str(makers[0].key)),
                f"{needer.key} of {needer.app} is of a kind that {makers[0].app} defines, and both start side by side",
            )


def same_wave_definition(subject: Subject) -> Iterator[Found]:
    """A CRD and its objects stand in one wave: that it is established is waited for a moment, then only logged."""
    for edge in subject.graph.edges:
        if edge.need.key.kind == "CustomResourceDefinition" and edge.need.hard:
            needer = subject.graph.nodes[edge.needer]
            for maker in subject.makers(edge.by):
                if maker.step == needer.step != BEFORE_ALL and maker.key.kind == "CustomResourceDefinition":
                    yield Found((str(needer.key), str(maker.key)), f"{maker.key} is in the same wave as {needer.key}")


def secret_after_consumer(subject: Subject) -> Iterator[Found]:
    """A workload starts in the wave of what makes its Secret: its pods fail until the Secret is there."""
    for edge in subject.graph.edges:
        needer = subject.graph.nodes[edge.needer]
        if edge.need.key.kind != "Secret" or edge.need.optional or (needer.key.group, needer.key.kind) not in WORKLOADS:
            continue
        makers = subject.makers(edge.by)
        if makers and all(m.step == needer.step and m.position > needer.position for m in makers):
            yield Found((str(needer.key), str(makers[0].key)), f"{needer.key} is applied before {makers[0].key}")


def claim_gates_its_pod(subject: Subject) -> Iterator[Found]:
    """A claim that binds with its first pod is waited for before that pod is written: both wait for ever."""
    lazy = {
        node.key.name
        for node in subject.of("storage.k8s.io", "StorageClass")
        if node.manifest.body.get("volumeBindingMode") == "WaitForFirstConsumer"
    }
    for claim in subject.of("", "PersistentVolumeClaim"):
        if claim.step == BEFORE_ALL or text_of(claim.manifest.spec.get("storageClassName")) not in lazy:
            continue
        users = [subject.graph.nodes[edge.needer] for edge in subject.graph.asked.get(claim.key, ())]
        if not any(not subject.is_before(claim, user) for user in users) and subject.gates(claim):
            yield Found(
                (str(claim.key), *(str(user.key) for user in users)),
                f"{claim.key} ({_place(claim)}) binds only with a pod, and none of its wave uses it",
            )


def address_gates_wave(subject: Subject) -> Iterator[Found]:
    """A later wave waits for an address that a load balancer has to give first."""
    services = [n for n in subject.of("", "Service") if n.manifest.spec.get("type") == "LoadBalancer"]
    for node in (*services, *subject.of("networking.k8s.io", "Ingress")):
        if node.step != BEFORE_ALL and subject.gates(node) and not ignores_health(node.manifest):
            yield Found((str(node.key),), f"{node.key} ({_place(node)}) is Progressing until it has an address")


def namespace_pulled(subject: Subject) -> Iterator[Found]:
    """A Namespace is applied in another wave than it says, since an object in it comes earlier."""
    for node in subject.of("", "Namespace"):
        task = node.task
        if task and f"{PREFIX}sync-wave" in node.manifest.annotations and wave_of(node.manifest) != task.wave:
            message = f"{node.key} says wave {wave_of(node.manifest)} and is applied in wave {task.wave}"
            yield Found((str(node.key),), message)


def dead_declaration(subject: Subject) -> Iterator[Found]:
    """The annotation `secretsops.dev/depends-on` names nothing that Git has."""
    for node in subject.nodes:
        for text in declared_texts(node.manifest):
            key = read_reference(text, node.key.namespace)
            if key is None:
                yield Found((name_of(node.manifest),), f"{text[:120]!r} is no reference")
            elif not _is_there(subject, key):
                yield Found((name_of(node.manifest), str(key)), f"{node.key} depends on {key}, which Git lacks")


def _is_there(subject: Subject, key: ObjectKey) -> bool:
    return key in subject.graph.nodes or key in subject.graph.made or is_given(key)


def ungated_last_wave(subject: Subject) -> Iterator[Found]:
    """Another application relies on an object of a last wave, which Argo CD itself never waits for."""
    seen: set[ObjectKey] = set()
    last = {step.app: step.number for step in subject.graph.schedule.steps if step.phase is Phase.SYNC}
    for edge in subject.graph.edges:
        needer = subject.graph.nodes[edge.needer]
        for maker in subject.makers(edge.by[:1]):
            waits = (maker.key.group, maker.key.kind) in WORKLOADS and maker.app != needer.app
            if waits and maker.step == last.get(maker.app) and maker.key not in seen:
                seen.add(maker.key)
                message = (
                    f"{maker.key} is in the last wave of {maker.app}, and {needer.key} of {needer.app} relies on it"
                )
                yield Found((str(maker.key), str(needer.key)), message)
