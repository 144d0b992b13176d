"""Rules of the fake API server that need no state: kinds, selectors, patches, what a Secret may be. Pure."""

from __future__ import annotations

import base64
import binascii
import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from secretsops.adapters.kube_status import api_error
from secretsops.errors import ApiError
from secretsops.manifest import GroupVersionKind
from secretsops.ports import Resource

VERBS = frozenset({"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"})
_BUILT_IN = """
v1 namespaced: ConfigMap Endpoints Event LimitRange PersistentVolumeClaim Pod PodTemplate ReplicationController
v1 namespaced: ResourceQuota Secret Service ServiceAccount
v1 cluster: Namespace Node PersistentVolume
apps/v1 namespaced: ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet
batch/v1 namespaced: CronJob Job
autoscaling/v2 namespaced: HorizontalPodAutoscaler
networking.k8s.io/v1 namespaced: Ingress NetworkPolicy
networking.k8s.io/v1 cluster: IngressClass
policy/v1 namespaced: PodDisruptionBudget
coordination.k8s.io/v1 namespaced: Lease
discovery.k8s.io/v1 namespaced: EndpointSlice
events.k8s.io/v1 namespaced: Event
rbac.authorization.k8s.io/v1 namespaced: Role RoleBinding
rbac.authorization.k8s.io/v1 cluster: ClusterRole ClusterRoleBinding
storage.k8s.io/v1 cluster: StorageClass
scheduling.k8s.io/v1 cluster: PriorityClass
admissionregistration.k8s.io/v1 cluster: MutatingWebhookConfiguration ValidatingWebhookConfiguration
apiregistration.k8s.io/v1 cluster: APIService
apiextensions.k8s.io/v1 cluster: CustomResourceDefinition
"""
_PLAIN = """
ConfigMap ControllerRevision Endpoints EndpointSlice Event LimitRange PodTemplate Secret ServiceAccount
IngressClass Lease NetworkPolicy Role RoleBinding ClusterRole ClusterRoleBinding StorageClass PriorityClass
MutatingWebhookConfiguration ValidatingWebhookConfiguration
"""
_WITHOUT_STATUS = frozenset(_PLAIN.split())
_COUNTED = """
Pod PodTemplate ReplicationController DaemonSet Deployment ReplicaSet StatefulSet CronJob Job Ingress NetworkPolicy
IngressClass PodDisruptionBudget CustomResourceDefinition PriorityClass
MutatingWebhookConfiguration ValidatingWebhookConfiguration
"""
WITH_GENERATION = frozenset(_COUNTED.split())
"""Built-in kinds whose strategy sets metadata.generation; custom resources always have it."""

SECRET = GroupVersionKind("", "v1", "Secret")
CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
NAMESPACE = GroupVersionKind("", "v1", "Namespace")
CRD = GroupVersionKind("apiextensions.k8s.io", "v1", "CustomResourceDefinition")

_REQUIRED_KEYS = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.:]*[a-z0-9])?")
_LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?")
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")


def built_in() -> dict[GroupVersionKind, Resource]:
    """Give the resources of every cluster."""
    found: dict[GroupVersionKind, Resource] = {}
    for line in _BUILT_IN.strip().splitlines():
        head, _, names = line.partition(":")
        api_version, scope = head.split()
        for name in names.split():
            kind = GroupVersionKind.of(api_version, name)
            found[kind] = served(
                kind, _plural(name), namespaced=scope == "namespaced", status=name not in _WITHOUT_STATUS
            )
    return found


def served(kind: GroupVersionKind, plural: str, *, namespaced: bool, status: bool) -> Resource:
    """Give one resource with all verbs."""
    return Resource(
        kind=kind,
        plural=plural,
        namespaced=namespaced,
        verbs=VERBS,
        subresources=frozenset({"status"}) if status else frozenset(),
    )


def of_crd(body: Mapping[str, Any]) -> list[Resource]:
    """Give what a CustomResourceDefinition makes the server serve."""
    spec = body["spec"]
    return [
        served(
            GroupVersionKind(spec["group"], version["name"], spec["names"]["kind"]),
            spec["names"]["plural"],
            namespaced=spec.get("scope") == "Namespaced",
            status="status" in (version.get("subresources") or {}),
        )
        for version in spec.get("versions") or []
        if version.get("served")
    ]


def is_custom(kind: GroupVersionKind) -> bool:
    """Say whether a kind comes from a definition."""
    return kind not in _SERVED


def _plural(kind: str) -> str:
    low = kind.lower()
    if low == "endpoints":
        return low
    if low.endswith(("s", "ss")):
        return low + "es"
    return low[:-1] + "ies" if low.endswith("y") else low + "s"


_SERVED = built_in()


def refuse(code: int, reason: str, message: str, *, what: str = "fake", **details: Any) -> ApiError:
    """Give the error that the door raises for a Status of the API server."""
    return api_error({"code": code, "reason": reason, "message": message, "details": details}, what=what, code=code)


def invalid(resource: Resource, name: str, field: str, message: str) -> ApiError:
    """Give a 422 with one cause; what was wrong with the value is said without the value."""
    cause = {"reason": "FieldValueInvalid", "field": field, "message": message}
    text = f'{resource.kind.kind} "{name}" is invalid: {field}: {message}'
    status = {"code": 422, "reason": "Invalid", "message": text, "details": {"causes": [cause]}}
    return api_error(status, what="fake", code=422, secret=resource.kind == SECRET)


# --- what an object may be -----------------------------------------------------------------------------


def check_new(resource: Resource, body: dict[str, Any], old: dict[str, Any] | None) -> None:
    """Refuse what the strategies of the kinds refuse; fills in what they fill in (Secret type, stringData)."""
    name = str(body["metadata"].get("name") or "")
    if not _NAME.fullmatch(name) or len(name) > 253:
        raise invalid(resource, name, "metadata.name", "a lowercase RFC 1123 subdomain must consist of ...")
    for key, value in (body["metadata"].get("labels") or {}).items():
        if not _LABEL.fullmatch(str(value)):
            raise invalid(
                resource, name, "metadata.labels", f'Invalid value: "{value}" for {key}: a valid label must ...'
            )
    if resource.kind == SECRET:
        _check_secret(resource, name, body, old)
    if resource.kind in (SECRET, CONFIG_MAP):
        for field in ("data", "binaryData"):
            for key in body.get(field) or {}:
                if not _DATA_KEY.fullmatch(key):
                    raise invalid(resource, name, f"{field}[{key}]", "a valid config key must consist of ...")
        _check_immutable(resource, name, body, old)


def _check_secret(resource: Resource, name: str, body: dict[str, Any], old: dict[str, Any] | None) -> None:
    strings = body.pop("stringData", None) or {}
    if strings:
        body["data"] = {
            **(body.get("data") or {}),
            **{key: base64.b64encode(value.encode()).decode() for key, value in strings.items()},
        }
    for value in (body.get("data") or {}).values():
        try:
            base64.b64decode(value or "", validate=True)
        except (binascii.Error, ValueError):
            raise refuse(400, "BadRequest", "Secret in version v1 cannot be handled: illegal base64 data") from None
    if not body.get("type"):
        body["type"] = "Opaque"
    if old is not None and body["type"] != old.get("type"):
        raise invalid(resource, name, "type", "field is immutable")
    for key in _REQUIRED_KEYS.get(str(body["type"]), ()):
        if key not in (body.get("data") or {}):
            raise invalid(resource, name, f"data[{key}]", "Required value")


def _check_immutable(resource: Resource, name: str, body: dict[str, Any], old: dict[str, Any] | None) -> None:
    if old is None or not old.get("immutable"):
        return
    if not body.get("immutable"):
        raise invalid(resource, name, "immutable", "field is immutable when `immutable` is set")
    for field in ("data", "binaryData"):
        if (body.get(field) or {}) != (old.get(field) or {}):
            raise invalid(resource, name, field, "field is immutable when `immutable` is set")


# --- selectors -----------------------------------------------------------------------------------------

_SET_TERM = re.compile(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)")


def selects_labels(selector: str, labels: Mapping[str, str]) -> bool:
    """Judge a label selector in its string form (`k8s.io/apimachinery/pkg/labels/selector.go`)."""
    terms = re.split(r",(?![^(]*\))", selector) if selector else []
    return all(_label_term(term.strip(), labels) for term in terms)


def _label_term(term: str, labels: Mapping[str, str]) -> bool:
    if found := _SET_TERM.fullmatch(term):
        values = {value.strip() for value in found[3].split(",")}
        held = labels.get(found[1]) in values
        return held if found[2] == "in" else not held
    if "!=" in term:
        key, _, value = term.partition("!=")
        return labels.get(key.strip()) != value.strip()
    if "=" in term:
        key, _, value = term.partition("=")
        return labels.get(key.strip()) == value.lstrip("=").strip()
    if term.startswith("!"):
        return term[1:].strip() not in labels
    return term in labels


_FIELDS = {
    "Secret": ("type",),
    "Pod": ("spec.nodeName", "spec.serviceAccountName", "status.phase", "status.podIP", "spec.restartPolicy"),
    "Event": ("involvedObject.kind", "involvedObject.name", "involvedObject.namespace", "involvedObject.uid", "reason",
              "type"),
    "Namespace": ("status.phase",),
    "Node": ("spec.unschedulable",),
}  # fmt: skip


def selects_fields(resource: Resource, selector: str, body: Mapping[str, Any]) -> bool:
    """Judge a field selector; a field that the kind does not offer is a 400, as on a real server."""
    for term in selector.split(",") if selector else []:
        key, _, value = term.replace("==", "=").partition("=")
        negated = key.endswith("!")
        key = key.rstrip("!").strip()
        if key not in ("metadata.name", "metadata.namespace", *_FIELDS.get(resource.kind.kind, ())):
            raise refuse(400, "BadRequest", f"field label not supported: {key}")
        found: Any = body
        for part in key.split("."):
            found = (found or {}).get(part)
        if (str(found or "") == value.strip()) == negated:
            return False
    return True


# --- patches -------------------------------------------------------------------------------------------


def merge_patch(target: Any, patch: Any) -> Any:
    """Give the result of a JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def json_patch(target: Any, operations: Sequence[Mapping[str, Any]]) -> Any:
    """Give the result of a JSON patch (RFC 6902); a test that fails or a path that is not there is a 422."""
    body = {"": copy.deepcopy(target)}
    for operation in operations:
        act, path = operation["op"], ["", *_pointer(operation["path"])]
        if act in ("move", "copy"):
            source = ["", *_pointer(operation["from"])]
            value = copy.deepcopy(_at(body, source))
            if act == "move":
                _remove(body, source)
            _add(body, path, value)
        elif act == "test":
            if _at(body, path) != operation.get("value"):
                raise refuse(422, "Invalid", f"testing value {operation['path']} failed: test failed")
        elif act == "remove":
            _remove(body, path)
        elif act == "replace":
            _at(body, path)
            _put(body, path, copy.deepcopy(operation.get("value")))
        else:
            _add(body, path, copy.deepcopy(operation.get("value")))
    return body[""]


def _pointer(text: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _at(body: Any, path: Sequence[str]) -> Any:
    try:
        for part in path:
            body = body[int(part)] if isinstance(body, list) else body[part]
    except (KeyError, IndexError, ValueError, TypeError):
        raise refuse(422, "Invalid", "the server rejected our request: path not found") from None
    return body


def _remove(body: Any, path: Sequence[str]) -> None:
    _at(body, path)
    parent = _at(body, path[:-1])
    del parent[int(path[-1]) if isinstance(parent, list) else path[-1]]


def _put(body: Any, path: Sequence[str], value: Any) -> None:
    parent = _at(body, path[:-1])
    parent[int(path[-1]) if isinstance(parent, list) else path[-1]] = value


def _add(body: Any, path: Sequence[str], value: Any) -> None:
    parent = _at(body, path[:-1])
    if isinstance(parent, list):
        parent.insert(len(parent) if path[-1] == "-" else int(path[-1]), value)
    else:
        _put(body, path, value)
