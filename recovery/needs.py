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

from recovery.app import CLUSTER_SCOPED
from recovery.plain import entries, inside, mapping, text_of
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
    """`key` has to exist (and work) for the object to become healthy; `why` says who asks for it.

    Of a `hard` need the API server refuses the object itself, of another one it only does not become healthy.
    """

    key: ObjectKey
    why: str
    optional: bool = False
    hard: bool = False


def needs(manifest: Manifest) -> list[Need]:
    """Give what the object needs, each once, in the order in which it is found."""
    found = [*_namespace(manifest), *_definition(manifest), *_declared(manifest)]
    kind = (manifest.kind.group, manifest.kind.kind)
    if kind in WORKLOADS:
        found += _of_pod(pod_of(manifest), manifest.namespace)
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
        return [secret(manifest.namespace, text_of(mapping(spec.get("target")).get("name")) or name)]
    if kind == ("cert-manager.io", "Certificate") and text_of(spec.get("secretName")):
        return [secret(manifest.namespace, str(spec["secretName"]))]
    if kind == ("apps", "StatefulSet"):
        claims = [
            mapping(mapping(claim).get("metadata")).get("name") for claim in entries(spec.get("volumeClaimTemplates"))
        ]
        return [ObjectKey("", "PersistentVolumeClaim", manifest.namespace, f"{claim}-{name}-0") for claim in claims]
    return []


def pod_of(manifest: Manifest) -> Mapping[str, Any]:
    """Give the pod (metadata and spec) inside a workload, nothing for other kinds."""
    path = WORKLOADS.get((manifest.kind.group, manifest.kind.kind))
    return {} if path is None else inside(manifest.body, path)


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
    return definition(text_of(manifest.spec.get("group")), text_of(mapping(manifest.spec.get("names")).get("kind")))


# --- every object --------------------------------------------------------------------------------------


def _namespace(manifest: Manifest) -> Iterator[Need]:
    if manifest.namespace:
        yield Need(key=ObjectKey("", "Namespace", "", manifest.namespace), why="it lives there", hard=True)


def _definition(manifest: Manifest) -> Iterator[Need]:
    """Groups with a dot that are not Kubernetes' own come from a CustomResourceDefinition."""
    group = manifest.kind.group
    if "." in group and not group.endswith(".k8s.io"):
        yield Need(key=definition(group, manifest.kind.kind), why=f"it defines {manifest.kind.kind}", hard=True)


def _declared(manifest: Manifest) -> Iterator[Need]:
    for text in declared_texts(manifest):
        key = read_reference(text, manifest.namespace)
        if key is not None:
            yield Need(key=key, why=f"annotation {DEPENDS_ON}")


def declared_texts(manifest: Manifest) -> list[str]:
    """Give the entries of the annotation `depends-on` as they are written."""
    return [text.strip() for text in text_of(manifest.annotations.get(DEPENDS_ON)).split(",") if text.strip()]


def read_reference(text: str, namespace: str) -> ObjectKey | None:
    """Read `[group/]Kind/[namespace/]name`, None where it is no such text; kinds begin with a capital, groups never.

    A kind of Kubernetes' own may leave its group out. Cluster-scoped kinds get no namespace.
    """
    parts = text.split("/")
    group = parts.pop(0) if parts[0][:1].islower() else ""
    if not all(parts) or len(parts) not in (2, 3) or not parts[0][:1].isupper():
        return None
    kind, *place = parts
    group = group or _GROUPS.get(kind, "")
    if (group, kind) in CLUSTER_SCOPED:
        return ObjectKey(group, kind, "", place[-1])
    inside, name = place if len(place) == 2 else (namespace, place[0])
    return ObjectKey(group, kind, inside, name)


_GROUPS = {
    "Application": "argoproj.io",
    "Certificate": "cert-manager.io",
    "ClusterIssuer": "cert-manager.io",
    "ClusterRole": "rbac.authorization.k8s.io",
    "ClusterRoleBinding": "rbac.authorization.k8s.io",
    "ClusterSecretStore": "external-secrets.io",
    "CronJob": "batch",
    "DaemonSet": "apps",
    "Deployment": "apps",
    "ExternalSecret": "external-secrets.io",
    "Ingress": "networking.k8s.io",
    "IngressClass": "networking.k8s.io",
    "Issuer": "cert-manager.io",
    "Job": "batch",
    "SealedSecret": "bitnami.com",
    "SecretStore": "external-secrets.io",
    "StatefulSet": "apps",
    "StorageClass": "storage.k8s.io",
}


# --- pods ----------------------------------------------------------------------------------------------


def _of_pod(template: Mapping[str, Any], namespace: str) -> Iterator[Need]:
    spec = mapping(template.get("spec"))
    account = text_of(spec.get("serviceAccountName") or spec.get("serviceAccount"))
    if account and account != "default":
        yield Need(key=ObjectKey("", "ServiceAccount", namespace, account), why="its pods run as it")
    for reference in entries(spec.get("imagePullSecrets")):
        name = text_of(mapping(reference).get("name"))
        if name:
            yield Need(key=secret(namespace, name), why="its images are pulled with it")
    for field, group, kind in (
        ("priorityClassName", "scheduling.k8s.io", "PriorityClass"),
        ("runtimeClassName", "node.k8s.io", "RuntimeClass"),
    ):
        name = text_of(spec.get(field))
        if name:
            yield Need(key=ObjectKey(group, kind, "", name), why=f"its pods name it as {field}")
    for container in (*entries(spec.get("initContainers")), *entries(spec.get("containers"))):
        yield from _of_container(mapping(container), namespace)
    for volume in entries(spec.get("volumes")):
        yield from _of_volume(mapping(volume), namespace)


def _of_container(container: Mapping[str, Any], namespace: str) -> Iterator[Need]:
    name = text_of(container.get("name"))
    for entry in entries(container.get("env")):
        source = mapping(mapping(entry).get("valueFrom"))
        for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
            yield from _reference(
                source.get(field), kind, namespace, f"container {name} reads env {mapping(entry).get('name')} from it"
            )
    for entry in entries(container.get("envFrom")):
        for field, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
            yield from _reference(mapping(entry).get(field), kind, namespace, f"container {name} reads its env from it")


def _of_volume(volume: Mapping[str, Any], namespace: str) -> Iterator[Need]:
    why = f"volume {text_of(volume.get('name'))} mounts it"
    mounted = mapping(volume.get("secret"))
    yield from _reference({**mounted, "name": mounted.get("secretName")}, "Secret", namespace, why)
    yield from _reference(volume.get("configMap"), "ConfigMap", namespace, why)
    for source in entries(mapping(volume.get("projected")).get("sources")):
        yield from _reference(mapping(source).get("secret"), "Secret", namespace, why)
        yield from _reference(mapping(source).get("configMap"), "ConfigMap", namespace, why)
    claim = text_of(mapping(volume.get("persistentVolumeClaim")).get("claimName"))
    if claim:
        yield Need(key=ObjectKey("", "PersistentVolumeClaim", namespace, claim), why=why)
    driver = mapping(volume.get("csi"))
    yield from _reference(driver.get("nodePublishSecretRef"), "Secret", namespace, why)


def _reference(value: Any, kind: str, namespace: str, why: str) -> Iterator[Need]:
    reference = mapping(value)
    name = text_of(reference.get("name"))
    if name and not (kind == "ConfigMap" and name == "kube-root-ca.crt"):
        yield Need(key=ObjectKey("", kind, namespace, name), why=why, optional=reference.get("optional") is True)


def _of_claims(manifest: Manifest) -> Iterator[Need]:
    for claim in entries(manifest.spec.get("volumeClaimTemplates")):
        yield from _storage_class(mapping(mapping(claim).get("spec")))


def _storage_class(spec: Mapping[str, Any]) -> Iterator[Need]:
    name = text_of(spec.get("storageClassName"))
    if name:
        yield Need(key=ObjectKey("storage.k8s.io", "StorageClass", "", name), why="its volumes are of this class")


# --- other kinds ---------------------------------------------------------------------------------------


def _of_claim(manifest: Manifest) -> Iterable[Need]:
    return _storage_class(manifest.spec)


def _of_external_secret(manifest: Manifest) -> Iterator[Need]:
    spec = manifest.spec
    stores = [mapping(spec.get("secretStoreRef"))]
    pulls = (*entries(spec.get("data")), *entries(spec.get("dataFrom")))
    stores.extend(mapping(mapping(mapping(pull).get("sourceRef")).get("storeRef")) for pull in pulls)
    for store in stores:
        name = text_of(store.get("name"))
        if name:
            kind = text_of(store.get("kind")) or "SecretStore"
            namespace = manifest.namespace if kind == "SecretStore" else ""
            yield Need(key=ObjectKey("external-secrets.io", kind, namespace, name), why="its values come from there")
    for entry in entries(mapping(mapping(spec.get("target")).get("template")).get("templateFrom")):
        for field, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
            yield from _reference(mapping(entry).get(field), kind, manifest.namespace, "its template reads it")


def _of_store(manifest: Manifest) -> Iterator[Need]:
    """The store's own credentials: every `…SecretRef`, `secretRef` and `serviceAccountRef` of its provider."""
    for field, reference in _references(manifest.spec.get("provider")):
        name = text_of(reference.get("name"))
        namespace = manifest.namespace or text_of(reference.get("namespace"))
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
    issuer = mapping(manifest.spec.get("issuerRef"))
    name, kind = text_of(issuer.get("name")), text_of(issuer.get("kind")) or "Issuer"
    if name:
        namespace = "" if kind == "ClusterIssuer" else manifest.namespace
        group = text_of(issuer.get("group")) or "cert-manager.io"
        yield Need(key=ObjectKey(group, kind, namespace, name), why="it signs the certificate")


def _of_ingress(manifest: Manifest) -> Iterator[Need]:
    name = text_of(manifest.spec.get("ingressClassName"))
    if name:
        yield Need(key=ObjectKey("networking.k8s.io", "IngressClass", "", name), why="it names its controller")
    for entry in entries(manifest.spec.get("tls")):
        secret_name = text_of(mapping(entry).get("secretName"))
        if secret_name:
            # An ingress without its certificate serves its controller's own: reachable, so no one waits for it.
            yield Need(key=secret(manifest.namespace, secret_name), why="it serves TLS with it", optional=True)


def _of_binding(manifest: Manifest) -> Iterator[Need]:
    role = mapping(manifest.body.get("roleRef"))
    name, kind = text_of(role.get("name")), text_of(role.get("kind"))
    if name and kind and not (kind == "ClusterRole" and _is_built_in_role(name)):
        namespace = manifest.namespace if kind == "Role" else ""
        key = ObjectKey("rbac.authorization.k8s.io", kind, namespace, name)
        yield Need(key=key, why="it grants this role", optional=True)


def _is_built_in_role(name: str) -> bool:
    return name.startswith("system:") or name in ("cluster-admin", "admin", "edit", "view")


def _of_api_service(manifest: Manifest) -> Iterator[Need]:
    yield from _service(manifest.spec.get("service"), "it serves this API")


def _of_webhooks(manifest: Manifest) -> Iterator[Need]:
    for hook in entries(manifest.body.get("webhooks")):
        service = mapping(mapping(hook).get("clientConfig")).get("service")
        fails_open = mapping(hook).get("failurePolicy") == "Ignore"
        for need in _service(service, f"webhook {text_of(mapping(hook).get('name'))} asks it"):
            yield Need(key=need.key, why=need.why, optional=fails_open)


def _of_definition(manifest: Manifest) -> Iterator[Need]:
    webhook = mapping(mapping(manifest.spec.get("conversion")).get("webhook"))
    yield from _service(mapping(webhook.get("clientConfig")).get("service"), "it converts between versions")


def _service(value: Any, why: str) -> Iterator[Need]:
    reference = mapping(value)
    name, namespace = text_of(reference.get("name")), text_of(reference.get("namespace"))
    if name and namespace:
        yield Need(key=ObjectKey("", "Service", namespace, name), why=why)


def _of_account(manifest: Manifest) -> Iterator[Need]:
    for reference in entries(manifest.body.get("imagePullSecrets")):
        name = text_of(mapping(reference).get("name"))
        if name:
            yield Need(key=secret(manifest.namespace, name), why="images of its pods are pulled with it")


def _of_application(manifest: Manifest) -> Iterator[Need]:
    project = text_of(manifest.spec.get("project"))
    if project not in ("", "default"):
        yield Need(key=ObjectKey("argoproj.io", "AppProject", manifest.namespace, project), why="it permits the sync")


CERT_MANAGER_NAMESPACE = "cert-manager"
"""Where a ClusterIssuer keeps its Secrets unless its controller is told otherwise (`--cluster-resource-namespace`)."""


def _of_issuer(manifest: Manifest) -> Iterator[Need]:
    """The Secrets that an issuer reads; an ACME account key that is not there is registered anew."""
    namespace = manifest.namespace or CERT_MANAGER_NAMESPACE
    authority = text_of(mapping(manifest.spec.get("ca")).get("secretName"))
    if authority:
        yield Need(key=secret(namespace, authority), why="it signs with this CA")
    account = text_of(mapping(mapping(manifest.spec.get("acme")).get("privateKeySecretRef")).get("name"))
    if account:
        yield Need(key=secret(namespace, account), why="it is the ACME account", optional=True)
    rest = {name: value for name, value in manifest.spec.items() if name != "acme"}
    solvers = mapping(manifest.spec.get("acme")).get("solvers")
    for field, reference in _references([rest, solvers]):
        name = text_of(reference.get("name"))
        if name and field != "serviceAccountRef":
            yield Need(key=secret(namespace, name), why=f"the issuer signs in with it ({field})")


_BY_KIND = {
    ("argoproj.io", "Application"): _of_application,
    ("", "ServiceAccount"): _of_account,
    ("cert-manager.io", "ClusterIssuer"): _of_issuer,
    ("cert-manager.io", "Issuer"): _of_issuer,
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
