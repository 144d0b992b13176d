"""What an object needs before it can be healthy, and what it makes: read from the object alone. Pure.

    needs(deployment)   → Need(key=/Secret/shop/token, why="container web reads env TOKEN from it"), …
    makes(sealed)       → [/Secret/shop/token]

The sources of each rule are the API types of Kubernetes v1.36 and of the named project. Never here: whether Git has
what is needed, or in which order (`lint.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from secretsops.manifest import Manifest, ObjectKey

DEPENDS_ON = "secretsops.dev/depends-on"
"""Annotation: `[group/]Kind/[namespace/]name`, several separated by commas."""
WORKLOADS = {
    ("apps", "Deployment"): ("spec", "template"),
    ("apps", "StatefulSet"): ("spec", "template"),
    ("apps", "DaemonSet"): ("spec", "template"),
    ("apps", "ReplicaSet"): ("spec", "template"),
    ("batch", "Job"): ("spec", "template"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
    ("argoproj.io", "Rollout"): ("spec", "template"),
    ("", "Pod"): (),
}
"""Kinds with a pod inside, and the way to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """`key` has to exist (and work) for the object to become healthy; `why` says who asks for it."""

    key: ObjectKey
    why: str
    optional: bool = False


def needs(manifest: Manifest) -> list[Need]:
    """Give what the object needs, each once, in the order in which it is found."""
    found = [*_namespace(manifest), *_definition(manifest), *_declared(manifest)]
    kind = (manifest.kind.group, manifest.kind.kind)
    if kind in WORKLOADS:
        found += _of_pod(_inside(manifest.body, WORKLOADS[kind]), manifest.namespace)
        found += _of_claims(manifest)
    elif kind in _BY_KIND:
        found += _BY_KIND[kind](manifest)
    return list({(need.key, need.optional): need for need in reversed(found)}.values())[::-1]


def makes(manifest: Manifest) -> list[ObjectKey]:
    """Give the objects that a controller makes of this one; itself is not among them."""
    kind, name, spec = (manifest.kind.group, manifest.kind.kind), manifest.name, manifest.spec
    if kind == ("bitnami.com", "SealedSecret"):
        return [secret(manifest.namespace, name)]
    if kind == ("external-secrets.io", "ExternalSecret"):
        return [secret(manifest.namespace, _text(_map(spec.get("target")).get("name")) or name)]
    if kind == ("cert-manager.io", "Certificate") and _text(spec.get("secretName")):
        return [secret(manifest.namespace, str(spec["secretName"]))]
    if kind == ("apps", "StatefulSet"):
        claims = [_map(_map(claim).get("metadata")).get("name") for claim in _list(spec.get("volumeClaimTemplates"))]
        return [ObjectKey("", "PersistentVolumeClaim", manifest.namespace, f"{claim}-{name}-0") for claim in claims]
    return []


def secret(namespace: str, name: str) -> ObjectKey:
    """Name a Secret."""
    return ObjectKey("", "Secret", namespace, name)


def definition(group: str, kind: str) -> ObjectKey:
    """Name the definition of a custom kind; its plural is not known from an object, so the kind stands for it."""
    return ObjectKey("apiextensions.k8s.io", "CustomResourceDefinition", "", f"{kind}.{group}")


def defined_by(manifest: Manifest) -> ObjectKey | None:
    """Give the key under which objects ask for what this CustomResourceDefinition defines."""
    if manifest.kind.kind != "CustomResourceDefinition":
        return None
    return definition(_text(manifest.spec.get("group")), _text(_map(manifest.spec.get("names")).get("kind")))


# --- every object --------------------------------------------------------------------------------------


def _namespace(manifest: Manifest) -> Iterator[Need]:
    if manifest.namespace:
        yield Need(key=ObjectKey("", "Namespace", "", manifest.namespace), why="it lives there")


def _definition(manifest: Manifest) -> Iterator[Need]:
    """Groups with a dot that are not Kubernetes' own come from a CustomResourceDefinition."""
    group = manifest.kind.group
    if "." in group and not group.endswith(".k8s.io"):
        yield Need(key=definition(group, manifest.kind.kind), why=f"it defines {manifest.kind.kind}")


def _declared(manifest: Manifest) -> Iterator[Need]:
    for text in _text(manifest.annotations.get(DEPENDS_ON)).split(","):
        parts = [part for part in text.strip().split("/") if part]
        if len(parts) < 2:
            continue
        group = parts.pop(0) if "." in parts[0] or (len(parts) > 3) else ""
        group = "apps" if not group and parts[0] in ("Deployment", "StatefulSet", "DaemonSet") else group
        kind, *place = parts
        namespace, name = place if len(place) == 2 else (manifest.namespace, place[0])
        yield Need(key=ObjectKey(group, kind, namespace, name), why=f"annotation {DEPENDS_ON}")


# --- pods ----------------------------------------------------------------------------------------------


def _of_pod(template: Mapping[str, Any], namespace: str) -> Iterator[Need]:
    spec = _map(template.get("spec"))
    account = _text(spec.get("serviceAccountName") or spec.get("serviceAccount"))
    if account and account != "default":
        yield Need(key=ObjectKey("", "ServiceAccount", namespace, account), why="its pods run as it")
    for reference in _list(spec.get("imagePullSecrets")):
        name = _text(_map(reference).get("name"))
        if name:
            yield Need(key=secret(namespace, name), why="its images are pulled with it")
    for field, group, kind in (
        ("priorityClassName", "scheduling.k8s.io", "PriorityClass"),
        ("runtimeClassName", "node.k8s.io", "RuntimeClass"),
    ):
        name = _text(spec.get(field))
        if name:
            yield Need(key=ObjectKey(group, kind, "", name), why=f"its pods name it as {field}")
    for container in (*_list(spec.get("initContainers")), *_list(spec.get("containers"))):
        yield from _of_container(_map(container), namespace)
    for volume in _list(spec.get("volumes")):
        yield from _of_volume(_map(volume), namespace)


def _of_container(container: Mapping[str, Any], namespace: str) -> Iterator[Need]:
    name = _text(container.get("name"))
    for entry in _list(container.get("env")):
        source = _map(_map(entry).get("valueFrom"))
        for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
            yield from _reference(
                source.get(field), kind, namespace, f"container {name} reads env {_map(entry).get('name')} from it"
            )
    for entry in _list(container.get("envFrom")):
        for field, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
            yield from _reference(_map(entry).get(field), kind, namespace, f"container {name} reads its env from it")


def _of_volume(volume: Mapping[str, Any], namespace: str) -> Iterator[Need]:
    why = f"volume {_text(volume.get('name'))} mounts it"
    mounted = _map(volume.get("secret"))
    yield from _reference({**mounted, "name": mounted.get("secretName")}, "Secret", namespace, why)
    yield from _reference(volume.get("configMap"), "ConfigMap", namespace, why)
    for source in _list(_map(volume.get("projected")).get("sources")):
        yield from _reference(_map(source).get("secret"), "Secret", namespace, why)
        yield from _reference(_map(source).get("configMap"), "ConfigMap", namespace, why)
    claim = _text(_map(volume.get("persistentVolumeClaim")).get("claimName"))
    if claim:
        yield Need(key=ObjectKey("", "PersistentVolumeClaim", namespace, claim), why=why)
    driver = _map(volume.get("csi"))
    yield from _reference(driver.get("nodePublishSecretRef"), "Secret", namespace, why)


def _reference(value: Any, kind: str, namespace: str, why: str) -> Iterator[Need]:
    reference = _map(value)
    name = _text(reference.get("name"))
    if name and not (kind == "ConfigMap" and name == "kube-root-ca.crt"):
        yield Need(key=ObjectKey("", kind, namespace, name), why=why, optional=reference.get("optional") is True)


def _of_claims(manifest: Manifest) -> Iterator[Need]:
    for claim in _list(manifest.spec.get("volumeClaimTemplates")):
        yield from _storage_class(_map(_map(claim).get("spec")))


def _storage_class(spec: Mapping[str, Any]) -> Iterator[Need]:
    name = _text(spec.get("storageClassName"))
    if name:
        yield Need(key=ObjectKey("storage.k8s.io", "StorageClass", "", name), why="its volumes are of this class")


# --- other kinds ---------------------------------------------------------------------------------------


def _of_claim(manifest: Manifest) -> Iterable[Need]:
    return _storage_class(manifest.spec)


def _of_external_secret(manifest: Manifest) -> Iterator[Need]:
    spec = manifest.spec
    stores = [_map(spec.get("secretStoreRef"))]
    entries = (*_list(spec.get("data")), *_list(spec.get("dataFrom")))
    stores.extend(_map(_map(_map(entry).get("sourceRef")).get("storeRef")) for entry in entries)
    for store in stores:
        name = _text(store.get("name"))
        if name:
            kind = _text(store.get("kind")) or "SecretStore"
            namespace = manifest.namespace if kind == "SecretStore" else ""
            yield Need(key=ObjectKey("external-secrets.io", kind, namespace, name), why="its values come from there")
    for entry in _list(_map(_map(spec.get("target")).get("template")).get("templateFrom")):
        for field, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
            yield from _reference(_map(entry).get(field), kind, manifest.namespace, "its template reads it")


def _of_store(manifest: Manifest) -> Iterator[Need]:
    """The store's own credentials: every `…SecretRef`, `secretRef` and `serviceAccountRef` of its provider."""
    for field, reference in _references(manifest.spec.get("provider")):
        name = _text(reference.get("name"))
        namespace = manifest.namespace or _text(reference.get("namespace"))
        if name and namespace:
            kind = "ServiceAccount" if field == "serviceAccountRef" else "Secret"
            yield Need(key=ObjectKey("", kind, namespace, name), why=f"the store signs in with it ({field})")


def _references(value: Any, depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if depth > 12 or not isinstance(value, dict | list):
        return
    if isinstance(value, list):
        for one in value:
            yield from _references(one, depth + 1)
        return
    for field, inner in value.items():
        is_reference = field.endswith(("SecretRef", "secretRef")) or field == "serviceAccountRef"
        if is_reference and isinstance(inner, dict) and isinstance(inner.get("name"), str):
            yield field, inner
        else:
            yield from _references(inner, depth + 1)


def _of_certificate(manifest: Manifest) -> Iterator[Need]:
    issuer = _map(manifest.spec.get("issuerRef"))
    name, kind = _text(issuer.get("name")), _text(issuer.get("kind")) or "Issuer"
    if name:
        namespace = "" if kind == "ClusterIssuer" else manifest.namespace
        group = _text(issuer.get("group")) or "cert-manager.io"
        yield Need(key=ObjectKey(group, kind, namespace, name), why="it signs the certificate")


def _of_ingress(manifest: Manifest) -> Iterator[Need]:
    name = _text(manifest.spec.get("ingressClassName"))
    if name:
        yield Need(key=ObjectKey("networking.k8s.io", "IngressClass", "", name), why="it names its controller")
    for entry in _list(manifest.spec.get("tls")):
        secret_name = _text(_map(entry).get("secretName"))
        if secret_name:
            # An ingress without its certificate serves its controller's own: reachable, so no one waits for it.
            yield Need(key=secret(manifest.namespace, secret_name), why="it serves TLS with it", optional=True)


def _of_binding(manifest: Manifest) -> Iterator[Need]:
    role = _map(manifest.body.get("roleRef"))
    name, kind = _text(role.get("name")), _text(role.get("kind"))
    if name and kind and not (kind == "ClusterRole" and _is_built_in_role(name)):
        namespace = manifest.namespace if kind == "Role" else ""
        key = ObjectKey("rbac.authorization.k8s.io", kind, namespace, name)
        yield Need(key=key, why="it grants this role", optional=True)


def _is_built_in_role(name: str) -> bool:
    return name.startswith("system:") or name in ("cluster-admin", "admin", "edit", "view")


def _of_api_service(manifest: Manifest) -> Iterator[Need]:
    yield from _service(manifest.spec.get("service"), "it serves this API")


def _of_webhooks(manifest: Manifest) -> Iterator[Need]:
    for hook in _list(manifest.body.get("webhooks")):
        service = _map(_map(hook).get("clientConfig")).get("service")
        fails_open = _map(hook).get("failurePolicy") == "Ignore"
        for need in _service(service, f"webhook {_text(_map(hook).get('name'))} asks it"):
            yield Need(key=need.key, why=need.why, optional=fails_open)


def _of_definition(manifest: Manifest) -> Iterator[Need]:
    webhook = _map(_map(manifest.spec.get("conversion")).get("webhook"))
    yield from _service(_map(webhook.get("clientConfig")).get("service"), "it converts between versions")


def _service(value: Any, why: str) -> Iterator[Need]:
    reference = _map(value)
    name, namespace = _text(reference.get("name")), _text(reference.get("namespace"))
    if name and namespace:
        yield Need(key=ObjectKey("", "Service", namespace, name), why=why)


_BY_KIND = {
    ("", "PersistentVolumeClaim"): _of_claim,
    ("external-secrets.io", "ExternalSecret"): _of_external_secret,
    ("external-secrets.io", "SecretStore"): _of_store,
    ("external-secrets.io", "ClusterSecretStore"): _of_store,
    ("cert-manager.io", "Certificate"): _of_certificate,
    ("networking.k8s.io", "Ingress"): _of_ingress,
    ("rbac.authorization.k8s.io", "RoleBinding"): _of_binding,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _of_binding,
    ("apiregistration.k8s.io", "APIService"): _of_api_service,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): _of_webhooks,
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): _of_webhooks,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _of_definition,
}


# --- plain data ----------------------------------------------------------------------------------------


def _inside(body: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    for step in path:
        body = _map(body.get(step))
    return body


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
