"""What an object may be: names, labels, Secrets, what never changes. Pure.

Sources: `pkg/apis/*/validation` and `apimachinery/pkg/api/validation` of Kubernetes 1.36. A message names a field and
never the value of a Secret.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Any

from drills.sandbox.embedded.kinds import Kind
from drills.sandbox.embedded.schedule import problem
from drills.sandbox.embedded.schema import Problem
from drills.sandbox.embedded.status import bad_request

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_LABEL_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]+")

_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_SHORT_NAMES = frozenset({"Namespace", "Service"})
_FREE_NAMES = frozenset({"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"})
_REQUIRED_KEYS = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}
SECRET, CONFIG_MAP = ("", "Secret"), ("", "ConfigMap")
SECRET_LIMIT = 1024 * 1024
"""Bytes of all values of a Secret (`core.MaxSecretSize`)."""

_NEVER_CHANGES: Mapping[tuple[str, str], tuple[tuple[str, ...], ...]] = {
    ("apps", "Deployment"): (("spec", "selector"),),
    ("apps", "ReplicaSet"): (("spec", "selector"),),
    ("apps", "DaemonSet"): (("spec", "selector"),),
    ("batch", "Job"): (("spec", "selector"), ("spec", "template"), ("spec", "completionMode")),
    ("rbac.authorization.k8s.io", "RoleBinding"): (("roleRef",),),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): (("roleRef",),),
    ("storage.k8s.io", "StorageClass"): (("provisioner",), ("parameters",), ("volumeBindingMode",), ("reclaimPolicy",)),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): (
        ("spec", "group"), ("spec", "scope"), ("spec", "names", "plural"),
    ),
}  # fmt: skip
_STATEFUL_SET_MAY = frozenset({
    "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
})  # fmt: skip


def prepare(kind: Kind, body: dict[str, Any]) -> None:
    """Turn `stringData` into data and refuse data that is no base64, as decoding does."""
    if kind.storage != SECRET:
        return
    strings = body.pop("stringData", None) or {}
    if strings:
        encoded = {key: base64.b64encode(str(value).encode()).decode() for key, value in strings.items()}
        body["data"] = {**(body.get("data") or {}), **encoded}
    for value in (body.get("data") or {}).values():
        try:
            base64.b64decode(str(value or "").replace("\n", "").replace("\r", ""), validate=True)
        except (binascii.Error, ValueError):
            raise bad_request(
                'Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0'
            ) from None


def check(kind: Kind, body: Mapping[str, Any], old: Mapping[str, Any] | None) -> Iterable[Problem]:
    """Give what the strategy of the kind refuses."""
    metadata = body["metadata"]
    if old is None:
        yield from _name(kind, str(metadata.get("name") or ""))
    for key, value in (metadata.get("labels") or {}).items():
        yield from _label(str(key), str(value))
    for each in metadata.get("ownerReferences") or []:
        for field in ("apiVersion", "kind", "name", "uid"):
            if not each.get(field):
                yield Problem(
                    f"metadata.ownerReferences.{field}",
                    "FieldValueRequired",
                    f"Invalid value: {field} must not be empty",
                )
    if kind.storage == SECRET:
        yield from _secret(body, old)
    if kind.storage in (SECRET, CONFIG_MAP):
        yield from _data(body, old)
    if "template" in (body.get("spec") or {}) and kind.group in ("apps", "batch"):
        yield from _workload(kind, body)
    if kind.storage == ("batch", "CronJob"):
        yield from _schedule(body)
    if old is not None:
        yield from _unchanged(kind, body, old)
    if kind.storage == ("", "Service"):
        yield from _ports(body)
    if kind.kind in ("Role", "ClusterRole"):
        yield from _grants(kind, body)
    if kind.kind == "CustomResourceDefinition":
        yield from _definition(body)


def _name(kind: Kind, name: str) -> Iterable[Problem]:
    if not name:
        yield Problem("metadata.name", "FieldValueRequired", "Required value: name or generateName is required")
    elif kind.kind in _FREE_NAMES:
        if name in (".", "..") or "/" in name or "%" in name:
            yield Problem(
                "metadata.name", "FieldValueInvalid", f"Invalid value: \"{name}\": may not contain '/' or '%'"
            )
    elif kind.kind in _SHORT_NAMES:
        if not _DNS_LABEL.fullmatch(name) or len(name) > 63:
            text = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'"
            yield Problem("metadata.name", "FieldValueInvalid", f'Invalid value: "{name}": {text}')
    elif not _SUBDOMAIN.fullmatch(name) or len(name) > 253:
        yield Problem("metadata.name", "FieldValueInvalid", f'Invalid value: "{name}": {_SUBDOMAIN_TEXT}')


def _label(key: str, value: str) -> Iterable[Problem]:
    if len(value) > 63:
        yield Problem(
            "metadata.labels", "FieldValueInvalid", f'Invalid value: "{value}": must be no more than 63 bytes'
        )
    elif not _LABEL_VALUE.fullmatch(value):
        yield Problem("metadata.labels", "FieldValueInvalid", f'Invalid value: "{value}": {_LABEL_TEXT}')
    prefix, slash, name = key.rpartition("/")
    if not _LABEL_NAME.fullmatch(name) or len(name) > 63 or (slash and not _SUBDOMAIN.fullmatch(prefix)):
        yield Problem(
            "metadata.labels",
            "FieldValueInvalid",
            f"Invalid value: \"{key}\": name part must consist of alphanumeric characters, '-', '_' or '.'",
        )


def _secret(body: Mapping[str, Any], old: Mapping[str, Any] | None) -> Iterable[Problem]:
    data = body.get("data") or {}
    if old is not None and body.get("type") != old.get("type"):
        yield Problem("type", "FieldValueInvalid", f'Invalid value: "{body.get("type")}": field is immutable')
    for key in _REQUIRED_KEYS.get(str(body.get("type")), ()):
        if key not in data:
            yield Problem(f"data[{key}]", "FieldValueRequired", "Required value")
    if sum(len(str(value)) for value in data.values()) * 3 // 4 > SECRET_LIMIT:
        yield Problem("data", "FieldValueTooLong", f"Too long: may not be more than {SECRET_LIMIT} bytes")


def _data(body: Mapping[str, Any], old: Mapping[str, Any] | None) -> Iterable[Problem]:
    for field in ("data", "binaryData"):
        for key in body.get(field) or {}:
            if not _DATA_KEY.fullmatch(key) or len(key) > 253 or key in (".", "..") or key.startswith(".."):
                text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
                yield Problem(f"{field}[{key}]", "FieldValueInvalid", f'Invalid value: "{key}": {text}')
    if old is None or not old.get("immutable"):
        return
    text = "field is immutable when `immutable` is set"
    if not body.get("immutable"):
        yield Problem("immutable", "FieldValueForbidden", f"Forbidden: {text}")
    for field in ("data", "binaryData"):
        if (body.get(field) or {}) != (old.get(field) or {}):
            yield Problem(field, "FieldValueForbidden", f"Forbidden: {text}")


def _workload(kind: Kind, body: Mapping[str, Any]) -> Iterable[Problem]:
    spec = body["spec"]
    template = spec.get("template") or {}
    if not (template.get("spec") or {}).get("containers"):
        yield Problem("spec.template.spec.containers", "FieldValueRequired", "Required value")
    for place, container in enumerate((template.get("spec") or {}).get("containers") or []):
        for field in ("name", "image"):
            if not container.get(field):
                yield Problem(f"spec.template.spec.containers[{place}].{field}", "FieldValueRequired", "Required value")
    if kind.group == "apps":
        selector = spec.get("selector")
        wanted = (selector or {}).get("matchLabels") or {}
        labels = (template.get("metadata") or {}).get("labels") or {}
        if not selector:
            yield Problem("spec.selector", "FieldValueRequired", "Required value")
        elif any(labels.get(key) != value for key, value in wanted.items()):
            yield Problem(
                "spec.template.metadata.labels",
                "FieldValueInvalid",
                "Invalid value: `selector` does not match template `labels`",
            )
    elif kind.kind == "Job" and (template.get("spec") or {}).get("restartPolicy") not in ("Never", "OnFailure"):
        yield Problem(
            "spec.template.spec.restartPolicy",
            "FieldValueRequired",
            'Required value: valid values: "OnFailure", "Never"',
        )


def _schedule(body: Mapping[str, Any]) -> Iterable[Problem]:
    spec = body["spec"]
    schedule, zone = str(spec.get("schedule") or ""), str(spec.get("timeZone") or "")
    if not schedule:
        yield Problem("spec.schedule", "FieldValueRequired", "Required value")
    elif told := problem(schedule, zone):
        where, value = ("timeZone", zone) if "time zone" in told else ("schedule", schedule)
        yield Problem(f"spec.{where}", "FieldValueInvalid", f'Invalid value: "{value}": {told}')


def _unchanged(kind: Kind, body: Mapping[str, Any], old: Mapping[str, Any]) -> Iterable[Problem]:
    for path in _NEVER_CHANGES.get(kind.storage, ()):
        if _at(body, path) != _at(old, path):
            yield Problem(".".join(path), "FieldValueInvalid", "Invalid value: field is immutable")
    if kind.storage == ("apps", "StatefulSet"):
        before, after = old.get("spec") or {}, body.get("spec") or {}
        if any(
            before.get(name) != after.get(name)
            for name in before.keys() | after.keys()
            if name not in _STATEFUL_SET_MAY
        ):
            text = (
                "Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
                "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
                "'minReadySeconds' are forbidden"
            )
            yield Problem("spec", "FieldValueForbidden", text)
    if kind.storage == ("", "Service") and (body.get("spec") or {}).get("type") != "ExternalName":
        before, after = _at(old, ("spec", "clusterIP")), _at(body, ("spec", "clusterIP"))
        if before and after != before:
            yield Problem("spec.clusterIP", "FieldValueInvalid", f'Invalid value: "{after}": field is immutable')


def _at(body: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        body = body.get(name) if isinstance(body, dict) else None
    return body


def _grants(kind: Kind, body: Mapping[str, Any]) -> Iterable[Problem]:
    for place, rule in enumerate(body.get("rules") or []):
        if not rule.get("verbs"):
            text = "Required value: verbs must contain at least one value"
            yield Problem(f"rules[{place}].verbs", "FieldValueRequired", text)
        if rule.get("nonResourceURLs"):
            if kind.namespaced:
                text = "Invalid value: namespaced rules cannot apply to non-resource URLs"
                yield Problem(f"rules[{place}].nonResourceURLs", "FieldValueInvalid", text)
            continue
        for field, text in (("apiGroups", "resource rules must supply at least one api group"),
                            ("resources", "resource rules must supply at least one resource")):  # fmt: skip
            if not rule.get(field):
                yield Problem(f"rules[{place}].{field}", "FieldValueRequired", f"Required value: {text}")


def _ports(body: Mapping[str, Any]) -> Iterable[Problem]:
    ports = (body.get("spec") or {}).get("ports") or []
    names = [str(each.get("name") or "") for each in ports]
    for place, name in enumerate(names):
        if not name and len(names) > 1:
            yield Problem(f"spec.ports[{place}].name", "FieldValueRequired", "Required value")
        elif name and name in names[:place]:
            yield Problem(f"spec.ports[{place}].name", "FieldValueDuplicate", f'Duplicate value: "{name}"')
    pairs = [(each.get("port"), each.get("protocol", "TCP")) for each in ports]
    for place, pair in enumerate(pairs):
        if pair in pairs[:place]:
            yield Problem(f"spec.ports[{place}]", "FieldValueDuplicate", "Duplicate value")


def _definition(body: Mapping[str, Any]) -> Iterable[Problem]:
    spec = body.get("spec") or {}
    names = spec.get("names") or {}
    if body["metadata"].get("name") != f"{names.get('plural')}.{spec.get('group')}":
        yield Problem("metadata.name", "FieldValueInvalid", 'Invalid value: must be spec.names.plural+"."+spec.group')
    versions = [each for each in spec.get("versions") or [] if isinstance(each, dict)]
    if sum(each.get("storage") is True for each in versions) != 1:
        yield Problem(
            "spec.versions",
            "FieldValueInvalid",
            "Invalid value: must have exactly one version marked as storage version",
        )
    for place, each in enumerate(versions):
        if not (each.get("schema") or {}).get("openAPIV3Schema"):
            yield Problem(
                f"spec.versions[{place}].schema.openAPIV3Schema",
                "FieldValueRequired",
                "Required value: schemas are required",
            )
