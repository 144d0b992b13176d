"""Rules about what a rebuild needs and only the lost cluster served: Git, charts, registries, single sign-on. Pure.

Sources: recovery realities (registry inside the lost cluster; SSO, VPN, Git, chart or package host that ran in it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from recovery.plain import entries, inside, mapping, text_of
from recovery.proof.finding import Found
from recovery.proof.subject import Subject, containers
from secretsops.manifest import load_values


def hosts_inside(subject: Subject) -> Mapping[str, str]:
    """Give the host names that the estate itself serves, each with the object that does."""
    found: dict[str, str] = {}
    for node in subject.of("networking.k8s.io", "Ingress"):
        for rule in entries(node.manifest.spec.get("rules")):
            found.setdefault(text_of(mapping(rule).get("host")).lower(), str(node.key))
    for node in subject.of("gateway.networking.k8s.io", "HTTPRoute", "TLSRoute", "GRPCRoute"):
        for host in entries(node.manifest.spec.get("hostnames")):
            found.setdefault(text_of(host).lower(), str(node.key))
    for node in subject.of("", "Service"):
        name = f"{node.key.name}.{node.key.namespace}.svc"
        for host in (name, f"{name}.cluster.local", f"{node.key.name}.{node.key.namespace}"):
            found.setdefault(host, str(node.key))
        for annotated in text_of(node.manifest.annotations.get("external-dns.alpha.kubernetes.io/hostname")).split(","):
            found.setdefault(annotated.strip().lower(), str(node.key))
    found.pop("", None)
    return found


def host_of(url: str) -> str:
    """Give the host of a URL, of `git@host:path` and of `host:port/path`; "" where there is none."""
    place = url.rpartition("://")[2].partition("/")[0].rpartition("@")[2]
    return place.partition(":")[0].lower()


def host_inside(subject: Subject) -> Iterator[Found]:
    """Manifests, charts or secrets come from a host that ran in the lost cluster."""
    hosts = hosts_inside(subject)
    for planned in subject.estate.applications:
        for source in planned.app.sources:
            server = hosts.get(host_of(source.url))
            if server:
                yield Found(
                    (planned.app.key, server), f"{planned.app.key} is read from {source.url}, which {server} serves"
                )
    for node in subject.of("external-secrets.io", "SecretStore", "ClusterSecretStore"):
        for url in _urls(node.manifest.spec.get("provider")):
            server = hosts.get(host_of(url))
            if server and not text_of(node.manifest.annotations.get("secretsops.dev/restored-by")):
                yield Found((str(node.key), server), f"{node.key} reads {url}, which {server} serves")


def _urls(value: object, depth: int = 0) -> Iterator[str]:
    if depth > 12:
        return
    if isinstance(value, dict):
        for inner in value.values():
            yield from _urls(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _urls(inner, depth + 1)
    elif isinstance(value, str) and value.startswith(("http://", "https://")):
        yield value


def registry_inside(subject: Subject) -> Iterator[Found]:
    """Images come from a registry that ran in the lost cluster: nothing starts before it, nor does it."""
    hosts = hosts_inside(subject)
    seen: dict[str, list[str]] = {}
    for node, spec in subject.workloads:
        for container in containers(spec):
            image = text_of(container.get("image"))
            registry = image.partition("/")[0] if "/" in image else ""
            if hosts.get(host_of(registry)):
                seen.setdefault(registry, []).append(str(node.key))
    for registry, users in sorted(seen.items()):
        server = hosts[host_of(registry)]
        yield Found((server, *users[:5]), f"{len(users)} workload(s) pull from {registry}, which {server} serves")


def sign_on_inside(subject: Subject) -> Iterator[Found]:
    """People sign in through an identity provider that ran in the lost cluster."""
    hosts = hosts_inside(subject)
    for text in (subject.setting("oidc.config"), subject.setting("dex.config")):
        for url in _issuers(text):
            server = hosts.get(host_of(url))
            if server:
                yield Found(("ConfigMap argocd-cm", server), f"sign-on asks {url}, which {server} serves")


def _issuers(text: str) -> Iterator[str]:
    from secretsops.errors import InvalidManifest

    try:
        documents = [mapping(value) for value in load_values(text.encode())]
    except InvalidManifest:
        return
    for document in documents:
        yield text_of(document.get("issuer"))
        for connector in entries(document.get("connectors")):
            yield text_of(inside(mapping(connector), ("config",)).get("issuer"))
