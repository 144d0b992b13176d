"""Rules about who answers whom: admission and conversion webhooks, pinned authorities, addresses, DNS, ACME. Pure.

Sources: recovery realities (webhooks, conversion, CA chains and pins, ACME limits, load balancers and DNS,
external-dns); k8s.io/apiserver v1.36 admission; Let's Encrypt rate limits (50 certificates per domain a week).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from recovery.needs import defined_by, definition
from recovery.plain import entries, inside, mapping, text_of
from recovery.proof.finding import Found
from recovery.proof.graph import BEFORE_ALL, Node
from recovery.proof.subject import Subject, containers
from secretsops.manifest import ObjectKey

ACME_LIMIT = 50
"""Certificates that Let's Encrypt issues for one registered domain in a week."""
_SHOWN = 5


def webhook_before_backend(subject: Subject) -> Iterator[Found]:
    """Objects are refused by a webhook whose backend is up only later, or nowhere in Git."""
    asked: dict[tuple[ObjectKey, str], list[Node]] = {}
    for edge in subject.graph.edges:
        if "webhook " in edge.need.why and "asked before" in edge.need.why and not edge.need.optional:
            hook = edge.need.why.split()[1]
            asked.setdefault((edge.need.key, hook), []).append(subject.graph.nodes[edge.needer])
    for (service, hook), needers in asked.items():
        backends = subject.behind(service)
        stuck = [n for n in needers if n.step != BEFORE_ALL and _never_answered(subject, n, service, backends)]
        if stuck:
            first = min(stuck, key=lambda node: node.position)
            where = f"whose pods come with {backends[0].key}" if backends else "which nothing in Git answers for"
            message = f"webhook {hook} asks {service}, {where}; {len(stuck)} object(s) are refused, first {first.key}"
            yield Found((hook, str(service), *(str(node.key) for node in stuck[:_SHOWN])), message)


def _never_answered(subject: Subject, needer: Node, service: ObjectKey, backends: list[Node]) -> bool:
    """Say whether no backend can be up when the object is written; its own backends wait for nobody else."""
    if not backends:
        own = subject.graph.nodes.get(service)
        return own is None or bool(mapping(own.manifest.spec.get("selector")))
    if needer.key in {backend.key for backend in backends}:
        return False  # webhook_guards_itself
    return all(subject.is_before(needer, backend) for backend in backends)


def webhook_guards_itself(subject: Subject) -> Iterator[Found]:
    """A webhook that fails closed is asked about its own backend's pods: once they are gone, none comes back."""
    for edge in subject.graph.edges:
        if "webhook " not in edge.need.why or "its pods" not in edge.need.why:
            continue
        needer = subject.graph.nodes[edge.needer]
        if needer.key in {backend.key for backend in subject.behind(edge.need.key)}:
            hook = edge.need.why.split()[1]
            message = f"webhook {hook} is asked about pods of {needer.key}, which answer for it"
            yield Found((hook, str(edge.need.key), str(needer.key)), message)


def webhook_without_ca(subject: Subject) -> Iterator[Found]:
    """A webhook's caBundle is neither in Git nor injected: who fills it in has to be there first."""
    for hook in subject.graph.webhooks:
        if hook.service and hook.fails_closed and not hook.has_ca:
            message = f"webhook {hook.name} of {hook.configuration} fails closed and has no caBundle"
            yield Found((str(hook.configuration),), message)


def _definitions(subject: Subject) -> list[Node]:
    return subject.of("apiextensions.k8s.io", "CustomResourceDefinition")


def conversion_backend(subject: Subject) -> Iterator[Found]:
    """Objects of a kind are read through a conversion webhook whose workload comes only later, or is not in Git."""
    for node in _definitions(subject):
        service = inside(node.manifest.spec, ("conversion", "webhook", "clientConfig", "service"))
        if not text_of(service.get("name")):
            continue
        key = ObjectKey("", "Service", text_of(service.get("namespace")), text_of(service.get("name")))
        kind = defined_by(node.manifest)
        assert kind is not None
        users = [subject.graph.nodes[e.needer] for e in subject.graph.asked.get(kind, ()) if e.need.hard]
        backends = subject.behind(key)
        early = [user for user in users if not backends or all(subject.is_before(user, b) for b in backends)]
        if early and not (key in subject.graph.nodes and not backends and _has_no_selector(subject, key)):
            names = (str(node.key), str(key), *(str(user.key) for user in early[:_SHOWN]))
            yield Found(names, f"{node.key} converts by {key}, which does not answer when {early[0].key} is applied")


def _has_no_selector(subject: Subject, key: ObjectKey) -> bool:
    return not mapping(subject.graph.nodes[key].manifest.spec.get("selector"))


def stored_version_gone(subject: Subject) -> Iterator[Found]:
    """Objects in Git, or in the old cluster's storage, have a version that the CRD in Git no longer serves."""
    for node in _definitions(subject):
        versions = [mapping(version) for version in entries(node.manifest.spec.get("versions"))]
        served = {text_of(version.get("name")) for version in versions if version.get("served") is True}
        listed = {text_of(version.get("name")) for version in versions}
        for stored in entries(node.manifest.status.get("storedVersions")):
            if stored not in listed:
                yield Found((str(node.key),), f"{node.key} holds stored objects of {stored}, which it does not list")
        kind = definition(
            text_of(node.manifest.spec.get("group")), text_of(inside(node.manifest.spec, ("names",)).get("kind"))
        )
        for edge in subject.graph.asked.get(kind, ()):
            user = subject.graph.nodes[edge.needer].manifest
            if edge.need.hard and versions and user.kind.version not in served:
                message = f"{user.key} is of {user.kind.api_version}, which {node.key} does not serve"
                yield Found((str(user.key), str(node.key)), message)


# --- authorities -------------------------------------------------------------------------------------------


def pinned_authority(subject: Subject) -> Iterator[Found]:
    """A CA is pinned in Git, and the rebuild mints a new one: nobody trusts it."""
    minted = [node for node in subject.of("cert-manager.io", "Certificate") if _is_minted_authority(subject, node)]
    if not minted:
        return
    for node, bundle in _pins(subject):
        message = f"{node.key} pins a CA ({bundle}), and {minted[0].key} is issued anew"
        yield Found((str(node.key), *(str(one.key) for one in minted)), message)


def _is_minted_authority(subject: Subject, node: Node) -> bool:
    """Say whether a certificate is a CA that is made anew: its Secret has no other source in Git."""
    if node.manifest.spec.get("isCA") is not True:
        return False
    name = text_of(node.manifest.spec.get("secretName"))
    key = ObjectKey("", "Secret", node.key.namespace, name)
    return key not in subject.graph.nodes and len(subject.graph.made.get(key, ())) == 1


def _pins(subject: Subject) -> Iterator[tuple[Node, str]]:
    for node in subject.nodes:
        if any("inject-ca" in name or "inject-apiserver-ca" in name for name in node.manifest.annotations):
            continue
        for path in _ca_fields(node.manifest.body):
            yield node, path
            break


def _ca_fields(value: Any, path: str = "", depth: int = 0) -> Iterator[str]:
    if depth > 12:
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "caBundle" and isinstance(inner, str) and inner:
                yield f"{path}.{name}".strip(".")
            else:
                yield from _ca_fields(inner, f"{path}.{name}", depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _ca_fields(inner, path, depth + 1)


def acme_limit(subject: Subject) -> Iterator[Found]:
    """A rebuild asks Let's Encrypt for more certificates of one domain than it gives in a week."""
    public = set()
    for node in subject.of("cert-manager.io", "Issuer", "ClusterIssuer"):
        server = text_of(inside(node.manifest.spec, ("acme",)).get("server"))
        if "acme-v02.api.letsencrypt.org" in server:
            public.add(node.key.name)
    domains: Counter[str] = Counter()
    for node in subject.of("cert-manager.io", "Certificate"):
        kept = ObjectKey("", "Secret", node.key.namespace, text_of(node.manifest.spec.get("secretName")))
        if text_of(inside(node.manifest.spec, ("issuerRef",)).get("name")) in public and not _is_kept(subject, kept):
            domains.update({_registered(text_of(n)) for n in entries(node.manifest.spec.get("dnsNames"))})
    for node in subject.of("networking.k8s.io", "Ingress"):
        issuer = {node.manifest.annotations.get(f"cert-manager.io/{kind}") for kind in ("issuer", "cluster-issuer")}
        if issuer & public:
            hosts = [
                text_of(h) for tls in entries(node.manifest.spec.get("tls")) for h in entries(mapping(tls).get("hosts"))
            ]
            domains.update({_registered(host) for host in hosts})
    for domain, count in sorted(domains.items()):
        if count > ACME_LIMIT:
            yield Found((domain,), f"{count} certificates of {domain} are issued anew, {ACME_LIMIT} a week are given")


def _is_kept(subject: Subject, key: ObjectKey) -> bool:
    return key in subject.graph.nodes or len(subject.graph.made.get(key, ())) > 1


def _registered(name: str) -> str:
    """Give the last two labels: right for most domains, too strict for `co.uk` and its like (more is counted)."""
    return ".".join(name.lower().rstrip(".").split(".")[-2:])


# --- addresses ---------------------------------------------------------------------------------------------


def pinned_address(subject: Subject) -> Iterator[Found]:
    """An address or port is pinned that the new cluster may not have, or not have free."""
    for node in subject.of("", "Service"):
        spec = node.manifest.spec
        pins = [f"{field} {spec[field]}" for field in ("clusterIP", "loadBalancerIP") if _is_pin(spec.get(field))]
        pins += [
            f"nodePort {port['nodePort']}" for port in map(mapping, entries(spec.get("ports"))) if port.get("nodePort")
        ]
        pins += [f"externalIP {ip}" for ip in entries(spec.get("externalIPs"))]
        if pins and node.step != BEFORE_ALL:
            yield Found((str(node.key),), f"{node.key} pins {', '.join(pins[:_SHOWN])}")


def _is_pin(value: object) -> bool:
    return isinstance(value, str) and value not in ("", "None")


def dns_owner_clash(subject: Subject) -> Iterator[Found]:
    """Two external-dns write under one owner id, or the default one: each takes the other's records for its own."""
    owners: dict[str, list[Node]] = {}
    for node, spec in subject.workloads:
        for container in containers(spec):
            if "external-dns" in text_of(container.get("image")).rpartition("/")[2]:
                owners.setdefault(_owner(container), []).append(node)
    for owner, nodes in sorted(owners.items()):
        if owner in ("", "default") or len(nodes) > 1:
            said = f"owner id {owner!r}" if owner else "no --txt-owner-id"
            yield Found(tuple(str(node.key) for node in nodes), f"{nodes[0].key} writes DNS with {said}")


def _owner(container: Mapping[str, Any]) -> str:
    words = [text_of(word) for word in (*entries(container.get("command")), *entries(container.get("args")))]
    for number, word in enumerate(words):
        if word.startswith("--txt-owner-id="):
            return word.partition("=")[2]
        if word == "--txt-owner-id" and number + 1 < len(words):
            return words[number + 1]
    return ""
